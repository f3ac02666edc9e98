"""Two processes that train together do what one does; they fail, stop and go on together."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from pair import PARTS, train_all
from safetensors.torch import load_file

import undiffuse.rank
from undiffuse.cli.main import main
from undiffuse.models import PRESETS
from undiffuse.run import Run

HERE = Path(__file__).parent
TRAIN = ["-m", "undiffuse", "train", "digits", "--model.width", "8", "--training.batch", "8"]
TRAIN += ["--precision", "float32", "--training.samples", "0", "--seed", "1"]


def launch(*words):
    """Start two processes beside each other."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--rdzv-backend", "c10d", "--rdzv-endpoint", "localhost:0", *map(str, words)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def finished(process, seconds=120):
    try:
        _, said = process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return said


def alone(*words):
    assert main([*map(str, words[2:]), "--quiet"]) == 0


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """What two processes wrote, and what one wrote that computes a batch in as many parts."""
    two, one = (tmp_path_factory.mktemp(name) for name in ("two", "one"))
    process = launch(HERE / "pair.py", two)
    for dtype, parts in PARTS.items():
        place = one / str(dtype)
        place.mkdir()
        with torch.random.fork_rng(devices=[]):
            train_all(place, dtype, max(parts, 2))
    said = finished(process)
    assert process.returncode == 0, said
    return one, two


def read(place, dtype, preset):
    return load_file(place / str(dtype) / preset)


@pytest.mark.parametrize("preset", PRESETS)
def test_two_processes_train_to_the_weights_of_one(pair, preset):
    one, two = (read(place, torch.float64, preset) for place in pair)
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-10, msg=name)


@pytest.mark.parametrize("preset", PRESETS)
def test_two_processes_have_the_losses_of_one(pair, preset):
    one, two = (read(place, torch.float32, preset)["losses"] for place in pair)
    assert len(one) == 20
    assert ((one - two).abs() <= 1e-5 * one.abs().clamp(min=1)).all()


def test_what_is_refused_on_one_process_is_refused_on_all_in_the_same_words(pair):
    first, second = (json.loads((pair[1] / f"refused-{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert first["one_fails"] == "disk: is full."
    assert first["no_share"] == "batch 5: cannot be shared by 2 processes; take 4 or 6."
    assert "process 1 of 2 is not like process 0: data." in first["other_data"]


def weights(run):
    return load_file(run / "weights.safetensors")


def test_a_run_goes_on_with_more_processes_or_fewer(tmp_path):
    """Two, then one, or one, then two: bit for bit what one does that computes in two parts."""
    whole, down, up = (tmp_path / name for name in ("whole", "down", "up"))
    parts = ["--training.accumulate", "2"]
    alone(*TRAIN, *parts, "--out", whole, "--steps", "16")
    process = launch(*TRAIN, "--out", down, "--steps", "8")
    alone(*TRAIN, *parts, "--out", up, "--steps", "8")
    said = finished(process)
    assert process.returncode == 0, said
    assert said.count("trained 8 steps") == 1  # one of them speaks
    process = launch("-m", "undiffuse", "train", "--out", up, "--resume", "--steps", "16")
    alone("-m", "undiffuse", "train", "--out", down, "--resume", "--steps", "16")
    assert "trained 16 steps" in finished(process)
    assert Run(down).config["training"]["accumulate"] == 2
    for run in (down, up):
        for name, value in weights(run).items():
            assert torch.equal(value, weights(down)[name]), name
    assert Run(whole).state["step"] == Run(up).state["step"] == 16


def workers(process):
    found = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True)
    return sorted(map(int, found.stdout.split()))


def wait_for(file, seconds=60):
    until = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < until, f"{file} has not come"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    """A run one process of which was killed, and what was said; then told to stop, and went on."""
    run = tmp_path_factory.mktemp("runs") / "run"
    long = ["--steps", "100000", "--checkpoint-every", "5"]
    process = launch(*TRAIN, "--out", run, *long)
    wait_for(run / "weights.safetensors")
    _, other = workers(process)
    os.kill(other, signal.SIGKILL)
    said = finished(process)
    killed = process.returncode, said, Run(run).state
    process = launch("-m", "undiffuse", "train", "--out", run, "--resume")
    (run / "log.jsonl").unlink()
    wait_for(run / "log.jsonl")  # training has begun
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    said = finished(process)
    return run, killed, (said, time.monotonic() - began, Run(run).state)


def test_a_process_that_dies_ends_the_others_and_the_last_checkpoint_stands(interrupted):
    _, (code, said, state), _ = interrupted
    assert code != 0
    assert said.count("a process that trains beside this one has ended") == 1
    assert not state["finished"]
    assert state["step"] >= 5
    assert state["step"] % 5 == 0  # no checkpoint was tried


def test_processes_that_are_told_to_stop_save_in_time(interrupted):
    run, _, (said, seconds, state) = interrupted
    assert said.count(f"stopped at step {state['step']:,} and saved") == 1
    assert seconds < 30
    assert all(value.isfinite().all() for value in weights(run).values())


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
