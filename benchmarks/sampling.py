"""Milliseconds a sample: a run by its default sampler, against other libraries' usual samplers.

    ours           the run, as `undiffuse sample` draws from it, and as it was published
    diffusers      a UNet2DModel of 4 M parameters: DDIMPipeline in 20, DPM-Solver++ in 20
    ddpm           denoising-diffusion-pytorch: DDIM in 25

The networks of the others are untrained, for images of the run's size (peers.py). All draw as many
samples, in batches of 64, on as many threads, in turns; each has the fastest of its turns.

    python benchmarks/sampling.py --run RUN [--n 64] [--threads 1] [--turns 3]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from pathlib import Path

import torch
from peers import environ, python, size

from undiffuse.errors import InputError
from undiffuse.models import Diffusion
from undiffuse.run import Run

Row = tuple[str, str, int, int, float]  # whose, sampler, evaluations, parameters, ms a sample


def ours(model: Diffusion, n: int) -> list[Row]:
    """Time the default sampler of a model."""
    parameters, found = size(model.network), []
    for name, options in (("default", {}), ("published", {"method": "published"})):
        method = options.get("method")
        steps = model.steps_of(method)
        assert steps is not None
        model.sample_rows(2, **options)
        began = time.perf_counter()
        model.sample_rows(n, **options)
        each = (time.perf_counter() - began) / n * 1e3
        title = f"{name} ({model.usual_method})" if method is None else name
        found.append(("undiffuse", title, steps, parameters, each))
    return found


def theirs(channels: int, side: int, n: int, threads: int) -> list[Row]:
    """Time the samplers of other libraries."""
    command = [python(), str(Path(__file__).parent / "peers.py"), "--threads", str(threads), "time"]
    command += ["--channels", str(channels), "--side", str(side), "--n", str(n)]
    done = subprocess.run(command, check=True, env=environ(threads), stdout=subprocess.PIPE)
    return [tuple(row) for row in json.loads(done.stdout.splitlines()[-1])]


def main() -> None:
    """Print a row for each sampler."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", required=True, help="of square images")
    parser.add_argument("--n", type=int, default=64, help="samples, default 64")
    parser.add_argument("--threads", type=int, default=1, help="default 1")
    parser.add_argument("--turns", type=int, default=3, help="default 3")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    model = Run(asked.run).model()
    if not isinstance(model, Diffusion) or model.shape is None or len(model.shape) != 3:
        raise InputError(f"{asked.run}: give a run of a diffusion model of images.")
    channels, side = model.shape[0], model.shape[1]
    best: dict[tuple[str, str], Row] = {}
    for _ in range(asked.turns):
        rows = ours(model, asked.n) + theirs(channels, side, asked.n, asked.threads)
        for row in rows:
            key = row[0], row[1]
            best[key] = min(row, best.get(key, row), key=lambda one: one[-1])
    least = min(row[-1] for row in best.values() if row[1].startswith("default"))
    print(f"{channels} x {side} x {side}, {asked.n} samples, {asked.threads} threads\n")
    print("| library | sampler | steps | parameters | ms a sample | times ours |")
    print("|---|---|---|---|---|---|")
    for whose, sampler, steps, parameters, each in best.values():
        print(
            f"| {whose} | {sampler} | {steps} | {parameters / 1e6:.2f} M | {each:,.1f} "
            f"| {each / least:.2f} |"
        )


if __name__ == "__main__":
    main()
