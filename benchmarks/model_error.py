"""The model's own error on known densities: the factor of `own_error`, its coverage and its width.

    python benchmarks/model_error.py --densities 16 --rows 64

trains a small model on each of a set of mixtures, to ends between barely and well trained, and
scores fresh rows of theirs, whose true log-density is known. The factor that holds 90 % of the
errors is fitted on the even mixtures; coverage and width are those of the odd ones.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

import undiffuse as ud
from undiffuse.diffusion import EDM
from undiffuse.diffusion.oracle import Mixture
from undiffuse.evaluation.scores.own_error import FACTOR, WithOwnError
from undiffuse.run import Run

RATE = 0.9
STEPS, ROWS = (100, 200, 400, 800), (300, 1000, 3000)


def known(number: int) -> tuple[Mixture, int, int]:
    """A mixture of 1 to 5 components in 2 to 6 dimensions, training rows and steps."""
    rng = np.random.default_rng([number, 7])
    dimensions, components = int(rng.integers(2, 7)), int(rng.integers(1, 6))
    mean = torch.from_numpy(rng.normal(size=(components, dimensions)))
    std = torch.from_numpy(rng.uniform(0.15, 0.8, size=(components, dimensions)))
    weight = torch.from_numpy(rng.normal(size=components))
    return Mixture(EDM(), mean, std, weight), int(rng.choice(ROWS)), int(rng.choice(STEPS))


def measure(number: int, rows: int, folder: Path) -> dict[str, np.ndarray]:
    """Return the true errors of one model's scores, and the estimates for a factor of 1."""
    law, count, steps = known(number)
    generator = torch.Generator().manual_seed(number)
    training, fresh = law.draw(count, generator).float(), law.draw(rows, generator).float()
    options = {"batch": 128, "device": "cpu", "precision": "float32", "samples": 0}
    options["checkpoint_every"] = steps // 4  # snapshots at a quarter and a half
    model = ud.edm(width=48, depth=2)
    model.fit(training.numpy(), steps=steps, out=folder / str(number), **options)
    run = Run(folder / str(number))
    model, earlier = run.model(), run.weaker()
    found = WithOwnError(model, earlier).likelihood_rows(fresh, how=ud.Density())
    assert found.model_error is not None
    return {
        "error": (found.nats - law.log_prob(fresh.double())).abs().numpy(),
        "estimate": found.model_error.numpy() / FACTOR,
    }


def main() -> None:
    """Print the factor, its coverage and its width."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--densities", type=int, default=16)
    parser.add_argument("--rows", type=int, default=64)
    options = parser.parse_args()
    found, began = [], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.densities):
            one = measure(number, options.rows, Path(folder))
            law, count, steps = known(number)
            components, dimensions = law.mean.shape
            print(
                f"{number:3d}  {dimensions} dimensions  {components} components  {count:5,} rows  "
                f"{steps:4,} steps  error {one['error'].mean():.3f}  "
                f"sum of differences {one['estimate'].mean():.3f}  "
                f"ratio at 90 % {np.quantile(one['error'] / one['estimate'], RATE):.2f}  "
                f"{time.perf_counter() - began:.0f} s",
                flush=True,
            )
            found.append(one)
    fitted, other = found[::2], found[1::2]
    ratios = np.concatenate([one["error"] / one["estimate"] for one in fitted])
    factor = float(np.quantile(ratios, RATE))
    held = [float(np.mean(one["error"] <= factor * one["estimate"])) for one in other]
    width = np.concatenate([factor * one["estimate"] for one in other])
    error = np.concatenate([one["error"] for one in other])
    print(f"factor {factor:.2f}, fitted on {len(ratios):,} rows of {len(fitted)} densities")
    print(
        f"on {len(error):,} rows of {len(other)} others: coverage {np.mean(held):.1%} (of single "
        f"densities {min(held):.0%} to {max(held):.0%}); half width {np.median(width):.3f} nats "
        f"(median), true error {np.median(error):.3f} (median), {np.quantile(error, RATE):.3f} "
        "(90 %)"
    )


if __name__ == "__main__":
    main()
