"""What each figure means, in words that need no other page, and how its scale is drawn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

_REAL = "its floor, between two disjoint sets of real rows, is {}"


@final
@dataclass(frozen=True)
class Meaning:
    """What is said of a figure: title, one sentence, unit, fixed ends of its scale, its floor.

    `log`: several are compared on a logarithmic scale, if they span one.
    """

    title: str
    says: str
    unit: str = ""
    low: float | None = None
    high: float | None = None
    floor: str = _REAL
    log: bool = False


MEANINGS = {
    "frechet": Meaning(
        "Fréchet distance",
        "How far the samples are from held-out rows as a whole, by the mean and covariance "
        "of their features.",
        low=0.0,
    ),
    "kernel": Meaning(
        "Kernel distance",
        "The same question without taking the features for Gaussian. It has no bias, so it "
        "may fall just below zero.",
        low=0.0,
    ),
    "precision": Meaning(
        "Precision",
        "The share of samples that lie where real rows lie; the rest are strays.",
        low=0.0,
        high=1.0,
    ),
    "density": Meaning(
        "Density",
        "How thickly real rows surround a sample. Unlike precision, one outlier among the "
        "real rows cannot lift it.",
        low=0.0,
    ),
    "recall": Meaning(
        "Recall",
        "The share of real rows that lie where samples lie: how much of the variety the "
        "model reaches.",
        low=0.0,
        high=1.0,
    ),
    "coverage": Meaning(
        "Coverage",
        "The share of real rows that have a sample in their own neighbourhood.",
        low=0.0,
        high=1.0,
    ),
    "modes": Meaning(
        "Classes reached",
        "Classes that turn up among the samples at least a tenth as often as among real "
        "rows, by a classifier.",
        low=0.0,
        floor="real rows have {}",
    ),
    "class_variation": Meaning(
        "Class imbalance",
        "The share of samples that would have to change class for the mix of classes to be "
        "the real one.",
        low=0.0,
    ),
    "closer": Meaning(
        "Nearer than held-out rows",
        "How often a sample lies nearer to the training rows than a held-out row does: one "
        "half if nothing is copied.",
        low=0.0,
        high=1.0,
        floor="a perfect sampler gets {}",
    ),
    "copies": Meaning(
        "Copies",
        "The share of samples less than a third as far from one training row as from the next.",
        low=0.0,
        floor="held-out rows get {}",
    ),
    "nats": Meaning(
        "Log-likelihood",
        "What the model gives a row that it has not seen, on average.",
        "nats per row",
    ),
    "bits_per_dim": Meaning(
        "Bits per dimension",
        "The same as the length of a code: what one number of a row would take.",
        "bits",
    ),
    "gap": Meaning(
        "Training less held-out",
        "How much more likely the model finds the rows it was trained on: near zero unless "
        "it overfits.",
        "nats per row",
        low=0.0,
    ),
    "samples_per_second": Meaning(
        "Samples per second", "How fast samples come in batches.", low=0.0, log=True
    ),
    "latency": Meaning(
        "Time for one sample", "How long one waits for a single sample.", "s", low=0.0, log=True
    ),
    "associations": Meaning(
        "Associations",
        "How alike the dependence between columns is, over all pairs: 1 is equal.",
        low=0.0,
        high=1.0,
    ),
    "detection": Meaning(
        "Detection",
        "How well trees tell samples from real rows: 0.5 is by chance, 1 is without fail.",
        low=0.0,
        high=1.0,
        floor="chance gets {}",
    ),
}

COLUMN = Meaning("", "", low=0.0, high=1.0)
USE = Meaning("", "", high=1.0, floor="a model fitted on real rows gets {}")

DIRECTION = {"lower": "Lower is better", "higher": "Higher is better", "floor": "Best at its floor"}

STATES = {
    "converged": "Converged",
    "improving": "Still improving",
    "overfitting": "Overfitting",
    "memorizing": "Memorizing",
    "unclear": "Unclear",
}

PICTURES = {
    "samples": "Samples of the model",
    "real": "Real rows, held out",
    "pairs": "The most suspicious samples, each beside the training row nearest to it",
    "reconstructions": "Held-out rows and what the model makes of them",
    "traversal": "A walk along single latent dimensions",
}


NEARNESS = {
    "memorizing": "Caught copying: samples lie closer to training rows than held-out rows "
    "do, by more "
    "than chance explains",
    "near": "Closer than chance, but not copies: samples lie closer to training rows than "
    "held-out rows "
    "do, as blurred or unvaried samples also do",
    "none": "No sign of copying: samples lie no closer to training rows than held-out rows do",
}

FOOTNOTES = (
    "A 95 % interval holds the truth in 95 of 100 cases. Intervals of the Fréchet distance and of "
    "neighbour counts come from halves of the rows drawn without replacement: a bootstrap "
    "would put "
    "copies among them and bias both.",
    "A floor is the same figure between two disjoint sets of real rows: what a perfect "
    "sampler would "
    "get. Only the distance to the floor is due to the model.",
    "Compare a figure on n samples with a figure on n samples only: the Fréchet distance above all "
    "grows as n falls.",
    "Likelihood and sample quality may disagree: either can be good while the other is bad.",
)


def meaning(key: str) -> Meaning:
    """What the figure of that name means; a figure that is not listed goes by its name.

    >>> meaning("recall").title, meaning("sliced_distance").title
    ('Recall', 'Sliced distance')
    """
    return MEANINGS.get(key) or Meaning(key.replace("_", " ").capitalize(), "")
