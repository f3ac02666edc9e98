"""What each figure means, in words that need no other page, and how its scale is drawn."""

from __future__ import annotations

from undiffuse.evaluation.metrics import METRICS, Meaning

COLUMN, USE = METRICS["columns"].meaning, METRICS["usefulness"].meaning

DIRECTION = {"lower": "Lower is better", "higher": "Higher is better", "floor": "Best at its floor"}

STATES = {
    "converged": "Converged",
    "barely": "Barely trained",
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
    "forecast": "Held-out series: what was given, and the bands of the last quarter",
    "conditions": "Samples, the held-out condition each is drawn given, and the row that has it",
    "traversal": "A walk along single latent dimensions",
}

_RIGHT = "a right forecast gets {}"
_FORECAST = {
    "crps": Meaning("CRPS of the model", "How far its draws of the future are from what came."),
    "crps_of_last_value": Meaning("CRPS of the last value", "Of the last known value, repeated."),
    "crps_of_season_before": Meaning(
        "CRPS of the season before",
        "Of the last known values, repeated with the period that suits training rows best.",
    ),
    "crps_of_gaussian": Meaning(
        "CRPS of the Gaussian", "Of the Gaussian with the training rows' mean and covariance."
    ),
    "covered_50": Meaning(
        "In the 50 % band", "How often the future lies in it.", high=1.0, floor=_RIGHT
    ),
    "covered_90": Meaning(
        "In the 90 % band", "How often the future lies in it.", high=1.0, floor=_RIGHT
    ),
}

NEARNESS = {
    "memorizing": "Caught copying: samples lie closer to training rows than held-out rows "
    "do, by more "
    "than chance explains",
    "near": "Closer than chance, but not copies: samples lie closer to training rows than "
    "held-out rows "
    "do, as blurred or unvaried samples also do",
    "none": "No sign of copying: samples lie no closer to training rows than held-out rows do",
    "powerless": "Copying could not be seen: no test has power, since there are too few held-out "
    "rows or these lie as near to training rows as copies would",
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
    metric = METRICS.get(key)
    if key in _FORECAST:
        return _FORECAST[key]
    return metric.meaning if metric else Meaning(key.replace("_", " ").capitalize(), "", low=None)
