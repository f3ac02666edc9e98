"""Features that metrics are computed on."""
