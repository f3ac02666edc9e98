"""The sums that diffusers pins in its own scheduler tests, from our steps, in float64 and
without diffusers.

Their tests run a scheduler on a fixed sample, x_i = i/768, with a fixed "model", x -> x k/(k + 1)
at levels k = 0 .. 999, and pin the sum and the mean of |x| at the end. Here the model is a
network in a `Denoiser`, their levels the knots t = (k + 1)/1000 of a `DiscreteVP` chain, and
their options grids and steps of ours. Each number is from
tests/schedulers/test_scheduler_<name>.py of huggingface/diffusers; the tolerance is theirs: 1e-2
on the sum, 1e-3 on the mean. What is theirs alone:

- "linspace" spacing is `round(linspace(0, 999, n + 1))`, without its last; "leading" is 100 apart
  from 0.
- The last step goes to zero noise, or with final_sigmas_type="sigma_min" to level 0, that is
  t = 1/1000.
- lower_order_final, their default for fewer than 15 steps, makes the last step one of first order.
- DPM-Solver singlestep of order 2 takes the levels in pairs, the second of each as the point in
  between.
- Euler and Heun are tested with the state overwritten by the scaled model input after every
  evaluation, which is no sampler: Euler is run here with the same mistake, Heun cannot be (its
  stages are inside one step) and is compared with the scheduler itself, as is the rest, in
  `test_diffusers_peers.py`.
"""

import math
from itertools import pairwise

import pytest
import torch

from undiffuse.diffusion import (
    DDIM,
    DEIS,
    EDM,
    Ancestral,
    Clipped,
    Denoiser,
    DiscreteVP,
    DPMpp,
    DPMpp2S,
    Level,
    Levels,
    UniPC,
    linear_betas,
    sample,
)
from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate
from undiffuse.diffusion.grid import Karras
from undiffuse.diffusion.target import NoiseTarget, Preconditioned, VTarget

CHAIN = DiscreteVP(betas=linear_betas(1000))
TARGETS = {"epsilon": NoiseTarget(), "v_prediction": VTarget()}


def start(reverse=False):
    """Their dummy_sample_deter (4, 3, 8, 8), or dummy_noise_deter, the same from the other end."""
    x = torch.arange(768, dtype=torch.float64)
    return (x.flip(0) if reverse else x).reshape(3, 8, 8, 4).permute(3, 0, 1, 2) / 768


def dummy(prediction="epsilon", schedule=CHAIN):
    """Their dummy_model; the level k is told as k + 1 = 1000 t."""

    def network(x, c_noise):
        k = c_noise.double().reshape(-1, 1, 1, 1) - 1
        return x * k / (k + 1)

    return Denoiser(network, schedule, TARGETS[prediction], condition=Level())


def knots(levels, last=0.0):
    return torch.tensor([*((k + 1) / 1000 for k in levels), last], dtype=torch.float64)


def linspace(steps):
    return torch.linspace(0, 999, steps + 1, dtype=torch.float64).round().flip(0)[:-1].tolist()


def assert_pinned(x, mean, total=None):
    assert float(x.abs().mean()) == pytest.approx(mean, abs=1e-3)
    if total is not None:
        assert float(x.abs().sum()) == pytest.approx(total, abs=1e-2)


@pytest.mark.parametrize(
    ("prediction", "total", "mean"),
    [("epsilon", 258.9606, 0.3372), ("v_prediction", 202.0296, 0.2631)],
)
def test_ddpm(prediction, total, mean):
    """test_scheduler_ddpm.py: 1000 levels, variance "fixed_small" (beta-tilde), clipped,
    the draws of seed 0.
    """
    generator = torch.manual_seed(0)

    def noise(like):
        return torch.randn(like.shape, generator=generator).double()

    # their draws are in the memory order of the model's output, which is that of the sample
    x = sample(Clipped(dummy(prediction)), start(), Levels()(CHAIN, 1000), Ancestral(), noise=noise)
    assert_pinned(x, mean, total)


class ClippedAlone(AbstractDenoiser):
    """x_hat clamped, z_hat left as it was: the default of their DDIM
    (use_clipped_model_output=False).
    """

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser, self.schedule = denoiser, denoiser.schedule

    def estimate(self, x_t, t, **cond):
        x_hat, z_hat, v = self.denoiser.estimate(x_t, t, **cond)
        return Estimate(x_hat.clamp(-1, 1), z_hat, v)


@pytest.mark.parametrize(
    ("prediction", "total", "mean"),
    [("epsilon", 172.0067, 0.223967), ("v_prediction", 52.5302, 0.0684)],
)
def test_ddim(prediction, total, mean):
    """test_scheduler_ddim.py: leading spacing, eta = 0, clipped without recomputing the
    noise (their default).
    """
    x = sample(ClippedAlone(dummy(prediction)), start(), knots(range(900, -1, -100)), DDIM())
    assert_pinned(x, mean, total)


@pytest.mark.parametrize(("prediction", "mean"), [("epsilon", 0.3301), ("v_prediction", 0.2251)])
def test_dpm_solver_multistep(prediction, mean):
    """test_scheduler_dpm_multi.py: order 2, midpoint, linspace, ten steps to level 0, all but
    the first of order 2.
    """
    assert_pinned(
        sample(dummy(prediction), start(), knots(linspace(10), last=1 / 1000), DPMpp()), mean
    )


def singlestep(denoiser, x, grid):
    """The levels in pairs, each a step with its own point in between."""
    level = CHAIN.log_snr
    for t, m, s in zip(grid[:-2:2], grid[1:-1:2], grid[2::2], strict=True):
        r = float((level(m) - level(t)) / (level(s) - level(t)))
        x, _ = DPMpp2S(r=r)(denoiser, x, t, s, None, torch.zeros_like)
    return x


@pytest.mark.parametrize(("prediction", "mean"), [("epsilon", 0.2791), ("v_prediction", 0.1453)])
def test_dpm_solver_singlestep(prediction, mean):
    """test_scheduler_dpm_single.py: order 2, linspace, ten levels and level 0: five steps."""
    assert_pinned(singlestep(dummy(prediction), start(), knots(linspace(10), last=1 / 1000)), mean)


def unipc(denoiser, x, grid, step):
    """All but the last step as they are; the last is of first order, from the corrected point."""
    memory = None
    for t, s in pairwise(grid[:-1]):
        x, memory = step(denoiser, x, t, s, memory, torch.zeros_like)
    t, s = grid[-2:]
    x_hat, _ = denoiser.split(x, t)
    (_, sigma_t), (alpha_s, sigma_s) = denoiser.schedule(t), denoiser.schedule(s)
    x = step.corrected(denoiser.schedule, x, t, x_hat, memory or [])
    h = (denoiser.schedule.log_snr(s) - denoiser.schedule.log_snr(t)) / 2
    return sigma_s / sigma_t * x - alpha_s * torch.expm1(-h) * x_hat


@pytest.mark.parametrize(("prediction", "mean"), [("epsilon", 0.2464), ("v_prediction", 0.1014)])
def test_unipc(prediction, mean):
    """test_scheduler_unipc.py: UniPC-2 with "bh2", linspace, ten steps to level 0, the
    last of first order.
    """
    assert_pinned(
        unipc(dummy(prediction), start(), knots(linspace(10), last=1 / 1000), UniPC()), mean
    )


def test_unipc_from_a_noised_sample():
    """test_full_loop_with_noise there: the last two of the ten levels, from the
    sample with noise added.
    """
    grid = knots(linspace(10)[8:], last=1 / 1000)
    alpha, sigma = CHAIN(grid[0])
    x = unipc(dummy(), alpha * start() + sigma * start(reverse=True), grid, UniPC())
    assert_pinned(x, 0.4109, 315.5757)


@pytest.mark.parametrize(("prediction", "mean"), [("epsilon", 0.23916), ("v_prediction", 0.091)])
def test_deis(prediction, mean):
    """test_scheduler_deis.py: order 2, log-rho, linspace, ten steps to level 0, the
    last of first order.
    """
    denoiser, grid = dummy(prediction), knots(linspace(10), last=1 / 1000)
    x = sample(denoiser, start(), grid[:-1], DEIS(order=2))
    assert_pinned(sample(denoiser, x, grid[-2:], DDIM()), mean)


def karras(steps, last):
    """EDM's noise levels from 80 to 0.002, as times of EDM()."""
    return torch.cat([Karras()(EDM(), steps)[:-1], torch.tensor([last / 80], dtype=torch.float64)])


def preconditioned(scaled):
    """The dummy model under EDM's preconditioning: it is told k = log(sigma)/4, and given c_in
    x (`scaled`) or x.
    """

    def network(x, c_noise):
        k = c_noise.double().reshape(-1, 1, 1, 1)
        c_in = 1.0 if scaled else ((4 * k).exp() ** 2 + 0.25).rsqrt()
        return x / c_in * k / (k + 1)

    return Denoiser(network, EDM(), Preconditioned(0.5), sigma_data=0.5)


def test_edm_euler():
    """test_scheduler_edm_euler.py: ten Karras levels to zero noise; Euler in sigma is
    DDIM; init_noise_sigma.
    """
    x = sample(preconditioned(scaled=True), math.sqrt(80**2 + 1) * start(), karras(10, 0.0), DDIM())
    assert_pinned(x, 0.044, 34.1855)


def test_edm_dpm_solver():
    """test_scheduler_edm_dpmsolver_multistep.py: ten Karras levels, the last twice; their test
    feeds the model x.
    """
    x = sample(preconditioned(scaled=False), start(), karras(10, 0.0)[:-1], DPMpp())
    assert_pinned(x, 0.0001)


def test_edm_dpm_solver_from_a_noised_sample():
    """test_full_loop_with_noise there: the last five of the ten levels."""
    grid = karras(10, 0.0)[5:-1]
    x = sample(
        preconditioned(scaled=False), start() + 80 * grid[0] * start(reverse=True), grid, DPMpp()
    )
    assert_pinned(x, 0.0106, 8.1661)


@pytest.mark.parametrize(
    ("prediction", "total", "mean"),
    [("epsilon", 10.0807, 0.0131), ("v_prediction", 0.0002, 2.2676e-06)],
)
def test_euler(prediction, total, mean):
    """test_scheduler_euler.py: 1100 levels, sigma interpolated linearly between them, the state
    scaled as they do.
    """
    betas = torch.linspace(1e-4, 0.02, 1100, dtype=torch.float64)
    alpha_bar = torch.cumprod(1 - betas, 0)
    table, levels = (
        ((1 - alpha_bar) / alpha_bar).sqrt(),
        torch.linspace(1099, 0, 10, dtype=torch.float64),
    )
    low = levels.floor().long()
    sigma = torch.lerp(table[low], table[(low + 1).clamp(max=1099)], levels - low)
    schedule, x = EDM(sigma_max=float(sigma[0])), start() * (sigma[0] ** 2 + 1).sqrt()
    for i, (t, s) in enumerate(pairwise(torch.cat([sigma, sigma.new_zeros(1)]) / sigma[0])):
        k, scale = levels[i], (sigma[i] ** 2 + 1).rsqrt()

        def network(
            x, c_noise, k=k, scale=scale
        ):  # c_in is undone: the state they step from is the scaled one
            return x / scale * k / (k + 1)

        target = TARGETS["epsilon"] if prediction == "epsilon" else VTarget()
        x, _ = DDIM()(Denoiser(network, schedule, target), x * scale, t, s, None, torch.zeros_like)
    assert_pinned(x, mean, total)
