"""A comparison treats models alike, survives those that fail, and resumes wherever it stopped.

Training is cut to two steps and the reports are planted, so that it is the comparison that is
looked at.
"""

from __future__ import annotations

import io
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults.damage import spoiled
from PIL import Image

from undiffuse.comparison import compare as comparison
from undiffuse.comparison import folder
from undiffuse.errors import InputError
from undiffuse.evaluation.metrics import Figure
from undiffuse.lock import Lock
from undiffuse.models import PRESETS
from undiffuse.training import fit

SIZES = {"width": 8, "depth": 1}
BUDGET = {"budget": "90s", "device": "cpu"}


def figure(value: float, better: str = "higher") -> dict[str, Any]:
    made = Figure(value=value, low=value - 0.1, high=value + 0.1, stderr=0.05, n=40, floor=1.0)
    return {**vars(made), "better": better}


def png(name: str) -> bytes:
    """A picture of one pixel, whose grey is the name's length."""
    stream = io.BytesIO()
    Image.new("L", (1, 1), len(name)).save(stream, format="png")
    return stream.getvalue()


class Planted:
    """What `evaluate` gives, less the work."""

    def __init__(self, preset: str, options: dict[str, Any]) -> None:
        value = len(preset) / 10
        speed = {
            "samples_per_second": figure(value),
            "evaluations_per_sample": 1.0,
            "latency": figure(value),
        }
        self.facts = {
            "family": "GAN" if preset == "gan" else "Diffusion",
            "sampler": {"method": "heun", "steps": options.get("steps")},
            "features": {"name": "planted", "hash": options["reference"].features.hash},
            "samples": options["n"],
            "quality": {"frechet": figure(value, "lower"), "precision": figure(value)},
            "coverage": {"coverage": figure(value)},
            "likelihood": {"none": "there is no density"},
            "memorization": None,
            "speed": speed,
        }
        self.pictures = {"samples": png(preset), "real": png("")}

    def write(self, folder: Path) -> None:
        (folder / "report.html").write_text("planted")


class Watched:
    """Stands in for `fit` and `evaluate`, and notes each call that did its work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trained: list[tuple[str, dict[str, Any]]] = []
        self.evaluated: list[tuple[str, dict[str, Any]]] = []
        self.breaks: dict[tuple[str, str], Exception] = {}
        monkeypatch.setattr(comparison, "fit", self.fit)
        monkeypatch.setattr(comparison, "evaluate", self.evaluate)
        monkeypatch.setattr(
            comparison,
            "PRESETS",
            {name: lambda name=name: PRESETS[name](**SIZES) for name in PRESETS},
        )

    def fit(self, model: Any, data: Any, *, budget: float, **options: Any) -> Any:
        quick = {"samples": 0, "precision": "float32", "batch": 16}
        result = fit(model, data, steps=2, **quick, **options)
        self._break("training", model.preset)
        self.trained += (
            [] if result.stopped else [(model.preset, {"budget": budget, "data": data, **options})]
        )
        return result

    def evaluate(self, run: Any, *, stop: Any, **options: Any) -> Planted | None:
        self._break("evaluating", run.path.name)
        if stop():
            return None
        self.evaluated.append((run.path.name, options))
        return Planted(run.path.name, options)

    def _break(self, phase: str, preset: str) -> None:
        if (phase, preset) in self.breaks:
            raise self.breaks[phase, preset]

    def done(self) -> tuple[list[str], list[str]]:
        return [name for name, _ in self.trained], [name for name, _ in self.evaluated]


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(monkeypatch)


@pytest.fixture
def rows(tmp_path: Path) -> str:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(200, 3)))
    return str(tmp_path / "x.npy")


def test_all_are_treated_alike(watched: Watched, rows: str, tmp_path: Path) -> None:
    names = ["edm", "ncsn", "gan"]
    told: list[dict[str, Any]] = []
    found = comparison.compare(
        rows,
        presets=names,
        out=tmp_path / "c",
        n=40,
        rows=7,
        seed=3,
        evaluations=9,
        on_event=lambda e: told.append(dict(e)),
        **BUDGET,
    )
    assert watched.done() == (names, names)
    for key in ("data", "budget", "seed", "device"):
        assert (
            len({id(given[key]) if key == "data" else given[key] for _, given in watched.trained})
            == 1
        )
    assert watched.trained[0][1]["budget"] == 90
    for key in ("reference", "data"):
        assert len({id(given[key]) for _, given in watched.evaluated}) == 1
    assert {(given["n"], given["rows"], given["seed"]) for _, given in watched.evaluated} == {
        (40, 7, 3)
    }
    ways = {
        name: {key: given.get(key) for key in ("method", "steps")}
        for name, given in watched.evaluated
    }
    few, own = {"method": "deis", "steps": 9}, {"method": None, "steps": None}
    assert ways == {"edm": few, "ncsn": few, "gan": own}
    phases = [
        (e["phase"], e["preset"], e["number"], e["total"]) for e in told if e["event"] == "phase"
    ]
    assert phases == [
        (phase, name, i, 3)
        for phase in ("training", "evaluating")
        for i, name in enumerate(names, start=1)
    ]
    assert {"start", "step", "end"} <= {event["event"] for event in told}
    assert found.presets("done") == names
    assert json.loads((tmp_path / "c" / "comparison.json").read_text()) == found.facts
    assert (tmp_path / "c" / "comparison.html").read_text().startswith("<!doctype html>")
    assert found.pictures == {"real rows": png(""), **{name: png(name) for name in names}}
    assert found.facts["data"]["held_out_rows"] == 20
    for name in names:
        assert (tmp_path / "c" / found.facts["runs"][name]["folder"] / "report.html").exists()


def test_what_one_model_dies_of_is_said_and_the_others_finish(
    watched: Watched, rows: str, tmp_path: Path
) -> None:
    watched.breaks = {
        ("training", "vp"): RuntimeError("the loss\nexploded"),
        ("training", "vae"): InputError("stopped at step 9; try a lower learning rate."),
        ("evaluating", "gan"): MemoryError(),
    }
    told: list[str] = []
    call = {"presets": ["vp", "edm", "gan", "vae", "ve"], "out": tmp_path / "c", **BUDGET}
    found = comparison.compare(
        rows,
        on_event=lambda e: told.append(e["preset"]) if e["event"] == "failed" else None,
        **call,
    )
    assert found.presets("done") == ["edm", "ve"]
    assert found.presets("failed") == ["vp", "gan", "vae"]
    assert told == ["vp", "vae", "gan"]
    assert [row["preset"] for row in found.facts["table"]] == ["edm", "ve"]
    problems = {name: run["problem"] for name, run in found.facts["runs"].items()}
    assert problems["vp"] == "RuntimeError: the loss exploded (traceback in problems/vp.txt)"
    assert problems["vae"] == "stopped at step 9; try a lower learning rate."
    assert problems["gan"].startswith("MemoryError: no message")
    assert "exploded" in (tmp_path / "c" / "problems" / "vp.txt").read_text()
    assert "Traceback" in (tmp_path / "c" / "problems" / "gan.txt").read_text()
    assert problems["vp"].split(" (")[0] in (tmp_path / "c" / "comparison.html").read_text()
    watched.breaks = {}
    again = comparison.compare(rows, **call)
    assert again.presets("done") == call["presets"]
    assert watched.done()[1] == ["edm", "ve", "vp", "gan", "vae"]
    assert not list((tmp_path / "c" / "problems").iterdir())


def test_stopped_at_one_poll_or_another_the_same_call_ends_in_the_same_facts(
    watched: Watched, rows: str, tmp_path: Path
) -> None:
    polls = 0

    def stop_at(last: int | None) -> Any:
        def stop() -> bool:
            nonlocal polls
            polls += 1
            return last is not None and polls > last

        return stop

    call = {"presets": ["edm", "gan"], **BUDGET}
    whole = comparison.compare(rows, out=tmp_path / "whole", stop=stop_at(None), **call)
    every = range(polls)  # some hundred: each layer of an evaluation polls
    for last in sorted({*every[:2], *every[:: polls // 6], *every[-2:]}):
        watched.trained, watched.evaluated, polls = [], [], 0
        stopped = comparison.compare(rows, out=tmp_path / str(last), stop=stop_at(last), **call)
        assert stopped.presets("waiting"), last
        assert (tmp_path / str(last) / "comparison.html").exists() == bool(stopped.presets("done"))
        resumed = comparison.compare(rows, out=tmp_path / str(last), **call)
        assert resumed.facts == whole.facts
        assert resumed.pictures == whole.pictures
        assert watched.done() == (
            ["edm", "gan"],
            ["edm", "gan"],
        )  # nothing that was finished is done twice
        for name in call["presets"]:
            weights = [
                tmp_path / folder / "runs" / name / "weights.safetensors"
                for folder in ("whole", str(last))
            ]
            assert weights[0].read_bytes() == weights[1].read_bytes()


def test_more_costs_only_what_it_adds(watched: Watched, rows: str, tmp_path: Path) -> None:
    call = {"out": tmp_path / "c", **BUDGET}
    comparison.compare(rows, presets=["edm"], n=40, **call)
    comparison.compare(rows, presets=["gan", "edm"], n=40, **call)
    assert watched.done() == (["edm", "gan"], ["edm", "gan"])
    left = tmp_path / "c" / "runs" / "edm" / ".lock"  # by a process killed as its run was finished
    left.touch()
    found = comparison.compare(rows, presets=["gan", "edm"], n=50, **call)
    assert watched.done() == (["edm", "gan"], ["edm", "gan", "gan", "edm"])
    assert not left.exists()
    assert {run["report"]["samples"] for run in found.facts["runs"].values()} == {50}
    comparison.compare(rows, presets=["edm"], n=50, features="raw", **call)
    assert watched.done() == (["edm", "gan"], ["edm", "gan", "gan", "edm", "edm"])


def test_features_are_fitted_once(watched: Watched, rows: str, tmp_path: Path, monkeypatch) -> None:
    """What is compared later is compared by the same features, though new ones would differ."""
    call = {"out": tmp_path / "c", "features": "trained", **BUDGET}
    comparison.compare(rows, presets=["edm"], **call)
    monkeypatch.setattr("undiffuse.evaluation.features.trained.FIT_STEPS", 3)
    comparison.compare(rows, presets=["edm", "gan"], **call)
    hashes = [given["reference"].features.hash for _, given in watched.evaluated]
    assert len(hashes) == 2
    assert len(set(hashes)) == 1


OTHERWISE = {
    "another budget": ({"budget": "2m"}, r"was started with budget 1m30s, not 2m"),
    "another seed": ({"seed": 1}, r"seed 0, not 1"),
    "read otherwise": (
        {"reading": {"held_out": 40}},
        r"no options for the data, not held_out 40; give",
    ),
    "other data": ({"source": "y.npy"}, r"source x.npy, not y.npy"),
    "changed data": ({"source": "other/x.npy"}, r"other data, or they have changed"),
}


@pytest.mark.parametrize("what", OTHERWISE)
def test_what_was_begun_otherwise_is_refused_unless_it_may_go(
    watched: Watched, rows: str, tmp_path: Path, what: str
) -> None:
    changes, sentence = OTHERWISE[what]
    (tmp_path / "other").mkdir()
    for name in ("y.npy", "other/x.npy"):
        np.save(tmp_path / name, np.random.default_rng(1).normal(size=(200, 3)))
    call = {"out": tmp_path / "c", "presets": ["edm"], **BUDGET}
    comparison.compare(rows, **call)
    source = str(tmp_path / changes.get("source", "x.npy"))
    other = {**call, **{name: value for name, value in changes.items() if name != "source"}}
    with pytest.raises(InputError, match=sentence):
        comparison.compare(source, **other)
    assert watched.done() == (["edm"], ["edm"])
    comparison.compare(source, **other, overwrite=True)
    assert watched.done() == (["edm", "edm"], ["edm", "edm"])


def test_data_are_read_as_asked_and_what_is_guessed_of_them_is_said(
    watched: Watched, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    lines = [f"{a},{b:.3f},{'xy'[a % 2]}" for a, b in enumerate(random.normal(size=100))]
    (tmp_path / "x.csv").write_text("\n".join(["a,b,c", *lines]))
    events: list[Any] = []
    reading = {"drop": ("a",), "condition": ("c",), "held_out": 30}
    call = {"out": tmp_path / "c", "presets": ["edm"], **BUDGET}
    comparison.compare(tmp_path / "x.csv", reading=reading, on_event=events.append, **call)
    ((_, given),) = watched.trained
    data = given["data"]
    assert (data.n_held_out, data.shape, data.conditions) == (30, (1,), {"vector": 2})
    notes = [event["note"] for event in events if event["event"] == "note"]
    assert notes == list(data.describe()["notes"])
    with pytest.raises(InputError, match="was started with drop a, condition c, held_out 30 for"):
        comparison.compare(tmp_path / "x.csv", **call)


def test_a_comparison_from_before_the_data_had_options_goes_on(
    watched: Watched, rows: str, tmp_path: Path
) -> None:
    call = {"out": tmp_path / "c", "presets": ["edm"], **BUDGET}
    comparison.compare(rows, **call)
    settings = json.loads((tmp_path / "c" / "comparison-settings.json").read_text())
    assert settings.pop("data") == {}
    (tmp_path / "c" / "comparison-settings.json").write_text(json.dumps(settings))
    comparison.compare(rows, **call)
    assert watched.done() == (["edm"], ["edm"])


def test_a_folder_that_holds_other_things_is_left_alone(
    watched: Watched, rows: str, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    for place, sentence in (("mine", "other files and no comparison"), ("x.npy", "this is a file")):
        for overwrite in (False, True):
            with pytest.raises(InputError, match=sentence):
                comparison.compare(rows, out=tmp_path / place, overwrite=overwrite, **BUDGET)
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    with pytest.raises(InputError, match=r"presets gna: no such preset. Did you mean gan"):
        comparison.compare(rows, out=tmp_path / "c", presets=["edm", "gna"], **BUDGET)
    with pytest.raises(InputError, match="presets: none are named"):
        comparison.compare(rows, out=tmp_path / "c", presets=[], **BUDGET)
    assert not (tmp_path / "c").exists()


def test_what_was_killed_as_it_was_replaced_is_a_comparison_still(
    watched: Watched, rows: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"out": tmp_path / "c", "presets": ["edm"], **BUDGET}
    comparison.compare(rows, **given)
    replace, names = os.replace, list(folder.OURS)

    class Power(BaseException):
        pass

    def stop(source: Any, target: Any) -> None:
        if Path(source).name == "evaluated":
            raise Power
        replace(source, target)

    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(Power):
        comparison.compare(rows, overwrite=True, **given)
    monkeypatch.setattr(os, "replace", replace)
    assert not [name for name in names[-2:] if (tmp_path / "c" / name).exists()]
    assert comparison.compare(rows, **given).presets("done") == ["edm"]
    held = Lock(tmp_path / "c" / "runs" / "edm", "edm")
    with pytest.raises(InputError, match="is being trained by process"):
        comparison.compare(rows, overwrite=True, **given)
    held.release()
    assert comparison.compare(rows, **given).presets("done") == ["edm"]


def test_features_that_are_of_no_use_let_nothing_go(
    watched: Watched, rows: str, tmp_path: Path
) -> None:
    call = {"out": tmp_path / "c", "presets": ["edm"], **BUDGET}
    comparison.compare(rows, **call)
    with pytest.raises(InputError, match="no such features"):
        comparison.compare(rows, **call, features="wite", overwrite=True)
    comparison.compare(rows, **call)
    assert watched.done() == (["edm"], ["edm"])


def test_another_function_of_the_same_name_is_another_yardstick(
    watched: Watched, rows: str, tmp_path: Path
) -> None:
    call = {"out": tmp_path / "c", "presets": ["edm"], **BUDGET}
    for times, expected in ((1.0, 1), (1.0, 1), (2.0, 2)):
        comparison.compare(rows, features=lambda x, times=times: times * x, **call)
        assert len(watched.evaluated) == expected


def test_a_damaged_run_is_one_that_failed(watched: Watched, rows: str, tmp_path: Path) -> None:
    call = {"out": tmp_path / "c", "presets": ["edm", "gan"], **BUDGET}
    comparison.compare(rows, **call)
    (tmp_path / "c" / "runs" / "edm" / "state" / "latest").write_text("nonsense")
    found = comparison.compare(rows, **call)
    assert (found.presets("failed"), found.presets("done")) == (["edm"], ["gan"])
    assert "is damaged" in found.facts["runs"]["edm"]["problem"]


def test_a_kept_report_and_features_that_are_damaged_are_made_anew(
    watched: Watched, rows: str, tmp_path: Path
) -> None:
    given = {"out": tmp_path / "c", "presets": ["edm"], **BUDGET}
    whole = comparison.compare(rows, **given)
    file = tmp_path / "c" / "evaluated" / "edm.json"
    sound, rng = json.loads(file.read_text()), random.Random(0)
    damaged = [tree for tree in (spoiled(sound, rng) for _ in range(4)) if tree != sound]
    for tree in damaged:
        file.write_text(json.dumps(tree))
        (tmp_path / "c" / "features.safetensors").write_bytes(rng.randbytes(100))
        assert comparison.compare(rows, **given).facts == whole.facts
        assert json.loads(file.read_text()) == sound
    assert len(watched.evaluated) == 1 + len(damaged) > 3


def test_settings_that_are_damaged_are_refused_in_a_sentence(
    watched: Watched, rows: str, tmp_path: Path
) -> None:
    given = {"out": tmp_path / "c", "presets": ["edm"], **BUDGET}
    comparison.compare(rows, **given)
    file = tmp_path / "c" / folder.SETTINGS
    sound = json.loads(file.read_text())
    wrong = [{}, [], *({**sound, name: [[]]} for name in folder.RECORDED)]
    for tree in wrong:
        file.write_text(json.dumps(tree))
        with pytest.raises(InputError, match=r"settings.json: cannot be read \(its .* damaged\)"):
            comparison.compare(rows, **given)
    assert len(watched.evaluated) == 1
