"""The bound that every preset reports, on discrete laws with mass at both ends, whose denoiser is
exact: it is a bound, it loses next to nothing, and its decoder is the integral over the noise.
"""

from __future__ import annotations

import functools
import itertools
import math

import pytest
import torch
from model_cases import Recorder, Rows
from torch import nn

from undiffuse.data.images.form import ImageForm, image_transform
from undiffuse.diffusion import Prior
from undiffuse.diffusion.denoiser import Denoiser, Estimate, expand
from undiffuse.diffusion.likelihood.dequantize import UniformNoise
from undiffuse.diffusion.likelihood.elbo import elbo
from undiffuse.diffusion.oracle import Gaussian
from undiffuse.models import PRESETS, Diffusion
from undiffuse.models.diffusion_likelihood import BOUND_FORMS
from undiffuse.models.likelihood import Bound, Density, Likelihood

K = 16
SCORED = [
    name
    for name, made in PRESETS.items()
    if isinstance(model := made(), Diffusion) and not model.no_density
]


def law():
    """A wide normal whose tails fall into the outermost bins, and more mass at either end."""
    k = torch.arange(K).double()
    inner = torch.special.ndtr((torch.arange(1, K).double() - 9) / 5)
    normal = torch.cat([inner.new_zeros(1), inner, inner.new_ones(1)]).diff()
    ends = torch.exp(-k / 2) + torch.exp((k - K + 1) / 2)
    return (normal + ends / ends.sum()) / 2


class Bins(Denoiser):
    """The exact denoiser of independent values at the centres of their bins, with masses P (K,)."""

    def __init__(self, schedule, masses):
        nn.Module.__init__(self)
        self.schedule, self.masses = schedule, masses
        self.centres = (2 * torch.arange(len(masses)).double() + 1) / len(masses) - 1
        self.anything = nn.Parameter(torch.zeros(()))  # models look where their weights are

    def estimate(self, x_t, t, **cond):
        alpha, sigma = (expand(c, x_t.double()) for c in self.schedule(t))
        away = (x_t / alpha)[..., None] - self.centres
        ratio = (sigma / alpha)[..., None] if sigma.ndim else sigma / alpha
        x_hat = (self.masses.log() - (away / ratio).square() / 2).softmax(-1) @ self.centres
        return Estimate(x_hat, (x_t - alpha * x_hat) / sigma, torch.full_like(x_hat, 0.5))


def noise():
    generator = torch.Generator().manual_seed(0)
    return lambda like: torch.randn(like.shape, dtype=like.dtype, generator=generator)


@functools.cache
def known(preset, columns):
    """A preset's model of images 1 x `columns`, exact for independent pixels of the law."""
    model, masses = PRESETS[preset](), law()
    centres = Bins(model.schedule, masses).centres
    mean = float(masses @ centres)
    std = math.sqrt(float(masses @ centres.square()) - mean**2)
    draws = centres[
        torch.multinomial(masses, 2000, True, generator=torch.Generator().manual_seed(0))
    ]
    model.schedule = model.schedule.for_data(draws.reshape(-1, columns).float())
    model.denoiser = Bins(model.schedule, masses)
    model.shape, model.data_range = (1, 1, columns), (-1.0, 1.0)
    whole = torch.full(model.shape, 1.0)
    model.prior = Prior(model.schedule, mean * whole, std * whole)
    form = ImageForm(row_shape=(1, columns), channel_axis=None, levels=K, dtype="uint8")
    model.transform = image_transform(form)
    return model.eval(), masses


def every_row(masses, columns):
    """Every row there is (K^d, 1, d) and its log-probability."""
    rows = torch.cartesian_prod(*[torch.arange(K)] * columns).reshape(-1, 1, columns)
    return rows.to(torch.uint8), masses.log()[rows].sum((1, 2))


class Whole(Rows):
    """Rows of whole numbers."""

    def __init__(self, rows):
        super().__init__(rows)
        self.rows = rows


def source(rows, log_p):
    """All rows of a law, as often as they are likely, in no order."""
    held = rows.repeat_interleave((log_p.exp() * 400).round().long(), 0)
    held = held[torch.randperm(len(held), generator=torch.Generator().manual_seed(0))]
    return Whole(held)


def bounds(model, rows, count, evaluations, **options):
    """(count, rows): the bound of every row, drawn `count` times."""
    found = model.likelihood_rows(rows.repeat(count, 1, 1), how=Bound(evaluations), **options)
    return found.nats.reshape(count, len(rows))


@pytest.mark.parametrize("columns", [1, pytest.param(2, marks=pytest.mark.faults)])
@pytest.mark.parametrize("preset", SCORED)
def test_it_is_a_bound_and_loses_at_most_a_fiftieth_of_a_bit(preset, columns):
    """As chosen on rows of the law: its mean over rows of P, and the sum of exp(mean) over all rows
    there are, which is the mean over rows of P of exp(mean) / P.
    """
    model, masses = known(preset, columns)
    rows, log_p = every_row(masses, columns)
    model.conclude(source(rows, log_p))
    n, count = 48, 8
    places = (torch.arange(n) + 0.5) / n  # evenly over the distribution function
    pick = torch.searchsorted(log_p.exp().cumsum(0), places.double()).clamp(max=len(rows) - 1)
    nats, log_p = bounds(model, rows[pick], count, 64), log_p[pick]
    mean, error = nats.mean(0), nats.std(0) / count**0.5
    gap, gap_error = float((log_p - mean).mean()), float(error.norm()) / n
    assert gap >= -3 * gap_error
    assert gap <= columns * 0.02 * math.log(2) + 3 * gap_error
    ratio = (mean - error.square() / 2 - log_p).exp()  # exp(mean) is too large by half its variance
    assert float(ratio.mean()) <= 1 + 3 * float((ratio * error).norm()) / n


@pytest.mark.parametrize("preset", SCORED)
def test_the_decoder_of_every_value_is_the_integral_over_the_noise(preset):
    """L_0 = -E log P(bin | x_hat(x_t)) where the bound ends, by quadrature, the open bins too."""
    model, _ = known(preset, 1)
    rows = torch.arange(K, dtype=torch.uint8)[:, None, None]
    x, _ = model.transform.encode(rows, torch.zeros_like)
    x, cells = x.double(), model.transform.cells(rows)
    least, n = 2 / 3 * 2 / K, 400
    last = torch.maximum(
        model.schedule.last_time(1e-4),
        model.schedule.inverse(torch.tensor(-2 * math.log(least)).double()),
    )
    alpha, sigma = model.schedule(last)
    z = torch.linspace(-6, 6, 1001, dtype=torch.float64)
    weight = (-z.square() / 2).exp() / (-z.square() / 2).exp().sum()
    x_hat = model.denoiser(alpha * x.reshape(K, 1) + sigma * z, last)
    normal = torch.distributions.Normal(x_hat, sigma / alpha)
    low, high = (edge.reshape(K, 1) for edge in cells)
    truth = -((normal.cdf(high) - normal.cdf(low)).log() * weight).sum(1)
    again = [part.repeat_interleave(n, 0) for part in (x, *cells)]
    found = elbo(
        model.denoiser,
        again[0],
        model.prior,
        evaluations=1,
        cells=(again[1], again[2]),
        least=least,
        noise=noise(),
    ).decoder.reshape(K, n)
    error = found.std(1) / n**0.5
    assert bool(((found.mean(1) - truth).abs() < 4.5 * error + 1e-9).all())


@pytest.mark.parametrize(("preset", "forms"), [("edm", 3), ("ddpm", 5)])
def test_one_form_serves_all_rows_and_is_kept_with_the_weights(preset, forms, monkeypatch):
    """The best on training rows, never that of the rows that are scored."""
    model, masses = known.__wrapped__(preset, 1)  # not that of other tests
    rows, log_p = every_row(masses, 1)
    training, asked = source(rows, log_p), []
    unfinished = "this run has not chosen"
    assert unfinished in model.likelihood_rows(rows, how=Bound(1), draws=1).meaning
    assert unfinished not in model.likelihood_rows(rows, how=Density(steps=1), draws=1).meaning
    assert not model.conclude(training, stop=iter([False, True]).__next__)  # after the first form
    assert unfinished in model.likelihood_rows(rows, how=Bound(1), draws=1).meaning
    for best in range(forms):

        def scored(self, rows, best=best, **options):
            i = int(self.bound_form)
            asked.append((i, rows))
            nats = torch.full((len(rows),), -1.0 if i == best else -2.0).double()
            nats[0] = math.nan if i == (best + 1) % forms else nats[0]
            return Likelihood(nats, 0 * nats, "bound", 1.0)

        with monkeypatch.context() as patched:
            patched.setattr(Diffusion, "likelihood_rows", scored)
            assert model.conclude(training)
        assert int(model.bound_form) == best
        assert int(model.state_dict()["bound_form"]) == best
        form = BOUND_FORMS[best]
        assert model.takes_cells(Bound()) == form.cells
        assert not model.takes_cells(None)  # in one dimension the density is the model's own way
        found = model.likelihood_rows(rows, how=Bound(1), draws=1)
        assert ("whole numbers" in found.meaning, "own levels" in found.meaning) == form[1::-1]
        assert unfinished not in found.meaning
    assert [i for i, _ in asked] == [*range(forms)] * forms
    assert all(torch.equal(rows, training.rows[: len(rows)]) for _, rows in asked)


@pytest.mark.parametrize(
    ("preset", "options", "columns", "rows"),
    [("edm", {}, 64, 32), ("edm", {}, 65, 8), ("ddpm", {"levels": 70}, 2, 32)],
)
def test_choosing_the_form_takes_as_many_evaluations_as_a_budget_sets_aside(
    preset, options, columns, rows
):
    """Rows that pass through the network, counted there: fewer where there are many numbers."""
    model = PRESETS[preset](width=8, **options)
    data = Whole(torch.randint(K, (60, 1, columns), dtype=torch.uint8))
    form = ImageForm(row_shape=(1, columns), channel_axis=None, levels=K, dtype="uint8")
    data.transform = image_transform(form)
    model.meet(data)
    model.denoiser.network, passed = Recorder(), []
    model.network.register_forward_pre_hook(lambda _, given: passed.append(len(given[0])))
    model.conclude(data)
    assert 0.98 * model.conclusion < sum(passed) <= model.conclusion
    assert set(passed) == {rows}
    assert PRESETS["dae"]().conclusion == PRESETS[preset]().conclusion == 0


@pytest.mark.parametrize("preset", SCORED)
def test_bytes_of_a_smooth_law_lose_at_most_a_fiftieth_of_a_bit(preset):
    """N(0, 0.2^2) as a model knows it that was trained on evenly filled bins of width 2/256; it is
    0.22 bits for edm to its least noise.
    """
    std, width, n = torch.full((1,), 0.2).double(), 2 / 256, 1024
    values = std * torch.special.ndtri((torch.arange(n).double()[:, None] + 0.5) / n)
    schedule = PRESETS[preset]().schedule.for_data(values)
    x = width * ((values / width).floor() + 0.5)
    low, high = x - width / 2, x + width / 2
    found = elbo(
        Gaussian(schedule, 0 * std, std),
        x,
        Prior(schedule, 0 * std, std),
        evaluations=64,
        cells=(low, high),
        least=BOUND_FORMS[0].bins * width,
        noise=noise(),
    ).nats
    log_p = (torch.special.ndtr(high / std) - torch.special.ndtr(low / std)).log()[:, 0]
    error = float((log_p - found).std()) / n**0.5
    assert -3 * error <= float((log_p - found).mean()) <= 0.02 * math.log(2) + 3 * error
    assert error < 0.02


@pytest.mark.parametrize("preset", ["edm", "flow_matching"])
def test_bytes_of_few_values_lose_at_most_a_fiftieth_of_a_bit(preset):
    """Black, white and two greys: nothing is between them, so that the least noise loses least.

    Noise of two thirds of a bin, which serves until a form is chosen, leaves
    the bin of a grey at 3/4 of a deviation on both sides, that of black or white on one.
    """
    values, masses = torch.tensor([0, 90, 130, 255]), torch.tensor([0.4, 0.3, 0.2, 0.1]).double()
    model, count = PRESETS[preset](), 256
    model.denoiser = Bins(model.schedule, masses)
    model.denoiser.centres = centres = (2 * values.double() + 1) / 256 - 1
    mean = float(masses @ centres)
    std = math.sqrt(float(masses @ centres.square()) - mean**2)
    model.shape, model.data_range = (1, 1, 1), (-1.0, 1.0)
    one = torch.ones(model.shape)
    model.prior = Prior(model.schedule, mean * one, std * one)
    form = ImageForm(row_shape=(1, 1), channel_axis=None, levels=256, dtype="uint8")
    model.transform = image_transform(form)
    rows = values.to(torch.uint8)[:, None, None]
    inside = torch.special.ndtr(torch.tensor(0.75).double())
    one_sided, two_sided = -math.log(inside), -math.log(2 * inside - 1)
    for chosen, lost in ((False, (one_sided + two_sided) / 2), (True, 0.0)):
        if chosen:
            model.eval().conclude(source(rows, masses.log()))
        nats = bounds(model, rows, count, 64)
        error = float((masses * nats.std(0)).norm()) / count**0.5
        gap = float(masses @ (masses.log() - nats.mean(0))) - lost
        assert -3 * error <= gap <= 0.02 * math.log(2) + 3 * error
        assert error < 0.04


def test_the_forms_are_all_there_are_and_no_two_are_the_same():
    """In continuous time and over levels, with bins and without; where there are no bins, one of
    each time is left.
    """
    assert len(set(BOUND_FORMS)) == len(BOUND_FORMS)
    pairs = itertools.product((False, True), repeat=2)
    assert {(form.levels, form.cells) for form in BOUND_FORMS} == set(pairs)
    assert [form.levels for form in BOUND_FORMS if not form.binned] == [False, True]


def test_noise_that_is_asked_for_is_added_whatever_the_form():
    """Uniform noise is not the bins' own probability: an exact denoiser of points loses by it."""
    model, masses = known("edm", 1)
    rows, log_p = every_row(masses, 1)
    model.bound_form.fill_(0)
    own, uniform = (
        bounds(model, rows, 2, 32, draws=1, dequantization=noise)
        for noise in (None, UniformNoise())
    )
    assert float(log_p.exp() @ (own - uniform).mean(0)) > 1
    model.bound_form.fill_(2)
    torch.testing.assert_close(bounds(model, rows, 2, 32, draws=1), uniform)
