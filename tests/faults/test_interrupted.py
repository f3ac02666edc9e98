"""Commands that are killed, interrupted, or met by a full disk, at each of their file operations.

And at random moments. Whatever the moment: what was there before is whole, or what was to come; the
same command goes through when it is given again; nothing is left behind.
"""

from __future__ import annotations

import errno
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from damage import run_words
from forked import QUICK, command, fork

pytestmark = pytest.mark.faults

MOST = 40  # operations per command; of more, a sample
FEW = ("--steps", 2, "--seed", 1, "--quiet")
COMMANDS: dict[str, tuple[object, ...]] = {
    "train": ("train", "data.npy", "--out", "new", *QUICK),
    "overwrite": ("train", "data.npy", "--out", "run", "--overwrite", "--seed", 1, *QUICK),
    "resume": ("train", "--out", "run", "--resume", "--steps", 4, "--quiet"),
    "sample": ("sample", "run", "-n", 3, "--steps", 2, "--out", "s.npy", "--quiet"),
    "score": ("score", "run", "few.npy", "--out", "s.csv", "--evaluations", 2, *FEW[2:]),
    "info": ("info", "run", "--quiet"),
    "evaluate": ("evaluate", "run", "--out", "rep", "-n", 16, "--rows", 4, *FEW),
    "compare": ("compare", "data.npy", "--out", "all", "--presets", "edm", "--budget", "0.3s",
                "-n", 16, "--evaluations", 2, "--rows", 4, "--quiet"),
}  # fmt: skip
DEAR = {"evaluate": 10, "compare": 6}  # operations of these: one takes seconds
AGAIN = {"train": ("--overwrite",), "sample": ("--overwrite",), "score": ("--overwrite",),
         "evaluate": ("--overwrite",)}  # fmt: skip
OPERATIONS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.chmod",
              "shutil.rmtree")  # fmt: skip


def at_operation(place: Path, act: Callable[[int], None]) -> Callable[[], None]:
    """What makes a process call `act(number)` at each operation that changes a file in `place`."""

    def begin() -> None:
        number = 0

        def hook(event: str, given: tuple) -> None:
            nonlocal number
            if event == "open":
                path, _, flags = given
                if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                    return
            elif event in OPERATIONS:
                path = given[0]
            else:
                return
            if isinstance(path, str | Path) and str(place) in os.path.abspath(path):
                number += 1
                act(number)

        sys.addaudithook(hook)

    return begin


def chosen(name: str, place: Path, most: int = MOST) -> list[int]:
    """The numbers of operations of a command, or a sample of them."""
    words, most = COMMANDS[name], min(most, DEAR.get(name, most))
    ended = command(*words, before=at_operation(place, lambda number: os.write(2, b"\0")))
    assert ended.code == 0, ended.err
    total = ended.err.count("\0")
    return sorted(random.Random(0).sample(range(1, total + 1), min(most, total)))


def fresh(place: Path, spare: Path) -> None:
    for entry in [*place.iterdir()]:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    shutil.copytree(spare, place, dirs_exist_ok=True)


def holds(name: str, place: Path, where: object) -> None:
    """The run of before is whole, or the new one; the command goes through when it is repeated."""
    again = (*COMMANDS[name], *AGAIN.get(name, ()))
    sample = ("sample", "run", "-n", 2, "--steps", 2, "--out", "x.npy", "--overwrite", "--quiet")

    def work() -> int:
        for words in (("info", "run", "--quiet"), sample, again):
            code, err = run_words(words)
            already = name == "resume" and words is again and "already had" in err
            assert code == 0 or already, (words, code, err)
        return 0

    ended = fork(work)
    assert ended.code == 0, (where, ended)
    stray = [p for p in place.rglob(".*") if p.name != ".lock"]
    assert not stray, (where, stray)


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_every_file_operation(name: str, place: Path, tmp_path: Path) -> None:
    spare = shutil.copytree(place, tmp_path / "spare")
    stops = chosen(name, place)
    for stop in stops:
        fresh(place, spare)

        def kill(number: int, stop: int = stop) -> None:
            if number == stop:
                os.kill(os.getpid(), signal.SIGKILL)

        ended = command(*COMMANDS[name], before=at_operation(place, kill))
        assert ended.code == -signal.SIGKILL, (stop, ended)
        holds(name, place, stop)
    assert stops or name == "info"  # which writes nothing
    print(f"killed {name}: {len(stops)} operations")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_at_every_file_operation(name: str, place: Path, tmp_path: Path) -> None:
    """From one operation on, nothing can be opened for writing, renamed or removed any more."""
    spare = shutil.copytree(place, tmp_path / "spare")
    stops = chosen(name, place, most=20)
    for stop in stops:
        fresh(place, spare)

        def full(number: int, stop: int = stop) -> None:
            if number >= stop:
                raise OSError(errno.ENOSPC, "No space left on device")

        ended = command(*COMMANDS[name], before=at_operation(place, full))
        assert ended.sound(), (stop, ended)
        holds(name, place, stop)
    assert stops or name == "info"
    print(f"full disk {name}: {len(stops)} operations")


SIZES = (0, 10, 100, 500, 1000, 2000, 3000, 6000, 10_000, 30_000, 60_000)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("info", "compare")])
def test_a_disk_that_fills_up_within_a_file(name: str, place: Path, tmp_path: Path) -> None:
    """No file can be larger than so many bytes, whatever language writes it; output neither."""
    spare, codes = shutil.copytree(place, tmp_path / "spare"), []
    sizes = SIZES[:: 3 if name in DEAR else 1]
    for size in sizes:
        fresh(place, spare)

        def limit(size: int = size) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

        ended = command(*COMMANDS[name], before=limit)
        assert ended.sound(), (size, ended)
        assert ended.code == 0 or size < 100 or ended.err, (size, ended)
        codes.append(ended.code)
        holds(name, place, size)
    assert 2 in codes
    print(f"short files {name}: {len(sizes)} sizes, exit codes {codes}")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "SIGINT"])
@pytest.mark.parametrize("name", COMMANDS)
def test_stopped_at_random_moments(
    name: str, number: signal.Signals, place: Path, tmp_path: Path
) -> None:
    spare, rng = shutil.copytree(place, tmp_path / "spare"), random.Random(1)
    seconds = command(*COMMANDS[name]).seconds
    codes = []
    for moment in [rng.uniform(0, seconds) for _ in range(4 if name in DEAR else 12)]:
        fresh(place, spare)

        def later(moment: float = moment) -> None:
            import undiffuse.__main__  # as a process of its own would begin

            assert undiffuse.__main__.run
            threading.Timer(moment, os.kill, (os.getpid(), number)).start()

        ended = command(*COMMANDS[name], before=later)
        codes.append(ended.code)
        if number == signal.SIGINT:
            assert "Traceback" not in ended.err, (moment, ended)
        holds(name, place, moment)
    assert set(codes) <= {0, 130 if number == signal.SIGINT else -number}, codes
    assert codes.count(0) < len(codes), codes  # some of the moments were within the work
    print(f"{number.name} {name}: {len(codes)} moments, {codes.count(0)} of them after the end")


def test_interrupted_as_it_starts() -> None:
    """From the first line of undiffuse on there is one sentence; before, there is Python's own."""
    words, rng, codes = [sys.executable, "-m", "undiffuse", "info", "nowhere"], random.Random(2), []
    for moment in [rng.uniform(0, 0.6) for _ in range(30)]:
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            time.sleep(moment)
            process.send_signal(signal.SIGINT)
            out, err = (text.decode() for text in process.communicate())
        ours = [line for line in err.splitlines() if "/undiffuse/" in line]
        if process.returncode == 130:
            assert (out, err) == ("", "interrupted.\n"), moment
        elif process.returncode != 2:  # it was done
            assert all("__init__.py" in line or "__main__.py" in line for line in ours), err
        codes.append(process.returncode)
    assert codes.count(130) > 10, codes
    print(f"SIGINT as it starts: {codes.count(130)} of 30 in one sentence, the others before")
