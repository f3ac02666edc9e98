"""`undiffuse train` in several processes: they fail, stop and go on together.

They are forked, which takes no time. The launcher itself has one law.
"""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from forked import begin, command
from safetensors.torch import load_file

import undiffuse as ud
from undiffuse.cli.main import main
from undiffuse.evaluation.distill import lesson
from undiffuse.run import Run
from undiffuse.training import checkpoint, fit
from undiffuse.training.ranks import joined

SMALL = ["--model.width", "8", "--model.depth", "1", "--training.batch", "8", "--seed", "1"]
SMALL += ["--precision", "float32", "--training.samples", "0", "--device", "cpu"]
QUIET = "--quiet"
SECONDS = 500.0  # in which a pair ends on a busy machine


def ended(children):
    return [child.ended(SECONDS) for child in children]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    """A file of rows; once trained on here, so that no child has to import what that takes."""
    folder = tmp_path_factory.mktemp("data")
    file = folder / "rows.npy"
    np.save(file, np.random.default_rng(0).standard_normal((200, 2)).astype(np.float32))
    warm = ["train", str(file), "--out", str(folder / "run"), *SMALL, "--steps", "1", QUIET]
    assert main(warm) == 0
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
ENDED = "a process beside this one has ended"


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
    pairs = begin(*[trains(rows, "--out", run, *SMALL, *LONG, QUIET)] * 2)
    wait_for(run / checkpoint.WEIGHTS)
    os.kill(pairs[1].pid, signal.SIGKILL)
    told["killed"] = ended(pairs)[0], check_stands(run)

    def onward(*words):
        (run / "log.jsonl").unlink()
        children = begin(*[trains("--out", run, "--resume", *words)] * 2)
        wait_for(run / "log.jsonl")  # training has begun
        return children, time.monotonic()

    (first, second), began = onward("--timeout", "4s", "--parallel", "fsdp", QUIET)
    os.kill(second.pid, signal.SIGSTOP)
    told["stuck"] = first.ended(SECONDS), check_stands(run), time.monotonic() - began
    os.kill(second.pid, signal.SIGKILL)
    second.ended(SECONDS)
    pairs, began = onward("--checkpoint-every", "100000")
    while '"event": "step"' not in (run / "log.jsonl").read_text():  # a checkpoint is behind
        assert time.monotonic() - began < 60
        time.sleep(0.02)
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
    assert Run(run).state["step"] > told["stuck"][1]
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
    first, second = ended(begin(trains(*words, before=lambda: fails_late(work)), trains(*words)))
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
    first, second = ended(begin(trains(*words), trains(*words, before=breaks)))
    assert (first.code, second.code) == (2, 2)
    assert "row 7: cannot be read." in first.err
    assert first.sound()


def test_a_restart_by_the_launcher_goes_on_whatever_is_said(tmp_path, rows):
    """Of --overwrite or of where to start; before the first checkpoint it begins anew."""
    run, start, quick = tmp_path / "run", tmp_path / "start", ("--preset", "vae")
    for out in (start, run):
        assert (
            command("train", rows, "--out", out, *SMALL, *quick, "--steps", 4, "--quiet").code == 0
        )
    for words in (("--overwrite",), ("--from", start)):
        steps = Run(run).state["step"] + 2
        work = trains(rows, "--out", run, *SMALL, *quick, "--steps", steps, *words)
        (child,) = begin(work, TORCHELASTIC_RESTART_COUNT=1)
        assert child.ended(SECONDS).code == 0
        assert Run(run).state["step"] == steps
        resumed = [e["resumed_at"] for e in Run(run).log if e["event"] == "start"]
        assert resumed[-1] == steps - 2
    new = tmp_path / "new"
    work = trains(rows, "--out", new, *SMALL, *quick, "--steps", 2, "--from", start)
    (child,) = begin(work, TORCHELASTIC_RESTART_COUNT=1)
    assert child.ended(SECONDS).code == 0
    assert Run(new).config["origin"]["from"] == str(start)


@pytest.mark.parametrize(
    ("words", "since", "code", "steps", "resumed"),
    [
        (["--overwrite"], "before", 0, 6, None),  # the run of another day is replaced
        ([], "before", 2, 4, None),  # or it is refused, as it was at the first start
        (["--overwrite"], "after", 0, 6, 4),
        ([], "half", 0, 6, None),  # killed in the middle of its first checkpoint
    ],
)
def test_a_restart_goes_on_with_the_run_of_its_launcher_alone(
    tmp_path, old, rows, words, since, code, steps, resumed
):
    """A run was there `before` the launcher started, or it came `after` that, by `half`."""
    run, place = shutil.copytree(old, tmp_path / "run"), tmp_path / "attempt_0"
    place.mkdir()
    if since == "half":
        (run / "state" / "latest").unlink()
    now = (run / "config.json").stat().st_mtime
    os.utime(place, (now, now + (1 if since == "before" else -1)))
    work = trains(rows, "--out", run, *SMALL, "--preset", "vae", "--steps", 6, QUIET, *words)
    place = tmp_path / "attempt_1" / "0" / "error.json"
    (child,) = begin(work, TORCHELASTIC_RESTART_COUNT=1, TORCHELASTIC_ERROR_FILE=place)
    ended = child.ended(SECONDS)
    assert (ended.code, Run(run).state["step"]) == (code, steps)
    begun = [event["resumed_at"] for event in Run(run).log if event["event"] == "start"]
    assert begun[-1] == resumed
    assert ended.err.count("already holds a run") == (code == 2)


@pytest.fixture(scope="module")
def old(tmp_path_factory, rows):
    """A run of four steps."""
    out = tmp_path_factory.mktemp("old") / "run"
    words = (rows, "--out", out, *SMALL, "--preset", "vae", "--steps", 4, QUIET)
    assert command("train", *words).code == 0
    return out


@pytest.fixture(scope="module")
def artist(tmp_path_factory):
    """A run on images: its student has a discriminator at its end."""
    images = np.random.default_rng(0).integers(0, 256, (40, 8, 8), dtype=np.uint8)
    place = tmp_path_factory.mktemp("artist")
    np.save(place / "images.npy", images)
    small = {"width": 8, "blocks": 1, "multipliers": (1,)}
    quick = {"steps": 2, "batch": 8, "samples": 0, "device": "cpu", "precision": "float32"}
    ud.edm(**small).fit(place / "images.npy", out=place / "run", **quick)
    return place / "run"


def test_a_student_is_taught_by_several_processes_as_by_one(tmp_path, artist):
    """In two parts of a batch; after a restart by the launcher, on from what there is."""
    teacher, ways = artist, ("ddp", "fsdp")
    words = ["distill", str(teacher), "--batch", "8", "--device", "cpu", QUIET]

    def taught():
        with joined():
            told = [["--out", str(tmp_path / way), "--parallel", way] for way in ways]
            for one in told:
                assert main([*words, *one, "--updates", "12"]) == 0
            os.environ["TORCHELASTIC_RESTART_COUNT"] = "1"
            return main([*words, *told[0], "--updates", "14", "--overwrite"])

    children = begin(taught, taught)
    for updates, on in ((12, {}), (14, {"resume": True})):
        student, data, training = lesson(teacher, batch=8, updates=updates, device="cpu")
        fit(student, data, out=tmp_path / "one", accumulate=2, samples=0, **on, **training)
        if updates == 12:
            shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert [child.code for child in ended(children)] == [0, 0]
    for way, one in zip(ways, ("one", "two")):
        starts = [event for event in Run(tmp_path / way).log if event["event"] == "start"]
        assert [event["resumed_at"] for event in starts] == ([None, 12] if way == "ddp" else [None])
        assert (starts[0]["processes"], starts[0]["parallel"]) == (2, way)
        ours, theirs = (load_file(tmp_path / r / checkpoint.WEIGHTS) for r in (one, way))
        assert ours.keys() == theirs.keys()
        for name, value in ours.items():
            torch.testing.assert_close(theirs[name], value, rtol=0, atol=1e-5, msg=name)


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
