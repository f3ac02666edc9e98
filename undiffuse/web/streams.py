"""Streams of server-sent events: what happens in a run, and how far a job is.

    id: 12
    data: {"event": "step", "step": 120, "loss": 0.21}

The id of an event of a run is the number of its line in log.jsonl, so a browser that lost the
connection goes on where it was (Last-Event-ID). Comments keep a quiet stream alive.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool

from undiffuse.reading import parse_json
from undiffuse.web.jobs import Job
from undiffuse.web.limits import LINE

MEDIA = "text/event-stream"
EVERY = 0.25  # seconds between two looks
ALIVE = 10.0  # seconds between two comments
_PART = 2**18  # bytes that are read at once


async def events_of_run(
    log: Path, after: int, alive: Callable[[], bool], closing: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Yield each line of a log as an event, then "end" once nobody trains any more.

    A log that is written anew, as by a run that is resumed, is sent from its beginning, after an
    event "begin".

    Args:
        log: log.jsonl, which need not be there yet.
        after: the number of the last line that was seen.
        alive: whether the run is being trained.
        closing: whether the server ends.
    """
    place, number, rest, identity = 0, 0, b"", None
    quiet = time.monotonic()
    yield b": here\n\n"
    while not closing():
        going_on = await run_in_threadpool(alive)
        found, identity, begun = _read(log, place, identity)
        if begun:
            place, number, rest, after = 0, 0, b"", 0
            yield b"event: begin\ndata: {}\n\n"
        place += len(found)
        *lines, rest = (rest + found).split(b"\n")
        if len(rest) > LINE:
            rest = b""
        for line in lines:
            number += 1
            if number > after and (text := _event(line)):
                yield f"id: {number}\ndata: {text}\n\n".encode()
                quiet = time.monotonic()
        if len(found) == _PART:
            continue
        if not going_on:
            yield b"event: end\ndata: {}\n\n"
            return
        if time.monotonic() - quiet > ALIVE:
            yield b": alive\n\n"
            quiet = time.monotonic()
        await asyncio.sleep(EVERY)


def _read(log: Path, place: int, identity: Any) -> tuple[bytes, Any, bool]:
    """What a log holds from `place` on, which file it is, and whether it is another than before."""
    with suppress(OSError):
        handle = os.open(log, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            status = os.fstat(file.fileno())
            mine = (status.st_dev, status.st_ino)
            begun = identity is not None and (mine != identity or status.st_size < place)
            file.seek(0 if begun else place)
            return file.read(_PART), mine, begun
    return b"", identity, False


def _event(line: bytes) -> str:
    """A line as plain JSON in one line; "" for what is no event."""
    with suppress(ValueError):
        tree = parse_json(line)
        if isinstance(tree, dict) and isinstance(tree.get("event"), str):
            for name in ("path", "out"):
                tree.pop(name, None)
            return json.dumps(tree, allow_nan=False)
    return ""


async def events_of_job(
    job: Job, told: Callable[[Job], dict[str, Any]], closing: Callable[[], bool]
) -> AsyncIterator[bytes]:
    """Yield a job as often as it changes, with a picture of what is being drawn, to its end."""
    before, shown, quiet = "", None, time.monotonic()
    while not closing():
        job.watch()
        ended = job.ended.done()
        tree = told(job)
        if job.preview is not None and job.preview is not shown:
            shown = job.preview
            tree["preview"] = "data:image/png;base64," + base64.b64encode(shown).decode()
        compared = json.dumps({name: value for name, value in tree.items() if name != "seconds"})
        if compared != before:
            before = compared
            yield f"data: {json.dumps(tree)}\n\n".encode()
            quiet = time.monotonic()
        if ended:
            yield b"event: end\ndata: {}\n\n"
            return
        if time.monotonic() - quiet > ALIVE:
            yield b": alive\n\n"
            quiet = time.monotonic()
        await asyncio.sleep(EVERY / 2)
