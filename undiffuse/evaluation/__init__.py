"""What a trained model is worth, in numbers with their errors: scores of rows, calibrated alarms.

score(model, rows, out, ...)        a line per row: log-likelihood, error, quantile among held-out rows, alarm
Calibration(held_out_scores)        conformal ranks, and what they promise
"""

from undiffuse.evaluation.conformal import Calibration
from undiffuse.evaluation.score_table import Summary, check_out
from undiffuse.evaluation.scores import Scoring, calibrate, held_out_rows, score, score_rows

__all__ = ["Calibration", "Scoring", "Summary", "calibrate", "check_out", "held_out_rows", "score", "score_rows"]
