"""Progress of work that lasts, on standard error: a bar for most of it, a line for a training.

The library reports `progress(done, total, what)` or events, and knows nothing of bars and lines. A
bar appears on a terminal after two seconds. The line of a training moves on a terminal; elsewhere
it is printed every ten seconds:

    step 1,200 of 5,000   loss 0.231   held-out 0.24   412 rows/s   3m12s left

The loss is averaged over the last steps: that of a single step depends on the noise levels drawn.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

from undiffuse.cli.terminal import Terminal, number

if TYPE_CHECKING:
    from rich.progress import Progress

PATIENCE = 2.0  # seconds before a bar appears
EVERY = 10.0  # seconds between plain lines
REFRESH = 0.2  # seconds between two updates of the moving line
SMOOTH = 0.02  # weight of the newest step in the shown loss


@final
class Bar:
    """`bar(done, total, what)`, for use in a `with`: one bar at a time, a new one for each `what`.

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
        """Show that `done` of `total` is finished."""
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
        """Remove the bar."""
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


@final
class Live:
    """`on_event` for `fit`, for use in a `with`.

    Afterwards `held_out` and `start` are the last events of these names, and `samples` is the path
    of the last preview.
    """

    def __init__(self, terminal: Terminal) -> None:
        self.terminal = terminal
        self.start: Mapping[str, Any] = {}
        self.held_out: Mapping[str, Any] = {}
        self.samples: str | None = None
        self.loss: float | None = None
        self.seen = 0
        self.shown = time.monotonic()
        self.drawn: Progress | None = None

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_: object) -> None:
        if self.drawn is not None:
            self.drawn.stop()

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Show one event."""
        if "said" in event:
            self.terminal.say(str(event["said"]))
        take = _TAKES.get(event["event"])
        if take is not None:
            take(self, event)

    def _start(self, event: Mapping[str, Any]) -> None:
        self.start = event
        if self.terminal.lively:
            from rich.progress import BarColumn, Progress, TextColumn

            self.drawn = Progress(
                BarColumn(bar_width=24),
                TextColumn("{task.description}"),
                console=self.terminal.console,
                transient=True,
                refresh_per_second=1 / REFRESH,
            )
            self.drawn.add_task("starting", total=1.0)
            self.drawn.start()

    def _step(self, event: Mapping[str, Any]) -> None:
        if event["loss"] is not None:
            self.seen += 1
            self.loss = (self.loss or 0.0) + max(SMOOTH, 1 / self.seen) * (
                event["loss"] - (self.loss or 0.0)
            )
        now = time.monotonic()
        if now - self.shown < (REFRESH if self.drawn else EVERY):
            return
        self.shown = now
        if self.drawn:
            spent, left = event["elapsed"], event["left"] or 0.0
            done = spent / max(spent + left, 1e-9)
            self.drawn.update(self.drawn.task_ids[0], completed=done, description=self.line(event))
        else:
            self.terminal.say(self.line(event))

    def _held_out(self, event: Mapping[str, Any]) -> None:
        if event.get("warning") and not self.held_out.get("warning"):
            self.terminal.say(f"step {event['step']:,}: {event['warning']}", "yellow")
        self.held_out = event

    def _samples(self, event: Mapping[str, Any]) -> None:
        self.samples = str(event["path"])

    def line(self, event: Mapping[str, Any]) -> str:
        """The line for a "step" event."""
        from undiffuse.duration import format_duration

        steps = self.start.get("steps")
        parts = [
            f"step {event['step']:,}" + (f" of {steps:,}" if steps else ""),
            f"loss {number(self.loss)}",
            f"held-out {number(self.held_out.get('loss'))}",
            f"{number(event['rate'])} rows/s",
            f"{format_duration(event['left'])} left" if event["left"] else "evaluating",
            f"{event['skipped']} skipped" if event.get("skipped") else "",
        ]
        return "   ".join(part for part in parts if part)


_TAKES = {
    "start": Live._start,
    "step": Live._step,
    "held_out": Live._held_out,
    "samples": Live._samples,
}
