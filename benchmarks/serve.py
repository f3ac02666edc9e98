"""What the service costs beyond the call: drawing one digit by `undiffuse serve` and by a loop.

    call       `model.sample(1, seed=i)` in this process
    request    POST /api/v1/runs/NAME/sample {"n": 1, "seed": i} to a server of its own process,
               over one connection; its answer has to be the bytes of the call's array
    together   as many requests a second as 8 clients get

Calls and requests alternate (A B A B ...), so that both meet the same machine. The server may add
at most 10 ms to the median.

    python benchmarks/serve.py [--run runs/digits] [--pairs 300]
"""

from __future__ import annotations

import argparse
import http.client
import io
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import torch

import undiffuse as ud

WARM_UP, CLIENTS, BOUND = 10, 8, 0.010
SECONDS = 10.0


def started(folder: Path) -> tuple[subprocess.Popen[str], str, str]:
    """A server on a folder of runs: its process, host and port, and its token."""
    words = ["serve", str(folder), "--port", "0", "--json", "--quiet", "--device", "cpu"]
    server = subprocess.Popen(
        [sys.executable, "-m", "undiffuse", *words],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert server.stdout is not None
    told = json.loads(server.stdout.readline())
    return server, told["base"].removeprefix("http://"), told["token"]


def request(one: http.client.HTTPConnection, path: str, token: str, seed: int) -> bytes:
    """The bytes of one digit; asks again where the queue is full."""
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    body = json.dumps({"n": 1, "seed": seed, "form": "npy"})
    while True:
        one.request("POST", path, body, headers)
        answer = one.getresponse()
        content = answer.read()
        if answer.status != 429:
            assert answer.status == 200, content
            return content
        time.sleep(int(answer.headers["retry-after"]))


def percentile(seconds: list[float], share: int) -> float:
    return statistics.quantiles(seconds, n=100, method="inclusive")[share - 1]


def alternated(run: Path, host: str, token: str, pairs: int) -> tuple[list[float], list[float]]:
    """Seconds of calls and of requests, one after the other."""
    model, one = ud.open(run), http.client.HTTPConnection(host)
    path = f"/api/v1/runs/{run.name}/sample"
    calls, requests = [], []
    for seed in range(-WARM_UP, pairs):
        began = time.perf_counter()
        drawn = model.sample(1, seed=abs(seed))
        between = time.perf_counter()
        content = request(one, path, token, abs(seed))
        ended = time.perf_counter()
        assert np.array_equal(np.load(io.BytesIO(content)), drawn)
        if seed >= 0:
            calls.append(between - began)
            requests.append(ended - between)
    return calls, requests


def together(run: Path, host: str, token: str) -> float:
    """Requests a second that several clients get."""
    end, done = time.perf_counter() + SECONDS, [0] * CLIENTS

    def client(number: int) -> None:
        one = http.client.HTTPConnection(host)
        while time.perf_counter() < end:
            request(one, f"/api/v1/runs/{run.name}/sample", token, done[number])
            done[number] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(done) / SECONDS


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--run", type=Path, default=Path("runs/digits"))
    parser.add_argument("--pairs", type=int, default=300)
    given = parser.parse_args()
    torch.set_num_threads(1)
    server, host, token = started(given.run.absolute().parent)
    try:
        calls, requests = alternated(given.run.absolute(), host, token, given.pairs)
        rate = together(given.run, host, token)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
    print(f"{'':<10}{'p50':>10}{'p95':>10}{'a second':>12}")
    for name, seconds in (("call", calls), ("request", requests)):
        p50, p95 = percentile(seconds, 50), percentile(seconds, 95)
        print(f"{name:<10}{1e3 * p50:>7.1f} ms{1e3 * p95:>7.1f} ms{1 / p50:>12.1f}")
    added = statistics.median(b - a for a, b in zip(calls, requests, strict=True))
    print(f"{CLIENTS} clients{'':>21}{rate:>12.1f}")
    held = "holds" if added <= BOUND else "FAILS"
    print(f"added at the median: {1e3 * added:.1f} ms, at most {1e3 * BOUND:.0f} ms: {held}")
    sys.exit(added > BOUND)


if __name__ == "__main__":
    main()
