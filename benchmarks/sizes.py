"""How wide a network is best for so much time: what the rule of `undiffuse.training.sizing` fits.

`edm` is trained on each data set, in each time, at each of some widths, with everything else as
`undiffuse train --budget` chooses it:

    fashion-mnist   28 x 28 grey, a U-Net
    patterns        32 x 32 colour (patterns.py), a U-Net
    five            20,000 rows of five 3-D Gaussians (density.py), a perceptron
    strings         4,000 plucked strings of 1,024 samples, made here, a U-Net along time

Of each run the held-out loss is measured, of the same rows at the same levels with the same noise
(of `five` the nats lost on fresh rows), and of images the Frechet distance of 1,000 samples in the
features of pinned.py. Beside them stands how many numbers of the data each parameter has seen.

The last table is what the rule loses, for several thresholds: the mean over sets and times of the
loss at the width that it picks, over that of the best width.

    python benchmarks/sizes.py --out FOLDER [--sets five,strings] [--budgets 30s,2m] [--threads 1]

What has been measured is kept in FOLDER/parts. FOLDER/sizes.png is drawn at the end.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from panels import panels

import undiffuse as ud
from undiffuse.atomic import write_json
from undiffuse.duration import parse_duration
from undiffuse.run import Run
from undiffuse.training.loading import encoded
from undiffuse.training.sizing import NUMBERS

SAMPLES, HELD_OUT = 1000, 256  # for the Frechet distance, and rows for the loss
THRESHOLDS = (2.5, 5.0, 10.0, NUMBERS, 40.0, 80.0, 160.0)


class Set(NamedTuple):
    """Data, the widths to try, the first of which is the least that the rule may take."""

    load: Callable[[], Any]  # what `undiffuse.load` takes
    widths: tuple[int, ...]


def strings(n: int = 4000, length: int = 1024, seed: int = 0) -> np.ndarray:
    """Return plucked strings (n, 1, length): noise that goes round a delay line (Karplus-Strong).

    The period is from 16 to 128 samples, the damping and the strength are random.
    """
    rng = np.random.default_rng(seed)
    periods = np.exp(rng.uniform(np.log(16), np.log(128), n)).astype(int)
    damping, strength = rng.uniform(0.96, 1.0, n), rng.uniform(0.2, 1.0, n)
    x = np.zeros((n, length + 129))
    for row, period in enumerate(periods):
        x[row, 129 - period : 129] = rng.uniform(-1, 1, period) * strength[row]
    rows = np.arange(n)
    for i in range(129, length + 129):
        x[:, i] = damping * 0.5 * (x[rows, i - periods] + x[rows, i - periods - 1])
    return x[:, None, 129:].astype(np.float32)


def _five() -> np.ndarray:
    from density import LAWS

    return LAWS["five"].draw(20_000, 1)


def _patterns() -> Any:
    from patterns import draw_patterns

    drawn = draw_patterns("train")
    return drawn.pictures, drawn.labels


SETS = {
    "fashion-mnist": Set(lambda: "fashion-mnist", (48, 64, 96)),
    "patterns": Set(_patterns, (32, 64, 96)),
    "five": Set(_five, (32, 64, 128, 256)),
    "strings": Set(strings, (32, 64, 96)),
}


def measure(name: str, width: int, budget: str, out: Path, threads: int) -> dict[str, Any]:
    """Train one network and return what is measured of it; kept in a file."""
    file = out / "parts" / f"{name}-{width}-{budget}.json"
    if file.exists():
        return json.loads(file.read_text())
    data, run = ud.load(SETS[name].load()), out / "runs" / file.stem
    torch.manual_seed(0)
    model = ud.edm(data, width=width)
    ended = ud.fit(model, data, out=run, overwrite=True, budget=budget, samples=0)
    torch.set_num_threads(threads)
    opened = Run(run)
    model = opened.model()
    batch = next(event["batch"] for event in opened.log if event["event"] == "start")
    rows = ended.step * batch
    numbers = rows * prod(model.shape) / model.parameter_count
    found = {"set": name, "width": width, "budget": budget, "steps": ended.step, "rows": rows}
    found |= {"parameters": model.parameter_count, "numbers": numbers}
    found["loss"] = lost(name, model, data)
    if name in ("fashion-mnist", "patterns"):
        from pinned import measure as judge

        frechet = judge(name, model.sample_rows(SAMPLES, seed=5))["frechet"]
        found |= {"frechet": frechet.value, "low": frechet.low, "high": frechet.high}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, found)
    print(found, flush=True)
    return found


def lost(name: str, model: Any, data: Any) -> float:
    """Return the held-out loss, or of a known density the nats lost."""
    if name == "five":
        from density import LAWS

        law = LAWS["five"]
        fresh = law.draw(2000, 2)
        nats = model.likelihood_rows(torch.from_numpy(fresh).float()).nats.numpy()
        return float((law.log_density(fresh) - nats).mean())
    x, conditions = encoded(data.held_out_batch(HELD_OUT), data.transform, torch.device("cpu"))
    return float(model.diagnostics(x, **conditions)["loss"])


def picked(own: list[dict[str, Any]], threshold: float) -> dict[str, Any]:
    """Return the widest network with so many numbers a parameter, else the narrowest."""
    enough = [one for one in own if one["numbers"] >= threshold]
    return max(enough, key=lambda one: one["width"]) if enough else own[0]


def rule(parts: list[dict[str, Any]]) -> str:
    """Return the table of thresholds."""
    groups = [(one["set"], one["budget"]) for one in parts]
    lines = ["| threshold | loss over the best, mean | largest | where |", "|---|---|---|---|"]
    for threshold in THRESHOLDS:
        excess = {}
        for name, budget in dict.fromkeys(groups):
            own = [one for one in parts if (one["set"], one["budget"]) == (name, budget)]
            best = min(one["loss"] for one in own)
            excess[f"{name}, {budget}"] = picked(own, threshold)["loss"] / best - 1
        worst = max(excess, key=excess.__getitem__)
        mean = float(np.mean(list(excess.values())))
        lines.append(f"| {threshold:g} | {mean:.1%} | {excess[worst]:.1%} | {worst} |")
    return "\n".join(lines)


def table(parts: list[dict[str, Any]]) -> str:
    """Return all runs as a table in Markdown."""
    heads = "set | time | width | parameters | rows seen | numbers per parameter | loss | Frechet"
    lines = [f"| {heads} |", "|---" * 8 + "|"]
    for one in parts:
        judged = (
            f"{one['frechet']:.2f} ({one['low']:.2f} to {one['high']:.2f})" if "low" in one else ""
        )
        cells = [one["set"], one["budget"], one["width"], f"{one['parameters'] / 1e6:.2f} M"]
        cells += [f"{one['rows']:,}", f"{one['numbers']:.3g}", f"{one['loss']:.4f}", judged]
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines)


def draw(parts: list[dict[str, Any]], file: Path) -> None:
    """Draw the loss over the best one of the same time against numbers per parameter."""
    names = list(dict.fromkeys(one["set"] for one in parts))
    with panels(names, file, 3.6, 3.4) as each:
        for name, panel in zip(names, each, strict=True):
            _draw_set([one for one in parts if one["set"] == name], panel)
        each[0].set_ylabel("loss over the best width, %")


def _draw_set(parts: list[dict[str, Any]], panel: Any) -> None:
    for budget in dict.fromkeys(one["budget"] for one in parts):
        own = [one for one in parts if one["budget"] == budget]
        best = min(one["loss"] for one in own)
        numbers, excess = zip(*((one["numbers"], one["loss"] / best - 1) for one in own))
        panel.plot(numbers, np.array(excess) * 100, "o-", label=budget)
        for one in own:
            place = one["numbers"], (one["loss"] / best - 1) * 100
            panel.annotate(str(one["width"]), place, (3, 4), textcoords="offset points")
    panel.axvline(NUMBERS, color="grey", linestyle="--")
    panel.set(xscale="log", xlabel="numbers per parameter")


def main() -> None:
    """Measure what has not been measured yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--budgets", default="30s,2m", help="default 30s,2m")
    parser.add_argument("--sets", default=",".join(SETS), help="default all")
    parser.add_argument("--threads", type=int, default=1, help="default 1")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    budgets = sorted(asked.budgets.split(","), key=parse_duration)
    for name in asked.sets.split(","):
        for budget in budgets:
            for width in SETS[name].widths:
                measure(name, width, budget, asked.out, asked.threads)
    files = sorted((asked.out / "parts").glob("*.json"))
    parts = [json.loads(file.read_text()) for file in files]
    parts.sort(key=lambda one: (one["set"], parse_duration(one["budget"]), one["width"]))
    print(table(parts), rule(parts), sep="\n\n")
    draw(parts, asked.out / "sizes.png")


if __name__ == "__main__":
    main()
