"""The two networks of a GAN, for images and grids (C, H, W), sequences (C, L) and vectors (D,).

    Generator       z (latent,), label -> e --depth blocks per level, doubling in between--> x
    Discriminator   x --depth blocks per level, halving in between--> f
                    logit = w f + b + <e_label, f> / sqrt(|f|)

A level is a run of residual blocks h + narrow(act(widen(act(h)))) without normalization (Huang et
al. 2024, "The GAN is dead; long live the GAN!", Sec. 3): a row's logit must depend on that row
alone for a penalty on its gradient to mean anything. The last layer of each branch starts at zero,
so that a new network is shallow. Vectors have one level of linear layers; images and sequences are
cut into patches, and their levels halve the positions until at most 4 a side are left. The label
enters the discriminator by projection (Miyato and Koyama 2018). Label -1, and no label, is a
learned entry of its own in both.
"""

from __future__ import annotations

import math
from abc import ABC
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, final

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from undiffuse.errors import InputError
from undiffuse.nn.layers import LabelEntry, conv, counts, crop_to, linear, pad_to, started
from undiffuse.nn.sized import SizedNetwork

_PATCH = {2: nn.Conv1d, 3: nn.Conv2d}
_UNPATCH = {2: nn.ConvTranspose1d, 3: nn.ConvTranspose2d}
_HALVE = {2: F.avg_pool1d, 3: F.avg_pool2d}
_COARSEST = 4  # positions a side on the last level, at most


class Adversary(SizedNetwork, ABC):
    """What both networks share: their rows and their size."""

    axes = (1, 2, 3)
    patch: int

    @classmethod
    @final
    def sizes(cls, shape: tuple[int, ...], given: Mapping[str, Any]) -> dict[str, Any]:
        """Wider with the number of columns; at most 24 positions a side, of sequences 1024."""
        if len(shape) == 1:
            return {"width": 128 if shape[0] <= 32 else 256, "depth": 2, "patch": 1}
        axes, most = len(shape) - 1, 24 if len(shape) == 3 else 1024
        patch = next(2**k for k in range(64) if math.prod(shape[1:]) <= (most * 2**k) ** axes)
        return {"width": 32, "depth": 1, "patch": min(patch, *shape[1:])}


@final
class Generator(Adversary):
    """G(z, label): `latent` standard normals (B, latent) -> rows (B, *shape) at unit scale.

    Args:
        shape: of a row.
        latent: how many numbers a row is made of.
        width: numbers per row of a vector, else channels of the finest level (up to 4 times as many
            on the coarser ones).
        depth: residual blocks on each level.
        patch: side of the pieces that become one position.
        classes: number of labels, 0 for none.

    Raises:
        InputError: for a value that cannot be used.

    >>> import torch
    >>> Generator(shape=(3, 9, 7), latent=8, width=4, patch=2)(torch.randn(5, 8)).shape
    torch.Size([5, 3, 9, 7])
    """

    name = "generator"
    latent: int

    def __init__(
        self,
        *,
        shape: Sequence[int],
        latent: int = 64,
        width: int = 128,
        depth: int = 1,
        patch: int = 1,
        classes: int = 0,
    ) -> None:
        super().__init__(locals())
        self.positions, channels = _levels(self.name, self.shape, width, patch)
        axes, features = len(shape), channels[-1]
        self.enter = linear(latent, features)
        self.label = LabelEntry(classes=classes, width=features) if classes else None
        self.spread = linear(features, features * math.prod(self.positions[-1]))
        self.levels = nn.ModuleList(_run(axes, here, depth) for here in channels[::-1])
        self.narrow = nn.ModuleList(
            conv(above, here, 1, axes=axes - 1) for above, here in pairwise(channels[::-1])
        )
        self.leave = (
            linear(width, shape[0])
            if axes == 1
            else started(_UNPATCH[axes](width, shape[0], patch, stride=patch), fan_in=width)
        )

    def forward(
        self, z: Float[Tensor, "b latent"], label: Int64[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b *shape"]:
        """Return rows (B, *shape)."""
        self.check_call(z, label, latent=self.latent)
        e = self.enter(z)
        if self.label is not None:
            e = e + self.label(label)
        h = self.spread(_act(e)).unflatten(1, (-1, *self.positions[-1]))
        for i, level in enumerate(self.levels):
            if i:
                h = F.interpolate(self.narrow[i - 1](h), scale_factor=2.0)
                h = crop_to(h, self.positions[-1 - i])
            h = level(h)
        return crop_to(self.leave(_act(h)), self.shape[1:])


@final
class Discriminator(Adversary):
    """D(x, label): rows (B, *shape) -> a logit (B,) each, positive for what is taken to be real.

    Arguments and errors as in `Generator`.

    >>> import torch
    >>> Discriminator(shape=(2, 11), width=4, classes=3)(torch.randn(5, 2, 11)).shape
    torch.Size([5])
    """

    name = "discriminator"

    def __init__(
        self,
        *,
        shape: Sequence[int],
        width: int = 128,
        depth: int = 1,
        patch: int = 1,
        classes: int = 0,
    ) -> None:
        super().__init__(locals())
        self.positions, channels = _levels(self.name, self.shape, width, patch)
        axes, features = len(shape), channels[-1]
        self.enter = (
            linear(shape[0], width)
            if axes == 1
            else started(_PATCH[axes](shape[0], width, patch, stride=patch))
        )
        self.levels = nn.ModuleList(_run(axes, here, depth) for here in channels)
        self.widen = nn.ModuleList(
            conv(above, here, 1, axes=axes - 1) for above, here in pairwise(channels)
        )
        self.gather = linear(features * math.prod(self.positions[-1]), features)
        self.leave = linear(features, 1)
        self.label = LabelEntry(classes=classes, width=features) if classes else None

    def forward(
        self, x: Float[Tensor, "b *shape"], label: Int64[Tensor, " b"] | None = None
    ) -> Float[Tensor, " b"]:
        """Return logits (B,)."""
        self.check_call(x, label)
        h = self.enter(pad_to(x, [side * self.patch for side in self.positions[0]]))
        halve = _HALVE.get(len(self.shape))
        for i, level in enumerate(self.levels):
            if i and halve is not None:
                h = halve(h, 2, ceil_mode=True, count_include_pad=False)
                h = self.widen[i - 1](h)
            h = level(h)
        f = _act(self.gather(_act(h.flatten(1))))
        logit = self.leave(f)[:, 0]
        if self.label is not None:
            logit = logit + (self.label(label) * f).sum(1) / math.sqrt(f.shape[1])
        return logit


@final
class AdversarialBlock(nn.Module):
    """h -> h + narrow(act(widen(act(h)))), of linear layers or convolutions over 3 positions."""

    def __init__(self, axes: int, width: int) -> None:
        super().__init__()
        if axes == 1:
            self.widen = linear(width, 2 * width)
            self.narrow = linear(2 * width, width, zero=True)
        else:
            self.widen = conv(width, width, axes=axes - 1)
            self.narrow = conv(width, width, zero=True, axes=axes - 1)

    def forward(self, h: Float[Tensor, "b w *positions"]) -> Float[Tensor, "b w *positions"]:
        """Return h plus the branch."""
        return h + self.narrow(_act(self.widen(_act(h))))


ADVERSARIAL: dict[str, type[nn.Module]] = {kind.name: kind for kind in (Generator, Discriminator)}


def adversarial_pair(
    shape: Sequence[int], *, latent: int, classes: int = 0, **overrides: Any
) -> tuple[Generator, Discriminator]:
    """Build both networks for rows of `shape`.

    Args:
        shape: of a row: (D,), (C, L) or (C, H, W).
        latent: how many numbers a row is made of.
        classes: number of labels, 0 for none.
        **overrides: width, depth or patch of both, instead of those chosen from the shape.

    Raises:
        InputError: for a shape of another form, an unknown dimension, or an unusable value.

    >>> adversarial_pair((2,), latent=8)[1].width
    128
    """
    return (
        Generator.sized(shape, overrides, latent=latent, classes=classes),
        Discriminator.sized(shape, overrides, classes=classes),
    )


def _levels(
    where: str, shape: tuple[int, ...], width: int, patch: int
) -> tuple[list[tuple[int, ...]], list[int]]:
    """The positions along each axis (none of a vector) and the channels, from the finest level."""
    if len(shape) == 1 and patch != 1:
        raise InputError(f"{where}: patch is {patch}, but a vector has no positions; leave it out.")
    levels = [counts(shape, patch)]
    while levels[-1] and max(levels[-1]) > _COARSEST:
        levels.append(counts(shape, patch, len(levels)))
    return levels, [width * min(2**k, 4) for k in range(len(levels))]


def _run(axes: int, width: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(AdversarialBlock(axes, width) for _ in range(depth)))


def _act(h: Tensor) -> Tensor:
    """Leaky rectifier of slope 0.2, scaled to keep the second moment of a symmetric input."""
    return F.leaky_relu(h, 0.2) * math.sqrt(2 / (1 + 0.2**2))
