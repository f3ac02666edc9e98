"""SIGINT and SIGTERM: they end a command with one sentence, or let it save its work and stop.

A command is interrupted by an exception, wherever it is. Work that polls `Interruption.stopped`
saves what it has and returns. A second signal ends the process; the last checkpoint is kept.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, final

INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Within, `handler` is called for each of the signals; only a main thread can have handlers."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in SIGNALS if main}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def interruptible(work: Callable[..., Any]) -> Iterator[Callable[[], bool]]:
    """Within, the first signal raises KeyboardInterrupt and the second ends the process.

    So does the first while `work` is not being called: nobody would catch the exception.

    Yields:
        A function that returns whether a signal has come: extension modules turn the exception into
        others. Where it would be lost, in an import or a destructor, the process ends at once.
    """
    came = False

    def receive(number: int, frame: FrameType | None) -> None:
        nonlocal came
        if came or _importing(frame) or not _calling(work, frame):
            leave()
        came = True
        raise KeyboardInterrupt

    def unraisable(problem: sys.UnraisableHookArgs) -> None:
        if issubclass(problem.exc_type, KeyboardInterrupt):
            leave()
        before(problem)

    def leave() -> NoReturn:
        os.write(2, b"interrupted.\n")
        os._exit(INTERRUPTED)

    before, sys.unraisablehook = sys.unraisablehook, unraisable
    try:
        with handled(receive):
            yield lambda: came
    finally:
        sys.unraisablehook = before


def _calling(work: Callable[..., Any], frame: FrameType | None) -> bool:
    """Whether `work` is being called."""
    while frame is not None:
        if frame.f_code is work.__code__:
            return True
        frame = frame.f_back
    return False


def _importing(frame: FrameType | None) -> bool:
    """Whether a module is being imported: extension modules discard what their imports raise."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


@final
class Interruption:
    """Within a `with`, a signal sets a flag and raises nothing; unless `quiet`, it is confirmed."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.flag = False

    def __enter__(self) -> Interruption:
        self.within = handled(self._receive)
        self.within.__enter__()
        return self

    def __exit__(self, *problem: Any) -> None:
        self.within.__exit__(*problem)

    def stopped(self) -> bool:
        """Whether a signal has come."""
        return self.flag

    def _receive(self, number: int, frame: Any) -> None:
        if self.flag:
            os._exit(INTERRUPTED)
        self.flag = True
        if not self.quiet:  # not through a stream, which the signal may have interrupted
            os.write(2, b"\nfinishing this step, then saving; interrupt again to quit now\n")
