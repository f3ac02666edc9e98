"""Progress of work that lasts: a bar on standard error once two seconds have passed, if somebody is looking.

The library reports `progress(done, total, what)` and knows nothing of bars; work that is over sooner leaves no trace.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, final

if TYPE_CHECKING:
    from rich.progress import Progress

    from undiffuse.cli.terminal import Terminal

PATIENCE = 2.0  # seconds


@final
class Bar:
    """`bar(done, total, what)`, to be used in a `with`; one bar at a time, a new one for each `what`.

    >>> from undiffuse.cli.terminal import Terminal
    >>> with Bar(Terminal(quiet=True)) as bar:
    ...     bar(1, 10, "reading")
    """

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.what, self.began = "", 0.0
        self.drawn: Progress | None = None

    def __enter__(self) -> Bar:
        self.began = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def __call__(self, done: int, total: int, what: str) -> None:
        """Note that `done` of `total` is over."""
        if not self.terminal.lively:
            return
        if what != self.what:
            self.clear()
            self.what = what
        if self.drawn is None:
            if time.monotonic() - self.began < PATIENCE:
                return
            self.drawn = self._draw(total, what)
        self.drawn.update(self.drawn.task_ids[0], completed=done, total=total)

    def clear(self) -> None:
        """Take the bar away."""
        if self.drawn is not None:
            self.drawn.stop()
            self.drawn = None

    def _draw(self, total: int, what: str) -> Progress:
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        drawn = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.terminal.console,
            transient=True,
        )
        drawn.start()
        drawn.add_task(what, total=total)
        return drawn
