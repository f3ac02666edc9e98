"""`undiffuse evaluate` as a person types it: from a run to a report, or to one sentence
that says why not.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from undiffuse.cli.main import main

TRAIN = (  # a vae: it draws and scores in few passes
    "--preset",
    "vae",
    "--steps",
    30,
    "--model.width",
    16,
    "--model.depth",
    1,
    "--precision",
    "float32",
    "--training.samples",
    0,
)
QUICK = ("-n", 48, "--rows", 8, "--batch", 16, "--device", "cpu")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with x.npy, 200 rows of 3 numbers, and a run on it; it is copied, not written to."""
    folder = tmp_path_factory.mktemp("evaluate")
    np.save(folder / "x.npy", np.random.default_rng(0).normal(5, 2, (200, 3)))
    words = [
        "train",
        folder / "x.npy",
        "--out",
        folder / "run",
        *TRAIN,
        "--device",
        "cpu",
        "--quiet",
    ]
    assert main([str(word) for word in words]) == 0
    return folder


@pytest.fixture
def run(place: Path, tmp_path: Path) -> Path:
    """The run, in a folder of the test's own."""
    return shutil.copytree(place / "run", tmp_path / "run")


def facts(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "report.json").read_text())


def untimed(tree: dict[str, Any]) -> dict[str, Any]:
    """The facts that are the same on each call."""
    return {
        name: tree[name]
        for name in ("quality", "coverage", "memorization", "likelihood", "samples", "features")
    }


def test_the_report_is_in_the_runs_folder_and_its_verdict_is_said(cli, run: Path) -> None:
    done = cli("evaluate", run, *QUICK, "--json").done()
    told, kept = json.loads(done.out), facts(run)
    assert {name: told[name] for name in kept} == kept
    assert told["out"] == [str(run / "report.html"), str(run / "report.json")]
    assert (kept["samples"], kept["kind"], kept["data"]["held_out_rows"]) == (48, "report", 20)
    assert kept["verdict"]["sentence"] in done.err
    assert done.err.splitlines()[-2:] == [
        f"wrote {run / 'report.html'}",
        f"wrote {run / 'report.json'}",
    ]
    assert (run / "report.html").read_text().startswith("<!doctype html>")


def test_an_earlier_report_is_replaced_and_elsewhere_other_things_are_not(
    cli, run: Path, tmp_path: Path
) -> None:
    for seed in (1, 2):
        cli("evaluate", run, *QUICK, "--seed", seed, "--out", tmp_path / "new").done()
        assert facts(tmp_path / "new")["seed"] == seed
    (tmp_path / "new" / "mine.txt").write_text("mine")
    words = ("evaluate", run, *QUICK, "--seed", 1, "--out", tmp_path / "new")
    assert cli(*words).refused("already exists", "--overwrite")
    assert facts(tmp_path / "new")["seed"] == 2
    cli(*words, "--overwrite").done()
    assert facts(tmp_path / "new")["seed"] == 1
    assert (tmp_path / "new" / "mine.txt").read_text() == "mine"
    assert not (run / "report.html").exists()
    (tmp_path / "new" / "mine.txt").unlink()
    (tmp_path / "new" / "report.html").unlink()  # as a kill between the two files leaves it
    cli(*words).done()
    assert (tmp_path / "new" / "report.html").exists()
    file = tmp_path / "file"
    file.write_text("mine")
    for more in ((), ("--overwrite",)):
        assert cli("evaluate", run, "--out", file, *more).refused("file")
    assert file.read_text() == "mine"


def test_a_page_that_is_no_report_of_ours_is_not_replaced(cli, run: Path, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "report.html").write_text("mine")
    assert cli("evaluate", run, "--out", tmp_path / "web").refused("already exists")
    assert (tmp_path / "web" / "report.html").read_text() == "mine"


def test_interrupted_and_typed_again_it_ends_as_if_it_had_not_been(
    cli, run: Path, place: Path, monkeypatch
) -> None:
    whole = shutil.copytree(place / "run", run.with_name("whole"))
    cli("evaluate", whole, *QUICK).done()
    polls = iter([False, False, True])
    with monkeypatch.context() as patch:
        patch.setattr("undiffuse.cli.evaluate.Interruption.stopped", lambda _: next(polls, True))
        stopped = cli("evaluate", run, *QUICK, "--json")
    assert stopped.code == 130
    assert json.loads(stopped.out) == {"run": str(run), "stopped": True}
    assert "the same command resumes" in stopped.err
    assert not (run / "report.html").exists()
    kept = {file: file.read_bytes() for file in (run / "evaluation").iterdir()}
    cli("evaluate", run, *QUICK).done()
    assert kept
    assert all(file.read_bytes().startswith(before) for file, before in kept.items())
    assert untimed(facts(run)) == untimed(facts(whole))


def test_data_that_have_moved_are_asked_for_and_taken(cli, run: Path, place: Path) -> None:
    (place / "x.npy").rename(place / "moved.npy")
    try:
        assert cli("evaluate", run, *QUICK).refused("no such file", "--data")
        cli("evaluate", run, *QUICK, "--data", place / "moved.npy").done()
        with_data = facts(run)
    finally:
        (place / "moved.npy").rename(place / "x.npy")
    cli("evaluate", run, *QUICK).done()
    assert untimed(facts(run)) == untimed(with_data)


REFUSED = {
    "no such run": (("none",), "no such folder"),
    "no run": ((".",), "not a run"),
    "a run without weights": (("begun",), "had not reached its first checkpoint"),
    "too many samples": (("run", "-n", 10**12), "-n 1000000000000: must be a whole number of"),
    "too many steps": (("run", "--steps", 10**9), "and at most 1000000"),
    "too few samples": (("run", "-n", 5), "-n 5: must be a whole number of at least 16"),
    "unknown features": (
        ("run", "--features", "wite"),
        "wite: no such features. Did you mean white",
    ),
    "features twice": (
        ("run", "--features", "raw", "--inception-weights", "w.pth"),
        "leave one of them out",
    ),
    "no such weights": (("run", "--inception-weights", "none.pth"), "none.pth"),
    "an unknown method": (("run", "--method", "hun"), "--method hun: no such method"),
    "a method of another family": (("run", "--method", "heun"), "heun"),
    "steps of no number": (
        ("run", "--steps", 0),
        "--steps 0: must be a whole number of at least 1",
    ),
    "no such data": (("run", "--data", "none.npy"), "none.npy"),
    "data of another shape": (("run", "--data", "other.npy"), "other.npy"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_refused_in_a_sentence_and_no_report_is_left(
    cli, place: Path, run: Path, what: str
) -> None:
    (name, *more), fragment = REFUSED[what]
    np.save(place / "other.npy", np.zeros((50, 4)))
    shutil.copytree(run, run.with_name("begun"))
    (run.with_name("begun") / "weights.safetensors").unlink()
    words = [str(place / word) if str(word).endswith(".npy") else word for word in more]
    assert cli("evaluate", run.parent / name, "--device", "cpu", "--quiet", *words).refused(
        fragment
    )
    assert not list(run.parent.rglob("report.*"))


def test_fewer_samples_than_features_are_compared_with_a_warning(cli, run: Path) -> None:
    """64 features and 20 samples: figures are there, with intervals, and it is said
    what not to trust.
    """
    done = cli("evaluate", run, *QUICK[2:], "-n", 20, "--features", "trained").done()
    kept = facts(run)
    assert (kept["samples"], kept["features"]["dimensions"]) == (20, 64)
    assert "too few for a Frechet distance" in kept["quality"]["frechet"]["warning"]
    assert "few for 64 features" in done.err
    assert all(kept["quality"][name]["value"] is not None for name in kept["quality"])


def test_one_class_alone_is_no_class_to_tell(cli, tmp_path: Path) -> None:
    """Labels of one class teach a classifier nothing: everything else is measured,
    modes are not.
    """
    np.savez(
        tmp_path / "one.npz",
        x=np.random.default_rng(0).normal(5, 2, (200, 3)),
        y=np.zeros(200, int),
    )
    out = tmp_path / "run"
    cli("train", tmp_path / "one.npz", "--out", out, *TRAIN, "--device", "cpu", "--quiet").done()
    cli("evaluate", out, *QUICK, "--quiet").done()
    kept = facts(out)
    assert kept["classes"] == []
    assert not kept["coverage"].get("modes")
    assert kept["coverage"]["recall"]["value"] is not None


def test_rows_that_a_network_cannot_take_are_refused(cli, run: Path) -> None:
    assert cli("evaluate", run, *QUICK, "--quiet", "--features", "lite0").refused("lite0", "(3,)")
    assert not (run / "report.html").exists()
