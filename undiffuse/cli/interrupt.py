"""Stopping a training politely: the first SIGINT or SIGTERM asks, the second insists.

`fit` polls `stopped()` between steps, saves a checkpoint and returns; a second signal ends the process at once, with
the last checkpoint on the disk as it was.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Any, final

INTERRUPTED = 130
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@final
class Interruption:
    """Within a `with`, the two signals set a flag instead of raising; the first is answered, unless `quiet`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.flag = False
        self.before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            self.before = {number: signal.signal(number, self._receive) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def stopped(self) -> bool:
        """Whether a signal has come."""
        return self.flag

    def _receive(self, number: int, frame: Any) -> None:
        if self.flag:
            os._exit(INTERRUPTED)
        self.flag = True
        if (
            not self.quiet
        ):  # straight to the file: a handler must not enter a stream that it may have interrupted
            os.write(2, b"\nfinishing this step, then saving; once more to leave at once\n")
