"""Interrupting a training, from outside, as a terminal or a job scheduler does."""

from __future__ import annotations

import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from undiffuse.models import PRESETS

WORDS = "moons --steps 60 --model.width 64 --model.depth 1 --device cpu --precision float32 --training.log-every 1"
PROGRAM = "import torch; torch.set_num_threads(1); from undiffuse.cli.main import run; run()"


def start(*words: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PROGRAM, *map(str, words)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_step(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Until the log tells of this step."""
    for _ in range(6000):
        log = run / "log.jsonl"
        if log.exists() and f'"event": "step", "step": {step},' in log.read_text():
            return
        if process.poll() is not None:
            raise AssertionError(process.communicate())
        time.sleep(0.01)
    raise AssertionError("no such step after a minute")


@pytest.fixture(scope="module")
def slowly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of options that makes steps slow enough to be interrupted between two of them."""
    file = tmp_path_factory.mktemp("options") / "slow.toml"
    file.write_text("[training]\nbatch = 1024\nevaluate-every = 1000\nsamples = 0\n")
    return file


@pytest.fixture(scope="module")
def whole(slowly: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as it is if nobody interrupts it."""
    run = tmp_path_factory.mktemp("whole") / "run"
    process = start("train", *WORDS.split(), "--out", run, "--config", slowly, "--quiet")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out, err) == (0, "", "")
    return run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_interrupted_and_resumed_is_as_if_never_interrupted(
    number: signal.Signals, slowly: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = start("train", *WORDS.split(), "--out", run, "--config", slowly, "--json")
    wait_for_step(run, 3, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    told = json.loads(out)
    assert told["stopped"]
    assert 3 <= told["step"] < 60
    typed = next(line for line in err.splitlines() if line.strip().startswith("undiffuse train"))
    _, *words = shlex.split(typed)
    again = start(*words, "--quiet")
    out, err = again.communicate(timeout=120)
    assert (again.returncode, out, err) == (0, "", "")
    assert (run / "weights.safetensors").read_bytes() == (
        whole / "weights.safetensors"
    ).read_bytes()


def test_before_there_is_anything_to_save(tmp_path: Path) -> None:
    """While libraries are being imported: no traceback, nothing written."""
    process = start("train", *WORDS.split(), "--out", tmp_path / "run")
    time.sleep(0.7)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (130, -signal.SIGTERM), err
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


def test_a_reader_that_leaves_early_is_no_error() -> None:
    command = [sys.executable, "-m", "undiffuse", "train", "--help"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_sentence_from_the_real_script(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "undiffuse",
        "train",
        "digits",
        "--out",
        str(tmp_path / "r"),
        "--preset",
        "emd",
    ]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    said = f"--preset emd: no such preset. Did you mean edm? ({', '.join(sorted(PRESETS))})\n"
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", said)
