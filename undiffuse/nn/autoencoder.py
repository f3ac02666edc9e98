"""Encoders x -> numbers and decoders z -> F, for images, sequences and vectors.

    (C, H, W), (C, L)   fold into patches --> level 0 --half--> level 1 ... --linear--> outputs
    (D,)                linear --> residual blocks --> linear

and back in a decoder. The blocks are those of the U-Net and the perceptron; a sequence is an image
of height 1. The label, and in a decoder z itself, scales and shifts the normalized activations of
each block. The way past the blocks has no normalization, so that a perceptron contains every linear
map, and with it principal components, exactly.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, cast, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from undiffuse.nn.layers import LabelEntry, conv, counts, crop_to, fold, linear, unfold
from undiffuse.nn.mlp import MLPBlock
from undiffuse.nn.sized import SizedNetwork, first_that_takes
from undiffuse.nn.unet import ResidualBlock, as_image, kernel

_GAIN = 10.0  # log scales are this many times their parameters, which an optimizer moves too little


@final
class Autoencoder(nn.Module):
    """An encoder, a decoder, and the logarithms of `scales` learned scales, which start at 1."""

    name = "autoencoder"

    def __init__(self, *, encoder: nn.Module, decoder: nn.Module, scales: int) -> None:
        super().__init__()
        self.encoder, self.decoder, self.scales = encoder, decoder, scales
        self.scale = nn.Parameter(torch.zeros(scales))

    @property
    def log_scale(self) -> Tensor:
        """The logarithms, (scales,)."""
        return _GAIN * self.scale


@final
class LatentConditioning(nn.Module):
    """A label (B,) and, in a decoder, z (B, latent) -> (B, width), in full precision."""

    def __init__(self, *, width: int, classes: int, latent: int = 0) -> None:
        super().__init__()
        self.label = LabelEntry(classes=classes, width=width)
        self.latent = linear(latent, width, bias=False) if latent else None
        self.mix = linear(width, width)

    def forward(self, rows: Tensor, label: Int64[Tensor, " b"] | None) -> Float[Tensor, "b width"]:
        """Return the vector that conditions the blocks; `rows` is z in a decoder, else x."""
        with torch.autocast(rows.device.type, enabled=False):
            e = self.label(label).expand(len(rows), -1)
            if self.latent is not None:
                e = e + self.latent(rows.to(e.dtype))
            return F.silu(self.mix(F.silu(e)))


class ConvCoder(SizedNetwork, ABC):
    """What encoders and decoders of images and sequences share: their rows and their size."""

    axes = (2, 3)
    patch: int

    @classmethod
    @final
    def sizes(cls, shape: tuple[int, ...], given: Mapping[str, Any]) -> dict[str, Any]:
        """Aim at 32 positions a side (256 of a sequence) at level 0, fewer than 8 at the last."""
        longest, most = max(shape[1:]), 256 if len(shape) == 2 else 32
        patch = next(2**k for k in range(64) if -(-longest // 2**k) <= most)
        if len(shape) == 3 and longest > 16:
            patch = max(2, patch)
        patch = given.get("patch", min(patch, longest))
        depth = 1 + sum(-(-longest // patch) >= 8 * 2**level for level in range(6))
        return {
            "width": 32 if longest <= 12 else 64,
            "multipliers": (1, 2, 2, 4, 4, 4, 4)[:depth],
            "blocks": 1,
            "patch": patch,
        }


@final
class ConvEncoder(ConvCoder):
    """x (B, C, H, W) or (B, C, L), label (B,) -> (B, outputs).

    Args:
        shape: of a row.
        outputs: numbers per row that come out.
        width: channels of level 0.
        multipliers: channels of each level as a multiple of `width`; their count is the depth.
        blocks: residual blocks per level.
        patch: side of the pieces that are folded into channels.
        classes: number of labels, 0 for none.

    Raises:
        InputError: for a value that cannot be used.

    >>> net = ConvEncoder(shape=(3, 7, 10), outputs=5, width=8, classes=2)
    >>> net(torch.randn(4, 3, 7, 10)).shape
    torch.Size([4, 5])
    """

    name = "conv_encoder"

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
        super().__init__(locals())
        channels = [width * m for m in multipliers]
        last = counts(shape, patch, len(multipliers) - 1)
        self.condition = LatentConditioning(width=2 * width, classes=classes)
        size = kernel(shape)
        self.enter = conv(shape[0] * patch ** (len(shape) - 1), channels[0], size)
        self.levels = _levels(channels, 2 * width, blocks, size)
        self.leave = linear(channels[-1] * math.prod(last), outputs)

    def forward(
        self, x: Float[Tensor, "b c *side"], label: Int64[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b o"]:
        """Return (B, outputs)."""
        self.check_call(x, label)
        e = self.condition(x, label)
        h = self.enter(as_image(fold(x, [self.patch] * (x.ndim - 2))))
        for i, run in enumerate(self.levels):
            if i:
                h = F.avg_pool2d(h, 2, ceil_mode=True, count_include_pad=False)
            for block in cast(nn.ModuleList, run):
                h = block(h, e)
        return self.leave(h.flatten(1))


@final
class ConvDecoder(ConvCoder):
    """z (B, latent), label (B,) -> (B, C, H, W) or (B, C, L).

    Arguments and errors as in `ConvEncoder`.

    >>> ConvDecoder(shape=(1, 100), latent=4, width=8)(torch.randn(2, 4)).shape
    torch.Size([2, 1, 100])
    """

    name = "conv_decoder"
    latent: int

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
        super().__init__(locals())
        channels = [width * m for m in multipliers][::-1]
        self.sides = [counts(shape, patch, k) for k in range(len(multipliers))][::-1]
        self.condition = LatentConditioning(width=2 * width, classes=classes, latent=latent)
        self.enter = linear(latent, channels[0] * math.prod(self.sides[0]))
        size = kernel(shape)
        self.levels = _levels(channels, 2 * width, blocks, size)
        self.leave = conv(channels[-1], shape[0] * patch ** (len(shape) - 1), size)

    def forward(
        self, z: Float[Tensor, "b z"], label: Int64[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b c *side"]:
        """Return F (B, *shape)."""
        self.check_call(z, label, latent=self.latent)
        e = self.condition(z, label)
        h = as_image(self.enter(z).unflatten(1, (-1, *self.sides[0])))
        for i, run in enumerate(self.levels):
            if i:
                sides = self.sides[i] if len(self.sides[i]) == 2 else (1, *self.sides[i])
                h = crop_to(F.interpolate(h, scale_factor=2.0), sides)
            for block in cast(nn.ModuleList, run):
                h = block(h, e)
        h, axes = self.leave(h), len(self.shape) - 1
        return unfold(h if axes == 2 else h[:, :, 0], [self.patch] * axes, self.shape[1:])


class MLPCoder(SizedNetwork, ABC):
    """What encoders and decoders of vectors share: all but the numbers that go in and come out."""

    axes = (1,)

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__(given)
        width, latent, (inputs, outputs) = given["width"], given.get("latent", 0), self.ends()
        self.condition = LatentConditioning(width=width, classes=self.classes, latent=latent)
        self.enter = linear(inputs, width)
        self.blocks = nn.ModuleList(MLPBlock(width) for _ in range(given["depth"]))
        self.leave = linear(width, outputs)

    @abstractmethod
    def ends(self) -> tuple[int, int]:
        """Return how many numbers go in and come out."""

    @classmethod
    @final
    def sizes(cls, shape: tuple[int, ...], given: Mapping[str, Any]) -> dict[str, Any]:
        """Wider with the number of columns."""
        return {"width": 128 if shape[0] <= 32 else 256 if shape[0] <= 256 else 512, "depth": 3}

    @final
    def passed(self, rows: Tensor, label: Int64[Tensor, " b"] | None) -> Tensor:
        """Return what comes out for rows (B, inputs)."""
        e, h = self.condition(rows, label), self.enter(rows)
        for block in self.blocks:
            h = block(h, e)
        return self.leave(h)


@final
class MLPEncoder(MLPCoder):
    """x (B, D), label (B,) -> (B, outputs).

    Args:
        shape: (D,) of a row.
        outputs: numbers per row that come out.
        width: numbers per row inside.
        depth: residual blocks.
        classes: number of labels, 0 for none.

    Raises:
        InputError: for a value that cannot be used.

    >>> MLPEncoder(shape=(2,), outputs=6, width=16)(torch.randn(5, 2)).shape
    torch.Size([5, 6])
    """

    name = "mlp_encoder"
    outputs: int

    def __init__(
        self,
        *,
        shape: Sequence[int],
        outputs: int,
        width: int = 256,
        depth: int = 3,
        classes: int = 0,
    ) -> None:
        super().__init__(locals())

    def ends(self) -> tuple[int, int]:
        """Return the numbers of a row, and those it becomes."""
        return self.shape[0], self.outputs

    def forward(
        self, x: Float[Tensor, "b d"], label: Int64[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b o"]:
        """Return (B, outputs)."""
        self.check_call(x, label)
        return self.passed(x, label)


@final
class MLPDecoder(MLPCoder):
    """z (B, latent), label (B,) -> (B, D); arguments and errors as in `MLPEncoder`.

    >>> MLPDecoder(shape=(3,), latent=2, width=16)(torch.randn(5, 2)).shape
    torch.Size([5, 3])
    """

    name = "mlp_decoder"
    latent: int

    def __init__(
        self,
        *,
        shape: Sequence[int],
        latent: int,
        width: int = 256,
        depth: int = 3,
        classes: int = 0,
    ) -> None:
        super().__init__(locals())

    def ends(self) -> tuple[int, int]:
        """Return the numbers of z, and those of a row."""
        return self.latent, self.shape[0]

    def forward(
        self, z: Float[Tensor, "b z"], label: Int64[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b d"]:
        """Return F (B, D)."""
        self.check_call(z, label, latent=self.latent)
        return self.passed(z, label)


AUTOENCODERS: dict[str, type[nn.Module]] = {
    kind.name: kind for kind in (Autoencoder, ConvEncoder, ConvDecoder, MLPEncoder, MLPDecoder)
}


def autoencoder(
    shape: Sequence[int], *, latent: int, classes: int = 0, scales: int = 0, **overrides: Any
) -> Autoencoder:
    """Build an autoencoder for rows of `shape`.

    Args:
        shape: of a row: (D,), (C, L) or (C, H, W).
        latent: numbers that a row is encoded in; the encoder gives two for each.
        classes: number of labels, 0 for none.
        scales: number of learned scales.
        **overrides: dimensions of both networks, instead of those chosen from the shape.

    Raises:
        InputError: for a shape of another form, an unknown dimension, or an unusable value.

    >>> autoencoder((1, 28, 28), latent=16, width=32).decoder.multipliers
    (1, 2)
    """
    encoder = first_that_takes(shape, (MLPEncoder, ConvEncoder), "autoencoder")
    decoder = first_that_takes(shape, (MLPDecoder, ConvDecoder), "autoencoder")
    return Autoencoder(
        encoder=encoder.sized(shape, overrides, outputs=2 * latent, classes=classes),
        decoder=decoder.sized(shape, overrides, latent=latent, classes=classes),
        scales=scales,
    )


def _levels(
    channels: Sequence[int], features: int, blocks: int, size: tuple[int, int]
) -> nn.ModuleList:
    """A run of residual blocks for each number of channels."""

    def block(inputs: int, outputs: int) -> ResidualBlock:
        return ResidualBlock(inputs, outputs, features, size=size)

    return nn.ModuleList(
        nn.ModuleList(block(here if i else before, here) for i in range(blocks))
        for before, here in zip([channels[0], *channels], channels)
    )
