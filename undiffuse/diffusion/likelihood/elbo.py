"""The evidence lower bound of each row, in named terms.

    log p(x) >= - L_T - sum_t L_{t-1} - L_0     (Ho et al. 2020, Eq. 5; Kim and Lee 2024, Eq. 28-33)

    L_T      KL( q(x_1 | x) || prior )                                              in closed form
    L_{t-1}  E_q KL( q(x_s | x_t, x) || p(x_s | x_t) )          for neighbours t > s of a grid
    L_0      -E_q log p(x | x_t) at the grid's last time, v_0 = (sigma/alpha)^2 about x_hat

A grid is any 1 = t_0 > ... > t_n > 0, not only the chain's own levels. Both Gaussians of L_{t-1}
have means linear in x and x_hat, so that with v the variance of p, beta-tilde that of q, and b =
alpha_s beta / sigma_t^2,

    L_{t-1} = 1/2 [ b^2 |x - x_hat|^2 / v + d (beta-tilde/v - 1 + log(v/beta-tilde)) ]

which for v = beta-tilde is (SNR_s - SNR_t)/2 |x - x_hat|^2. From x_t = alpha x + sigma z and x_t
= alpha x_hat + sigma z_hat follows x_hat - x = (sigma/alpha)(z - z_hat); the error is computed in
this form where alpha > sigma, which keeps its relative accuracy. Ever finer grids lead to the
continuous bound

    sum_t L_{t-1} -> 1/2 E int SNR |x - x_hat|^2 d log SNR            (Kingma et al. 2021, Eq. 17)

which depends on the schedule through its two ends only. The sum, or the integral, is computed in
full or estimated at K points: were the data Gaussian with variance s^2, |x - x_hat|^2 would be d
s^2 / (1 + s^2 SNR), so points are drawn in proportion to what the terms would then be, one in
each of K equally likely strata. Gaussian data have the largest error for their variance, so that
no term is ever much larger than its chance of being drawn.

Where there is little noise no denoiser can estimate it, z_hat is near 0 and |z_hat - z|^2 spreads
like |z|^2, with a variance of 2 d. Of that, c (|z|^2 - d) is subtracted, whose mean is known to
be 0, with c the square of |z_hat - z|^2 / d at the point before (the best c for Gaussian data):
the variance falls, and nothing else changes.

The discretized decoder makes L_0, and the bound, one on the probability of whole numbers
(`decoder`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from undiffuse.diffusion.denoiser import AbstractDenoiser, expand
from undiffuse.diffusion.gaussian import kl, nats_per_value
from undiffuse.diffusion.likelihood.decoder import log_mass
from undiffuse.diffusion.prior import Prior
from undiffuse.diffusion.schedules.process import LEAST_SCORED, Schedule, Times, as_times
from undiffuse.diffusion.steps.moves import BetaTilde, ReverseVariance
from undiffuse.diffusion.typed import ndtr
from undiffuse.errors import InputError
from undiffuse.interfaces import Noise

DRAWS = 4  # of L_0 and of each level of a chain: with fewer, a spread says little


class BoundTerms(NamedTuple):
    """-ELBO in its terms, nats (B,) float64.

    Attributes:
        prior: L_T.
        diffusion: the sum of L_{t-1}.
        decoder: L_0.
        stderr: the standard error of their sum.
        evaluations: evaluations of the network for each row.
        terms: (B, n), every L_{t-1} with t descending, where all of them were computed.
    """

    prior: Tensor
    diffusion: Tensor
    decoder: Tensor
    stderr: Tensor
    evaluations: int
    terms: Tensor | None = None

    @property
    def nats(self) -> Tensor:
        """The bound on log p(x), (B,)."""
        return -(self.prior + self.diffusion + self.decoder)


class _Sum(NamedTuple):
    """The estimate of sum L_{t-1} in its independent parts (B, n), and its variance (B,).

    `control` (B,) is that for the next point, `evaluations` how many there were.
    """

    parts: Tensor
    variance: Tensor
    control: Tensor
    evaluations: int


@torch.no_grad()
def elbo(
    denoiser: AbstractDenoiser,
    x: Tensor,
    prior: Prior,
    *,
    grid: Tensor | None = None,
    variance: ReverseVariance = BetaTilde(),  # noqa: B008 - immutable
    evaluations: int | None = None,
    cells: tuple[Tensor, Tensor] | None = None,
    least: float = 0.0,
    noise: Noise = torch.randn_like,
) -> BoundTerms:
    """Return the bound on log p(x) for each row, in nats.

    The standard error comes from repeated draws: of the decoder, and of each level where every
    level is taken. That of drawn points comes from second differences of neighbouring strata,
    which cancel what changes smoothly with t: of 8 points it is 5 % too small, of 12 or more less
    than 3 %. It leaves out nothing that is random.

    Args:
        denoiser: E[x | x_t].
        x: rows (B, *) at unit scale.
        prior: the density at t = 1.
        grid: descending times from 1, as a sampler takes them; a last time of 0 is the decoder's
            step and left out. None is the continuous bound.
        variance: the reverse variance v.
        evaluations: how many points of the grid or of the integral are drawn for each row, beside
            four of the decoder. If the grid has at most a quarter as many levels, or if None, every
            level and the decoder are drawn equally often, at least four times. The standard error
            of one or two points is nan.
        cells: the edges (low, high), each (B, *), of each value's bin at unit scale, for whole
            numbers, whose probability is then bounded. None is a density.
        least: the sigma/alpha at which the continuous bound ends, where the schedule goes on below.
        noise: draws standard normals.

    Raises:
        InputError: for a grid that does not descend from 1, and for a continuous bound without
            `evaluations`.

    >>> from undiffuse.diffusion import DiscreteVP, Levels, linear_betas
    >>> from undiffuse.diffusion.oracle import Gaussian
    >>> schedule = DiscreteVP(betas=linear_betas(200))
    >>> mean, std = torch.zeros(2).double(), torch.ones(2).double()
    >>> x, oracle = torch.zeros(1, 2).double(), Gaussian(schedule, mean, std)
    >>> bound = elbo(oracle, x, Prior(schedule, mean, std), grid=Levels()(schedule, 200),
    ...              noise=torch.zeros_like)
    >>> bound.terms.shape, bound.evaluations, float(bound.prior) < 1e-5
    (torch.Size([1, 199]), 800, True)
    """
    schedule = denoiser.schedule
    if grid is None and evaluations is None:
        raise InputError(
            "elbo: the continuous bound is an integral; say at how many points, "
            "e.g. evaluations=128."
        )
    if evaluations is not None and evaluations < 1:
        raise InputError(f"evaluations {evaluations}: a bound takes at least 1.")
    last = schedule.last_time(LEAST_SCORED)
    if least > 0:
        last = torch.maximum(last, schedule.inverse(as_times(-2 * math.log(least))))
    ends = torch.stack([as_times(1.0), last])
    times = ends if grid is None else _checked(grid)
    levels = len(times) - 1  # none, if sampling takes a single step
    draws = evaluations // levels if evaluations is not None and levels else DRAWS
    every = grid is not None and draws >= DRAWS
    if every or evaluations is None:
        total = _every_level(denoiser, x, times, variance, draws, noise)
    else:
        point = (
            _integrand(denoiser, prior, times)
            if grid is None
            else _summand(denoiser, prior, times, variance)
        )
        total = _drawn_points(point, x, evaluations, noise)
    above = None if grid is None or len(times) < 2 else times[-2]
    decodings = torch.stack(
        [
            _decoder(denoiser, x, times[-1], noise(x), total.control, variance, above, cells)
            for _ in range(draws if every else DRAWS)
        ]
    )
    return BoundTerms(
        prior=prior_term(schedule, x, prior),
        diffusion=total.parts.sum(1),
        decoder=decodings.mean(0),
        stderr=(total.variance + decodings.var(0) / len(decodings)).sqrt(),
        evaluations=total.evaluations + len(decodings),
        terms=total.parts if every else None,
    )


def _every_level(
    denoiser: AbstractDenoiser,
    x: Tensor,
    times: Tensor,
    variance: ReverseVariance,
    count: int,
    noise: Noise,
) -> _Sum:
    """Every L_{t-1}, each as the mean of `count` draws, whose spread shows how far it varies.

    On a chain neither the terms nor their variances change smoothly: the last varies most.
    """
    control, parts, variances = _nothing(x), [_nothing(x)[:, None][:, :0]], [_nothing(x)]
    for t, s in pairwise(times.unbind()):
        draws = [_level(denoiser, x, t, s, noise(x), control, variance) for _ in range(count)]
        terms, control = torch.stack([term for term, _ in draws]), draws[-1][1]
        parts.append(terms.mean(0)[:, None])
        variances.append(terms.var(0) / count)
    total = torch.stack(variances).sum(0)
    return _Sum(torch.cat(parts, 1), total, control, count * (len(times) - 1))


def _drawn_points(point: Point, x: Tensor, count: int, noise: Noise) -> _Sum:
    """The estimate from one point in each of `count` strata, whose variances change smoothly."""
    control = _nothing(x)
    terms: list[Tensor] = []
    for k in range(count):
        place = ndtr(noise(x.new_empty(len(x), 1)).double())[:, 0].cpu()
        term, control = point((k + place) / count, x, noise(x), control)
        terms.append(term / count)
    parts = torch.stack(terms, 1)
    if count < 3:
        return _Sum(parts, parts.new_full((len(x),), math.nan), control, count)
    bends = parts[:, 2:] - 2 * parts[:, 1:-1] + parts[:, :-2]  # of 6 times the variance
    return _Sum(parts, count / (count - 2) * bends.square().sum(1) / 6, control, count)


def _nothing(x: Tensor) -> Tensor:
    """(B,) zeros, float64."""
    return torch.zeros(len(x), dtype=torch.float64, device=x.device)


def prior_term(schedule: Schedule, x: Tensor, prior: Prior) -> Tensor:
    """Return L_T = KL( N(alpha_1 x, sigma_1^2) || prior ) of each row (B, *), nats (B,)."""
    alpha, sigma = schedule(as_times(1.0))
    axes, variance = prior.axes()
    y = prior.along_axes(alpha * (x.double() - prior.mean.double()), axes)
    squared = sigma.to(x.device) ** 2
    return kl(
        y, squared, torch.zeros_like(y), alpha.to(x.device) ** 2 * variance.double() + squared
    )


def _checked(grid: Tensor) -> Tensor:
    """The grid without a last time of 0. Raises InputError unless it descends from 1."""
    grid = grid[:-1] if grid[-1] == 0 else grid
    if len(grid) < 1 or grid[0] != 1 or bool((grid.diff() >= 0).any()) or grid[-1] <= 0:
        raise InputError("grid: a bound takes times that descend from 1 to a time above 0.")
    return grid


class _Error(NamedTuple):
    """x_hat - x (B, *), its unbiased squares (B, *), the denoiser's v, the next control (B,)."""

    error: Tensor
    squares: Tensor
    v: Tensor | None
    control: Tensor


def _error(denoiser: AbstractDenoiser, x: Tensor, t: Times, z: Tensor, control: Tensor) -> _Error:
    """The error at x_t = alpha x + sigma z, float64; `t` () or (B,), `control` set before z."""
    alpha, sigma = (expand(c, x) for c in denoiser.schedule(t))
    x_hat, z_hat, v = denoiser.estimate(alpha * x + sigma * z, t)
    error = torch.where(alpha > sigma, (sigma / alpha) * (z - z_hat), x_hat - x).double()
    snr = expand(denoiser.schedule.log_snr(t).exp(), error)
    c = expand(control, error)
    squares = error.square() - torch.where(c > 0, c / snr * (z.double().square() - 1), 0.0)
    share = (snr * error.square()).flatten(1).mean(1).clamp(max=1)
    return _Error(error, squares, None if v is None else v.double(), share.square())


def _level(
    denoiser: AbstractDenoiser,
    x: Tensor,
    t: Times,
    s: Times,
    z: Tensor,
    control: Tensor,
    variance: ReverseVariance,
) -> tuple[Tensor, Tensor]:
    """L_{t-1} of each row, nats (B,), at one draw of x_t, and the next control; t, s () or (B,)."""
    error = _error(denoiser, x, t, z, control)
    _, b, beta_tilde = (expand(c, error.error) for c in denoiser.schedule.posterior(t, s))
    beta = expand(denoiser.schedule.transition(t, s)[1], error.error)
    v_t = variance(beta, beta_tilde, error.v)
    same = torch.zeros_like(error.error)
    squares = (b**2 / v_t * error.squares).flatten(1).sum(1)
    return kl(same, beta_tilde, same, v_t) + squares / 2, error.control


def _decoder(
    denoiser: AbstractDenoiser,
    x: Tensor,
    t: Tensor,
    z: Tensor,
    control: Tensor,
    variance: ReverseVariance,
    above: Tensor | None,
    cells: tuple[Tensor, Tensor] | None,
) -> Tensor:
    """L_0 of each row, nats (B,), at one draw of x_t.

    v_0 = (sigma/alpha)^2, the variance of x given x_t under a flat density (DDPM:
    beta_1 / (1 - beta_1)). Where the variance is learned, v interpolates between that and the
    beta-tilde of the level `above`, as in training.
    """
    error = _error(denoiser, x, t, z, control)
    alpha, sigma = denoiser.schedule(t)
    v_0 = ((sigma / alpha) ** 2).to(x.device)
    if error.v is not None and above is not None:
        beta_tilde = denoiser.schedule.posterior(above, t)[2].to(x.device)
        v_0 = variance(v_0, torch.minimum(beta_tilde, v_0), error.v)
    if cells is None:
        return nats_per_value(error.squares, v_0).flatten(1).sum(1)
    return -log_mass(x.double() + error.error, v_0.sqrt(), *cells).flatten(1).sum(1)


Point = Callable[[Times, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(u, x, z, control) -> (an unbiased estimate of the whole sum from one point, the next control).

The point is at u (B,), uniform in (0, 1); the estimate is in nats (B,).
"""


def _data_variance(schedule: Schedule, prior: Prior, last: Tensor) -> Tensor:
    """s^2, the mean over coordinates, and no less than the variance of the least noise."""
    alpha, sigma = schedule(last)
    return torch.maximum(prior.std.double().square().mean().cpu(), (sigma / alpha) ** 2)


def _integrand(denoiser: AbstractDenoiser, prior: Prior, ends: Tensor) -> Point:
    """The continuous bound, log SNR drawn in proportion to s^2 SNR / (1 + s^2 SNR)."""
    schedule = denoiser.schedule
    s2 = _data_variance(schedule, prior, ends[-1])
    # the integral of that density is log(1 + s^2 SNR)
    low, high = torch.nn.functional.softplus(schedule.log_snr(ends) + s2.log())

    def point(u: Times, x: Tensor, z: Tensor, control: Tensor) -> tuple[Tensor, Tensor]:
        log_snr = torch.log(torch.expm1(low + u * (high - low))) - s2.log()
        t = schedule.inverse(log_snr).clamp(float(ends[-1]), 1.0)
        error = _error(denoiser, x, t, z, control)
        weight = (high - low) / 2 * (schedule.log_snr(t).exp() + 1 / s2)
        return weight.to(x.device) * error.squares.flatten(1).sum(1), error.control

    return point


def _summand(
    denoiser: AbstractDenoiser, prior: Prior, grid: Tensor, variance: ReverseVariance
) -> Point:
    """One L_{t-1}, drawn in proportion to its value for Gaussian data.

    Where v is learned, v = beta-tilde there.
    """
    schedule, t, s = denoiser.schedule, grid[:-1], grid[1:]
    s2 = _data_variance(schedule, prior, grid[-1])
    _, b, beta_tilde = schedule.posterior(t, s)
    beta = schedule.transition(t, s)[1]
    v_t = beta_tilde if variance.learned else variance(beta, beta_tilde, None)
    error = b * (s2 / (1 + s2 * schedule.log_snr(t).exp())).sqrt()
    value = kl(error[:, None], beta_tilde[:, None], 0 * error[:, None], v_t[:, None])
    chance = value / value.sum()
    above = chance.cumsum(0)

    def point(u: Times, x: Tensor, z: Tensor, control: Tensor) -> tuple[Tensor, Tensor]:
        i = torch.searchsorted(above, u).clamp(max=len(t) - 1)
        value, control = _level(denoiser, x, t[i], s[i], z, control, variance)
        return value / chance[i].to(x.device), control

    return point
