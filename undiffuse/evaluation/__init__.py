"""What a trained model is worth, in numbers with their errors.

evaluate      evaluate(run): everything below, in a report
scores        score(model, rows, out): a line per row: log-likelihood, error, quantile, alarm
references    refer(data): what samples are compared with
drawn         draw(model, n, folder): the samples, kept as they come
yardsticks    measure(samples, reference): the figures of samples; `metrics.METRICS` lists them
overlays      overlays(rows, reference): autocorrelation and spectrum of series
"""
