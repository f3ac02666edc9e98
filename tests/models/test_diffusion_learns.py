"""What is known in closed form: the best loss and the samples of Gaussian data, and samplers
of an exact network.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from model_cases import DIFFUSIONS, Exact, Rows
from torch import nn

import undiffuse as ud
from undiffuse.diffusion import METHODS, RowNoise
from undiffuse.models import PRESETS

MEAN, COVARIANCE = (
    torch.tensor([3.0, -5.0]),
    torch.tensor([[4.0, 4.8], [4.8, 9.0]]),
)  # a correlation of 0.8


def gaussian(n, seed):
    z = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
    return MEAN + z @ torch.linalg.cholesky(COVARIANCE).T


@pytest.mark.slow
def test_training_reaches_the_best_loss_there_is_and_samples_the_gaussian():
    """With x ~ N(m, C) at unit scale and eigenvalues c_i of C, E|x_hat - x|^2 = sum_i c_i sigma^2
    / (c_i + sigma^2).
    """
    torch.manual_seed(0)
    data = ud.load(gaussian(20_000, 0).numpy())
    model = ud.edm(width=64, depth=2, octaves=0)
    model.fit(data, steps=400, batch=256, lr=4e-3, device="cpu", precision="float32")

    n = 8000
    x, _ = model.transform.encode(gaussian(n, 1), torch.zeros_like)
    found = model.diagnostics(x)
    sigma = torch.exp(-torch.tensor(found["levels"]["log_snr"], dtype=torch.float64) / 2)
    u = (torch.arange(16, dtype=torch.float64) + 0.5) / 16
    d, times = model.sigma_data, model.objective.times
    expected = d * torch.exp(times.mean + times.std * torch.special.ndtri(u))
    torch.testing.assert_close(sigma, expected.clamp(min=0.002))

    mean, C = x.double().mean(0), x.double().T.cov(correction=0)
    weight, (c, axes) = 1 / sigma**2 + 1 / d**2, torch.linalg.eigh(C)
    best = weight * (c * sigma[:, None] ** 2 / (c + sigma[:, None] ** 2)).mean(1)
    # the same for these very rows and draws of noise, so that only what the network
    # got wrong is left
    z = RowNoise(0, n)(x).double()
    drawn = []
    for s in sigma:
        y = (x.double() - mean + s * z) @ axes
        errors = (mean + (c / (c + s**2) * y) @ axes.T - x.double()).square().mean(1)
        drawn.append(errors.mean())
        standard_error = float(errors.std()) / math.sqrt(n)
        assert abs(float(errors.mean() - (c * s**2 / (c + s**2)).mean())) < 5 * standard_error
    excess = torch.tensor(found["levels"]["loss"]) - weight * torch.stack(drawn)
    assert float(excess.min()) > -0.01  # nothing is better than the best
    assert float(excess.mean()) < 0.02  # a new network, which sees no correlation, is worse by 0.2
    assert found["loss"] == pytest.approx(float(best.mean()), abs=0.03)

    n = 3000
    samples = torch.from_numpy(model.sample(n, seed=4)).double()
    spread = COVARIANCE.double().diagonal().sqrt()
    assert bool(((samples.mean(0) - MEAN).abs() < (5 / math.sqrt(n) + 0.03) * spread).all())
    correlation = (samples.T.cov() - COVARIANCE).abs() / torch.outer(spread, spread)
    assert float(correlation.max()) < 5 * math.sqrt(2 / n) + 0.05


class Undecided(nn.Module):
    """A network's answer, and for the variance a logit of 0 on every coordinate."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x, c_noise):
        return torch.cat([self.network(x, c_noise), torch.zeros_like(x)], dim=1)


ANNEALED = [
    preset for preset in DIFFUSIONS if preset != "dae"
]  # whose noise does not go to zero: see test_dae
# of first order, adaptive, and in need of close levels; those of higher order take 40 steps
ENOUGH = {
    "ancestral": 200,
    "ddim": 200,
    "euler": 200,
    "euler_maruyama": 200,
    "langevin": 100,
    "ode": 2,
}
WAYS = [(preset, "published") for preset in ANNEALED] + [("ddpm", method) for method in METHODS]
WAYS += [("edm", method) for method in METHODS if method not in ENOUGH]


def exact(preset, rows, means, weights, s):
    """A model of the preset that has met the rows, with the exact network for their law."""
    model = PRESETS[preset](width=8, depth=1)
    model.meet(Rows(rows))
    known = Exact(model.schedule, model.target, model.sigma_data, means, weights, s)
    model.denoiser.network = Undecided(known) if model.objective.learned_variance else known
    return model


@pytest.mark.parametrize("std", [0.1, 0.2, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("preset", ANNEALED)
def test_samples_are_as_wide_as_the_data_unless_a_method_is_asked_for(preset, std):
    """Within 0.5 %, of a Gaussian: noise goes in once, at the start, and comes out in proportion.

    What is drawn is then of the law that `score` gives the density of.
    """
    rows = torch.randn(400, 1, generator=torch.Generator().manual_seed(0))
    rows = std * (rows - rows.mean()) / rows.std(correction=0)
    model = exact(preset, rows, torch.zeros(1), torch.ones(1), std)
    given = []

    def noise(like):
        given.append(torch.tensor([[1.0], [-1.0], [0.0]], dtype=like.dtype))
        return given[-1]

    up, down, middle = model.draw(3, noise=noise).double().flatten().tolist()
    assert len(given) == 1
    assert (up - down) / 2 == pytest.approx(std, rel=0.005)
    assert middle == pytest.approx(0, abs=0.005 * std)


@pytest.mark.parametrize(("preset", "method"), WAYS)
def test_an_exact_network_is_sampled_right_by_every_preset_and_method(preset, method):
    """Independent coordinates at -1 (0.7) and 1.5 (0.3), each with a standard deviation of 0.2."""
    means, weights, s, n = torch.tensor([-1.0, 1.5]), torch.tensor([0.7, 0.3]), 0.2, 1500
    generator = torch.Generator().manual_seed(0)
    pick = torch.multinomial(weights, 8000, replacement=True, generator=generator).reshape(4000, 2)
    rows = means[pick] + s * torch.randn(4000, 2, generator=generator)
    model = exact(preset, rows, means, weights, s)
    steps = min(model.steps, 200) if method == "published" else ENOUGH.get(method, 40)
    x = model.sample_rows(n, steps=steps, method=method, seed=2, batch=n)
    upper = x > 0.25
    assert upper.mean() == pytest.approx(0.3, abs=4 * math.sqrt(0.21 / (2 * n)) + 0.01)
    for mode, side in ((-1.0, x[~upper]), (1.5, x[upper])):
        assert side.mean() == pytest.approx(mode, abs=4 * s / math.sqrt(len(side)) + 0.01)
        assert side.std() == pytest.approx(s, abs=4 * s / math.sqrt(2 * len(side)) + 0.015)
    assert abs(np.corrcoef(x.T)[0, 1]) < 4 / math.sqrt(n)  # the coordinates stay independent
