"""Every preset's learned density beside the true one, on points in the plane whose density is
known.

For each toy and preset: train a perceptron for `--steps`, then on held-out points report the mean
true log-density, the mean log-density of the model's probability-flow ODE, and their difference:
what the model loses. In expectation it is the divergence KL(truth || model), at least 0; the
standard error is that of the mean of the differences, row by row, so the spread of the data itself
is not in it.

    python benchmarks/densities.py [--steps 4000] [--rows 1000] [--toys rings,gaussians8] [--presets
    edm,vp] [--out F]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import undiffuse as ud
from undiffuse.data.toys import DENSITIES, draw_toy, toy_log_density
from undiffuse.models import PRESETS
from undiffuse.models.likelihood import Density

BOUND = 0.05  # nats
SYSTEMS = [
    name
    for name, make in PRESETS.items()
    if isinstance(model := make(), ud.Diffusion) and not model.one_level
]
HEADINGS = (
    "toy",
    "preset",
    "truth",
    "model",
    "lost",
    "s.e.",
    "evals",
    "steps",
    "train s",
    "score s",
)


def measure(toy: str, preset: str, *, training: int, rows: int, width: int) -> dict[str, Any]:
    """One line of the table."""
    data = ud.load(toy)
    torch.manual_seed(0)
    model = PRESETS[preset](data, width=width)
    started = time.perf_counter()
    taken = ud.fit(model, data, steps=training, samples=0)
    trained = time.perf_counter()
    points = draw_toy(toy, rows, seed=1_000_003)  # of the same law, and none of the training rows
    truth, found, evaluations = toy_log_density(toy, points), [], []
    for first in range(0, rows, 250):
        part = torch.from_numpy(points[first : first + 250])
        likelihood = model.likelihood_rows(part, first=first, how=Density(tolerance=1e-4))
        found.append(likelihood.nats.numpy())
        evaluations.append(likelihood.evaluations)
    lost = truth - np.concatenate(found)
    known = np.isfinite(lost)
    return {
        "toy": toy,
        "preset": preset,
        "truth": float(truth.mean()),
        "model": float(np.concatenate(found).mean()),
        "lost": float(lost[known].mean()),
        "stderr": float(lost[known].std() / np.sqrt(known.sum())),
        "not_finite": int((~known).sum()),
        "evaluations": float(np.mean(evaluations)),
        "steps": taken.step,
        "train_seconds": trained - started,
        "score_seconds": time.perf_counter() - trained,
    }


def line(row: dict[str, Any]) -> str:
    """A row of the Markdown table."""
    numbers = (row["truth"], row["model"], row["lost"], row["stderr"])
    cells = [
        row["toy"],
        row["preset"],
        *(f"{x:.3f}" for x in numbers),
        f"{row['evaluations']:.0f}",
        f"{row['steps']}",
    ]
    cells += [f"{row['train_seconds']:.0f}", f"{row['score_seconds']:.0f}"]
    mark = "" if row["lost"] < BOUND and not row["not_finite"] else f" (above {BOUND})"
    return "| " + " | ".join(cells) + f" |{mark}"


def main() -> None:
    """Print the table as it comes, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=4000, help="of training")
    parser.add_argument("--width", type=int, default=128, help="of the perceptron")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--toys", default=",".join(DENSITIES))
    parser.add_argument("--presets", default=",".join(SYSTEMS))
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    print("| " + " | ".join(HEADINGS) + " |\n" + "|---" * len(HEADINGS) + "|")
    table = []
    for toy in chosen.toys.split(","):
        for preset in chosen.presets.split(","):
            table.append(
                measure(toy, preset, training=chosen.steps, rows=chosen.rows, width=chosen.width)
            )
            print(line(table[-1]), flush=True)
            if chosen.out:
                chosen.out.write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()
