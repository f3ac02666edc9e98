"""Progress in a notebook: one line with a bar, which is updated in place and kept at its end."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from html import escape
from typing import Any, final

from undiffuse.duration import format_duration
from undiffuse.shown import words_for

EVERY = 0.5  # seconds between updates
PATIENCE = 1.0  # seconds before a bar appears
_SHELLS = ("ZMQInteractiveShell", "Shell")  # of Jupyter, and of Colab


def display() -> Callable[..., Any] | None:
    """Return what displays an object in this notebook; None outside of one."""
    python = sys.modules.get("IPython")  # is imported wherever a notebook runs
    shell: Any = None if python is None else python.get_ipython()
    if type(shell).__name__ not in _SHELLS:
        return None
    from IPython.display import display as show  # pyright: ignore[reportMissingImports]

    return show


@final
class Html:
    """Text that a notebook shows as HTML."""

    def __init__(self, text: str) -> None:
        self.text = text

    def _repr_html_(self) -> str:
        return self.text


@final
class NotebookBar:
    """`bar(done, total, what)`, and `bar.event(event)` for those of `fit`; see `progress_bar`.

    Args:
        show: `IPython.display.display`.
    """

    def __init__(self, show: Callable[..., Any]) -> None:
        self.show, self.handle = show, None
        self.what, self.began, self.updated = "", time.monotonic(), 0.0
        self.held_out: Any = None

    def __call__(self, done: int, total: int, what: str) -> None:
        """Show that `done` of `total` is finished."""
        if what != self.what:
            self.what, self.began, self.handle = what, time.monotonic(), None
        self._draw(done / max(total, 1), f"{what}: {done:,} of {total:,}", done >= total)

    def event(self, event: Mapping[str, Any]) -> None:
        """Show an event of `fit`."""
        kind = event["event"]
        if kind == "held_out":
            self.held_out = event.get("loss")
        if kind == "step":
            spent, left = event["elapsed"] or 0.0, event["left"] or 0.0
            loss = "-" if self.held_out is None else words_for(self.held_out)
            text = f"step {event['step']:,}, held-out loss {loss}, "
            text += f"{format_duration(left)} left" if left else "evaluating"
            self._draw(spent / max(spent + left, 1e-9), text, not left)
        if "said" in event:
            self.show(Html(escape(str(event["said"]))))

    def _draw(self, share: float, text: str, last: bool) -> None:
        now = time.monotonic()
        waits = now - self.began < PATIENCE if self.handle is None else now - self.updated < EVERY
        if waits and not (last and self.handle is not None):
            return
        self.updated = now
        shown = Html(f"<progress value='{share:.4f}' max='1'></progress> {escape(text)}")
        if self.handle is None:
            self.handle = self.show(shown, display_id=True)
        else:
            self.handle.update(shown)


def progress_bar() -> NotebookBar | None:
    """Return a bar in this notebook, None outside of one."""
    show = display()
    return None if show is None else NotebookBar(show)


def event_bar() -> Callable[[Mapping[str, Any]], None] | None:
    """Return what shows the events of `fit` in this notebook, None outside of one."""
    made = progress_bar()
    return None if made is None else made.event
