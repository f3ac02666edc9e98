"""Laws of score matching: three losses with one minimum.

And the score in a denoising autoencoder.
"""

from itertools import product

import pytest
import torch

from undiffuse.diffusion import EDM, PROJECTIONS, LinearVP, Schedule, target
from undiffuse.diffusion.denoiser import AbstractDenoiser, Denoiser, Estimate, expand
from undiffuse.diffusion.objectives import (
    ExplicitScoreMatching,
    Objective,
    Projection,
    Simple,
    SlicedScoreMatching,
    UniformTimes,
)
from undiffuse.diffusion.oracle import Gaussian, Mixture, Points

T = 0.4
EXPLICIT = ExplicitScoreMatching(times=UniformTimes())
DENOISING = Objective(weighting=Simple(), times=UniformTimes())


def draws(n, d, seed=0):
    return torch.randn(2, n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


class Family(torch.nn.Module):
    """The noise network of N(m, s^2 I) in closed form, differentiable in (m, s).

    On a VP schedule at the one time T.
    """

    def __init__(self, schedule: Schedule, m: torch.Tensor, s: torch.Tensor) -> None:
        super().__init__()
        self.m, self.s = m, s
        self.alpha, self.sigma = schedule(torch.tensor(T, dtype=torch.float64))

    def forward(self, x_t, c_noise):
        return (
            self.sigma * (x_t - self.alpha * self.m) / (self.alpha**2 * self.s**2 + self.sigma**2)
        )


def denoiser(m, s):
    schedule = LinearVP()
    return Denoiser(
        Family(schedule, m, s), schedule, target.noise
    )  # sigma_data = 1 on VP: c_in = 1


def closed_form(m, s, mean, std):
    """sigma^2 E[|s|^2 + 2 tr grad s] per coordinate, s of N(m, s^2), for x ~ N(mean, std^2)."""
    alpha, sigma = LinearVP()(torch.tensor(T, dtype=torch.float64))
    k, k0 = alpha**2 * s**2 + sigma**2, alpha**2 * std**2 + sigma**2
    return sigma**2 * ((k0 + alpha**2 * (mean - m).square().mean()) / k**2 - 2 / k)


@pytest.mark.parametrize(("m", "s"), [(0.0, 1.0), (0.7, 0.4), (-1.0, 2.0)])
def test_explicit_and_denoising_differ_by_one_whatever_the_score(m, s):
    """E|sigma s + z|^2 = sigma^2 E[|s|^2 + 2 tr grad s] + 1 per coordinate.

    Vincent 2011, Appendix., and both are the closed form of a Gaussian.
    """
    mean, std, n = torch.tensor([0.7, -0.2]).double(), 0.5, 200_000
    z0, z = draws(n, 2)
    x, t = mean + std * z0, torch.full((n,), T, dtype=torch.float64)
    d = denoiser(torch.full((2,), m).double(), torch.tensor(s).double())
    explicit, denoising = (
        objective.losses(d, x, z, t).mean().detach() for objective in (EXPLICIT, DENOISING)
    )
    expected = closed_form(torch.full((2,), m).double(), s, mean, std)
    assert float(explicit) == pytest.approx(float(expected), abs=0.02)
    assert float(denoising) == pytest.approx(float(expected) + 1, abs=0.02)


def test_all_three_are_minimized_by_the_truth():
    """Descent in (m, s) from elsewhere, on fixed draws.

    Each ends at the truth, as far as the draws tell, and explicit and sliced exactly where the
    moments of x_t say.
    """
    mean, std, n = torch.tensor([0.7, -0.2]).double(), 0.5, 10_000
    z0, z = draws(n, 2, seed=1)
    x, t = mean + std * z0, torch.full((n,), T, dtype=torch.float64)
    alpha, sigma = LinearVP()(torch.tensor(T, dtype=torch.float64))
    x_t = alpha * x + sigma * z
    found = {}
    sliced = SlicedScoreMatching(times=UniformTimes())
    for name, objective in {"explicit": EXPLICIT, "sliced": sliced, "denoising": DENOISING}.items():
        m, s = torch.zeros(2).double().requires_grad_(), torch.ones(()).double().requires_grad_()
        optimizer = torch.optim.LBFGS([m, s], lr=0.5, max_iter=60, line_search_fn="strong_wolfe")

        def loss(objective=objective, m=m, s=s, optimizer=optimizer):
            optimizer.zero_grad()
            torch.manual_seed(0)
            value = objective.losses(denoiser(m, s), x, z, t).mean()
            value.backward()
            return value

        optimizer.step(loss)
        found[name] = torch.cat([m.detach(), s.detach()[None].abs()])
    truth = torch.cat([mean, torch.tensor([std]).double()])
    for name, values in found.items():
        torch.testing.assert_close(values, truth, rtol=0, atol=0.05, msg=f"{name}: {values}")
    moments = torch.cat(
        [x_t.mean(0) / alpha, ((x_t.var(0, correction=0).mean() - sigma**2).sqrt() / alpha)[None]]
    )
    torch.testing.assert_close(found["explicit"], moments, rtol=0, atol=1e-4)
    torch.testing.assert_close(
        found["sliced"], moments, rtol=0, atol=1e-4
    )  # signs are exact for an isotropic slope


class Fixed(Projection):
    """One direction for every row."""

    def __init__(self, v):
        self.v = torch.tensor(v, dtype=torch.float64)

    def __call__(self, like):
        return self.v.reshape(like.shape[1:]).expand_as(like)


def curved(d=3):
    """A nonlinear network with a full, asymmetric Jacobian."""
    torch.manual_seed(0)
    return torch.nn.Sequential(
        torch.nn.Linear(d, 7), torch.nn.Tanh(), torch.nn.Linear(7, d)
    ).double()


def of(network):
    return Denoiser(
        lambda x, c_noise: network(x.flatten(1)).reshape(x.shape), LinearVP(), target.score
    )


@pytest.mark.parametrize("shape", [(3,), (1, 3, 1)], ids=str)
def test_sliced_is_explicit_averaged_over_all_signs(shape):
    x, z = (a.reshape(5, *shape) for a in draws(5, 3))
    t, d = torch.linspace(0.1, 0.9, 5, dtype=torch.float64), of(curved())
    slices = [
        SlicedScoreMatching(times=UniformTimes(), projection=Fixed(v)).losses(d, x, z, t)
        for v in product((-1.0, 1.0), repeat=3)
    ]
    torch.testing.assert_close(
        torch.stack(slices).mean(0), EXPLICIT.losses(d, x, z, t), rtol=1e-12, atol=1e-12
    )
    spread = torch.stack(slices).detach().std(0)
    assert float(spread.min()) > 1e-3  # one slice alone is not the trace


def test_explicit_has_the_exact_trace():
    """Against the whole Jacobian of the score (Hyvarinen 2005, Theorem 1), row by row."""
    x, z = draws(4, 3)
    t, d = torch.linspace(0.2, 0.8, 4, dtype=torch.float64), of(curved())
    alpha, sigma = (c[:, None] for c in LinearVP()(t))
    x_t = alpha * x + sigma * z
    expected = []
    for i in range(4):
        jacobian = torch.autograd.functional.jacobian(
            lambda y, i=i: d.score(y[None], t[i : i + 1])[0], x_t[i]
        )
        s = d.score(x_t[i : i + 1], t[i : i + 1])[0]
        expected.append(sigma[i, 0] ** 2 * (s.square().sum() + 2 * jacobian.trace()) / 3)
    torch.testing.assert_close(
        EXPLICIT.losses(d, x, z, t), torch.stack(expected), rtol=1e-10, atol=1e-12
    )


@pytest.mark.parametrize("projection", [cls() for cls in PROJECTIONS.values()], ids=PROJECTIONS)
def test_projections_have_unit_covariance_and_more_of_them_less_variance(projection):
    torch.manual_seed(0)
    v = projection(torch.empty(100_000, 3, dtype=torch.float64))
    torch.testing.assert_close(v.T @ v / len(v), torch.eye(3).double(), rtol=0, atol=0.02)
    x, z = (a[:1].expand(4000, 3) for a in draws(1, 3))
    t, d = torch.full((4000,), 0.5, dtype=torch.float64), of(curved())
    one, four = (
        SlicedScoreMatching(times=UniformTimes(), projection=projection, projections=n)
        for n in (1, 4)
    )
    a, b = (o.losses(d, x, z, t).detach() for o in (one, four))
    exact = EXPLICIT.losses(d, x[:1], z[:1], t[:1]).detach()
    assert float(a.mean()) == pytest.approx(float(exact), abs=5 * float(a.std()) / 4000**0.5)
    assert float(b.var() / a.var()) == pytest.approx(1 / 4, rel=0.2)


def test_gradients_reach_the_network_and_none_are_kept_without_them():
    x, z = draws(6, 3)
    t, network = torch.full((6,), 0.5, dtype=torch.float64), curved()
    EXPLICIT.losses(of(network), x, z, t).mean().backward()
    assert all(float(p.grad.abs().max()) > 0 for p in network.parameters() if p.ndim > 1)
    with torch.no_grad():
        assert not EXPLICIT.losses(of(network), x, z, t).requires_grad


class Autoencoder(AbstractDenoiser):
    """r(x~) an affine map fitted to x by least squares.

    The best linear denoising autoencoder in closed form.
    """

    def __init__(self, schedule: Schedule, x: torch.Tensor, noisy: torch.Tensor) -> None:
        super().__init__()
        self.schedule = schedule
        self.map = torch.linalg.lstsq(
            torch.cat([noisy, torch.ones(len(x), 1).double()], 1), x
        ).solution

    def estimate(self, x_t, t, **cond):
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        x_hat = torch.cat([x_t, torch.ones(len(x_t), 1).double()], 1) @ self.map
        return Estimate(x_hat, (x_t - alpha * x_hat) / sigma)


def test_a_denoising_autoencoder_at_one_noise_level_learns_the_score():
    """(r(x~) - x~) / sigma^2 = grad log p_sigma(x~) at the least error.

    Vincent 2011; Kim and Lee 2024, 42-43.
    """
    schedule, n = EDM(), 400_000
    mean, std = torch.tensor([1.0, -0.5]).double(), torch.tensor([0.6, 1.4]).double()
    z0, z = draws(n, 2)
    t = torch.tensor(0.01, dtype=torch.float64)
    sigma = schedule(t)[1]
    x = mean + std * z0
    noisy = x + sigma * z
    learned, exact = Autoencoder(schedule, x, noisy), Gaussian(schedule, mean, std)
    at = noisy[:50]
    torch.testing.assert_close(
        (learned(at, t) - at) / sigma**2, exact.score(at, t), rtol=0, atol=0.02
    )


@pytest.mark.parametrize("kind", ["points", "mixture"])
def test_the_best_autoencoder_of_any_data_is_the_gradient_of_their_log_density(kind):
    """r* = E[x | x~] for a finite data set and a mixture.

    Against automatic differentiation of log p_sigma.
    """
    schedule, centres = EDM(), draws(6, 2, seed=4)[0]
    oracle = (
        Points(schedule, centres)
        if kind == "points"
        else Mixture(schedule, centres, torch.full((6, 2), 0.3).double())
    )
    t = torch.tensor(0.004, dtype=torch.float64)
    sigma = schedule(t)[1]
    x = draws(40, 2, seed=5)[0].requires_grad_()
    (score,) = torch.autograd.grad(oracle.log_prob(x, t).sum(), x)
    with torch.no_grad():
        torch.testing.assert_close((oracle(x, t) - x) / sigma**2, score, rtol=1e-9, atol=1e-9)
