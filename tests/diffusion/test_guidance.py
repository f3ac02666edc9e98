"""Guidance is held to closed forms.

Gaussians tilt into Gaussians, and Bayes' rule turns a mixture into a component.
"""

from __future__ import annotations

import pytest
import torch
from cases import SCHEDULE_CASES, has_signal_at_the_end, times

from undiffuse.diffusion import DDIM, EDM, Denoiser, Karras, sample, target
from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate
from undiffuse.diffusion.guidance import (
    Autoguided,
    ClassifierFree,
    ClassifierGuided,
    Clipped,
    Interval,
)
from undiffuse.diffusion.known import Conditional
from undiffuse.diffusion.oracle import Gaussian, Mixture
from undiffuse.diffusion.schedules.process import as_times
from undiffuse.errors import InputError

torch.manual_seed(0)
SHAPE = (2, 3)
MEANS, STD, LOG_WEIGHT = (
    torch.randn(3, *SHAPE).double(),
    0.6,
    torch.tensor([0.5, 0.2, 0.3]).double().log(),
)
WIDE = torch.tensor([0.7, 0.7, 0.7]).double().reshape(3, 1, 1).expand(3, *SHAPE)
T = [0.05, 0.4, 0.8]


class Labelled(AbstractDenoiser):
    """The exact denoiser of a mixture whose component is the label, or of the whole where it is -1.

    Counts calls.
    """

    def __init__(self, schedule):
        super().__init__()
        self.schedule, self.calls = schedule, 0
        self.all = Mixture(schedule, MEANS, WIDE * STD, LOG_WEIGHT)
        self.parts = [Gaussian(schedule, m, s * STD) for m, s in zip(MEANS, WIDE)]

    def estimate(self, x_t, t, *, label):
        self.calls += 1
        found = []
        for i, k in enumerate(label.tolist()):
            chosen = self.all if k == -1 else self.parts[k]
            found.append(chosen.estimate(x_t[i : i + 1], t[i : i + 1] if t.ndim else t))
        return type(found[0])(
            torch.cat([f.x_hat for f in found]), torch.cat([f.z_hat for f in found])
        )


@pytest.fixture(params=["linear_vp", "linear", "edm", "subvp"])
def schedule(request):
    return SCHEDULE_CASES[request.param]


def rows(n=5):
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(1)).double()


def assert_close(one, other, tolerance=1e-10):
    torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("t", [*T, T])
def test_weight_0_is_unconditional_and_weight_1_conditional(schedule, t):
    x_t, t, label = rows(3), as_times(t), torch.tensor([0, 1, 2])
    denoiser = Labelled(schedule)
    for weight, hidden in ((0.0, torch.full((3,), -1)), (1.0, label)):
        denoiser.calls = 0
        guided = ClassifierFree(denoiser, weight, label=-1).given(label=label).split(x_t, t)
        assert denoiser.calls == 1
        fixed = ClassifierFree(denoiser.given(label=label), weight, label=-1).split(x_t, t)
        for one, same, other in zip(guided, fixed, denoiser.split(x_t, t, label=hidden)):
            assert_close(one, other)
            assert_close(same, other)


@pytest.mark.parametrize("weight", [-1.0, 0.5, 3.0])
@pytest.mark.parametrize("t", T)
def test_a_guided_score_is_the_tilted_one(schedule, t, weight):
    """grad log p(x_t | c)^w p(x_t)^(1 - w), by differentiating densities that are known.

    And the split is kept.
    """
    x_t, label = rows(3).requires_grad_(), torch.tensor([0, 1, 2])
    denoiser = Labelled(schedule)
    log_c = torch.cat(
        [denoiser.parts[k].log_prob(x_t[i : i + 1], t) for i, k in enumerate(label.tolist())]
    )
    tilted = weight * log_c + (1 - weight) * denoiser.all.log_prob(x_t, t)
    (expected,) = torch.autograd.grad(tilted.sum(), x_t)
    guided = ClassifierFree(denoiser, weight, label=-1)
    assert_close(guided.score(x_t, t, label=label).detach(), expected, 1e-8)
    (alpha, sigma), (x_hat, z_hat) = schedule(times(t)), guided.split(x_t, t, label=label)
    assert_close((alpha * x_hat + sigma * z_hat).detach(), x_t.detach())


@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_autoguidance_of_gaussians_is_the_gaussian_of_their_tilted_precisions(weight):
    """A weaker Gaussian (wider, shifted) at sigma.

    Precision w P + (1 - w) Q and its mean, in closed form.
    """
    schedule, t, sigma = EDM(), 0.3, 0.3 * 80.0
    good, weak = (torch.tensor(3.0).double(), 0.5), (torch.tensor(2.0).double(), 20.0)
    denoisers = [
        Gaussian(schedule, mean.expand(4), torch.full((4,), std).double())
        for mean, std in (good, weak)
    ]
    x_t = rows(2).reshape(3, 4) * 10
    P, Q = (1 / (std**2 + sigma**2) for _, std in (good, weak))
    precision = weight * P + (1 - weight) * Q
    mean = (weight * P * good[0] + (1 - weight) * Q * weak[0]) / precision
    assert_close(Autoguided(*denoisers, weight).score(x_t, t), precision * (mean - x_t))
    assert_close(
        Autoguided(denoisers[0], denoisers[0], 7.0).score(x_t, t), denoisers[0].score(x_t, t)
    )


def test_the_exact_classifier_turns_a_mixture_into_its_component(schedule):
    denoiser = Labelled(schedule)
    x_t, label = rows(), torch.tensor([0, 1, 2, 1, 0])

    def log_prob(x, t):
        each = torch.stack([part.log_prob(x, t) for part in denoiser.parts], 1) + LOG_WEIGHT
        return each.log_softmax(1).gather(1, label[:, None])[:, 0]

    for t in map(as_times, (*T, T + T[:2])):
        guided = ClassifierGuided(denoiser.all, log_prob)
        with torch.no_grad():  # as in `sample`
            for one, other in zip(guided.split(x_t, t), denoiser.split(x_t, t, label=label)):
                assert_close(one, other, 1e-8)
    if not has_signal_at_the_end(schedule):
        return
    with torch.inference_mode():
        moved = sample(guided, rows(), Karras()(schedule, 3), DDIM())
    given = sample(denoiser.given(label=label), rows(), Karras()(schedule, 3), DDIM())
    assert_close(moved, given, 1e-6)


def test_where_no_signal_is_left_a_classifier_moves_nothing():
    schedule = SCHEDULE_CASES["linear"]
    denoiser = Labelled(schedule).all
    guided = ClassifierGuided(denoiser, lambda x, t: x.flatten(1).sum(1), 5.0)
    for one, other in zip(guided.split(rows(), 1.0), denoiser.split(rows(), 1.0)):
        assert_close(one, other)


def test_outside_the_interval_nothing_is_guided():
    schedule = EDM()  # sigma/alpha = 80 t
    plain, guided = Gaussian(schedule, *MEANS[:2]), Gaussian(schedule, *MEANS[1:])
    interval = Interval(guided, plain, 0.1, 8.0)
    t = as_times([0.1 / 80 * 0.99, 0.1 / 80, 0.02, 0.1, 0.1001])
    inside = [False, True, True, True, False]
    for wrapped in (
        interval.split(rows(), t),
        zip(*(interval.split(rows(), time) for time in t.unbind())),
    ):
        for k, part in enumerate(wrapped):
            part = (
                part
                if isinstance(part, torch.Tensor)
                else torch.stack([x[i] for i, x in enumerate(part)])
            )
            for i, within in enumerate(inside):
                assert_close(part[i], (guided if within else plain).split(rows(), t)[k][i])
    assert_close(Interval(guided, plain)(rows(), 1.0), guided(rows(), 1.0))
    straight = [Gaussian(SCHEDULE_CASES["linear"], mean, STD * WIDE[0]) for mean in MEANS[:2]]
    for t in (as_times(1.0), as_times([0.2, 0.5, 0.9, 0.99, 1.0])):  # without an end, to alpha = 0
        assert_close(Interval(*straight)(rows(), t), straight[0](rows(), t))


def test_guidance_without_the_condition_says_which():
    with pytest.raises(InputError, match="guidance: it needs the condition label"):
        ClassifierFree(Labelled(EDM()), 2.0, label=-1)(rows(), 0.5)


class Varied(AbstractDenoiser):
    """x_hat, z_hat and v that differ by label."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def estimate(self, x_t, t, *, label):
        alpha, sigma = (c.reshape(-1, 1, 1) for c in self.schedule(t))
        x_hat = 0.1 * label.double().reshape(-1, 1, 1) * x_t
        v = torch.full_like(x_t, 0.5) / (3 + label.reshape(-1, 1, 1))
        return Estimate(x_hat, (x_t - alpha * x_hat) / sigma, v)


def test_guidance_leaves_the_learned_variance_that_of_the_condition():
    """Whatever moves the mean, v is the conditional denoiser's own; and the split is kept."""
    schedule, x_t, label = EDM(), rows(4), torch.tensor([0, 1, 2, 3])
    own, other = Varied(schedule).given(label=label), Varied(schedule).given(label=label + 7)
    every, none = torch.ones(SHAPE).bool(), torch.zeros(SHAPE).bool()
    for wrapped in (
        ClassifierFree(own, 3.0, label=-1),
        Autoguided(own, other, 2.0),
        Interval(Autoguided(own, other, 2.0), own, 0.0, 1.0),
        Interval(Autoguided(own, other, 2.0), own, 8.0, 20.0),
        Interval(Autoguided(own, other, 2.0), own),
        ClassifierGuided(own, lambda x, t: x.flatten(1).sum(1)),
        Clipped(own, -0.1, 0.1),
        Conditional(own, torch.zeros(SHAPE).double(), every),
        Conditional(own, torch.zeros(SHAPE).double(), none),
        own.on(EDM(sigma_max=70.0)),
    ):
        for t in (as_times(0.1), as_times([0.05, 0.1, 0.2, 0.9])):
            found, same = wrapped.estimate(x_t, t), own.estimate(x_t, t)
            assert_close(found.v, same.v)
            alpha, sigma = (c.reshape(-1, 1, 1) for c in wrapped.schedule(t))
            assert_close(alpha * found.x_hat + sigma * found.z_hat, x_t)


def test_only_the_conditions_that_have_a_hidden_value_are_hidden():
    seen = []

    def network(x, c_noise, **cond):
        seen.append({name: value.tolist() for name, value in cond.items()})
        return x

    denoiser = Denoiser(network, EDM(), target.data)
    guided = ClassifierFree(denoiser.given(label=torch.tensor([4, 5])), 2.0, label=-1)
    guided(rows(2), 0.3, size=torch.tensor([7.0, 8.0]))
    assert seen == [{"label": [4, 5, -1, -1], "size": [7.0, 8.0, 7.0, 8.0]}]
