"""Laws of diffusion models: written down and read back, seeds and rows, labels, meeting data,
networks of one's own.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from model_cases import DIFFUSIONS, Identity, Recorder, Rows, shaken
from torch import nn

from undiffuse import nn as networks
from undiffuse import parts
from undiffuse.diffusion import EDM, METHODS, PARTS, Karras, RowNoise
from undiffuse.diffusion.denoiser import AbstractDenoiser
from undiffuse.diffusion.objectives import EDMWeight, LogNormalTimes, Objective
from undiffuse.diffusion.steps.moves import Heun
from undiffuse.diffusion.target import Preconditioned, VTarget
from undiffuse.errors import InputError
from undiffuse.models import PRESETS, Diffusion, build_model
from undiffuse.training import fit

NAMES = ("cat", "dog", "emu")
SIZES = {"width": 16, "depth": 1}
every_preset = pytest.mark.parametrize("preset", PRESETS)
every_diffusion = pytest.mark.parametrize("preset", DIFFUSIONS)


def rows(n=400, shape=(3,), classes=NAMES, shares=(0.7, 0.2, 0.1)):
    generator = torch.Generator().manual_seed(0)
    labels = (
        torch.multinomial(torch.tensor(shares), n, replacement=True, generator=generator)
        if classes
        else None
    )
    return Rows(2 * torch.randn(n, *shape, generator=generator) + 1, labels, classes)


def met(preset, source=None, **sizes):
    model = PRESETS[preset](**(SIZES | sizes))
    model.meet(source or rows())
    return shaken(model).eval()


def own(network, **changes):
    """EDM's row of choices around a given network."""
    objective = Objective(weighting=EDMWeight(), times=LogNormalTimes())
    row = {
        "schedule": EDM(),
        "target": Preconditioned(),
        "objective": objective,
        "step": Heun(),
        "grid": Karras(),
    }
    return Diffusion(**row, steps=4, network=network, **changes)


@pytest.mark.parametrize("method", ["", "no such method", "Deis"])
def test_a_method_that_is_none_is_refused_as_the_model_is_made(method):
    """Which a damaged config.json may hold: not when it is drawn from."""
    tree = PRESETS["edm"](torch.arange(18.0).reshape(9, 2).numpy(), width=8).config()
    build_model(tree)
    with pytest.raises(InputError, match="method"):
        build_model({**tree, "method": method})


@pytest.mark.parametrize("kind", PARTS)
def test_every_part_is_rebuilt_from_strict_json(kind):
    """A number that is not finite has no place in JSON, and a default must not be one."""
    times = {"times": LogNormalTimes()}
    made = {
        "discrete_vp": {"betas": (0.1, 0.2)},
        "objective": {"weighting": EDMWeight(), **times},
        "explicit_score_matching": times,
        "sliced_score_matching": times,
        "bounded": {"of": VTarget()},
    }
    part = PARTS[kind](**made.get(kind, {}))
    assert (
        parts.rebuild(json.loads(json.dumps(parts.describe(part, PARTS), allow_nan=False)), PARTS)
        == part
    )


def test_a_part_that_is_not_finite_is_refused_before_training(tmp_path):
    model = PRESETS["edm"](**SIZES)
    model.step = Heun(churn_to=float("inf"))
    with pytest.raises(InputError, match="one of its numbers is not finite"):
        fit(model, rows(), steps=1, out=tmp_path / "run", device="cpu", precision="float32")
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("method", [method for method in METHODS if method != "ode"])
def test_a_sample_of_any_method_depends_on_the_seed_and_its_number_alone(method):
    """The same as `test_families` holds every preset's own method to."""
    model = met("vp")
    whole = model.sample_rows(7, seed=3, steps=6, method=method)
    for n, batch in ((7, 3), (4, 64)):
        close = model.sample_rows(n, seed=3, batch=batch, steps=6, method=method)
        np.testing.assert_allclose(close, whole[:n], rtol=1e-3, atol=1e-3 * np.abs(whole).max())
    other = model.sample_rows(7, seed=4, steps=6, method=method)
    assert (np.abs(other - whole).max(1) > 1e-2 * np.abs(whole).max(1)).all()  # each by its size
    assert np.abs(whole[1:] - whole[:-1]).max(1).min() > 1e-2 * np.abs(whole).std()


def test_the_network_sees_the_label_that_was_asked_for_and_no_other():
    network = Recorder()
    model = own(network)
    model.meet(rows())
    for label in ("dog", 1):
        network.seen.clear()
        model.sample_rows(5, batch=2, label=label)
        assert network.seen
        assert all(bool((label == 1).all()) for label in network.seen)
    network.seen.clear()
    model.sample_rows(5, batch=2, seed=8)
    first = torch.cat(
        [label for i, label in enumerate(network.seen) if i % 7 == 0]
    )  # a pass of 4 Heun steps is 7
    assert first.tolist() == model.sample_conditions(5, seed=8)["label"].numpy().tolist()
    for label in ("cow", 3, -1):
        with pytest.raises(InputError, match="no such class; the model knows cat, dog, emu"):
            model.sample_rows(5, label=label)


def test_a_number_that_names_a_class_is_that_name():
    source = rows(classes=("10", "1", "0"))
    model = met("edm", source)
    assert [model.label_index(label) for label in (10, "1", 0)] == [0, 1, 2]
    with pytest.raises(InputError, match="label 2: no such class"):
        model.label_index(2)


def test_a_model_without_classes_refuses_a_label():
    model = met("edm", rows(classes=()))
    assert model.sample_conditions(3) == {}
    with pytest.raises(InputError, match="trained without labels"):
        model.sample_rows(2, label=1)


def test_classes_are_drawn_as_often_as_in_the_data():
    source = rows(n=3000)
    model = met("edm", source)
    n = 4000
    drawn = np.bincount(model.sample_conditions(n)["label"].numpy(), minlength=3) / n
    shares = torch.bincount(source.labels[:2700]).numpy() / 2700  # those of the training rows
    assert np.abs(drawn - shares).max() < 4 * np.sqrt(0.25 / n)
    assert (
        np.abs(
            np.bincount(model.sample_conditions(n, seed=1)["label"].numpy(), minlength=3) / n
            - drawn
        ).max()
        > 0
    )


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_drop_condition_hides_that_share_of_the_labels(share):
    network, n = Recorder(), 4000
    model = own(network, drop_condition=share)
    source = rows(n=n)
    model.meet(source)
    torch.manual_seed(0)
    next(model.losses(source.rows, label=source.labels))
    (seen,) = network.seen
    hidden = seen == -1
    assert float(hidden.double().mean()) == pytest.approx(
        share, abs=4 * (share * (1 - share) / n) ** 0.5 + 1e-12
    )
    assert torch.equal(seen[~hidden], source.labels[~hidden])


@every_diffusion
def test_what_is_measured_is_the_data_s(preset):
    source = rows(n=1000, classes=())
    model = PRESETS[preset](width=16, depth=1)
    model.meet(source)
    x = source.rows[:900].double()
    assert model.sigma_data == pytest.approx(float(x.std(correction=0)), rel=1e-6)
    assert model.data_range == (float(x.min()), float(x.max()))
    torch.testing.assert_close(model.prior.mean.double(), x.mean(0), rtol=1e-6, atol=0)
    torch.testing.assert_close(model.prior.std.double(), x.std(0, correction=0), rtol=1e-6, atol=0)
    kept = own(Recorder(), sigma_data=0.7, data_range=(-9.0, 9.0))
    kept.meet(source)
    assert (kept.sigma_data, kept.data_range) == (0.7, (-9.0, 9.0))
    assert kept.target == Preconditioned(0.7)


@every_diffusion
def test_a_model_rebuilt_before_any_checkpoint_measures_its_prior(preset):
    source = rows()
    model = met(preset, source)
    again = build_model(model.config())
    again.meet(source)
    assert again.config() == model.config()
    assert torch.equal(again.prior.mean, model.prior.mean)
    assert torch.equal(again.prior.std, model.prior.std)
    loaded = build_model(model.config())
    loaded.load_state_dict(model.state_dict())
    loaded.meet(rows(n=50))
    assert torch.equal(loaded.prior.mean, model.prior.mean)


@every_diffusion
def test_an_unknown_method_is_refused_with_a_suggestion(preset):
    model = met(preset)
    model.train()
    with pytest.raises(InputError, match=r"method heum: no such method. Did you mean heun\?"):
        model.sample_rows(1, method="heum")
    assert model.training
    for mistake in ({"n": 0}, {"n": 1, "batch": 0}, {"n": 1, "steps": 0}):
        with pytest.raises(InputError, match="at least 1"):
            model.sample_rows(**mistake)


def test_the_seed_decides_the_first_weights_and_the_caller_s_random_state_does_not():
    def weights(state, seed):
        torch.manual_seed(state)
        model = PRESETS["edm"](**SIZES).fit(
            rows(), steps=2, batch=8, seed=seed, device="cpu", precision="float32"
        )
        return torch.cat([parameter.flatten() for parameter in model.parameters()])

    assert torch.equal(weights(1, seed=3), weights(2, seed=3))
    assert not torch.allclose(weights(1, seed=3), weights(1, seed=4))


def test_a_model_that_has_not_met_its_data_says_so():
    for model in (PRESETS["edm"](), own(Recorder()), own(Recorder(), shape=(3,), clip=True)):
        with pytest.raises(InputError, match="has not met its data"):
            model.draw(1, noise=torch.zeros_like)


class Own(nn.Module):
    """A network that somebody else wrote."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)

    def forward(self, x, c_noise):
        return self.layer(torch.cat([x, c_noise[:, None]], dim=1))


@pytest.mark.parametrize("shape", [None, (3,)])
def test_a_network_of_one_s_own_is_trained_and_sampled(shape):
    model, source = own(Own(), shape=shape), rows(classes=())
    losses = [fit(model, source, steps=1, batch=64, device="cpu").held_out["loss"]]
    losses.append(fit(model, source, steps=200, batch=64, lr=1e-2, device="cpu").held_out["loss"])
    assert losses[1] < losses[0]
    assert model.sigma_data == pytest.approx(float(source.rows[:360].std(correction=0)))
    assert torch.allclose(model.prior.mean, source.rows[:360].mean(0), atol=1e-6)
    assert isinstance(model.transform, Identity)
    assert np.isfinite(model.sample_rows(5)).all()


def test_a_network_of_one_s_own_has_to_be_registered_to_be_written_down(tmp_path, monkeypatch):
    source = rows(classes=())
    with pytest.raises(
        InputError, match=r"Own: a run records its parts by kind.*register it.*or train without out"
    ):
        fit(own(Own()), source, steps=1, out=tmp_path / "run", device="cpu")
    assert not any(tmp_path.iterdir())
    monkeypatch.setitem(networks.NETWORKS, "own", Own)
    fit(own(Own()), source, steps=1, out=tmp_path / "run", device="cpu", precision="float32")
    tree = json.loads((tmp_path / "run" / "config.json").read_text())["model"]
    assert isinstance(build_model(tree).network, Own)


def test_a_network_that_takes_no_label_is_not_trained_on_labelled_data():
    with pytest.raises(
        InputError, match="the data have 3 classes, but its forward takes no `label`"
    ):
        own(Own()).meet(rows())


class Spy(AbstractDenoiser):
    """A denoiser that keeps what it was shown."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser, self.schedule, self.shown = denoiser, denoiser.schedule, []

    def estimate(self, x_t, t, **cond):
        self.shown.append((x_t.detach(), t.detach()))
        return self.denoiser.estimate(x_t, t, **cond)


@every_diffusion
def test_what_is_known_starts_at_the_noise_that_the_rest_starts_at(preset):
    """alpha x + sigma z at t = 1, z of variance 1; and comes back as it was given."""
    n = 400
    model, spies = met(preset, rows(60, (n,), classes=())), []
    known, mask = torch.full((4, n), 7.0), torch.arange(n).expand(4, n) % 2 == 0

    def wrap(denoiser):
        spies.append(Spy(denoiser))
        return spies[0]

    x = model.draw(4, noise=RowNoise(0, 4), steps=2, wrap=wrap, known=(known, mask))
    assert torch.equal(x[mask], known[mask])
    x_t, t = spies[0].shown[0]
    assert bool((t == 1).all())
    alpha, sigma = model.schedule(torch.ones((), dtype=torch.float64))
    z = ((x_t.double() - alpha * known) / sigma)[mask]
    assert float(z.mean()) == pytest.approx(0, abs=5 / len(z) ** 0.5)
    assert float(z.std()) == pytest.approx(1, abs=5 / (2 * len(z)) ** 0.5)
    prior = model.prior.moments()
    others = ((x_t.double() - prior[0]) / prior[1])[~mask]
    assert float(others.std()) == pytest.approx(1, abs=5 / (2 * len(z)) ** 0.5)
