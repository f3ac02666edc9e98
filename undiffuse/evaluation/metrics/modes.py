"""The classes that samples reach, by a classifier that is used on real rows alike.

    share_c = samples of class c / n,       total variation = sum_c |share_c - real share_c| / 2

The classifier's mistakes are on both sides. A class counts as reached if its share among the
samples is at least a tenth of its share among the real rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Int64
from torch import Tensor

from undiffuse.errors import InputError
from undiffuse.evaluation.metrics.figure import Figure, by_halves, match, share

REACHED = 0.1


@final
@dataclass(frozen=True, kw_only=True)
class Modes:
    """What classes say of samples.

    Attributes:
        reached: how many classes are; its floor is how many the real rows have.
        variation: the total variation.
        shares: of each class among the samples.
        real: of each class among the real rows.
    """

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
    """Compare the classes 0 ... classes - 1 that a classifier gives to real rows and to samples.

    Raises:
        InputError: for fewer than 8 rows of either, or a class out of range.

    >>> real, fake = torch.tensor([0, 1, 2, 2] * 30), torch.tensor([0, 1, 1, 1] * 30)
    >>> found = modes(real, fake, classes=3)
    >>> found.reached.value, found.missing, found.variation.value
    (2.0, (2,), 0.5)
    """
    for name, labels in (("real rows", real), ("samples", fake)):
        if len(labels) < 8 or int(labels.min()) < 0 or int(labels.max()) >= classes:
            raise InputError(
                f"{name}: give the classes of at least 8 rows, each from 0 to {classes - 1}."
            )

    def variation(a: Tensor, b: Tensor) -> float:
        return float((_shares(a, classes) - _shares(b, classes)).abs().sum()) / 2

    n, expected = len(fake), _shares(real, classes)
    shares = tuple(share(count, n) for count in torch.bincount(fake, minlength=classes).tolist())
    present = [(one, REACHED * e) for one, e in zip(shares, expected.tolist()) if e > 0]
    value, low, high = (
        float(sum(number(one) >= least for one, least in present))
        for number in (lambda one: one.value, lambda one: one.low, lambda one: one.high)
    )
    reached = Figure(
        value=value, low=low, high=high, stderr=(high - low) / 4, n=n, floor=float(len(present))
    )
    return Modes(
        reached=reached,
        variation=by_halves(variation, match(real, fake, seed=seed)),
        shares=shares,
        real=tuple(expected.tolist()),
    )


def _shares(labels: Tensor, classes: int) -> Tensor:
    return torch.bincount(labels, minlength=classes).double() / len(labels)
