"""`undiffuse tune`: what a run keeps of it, when that goes, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from few_seeds import few_seeds

import undiffuse as ud
from undiffuse.interfaces import Trainable
from undiffuse.models import tuning
from undiffuse.options import TrainingOptions
from undiffuse.run import Run
from undiffuse.training.clock import Clock

QUICK = ("--steps", 3, "--device", "cpu", "--precision", "float32", "--training.samples", 0,
         "--quiet")  # fmt: skip
TINY = ("--model.width", 8, "--model.depth", 1)
DRAW = ("-n", 3, "--seed", 4, "--device", "cpu", "--quiet", "--overwrite")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is tuned, and its data."""
    from undiffuse.cli.main import main

    folder = tmp_path_factory.mktemp("made")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(size=(1000, 2)).astype("float32"))
    words = ["train", folder / "x.npy", "--out", folder / "run", *QUICK, *TINY]
    assert main([str(word) for word in words]) == 0
    with pytest.MonkeyPatch.context() as patch:
        few_seeds(patch, 128)
        words = ["tune", folder / "run", "--seed", 1, "--device", "cpu", "--quiet"]
        assert main([str(word) for word in words]) == 0
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    """A copy of the run."""
    return Path(shutil.copytree(made / "run", tmp_path / "run"))


def drawn(cli, run: Path, *more: object) -> np.ndarray:
    out = run.parent / "drawn.npy"
    cli("sample", run, *DRAW, *more, "--out", out).done()
    return np.load(out)


def test_a_run_is_sampled_as_it_was_tuned_and_info_shows_what_was_measured(run, cli):
    tree = json.loads((run / "sampler.json").read_text())
    model = Run(run).model()
    assert model.tuned_tree == Run(run).summary()["sampler"]
    best = tree["candidates"][tree["chosen"]]
    assert model.steps_of(None) == len(best["times"]) - 1
    expected = model.sample(3, seed=4)
    assert np.array_equal(drawn(cli, run), expected)
    assert not np.array_equal(drawn(cli, run, "--method", "deis"), expected)
    shown = cli("info", run).done().out
    assert 96 <= tree["seeds"] <= 128
    assert f"samplers, by {tree['seeds']} samples" in shown
    assert shown.count("default") == 1
    assert json.loads(cli("info", run, "--json").done().out)["sampler"] == tree
    assert json.loads((model.save(run.parent / "copy") / "sampler.json").read_text()) == tree


def test_a_run_that_is_trained_further_is_tuned_no_more(run, cli):
    """Its weights are others then; so is a run that was never tuned."""
    cli("train", "--out", run, "--resume", "--steps", 5, "--quiet").done()
    assert not (run / "sampler.json").exists()
    assert Run(run).model().tuned_tree is None
    assert "undiffuse tune" in cli("info", run).done().out


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"chosen": 0}', "[" * 10_000, "\0"])
def test_a_damaged_sampler_is_left_out_and_said(run, cli, text):
    """Samples are then those of the preset's default."""
    plain = Run(run)
    (run / "sampler.json").unlink()
    expected = plain.model().sample(3, seed=4)
    (run / "sampler.json").write_text(text)
    out = run.parent / "d.npy"
    words = [word for word in DRAW if word != "--quiet"]
    said = cli("sample", run, *words, "--out", out).done()
    assert "sampler.json is damaged" in " ".join((said.out + said.err).split())
    assert np.array_equal(np.load(out), expected)
    assert "sampler.json is damaged" in " ".join(cli("info", run).done().out.split())


def test_tuning_is_refused_in_one_sentence(run, made, cli, tmp_path):
    (run / "sampler.json").unlink()
    other = tmp_path / "y.npy"
    np.save(other, np.zeros((100, 2), dtype="float32") + np.arange(100)[:, None])
    assert cli("tune", run, "--data", other).refused("not the data")
    assert cli("tune", run, "--budget", "0.001s").refused("time is too short")
    state = next((run / "state").glob("step-*/state.json"))
    state.write_text(state.read_text().replace('"finished": true', '"finished": false'))
    assert cli("tune", run, "--json").refused("has not finished", "--resume")
    few = tmp_path / "few"
    cli("train", other, "--out", few, *QUICK, *TINY).done()
    assert cli("tune", few).refused("10 held-out rows are too few")
    flow = tmp_path / "gan"
    cli("train", other, "--out", flow, "--preset", "gan", *QUICK, "--model.width", 8).done()
    assert cli("tune", flow).refused("one way", "nothing to tune")
    assert "undiffuse tune" not in cli("info", flow).done().out
    assert "undiffuse tune" in cli("info", few).done().out
    assert cli("tune", tmp_path / "none").refused("no such folder")
    assert not (run / "sampler.json").exists()


def test_tune_in_python_says_what_it_chose_and_stops(run):
    before = (run / "sampler.json").read_bytes()
    assert ud.tune(run, stop=lambda: True) is None
    assert (run / "sampler.json").read_bytes() == before
    with pytest.raises(ud.InputError, match="budget"):
        ud.tune(run, budget="soon")


@pytest.mark.parametrize(
    ("options", "evaluations", "pace", "seconds"),
    [
        ({"budget": 400}, 2400, 0.1, 20),
        ({"budget": 600}, 2400, 0.1, 30),
        ({"budget": 600}, 2400, 0.31, 0),
        ({"budget": 399}, 2400, 0.1, 0),
        ({"budget": 600}, 0, 0.1, 0),
        ({"steps": 10}, 2400, 0.1, 0),
    ],
)
def test_a_budget_sets_a_twentieth_aside_if_that_is_long_enough(
    options, evaluations, pace, seconds
):
    """A step of 8 rows takes 24 evaluations of one. A run of so many steps depends on no clock."""
    clock = Clock(TrainingOptions(batch=8, **options), 0.0, tuning=evaluations)
    clock.pace = pace
    assert clock.tuning() == pytest.approx(seconds)
    assert Trainable.tuning == 0


def test_training_with_a_budget_ends_with_a_choice_or_says_why_not(made, tmp_path, monkeypatch):
    """The event is in the log, and a choice is in the run."""
    from undiffuse.training import clock

    monkeypatch.setattr(clock, "LEAST_TUNING", 0.01)
    monkeypatch.setattr(clock, "TUNING", 0.5)
    few_seeds(monkeypatch, 96)
    model = ud.edm(width=8, depth=1)
    model.fit(str(made / "x.npy"), budget=4, out=tmp_path / "r", device="cpu", samples=0)
    screening = 40 + 12 + 6 * 11 + 10 * 17 + 2 * 14 + 4 * 10 + 2 * (6 + 10 + 14)
    assert tuning.least_evaluations() == 8 * screening + 48 * (40 + 10)
    (said,) = [event["said"] for event in Run(tmp_path / "r").log if event["event"] == "tuned"]
    assert (model.tuned is None) == said.startswith("not tuned")
    assert (tmp_path / "r" / "sampler.json").exists() == (model.tuned is not None)
    assert Run(tmp_path / "r").model().tuned == model.tuned


def test_a_budget_too_short_to_choose_says_so(made, tmp_path, cli):
    """On the screen, in the log, and a run of so many steps says nothing."""
    options = ("--model.width", 8, "--model.depth", 1)
    said = cli("train", made / "x.npy", "--out", tmp_path / "r", "--budget", "1s", *options)
    assert said.code == 0
    assert said.err.count("not tuned: the budget leaves too little time") == 1
    (event,) = [event for event in Run(tmp_path / "r").log if event["event"] == "tuned"]
    assert event["said"] in said.err
    assert cli("train", made / "x.npy", "--out", tmp_path / "s", "--steps", 2, *options).code == 0
    assert not [event for event in Run(tmp_path / "s").log if event["event"] == "tuned"]
