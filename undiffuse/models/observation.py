"""Decoder distributions p(x | z), given the decoder's output F, one number per coordinate of x.

    gaussian    N(x; F, s^2)                                  real numbers; s learned
    logistic    P(k) = sig((high - F)/s) - sig((low - F)/s)   whole numbers, from the edges of bin k
    bernoulli   P(k = 1) = sig(F),  sig(a) = 1/(1 + e^-a)     whole numbers that are 0 or 1

(Kingma and Welling 2014, Appendix C; Kingma et al. 2016, "Improving variational inference with
inverse autoregressive flow", Eq. 15.) The outermost edges are -inf and +inf, so that the
probabilities sum to one. With a and b the two arguments of the logistic,

    sig(b) - sig(a) = sig(b) sig(-a) (1 - e^(a - b))

and b - a is the width of the bin over s, whatever F is: nearly equal numbers are never subtracted.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor

from undiffuse.diffusion.gaussian import log_prob
from undiffuse.errors import InputError

Cells = tuple[Tensor, Tensor]
"""The edges (low, high) of the bin of each whole number, each of the shape of x."""


class Observation(ABC):
    """A decoder distribution p(x | z).

    The logarithms of the scales s, `log_scale` (scales,), are learned with the networks.
    """

    discrete: ClassVar[bool] = False  # a distribution of whole numbers, which needs their bins

    @abstractmethod
    def scales(self, channels: int) -> int:
        """Return how many scales are learned for rows of this many channels (vectors: columns)."""

    @abstractmethod
    def log_prob(self, x: Tensor, cells: Cells | None, output: Tensor, log_scale: Tensor) -> Tensor:
        """Return log p(x | z) of each row, in nats (B,).

        Args:
            x: rows (B, *) at unit scale.
            cells: the edges of the bins of the rows' whole numbers; None where they are not.
            output: the decoder's output (B, *).
            log_scale: logarithms of the scales, (scales,).
        """

    @abstractmethod
    def draw(self, output: Tensor, log_scale: Tensor, z: Tensor) -> Tensor:
        """Return rows (B, *) drawn from p(x | z), made of standard normals `z` (B, *)."""

    def mean(self, output: Tensor) -> Tensor:
        """Return the mean of p(x | z), (B, *).

        The logistic's is that of its density before it is cut into bins.
        """
        return output

    def check(self, levels: int | None) -> None:
        """Raise InputError for data that this distribution is not for.

        Args:
            levels: how many whole numbers fill [-1, 1]; None for other data.
        """
        if self.discrete and levels is None:
            raise InputError(
                f"observation {_name(self)}: it is for images of whole numbers, and these are "
                "other data; use gaussian."
            )


@final
@dataclass(frozen=True)
class GaussianObservation(Observation):
    """N(F, s^2), with s learned for each channel, or one for all if `shared`.

    >>> x = torch.zeros(1, 2)
    >>> GaussianObservation().log_prob(x, None, torch.zeros(1, 2), torch.zeros(2))  # -log(2 pi)
    tensor([-1.8379])
    """

    shared: bool = False

    def scales(self, channels: int) -> int:
        """Return one for each channel, or 1."""
        return 1 if self.shared else channels

    def log_prob(self, x: Tensor, cells: Cells | None, output: Tensor, log_scale: Tensor) -> Tensor:
        """Return log N(x; F, s^2) of each row."""
        return log_prob(x, output, _per_channel(2 * log_scale, output).exp().expand_as(output))

    def draw(self, output: Tensor, log_scale: Tensor, z: Tensor) -> Tensor:
        """Return F + s z."""
        return output + _per_channel(log_scale, output).exp() * z


@final
@dataclass(frozen=True)
class LogisticObservation(Observation):
    """A logistic density about F, its probability in each whole number's bin; one s per channel."""

    discrete = True

    def scales(self, channels: int) -> int:
        """Return one for each channel."""
        return channels

    def log_prob(self, x: Tensor, cells: Cells | None, output: Tensor, log_scale: Tensor) -> Tensor:
        """Return the sum of log(sig(b) sig(-a) (1 - e^(a - b))) of each row."""
        assert cells is not None
        low, high = (edge.to(output) for edge in cells)
        s = _per_channel(log_scale, output).exp()
        first, last = low == -math.inf, high == math.inf
        ends = first | last  # replaced before dividing: the gradient of inf / s is nan, even masked
        a = (torch.where(first, 0.0, low) - output) / s
        b = (torch.where(last, 0.0, high) - output) / s
        width = torch.where(ends, 1.0, high - low) / s
        inside = torch.where(ends, 0.0, torch.log(-torch.expm1(-width)))
        above = torch.where(first, 0.0, F.logsigmoid(-a))
        below = torch.where(last, 0.0, F.logsigmoid(b))
        return (above + below + inside).flatten(1).sum(1)

    def draw(self, output: Tensor, log_scale: Tensor, z: Tensor) -> Tensor:
        """Return F + s log(u / (1 - u)), u = Phi(z) = erfc(-z / sqrt(2)) / 2."""
        logit = torch.erfc(-z / 2**0.5).log() - torch.erfc(z / 2**0.5).log()  # finite to z = 13
        return output + _per_channel(log_scale, output).exp() * logit


@final
@dataclass(frozen=True)
class BernoulliObservation(Observation):
    """1 with probability sig(F), else 0; the two stand at +-1/2, the centres of their bins."""

    discrete = True

    def scales(self, channels: int) -> int:
        """Return 0: no scale is learned."""
        return 0

    def log_prob(self, x: Tensor, cells: Cells | None, output: Tensor, log_scale: Tensor) -> Tensor:
        """Return the sum of log sig(F) where k is 1, and of log sig(-F) where it is 0."""
        assert cells is not None
        return F.logsigmoid(torch.where(cells[1] == math.inf, output, -output)).flatten(1).sum(1)

    def draw(self, output: Tensor, log_scale: Tensor, z: Tensor) -> Tensor:
        """Return 1/2 where Phi(z) < sig(F), else -1/2."""
        return torch.where(torch.erfc(-z / 2**0.5) / 2 < torch.sigmoid(output), 0.5, -0.5)

    def mean(self, output: Tensor) -> Tensor:
        """Return sig(F) - 1/2."""
        return torch.sigmoid(output) - 0.5

    def check(self, levels: int | None) -> None:
        """Raise InputError for data that are not whole numbers of two values."""
        super().check(levels)
        if levels != 2:
            raise InputError(
                f"observation {_name(self)}: it is for two values, and these data have {levels}; "
                "use logistic."
            )


OBSERVATIONS: dict[str, type[Observation]] = {
    "gaussian": GaussianObservation,
    "logistic": LogisticObservation,
    "bernoulli": BernoulliObservation,
}
"""The decoder distributions by name."""


def cells_of(x: Tensor, levels: int) -> tuple[Tensor, Cells]:
    """Return the centres of the bins that points lie in, and the edges of these bins.

    Args:
        x: points (B, *) of `levels` equal bins on [-1, 1].
        levels: how many bins there are.

    Returns:
        The centres (B, *), and the edges (low, high), infinite at both ends of the range.

    >>> cells_of(torch.tensor([-0.9, 0.3]), 2)
    (tensor([-0.5000,  0.5000]), (tensor([-inf, 0.]), tensor([0., inf])))
    """
    k = ((x + 1) * (levels / 2)).floor().clamp(0, levels - 1)
    low, high = 2 * k / levels - 1, 2 * (k + 1) / levels - 1
    edges = torch.where(k == 0, -math.inf, low), torch.where(k == levels - 1, math.inf, high)
    return (2 * k + 1) / levels - 1, edges


def _name(observation: Observation) -> str:
    return next(name for name, kind in OBSERVATIONS.items() if isinstance(observation, kind))


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    """(C,) or (1,) as (1, C, 1, ...), which broadcasts against (B, C, ...)."""
    return values.reshape(1, -1, *[1] * (like.ndim - 2)).to(like.dtype)
