"""Laws of the presets: each builds, learns, draws and is written down; each choice reaches the part it is about."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from model_cases import DIFFUSIONS, Recorder, Rows, shaken

import undiffuse as ud
from undiffuse.diffusion import (
    BETAS,
    VLB,
    Ancestral,
    Beta,
    BetaTilde,
    CosineVP,
    DiscreteTimes,
    Hybrid,
    Learned,
    Linear,
    LinearVP,
    MinSNR,
    Objective,
    OptimalTransport,
    Simple,
    SlicedScoreMatching,
    Uniform,
    UniformTimes,
    VariationalBound,
    linear_betas,
    target,
)
from undiffuse.diffusion.schedules.levels import largest_distance
from undiffuse.diffusion.target import DataTarget, NoiseTarget, PosteriorMean, VTarget
from undiffuse.errors import InputError
from undiffuse.models import PRESETS, build
from undiffuse.models.losses import LOSSES, hybrid, min_snr, simple, vlb

SIZES = {"width": 8, "depth": 1}
every_preset = pytest.mark.parametrize("preset", PRESETS)
every_diffusion = pytest.mark.parametrize("preset", DIFFUSIONS)


def source(n=300, labels=False):
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(n, 2, generator=generator) * torch.tensor([1.0, 0.3]) + 0.5
    label = torch.randint(2, (n,), generator=generator) if labels else None
    return Rows(rows, label, ("a", "b") if labels else ())


def gradient(player):
    parts = [p.grad.flatten() for p in player.module.parameters() if p.grad is not None]
    return torch.cat(parts) if parts else torch.zeros(1)


@every_preset
def test_every_player_has_a_loss_that_moves_it_and_nothing_else_is_left(preset):
    model, data = PRESETS[preset](**SIZES), source(labels=True)
    model.meet(data)
    shaken(model)
    players, seen = model.players(), []
    torch.manual_seed(0)
    for player, loss in model.losses(data.rows[:64], label=data.labels[:64]):
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


def written_and_read(preset):
    """A model that has met its data, and what its configuration and weights make of a new one."""
    model = PRESETS[preset](**SIZES)
    model.meet(source())
    shaken(model)
    again = build(json.loads(json.dumps(model.config(), allow_nan=False)))
    again.load_state_dict(model.state_dict())
    return model, again


@every_preset
def test_it_is_written_down_with_its_weights(preset):
    model, again = written_and_read(preset)
    again.transform = model.transform
    assert again.config() == model.config()
    x = source().rows[:8]
    found = []
    for either in (model, again):
        torch.manual_seed(0)  # sliced score matching draws directions
        found.append(either.diagnostics(x))
    assert found[0] == found[1]


@every_diffusion
def test_its_schedule_and_the_outputs_of_its_network_are_written_down(preset):
    model, again = written_and_read(preset)
    assert again.network.out == (2 if model.objective.learned_variance else 1)
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    assert torch.equal(again.schedule(t)[1], model.schedule(t)[1])


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


@pytest.mark.parametrize("betas", BETAS.values(), ids=BETAS)
@pytest.mark.parametrize(
    "prediction",
    [NoiseTarget(), DataTarget(), VTarget(), PosteriorMean()],
    ids=lambda p: type(p).__name__,
)
@pytest.mark.parametrize(
    ("loss", "variance"),
    [
        (simple, Beta()),
        (min_snr, BetaTilde()),
        (vlb, BetaTilde()),
        (vlb, Learned()),
        (hybrid, Learned()),
    ],
    ids=["simple", "min_snr", "vlb", "vlb-learned", "hybrid"],
)
def test_every_kind_of_ddpm_trains_and_draws(betas, prediction, loss, variance):
    model = ud.ddpm(
        prediction=prediction, variance=variance, loss=loss, betas=betas, levels=12, **SIZES
    )
    model.meet(source())
    shaken(model.network)
    assert model.schedule.betas == betas(12)
    assert (model.target, model.step.variance) == (prediction, variance)
    ((_, value),) = model.losses(source().rows[:32])
    value.backward()
    assert all(
        bool(p.grad.isfinite().all()) for p in model.network.parameters() if p.grad is not None
    )
    low, high = model.data_range
    drawn = model.sample_rows(20)
    assert drawn.min() >= low  # the last step returns x_hat, which is kept in range
    assert drawn.max() <= high


def test_each_loss_is_what_it_is_called():
    assert simple(Beta()).weighting == Simple()
    assert min_snr(Beta()).weighting == MinSNR()
    assert vlb(Beta()) == VariationalBound(variance=Beta())
    assert hybrid(Learned()) == Hybrid()
    for loss, variance in (("simple", Learned()), ("min_snr", Learned()), ("hybrid", Beta())):
        with pytest.raises(InputError, match=f"loss {loss}: "):
            ud.ddpm(loss=LOSSES[loss], variance=variance)


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


def test_flow_matching_takes_a_path_and_a_coupling():
    model = ud.flow_matching(path=CosineVP(), coupling=OptimalTransport(), **SIZES)
    assert (model.schedule, model.objective.coupling) == (CosineVP(), OptimalTransport())
    assert ud.flow_matching().schedule == Linear()
    model.meet(source())
    ((_, loss),) = model.losses(source().rows[:32])
    assert math.isfinite(float(loss.detach()))


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
    model.fit(
        data, steps=20, batch=32, lr=0.05, warmup=1, device="cpu", precision="float32", out=run
    )
    t = torch.linspace(0, 1, 9, dtype=torch.float64)
    assert not torch.equal(model.schedule(t)[1], ud.vdm().schedule(t)[1])
    assert torch.equal(ud.open(run).schedule(t)[1], model.schedule(t)[1])


class Vectors(Recorder):
    """A recorder of the vectors it was called with."""

    def forward(self, x, c_noise, vector=None):
        self.seen.append(vector)
        return self.weight * x


def test_conditions_that_are_vectors_are_hidden_by_rows_of_nan():
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
    hidden = seen.isnan().any(1)
    assert torch.equal(hidden, seen.isnan().all(1))
    assert float(hidden.double().mean()) == pytest.approx(0.3, abs=4 * (0.21 / 4000) ** 0.5)
    assert torch.equal(seen[~hidden], vector[~hidden])
