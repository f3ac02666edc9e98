"""The run directory stays whole: wherever the machine stops, whatever is there, on a full disk."""

from __future__ import annotations

import json
import os
import resource
import shutil
from contextlib import suppress

import pytest
import torch
from safetensors.torch import load_file
from training_fakes import Gaussian, Points, same_weights

from undiffuse.atomic import atomic_file, contents
from undiffuse.errors import InputError
from undiffuse.run import Run
from undiffuse.training import fit
from undiffuse.training.checkpoint import RunFolder

OPTIONS = {
    "steps": 8,
    "batch": 8,
    "lr": 0.03,
    "checkpoint_every": 4,
    "device": "cpu",
    "precision": "float32",
}


BRIEFLY = OPTIONS | {"steps": 2, "checkpoint_every": 1}  # two checkpoints, two snapshots


class Power(BaseException):
    """The machine stops."""


CALLS = [(os, "replace"), (os, "fsync"), (shutil, "rmtree")]


def count_calls(monkeypatch, stop_at=None):
    """Count all renames, flushes and removals; at number `stop_at` the machine stops for good."""
    counted = [0]
    for module, name in CALLS:
        real = (
            getattr(module, name) if name != "fsync" else lambda handle: None
        )  # slow, and changes no file

        def patched(*args, real=real, **kwargs):
            counted[0] += 1
            if stop_at is not None and counted[0] >= stop_at:
                raise Power
            return real(*args, **kwargs)

        monkeypatch.setattr(module, name, patched)
    return counted


def read_all(out):
    """Read all that another process would of a run that may be in the middle of training."""
    tree = Run(out).summary()
    folder, state = RunFolder(out), tree["steps"]
    assert folder.counters() is None or state == folder.counters()["step"]
    for snapshot in [*([None] if tree["weights"] else []), *folder.snapshots()]:
        assert folder.weights(snapshot).keys() == set(Gaussian().state_dict())
    if folder.counters() is not None:
        assert tree["weights"]
        assert "model/net.mean" in folder.tensors()
    return tree


def test_a_run_that_is_killed_at_any_write_goes_on_to_the_same_weights(tmp_path, monkeypatch):
    """After a kill nothing is renamed, flushed or removed: clean-up code cannot run either."""
    whole = Gaussian()
    with monkeypatch.context() as patch:
        calls = count_calls(patch)
        fit(whole, Points(), out=tmp_path / "whole", **BRIEFLY)
    assert calls[0] > 20
    for number in range(1, calls[0] + 1):
        out = tmp_path / f"killed-{number}"
        with monkeypatch.context() as patch, suppress(Power):
            count_calls(patch, stop_at=number)
            fit(Gaussian(), Points(), out=out, **BRIEFLY)
        if (out / "config.json").exists():
            read_all(out)
        resumed = Gaussian()
        if not (out / "config.json").exists():
            fit(resumed, Points(), out=out, overwrite=out.exists(), **BRIEFLY)
        else:
            with suppress(InputError):  # the kill came after the end
                fit(resumed, Points(), out=out, resume=True)
        saved = load_file(out / "weights.safetensors")
        assert all(torch.equal(saved[name], value) for name, value in whole.state_dict().items()), (
            number
        )
        assert (out / "state" / "latest").read_text().strip() == "step-00000002-end", number
        assert len(contents(out / "state")) <= 3, number  # nothing piles up
        assert len(list((out / "state").iterdir())) <= 4, number  # with what sweeps will remove


def test_of_a_run_that_is_killed_while_it_replaces_another_one_of_the_two_is_whole(
    tmp_path, monkeypatch
):
    options = BRIEFLY | {"steps": 1}
    old, new = Gaussian(), Gaussian()
    fit(old, Points(), out=tmp_path / "old", **options)
    with monkeypatch.context() as patch:
        shutil.copytree(tmp_path / "old", tmp_path / "new")
        calls = count_calls(patch)
        fit(new, Points(), out=tmp_path / "new", overwrite=True, **options, seed=1)
    for number in range(1, calls[0] + 1):
        place = tmp_path / str(number)
        shutil.copytree(tmp_path / "old", place / "run")
        with monkeypatch.context() as patch, suppress(Power):
            count_calls(patch, stop_at=number)
            fit(Gaussian(), Points(), out=place / "run", overwrite=True, **options, seed=1)
        kept = RunFolder(place / "run").weights()["net.mean"]  # the next command opens a whole run
        assert any(torch.equal(kept, model.net.mean) for model in (old, new)), number
        again = Gaussian()
        fit(again, Points(), out=place / "run", overwrite=True, **options, seed=1)
        assert same_weights(again, new), number
        assert read_all(place / "run")["finished"]
        left = [path for path in place.iterdir() if path.name != "run" and path.is_dir()]
        assert not left, number


def run(out, **options):
    model = Gaussian()
    fit(model, Points(), out=out, **(OPTIONS | options))
    return model


def test_a_run_is_neither_written_over_nor_mixed_up(tmp_path):
    out = tmp_path / "run"
    run(out)
    before = {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}
    with pytest.raises(
        InputError, match="already holds a run; use --resume to go on with it or --overwrite"
    ):
        run(out)
    with pytest.raises(InputError, match="give one of them"):
        run(out, resume=True, overwrite=True)
    with pytest.raises(InputError, match="no run to resume"):
        run(tmp_path / "none", resume=True)
    with pytest.raises(InputError, match="its own weights"):
        run(out, resume=True, init=out)
    with pytest.raises(InputError, match="which run"):
        fit(Gaussian(), Points(), resume=True, steps=3)
    assert before == {p.name: p.read_bytes() for p in out.iterdir() if p.is_file()}
    replaced = run(out, overwrite=True, seed=1)
    saved = load_file(out / "weights.safetensors")
    assert torch.equal(saved["net.mean"], replaced.net.mean)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "run"
    ]  # the old run is gone once there is a new one


def test_a_folder_that_is_no_run_is_never_touched(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("words")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(InputError, match="thesis"):
            run(tmp_path / "thesis", **options)
    assert [p.name for p in (tmp_path / "thesis").iterdir()] == ["chapter.txt"]
    (tmp_path / "file").write_text("words")
    for options in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(InputError, match="file"):
            run(tmp_path / "file", **options)
    (tmp_path / "empty").mkdir()
    run(tmp_path / "empty")
    assert (tmp_path / "empty" / "weights.safetensors").exists()


def left_by_a_kill(folder):
    """Leave what a killed process would of a file that it was writing."""
    with suppress(InputError), atomic_file(folder.parent / "x.json") as temporary:
        hidden = temporary.parent.name.replace(f"-{os.getpid()}-", "-9999999-")  # no process
        raise InputError
    (folder / hidden).mkdir()
    (folder / hidden / "x.json").write_text("{")


@pytest.mark.parametrize(
    "names", [[], ["config.json"], ["config.json", "log.jsonl", "samples", "state", ".lock"]]
)
def test_what_was_killed_as_it_began_is_begun_again_as_it_was_typed(tmp_path, names):
    old, begun, mine = tmp_path / "old", tmp_path / "begun", tmp_path / "mine"
    run(old)
    for entry in old.iterdir():
        if entry.name not in names:
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    (old / "state" / "latest").unlink(missing_ok=True)
    shutil.copytree(old, begun)
    shutil.copytree(old, mine)
    (mine / "notes.txt").write_text("mine")
    left_by_a_kill(begun)
    whole = run(begun)
    assert torch.equal(load_file(begun / "weights.safetensors")["net.mean"], whole.net.mean)
    assert not [*begun.glob(".*")]
    with pytest.raises(InputError, match=r"other files and no run|already holds a run"):
        run(mine)
    assert (mine / "notes.txt").read_text() == "mine"


def test_the_old_run_comes_back_if_the_new_one_has_no_checkpoint(tmp_path):
    out = tmp_path / "run"
    old = run(out)
    poisoned = Gaussian(poison=tuple(range(99)))
    with pytest.raises(InputError, match="not finite"):
        fit(
            poisoned,
            Points(),
            out=out,
            overwrite=True,
            **(OPTIONS | {"steps": 20, "checkpoint_every": 50}),
        )
    assert torch.equal(load_file(out / "weights.safetensors")["net.mean"], old.net.mean)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["run"]


def test_a_disk_that_fills_up_leaves_the_last_checkpoint(tmp_path):
    """The kernel refuses to write a file over a size, as it would on a full disk."""
    out, limits = tmp_path / "run", resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(event):
        if event["event"] == "step" and event["step"] == 6:
            size = (out / "log.jsonl").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (max(size + 100, 600), limits[1]))

    try:
        with pytest.raises(InputError, match="could not be written"):
            fit(Gaussian(), Points(), out=out, on_event=fill, **OPTIONS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert (out / "state" / "latest").read_text().strip() == "step-00000004"
    assert not [p for p in out.rglob("*") if p.name.startswith(".")]
    resumed = Gaussian()
    fit(resumed, Points(), out=out, resume=True)
    whole = run(tmp_path / "whole")
    assert same_weights(resumed, whole)


def test_a_place_that_cannot_be_written_is_said_before_training(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("undiffuse.atomic.os.replace", refuse)
    model, data = Gaussian(), Points()
    with pytest.raises(InputError, match="permission"):
        fit(model, data, out=tmp_path / "run", **OPTIONS)
    assert data.asked == []
    assert not any(tmp_path.iterdir())


def test_damage_is_named(tmp_path):
    out = tmp_path / "run"
    run(out)
    state = out / "state" / "step-00000008-end" / "state.safetensors"
    whole = state.read_bytes()
    state.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="resume state step-00000008-end is damaged"):
        run(out, resume=True, steps=20)
    (out / "state" / "latest").write_text("../../elsewhere")
    with pytest.raises(InputError, match="resume state latest is damaged"):
        RunFolder(out).counters()
    config = json.loads((out / "config.json").read_text())
    for text, what in (
        ("{", "cannot be read"),
        ("[]", "config.json is damaged"),
        (json.dumps(config | {"format": 99}), "upgrade undiffuse"),
    ):
        (out / "config.json").write_text(text)
        with pytest.raises(InputError, match=what):
            RunFolder(out).config()
    (out / "weights.safetensors").write_bytes(b"12345")
    with pytest.raises(InputError, match=r"weights.safetensors is damaged"):
        RunFolder(out).weights()


def test_a_folder_with_a_config_of_something_else_is_not_replaced(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(InputError, match="holds other files and no run"):
        RunFolder.claim(tmp_path, overwrite=True)
