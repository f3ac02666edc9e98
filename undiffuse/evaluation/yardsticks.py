"""The yardsticks of one set of samples beside its reference, each figure with its interval and its floor.

    quality       frechet, kernel, precision, density       are samples where real rows are?
    coverage      recall, coverage, modes, class variation  are real rows where samples are?
    memorization  nearest training rows                     are samples new?
    tables        columns, associations, detection, use     for rows that are records

Samples go the way of real rows: stored type, encoded at bin centres, features. Those whose features are not finite
are left out and counted.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from undiffuse.errors import InputError
from undiffuse.evaluation.metrics import (
    Figure,
    Matched,
    Memorization,
    Modes,
    detection,
    fidelity_figures,
    frechet_figure,
    kernel_figure,
    manifold_figures,
    match,
    memorization,
    modes,
    usefulness,
)
from undiffuse.evaluation.references import FEWEST, Reference

NEIGHBOURS = 5
TABLE_ROWS, TABLE_FEWEST = 3000, 20
TARGETS = 8  # columns of a table that are predicted


@final
@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Samples (m, ...) of the stored type and their features (m, D), all finite; how many were left out."""

    rows: np.ndarray
    features: Tensor
    lost: int

    def __len__(self) -> int:
        return len(self.rows)


@final
@dataclass(frozen=True, kw_only=True)
class Yardsticks:
    """Figures by name; `modes` and `memorization` are None where there is nothing to tell them by."""

    quality: dict[str, Figure]
    coverage: dict[str, Figure]
    modes: Modes | None
    memorization: Memorization | None


def sampled(rows: np.ndarray, reference: Reference) -> Sampled:
    """The samples with their features. Raises InputError if fewer than 8 of them have finite ones."""
    features = reference.features_of(rows)
    finite = torch.isfinite(features).all(1)
    lost = int((~finite).sum())
    if len(rows) - lost < FEWEST:
        raise InputError(
            f"samples: {lost:,} of {len(rows):,} hold values that are no numbers, too many to compare; the model has "
            "diverged: train it again with a lower --training.lr."
            if lost
            else f"samples: {len(rows)} are too few to compare; draw at least {FEWEST}."
        )
    return Sampled(rows=rows[finite.numpy()], features=features[finite], lost=lost)


def measure(samples: Sampled, reference: Reference, *, seed: int = 0) -> Yardsticks:
    """Quality, coverage and memorization of samples against held-out rows, of as many of either as there are of both.

    >>> from undiffuse.data import load
    >>> from undiffuse.evaluation.references import refer
    >>> reference = refer(load("moons"), most=300)
    >>> copies = sampled(reference.training.rows, reference)
    >>> measure(copies, reference).memorization.caught
    True
    """
    sets = match(reference.held_out.features, samples.features, seed=seed)
    figures = neighbourhood(sets, seed=seed)
    training = reference.training
    found = None
    if reference.classifier is not None:
        known = [reference.classes_of(rows) for rows in (reference.held_out.rows, samples.rows)]
        found = modes(*known, classes=len(reference.classes), seed=seed)
    return Yardsticks(
        quality={
            "frechet": frechet_figure(sets, seed=seed),
            "kernel": kernel_figure(sets),
            "precision": figures["precision"],
            "density": figures["density"],
        },
        coverage={"recall": figures["recall"], "coverage": figures["coverage"]},
        modes=found,
        memorization=memorization(training.features, reference.held_out.features, samples.features)
        if training is not None and len(training) >= FEWEST
        else None,
    )


def neighbourhood(sets: Matched, *, seed: int = 0) -> dict[str, Figure]:
    """Precision, recall, density and coverage, by as many neighbours as the smallest of the sets has, 5 at most."""
    smallest = min(len(sets.fake) // 2, len(sets.halves[0]))
    return manifold_figures(sets, max(1, min(NEIGHBOURS, smallest - 1)), seed=seed)


def quick(samples: Sampled, reference: Reference, *, seed: int = 0) -> dict[str, Figure]:
    """The Frechet distance and precision alone, for comparing settings of one sampler."""
    sets = match(reference.held_out.features, samples.features, seed=seed)
    return {
        "frechet": frechet_figure(sets, seed=seed),
        "precision": neighbourhood(sets, seed=seed)["precision"],
    }


def tables(samples: Sampled, reference: Reference, *, seed: int = 0) -> dict[str, Any] | None:
    """{"columns": {name: figure}, "associations", "detection", "usefulness": {name: figure}} of rows whose form says
    what their columns are; None for other rows, and for fewer than 20 on either side.

    Each categorical column (the last column, if there is none) is predicted from the others; 8 columns at most, and
    none of which too few values are known.
    """
    columns: dict[str, int] | None = getattr(reference.form, "column_sizes", None)
    ours, theirs = samples.rows[:TABLE_ROWS], reference.held_out.rows[:TABLE_ROWS]
    if columns is None or min(len(ours), len(theirs)) < TABLE_FEWEST:
        return None
    names, sizes = list(columns), list(columns.values())
    figures = fidelity_figures(theirs, ours, sizes, list(map(str, range(len(names)))), seed=seed)
    associations = figures.pop("associations")
    useful: dict[str, Figure] = {}
    if (
        reference.training is not None
        and len(reference.training) >= TABLE_FEWEST
        and len(names) > 1
    ):
        training = reference.training.rows[:TABLE_ROWS]
        targets = [i for i, size in enumerate(sizes) if size > 1] or [len(sizes) - 1]
        for i in targets[:TARGETS]:
            with suppress(
                InputError
            ):  # of a column that is hardly ever known nothing can be learned
                useful[names[i]] = usefulness(training, ours, theirs, sizes, i, seed=seed)
    return {
        "columns": dict(zip(names, figures.values())),
        "associations": associations,
        "detection": detection(theirs, ours, sizes, seed=seed),
        "usefulness": useful,
    }
