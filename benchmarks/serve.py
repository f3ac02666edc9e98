"""What the service costs beyond the call: drawing one digit by `undiffuse serve` and by a loop.

    call       `model.sample(1, seed=i)` in this process
    request    POST /api/v1/runs/NAME/sample {"n": 1, "seed": i} to a server of its own process,
               over one connection; its answer has to be the bytes of the call's array
    together   as many requests a second as 8 clients get

Calls and requests alternate (A B A B ...), so that both meet the same machine. The server may add
at most 10 ms to the median. Processor time is that of the call, and of the server for a request:
on a machine that does other things too it says what the clock does not.

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
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

import undiffuse as ud

WARM_UP, CLIENTS, BOUND = 10, 8, 0.010
SECONDS = 5.0


@dataclass(frozen=True)
class Measured:
    """Seconds of each call and request, and of the processor for one of each."""

    calls: list[float]
    requests: list[float]
    call: float
    request: float


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


def processor(process: int) -> float:
    """Seconds of processor time that a process has taken."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def alternated(run: Path, host: str, token: str, pairs: int, process: int) -> Measured:
    """Calls and requests, one after the other."""
    model, one = ud.open(run), http.client.HTTPConnection(host)
    path = f"/api/v1/runs/{run.name}/sample"
    calls, requests = [], []
    own, before = 0.0, 0.0
    for seed in range(-WARM_UP, pairs):
        if seed == 0:
            before = processor(process)
        began, taken = time.perf_counter(), time.process_time()
        drawn = model.sample(1, seed=abs(seed))
        between, took = time.perf_counter(), time.process_time() - taken
        content = request(one, path, token, abs(seed))
        ended = time.perf_counter()
        assert np.array_equal(np.load(io.BytesIO(content)), drawn)
        if seed >= 0:
            calls.append(between - began)
            requests.append(ended - between)
            own += took
    return Measured(calls, requests, own / pairs, (processor(process) - before) / pairs)


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
        run = given.run.absolute()
        found = alternated(run, host, token, given.pairs, server.pid)
        rate = together(given.run, host, token)
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
    print(f"{'':<10}{'p50':>10}{'p95':>10}{'a second':>12}{'processor':>14}")
    rows = (("call", found.calls, found.call), ("request", found.requests, found.request))
    for name, seconds, own in rows:
        p50, p95 = percentile(seconds, 50), percentile(seconds, 95)
        times = f"{1e3 * p50:>7.1f} ms{1e3 * p95:>7.1f} ms{1 / p50:>12.1f}"
        print(f"{name:<10}{times}{1e3 * own:>11.1f} ms")
    added = percentile(found.requests, 50) - percentile(found.calls, 50)
    print(f"{CLIENTS} clients{'':>21}{rate:>12.1f}")
    print(f"added of the processor: {1e3 * (found.request - found.call):.1f} ms")
    held = "holds" if added <= BOUND else "FAILS"
    print(f"added at the median: {1e3 * added:.1f} ms, at most {1e3 * BOUND:.0f} ms: {held}")
    sys.exit(added > BOUND)


if __name__ == "__main__":
    main()
