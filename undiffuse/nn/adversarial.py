"""The two networks of a GAN, for images and grids (C, H, W), sequences (C, L) and vectors (D,).

    Generator       z (latent,), label -> e --depth blocks per level, doubling in between--> x
    Discriminator   x --depth blocks per level, halving in between--> f;  logit = w f + b + <e_label, f> / sqrt(|f|)

A level is a run of residual blocks h + narrow(act(widen(act(h)))) without normalization (Huang et al. 2024, "The GAN is
dead; long live the GAN!", Sec. 3): a row's logit must depend on that row alone for a penalty on its gradient to mean
anything. The last layer of each branch starts at zero, so that a new network is shallow. Vectors have one level of
linear layers; images and sequences are cut into patches, and their levels halve the positions until at most 4 a side
are left. The label enters the discriminator by projection (Miyato and Koyama 2018). Label -1, and no label, is a
learned entry of its own in both.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, final

import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from undiffuse.errors import InputError, unknown
from undiffuse.nn import checks
from undiffuse.nn.layers import LabelEntry, crop_to, linear, pad_to

_FORMS = {1: "(D,)", 2: "(C, L)", 3: "(C, H, W)"}
_CONV = {2: nn.Conv1d, 3: nn.Conv2d}
_UNPATCH = {2: nn.ConvTranspose1d, 3: nn.ConvTranspose2d}
_HALVE = {2: F.avg_pool1d, 3: F.avg_pool2d}
_COARSEST = 4  # positions a side on the last level, at most


@final
class Generator(nn.Module):
    """G(z, label): `latent` standard normals (B, latent) -> rows (B, *shape) at unit scale.

    Arguments (all plain, kept under their own names):
        shape: of a row. latent: how many numbers a row is made of.
        width: numbers per row of a vector, channels of the finest level otherwise (up to 4 times as many below).
        depth: residual blocks, on each level. patch: side of the pieces that become one position.
        classes: how many labels there are (0: none).

    Raises InputError for sizes that are not positive, or a shape of another form.

    >>> import torch
    >>> Generator(shape=(3, 9, 7), latent=8, width=4, patch=2)(torch.randn(5, 8)).shape
    torch.Size([5, 3, 9, 7])
    """

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
        super().__init__()
        _checked(
            "generator",
            shape,
            latent=latent,
            width=width,
            depth=depth,
            patch=patch,
            classes=classes,
        )
        self.shape, self.latent, self.width, self.depth = tuple(shape), latent, width, depth
        self.patch, self.classes = patch, classes
        axes = len(self.shape)
        self.sizes = _positions(self.shape, patch)
        channels = _channels(width, len(self.sizes))
        features = channels[-1]
        self.enter = linear(latent, features)
        self.label = LabelEntry(classes=classes, width=features) if classes else None
        self.spread = linear(features, features * math.prod(self.sizes[-1]))
        self.levels = nn.ModuleList(_level(axes, here, depth) for here in channels[::-1])
        self.narrow = nn.ModuleList(
            _conv(axes, above, here) for above, here in pairwise(channels[::-1])
        )
        self.leave = _leave(axes, width, self.shape[0], patch)

    def forward(
        self, z: Float[Tensor, "b latent"], label: Int64[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b *shape"]:
        _checked_label("generator", self.classes, label)
        e = self.enter(z)
        if self.label is not None:
            e = e + self.label(label)
        h = self.spread(_act(e)).unflatten(1, (-1, *self.sizes[-1]))
        for i, level in enumerate(self.levels):
            if i:
                h = crop_to(
                    F.interpolate(self.narrow[i - 1](h), scale_factor=2.0), self.sizes[-1 - i]
                )
            h = level(h)
        return crop_to(self.leave(_act(h)), self.shape[1:])


@final
class Discriminator(nn.Module):
    """D(x, label): rows (B, *shape) -> a logit (B,) each, positive for what is taken to be real.

    Arguments as for `Generator`. Raises InputError for sizes that are not positive, or a shape of another form.

    >>> import torch
    >>> Discriminator(shape=(2, 11), width=4, classes=3)(torch.randn(5, 2, 11)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        *,
        shape: Sequence[int],
        width: int = 128,
        depth: int = 1,
        patch: int = 1,
        classes: int = 0,
    ) -> None:
        super().__init__()
        _checked("discriminator", shape, width=width, depth=depth, patch=patch, classes=classes)
        self.shape, self.width, self.depth, self.patch, self.classes = (
            tuple(shape),
            width,
            depth,
            patch,
            classes,
        )
        axes = len(self.shape)
        self.sizes = _positions(self.shape, patch)
        channels = _channels(width, len(self.sizes))
        features = channels[-1]
        self.enter = _enter(axes, self.shape[0], width, patch)
        self.levels = nn.ModuleList(_level(axes, here, depth) for here in channels)
        self.widen = nn.ModuleList(_conv(axes, above, here) for above, here in pairwise(channels))
        self.gather = linear(features * math.prod(self.sizes[-1]), features)
        self.leave = linear(features, 1)
        self.label = LabelEntry(classes=classes, width=features) if classes else None

    def forward(
        self, x: Float[Tensor, "b *shape"], label: Int64[Tensor, " b"] | None = None
    ) -> Float[Tensor, " b"]:
        checks.call("discriminator", self.shape, self.classes, 0, x, label, None)
        h = self.enter(pad_to(x, tuple(side * self.patch for side in self.sizes[0])))
        for i, level in enumerate(self.levels):
            if i:
                h = self.widen[i - 1](
                    _HALVE[len(self.shape)](h, 2, ceil_mode=True, count_include_pad=False)
                )
            h = level(h)
        f = _act(self.gather(_act(h.flatten(1))))
        logit = self.leave(f)[:, 0]
        if self.label is not None:
            logit = logit + (self.label(label) * f).sum(1) / math.sqrt(f.shape[1])
        return logit


@final
class Block(nn.Module):
    """h -> h + narrow(act(widen(act(h)))), of linear layers or of convolutions over 3 positions a side."""

    def __init__(self, axes: int, width: int) -> None:
        super().__init__()
        self.widen = linear(width, 2 * width) if axes == 1 else _conv(axes, width, width, 3)
        self.narrow = (
            linear(2 * width, width, zero=True)
            if axes == 1
            else _conv(axes, width, width, 3, zero=True)
        )

    def forward(self, h: Float[Tensor, "b w *positions"]) -> Float[Tensor, "b w *positions"]:
        return h + self.narrow(_act(self.widen(_act(h))))


ADVERSARIAL: dict[str, type[nn.Module]] = {"generator": Generator, "discriminator": Discriminator}


def adversarial_pair(
    shape: Sequence[int], *, latent: int, classes: int = 0, **sizes: Any
) -> tuple[Generator, Discriminator]:
    """Both networks for rows of `shape`, sized by it except for the dimensions given: width, depth, patch.

    Raises InputError for a shape of no known form, an unknown dimension, or a value that cannot be used.

    >>> adversarial_pair((2,), latent=8)[1].width
    128
    """
    checks.axes("gan", shape, _FORMS)
    chosen = _sizes(tuple(shape))
    for name in sizes:
        if name not in chosen:
            raise unknown("gan:", "dimension", name, chosen)
    given: dict[str, Any] = {**chosen, **sizes, "shape": tuple(shape), "classes": classes}
    return Generator(latent=latent, **given), Discriminator(**given)


def _sizes(shape: tuple[int, ...]) -> dict[str, int]:
    """Wider with the number of columns; patches that leave at most 24 (of sequences 1024) positions a side."""
    if len(shape) == 1:
        return {"width": 128 if shape[0] <= 32 else 256, "depth": 2, "patch": 1}
    axes, most = len(shape) - 1, 24 if len(shape) == 3 else 1024
    patch = next(2**k for k in range(64) if math.prod(shape[1:]) <= (most * 2**k) ** axes)
    return {"width": 32, "depth": 1, "patch": min(patch, *shape[1:])}


def _checked(where: str, shape: Sequence[int], *, classes: int, **sizes: int) -> None:
    checks.axes(where, shape, _FORMS)
    checks.at_least(where, 1, **sizes)
    checks.at_least(where, 0, classes=classes)
    if len(shape) == 1 and sizes["patch"] != 1:
        raise InputError(
            f"{where}: patch is {sizes['patch']}, but a vector has no positions; leave it out."
        )


def _checked_label(where: str, classes: int, label: Tensor | None) -> None:
    if label is not None and not classes:
        raise InputError(
            f"{where}: made without classes; leave the label out or build it with classes=N."
        )


def _positions(shape: tuple[int, ...], patch: int) -> list[tuple[int, ...]]:
    """The positions along each axis on every level, the finest first; () for the one level of a vector.

    >>> _positions((1, 28, 20), 2)
    [(14, 10), (7, 5), (4, 3)]
    """
    sizes = [tuple(-(-side // patch) for side in shape[1:])]
    while sizes[-1] and max(sizes[-1]) > _COARSEST:
        sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
    return sizes


def _channels(width: int, levels: int) -> list[int]:
    return [width * min(2**k, 4) for k in range(levels)]


def _level(axes: int, width: int, depth: int) -> nn.Sequential:
    return nn.Sequential(*(Block(axes, width) for _ in range(depth)))


def _conv(axes: int, inputs: int, outputs: int, size: int = 1, *, zero: bool = False) -> nn.Module:
    """A convolution that keeps every axis; weights of variance 1/fan_in (or zero)."""
    layer = _CONV[axes](inputs, outputs, size, padding=size // 2)
    return _started(layer, 0.0 if zero else (inputs * size ** (axes - 1)) ** -0.5)


def _enter(axes: int, inputs: int, width: int, patch: int) -> nn.Module:
    """From values to features: each patch becomes one position."""
    if axes == 1:
        return linear(inputs, width)
    return _started(
        _CONV[axes](inputs, width, patch, stride=patch), (inputs * patch ** (axes - 1)) ** -0.5
    )


def _leave(axes: int, width: int, outputs: int, patch: int) -> nn.Module:
    """From features to values: each position becomes one patch."""
    if axes == 1:
        return linear(width, outputs)
    return _started(_UNPATCH[axes](width, outputs, patch, stride=patch), width**-0.5)


def _started(layer: Any, std: float) -> nn.Module:
    nn.init.normal_(layer.weight, std=std)
    nn.init.zeros_(layer.bias)
    return layer


def _act(h: Tensor) -> Tensor:
    """Leaky rectifier of slope 0.2, scaled to keep the second moment of a symmetric input."""
    return F.leaky_relu(h, 0.2) * math.sqrt(2 / (1 + 0.2**2))
