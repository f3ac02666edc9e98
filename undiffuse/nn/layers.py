"""The pieces that all networks share: conditioning, adaptive normalization, attention, how weights start.

A network F(x, c_noise, label, vector) is conditioned through one vector per row,

    e = silu(W silu(W_0 features(c_noise) + label_row + W_1 vector)),

and each block turns e into a scale and a shift of its normalized activations: h (1 + scale) + shift. A condition that
is dropped (label -1, a row of NaN, or none given) is a learned entry of its own, which is what guidance contrasts with.

Weights start with variance 1/fan_in; the last layer of each residual branch, and of each network, starts at zero, so
that a new network is zero everywhere: with a preconditioned target that is the best linear denoiser (Karras et al.
2022, Sec. 5).
"""

from __future__ import annotations

import math
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn


def linear(inputs: int, outputs: int, *, zero: bool = False, bias: bool = True) -> nn.Linear:
    """A linear layer with weights of variance 1/inputs (or zero) and zero bias."""
    layer = nn.Linear(inputs, outputs, bias=bias)
    _start(layer, inputs, zero)
    return layer


def conv(inputs: int, outputs: int, size: int = 3, *, zero: bool = False) -> nn.Conv2d:
    """A convolution over size x size positions that keeps height and width; weights as in `linear`."""
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2)
    _start(layer, inputs * size * size, zero)
    return layer


def _start(layer: nn.Linear | nn.Conv2d, fan_in: int, zero: bool) -> None:
    nn.init.normal_(layer.weight, std=0.0 if zero else 1 / math.sqrt(fan_in))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def divisor(number: int, most: int) -> int:
    """The largest divisor of `number` that is at most `most`.

    >>> divisor(96, 32), divisor(37, 8)
    (32, 1)
    """
    return next(d for d in range(max(1, min(number, most)), 0, -1) if number % d == 0)


@final
class NoiseFeatures(nn.Module):
    """Sines and cosines of the noise level at `count / 2` frequencies, from half a period over `span` to 64 times that.

    c_noise (B,) -> (B, count). `span` is the length of the interval that c_noise lives in, centred on 0 or starting
    there: 4 for log(sigma)/4, the number of levels for level numbers. The lowest frequency alone tells all levels
    apart, the highest resolves 1/64 of the interval.
    """

    frequencies: Tensor

    def __init__(self, *, count: int, span: float | int) -> None:
        super().__init__()
        self.register_buffer(
            "frequencies", math.pi / span * 2 ** torch.linspace(0, 6, count // 2), persistent=False
        )

    def forward(self, c_noise: Float[Tensor, " b"]) -> Float[Tensor, "b features"]:
        angle = c_noise[:, None] * self.frequencies.to(c_noise.dtype)
        return math.sqrt(2) * torch.cat([angle.cos(), angle.sin()], dim=1)


@final
class VectorEntry(nn.Module):
    """A condition vector (B, count) -> (B, width); a learned entry for rows of NaN, and for all if none is given."""

    def __init__(self, *, count: int, width: int) -> None:
        super().__init__()
        self.given = linear(count, width, bias=False)
        self.dropped = nn.Parameter(torch.zeros(width))

    def forward(self, vector: Float[Tensor, "b count"] | None) -> Tensor:
        if vector is None:
            return self.dropped
        missing = vector.isnan().any(dim=1, keepdim=True)
        return torch.where(
            missing, self.dropped, self.given(vector.nan_to_num().to(self.dropped.dtype))
        )


@final
class LabelEntry(nn.Module):
    """A label (B,) -> (B, width); a learned entry for the label -1, and for all rows if none is given."""

    def __init__(self, *, classes: int, width: int) -> None:
        super().__init__()
        self.table = nn.Embedding(classes + 1, width)  # row 0: no label

    def forward(self, label: Int64[Tensor, " b"] | None) -> Tensor:
        return self.table.weight[0] if label is None else self.table(label + 1)


@final
class Conditioning(nn.Module):
    """Noise level, label and vector -> one vector e (B, width) per row, in full precision under autocast too.

    `classes` labels 0 .. classes - 1 and -1 for a dropped one; `vector` numbers per row, all NaN for a dropped one.
    """

    def __init__(self, *, width: int, span: float, classes: int, vector: int) -> None:
        super().__init__()
        self.noise = NoiseFeatures(count=64, span=span)
        self.enter = linear(64, width)
        self.label = LabelEntry(classes=classes, width=width) if classes else None
        self.vector = VectorEntry(count=vector, width=width) if vector else None
        self.mix = linear(width, width)

    def forward(
        self,
        c_noise: Float[Tensor, " b"],
        label: Int64[Tensor, " b"] | None = None,
        vector: Float[Tensor, "b v"] | None = None,
    ) -> Float[Tensor, "b width"]:
        dtype = self.enter.weight.dtype
        with torch.autocast(c_noise.device.type, enabled=False):
            e = self.enter(
                self.noise(c_noise.to(torch.promote_types(dtype, torch.float32))).to(dtype)
            )
            if self.label is not None:
                e = e + self.label(label)
            if self.vector is not None:
                e = e + self.vector(vector)
            return F.silu(self.mix(F.silu(e)))


@final
class Attention(nn.Module):
    """Multi-head self-attention over tokens (B, N, width), with queries and keys normalized per head.

    The normalization keeps the logits bounded (Dehghani et al. 2023, "Scaling Vision Transformers to 22 Billion
    Parameters", Sec. 2), which bfloat16 needs most; `gain` lets them grow again.
    """

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.enter = linear(width, 3 * width)
        self.gain = nn.Parameter(torch.ones(width // heads))
        self.leave = linear(width, width, zero=True)

    def forward(self, h: Float[Tensor, "b n width"]) -> Float[Tensor, "b n width"]:
        q, k, v = self.enter(h).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind()
        q, k = F.layer_norm(q, q.shape[-1:], self.gain.to(q.dtype)), F.layer_norm(k, k.shape[-1:])
        mixed = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v)
        return self.leave(mixed.transpose(1, 2).flatten(2))


def pad_to(x: Float[Tensor, "b c *old"], sizes: tuple[int, ...]) -> Float[Tensor, "b c *new"]:
    """`x` with its last axes lengthened to `sizes` by repeating the last value; it works for axes of length 1 too.

    >>> pad_to(torch.tensor([[[1.0, 2.0]]]), (4,))
    tensor([[[1., 2., 2., 2.]]])
    """
    for axis, size in enumerate(sizes, start=2):
        missing = size - x.shape[axis]
        if missing:
            last = x.narrow(axis, x.shape[axis] - 1, 1)
            x = torch.cat([x, last.repeat_interleave(missing, dim=axis)], dim=axis)
    return x


def crop_to(x: Float[Tensor, "b c *old"], sizes: tuple[int, ...]) -> Float[Tensor, "b c *new"]:
    """`x` with its last axes cut to the first `sizes` values: what undoes `pad_to`."""
    for axis, size in enumerate(sizes, start=2):
        x = x.narrow(axis, 0, size)
    return x
