"""Interrupting a training, from outside, as a terminal or a job scheduler does."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from forked import command

from undiffuse.cli.main import main
from undiffuse.models import PRESETS

STEPS = 60
WORDS = (
    f"train moons --steps {STEPS} --model.width 64 --model.depth 1 --device cpu "
    "--precision float32 --training.log-every 1"
)


def send_at_step(number: signal.Signals, step: int, run: Path) -> None:
    """Send this process a signal from another one, once the log tells of the step."""
    if os.fork():
        return
    target, log = os.getppid(), run / "log.jsonl"
    for _ in range(6000):
        if log.exists() and f'"event": "step", "step": {step},' in log.read_text():
            os.kill(target, number)
            break
        time.sleep(0.01)
    os._exit(0)


@pytest.fixture(scope="module")
def slowly(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of options that makes steps slow enough to be interrupted between two of them."""
    file = tmp_path_factory.mktemp("options") / "slow.toml"
    file.write_text("[training]\nbatch = 256\nevaluate-every = 1000\nsamples = 0\n")
    return file


@pytest.fixture(scope="module")
def whole(slowly: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run as it is if nobody interrupts it."""
    run = tmp_path_factory.mktemp("whole") / "run"
    torch.set_num_threads(1)
    assert main([*WORDS.split(), "--out", str(run), "--config", str(slowly), "--quiet"]) == 0
    return run


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_interrupted_and_resumed_is_as_if_never_interrupted(
    cli, number: signal.Signals, slowly: Path, whole: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    words = (*WORDS.split(), "--out", run, "--config", slowly, "--json")
    ended = command(*words, before=lambda: send_at_step(number, 3, run))
    err = ended.err
    assert ended.code == 130, err
    assert "Traceback" not in err
    told = json.loads(ended.out)
    assert told["stopped"]
    assert 3 <= told["step"] < STEPS
    typed = next(line for line in err.splitlines() if line.strip().startswith("undiffuse train"))
    resumed = cli(*shlex.split(typed)[1:], "--quiet").done()
    assert (resumed.out, resumed.err) == ("", "")
    weights = [(folder / "weights.safetensors").read_bytes() for folder in (run, whole)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize(
    ("module", "number"),
    [
        ("undiffuse.cli", signal.SIGINT),  # the first of all that is imported
        ("undiffuse.cli", signal.SIGTERM),
        ("cyclopts", signal.SIGTERM),
        ("cyclopts", signal.SIGINT),
        ("numpy", signal.SIGINT),  # whose importer, torch, discards what the import raises
    ],
)
def test_a_signal_while_it_starts_gets_one_sentence(
    module: str, number: signal.Signals, tmp_path: Path
) -> None:
    """The process sends itself the signal when it first imports `module`; nothing is written."""
    program = f"""
import os, sys
class Sender:
    def find_spec(self, name, *_):
        if name == {module!r}:
            sys.meta_path.remove(self)
            os.kill(os.getpid(), {int(number)})
sys.meta_path.insert(0, Sender())
sys.argv[1:] = {[*WORDS.split(), "--out", str(tmp_path / "run"), "--quiet"]}
from undiffuse.__main__ import run
run()
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, "", "interrupted.\n")
    assert not (tmp_path / "run").exists()


def test_nothing_is_imported_before_signals_are_handled() -> None:
    program = """
import _signal, sys
_signal.signal(_signal.SIGINT, _signal.default_int_handler)  # a shell in the background ignores it
class Recorder:
    def find_spec(self, name, *_):
        if _signal.getsignal(_signal.SIGINT) is not _signal.default_int_handler:
            sys.exit()
        print(name)
sys.meta_path.insert(0, Recorder())
import undiffuse.__main__
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ran.stdout.split(), ran.stderr) == (["undiffuse", "undiffuse.__main__"], "")


def test_a_reader_that_leaves_early_is_no_error() -> None:
    words = [sys.executable, "-m", "undiffuse", "train", "--help"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_a_sentence_from_the_real_script(tmp_path: Path) -> None:
    words = [
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
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    said = f"--preset emd: no such preset. Did you mean edm? ({', '.join(sorted(PRESETS))})\n"
    assert (ran.returncode, ran.stdout, ran.stderr) == (2, "", said)
