"""Snapshots: kept when the steps have doubled, the last five, also in an interrupted run."""

from __future__ import annotations

from pathlib import Path

import pair
import pytest
import torch
from safetensors.torch import load_file
from training_fakes import Gaussian, Points

from undiffuse.errors import InputError
from undiffuse.run import Run
from undiffuse.training import clock, fit, schedule
from undiffuse.training.checkpoint import RunFolder
from undiffuse.training.clock import Clock

CPU = {
    "device": "cpu",
    "precision": "float32",
    "batch": 8,
    "lr": 0.03,
    "samples": 0,
    "evaluate_every": 10_000,
}


def stop_at(step):
    polls = iter(range(10**9))
    return lambda: next(polls) >= step


def kept(out: Path) -> list[int]:
    return list(RunFolder(out).snapshots())


def test_one_is_kept_at_the_first_checkpoint_after_the_steps_have_doubled(tmp_path):
    """Of checkpoints at 3, 6, 9, ...: 3, 6, 12, 24, 48, 96, of which the last five stay."""
    out = tmp_path / "run"
    fit(Gaussian(), Points(), out=out, steps=100, checkpoint_every=3, **CPU)
    assert kept(out) == [6, 12, 24, 48, 96]
    assert all(path.name.startswith("step-") for path in (out / "snapshots").iterdir())


def test_what_a_run_becomes_does_not_depend_on_when_there_was_time_to_save(tmp_path, monkeypatch):
    """Its state, its weights and its snapshots: also those of a run that goes on from there."""
    monkeypatch.setattr(schedule, "CHECKPOINT", 3)
    saved = {}
    for name, able in (("never", False), ("always", True), ("on", True)):
        monkeypatch.setattr(Clock, "can_save", lambda self, able=able: able)
        out, found = tmp_path / name, saved.setdefault(name, [])

        def listen(event, found=found):
            found.extend([event["step"]] if event["event"] == "checkpoint" else [])

        stop = stop_at(4) if name == "on" else lambda: False
        fit(Gaussian(), Points(), out=out, steps=6, stop=stop, on_event=listen, **CPU)
    fit(Gaussian(), Points(), out=tmp_path / "on", resume=True)
    assert saved["never"] == [3, 6]
    assert saved["always"] == [1, 2, 3, 4, 5, 6]
    ours, *others = (pair.state_of(tmp_path / name)[0] for name in saved)
    for other in others:
        assert all(torch.equal(value, other[name]) for name, value in ours.items())
    assert kept(tmp_path / "never") == kept(tmp_path / "always") == [3, 6]


@pytest.mark.parametrize(
    ("late", "every", "steps"),
    [(0.0, None, [*range(1, 41)]), (0.0, 25, [25, 40]), (1e9, 25, [25, 40])],
)
def test_a_checkpoint_is_written_once_the_latest_is_old(tmp_path, monkeypatch, late, every, steps):
    """However little of a long run is over since; not where it was said how often."""
    monkeypatch.setattr(clock, "LATE", late)
    monkeypatch.setattr(Clock, "can_save", lambda self: True)
    saved = []

    def listen(event):
        saved.extend([event["step"]] if event["event"] == "checkpoint" else [])

    own = {"steps": 40, "checkpoint_every": every, "on_event": listen}
    fit(Gaussian(), Points(), out=tmp_path / "run", **own, **CPU)
    assert saved == steps


def test_a_snapshot_is_the_average_at_its_step(tmp_path):
    fit(
        Gaussian(), Points(), out=tmp_path / "long", steps=20, checkpoint_every=8, decay=1e-9, **CPU
    )
    fit(Gaussian(), Points(), out=tmp_path / "short", steps=20, stop=stop_at(8), decay=1e-9, **CPU)
    snapshot, then = (
        RunFolder(tmp_path / "long").weights(8),
        load_file(tmp_path / "short" / "weights.safetensors"),
    )
    assert snapshot.keys() == then.keys()
    assert all(torch.equal(snapshot[name], then[name]) for name in then)
    assert not torch.equal(
        snapshot["net.mean"], load_file(tmp_path / "long" / "weights.safetensors")["net.mean"]
    )


@pytest.mark.parametrize("pause", [8, 24, 32])
def test_an_interrupted_run_keeps_the_same_ones_at_its_checkpoints(tmp_path, pause):
    fit(Gaussian(), Points(), out=tmp_path / "a", steps=40, checkpoint_every=8, **CPU)
    fit(
        Gaussian(),
        Points(),
        out=tmp_path / "b",
        steps=40,
        checkpoint_every=8,
        stop=stop_at(pause),
        **CPU,
    )
    ahead = (
        tmp_path / "b" / "snapshots" / "step-00000048.safetensors"
    )  # written, and its checkpoint not completed
    ahead.write_bytes((tmp_path / "b" / "weights.safetensors").read_bytes())
    fit(Gaussian(), Points(), out=tmp_path / "b", resume=True)
    assert kept(tmp_path / "a") == kept(tmp_path / "b") == [8, 16, 32]
    for step in kept(tmp_path / "a"):
        one, other = (RunFolder(tmp_path / run).weights(step) for run in "ab")
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_not_there_is_said_in_one_sentence(tmp_path):
    out = tmp_path / "run"
    fit(Gaussian(), Points(), out=out, steps=20, checkpoint_every=8, **CPU)
    with pytest.raises(InputError, match=r"no snapshot of step 9; those of steps 8, 16 are kept"):
        RunFolder(out).weights(9)
    (out / "snapshots" / "step-00000008.safetensors").write_bytes(b"half")
    with pytest.raises(InputError, match="its snapshot of step 8 is damaged"):
        RunFolder(out).weights(8)
    fit(Gaussian(), Points(), out=tmp_path / "brief", steps=4, **CPU)
    with pytest.raises(
        InputError,
        match="no snapshot from its first half, which is needed here; train for longer",
    ):
        Run(tmp_path / "brief").weaker()
