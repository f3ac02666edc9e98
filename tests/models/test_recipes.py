"""Each preset is its paper's recipe, and what a model chooses by itself is what it says it chooses.

Numbers that differ from a paper's are in the preset's docstring.
"""

from __future__ import annotations

from inspect import signature

import pytest
import torch
from model_cases import DIFFUSIONS, Recorder, Rows
from torch import nn

import undiffuse as ud
from undiffuse.diffusion import (
    EDM,
    VE,
    Ancestral,
    AnnealedLangevin,
    BetaTilde,
    DiscreteVP,
    EulerMaruyama,
    FittedVE,
    Fraction,
    Heun,
    Karras,
    Langevin,
    Learned,
    LearnedVP,
    Levels,
    Linear,
    LinearVP,
    LogSNR,
    SubVP,
    Uniform,
    cosine_betas,
    linear_betas,
    target,
)
from undiffuse.diffusion.objectives import (
    DiscreteTimes,
    EDMWeight,
    FittedTimes,
    FlowMatching,
    Hybrid,
    IndependentCoupling,
    LikelihoodWeight,
    Objective,
    Simple,
    SlicedScoreMatching,
    UniformTimes,
)
from undiffuse.diffusion.target import Preconditioned
from undiffuse.errors import InputError
from undiffuse.models import GAN, PRESETS, VAE
from undiffuse.models.conditions import check_network
from undiffuse.models.gan_losses import Relativistic
from undiffuse.models.likelihood import Bound, Density, Weighted
from undiffuse.models.observation import GaussianObservation
from undiffuse.nn.autoencoder import Autoencoder

SIMPLE = Objective(weighting=Simple(), times=DiscreteTimes())
SDE = Objective(weighting=Simple(), times=UniformTimes())
ANNEALED = (FittedVE(), target.score, AnnealedLangevin(updates=20), Levels(), 232, False)
CHAIN = DiscreteVP(betas=linear_betas(1000))
COSINE = DiscreteVP(betas=cosine_betas(1000))
HEUN = Heun(coordinate=Fraction())
MATCHING = Objective(weighting=FlowMatching(), times=UniformTimes(), coupling=IndependentCoupling())
EDM_LOSS = Objective(weighting=EDMWeight(), times=FittedTimes())
ONE_LEVEL = VE(sigma_min=0.3, sigma_max=0.3, levels=1)
ALONE = Objective(weighting=EDMWeight(), times=DiscreteTimes())
VDM_LOSS = Objective(weighting=LikelihoodWeight(), times=UniformTimes())

# schedule, target, step, grid, steps, whether x_hat is kept in range; then the objective
RECIPES = {
    "edm": ((EDM(), Preconditioned(), Heun(), Karras(), 18, False), EDM_LOSS),
    "ddpm": ((CHAIN, target.noise, Ancestral(BetaTilde()), Levels(), 1000, True), SIMPLE),
    "iddpm": ((COSINE, target.noise, Ancestral(Learned()), Levels(), 250, True), Hybrid()),
    "ncsn": (ANNEALED, SIMPLE),
    "ssm": (ANNEALED, SlicedScoreMatching(times=DiscreteTimes())),
    "vp": ((LinearVP(), target.noise, EulerMaruyama(), LogSNR(), 500, False), SDE),
    "subvp": ((SubVP(), target.noise, EulerMaruyama(), LogSNR(), 500, False), SDE),
    "ve": ((VE(), target.score, EulerMaruyama(), LogSNR(), 500, False), SDE),
    "flow_matching": ((Linear(), target.velocity, HEUN, Uniform(), 20, False), MATCHING),
    "vdm": ((LearnedVP(), target.noise, Ancestral(), LogSNR(), 250, False), VDM_LOSS),
    "dae": (
        (ONE_LEVEL, Preconditioned(), Langevin(size=0.009, updates=10), Uniform(), 50, False),
        ALONE,
    ),
}


@pytest.mark.parametrize("preset", DIFFUSIONS)
def test_a_preset_is_its_recipe(preset):
    model = PRESETS[preset]()
    row = (model.schedule, model.target, model.step, model.grid, model.steps, model.clip)
    assert (row, model.objective) == RECIPES[preset]
    assert model.drop_condition == 0.1
    assert model.one_level == (preset == "dae")
    expected = {"steps": 16} if preset == "dae" else {"method": "dpmpp", "steps": 16}
    assert model.preview_options == expected
    assert model.completes
    assert model.scored_by == (Density, Bound)


def test_the_other_presets_are_their_recipes():
    vae, gan, flow = ud.vae(), ud.gan(), ud.flow()
    assert (vae.observation, vae.latent, vae.scored_by) == (None, None, (Weighted, Bound))
    assert (gan.game, gan.latent, gan.scored_by) == (Relativistic(0.03), None, ())
    assert (vae.no_density, flow.no_density, flow.scored_by) == ("", "", ())
    for model in (vae, gan, flow):
        assert model.drop_condition == 0.1
        assert not model.completes
        assert model.preview_options == {}
        assert model.steps_of(None) is None
        assert model is vae or model.pictures(torch.zeros(1).numpy()) == {}
        assert model.within(1) == {}
    for way, defaults in (
        (Bound, {"evaluations": 64}),
        (Weighted, {"draws": 64}),
        (Density, {"tolerance": 3e-4, "steps": None, "probes": None}),
    ):
        assert {k: p.default for k, p in signature(way).parameters.items()} == defaults


def test_fewer_levels_are_fewer_steps():
    assert ud.iddpm(levels=100).steps == 100
    assert ud.iddpm(levels=400).steps == 250
    assert ud.ddpm(levels=30).steps == 30
    assert ud.dae(sigma=2.0).step.size == pytest.approx(0.4)


# --- what is chosen from the data


class Pair(nn.Module):
    """A network that maps nothing to nothing; labels are welcome."""

    def forward(self, x, label=None):
        return x


@pytest.mark.parametrize(
    ("coordinates", "latent"),
    [(1, 1), (32, 32), (33, 32), (256, 32), (257, 64), (4096, 64), (4097, 128)],
)
def test_a_vae_has_as_many_latent_coordinates_as_a_row_within_bounds(coordinates, latent):
    network = Autoencoder(encoder=Pair(), decoder=Pair(), scales=1)
    model, given = VAE(network=network), VAE(network=network, latent=7)
    for one in (model, given):
        VAE.prepare(one, Rows(torch.zeros(3, coordinates)))
    assert (model.latent, given.latent) == (latent, 7)


@pytest.mark.parametrize(("coordinates", "latent"), [(2, 16), (16, 16), (50, 50), (200, 128)])
def test_a_gan_has_as_many_latent_coordinates_as_a_row_within_bounds(coordinates, latent):
    model = GAN(generator=Pair(), discriminator=Pair())
    GAN.prepare(model, Rows(torch.zeros(3, coordinates)))
    assert model.latent == latent


@pytest.mark.parametrize(
    ("shape", "speed"), [((2,), 3.0), ((2, 8), 1.0), ((1, 4, 4), 1.0)], ids=str
)
def test_the_players_of_a_gan_are_trained_without_momentum_and_the_generator_averaged(shape, speed):
    model = GAN(generator=nn.Linear(2, 2), discriminator=nn.Linear(2, 1), latent=2, shape=shape)
    players = model.players()
    assert [name for name, player in players.items() if player.averaged] == ["generator"]
    for player in players.values():
        assert (player.lr_scale, player.betas) == (speed, (0.0, 0.99))


class Asked(Rows):
    """Rows, and how many of them were asked for."""

    def __init__(self, *given):
        super().__init__(*given)
        self.asked = []

    def sample_batch(self, size):
        self.asked.append(size)
        return super().sample_batch(size)


@pytest.mark.parametrize(("preset", "asked"), [("edm", [4096, 4096]), ("flow", [512, 4096])])
def test_what_is_measured_is_measured_on_thousands_of_rows(preset, asked):
    label = torch.arange(60) % 2
    data = Asked(torch.randn(60, 2), label, ("a", "b"))
    PRESETS[preset](width=8).meet(data)
    assert data.asked == asked


def test_shares_of_classes_are_counted_and_none_is_impossible():
    label = torch.tensor([0] * 60 + [2] * 30 + [1] * 10)  # the last tenth is held out
    model = ud.edm(width=8, depth=1)
    model.meet(Rows(torch.randn(100, 2), label, ("a", "b", "c")))
    counts = torch.tensor([60.001, 0.001, 30.001], dtype=torch.float64)
    assert model.class_shares == pytest.approx((counts / 90.003).tolist(), rel=1e-12)
    kept = ud.Diffusion(
        schedule=EDM(),
        target=Preconditioned(),
        objective=EDM_LOSS,
        step=Heun(),
        grid=Karras(),
        steps=4,
        network=Recorder(),
        class_shares=(0.2, 0.3, 0.5),
    )
    kept.meet(Rows(torch.randn(100, 2), label, ("a", "b", "c")))
    assert kept.class_shares == (0.2, 0.3, 0.5)


def test_classes_divide_the_line_by_their_shares():
    """By the quantile of the sample's own uniform number, whatever the shares add up to."""
    model = ud.edm(width=8, depth=1)
    model.classes = ("a", "b", "c")
    even = model.sample_conditions(3000, seed=4)["label"].numpy()
    assert [int((even == k).sum()) for k in range(3)] == pytest.approx([1000] * 3, abs=120)
    for shares in ((1.0, 2.0, 1.0), (0.25, 0.5, 0.25), (0.0, 1.0, 0.0), (0.0, 0.0, 7.0)):
        model.class_shares = shares
        found = model.sample_conditions(3000, seed=4)["label"].numpy()
        counts = [float((found == k).mean()) for k in range(3)]
        wanted = [share / sum(shares) for share in shares]
        assert counts == pytest.approx(wanted, abs=0.04 if max(wanted) < 1 else 0)
        assert (found[1:] != found[:-1]).any() or max(wanted) == 1
    model.class_shares = (1.0, 2.0, 1.0)
    assert model.sample_conditions(4, label="c")["label"].numpy().tolist() == [2] * 4


@pytest.mark.parametrize(
    ("classes", "found"),
    [
        (("cat", "dog"), {"cat": 0, "dog": 1, 0: 0, 1: 1, "1": 1}),
        (("7", "cat"), {7: 0, "7": 0, "cat": 1}),
        (("-1", "1"), {-1: 0, 1: 1, "-1": 0}),
    ],
)
def test_a_class_is_named_or_numbered_unless_names_are_numbers(classes, found):
    model = ud.edm(width=8, depth=1)
    model.classes = classes
    assert {label: model.label_index(label) for label in found} == found
    for wrong in ("cow", 2, -2, "0.5", *([0] if "cat" not in classes[0] else [])):
        with pytest.raises(InputError, match=f"label {wrong}: no such class; the model knows "):
            model.label_index(wrong)


@pytest.mark.parametrize("n", [20, 21])
def test_no_more_than_twenty_classes_are_shown(n):
    model = ud.edm(width=8, depth=1)
    model.classes = tuple(f"kind{i}" for i in range(n))
    with pytest.raises(InputError) as problem:
        model.label_index("none")
    shown = str(problem.value).partition("knows ")[2]
    assert shown == ", ".join(model.classes[:20]) + (", ...." if n > 20 else ".")


def test_a_condition_is_hidden_given_or_absent():
    model = ud.edm(width=8, depth=1)
    model.meet(Rows(torch.randn(40, 2)))
    assert model.label_condition(3, None) == {}
    with pytest.raises(InputError, match="trained without labels"):
        model.label_condition(3, "a")
    model.classes = ("a", "b")
    assert model.label_condition(2, None)["label"].tolist() == [-1, -1]
    assert model.label_condition(3, "b")["label"].tolist() == [1, 1, 1]
    assert model.label_condition(3, 0)["label"].dtype == torch.int64
    assert model.hidden({}) == {}


class Open(nn.Module):
    """A network that takes whatever it is given, and has no classes of its own."""

    def forward(self, x, **cond):
        return x


class Deaf(nn.Module):
    """A network that takes no labels."""

    classes = 3

    def forward(self, x):
        return x


def test_a_network_takes_the_labels_of_the_data():
    check_network(Open(), {"label": 3})
    check_network(Recorder(), {"label": 3})
    check_network(Deaf(), {"label": 0})
    with pytest.raises(InputError, match="network Deaf: the data have 3 classes, but its forward"):
        check_network(Deaf(), {"label": 3})
    counted = Open()
    counted.classes = 2
    check_network(counted, {"label": 2})
    with pytest.raises(InputError, match="the data have 3 classes, but the network was made for 2"):
        check_network(counted, {"label": 3})


@pytest.mark.parametrize(
    "model",
    [
        VAE(latent=2),
        VAE(observation=GaussianObservation()),
        VAE(network=Autoencoder(encoder=Pair(), decoder=Pair(), scales=1)),
        GAN(latent=2),
        GAN(generator=Pair(), discriminator=Pair()),
    ],
    ids=["latent", "observation", "network", "gan_latent", "gan_networks"],
)
def test_parts_given_beforehand_are_not_yet_a_model(model):
    for use in (model.players, lambda: model.draw(1, noise=torch.zeros_like)):
        with pytest.raises(InputError, match="has not met its data"):
            use()
