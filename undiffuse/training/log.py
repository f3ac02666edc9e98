"""What happens in a run, as events: plain dictionaries, to a callback as they come and to log.jsonl a line each.

    start     steps, budget, parameters, batch, precision, device, out, resumed_at
    step      loss (and losses, of several players), rate (rows/s), elapsed (s), left (s), lr, skipped
    held_out  the model's diagnostics on held-out rows, "loss" among them
    samples, checkpoint   path
    end       elapsed, reason ("done" or "stopped"), out

each with "event" and "step". A resumed run forgets the lines of steps that it takes again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO

from undiffuse.atomic import atomic_file
from undiffuse.errors import InputError

Listener = Callable[[dict[str, Any]], None]


def read_log(path: Path) -> list[dict[str, Any]]:
    """The events in a log.jsonl, a torn last line left out; none if there is no such file."""
    events: list[dict[str, Any]] = []
    with suppress(FileNotFoundError, ValueError), path.open(encoding="utf-8") as lines:
        events.extend(json.loads(line) for line in lines)
    return events


class Log:
    """Sends each event to `listener`, and writes it to `path`, of the steps every `every`-th. Close it in the end.

    Raises InputError if the file cannot be written.
    """

    def __init__(
        self, path: Path | None, listener: Listener | None, *, every: int, resumed_at: int
    ) -> None:
        self.path, self.listener, self.every = path, listener, every
        self.file: TextIO | None = None
        if path is None:
            return
        kept = [event for event in read_log(path) if event.get("step", 0) <= resumed_at]
        with atomic_file(path) as temporary:
            temporary.write_text(
                "".join(json.dumps(event) + "\n" for event in kept), encoding="utf-8"
            )
        self.file = path.open("a", encoding="utf-8")

    def wants(self, step: int) -> bool:
        """Whether anybody reads the event of this step: it need not be put together otherwise."""
        return self.listener is not None or (self.file is not None and step % self.every == 0)

    def __call__(self, event: str, step: int, **facts: Any) -> None:
        """Report one event."""
        tree = {"event": event, "step": step} | facts
        if self.file is not None and (event != "step" or step % self.every == 0):
            try:
                self.file.write(json.dumps(tree) + "\n")
                self.file.flush()
            except OSError as problem:
                raise InputError(
                    f"{self.path}: could not be written ({problem.strerror}); make room, then go on with --resume."
                ) from problem
        if self.listener is not None:
            self.listener(tree)

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            with suppress(OSError):  # what could not be written has been reported
                self.file.close()
