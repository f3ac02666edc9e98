"""The two likelihoods of a diffusion model: the bound in its forms, and the flow's density."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from undiffuse.diffusion import AbstractDenoiser, Prior
from undiffuse.diffusion.likelihood.density import EXACT, Adaptive, RungeKutta, log_density
from undiffuse.diffusion.likelihood.elbo import elbo
from undiffuse.diffusion.steps.moves import ReverseVariance
from undiffuse.interfaces import Noise
from undiffuse.models.likelihood import Bound, Density, Likelihood

_BOUND = (
    "the bound of the reverse diffusion {form}; the density of the probability flow (--method ode) "
    "of the same network equals it only where the denoiser is exact"
)
_DENSITY = (
    "the density of the probability flow; the likelihood of the reverse diffusion (--method elbo) "
    "of the same network equals it only where the denoiser is exact"
)


class BoundForm(NamedTuple):
    """A form of the bound: each is valid, and which one loses least depends on the model.

    Attributes:
        levels: whether over the chain's own levels, and not in continuous time.
        cells: whether of whole numbers as such, where there are any, and not of dequantized ones.
        bins: the least noise in bins; 0: as little as the schedule has.
        binned: whether it differs from the others for whole numbers only.
    """

    levels: bool
    cells: bool
    bins: float
    binned: bool


BOUND_FORMS = (
    BoundForm(levels=False, cells=True, bins=2 / 3, binned=False),
    BoundForm(levels=False, cells=True, bins=0.0, binned=True),
    BoundForm(levels=False, cells=False, bins=0.0, binned=True),
    BoundForm(levels=True, cells=True, bins=0.0, binned=False),
    BoundForm(levels=True, cells=False, bins=0.0, binned=True),
)
"""The first serves until training ends. At two thirds of a bin a density that is smooth within bins
loses 0.01 bits a number, and at a fourth (edm on bytes) 0.22; one of few separate values loses
least with the least noise.
"""


def by_bound(
    denoiser: AbstractDenoiser,
    x: Tensor,
    prior: Prior,
    how: Bound,
    form: BoundForm,
    variance: ReverseVariance,
    cells: tuple[Tensor, Tensor] | None,
    noise: Noise,
) -> Likelihood:
    """The bound in this form, in continuous time or over the chain's own levels."""
    levels, grid, least = denoiser.schedule.levels, None, 0.0
    if form.levels and levels:
        grid = torch.arange(levels, 0, -1, dtype=torch.float64) / levels
    if cells is not None:
        inside = torch.minimum(x - cells[0], cells[1] - x)  # half a bin: x is at its centre
        least = form.bins * 2 * float(inside.min())
    bound = elbo(
        denoiser,
        x,
        prior,
        grid=grid,
        variance=variance,
        evaluations=how.evaluations,
        cells=cells,
        least=least,
        noise=noise,
    )
    where = "in continuous time" if grid is None else "over its own levels"
    meaning = _BOUND.format(form=where if cells is None else f"{where}, on whole numbers")
    return Likelihood(bound.nats, bound.stderr, "bound", float(bound.evaluations), meaning=meaning)


def by_density(
    denoiser: AbstractDenoiser, x: Tensor, prior: Prior, how: Density, noise: Noise
) -> Likelihood:
    """The density of the probability flow, exact or with an estimated trace."""
    solver = Adaptive(how.tolerance) if how.steps is None else RungeKutta(how.steps)
    settled = prior.settled()
    density = log_density(denoiser, x, settled, solver=solver, probes=how.probes, noise=noise)
    exact = (x[0].numel() <= EXACT) if how.probes is None else how.probes == 0
    return Likelihood(
        density.nats,
        (density.stderr.square() + settled.stderr() ** 2).sqrt(),
        "exact" if exact else "estimate",
        float(density.evaluations.double().mean()),
        float(density.products.double().mean()),
        meaning=_DENSITY,
    )
