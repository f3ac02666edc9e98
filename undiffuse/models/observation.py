"""What a decoder's output says of a row: p(x | z), with F the output, one number for each coordinate of x.

    Gaussian    N(x; F, s^2)                                     real numbers; s learned, per channel or one
    Logistic    P(k) = sig((high - F)/s) - sig((low - F)/s)      whole numbers, with the edges of bin k
    Bernoulli   P(k = 1) = sig(F), sig(a) = 1/(1 + e^-a)         whole numbers that are 0 or 1

(Kingma and Welling 2014, Appendix C; Kingma et al. 2016, "Improving variational inference with inverse autoregressive
flow", Eq. 15.) The outermost edges are -inf and +inf, so that masses sum to one. With a and b the two arguments,

    sig(b) - sig(a) = sig(b) sig(-a) (1 - e^(a - b))

and b - a is the width of the bin over s, whatever F: no difference of nearly equal numbers is taken.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from undiffuse.diffusion import gaussian
from undiffuse.errors import InputError

Cells = tuple[Tensor, Tensor]


class Observation(ABC):
    """p(x | z). `log_scale` (scales,) is learned with the networks; it holds the logarithms of s."""

    # whether it is a probability of whole numbers, which needs the edges of their bins
    discrete: ClassVar[bool] = False

    @abstractmethod
    def scales(self, channels: int) -> int:
        """How many scales are learned for rows of this many channels (of vectors, columns)."""

    @abstractmethod
    def log_prob(self, x: Tensor, cells: Cells | None, output: Tensor, log_scale: Tensor) -> Tensor:
        """Log p(x | z) of rows (B, *), or of the whole numbers whose bins have the edges `cells`, nats (B,)."""

    @abstractmethod
    def draw(self, output: Tensor, log_scale: Tensor, z: Tensor) -> Tensor:
        """Rows (B, *) from p(x | z), made of standard normals `z` (B, *)."""

    def mean(self, output: Tensor) -> Tensor:
        """The mean of p(x | z), (B, *) (of the open-ended logistic: but for what lies beyond its ends)."""
        return output

    def check(self, levels: int | None) -> None:
        """Raises InputError for data that this is not for: `levels` values from -1 to 1, or None for any other data."""
        if self.discrete and levels is None:
            raise InputError(
                f"observation {type(self).__name__.lower()}: is for images of whole numbers, and these are other data; "
                "take gaussian."
            )


@final
@dataclass(frozen=True)
class Gaussian(Observation):
    """N(F, s^2), with s learned for each channel, or one for all if `shared`.

    >>> Gaussian().log_prob(torch.zeros(1, 2), None, torch.zeros(1, 2), torch.zeros(2))  # -log(2 pi)
    tensor([-1.8379])
    """

    shared: bool = False

    def scales(self, channels: int) -> int:
        return 1 if self.shared else channels

    def log_prob(self, x: Tensor, cells: Cells | None, output: Tensor, log_scale: Tensor) -> Tensor:
        return gaussian.log_prob(x, output, _per_channel(2 * log_scale, output).exp().expand_as(output))

    def draw(self, output: Tensor, log_scale: Tensor, z: Tensor) -> Tensor:
        return output + _per_channel(log_scale, output).exp() * z


@final
@dataclass(frozen=True)
class Logistic(Observation):
    """A logistic density about F, its mass in the bin of each whole number; one s for each channel."""

    discrete = True

    def scales(self, channels: int) -> int:
        return channels

    def log_prob(self, x: Tensor, cells: Cells | None, output: Tensor, log_scale: Tensor) -> Tensor:
        assert cells is not None
        low, high = (edge.to(output) for edge in cells)
        s = _per_channel(log_scale, output).exp()
        first, last = low == -math.inf, high == math.inf
        ends = (
            first | last
        )  # taken out before the division: an infinity over s, though masked, has a gradient of nan
        a = (torch.where(first, 0.0, low) - output) / s
        b = (torch.where(last, 0.0, high) - output) / s
        width = torch.where(ends, 1.0, high - low) / s
        inside = torch.where(ends, 0.0, torch.log(-torch.expm1(-width)))
        above, below = (
            torch.where(first, 0.0, F.logsigmoid(-a)),
            torch.where(last, 0.0, F.logsigmoid(b)),
        )
        return (above + below + inside).flatten(1).sum(1)

    def draw(self, output: Tensor, log_scale: Tensor, z: Tensor) -> Tensor:
        logit = torch.special.log_ndtr(z) - torch.special.log_ndtr(-z)
        return output + _per_channel(log_scale, output).exp() * logit


@final
@dataclass(frozen=True)
class Bernoulli(Observation):
    """1 with probability sig(F), else 0; the two stand at +-1/2, the centres of their bins."""

    discrete = True

    def scales(self, channels: int) -> int:
        return 0

    def log_prob(self, x: Tensor, cells: Cells | None, output: Tensor, log_scale: Tensor) -> Tensor:
        assert cells is not None
        return F.logsigmoid(torch.where(cells[1] == math.inf, output, -output)).flatten(1).sum(1)

    def draw(self, output: Tensor, log_scale: Tensor, z: Tensor) -> Tensor:
        return torch.where(torch.special.ndtr(z) < torch.sigmoid(output), 0.5, -0.5)

    def mean(self, output: Tensor) -> Tensor:
        return torch.sigmoid(output) - 0.5

    def check(self, levels: int | None) -> None:
        super().check(levels)
        if levels != 2:
            raise InputError(
                f"observation bernoulli: is for two values, and these have {levels}; take logistic."
            )


def cells_of(x: Tensor, levels: int) -> tuple[Tensor, Cells]:
    """Points `x` of `levels` bins on [-1, 1] -> the centres of their bins, and the edges, the outermost infinite.

    >>> cells_of(torch.tensor([-0.9, 0.3]), 2)
    (tensor([-0.5000,  0.5000]), (tensor([-inf, 0.]), tensor([0., inf])))
    """
    k = ((x + 1) * (levels / 2)).floor().clamp(0, levels - 1)
    low, high = 2 * k / levels - 1, 2 * (k + 1) / levels - 1
    edges = torch.where(k == 0, -math.inf, low), torch.where(k == levels - 1, math.inf, high)
    return (2 * k + 1) / levels - 1, edges


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    """(C,) or (1,) -> (1, C, 1, ...), to go with (B, C, ...)."""
    return values.reshape(1, -1, *[1] * (like.ndim - 2)).to(like.dtype)


OBSERVATIONS: dict[str, type[Observation]] = {
    "gaussian": Gaussian,
    "logistic": Logistic,
    "bernoulli": Bernoulli,
}
