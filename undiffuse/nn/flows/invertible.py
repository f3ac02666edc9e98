"""The layers of an invertible network: each can be undone, and knows the log-determinant of its Jacobian.

    normalize   y = (h - b) e^s                      per channel
    mix         y = W h,  W = P L (U + diag(+-e^d))  across channels, at each position; log|det W| = sum d
    couple      y_2 = (h_2 - t(h_1)) e^{s(h_1)}      half of the channels, given the other half

`layer(h, e)` -> (y, z, log_det): h and y are (B, C, H, W), e (B, features) stands for the label, z (B, layer.leaves) is
what leaves for good, and `layer.inverse(y, z, e)` is h. The small network of a coupling starts with t = s = 0; it sees
h_1 only as 4 tanh(h_1 / 4), and s is bounded: without either, draws of a flow in training come out 10^5 deviations off.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Int64
from torch import Tensor, nn

from undiffuse.nn.layers import linear

_NARROW, _WIDE = (
    4.0,
    1.0,
)  # bounds on s and on -s: what is narrow is widened by up to e^4, what is wide narrowed by e
_SEEN = 4.0  # bound on what a small network sees of a value
_BESIDE = 2  # rows or columns that a peeled one is given
_LEAST = 1e-3  # deviation below which a channel is one value: widened to 1, it would be so again by every layer

Sides = tuple[int, int]


@final
class Normalize(nn.Module):
    """h <- (h - b) e^s per channel (Kingma and Dhariwal 2018, Sec. 3.1), for rows of any shape (C, *)."""

    leaves = 0

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    def measure(self, h: Tensor) -> None:
        """Mean 0 for these rows, and deviation 1 for each channel that varies."""
        values = h.double().transpose(0, 1).flatten(1)
        self.mean.copy_(values.mean(1))
        deviation = values.std(1, correction=0)
        self.log_scale.copy_(-deviation.where(deviation > _LEAST, 1.0).log())

    def forward(self, h: Tensor, e: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        ones = [1] * (h.ndim - 2)
        places = h[0, 0].numel()
        h = (h - self.mean.reshape(-1, *ones)) * self.log_scale.exp().reshape(-1, *ones)
        return h, _nothing(h), places * self.log_scale.sum()

    def inverse(self, h: Tensor, z: Tensor, e: Tensor | None) -> Tensor:
        ones = [1] * (h.ndim - 2)
        return h * (-self.log_scale).exp().reshape(-1, *ones) + self.mean.reshape(-1, *ones)


@final
class Mix(nn.Module):
    """h <- W h at each position, W = P L (U + diag(+-e^d)) (Kingma and Dhariwal 2018, Sec. 3.2); first a rotation."""

    order: Int64[Tensor, " c"]
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation = torch.linalg.qr(torch.randn(channels, channels, dtype=torch.float64)).Q
        p, low, up = torch.linalg.lu(rotation)
        self.low = nn.Parameter(low.tril(-1).float())
        self.up = nn.Parameter(up.triu(1).float())
        self.log_scale = nn.Parameter(up.diagonal().abs().log().float())
        self.register_buffer("sign", up.diagonal().sign().float())
        self.register_buffer("order", p.argmax(1))  # row i of P takes entry order[i]

    def factors(self) -> tuple[Tensor, Tensor]:
        """L and U + diag."""
        low = self.low.tril(-1) + torch.eye(
            len(self.sign), dtype=self.low.dtype, device=self.low.device
        )
        return low, self.up.triu(1) + torch.diag(self.sign * self.log_scale.exp())

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        low, up = self.factors()
        weight = (low @ up)[self.order]
        return F.conv2d(h, weight[:, :, None, None]), h[0, 0].numel() * self.log_scale.sum()

    def inverse(self, h: Tensor) -> Tensor:
        low, up = self.factors()
        h_ = h.flatten(2).transpose(0, 1).flatten(1)[self.order.argsort()]  # (C, B H W)
        h_ = torch.linalg.solve_triangular(low, h_, upper=False, unitriangular=True)
        h_ = torch.linalg.solve_triangular(up, h_, upper=True)
        return h_.unflatten(1, (len(h), -1)).transpose(0, 1).reshape(h.shape)


@final
class Given(nn.Module):
    """The affine map of `outputs` channels given `inputs` others and a label: y = (h - t) e^s, with its inverse.

    (t, r) come from two convolutions with a residual layer between them, s = c tanh(r / c), c = 4 for r > 0, else 1.
    """

    def __init__(self, inputs: int, outputs: int, sides: Sides, width: int, features: int) -> None:
        super().__init__()
        self.enter = _conv(inputs, width, sides)
        self.label = linear(features, width, bias=False) if features else None
        self.middle = nn.Conv2d(width, width, 1)
        self.leave = _conv(width, 2 * outputs, sides)
        nn.init.zeros_(self.leave.weight)

    def maps(self, given: Tensor, e: Tensor | None) -> tuple[Tensor, Tensor]:
        """T and s."""
        h = self.enter(_SEEN * torch.tanh(given / _SEEN))
        if self.label is not None and e is not None:
            h = h + self.label(e)[..., None, None]
        h = F.silu(h)
        h = F.silu(h + self.middle(h))
        t, r = self.leave(h).chunk(2, dim=1)
        bound = torch.where(r > 0, _NARROW, _WIDE).to(r.dtype)
        return t, bound * torch.tanh(r / bound)

    def forward(self, h: Tensor, given: Tensor, e: Tensor | None) -> tuple[Tensor, Tensor]:
        t, s = self.maps(given, e)
        return (h - t) * s.exp(), s.flatten(1).sum(1)

    def inverse(self, y: Tensor, given: Tensor, e: Tensor | None) -> Tensor:
        t, s = self.maps(given, e)
        return y * (-s).exp() + t


@final
class Step(nn.Module):
    """Normalize, mix, and couple the second half of the channels to the first."""

    leaves = 0

    def __init__(self, channels: int, sides: Sides, width: int, features: int) -> None:
        super().__init__()
        self.first = channels // 2
        self.normalize, self.mix = Normalize(channels), Mix(channels)
        self.couple = Given(self.first, channels - self.first, sides, width, features)

    def forward(self, h: Tensor, e: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        h, z, a = self.normalize(h, e)
        h, b = self.mix(h)
        kept = h[:, : self.first]
        moved, c = self.couple(h[:, self.first :], kept, e)
        return torch.cat([kept, moved], dim=1), z, a + b + c

    def inverse(self, h: Tensor, z: Tensor, e: Tensor | None) -> Tensor:
        kept = h[:, : self.first]
        h = torch.cat([kept, self.couple.inverse(h[:, self.first :], kept, e)], dim=1)
        return self.normalize.inverse(self.mix.inverse(h), z, e)


@final
class Split(nn.Module):
    """Half of the channels leave: z = (h_2 - t(h_1)) e^{s(h_1)}, the learned prior of Kingma and Dhariwal 2018."""

    def __init__(self, channels: int, sides: Sides, width: int, features: int) -> None:
        super().__init__()
        self.first, self.sides = channels // 2, sides
        self.leaves = (channels - self.first) * sides[0] * sides[1]
        self.prior = Given(self.first, channels - self.first, sides, width, features)

    def forward(self, h: Tensor, e: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        kept = h[:, : self.first]
        z, log_det = self.prior(h[:, self.first :], kept, e)
        return kept, z.flatten(1), log_det

    def inverse(self, h: Tensor, z: Tensor, e: Tensor | None) -> Tensor:
        gone = self.prior.inverse(z.reshape(len(z), -1, *self.sides), h, e)
        return torch.cat([h, gone], dim=1)


@final
class Peel(nn.Module):
    """The last `count` rows (axis 2) or columns (axis 3) leave, normalized and then given the two beside them."""

    def __init__(
        self, channels: int, sides: Sides, axis: int, count: int, width: int, features: int
    ) -> None:
        super().__init__()
        self.axis, self.count = axis, count
        self.rest = sides[axis - 2] - count
        self.beside = min(_BESIDE, self.rest)
        along = sides[3 - axis]
        self.leaves = channels * count * along
        self.normalize = Normalize(channels * count)
        self.prior = Given(channels * self.beside, channels * count, (1, along), width, features)

    def _folded(self, h: Tensor) -> Tensor:
        """Rows or columns as channels of one row."""
        return h.movedim(self.axis, 2).flatten(1, 2).unsqueeze(2)

    def _near(self, kept: Tensor) -> Tensor:
        return self._folded(kept.narrow(self.axis, self.rest - self.beside, self.beside))

    def forward(self, h: Tensor, e: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        kept, gone = h.split([self.rest, self.count], dim=self.axis)
        gone, _, a = self.normalize(self._folded(gone), e)
        z, b = self.prior(gone, self._near(kept), e)
        return kept, z.flatten(1), a + b

    def inverse(self, h: Tensor, z: Tensor, e: Tensor | None) -> Tensor:
        near = self._near(h)
        gone = self.prior.inverse(z.reshape(len(z), -1, 1, near.shape[3]), near, e)
        gone = self.normalize.inverse(gone, z, e).squeeze(2).unflatten(1, (-1, self.count))
        return torch.cat([h, gone.movedim(2, self.axis)], dim=self.axis)


@final
class Squeeze(nn.Module):
    """Blocks of positions become channels: (B, C, a H, b W) -> (B, C a b, H, W)."""

    leaves = 0

    def __init__(self, block: Sides) -> None:
        super().__init__()
        self.block = block

    def forward(self, h: Tensor, e: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        (a, b), (count, channels, height, length) = self.block, h.shape
        h = h.reshape(count, channels, height // a, a, length // b, b).permute(0, 1, 3, 5, 2, 4)
        return h.flatten(1, 3), _nothing(h), h.new_zeros(())

    def inverse(self, h: Tensor, z: Tensor, e: Tensor | None) -> Tensor:
        (a, b), (count, channels, height, length) = self.block, h.shape
        h = h.reshape(count, channels // (a * b), a, b, height, length).permute(0, 1, 4, 2, 5, 3)
        return h.reshape(count, -1, height * a, length * b)


def _conv(inputs: int, outputs: int, sides: Sides) -> nn.Conv2d:
    """A convolution over three positions of each side that has more than one; its output keeps the sides."""
    height, length = (3 if side > 1 else 1 for side in sides)
    layer = nn.Conv2d(inputs, outputs, (height, length), padding=(height // 2, length // 2))
    nn.init.normal_(layer.weight, std=(inputs * height * length) ** -0.5)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def _nothing(h: Tensor) -> Tensor:
    return h.new_zeros(len(h), 0)
