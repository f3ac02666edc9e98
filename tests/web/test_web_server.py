"""A real server under load: every request ends, with the right bytes, and memory stays."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
from serving import TOKEN, Serving, copied, serve, wait_for

from undiffuse.cli.main import main

AT_ONCE = 32
GROWTH = 50 * 10**6  # bytes
PAGE = Path(__file__).parents[2] / "docs" / "service.md"


@pytest.fixture(scope="module")
def server(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    place = tmp_path_factory.mktemp("server")
    made = serve(copied(trained, place), place, "--data", trained / "data")
    yield made
    assert made.end(signal.SIGINT) == 0
    assert "Traceback" not in made.err.read_text()


def drawn(trained: Path, out: Path, **options: Any) -> bytes:
    """The bytes of `undiffuse sample`."""
    words = [word for name, value in options.items() for word in (f"--{name}", str(value))]
    words = [word.replace("--n", "-n") if word == "--n" else word for word in words]
    run = str(trained / "runs/rows")
    assert main(["sample", run, "--out", str(out), "--quiet", "--device", "cpu", *words]) == 0
    return out.read_bytes()


@pytest.mark.parametrize("requests", [150, pytest.param(1000, marks=pytest.mark.faults)])
def test_many_requests_end_with_the_bytes_of_sample(
    server: Serving, trained: Path, tmp_path: Path, requests: int
) -> None:
    """At 32 at a time each ends 200 or 429, and honouring Retry-After all end 200."""
    wanted = {
        seed: drawn(trained, tmp_path / f"{seed}.npy", n=1, steps=1, seed=seed) for seed in range(4)
    }
    counts: dict[int, int] = {}
    lock = threading.Lock()
    with server.client(limits=httpx.Limits(max_connections=AT_ONCE)) as client:

        def one(number: int) -> None:
            asked = {"n": 1, "steps": 1, "seed": number % 4, "form": "npy"}
            for _ in range(100):
                answer = client.post("/api/v1/runs/rows/sample", json=asked)
                with lock:
                    counts[answer.status_code] = counts.get(answer.status_code, 0) + 1
                if answer.status_code == 200:
                    assert answer.content == wanted[number % 4]
                    return
                assert answer.status_code == 429
                assert answer.headers["content-type"] == "application/problem+json"
                time.sleep(int(answer.headers["retry-after"]))
            raise AssertionError("never had its turn")

        one(0)
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(one, range(64)))
            before = server.memory()
            list(pool.map(one, range(requests)))
        grown = server.memory() - before
    assert set(counts) == {200, 429}, counts
    assert counts[200] == requests + 65
    assert grown < GROWTH


def test_a_client_that_leaves_frees_its_place(server: Serving) -> None:
    """17 that ask for a long drawing and leave; then there is a place, and nothing is drawn."""
    body = b'{"n": 100000, "steps": 1000, "form": "npy"}'
    head = f"POST /api/v1/runs/rows/sample HTTP/1.1\r\nHost: {server.base[7:]}\r\n"
    head += f"Authorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(body)}\r\n\r\n"
    host, port = server.base[7:].split(":")
    sockets = []
    for _ in range(17):
        one = socket.create_connection((host, int(port)))
        one.sendall(head.encode() + body)
        sockets.append(one)
    with server.client() as client:
        asked = {"n": 1, "steps": 1, "form": "npy"}

        def answered() -> int:
            return client.post("/api/v1/runs/rows/sample", json=asked).status_code

        busy = {"prefer": "respond-async"}

        def full() -> bool:
            answer = client.post("/api/v1/runs/rows/sample", json=asked, headers=busy)
            if answer.status_code == 202:
                client.delete(answer.headers["location"])
            return answer.status_code == 429

        wait_for(full)
        for one in sockets:
            one.close()
        wait_for(lambda: answered() == 200, 20)
        begun = time.monotonic()
        assert answered() == 200
        assert time.monotonic() - begun < 5


def test_several_watch_the_same_and_none_holds_up_the_end(trained: Path, tmp_path: Path) -> None:
    made = serve(copied(trained, tmp_path), tmp_path)
    from undiffuse.lock import Lock

    lock = Lock(tmp_path / "runs/rows", "rows")
    with made.client() as client, client.stream("GET", "/api/v1/runs/rows/events") as one, \
            client.stream("GET", "/api/v1/runs/rows/events") as other:  # fmt: skip
        wanted = (trained / "runs/rows/log.jsonl").read_text().count("\n")
        for stream in (one, other):
            lines = stream.iter_lines()
            seen = 0
            while seen < wanted:
                seen += next(lines).startswith("id: ")
        begun = time.monotonic()
        assert made.end(signal.SIGTERM) == 0
        assert time.monotonic() - begun < 4
    lock.release()
    assert not list(Path("/tmp").glob(f"undiffuse-serve-*/{made.process}"))


# --- the page of the documentation


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)


def adapted(text: str, server: Serving) -> str:
    return text.replace("http://127.0.0.1:8000", server.base).replace("runs/digits", "runs/rows")


@pytest.mark.parametrize("number", range(len(blocks("sh"))))
def test_the_examples_with_curl_run(
    server: Serving, trained: Path, tmp_path: Path, number: int
) -> None:
    text = adapted(blocks("sh")[number], server)
    if "undiffuse serve" in text:
        pytest.skip("starts the server")
    (tmp_path / "new.npy").write_bytes((trained / "data/rows.npy").read_bytes())
    (tmp_path / "torn.npy").write_bytes((trained / "data/rows.npy").read_bytes())
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "UNDIFFUSE_TOKEN": TOKEN},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert '"status":' not in done.stdout  # of problem details
    assert '"state":"failed"' not in done.stdout.replace(" ", "")


def test_the_ten_lines_of_python_run(server: Serving, tmp_path: Path, trained: Path) -> None:
    (text,) = [adapted(block, server) for block in blocks("python")]
    assert len([line for line in text.splitlines() if line.strip()]) <= 12
    done = subprocess.run(
        [sys.executable, "-c", text],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "UNDIFFUSE_TOKEN": TOKEN},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    asked = drawn(trained, tmp_path / "wanted.npy", n=64, seed=1)
    assert (tmp_path / "samples.npy").read_bytes() == asked
