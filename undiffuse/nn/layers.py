"""The pieces that networks share: conditioning, attention, patches, how weights start.

A network F(x, c_noise, label, vector, given) is conditioned through one vector per row,

    e = silu(W silu(W_0 features(c_noise) + label_row + W_1 vector)),

and each block turns e into a scale and a shift of its normalized activations: h (1 + scale) +
shift. A label that is dropped (-1, or none given) has a learned entry of its own, and a vector that
is dropped is zero: that is what guidance contrasts with. `given` (B, 2 C, *S) is what is known of
the row itself, the values and the mask of where they are, both 0 elsewhere: a layer of its own adds
it to what the network's entry makes of x, nothing where nothing is known. Conditions that have a
value at each position, maps (B, M, *S), are the last M |S| numbers of the vector, and enter so too.

Weights start with variance 1/fan_in; the last layer of each residual branch, and of each network,
starts at zero, so that a new network is zero everywhere: with a preconditioned target that is the
best linear denoiser (Karras et al. 2022, Sec. 5).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeVar, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

_FEW_TOKENS = 512

Layer = TypeVar(
    "Layer",
    bound=nn.Linear | nn.Conv1d | nn.Conv2d | nn.ConvTranspose1d | nn.ConvTranspose2d,
)


def started(layer: Layer, *, zero: bool = False, fan_in: int | None = None) -> Layer:
    """Return `layer` with weights of variance 1/fan_in (or zero) and zero bias.

    `fan_in` is the number of inputs that an output is the sum of. By default it is the size of one
    row of the weight, which is wrong for a transposed convolution only.
    """
    std = 0.0 if zero else 1 / math.sqrt(fan_in or layer.weight[0].numel())
    nn.init.normal_(layer.weight, std=std)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def linear(inputs: int, outputs: int, *, zero: bool = False, bias: bool = True) -> nn.Linear:
    """Return a linear layer, started."""
    return started(nn.Linear(inputs, outputs, bias=bias), zero=zero)


def conv(
    inputs: int,
    outputs: int,
    size: int | tuple[int, int] = 3,
    *,
    zero: bool = False,
    bias: bool = True,
    axes: int = 2,
) -> nn.Conv1d | nn.Conv2d:
    """Return a convolution over `size` (odd) positions along each axis, padded, started."""
    kind: Any = nn.Conv1d if axes == 1 else nn.Conv2d  # their signatures differ in `size`
    return started(kind(inputs, outputs, size, padding="same", bias=bias), zero=zero)


def divisor(number: int, most: int) -> int:
    """Return the largest divisor of `number` that is at most `most`.

    >>> divisor(96, 32), divisor(37, 8)
    (32, 1)
    """
    return next(d for d in range(max(1, min(number, most)), 0, -1) if number % d == 0)


@final
class NoiseFeatures(nn.Module):
    """Sines and cosines of the noise level: c_noise (B,) -> (B, count).

    The count / 2 frequencies go from half a period over `span` to 64 times that, so that the lowest
    alone tells all levels apart and the highest resolves 1/64 of the interval. `span` is the length
    of the interval that c_noise is in, centred on 0 or starting there: 4 for log(sigma)/4, the
    number of levels for level numbers.
    """

    frequencies: Tensor

    def __init__(self, *, count: int, span: float | int) -> None:
        super().__init__()
        self.register_buffer(
            "frequencies", math.pi / span * 2 ** torch.linspace(0, 6, count // 2), persistent=False
        )

    def forward(self, c_noise: Float[Tensor, " b"]) -> Float[Tensor, "b features"]:
        """Return the features, of mean square 1."""
        angle = c_noise[:, None] * self.frequencies.to(c_noise.dtype)
        return math.sqrt(2) * torch.cat([angle.cos(), angle.sin()], dim=1)


@final
class LabelEntry(nn.Module):
    """A label (B,) -> (B, width); a learned entry for the label -1, or if none is given."""

    def __init__(self, *, classes: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(classes + 1, width)  # row 0: no label

    def forward(self, label: Int64[Tensor, " b"] | None) -> Tensor:
        """Return (B, width), or (width,) if no label is given."""
        return self.table.weight[0] if label is None else self.table(label + 1)


@final
class Conditioning(nn.Module):
    """Noise level, label and vector -> one vector e (B, width), in full precision.

    There are `classes` labels 0 .. classes - 1, and -1 for a dropped one; a condition vector has
    `vector` numbers, all 0 if it is dropped.
    """

    def __init__(self, *, width: int, span: float | int, classes: int, vector: int) -> None:
        super().__init__()
        self.noise = NoiseFeatures(count=64, span=span)
        self.enter = linear(64, width)
        self.label = LabelEntry(classes=classes, width=width) if classes else None
        self.vector = linear(vector, width, bias=False) if vector else None
        self.mix = linear(width, width)

    def forward(
        self,
        c_noise: Float[Tensor, " b"],
        label: Int64[Tensor, " b"] | None = None,
        vector: Float[Tensor, "b v"] | None = None,
    ) -> Float[Tensor, "#b width"]:
        """Return e; one row of it if all rows are at one level and there are no conditions."""
        if c_noise.stride() == (0,):  # one level for all rows, as in sampling
            c_noise = c_noise[:1]
        dtype = self.enter.weight.dtype
        with torch.autocast(c_noise.device.type, enabled=False):
            exact = c_noise.to(torch.promote_types(dtype, torch.float32))
            e = self.enter(self.noise(exact).to(dtype))
            if self.label is not None:
                e = e + self.label(label)
            if self.vector is not None and vector is not None:
                e = e + self.vector(vector.to(dtype))
            return F.silu(self.mix(F.silu(e)))


@final
class Attention(nn.Module):
    """Multi-head self-attention over tokens (B, N, width), queries and keys normalized per head.

    The normalization keeps the logits bounded (Dehghani et al. 2023, "Scaling Vision Transformers
    to 22 Billion Parameters", Sec. 2), which bfloat16 needs most; `gain` lets them grow again.
    """

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.enter = linear(width, 3 * width)
        self.gain = nn.Parameter(torch.ones(width // heads))
        self.leave = linear(width, width, zero=True)

    def forward(self, h: Float[Tensor, "b n width"]) -> Float[Tensor, "b n width"]:
        """Return the values mixed over the tokens."""
        q, k, v = self.enter(h).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        q, k = F.layer_norm(q, q.shape[-1:], self.gain.to(q.dtype)), F.layer_norm(k, k.shape[-1:])
        mixed = attend(q.to(v.dtype), k.to(v.dtype), v)
        return self.leave(mixed.transpose(1, 2).flatten(2))


def attend(
    q: Float[Tensor, "b heads n d"],
    k: Float[Tensor, "b heads n d"],
    v: Float[Tensor, "b heads n d"],
) -> Float[Tensor, "b heads n d"]:
    """Return softmax(q k^T / sqrt(d)) v for each head.

    On processors the backward pass of torch's own kernel takes 3 to 10 times as long in bfloat16
    as these products, as long as the tokens are few.
    """
    if v.device.type != "cpu" or v.dtype.itemsize != 2 or v.shape[2] > _FEW_TOKENS:
        return F.scaled_dot_product_attention(q, k, v)
    return (q * v.shape[3] ** -0.5 @ k.transpose(2, 3)).softmax(3).to(v.dtype) @ v


def pad_to(x: Float[Tensor, "b c *old"], sizes: Sequence[int]) -> Float[Tensor, "b c *new"]:
    """Return `x` with its last axes lengthened to `sizes` by repeating the last value.

    >>> pad_to(torch.tensor([[[1.0, 2.0]]]), (4,))
    tensor([[[1., 2., 2., 2.]]])
    """
    for axis, size in enumerate(sizes, start=2):
        missing = size - x.shape[axis]
        if missing:
            last = x.narrow(axis, x.shape[axis] - 1, 1)
            x = torch.cat([x, last.repeat_interleave(missing, dim=axis)], dim=axis)
    return x


def crop_to(x: Float[Tensor, "b c *old"], sizes: Sequence[int]) -> Float[Tensor, "b c *new"]:
    """Return the first `sizes` values along the last axes of `x`: the inverse of `pad_to`."""
    for axis, size in enumerate(sizes, start=2):
        x = x.narrow(axis, 0, size)
    return x


def counts(shape: Sequence[int], patch: int, level: int = 0) -> tuple[int, ...]:
    """Return the number of positions along each axis of a row of `shape` (C, *sides).

    They are those after `patch` positions a side became one, and `level` halvings.

    >>> counts((3, 28, 20), 2), counts((3, 28, 20), 2, level=2)
    ((14, 10), (4, 3))
    """
    return tuple(-(-side // (patch * 2**level)) for side in shape[1:])


def fold(x: Float[Tensor, "b c *side"], patch: Sequence[int]) -> Float[Tensor, "b folded *n"]:
    """Fold pieces of `patch` positions, one number for each axis, into channels.

    (B, C, *sides) -> (B, C prod(patch), *counts); sides that the patch does not divide are padded
    by their last value.

    >>> fold(torch.arange(6.0).reshape(1, 1, 6), (2,))[0].tolist()
    [[0.0, 2.0, 4.0], [1.0, 3.0, 5.0]]
    """
    axes = len(patch)
    x = pad_to(x, [-(-side // piece) * piece for side, piece in zip(x.shape[2:], patch)])
    for axis, piece in enumerate(patch):
        x = x.unflatten(2 + 2 * axis, (-1, piece))
    inner, outer = range(3, 3 + 2 * axes, 2), range(2, 2 + 2 * axes, 2)
    return x.permute(0, 1, *inner, *outer).flatten(1, 1 + axes)


def unfold(
    h: Float[Tensor, "b folded *n"], patch: Sequence[int], sides: Sequence[int]
) -> Float[Tensor, "b c *side"]:
    """Undo `fold`: channels become pieces of `patch` positions again, cropped to `sides`."""
    axes = len(patch)
    h = h.unflatten(1, (-1, *patch))
    h = h.permute(0, 1, *[n for axis in range(axes) for n in (2 + axes + axis, 2 + axis)])
    for axis in range(axes):
        h = h.flatten(2 + axis, 3 + axis)
    return crop_to(h, sides)
