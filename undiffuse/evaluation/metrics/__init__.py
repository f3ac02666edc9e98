"""The yardsticks of quality and coverage, as pure functions of feature matrices (rows, features), each with its error.

match(real, fake)              equal numbers of samples and reference rows, and two real halves for the floor
frechet, kernel_distance       distances between two sets; frechet_figure, kernel_figure with interval and floor
precision_recall, density_coverage                         manifold_figures: the four, with intervals and floors
memorization(training, held_out, samples), modes(real, fake)     copies; the classes reached
fidelity_figures, detection, usefulness                          tables
"""

from undiffuse.evaluation.metrics.coverage import (
    density_coverage,
    manifold,
    manifold_figures,
    precision_recall,
)
from undiffuse.evaluation.metrics.figure import Figure, Matched, match
from undiffuse.evaluation.metrics.frechet import frechet, frechet_figure
from undiffuse.evaluation.metrics.kernel import kernel_distance, kernel_figure
from undiffuse.evaluation.metrics.memorization import Memorization, Pair, memorization
from undiffuse.evaluation.metrics.modes import Modes, modes
from undiffuse.evaluation.metrics.neighbours import nearest
from undiffuse.evaluation.metrics.tables import detection, fidelity_figures, usefulness

__all__ = [
    "Figure",
    "Matched",
    "Memorization",
    "Modes",
    "Pair",
    "density_coverage",
    "detection",
    "fidelity_figures",
    "frechet",
    "frechet_figure",
    "kernel_distance",
    "kernel_figure",
    "manifold",
    "manifold_figures",
    "match",
    "memorization",
    "modes",
    "nearest",
    "precision_recall",
    "usefulness",
]
