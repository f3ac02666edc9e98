"""All yardsticks of 5,000 samples against 10,000 real images of 28 x 28, beside torchmetrics and
prdc in one run.

Images are made up (smooth random fields, 8 bits); what is timed does not depend on what they show.
First like with like, on the raw 784 pixels, each as a process of its own so that its peak of
resident memory is its own: the Frechet distance, the kernel distance on one subset of full size
(5,000 against 5,000, as the peer needs), and precision, recall, density and coverage; the best of
three turns, ours and the peer's one after the other. Then all of them with their intervals, floors
and memorization on the features of an encoder, whose fit is in the time; once.

    python benchmarks/metrics.py [--quick] [--threads 2]

Beside the seconds stands the processor time of both threads: it hardly depends on what else the
machine does, the seconds do, and the load average says how much that was. The exit code is 1 where
a figure of ours takes longer than the peer's or all of them more than 60 seconds.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch

K = 5
LIMIT = 60.0  # seconds
TURNS = 3


def images(n: int, seed: int) -> torch.Tensor:
    """(n, 1, 28, 28) float32 in [-1, 1]: fields of 7 x 7 random values, enlarged, in 256 steps."""
    coarse = torch.randn(n, 1, 7, 7, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, (28, 28), mode="bicubic", align_corners=False)
    return (fine.sigmoid() * 255).round() / 127.5 - 1


def _pixels(n: int, m: int) -> tuple[torch.Tensor, torch.Tensor]:
    return images(n, 0).double().flatten(1), images(m, 1).double().flatten(1)


class Same(torch.nn.Module):
    """Features as they are, for metrics that insist on a network."""

    num_features = 784

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The rows."""
        return x


def frechet_ours(n: int, m: int) -> object:
    from undiffuse.evaluation.metrics import frechet

    real, fake = _pixels(n, m)
    return lambda: frechet(real, fake)


def frechet_peer(n: int, m: int) -> object:
    from torchmetrics.image.fid import FrechetInceptionDistance

    return _torchmetrics(
        FrechetInceptionDistance(feature=Same(), normalize=True, input_img_size=(1, 1, 784)), n, m
    )


def kernel_ours(n: int, m: int) -> object:
    from undiffuse.evaluation.metrics import kernel_distance

    real, fake = _pixels(m, m)
    return lambda: kernel_distance(real, fake)[0]


def kernel_peer(n: int, m: int) -> object:
    from torchmetrics.image.kid import KernelInceptionDistance

    return _torchmetrics(
        KernelInceptionDistance(feature=Same(), subsets=1, subset_size=m, normalize=True), m, m
    )


def _torchmetrics(metric: torch.nn.Module, n: int, m: int) -> Callable[[], float]:
    real, fake = _pixels(n, m)
    metric.set_dtype(torch.float64)

    def compute() -> float:
        metric.reset()
        metric.update(real, real=True)
        metric.update(fake, real=False)
        value = metric.compute()
        return float(value[0] if isinstance(value, tuple) else value)

    return compute


def manifold_ours(n: int, m: int) -> object:
    from undiffuse.evaluation.metrics import manifold

    real, fake = _pixels(n, m)
    return lambda: manifold(real, fake, K)[0].tolist()


def manifold_peer(n: int, m: int) -> object:
    from prdc import compute_prdc

    real, fake = (x.numpy() for x in _pixels(n, m))
    return lambda: list(compute_prdc(real, fake, nearest_k=K).values())


def everything_ours(n: int, m: int) -> object:
    from undiffuse.evaluation.features.trained import Trained
    from undiffuse.evaluation.metrics import (
        frechet_figure,
        kernel_figure,
        manifold_figures,
        match_features,
        memorization,
    )

    training, real, fake = images(n, 2), images(n, 0), images(m, 1)

    def compute() -> float:
        features = Trained(training)
        known, held, made = features(training), features(real), features(fake)
        sets = match_features(held, made)
        figures = [frechet_figure(sets), kernel_figure(sets), manifold_figures(sets, K)]
        return memorization(known, held, made).p + len(figures)

    return compute


SIZES = {False: (10_000, 5_000), True: (1000, 500)}  # by --quick
PARTS = {
    "frechet": (frechet_ours, frechet_peer),
    "kernel": (kernel_ours, kernel_peer),
    "manifold": (manifold_ours, manifold_peer),
    "everything": (everything_ours, None),
}


def measure(part: str, side: int, options: argparse.Namespace) -> dict:
    """Seconds, processor seconds, peak resident memory in MB above inputs and imports: in a process
    of its own.
    """
    command = [
        sys.executable,
        __file__,
        "--part",
        part,
        "--side",
        str(side),
        "--threads",
        str(options.threads),
    ]
    done = subprocess.run(
        command + ["--quick"] * options.quick, capture_output=True, text=True, check=False
    )
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1:]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def alone(options: argparse.Namespace) -> None:
    """What `measure` runs."""
    torch.set_num_threads(options.threads)
    maker = PARTS[options.part][options.side]
    assert maker is not None
    compute = maker(*SIZES[options.quick])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started, used = time.perf_counter(), time.process_time()
    value = compute()  # type: ignore[operator]
    found = {
        "seconds": time.perf_counter() - started,
        "cpu": time.process_time() - used,
        "value": value,
    }
    print(
        json.dumps(
            {**found, "mb": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024}
        )
    )


def best(part: str, options: argparse.Namespace) -> list[dict]:
    """The fastest of ours and of the peer's turns, which alternate; {} where there is no peer."""
    peer = PARTS[part][1] is not None
    turns = [
        [measure(part, side, options) for side in range(1 + peer)]
        for _ in range(TURNS if peer else 1)
    ]
    return [
        min(side, key=lambda found: found.get("seconds", float("inf"))) for side in zip(*turns)
    ] + [{}] * (not peer)


def main() -> int:
    """Print the table; 1 if a bound does not hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--part", choices=PARTS)
    parser.add_argument("--side", type=int, default=0)
    options = parser.parse_args()
    if options.part:
        alone(options)
        return 0
    broken = False
    print(
        "{1:,} samples, {0:,} real images;".format(*SIZES[options.quick]),
        f"{options.threads} threads;",
        end=" ",
    )
    print("load average {:.1f}, {:.1f}, {:.1f}".format(*os.getloadavg()))
    columns = ("figure", "ours, s", "peer, s", "ours, CPU s", "peer, CPU s", "ours, MB", "peer, MB")
    print(f"| {' | '.join(columns)} |\n{'|---' * len(columns)}|")
    for part in PARTS:
        ours, theirs = best(part, options)
        cells = [
            f"{side.get(key, float('nan')):.3g}"
            for key in ("seconds", "cpu", "mb")
            for side in (ours, theirs)
        ]
        print(
            f"| {part} | {' | '.join(cells)} |",
            *(side["failed"] for side in (ours, theirs) if "failed" in side),
        )
        broken |= ours.get("seconds", float("inf")) > theirs.get("seconds", LIMIT)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
