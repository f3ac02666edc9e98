"""What a trained model is worth, in numbers with their errors: scores of rows, calibrated alarms, and the yardsticks.

score(model, rows, out, ...)        a line per row: log-likelihood, error, quantile among held-out rows, alarm
Calibration(held_out_scores)        conformal ranks, and what they promise
refer(data), draw(model, n, ...)    what samples are compared with, and the samples, kept as they come
measure(samples, reference)         quality, coverage, memorization; tables, likelihoods, latency beside them
"""

from undiffuse.evaluation.drawn import Drawn, draw
from undiffuse.evaluation.likelihoods import Likelihoods, likelihoods
from undiffuse.evaluation.references import Reference, refer, refer_to_others
from undiffuse.evaluation.scores.conformal import Calibration
from undiffuse.evaluation.scores.scores import Scoring, calibrate, held_out_rows, score, score_rows
from undiffuse.evaluation.scores.table import Summary, check_out
from undiffuse.evaluation.speed import latency
from undiffuse.evaluation.yardsticks import Sampled, Yardsticks, measure, sampled, tables

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
    "held_out_rows",
    "latency",
    "likelihoods",
    "measure",
    "refer",
    "refer_to_others",
    "sampled",
    "score",
    "score_rows",
    "tables",
]
