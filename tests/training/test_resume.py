"""Resuming changes nothing, extending warms up again, another run starts from an average."""

from __future__ import annotations

import json
from contextlib import suppress

import pytest
import torch
from safetensors.torch import load_file, save_file
from training_fakes import Gaussian, Points, TwoPlayers, events, same_weights

from undiffuse.errors import InputError
from undiffuse.training import fit

CPU = {"device": "cpu", "precision": "float32"}


def stop_at(step):
    """A `stop` that says so before the step after this one."""
    polls = iter(range(10**9))
    return lambda: next(polls) >= step


@pytest.mark.parametrize("family", [Gaussian, TwoPlayers])
@pytest.mark.parametrize("pause", [1, 13, 20])
def test_a_run_in_two_goes_is_the_run_in_one(tmp_path, family, pause):
    options = {
        "steps": 30,
        "batch": 8,
        "lr": 0.03,
        "accumulate": 2,
        "evaluate_every": 4,
        "log_every": 1,
    }
    whole, parts = family(), family()
    fit(whole, Points(), out=tmp_path / "a", checkpoint_every=10, **options, **CPU)
    result = fit(
        parts,
        Points(),
        out=tmp_path / "b",
        checkpoint_every=10,
        stop=stop_at(pause),
        **options,
        **CPU,
    )
    assert (result.stopped, result.step) == (True, pause)
    other, data = family(), Points()
    result = fit(other, data, out=tmp_path / "b", resume=True)
    assert (result.stopped, result.step) == (False, 30)
    assert data.asked[0] == pause  # the data are not read from the start
    assert same_weights(whole, other)
    assert events(tmp_path / "a", "step", "held_out") == events(tmp_path / "b", "step", "held_out")
    configs = [json.loads((tmp_path / run / "config.json").read_text()) for run in "ab"]
    assert configs[0] == configs[1]


def test_a_killed_run_forgets_the_steps_after_its_checkpoint(tmp_path):
    out = tmp_path / "run"
    options = {"steps": 20, "batch": 8, "log_every": 1, "checkpoint_every": 5}

    class Killed(BaseException):
        pass

    def kill(event):
        if event["event"] == "step" and event["step"] == 8:
            raise Killed

    with suppress(Killed):
        fit(Gaussian(), Points(), out=out, on_event=kill, **options, **CPU)
    with (out / "log.jsonl").open("a") as log:
        log.write('{"event": "step", "st')  # the machine stopped in the middle of a line
    fit(Gaussian(), Points(), out=out, resume=True)
    assert [event["step"] for event in events(out, "step")] == list(range(1, 21))


def test_a_budget_counts_the_time_of_every_sitting(tmp_path):
    out, lrs = tmp_path / "run", []

    def listener(event):
        if event["event"] == "step":
            lrs.append((event["elapsed"], event["lr"]))

    options = {"budget": 1.0, "batch": 8, "lr": 0.01, "decay": 1.0, "samples": 0}
    halfway = lambda: bool(lrs) and lrs[-1][0] > 0.5  # noqa: E731
    first = fit(Gaussian(), Points(), out=out, stop=halfway, on_event=listener, **options, **CPU)
    assert first.stopped
    second = fit(Gaussian(), Points(), out=out, resume=True, on_event=listener)
    assert not second.stopped
    assert (
        0.9 < second.elapsed < 1.5
    )  # time for the last look and checkpoint is set aside, and may not be needed
    late = [(elapsed, lr) for elapsed, lr in lrs if elapsed > 0.2]
    assert all(
        lr == pytest.approx(0.01 * (1 - elapsed), abs=2e-3) for elapsed, lr in late
    )  # it follows the clock
    with pytest.raises(InputError, match=r"has already had 1s; give more, such as --budget 2s"):
        fit(Gaussian(), Points(), out=out, resume=True)


def test_a_finished_run_is_extended_with_a_new_warm_up(tmp_path):
    out, lrs = tmp_path / "run", {}
    fit(Gaussian(), Points(), out=out, steps=20, batch=8, lr=0.01, warmup=4, **CPU)
    with pytest.raises(InputError, match=r"already had 20 steps; give more, such as --steps 40"):
        fit(Gaussian(), Points(), out=out, resume=True)
    with pytest.raises(InputError, match="already had 20 steps"):
        fit(Gaussian(), Points(), out=out, resume=True, steps=20)

    def listener(event):
        if event["event"] == "step":
            lrs[event["step"] - 1] = event["lr"]

    result = fit(Gaussian(), Points(), out=out, resume=True, steps=200, on_event=listener)
    assert result.step == 200
    assert lrs[20] == pytest.approx(0.01 / 4)
    assert lrs[23] == pytest.approx(0.01)
    assert lrs[199] == pytest.approx(0.01 / 200 / 0.7)
    assert json.loads((out / "config.json").read_text())["training"]["steps"] == 200


def test_another_run_starts_from_the_average_of_one(tmp_path):
    trained = Gaussian()
    fit(trained, Points(), out=tmp_path / "a", steps=20, batch=8, lr=0.05, **CPU)
    model = Gaussian()
    fit(model, Points(), steps=1, batch=8, lr=1e-12, init=tmp_path / "a", **CPU)
    torch.testing.assert_close(model.net.mean, trained.net.mean, rtol=0, atol=1e-9)
    assert int(model.seen) == 1  # what is no player's is not taken over
    with pytest.raises(InputError, match=r"tensor net.mean is \(1, 2\) there and \(1, 3\) here"):
        fit(Gaussian(size=3), Points(), steps=1, init=tmp_path / "a", **CPU)


def test_a_run_is_not_resumed_with_another_model_or_other_data(tmp_path):
    fit(Gaussian(), Points(), out=tmp_path / "a", steps=9, batch=8, stop=stop_at(4), **CPU)
    with pytest.raises(InputError, match=r"another model \(model.size was 2 and is now 3\)"):
        fit(Gaussian(size=3), Points(), out=tmp_path / "a", resume=True)
    with pytest.raises(InputError, match="fingerprint"):
        fit(Gaussian(), Points(fingerprint="others"), out=tmp_path / "a", resume=True)


DAMAGE = {
    "not finite": lambda tensor: torch.full_like(tensor, float("nan")),
    "infinite": lambda tensor: torch.full_like(tensor, float("inf")),
    "of another shape": lambda tensor: torch.zeros(*tensor.shape, 2),
    "empty": lambda tensor: torch.zeros(0),
    "of another type": lambda tensor: torch.zeros(tensor.shape, dtype=torch.int64),
    "missing": lambda tensor: None,
    "negative": lambda tensor: -torch.ones_like(tensor),
}


PARTS = ("optimizer.step/", "optimizer.exp_avg_sq/", "optimizer.exp_avg/", "average/", "model/")


@pytest.mark.parametrize(
    ("part", "damage"),
    [(p, d) for p in PARTS for d in DAMAGE if d != "negative" or p in PARTS[:2]],
)
def test_a_resume_state_that_would_ruin_the_weights_is_refused(tmp_path, part, damage):
    """And nothing in the run is changed: it is sampled, or started from, as before."""
    out = tmp_path / "run"
    fit(Gaussian(), Points(), out=out, steps=9, batch=8, stop=stop_at(4), **CPU)
    (file,) = out.glob("state/*/state.safetensors")
    tensors = load_file(file)
    names = [name for name in tensors if part in name and "seen" not in name]
    assert names
    spoiled = DAMAGE[damage](tensors.pop(names[-1]))
    save_file(tensors | ({} if spoiled is None else {names[-1]: spoiled}), file)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match="run"):
        fit(Gaussian(), Points(), out=out, resume=True)
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert after == before
