"""`undiffuse distill`: a student is a run like any other; what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

import undiffuse as ud
from undiffuse.duration import format_duration
from undiffuse.evaluation.distill import lesson
from undiffuse.run import Run

QUICK = ("--steps", 3, "--device", "cpu", "--precision", "float32", "--training.samples", 0,
         "--quiet")  # fmt: skip
TINY = ("--model.width", 8, "--model.depth", 1)
TAUGHT = ("--updates", 3, "--device", "cpu", "--quiet")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, its data, and a student of it."""
    from undiffuse.cli.main import main

    folder = tmp_path_factory.mktemp("made")
    rows = np.random.default_rng(0).normal(size=(200, 2)).astype("float32")
    np.save(folder / "x.npy", rows)
    for words in (
        ["train", folder / "x.npy", "--out", folder / "run", *QUICK, *TINY],
        ["distill", folder / "run", "--out", folder / "student", *TAUGHT],
    ):
        assert main([str(word) for word in words]) == 0
    return folder


def drawn(cli, run: Path, out: Path, *more: object) -> np.ndarray:
    words = ("-n", 3, "--seed", 4, "--device", "cpu", "--quiet", "--overwrite")
    cli("sample", run, *words, *more, "--out", out).done()
    return np.load(out)


def test_a_student_needs_no_other_folder_and_says_whose_it_is(made, cli, tmp_path):
    """It draws, is measured and goes on alone, in as many evaluations as it was made for."""
    teacher, student = str(made / "run"), Path(shutil.copytree(made / "student", tmp_path / "s"))
    config = json.loads((student / "config.json").read_text())
    assert config["model"]["teacher"] == teacher
    assert config["parameters"] == json.loads((made / "run/config.json").read_text())["parameters"]
    assert config["data"]["fingerprint"] == Run(teacher).config["data"]["fingerprint"]
    shown = cli("info", student).done().out
    assert teacher in shown
    assert "edm, " in shown
    assert "undiffuse tune" not in shown
    model = ud.open(student)
    assert model.steps_of(None) == 2
    assert np.array_equal(drawn(cli, student, tmp_path / "a.npy"), model.sample(3, seed=4))
    one = drawn(cli, student, tmp_path / "a.npy", "--steps", 1)
    assert not np.array_equal(one, model.sample(3, seed=4))
    said = cli("score", student, made / "x.npy", "--out", tmp_path / "scores.csv")
    assert said.refused("a student", f"score with its teacher {teacher}")
    assert cli("tune", student).refused("one way", "nothing to tune")
    cli("evaluate", student, "-n", 16, "--device", "cpu", "--quiet").done()
    report = json.loads((student / "report.json").read_text())
    assert f"its teacher {teacher}" in report["likelihood"]["none"]
    assert report["sampler"]["evaluations"] == 2
    cli("train", "--out", student, "--resume", "--steps", 5, "--quiet").done()
    assert Run(student).state["step"] == 5


def test_a_student_that_was_stopped_goes_on_exactly(made, cli, tmp_path):
    """Interrupted after one of three steps, and resumed by the command that trains."""
    seen: list[int] = []

    def note(event: dict) -> None:
        seen.extend([event["step"]] if event["event"] == "held_out" else [])

    halted = {"out": tmp_path / "h", "updates": 3, "device": "cpu"}
    ud.distill(made / "run", stop=lambda: bool(seen), on_event=note, **halted)
    assert not Run(tmp_path / "h").state["finished"]
    assert Run(tmp_path / "h").state["step"] == 1
    cli("train", "--out", tmp_path / "h", "--resume", "--quiet").done()
    weights = [load_file(run / "weights.safetensors") for run in (tmp_path / "h", made / "student")]
    assert weights[0].keys() == weights[1].keys()
    for name, value in weights[0].items():
        assert np.array_equal(value.numpy(), weights[1][name].numpy()), name


def test_a_student_without_a_checkpoint_does_not_go_on_from_other_weights(made, cli, tmp_path):
    student = Path(shutil.copytree(made / "student", tmp_path / "s"))
    (student / "state" / "latest").unlink()
    refused = cli("train", "--out", student, "--resume", "--quiet")
    assert refused.refused(f"was begun with the weights of {made / 'run'}", "with --overwrite")


def test_a_student_is_trained_as_it_is_told(made, cli, tmp_path):
    words = ("--lr", 2e-4, "--batch", 8, "--seed", 7, "--updates", 2, "--json", "--quiet")
    said = cli("distill", made / "run", "--out", tmp_path / "s", *words).done()
    assert json.loads(said.out)["step"] == 2
    training = Run(tmp_path / "s").config["training"]
    assert (training["lr"], training["batch"], training["seed"]) == (2e-4, 8, 7)
    taught = Run(made / "run").config["training"]
    assert training["precision"] == taught["precision"]


@pytest.mark.parametrize("length", [("--budget", "1.5s"), ("--updates", 2), ()])
def test_how_long_it_takes_is_said(made, cli, tmp_path, length):
    """As asked; without, half of the teacher's time, or a few seconds."""
    if length:
        words = ("distill", made / "run", "--out", tmp_path / "s", *length, "--device", "cpu")
        said = cli(*words).done()
        assert {"--budget": "2s", "--updates": "2 steps"}[length[0]] in said.out + said.err
    else:
        _, _, training = lesson(made / "run", out=tmp_path / "s")
        assert format_duration(training["budget"])


def test_distill_in_python_returns_a_student(made, tmp_path):
    student = ud.distill(made / "run", steps=4, updates=1, device="cpu")
    assert student.sample(2).shape == (2, 2)
    assert student.steps_of(None) == 4


def test_distilling_is_refused_in_one_sentence(made, cli, tmp_path):
    run = Path(shutil.copytree(made / "run", tmp_path / "run"))
    out = ("--out", tmp_path / "s")
    for steps in (0, 3):
        assert cli("distill", run, *out, "--steps", steps).refused("--steps")
    assert cli("distill", run, "--out", run).refused("already exists")
    assert cli("distill", run, "--out", run, "--overwrite").refused("is the teacher itself")
    assert cli("distill", run, "--out", made / "student").refused("already exists")
    assert cli("distill", tmp_path / "gone", *out).refused("no such folder")
    assert cli("distill", made / "student", *out).refused("is a student itself")
    assert cli("distill", run, *out, "--guidance", 2).refused("nothing to guide it by")
    assert cli("distill", run, *out, "--budget", "soon").refused("budget")
    assert cli("distill", run, *out, "--budget", "1s", "--updates", 2).refused("exclude")
    np.save(tmp_path / "y.npy", np.zeros((100, 2), "float32") + np.arange(100)[:, None])
    assert cli("distill", run, *out, "--data", tmp_path / "y.npy").refused("not the data")
    gan = tmp_path / "gan"
    words = ("--preset", "gan", *QUICK, "--model.width", 8)
    cli("train", tmp_path / "y.npy", "--out", gan, *words).done()
    assert cli("distill", gan, *out).refused("no paths from noise to data")
    state = next((run / "state").glob("step-*/state.json"))
    state.write_text(state.read_text().replace('"finished": true', '"finished": false'))
    assert cli("distill", run, *out).refused("has not finished", "--resume")
    assert not (tmp_path / "s").exists()
