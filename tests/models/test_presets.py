"""Laws of the presets: every option, word and dimension reaches what it is about, and
no other is taken.
"""

from __future__ import annotations

import inspect
import re

import numpy as np
import pytest
import torch
from model_cases import Exact, Recorder, Rows, shaken
from torch import nn

import undiffuse as ud
from undiffuse.diffusion import (
    BETAS,
    Ancestral,
    Beta,
    Learned,
    LinearVP,
    Uniform,
    linear_betas,
    target,
)
from undiffuse.diffusion.objectives import (
    VLB,
    DiscreteTimes,
    Hybrid,
    MinSNR,
    Objective,
    Simple,
    SlicedScoreMatching,
    UniformTimes,
    VariationalBound,
)
from undiffuse.diffusion.objectives.weighting import Weighting
from undiffuse.diffusion.schedules.levels import largest_distance
from undiffuse.errors import InputError
from undiffuse.models import MODELS, PRESETS
from undiffuse.models.losses import LOSSES, hybrid, min_snr, simple, vlb
from undiffuse.models.presets import WORDS, dimensions, options
from undiffuse.nn import FLOWS, NETWORKS
from undiffuse.parts import arguments

SIZES = {"width": 8, "depth": 1}
SHAPES = ((2,), (2, 9), (1, 6, 6))
CANDIDATES = {int: (1, 2, 3, 4), float: (0.1, 0.2), tuple: ((1,), (1, 2), (0,), (0, 1), ())}


def source(n=300, shape=(2,)):
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([1.0, 0.3]) if shape == (2,) else 1.0
    return Rows(torch.randn(n, *shape, generator=generator) * scale + 0.5)


def met(make, shape=(2,), **options):
    torch.manual_seed(0)
    model = make(**options)
    model.meet(source(40, shape))
    return model


# --- the law of options: each of its values makes another model


def values_of(make, option):
    """The words of an option, or two numbers of its type."""
    if option in WORDS:
        return WORDS[option]
    own = inspect.signature(make).parameters.get(option)  # None: every diffusion model takes it
    kind = float if own is None or "float" in str(own.annotation) else int
    return {str(value): value for value in ((0.2, 0.4) if kind is float else (3, 4))}


def option_reaches_the_model(make, option):
    """Every value of the option makes a model of its own, the same by its word and by its part."""
    seen = []
    for word, part in values_of(make, option).items():
        try:
            model = met(make, **{option: part}, **SIZES)
        except InputError as problem:  # it takes other options, or other data: as its word does
            with pytest.raises(InputError, match=f"^{re.escape(str(problem))}$"):
                met(make, **{option: word if option in WORDS else part}, **SIZES)
            continue
        if option in WORDS:
            assert met(make, **{option: word}, **SIZES).config() == model.config()
        assert model.config() not in seen
        seen.append(model.config())
    assert seen


@pytest.mark.parametrize(
    ("preset", "option"),
    [(preset, option) for preset in PRESETS for option in options(preset)],
)
def test_every_option_of_every_preset_reaches_its_model(preset, option):
    option_reaches_the_model(PRESETS[preset], option)


# --- the law of dimensions: each reaches the networks


def dimension_reaches_the_networks(make, kind, name):
    """Some value other than what the data would choose is found in a network, and kept."""
    chosen = {"kind": kind} if kind in {**NETWORKS, **FLOWS} else {}
    for shape in SHAPES:
        small = {"width": 8} if name != "width" else {}
        try:
            usual = met(make, shape, **chosen, **small)
        except InputError:  # this kind is for rows of another shape
            continue
        if (before := found(usual, name)) is None:
            continue
        for value in CANDIDATES[type(before)]:
            if value != before:
                try:
                    model = met(make, shape, **chosen, **small, **{name: value})
                except InputError:  # of this dimension, but too small or too large
                    continue
                assert found(model, name) == value
                assert kind not in chosen.values() or model.config()["network"]["kind"] == kind
                return
    raise AssertionError(f"{kind}: no value of {name} reaches a network")


def found(model, name):
    """The dimension as a network of the model keeps it."""
    modules = (module for player in model.players().values() for module in player.module.modules())
    return next((getattr(one, name) for one in modules if name in arguments(type(one))), None)


@pytest.mark.parametrize(
    ("preset", "kind", "name"),
    [
        (preset, kind, name)
        for preset in ("edm", "vae", "gan", "flow")
        for kind, names in dimensions(preset).items()
        for name in names
    ],
)
def test_every_dimension_of_every_network_can_be_set(preset, kind, name):
    dimension_reaches_the_networks(PRESETS[preset], kind, name)


def test_presets_of_a_family_share_its_dimensions():
    by_family = {}
    for preset, make in PRESETS.items():
        by_family.setdefault(type(make()), []).append(dimensions(preset))
    assert {len({str(one) for one in family}) for family in by_family.values()} == {1}
    assert len(by_family) == len(MODELS)


# --- whatever is not an option is refused


@pytest.mark.parametrize("preset", PRESETS)
def test_what_is_no_option_is_refused_at_once_with_the_nearest(preset):
    make, kinds = PRESETS[preset], dimensions(preset)
    names = {*options(preset), *(name for kind in kinds.values() for name in kind)}
    for name in names:
        wrong = name[:-1] + "_" + name[-1]
        with pytest.raises(InputError, match=f"^{preset}: {wrong}: no such option. Did you mean "):
            make(**{wrong: 3})
    for option in set(options(preset)) & set(WORDS):
        with pytest.raises(InputError, match=f"^{option} nought: no such {option}. .*[(].*[)]$"):
            make(**{option: "nought"})


def test_a_dimension_of_another_kind_of_network_is_refused_at_once():
    with pytest.raises(
        InputError, match=r"edm: patch: no such option. .*\(depth, dropout, gaps, kind"
    ):
        ud.edm(kind="mlp", patch=2)
    with pytest.raises(InputError, match=r"kind autoregresive: .*Did you mean autoregressive\?"):
        ud.flow(kind="autoregresive")
    with pytest.raises(InputError, match="vae: kind: no such option"):
        ud.vae(kind="mlp")


def test_a_wrong_preset_is_caught():
    def deaf(data=None, *, levels: int = 10, **sizes):
        return ud.ddpm(data, levels=10, **SIZES)

    def mute(data=None, *, betas="linear", **sizes):
        return ud.ddpm(data, betas="cosine" if betas == "linear" else betas, levels=10, **sizes)

    for make, option in ((deaf, "levels"), (mute, "betas")):
        with pytest.raises(AssertionError):
            option_reaches_the_model(make, option)
    with pytest.raises(AssertionError):
        dimension_reaches_the_networks(deaf, "mlp", "octaves")


# --- single presets


@pytest.mark.parametrize("preset", ["ncsn", "ssm"])
def test_noise_levels_are_computed_from_the_data(preset):
    model, data = PRESETS[preset](**SIZES), source()
    model.meet(data)
    rows = data.rows[:270]
    assert model.schedule.sigma_max == pytest.approx(largest_distance(rows))
    assert model.steps == model.schedule.levels
    moments = model.prior.moments()
    torch.testing.assert_close(
        moments[1] ** 2, rows.var(0, correction=0) + model.schedule.sigma_max**2
    )


@pytest.mark.parametrize("prediction", WORDS["prediction"])
@pytest.mark.parametrize(
    ("loss", "variance", "betas"),
    [
        ("simple", "beta", "linear"),
        ("min_snr", "beta_tilde", "cosine"),
        ("vlb", "beta_tilde", "sigmoid"),
        ("vlb", "learned", "linear"),
        ("hybrid", "learned", "cosine"),
    ],
)
def test_every_kind_of_ddpm_trains_and_draws(prediction, loss, variance, betas):
    words = {"prediction": prediction, "loss": loss, "variance": variance, "betas": betas}
    model = met(ud.ddpm, levels=12, **words, **SIZES)
    shaken(model.network)
    assert model.schedule.betas == BETAS[betas](12)
    parts = WORDS["prediction"][prediction], WORDS["variance"][variance]
    assert (model.target, model.step.variance) == parts
    ((_, value),) = model.losses(source().rows[:32])
    value.backward()
    assert all(
        bool(p.grad.isfinite().all()) for p in model.network.parameters() if p.grad is not None
    )
    low, high = model.data_range
    drawn = model.sample_rows(20)
    assert drawn.min() >= low  # the last step returns x_hat, which is kept in range
    assert drawn.max() <= high


class Scaled(nn.Module):
    """The network that is exact for N(0, 1), its answer scaled, and a logit of the variance."""

    def __init__(self, schedule, out, scale):
        super().__init__()
        self.exact = Exact(schedule, target.data, 1.0, torch.zeros(1), torch.ones(1), 1.0)
        self.out, self.scale = out, scale

    def forward(self, x, c_noise):
        x_hat = self.scale * self.exact(x, c_noise)
        return torch.cat([x_hat, 0 * x_hat], dim=1) if self.out == 2 else x_hat


def trains_the_mean_and_a_learned_variance(loss):
    """For every variance it is refused by name, or trains just what is learned.

    The variance is trained if and only if it is learned, and no network has a smaller loss on
    Gaussian rows than the exact one.
    """
    accepted, refusals = 0, []
    x = torch.randn(300, 2, generator=torch.Generator().manual_seed(1))
    for variance in WORDS["variance"].values():
        try:
            model = ud.ddpm(prediction="data", variance=variance, loss=loss, levels=8, **SIZES)
        except InputError as problem:
            refusals.append(str(problem))
            continue
        accepted += 1
        assert model.objective.learned_variance == variance.learned
        model.meet(Rows(x))
        found = []
        for scale in (0.9, 1.0, 1.1):
            out = 2 if variance.learned else 1
            model.denoiser.network = Scaled(model.schedule, out, scale)
            found.append(model.diagnostics(x)["loss"])
        assert found[1] < min(found[0], found[2])
    assert accepted
    assert all(re.match("loss [a-z_]+: .*variance", refusal) for refusal in refusals)


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_trains_the_mean_and_a_learned_variance(loss):
    trains_the_mean_and_a_learned_variance(LOSSES[loss])


def unlearned(variance):
    return Objective(weighting=Simple(), times=DiscreteTimes())


def upside_down(variance):
    return Objective(weighting=Negative(), times=DiscreteTimes())


class Negative(Weighting):
    """A weight below zero."""

    def __call__(self, schedule, t):
        return -torch.ones_like(t)


@pytest.mark.parametrize("loss", [unlearned, upside_down])
def test_a_wrong_loss_is_caught(loss):
    with pytest.raises(AssertionError):
        trains_the_mean_and_a_learned_variance(loss)


def test_each_loss_is_what_it_is_called():
    assert simple(Beta()).weighting == Simple()
    assert min_snr(Beta()).weighting == MinSNR()
    assert vlb(Beta()) == VariationalBound(variance=Beta())
    assert hybrid(Learned()) == Hybrid()


@pytest.mark.parametrize("make", [ud.ddpm, ud.iddpm, ud.vdm], ids=lambda make: make.__name__)
@pytest.mark.parametrize("levels", [1, 0])
def test_a_chain_of_one_level_is_refused(make, levels):
    with pytest.raises(InputError, match=f"levels {levels}: .*ask for at least 2"):
        make(levels=levels)
    model = make(levels=2, **SIZES)
    model.meet(source())
    assert np.isfinite(model.sample_rows(4, steps=2)).all()


def test_a_prediction_that_is_undefined_on_the_path_is_refused():
    ends_in_one = lambda levels: (*linear_betas(levels)[:-1], 1.0)  # noqa: E731
    for prediction in (target.noise, target.score):
        with pytest.raises(InputError, match="no signal left at t = 1; use v, data or velocity"):
            ud.ddpm(prediction=prediction, betas=ends_in_one, levels=10)
    model = ud.ddpm(prediction=target.v, betas=ends_in_one, levels=10, **SIZES)
    model.meet(source())
    assert np.isfinite(model.sample_rows(4)).all()


@pytest.mark.parametrize(
    ("part", "word"),
    [
        ({"target": target.posterior_mean}, "target posterior_mean: .*no levels"),
        (
            {"objective": Objective(weighting=VLB(), times=UniformTimes())},
            "weighting vlb: .*no levels",
        ),
        (
            {"objective": Objective(weighting=Simple(), times=DiscreteTimes())},
            r"times discrete\w*: .*no levels",
        ),
        ({"step": Ancestral(Learned())}, "variance learned: "),
    ],
)
def test_parts_that_can_never_work_together_are_refused_at_once(part, word):
    whole = {
        "schedule": LinearVP(),
        "target": target.noise,
        "step": Ancestral(),
        "grid": Uniform(),
        "steps": 4,
    }
    whole["objective"] = Objective(weighting=Simple(), times=UniformTimes())
    assert ud.Diffusion(**whole).denoiser is None
    with pytest.raises(InputError, match=word):
        ud.Diffusion(**(whole | part))


def test_vdm_with_levels_has_the_discrete_bound():
    model = ud.vdm(levels=10)
    assert (model.objective.weighting, model.objective.times) == (VLB(), DiscreteTimes())
    assert model.schedule.levels == 10
    assert ud.vdm().schedule.levels is None


def test_ssm_is_ncsn_but_for_its_objective():
    ncsn, ssm = ud.ncsn(), ud.ssm()
    assert isinstance(ssm.objective, SlicedScoreMatching)
    assert ncsn.objective.times == ssm.objective.times
    assert (ncsn.schedule, ncsn.step, ncsn.grid) == (ssm.schedule, ssm.step, ssm.grid)


def test_a_learned_schedule_is_trained_saved_and_averaged(tmp_path):
    data, run = np.random.default_rng(0).normal(size=(300, 2)), tmp_path / "run"
    model = ud.vdm(width=8, depth=1)
    options = {"device": "cpu", "precision": "float32", "samples": 0, "evaluate_every": 8}
    model.fit(data, steps=8, batch=32, lr=0.05, warmup=1, out=run, **options)
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    assert not torch.equal(model.schedule(t)[1], ud.vdm().schedule(t)[1])
    assert torch.equal(ud.open(run).schedule(t)[1], model.schedule(t)[1])


class Vectors(Recorder):
    """A recorder of the vectors it was called with."""

    def forward(self, x, c_noise, vector=None):
        self.seen.append(vector)
        return self.weight * x


def test_conditions_that_are_vectors_are_hidden_by_rows_of_zeros():
    network = Vectors()
    model = ud.Diffusion(
        schedule=ud.EDM(),
        target=ud.target.Preconditioned(),
        objective=ud.Objective(
            weighting=ud.objective.EDMWeight(), times=ud.objective.LogNormalTimes()
        ),
        step=ud.Heun(),
        grid=ud.grid.Karras(),
        steps=4,
        network=network,
        drop_condition=0.3,
    )
    model.meet(source())
    x, vector = torch.randn(4000, 2), torch.randn(4000, 5)
    next(model.losses(x, vector=vector))
    (seen,) = network.seen
    hidden = (seen == 0).any(1)
    assert torch.equal(hidden, (seen == 0).all(1))
    assert float(hidden.double().mean()) == pytest.approx(0.3, abs=4 * (0.21 / 4000) ** 0.5)
    assert torch.equal(seen[~hidden], vector[~hidden])
