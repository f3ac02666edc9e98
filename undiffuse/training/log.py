"""What happens in a run, as events: plain dictionaries, to a listener and to log.jsonl, one a line.

    start     steps, budget, parameters, batch, precision, device, out, resumed_at
    step      loss (and losses, of several players), rate (rows/s), elapsed, left (s), lr, skipped
    held_out  the model's diagnostics on held-out rows, "loss" among them
    samples, checkpoint   path
    sized     said: how wide the network is, and why
    tuned     said: how the model is sampled from now on, or why that was not chosen
    end       elapsed, reason ("done" or "stopped"), out

each with "event" and "step". A resumed run drops the lines of steps that it takes again.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TextIO, final

from undiffuse.atomic import atomic_file
from undiffuse.errors import InputError
from undiffuse.interfaces import Listener
from undiffuse.reading import open_regular, parse_json, said
from undiffuse.training.sound import is_event

LONGEST_LINE = 2**20  # characters
MOST_KEPT = 20_000  # events in memory


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the events in a log.jsonl; none if there is no such file.

    A torn last line, and whatever else is no event, is left out.

    Raises:
        InputError: the file cannot be read.
    """
    events: list[dict[str, Any]] = []
    try:
        with os.fdopen(open_regular(path), encoding="utf-8", errors="replace") as lines:
            while line := lines.readline(LONGEST_LINE):
                with suppress(ValueError):
                    events.append(parse_json(line))
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as problem:
        raise InputError(
            f"{path}: could not be read ({said(problem)}); restore or remove it."
        ) from problem
    return [event for event in events if is_event(event)]


@final
class Log:
    """Sends each event to a listener, writes it to a file and keeps it. Close it at the end.

    Of a run of more than 20,000 events every second step is kept in memory, then every fourth, ...

    Args:
        path: the file, None for none; lines of later steps than `resumed_at` are dropped from it.
        listener: called with each event.
        every: of the events of steps, every so many are written to the file.
        resumed_at: the step that the run is resumed at.
        kept: a list that events are kept in; those of the file before that step come first.

    Raises:
        InputError: the file cannot be written.
    """

    def __init__(
        self,
        path: Path | None,
        listener: Listener | None,
        *,
        every: int,
        resumed_at: int,
        kept: list[dict[str, Any]],
    ) -> None:
        self.path, self.listener, self.every = path, listener, every
        self.file: TextIO | None = None
        self.kept, self._apart = kept, every
        if path is None:
            return
        kept[:] = [event for event in read_log(path) if event.get("step", 0) <= resumed_at]
        with atomic_file(path) as temporary:
            lines = "".join(json.dumps(event) + "\n" for event in kept)
            temporary.write_text(lines, encoding="utf-8")
        self.file = path.open("a", encoding="utf-8")

    def wants(self, step: int) -> bool:
        """Whether the event of this step is read by anybody."""
        return self.listener is not None or step % self.every == 0

    def __call__(self, event: str, step: int, **facts: Any) -> None:
        """Report one event."""
        tree = {"event": event, "step": step} | facts
        lasting = event != "step" or step % self.every == 0
        if lasting:
            self._keep(tree)
        if self.file is not None and lasting:
            try:
                self.file.write(json.dumps(tree) + "\n")
                self.file.flush()
            except OSError as problem:
                raise InputError(
                    f"{self.path}: could not be written ({problem.strerror}); "
                    "make room, then continue with --resume."
                ) from problem
        if self.listener is not None:
            self.listener(tree)

    def _keep(self, tree: dict[str, Any]) -> None:
        if self._lasts(tree):
            self.kept.append(tree)
        while len(self.kept) > MOST_KEPT and self._apart < tree["step"]:
            self._apart *= 2
            self.kept[:] = [event for event in self.kept if self._lasts(event)]

    def _lasts(self, event: Mapping[str, Any]) -> bool:
        """Whether an event is kept in memory: every so many steps, and all that are no steps."""
        return event["event"] != "step" or event["step"] % self._apart == 0

    def close(self) -> None:
        """Close the file."""
        if self.file is not None:
            with suppress(OSError):  # what could not be written has been reported
                self.file.close()
