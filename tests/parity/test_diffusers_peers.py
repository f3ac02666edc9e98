"""The schedulers of the installed diffusers against our steps: the same model, noise
levels and draws.

Both are given an exact denoiser of a mixture; the scheduler is run as published, its noise levels
(`sigmas`, that is sigma/alpha) are turned into times of ours by `schedule.inverse`, and all states
on the way are compared. It keeps sigmas in float32 and steps in it: 2e-5 relative to the state's
scale is what that leaves over ten steps (1e-4 where a scheduler takes differences of logarithms of
such sigmas, divided by small ones).
"""

from itertools import pairwise

import pytest
import torch

from undiffuse.diffusion import (
    BH1,
    DDIM,
    DEIS,
    EDM,
    Ancestral,
    Beta,
    DiscreteVP,
    DPMpp,
    DPMpp2S,
    Heun,
    UniPC,
    linear_betas,
)
from undiffuse.diffusion.oracle import Mixture

diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # theirs, of numpy
CHAIN = {
    "num_train_timesteps": 1000,
    "beta_start": 1e-4,
    "beta_end": 0.02,
    "beta_schedule": "linear",
}
VP = DiscreteVP(betas=linear_betas(1000))
STEPS = 10


def oracle(schedule):
    mean, std = (
        torch.tensor([[-1.0, 0.4], [1.0, 0.0]]).double(),
        torch.tensor([[0.3, 0.5], [0.2, 0.7]]).double(),
    )
    return Mixture(schedule, mean, std)


def start():
    return torch.randn(6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def grid_of(scheduler, schedule):
    """The scheduler's noise levels as times of `schedule`: from float32, with the last 0 kept."""
    return schedule.inverse(-2 * scheduler.sigmas.double().log())


def assert_same(ours, theirs, tolerance=2e-5):
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(
            mine, other.double(), rtol=tolerance, atol=tolerance * float(other.abs().max())
        )


def theirs_on_vp(scheduler, grid):
    """All states of a scheduler for x_t = alpha x + sigma z that is given the noise."""
    denoiser, x, states = oracle(VP), start(), []
    for t, k in zip(grid[:-1], scheduler.timesteps, strict=True):
        x = scheduler.step(denoiser.noise(x, t), k, x, return_dict=False)[0]
        states.append(x)
    return states


def ours(step, denoiser, x, grid):
    memory, states = None, []
    for t, s in pairwise(grid):
        x, memory = step(denoiser, x, t, s, memory, torch.zeros_like)
        states.append(x)
    return states


MULTISTEP = {
    "dpm_1": ("DPMSolverMultistepScheduler", {"solver_order": 1}, DPMpp(order=1)),
    "dpm_2": ("DPMSolverMultistepScheduler", {"solver_order": 2}, DPMpp()),
    "unipc_1": ("UniPCMultistepScheduler", {"solver_order": 1}, UniPC(p=1)),
    "unipc_2": ("UniPCMultistepScheduler", {"solver_order": 2}, UniPC()),
    "unipc_3": ("UniPCMultistepScheduler", {"solver_order": 3}, UniPC(p=3)),
    "unipc_1_bh1": (
        "UniPCMultistepScheduler",
        {"solver_order": 1, "solver_type": "bh1"},
        UniPC(p=1, b=BH1()),
    ),
    "unipc_2_bh1": (
        "UniPCMultistepScheduler",
        {"solver_order": 2, "solver_type": "bh1"},
        UniPC(b=BH1()),
    ),
    "deis_1": ("DEISMultistepScheduler", {"solver_order": 1}, DEIS(order=1)),
    "deis_2": ("DEISMultistepScheduler", {"solver_order": 2}, DEIS(order=2)),
    "deis_3": ("DEISMultistepScheduler", {"solver_order": 3}, DEIS(order=3)),
}


@pytest.mark.parametrize("name", MULTISTEP)
def test_multistep(name):
    """Twenty levels, to level 0: a step to zero noise is NaN there with UniPC, unless
    its order is lowered.
    """
    kind, options, step = MULTISTEP[name]
    last = {} if "DEIS" in kind else {"final_sigmas_type": "sigma_min"}
    scheduler = getattr(diffusers, kind)(**CHAIN, **options, **last, lower_order_final=False)
    scheduler.set_timesteps(20)
    grid = grid_of(scheduler, VP)
    assert_same(ours(step, oracle(VP), start(), grid), theirs_on_vp(scheduler, grid), 1e-4)


def test_singlestep():
    """Order 2: the levels in pairs, the second the point in between; the last step, to zero
    noise, of first order.
    """
    scheduler = diffusers.DPMSolverSinglestepScheduler(
        **CHAIN, solver_order=2, lower_order_final=True
    )
    scheduler.set_timesteps(9)
    grid = grid_of(scheduler, VP)
    theirs = theirs_on_vp(scheduler, grid)
    x, denoiser, states = start(), oracle(VP), []
    for t, m, s in zip(grid[:-2:2], grid[1:-1:2], grid[2::2], strict=True):
        r = float((VP.log_snr(m) - VP.log_snr(t)) / (VP.log_snr(s) - VP.log_snr(t)))
        x, _ = DPMpp2S(r=r)(denoiser, x, t, s, None, torch.zeros_like)
        states.append(x)
    states += ours(DPMpp(order=1), denoiser, x, grid[-2:])
    assert_same(states, [*theirs[1:-1:2], theirs[-1]])


@pytest.mark.parametrize(
    ("variance", "step"), [("fixed_small", Ancestral()), ("fixed_large", Ancestral(Beta()))]
)
def test_ddpm(variance, step):
    """Fifty of a thousand levels, the same draws: the strided chain's own variances."""
    scheduler = diffusers.DDPMScheduler(**CHAIN, variance_type=variance, clip_sample=False)
    scheduler.set_timesteps(50)
    times = torch.cat(
        [(scheduler.timesteps.double() + 1) / 1000, torch.zeros(1, dtype=torch.float64)]
    )
    draws, denoiser = torch.Generator().manual_seed(1), oracle(VP)
    x = y = start()
    ours_generator = torch.Generator().manual_seed(1)
    for (t, s), k in zip(pairwise(times), scheduler.timesteps, strict=True):
        y = scheduler.step(denoiser.noise(y, t), k, y, generator=draws, return_dict=False)[0]
        x, _ = step(
            denoiser,
            x,
            t,
            s,
            None,
            lambda x: torch.randn(x.shape, generator=ours_generator, dtype=x.dtype),
        )
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim(eta):
    scheduler = diffusers.DDIMScheduler(**CHAIN, clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(STEPS)
    times = torch.cat(
        [(scheduler.timesteps.double() + 1) / 1000, torch.zeros(1, dtype=torch.float64)]
    )
    denoiser, x, y = oracle(VP), start(), start()
    for i, ((t, s), k) in enumerate(zip(pairwise(times), scheduler.timesteps, strict=True)):
        z = (
            torch.zeros_like(x) if s == 0 else start().roll(i, 0)
        )  # theirs draws on the way to zero noise, too
        y = scheduler.step(
            denoiser.noise(y, t), k, y, eta=eta, variance_noise=z, return_dict=False
        )[0]
        x, _ = DDIM(eta=eta)(denoiser, x, t, s, None, lambda x, z=z: z)
        torch.testing.assert_close(x, y, rtol=2e-5, atol=2e-5)


def test_euler():
    """Euler in sigma on y = x/alpha is DDIM on any schedule; here on alpha = 1."""
    scheduler = diffusers.EulerDiscreteScheduler(**CHAIN)
    scheduler.set_timesteps(STEPS)
    schedule = EDM(sigma_max=float(scheduler.sigmas[0]))
    denoiser, grid = oracle(schedule), scheduler.sigmas.double() / float(scheduler.sigmas[0])
    first = x = schedule.sigma_max * start()
    states = []
    for t, k in zip(grid[:-1], scheduler.timesteps, strict=True):
        scheduler.scale_model_input(x, k)
        x = scheduler.step(denoiser.noise(x, t), k, x, return_dict=False)[0]
        states.append(x)
    assert_same(ours(DDIM(), denoiser, first, grid), states)


def test_heun():
    """Two evaluations a step but for the last; theirs stand on doubled timesteps."""
    scheduler = diffusers.HeunDiscreteScheduler(**CHAIN)
    scheduler.set_timesteps(STEPS)
    sigmas = scheduler.sigmas.double()
    schedule = EDM(sigma_max=float(sigmas[0]))
    denoiser, first, states = oracle(schedule), schedule.sigma_max * start(), []
    x = first
    for sigma, k in zip(torch.cat([sigmas[:1], sigmas[1:-1]]), scheduler.timesteps, strict=True):
        scheduler.scale_model_input(x, k)
        x = scheduler.step(denoiser.noise(x, sigma / sigmas[0]), k, x, return_dict=False)[0]
        states.append(x)
    grid = (
        torch.cat([sigmas[::2][:-1], sigmas[-1:]])
        if len(sigmas) % 2
        else torch.cat([sigmas[:1], sigmas[1::2]])
    )
    assert_same(ours(Heun(), denoiser, first, grid / sigmas[0]), [*states[1:-1:2], states[-1]])


@pytest.mark.parametrize(
    ("kind", "step"),
    [("EDMEulerScheduler", DDIM()), ("EDMDPMSolverMultistepScheduler", DPMpp())],
    ids=["euler", "dpm_2"],
)
def test_edm(kind, step):
    """On EDM's own levels; the scheduler wants the raw output F = (x_hat - c_skip x)/c_out."""
    scheduler = getattr(diffusers, kind)(sigma_min=0.002, sigma_max=80.0, sigma_data=0.5)
    scheduler.set_timesteps(20)
    schedule = EDM()
    denoiser, grid = oracle(schedule), scheduler.sigmas.double() / 80
    first = x = 80 * start()
    states = []
    for t, k in zip(grid[:-1], scheduler.timesteps, strict=True):
        sigma = 80 * t
        scheduler.scale_model_input(x, k)
        F = (
            (denoiser(x, t) - 0.25 / (sigma**2 + 0.25) * x)
            / (sigma * 0.5)
            * (sigma**2 + 0.25).sqrt()
        )
        x = scheduler.step(F, k, x, return_dict=False)[0]
        states.append(x)
    assert_same(ours(step, denoiser, first, grid), states, 1e-4)
