"""Sampling given part of a row: conditionals that are closed forms.

Of a correlated Gaussian, of a mixture.
"""

from __future__ import annotations

import pytest
import torch
from cases import SCHEDULE_CASES

from undiffuse.diffusion import (
    DDIM,
    EDM,
    STEPS,
    Denoiser,
    DPMpp,
    Heun,
    Karras,
    Linear,
    Prior,
    sample,
    target,
)
from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate
from undiffuse.diffusion.known import Conditional, Known, replaced
from undiffuse.diffusion.oracle import Mixture
from undiffuse.diffusion.schedules.process import as_times
from undiffuse.errors import InputError

MASK = torch.tensor([True, False])
KNOWN = torch.tensor([1.5, 0.0]).double()
R = 0.9  # correlation


class Correlated(AbstractDenoiser):
    """The exact denoiser of N(0, cov)."""

    def __init__(self, schedule, cov):
        super().__init__()
        self.schedule, self.cov = schedule, cov.double()

    def estimate(self, x_t, t, **cond):
        alpha, sigma = (c.reshape(-1, 1) for c in self.schedule(t))
        k = (
            alpha[..., None] ** 2 * self.cov
            + sigma[..., None] ** 2 * torch.eye(len(self.cov)).double()
        )
        solved = torch.linalg.solve(k, x_t.flatten(1)[..., None])[..., 0]
        x_hat, z_hat = alpha * solved @ self.cov, sigma * solved
        return Estimate(x_hat.reshape(x_t.shape), z_hat.reshape(x_t.shape))


def pair(schedule):
    return Correlated(schedule, torch.tensor([[1.0, R], [R, 1.0]]))


def drawn(denoiser, step, n, *, x_known, mask, steps=30):
    """n rows from the prior of unit variance.

    Known entries on the forward process from the start.
    """
    schedule, generator = denoiser.schedule, torch.Generator().manual_seed(0)

    def noise(like):
        return torch.empty_like(like).normal_(generator=generator)

    x = Prior.standard(schedule, tuple(x_known.shape[-1:])).draw(
        noise(torch.empty(n, *x_known.shape[-1:]).double())
    )
    x = replaced(x, x_known, mask, schedule, as_times(1.0), noise)
    return sample(denoiser, x, Karras()(schedule, steps), step, noise=noise)


@pytest.mark.parametrize("name", ["edm", "linear_vp", "subvp", "linear"])
@pytest.mark.parametrize("shape", [(6,), (1, 2, 3)], ids=str)
def test_the_conditional_denoiser_of_a_gaussian_is_exact(name, shape):
    """E[x | x_t, x_K] by conditioning the joint Gaussian of (x_U, x_t, x_K).

    Row by row with masks of their own.
    """
    g = torch.Generator().manual_seed(0)
    root = torch.randn(6, 6, generator=g).double()
    cov, schedule = root @ root.T / 6 + 0.1 * torch.eye(6), SCHEDULE_CASES[name]
    x_t, x = torch.randn(4, 6, generator=g).double(), torch.randn(4, 6, generator=g).double()
    mask = torch.tensor(
        [[1, 0, 1, 0, 1, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 0]]
    ).bool()
    for t in (0.03, 0.5, 0.9):
        alpha, sigma = schedule(as_times(t))
        conditional = Conditional(
            Correlated(schedule, cov), x.reshape(4, *shape), mask.reshape(4, *shape), products=6
        )
        x_hat, z_hat = conditional.split(x_t.reshape(4, *shape), t)
        torch.testing.assert_close((alpha * x_hat + sigma * z_hat).flatten(1), x_t)
        for row in range(4):
            observed = torch.cat([alpha * torch.eye(6).double(), torch.eye(6).double()[mask[row]]])
            noise = torch.cat(
                [torch.full((6,), float(sigma**2)), torch.zeros(int(mask[row].sum()))]
            ).double()
            gain = cov @ observed.T @ torch.linalg.inv(observed @ cov @ observed.T + noise.diag())
            exact = gain @ torch.cat([x_t[row], x[row][mask[row]]])
            torch.testing.assert_close(x_hat[row].flatten(), exact, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("step", [DDIM(), Heun(), DPMpp()], ids=lambda step: type(step).__name__)
def test_conditional_samples_of_a_gaussian_have_its_mean_and_deviation(step):
    """N(r x_K, 1 - r^2).

    Left over: 1/60 of a deviation, as x_1 is drawn without what is known; and the solver's.
    """
    n, std = 4000, (1 - R**2) ** 0.5
    x = drawn(Conditional(pair(EDM()), KNOWN, MASK), step, n, x_known=KNOWN, mask=MASK)
    assert bool((x[:, 0] == 1.5).all())
    assert float(x[:, 1].mean()) == pytest.approx(R * 1.5, abs=(1 / 60 + 4 * n**-0.5) * std)
    assert float(x[:, 1].std()) == pytest.approx(std, rel=0.12 if step == DDIM() else 0.04)


def test_more_repetitions_come_closer_to_the_conditional():
    n, std, errors = 1500, (1 - R**2) ** 0.5, []
    for repetitions in (1, 4, 16):
        x = drawn(pair(EDM()), Known(DDIM(), KNOWN, MASK, repetitions), n, x_known=KNOWN, mask=MASK)
        assert bool((x[:, 0] == 1.5).all())
        errors.append(abs(float(x[:, 1].mean()) - R * 1.5) / std)
    assert errors[0] > 2 * errors[1] > 4 * errors[2]
    assert errors[2] < 0.25


def modes(schedule):
    """Two narrow components whose first entries overlap, and a third far off.

    Given x_0 = 0, weights by Bayes.
    """
    mean = torch.tensor([[-0.3, -2.0], [0.3, 2.0], [6.0, 0.0]]).double()
    std = torch.tensor([0.4, 0.2]).double().expand(3, 2)
    return Mixture(schedule, mean, std, torch.tensor([0.3, 0.4, 0.3]).double().log())


def test_the_weights_of_modes_approach_those_of_bayes_rule():
    """At x_0 = 0.2 the weights are 0.3 exp(-0.5^2/0.32) : 0.4 exp(-0.1^2/0.32) = 0.26 : 0.74, the
    third mode has none.

    Replacement alone gives the left one 0.43, ten repetitions 0.40, `Conditional` 0.39, with four
    repetitions 0.33.
    """
    weight = torch.tensor([0.3, 0.4]).log() - torch.tensor([0.5, 0.1]).square() / (2 * 0.4**2)
    exact = float(weight.softmax(0)[0])
    oracle, known = modes(EDM()), torch.tensor([0.2, 0.0]).double()
    conditional, errors = Conditional(oracle, known, MASK), []
    for denoiser, step in (
        (oracle, Known(DDIM(), known, MASK, 1)),
        (conditional, DPMpp()),
        (conditional, Known(DDIM(), known, MASK, 4)),
    ):
        x = drawn(denoiser, step, 1500, x_known=known, mask=MASK, steps=24)[:, 1]
        left, right = x < -1, x > 1
        assert float((~left & ~right).double().mean()) < 0.02
        assert float(x[right].mean()) == pytest.approx(2.0, abs=0.1)
        errors.append(float(left.double().mean()) - exact)
    se = (exact * (1 - exact) / 1500) ** 0.5
    assert errors[0] > errors[1] + se > errors[2] + 2 * se
    assert errors[2] < 0.07 + 3 * se


@pytest.mark.parametrize(
    "name", [name for name, step in STEPS.items() if step.order or step.weak_order]
)
def test_every_step_gives_back_what_is_known_and_nothing_known_changes_nothing(name):
    step, schedule = STEPS[name](), EDM()
    oracle, known = pair(schedule), torch.tensor([0.75, -0.5]).double()
    some, all_, none = MASK, torch.ones(2).bool(), torch.zeros(2).bool()
    plain = drawn(oracle, step, 4, x_known=known, mask=none, steps=3)
    for denoiser, wrapped in (
        (oracle, lambda mask: Known(step, known, mask, 2)),
        (None, lambda mask: step),
    ):

        def result(mask, denoiser=denoiser, wrapped=wrapped):
            return drawn(
                denoiser or Conditional(oracle, known, mask),
                wrapped(mask),
                4,
                x_known=known,
                mask=mask,
                steps=3,
            )

        torch.testing.assert_close(result(some)[:, 0], known[:1].expand(4), rtol=0, atol=1e-12)
        torch.testing.assert_close(result(all_), known.expand(4, 2), rtol=0, atol=1e-12)
    unguided = drawn(Conditional(oracle, known, none), step, 4, x_known=known, mask=none, steps=3)
    torch.testing.assert_close(unguided, plain, rtol=1e-6, atol=1e-6)


def test_nothing_known_is_plain_sampling_in_distribution():
    n, known, none = 4000, torch.zeros(2).double(), torch.zeros(2).bool()
    x = drawn(
        pair(EDM()), Known(DDIM(eta=1.0), known, none, 2), n, x_known=known, mask=none, steps=60
    )
    plain = drawn(pair(EDM()), DDIM(eta=1.0), n, x_known=known, mask=none, steps=60)
    assert x.mean(0).abs().max() < 4 * n**-0.5
    torch.testing.assert_close(x.T.cov(), plain.T.cov(), rtol=0, atol=0.1)


def test_an_inexact_denoiser_cannot_make_it_diverge():
    """A denoiser whose Jacobian is negative has no covariance.

    What is known is set, the rest is left.
    """

    class Odd(AbstractDenoiser):
        schedule = EDM()

        def estimate(self, x_t, t, **cond):
            return Estimate(-x_t, (x_t + x_t) / self.schedule(t)[1])

    x_t = torch.randn(3, 2).double()
    x_hat = Conditional(Odd(), KNOWN.expand(3, 2), MASK.expand(3, 2))(x_t, 0.1)
    assert torch.equal(x_hat[:, 0], KNOWN[:1].expand(3))
    assert torch.equal(x_hat[:, 1], -x_t[:, 1])


def test_repetitions_are_at_least_one():
    with pytest.raises(InputError, match="repetitions 0"):
        Known(DDIM(), KNOWN, MASK, 0)


@pytest.mark.parametrize("t", [0.0, 1.0, [0.0, 0.5, 1.0]], ids=str)
def test_without_noise_or_without_signal_what_is_known_is_set_and_the_rest_is_left(t):
    """At sigma = 0 and at alpha = 0, where there is no covariance to be had; and in every row of a
    batch in which some row is there.
    """
    schedule, t = Linear(), as_times(t)
    x_t = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).double()
    alpha, sigma = (c.expand(3)[:, None] for c in schedule(t))
    x_t = torch.where(alpha > 0, x_t, 0.4)  # without signal every x_t is noise
    plain = pair(schedule)
    found = Conditional(plain, KNOWN, MASK).estimate(x_t, t)
    same = plain.estimate(x_t, t)
    assert torch.equal(found.x_hat[:, 0], KNOWN[0].expand(3))
    torch.testing.assert_close(found.x_hat[:, 1], same.x_hat[:, 1])
    inside = (sigma > 0)[:, 0]
    torch.testing.assert_close((alpha * found.x_hat + sigma * found.z_hat)[inside], x_t[inside])
    assert found.z_hat.isfinite().all()
    torch.testing.assert_close(found.z_hat[~inside], same.z_hat[~inside])


@pytest.mark.parametrize("products", [1, 2, 3])
def test_conjugate_gradients_solve_in_as_many_products_as_there_are_known_entries(products):
    """With one entry fewer they are not yet there."""
    g = torch.Generator().manual_seed(2)
    root = torch.randn(4, 4, generator=g).double()
    oracle = Correlated(EDM(), root @ root.T / 4 + 0.1 * torch.eye(4))
    x_t, known = torch.randn(2, 5, 4, generator=g).double()
    mask = torch.arange(4) < products
    x_hat = [Conditional(oracle, known, mask, n)(x_t, 0.01) for n in (products - 1, products, 8)]
    torch.testing.assert_close(x_hat[1], x_hat[2], rtol=1e-7, atol=1e-7)
    assert float((x_hat[0] - x_hat[2]).abs().max()) > 1e-4


def test_a_replaced_entry_has_the_noise_of_its_time_and_others_are_kept():
    x_t, z = torch.randn(2, 3, 2).double()
    for t in (0.0, 0.3, 1.0):
        found = replaced(x_t, KNOWN, MASK, Linear(), as_times(t), lambda like: z)
        torch.testing.assert_close(found[:, 0], (1 - t) * KNOWN[0] + t * z[:, 0])
        assert torch.equal(found[:, 1], x_t[:, 1])


def test_a_repeated_move_goes_back_by_the_forward_process():
    """Two repetitions of a step, written out draw by draw (Lugmayr et al. 2022, Algorithm 1)."""
    schedule, (t, s) = SCHEDULE_CASES["linear_vp"], as_times([0.6, 0.5])
    oracle, x, *draws = pair(schedule), *torch.randn(7, 3, 2).double()
    stream, step = iter(draws), DDIM(eta=1.0)
    ours, memory = Known(step, KNOWN, MASK, 2)(oracle, x, t, s, None, lambda like: next(stream))

    def moved(x, z_known, z):
        x = torch.where(MASK, (c := schedule(t))[0] * KNOWN + c[1] * z_known, x)
        return step(oracle, x, t, s, None, lambda like: z)[0]

    a, beta = schedule.transition(t, s)
    back = a * moved(x, *draws[:2]) + beta.sqrt() * draws[2]
    alpha, sigma = schedule(s)
    wanted = torch.where(MASK, alpha * KNOWN + sigma * draws[5], moved(back, *draws[3:5]))
    torch.testing.assert_close(ours, wanted, rtol=1e-10, atol=1e-10)
    assert memory is None


def test_a_direction_of_negative_curvature_moves_nothing_and_stops_no_other_row():
    """Where a known entry's variance comes out negative, the others stay, though they depend on it;
    a row whose variance is positive is moved as it is alone.
    """
    schedule, mix = EDM(), torch.tensor([[1.0, 0.5], [0.5, 1.0]]).double()

    class Half(AbstractDenoiser):
        def __init__(self, signs):
            super().__init__()
            self.schedule, self.signs = schedule, signs

        def estimate(self, x_t, t, **cond):
            x_hat = 0.3 * self.signs * (x_t @ mix)
            return Estimate(x_hat, (x_t - x_hat) / schedule(t)[1])

    x_t = torch.randn(2, 2, generator=torch.Generator().manual_seed(0)).double()
    signs = torch.tensor([[-1.0], [1.0]]).double()
    found = Conditional(Half(signs), KNOWN.expand(2, 2), MASK.expand(2, 2))(x_t, 0.1)
    plain = Half(signs)(x_t, 0.1)
    assert torch.equal(found[0, 1], plain[0, 1])
    # regressed on the known entry: covariance over variance is 1/2
    torch.testing.assert_close(found[1, 1], plain[1, 1] + 0.5 * (KNOWN[0] - plain[1, 0]))
    assert torch.equal(found[:, 0], KNOWN[:1].expand(2))


@pytest.mark.parametrize("scale", [1e-9, 1e6])
def test_the_conditional_follows_the_unit_of_the_data(scale):
    g = torch.Generator().manual_seed(0)
    root, x_t, x = torch.randn(5, 5, generator=g).double(), *torch.randn(2, 4, 5, generator=g)
    cov, mask = root @ root.T / 5 + 0.1 * torch.eye(5), torch.arange(5) < 3
    one, other = (
        Conditional(
            Correlated(EDM(sigma_max=80 * unit), unit**2 * cov), unit * x.double(), mask
        ).split(unit * x_t.double(), 0.01)
        for unit in (1.0, scale)
    )
    torch.testing.assert_close(other[0] / scale, one[0], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(other[1], one[1], rtol=1e-6, atol=1e-6)


def test_of_a_denoiser_that_does_not_look_nothing_is_learned():
    """Its x_hat is a parameter: no entry tells anything of another."""
    level = torch.tensor(0.7).double().requires_grad_()
    denoiser = Denoiser(lambda x, c_noise: level.expand_as(x), EDM(), target.data)
    x_hat = Conditional(denoiser, KNOWN, MASK)(torch.randn(3, 2).double(), 0.3)
    assert torch.equal(x_hat, torch.tensor([1.5, 0.7]).double().expand(3, 2))
