"""All yardsticks of 5,000 samples against 10,000 real images of 28 x 28, beside torchmetrics and prdc in one run.

Images are made up (smooth random fields, 8 bits); what is timed does not depend on what they show. First like with
like, on the raw 784 pixels, each as a process of its own so that its peak of resident memory is its own: the Frechet
distance, the kernel distance on one subset of full size (5,000 against 5,000, as the peer needs), and precision,
recall, density and coverage. Then all of them with their intervals, floors and memorization on the features of an
encoder, whose fit is in the time.

    python benchmarks/metrics.py [--quick]

The exit code is 1 where a figure of ours takes longer than the peer's or all of them more than 60 seconds.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch

K = 5
LIMIT = 60.0  # seconds


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

    return _torchmetrics(FrechetInceptionDistance(feature=Same(), normalize=True, input_img_size=(1, 1, 784)), n, m)


def kernel_ours(n: int, m: int) -> object:
    from undiffuse.evaluation.metrics import kernel_distance

    real, fake = _pixels(m, m)
    return lambda: kernel_distance(real, fake)[0]


def kernel_peer(n: int, m: int) -> object:
    from torchmetrics.image.kid import KernelInceptionDistance

    return _torchmetrics(KernelInceptionDistance(feature=Same(), subsets=1, subset_size=m, normalize=True), m, m)


def _torchmetrics(metric: torch.nn.Module, n: int, m: int) -> Callable[[], float]:
    real, fake = _pixels(n, m)
    metric.set_dtype(torch.float64)

    def compute() -> float:
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
    from undiffuse.evaluation.features_trained import Trained
    from undiffuse.evaluation.metrics import frechet_figure, kernel_figure, manifold_figures, match, memorization

    training, real, fake = images(n, 2), images(n, 0), images(m, 1)

    def compute() -> float:
        features = Trained(training)
        known, held, made = features(training), features(real), features(fake)
        sets = match(held, made)
        figures = [frechet_figure(sets), kernel_figure(sets), *manifold_figures(sets, K).values()]
        return memorization(known, held, made).p + len(figures)

    return compute


PARTS = {
    "frechet": (frechet_ours, frechet_peer),
    "kernel": (kernel_ours, kernel_peer),
    "manifold": (manifold_ours, manifold_peer),
    "everything": (everything_ours, None),
}


def measure(part: str, side: int, sizes: tuple[int, int]) -> dict:
    """Seconds, peak resident memory in MB above inputs and imports, and the value, in a process of its own."""
    command = [sys.executable, __file__, "--part", part, "--side", str(side), "--sizes", *map(str, sizes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1:]}
    return json.loads(done.stdout.strip().splitlines()[-1])


def alone(part: str, side: int, sizes: tuple[int, int]) -> None:
    """What `measure` runs."""
    torch.set_num_threads(2)
    maker = PARTS[part][side]
    assert maker is not None
    compute = maker(*sizes)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.perf_counter()
    value = compute()  # type: ignore[operator]
    seconds = time.perf_counter() - started
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    print(json.dumps({"seconds": seconds, "mb": peak, "value": value}))


def main() -> int:
    """Print the table; 1 if a bound does not hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows")
    parser.add_argument("--part")
    parser.add_argument("--side", type=int)
    parser.add_argument("--sizes", type=int, nargs=2)
    chosen = parser.parse_args()
    if chosen.part:
        alone(chosen.part, chosen.side, tuple(chosen.sizes))
        return 0
    sizes, broken = (1000, 500) if chosen.quick else (10_000, 5_000), False
    print("| figure | ours, s | peer, s | ours, MB | peer, MB |\n|---|---|---|---|---|")
    for part, (_, peer) in PARTS.items():
        ours = measure(part, 0, sizes)
        theirs = measure(part, 1, sizes) if peer else {}
        cells = [f"{side.get(key, float('nan')):.3g}" for key in ("seconds", "mb") for side in (ours, theirs)]
        print(
            f"| {part} | " + " | ".join(cells) + " |", *(side["failed"] for side in (ours, theirs) if "failed" in side)
        )
        broken |= ours.get("seconds", float("inf")) > theirs.get("seconds", LIMIT)
    return int(broken)


if __name__ == "__main__":
    sys.exit(main())
