"""A diffusion transformer for images and sequences (Peebles and Xie 2023), for any number of axes.

    x (C, *S) --patches--> tokens (N, width) + position --depth blocks--> tokens --> F (out C, *S)

A block is h + gate_1 attention(norm(h) (1 + scale_1) + shift_1), then the same with a two-layer
perceptron; scale, shift and gate are linear in the conditioning e and start at zero ("adaLN-Zero"),
so that each block starts as the identity. Positions are learned, starting from sines and cosines of
each axis. Data whose sides the patch does not divide are padded by their last values, and the
output is cut back exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from undiffuse.errors import InputError
from undiffuse.nn.layers import Attention, Conditioning, counts, divisor, fold, linear, unfold
from undiffuse.nn.sized import SizedNetwork, parted


@final
class Transformer(SizedNetwork):
    """F(x, c_noise, label, vector, given) for rows of shape (C, L) or (C, H, W).

    Args:
        shape: (C, L) or (C, H, W) of a row.
        patch: length, or side, of the pieces that become one token each.
        width: numbers per token.
        depth: blocks.
        heads: attention heads; they divide the width.
        dropout: share of activations dropped in training.
        classes: number of labels, 0 for none.
        vector: numbers in a condition vector, 0 for none.
        maps: channels of condition maps, whose values follow in the vector, 0 for none.
        given: channels of what is known, 2 C, 0 for none.
        out: outputs per channel, 2 for a learned variance.
        span: length of the interval of c_noise, see `NoiseFeatures`.

    Raises:
        InputError: for a value that cannot be used, or heads that do not divide the width.

    >>> net = Transformer(shape=(2, 100), patch=16, width=32, depth=1, heads=4)
    >>> net(torch.randn(3, 2, 100), torch.zeros(3)).shape
    torch.Size([3, 2, 100])
    """

    name, axes, hidden = "transformer", (2, 3), ("blocks",)
    patch: int

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
        maps: int = 0,
        given: int = 0,
        out: int = 1,
        span: float | int = 4.0,
    ) -> None:
        super().__init__(locals())
        if width % heads:
            raise InputError(
                f"transformer: {heads} heads do not divide a width of {width}; change one of them."
            )
        self.counts = counts(shape, patch)  # tokens along each axis
        tokens, values = math.prod(self.counts), shape[0] * patch ** len(self.counts)
        self.condition = Conditioning(width=width, span=span, classes=classes, vector=vector)
        self.enter = linear(values, width)
        folded = patch ** len(self.counts)
        self.enter_given, self.enter_maps = (
            linear(count * folded, width, bias=False) if count else None for count in (given, maps)
        )
        self.position = nn.Parameter(positions(self.counts, width))
        heads_used = heads if tokens > 1 else 0
        self.blocks = nn.ModuleList(
            TransformerBlock(width, heads_used, dropout) for _ in range(depth)
        )
        self.modulation = linear(width, 2 * width, zero=True)
        self.leave = linear(width, values * out, zero=True)

    @classmethod
    def sizes(cls, shape: tuple[int, ...], given: Mapping[str, Any]) -> dict[str, Any]:
        """Allow at most 256 tokens (512 of long rows), each as wide as its patch or wider."""
        most = 256 if math.prod(shape[1:]) <= 2**15 else 512
        powers = (2**k for k in range(64))
        patch = given.get("patch") or next(p for p in powers if math.prod(counts(shape, p)) <= most)
        values = shape[0] * patch ** (len(shape) - 1)
        width = 128 if values <= 16 else 192 if values <= 64 else 256 if values <= 256 else 384
        width = given.get("width", width)
        heads = divisor(width, max(1, width // 32))
        return {"patch": patch, "width": width, "depth": 6, "heads": heads}

    @classmethod
    def ladder(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        """From half the usual width to one and a half times that."""
        usual = cls.sizes(shape, {})["width"]
        return (usual // 2, usual, usual // 2 * 3)

    def forward(
        self,
        x: Float[Tensor, "b c *side"],
        c_noise: Float[Tensor, " b"],
        label: Int64[Tensor, " b"] | None = None,
        vector: Float[Tensor, "b v"] | None = None,
        given: Float[Tensor, "b g *side"] | None = None,
    ) -> Float[Tensor, "b c_out *side"]:
        """Return F (B, out C, *S) for x (B, C, *S) at noise levels c_noise (B,)."""
        self.check_call(x, label, vector, given)
        numbers, maps = parted(vector, self.vector, self.shape)
        e = self.condition(c_noise, label, numbers)
        patch = (self.patch,) * len(self.counts)
        h = self.enter(fold(x, patch).flatten(2).transpose(1, 2)) + self.position
        for enter, beside in ((self.enter_given, given), (self.enter_maps, maps)):
            if enter is not None and beside is not None:
                h = h + enter(fold(beside, patch).flatten(2).transpose(1, 2))
        for block in self.blocks:
            h = block(h, e)
        scale, shift = self.modulation(e)[:, None].chunk(2, dim=2)
        h = self.leave(modulate(h, scale, shift)).transpose(1, 2).unflatten(2, self.counts)
        return unfold(h, patch, self.shape[1:])


@final
class TransformerBlock(nn.Module):
    """h (B, N, width), e (B, width) -> (B, N, width): attention if heads > 0, then a perceptron."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.branches = nn.ModuleList([Attention(width=width, heads=heads)] if heads else [])
        self.branches.append(
            nn.Sequential(
                linear(width, 4 * width),
                nn.GELU(approximate="tanh"),
                nn.Dropout(dropout),
                linear(4 * width, width),
            )
        )
        self.modulation = linear(width, 3 * width * len(self.branches), zero=True)

    def forward(
        self, h: Float[Tensor, "b n w"], e: Float[Tensor, "#b w"]
    ) -> Float[Tensor, "b n w"]:
        """Return h plus each branch, gated."""
        parts = self.modulation(e)[:, None].chunk(3 * len(self.branches), dim=2)
        for i, branch in enumerate(self.branches):
            scale, shift, gate = parts[3 * i : 3 * i + 3]
            h = torch.addcmul(h, gate.to(h.dtype), branch(modulate(h, scale, shift)).to(h.dtype))
        return h


def modulate(
    h: Float[Tensor, "b n w"], scale: Float[Tensor, "#b 1 w"], shift: Float[Tensor, "#b 1 w"]
) -> Float[Tensor, "b n w"]:
    """Return the adaptive layer normalization norm(h) (1 + scale) + shift."""
    return torch.addcmul(shift, F.layer_norm(h, h.shape[-1:]).to(shift.dtype), 1 + scale)


def positions(counts: Sequence[int], width: int) -> Float[Tensor, "n w"]:
    """Return sines and cosines of each axis's index (Vaswani et al. 2017, Sec. 3.5).

    The frequencies go from one radian per token to 10^-4. Each axis has an equal share of the
    `width` numbers; what does not divide evenly stays zero.

    >>> positions((2, 3), 10).shape
    torch.Size([6, 10])
    """
    share = width // (2 * len(counts))
    rates = 10_000 ** (-torch.arange(share, dtype=torch.float64) / max(1, share))
    grids = torch.meshgrid(*[torch.arange(n, dtype=torch.float64) for n in counts], indexing="ij")
    angles = torch.cat([grid.reshape(-1, 1) * rates for grid in grids], dim=1)
    table = torch.cat([angles.sin(), angles.cos()], dim=1)
    return F.pad(table, (0, width - table.shape[1])).float()
