"""The service within this process, and a real server in a forked one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2 as httpx
import numpy as np
import pandas as pd
from fastapi.testclient import TestClient

from undiffuse.web.app import make_app
from undiffuse.web.service import Service, Settings

TOKEN = "a-token-of-the-tests-0123456789"
BEARER = {"authorization": f"Bearer {TOKEN}"}


BASE = "http://127.0.0.1:8000"


def table(rows: int = 60) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "age": rng.integers(20, 60, rows),
            "height": rng.normal(170, 10, rows).round(1),
            "colour": rng.choice(["red", "green"], rows),
        }
    )


def copied(trained: Path, place: Path) -> Path:
    """A copy of the folder of runs of its own; the data stay where they are."""
    return Path(shutil.copytree(trained / "runs", place / "runs"))


def client_of(folder: Path, **settings: Any) -> TestClient:
    service = Service(Settings(folder=folder, device="cpu", **settings))
    app = make_app(service, token=TOKEN)
    return TestClient(app, base_url=BASE, headers=BEARER, follow_redirects=False)


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
