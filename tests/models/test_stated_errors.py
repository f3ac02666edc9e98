"""The standard error that is stated beside a likelihood, on every path: over 500 seeds the mean of
64 rows lies within 1.96 of it around the estimator's long-run mean in 95 % of the cases.
"""

from __future__ import annotations

import math

import pytest
import torch

from undiffuse.diffusion import DiscreteVP, LinearVP, Prior, linear_betas
from undiffuse.diffusion.likelihood.density import RungeKutta, log_density
from undiffuse.diffusion.likelihood.elbo import elbo
from undiffuse.diffusion.oracle import Mixture
from undiffuse.models.likelihood import Bound, Likelihood, Weighted, combined
from undiffuse.models.vae import BOUNDS

SEEDS, ROWS = 500, 64
N = SEEDS * ROWS
MEANS = torch.tensor([[-0.6, 0.2, 0.5], [0.5, -0.3, -0.4]]).double()


def noise(seed):
    generator = torch.Generator().manual_seed(seed)
    return lambda like: torch.randn(like.shape, dtype=like.dtype, generator=generator)


def exact(schedule):
    """The denoiser and prior of a mixture, and the same 64 rows for each seed."""
    oracle = Mixture(schedule, MEANS, torch.full((2, 3), 0.3).double())
    x = oracle.draw(ROWS, torch.Generator().manual_seed(1)).repeat(SEEDS, 1)
    return oracle, x, Prior(schedule, MEANS.mean(0), (MEANS.var(0, correction=0) + 0.09).sqrt())


def by_bound(levels=None, evaluations=None, width=None):
    schedule = LinearVP() if levels is None else DiscreteVP(betas=linear_betas(levels))
    oracle, x, prior = exact(schedule)
    cells = None
    if width is not None:
        x = width * ((x / width).floor() + 0.5)
        cells = (x - width / 2, x + width / 2)
    grid = None if levels is None else torch.arange(levels, 0, -1).double() / levels
    return elbo(oracle, x, prior, grid=grid, evaluations=evaluations, cells=cells, noise=noise(2))


def by_density():
    oracle, x, prior = exact(LinearVP())
    return log_density(oracle, x, prior, solver=RungeKutta(8), probes=4, noise=noise(3))


def by_draws(importance):
    """Values at places of a bin across which the log-density changes by 3 nats, and a probe's."""
    count = 8 if importance else 4
    shared, draw = noise(4)(torch.empty(N).double()), noise(5)
    steepness = torch.linspace(0, 3, ROWS).double().repeat(SEEDS)
    parts = [
        Likelihood(
            steepness * torch.special.ndtr(draw(shared))
            + 0.3 * (shared if importance else draw(shared)),
            torch.full_like(shared, 0.3),
            "estimate",
            1.0,
        )
        for _ in range(count)
    ]
    return combined(parts, importance)


def by_latent(how):
    """z ~ N(0, 1), x = z + N(0, 0.5^2), and a posterior that is too wide: 16 draws of z."""
    x = torch.linspace(-2, 2, ROWS).double().repeat(SEEDS)
    mean, std = 0.7 * x, 0.7
    e = noise(6)(x.expand(16, N))
    z = mean + std * e
    log_p = -(x - z).square() / 0.5 - math.log(0.5 * math.sqrt(2 * math.pi))
    log_ratio = (e.square() - z.square()) / 2 + math.log(std)
    divergence = (mean.square() + std**2 - 1) / 2 - math.log(std)
    nats, stderr = BOUNDS[how](log_p, log_ratio, divergence)
    return Likelihood(nats, stderr, "bound", 17.0)


PATHS = {
    "continuous bound": lambda: by_bound(evaluations=16),
    "every level": lambda: by_bound(levels=6),
    "some of the levels": lambda: by_bound(levels=60, evaluations=16),
    "whole numbers in cells": lambda: by_bound(evaluations=16, width=0.02),
    "density with probes": by_density,
    "averaged draws of the encoding": lambda: by_draws(False),
    "weighted draws of the encoding": lambda: by_draws(True),
    "bound of a vae": lambda: by_latent(Bound),
    "weighted bound of a vae": lambda: by_latent(Weighted),
}


DEAR = "density with probes"


@pytest.mark.parametrize(
    "path",
    [pytest.param(p, marks=pytest.mark.faults) if p == DEAR else p for p in PATHS],
)
def test_the_mean_of_rows_is_covered_as_often_as_stated(path):
    found = PATHS[path]()
    nats, stderr = found.nats.reshape(SEEDS, ROWS), found.stderr.reshape(SEEDS, ROWS)
    assert float(nats.var(0).max()) > 1e-8  # something is random here
    error = nats.mean(1) - nats.mean()
    said = stderr.square().sum(1).sqrt() / ROWS
    assert abs(float((error.abs() < 1.96 * said).double().mean()) - 0.95) <= 0.03
