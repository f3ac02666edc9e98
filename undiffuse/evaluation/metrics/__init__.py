"""The figures of a report: `METRICS`, what each is computed from, how it is read, and its laws.

    real and samples   detection
    matched features   frechet, kernel; the manifold: precision, recall, density, coverage
    classes            modes, class_variation
    distances          closer, copies                        (memorization)
    tables             columns, associations, usefulness
    series             discriminative, predictive
    scores             nats, bits_per_dim, gap
    times              samples_per_second, latency

A new figure is a function of one of these inputs and a line in `METRICS`: the report's words, which
way is better and the tests of its laws follow from that line.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from operator import attrgetter
from typing import Any, final

from undiffuse.evaluation.metrics.coverage import (
    Manifold,
    density_coverage,
    manifold,
    manifold_figures,
    precision_recall,
)
from undiffuse.evaluation.metrics.figure import Figure, Matched, match, match_features
from undiffuse.evaluation.metrics.frechet import frechet, frechet_figure
from undiffuse.evaluation.metrics.kernel import kernel_distance, kernel_figure
from undiffuse.evaluation.metrics.memorization import Memorization, Pair, memorization
from undiffuse.evaluation.metrics.model import (
    RowScores,
    Timings,
    bits_per_dim,
    latency,
    likelihood_gap,
    nats,
    samples_per_second,
)
from undiffuse.evaluation.metrics.modes import Modes, modes
from undiffuse.evaluation.metrics.neighbours import nearest
from undiffuse.evaluation.metrics.series import Sequences, discriminative, predictive
from undiffuse.evaluation.metrics.tables import (
    Tables,
    association_figure,
    column_figures,
    usefulness,
)
from undiffuse.evaluation.metrics.two_sample import Mixed, detection

Found = Figure | dict[str, Figure]
"""A figure, or one for each column of a table, by name."""


@final
@dataclass(frozen=True)
class Meaning:
    """How a figure is read.

    Attributes:
        title: its name in a report.
        says: what it means, in one sentence.
        unit: of its value.
        low, high: the ends of its scale, where they are fixed.
        floor: how its floor is said; {} stands for the value.
        log: whether several are compared on a logarithmic scale.
    """

    title: str
    says: str
    unit: str = ""
    low: float | None = 0.0
    high: float | None = None
    floor: str = "its floor, between two disjoint sets of real rows, is {}"
    log: bool = False


@final
@dataclass(frozen=True)
class Metric:
    """One figure of a report.

    Attributes:
        of: computes it, or one for each column of a table; None if the input has no such figure.
        needs: the type of its input.
        section: the part of the report that it belongs to.
        better: "lower", "higher", or "floor": neither side of its floor is better.
        meaning: how it is read.
        perfect: its expectation for a perfect model, where that is known.
        mirror: the figure that it becomes if samples and real rows are exchanged, if any.
        unchanged: what does not change it if done to real rows and samples alike: another "order",
            "rotation", "shift", "scale" of features, "renaming" of classes, "monotone" maps.
    """

    of: Callable[[Any], Found | None]
    needs: type
    section: str
    better: str
    meaning: Meaning
    perfect: float | None = None
    mirror: str = ""
    unchanged: tuple[str, ...] = ()


_RIGID = ("order", "rotation", "shift")
_SHAPE = (*_RIGID, "scale")
_TRAINING_SERIES = "training rows in place of samples get {}"

METRICS: dict[str, Metric] = {
    "detection": Metric(
        detection,
        Mixed,
        "quality",
        "floor",
        Meaning(
            "Told from real rows",
            "How often trees, shown a sample and a real row that they did not learn from, know "
            "which is which: 0.5 is chance, 1 is without fail, and far below 0.5 samples repeat "
            "single real rows.",
            high=1.0,
            floor="chance gets {}",
        ),
        perfect=0.5,
        unchanged=("monotone",),
    ),
    "frechet": Metric(
        frechet_figure,
        Matched,
        "quality",
        "lower",
        Meaning(
            "Fréchet distance",
            "How far the samples are from held-out rows as a whole, by the mean and covariance of "
            "their features.",
        ),
        perfect=0.0,
        mirror="frechet",
        unchanged=_RIGID,
    ),
    "kernel": Metric(
        kernel_figure,
        Matched,
        "quality",
        "lower",
        Meaning(
            "Kernel distance",
            "The same question without taking the features for Gaussian. It has no bias, so it may "
            "fall just below zero.",
        ),
        perfect=0.0,
        mirror="kernel",
        unchanged=("order", "rotation"),
    ),
    "precision": Metric(
        attrgetter("precision"),
        Manifold,
        "quality",
        "higher",
        Meaning(
            "Precision",
            "The share of samples that lie where real rows lie; the rest are strays.",
            high=1.0,
        ),
        mirror="recall",
        unchanged=_SHAPE,
    ),
    "density": Metric(
        attrgetter("density"),
        Manifold,
        "quality",
        "floor",
        Meaning(
            "Density",
            "How thickly real rows surround a sample. Unlike precision, one outlier among the real "
            "rows cannot lift it.",
        ),
        perfect=1.0,
        unchanged=_SHAPE,
    ),
    "recall": Metric(
        attrgetter("recall"),
        Manifold,
        "coverage",
        "higher",
        Meaning(
            "Recall",
            "The share of real rows that lie where samples lie: how much of the variety the model "
            "reaches.",
            high=1.0,
        ),
        mirror="precision",
        unchanged=_SHAPE,
    ),
    "coverage": Metric(
        attrgetter("coverage"),
        Manifold,
        "coverage",
        "higher",
        Meaning(
            "Coverage",
            "The share of real rows that have a sample in their own neighbourhood.",
            high=1.0,
        ),
        unchanged=_SHAPE,
    ),
    "modes": Metric(
        attrgetter("reached"),
        Modes,
        "coverage",
        "higher",
        Meaning(
            "Classes reached",
            "Classes with at least a tenth of their share of real rows among the samples, by a "
            "classifier.",
            floor="real rows have {}",
        ),
        unchanged=("order", "renaming"),
    ),
    "class_variation": Metric(
        attrgetter("variation"),
        Modes,
        "coverage",
        "lower",
        Meaning(
            "Class imbalance",
            "The share of samples that would have to change class for the shares to be those of "
            "real rows.",
        ),
        mirror="class_variation",
        unchanged=("order", "renaming"),
    ),
    "closer": Metric(
        attrgetter("closer"),
        Memorization,
        "memorization",
        "floor",
        Meaning(
            "Nearer than held-out rows",
            "How often a sample lies nearer to the training rows than a held-out row does: one "
            "half if nothing is copied.",
            high=1.0,
            floor="a perfect sampler gets {}",
        ),
        perfect=0.5,
        unchanged=_SHAPE,
    ),
    "copies": Metric(
        attrgetter("copies"),
        Memorization,
        "memorization",
        "lower",
        Meaning(
            "Copies",
            "The share of samples less than a third as far from one training row as from the next.",
            floor="held-out rows get {}",
        ),
        unchanged=_SHAPE,
    ),
    "columns": Metric(
        column_figures,
        Tables,
        "table",
        "higher",
        Meaning("", "", high=1.0),
        mirror="columns",
        unchanged=("order", "monotone"),
    ),
    "associations": Metric(
        association_figure,
        Tables,
        "table",
        "higher",
        Meaning(
            "Associations",
            "How alike the dependence between columns is, over all pairs: 1 is equal.",
            high=1.0,
        ),
        mirror="associations",
        unchanged=("order", "monotone"),
    ),
    "usefulness": Metric(
        usefulness,
        Tables,
        "table",
        "higher",
        Meaning("", "", low=None, high=1.0, floor="a model fitted on real rows gets {}"),
    ),
    "discriminative": Metric(
        discriminative,
        Sequences,
        "series",
        "lower",
        Meaning(
            "Discriminative score",
            "How far above or below one half recurrent networks are right when they tell samples "
            "from held-out series that they did not learn from; the mean of three.",
            high=0.5,
            floor=_TRAINING_SERIES,
        ),
        unchanged=("shift", "scale"),
    ),
    "predictive": Metric(
        predictive,
        Sequences,
        "series",
        "lower",
        Meaning(
            "Predictive score",
            "The mean absolute error with which recurrent networks that learned from samples "
            "predict each next step of held-out series; the mean of three.",
            "std",
            floor=_TRAINING_SERIES,
        ),
        unchanged=("shift", "scale"),
    ),
    "nats": Metric(
        nats,
        RowScores,
        "likelihood",
        "higher",
        Meaning(
            "Log-likelihood",
            "The mean log-likelihood of rows that the model was not trained on.",
            "nats per row",
            low=None,
        ),
        unchanged=("order",),
    ),
    "bits_per_dim": Metric(
        bits_per_dim,
        RowScores,
        "likelihood",
        "lower",
        Meaning(
            "Bits per dimension",
            "The same as the length of a code: the bits for one number of a row.",
            "bits",
            low=None,
        ),
        unchanged=("order",),
    ),
    "gap": Metric(
        likelihood_gap,
        RowScores,
        "likelihood",
        "lower",
        Meaning(
            "Training less held-out",
            "How much more likely the model finds the rows it was trained on: near zero unless it "
            "overfits.",
            "nats per row",
        ),
        perfect=0.0,
        unchanged=("order",),
    ),
    "samples_per_second": Metric(
        samples_per_second,
        Timings,
        "speed",
        "higher",
        Meaning("Samples per second", "How fast samples come in batches.", log=True),
        unchanged=("order",),
    ),
    "latency": Metric(
        latency,
        Timings,
        "speed",
        "lower",
        Meaning("Time for one sample", "How long a single sample takes.", "s", log=True),
        unchanged=("order",),
    ),
}
"""Name -> metric, in the order of the report."""


def figures_of(*inputs: Any, names: Collection[str] = METRICS) -> dict[str, Found]:
    """Return the figures of all metrics whose input is among `inputs`, by name.

    Args:
        inputs: instances of what metrics need; None is passed over.
        names: of the metrics that are wanted.
    """
    given = {type(one): one for one in inputs}
    found = {
        name: metric.of(given[metric.needs])
        for name, metric in METRICS.items()
        if name in names and metric.needs in given
    }
    return {name: figure for name, figure in found.items() if figure is not None}


def as_facts(figures: Mapping[str, Found]) -> dict[str, Any]:
    """Return figures as plain data, as report.json holds them.

    {"value", "low", "high", "stderr", "n", "floor" (or null), "warning", "better"}, "better" of the
    metric of that name; or these by column.

    >>> age = Figure(value=0.9, low=0.8, high=1.0, stderr=0.05, n=50)
    >>> as_facts({"columns": {"age": age}})["columns"]["age"]["better"]
    'higher'
    """

    def plain(found: Found, better: str) -> dict[str, Any]:
        if isinstance(found, Figure):
            return {**asdict(found), "better": better}
        return {name: plain(figure, better) for name, figure in found.items()}

    return {name: plain(found, METRICS[name].better) for name, found in figures.items()}
