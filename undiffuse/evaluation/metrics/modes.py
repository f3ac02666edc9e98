"""The classes that samples reach, by a classifier used on real rows alike: its mistakes stand on both sides.

    share_c = samples of class c / n,       total variation = sum_c |share_c - real share_c| / 2

A class counts as reached if its share among the samples is at least a tenth of its share among the real rows. The
interval of a share is Wilson's (1927), which holds at 0 of n too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Int64
from torch import Tensor

from undiffuse.errors import InputError
from undiffuse.evaluation.metrics.figure import (
    DRAWS,
    Figure,
    floor_note,
    normal,
    permutation,
    random_halves,
    spread,
    student,
)
from undiffuse.seeds import mix

REACHED = 0.1
_Z = 1.959964


@final
@dataclass(frozen=True, kw_only=True)
class Modes:
    """`shares` and `real` by class; `reached` counts classes, its floor is how many the real rows have."""

    reached: Figure
    variation: Figure
    shares: tuple[Figure, ...]
    real: tuple[float, ...]

    @property
    def missing(self) -> tuple[int, ...]:
        """The classes that real rows have and samples do not reach."""
        pairs = enumerate(zip(self.shares, self.real))
        return tuple(c for c, (share, real) in pairs if real > 0 and share.value < REACHED * real)


def modes(
    real: Int64[Tensor, " n"], fake: Int64[Tensor, " m"], *, classes: int, seed: int = 0
) -> Modes:
    """The classes (0 ... classes - 1) that a classifier gives to real rows and to samples, compared.

    >>> found = modes(torch.tensor([0, 1, 2, 2] * 30), torch.tensor([0, 1, 1, 1] * 30), classes=3)
    >>> found.reached.value, found.missing, found.variation.value
    (2.0, (2,), 0.5)
    """
    for name, labels in (("real rows", real), ("samples", fake)):
        if len(labels) < 8 or int(labels.min()) < 0 or int(labels.max()) >= classes:
            raise InputError(
                f"{name}: give at least 8 classes of rows, each from 0 to {classes - 1}."
            )
    n = min(len(real), len(fake))
    ours, theirs = (
        fake[permutation(len(fake), mix(seed, 1))[:n]],
        real[permutation(len(real), mix(seed, 0))[:n]],
    )
    expected = _shares(real, classes)
    present, least = expected > 0, REACHED * expected
    shares = tuple(
        wilson(int(count), len(fake)) for count in torch.bincount(fake, minlength=classes)
    )
    reached, low, high = (
        float(sum(bool(p) and getattr(s, end) >= e for s, e, p in zip(shares, least, present)))
        for end in ("value", "low", "high")
    )
    part = min(n, len(real) // 2)
    order = permutation(len(real), mix(seed, 2))
    halved = [
        _variation(theirs[a], ours[b], classes)
        for a, b in zip(random_halves(n, seed=2 * seed), random_halves(n, seed=2 * seed + 1))
    ]
    return Modes(
        reached=Figure(
            value=reached,
            low=low,
            high=high,
            stderr=(high - low) / 4,
            n=len(fake),
            floor=float(present.sum()),
        ),
        variation=normal(
            _variation(theirs, ours, classes),
            spread(halved, n),
            n,
            width=student(DRAWS),
            floor=_variation(real[order[:part]], real[order[part : 2 * part]], classes),
            bounds=(0.0, 1.0),
            warnings=[floor_note(n, part)],
        ),
        shares=shares,
        real=tuple(expected.tolist()),
    )


def wilson(count: int, n: int) -> Figure:
    """A share with its score interval.

    >>> share = wilson(0, 100)
    >>> share.value, share.low, round(share.high, 4)
    (0.0, 0.0, 0.037)
    """
    p, z2 = count / n, _Z**2 / n
    middle = (p + z2 / 2) / (1 + z2)
    half = _Z * math.sqrt(p * (1 - p) / n + z2 / (4 * n)) / (1 + z2)
    low = 0.0 if count == 0 else middle - half
    high = 1.0 if count == n else middle + half
    return Figure(value=p, low=low, high=high, stderr=half / _Z, n=n)


def _shares(labels: Tensor, classes: int) -> Tensor:
    return torch.bincount(labels, minlength=classes).double() / len(labels)


def _variation(a: Tensor, b: Tensor, classes: int) -> float:
    return float((_shares(a, classes) - _shares(b, classes)).abs().sum()) / 2
