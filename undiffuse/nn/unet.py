"""A U-Net for images, grids and sequences of any number of channels and any size.

    x --patch x patch pixels to channels--> level 0 --half--> level 1 ... --double--> level 0 --> F

Each level is a run of residual blocks (Ho et al. 2020, with the scale-shift conditioning of
Dhariwal and Nichol 2021 and the skips of Song et al. 2021): h <- (skip(h) + branch(h, e)) /
sqrt(2), GroupNorm and SiLU before each convolution. On the way up each block also sees the output
of its counterpart on the way down. Halving averages 2 x 2 positions (at an odd edge, those that
exist); doubling repeats them and cuts the surplus, so that any size is taken. Only for the patches
is the image padded, by its own last row and column, and the output is cut back exactly. A sequence
is an image of height 1, whose kernels have height 1 as well.
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
from undiffuse.nn.layers import (
    Attention,
    Conditioning,
    conv,
    counts,
    crop_to,
    divisor,
    fold,
    linear,
    unfold,
)
from undiffuse.nn.sized import SizedNetwork, parted

_MOST_ATTENDED = 64  # positions that attention is over, unless asked for


@final
class UNet(SizedNetwork):
    """F(x, c_noise, label, vector, given) for rows of shape (C, H, W) or (C, L).

    Args:
        shape: (C, H, W) or (C, L) of a row.
        width: channels of level 0.
        multipliers: channels of each level as a multiple of `width`; their count is the depth.
        blocks: residual blocks per level on the way down, and as many on the way up.
        attention: the levels whose blocks attend over all positions.
        patch: side of the pixel blocks, or length of the pieces, that are folded into channels.
        head_width: channels per attention head.
        dropout: share of activations dropped in training.
        classes: number of labels, 0 for none.
        vector: numbers in a condition vector, 0 for none.
        maps: channels of condition maps, whose values follow in the vector, 0 for none.
        given: channels of what is known, 2 C, 0 for none.
        out: outputs per channel, 2 for a learned variance.
        span: length of the interval of c_noise, see `NoiseFeatures`.

    Raises:
        InputError: for a value that cannot be used, or an attention level that does not exist.

    >>> net = UNet(shape=(3, 7, 10), width=16, multipliers=(1, 2), classes=4)
    >>> net(torch.randn(2, 3, 7, 10), torch.zeros(2), torch.tensor([3, -1])).shape
    torch.Size([2, 3, 7, 10])
    """

    name, axes, least = "unet", (2, 3), {"attention": 0}
    hidden = ("down", "middle", "up")
    patch: int
    blocks: int

    def __init__(
        self,
        *,
        shape: Sequence[int],
        width: int = 64,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 2,
        attention: Sequence[int] = (),
        patch: int = 1,
        head_width: int = 64,
        dropout: float | int = 0.0,
        classes: int = 0,
        vector: int = 0,
        maps: int = 0,
        given: int = 0,
        out: int = 1,
        span: float | int = 4.0,
    ) -> None:
        super().__init__(locals())
        if any(level >= len(multipliers) for level in attention):
            raise InputError(
                f"unet: attention {tuple(attention)} names a level that is not there; with "
                f"{len(multipliers)} multipliers the levels are 0 to {len(multipliers) - 1}."
            )
        channels = [width * m for m in multipliers]
        self.sides = (patch,) * (len(shape) - 1)
        pixels, size = shape[0] * math.prod(self.sides), kernel(shape)
        features = 4 * width
        self.condition = Conditioning(width=features, span=span, classes=classes, vector=vector)

        def block(level: int, inputs: int) -> ResidualBlock:
            heads = divisor(channels[level], max(1, channels[level] // head_width))
            attends = level in attention and math.prod(counts(shape, patch, level)) > 1
            heads = heads if attends else 0
            return ResidualBlock(inputs, channels[level], features, dropout, heads, size)

        self.enter = conv(pixels, channels[0], size)
        folded = math.prod(self.sides)
        self.enter_given, self.enter_maps = (
            conv(count * folded, channels[0], size, bias=False) if count else None
            for count in (given, maps)
        )
        runs = [(level, here, channels[max(0, level - 1)]) for level, here in enumerate(channels)]
        self.down = nn.ModuleList(
            block(level, here if i else above) for level, here, above in runs for i in range(blocks)
        )
        self.middle = block(len(channels) - 1, channels[-1])
        self.up = nn.ModuleList(
            block(level, here + (here if i else below))
            for level, here, below in zip(
                range(len(channels))[::-1], channels[::-1], [channels[-1], *channels[::-1]]
            )
            for i in range(blocks)
        )
        self.leave_norm = nn.GroupNorm(groups(channels[0]), channels[0])
        self.leave = conv(channels[0], pixels * out, size, zero=True)

    @classmethod
    def sizes(cls, shape: tuple[int, ...], given: Mapping[str, Any]) -> dict[str, Any]:
        """Aim at 8 to 32 positions a side at level 0 and fewer than 6 at the last.

        Of a sequence at up to 256 (1,024 of a long one) and, where they are few, fewer than 12.
        """
        if len(shape) == 2:
            return cls._sizes_of_sequence(shape, given)
        side = math.sqrt(shape[1] * shape[2])
        patch = 1 if side <= 16 else 2 if side <= 48 else 4 if side <= 144 else 8
        patch = given.get("patch", min(patch, *shape[1:]))
        depth = 1 + sum(max(counts(shape, patch)) >= 6 * 2**level for level in range(3))
        multipliers = given.get("multipliers", (1, 2, 2, 3)[:depth])
        positions = [math.prod(counts(shape, patch, k)) for k in range(len(multipliers))]
        return {
            "width": 32 if side <= 12 else 64 if side <= 144 else 96,
            "multipliers": multipliers,
            "blocks": 1 if side <= 48 else 2,
            "attention": tuple(
                k
                for k, n in enumerate(positions)
                if 1 < n <= _MOST_ATTENDED and (k or len(positions) == 1)
            ),
            "patch": patch,
        }

    @classmethod
    def _sizes_of_sequence(cls, shape: tuple[int, ...], given: Mapping[str, Any]) -> dict[str, Any]:
        length = shape[1]
        most = 256 if length <= 4096 else 1024
        patch = given.get("patch") or next(2**k for k in range(64) if -(-length // 2**k) <= most)
        values = shape[0] * patch
        positions = -(-length // patch)
        depth = 1 + sum(positions >= 12 * 2**level for level in range(5))
        multipliers = given.get("multipliers", (1, 2, 2, 2, 3, 3)[:depth])
        levels = range(1, len(multipliers))
        return {
            "width": min(64 * -(-values // 64), 256),
            "multipliers": multipliers,
            "blocks": 1,
            "attention": tuple(k for k in levels if -(-positions // 2**k) <= _MOST_ATTENDED),
            "patch": patch,
        }

    @classmethod
    def ladder(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        """From the usual width to twice that: a narrower one takes hardly less time.

        Of a sequence, from half of it to one and a half times that.
        """
        half = cls.sizes(shape, {})["width"] // 2
        least = 2 if len(shape) == 3 else 1
        return (least * half, (least + 1) * half, (least + 2) * half)

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
        h = self.enter(as_image(fold(x, self.sides)))
        for enter, beside in ((self.enter_given, given), (self.enter_maps, maps)):
            if enter is not None and beside is not None:
                h = h + enter(as_image(fold(beside, self.sides)))
        seen: list[Tensor] = []
        for i, block in enumerate(self.down):
            if i and i % self.blocks == 0:
                h = F.avg_pool2d(h, 2, ceil_mode=True, count_include_pad=False)
            h = block(h, e)
            seen.append(h)
        h = self.middle(h, e)
        for i, block in enumerate(self.up):
            if i and i % self.blocks == 0:
                h = crop_to(F.interpolate(h, scale_factor=2.0), seen[-1].shape[2:])
            h = block(torch.cat([h, seen.pop()], dim=1), e)
        h = self.leave(F.silu(self.leave_norm(h)))
        return unfold(h if len(self.sides) == 2 else h[:, :, 0], self.sides, self.shape[1:])


@final
class ResidualBlock(nn.Module):
    """h (B, inputs, H, W), e (B, features) -> (B, outputs, H, W).

    Two convolutions, then attention if heads > 0. The second normalization has no weights of its
    own: its scale and shift come from e. Kernels are of `size`.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        features: int,
        dropout: float = 0.0,
        heads: int = 0,
        size: tuple[int, int] = (3, 3),
    ) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(groups(inputs), inputs)
        self.first = conv(inputs, outputs, size)
        self.modulation = linear(features, 2 * outputs)
        self.second_norm = nn.GroupNorm(groups(outputs), outputs, affine=False)
        self.dropout = nn.Dropout(dropout)
        self.second = conv(outputs, outputs, size, zero=True)
        self.skip = conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.attention_norm = nn.GroupNorm(groups(outputs), outputs) if heads else None
        self.attention = Attention(width=outputs, heads=heads) if heads else None

    def forward(
        self, h: Float[Tensor, "b c h w"], e: Float[Tensor, "#b f"]
    ) -> Float[Tensor, "b c_out h w"]:
        """Return (skip + branch) / sqrt(2)."""
        scale, shift = self.modulation(e)[:, :, None, None].chunk(2, dim=1)
        branch = self.second_norm(self.first(F.silu(self.first_norm(h))))
        branch = F.silu(torch.addcmul(shift, branch, 1 + scale))
        h = (self.skip(h) + self.second(self.dropout(branch))) * math.sqrt(0.5)
        if self.attention is not None and self.attention_norm is not None:
            tokens = self.attention_norm(h).flatten(2).transpose(1, 2)
            mixed = self.attention(tokens).transpose(1, 2).unflatten(2, h.shape[2:])
            h = (h + mixed) * math.sqrt(0.5)
        return h


def kernel(shape: Sequence[int]) -> tuple[int, int]:
    """Return the size of kernels for rows of `shape`: 3 x 3, of a sequence 1 x 3."""
    return (3, 3) if len(shape) == 3 else (1, 3)


def as_image(h: Float[Tensor, "b c *side"]) -> Float[Tensor, "b c h w"]:
    """Return a sequence (B, C, L) as an image of height 1; an image as it is."""
    return h if h.ndim == 4 else h[:, :, None]


def groups(channels: int) -> int:
    """Return the groups of a GroupNorm: at most 32, of at least 4 channels if there are as many."""
    return divisor(channels, min(32, max(1, channels // 4)))
