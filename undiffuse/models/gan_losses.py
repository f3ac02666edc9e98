"""The losses of a GAN's two players, from its logits D of real rows x and samples y.

    non_saturating   discriminator  E[softplus(-D(x))] + E[softplus(D(y))]
                                                             (Goodfellow et al. 2014, Eq. 1)
                     generator      E[softplus(-D(y))]       (Sec. 3, the -log D trick)
    relativistic     discriminator  E[softplus(D(y) - D(x))] + gamma/2 (R1 + R2)
                                                             (Huang et al. 2024, Sec. 2)
                     generator      E[softplus(D(x) - D(y))]
                     R1 = E|grad D(x)|^2,  R2 = E|grad D(y)|^2,  x and y paired at random

The first is binary cross-entropy on sigmoid(D) with labels 1 for real rows and 0 for samples (Kim
and Lee 2024, Eq. 1-3, where labels and sign are inconsistent): -log sigmoid(D) = softplus(-D). At
the best discriminator, D = log p(x) - log q(x), it is 2 log 2 - 2 JSD(p, q). The relativistic loss
compares each sample with a real row, so that a generator that leaves out modes loses to the rows in
them. The penalties are centred at zero and on both sides: with them the game converges where the
plain one circles (Mescheder et al. 2018).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import ClassVar, final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Critic = Callable[[Tensor], Tensor]
"""`critic(x) -> D`: rows (B, *) -> logits (B,)."""


class Game(ABC):
    """The losses of the two players; rows of x and y (B, *) are paired by their number.

    Attributes:
        sloped: whether the discriminator's loss has a slope of it.
    """

    sloped: ClassVar[bool] = False

    @abstractmethod
    def discriminator(self, critic: Critic, x: Tensor, y: Tensor) -> Tensor:
        """Return the discriminator's loss, a scalar.

        Args:
            critic: the discriminator.
            x: real rows (B, *).
            y: samples (B, *) without gradient.
        """

    @abstractmethod
    def generator(self, critic: Critic, x: Tensor, y: Tensor) -> Tensor:
        """Return the generator's loss, a scalar with a gradient through `y`.

        Args:
            critic: the discriminator.
            x: real rows (B, *).
            y: samples (B, *).
        """


@final
@dataclass(frozen=True)
class NonSaturating(Game):
    """The classical game, which can circle or lose modes.

    >>> even = torch.zeros(4)  # logits of a discriminator that cannot tell
    >>> f"{NonSaturating().discriminator(lambda x: even, even, even):.4f}"  # 2 log 2
    '1.3863'
    """

    def discriminator(self, critic: Critic, x: Tensor, y: Tensor) -> Tensor:
        """Return E[softplus(-D(x))] + E[softplus(D(y))]."""
        return F.softplus(-critic(x)).mean() + F.softplus(critic(y)).mean()

    def generator(self, critic: Critic, x: Tensor, y: Tensor) -> Tensor:
        """Return E[softplus(-D(y))]."""
        return F.softplus(-critic(y)).mean()


@final
@dataclass(frozen=True)
class Relativistic(Game):
    """The relativistic pairing game with zero-centred gradient penalties on real rows and samples.

    The penalties' weight gamma is `penalty` sqrt(d) for rows of d numbers at unit scale: 0.04 in
    the plane, and within the published range for images of 32 x 32 to 256 x 256 (Huang et al. 2024:
    from 0.05 to 150, larger for larger images).

    Args:
        penalty: weight of the gradient penalties for a row of one number; that of d numbers has
            sqrt(d) times as much.
    """

    penalty: float = 0.03
    sloped: ClassVar[bool] = True

    def discriminator(self, critic: Critic, x: Tensor, y: Tensor) -> Tensor:
        """Return E[softplus(D(y) - D(x))] + gamma/2 (R1 + R2)."""
        x, y = x.detach().requires_grad_(), y.detach().requires_grad_()
        real, fake = critic(x), critic(y)
        slopes = (squared_slope(real, x) + squared_slope(fake, y)).mean()
        gamma = self.penalty * math.sqrt(x[0].numel())
        return F.softplus(fake - real).mean() + gamma / 2 * slopes

    def generator(self, critic: Critic, x: Tensor, y: Tensor) -> Tensor:
        """Return E[softplus(D(x) - D(y))]."""
        return F.softplus(critic(x) - critic(y)).mean()


def squared_slope(logits: Tensor, x: Tensor) -> Tensor:
    """Return |grad D(x)|^2 of each row (B,), itself differentiable.

    Args:
        logits: D(x) (B,), each of which depends on its own row alone.
        x: rows (B, *) that require a gradient.

    >>> x = torch.tensor([[1.0, 2.0], [0.0, 3.0]], requires_grad=True)
    >>> squared_slope((x**2).sum(1), x)  # |2 x|^2
    tensor([20., 36.], grad_fn=<SumBackward1>)
    """
    (slope,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    return slope.float().square().flatten(1).sum(1)


GAMES: dict[str, type[Game]] = {"non_saturating": NonSaturating, "relativistic": Relativistic}
"""The games by name."""


@contextmanager
def frozen(discriminator: nn.Module) -> Generator[None]:
    """Inside, what is computed with it has no gradient for its parameters."""
    parameters = [p for p in discriminator.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
