"""The closed forms, checked where the library is installed: law, error and bound.

A law returns its error, which is to stay at or below its bound. The bounds are those of the test
suite, and none of the truths comes from the code it is compared with: cumulative products,
textbook posteriors, exact densities, stationary variances. What this catches is an environment
that computes wrongly: a broken build, a lossy matrix library.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import cycle, pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from undiffuse.diffusion import (
    DDIM,
    EDM,
    SCHEDULES,
    TARGETS,
    Ancestral,
    BetaTilde,
    DiscreteVP,
    Heun,
    Karras,
    Levels,
    LinearVP,
    LogSNR,
    Prior,
    Schedule,
    gaussian,
    linear_betas,
    sample,
)
from undiffuse.diffusion.likelihood.decoder import log_mass
from undiffuse.diffusion.likelihood.density import Adaptive, log_density
from undiffuse.diffusion.likelihood.elbo import DRAWS, elbo
from undiffuse.diffusion.oracle import Gaussian, Points
from undiffuse.diffusion.schedules.process import LEAST_SCORED, as_times
from undiffuse.diffusion.target import regression_target


class Finding(NamedTuple):
    """A law by name, the error found and the bound it is held to."""

    law: str
    error: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the error is within its bound; nan is not."""
        return self.error <= self.bound


def findings() -> Iterator[Finding]:
    """Every law in turn."""
    for law, (bound, error) in LAWS.items():
        yield Finding(law, error(), bound)


def _normals(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def knots() -> float:
    """alpha^2 of the chain at its knots against the cumulative product of 1 - beta."""
    betas = linear_betas(1000)
    t = torch.arange(1, 1001, dtype=torch.float64) / 1000
    product = (1 - torch.tensor(betas, dtype=torch.float64)).cumprod(0)
    return float(((DiscreteVP(betas=betas)(t)[0] ** 2 - product) / product).abs().max())


def ancestral() -> float:
    """The ancestral step against Ho et al. (2020), Eq. 7, with the same noise, at every level."""
    betas = torch.tensor(linear_betas(50), dtype=torch.float64)
    bar = (1 - betas).cumprod(0)
    schedule, x, x_t, z = (
        DiscreteVP(betas=tuple(betas.tolist())),
        _normals(1, 4),
        2 * _normals(3, 4),
        _normals(3, 4),
    )
    worst = 0.0
    for i in range(1, 50):
        t, s = as_times((i + 1) / 50), as_times(i / 50)
        moved, _ = Ancestral(BetaTilde())(Points(schedule, x), x_t, t, s, None, lambda like: z)
        beta, above, below = betas[i], bar[i], bar[i - 1]
        mean = (below.sqrt() * beta * x + (1 - beta).sqrt() * (1 - below) * x_t) / (1 - above)
        worst = max(
            worst, float((moved - mean - (beta * (1 - below) / (1 - above)).sqrt() * z).abs().max())
        )
    return worst


def targets() -> float:
    """Every target gives back x, relative to the terms that it is the sum of."""
    t, x, z, worst = (
        torch.linspace(0.05, 0.95, 19, dtype=torch.float64),
        _normals(19),
        _normals(19),
        0.0,
    )
    for schedule in _schedules():
        alpha, sigma = schedule(t)
        for chosen in (one for target in TARGETS.values() for one in target.examples().values()):
            c_skip, c_out = chosen.row(schedule, t)
            c_x, c_z = regression_target(schedule, chosen, t)
            skip, out = c_skip * (alpha * x + sigma * z), c_out * (c_x * x + c_z * z)
            worst = max(worst, float(((skip + out - x).abs() / (skip.abs() + out.abs())).max()))
    return worst


def _schedules() -> list[Schedule]:
    return [
        SCHEDULES[name]() for name in ("linear_vp", "cosine_vp", "subvp", "ve", "linear", "edm")
    ]


def gaussian_moments(
    schedule: Schedule, t: Tensor, mean: Tensor, std: Tensor
) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of x_t for data N(mean, std^2), () or (n,) for `t`.

    The probability flow of such data carries quantiles to quantiles.
    """
    alpha, sigma = schedule(t)
    return alpha * mean, ((alpha * std) ** 2 + sigma**2).sqrt()


def open_bins(levels: int) -> Tensor:
    """Return the edges (levels + 1,) of whole numbers spread over [-1, 1], open at both ends."""
    edges = 2 * torch.arange(levels + 1, dtype=torch.float64) / levels - 1
    edges[0], edges[-1] = -math.inf, math.inf
    return edges


def orders() -> float:
    """The observed order of Heun's step and DDIM on a Gaussian's flow, against 2 and 1."""
    schedule, std = EDM(), 0.5
    oracle, x = (
        Gaussian(schedule, torch.zeros(1).double(), torch.full((1,), std).double()),
        _normals(8, 1),
    )
    found = []
    for step, order in ((Heun(), 2), (DDIM(), 1)):
        errors = []
        for n in (128, 256):
            grid = Karras()(schedule, n)[:-1]
            _, spread = gaussian_moments(schedule, grid, as_times(0.0), as_times(std))
            end = sample(oracle, spread[0] * x, grid, step)
            errors.append(float((end - spread[-1] * x).abs().max()))
        found.append(abs(math.log2(errors[0] / errors[1]) - order))
    return max(found)


def density() -> float:
    """Log p by the probability-flow ODE against the Gaussian's own, on every schedule: nats."""
    worst = 0.0
    for schedule in _schedules():
        mean, std = 0.3 * _normals(1, 2, 2), torch.full((1, 2, 2), 0.6).double()
        oracle, x = Gaussian(schedule, mean, std), mean + 0.6 * _normals(2, 1, 2, 2)
        found = log_density(oracle, x, Prior(schedule, mean, std), solver=Adaptive(1e-6)).nats
        t = schedule.last_time(LEAST_SCORED)
        alpha, sigma = schedule(t)
        exact = gaussian.log_prob(x, mean, std**2 + (sigma / alpha) ** 2)
        worst = max(worst, float((found - exact).abs().max()))
    return worst


def expected_gap(
    schedule: Schedule, steps: int, x: Tensor, mean: float = 0.4, std: float = 0.5
) -> Tensor:
    """Return log p(x) - E[ELBO] for N(mean, std^2) and its exact denoiser, nats (B,), exact.

    Every term is a quadratic in its noise z, so that the three-point Gauss-Hermite rule gives its
    expectation; each term's z, the same in all its draws, runs over the rule's points
    independently of that of its two neighbours.
    """
    one = torch.ones(1, dtype=torch.float64)
    oracle, prior = (
        Gaussian(schedule, mean * one, std * one),
        Prior(schedule, mean * one, std * one),
    )
    nodes, weights = (
        torch.tensor([-(3**0.5), 0.0, 3**0.5]).double(),
        torch.tensor([1.0, 4.0, 1.0]).double() / 6,
    )
    points, weight = (
        torch.cartesian_prod(nodes, nodes),
        torch.cartesian_prod(weights, weights).prod(1),
    )
    turns = cycle(points.T.repeat(1, len(x)).repeat_interleave(DRAWS, 0)[..., None])
    rows = x.repeat_interleave(len(points), 0)
    bound = elbo(
        oracle, rows, prior, grid=LogSNR()(schedule, steps), noise=lambda like: next(turns)
    )
    return oracle.log_prob(x) - (bound.nats.reshape(len(x), -1) * weight).sum(1)


def gap() -> float:
    """How far four times the steps are from a quarter of the bound's gap, as a share."""
    x = torch.tensor([[-0.3], [0.4], [1.2]], dtype=torch.float64)
    coarse, fine = (float(expected_gap(LinearVP(t_min=1e-5), n, x).mean()) for n in (128, 512))
    return abs(4 * fine / coarse - 1)


def decoder() -> float:
    """How far the masses of all bins are from a sum of 1, at 8 and 16 bits."""
    worst = 0.0
    for levels in (2**8, 2**16):
        edges = open_bins(levels)
        for std in (1e-3, 0.1, 10.0):
            mass = log_mass(as_times(0.123), as_times(std), edges[:-1], edges[1:]).exp()
            worst = max(worst, abs(float(mass.sum()) - 1))
    return worst


def point() -> float:
    """DDIM carries any noise to a data set of one point, exactly, in any number of steps."""
    row, worst = _normals(1, 3), 0.0
    for schedule in _schedules():
        for steps in (2, 7):
            grid = LogSNR()(schedule, steps)
            worst = max(
                worst,
                float(
                    (sample(Points(schedule, row), 3 * _normals(4, 3), grid, DDIM()) - row)
                    .abs()
                    .max()
                ),
            )
    return worst


def stationary_variance() -> float:
    """The stationary variance of Langevin dynamics on N(0, s^2): 2 e / (1 - (1 - e/s^2)^2)."""
    s2, step = 0.25, 0.02
    oracle = Gaussian(EDM(), torch.zeros(1).double(), torch.full((1,), s2**0.5).double())
    t = as_times(EDM().t_min)
    k = s2 + EDM().sigma_min ** 2
    slope = float(oracle.score(torch.ones(1, 1).double(), t))
    factor = 1 + step * slope
    variance = 0.0
    for _ in range(400):
        variance = factor**2 * variance + 2 * step
    return abs(variance - 2 * step / (1 - (1 - step / k) ** 2))


def divergence() -> float:
    """KL between Gaussians against the integral of p log(p/q)."""
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64)[:, None]
    one = torch.ones(1, 1, dtype=torch.float64)
    log_p, log_q = (
        gaussian.log_prob(x, 0 * one, one),
        gaussian.log_prob(x, 0.5 * one, 2 * one),
    )
    integral = float((log_p.exp() * (log_p - log_q)).sum() * (x[1, 0] - x[0, 0]))
    return abs(integral - float(gaussian.kl(0 * one, one, 0.5 * one, 2 * one)))


def posterior_weights() -> float:
    """L_{t-1}'s weight b^2 / (2 beta-tilde) against (SNR_s - SNR_t) / 2, at every level."""
    schedule, worst = DiscreteVP(betas=linear_betas(1000)), 0.0
    for t, s in pairwise(Levels()(schedule, 1000)[:-1].unbind()):
        _, b, beta_tilde = schedule.posterior(t, s)
        want = (schedule.log_snr(s).exp() - schedule.log_snr(t).exp()) / 2
        worst = max(worst, abs(float(b**2 / (2 * beta_tilde) / want) - 1))
    return worst


LAWS: dict[str, tuple[float, Callable[[], float]]] = {
    "schedule at its knots = cumulative product": (4 * 2.3e-16 * 1000**0.5, knots),
    "ancestral step = textbook posterior": (1e-11, ancestral),
    "every target gives back x": (1e-13, targets),
    "observed order = declared order": (0.2, orders),
    "probability-flow log-density = exact": (1e-6, density),
    "bound's gap: a quarter at four times the steps": (0.1, gap),
    "bound's weights = differences of SNR": (1e-9, posterior_weights),
    "decoder's masses sum to 1": (1e-14, decoder),
    "DDIM reproduces a point": (1e-10, point),
    "Langevin dynamics: stationary variance": (1e-9, stationary_variance),
    "Gaussian divergence = integral": (1e-9, divergence),
}
"""Law -> (bound, its error)."""
