"""What bad runs, labels and places get: one sentence, exit code 2, nothing
half-written, nothing lost.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

QUICK = (
    "--steps",
    2,
    "--device",
    "cpu",
    "--precision",
    "float32",
    "--training.samples",
    0,
    "--quiet",
)
TINY = ("--model.width", 8, "--model.depth", 1)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its bytes, and every folder."""
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on labelled rows that is whole."""
    from undiffuse.cli.main import main

    folder = tmp_path_factory.mktemp("good")
    rng = np.random.default_rng(0)
    np.savez(
        folder / "x.npz", data=rng.normal(size=(60, 4)).astype(np.float32), labels=np.arange(60) % 3
    )
    words = ["train", folder / "x.npz", "--out", folder / "run", *QUICK, *TINY]
    assert main([str(word) for word in words]) == 0
    return folder / "run"


@pytest.fixture
def run(good: Path, tmp_path: Path) -> Path:
    """A copy of the run, to be spoiled."""
    import shutil

    return Path(shutil.copytree(good, tmp_path / "run"))


def change(file: Path, **entries: object) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | entries))


SPOILERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda run: (run / "config.json").unlink(), "config.json"),
    "no weights": (lambda run: (run / "weights.safetensors").unlink(), "incomplete"),
    "torn config": (lambda run: (run / "config.json").write_text("{"), "config.json"),
    "a newer format": (lambda run: change(run / "config.json", format=99), "99"),
    "a model of a later version": (
        lambda run: change(run / "config.json", model={"kind": "oracle"}),
        "oracle",
    ),
    "torn weights": (lambda run: os.truncate(run / "weights.safetensors", 999), "damaged"),
    "weights of zeros": (
        lambda run: (run / "weights.safetensors").write_bytes(bytes(4096)),
        "damaged",
    ),
    "weights of another": (lambda run: change(run / "config.json", **narrower(run)), "tensor"),
}


def narrower(run: Path) -> dict:
    model = json.loads((run / "config.json").read_text())["model"]
    model["network"]["width"] //= 2
    return {"model": model}


@pytest.mark.parametrize("what", SPOILERS)
def test_a_run_that_is_not_whole(cli, run: Path, tmp_path: Path, what: str) -> None:
    spoil, fragment = SPOILERS[what]
    spoil(run)
    before = contents(tmp_path)
    assert cli("sample", run, "-n", 2, "--out", tmp_path / "s.npy").refused(str(run), fragment)
    assert contents(tmp_path) == before


def test_a_run_is_not_resumed_with_a_larger_model_than_its_weights(cli, run: Path) -> None:
    model = json.loads((run / "config.json").read_text())["model"]
    model["network"]["width"] = 2**14
    change(run / "config.json", model=model)
    before = contents(run)
    words = ("train", "--out", run, "--resume", "--steps", 3, "--quiet")
    assert cli(*words).refused(str(run), "larger model than its weights")
    assert contents(run) == before


@pytest.mark.parametrize("key", ["path", "split", "fingerprint"])
def test_a_run_of_data_that_are_not_recorded_is_not_resumed(cli, run: Path, key: str) -> None:
    data = json.loads((run / "config.json").read_text())["data"]
    data.pop(key)
    change(run / "config.json", data=data)
    words = ("train", "--out", run, "--resume", "--steps", 3, "--quiet")
    assert cli(*words).refused(str(run), "from Python" if key == "path" else f"data.{key}")


HUGE = ("1e308", "1" * 400, "1e999", "-" + "9" * 5000)


@pytest.mark.parametrize("number", HUGE)
def test_numbers_beyond_those_of_floats_in_the_state_of_a_run(cli, run: Path, number: str) -> None:
    """Each is refused in a sentence, or shown."""
    (file,) = run.glob("state/*/state.json")
    state = json.loads(file.read_text())
    state["held_out"] = {"loss": "here", "curve": {"t": [1.0, 2.0], "loss": ["here", 1.0]}}
    file.write_text(json.dumps(state).replace('"here"', number))
    if number == HUGE[0]:
        assert "1e+308" in cli("info", run).done().out
    else:
        assert cli("info", run).refused(str(run), "larger than any number")


def test_no_run_at_all(cli, tmp_path: Path) -> None:
    assert cli("sample", tmp_path / "none", "-n", 2, "--out", tmp_path / "s.npy").refused(
        "none", "no such folder"
    )
    assert cli("train", "--out", tmp_path / "none", "--resume").refused("none", "no run to resume")
    assert cli("train", "moons", "--out", tmp_path / "a", "--init", tmp_path / "none").refused(
        "none", "no such folder"
    )
    assert not list(tmp_path.iterdir())


def test_a_label_the_model_does_not_know(cli, run: Path, tmp_path: Path) -> None:
    words = ("-n", 2, "--out", tmp_path / "s.npy", "--label")
    assert cli("sample", run, *words, 7).refused("label 7", "0, 1, 2")
    assert cli("sample", run, *words, "cat").refused("label cat", "0, 1, 2")
    assert not (tmp_path / "s.npy").exists()


@pytest.mark.parametrize("name", ["s.npy", "s.png", "folder"])
def test_an_out_that_is_taken(cli, run: Path, tmp_path: Path, name: str) -> None:
    if name == "folder":
        (tmp_path / name).mkdir()
        (tmp_path / name / "diary.txt").write_text("dear")
    else:
        (tmp_path / name).write_text("dear")
    before = contents(tmp_path)
    assert cli("sample", run, "-n", 2, "--out", tmp_path / name).refused(name, "--overwrite")
    assert contents(tmp_path) == before
    if name == "folder":
        assert cli("sample", run, "-n", 2, "--out", tmp_path / name, "--overwrite").refused(name)
        assert contents(tmp_path) == before


def test_a_run_that_is_there_is_not_overwritten_unasked(cli, run: Path, tmp_path: Path) -> None:
    before = contents(tmp_path)
    assert cli("train", "moons", "--out", run, *QUICK).refused(str(run), "--resume", "--overwrite")
    assert cli("train", "--out", run, "--resume", "--steps", 1, *QUICK[2:]).refused(
        "has already had 2 steps"
    )
    assert cli("train", "moons", "--out", run, "--resume", "--steps", 4, *QUICK[2:]).refused(
        "moons", str(run)
    )
    wider = ("--resume", "--steps", 4, *QUICK[2:], "--model.width", 16, "--model.depth", 1)
    assert cli("train", "--out", run, *wider).refused("another model", "width")
    (tmp_path / "diary").mkdir()
    (tmp_path / "diary" / "may.txt").write_text("dear")
    before = contents(tmp_path)
    assert cli("train", "moons", "--out", tmp_path / "diary", "--overwrite", *QUICK).refused(
        "diary", "other files"
    )
    assert contents(tmp_path) == before


PLACES = {"below a file": "file/x", "a file": "file", "in the system": "/proc/x"}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_a_place_that_cannot_be_written(cli, run: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("dear")
    before = contents(tmp_path)
    assert cli("train", "moons", "--out", tmp_path / place, *QUICK).refused(place)
    if place != "file":
        assert cli("sample", run, "-n", 2, "--out", tmp_path / f"{place}.npy").refused(place)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["s.npy", "s.npz", "s.png"])
def test_a_disk_that_fills_while_samples_are_written(
    cli, run: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rehearsal goes well, for it is small; the flush of the real file does not."""
    import undiffuse.atomic

    (tmp_path / name).write_text("the old samples")
    before = contents(tmp_path)

    def full(path: Path) -> None:
        if str(tmp_path) in str(path) and path.name.endswith(name):
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(undiffuse.atomic, "_flush", full)
    words = ("sample", run, "-n", 2, "--out", tmp_path / name, "--steps", 2, "--overwrite")
    assert cli(*words).refused(name, "disk is full")
    assert contents(tmp_path) == before


def test_a_disk_that_fills_while_training(
    cli, tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint before is kept, and once there is room the run goes on to where
    it was going.
    """
    import undiffuse.training.checkpoint as folder

    whole = folder.save_file

    def full(tensors: dict, path: Path, **options: object) -> None:
        whole(tensors, path, **options)
        os.truncate(path, 100)
        raise OSError(errno.ENOSPC, "No space left on device")

    weights = (run / "weights.safetensors").read_bytes()
    monkeypatch.setattr(folder, "save_file", full)
    assert cli("train", "--out", run, "--resume", "--steps", 4, "--quiet").refused("disk is full")
    assert (run / "weights.safetensors").read_bytes() == weights
    monkeypatch.setattr(folder, "save_file", whole)
    cli("sample", run, "-n", 2, "--out", tmp_path / "s.npy", "--steps", 2).done()
    cli("train", "--out", run, "--resume", "--steps", 4, "--quiet").done()
    assert json.loads(cli("info", run, "--json").done().out)["steps"] == 4


def test_a_run_whose_config_lacks_its_seed_goes_on(run, cli):
    training = json.loads((run / "config.json").read_text())["training"]
    del training["seed"]
    change(run / "config.json", training=training)
    cli("train", "--out", run, "--resume", "--steps", 3, "--quiet").done()
    assert json.loads((run / "state" / "step-00000003-end" / "state.json").read_text())["step"] == 3
