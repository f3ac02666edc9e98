"""What a training step costs in compute, in reduction, in reading and in checkpoints, and what that
says of 8 devices.

    alone      one process on a core
    apart      two processes on two cores that know nothing of each other, each with its own batch
    together   two that train one model, with the same rows each       at least 0.95 of `apart`
    sharded    the same with weights that are shared out

Each process is pinned to a core and computes on one thread. What is compared is rows a second:
`apart` has what the two cores lose to each other, in caches and memory, so that what is left is the
cost of training together. Scenarios alternate over ROUNDS; the median step counts, and the best
round of each.

From the parts it is worked out which limit is met first at 8 devices, for the same rows on each and
for the same batch in all. A ring sends 2 (N - 1) / N of the gradients from each of N devices, so 8
take 1.75 times as long as 2; a checkpoint is written by one while all wait. Devices that compute
and send faster than these cores change the parts, not the rule: give --compute and --bandwidth to
work out theirs.

    python benchmarks/scaling.py [--width 32] [--batch 16] [--steps 40] [--rounds 2]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

SHAPE, ROWS, WARM_UP = (28, 28), 4096, 5
DEVICES, EVERY = 8, 500  # steps between checkpoints, by default
SCENARIOS = {"alone": 1, "apart": 2, "together": 2, "sharded": 2}
BOUND = 0.95


def timed(seconds: list[float], work: Callable[..., Any]) -> Callable[..., Any]:
    """`work`, whose seconds are kept."""

    def call(*given: Any, **options: Any) -> Any:
        began = time.perf_counter()
        try:
            return work(*given, **options)
        finally:
            seconds.append(time.perf_counter() - began)

    return call


def work(asked: argparse.Namespace) -> dict[str, Any]:
    """Train, in one process of a scenario, and say what its parts took, in seconds."""
    os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[asked.core]})
    import numpy as np
    import torch

    import undiffuse as ud
    from undiffuse.training import fit
    from undiffuse.training.fit import _Loop
    from undiffuse.training.loading import Loader
    from undiffuse.training.ranks import Ranks, joined

    torch.set_num_threads(1)
    data = ud.load(np.random.default_rng(0).integers(0, 256, (ROWS, *SHAPE), dtype=np.uint8))
    torch.manual_seed(0)
    model = ud.edm(data, width=asked.width)
    parts: dict[str, list[float]] = {"reading": [], "adding": [], "saving": []}
    Loader.take = timed(parts["reading"], Loader.take)
    Ranks.add = timed(parts["adding"], Ranks.add)
    _Loop._save = timed(parts["saving"], _Loop._save)
    ends: list[float] = []

    def stepped(event: dict[str, Any]) -> None:
        if event["event"] == "step":
            ends.append(time.perf_counter())

    with joined() as ranks, tempfile.TemporaryDirectory() as folder:
        options = {"precision": "float32", "device": "cpu", "samples": 0, "log_every": 1}
        options["parallel"] = "fsdp" if asked.scenario == "sharded" else "ddp"
        fit(
            model,
            data,
            out=Path(folder) / "run",
            steps=WARM_UP + asked.steps,
            batch=asked.batch * ranks.size,
            evaluate_every=10**9,
            on_event=stepped if ranks.first else None,
            **options,
        )
        flat = torch.zeros(model.parameter_count)
        adding: list[float] = []
        for _ in range(9 if ranks.size > 1 else 0):
            ranks.agree(0.0)
            timed(adding, ranks.add)([flat])
    steps = [b - a for a, b in pairwise(ends)][WARM_UP - 1 :]
    return {
        "step": statistics.median(steps) if steps else None,
        "reading": statistics.median(parts["reading"][WARM_UP:]),
        "waiting": statistics.median(parts["adding"][WARM_UP:]) if ranks.size > 1 else 0.0,
        "adding": min(adding, default=0.0),
        "saving": max(parts["saving"]),
        "parameters": model.parameter_count,
    }


def run(scenario: str, asked: argparse.Namespace) -> list[dict[str, Any]]:
    """What the processes of a scenario say, started at once."""
    with socket.socket() as room:
        room.bind(("127.0.0.1", 0))
        port = str(room.getsockname()[1])
    size, processes = SCENARIOS[scenario], []
    for rank in range(size):
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if scenario in ("together", "sharded"):
            environment |= {"RANK": str(rank), "WORLD_SIZE": str(size)}
            environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        words = [sys.executable, __file__, "--scenario", scenario, "--core", str(rank)]
        words += [f"--{name}={getattr(asked, name)}" for name in ("width", "batch", "steps")]
        processes.append(subprocess.Popen(words, env=environment, stdout=subprocess.PIPE))
    said = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        sys.exit(f"{scenario}: a process has failed")
    return [json.loads(one.splitlines()[-1]) for one in said]


def measured(asked: argparse.Namespace) -> dict[str, dict[str, float]]:
    """The best round of each scenario: rows a second, of all its processes, and its parts."""
    best: dict[str, dict[str, float]] = {}
    for turn in range(asked.rounds):
        for scenario in SCENARIOS:
            print(f"round {turn + 1} of {asked.rounds}: {scenario}", flush=True)
            told = run(scenario, asked)
            steps = [one["step"] for one in told if one["step"]]
            rate = sum(asked.batch / step for step in steps) * len(told) / len(steps)
            if scenario not in best or rate > best[scenario]["rate"]:
                best[scenario] = {**told[0], "rate": rate}
    return best


def limits(
    compute: float, adding: float, reading: float, saving: float, *, rows: str
) -> dict[str, float]:
    """Seconds of a step on 8 devices by part, from those on one and, of adding, on two.

    With the same batch in all (`rows` is "in all"), each computes an eighth of it.
    """
    share = 1 if rows == "on each" else DEVICES
    ring = 2 * (DEVICES - 1) / DEVICES  # of the gradients, against 1 by two
    return {
        "compute": compute / share,
        "reduction": adding * ring,
        "reading": reading / share,
        "checkpoints": saving / EVERY,
    }


ADVICE = {
    "reduction": "more rows a step (--training.batch): gradients are sent once a step, in however "
    "many parts it is computed (--training.accumulate)",
    "reading": "more cores for each process, or data that need no decoding",
    "checkpoints": "fewer of them (--checkpoint-every)",
}


def main(asked: argparse.Namespace) -> int:
    """Run all scenarios and print the tables; 1 if the bound is missed."""
    if asked.scenario:
        print(json.dumps(work(asked)))
        return 0
    if len(os.sched_getaffinity(0)) < max(SCENARIOS.values()):
        sys.exit("scaling: two cores are needed; run it where there are, without taskset.")
    best = measured(asked)
    apart, together = best["apart"], best["together"]
    print(f"\nU-Net of width {asked.width}, {apart['parameters']:,.0f} parameters, ", end="")
    print(f"{asked.batch} rows a step in each process\n")
    print("scenario  rows/s  step     waiting for others  reading  checkpoint")
    for name, one in best.items():
        print(
            f"{name:9} {one['rate']:6.1f}  {1e3 * one['step']:5.1f} ms  "
            f"{1e3 * one['waiting']:5.2f} ms            {1e3 * one['reading']:5.2f} ms"
            f"  {1e3 * one['saving']:5.0f} ms"
        )
    ratio = together["rate"] / apart["rate"]
    print(f"\ntogether / apart: {ratio:.3f}, at least {BOUND}: {'yes' if ratio >= BOUND else 'NO'}")
    print(f"sharded / apart:  {best['sharded']['rate'] / apart['rate']:.3f}")
    size = 4 * apart["parameters"]
    compute = asked.compute or best["alone"]["step"]
    adding = size / asked.bandwidth if asked.bandwidth else together["adding"]
    speed = f"{1e3 * adding:.2f} ms, {size / adding / 1e9:.2f} GB/s"
    print(f"\nadding {size / 1e6:.1f} MB by two: {speed}")
    for rows in ("on each", "in all"):
        found = limits(
            compute, adding, best["alone"]["reading"], best["alone"]["saving"], rows=rows
        )
        step = sum(found.values())
        first = max(ADVICE, key=lambda part: found[part])
        shares = ", ".join(f"{part} {value / step:.1%}" for part, value in found.items())
        print(f"\n{DEVICES} devices, {asked.batch} rows {rows}: {shares}")
        print(f"  met first: {first}; {ADVICE[first]}.")
    return 0 if ratio >= BOUND else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--width", type=int, default=32, help="of the U-Net, default 32")
    parser.add_argument("--batch", type=int, default=16, help="rows of each process, default 16")
    parser.add_argument("--steps", type=int, default=40, help="that are timed, default 40")
    parser.add_argument("--rounds", type=int, default=2, help="of all scenarios, default 2")
    parser.add_argument("--compute", type=float, help="seconds of a step on another device")
    parser.add_argument("--bandwidth", type=float, help="bytes a second between two such devices")
    parser.add_argument("--scenario", choices=SCENARIOS, help=argparse.SUPPRESS)
    parser.add_argument("--core", type=int, default=0, help=argparse.SUPPRESS)
    sys.exit(main(parser.parse_args()))
