"""Log-likelihood scores of rows and anomaly alarms."""
