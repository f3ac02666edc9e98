"""Levels without an order as corners of a regular simplex, any two of which are equally far apart.

K levels are the corners c e_1, ..., c e_K of R^K, seen in the K - 1 dimensions of their
differences. A point of level k is y = c e_k + z, z standard normal, if corner k is the nearest to
it; if it is another corner j, y is reflected into the cell of k: its coordinates j and k are
swapped. What is reflected from the cell of j is as N(c e_j, I) is in the cell of k, so that

    q(y | k) = sum_j N(y; c e_j, I)   in the cell of k, else 0,
    log P(k) = log E_q[p(y) / q(y | k)] >= E_q[log p(y) - log q(y | k)],

which is an equality where p is sum_k P(k) q(y | k). The decoder is a softmax over the corners, of
which the largest entry is taken, so a level always comes back.

There are such corners for at most `MOST` levels: each is one more coordinate, in which p loses some
of the bound (docs/measurements.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

MOST = 16  # corners
APART = 4.5  # half the distance of two corners, in standard deviations


@final
class Simplices:
    """Simplices, U of them, each scaled to mean 0 and on average variance 1.

    The largest has K corners; what a smaller one lacks of its K - 1 coordinates is zero.

    Args:
        shares: of the corners of each.
    """

    def __init__(self, shares: Sequence[Tensor]) -> None:
        counts = torch.tensor([len(own) for own in shares])
        most = int(counts.max())
        self.widths = counts - 1
        self._size = math.sqrt(2) * APART  # c: two corners are c sqrt(2) apart
        self._frames = torch.zeros(len(shares), most, most - 1, dtype=torch.float64)
        for frame, count in zip(self._frames, counts.tolist()):
            centred = torch.eye(count, dtype=torch.float64)[:, 1:] - 1 / count
            frame[:count, : count - 1] = torch.linalg.qr(centred)[0]  # orthonormal columns
        self._lacks = torch.arange(most)[:, None, None] >= counts[:, None]  # (K, U, 1)
        padded = pad_sequence([own / own.sum() for own in shares], batch_first=True)
        self._means = self._size * torch.einsum("uk,ukd->du", padded, self._frames)[:, :, None]
        spread = self._size**2 * (1 - padded.square().sum(1)) / self.widths
        self._scales = (1 + spread).sqrt()[:, None]  # (U, 1)

    def draw(self, level: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return a point x (K - 1, U, B) float32 of each level (U, B), and log q (U, B).

        Args:
            level: from 0 on.
            z: standard normal noise, (K - 1, U, B).
        """
        frames, means, scales, lacks, widths = (
            one.to(z.device)
            for one in (self._frames, self._means, self._scales, self._lacks, self.widths[:, None])
        )
        corners = self._size * frames.permute(2, 0, 1)  # (K - 1, U, K)
        own = corners.gather(2, level.expand(len(corners), -1, -1))
        height = self._heights(own + z.double())
        nearest, level = height.argmax(0, keepdim=True), level[None]
        there, here = height.gather(0, nearest), height.gather(0, level)
        height = height.scatter(0, nearest, here).scatter(0, level, there)
        y = torch.einsum("ukd,kub->dub", frames, height.masked_fill(lacks, 0.0))
        x = ((y - means) / scales).float()
        height = self._heights(means + scales * x.double())
        over = height.argmax(0) != level[0]
        if over.any():  # rounding took a point across the face of its cell
            x = torch.where(over, ((y + 2**-16 * (own - y) - means) / scales).float(), x)
            height = self._heights(means + scales * x.double())
        square = (means + scales * x.double()).square().sum(0)
        square = square + self._size**2 * widths / (widths + 1)
        constant = widths * (scales.log() - 0.5 * math.log(2 * math.pi))
        return x, (self._size * height).logsumexp(0) - 0.5 * square + constant

    def nearest(self, x: Tensor) -> Tensor:
        """Return the corner (U, B) that is nearest to each x (K - 1, U, B)."""
        means, scales = (one.to(x.device) for one in (self._means, self._scales))
        return self._heights(means + scales * x.double()).argmax(0)

    def _heights(self, y: Tensor) -> Tensor:
        """Return the coordinates (K, U, B) in R^K of points, -inf at corners that are none."""
        frames, lacks = (one.to(y.device) for one in (self._frames, self._lacks))
        return torch.einsum("ukd,dub->kub", frames, y).masked_fill(lacks, -math.inf)
