"""Denoiser -> denoiser: wrappers that change what is predicted, so that no step needs to know.

Guidance moves the prediction away from that of a worse denoiser (or along a classifier's gradient),
by a weight w:

    x_hat = x_b + w (x_a - x_b),   z_hat = z_b + w (z_a - z_b),   score likewise

The weights sum to 1, so that x_t = alpha x_hat + sigma z_hat stays true, and z_hat is taken from
the two z_hat themselves: through x_hat it would lose digits where sigma is small. w = 1 is denoiser
a, w = 0 is denoiser b. A wrapper that moves x_hat alone (`Clipped`) recomputes z_hat = (x_t - alpha
x_hat) / sigma.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, final

import torch
from torch import Tensor

from undiffuse.diffusion.denoiser import (
    AbstractDenoiser,
    Conditioned,
    Estimate,
    expand,
    kept_conditions,
)
from undiffuse.diffusion.schedules.process import Times
from undiffuse.errors import InputError

HIDDEN: Mapping[str, int] = {"label": -1, "vector": 0}
"""The value that a condition has where it is not known, by name."""


@final
class Clipped(AbstractDenoiser):
    """x_hat clamped to [low, high], for data known to lie there (released sampler of Ho et al.

    2020).
    """

    def __init__(self, denoiser: AbstractDenoiser, low: float = -1.0, high: float = 1.0) -> None:
        super().__init__()
        self.denoiser, self.low, self.high, self.schedule = denoiser, low, high, denoiser.schedule

    def estimate(self, x_t: Tensor, t: Times, **cond: Any) -> Estimate:
        """Return the clamped x_hat and the z_hat that goes with it."""
        x_hat, z_hat, v = self.denoiser.estimate(x_t, t, **cond)
        clipped = x_hat.clamp(self.low, self.high)
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        return Estimate(clipped, z_hat + alpha / sigma * (x_hat - clipped), v)


Watch = Callable[[Tensor], None]
"""`watch(x_hat)`: called with what a denoiser estimates, (B, *) at unit scale."""


@final
class Watched(AbstractDenoiser):
    """The same denoiser, whose every x_hat is shown to `watch`: a picture of samples being drawn.

    Args:
        denoiser: what is watched; nothing of it changes.
        watch: called with each x_hat (B, *).
    """

    def __init__(self, denoiser: AbstractDenoiser, watch: Watch) -> None:
        super().__init__()
        self.denoiser, self.watch, self.schedule = denoiser, watch, denoiser.schedule

    def estimate(self, x_t: Tensor, t: Times, **cond: Any) -> Estimate:
        """Return the denoiser's own estimate."""
        found = self.denoiser.estimate(x_t, t, **cond)
        self.watch(found.x_hat)
        return found


@final
class ClassifierFree(AbstractDenoiser):
    """x_hat(c) moved away from the unconditional x_hat: Ho and Salimans (2022), Eq. 6.

    Both predictions come from one call of the denoiser on twice the rows. Conditions are tensors
    (B, *), given in the call or by `denoiser.given(...)`.

    Args:
        denoiser: conditional and unconditional in one.
        weight: 1 + the paper's w.
        **unconditional: the value that each condition has when it is hidden, by name.

    >>> from undiffuse.diffusion import EDM, Denoiser, target
    >>> network = lambda x, c_noise, label: 0 * x + label[:, None]
    >>> denoiser = Denoiser(network, EDM(), target.data)
    >>> guided = ClassifierFree(denoiser, 3.0, label=-1).given(label=torch.tensor([1]))
    >>> guided(torch.zeros(1, 2), 0.5)  # -1 + 3 (1 - -1)
    tensor([[5., 5.]])
    """

    def __init__(
        self, denoiser: AbstractDenoiser, weight: float, **unconditional: float | int
    ) -> None:
        super().__init__()
        self.cond = denoiser.cond if isinstance(denoiser, Conditioned) else {}
        self.denoiser = denoiser.denoiser if isinstance(denoiser, Conditioned) else denoiser
        self.weight, self.unconditional, self.schedule = weight, unconditional, denoiser.schedule

    def keep(self, rows: Tensor, like: Tensor) -> None:
        """Keep only `rows` of what is held for each row of `like`."""
        self.cond = kept_conditions(self.cond, rows, like)

    def estimate(self, x_t: Tensor, t: Times, **cond: Any) -> Estimate:
        """Return the guided means, with the variance of the conditional ones."""
        cond = {**self.cond, **cond}
        lacking = [name for name in self.unconditional if name not in cond]
        if lacking:
            raise InputError(
                f"guidance: it needs the condition {lacking[0]}, and none was given; "
                f"give {lacking[0]}=."
            )
        hidden = {
            name: torch.full_like(cond[name], value) for name, value in self.unconditional.items()
        }
        both = {name: torch.cat([value, {**cond, **hidden}[name]]) for name, value in cond.items()}
        times = torch.cat([t, t]) if t.ndim else t
        pair = self.denoiser.estimate(torch.cat([x_t, x_t]), times, **both)
        (x_c, x_u), (z_c, z_u) = pair.x_hat.chunk(2), pair.z_hat.chunk(2)
        v = None if pair.v is None else pair.v.chunk(2)[0]
        return _guided(Estimate(x_c, z_c, v), Estimate(x_u, z_u), self.weight)


@final
class Autoguided(AbstractDenoiser):
    """A denoiser moved away from a weaker version of itself.

    Karras et al. (2024), "Guiding a diffusion model with a bad version of itself", Eq. 3. The
    weaker one is trained for less long, or smaller, on the same data and the same schedule.

    Args:
        denoiser: the one that is guided.
        weaker: the one that it is moved away from, on the same schedule.
        weight: of the difference; 1 is no guidance.
    """

    def __init__(self, denoiser: AbstractDenoiser, weaker: AbstractDenoiser, weight: float) -> None:
        super().__init__()
        self.denoiser, self.weaker, self.weight = denoiser, weaker, weight
        self.schedule = denoiser.schedule

    def estimate(self, x_t: Tensor, t: Times, **cond: Any) -> Estimate:
        """Return the means moved away from the weaker denoiser's."""
        return _guided(
            self.denoiser.estimate(x_t, t, **cond),
            self.weaker.estimate(x_t, t, **cond),
            self.weight,
        )


@final
class Interval(AbstractDenoiser):
    """`guided` where low <= sigma/alpha <= high, `plain` elsewhere (Kynkaanniemi et al.

    2024, Eq. 6).

    Guidance hurts at high noise, where it narrows what can still be chosen, and does nothing at
    low.

    Args:
        guided: the denoiser inside the interval.
        plain: the denoiser outside of it.
        low: the lowest noise level sigma/alpha that is guided.
        high: the highest.
    """

    def __init__(
        self,
        guided: AbstractDenoiser,
        plain: AbstractDenoiser,
        low: float = 0.0,
        high: float = float("inf"),
    ) -> None:
        super().__init__()
        self.guided, self.plain, self.low, self.high = guided, plain, low, high
        self.schedule = plain.schedule

    def estimate(self, x_t: Tensor, t: Times, **cond: Any) -> Estimate:
        """Return the guided means for the rows in the interval, the plain ones for the others."""
        alpha, sigma = self.schedule(t)
        inside = (self.low * alpha <= sigma) & (
            sigma <= self.high * alpha if self.high < float("inf") else True
        )
        if bool(inside.all()):
            return self.guided.estimate(x_t, t, **cond)
        plain = self.plain.estimate(x_t, t, **cond)
        if not bool(inside.any()):
            return plain
        guided, pick = self.guided.estimate(x_t, t, **cond), expand(inside.double(), x_t) > 0
        return Estimate(
            torch.where(pick, guided.x_hat, plain.x_hat),
            torch.where(pick, guided.z_hat, plain.z_hat),
            plain.v,
        )


@final
class ClassifierGuided(AbstractDenoiser):
    """score + w grad log p(y | x_t), that is z_hat - w sigma grad log p(y | x_t).

    Dhariwal and Nichol (2021), Eq. 14. With the exact classifier and w = 1 it is the exact denoiser
    given y. Where alpha = 0 the classifier says nothing about x, and x_hat is left as it is.

    Args:
        denoiser: of all classes.
        log_prob: `log_prob(x_t, t)` gives log p(y | x_t) in nats (B,) of the y to be sampled, for
            noisy x_t, differentiable in it.
        weight: w.
    """

    def __init__(
        self,
        denoiser: AbstractDenoiser,
        log_prob: Callable[[Tensor, Times], Tensor],
        weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.denoiser, self.log_prob, self.weight = denoiser, log_prob, weight
        self.schedule = denoiser.schedule

    def keep(self, rows: Tensor, like: Tensor) -> None:
        """Keep only `rows` of what is held for each row of `like`."""
        log_prob = self.log_prob  # of all rows: it is asked with the others filled in

        def of_kept(x_t: Tensor, t: Times) -> Tensor:
            place = torch.zeros(len(like), dtype=torch.int64)
            place[rows] = torch.arange(len(rows))
            whole = log_prob(x_t[place.to(x_t.device)], t[place.to(t.device)] if t.ndim else t)
            return whole[rows.to(whole.device)]

        self.log_prob = of_kept

    def estimate(self, x_t: Tensor, t: Times, **cond: Any) -> Estimate:
        """Return the means moved along the classifier's gradient."""
        x_hat, z_hat, v = self.denoiser.estimate(x_t, t, **cond)
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        with torch.inference_mode(False), torch.enable_grad():  # `sample` runs without gradients
            x = x_t.detach().clone().requires_grad_()
            (gradient,) = torch.autograd.grad(self.log_prob(x, t).sum(), x)
        shift = self.weight * sigma * gradient  # of z_hat; that of x_hat is sigma/alpha times it
        ratio = torch.where(alpha > 0, sigma / alpha.clamp(min=torch.finfo(alpha.dtype).tiny), 0.0)
        return Estimate(x_hat + ratio * shift, z_hat - torch.where(alpha > 0, 1.0, 0.0) * shift, v)


def _guided(a: Estimate, b: Estimate, weight: float) -> Estimate:
    """The combination b + weight (a - b), with the variance of a."""
    return Estimate(
        b.x_hat + weight * (a.x_hat - b.x_hat), b.z_hat + weight * (a.z_hat - b.z_hat), a.v
    )
