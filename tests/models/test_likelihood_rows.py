"""Log-likelihoods in the data's own units: rows are independent, bounds on known
numbers ordered.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import numpy as np
import pytest
import torch
from model_cases import Exact, Identity, Recorder, Rows, shaken
from torch import nn

from undiffuse.data.arrays.transform import ArrayTransform
from undiffuse.data.images.form import ImageForm, image_transform
from undiffuse.diffusion import EDM, Karras
from undiffuse.diffusion.likelihood.dequantize import TruncatedNormal
from undiffuse.diffusion.objectives import EDMWeight, LogNormalTimes, Objective
from undiffuse.diffusion.steps.moves import Heun
from undiffuse.diffusion.target import Preconditioned
from undiffuse.errors import InputError
from undiffuse.interfaces import PartialRows
from undiffuse.models import MODELS, Diffusion
from undiffuse.models.likelihood import (
    HOW,
    Bound,
    Density,
    Likelihood,
    bits_per_dimension,
    combined,
    how_of,
    log_mean_exp,
)
from undiffuse.models.presets import edm

ODE = {"how": Density(tolerance=1e-4)}


class Flat(nn.Module):
    """A network for vectors, given rows of any shape."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x, c_noise):
        return self.network(x.flatten(1), c_noise).reshape(x.shape)


def known(means, s, transform, *, sigma_min=0.002):
    """A model that is exact for independent coordinates from equal parts N(m, s^2)."""
    schedule = EDM(sigma_min=sigma_min)
    means = torch.tensor(means, dtype=torch.float64)
    weights = torch.full_like(means, 1 / len(means))
    network = Flat(Exact(schedule, Preconditioned(1.0), 1.0, means, weights, s))
    model = Diffusion(
        schedule=schedule,
        target=Preconditioned(1.0),
        objective=Objective(weighting=EDMWeight(), times=LogNormalTimes()),
        step=Heun(),
        grid=Karras(),
        steps=4,
        network=network,
        sigma_data=1.0,
        shape=tuple(transform.shape),
    )
    model.prior.mean.fill_(float(means.mean()))
    model.prior.std.fill_(float((means.var(correction=0) + s**2).sqrt()))
    model.transform = transform
    return model.eval()


def whole(std=4.0, centre=8.0):
    """Whole numbers 0 .. 15 in one column, bins of width 1/std."""
    return ArrayTransform(
        row_shape=(1,),
        axes="C",
        dtype="int64",
        mean=(centre,),
        std=(std,),
        low=(0,),
        high=(15,),
    )


def test_bounds_on_a_known_probability_are_ordered():
    """uniform <= importance-weighted uniform <= log P(k), for a density bent within its bins."""
    model, s = known([0.0], 0.15, whole()), math.hypot(0.15, 0.002)
    k = torch.full((1, 1), 8).expand(400, 1)
    normal = torch.distributions.Normal(0.0, s)
    log_p = float((normal.cdf(torch.tensor(0.25)) - normal.cdf(torch.tensor(0.0))).log())
    uniform = model.likelihood_rows(k, draws=2, **ODE)
    weighted = model.likelihood_rows(k, draws=6, importance=True, **ODE)
    assert (uniform.kind, weighted.kind) == ("bound", "bound")
    assert float(uniform.nats.mean()) + 0.05 < float(weighted.nats.mean()) < log_p + 0.01
    assert float(weighted.nats.mean()) > log_p - 0.05
    u = torch.linspace(0, 0.25, 10_001).double()
    expected = float(normal.log_prob(u).mean()) - math.log(
        4
    )  # E_u[log p(x)] + the correction, exactly
    error = float(uniform.nats.std()) / 400**0.5
    assert abs(float(uniform.nats.mean()) - expected) <= 4.5 * error + 1e-3
    assert float(uniform.stderr.square().mean().sqrt()) == pytest.approx(
        float(uniform.nats.std()), rel=0.15
    )


@pytest.mark.parametrize("importance", [True, False])
def test_draws_weighted_by_importance_share_the_probe_and_averaged_ones_do_not(
    importance, monkeypatch
):
    model, probes, found = known([0.0], 1.0, whole()), [], Diffusion.likelihood

    def spied(self, x, *, noise, **options):
        probes.append(noise(x))
        return found(self, x, noise=noise, **options)

    monkeypatch.setattr(Diffusion, "likelihood", spied)
    model.likelihood_rows(torch.full((2, 1), 8), draws=3, importance=importance, **ODE)
    assert len(probes) == 3
    assert [torch.equal(probe, probes[0]) for probe in probes[1:]] == [importance] * 2


def test_truncated_normal_is_closer_for_a_model_of_bin_centres():
    centres = [(j + 0.5 - 8) / 4 for j in range(16)]
    model = known(centres, 0.0, whole(), sigma_min=0.02)
    k = torch.full((1, 1), 8).expand(200, 1)
    uniform = model.likelihood_rows(k, draws=2, **ODE).nats.mean()
    truncated = model.likelihood_rows(
        k, draws=2, dequantization=TruncatedNormal.of(model.schedule), **ODE
    ).nats.mean()
    assert float(truncated) == pytest.approx(
        -math.log(16), abs=0.01
    )  # tight: the noise is the model's own
    assert float(uniform) < float(truncated) - 1


def test_truncated_normal_loses_the_entropy_of_a_bin_that_a_model_fills_evenly():
    """log(width / sqrt(2 pi e) sigma) for each value: the model is flat within a bin."""
    model, k = known([0.0], 1.0, whole(), sigma_min=0.01), torch.full((1, 1), 8).expand(400, 1)
    uniform = model.likelihood_rows(k, draws=2, **ODE).nats.mean()
    truncated = model.likelihood_rows(
        k, draws=2, dequantization=TruncatedNormal.of(model.schedule), **ODE
    ).nats.mean()
    lost = math.log(0.25 / (math.sqrt(2 * math.pi * math.e) * 0.01))
    assert float(uniform - truncated) == pytest.approx(lost, abs=4 * math.sqrt(0.5 / 800) + 0.01)


def test_whole_numbers_in_bins_need_no_dequantization():
    transform = image_transform(
        ImageForm(row_shape=(1, 1), channel_axis=None, levels=8, dtype="uint8")
    )
    model = known([0.1], 0.4, transform, sigma_min=0.05)
    k = torch.arange(8, dtype=torch.uint8)[:, None, None].repeat(16, 1, 1)
    bound = model.likelihood_rows(k, how=Bound(100))
    coarse = known([0.1], 0.4, transform, sigma_min=0.002)  # the bound ends above that noise
    again = coarse.likelihood_rows(k, how=Bound(100)).nats.reshape(16, 8).mean(0)
    normal = torch.distributions.Normal(0.1, math.hypot(0.4, 0.05))
    edges = torch.cat(
        [torch.tensor([-math.inf]), torch.linspace(-0.75, 0.75, 7), torch.tensor([math.inf])]
    )
    log_p = normal.cdf(edges).diff().log()
    assert bound.kind == "bound"
    nats = bound.nats.reshape(16, 8).mean(0)
    assert float(nats.exp().sum()) < 1.05
    assert float((nats - log_p).abs()[2:6].max()) < 0.2
    assert float((again - nats).abs()[2:6].max()) < 0.2


def met(**changes):
    model = edm(width=16, depth=1)
    labels = torch.randint(2, (60,), generator=torch.Generator().manual_seed(1))
    model.meet(
        Rows(torch.randn(60, 3, generator=torch.Generator().manual_seed(0)), labels, ("a", "b"))
    )
    return shaken(model).eval()


@pytest.mark.parametrize("how", [Bound(4), Density(steps=3, probes=1)], ids=["elbo", "ode"])
def test_a_row_depends_on_its_seed_and_number_alone(how):
    options = {"how": how}
    model, rows = met(), torch.randn(6, 3)
    together = model.likelihood_rows(rows, seed=5, first=10, **options).nats
    apart = torch.cat(
        [
            model.likelihood_rows(rows[i : i + 2], seed=5, first=10 + i, **options).nats
            for i in (0, 2, 4)
        ]
    )
    torch.testing.assert_close(together, apart, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(
        together, model.likelihood_rows(rows, seed=6, first=10, **options).nats, atol=1e-3
    )
    np.testing.assert_allclose(
        model.log_prob(rows, batch=4, seed=5, **options),
        model.likelihood_rows(rows, seed=5, **options).nats,
        rtol=1e-4,
    )


def test_a_label_is_given_or_hidden():
    network = Recorder()
    model = met()
    model.denoiser.network = network
    rows = torch.randn(3, 3)
    for label, seen in ((None, -1), ("b", 1), (0, 0)):
        network.seen.clear()
        model.likelihood_rows(rows, label=label, how=Bound(2))
        assert network.seen
        assert all(bool((value == seen).all()) for value in network.seen)
    with pytest.raises(InputError, match="no such class"):
        model.likelihood_rows(rows, label="c")


def test_one_surprising_or_broken_row_is_its_own_affair():
    transform = ArrayTransform(
        row_shape=(2,),
        axes="C",
        dtype="float32",
        mean=(0.0, 5.0),
        std=(2.0, 0.0),
        low=(-9.0, 5.0),
        high=(9.0, 5.0),
        rows=99,
    )
    model = known([0.0], 1.0, transform)
    rows = torch.tensor([[0.0, 5.0], [0.0, 4.0], [math.nan, 5.0], [2.0, 5.0]])
    found = model.likelihood_rows(rows, **ODE)
    want = torch.distributions.Normal(0.0, 2.0).log_prob(torch.tensor([0.0, 0.0, 2.0])).double()
    want += torch.tensor([0.99, 0.01, 0.99]).log()
    torch.testing.assert_close(found.nats[[0, 1, 3]], want, atol=1e-3, rtol=0)
    assert found.kind == "exact"
    assert found.nats[2].isnan()
    assert float(found.stderr[[0, 1, 3]].max()) < 1e-2


def test_what_cannot_be_done_is_said():
    model, rows = met(), torch.randn(2, 3)
    with pytest.raises(InputError, match=r"method elbow: .*Did you mean elbo\?"):
        how_of(model, "elbow")
    with pytest.raises(InputError, match="use method ode"):
        model.likelihood_rows(rows, how=Bound(), importance=True, draws=2)
    with pytest.raises(
        InputError,
        match=r"^probes: method elbo takes only evaluations; leave it out\.$",
    ):
        how_of(model, "elbo", probes=2)
    with pytest.raises(
        InputError, match=r"^evaluations: method ode takes only tolerance, steps, probes; "
    ):
        how_of(model, "ode", evaluations=2)
    with pytest.raises(InputError, match="draws 0"):
        model.likelihood_rows(rows, draws=0)
    with pytest.raises(InputError, match="batch 0"):
        model.log_prob(rows, batch=0)
    with pytest.raises(InputError, match="has not met its data"):
        edm().likelihood_rows(rows)


def test_bits_are_those_of_a_uniform_code():
    assert bits_per_dimension(-784 * 8 * math.log(2), 784) == pytest.approx(8)


@pytest.mark.parametrize("importance", [True, False])
@pytest.mark.parametrize(("spread", "inner"), [(0.3, 0.0), (0.3, 0.5), (0.0, 0.5)])
def test_the_standard_error_of_several_draws_is_that_of_repetition(spread, inner, importance):
    """Weighted draws share the noise of the likelihood, averaged ones have their own."""
    n, generator = 20_000, torch.Generator().manual_seed(0)

    def normal(*shape):
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    own = normal(1, n).expand(8, n) if importance else normal(8, n)
    parts = [
        Likelihood(nats, torch.full_like(nats, inner), "estimate", 1.0)
        for nats in spread * normal(8, n) + inner * own
    ]
    found = combined(parts, importance)
    said = float(found.stderr.square().mean().sqrt())
    assert said == pytest.approx(float(found.nats.std()), rel=0.03)


def every_way_is_taken():
    """Each named way is some family's, each family's ways have names and share no options."""
    taken = {way for family in MODELS.values() for way in family.scored_by}
    assert taken == set(HOW.values())
    for family in MODELS.values():
        options = [field.name for way in family.scored_by for field in fields(way)]
        assert len(options) == len(set(options))


@dataclass(frozen=True)
class Again:
    """A way with an option that another way of the family has."""

    evaluations: int = 3


def test_every_way_of_scoring_is_some_family_s(monkeypatch):
    every_way_is_taken()
    monkeypatch.setitem(HOW, "again", Again)
    with pytest.raises(AssertionError):
        every_way_is_taken()
    monkeypatch.setattr(MODELS["diffusion"], "scored_by", (Density, Bound, Again))
    with pytest.raises(AssertionError):
        every_way_is_taken()
    monkeypatch.setattr(Again, "__dataclass_fields__", {})
    every_way_is_taken()


@pytest.mark.parametrize("name", HOW)
def test_a_way_that_a_model_does_not_take_is_refused_with_those_that_it_takes(name):
    model = met()
    if HOW[name] in model.scored_by:
        assert how_of(model, name) == HOW[name]()
        assert model.likelihood_rows(torch.randn(2, 3), how=HOW[name]()).nats.isfinite().all()
    else:
        with pytest.raises(InputError, match=rf"method {name}: .* by it; use elbo or ode"):
            how_of(model, name)
        with pytest.raises(InputError, match="not scored by it"):
            model.likelihood_rows(torch.randn(2, 3), how=HOW[name]())


@pytest.mark.parametrize(("columns", "way"), [(2, Density()), (16, Density()), (17, Bound())])
def test_unasked_the_density_is_taken_in_few_dimensions_and_the_bound_in_many(columns, way):
    model = known([0.0], 1.0, Identity((columns,)))
    rows = torch.randn(2, columns, generator=torch.Generator().manual_seed(0))
    found, asked = (model.likelihood_rows(rows, how=how) for how in (None, way))
    assert (found.kind, found.evaluations) == (asked.kind, asked.evaluations)
    assert torch.equal(found.nats, asked.nats)


def test_an_option_alone_chooses_the_way_that_takes_it():
    model = met()
    assert how_of(model) is None
    assert how_of(model, evaluations=5) == Bound(5)
    assert how_of(model, probes=0) == Density(probes=0)
    with pytest.raises(InputError, match="evaluations, probes: scoring by this model takes only"):
        how_of(model, evaluations=5, probes=0)
    for way, options in ((Bound, {"evaluations": 0}), (Density, {"tolerance": 0.0})):
        with pytest.raises(InputError, match="give a"):
            way(**options)


def test_rows_are_completed_apart_as_together():
    """The adaptive solver drops rows that have arrived: what is known of the others stays."""
    model, n = known([0.0], 0.7, Identity((3,))), 3
    rows = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    given = PartialRows(rows, np.array([[True, False, False], [False, True, True]]))
    for method in ("ode", "heun"):
        whole = model.sample_rows(n, given=given, method=method, steps=2, seed=1)
        np.testing.assert_array_equal(whole[:n, 0], rows[0, 0].repeat(n))
        np.testing.assert_array_equal(whole[n:, 1:], rows[1:, 1:].repeat(n, 0))
        apart = model.sample_rows(n, given=given, method=method, steps=2, seed=1, batch=2)
        np.testing.assert_allclose(whole, apart, rtol=1e-3, atol=1e-3)


def test_the_jackknife_of_two_draws_is_half_of_how_far_they_are_apart():
    """Without either draw the other one is left: sqrt((n - 1) / n sum (value - mean)^2)."""
    nats = torch.tensor([[-1.0, 5.0, -700.0], [2.0, 5.0, -710.0]]).double()
    found, stderr = log_mean_exp(nats)
    assert stderr.tolist() == pytest.approx([1.5, 0.0, 5.0], abs=1e-12)
    wanted = [math.log((math.exp(-1) + math.exp(2)) / 2), 5.0, -700 + math.log1p(math.exp(-10.0))]
    wanted[2] -= math.log(2)
    assert found.tolist() == pytest.approx(wanted, rel=1e-12)
    value, unknown = log_mean_exp(nats[:1])
    assert torch.equal(value, nats[0])
    assert bool(unknown.isnan().all())
