"""A U-Net for images and grids of any channel count, height and width.

    x --patch x patch pixels to channels--> level 0 --half--> level 1 --half--> ... --double--> level 0 --> F

Each level is a run of residual blocks (Ho et al. 2020, with the scale-shift conditioning of Dhariwal & Nichol 2021 and
the skips of Song et al. 2021): h <- (skip(h) + branch(h, e)) / sqrt(2), GroupNorm and SiLU before each convolution.
On the way up each block also sees the output of its counterpart on the way down. Halving averages 2 x 2 positions (at
an odd edge, those that exist); doubling repeats them and cuts the surplus, so no size is too odd or too small. Only
for the patches is the image padded, by its own last row and column, and the output is cut back exactly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from undiffuse.nn import checks
from undiffuse.nn.layers import Attention, Conditioning, conv, crop_to, divisor, linear, pad_to


@final
class UNet(nn.Module):
    """F(x, c_noise, label, vector) for rows of shape (C, H, W).

    Arguments (all plain, kept under their own names):
        shape: (C, H, W) of a row.
        width: channels of level 0. multipliers: channels of each level as a multiple of it; their count is the depth.
        blocks: residual blocks per level on the way down, and as many on the way up.
        attention: the levels whose blocks attend over all positions. head_width: channels per attention head.
        patch: side of the pixel blocks that are folded into channels.
        dropout: share of activations dropped in training. classes, vector: conditions (0 for none).
        out: outputs per channel (2 for a learned variance). span: the interval of c_noise, see `NoiseFeatures`.

    Raises InputError for sizes that are not positive, an attention level that does not exist, or another data shape.

    >>> net = UNet(shape=(3, 7, 10), width=16, multipliers=(1, 2), classes=4)
    >>> net(torch.randn(2, 3, 7, 10), torch.zeros(2), torch.tensor([3, -1])).shape
    torch.Size([2, 3, 7, 10])
    """

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
        out: int = 1,
        span: float | int = 4.0,
    ) -> None:
        super().__init__()
        checks.axes("unet", shape, {3: "(C, H, W)"})
        checks.at_least("unet", 1, width=width, multipliers=multipliers, blocks=blocks, patch=patch)
        checks.at_least("unet", 1, head_width=head_width, out=out)
        checks.at_least("unet", 0, attention=attention, classes=classes, vector=vector)
        checks.fraction("unet", dropout=dropout)
        checks.positive("unet", span=span)
        checks.levels("unet", multipliers, attention)
        self.shape, self.width, self.multipliers, self.blocks = (
            tuple(shape),
            width,
            tuple(multipliers),
            blocks,
        )
        self.attention, self.patch, self.head_width = tuple(attention), patch, head_width
        self.dropout, self.span = float(dropout), float(span)
        self.classes, self.vector, self.out = classes, vector, out

        channels = [width * m for m in multipliers]
        pixels = shape[0] * patch**2
        features = 4 * width
        self.condition = Conditioning(width=features, span=span, classes=classes, vector=vector)

        def block(level: int, inputs: int) -> Residual:
            heads = divisor(channels[level], max(1, channels[level] // head_width))
            attends = level in attention and self._positions(level) > 1
            return Residual(inputs, channels[level], features, dropout, heads if attends else 0)

        self.enter = conv(pixels, channels[0])
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
        self.leave = conv(channels[0], pixels * out, zero=True)

    def _positions(self, level: int) -> int:
        """How many positions there are at `level`."""
        return math.prod(-(-side // (self.patch * 2**level)) for side in self.shape[1:])

    def forward(
        self,
        x: Float[Tensor, "b c h w"],
        c_noise: Float[Tensor, " b"],
        label: Int64[Tensor, " b"] | None = None,
        vector: Float[Tensor, "b v"] | None = None,
    ) -> Float[Tensor, "b c_out h w"]:
        checks.call("unet", self.shape, self.classes, self.vector, x, label, vector)
        e = self.condition(c_noise, label, vector)
        height, width = (-(-side // self.patch) for side in self.shape[1:])
        h = self.enter(
            F.pixel_unshuffle(pad_to(x, (height * self.patch, width * self.patch)), self.patch)
        )
        seen = []
        for i, block in enumerate(self.down):
            if i and i % self.blocks == 0:
                h = F.avg_pool2d(h, 2, ceil_mode=True, count_include_pad=False)
            h = block(h, e)
            seen.append(h)
        h = self.middle(h, e)
        for i, block in enumerate(self.up):
            if i and i % self.blocks == 0:
                h = crop_to(F.interpolate(h, scale_factor=2.0), tuple(seen[-1].shape[2:]))
            h = block(torch.cat([h, seen.pop()], dim=1), e)
        h = self.leave(F.silu(self.leave_norm(h)))
        return crop_to(F.pixel_shuffle(h, self.patch), self.shape[1:])


@final
class Residual(nn.Module):
    """h (B, inputs, H, W), e (B, features) -> (B, outputs, H, W): two convolutions, then attention if heads > 0.

    The second normalization has no weights of its own: its scale and shift come from e.
    """

    def __init__(
        self, inputs: int, outputs: int, features: int, dropout: float, heads: int
    ) -> None:
        super().__init__()
        self.first_norm = nn.GroupNorm(groups(inputs), inputs)
        self.first = conv(inputs, outputs)
        self.modulation = linear(features, 2 * outputs)
        self.second_norm = nn.GroupNorm(groups(outputs), outputs, affine=False)
        self.dropout = nn.Dropout(dropout)
        self.second = conv(outputs, outputs, zero=True)
        self.skip = conv(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.attention_norm = nn.GroupNorm(groups(outputs), outputs) if heads else None
        self.attention = Attention(width=outputs, heads=heads) if heads else None

    def forward(
        self, h: Float[Tensor, "b c h w"], e: Float[Tensor, "b f"]
    ) -> Float[Tensor, "b c_out h w"]:
        scale, shift = self.modulation(e)[:, :, None, None].chunk(2, dim=1)
        branch = self.second_norm(self.first(F.silu(self.first_norm(h))))
        branch = F.silu(torch.addcmul(shift, branch, 1 + scale))
        h = (self.skip(h) + self.second(self.dropout(branch))) * math.sqrt(0.5)
        if self.attention is not None and self.attention_norm is not None:
            tokens = self.attention_norm(h).flatten(2).transpose(1, 2)
            h = (h + self.attention(tokens).transpose(1, 2).unflatten(2, h.shape[2:])) * math.sqrt(
                0.5
            )
        return h


def groups(channels: int) -> int:
    """Groups for GroupNorm: at most 32, of at least 4 channels where there are as many."""
    return divisor(channels, min(32, max(1, channels // 4)))
