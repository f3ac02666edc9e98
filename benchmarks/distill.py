"""Students of a run against the run itself: Frechet distance, and milliseconds a sample.

A teacher is trained for a time, students for a share of it. What is there already in --out is
measured as it is.

held-out   distance to held-out rows, as `undiffuse evaluate` measures it; for a pinned set, to its
           test rows, by its pinned classifier
all        distance to all rows of the data, by the features of `undiffuse evaluate`: of fewer
           held-out rows than about 1,000 the first is mostly the error of their own moments

    python benchmarks/distill.py digits --budget 60s --out demo/distill
    python benchmarks/distill.py fashion-mnist --budget 10m --share 0.33 --out demo/distilled
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pinned
import torch

import undiffuse as ud
from undiffuse.data import Data
from undiffuse.duration import parse_duration
from undiffuse.evaluation.metrics.frechet import between, gaussian
from undiffuse.evaluation.references import refer
from undiffuse.evaluation.yardsticks import sampled

Measure = Callable[[np.ndarray], tuple[float, ...]]


def measure_for(source: str, data: Data) -> Measure:
    """Return what gives the distances of samples to held-out rows, and to all."""
    if source in pinned.SETS:
        return lambda rows: (pinned.measure(source, rows)["frechet"].value,)
    reference = refer(data)
    assert reference.training is not None
    held_out, training = reference.held_out.features, reference.training.features
    real = [gaussian(held_out), gaussian(torch.cat([held_out, training]))]

    def measured(rows: np.ndarray) -> tuple[float, ...]:
        moments = gaussian(sampled(rows, reference).features)
        return tuple(between(one, moments) for one in real)

    return measured


def row(
    name: str, model: Any, n: int, seed: int, measure: Measure, before: Any
) -> tuple[float, ...]:
    """Print the line of one sampler; `before` are the distances of the teacher."""
    model.sample_rows(64, seed=seed)  # what happens once is not timed
    began = time.perf_counter()
    rows = model.sample_rows(n, seed=seed)
    each = 1000 * (time.perf_counter() - began) / n
    found = measure(rows)
    shares = [f"{value:.3f} ({value / was:.2f})" for value, was in zip(found, before or found)]
    print(f"| {name} | {' | '.join(shares)} | {each:.2f} |", flush=True)
    return found


def main() -> None:
    """Train what is not there, and print a row for the teacher and for each student."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="what train takes, such as digits")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--budget", default="60s", help="of the teacher, default 60s")
    parser.add_argument("--preset", default="edm")
    parser.add_argument("--share", type=float, default=0.5, help="a student's, default 0.5")
    parser.add_argument("--steps", type=int, nargs="*", default=[4, 2, 1], help="of the students")
    parser.add_argument("--n", type=int, default=5000, help="samples, default 5000")
    parser.add_argument("--seed", type=int, default=5, help="of samples, default 5")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    teacher, quiet = asked.out / "teacher", {"samples": 0}
    if not (teacher / "weights.safetensors").exists():
        made = getattr(ud, asked.preset)()
        made.fit(asked.source, out=teacher, budget=asked.budget, **quiet)
    run = ud.Run(teacher)
    data, model = run.data(), run.model()
    assert isinstance(data, Data)
    measure = measure_for(asked.source, data)
    line = partial(row, n=asked.n, seed=asked.seed, measure=measure)
    heads = ["held-out"] if asked.source in pinned.SETS else ["held-out", "all"]
    print(f"| sampler, {asked.n:,} samples | {' | '.join(heads)} | ms a sample |")
    print("|" + "---|" * (len(heads) + 2))
    method = f"{model.usual_method}, {model.steps_of(None)} evaluations"
    before = line(f"teacher, {asked.budget}: {method}", model, before=None)
    seconds = asked.share * parse_duration(asked.budget)
    for steps in asked.steps:
        folder = asked.out / f"student-{steps}-{asked.share:g}"
        if not (folder / "weights.safetensors").exists():
            ud.distill(teacher, out=folder, steps=steps, budget=seconds)
        name = f"student, {seconds:.0f} s: {steps} evaluation{'s' * (steps > 1)}"
        line(name, ud.open(folder), before=before)


if __name__ == "__main__":
    main()
