"""A real server in a forked process: its address, its token, and how to end it."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx

TOKEN = "a-token-of-the-tests-0123456789"
BEARER = {"authorization": f"Bearer {TOKEN}"}


@dataclass
class Serving:
    """A server that listens on a free port; what it prints is in `out` and `err`."""

    process: int
    base: str
    out: Path
    err: Path

    def client(self, **options: Any) -> httpx.Client:
        """A client that knows the token."""
        return httpx.Client(base_url=self.base, headers=BEARER, timeout=60, **options)

    def memory(self) -> int:
        """Bytes that it holds in memory."""
        pages = Path(f"/proc/{self.process}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def end(self, number: signal.Signals) -> int:
        """Send a signal, and return how the process ended."""
        os.kill(self.process, number)
        _, status = os.waitpid(self.process, 0)
        return os.waitstatus_to_exitcode(status)


def serve(folder: Path, place: Path, *words: object) -> Serving:
    """Start `undiffuse serve` on a folder of runs; `place` is for what it prints."""
    import undiffuse.cli.serve
    import undiffuse.web.listening  # noqa: F401 - so that the child has it
    from undiffuse.cli.main import main

    place.mkdir(parents=True, exist_ok=True)
    out, err = place / "out.txt", place / "err.txt"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            for number, file in ((1, out), (2, err)):
                os.dup2(os.open(file, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), number)
            sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
            os.environ["UNDIFFUSE_TOKEN"] = TOKEN
            given = ["serve", folder, "--port", 0, "--json", "--device", "cpu", *words]
            code = main([str(word) for word in given])
        finally:
            for stream in (sys.stdout, sys.stderr):
                with suppress(OSError, ValueError):
                    stream.flush()
            os._exit(code)
    for _ in range(3000):
        if out.exists() and (text := out.read_text()).endswith("\n"):
            return Serving(child, json.loads(text)["base"], out, err)
        time.sleep(0.01)
    raise AssertionError(err.read_text())


def wait_for(what: Any, seconds: float = 200.0) -> Any:
    """Return what a function returns, as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("it did not come to pass")
