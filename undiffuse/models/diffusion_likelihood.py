"""What a diffusion model says of the likelihood of rows at unit scale, by either of two methods.

elbo   the evidence lower bound, over the chain's own levels where the schedule has them and in continuous time where
       not, with the discretized decoder where `cells` are given: a bound, cheap in many dimensions
ode    the density by the change of variables along the probability-flow ODE: exact up to 64 dimensions, above them an
       unbiased estimate; without dequantization it is the density of the data blurred by the least noise
"""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from typing import Any

import torch
from torch import Tensor

from undiffuse.diffusion import AbstractDenoiser, Clipped, Prior
from undiffuse.diffusion.likelihood.density import EXACT, Adaptive, RungeKutta, log_density
from undiffuse.diffusion.likelihood.elbo import elbo
from undiffuse.diffusion.steps.base import ReverseVariance
from undiffuse.errors import InputError, unknown
from undiffuse.models.base import Noise
from undiffuse.models.likelihood import Likelihood

Cells = tuple[Tensor, Tensor]


CHEAP = 16  # coordinates up to which the exact trace, one product for each, costs no more than the bound


def default_method(dimensions: int) -> str:
    """ "ode" where its exact trace is cheap, "elbo" above.

    >>> default_method(16), default_method(784)
    ('ode', 'elbo')
    """
    return "ode" if dimensions <= CHEAP else "elbo"


_BOUND = (
    "the bound of the reverse diffusion; the probability flow of the same network, --method ode, has a density of its "
    "own, equal to the diffusion's only where the denoiser is exact"
)
_DENSITY = (
    "the density of the probability flow; the reverse diffusion of the same network, --method elbo, has a "
    "likelihood of its own, equal only where the denoiser is exact"
)


def likelihood(
    denoiser: AbstractDenoiser,
    x: Tensor,
    prior: Prior,
    *,
    noise: Noise,
    method: str | None = None,
    variance: ReverseVariance,
    data_range: tuple[float, float] | None,
    cells: Cells | None = None,
    **options: Any,
) -> Likelihood:
    """Log p(x) by `method`, a name in LIKELIHOODS; the options are those of its function below.

    `variance` is the reverse process's, `data_range` what x_hat is kept in, both for the bound alone.
    """
    method = default_method(x[0].numel()) if method is None else method
    if method not in LIKELIHOODS:
        raise unknown("method", "method of scoring", method, LIKELIHOODS)
    own = [
        name
        for name, one in signature(LIKELIHOODS[method]).parameters.items()
        if one.kind is one.KEYWORD_ONLY
    ]
    for name in options:
        if name not in own:
            raise InputError(
                f"method {method}: takes no {name}, only {', '.join(own)}; leave that option out."
            )
    return LIKELIHOODS[method](denoiser, x, prior, noise, variance, data_range, cells, **options)


def by_elbo(
    denoiser: AbstractDenoiser,
    x: Tensor,
    prior: Prior,
    noise: Noise,
    variance: ReverseVariance,
    data_range: tuple[float, float] | None,
    cells: Cells | None,
    *,
    evaluations: int = 64,
) -> Likelihood:
    """The bound, from `evaluations` points per row, or from every level once where there are no more of them."""
    levels = denoiser.schedule.levels
    grid = None if levels is None else torch.arange(levels, 0, -1, dtype=torch.float64) / levels
    every = levels is not None and levels - 1 <= evaluations
    kept = denoiser if data_range is None else Clipped(denoiser, *data_range)
    count = None if every else evaluations
    bound = elbo(
        kept, x, prior, grid=grid, variance=variance, evaluations=count, cells=cells, noise=noise
    )
    return Likelihood(bound.nats, bound.stderr, "bound", float(bound.evaluations), meaning=_BOUND)


def by_ode(
    denoiser: AbstractDenoiser,
    x: Tensor,
    prior: Prior,
    noise: Noise,
    variance: ReverseVariance,
    data_range: tuple[float, float] | None,
    cells: Cells | None,
    *,
    tolerance: float = 1e-5,
    steps: int | None = None,
    probes: int | None = None,
) -> Likelihood:
    """The density, each row to `tolerance`, or in `steps` equal Runge-Kutta steps; `probes` as `log_density`."""
    solver = Adaptive(tolerance) if steps is None else RungeKutta(steps)
    found = log_density(denoiser, x, prior.settled(), solver=solver, probes=probes, noise=noise)
    exact = (x[0].numel() <= EXACT) if probes is None else probes == 0
    evaluations, products = (
        float(count.double().mean()) for count in (found.evaluations, found.products)
    )
    kind = "exact" if exact else "estimate"
    return Likelihood(found.nats, found.stderr, kind, evaluations, products, meaning=_DENSITY)


LIKELIHOODS: dict[str, Callable[..., Likelihood]] = {"elbo": by_elbo, "ode": by_ode}
"""Methods of scoring by name."""
