"""One conformance check of every preset: what a model promises, whichever family it is of."""

from __future__ import annotations

import copy
import inspect
import json
import math
from contextlib import nullcontext
from functools import cache
from importlib import import_module

import numpy as np
import pytest
import torch
from model_cases import Rows, shaken, small
from PIL import Image

from undiffuse.diffusion import METHODS, RowNoise
from undiffuse.errors import InputError
from undiffuse.models import MODELS, PRESETS, base, build_model
from undiffuse.models.likelihood import HOW, Bound, Density, Likelihood, Weighted
from undiffuse.models.vae import DRAWS
from undiffuse.training import fit

NAMES = ("cat", "dog", "emu")
SHARES = (0.6, 0.3, 0.1)
SMALL_WAYS = {Bound: Bound(3), Density: Density(steps=2), Weighted: Weighted(3)}
every_preset = pytest.mark.parametrize("preset", PRESETS)


def source(n=300, shape=(2,), classes=NAMES):
    generator = torch.Generator().manual_seed(0)
    shares = torch.tensor(SHARES[: len(classes)] or (1.0,))
    label = torch.multinomial(shares, n, replacement=True, generator=generator)
    x = torch.randn(n, *shape, generator=generator) + label.reshape(-1, *[1] * len(shape))
    return Rows(x, label if classes else None, classes)


@cache
def fitted(preset, shape=(2,)):
    """A model of labelled rows, its weights shaken; of vectors, after a step of training."""
    torch.manual_seed(0)
    model, data = PRESETS[preset](**small(preset, shape)), source(shape=shape)
    if len(shape) == 1:
        fit(model, data, steps=1, batch=16, device="cpu", precision="float32")
    else:
        model.meet(data)
    return shaken(model).eval()


def reread(model):
    """What its configuration, as strict JSON, and its weights make of a new model."""
    again = build_model(json.loads(json.dumps(model.config(), allow_nan=False)))
    again.load_state_dict(model.state_dict())
    again.transform, again.classes = model.transform, model.classes
    return again.eval()


def options_of(model, steps):
    return {"steps": steps} if model.steps_of(None) else {}


# --- written down and read back


def samples_are_written_down(model):
    """The same configuration and samples after reading it back."""
    again = reread(model)
    assert again.config() == model.config()
    assert again.measured
    one, other = (m.sample_rows(3, seed=1, **options_of(m, 2)) for m in (model, again))
    np.testing.assert_array_equal(one, other)
    assert np.isfinite(one).all()


def numbers_are_written_down(model, x, label):
    """The same diagnostics and likelihoods after reading it back."""
    found = []
    for either in (model, reread(model)):
        torch.manual_seed(0)  # sliced score matching draws directions
        numbers = either.diagnostics(x, label=label)
        if not either.no_density:
            how = next((SMALL_WAYS[way] for way in either.scored_by), None)
            numbers["nats"] = either.likelihood_rows(x[:4], how=how, label=0).nats.tolist()
        found.append(numbers)
    assert found[0] == found[1]
    assert math.isfinite(found[0]["loss"])


@every_preset
@pytest.mark.parametrize("shape", [(2,), (2, 9), (1, 5, 6)], ids=str)
def test_its_samples_are_written_down_with_its_weights(preset, shape):
    samples_are_written_down(fitted(preset, shape))


@every_preset
def test_its_diagnostics_and_likelihoods_are_written_down(preset):
    numbers_are_written_down(fitted(preset), source().rows[:8], source().labels[:8])


# --- samples


def is_a_function_of_seed_and_number(model, **options):
    """A sample is the same in any batch, from any first number, and another with another seed."""
    whole = model.sample_rows(5, seed=3, **options)
    size = np.abs(whole).max()
    for first, batch, n in ((0, 3, 5), (0, 5, 3), (2, 2, 3)):
        part = model.sample_rows(n, seed=3, first=first, batch=batch, **options)
        np.testing.assert_allclose(part, whole[first : first + n], rtol=1e-3, atol=1e-3 * size)
    other = model.sample_rows(5, seed=4, **options)
    for difference in (other - whole, whole[1:] - whole[:-1]):
        assert np.abs(difference).max(1).min() > 1e-2 * whole.std()


@every_preset
def test_a_sample_depends_on_the_seed_and_its_number_alone(preset):
    model = fitted(preset)
    is_a_function_of_seed_and_number(model, **options_of(model, 3))


def labels_are_independent_of_samples(model):
    """The classes are drawn as often as in the data, and tell nothing of the noise of the samples.

    Rank correlations of a label with numbers that decide the sample are within chance.
    """
    n = 3000
    labels = model.sample_conditions(n, seed=5)["label"].numpy()
    shares = np.bincount(labels, minlength=3) / n
    error = np.sqrt(np.array(model.class_shares) * (1 - np.array(model.class_shares)) / n)
    assert (np.abs(shares - model.class_shares) < 4 * error).all()
    assert (model.sample_conditions(50, seed=5, first=20)["label"].numpy() == labels[20:70]).all()
    assert (model.sample_conditions(n, seed=6)["label"].numpy() != labels).any()
    z = RowNoise(5, n)(torch.empty(n, 4)).numpy()
    for number in z.T:
        correlation = np.corrcoef(number, labels)[0, 1]
        assert abs(correlation) < 4.5 / math.sqrt(n)


@every_preset
def test_classes_are_drawn_apart_from_the_samples(preset):
    labels_are_independent_of_samples(fitted(preset))


class Sheet:
    """A form whose picture has a pixel for each row."""

    def sound(self, rows):
        return None

    def preview(self, rows):
        return Image.new("L", (len(rows), 1))


@every_preset
def test_a_preview_hears_a_stop_after_each_step(preset, monkeypatch):
    model, polls = fitted(preset), []
    monkeypatch.setattr(model, "form", Sheet())
    monkeypatch.setattr(model, "preview_options", options_of(model, 2))

    def stop():
        polls.append(len(polls))
        return len(polls) > steps

    steps = 2 if model.steps_of(None) else 1
    assert model.preview(3, seed=0, stop=stop).picture.size == (3, 1)
    assert len(polls) == steps  # once a step
    assert model.preview(3, seed=0, stop=stop) is None
    assert len(polls) == steps + 1  # and not one step more


@every_preset
def test_drawing_leaves_the_model_as_it_was(preset):
    model, seen = fitted(preset), []
    model.train()
    model.sample_rows(2, callback=lambda i, n, t, x: seen.append((i, n)), **options_of(model, 2))
    assert model.training
    model.eval()
    assert seen[-1][0] == seen[-1][1]
    for mistake in ({"n": 0}, {"n": 1, "batch": 0}):
        with pytest.raises(InputError, match="at least 1"):
            model.sample_rows(**mistake)
    with pytest.raises(InputError, match="no such class; the model knows cat, dog, emu"):
        model.sample_rows(1, label="cow")


# --- training


def gradient(player):
    parts = [p.grad.flatten() for p in player.module.parameters() if p.grad is not None]
    return torch.cat(parts) if parts else torch.zeros(1)


def every_player_is_moved_by_its_own_loss(model, x, label):
    """Every player has a loss that moves it alone, and no parameter has no player."""
    players, seen = model.players(), []
    torch.manual_seed(0)
    model.zero_grad(set_to_none=True)
    for player, loss in model.losses(x, label=label):
        assert math.isfinite(float(loss.detach()))
        loss.backward()
        assert float(gradient(players[player]).norm()) > 0
        others = [gradient(other) for name, other in players.items() if name != player]
        assert all(float(other.norm()) == 0 for other in others)
        model.zero_grad(set_to_none=True)
        seen.append(player)
    assert seen == list(players)
    owned = {id(p) for player in players.values() for p in player.module.parameters()}
    assert owned == {id(p) for p in model.parameters()}


@every_preset
def test_every_player_has_a_loss_that_moves_it_and_nothing_else_is_left(preset):
    data = source()
    every_player_is_moved_by_its_own_loss(fitted(preset), data.rows[:64], data.labels[:64])


def hides_its_share_of_labels(model):
    """The networks of all losses see the rows' own labels, all the same, but for a hidden share."""
    n, seen = 4000, []
    hooks = [
        module.register_forward_pre_hook(
            lambda _, args, given: seen.append(given["label"]) if "label" in given else None,
            with_kwargs=True,
        )
        for player in model.players().values()
        for module in player.module.modules()
    ]
    label, share = torch.arange(n) % 3, model.drop_condition
    torch.manual_seed(0)
    assert len(list(model.losses(torch.randn(n, 2), label=label))) == len(model.players())
    for hook in hooks:
        hook.remove()
    assert seen
    assert all(torch.equal(one, seen[0][:: n // len(one)]) for one in seen)  # some take a share
    hidden = seen[0] == -1
    error = (share * (1 - share) / n) ** 0.5
    assert float(hidden.double().mean()) == pytest.approx(share, abs=4 * error)
    assert torch.equal(seen[0][~hidden], label[~hidden])


@every_preset
def test_labels_are_hidden_in_training_at_their_share(preset):
    hides_its_share_of_labels(fitted(preset))


def the_class_reaches_every_network(model, use):
    """Every call of a network that takes labels has the one asked for; another changes numbers."""
    seen, hooks = [], []
    for module in model.modules():
        parameters = inspect.signature(module.forward)
        if "label" in parameters.parameters:
            hooks.append(
                module.register_forward_pre_hook(
                    lambda _, args, given, parameters=parameters: seen.append(
                        parameters.bind(*args, **given).arguments.get("label")
                    ),
                    with_kwargs=True,
                )
            )
    found = use(1)
    assert all(label is not None and bool((label == 1).all()) for label in seen)
    for hook in hooks:
        hook.remove()
    other = use(2)
    assert found.shape == other.shape
    assert float(np.abs(found - other).max()) > 0


@every_preset
def test_the_class_that_is_asked_for_reaches_every_network(preset):
    """In drawing, in scoring each way, and in what is watched."""
    model, x = fitted(preset), source().rows[:6]
    uses = [lambda k: model.sample_rows(6, label=k, **options_of(model, 2)).sum(1)]
    uses += (
        []
        if model.no_density
        else [
            lambda k, way=way: model.likelihood_rows(x, label=k, how=SMALL_WAYS[way]).nats.numpy()
            for way in model.scored_by
        ]
    )

    def watched(k):
        torch.manual_seed(0)
        return np.array([model.diagnostics(x, label=torch.full((6,), k))["loss"]])

    for use in (*uses, watched):
        the_class_reaches_every_network(model, use)


@every_preset
def test_meeting_the_data_twice_changes_nothing_and_others_are_refused(preset):
    model = fitted(preset)
    before, config = {k: v.clone() for k, v in model.state_dict().items()}, model.config()
    modules = [id(module) for module in model.modules()]
    model.meet(source(n=100))
    assert [id(module) for module in model.modules()] == modules
    assert model.config() == config
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    with pytest.raises(InputError, match=r"shape \(4,\), but the model was made for \(2,\)"):
        model.meet(source(shape=(4,)))
    with pytest.raises(InputError, match="2 classes, but the network was made for 3"):
        model.meet(source(classes=("cat", "dog")))
    model.meet(source())


def classes_of(tree):
    """Every number of classes in the tree of a configuration."""
    if isinstance(tree, dict):
        own = [value for name, value in tree.items() if name == "classes"]
        return own + [one for value in tree.values() for one in classes_of(value)]
    return []


@every_preset
def test_networks_know_as_many_classes_as_the_data_have(preset):
    for classes in ((), ("cat", "dog")):
        model = PRESETS[preset](**small(preset))
        model.meet(source(40, classes=classes))
        assert set(classes_of(model.config())) == {len(classes)}


@every_preset
def test_a_model_that_has_not_met_its_data_says_so(preset):
    model = PRESETS[preset]()
    for use in (
        model.players,
        lambda: model.sample_rows(1),
        lambda: model.draw(1, noise=torch.zeros_like),
        lambda: model.log_prob(torch.zeros(1, 2)),
        lambda: model.log_prob("rows.npy"),
        lambda: model.likelihood_rows(torch.zeros(1, 2)),
        lambda: next(iter(model.losses(torch.zeros(1, 2)))),
    ):
        with pytest.raises(InputError, match="has not met its data"):
            use()


def refusal(use, *args, **options):
    """What a call is refused with; None if it is not."""
    try:
        use(*args, **options)
    except InputError as problem:
        return str(problem)
    return None


@every_preset
def test_a_sampler_is_refused_without_drawing_in_the_words_that_drawing_refuses_it(
    preset, monkeypatch
):
    model = fitted(preset)
    asked = [{"method": name} for name in (*METHODS, *DRAWS, "heum")]
    asked += [{"steps": steps} for steps in (0, 1, 2)]
    if math.isfinite(most := model.most_steps(None)):
        asked += [{"steps": int(most) + 1}]
        model.check_sampler(steps=int(most))
    with monkeypatch.context() as patch:
        patch.setattr(type(model), "draw", None)
        refused = [refusal(model.check_sampler, **sampler) for sampler in asked]
    for sampler, words in zip(asked, refused):
        if words is not None or sampler in ({"steps": 1}, {"steps": 2}):
            assert refusal(model.sample_rows, 1, **sampler) == words
        assert words is not None or "method" not in sampler or sampler["method"] in model.methods
    assert refused[asked.index({"method": "heum"})] is not None
    assert refused[asked.index({"steps": 0})] is not None


# --- likelihoods


def says_how_it_is_scored(model, x):
    """Each way of scoring that it names gives numbers with errors; each other one is refused.

    A model without a density says so in one sentence, whatever it is asked.
    """
    ways = {name: SMALL_WAYS[way] for name, way in HOW.items()}
    if model.no_density or not model.scored_by:
        ways[None] = None
    for name, how in ways.items():
        if model.no_density or (how is not None and type(how) not in model.scored_by):
            sentence = model.no_density or f"method {name}: .* not scored by it; .*[.]$"
            with pytest.raises(InputError, match=sentence):
                model.likelihood_rows(x, how=how)
            continue
        scored = model.likelihood_rows(x, how=how, label=1)
        assert scored.kind in ("exact", "bound", "estimate")
        assert scored.nats.shape == scored.stderr.shape == (len(x),)
        assert scored.nats.dtype == torch.float64
        assert bool(scored.nats.isfinite().all())
        assert scored.evaluations >= 1
        if scored.kind == "exact":
            solved = isinstance(how, Density)  # else a closed form
            assert bool(((scored.stderr > 0) == solved).all())
        else:
            assert bool((scored.stderr > 0).all())
        again = model.likelihood_rows(x[2:], how=how, label=1, first=2)
        torch.testing.assert_close(again.nats, scored.nats[2:], rtol=1e-4, atol=1e-4)


@every_preset
def test_it_says_how_it_is_scored(preset):
    says_how_it_is_scored(fitted(preset), source().rows[:4])


def test_every_family_is_reached_by_some_preset():
    assert {type(make()) for make in PRESETS.values()} == set(MODELS.values())


# --- a family that breaks one of these laws is caught


def broken(preset, **changes):
    """A copy of a fitted model in which single methods or attributes are others."""
    model = copy.deepcopy(fitted(preset))
    for name, value in changes.items():
        setattr(model, name, value)
    return model


def test_what_the_configuration_leaves_out_is_caught():
    own = fitted("flow").draw
    model = broken("flow", draw=lambda n, **options: 2 * own(n, **options))
    with pytest.raises(AssertionError):
        samples_are_written_down(model)


def test_samples_from_another_stream_than_their_own_are_caught():
    own = fitted("flow").draw
    model = broken("flow", draw=lambda n, noise, **cond: own(n, noise=torch.randn_like, **cond))
    with pytest.raises(AssertionError):
        is_a_function_of_seed_and_number(model)


def test_labels_from_the_samples_own_stream_are_caught(monkeypatch):
    monkeypatch.setattr(base, "RowNoise", lambda *numbers, purpose: RowNoise(*numbers))
    with pytest.raises(AssertionError):
        labels_are_independent_of_samples(fitted("edm"))


def test_a_loss_that_moves_another_player_is_caught(monkeypatch):
    module = import_module("undiffuse.models.gan")
    monkeypatch.setattr(module, "frozen", lambda module: nullcontext())
    with pytest.raises(AssertionError):
        every_player_is_moved_by_its_own_loss(fitted("gan"), source().rows, source().labels)


@pytest.mark.parametrize("hide", [dict, lambda cond: {"label": torch.full_like(cond["label"], -1)}])
def test_labels_that_are_always_seen_or_never_are_caught(hide):
    with pytest.raises(AssertionError):
        hides_its_share_of_labels(broken("flow", hidden=hide))


def even(x):
    return torch.zeros(len(x), dtype=torch.float64)


def scored_as(nats, stderr, kind="exact"):
    return {"likelihood": lambda x, **_: Likelihood(nats(x), stderr(x), kind, 1.0)}


def test_a_model_that_is_scored_as_it_says_passes():
    says_how_it_is_scored(broken("flow", **scored_as(even, even)), source().rows[:4])


@pytest.mark.parametrize(
    "changes",
    [
        scored_as(even, even, "bound"),  # without an error
        scored_as(even, lambda x: even(x) + 1),  # exact, with an error
        scored_as(even, even, "rough"),  # no such kind
        scored_as(lambda x: even(x).normal_(), even),  # not the same again
        scored_as(lambda x: even(x) + torch.inf, even),
    ],
)
def test_a_model_that_is_scored_otherwise_than_it_says_is_caught(changes):
    with pytest.raises(AssertionError):
        says_how_it_is_scored(broken("flow", **changes), source().rows[:4])


def test_a_model_without_a_density_that_does_not_say_so_is_caught():
    with pytest.raises(InputError):
        says_how_it_is_scored(broken("gan", no_density=""), source().rows[:4])
