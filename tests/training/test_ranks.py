"""Processes that train together do what one does, whole or in shards; they fail and stop together.

Those of `pair.py` are forked, which takes no time. The launcher itself has one law.
"""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pair
import pytest
import torch
from forked import command

import undiffuse.rank
from undiffuse.cli.main import main
from undiffuse.models import PRESETS
from undiffuse.options import TrainingOptions
from undiffuse.run import Run
from undiffuse.training import checkpoint, shards
from undiffuse.training.ranks import Ranks

SMALL = ["--model.width", "8", "--model.depth", "1", "--training.batch", "8", "--seed", "1"]
QUIET = "--quiet"
SMALL += ["--precision", "float32", "--training.samples", "0", "--device", "cpu"]
SECONDS = 500.0  # in which a pair ends on a busy machine


def ended(children):
    return [child.ended(SECONDS) for child in children]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What two processes wrote, and what one wrote that computes a batch in as many parts."""
    two, one = (tmp_path_factory.mktemp(name) for name in ("two", "one"))
    for name in pair.RESUMED:
        pair.resumed(two / f"{name}-up", name, 8)
    children = pair.begin(*[lambda: pair.work_together(two)] * 2)
    losses = {}
    for way in ("ddp", "parts", "single"):
        with torch.random.fork_rng(devices=[]):
            losses[way] = pair.train_all(one / way, way)
    for name in pair.RESUMED:
        pair.resumed(one / f"{name}-whole", name, 8)
        pair.resumed(one / f"{name}-whole", name, 16)
    for child in ended(children):
        assert child.code == 0, child.err
    told = [json.loads((two / f"{rank}.json").read_text()) for rank in (0, 1)]
    for name in pair.RESUMED:
        for way in ("down", "out"):
            pair.resumed(two / f"{name}-{way}", name, 16)
    return one, two, losses, told


CASES = [(way, name) for way in ("ddp", "fsdp", "parts") for name in pair.WAYS[way][3]]


@pytest.mark.parametrize(("way", "preset"), CASES)
def test_two_processes_train_to_the_state_of_one(both, way, preset):
    """Weights, moments and averages after 20 steps, in double precision."""
    one, two = both[0] / way.replace("fsdp", "ddp"), both[1] / way
    (ours, held_out), (theirs, told) = pair.state_of(one / preset), pair.state_of(two / preset)
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(theirs[name], ours[name], rtol=0, atol=1e-10, msg=name)
    assert flat(told) == pytest.approx(flat(held_out), rel=1e-5, abs=1e-6)


def flat(tree):
    if isinstance(tree, dict):
        return [number for value in tree.values() for number in flat(value)]
    return (
        [number for value in tree for number in flat(value)] if isinstance(tree, list) else [tree]
    )


@pytest.mark.parametrize("preset", PRESETS)
def test_two_processes_have_the_losses_of_one(both, preset):
    """In single precision, each with two parts of its own."""
    one, two = (torch.tensor(losses["single"][preset]) for losses in (both[2], both[3][0]))
    assert len(one) == 20
    assert ((one - two).abs() <= 1e-5 * one.abs().clamp(min=1)).all()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_a_state_is_carried_over_to_shards_and_back_bit_for_bit(both, way, preset):
    """That of whole weights, or of shards: half of the weights is here."""
    for told in both[3]:
        found = told[f"carried {way}"][preset]
        assert found["same"]
        assert sorted(found["same"]) == sorted(found["given"])
        assert 0.4 < found["share"] < 0.6


@pytest.mark.parametrize("preset", pair.RESUMED)
@pytest.mark.parametrize(
    ("way", "atol"), [("down", 0), ("up", 0), ("out", 1e-10), ("across", 1e-10)]
)
def test_a_run_goes_on_with_more_processes_or_fewer(both, preset, way, atol):
    """Two, then one; one, then two: bit for bit what one does that computes in two parts.

    Shards, then one; two, then shards: to rounding, which depends on where a part begins.
    """
    (ours, _), (theirs, _) = (
        pair.state_of(both[0] / f"{preset}-whole"),
        pair.state_of(both[1] / f"{preset}-{way}"),
    )
    assert theirs.keys() == ours.keys()
    for name in ours:
        torch.testing.assert_close(theirs[name], ours[name], rtol=0, atol=atol, msg=name)
    assert Run(both[1] / f"{preset}-{way}").config["training"]["accumulate"] == 2


def test_held_out_rows_are_shared_and_what_is_chosen_at_the_end_is_not(both):
    (first, ours), (second, theirs) = (told["evaluated"] for told in both[3])
    assert first
    assert not {*first} & {*second}
    assert abs(len(first) - len(second)) <= 3
    assert ours == theirs


def test_what_is_refused_on_one_process_is_refused_on_all_in_the_same_words(both):
    first, second = (told["refused"] for told in both[3])
    assert first == second
    assert first["one_fails"] == "disk: is full."
    assert first["no_share"] == "batch 5: cannot be shared by 2 processes; take 4 or 6."
    assert "process 1 of 2 is not like process 0: data." in first["other_data"]


@pytest.mark.parametrize(
    ("parallel", "size", "parameters", "expected"),
    [
        ("auto", 2, 999, False),  # 20 bytes each, of a third of 60,000
        ("auto", 2, 1001, True),
        ("auto", 1, 1001, False),
        ("ddp", 2, 1001, False),
        ("fsdp", 1, 1001, False),  # there is nobody to share with
    ],
)
def test_weights_are_shared_out_where_they_take_over_a_third_of_the_memory(
    monkeypatch, parallel, size, parameters, expected
):
    monkeypatch.setattr(shards, "memory", lambda: 120_000)
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    ranks = Ranks(0, size)
    assert shards.decide(parallel, parameters, torch.device("cpu"), ranks) is expected
    assert TrainingOptions().parallel == "auto"


# --- faults, each of a pair that trains by the command line


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    file = tmp_path_factory.mktemp("data") / "rows.npy"
    np.save(file, np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32))
    return str(file)


def trains(*words, before=lambda: None):
    """What a process does that trains by these words."""

    def work():
        before()
        return main([*map(str, ("train", *words))])

    return work


def wait_for(file, seconds=60):
    until = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < until, f"{file} has not come"
        time.sleep(0.02)


LONG = ["--steps", "100000", "--checkpoint-every", "5"]
ENDED = "a process that trains beside this one has ended"


def check_stands(run):
    """The last checkpoint, and no other, is there."""
    state = Run(run).state
    assert not state["finished"]
    assert state["step"] >= 5
    assert state["step"] % 5 == 0
    weights = checkpoint.load_tensors(run / checkpoint.WEIGHTS, "weights", "")
    assert all(value.isfinite().all() for value in weights.values())
    return state["step"]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory, rows):
    """A run one process of which was killed; then stuck; then both were told to stop."""
    run, told = tmp_path_factory.mktemp("runs") / "run", {}
    pairs = pair.begin(*[trains(rows, "--out", run, *SMALL, *LONG, QUIET)] * 2)
    wait_for(run / checkpoint.WEIGHTS)
    os.kill(pairs[1].pid, signal.SIGKILL)
    told["killed"] = ended(pairs)[0], check_stands(run)

    def onward(*words):
        (run / "log.jsonl").unlink()
        children = pair.begin(*[trains("--out", run, "--resume", *words)] * 2)
        wait_for(run / "log.jsonl")  # training has begun
        return children, time.monotonic()

    (first, second), began = onward("--timeout", "4s", "--parallel", "fsdp", QUIET)
    os.kill(second.pid, signal.SIGSTOP)
    told["stuck"] = first.ended(SECONDS), check_stands(run), time.monotonic() - began
    os.kill(second.pid, signal.SIGKILL)
    second.ended(SECONDS)
    pairs, began = onward()
    for child in pairs:
        os.kill(child.pid, signal.SIGTERM)
    told["stopped"] = ended(pairs), time.monotonic() - began
    return run, told


def test_a_process_that_dies_ends_the_others_and_the_last_checkpoint_stands(faulty):
    first, _ = faulty[1]["killed"]
    assert (first.code, first.err.count(ENDED)) == (2, 1)
    assert first.sound()


def test_a_process_that_is_stuck_ends_the_others_within_the_timeout(faulty):
    first, _, seconds = faulty[1]["stuck"]
    assert (first.code, first.err.count(ENDED)) == (2, 1)
    assert first.sound()
    assert seconds < 30


def test_processes_that_are_told_to_stop_save_in_time(faulty):
    run, told = faulty
    (first, second), seconds = told["stopped"]
    assert first.err.count(f"stopped at step {Run(run).state['step']:,} and saved") == 1
    assert second.err == ""
    assert seconds < 30


def fails_late(work):
    """Make the third file of tensors and all later ones fail: those of the second checkpoint."""
    count, save_file = iter(range(100)), checkpoint.save_file

    def failing(*given, **options):
        if next(count) >= 3:  # state, snapshot and weights of the first
            work()
        return save_file(*given, **options)

    checkpoint.save_file = failing


def full():
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def gone():
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("work", [full, gone])
def test_a_disk_that_is_full_or_a_death_in_a_checkpoint_ends_all(tmp_path, rows, work):
    """The one that writes fails in the middle of its second checkpoint; the first stands."""
    run = tmp_path / "run"
    words = (rows, "--out", run, *SMALL, *LONG, QUIET, "--parallel", "fsdp")
    first, second = ended(
        pair.begin(trains(*words, before=lambda: fails_late(work)), trains(*words))
    )
    assert check_stands(run) == 5
    assert (second.code, second.err) == (2, "")
    if work is full:
        assert (first.code, first.err.count("the disk is full")) == (2, 1)
        assert first.sound()
    else:
        assert first.code == -signal.SIGKILL


def test_rows_that_cannot_be_read_on_one_process_end_all_in_the_same_words(tmp_path, rows):
    def breaks():
        from undiffuse.data.source import Data
        from undiffuse.errors import InputError

        inner = Data.batches

        def broken(data, *given, **options):
            for number, batch in enumerate(inner(data, *given, **options)):
                if number == 7:
                    raise InputError("row 7: cannot be read.")
                yield batch

        Data.batches = broken

    words = (rows, "--out", tmp_path / "run", *SMALL, *LONG, QUIET)
    first, second = ended(pair.begin(trains(*words), trains(*words, before=breaks)))
    assert (first.code, second.code) == (2, 2)
    assert "row 7: cannot be read." in first.err
    assert first.sound()


def test_a_restart_by_the_launcher_goes_on_whatever_is_said(tmp_path, rows):
    """Of --overwrite or of where to start; before the first checkpoint it begins anew."""
    run, start = tmp_path / "run", tmp_path / "start"
    for out in (start, run):
        assert command("train", rows, "--out", out, *SMALL, "--steps", 4, "--quiet").code == 0
    for words in (("--overwrite",), ("--from", start)):
        steps = Run(run).state["step"] + 2
        work = trains(rows, "--out", run, *SMALL, "--steps", steps, *words)
        (child,) = pair.begin(work, TORCHELASTIC_RESTART_COUNT=1)
        assert child.ended(SECONDS).code == 0
        assert Run(run).state["step"] == steps
        resumed = [e["resumed_at"] for e in Run(run).log if e["event"] == "start"]
        assert resumed[-1] == steps - 2
    new = tmp_path / "new"
    work = trains(rows, "--out", new, *SMALL, "--steps", 2, "--from", start)
    (child,) = pair.begin(work, TORCHELASTIC_RESTART_COUNT=1)
    assert child.ended(SECONDS).code == 0
    assert Run(new).config["origin"]["from"] == str(start)


def test_the_launcher_of_pytorch_starts_them(tmp_path, rows):
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    words += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", "-m", "undiffuse"]
    words += ["train", rows, "--out", str(tmp_path / "run"), *SMALL, "--steps", "6"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        words, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("trained 6 steps") == 1  # one of them speaks
    assert Run(tmp_path / "run").config["training"]["accumulate"] == 2


@pytest.mark.parametrize(
    ("environment", "place"),
    [
        ({}, None),
        ({"RANK": "0", "WORLD_SIZE": "1"}, None),
        ({"RANK": "1", "WORLD_SIZE": "4"}, (1, 4)),
        ({"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "3"}, (2, 3)),
        ({"RANK": "x", "WORLD_SIZE": "4"}, None),
    ],
)
def test_a_launcher_is_known_by_the_environment(environment, place):
    assert undiffuse.rank.launched(environment) is None
    assert undiffuse.rank.launched({**environment, "MASTER_ADDR": "localhost"}) == place
