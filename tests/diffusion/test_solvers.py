"""Laws of the fast solvers: exact on polynomials, DDIM at order 1, one evaluation a step; and
the learned variance.
"""

import math
from itertools import pairwise

import pytest
import torch
from cases import times
from scipy.integrate import quad

from undiffuse.diffusion import (
    BH1,
    BH2,
    DDIM,
    DEIS,
    EDM,
    IPNDM,
    Ancestral,
    Beta,
    BetaTilde,
    CosineVP,
    DiscreteVP,
    DPMpp,
    DPMpp2S,
    DPMppSDE,
    Learned,
    Levels,
    Linear,
    LinearVP,
    UniPC,
    linear_betas,
    sample,
)
from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate
from undiffuse.diffusion.oracle import Gaussian
from undiffuse.diffusion.steps.solvers import bend, moments
from undiffuse.errors import InputError


@pytest.mark.parametrize(
    "h", [1e-6, 0.03, 0.999, 1.001, 4.0, 40.0, -1e-6, -0.03, -0.999, -1.001, -4.0]
)
def test_moments_are_the_integrals(h):
    ours = moments(times(h)[0], 4)
    for k in range(4):
        exact, _ = quad(
            lambda r, k=k: h * math.exp(-(1 - r) * h) * r**k, 0, 1, epsabs=0, epsrel=1e-13
        )
        assert float(ours[k]) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("h", [0.02, 3.0, -0.02, -3.0])
@pytest.mark.parametrize("nodes", [(-1.0,), (1.0,), (-0.7, -2.1), (1.0, -0.4, -3.0)])
def test_a_polynomial_through_the_nodes_is_integrated_exactly(h, nodes):
    coefficients = [0.3, -1.1, 0.8, 0.5][: len(nodes) + 1]

    def p(r):
        return sum(c * r**k for k, c in enumerate(coefficients))

    h, r = times(h)[0], [times(node)[0] for node in nodes]
    ours = moments(h, 1)[0] * p(0.0) + bend(h, times(p(0.0)), r, [times(p(node)) for node in nodes])
    exact = quad(
        lambda r: float(h) * math.exp(-(1 - r) * float(h)) * p(r), 0, 1, epsabs=0, epsrel=1e-12
    )[0]
    assert float(ours) == pytest.approx(exact, rel=1e-9)


@pytest.mark.parametrize(
    "schedule", [LinearVP(), CosineVP(), EDM(), Linear()], ids=lambda s: type(s).__name__
)
def test_order_1_is_ddim(schedule):
    """With no other prediction at hand every solver takes the same step, and so does
    every first step.
    """
    oracle = Gaussian(schedule, torch.tensor([0.7]).double(), torch.tensor([0.6]).double())
    x, z = torch.randn(2, 5, 1).double()
    grid = times(1.0, 0.8, 0.3, 0.1, 0.0)
    expected = sample(oracle, x, grid, DDIM())
    for step in (DPMpp(order=1), DEIS(order=1), IPNDM(points=1)):
        torch.testing.assert_close(sample(oracle, x, grid, step), expected, rtol=1e-12, atol=1e-12)
    for step in (DPMpp(order=3), DEIS(), IPNDM(), UniPC(p=3), UniPC(p=1)):
        torch.testing.assert_close(step(oracle, x, *grid[:2], None, torch.zeros_like)[0], DDIM()(
            oracle, x, *grid[:2], None, torch.zeros_like
        )[0], rtol=1e-12, atol=1e-12)  # fmt: skip
    ours, theirs = (
        sample(oracle, x, grid, step, noise=lambda like: z)
        for step in (DPMppSDE(weak_order=1), DDIM(1.0))
    )
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_unipc_predicts_as_dpm_solver():
    """UniP-2 with B(h) = 1 - e^{-h} is DPM-Solver++(2M), UniP-3 is our third order: without the
    corrector, the same.
    """
    oracle = Gaussian(LinearVP(), torch.tensor([0.7]).double(), torch.tensor([0.6]).double())
    x, (t, s, u) = torch.randn(5, 1).double(), times(0.9, 0.7, 0.4)
    for order in (2, 3):
        moved, memory = DPMpp(order=order)(oracle, x, t, s, None, torch.zeros_like)
        unipc, x_hat = UniPC(p=order, b=BH2()), oracle(moved, s)
        before = oracle.schedule, moved, s, x_hat, memory
        shift = unipc.corrected(*before) - moved
        ours, theirs = unipc(oracle, moved, s, u, memory, torch.zeros_like)[0], None
        theirs = DPMpp(order=order)(oracle, moved, s, u, memory, torch.zeros_like)[0]
        ratio = oracle.schedule(u)[1] / oracle.schedule(s)[1]
        torch.testing.assert_close(ours - ratio * shift, theirs, rtol=1e-12, atol=1e-12)
        assert float(shift.abs().max()) > 1e-4


class Slope(AbstractDenoiser):
    """z_hat = u^k, whatever x is: the ODE dy/du = u^k has the solution u^(k + 1)/(k + 1)."""

    def __init__(self, k):
        super().__init__()
        self.schedule, self.k = EDM(sigma_max=1.0), k

    def estimate(self, x_t, t, **cond):
        z_hat = (t**self.k).expand_as(x_t)
        return Estimate(x_t - t * z_hat, z_hat)


@pytest.mark.parametrize("points", [1, 2, 3, 4])
def test_ipndm_is_adams_bashforth_on_even_noise_levels(points):
    """Where u = sigma/alpha falls evenly, as time does in EDM, slopes of degree points - 1 are
    integrated exactly.
    """
    for k in range(points + 1):
        grid, memory = torch.linspace(1.0, 0.4, 7, dtype=torch.float64), None
        exact = grid ** (k + 1) / (k + 1)
        x = exact[None, :1]
        for i, (t, s) in enumerate(pairwise(grid)):
            x, memory = IPNDM(points=points)(Slope(k), x, t, s, memory, torch.zeros_like)
            x = exact[None, i + 1, None] if i + 1 < points else x
        error = float((x - exact[-1]).abs())
        assert error < 1e-14 if k < points else error > 1e-5


class Counted(AbstractDenoiser):
    """Another denoiser, and how often it was asked."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser, self.schedule, self.calls, self.v = denoiser, denoiser.schedule, 0, None

    def estimate(self, x_t, t, **cond):
        self.calls += 1
        x_hat, z_hat, _ = self.denoiser.estimate(x_t, t)
        return Estimate(x_hat, z_hat, self.v)


@pytest.mark.parametrize(
    "step", [DPMpp(), DPMpp(order=3), DPMppSDE(), UniPC(), DEIS(), IPNDM()], ids=repr
)
def test_one_evaluation_a_step(step):
    """The corrector of UniPC, too, costs nothing; the singlestep method takes two but for the
    step to zero noise.
    """
    oracle = Counted(Gaussian(LinearVP(), torch.zeros(1).double(), torch.ones(1).double()))
    grid = times(1.0, 0.8, 0.5, 0.2, 0.0)
    sample(oracle, torch.randn(2, 1).double(), grid, step)
    assert oracle.calls == 4
    sample(oracle, torch.randn(2, 1).double(), grid, DPMpp2S())
    assert oracle.calls == 4 + 7


def test_learned_variance_lies_between_beta_tilde_and_beta():
    """v = 0 is beta-tilde, v = 1 is beta, in between the logarithm is linear: for all steps
    of a strided chain.
    """
    oracle = Counted(
        Gaussian(
            DiscreteVP(betas=linear_betas(100)), torch.zeros(3).double(), torch.ones(3).double()
        )
    )
    schedule, grid = oracle.schedule, Levels()(oracle.schedule, 7)
    x, ones = torch.randn(2, 3).double(), torch.ones(2, 3).double()
    for t, s in pairwise(grid[:-1]):
        moved = {}
        for name, variance, v in (
            ("beta_tilde", BetaTilde(), None),
            ("beta", Beta(), None),
            ("0", Learned(), 0 * ones),
            ("1", Learned(), ones),
            ("each", Learned(), times(0.0, 0.25, 1.0).expand(2, 3)),
        ):
            oracle.v = v
            step = Ancestral(variance)
            rest = step(oracle, x, t, s, None, torch.zeros_like)[0]
            moved[name] = (
                step(oracle, x, t, s, None, torch.ones_like)[0] - rest
            )  # one standard deviation
        torch.testing.assert_close(moved["0"], moved["beta_tilde"], rtol=1e-10, atol=0)
        torch.testing.assert_close(moved["1"], moved["beta"], rtol=1e-10, atol=0)
        a, beta = schedule.transition(t, s)
        assert float(beta) == pytest.approx(1 - float(a) ** 2, rel=1e-10)  # the strided chain's own
        mixed = moved["beta_tilde"][:, 1] ** 0.75 * moved["beta"][:, 1] ** 0.25
        torch.testing.assert_close(moved["each"][:, 1], mixed, rtol=1e-10, atol=0)


def test_learned_variance_needs_one():
    oracle = Gaussian(LinearVP(), torch.zeros(1).double(), torch.ones(1).double())
    with pytest.raises(InputError, match="predicts no variance; use beta or beta_tilde"):
        sample(oracle, torch.randn(2, 1).double(), times(1.0, 0.5, 0.0), Ancestral(Learned()))


@pytest.mark.parametrize(
    ("method", "option", "value"),
    [
        (DPMpp, "order", 4),
        (DPMppSDE, "weak_order", 3),
        (UniPC, "p", 0),
        (DEIS, "order", 4),
        (IPNDM, "points", 5),
    ],
)
def test_an_order_that_there_is_not_is_refused(method, option, value):
    with pytest.raises(InputError, match=f"{option} {value}: .* goes from 1 to "):
        method(**{option: value})


def test_b_of_h_changes_the_step_and_not_its_order():
    oracle = Gaussian(LinearVP(), torch.tensor([0.7]).double(), torch.tensor([0.6]).double())
    grid, x = times(0.9, 0.6, 0.3), torch.randn(5, 1).double()
    ours = [sample(oracle, x, grid, UniPC(b=b)) for b in (BH1(), BH2())]
    assert 1e-6 < float((ours[0] - ours[1]).abs().max()) < 0.1
