"""Trainings: processes of their own, which outlive the server and are found again.

    undiffuse train SOURCE --out RUN --config OPTIONS.toml     in a session of its own

What a process prints goes to a file in the folder of runs, .undiffuse/logs/NAME.log, whose lock it
holds as long as it lives: the lock belongs to the open file, which the process inherits. So a
server that starts finds the trainings of the one before it, those that have not yet made their run
included. A run is stopped by the signal that lets it save. Those that wait for their turn are known
to this server alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import undiffuse
from undiffuse.errors import InputError
from undiffuse.lock import holder
from undiffuse.web.problems import Refusal
from undiffuse.web.safety import TOKEN

HIDDEN = ".undiffuse"  # in the folder of runs
EVERY = 0.2  # seconds between two looks at the processes
_TAIL = 8192  # bytes of what a process printed last
_PROCESS = re.compile(r"process (\d+) on (.*)")


@final
@dataclass(frozen=True)
class _Asked:
    """A training that waits for its turn: the words of its command."""

    name: str
    words: tuple[str, ...]


@final
class Trainings:
    """The trainings in a folder of runs.

    Args:
        folder: the folder of runs.
        at_once: how many train at a time.
        waiting: how many more may wait.
    """

    def __init__(self, folder: Path, *, at_once: int, waiting: int) -> None:
        self.folder, self.at_once, self.bound = folder, at_once, waiting
        self.hidden = folder / HIDDEN
        self._queue: list[_Asked] = []
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._failed: dict[str, str] = {}
        self._lock = threading.RLock()
        self._closed = threading.Event()
        self._pump = threading.Thread(target=self._work, name="trainings", daemon=True)
        self._pump.start()

    # --- what is known of them

    def alive(self) -> list[str]:
        """Return the names of all that were started here, by this server or one before it."""
        logs = self.hidden / "logs"
        names = sorted(file.stem for file in logs.glob("*.log")) if logs.is_dir() else []
        return [name for name in names if _held(logs / f"{name}.log")]

    def is_alive(self, name: str) -> bool:
        """Return whether a process trains this run, is about to, or has ended this moment."""
        return (
            name in self._children
            or _held(self._log(name))
            or holder(self.folder / name) is not None
        )

    def waiting(self) -> list[str]:
        """Return the names of those that wait, in their order."""
        with self._lock:
            return [one.name for one in self._queue]

    def failures(self) -> dict[str, str]:
        """Return the sentence of each that failed since this server started, by name."""
        with self._lock:
            return dict(self._failed)

    def is_stopping(self, name: str) -> bool:
        """Return whether a signal to save and stop was sent to the process that trains now."""
        process = self._process(name)
        with contextlib.suppress(OSError, ValueError):
            return process is not None and int(self._note(name).read_text()) == process
        return False

    # --- what can be done

    def start(self, name: str, words: Sequence[str], options: Mapping[str, Any]) -> None:
        """Let a process train the run when its turn comes.

        Args:
            name: the run.
            words: of the command, besides --out and --config.
            options: those of `TrainOptions` that are given, in groups.

        Raises:
            Refusal: as many are waiting as may (429), or this one already does (409).
        """
        with self._lock:
            if name in self.waiting() or self.is_alive(name):
                raise Refusal(409, f"{name}: is being trained, or waits for it; stop it first.")
            full = len(self._queue) >= self.bound
            if full and len(self.alive()) >= self.at_once:
                text = f"the queue is full: {len(self._queue)} trainings wait; come again."
                raise Refusal(429, text, {"retry-after": "60"})
            logs = self._logs()
            file = logs / f"{name}.toml"
            file.write_text(as_toml(options), encoding="utf-8")
            out = str(self.folder / name)
            given = ("train", *words, "--out", out, "--config", str(file))
            self._failed.pop(name, None)
            self._queue.append(_Asked(name, given))
            self._begin()

    def stop(self, name: str) -> None:
        """Let a training save and stop; one that waits gives up its place.

        Raises:
            Refusal: it is not trained (409), or by a process on another machine.
        """
        with self._lock:
            if name in self.waiting():
                self._queue = [one for one in self._queue if one.name != name]
                return
            self._look()
            if not self.is_alive(name):
                raise Refusal(409, f"{name}: is not being trained.")
            process = self._process(name)
            if process is None:
                text = f"{name}: is being trained on another machine; stop it there."
                raise Refusal(409, text)
            if self.is_stopping(name):
                return  # a second signal would end it without saving
            self._note(name).write_text(f"{process}\n")
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)

    def forget(self, name: str) -> None:
        """Remove what is kept of a run besides its folder: its data, and what it printed."""
        with self._lock:
            self._failed.pop(name, None)
            shutil.rmtree(self.hidden / "data" / name, ignore_errors=True)
            for suffix in ("log", "toml", "stop"):
                (self.hidden / "logs" / f"{name}.{suffix}").unlink(missing_ok=True)

    def close(self) -> list[str]:
        """Look no longer; return the names of those that go on."""
        self._closed.set()
        self._pump.join(timeout=5)
        return self.alive()

    # --- the processes

    def _work(self) -> None:
        while not self._closed.wait(EVERY):
            with contextlib.suppress(OSError):
                self._look()

    def _look(self) -> None:
        with self._lock:
            for name, child in list(self._children.items()):
                if (code := child.poll()) is None:
                    continue
                del self._children[name]
                if code not in (0, 130):
                    self._failed[name] = self._last_words(name, code)
            self._begin()

    def _begin(self) -> None:
        """Start as many as may train at a time."""
        while self._queue and len(self.alive()) < self.at_once:
            asked = self._queue.pop(0)
            try:
                self._spawn(asked)
            except OSError as problem:
                self._failed[asked.name] = f"{asked.name}: could not be started: {problem.strerror}"

    def _spawn(self, asked: _Asked) -> None:
        self._note(asked.name).unlink(missing_ok=True)
        place = self._logs() / "empty"  # names of files in options lead nowhere from here
        place.mkdir(exist_ok=True)
        found = (str(Path(undiffuse.__file__).parent.parent), os.environ.get("PYTHONPATH"))
        environment = {name: value for name, value in os.environ.items() if name != TOKEN}
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        handle = os.open(self._log(asked.name), flags, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            child = subprocess.Popen(
                [sys.executable, "-m", "undiffuse", *asked.words],
                stdin=subprocess.DEVNULL,
                stdout=handle,
                stderr=handle,
                cwd=place,
                env=environment | {"PYTHONPATH": os.pathsep.join(filter(None, found))},
                start_new_session=True,
            )
            os.write(handle, f"process {child.pid} on {platform.node()}\n".encode())
        finally:
            os.close(handle)
        self._children[asked.name] = child

    def _process(self, name: str) -> int | None:
        """The process that trains a run on this machine, None if there is none."""
        words = holder(self.folder / name)
        if words is None and _held(self._log(name)):
            with contextlib.suppress(OSError), self._log(name).open(errors="replace") as lines:
                words = lines.readline(300).strip()
        match = _PROCESS.fullmatch(words or "")
        return int(match[1]) if match and match[2] == platform.node() else None

    def _last_words(self, name: str, code: int) -> str:
        """What a process that failed printed last: its sentence."""
        with contextlib.suppress(OSError):
            with self._log(name).open("rb") as file:
                file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
                text = file.read().decode("utf-8", "replace")
            lines = [line.strip() for line in text.splitlines() if line.strip()]
            lines = [line for line in lines if not _PROCESS.fullmatch(line)]
            if lines:
                return lines[-1][:1000]
        return f"{name}: its process ended with code {code}."

    def check_place(self) -> None:
        """Raise InputError if nothing can be trained in the folder of runs."""
        self._logs()

    def _logs(self) -> Path:
        """The folder of logs. Raises InputError if it cannot be written to."""
        logs = self.hidden / "logs"
        try:
            if any(one.is_symlink() for one in (self.hidden, logs, self.hidden / "data")):
                raise InputError(f"{HIDDEN}: is a link, which is not followed; remove it.")
            logs.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as problem:
            raise InputError(
                f"the folder of runs cannot be written to ({problem.strerror}); serve another one."
            ) from problem
        return logs

    def _log(self, name: str) -> Path:
        return self.hidden / "logs" / f"{name}.log"

    def _note(self, name: str) -> Path:
        """Where it is noted to which process a signal was sent."""
        return self.hidden / "logs" / f"{name}.stop"


def _held(file: Path) -> bool:
    """Whether a process holds the lock on a file."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def as_toml(tree: Mapping[str, Any]) -> str:
    r"""Return options as a file of TOML, tables for groups.

    >>> print(as_toml({"seed": 1, "data": {"drop": ["a,b", 'say "no"'], "rules": True}}))
    seed = 1
    [data]
    drop = ["a,b", "say \"no\""]
    rules = true
    """
    lines = [
        f"{name} = {json.dumps(value)}"
        for name, value in tree.items()
        if not isinstance(value, Mapping)
    ]
    for name, group in tree.items():
        if isinstance(group, Mapping):
            lines += [f"[{name}]", as_toml(group)]
    return "\n".join(line for line in lines if line)
