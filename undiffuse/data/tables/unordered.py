"""Levels without an order as points of a space, each in a cell of its own.

Level k has a point e_k, several deviations of the noise away from all others, and a weight w_k, its
share. By Bayes' rule for N(y; e_k, I), P(k | y) = softmax_k(log w_k - |y - e_k|^2/2). The decoder
takes its largest entry, so that space is parted into convex cells, and a level always comes back.

A point of level k is y = e_k + z, z standard normal, if it lies in the cell of k. If not, it moves
on the ray from e_k through it: where that leaves the cell at a distance R, and y is at t > R, it is
put to R^2/t. In the cell, the density is that of what was there and of what was moved there,

    q(y | k) = N(z; 0, I) + (R/t)^(2 d) N((R/t)^2 z; 0, I),   t = |z|,   in d dimensions,
    log P(k) = log E_q[p(y) / q(y | k)] >= E_q[log p(y) - log q(y | k)],

which is an equality where p is sum_k P(k) q(y | k).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

APART = 4.5  # half the least distance of two points, in standard deviations
RARE = 20.0  # nats by which the weight of a level is at most below the largest: each has a cell


@final
class LevelPoints:
    """The points of U columns, those of each scaled to mean 0 and on average variance 1.

    The longest column has K levels and the widest D dimensions; what others lack is zero.

    Args:
        points: of each column, (levels, dimensions), at least 2 `APART` from each other.
        shares: of the levels of each.
    """

    def __init__(self, points: Sequence[Tensor], shares: Sequence[Tensor]) -> None:
        points = [one.double() for one in points]
        shares = [one / one.sum() for one in shares]
        self.widths = torch.tensor([one.shape[1] for one in points])
        most = int(self.widths.max())
        wide = [torch.nn.functional.pad(one, (0, most - one.shape[1])) for one in points]
        self._points = pad_sequence(wide, batch_first=True)  # (U, K, D)
        shares_of = pad_sequence(shares, batch_first=True)
        logs = shares_of.log()
        logs = logs.clamp(min=logs.amax(1, keepdim=True) - RARE)
        self._log_weights = logs.masked_fill(shares_of <= 0, -math.inf)[:, None]  # (U, 1, K)
        means = torch.stack([share @ one for share, one in zip(shares, wide)])
        spread = [
            share @ (one - mean).square().sum(1) for share, one, mean in zip(shares, wide, means)
        ]
        self._scales = (1 + torch.stack(spread) / self.widths).sqrt()[:, None, None]
        self._means = means[:, None]  # (U, 1, D)
        self._halves = torch.cdist(self._points, self._points).square() / 2

    def draw(self, level: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return a point x (D, U, B) float32 of each level (U, B), and log q (U, B).

        Args:
            level: from 0 on.
            z: standard normal noise, (D, U, B).
        """
        own = self._points.to(z.device).gather(1, level[..., None].expand(-1, -1, len(z)))
        log_w = self._log_weights.to(z.device)
        halves = self._halves.to(z.device).gather(
            1, level[..., None].expand(-1, -1, log_w.shape[2])
        )
        own_w = log_w.expand(-1, level.shape[1], -1).gather(2, level[..., None])
        faces = (halves + own_w - log_w).scatter(2, level[..., None], math.inf)
        z = z.double().permute(1, 2, 0)
        part = self._part(z, own, faces)
        x = self._scaled(own + z / part.clamp(min=1.0)[..., None] ** 2)
        over = self._nearest(x) != level
        if over.any():  # rounding took a point across a face of its cell
            inner = z * (1 - 2**-12) / part.clamp(min=1.0)[..., None] ** 2
            x = torch.where(over[..., None], self._scaled(own + inner), x)
        z = self._unscaled(x) - own
        part, square = self._part(z, own, faces), z.square().sum(-1)
        width = self.widths.to(z.device)[:, None]
        moved = -0.5 * square / part**4 - 2 * width * part.log()
        moved = torch.where(part > 1e-9, moved, -math.inf)  # nothing comes so near to the point
        constant = self._scales[..., 0].to(z.device).log() - 0.5 * math.log(2 * math.pi)
        log_q = torch.logaddexp(-0.5 * square, moved) + width * constant
        return x.permute(2, 0, 1), log_q

    def nearest(self, x: Tensor) -> Tensor:
        """Return the level (U, B) in whose cell each x (D, U, B) lies."""
        return self._nearest(x.permute(1, 2, 0))

    def _part(self, z: Tensor, own: Tensor, faces: Tensor) -> Tensor:
        """Return t/R, the part (U, B) that z (U, B, D) is of the way to where it leaves the cell.

        Args:
            z: from the own point on.
            own: that point, (U, B, D).
            faces: (e_j - e_k) . z on the face to each level j, (U, B, K).
        """
        points = self._points.to(z.device)
        along = torch.einsum("ubd,ukd->ubk", z, points) - (z * own).sum(-1, keepdim=True)
        return (along / faces).amax(-1).clamp(min=0.0)

    def _nearest(self, x: Tensor) -> Tensor:
        points, y = self._points.to(x.device), self._unscaled(x)
        heights = torch.einsum("ubd,ukd->ubk", y, points) - points.square().sum(-1)[:, None] / 2
        return (heights + self._log_weights.to(x.device)).argmax(-1)

    def _scaled(self, y: Tensor) -> Tensor:
        return ((y - self._means.to(y.device)) / self._scales.to(y.device)).float()

    def _unscaled(self, x: Tensor) -> Tensor:
        return self._means.to(x.device) + self._scales.to(x.device) * x.double()
