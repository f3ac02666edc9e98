"""What SIGINT and SIGTERM do: they end a command with one sentence, or ask work that can be saved to stop.

Anything else is interrupted by an exception, wherever it is. Work that polls `Interruption.stopped` saves what it has
and returns; a second signal ends the process at once, with the last checkpoint on the disk as it was.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def handled(handler: Callable[[int, Any], None]) -> Iterator[None]:
    """Within, `handler` is called for each of the signals (on the main thread, which alone can have handlers)."""
    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.signal(number, handler) for number in SIGNALS if main}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Within, the first signal raises KeyboardInterrupt and the second ends the process.

    Yields:
        A function that returns whether a signal has come: extension modules turn the exception into others. Where
        Python ignores exceptions, in a destructor or a callback, the process ends at once.
    """
    came = False

    def receive(number: int, frame: Any) -> None:
        nonlocal came
        if came:
            os._exit(INTERRUPTED)
        came = True
        raise KeyboardInterrupt

    def unraisable(problem: sys.UnraisableHookArgs) -> None:
        if not issubclass(problem.exc_type, KeyboardInterrupt):
            return before(problem)
        os.write(2, b"interrupted.\n")
        os._exit(INTERRUPTED)

    before, sys.unraisablehook = sys.unraisablehook, unraisable
    try:
        with handled(receive):
            yield lambda: came
    finally:
        sys.unraisablehook = before


@final
class Interruption:
    """Within a `with`, the signals set a flag instead of raising; the first is answered, unless `quiet`."""

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
            os.write(2, b"\nfinishing this step, then saving; once more to leave at once\n")
