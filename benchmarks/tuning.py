"""The default sampler of a tuned run against `deis` in 40 evaluations, on the same seeds.

kernel     distance of features to all held-out rows, as `undiffuse evaluate` measures it
excess     of the default, with its standard error over samples: most that is random cancels
frechet    distance of the same features
seconds    for all samples, in batches of 64

undiffuse tune RUN
python benchmarks/tuning.py --run RUN [--n 5000] [--seed 5]
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch

from undiffuse.data import Data
from undiffuse.errors import InputError
from undiffuse.evaluation.references import refer
from undiffuse.evaluation.yardsticks import quick, sampled
from undiffuse.models.paired import Pairing
from undiffuse.run import Run


def main() -> None:
    """Print a row for each sampler."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", required=True)
    parser.add_argument("--n", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=5)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    run = Run(asked.run)
    model, data = run.model(), run.data()
    if model.tuned_tree is None or not isinstance(data, Data):
        raise InputError(f"{asked.run}: is not tuned; first undiffuse tune {asked.run}")
    reference = refer(data)
    pairing = None
    samplers: dict[str, dict[str, Any]] = {
        "deis, 40": {"method": "deis", "steps": 40},
        "deis, 12": {"method": "deis"},
        f"{model.usual_method}, {model.steps_of(None)}, tuned": {},
    }
    print(f"{len(reference.held_out)} held-out rows, {asked.n} samples, features", end=" ")
    print(reference.features.name)
    print("| sampler | kernel distance | of deis in 40 | excess | frechet | seconds |")
    print("|---|---|---|---|---|---|")
    for name, options in samplers.items():
        began = time.perf_counter()
        samples = sampled(model.sample_rows(asked.n, seed=asked.seed, **options), reference)
        seconds = time.perf_counter() - began
        if pairing is None:
            pairing = Pairing(samples.features, reference.held_out.features)
        found = pairing(samples.features)
        frechet = quick(samples, reference)["frechet"]
        print(
            f"| {name} | {found.distance:.5f} | {found.distance / pairing.distance:.3f} "
            f"| {found.excess:+.5f} ± {found.stderr:.5f} | {frechet.value:.3f} | {seconds:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
