"""Commands in a forked, warmed process: each starts at once, and may be killed, starved or limited.

`import torch` takes seconds; a fork of a process that has imported it takes milliseconds. In the
child standard output and error go to files, limits are set, `before` runs, and then the command.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

torch.set_num_threads(1)
GIB = 2**30
SMALL = ("--device", "cpu", "--precision", "float32", "--model.width", 8, "--model.depth", 1)
QUICK = (*SMALL, "--steps", 2, "--training.samples", 0, "--quiet")


@dataclass(frozen=True)
class Ended:
    """How a child ended: exit code (negative: a signal), output, seconds, and peak of memory."""

    code: int
    out: str
    err: str
    seconds: float
    peak: int  # bytes beyond those of the parent

    def sound(self) -> bool:
        """Whether it ended as it may: done, refused in one sentence, or interrupted."""
        if "Traceback" in self.err or "Error" in self.err.partition(":")[0]:
            return False
        if self.code == 2:
            return self.err.count("\n") <= 1
        return self.code in (0, 130)


class Child:
    """A child that runs `work`; `memory`: bytes that it may map beyond what the parent has."""

    def __init__(self, work: Callable[[], int], *, memory: int | None = None) -> None:
        self.files = ExitStack()  # closed when it has ended
        new = partial(tempfile.TemporaryFile, "w+")
        self.out, self.err = (self.files.enter_context(new()) for _ in range(2))
        self.began = time.monotonic()
        self.resting = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self.pid = os.fork()
        if self.pid:
            return
        code = 1
        try:
            os.dup2(self.out.fileno(), 1)
            os.dup2(self.err.fileno(), 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            if memory is not None:
                size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf(
                    "SC_PAGE_SIZE"
                )
                resource.setrlimit(resource.RLIMIT_AS, (size + memory, size + memory))
            code = work()
        except BaseException:
            traceback.print_exc()
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError, AttributeError):
                    stream.flush()
            os._exit(code)

    def ended(self, seconds: float = 200.0) -> Ended:
        """How it ended; -SIGKILL after so many seconds since it began."""
        with self.files:
            code, usage = _reap(self.pid, self.began + seconds)
            self.out.seek(0)
            self.err.seek(0)
            peak = max(0, usage.ru_maxrss - self.resting) * 1024
            said = self.out.read(), self.err.read()
            return Ended(code, *said, time.monotonic() - self.began, peak)


def fork(work: Callable[[], int], *, seconds: float = 200.0, memory: int | None = None) -> Ended:
    """Run `work` in a child and say how it ended; -SIGKILL after so many seconds."""
    return Child(work, memory=memory).ended(seconds)


def begin(*works: Callable[[], int], **environment: object) -> list[Child]:
    """Start a child for each of `works`; they know of each other as `torchrun` tells them."""
    with socket.socket() as room:
        room.bind(("127.0.0.1", 0))
        port = room.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": len(works)}

    def ranked(rank: int, work: Callable[[], int]) -> int:
        named = {**place, "RANK": rank, "LOCAL_RANK": rank, **environment}
        os.environ.update({name: str(value) for name, value in named.items()})
        return work()

    return [
        Child(lambda rank=rank, work=work: ranked(rank, work)) for rank, work in enumerate(works)
    ]


def _reap(child: int, deadline: float) -> tuple[int, resource.struct_rusage]:
    while True:
        pid, status, usage = os.wait4(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status), usage
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            _, status, usage = os.wait4(child, 0)
            return os.waitstatus_to_exitcode(status), usage
        time.sleep(0.005)


def command(*words: object, before: Callable[[], object] = lambda: None, **limits: object) -> Ended:
    """Run a command line in a child; `before` is called in it first."""
    from undiffuse.cli.app import call  # noqa: F401  - warm
    from undiffuse.cli.main import main

    def work() -> int:
        before()
        return main([str(word) for word in words])

    return fork(work, **limits)
