"""Laws of the decoder distributions: each is whole, draws follow it, its mean is their mean."""

from __future__ import annotations

import math

import pytest
import torch

from undiffuse.data.images.form import ImageForm, image_transform
from undiffuse.errors import InputError
from undiffuse.models.observation import (
    OBSERVATIONS,
    BernoulliObservation,
    GaussianObservation,
    LogisticObservation,
    Observation,
    cells_of,
)


def edges(levels):
    """Every one of the bins of `levels` values as a row of one coordinate: centres (K, 1)
    and edges, float64.
    """
    k = torch.arange(levels, dtype=torch.float64)[:, None]
    return cells_of((2 * k + 1) / levels - 1, levels)


def grid_of(observation):
    """Values of one coordinate, their bins (None for real numbers), and the width of a cell.

    The data are the first that the distribution is for: other data, 17 whole numbers, or 2.
    """
    for levels in (None, 17, 2):
        try:
            observation.check(levels)
        except InputError:
            continue
        if levels is None:
            x = (torch.arange(4800, dtype=torch.float64)[:, None] + 0.5) / 200 - 12  # midpoints
            return x, None, 1 / 200
        return *edges(levels), 1.0
    raise AssertionError("for no data")


def masses_of(observation, output, log_scale=-0.9):
    """The probability of every value of `grid_of`, given the decoder's output."""
    x, cells, width = grid_of(observation)
    scale = torch.full((observation.scales(1),), log_scale, dtype=torch.float64)
    nats = observation.log_prob(x, cells, torch.full_like(x, output), scale)
    assert nats.shape == (len(x),)
    return nats.exp() * width


def is_whole(observation):
    """The probabilities of all values sum to one, the density integrates to one."""
    for output in (-0.71, 0.0, 0.3, 2.0):
        assert float(masses_of(observation, output).sum()) == pytest.approx(1, abs=1e-9)


def draws_follow_it(observation):
    """The shares of draws in every bin (real numbers: in twelve) are the probabilities."""
    n, output = 40_000, 0.3
    scale = torch.full((observation.scales(1),), -0.9, dtype=torch.float64)
    z = torch.randn(n, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = observation.draw(torch.full_like(z, output), scale, z)[:, 0]
    x, cells, _ = grid_of(observation)
    masses, x = masses_of(observation, output), x[:, 0]
    if cells is None:
        ends = torch.linspace(-1, 1.5, 11, dtype=torch.float64)
        masses = torch.zeros(12).double().index_add(0, torch.bucketize(x, ends), masses)
    else:
        ends = cells[1][:-1, 0]
    shares = torch.bincount(torch.bucketize(drawn, ends), minlength=len(masses)) / n
    error = (masses * (1 - masses) / n).sqrt() + 1e-5
    assert float(((shares - masses) / error).abs().max()) < 4.5


def its_mean_is_the_mean(observation):
    """Up to what lies beyond the ends of whole numbers, for an output well inside of them."""
    output = 0.1
    masses, (x, _, _) = masses_of(observation, output, log_scale=-3.0), grid_of(observation)
    mean = float(observation.mean(torch.tensor(output, dtype=torch.float64)))
    assert mean == pytest.approx(float((masses * x[:, 0]).sum()), abs=1e-3)


LAWS = (is_whole, draws_follow_it, its_mean_is_the_mean)
every_law = pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)


@every_law
@pytest.mark.parametrize("name", OBSERVATIONS)
def test_every_decoder_distribution_keeps_to_the_laws(name, law):
    law(OBSERVATIONS[name]())


class Wrong(Observation):
    """N(F, s^2) with the faults that are asked for."""

    def __init__(self, *, log_mass=0.0, wider=1.0, moved=0.0):
        self.log_mass, self.wider, self.moved = log_mass, wider, moved

    def scales(self, channels):
        return channels

    def log_prob(self, x, cells, output, log_scale):
        return GaussianObservation().log_prob(x, cells, output, log_scale) + self.log_mass

    def draw(self, output, log_scale, z):
        return GaussianObservation().draw(output, log_scale, self.wider * z)

    def mean(self, output):
        return output + self.moved


@pytest.mark.parametrize("fault", [{"log_mass": 0.01}, {"wider": 1.1}, {"moved": 0.01}], ids=str)
def test_a_wrong_distribution_is_caught(fault):
    caught = []
    for law in LAWS:
        try:
            law(Wrong(**fault))
        except AssertionError:
            caught.append(law)
    assert LAWS[["log_mass", "wider", "moved"].index(next(iter(fault)))] in caught


# --- what single ones are


@pytest.mark.parametrize("levels", [2, 17, 256, 65536])
@pytest.mark.parametrize("scale", [1e-4, 0.03, 1.0, 50.0])
@pytest.mark.parametrize("mean", [0.0, -0.71, 1.0, 8.0])
def test_the_masses_of_the_logistic_sum_to_one(levels, scale, mean):
    centres, cells = edges(levels)
    nats = LogisticObservation().log_prob(
        centres,
        cells,
        torch.full_like(centres, mean),
        torch.tensor([math.log(scale)], dtype=torch.float64),
    )
    assert bool(nats.isfinite().all())
    assert float(nats.logsumexp(0)) == pytest.approx(0, abs=1e-11)


def test_each_mass_is_the_difference_of_the_distribution_function():
    centres, (low, high) = edges(17)
    mean, s = torch.full_like(centres, 0.2), 0.3
    nats = LogisticObservation().log_prob(
        centres, (low, high), mean, torch.tensor([math.log(s)], dtype=torch.float64)
    )
    mass = torch.sigmoid((high - mean) / s) - torch.sigmoid((low - mean) / s)
    torch.testing.assert_close(nats.exp(), mass[:, 0], rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite_however_far_the_mean_is_off(dtype):
    centres, cells = edges(256)
    for mean in (-40.0, 0.0, 40.0):
        output = torch.full((256, 1), mean, dtype=dtype, requires_grad=True)
        log_scale = torch.full((1,), -5.0, dtype=dtype, requires_grad=True)
        LogisticObservation().log_prob(centres.to(dtype), cells, output, log_scale).sum().backward()
        assert bool(output.grad.isfinite().all())
        assert bool(log_scale.grad.isfinite().all())
        assert mean * float(output.grad.sum()) <= 0  # towards the data


def test_the_bernoulli_s_probability_of_one_is_a_sigmoid():
    centres, cells = edges(2)
    for logit in (-30.0, -1.0, 0.0, 2.0):
        output = torch.full_like(centres, logit)
        nats = BernoulliObservation().log_prob(centres, cells, output, torch.zeros(0))
        assert float(nats[1].exp()) == pytest.approx(1 / (1 + math.exp(-logit)), rel=1e-12)


def test_draws_of_the_bernoulli_are_the_centres_of_its_bins():
    z = torch.linspace(-3, 3, 50, dtype=torch.float64)[:, None]
    found = BernoulliObservation().draw(torch.zeros_like(z), torch.zeros(0), z)
    assert torch.equal(found.unique(), edges(2)[0].flatten().to(found.dtype))


@pytest.mark.parametrize("shared", [False, True])
def test_the_gaussian_is_a_density_with_a_scale_for_each_channel_or_one(shared):
    observation = GaussianObservation(shared)
    log_scale = torch.tensor([0.3] if shared else [0.3, -1.0, 0.5]).double()
    assert observation.scales(3) == len(log_scale)
    torch.manual_seed(0)
    x, output = torch.randn(2, 5, 3, 4, 2, dtype=torch.float64)
    std = log_scale.expand(3).exp()[:, None, None]
    expected = torch.distributions.Normal(output, std).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(observation.log_prob(x, None, output, log_scale), expected)


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_bins_are_those_of_the_transform_wherever_in_them_a_point_lies(levels):
    transform = image_transform(
        ImageForm(row_shape=(1, levels), channel_axis=None, levels=levels, dtype="uint8")
    )
    k = torch.arange(levels, dtype=torch.uint8).reshape(1, 1, levels)
    for place in (-4.0, 0.0, 4.0):
        x, _ = transform.encode(k, lambda like, place=place: torch.full_like(like, place))
        centres, found = cells_of(x, levels)
        torch.testing.assert_close(
            centres, transform.encode(k, torch.zeros_like)[0], rtol=0, atol=1e-6
        )
        for ours, theirs in zip(found, transform.cells(k)):
            torch.testing.assert_close(ours.double(), theirs, rtol=0, atol=1e-6)
