"""A diffusion transformer for images and sequences (Peebles & Xie 2023): one code path for any number of axes.

    x (C, *S) --patches--> tokens (N, width) + position --depth blocks--> tokens --patches--> F (out C, *S)

A block is h + gate_1 attention(norm(h) (1 + scale_1) + shift_1), then the same with a two-layer perceptron; scale,
shift and gate are linear in the conditioning e and start at zero ("adaLN-Zero"), so each block starts as the identity.
Positions are learned, starting from sines and cosines of each axis. Data whose sides the patch does not divide are
padded by their last values, and the output is cut back exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from undiffuse.errors import InputError
from undiffuse.nn import checks
from undiffuse.nn.layers import Attention, Conditioning, crop_to, linear, pad_to


@final
class Transformer(nn.Module):
    """F(x, c_noise, label, vector) for rows of shape (C, L) or (C, H, W).

    Arguments (all plain, kept under their own names):
        shape: (C, L) or (C, H, W) of a row. patch: length, or side, of the pieces that become one token each.
        width: numbers per token. depth: blocks. heads: attention heads; they divide the width.
        dropout: share of activations dropped in training. classes, vector: conditions (0 for none).
        out: outputs per channel (2 for a learned variance). span: the interval of c_noise, see `NoiseFeatures`.

    Raises InputError for sizes that are not positive, heads that do not divide the width, or another data shape.

    >>> net = Transformer(shape=(2, 100), patch=16, width=32, depth=1, heads=4)
    >>> net(torch.randn(3, 2, 100), torch.zeros(3)).shape
    torch.Size([3, 2, 100])
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        patch: int = 1,
        width: int = 192,
        depth: int = 6,
        heads: int = 3,
        dropout: float | int = 0.0,
        classes: int = 0,
        vector: int = 0,
        out: int = 1,
        span: float | int = 4.0,
    ) -> None:
        super().__init__()
        checks.axes("transformer", shape, {2: "(C, L)", 3: "(C, H, W)"})
        checks.at_least(
            "transformer", 1, patch=patch, width=width, depth=depth, heads=heads, out=out
        )
        checks.at_least("transformer", 0, classes=classes, vector=vector)
        checks.fraction("transformer", dropout=dropout)
        checks.positive("transformer", span=span)
        if width % heads:
            raise InputError(
                f"transformer: {heads} heads do not divide a width of {width}; change one of them."
            )
        self.shape, self.patch, self.width, self.depth, self.heads = (
            tuple(shape),
            patch,
            width,
            depth,
            heads,
        )
        self.dropout, self.span = float(dropout), float(span)
        self.classes, self.vector, self.out = classes, vector, out

        self.counts = tuple(-(-side // patch) for side in shape[1:])  # tokens along each axis
        values = shape[0] * patch ** len(self.counts)
        tokens = math.prod(self.counts)
        self.condition = Conditioning(width=width, span=span, classes=classes, vector=vector)
        self.enter = linear(values, width)
        self.position = nn.Parameter(positions(self.counts, width))
        heads_used = heads if tokens > 1 else 0
        self.blocks = nn.ModuleList(Block(width, heads_used, dropout) for _ in range(depth))
        self.modulation = linear(width, 2 * width, zero=True)
        self.leave = linear(width, values * out, zero=True)

    def forward(
        self,
        x: Float[Tensor, "b c *side"],
        c_noise: Float[Tensor, " b"],
        label: Int64[Tensor, " b"] | None = None,
        vector: Float[Tensor, "b v"] | None = None,
    ) -> Float[Tensor, "b c_out *side"]:
        checks.call("transformer", self.shape, self.classes, self.vector, x, label, vector)
        e = self.condition(c_noise, label, vector)
        h = self.enter(self._fold(x)) + self.position
        for block in self.blocks:
            h = block(h, e)
        scale, shift = self.modulation(e)[:, None].chunk(2, dim=2)
        return self._unfold(self.leave(modulate(h, scale, shift)))

    def _fold(self, x: Float[Tensor, "b c *side"]) -> Float[Tensor, "b n values"]:
        """Pieces of the padded data: (B, C, n1 p, n2 p) -> (B, n1 n2, C p p)."""
        x = pad_to(x, tuple(n * self.patch for n in self.counts))
        for axis, n in enumerate(self.counts):
            x = x.unflatten(2 + 2 * axis, (n, self.patch))
        axes = len(self.counts)
        counts, inner = (
            [2 + 2 * axis for axis in range(axes)],
            [3 + 2 * axis for axis in range(axes)],
        )
        return x.permute(0, *counts, 1, *inner).flatten(1 + axes).flatten(1, axes)

    def _unfold(self, tokens: Float[Tensor, "b n values"]) -> Float[Tensor, "b c_out *side"]:
        """The inverse of `_fold`, for `out` times the channels."""
        axes = len(self.counts)
        h = tokens.unflatten(2, (self.shape[0] * self.out, *[self.patch] * axes)).unflatten(
            1, self.counts
        )
        pairs = [position for axis in range(axes) for position in (1 + axis, 2 + axes + axis)]
        h = h.permute(0, 1 + axes, *pairs)
        for axis in range(axes):
            h = h.flatten(2 + axis, 3 + axis)
        return crop_to(h, self.shape[1:])


@final
class Block(nn.Module):
    """h (B, N, width), e (B, width) -> (B, N, width): attention (none for a single token), then a perceptron."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.branches = nn.ModuleList([Attention(width=width, heads=heads)] if heads else [])
        self.branches.append(perceptron(width, dropout))
        self.modulation = linear(width, 3 * width * len(self.branches), zero=True)

    def forward(self, h: Float[Tensor, "b n w"], e: Float[Tensor, "b w"]) -> Float[Tensor, "b n w"]:
        parts = self.modulation(e)[:, None].chunk(3 * len(self.branches), dim=2)
        for i, branch in enumerate(self.branches):
            scale, shift, gate = parts[3 * i : 3 * i + 3]
            h = torch.addcmul(h, gate.to(h.dtype), branch(modulate(h, scale, shift)).to(h.dtype))
        return h


def perceptron(width: int, dropout: float) -> nn.Sequential:
    """Two layers with a hidden width of 4 width, on the last axis."""
    hidden = 4 * width
    return nn.Sequential(
        linear(width, hidden),
        nn.GELU(approximate="tanh"),
        nn.Dropout(dropout),
        linear(hidden, width),
    )


def modulate(
    h: Float[Tensor, "b n w"], scale: Float[Tensor, "b 1 w"], shift: Float[Tensor, "b 1 w"]
) -> Float[Tensor, "b n w"]:
    """Adaptive layer normalization: norm(h) (1 + scale) + shift."""
    return torch.addcmul(shift, F.layer_norm(h, h.shape[-1:]).to(shift.dtype), 1 + scale)


def positions(counts: Sequence[int], width: int) -> Float[Tensor, "n w"]:
    """Sines and cosines of each axis's index, from one radian per token to 10^-4 (Vaswani et al. 2017, Sec. 3.5).

    Each axis has an equal share of the `width` numbers; what does not divide evenly stays zero.

    >>> positions((2, 3), 10).shape
    torch.Size([6, 10])
    """
    share = width // (2 * len(counts))
    rates = 10_000 ** (-torch.arange(share, dtype=torch.float64) / max(1, share))
    grids = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in counts], indexing="ij")
    angles = torch.cat([grid.reshape(-1, 1) * rates for grid in grids], dim=1)
    table = torch.cat([angles.sin(), angles.cos()], dim=1)
    return F.pad(table, (0, width - table.shape[1])).float()
