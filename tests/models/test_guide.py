"""Guidance by class that is chosen for a tuned model: where it mends a network, and not else.

The network knows two classes exactly, but that it may think them closer together than they are.
Guidance moves what it says away from both classes together, and so undoes that.
"""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from model_cases import Exact
from torch import nn

import undiffuse as ud
from undiffuse.diffusion import RowNoise
from undiffuse.evaluation import guide as guiding
from undiffuse.evaluation.guide import can_be_guided, guide
from undiffuse.models import PRESETS
from undiffuse.models.diffusion import guided
from undiffuse.models.tuning import Candidate, Tuned
from undiffuse.training.sound import sound_sampler

TIMES = torch.linspace(1, 0, 13) ** 3


class TwoClasses(nn.Module):
    """The network of two classes around -apart and apart, which are those of the data at 0.95."""

    def __init__(self, model, apart: float) -> None:
        super().__init__()
        means = torch.tensor([-apart, apart])
        shares = [[0.5, 0.5], [1.0, 1e-9], [1e-9, 1.0]]
        parts = (model.schedule, model.target, model.sigma_data)
        self.each = nn.ModuleList(Exact(*parts, means, torch.tensor(w), 0.3) for w in shares)
        self.classes, self.rows = 2, 0

    def forward(self, x, c_noise, label):
        self.rows += len(x)
        c_noise = c_noise.expand(len(x))
        every = torch.stack([one(x[:, 0], c_noise) for one in self.each])
        return every[label + 1, torch.arange(len(x))][:, None]


def made(apart: float):
    """A tuned model of sequences of two numbers, one class below and one above, and its data."""
    random = np.random.default_rng(0)
    label = np.arange(3000) % 2
    rows = (2 * label - 1)[:, None, None] * 0.95 + 0.3 * random.normal(size=(3000, 2, 1))
    data = ud.load((rows.astype("float32"), label), axes="NTC")
    model = PRESETS["edm"](width=8, kind="transformer", depth=1, heads=1)
    model.meet(data)
    model.denoiser.network, model.denoiser.linear = TwoClasses(model, apart), None
    times = tuple(float(t) for t in TIMES)
    model.tuned = Tuned((Candidate("deis", times, 0.0),), 0, 1000, 100)
    return model, data


@pytest.fixture(scope="module")
def few():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(guiding, "SEEDS", 400)
        yield


@pytest.fixture(scope="module")
def chosen(few):
    """A model that mixes its classes, guided, and what was said."""
    model, data = made(0.6)
    return model, data, guide(model, data, features=lambda x: x.flatten(1))


def test_a_network_that_thinks_classes_too_close_is_guided_until_they_are_not(chosen):
    model, _, said = chosen
    by = model.tuned.guidance
    assert by.excess < -2 * by.stderr
    assert f"scale {by.scale:g}" in said
    assert "scores are not guided" in said

    def off(**how) -> float:
        return abs(float(model.sample_rows(400, label=1, seed=3, **how).mean()) - 0.95)

    assert off() < 0.6 * off(wrap=guided(model, 1.0))


def test_an_exact_network_is_not_guided(few, monkeypatch):
    """Its distance alone says so."""
    monkeypatch.setattr(guiding, "KEPT", 1.0)
    model, data = made(0.95)
    said = guide(model, data, features=lambda x: x.flatten(1))
    assert model.tuned.guidance is None
    assert "left out" in said


def test_nothing_is_guided_that_reaches_less_of_the_data(few, monkeypatch):
    """However close it comes: here both shares would have to rise by more than they can."""
    monkeypatch.setattr(guiding, "KEPT", -1.0)
    model, data = made(0.6)
    assert "left out" in guide(model, data, features=lambda x: x.flatten(1))
    assert model.tuned.guidance is None


@pytest.mark.parametrize(("stderr", "scale"), [(0.4, guiding.SCALES[-1]), (0.6, None)])
def test_what_two_standard_errors_explain_is_not_taken(few, monkeypatch, stderr, scale):
    """Each scale comes closer by 1 than the one before."""

    class Closer:
        distance, recall, coverage = 9.0, 0.5, 0.5

        def __init__(self, features, real):
            self.distance = Closer.distance = Closer.distance - 1

        def farther(self, other):
            return self.distance - other.distance, stderr

    monkeypatch.setattr(guiding, "_Drawn", Closer)
    monkeypatch.setattr(guiding, "SEEDS", 16)
    model, data = made(0.6)
    guide(model, data, features=lambda x: x.flatten(1))
    by = model.tuned.guidance
    assert (by and by.scale) == scale
    assert by is None or (by.excess, by.stderr) == (-4.0, stderr)


def test_the_standard_error_of_a_distance_is_its_spread_over_draws():
    """That of the difference of two sets of samples, whose rows are not the same."""
    random = torch.Generator().manual_seed(0)
    real = torch.randn(500, 3, generator=random).double()
    found = []
    for _ in range(60):
        one, other = (
            guiding._Drawn(s * torch.randn(320, 3, generator=random).double(), real)
            for s in (1.5, 1.2)
        )
        found.append(one.farther(other))
    excess, stderr = np.array(found).T
    assert excess.mean() > 5 * stderr.mean()
    assert stderr.mean() == pytest.approx(excess.std(ddof=1), rel=0.25)


def test_samples_by_default_are_those_of_the_guidance_that_was_chosen(chosen):
    """Along the tuned times; a method, or rows without a class, are drawn as they were before."""
    model, _, _ = chosen
    by = model.tuned.guidance
    same = guided(model, by.scale, low=by.low, high=by.high)
    assert np.array_equal(model.sample_rows(5, seed=1), model.sample_rows(5, seed=1, wrap=same))
    plain, _ = made(0.6)
    asked = {"method": "dpmpp", "steps": 7}
    assert np.array_equal(
        model.sample_rows(5, seed=1, **asked), plain.sample_rows(5, seed=1, **asked)
    )
    rows = torch.as_tensor(plain.sample_rows(20, seed=2))
    for how in ({}, {"label": 1}):
        ours, theirs = (one.likelihood_rows(rows, **how).nats for one in (model, plain))
        assert torch.equal(ours, theirs)


def test_evaluations_are_counted_with_those_of_guidance(chosen):
    model, _, _ = chosen
    network = model.denoiser.network
    network.rows = 0
    label = torch.zeros(8, dtype=torch.int64)
    model.draw(8, noise=RowNoise(0, 8), label=label)
    cost = model.tuned.evaluations(model.schedule)
    assert network.rows == 8 * cost
    assert 12 < cost < 24
    assert model.within(cost) == {}
    network.rows = 0
    model.draw(8, noise=RowNoise(0, 8), label=label, **model.within(cost - 1))
    assert network.rows <= 8 * (cost - 1)


def test_what_was_chosen_reads_back_and_a_range_that_falls_is_refused(chosen):
    model, _, _ = chosen
    tree = json.loads(json.dumps(model.tuned_tree))
    assert Tuned.read(sound_sampler(tree)) == model.tuned
    tree["guidance"]["low"] = tree["guidance"]["high"]
    with pytest.raises(ValueError, match="range"):
        Tuned.read(tree)


def test_a_search_that_is_stopped_or_has_no_time_leaves_samples_unguided(chosen):
    model, data, _ = chosen
    other, _ = made(0.6)
    assert "stopped" in guide(other, data, features=lambda x: x.flatten(1), stop=lambda: True)
    guide(other, data, features=lambda x: x.flatten(1), seconds=0.0)
    assert other.tuned.guidance is None
    assert replace(model.tuned, guidance=None) == other.tuned


def test_images_and_recordings_with_classes_are_guided_and_nothing_else():
    assert can_be_guided(made(0.6)[0])
    table = PRESETS["edm"](width=8, depth=1)
    random = np.random.default_rng(0)
    table.meet(ud.load((random.normal(size=(100, 2)).astype("float32"), np.arange(100) % 2)))
    assert not can_be_guided(table)
    unlabelled = PRESETS["edm"](width=8, kind="transformer", depth=1, heads=1)
    unlabelled.meet(ud.load(random.normal(size=(100, 4, 1)).astype("float32"), axes="NTC"))
    assert not can_be_guided(unlabelled)
