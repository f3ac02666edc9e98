"""The figures of one set of samples beside its reference.

    quality       detection: can trees tell them apart? frechet, kernel, precision, density: are
                  samples where real rows are?
    coverage      recall, coverage, modes, class variation  are real rows where samples are?
    memorization  closer, copies                            are samples new?
    table         columns, associations, usefulness
    series        discriminative, predictive

Samples go the way of real rows: stored type, encoded at the centres of bins, features. Those whose
features are not finite are left out and counted.

Quality is also measured against the cost of a sample: around the number of steps n in use lie 2 n,
n/2, n/4, ...; of these, those that cost at most `DEAREST` evaluations a sample, the first
`SETTINGS` that together cost no more than `EXTRA`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from undiffuse.errors import InputError
from undiffuse.evaluation.drawn import Drawn
from undiffuse.evaluation.metrics import (
    METRICS,
    Found,
    Matched,
    Memorization,
    Mixed,
    Modes,
    Sequences,
    Tables,
    as_facts,
    figures_of,
    manifold_figures,
    match_features,
    memorization,
    modes,
)
from undiffuse.evaluation.metrics.series import ROWS
from undiffuse.evaluation.references import FEWEST, Reference
from undiffuse.interfaces import Progress
from undiffuse.seeds import mix

TABLE_ROWS, TABLE_FEWEST = 3000, 20
LEAST_STEPS, MOST_VALUES = 4, 2**23  # of a series, and of all series of one side
JUDGED, COORDINATES = 500, 256  # rows of either side, and numbers of a row, that trees are shown
QUICK = ("frechet", "precision")
SAMPLES = 500  # at each number of steps
DEAREST, EXTRA, SETTINGS = 200, 120, 3
_MIXED = 0x317ED  # keeps the choice of rows to judge apart from others


@final
@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Samples (m, ...) of the stored type, their features (m, D), and how many were left out."""

    rows: np.ndarray
    features: Tensor
    lost: int

    def __len__(self) -> int:
        """Return the number of samples."""
        return len(self.rows)


def sampled(rows: np.ndarray, reference: Reference) -> Sampled:
    """Compute the features of samples (m, ...).

    Raises:
        InputError: if fewer than 8 samples have finite features.
    """
    found = _finite(rows, reference)
    if len(found) < FEWEST:
        raise InputError(
            f"samples: {found.lost:,} of {len(rows):,} hold values that are no numbers, too many "
            "to compare; the model has diverged: train it again with a lower --training.lr."
            if found.lost
            else f"samples: {len(rows)} are too few to compare; draw at least {FEWEST}."
        )
    return found


def _finite(rows: np.ndarray, reference: Reference) -> Sampled:
    """The samples whose features are finite, however few."""
    features = reference.features_of(rows)
    finite = torch.isfinite(features).all(1)
    lost = int((~finite).sum())
    return Sampled(rows=rows[finite.numpy()], features=features[finite], lost=lost)


@final
@dataclass(frozen=True, kw_only=True)
class Yardsticks:
    """The figures of samples by name.

    `modes` is None without classes, `memorization` without training rows.
    """

    figures: dict[str, Found]
    modes: Modes | None
    memorization: Memorization | None

    def facts(self, classes: tuple[str, ...]) -> dict[str, Any]:
        """Return the figures by section as plain data, None for a section that rows lack."""
        found = as_facts(self.figures)
        sections: dict[str, dict[str, Any]] = {}
        for name, fact in found.items():
            sections.setdefault(METRICS[name].section, {})[name] = fact
        shares = []
        if self.modes is not None:
            shares = [
                {"name": name, "share": {**asdict(share), "better": ""}, "real": real}
                for name, share, real in zip(classes, self.modes.shares, self.modes.real)
            ]
        copies = self.memorization
        return {
            "quality": sections.get("quality", {}),
            "coverage": sections.get("coverage", {}),
            "classes": shares,
            "memorization": None
            if copies is None
            else {
                "caught": copies.caught,
                "p": copies.p,
                "z": copies.z,
                "powerless": copies.powerless,
                "detectable": copies.detectable,
                **sections["memorization"],
                "pairs": [asdict(pair) for pair in copies.pairs],
            },
            "table": sections.get("table"),
            "series": sections.get("series"),
        }


def measure(
    samples: Sampled,
    reference: Reference,
    *,
    seed: int = 0,
    progress: Progress | None = None,
) -> Yardsticks:
    """Compute the figures of samples against held-out rows, of as many of either.

    >>> from undiffuse.data import load
    >>> from undiffuse.evaluation.references import refer
    >>> reference = refer(load("moons"), most=300)
    >>> copies = sampled(reference.training.rows, reference)
    >>> measure(copies, reference).memorization.caught
    True
    """
    training, held_out, classes, copies = reference.training, reference.held_out, None, None
    if reference.classifier is not None:
        known = [reference.classes_of(rows) for rows in (held_out.rows, samples.rows)]
        classes = modes(*known, classes=len(reference.classes), seed=seed)
    if training is not None and len(training) >= FEWEST:
        copies = memorization(training.features, held_out.features, samples.features, seed=seed)
    sets = _matched(samples, reference, seed)
    table = tables(samples, reference, seed=seed)
    figures = figures_of(
        mixed(samples, reference, seed=seed),
        sets,
        manifold_figures(sets),
        classes,
        copies,
        table,
        sequences(samples, reference, seed=seed, progress=progress),
    )
    return Yardsticks(figures=figures, modes=classes, memorization=copies)


def _matched(samples: Sampled, reference: Reference, seed: int) -> Matched:
    return match_features(reference.held_out.features, samples.features, seed=seed)


def mixed(samples: Sampled, reference: Reference, *, seed: int = 0) -> Mixed:
    """Return as many samples as held-out rows, as trees see them.

    A table's columns; else the features, and the numbers of the row, evenly spread where it has
    many.
    """
    sides = samples, reference.held_out
    orders = [
        np.random.default_rng(mix(seed, _MIXED, i)).permutation(len(side))
        for i, side in enumerate(sides)
    ]
    n = min(JUDGED, *map(len, sides))
    fake, real = (
        columns_of(side.rows[chosen], side.features[chosen], reference)
        for side, chosen in zip(sides, (np.sort(order[:n]) for order in orders))
    )
    return Mixed(real=real, fake=fake, seed=seed)


def columns_of(rows: np.ndarray, features: Tensor, reference: Reference) -> np.ndarray:
    """Return rows (n, ...) with features (n, D) as trees see them, (n, columns); see `mixed`."""
    if reference.form.column_sizes:
        return rows.astype(np.float64)
    x = reference.encode(rows).flatten(1).double().numpy()
    spread = np.linspace(0, x.shape[1] - 1, min(COORDINATES, x.shape[1])).round().astype(int)
    return np.concatenate([features.double().numpy(), x[:, spread]], 1)


def tables(samples: Sampled, reference: Reference, *, seed: int = 0) -> Tables | None:
    """Return samples and reference as tables.

    None for rows without columns, and for fewer than 20 on either side.
    """
    sizes = reference.form.column_sizes
    ours, theirs, training = samples.rows, reference.held_out.rows, reference.training
    if not sizes or min(len(ours), len(theirs)) < TABLE_FEWEST:
        return None
    real, fake = (rows[:TABLE_ROWS].astype(np.float64) for rows in (theirs, ours))
    known = training is not None and len(training) >= TABLE_FEWEST
    return Tables(
        real=real,
        fake=fake,
        training=training.rows[:TABLE_ROWS].astype(np.float64) if training and known else None,
        sizes=sizes,
        seed=seed,
    )


def sequences(
    samples: Sampled, reference: Reference, *, seed: int = 0, progress: Progress | None = None
) -> Sequences | None:
    """Return samples and reference as series.

    None for other rows, for series of fewer than 4 steps, and without 8 training rows.
    """
    training = reference.training
    if training is None or len(training) < FEWEST or reference.time is None:
        return None
    if reference.transform.shape[-1] < LEAST_STEPS:
        return None
    sides = samples.rows, reference.held_out.rows, training.rows
    most = max(ROWS, MOST_VALUES // math.prod(reference.transform.shape))
    fake, real, own = (reference.series(side[:most]) for side in sides)
    return Sequences(real=real, fake=fake, training=own, seed=seed, progress=progress)


def quick(samples: Sampled, reference: Reference, *, seed: int = 0) -> dict[str, Found]:
    """Compute the Frechet distance and precision alone, to compare settings of one sampler."""
    sets = _matched(samples, reference, seed)
    return figures_of(sets, manifold_figures(sets), names=QUICK)


def quality_by_steps(
    drawn: Drawn,
    own: int | None,
    most: int | float,
    draw: Callable[[int, int], Drawn | None],
    reference: Reference,
    *,
    seed: int = 0,
) -> list[dict[str, Any]] | None:
    """Compute quality against the evaluations that a sample costs.

    Args:
        drawn: the samples in `own` steps.
        own: None for a family that draws in one pass.
        most: the most steps that the sampler can take.
        draw: `draw(n, steps)` draws others; None if it was stopped.
        reference: what samples are compared with.
        seed: of the figures.

    Returns:
        Plain data {"evaluations", "steps", "frechet", "precision"}, by ascending number of steps;
            none
        for one pass. None if `draw` was stopped.
    """
    if own is None:
        return []
    found = {own: drawn}
    n, spent = min(SAMPLES, len(drawn.rows)), 0.0
    for steps in [2 * own, *(own // 2**k for k in range(1, own.bit_length()))]:
        cost = drawn.evaluations * steps / own
        dear = cost > DEAREST or spent + cost > EXTRA or len(found) > SETTINGS
        if dear or not 2 <= steps <= most:
            continue
        more = draw(n, steps)
        if more is None:
            return None
        found[steps] = more
        spent += more.evaluations
    lines = []
    for steps in sorted(found) if len(found) > 1 else ():
        samples = _finite(found[steps].rows[:n], reference)
        if len(samples) < FEWEST:  # in so few steps they may be no numbers
            continue
        values = quick(samples, reference, seed=seed)
        lines.append({"evaluations": found[steps].evaluations, "steps": steps, **as_facts(values)})
    return lines
