"""Encoders x -> numbers and decoders z -> F, for images, sequences and vectors.

    (C, H, W), (C, L)   fold into patches --> level 0 --half--> level 1 --half--> ... --linear--> outputs, and back
    (D,)                linear --> residual blocks --> linear

The blocks are those of the U-Net and the perceptron; a sequence is an image of height 1. The label, and in a decoder z
itself, scales and shifts the normalized activations of each block. No normalization is on the way past the blocks, so
that a perceptron holds every linear map, and with it principal components, exactly.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from undiffuse.errors import unknown
from undiffuse.nn import checks
from undiffuse.nn.layers import LabelEntry, conv, crop_to, linear, pad_to
from undiffuse.nn.mlp import Block
from undiffuse.nn.unet import Residual

_GAIN = 10.0  # log scales are this many times their parameters: an optimizer's steps are too small for them otherwise


@final
class Autoencoder(nn.Module):
    """An encoder, a decoder, and the logarithms of `scales` learned scales, which start at 1."""

    def __init__(self, *, encoder: nn.Module, decoder: nn.Module, scales: int) -> None:
        super().__init__()
        self.encoder, self.decoder, self.scales = encoder, decoder, scales
        self.scale = nn.Parameter(torch.zeros(scales))

    @property
    def log_scale(self) -> Tensor:
        """(scales,)."""
        return _GAIN * self.scale


@final
class Condition(nn.Module):
    """A label (B,), -1 for none, and in a decoder z (B, latent) -> (B, width), in full precision under autocast too."""

    def __init__(self, *, width: int, classes: int, latent: int = 0) -> None:
        super().__init__()
        self.label = LabelEntry(classes=classes, width=width)
        self.latent = linear(latent, width, bias=False) if latent else None
        self.mix = linear(width, width)

    def forward(self, rows: Tensor, label: Int64[Tensor, " b"] | None) -> Float[Tensor, "b width"]:
        with torch.autocast(rows.device.type, enabled=False):
            e = self.label(label).expand(len(rows), -1)
            if self.latent is not None:
                e = e + self.latent(rows.to(e.dtype))
            return F.silu(self.mix(F.silu(e)))


@final
class ConvEncoder(nn.Module):
    """x (B, C, H, W) or (B, C, L), label (B,) -> (B, outputs).

    Arguments (all plain, kept under their own names):
        shape: of a row. outputs: numbers per row. width: channels of level 0. multipliers: channels of each level as a
        multiple of it. blocks: residual blocks per level. patch: side of the pieces that are folded into channels.
        classes: labels (0 for none).

    Raises InputError for sizes that are not positive or another data shape.

    >>> ConvEncoder(shape=(3, 7, 10), outputs=5, width=8, classes=2)(torch.randn(4, 3, 7, 10)).shape
    torch.Size([4, 5])
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        outputs: int,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 1,
        patch: int = 1,
        classes: int = 0,
    ) -> None:
        super().__init__()
        _check_conv("encoder", shape, width, multipliers, blocks, patch, classes, outputs=outputs)
        self.shape, self.outputs, self.width, self.multipliers = (
            tuple(shape),
            outputs,
            width,
            tuple(multipliers),
        )
        self.blocks, self.patch, self.classes = blocks, patch, classes
        channels, sides = [width * m for m in multipliers], _sides(shape, patch, len(multipliers))
        self.condition = Condition(width=2 * width, classes=classes)
        self.enter = conv(_folded(shape, patch), channels[0])
        self.levels = _levels(channels, 2 * width, blocks)
        self.leave = linear(channels[-1] * math.prod(sides[-1]), outputs)

    def forward(
        self, x: Float[Tensor, "b c *side"], label: Int64[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b o"]:
        checks.call("encoder", self.shape, self.classes, 0, x, label, None)
        e = self.condition(x, label)
        h = self.enter(_fold(x, self.patch))
        for i, run in enumerate(self.levels):
            if i:
                h = F.avg_pool2d(h, 2, ceil_mode=True, count_include_pad=False)
            for block in cast(nn.ModuleList, run):
                h = block(h, e)
        return self.leave(h.flatten(1))


@final
class ConvDecoder(nn.Module):
    """z (B, latent), label (B,) -> (B, C out, H, W) or (B, C out, L); arguments as in `ConvEncoder`.

    >>> ConvDecoder(shape=(1, 100), latent=4, width=8)(torch.randn(2, 4)).shape
    torch.Size([2, 1, 100])
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        latent: int,
        width: int = 64,
        multipliers: Sequence[int] = (1, 2),
        blocks: int = 1,
        patch: int = 1,
        classes: int = 0,
    ) -> None:
        super().__init__()
        _check_conv("decoder", shape, width, multipliers, blocks, patch, classes, latent=latent)
        self.shape, self.latent, self.width, self.multipliers = (
            tuple(shape),
            latent,
            width,
            tuple(multipliers),
        )
        self.blocks, self.patch, self.classes = blocks, patch, classes
        channels = [width * m for m in multipliers][::-1]
        self.sides = _sides(shape, patch, len(multipliers))[::-1]
        self.condition = Condition(width=2 * width, classes=classes, latent=latent)
        self.enter = linear(latent, channels[0] * math.prod(self.sides[0]))
        self.levels = _levels(channels, 2 * width, blocks)
        self.leave = conv(channels[-1], _folded(shape, patch))

    def forward(
        self, z: Float[Tensor, "b z"], label: Int64[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b c *side"]:
        checks.call("decoder", (self.latent,), self.classes, 0, z, label, None)
        e = self.condition(z, label)
        h = self.enter(z).unflatten(1, (-1, *self.sides[0]))
        for i, run in enumerate(self.levels):
            if i:
                h = crop_to(F.interpolate(h, scale_factor=2.0), self.sides[i])
            for block in cast(nn.ModuleList, run):
                h = block(h, e)
        return _unfold(self.leave(h), self.shape, self.patch)


@final
class MLPEncoder(nn.Module):
    """x (B, D), label (B,) -> (B, outputs). width: numbers per row inside. depth: residual blocks.

    >>> MLPEncoder(shape=(2,), outputs=6, width=16)(torch.randn(5, 2)).shape
    torch.Size([5, 6])
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        outputs: int,
        width: int = 256,
        depth: int = 3,
        classes: int = 0,
    ) -> None:
        super().__init__()
        _check_mlp("encoder", shape, width, depth, classes, outputs=outputs)
        self.shape, self.outputs, self.width, self.depth, self.classes = (
            tuple(shape),
            outputs,
            width,
            depth,
            classes,
        )
        self.condition = Condition(width=width, classes=classes)
        self.enter = linear(shape[0], width)
        self.blocks = nn.ModuleList(Block(width, 0.0) for _ in range(depth))
        self.leave = linear(width, outputs)

    def forward(
        self, x: Float[Tensor, "b d"], label: Int64[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b o"]:
        checks.call("encoder", self.shape, self.classes, 0, x, label, None)
        e, h = self.condition(x, label), self.enter(x)
        for block in self.blocks:
            h = block(h, e)
        return self.leave(h)


@final
class MLPDecoder(nn.Module):
    """z (B, latent), label (B,) -> (B, D); arguments as in `MLPEncoder`.

    >>> MLPDecoder(shape=(3,), latent=2, width=16)(torch.randn(5, 2)).shape
    torch.Size([5, 3])
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        latent: int,
        width: int = 256,
        depth: int = 3,
        classes: int = 0,
    ) -> None:
        super().__init__()
        _check_mlp("decoder", shape, width, depth, classes, latent=latent)
        self.shape, self.latent, self.width, self.depth, self.classes = (
            tuple(shape),
            latent,
            width,
            depth,
            classes,
        )
        self.condition = Condition(width=width, classes=classes, latent=latent)
        self.enter = linear(latent, width)
        self.blocks = nn.ModuleList(Block(width, 0.0) for _ in range(depth))
        self.leave = linear(width, shape[0])

    def forward(
        self, z: Float[Tensor, "b z"], label: Int64[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b d"]:
        checks.call("decoder", (self.latent,), self.classes, 0, z, label, None)
        e, h = self.condition(z, label), self.enter(z)
        for block in self.blocks:
            h = block(h, e)
        return self.leave(h)


def autoencoder(
    shape: Sequence[int], *, latent: int, classes: int = 0, scales: int = 0, **sizes: Any
) -> Autoencoder:
    """An autoencoder for rows of `shape`, whose encoder gives two numbers for each of `latent`; the dimensions are
    chosen from the shape except for those given. Raises InputError for an unknown dimension or one that cannot be used.

    >>> autoencoder((1, 28, 28), latent=16, width=32).decoder.multipliers
    (1, 2)
    """
    checks.axes("autoencoder", shape, {1: "(D,)", 2: "(C, L)", 3: "(C, H, W)"})
    chosen = _mlp_sizes(shape) if len(shape) == 1 else _conv_sizes(shape, sizes.get("patch"))
    for name in sizes:
        if name not in chosen:
            raise unknown("autoencoder:", "dimension", name, chosen)
    given = {"shape": tuple(shape), "classes": classes, **chosen, **sizes}
    ends = (MLPEncoder, MLPDecoder) if len(shape) == 1 else (ConvEncoder, ConvDecoder)
    return Autoencoder(
        encoder=ends[0](outputs=2 * latent, **given),
        decoder=ends[1](latent=latent, **given),
        scales=scales,
    )


def _mlp_sizes(shape: Sequence[int]) -> dict[str, Any]:
    return {"width": 128 if shape[0] <= 32 else 256 if shape[0] <= 256 else 512, "depth": 3}


def _conv_sizes(shape: Sequence[int], patch: Any) -> dict[str, Any]:
    """At most about 32 positions a side, or 256 of a sequence, at level 0; fewer than 8 at the last."""
    longest, most = max(shape[1:]), 256 if len(shape) == 2 else 32
    side = (
        patch
        if isinstance(patch, int) and patch > 0
        else next(2**k for k in range(64) if -(-longest // 2**k) <= most)
    )
    if patch is None and len(shape) == 3 and longest > 16:
        side = max(2, side)
    side = min(side, longest)
    depth = 1 + sum(-(-longest // side) >= 8 * 2**level for level in range(6))
    multipliers = (1, 2, 2, 4, 4, 4, 4)[:depth]
    return {
        "width": 32 if longest <= 12 else 64,
        "multipliers": multipliers,
        "blocks": 1,
        "patch": side,
    }


def _check_conv(
    where: str,
    shape: Sequence[int],
    width: int,
    multipliers: Any,
    blocks: int,
    patch: int,
    classes: int,
    **size: int,
) -> None:
    checks.axes(where, shape, {2: "(C, L)", 3: "(C, H, W)"})
    checks.at_least(
        where, 1, width=width, multipliers=multipliers, blocks=blocks, patch=patch, **size
    )
    checks.at_least(where, 0, classes=classes)
    checks.levels(where, multipliers, ())


def _check_mlp(
    where: str, shape: Sequence[int], width: int, depth: int, classes: int, **size: int
) -> None:
    checks.axes(where, shape, {1: "(D,)"})
    checks.at_least(where, 1, width=width, depth=depth, **size)
    checks.at_least(where, 0, classes=classes)


def _levels(channels: Sequence[int], features: int, blocks: int) -> nn.ModuleList:
    """A run of residual blocks for each number of channels."""
    pairs = zip([channels[0], *channels], channels)
    return nn.ModuleList(
        nn.ModuleList(
            Residual(here if i else before, here, features, 0.0, 0) for i in range(blocks)
        )
        for before, here in pairs
    )


def _folded(shape: Sequence[int], patch: int) -> int:
    """Channels after folding."""
    return shape[0] * patch ** (len(shape) - 1)


def _sides(shape: Sequence[int], patch: int, levels: int) -> list[tuple[int, int]]:
    """(height, width) of each level, of a sequence (1, length)."""
    sides = [-(-side // patch) for side in shape[1:]]
    height, width = sides if len(sides) == 2 else (1, sides[0])
    return [(-(-height // 2**level), -(-width // 2**level)) for level in range(levels)]


def _fold(x: Float[Tensor, "b c *side"], patch: int) -> Float[Tensor, "b folded h w"]:
    x = pad_to(x, tuple(-(-side // patch) * patch for side in x.shape[2:]))
    if x.ndim == 4:
        return F.pixel_unshuffle(x, patch)
    return x.unflatten(2, (-1, patch)).transpose(2, 3).flatten(1, 2)[:, :, None]


def _unfold(
    h: Float[Tensor, "b folded h w"], shape: Sequence[int], patch: int
) -> Float[Tensor, "b c *side"]:
    if len(shape) == 3:
        return crop_to(F.pixel_shuffle(h, patch), tuple(shape[1:]))
    return crop_to(
        h[:, :, 0].unflatten(1, (shape[0], patch)).transpose(2, 3).flatten(2), tuple(shape[1:])
    )


AUTOENCODERS: Mapping[str, type[nn.Module]] = {
    "autoencoder": Autoencoder,
    "conv_encoder": ConvEncoder,
    "conv_decoder": ConvDecoder,
    "mlp_encoder": MLPEncoder,
    "mlp_decoder": MLPDecoder,
}
