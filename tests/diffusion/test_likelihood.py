"""The probability-flow log-density is the exact marginal, on every schedule, for any shape,
under the right prior.
"""

from __future__ import annotations

import math

import pytest
import torch
from cases import SCHEDULE_CASES, times
from torch import nn

from undiffuse.diffusion import EDM, CosineVP, Denoiser, LinearVP, Prior
from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate, expand
from undiffuse.diffusion.likelihood.density import (
    MANY,
    POINTS,
    Adaptive,
    RungeKutta,
    clenshaw_curtis,
    log_density,
    places,
)
from undiffuse.diffusion.oracle import Gaussian, Mixture
from undiffuse.diffusion.schedules.process import LEAST_SCORED
from undiffuse.diffusion.target import Preconditioned
from undiffuse.errors import InputError
from undiffuse.nn.unet import UNet

FAST = {name: schedule for name, schedule in SCHEDULE_CASES.items() if schedule.module is None}


class AtOne:
    """An oracle's own marginal at t = 1."""

    time = 1.0

    def __init__(self, oracle):
        self.oracle = oracle

    def log_prob(self, x_1):
        return self.oracle.log_prob(x_1, 1.0)


def mixture(schedule, shape, components=3):
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(components, *shape, generator=generator).double()
    std = 0.3 + 0.5 * torch.rand(components, *shape, generator=generator).double()
    oracle = Mixture(schedule, mean, std)
    return oracle, oracle.draw(4, generator)


def truth(oracle, x):
    """The density of x_0 / alpha_0 at x."""
    t = oracle.schedule.last_time(LEAST_SCORED)
    alpha, _ = oracle.schedule(t)
    return oracle.log_prob(alpha * x, t) + x[0].numel() * alpha.log()


@pytest.mark.parametrize("shape", [(2,), (1, 2, 2)], ids=str)
@pytest.mark.parametrize("name", FAST)
def test_it_is_the_exact_marginal(name, shape):
    oracle, x = mixture(FAST[name], shape)
    found = log_density(oracle, x, AtOne(oracle), solver=Adaptive(1e-7))
    error = (found.nats - truth(oracle, x)).abs()
    assert float(error.max()) <= 1e-6
    assert (error <= found.stderr).all()
    assert float(found.stderr.max()) <= 1e-4
    assert torch.equal(found.products, found.evaluations * x[0].numel())


@pytest.mark.parametrize(
    ("name", "tolerance"), [*((name, 3e-4) for name in FAST), ("edm", 1e-7), ("cosine_vp", 1e-7)]
)
def test_a_trace_of_many_products_is_taken_at_few_points_of_the_path(name, tolerance):
    """And together with the path where these points are too few for the tolerance."""
    oracle, x = mixture(FAST[name], (MANY,))
    found = log_density(oracle, x, AtOne(oracle), solver=Adaptive(tolerance))
    error = (found.nats - truth(oracle, x)).abs()
    assert (error <= found.stderr).all()
    assert float(found.stderr.max()) <= 1000 * tolerance
    few = found.products == POINTS * MANY
    assert few.any() or tolerance < 1e-6
    assert (found.products[few] < MANY * found.evaluations[few] / 2).all()


def test_a_fixed_grid_comes_to_it_at_fourth_order():
    oracle, x = mixture(EDM(), (3,))
    errors = []
    for steps in (64, 128):
        found = log_density(oracle, x, AtOne(oracle), solver=RungeKutta(steps))
        errors.append(float((found.nats - truth(oracle, x)).abs().max()))
        assert (found.evaluations == 4 * steps + 4 * (steps // 2)).all()  # the half: its error
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.5)


@pytest.mark.parametrize("name", FAST)
def test_the_prior_may_stand_where_it_has_settled(name):
    """From there on nothing is left of the data but their moments: the number is the same, and
    no network is asked.
    """
    oracle, x = mixture(FAST[name], (2,))
    weight, mean, std = 1 / len(oracle.mean), oracle.mean.mean(0), oracle.std
    std = ((weight * (std**2 + oracle.mean**2)).sum(0) - mean**2).sqrt()
    prior = Prior(oracle.schedule, mean, std).settled()
    alpha, sigma = oracle.schedule(times(prior.time))
    asked = []

    class Watched(AbstractDenoiser):
        schedule = oracle.schedule

        def estimate(self, x_t, t, **cond):
            asked.append(float(t.max()))
            return oracle.estimate(x_t, t)

    found = log_density(Watched(), x, prior, solver=Adaptive(1e-7)).nats
    left = float((alpha * std / sigma).max())
    assert float((found - truth(oracle, x)).abs().max()) <= 1e-6 + 10 * left**2
    assert max(asked) <= float(prior.time) + 1e-12
    assert float(prior.time) == 1 or left == pytest.approx(math.exp(-5), rel=1e-3)


def test_rademacher_probes_are_unbiased_and_their_spread_is_the_standard_error():
    oracle, x = mixture(LinearVP(), (2, 3))
    x = x[:1].expand(500, -1, -1)
    generator = torch.Generator().manual_seed(3)
    found = log_density(
        oracle,
        x,
        AtOne(oracle),
        solver=RungeKutta(20),
        probes=3,
        noise=lambda like: torch.randn(like.shape, dtype=like.dtype, generator=generator),
    )
    exact = log_density(oracle, x[:1], AtOne(oracle), solver=RungeKutta(20)).nats
    spread = float(found.nats.std())
    assert abs(float(found.nats.mean() - exact)) <= 4.5 * spread / 500**0.5
    assert float(found.stderr.square().mean().sqrt()) == pytest.approx(spread, rel=0.15)
    single = log_density(oracle, x[:2], AtOne(oracle), solver=RungeKutta(2), probes=1)
    assert single.stderr.isnan().all()


def test_one_probe_is_exact_where_coordinates_are_independent():
    """e^T J e of a diagonal J is its trace, for e = +-1 and for no other distribution."""
    schedule, shape = EDM(), (1, 9, 9)
    mean, std = torch.zeros(shape).double(), torch.full(shape, 0.5).double()
    oracle = Gaussian(schedule, mean, std)
    x = oracle.draw(2, torch.Generator().manual_seed(0))
    found = log_density(oracle, x, Prior(schedule, mean, std), solver=Adaptive(1e-8))
    assert torch.equal(
        found.products, 4 * found.evaluations
    )  # 81 coordinates: two probes unless asked otherwise
    assert float((found.nats - truth(oracle, x)).abs().max()) <= 1e-6


@pytest.mark.parametrize(
    "schedule", [LinearVP(high=4.0), EDM(sigma_max=2.0)], ids=["linear_vp", "edm"]
)
def test_another_prior_is_another_number(schedule):
    """Where the data's moments still show at t = 1, a standard normal there is wrong by what it
    is wrong by there.
    """
    mean, std = torch.full((2,), 1.5).double(), torch.full((2,), 0.5).double()
    oracle = Gaussian(schedule, mean, std)
    x = oracle.draw(64, torch.Generator().manual_seed(0))
    right = log_density(oracle, x, Prior(schedule, mean, std), solver=Adaptive(1e-8)).nats
    wrong = log_density(oracle, x, Prior.standard(schedule, (2,)), solver=Adaptive(1e-8)).nats
    assert float((right - truth(oracle, x)).abs().max()) <= 1e-6
    assert float((right - wrong).mean()) > 0.1


class Broken(AbstractDenoiser):
    """An oracle that answers nan far out."""

    def __init__(self, oracle):
        super().__init__()
        self.oracle, self.schedule = oracle, oracle.schedule

    def estimate(self, x_t, t, **cond):
        x_hat, z_hat, _ = self.oracle.estimate(x_t, t)
        far = (x_t.abs() > 1000).flatten(1).any(1)[:, None]
        return Estimate(torch.where(far, torch.nan, x_hat), z_hat)


@pytest.mark.parametrize("solver", [Adaptive(1e-6), RungeKutta(8)], ids=["adaptive", "runge_kutta"])
def test_a_row_that_is_not_finite_says_so_and_spoils_no_other(solver):
    oracle, x = mixture(CosineVP(), (2,))
    for bad in (math.nan, math.inf, 1e6):
        spoilt = x.clone()
        spoilt[1] = bad
        found = log_density(Broken(oracle), spoilt, AtOne(oracle), solver=solver)
        alone = log_density(Broken(oracle), x[[0, 2, 3]], AtOne(oracle), solver=solver)
        assert found.nats[1].isnan()
        assert found.stderr[1].isnan()
        torch.testing.assert_close(found.nats[[0, 2, 3]], alone.nats, rtol=1e-9, atol=1e-9)


class Twice(nn.Module):
    """A network with a second half of outputs for the variance, which must not touch
    the density.
    """

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, c_noise):
        output = self.network(x, c_noise)
        return torch.cat([output, 3 * output.square()], 1)


def test_the_exact_trace_of_a_real_network_is_that_of_its_jacobian():
    torch.manual_seed(0)
    network = UNet(shape=(1, 4, 4), width=8).double().eval()
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    schedule, x = EDM(), torch.randn(2, 1, 4, 4).double()
    prior = Prior.standard(schedule, (1, 4, 4))
    plain = Denoiser(network, schedule, Preconditioned())
    learned = Denoiser(Twice(network), schedule, Preconditioned(), learned_variance=True)
    found = [log_density(d, x, prior, solver=RungeKutta(2)).nats for d in (plain, learned)]
    torch.testing.assert_close(*found)
    from undiffuse.diffusion.likelihood.density import slope_and_products

    t = times(0.01, 0.02)
    _, products = slope_and_products(
        plain, x, t, torch.eye(16).double().reshape(1, 16, 1, 4, 4).expand(2, -1, -1, -1, -1)
    )
    for i in range(2):

        def slope(y, i=i):
            alpha, sigma = schedule(t[i])
            x_hat, z_hat = plain.split(((alpha + sigma) * y)[None], t[i : i + 1])
            return (z_hat - x_hat).flatten()

        jacobian = torch.autograd.functional.jacobian(slope, x[i]).reshape(16, 16)
        torch.testing.assert_close(products[i], jacobian.diagonal(), rtol=1e-5, atol=1e-5)


def test_what_makes_no_sense_is_refused():
    oracle, x = mixture(EDM(), (2,))
    with pytest.raises(InputError, match="probes -1"):
        log_density(oracle, x, AtOne(oracle), probes=-1)
    with pytest.raises(InputError, match="steps 0"):
        RungeKutta(0)


@pytest.mark.parametrize(("d", "products"), [(64, 64), (65, 4)])
def test_the_trace_is_exact_up_to_64_coordinates_unless_asked_otherwise(d, products):
    schedule, mean, std = EDM(), torch.zeros(d).double(), torch.ones(d).double()
    oracle, prior = Gaussian(schedule, mean, std), Prior(schedule, mean, std)
    x = torch.full((1, d), 0.3).double()
    for probes, each in ((None, products), (0, d), (1, 1), (3, 3)):
        found = log_density(oracle, x, prior, solver=RungeKutta(2), probes=probes)
        assert found.products.tolist() == [(8 + 4) * each]  # half as many steps tell the error
        assert bool(found.stderr.isnan().all()) == (probes == 1)


def test_the_classic_runge_kutta_is_exact_on_cubics_and_goes_either_way():
    """x' = w^3 is integrated exactly by Simpson's rule, and x' = x to the fourth order of e^h."""
    start, rows = (torch.zeros(2, 1).double(), torch.ones(2, 1).double()), []

    def field(state, w, numbers):
        rows.append(numbers.tolist())
        return (w**3).expand(2, 1), state[1]

    for begin, end in ((times(0.5)[0], times(1.25)[0]), (times(1.0)[0], times(0.2)[0])):
        (x, growth), evaluations = RungeKutta(3)(field, start, begin, end)
        torch.testing.assert_close(x, ((end**4 - begin**4) / 4).expand(2, 1))
        h = (end - begin) / 3
        once = 1 + h + h**2 / 2 + h**3 / 6 + h**4 / 24
        torch.testing.assert_close(growth, (once**3).expand(2, 1))
        assert evaluations.tolist() == [12, 12]
    assert all(numbers == [0, 1] for numbers in rows)


def test_the_adaptive_solver_may_be_off_by_its_tolerance_a_step():
    """Six evaluations a step; the tolerance is absolute and relative to the nats."""
    nats, evaluations = times(0.0, 9.0, -9.0), torch.tensor([6, 60, 61])
    off = Adaptive(1e-3).error(nats, evaluations)
    torch.testing.assert_close(off, times(1e-3, 1e-1, 1.1e-1))


@pytest.mark.parametrize("power", range(9))
def test_clenshaw_and_curtis_rule_is_exact_on_polynomials(power):
    assert float(clenshaw_curtis(list(places(8) ** power))) == pytest.approx(
        1 / (power + 1), abs=1e-14
    )


def test_one_step_has_no_half_to_tell_its_error():
    oracle, x = mixture(EDM(), (2,))
    found = log_density(oracle, x, AtOne(oracle), solver=RungeKutta(1))
    assert found.stderr.isnan().all()
    assert found.nats.isfinite().all()
    assert found.evaluations.tolist() == [4] * 4


def test_several_probes_are_averaged_and_their_spread_is_that_of_single_ones():
    """With the same draws, two runs of one probe are the two probes of one run."""
    oracle, x = mixture(EDM(), (2, 3))
    draws = torch.randn(2, *x.shape, generator=torch.Generator().manual_seed(5)).double()

    def run(chosen, steps=4):
        stream, solver, prior = iter(chosen), RungeKutta(steps), AtOne(oracle)
        return log_density(
            oracle, x, prior, solver=solver, probes=len(chosen), noise=lambda like: next(stream)
        )

    both, apart = run(draws), (run(draws[:1]).nats - run(draws[1:]).nats).abs()
    torch.testing.assert_close(both.nats, (run(draws[:1]).nats + run(draws[1:]).nats) / 2)
    assert float(apart.max()) > 0.1
    solver_error = (both.nats - run(draws, 2).nats).abs()
    torch.testing.assert_close(both.stderr, torch.hypot(apart / 2, solver_error))


def test_fixed_steps_are_at_one_level_for_all_rows():
    """A denoiser is asked at one time () for all rows: what depends on it is computed once."""
    oracle, x = mixture(EDM(), (2,))
    asked = []

    class Watched(AbstractDenoiser):
        schedule = oracle.schedule

        def estimate(self, x_t, t, **cond):
            asked.append(t.ndim)
            return oracle.estimate(x_t, t, **cond)

    log_density(Watched(), x, AtOne(oracle), solver=RungeKutta(2))
    assert asked == [0] * 12


class Marked(AbstractDenoiser):
    """N(0, std^2), `std` one for each row."""

    schedule = LinearVP()

    def estimate(self, x_t, t, *, std):
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        gain = 1 / ((alpha * std) ** 2 + sigma**2)
        return Estimate(alpha * std**2 * gain * x_t, sigma * gain * x_t)


def test_rows_that_take_longer_keep_their_conditions():
    """A density under a condition for each row is that of its own Gaussian."""
    std = torch.tensor([[0.01], [1.0], [30.0]]).double()
    x = std * torch.tensor([[0.1, 0.2], [-0.5, 0.0], [0.3, 1.3]]).double()
    alpha, sigma = Marked.schedule(times(1.0))

    class Each:
        time = 1.0

        def log_prob(self, x_1):
            normal = torch.distributions.Normal(0.0, ((alpha * std) ** 2 + sigma**2).sqrt())
            return normal.log_prob(x_1).sum(1)

    found = log_density(Marked().given(std=std), x, Each(), solver=Adaptive(1e-4))
    assert len(set(found.evaluations.tolist())) > 1
    least = torch.exp(-Marked.schedule.log_snr(times(Marked.schedule.t_min)) / 2)
    truth = torch.distributions.Normal(0.0, (std**2 + least**2).sqrt()).log_prob(x).sum(1)
    torch.testing.assert_close(found.nats, truth, rtol=0, atol=1e-3)


class Looks(torch.autograd.Function):
    """The identity, whose gradient looks at its values: it cannot be batched over probes."""

    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, gradient):
        assert not bool(gradient.isnan().any())
        return gradient


class Looking(AbstractDenoiser):
    """A denoiser through such an identity."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser, self.schedule = denoiser, denoiser.schedule

    def estimate(self, x_t, t, **cond):
        return self.denoiser.estimate(Looks.apply(x_t), t, **cond)


@pytest.mark.parametrize("probes", [0, 3])
def test_the_density_of_a_network_that_cannot_be_batched_over_probes_is_the_same(probes):
    mean, std = torch.tensor([1.0, -1.0]).double(), torch.tensor([0.5, 2.0]).double()
    oracle, x = Gaussian(EDM(), mean, std), torch.randn(4, 2).double()
    prior, solver = Prior(EDM(), mean, std), RungeKutta(steps=8)

    def density(denoiser):
        torch.manual_seed(0)
        return log_density(denoiser, x, prior, solver=solver, probes=probes).nats

    with pytest.raises(RuntimeError):
        torch.func.vmap(lambda g: Looks.backward(None, g))(x)
    assert torch.allclose(density(Looking(oracle)), density(oracle))
