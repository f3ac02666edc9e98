"""The default sampler of tuned runs against `deis` in 40 evaluations, on the same seeds.

distance   kernel distance to all held-out rows, encoded (numbers at unit scale, all columns)
excess     by how much it is more than that of deis in 40, with its standard error over samples: as
           the seeds are the same, most that is random cancels
excess, %  of the distance of deis in 40: at most 2 is what a chosen sampler is to keep
spread     by how much samples of a Gaussian as wide as the data are too wide, with an exact network
Frechet    distance to test rows in the pinned features of pinned.py, for Fashion-MNIST

All are unguided, but for the last of a run of which guidance was chosen.

    python benchmarks/tuning.py data FOLDER     # writes a table and recordings to train on
    undiffuse train DATA --out RUN && undiffuse tune RUN
    python benchmarks/tuning.py measure RUN [RUN ...] [--n 5000] [--seed 5]
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undiffuse.data import Data
from undiffuse.diffusion import METHODS, RowNoise
from undiffuse.errors import InputError
from undiffuse.models.diffusion import Diffusion
from undiffuse.models.paired import Pairing
from undiffuse.models.tuning import width
from undiffuse.run import Run
from undiffuse.seeds import mix

HEADS = ("run", "sampler", "distance", "excess", "excess, %", "spread, %", "Frechet", "s")
_NUMBERS = 4096  # of a row that are compared, at most, evenly spread


def write_data(folder: Path) -> None:
    """Write table.csv (8,000 rows, five columns, one of words) and 1,200 recordings of 0.25 s."""
    from soundfile import write

    random = np.random.default_rng(0)
    kind = random.choice(3, 8000, p=[0.5, 0.3, 0.2])
    means = np.array([[0, 0], [2.5, 1], [-1, 3]])[kind]
    mixing = np.array([[[1, 0], [0.6, 0.5]], [[0.5, 0], [-0.3, 0.7]], [[0.3, 0], [0.1, 1.2]]])
    a, b = (means + np.einsum("nij,nj->ni", mixing[kind], random.normal(size=(8000, 2)))).T
    columns = {
        "amount": np.exp(0.5 * a + 1).round(4),
        "age": (30 + 8 * b + 2 * random.normal(size=8000)).round(3),
        "visits": random.poisson(np.exp(0.4 * a + 0.5)),
        "score": (np.tanh(a - b) + 0.1 * random.normal(size=8000)).round(4),
        "city": np.array(["Bern", "Graz", "Lyon"])[kind],
    }
    lines = [",".join(columns), *(",".join(map(str, row)) for row in zip(*columns.values()))]
    (folder / "recordings").mkdir(parents=True, exist_ok=True)
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    t = np.arange(512) / 2000
    for i in range(1200):
        pitch, fall = random.uniform(60, 300), random.uniform(2, 12)
        phases = random.uniform(0, 2 * np.pi, 2)
        above = pitch * random.choice([1.5, 2, 3])
        wave = 0.5 * np.sin(2 * np.pi * pitch * t + phases[0]) * np.exp(-fall * (t % 0.1))
        wave += 0.2 * np.sin(2 * np.pi * above * t + phases[1]) + 0.01 * random.normal(size=512)
        write(folder / "recordings" / f"{i:04d}.wav", wave, 2000, subtype="PCM_16")


def _compared(rows: Tensor) -> Tensor:
    """The numbers of encoded rows (n, *shape) that are compared."""
    size = rows[0].numel()
    return rows.flatten(1)[:, torch.linspace(0, size - 1, min(size, _NUMBERS)).round().long()]


def _times(model: Diffusion, options: dict[str, Any]) -> Tensor:
    """The times that samples are drawn along."""
    times = [1.0]
    model.sample_rows(1, callback=lambda i, n, t, x: times.append(float(t)), **options)
    return torch.tensor(times, dtype=torch.float64)


def measure(given: str, n: int, seed: int) -> None:
    """Print a row for each sampler of a run."""
    run = Run(given)
    model, data = run.model(), run.data()
    if not isinstance(model, Diffusion) or model.tuned is None or not isinstance(data, Data):
        raise InputError(f"{given}: is not tuned; first undiffuse tune {given}.")
    encode, std = data.transform.encode, model.sigma_data or 1.0
    held_out = data.held_out_batch(10_000)["row"]
    other = mix(seed, 1)  # what encoding adds is independent of what samples are drawn from
    real = _compared(encode(held_out, RowNoise(mix(seed, 2), len(held_out)))[0])
    best, pairing = model.tuned.best, None
    samplers: dict[str, dict[str, Any]] = {
        "deis, 40": {"method": "deis", "steps": 40},
        "deis, 12": {"method": "deis"},
        f"{best.method}, {best.steps}, chosen": {"wrap": lambda denoiser: denoiser},
    }
    if model.tuned.guidance:
        samplers[f"the same, guided by {model.tuned.guidance.scale:g}"] = {}
    for name, options in samplers.items():
        began = time.process_time()
        rows = model.sample_rows(n, seed=seed, **options)
        seconds = time.process_time() - began
        encoded = _compared(encode(torch.as_tensor(rows), RowNoise(other, n))[0])
        pairing = pairing or Pairing(encoded, real)
        found = pairing(encoded)
        step, times = METHODS[options.get("method", best.method)], _times(model, options)
        spread = 100 * (width(model.schedule, step, times, std) - 1)
        share = 100 / pairing.distance if pairing.distance > 0 else math.nan
        percent = f"{share * found.excess:+.1f} ± {share * found.stderr:.1f}"
        cells = [run.path.name, name, f"{found.distance:.5f}", f"{found.excess:+.5f}", percent]
        cells += [f"{spread:+.2f}", _frechet(data, rows), f"{seconds:.0f}"]
        print(f"| {' | '.join(cells)} |", flush=True)


def _frechet(data: Data, rows: np.ndarray) -> str:
    """The pinned Frechet distance with its interval; nothing for other data."""
    if data.name != "fashion-mnist":
        return ""
    from pinned import measure as measured

    found = measured("fashion-mnist", rows)["frechet"]
    return f"{found.value:.3f} ({found.low:.2f} to {found.high:.2f})"


def main() -> None:
    """Write data, or measure runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("data").add_argument("folder", type=Path)
    measured = verbs.add_parser("measure")
    measured.add_argument("runs", nargs="+")
    measured.add_argument("--n", type=int, default=5000, help="samples, default 5000")
    measured.add_argument("--seed", type=int, default=5, help="of samples, default 5")
    asked = parser.parse_args()
    if asked.verb == "data":
        write_data(asked.folder)
        return
    torch.set_num_threads(1)
    print(f"| {' | '.join(HEADS)} |\n|{'---|' * len(HEADS)}")
    for run in asked.runs:
        measure(run, asked.n, asked.seed)


if __name__ == "__main__":
    main()
