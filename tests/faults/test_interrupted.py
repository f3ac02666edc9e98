"""Every command killed, and met by a full disk, at each of its file operations."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from forked import QUICK, command

pytestmark = pytest.mark.faults

MOST = 40  # places per command; more are sampled
FEW = ("--steps", 2, "--seed", 1, "--quiet")
COMMANDS: dict[str, tuple[object, ...]] = {
    "train": ("train", "data.npy", "--out", "new", *QUICK),
    "overwrite": ("train", "data.npy", "--out", "run", "--overwrite", "--seed", 1, *QUICK),
    "resume": ("train", "--out", "run", "--resume", "--steps", 4, "--quiet"),
    "sample": ("sample", "run", "-n", 3, "--steps", 2, "--out", "s.npy", "--quiet"),
    "score": ("score", "run", "few.npy", "--out", "s.csv", "--evaluations", 2, *FEW[2:]),
    "info": ("info", "run", "--quiet"),
    "evaluate": ("evaluate", "run", "--out", "rep", "-n", 16, "--rows", 4, *FEW),
}  # fmt: skip
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


def count(words: tuple[object, ...], place: Path) -> int:
    ended = command(*words, before=at_operation(place, lambda n: os.write(2, b"\0")))
    assert ended.code == 0, ended.err
    return ended.err.count("\0")


def chosen(total: int) -> list[int]:
    return sorted(random.Random(0).sample(range(1, total + 1), min(MOST, total)))


def fresh(place: Path, spare: Path) -> None:
    for entry in [*place.iterdir()]:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    shutil.copytree(spare, place, dirs_exist_ok=True)


def holds(name: str, place: Path, where: object) -> None:
    """The run of before is whole, or the new one; the command goes through when it is repeated."""
    assert command("info", "run", "--quiet").code == 0, where
    drawn = command(
        "sample", "run", "-n", 2, "--steps", 2, "--out", "x.npy", "--overwrite", "--quiet"
    )
    assert drawn.code == 0, (where, drawn)
    again = command(*COMMANDS[name], *AGAIN.get(name, ()))
    already = name == "resume" and "already had" in again.err
    assert again.code == 0 or already, (where, again)
    stray = [p for p in place.rglob(".*") if p.name != ".lock"]
    assert not stray, (where, stray)


@pytest.mark.parametrize("name", COMMANDS)
def test_killed_at_every_file_operation(name: str, place: Path, tmp_path: Path) -> None:
    spare = shutil.copytree(place, tmp_path / "spare")
    places = chosen(count(COMMANDS[name], place))
    for stop in places:
        fresh(place, spare)

        def kill(number: int, stop: int = stop) -> None:
            if number == stop:
                os.kill(os.getpid(), signal.SIGKILL)

        ended = command(*COMMANDS[name], before=at_operation(place, kill))
        assert ended.code == -signal.SIGKILL, (stop, ended)
        holds(name, place, stop)
    print(f"killed {name}: {len(places)} places")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_at_every_file_operation(name: str, place: Path, tmp_path: Path) -> None:
    spare = shutil.copytree(place, tmp_path / "spare")
    places = chosen(count(COMMANDS[name], place))
    for stop in places:
        fresh(place, spare)

        def full(number: int, stop: int = stop) -> None:
            if number >= stop:
                raise OSError(errno.ENOSPC, "No space left on device")

        ended = command(*COMMANDS[name], before=at_operation(place, full))
        assert ended.sound(), (stop, ended)
        holds(name, place, stop)
    print(f"full disk {name}: {len(places)} places")


@pytest.mark.parametrize("name", ["overwrite", "resume", "evaluate"])
def test_killed_at_random_moments(name: str, place: Path, tmp_path: Path) -> None:
    spare, rng = shutil.copytree(place, tmp_path / "spare"), random.Random(1)
    seconds = command(*COMMANDS[name]).seconds
    codes = []
    for moment in [rng.uniform(0, seconds) for _ in range(15)]:
        fresh(place, spare)

        def later(moment: float = moment) -> None:
            threading.Timer(moment, os.kill, (os.getpid(), signal.SIGKILL)).start()

        codes.append(command(*COMMANDS[name], before=later).code)
        holds(name, place, moment)
    assert set(codes) <= {0, -signal.SIGKILL}, codes
    assert codes.count(-signal.SIGKILL) > 5, codes  # the moments were within the work
