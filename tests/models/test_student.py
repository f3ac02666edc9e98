"""Students: ends of paths in closed form, every preset, and what stays the teacher's."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from model_cases import DIFFUSIONS, Rows, small

from undiffuse.diffusion import EDM, ConsistencyStep, Denoiser, Jumps, RowNoise, target
from undiffuse.diffusion.objectives import Consistency, LogNormalTimes
from undiffuse.diffusion.oracle import Gaussian, Points
from undiffuse.diffusion.schedules.process import as_times
from undiffuse.errors import InputError
from undiffuse.models import PRESETS, Diffusion, build_model
from undiffuse.models.diffusion import guided
from undiffuse.models.gan import compared
from undiffuse.models.student import student_of
from undiffuse.nn.mlp import MLP

QUICK = {"batch": 16, "device": "cpu", "precision": "float32", "samples": 0}
SEVERAL = [preset for preset in DIFFUSIONS if preset != "dae"]


def data(labels: bool = True) -> Rows:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(300, 2, generator=generator) * torch.tensor([1.0, 0.5])
    return Rows(x, (x[:, 0] > 0).long(), ("low", "high")) if labels else Rows(x)


def teacher_of(preset: str, labels: bool = True) -> Diffusion:
    torch.manual_seed(0)
    model = PRESETS[preset](**small(preset))
    return model.fit(data(labels), steps=1, **QUICK)


@pytest.mark.parametrize("preset", SEVERAL)
def test_a_student_of_every_preset_begins_as_its_teacher_and_learns_alone(preset):
    """Where its target is not bounded it says what the teacher says; the copy of that stays.

    Written down and built again it draws the same.
    """
    teacher = teacher_of(preset)
    student = student_of(teacher, called="runs/t", guidance=2.0)
    x = torch.randn(3, 2, generator=torch.Generator().manual_seed(1))
    label = torch.tensor([0, 1, -1])
    t = teacher.schedule.inverse(as_times([-2.0, 0.0, 2.0]).neg())
    bounded, own = (one.trained().target.row(teacher.schedule, t)[1] for one in (student, teacher))
    same = (bounded == own).nonzero().flatten()
    assert len(same)
    said, copied = (one(x, t, label=label) for one in (student.trained(), teacher.trained()))
    torch.testing.assert_close(said[same], copied[same])
    before = copy.deepcopy(student.trained().teacher.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(student.trained().teacher(x, t, label=label), copied)
    student.fit(data(), steps=2, **QUICK)
    for name, value in student.trained().teacher.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert any(
        not torch.equal(new, old)
        for new, old in zip(student.network.parameters(), teacher.network.parameters())
    )
    again = build_model(json.loads(json.dumps(student.config())))
    again.load_state_dict(student.state_dict())
    again.transform, again.classes = student.transform, student.classes
    again.eval()
    drawn = student.sample_rows(5, seed=1)
    assert (again.sample_rows(5, seed=1) == drawn).all()
    assert torch.tensor(drawn).isfinite().all()
    assert again.parameter_count == student.parameter_count <= teacher.parameter_count


def test_the_steps_of_the_ladder_fall_as_a_run_goes_on(monkeypatch):
    """From `first` to `last`, with the share of the steps that is behind; held-out, the last."""
    seen, earlier = [], Consistency.earlier

    def noted(self, schedule, t):
        seen.append(self.progress)
        return earlier(self, schedule, t)

    monkeypatch.setattr(Consistency, "earlier", noted)
    student = student_of(teacher_of("edm"), called="runs/t")
    student.fit(data(), steps=4, evaluate_every=100, **QUICK)
    assert seen[:4] == [0.0, 0.25, 0.5, 0.75]
    assert set(seen[4:]) == {1.0}
    t = as_times([0.5])
    k = float(torch.exp(-EDM().log_snr(t) / 2))
    for progress, rung in ((0.0, 1.0), (0.5, 1.5), (1.0, 2.0)):
        r, _ = earlier(Consistency(first=1.0, last=2.0).at(progress), EDM(), t)
        share = float(torch.exp(-EDM().log_snr(r) / 2)) / k
        assert share == pytest.approx(1 - 2**-rung)


def test_what_stays_the_teacher_s_is_refused_with_its_name():
    student = student_of(teacher_of("edm"), called="runs/t", steps=1)
    assert student.steps_of(None) == 1
    assert student.tuning == student.conclusion == 0
    assert "its teacher runs/t" in student.no_density
    student.meet(data())
    with pytest.raises(InputError, match="its teacher runs/t"):
        student.likelihood_rows(torch.zeros(2, 2))
    with pytest.raises(InputError, match="knows where paths end; leave it out"):
        student.check_sampler(method="deis")
    with pytest.raises(InputError, match="draws whole rows"):
        student.sample_rows(1, given=[[0.0, float("nan")]])
    with pytest.raises(InputError, match="distill another with --guidance 3"):
        guided(student, 3.0)
    with pytest.raises(InputError, match="runs/s: is a student itself"):
        student_of(student, called="runs/s")
    for preset in ("dae", "gan"):
        with pytest.raises(InputError, match="no paths from noise to data to distill"):
            student_of(PRESETS[preset](width=8), called="runs/x")
    with pytest.raises(InputError, match="nothing to guide it by"):
        student_of(teacher_of("edm", labels=False), called="runs/t", guidance=2.0)
    assert student.against_linear(torch.zeros(2, 2), torch.zeros(2, 2)) is None


def trained_on(teacher: Gaussian, x: torch.Tensor, steps: int, sigma_data: float) -> Denoiser:
    """A tiny network that has learned the ends of an exact teacher's paths."""
    torch.manual_seed(0)
    model = Diffusion(
        schedule=teacher.schedule,
        target=target.Bounded(target.Preconditioned(), 1.0),
        objective=Consistency(times=LogNormalTimes(mean=0.5, std=1.8)),
        step=ConsistencyStep(),
        grid=Jumps(),
        steps=2,
        network=MLP(shape=(x.shape[1],), width=64, depth=2),
        sigma_data=sigma_data,
    )
    source = Rows(x)
    model.meet(source)
    model.trained().teacher = teacher
    model.fit(source, steps=steps, batch=256, device="cpu", precision="float32", samples=0)
    assert model.trained().teacher is teacher
    return model.trained()


def error_on_a_gaussian(steps: int) -> float:
    """Mean square of f less its closed form, over the data's variance, at nine noise levels."""
    schedule, mean, std = EDM(), torch.tensor([0.5, -0.3]), torch.tensor([1.0, 0.4])
    generator = torch.Generator().manual_seed(0)
    x = mean + std * torch.randn(4000, 2, generator=generator)
    f = trained_on(Gaussian(schedule, mean, std), x, steps, float(x.std()))
    errors = []
    for k in torch.logspace(-1, 1.9, 9, dtype=torch.float64):
        z = torch.randn(1000, 2, generator=generator)
        x_t = x[:1000] + float(k) * z
        ends = mean + std * (x_t - mean) / (std**2 + k**2).sqrt()
        with torch.no_grad():
            found = f(x_t.float(), schedule.inverse(-2 * k.log()))
        errors.append(float(((found - ends) / std).square().mean()))
    return max(errors)


def error_on_two_points(steps: int) -> float:
    """Mean square of f less the sign, off the separatrix: where noise is as likely from each."""
    schedule = EDM()
    x = torch.tensor([[-1.0], [1.0]]).repeat(500, 1)
    f = trained_on(Points(schedule, torch.tensor([[-1.0], [1.0]])), x, steps, 1.0)
    errors = []
    for k in torch.logspace(-1, 1.9, 9, dtype=torch.float64):
        generator = torch.Generator().manual_seed(0)
        x_t = x + float(k) * torch.randn(len(x), 1, generator=generator)
        off = x_t.abs()[:, 0] > 0.2 * (1 + float(k))
        with torch.no_grad():
            found = f(x_t[off].float(), schedule.inverse(-2 * k.log()))
        errors.append(float((found - x_t[off].sign()).square().mean()))
    return max(errors)


def test_a_student_finds_the_ends_of_a_gaussian_s_paths():
    assert error_on_a_gaussian(120) < 0.03


def test_a_student_finds_the_ends_of_paths_to_two_points():
    assert error_on_two_points(120) < 0.12


def drawings() -> Rows:
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(80, 1, 8, 8, generator=generator)
    return Rows(x, (x.mean((1, 2, 3)) > 0.5).long(), ("dark", "bright"))


@pytest.fixture(scope="module")
def artist() -> Diffusion:
    torch.manual_seed(0)
    return PRESETS["edm"](**small("edm", (1, 8, 8))).fit(drawings(), steps=1, **QUICK)


def moved(player: str, student: Diffusion) -> bool:
    """Whether there is a gradient for a player's weights; it is dropped then."""
    weights = list(student.players()[player].module.parameters())
    found = any(p.grad is not None and bool(p.grad.any()) for p in weights)
    for p in weights:
        p.grad = None
    return found


@pytest.mark.parametrize(
    ("progress", "players"),
    [
        (0.0, ["denoiser"]),
        (0.749, ["denoiser"]),
        (0.751, ["discriminator"]),
        (0.799, ["discriminator"]),
        (0.801, ["discriminator", "denoiser"]),
        (1.0, ["discriminator", "denoiser"]),
    ],
)
def test_images_are_held_against_rows_at_the_end_and_each_player_learns_from_its_loss(
    artist, progress, players
):
    student = student_of(artist, called="runs/t", steps=2)
    student.meet(drawings())
    student.progress = progress
    batch = drawings().held_out_batch(8)
    x, label = batch["row"], batch["label"]
    taught = []
    for player, loss in student.losses(x, label=label):
        loss.backward()
        taught.append(player)
        for one in ("denoiser", "discriminator"):
            assert moved(one, student) == (one == player), (one, player)
    assert taught == players


def test_no_discriminator_speaks_where_samples_are_not_to_be_like_the_rows(artist):
    """Guided samples, rows that are no images, and a student that was written down without one."""
    assert student_of(artist, called="runs/t").duel is not None
    assert student_of(artist, called="runs/t", guidance=2.0).duel is None
    assert student_of(teacher_of("edm"), called="runs/t").duel is None
    tree = student_of(artist, called="runs/t", guidance=2.0).config()
    del tree["objective"]["adversarial"]
    assert build_model(tree).duel is None


def test_a_student_of_images_goes_on_exactly_within_its_last_lesson(artist, tmp_path):
    options = {"steps": 12, "checkpoint_every": 1, **QUICK}
    whole = student_of(artist, called="runs/t").fit(drawings(), **options)
    polls = iter(range(99))
    torch.manual_seed(99)  # a student does not depend on when it was made
    first = student_of(artist, called="runs/t")
    first.fit(drawings(), out=tmp_path / "run", stop=lambda: next(polls) >= 11, **options)
    rest = student_of(artist, called="runs/t")
    rest.fit(drawings(), out=tmp_path / "run", resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, rest.state_dict()[name]), name


def test_the_last_lesson_brings_samples_to_the_law_of_the_rows():
    """Of a student that knows nothing: N(1, 0.5^2), by mean and standard deviation."""
    torch.manual_seed(0)
    x = 1 + 0.5 * torch.randn(2000, 1)
    model = Diffusion(
        schedule=EDM(),
        target=target.Bounded(target.Preconditioned(), 1.0),
        objective=Consistency(adversarial=0.8),
        step=ConsistencyStep(),
        grid=Jumps(),
        steps=2,
        network=MLP(shape=(1,), width=32, depth=1),
        sigma_data=1.0,
        teacher="none",
    )
    model.meet(Rows(x))

    def off() -> tuple[float, float]:
        y = torch.tensor(model.sample_rows(2000, seed=1))
        return abs(float(y.mean()) - 1.0), abs(float(y.std()) - 0.5)

    before = off()
    model.fit(Rows(x), steps=300, batch=128, device="cpu", precision="float32", samples=0)
    assert min(before) > 0.2
    assert max(off()) < 0.1, (before, off())


def test_what_is_watched_are_the_samples_of_a_student_that_a_discriminator_teaches(artist):
    """By the energy distance, whichever rows are measured beside each other."""
    student = student_of(artist, called="runs/t")
    student.fit(drawings(), steps=4, **QUICK)
    batch = drawings().held_out_batch(8)
    x, cond = batch["row"], {"label": batch["label"]}
    found = student.diagnostics(x, **cond)
    drawn = student.draw(8, noise=RowNoise(0, 8), **cond)
    assert found == compared(x, drawn)
    halves = [
        student.row_terms(x[i : i + 4], first=i, label=cond["label"][i : i + 4]) for i in (0, 4)
    ]
    joined = {name: torch.cat([half[name] for half in halves]) for name in ("x", "y")}
    assert student.diagnosed(joined)["loss"] == pytest.approx(found["loss"], rel=1e-5)
