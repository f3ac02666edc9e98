"""An invertible network for images and sequences (Dinh et al. 2017; Kingma and Dhariwal 2018).

    log p(x) = log N(z; 0, I) + log |det dz/dx|,    z = f^-1(x)      (Kim and Lee 2024, Eq. 4)

f^-1 is a chain of layers (Eq. 7), each of which can be inverted and knows its own log-determinant:

    normalize   y = (h - b) e^s                       per channel; starts from the data
    mix         y = W h,  W = P L (U + diag(+-e^d))   across channels; log|det W| = sum d
    couple      y_2 = (h_2 - t(h_1)) e^{s(h_1)}       half of the channels given the other
    squeeze     2 x 2 positions -> 4 channels         (Dinh et al. 2017, Sec. 3.6)
    split       z_2 = (h_2 - t(h_1)) e^{s(h_1)}       half of the channels leave, given the rest
    peel        the same for the last rows or columns, given those beside them, where a side is odd

so that any size is taken, a sequence as an image of one row.

`layer(h, e)` -> (y, z, log_det): h and y are (B, C, H, W), e (B, features) stands for the label, z
(B, layer.leaves) is what leaves, and `layer.inverse(y, z, e)` is h. The small network of a coupling
starts with t = s = 0; it sees h_1 only as 4 tanh(h_1 / 4), and s is bounded: without either, draws
of a flow in training come out 10^5 deviations off.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, cast, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from undiffuse.nn.layers import LabelEntry, conv, fold, linear, unfold
from undiffuse.nn.sized import SizedNetwork

_FEATURES = 64  # numbers that stand for a label
_NARROW, _WIDE = (
    4.0,
    1.0,
)  # bounds on s and -s: what is narrow is widened by up to e^4, wide narrowed by e
_SEEN = 4.0  # bound on what a small network sees of a value
_BESIDE = 2  # rows or columns that a peeled one is given
_LEAST = 1e-3  # deviation below which a channel is one value, and is not widened to 1

Sides = tuple[int, int]


@final
class Normalize(nn.Module):
    """h <- (h - b) e^s per channel (Kingma and Dhariwal 2018, Sec.

    3.1), for rows of any shape (C, *).
    """

    leaves = 0

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(channels))
        self.log_scale = nn.Parameter(torch.zeros(channels))

    def measure(self, h: Tensor) -> None:
        """Give these rows mean 0, and deviation 1 in each channel that varies."""
        values = h.double().transpose(0, 1).flatten(1)
        self.mean.copy_(values.mean(1))
        deviation = values.std(1, correction=0)
        self.log_scale.copy_(-deviation.where(deviation > _LEAST, 1.0).log())

    def forward(self, h: Tensor, e: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return y, what leaves and the log-determinant."""
        ones = [1] * (h.ndim - 2)
        places = h[0, 0].numel()
        h = (h - self.mean.reshape(-1, *ones)) * self.log_scale.exp().reshape(-1, *ones)
        return h, _nothing(h), places * self.log_scale.sum()

    def inverse(self, h: Tensor, z: Tensor, e: Tensor | None) -> Tensor:
        """Return h."""
        ones = [1] * (h.ndim - 2)
        return h * (-self.log_scale).exp().reshape(-1, *ones) + self.mean.reshape(-1, *ones)


@final
class Mix(nn.Module):
    """h <- W h at each position, W = P L (U + diag(+-e^d)) (Kingma and Dhariwal 2018, Sec.

    3.2); first a rotation.
    """

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
        """Return L and U + diag."""
        low = self.low.tril(-1) + torch.eye(
            len(self.sign), dtype=self.low.dtype, device=self.low.device
        )
        return low, self.up.triu(1) + torch.diag(self.sign * self.log_scale.exp())

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return y, what leaves and the log-determinant."""
        low, up = self.factors()
        weight = (low @ up)[self.order]
        return F.conv2d(h, weight[:, :, None, None]), h[0, 0].numel() * self.log_scale.sum()

    def inverse(self, h: Tensor) -> Tensor:
        """Return h."""
        low, up = self.factors()
        h_ = h.flatten(2).transpose(0, 1).flatten(1)[self.order.argsort()]  # (C, B H W)
        h_ = torch.linalg.solve_triangular(low, h_, upper=False, unitriangular=True)
        h_ = torch.linalg.solve_triangular(up, h_, upper=True)
        return h_.unflatten(1, (len(h), -1)).transpose(0, 1).reshape(h.shape)


@final
class FlowGiven(nn.Module):
    """y = (h - t) e^s and its inverse: `outputs` channels given `inputs` others and a label.

    (t, r) come from two convolutions with a residual layer between them, s = c tanh(r / c), c = 4
    for r > 0, else 1.
    """

    def __init__(self, inputs: int, outputs: int, sides: Sides, width: int, features: int) -> None:
        super().__init__()
        kernel = (min(3, 2 * sides[0] - 1), min(3, 2 * sides[1] - 1))  # 1 along a side of 1
        self.enter = conv(inputs, width, kernel)
        self.label = linear(features, width, bias=False) if features else None
        self.middle = nn.Conv2d(width, width, 1)
        self.leave = conv(width, 2 * outputs, kernel, zero=True)

    def maps(self, given: Tensor, e: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return t and s."""
        h = self.enter(_SEEN * torch.tanh(given / _SEEN))
        if self.label is not None and e is not None:
            h = h + self.label(e)[..., None, None]
        h = F.silu(h)
        h = F.silu(h + self.middle(h))
        t, r = self.leave(h).chunk(2, dim=1)
        bound = torch.where(r > 0, _NARROW, _WIDE).to(r.dtype)
        return t, bound * torch.tanh(r / bound)

    def forward(self, h: Tensor, given: Tensor, e: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return y, what leaves and the log-determinant."""
        t, s = self.maps(given, e)
        return (h - t) * s.exp(), s.flatten(1).sum(1)

    def inverse(self, y: Tensor, given: Tensor, e: Tensor | None) -> Tensor:
        """Return h."""
        t, s = self.maps(given, e)
        return y * (-s).exp() + t


@final
class FlowStep(nn.Module):
    """Normalize, mix, and couple the second half of the channels to the first."""

    leaves = 0

    def __init__(self, channels: int, sides: Sides, width: int, features: int) -> None:
        super().__init__()
        self.first = channels // 2
        self.normalize, self.mix = Normalize(channels), Mix(channels)
        self.couple = FlowGiven(self.first, channels - self.first, sides, width, features)

    def forward(self, h: Tensor, e: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return y, what leaves and the log-determinant."""
        h, z, a = self.normalize(h, e)
        h, b = self.mix(h)
        kept = h[:, : self.first]
        moved, c = self.couple(h[:, self.first :], kept, e)
        return torch.cat([kept, moved], dim=1), z, a + b + c

    def inverse(self, h: Tensor, z: Tensor, e: Tensor | None) -> Tensor:
        """Return h."""
        kept = h[:, : self.first]
        h = torch.cat([kept, self.couple.inverse(h[:, self.first :], kept, e)], dim=1)
        return self.normalize.inverse(self.mix.inverse(h), z, e)


@final
class FlowSplit(nn.Module):
    """Half of the channels leave, by the learned prior of Kingma and Dhariwal (2018)."""

    def __init__(self, channels: int, sides: Sides, width: int, features: int) -> None:
        super().__init__()
        self.first, self.sides = channels // 2, sides
        self.leaves = (channels - self.first) * sides[0] * sides[1]
        self.prior = FlowGiven(self.first, channels - self.first, sides, width, features)

    def forward(self, h: Tensor, e: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return y, what leaves and the log-determinant."""
        kept = h[:, : self.first]
        z, log_det = self.prior(h[:, self.first :], kept, e)
        return kept, z.flatten(1), log_det

    def inverse(self, h: Tensor, z: Tensor, e: Tensor | None) -> Tensor:
        """Return h."""
        gone = self.prior.inverse(z.reshape(len(z), -1, *self.sides), h, e)
        return torch.cat([h, gone], dim=1)


@final
class FlowPeel(nn.Module):
    """The last `count` rows (axis 2) or columns (axis 3) leave, given the two beside them."""

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
        self.prior = FlowGiven(
            channels * self.beside, channels * count, (1, along), width, features
        )

    def _folded(self, h: Tensor) -> Tensor:
        """Rows or columns as channels of one row."""
        return h.movedim(self.axis, 2).flatten(1, 2).unsqueeze(2)

    def _near(self, kept: Tensor) -> Tensor:
        return self._folded(kept.narrow(self.axis, self.rest - self.beside, self.beside))

    def forward(self, h: Tensor, e: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return y, what leaves and the log-determinant."""
        kept, gone = h.split([self.rest, self.count], dim=self.axis)
        gone, _, a = self.normalize(self._folded(gone), e)
        z, b = self.prior(gone, self._near(kept), e)
        return kept, z.flatten(1), a + b

    def inverse(self, h: Tensor, z: Tensor, e: Tensor | None) -> Tensor:
        """Return h."""
        near = self._near(h)
        gone = self.prior.inverse(z.reshape(len(z), -1, 1, near.shape[3]), near, e)
        gone = self.normalize.inverse(gone, z, e).squeeze(2).unflatten(1, (-1, self.count))
        return torch.cat([h, gone.movedim(2, self.axis)], dim=self.axis)


@final
class FlowSqueeze(nn.Module):
    """Blocks of positions become channels: (B, C, a H, b W) -> (B, C a b, H, W)."""

    leaves = 0

    def __init__(self, block: Sides) -> None:
        super().__init__()
        self.block = block

    def forward(self, h: Tensor, e: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return y, what leaves and the log-determinant."""
        return fold(h, self.block), _nothing(h), h.new_zeros(())

    def inverse(self, h: Tensor, z: Tensor, e: Tensor | None) -> Tensor:
        """Return h."""
        (a, b), (height, length) = self.block, h.shape[2:]
        return unfold(h, self.block, (height * a, length * b))


@final
class CouplingFlow(SizedNetwork):
    """x (B, *shape) <-> z (B, D), D the numbers in a row, for rows of shape (C, H, W) or (C, L).

    Args:
        shape: of a row.
        width: channels inside the small networks.
        depth: normalize-mix-couple steps on each scale.
        scales: how often the sides are divided, half of the channels leaving in between.
        patch: by how much the sides are divided first (then by 2).
        classes: number of labels, 0 for none.

    Raises:
        InputError: for a value that cannot be used.

    >>> net = CouplingFlow(shape=(1, 5, 7), width=8, depth=1)
    >>> x = torch.randn(3, 1, 5, 7)
    >>> z, log_det = net(x)
    >>> z.shape, log_det.shape, bool((net.inverse(z) - x).abs().max() < 1e-5)
    (torch.Size([3, 35]), torch.Size([3]), True)
    """

    name, axes = "coupling", (2, 3)

    def __init__(
        self,
        *,
        shape: Sequence[int],
        width: int = 64,
        depth: int = 6,
        scales: int = 2,
        patch: int = 2,
        classes: int = 0,
    ) -> None:
        super().__init__(locals())
        self.label = LabelEntry(classes=classes, width=_FEATURES) if classes else None
        features = _FEATURES if classes else 0
        channels, (height, length) = shape[0], (shape[1:] if len(shape) == 3 else (1, shape[1]))
        self.image = (channels, height, length)
        layers: list[nn.Module] = []
        for scale in range(scales):
            if scale and height == length == 1:
                break
            if scale and channels > 1:
                layers.append(FlowSplit(channels, (height, length), width, features))
                channels = channels // 2
            by = patch if scale == 0 else 2
            if rest := height % min(by, height):
                layers.append(FlowPeel(channels, (height, length), 2, rest, width, features))
                height -= rest
            if rest := length % min(by, length):
                layers.append(FlowPeel(channels, (height, length), 3, rest, width, features))
                length -= rest
            rows, columns = min(by, height), min(by, length)
            layers.append(FlowSqueeze((rows, columns)))
            channels, height, length = channels * rows * columns, height // rows, length // columns
            if channels > 1:
                layers.extend(
                    FlowStep(channels, (height, length), width, features) for _ in range(depth)
                )
        layers.append(Normalize(channels))
        self.layers = nn.ModuleList(layers)
        self.last = (channels, height, length)

    @classmethod
    def sizes(cls, shape: tuple[int, ...], given: Mapping[str, Any]) -> dict[str, Any]:
        """At most 144 positions, halved until 3 to 5 a side are left (8 to 15 of a sequence)."""
        axes, longest = len(shape) - 1, max(shape[1:])
        powers = (2**k for k in range(1, 64))
        patch = given.get("patch", next(p for p in powers if math.prod(shape[1:]) <= 144 * p**axes))
        least = 3 if axes == 2 else 8
        scales = next(s for s in range(1, 64) if longest < patch * 2**s * least)
        return {"patch": patch, "scales": scales}

    def forward(
        self, x: Float[Tensor, "b *shape"], label: Int64[Tensor, " b"] | None = None
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, " b"]]:
        """Return z and log|det dz/dx|, in full precision under autocast too."""
        self.check_call(x, label)
        with torch.autocast(x.device.type, enabled=False):
            e = None if self.label is None else self.label(label)
            h, left, log_det = x.reshape(-1, *self.image), [], x.new_zeros(len(x))
            for layer in self.layers:
                h, z, log_scale = layer(h, e)
                left.append(z)
                log_det = log_det + log_scale
            return torch.cat([*left, h.flatten(1)], dim=1), log_det

    def inverse(
        self, z: Float[Tensor, "b d"], label: Int64[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b *shape"]:
        """Return the x whose z this is."""
        with torch.autocast(z.device.type, enabled=False):
            e = None if self.label is None else self.label(label)
            *left, h = z.split(
                [*(layer.leaves for layer in self.layers), math.prod(self.last)], dim=1
            )
            h = h.reshape(-1, *self.last)
            for i in range(len(left) - 1, -1, -1):
                h = cast(Any, self.layers[i]).inverse(h, left[i], e)
            return h.reshape(-1, *self.shape)

    @torch.no_grad()
    def initialize(
        self, x: Float[Tensor, "b *shape"], label: Int64[Tensor, " b"] | None = None
    ) -> None:
        """Start each normalization with the moments of what reaches it from these rows."""
        norms = [layer for layer in self.modules() if isinstance(layer, Normalize)]
        hooks = [norm.register_forward_pre_hook(_measure) for norm in norms]
        try:
            self(x, label)
        finally:
            for hook in hooks:
                hook.remove()


def _measure(norm: nn.Module, inputs: tuple[Tensor, Tensor | None]) -> None:
    assert isinstance(norm, Normalize)
    norm.measure(inputs[0])


def _nothing(h: Tensor) -> Tensor:
    return h.new_zeros(len(h), 0)
