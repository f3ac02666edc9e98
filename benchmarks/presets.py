"""Every diffusion preset on the same data for the same time: what it learned, what a sample costs,
what it looks like.

    python benchmarks/presets.py --seconds 120 --out presets/

Each preset is trained from the command line on scikit-learn's digits (8 x 8, 17 values), one thread
each, `--jobs` at a time. Then, for each:

held-out bits per dimension    by the bound and by the probability-flow ODE, with standard errors
recognized                     the share of 128 samples of known class that a nearest-neighbour
                               classifier, fitted on the training rows, gives that class; for real
                               held-out digits, see the title
evaluations, seconds           of the network for one sample, and of the clock for 128 of them

and a picture of 64 samples, FOLDER/PRESET.png. What is in FOLDER already is neither trained nor
measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

import undiffuse as ud
from undiffuse.models import PRESETS, Diffusion
from undiffuse.models.likelihood import Bound, Density

SYSTEMS = [
    name
    for name, make in PRESETS.items()
    if isinstance(model := make(), Diffusion) and not model.one_level
]
DATA = "digits"
SAMPLES = 128
ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
COMMAND = [sys.executable, "-m", "undiffuse"]


def train(preset: str, seconds: int, folder: Path) -> None:
    """Train one preset and draw its picture, as a user does."""
    if not (folder / preset / "weights.safetensors").exists():
        words = [
            "train",
            DATA,
            "--preset",
            preset,
            "--out",
            str(folder / preset),
            "--budget",
            f"{seconds}s",
        ]
        subprocess.run([*COMMAND, *words, "--quiet", "--overwrite"], check=True, env=ONE_THREAD)
    words = [
        "sample",
        str(folder / preset),
        "-n",
        "64",
        "--out",
        str(folder / f"{preset}.png"),
        "--overwrite",
    ]
    subprocess.run([*COMMAND, *words, "--quiet"], check=True, env=ONE_THREAD)


def measure(preset: str, folder: Path, rows: int) -> dict[str, float | str]:
    """What a run knows of the held-out rows, and what its samples are and cost."""
    model = ud.open(folder / preset)
    assert isinstance(model, Diffusion)
    held_out = ud.load(DATA).held_out_batch(rows)["row"]
    dimensions = held_out[0].numel()
    found: dict[str, float | str] = {
        "preset": preset,
        "parameters": sum(p.numel() for p in model.parameters()),
    }
    info = subprocess.run(
        [*COMMAND, "info", str(folder / preset), "--json"],
        capture_output=True,
        check=True,
        text=True,
    )
    found["steps"] = json.loads(info.stdout)["steps"]
    for method, how in (("elbo", Bound(64)), ("ode", Density(tolerance=1e-3, probes=1))):
        started = time.perf_counter()
        scores = model.likelihood_rows(held_out, how=how, seed=0)
        bits = -scores.nats / (dimensions * np.log(2))
        found[f"{method}_bits"], found[f"{method}_error"] = (
            float(bits.mean()),
            float(bits.std() / len(bits) ** 0.5),
        )
        found[f"{method}_evaluations"] = float(scores.evaluations)
        found[f"{method}_seconds"] = time.perf_counter() - started
    calls = 0

    def count(module: torch.nn.Module, inputs: tuple) -> None:
        nonlocal calls
        calls += len(inputs[0])

    hook = model.network.register_forward_pre_hook(count)
    started = time.perf_counter()
    images = model.sample_rows(SAMPLES, seed=2, batch=SAMPLES)
    found["seconds"], found["evaluations"] = time.perf_counter() - started, calls / SAMPLES
    hook.remove()
    labels = model.sample_conditions(SAMPLES, seed=2)["label"].numpy()
    found["recognized"] = recognized(images, labels)
    return found


def recognized(images: np.ndarray, labels: np.ndarray | None) -> float:
    """The share of images that a nearest-neighbour classifier gives their class."""
    from sklearn.neighbors import KNeighborsClassifier

    train = ud.load(DATA).sample_batch(100_000)
    classifier = KNeighborsClassifier(1).fit(
        train["row"].flatten(1).numpy(), train["label"].numpy()
    )
    return float((classifier.predict(images.reshape(len(images), -1)) == labels).mean())


def table(found: list[dict], title: str) -> str:
    """The table in Markdown."""
    lines = [
        title,
        "",
        "| preset | bound, bits/dim | ODE, bits/dim | recognized | evaluations | seconds for "
        "128 | steps |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| `{row['preset']}` | {row['elbo_bits']:.3f} ± {row['elbo_error']:.3f} "
        f"| {row['ode_bits']:.3f} ± {row['ode_error']:.3f} ({row['ode_evaluations']:.0f}) "
        f"| {row['recognized']:.2f} | {row['evaluations']:.0f} | {row['seconds']:.1f} | "
        f"{row['steps']:,} |"
        for row in found
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--presets", default=",".join(SYSTEMS))
    parser.add_argument("--rows", type=int, default=180)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("presets"))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.out.mkdir(parents=True, exist_ok=True)
    names = chosen.presets.split(",")
    with ThreadPoolExecutor(chosen.jobs) as pool:
        list(pool.map(lambda name: train(name, chosen.seconds, chosen.out), names))
    held_out = ud.load(DATA).held_out_batch(chosen.rows)
    real = recognized(held_out["row"].numpy(), held_out["label"].numpy())
    rows = f"{chosen.rows} held-out rows, {real:.2f} of them recognized"
    title = f"{DATA}, {chosen.seconds} s each, {rows}"
    kept = chosen.out / "presets.json"
    found = json.loads(kept.read_text()) if kept.exists() else []
    for name in (name for name in names if name not in [row["preset"] for row in found]):
        found.append(measure(name, chosen.out, chosen.rows))
        kept.write_text(json.dumps(found, indent=1))
        print(table(found, title), flush=True)


if __name__ == "__main__":
    main()
