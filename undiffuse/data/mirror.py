"""Whether images are as likely mirrored, left to right, as they are: then training may show both.

Let M mirror an image. Pairs (x, M x) with p(x) = p(M x) cannot be told from (M x, x). What tells
them apart is an odd function, s(M x) = -s(x), whose sign says which of the two is the original:

    s(x) = sum_i a_i [k(x, x_i) + k(M x, M x_i) - k(x, M x_i) - k(M x, x_i)]

is fitted to s(x_i) = 1 by ridge regression on half of the rows, and counted right where s > 0 on
the others. k is a Gaussian kernel of features: coarse pixels, and how strongly patches of the
images are found in each quarter of the width. Of a symmetric density a row is counted right with
probability 1/2, whatever was fitted and apart from all others, so the count is binomial. Rows of
x's own label weigh twice in the sum: arrows may be symmetric, and those called "left" not.
"""

from __future__ import annotations

from typing import NamedTuple, final

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, conv2d

TOLD = 0.6  # of the pairs, at most, are told apart by a set that counts as symmetric
CONFIDENCE = 0.95  # with which that is known
FEWEST = 100  # rows looked at, half of them to fit
_SIDE, _COARSE, _COLUMNS = 32, 8, 4  # pixels looked at; coarse ones; parts of the width
_PATCHES, _PATCH = 32, 5
_RIDGE = 0.1
_FLAT = 1e-3  # of a patch


@final
class Mirrored(NamedTuple):
    """How many pairs of an image and its mirror image were tested, and how many told apart."""

    told: float
    tested: int

    @property
    def likely(self) -> bool:
        """Whether at most 60 % would be told apart, by Clopper and Pearson's 95 % limit."""
        from scipy.special import betaincinv  # takes 0.1 s, and only images need it

        missed = self.tested - self.told
        return missed > 0 and bool(betaincinv(self.told + 1, missed, CONFIDENCE) <= TOLD)

    @property
    def said(self) -> str:
        """What was found of mirrored images, in a sentence without its end."""
        share = f"in {self.told / self.tested:.0%} of {self.tested:,} pairs"
        return f"a classifier tells them from the others {share}"


def tell_mirrored(x: Tensor, labels: Tensor | None) -> Mirrored | None:
    """Return how many images a classifier, fitted to the first half, tells from mirrored ones.

    Args:
        x: rows (N, C, H, W) at unit scale, in random order.
        labels: the class of each, (N,), or None.

    Returns:
        None for images that are one pixel wide, and for fewer than 100.
    """
    if x.shape[-1] < 2 or len(x) < FEWEST:
        return None
    x = x if max(x.shape[2:]) <= _SIDE else adaptive_avg_pool2d(x, _SIDE)
    fitted = len(x) // 2
    patches = _patches(x[:fitted])
    own, mirrored = _standardized(_features(x, patches), _features(x.flip(-1), patches))
    first, turned = own[:fitted], mirrored[:fitted]
    odd = _kernel(own, first) + _kernel(mirrored, turned)
    odd -= _kernel(own, turned) + _kernel(mirrored, first)
    if labels is not None:
        odd = odd * (1 + (labels[:, None] == labels[:fitted]).float())
    ridge = _RIDGE * odd[:fitted].diagonal().mean().clamp(min=1e-12)
    weights = torch.linalg.solve(odd[:fitted] + ridge * torch.eye(fitted), torch.ones(fitted))
    found = odd[fitted:] @ weights
    return Mirrored(float((found > 0).sum() + (found == 0).sum() / 2), len(found))


def mirror(rows: np.ndarray, chosen: np.ndarray, axis: int) -> np.ndarray:
    """Return stored rows (B, ...) of which those `chosen`, (B,) bool, are reversed along `axis`."""
    return np.where(chosen.reshape(-1, *[1] * (rows.ndim - 1)), np.flip(rows, axis), rows)


def _kernel(one: Tensor, other: Tensor) -> Tensor:
    """exp(-|a - b|^2 / 4) of features (N, D) and (M, D)."""
    return torch.exp(-torch.cdist(one, other).square() / 4)


def _patches(x: Tensor) -> Tensor:
    """Patches (32, C, h, w) at random places of images (N, C, H, W), of mean 0 and norm 1."""
    draw, (height, width) = torch.Generator().manual_seed(0), x.shape[2:]
    high, wide = min(_PATCH, height), min(_PATCH, width)
    places = (
        torch.randint(most, (_PATCHES,), generator=draw).tolist()
        for most in (len(x), height - high + 1, width - wide + 1)
    )
    patches = torch.stack([x[n, :, i : i + high, j : j + wide] for n, i, j in zip(*places)])
    patches = patches - patches.mean((1, 2, 3), keepdim=True)
    return patches / patches.square().sum((1, 2, 3), keepdim=True).sqrt().clamp(min=_FLAT)


def _features(x: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
    """The coarse pixels (N, D) and the responses (N, E) of images."""
    height, width = x.shape[2:]
    coarse = adaptive_avg_pool2d(x, (min(_COARSE, height), min(_COARSE, width)))
    found = torch.cat([conv2d(part, patches).relu() for part in x.split(256)])
    parts = adaptive_avg_pool2d(found, (1, min(_COLUMNS, found.shape[-1])))
    return coarse.flatten(1), parts.flatten(1)


def _standardized(
    own: tuple[Tensor, Tensor], mirrored: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Features of images and of mirrored ones, each kind of a mean square of 1 about its mean."""
    kinds: list[Tensor] = []
    for one, other in zip(own, mirrored):
        both = torch.cat([one, other])
        centred = both - both.mean(0)
        kinds.append(centred / centred.square().sum(1).mean().sqrt().clamp(min=1e-12))
    every = torch.cat(kinds, 1)
    return every[: len(own[0])], every[len(own[0]) :]
