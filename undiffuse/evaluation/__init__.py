"""What a trained model is worth, in numbers with their errors.

score(model, rows, out, ...)        a line per row: log-likelihood, error, quantile, alarm
Calibration(held_out_scores)        conformal ranks, and what they promise
refer(data), draw(model, n, ...)    what samples are compared with; the samples, kept as they come
measure(samples, reference)         the figures of samples; `metrics.METRICS` says what each is
"""

from undiffuse.evaluation.drawn import Drawn, draw
from undiffuse.evaluation.references import Reference, refer, refer_to_others
from undiffuse.evaluation.scores import (
    Likelihoods,
    Scoring,
    calibrate,
    likelihoods,
    score,
)
from undiffuse.evaluation.scores.conformal import Calibration
from undiffuse.evaluation.scores.table import Summary, check_out
from undiffuse.evaluation.yardsticks import Sampled, Yardsticks, measure, sampled

__all__ = [
    "Calibration",
    "Drawn",
    "Likelihoods",
    "Reference",
    "Sampled",
    "Scoring",
    "Summary",
    "Yardsticks",
    "calibrate",
    "check_out",
    "draw",
    "likelihoods",
    "measure",
    "refer",
    "refer_to_others",
    "sampled",
    "score",
]
