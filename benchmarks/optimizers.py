"""Muon for the inner kernels against AdamW for all, at equal time, by rates and over seeds.

`edm` on Fashion-MNIST, with everything else as `undiffuse train --budget` chooses it. Figures: the
held-out loss of 1,000 rows at 16 levels with the same noise, and the Frechet distance of 2,000
samples in the features of pinned.py.

    python benchmarks/optimizers.py --out FOLDER [--budget 2m] [--rates 0.002] [--seeds 0,1,2]

What has been measured is kept in FOLDER/parts.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pinned import measure as judge

import undiffuse as ud
from undiffuse.atomic import write_json
from undiffuse.nn.unet import UNet
from undiffuse.run import Run
from undiffuse.training.loading import encoded

SET, SAMPLES, HELD_OUT = "fashion-mnist", 2000, 1000
OPTIMIZERS = {"AdamW": (), "Muon": UNet.hidden}


def measure(optimizer: str, rate: float, seed: int, asked: Any) -> dict[str, Any]:
    """Train once and return what is measured; kept in a file."""
    file = asked.out / "parts" / f"{optimizer}-{rate}-{seed}-{asked.budget}.json"
    if file.exists():
        return json.loads(file.read_text())
    UNet.hidden = OPTIMIZERS[optimizer]
    data, run = ud.load(SET), asked.out / "runs" / file.stem
    options = {"budget": asked.budget, "seed": seed, "samples": 0}
    model = ud.edm(data)
    options["lr"] = rate / next(iter(model.players().values())).lr_scale
    if not ((run / "config.json").exists() and Run(run).state["finished"]):
        ud.fit(model, data, out=run, overwrite=True, **options)
    torch.set_num_threads(asked.threads)
    opened = Run(run)
    model = opened.model()
    x, conditions = encoded(data.held_out_batch(HELD_OUT), data.transform, torch.device("cpu"))
    loss = float(model.diagnostics(x, **conditions)["loss"])
    frechet = judge(SET, model.sample_rows(SAMPLES, seed=5))["frechet"]
    found = {"optimizer": optimizer, "rate": rate, "seed": seed, "steps": opened.state["step"]}
    found |= {"loss": loss, "frechet": frechet.value}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, found)
    print(found, flush=True)
    return found


def main() -> None:
    """Measure what has not been measured yet, and print all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--budget", default="2m", help="default 2m")
    parser.add_argument("--rates", default="0.002", help="default 0.002")
    parser.add_argument("--seeds", default="0,1,2", help="default 0,1,2")
    parser.add_argument("--threads", type=int, default=1, help="default 1")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    print("| optimizer | rate | steps | held-out loss | Frechet, by seed |\n" + "|---" * 5 + "|")
    for rate in asked.rates.split(","):
        for optimizer in OPTIMIZERS:
            seeds = asked.seeds.split(",")
            own = [measure(optimizer, float(rate), int(seed), asked) for seed in seeds]
            steps = ", ".join(f"{one['steps']:,}" for one in own)
            losses = np.array([one["loss"] for one in own])
            frechet = np.array([one["frechet"] for one in own])
            each = ", ".join(f"{value:.2f}" for value in frechet)
            print(
                f"| {optimizer} | {rate} | {steps} | {losses.mean():.4f} "
                f"| {frechet.mean():.2f} ({each}) |",
                flush=True,
            )


if __name__ == "__main__":
    main()
