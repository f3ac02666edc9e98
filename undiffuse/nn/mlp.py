"""A residual perceptron for vectors and the rows of tables.

    [x, 2^(-k/2) (sin(w_k x_i), cos(w_k x_i))] --> h --depth blocks--> norm --> F + g(c_noise) x

The denoiser of a density with several modes switches from mode to mode over a distance of about
sigma^2 / (distance between the modes), sharper than a perceptron of plain coordinates learns soon
(Tancik et al. 2020). So each coordinate is also given as sines and cosines at the frequencies
w_k = pi / 4 * 2^k, the faster the smaller, or smooth densities take longer to learn. c_noise scales
and shifts every block, so that the network can ignore them where the noise is large. A block is
h + narrow(silu(widen(norm(h)) (1 + scale) + shift)).

Where the noise is large, most targets tend to a multiple of x_t, and a likelihood adds up every
error of that multiple on the way: so x itself is added to the output, each coordinate times a
number g that the noise level decides.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from undiffuse.nn.layers import Conditioning, linear
from undiffuse.nn.sized import SizedNetwork


@final
class MLP(SizedNetwork):
    """F(x, c_noise, label, vector, given) for rows of shape (D,).

    Args:
        shape: (D,) of a row.
        width: numbers per row inside.
        depth: residual blocks.
        octaves: how many frequencies w_k each coordinate is also given at.
        dropout: share of activations dropped in training.
        classes: number of labels, 0 for none.
        vector: numbers in a condition vector, 0 for none.
        given: channels of what is known, 2 C, 0 for none.
        out: outputs per coordinate, 2 for a learned variance.
        span: length of the interval of c_noise, see `NoiseFeatures`.

    Raises:
        InputError: for a value that cannot be used.

    >>> net = MLP(shape=(2,), width=32, depth=2)
    >>> net(torch.randn(5, 2), torch.zeros(5)).shape
    torch.Size([5, 2])
    """

    name, axes, least = "mlp", (1,), {"octaves": 0}
    rates: Tensor
    waves: Tensor

    def __init__(
        self,
        *,
        shape: Sequence[int],
        width: int = 256,
        depth: int = 4,
        octaves: int = 4,
        dropout: float | int = 0.0,
        classes: int = 0,
        vector: int = 0,
        given: int = 0,
        out: int = 1,
        span: float | int = 4.0,
    ) -> None:
        super().__init__(locals())
        octave = 2.0 ** torch.arange(octaves)
        self.register_buffer("rates", math.pi / 4 * octave, persistent=False)
        self.register_buffer("waves", octave.rsqrt().repeat(shape[0]), persistent=False)
        self.condition = Conditioning(width=width, span=span, classes=classes, vector=vector)
        features = shape[0] * (1 + 2 * octaves)
        self.enter = linear(features, width)
        self.enter_given = linear(features + shape[0], width, bias=False) if given else None
        self.blocks = nn.ModuleList(MLPBlock(width, dropout) for _ in range(depth))
        self.leave_norm = nn.LayerNorm(width)
        self.leave = linear(width, shape[0] * out, zero=True)
        self.straight = linear(width, shape[0] * out, zero=True)

    @classmethod
    def sizes(cls, shape: tuple[int, ...], given: Mapping[str, Any]) -> dict[str, Any]:
        """Grow with the number of columns; give sines and cosines if there are few."""
        columns = shape[0]
        return {
            "width": 256 if columns <= 32 else 512 if columns <= 256 else 768,
            "depth": 4,
            "octaves": 4 if columns <= 32 else 2 if columns <= 128 else 0,
        }

    @classmethod
    def ladder(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        """From a quarter of the usual width to it."""
        usual = cls.sizes(shape, {})["width"]
        return (usual // 4, usual // 2, usual)

    def forward(
        self,
        x: Float[Tensor, "b d"],
        c_noise: Float[Tensor, " b"],
        label: Int64[Tensor, " b"] | None = None,
        vector: Float[Tensor, "b v"] | None = None,
        given: Float[Tensor, "b g"] | None = None,
    ) -> Float[Tensor, "b d_out"]:
        """Return F (B, out D) for x (B, D) at noise levels c_noise (B,)."""
        self.check_call(x, label, vector, given)
        e = self.condition(c_noise, label, vector)
        h = self.enter(self.features(x))
        if given is not None and self.enter_given is not None:
            known, mask = given.chunk(2, dim=1)
            seen = self.features(known) - self.features(torch.zeros_like(known[:1]))  # hidden: 0
            h = h + self.enter_given(torch.cat([seen, mask], dim=1))
        for block in self.blocks:
            h = block(h, e)
        g = self.straight(e)
        return self.leave(F.silu(self.leave_norm(h))).to(g.dtype) + g * x.repeat(1, self.out)

    def features(self, x: Float[Tensor, "b d"]) -> Float[Tensor, "b f"]:
        """Return x with its sines and cosines."""
        angle, size = (x[:, :, None] * self.rates.to(x.dtype)).flatten(1), self.waves.to(x.dtype)
        return torch.cat([x, size * angle.sin(), size * angle.cos()], dim=1)


@final
class MLPBlock(nn.Module):
    """h (B, width), e (B, width) -> (B, width); the hidden layer is twice as wide."""

    def __init__(self, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.widen = linear(width, 2 * width)
        self.modulation = linear(width, 4 * width)
        self.dropout = nn.Dropout(dropout)
        self.narrow = linear(2 * width, width, zero=True)

    def forward(self, h: Float[Tensor, "b w"], e: Float[Tensor, "#b w"]) -> Float[Tensor, "b w"]:
        """Return h plus the block's branch."""
        scale, shift = self.modulation(e).chunk(2, dim=1)
        hidden = F.silu(torch.addcmul(shift, self.widen(self.norm(h)).to(shift.dtype), 1 + scale))
        return h + self.narrow(self.dropout(hidden))
