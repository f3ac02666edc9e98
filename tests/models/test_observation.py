"""Laws of what a decoder's output says of a row: masses and densities are whole, and draws follow them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from undiffuse.data.images.form import ImageForm
from undiffuse.data.images.transform import image_transform
from undiffuse.models.observation import (
    BernoulliObservation,
    GaussianObservation,
    LogisticObservation,
    cells_of,
)


def edges(levels):
    """Every one of the bins of `levels` values as a row of one coordinate: centres (K, 1) and edges, float64."""
    k = torch.arange(levels, dtype=torch.float64)[:, None]
    return cells_of((2 * k + 1) / levels - 1, levels)


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


def test_the_bernoulli_s_two_masses_are_a_sigmoid_and_the_rest():
    centres, cells = edges(2)
    for logit in (-30.0, -1.0, 0.0, 2.0):
        nats = BernoulliObservation().log_prob(
            centres, cells, torch.full_like(centres, logit), torch.zeros(0)
        )
        assert float(nats.exp().sum()) == pytest.approx(1, abs=1e-14)
        assert float(nats[1].exp()) == pytest.approx(1 / (1 + math.exp(-logit)), rel=1e-12)


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


@pytest.mark.parametrize(
    "observation", [LogisticObservation(), BernoulliObservation()], ids=lambda o: type(o).__name__
)
def test_draws_come_as_often_as_their_masses_say(observation):
    levels, n = (2 if isinstance(observation, BernoulliObservation) else 5), 50_000
    transform = image_transform(
        ImageForm(row_shape=(1, 1), channel_axis=None, levels=levels, dtype="uint8")
    )
    centres, cells = edges(levels)
    log_scale = torch.full((observation.scales(1),), math.log(0.4), dtype=torch.float64)
    masses = (
        observation.log_prob(centres, cells, torch.full_like(centres, 0.3), log_scale).exp().numpy()
    )
    z = torch.randn(n, 1, 1, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = transform.decode(observation.draw(torch.full_like(z, 0.3), log_scale, z))
    shares = np.bincount(drawn.ravel(), minlength=levels) / n
    assert np.abs((shares - masses) / np.sqrt(masses * (1 - masses) / n)).max() < 4


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
