"""Commands that are killed, interrupted, or met by a full disk, at each of their file operations.

And at random moments. Whatever the moment: what was there before is whole, or what was to come; the
same command goes through when it is given again, and ends in what it had ended in undisturbed;
nothing is left behind.
"""

from __future__ import annotations

import errno
import json
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
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from damage import run_words
from forked import QUICK, Ended, command, fork

pytestmark = pytest.mark.faults

FEW = ("--steps", 2, "--seed", 1, "--quiet")
COMMANDS: dict[str, tuple[object, ...]] = {
    "train": ("train", "data.npy", "--out", "new", "--seed", 1, *QUICK),
    "overwrite": ("train", "data.npy", "--out", "run", "--overwrite", "--seed", 1, *QUICK),
    "resume": ("train", "--out", "run", "--resume", "--steps", 4, "--quiet"),
    "sample": ("sample", "run", "-n", 3, "--out", "s.npy", "--trajectory", *FEW),
    "score": ("score", "run", "few.npy", "--out", "s.csv", "--evaluations", 2, *FEW[2:]),
    "info": ("info", "run", "--quiet"),
    "evaluate": ("evaluate", "run", "--out", "rep", "-n", 16, "--rows", 4, *FEW),
    "compare": ("compare", "data.npy", "--out", "all", "--presets", "edm,gan", "--budget", "0.3s",
                "-n", 16, "--evaluations", 2, "--rows", 4, "--quiet"),
}  # fmt: skip
RESULTS = {
    "train": ("new/weights.safetensors",), "overwrite": ("run/weights.safetensors",),
    "resume": ("run/weights.safetensors",), "sample": ("s.npy", "s-trajectory.npy"),
    "score": ("s.csv",), "info": (), "evaluate": ("rep/report.json",),
    "compare": ("all/comparison.json",),
}  # fmt: skip
REFUSED = {  # what goes on where the command finds that it has done all or a part of its work
    "train": ("train", "--out", "new", "--resume", "--quiet"),
    "resume": ("info", "run", "--quiet"),
    "sample": (*COMMANDS["sample"], "--overwrite"),
    "score": (*COMMANDS["score"], "--overwrite"),
}
LOOK = (("info", "run", "--quiet"),
        ("sample", "run", "-n", 2, *FEW, "--out", "x.npy", "--overwrite"))  # fmt: skip
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


def states(name: str, place: Path, folder: Path) -> list[Path]:
    """What a kill at each of its file operations would leave: copies of `place`, as it goes on."""

    def keep(number: int) -> None:
        shutil.copytree(place, folder / f"{number:04d}")

    ended = command(*COMMANDS[name], before=at_operation(place, keep))
    assert (ended.code, ended.err) == (0, "")
    return sorted(folder.glob("*"))


def some(found: list[Any], most: int) -> list[Any]:
    """All of them, or so many, with the first and the last."""
    if len(found) <= most:
        return found
    return [found[round(i * (len(found) - 1) / (most - 1))] for i in range(most)]


def fresh(place: Path, spare: Path) -> None:
    for entry in [*place.iterdir()]:
        shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
    shutil.copytree(spare, place, dirs_exist_ok=True)


def results(name: str, place: Path) -> list[Any]:
    """What a command makes, but how long that took; of a comparison, what its runs allow."""
    found: list[Any] = []
    for file in (place / file for file in RESULTS[name]):
        if file.suffix != ".json":
            found.append(file.read_bytes())
            continue
        tree = json.loads(file.read_text())
        reports = [run["report"] for run in tree["runs"].values()] if "runs" in tree else [tree]
        found += [
            {key: value for key, value in facts.items() if key != "speed"} for facts in reports
        ]
    return found


def finished(place: Path) -> dict[Path, bytes]:
    """The weights of the runs of a comparison that are finished."""
    newest = place.glob("all/runs/*/state/latest")
    done = [file for file in newest if file.read_text().strip().endswith("-end")]
    weights = [file.parents[1] / "weights.safetensors" for file in done]
    return {file: file.read_bytes() for file in weights if file.exists()}


def holds(name: str, place: Path, expected: list[Any], where: object) -> None:
    """The run of before is whole, or the new one; the command goes through when it is repeated."""
    before = finished(place)
    begun = [*place.glob("new/weights.*"), *place.glob("new/snapshots/*.*"), *place.glob("s[.-]*")]
    typed = COMMANDS[name]

    def work() -> int:
        for words in (*LOOK, typed):
            code, err = run_words(words)
            if code == 2 and words is typed and "already" in err and (begun or name == "resume"):
                code, err = run_words(REFUSED[name])
                code = 0 if "already had" in err else code
            assert code == 0, (words, code, err)
        return 0

    ended = fork(work)
    assert ended.code == 0, (where, ended)
    stray = [p for p in place.rglob(".*") if p.name != ".lock"]
    assert not stray, (where, stray)
    assert not [*place.rglob(".lock")], where
    assert before == {file: file.read_bytes() for file in before}, where  # not trained again
    if name != "compare":  # whose runs take as many steps as there is time for
        assert results(name, place) == expected, where
    else:
        assert len(results(name, place)) == len(expected), where


def undisturbed(name: str, place: Path) -> tuple[list[Any], Ended]:
    """What a command makes if nothing happens, and how it ended."""
    ended = command(*COMMANDS[name])
    assert (ended.code, ended.err) == (0, "")
    return results(name, place), ended


MOST = {"evaluate": 19, "compare": 20}  # places of these: one takes seconds
PARTS = [(name, part) for name in COMMANDS for part in range(3 if name == "compare" else 1)]


@pytest.mark.parametrize(("name", "part"), PARTS)
def test_killed_at_every_file_operation(name: str, part: int, place: Path, tmp_path: Path) -> None:
    """A kill leaves what the disk holds at that moment: one process, looked at on its way."""
    (tmp_path / "states").mkdir()
    there = states(name, place, tmp_path / "states")
    expected, both = results(name, place), finished(place)
    tried = some(there[part :: 3 if name == "compare" else 1], MOST.get(name, 99))
    for state in tried:
        fresh(place, state)
        ready = finished(place)
        holds(name, place, expected, state.name)
        if name == "compare" and ready == both:  # all runs are those of the undisturbed comparison
            assert results(name, place) == expected, state.name
    assert tried or name == "info"  # which writes nothing
    print(f"killed {name}: at {len(tried)} of {len(there)} operations")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_kill_is_what_the_copies_show(name: str, place: Path, tmp_path: Path) -> None:
    """SIGKILL itself, at a few operations, for the copies of the test above are our own idea."""
    spare = shutil.copytree(place, tmp_path / "spare")
    expected, _ = undisturbed(name, place)
    number = 0
    for number in (1, 3, 4, 6, 17):
        fresh(place, spare)

        def kill(now: int, number: int = number) -> None:
            if now == number:
                os.kill(os.getpid(), signal.SIGKILL)

        ended = command(*COMMANDS[name], before=at_operation(place, kill))
        if ended.code == 0:  # it has fewer
            break
        assert ended.code == -signal.SIGKILL, (number, ended)
        holds(name, place, expected, number)
    assert number > 3 or name == "info"


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_at_every_file_operation(name: str, place: Path, tmp_path: Path) -> None:
    """From one operation on, nothing can be opened for writing, renamed or removed any more."""
    spare = shutil.copytree(place, tmp_path / "spare")
    counted = command(*COMMANDS[name], before=at_operation(place, lambda n: os.write(2, b"\0")))
    total = counted.err.count("\0")
    expected = results(name, place)
    stops = some([*range(1, total + 1)], 12 if name == "compare" else 99)
    for stop in stops:
        fresh(place, spare)

        def full(number: int, stop: int = stop) -> None:
            if number >= stop:
                raise OSError(errno.ENOSPC, "No space left on device")

        ended = command(*COMMANDS[name], before=at_operation(place, full))
        assert ended.sound(), (stop, ended)
        holds(name, place, expected, stop)
    assert stops or name == "info"
    print(f"full disk {name}: at {len(stops)} of {total} operations")


SIZES = (0, 10, 100, 500, 1000, 2000, 3000, 6000, 10_000, 30_000, 60_000)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "info"])
def test_a_disk_that_fills_up_within_a_file(name: str, place: Path, tmp_path: Path) -> None:
    """No file can be larger than so many bytes, whatever language writes it; output neither."""
    spare, codes = shutil.copytree(place, tmp_path / "spare"), []
    expected, _ = undisturbed(name, place)
    sizes = SIZES[:: 3 if name == "compare" else 1]
    for size in sizes:
        fresh(place, spare)
        limit = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (size, size))
        ended = command(*COMMANDS[name], before=limit)
        assert ended.sound(), (size, ended)
        assert ended.code == 0 or size < 100 or ended.err, (size, ended)
        codes.append(ended.code)
        holds(name, place, expected, size)
    assert 2 in codes
    print(f"short files {name}: {len(sizes)} sizes, exit codes {codes}")


MOMENTS = {"evaluate": 8, "compare": 8}  # of the others 24


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["SIGKILL", "SIGINT"])
@pytest.mark.parametrize("name", COMMANDS)
def test_stopped_at_random_moments(
    name: str, number: signal.Signals, place: Path, tmp_path: Path
) -> None:
    spare, rng = shutil.copytree(place, tmp_path / "spare"), random.Random(1)
    expected, undone = undisturbed(name, place)
    codes = []
    for moment in [rng.uniform(0, undone.seconds) for _ in range(MOMENTS.get(name, 24))]:
        fresh(place, spare)

        def later(moment: float = moment) -> None:
            import undiffuse.__main__  # as a process of its own would begin

            assert undiffuse.__main__.run
            threading.Timer(moment, os.kill, (os.getpid(), number)).start()

        ended = command(*COMMANDS[name], before=later)
        codes.append(ended.code)
        if number == signal.SIGINT:
            assert "Traceback" not in ended.err, (moment, ended)
        holds(name, place, expected, moment)
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
