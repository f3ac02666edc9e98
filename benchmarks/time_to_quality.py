"""How good samples are after the same time: this library, two others, a GAN and a VAE.

Each contender is trained on each image set for each budget, on as many threads, and draws samples
by its usual sampler: `edm`, `gan` and `vae` by `undiffuse train --budget`, `diffusers` and `ddpm`
by their own recipes (peers.py). Samples are measured by the pinned classifier of the set
(pinned.py) against test rows: Frechet distance with its interval, precision, recall, coverage.
Beside them stand the images seen in training and the milliseconds a sample takes.

    python benchmarks/time_to_quality.py --out FOLDER [--budgets 1m,3m,10m] [--threads 2]

What has been measured is kept in FOLDER/parts, one file for a contender and a budget; a command
that was interrupted goes on where it was. FOLDER/table.md and FOLDER/curve.png are written anew
after each part. Labels are used by those that use labels by default, which is `edm`, `gan`, `vae`.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from panels import panels
from peers import PEERS, environ, python
from pinned import SETS, floor, measure

from undiffuse.atomic import atomic_file, write_json
from undiffuse.duration import format_duration, parse_duration
from undiffuse.run import Run

OURS = ("edm", "gan", "vae")
COLUMNS = ("frechet", "precision", "recall", "coverage")
SEED = 5  # of samples


def rows_of(name: str, folder: Path) -> tuple[Path, str]:
    """Return a file of the training rows (n, ...) uint8, and what `undiffuse train` takes."""
    file, labelled = folder / f"{name}.npy", folder / f"{name}.npz"
    own = name if name == "fashion-mnist" else str(labelled)
    if not file.exists():
        rows, shown = SETS[name].read("train")
        if own != name:
            labels = shown if shown.ndim == 1 else shown[:, 0].long()
            with atomic_file(labelled) as temporary, open(temporary, "wb") as stream:
                np.savez(stream, images=rows, labels=labels.numpy())
        with atomic_file(file) as temporary, open(temporary, "wb") as stream:
            np.save(stream, rows)
    return file, own


def ours(preset: str, source: str, budget: str, out: Path, asked: Any) -> dict[str, Any]:
    """Train a preset unless that is done, and draw samples; facts, with samples in `out`."""
    run = out / "run"
    if not ((run / "config.json").exists() and Run(run).state["finished"]):
        command = [sys.executable, "-m", "undiffuse", "train", source, "--preset", preset]
        command += ["--out", str(run), "--overwrite", "--budget", budget, "--quiet"]
        subprocess.run(command, check=True, env=environ(asked.threads))
    opened = Run(run)
    model = opened.model()
    model.sample_rows(2, seed=0)
    began = time.perf_counter()
    samples = model.sample_rows(asked.n, seed=SEED)
    each = (time.perf_counter() - began) / asked.n * 1e3
    np.save(out / "samples.npy", samples)
    batch = next(event["batch"] for event in opened.log if event["event"] == "start")
    method, steps = model.usual_method, model.steps_of(None)
    return {
        "images": opened.state["step"] * batch,
        "parameters": opened.config["parameters"],
        "sampler": f"{method}, {steps}" if steps else "one pass",
        "milliseconds": each,
    }


def theirs(peer: str, rows: Path, seconds: float, out: Path, asked: Any) -> dict[str, Any]:
    """Train another library unless that is done, and draw samples; facts, samples in `out`."""
    facts = out / "facts.json"
    if not facts.exists():
        command = [python(), str(Path(__file__).parent / "peers.py"), "--threads"]
        command += [str(asked.threads), "train", peer, "--data", str(rows), "--out", str(out)]
        command += ["--seconds", str(seconds), "--n", str(asked.n)]
        subprocess.run(command, check=True, env=environ(asked.threads))
    return json.loads(facts.read_text())


def part(name: str, contender: str, budget: str, asked: Any) -> dict[str, Any]:
    """Return what is measured of a contender; kept in a file."""
    title = f"{name}-{contender}-{budget}"
    file, out = asked.out / "parts" / f"{title}.json", asked.out / "work" / title
    if file.exists():
        return json.loads(file.read_text())
    print(title, flush=True)
    out.mkdir(parents=True, exist_ok=True)
    rows, source = rows_of(name, asked.out)
    began = time.perf_counter()
    if contender in OURS:
        facts = ours(contender, source, budget, out, asked)
    else:
        facts = theirs(contender, rows, parse_duration(budget), out, asked)
    spent = time.perf_counter() - began
    figures = measure(name, np.load(out / "samples.npy", allow_pickle=False))
    found = {"set": name, "contender": contender, "budget": budget, "threads": asked.threads}
    found |= {"wall": spent, "samples": asked.n, **facts}
    found["figures"] = {key: asdict(figure) for key, figure in figures.items()}
    file.parent.mkdir(exist_ok=True)
    write_json(file, found)
    return found


def table(parts: list[dict[str, Any]]) -> str:
    """Return all parts as tables in Markdown, one for each set."""
    heads = ["contender", "time", "Frechet", "95 %", *COLUMNS[1:], "samples"]
    heads += ["images seen", "parameters", "sampler", "ms a sample"]
    lines: list[str] = []
    for name in dict.fromkeys(one["set"] for one in parts):
        own = [one for one in parts if one["set"] == name]
        samples = max(one["samples"] for one in own)
        lines += [f"{name}, {own[0]['threads']} threads", ""]
        lines += [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
        for one in own:
            distance, *others = (one["figures"][key] for key in COLUMNS)
            cells = [f"`{one['contender']}`", one["budget"], f"{distance['value']:.2f}"]
            cells += [f"{distance['low']:.2f} to {distance['high']:.2f}"]
            cells += [f"{other['value']:.3f}" for other in others]
            cells += [f"{one['samples']:,}", f"{one['images']:,}"]
            cells += [f"{one['parameters'] / 1e6:.2f} M", one["sampler"]]
            lines.append(f"| {' | '.join([*cells, format(one['milliseconds'], ',.1f')])} |")
        real = floor(name, samples)
        cells = ["training rows", "", f"{real['frechet'].value:.3f}", ""]
        cells += [f"{real[key].value:.3f}" for key in COLUMNS[1:]]
        lines += [f"| {' | '.join([*cells, f'{samples:,}', '', '', '', ''])} |", ""]
    return "\n".join(lines)


def draw_curve(parts: list[dict[str, Any]], file: Path) -> None:
    """Draw the Frechet distance against the time of training, a panel for each set."""
    names = list(dict.fromkeys(one["set"] for one in parts))
    with panels(names, file, 5, 4) as each:
        for name, panel in zip(names, each, strict=True):
            _draw_set([one for one in parts if one["set"] == name], panel)


def _draw_set(parts: list[dict[str, Any]], panel: Any) -> None:
    for contender in dict.fromkeys(one["contender"] for one in parts):
        line = [one for one in parts if one["contender"] == contender]
        times = [parse_duration(one["budget"]) / 60 for one in line]
        found = [one["figures"]["frechet"] for one in line]
        middle = np.array([one["value"] for one in found])
        ends = [[one["value"] - one["low"] for one in found]]
        ends += [[one["high"] - one["value"] for one in found]]
        colour = f"C{[*OURS, *PEERS].index(contender)}"
        style = {"marker": "o", "color": colour, "label": contender}
        panel.errorbar(times, middle, yerr=np.array(ends), **style)
    samples = max(one["samples"] for one in parts)
    level = floor(parts[0]["set"], samples)["frechet"].value
    panel.axhline(level, color="grey", linestyle="--", label="training rows")
    panel.set(xscale="log", yscale="log", xlabel="minutes of training")
    panel.set_ylabel("Frechet distance")


def main() -> None:
    """Measure what has not been measured yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--budgets", default="1m,3m,10m", help="default 1m,3m,10m")
    parser.add_argument("--sets", default=",".join(SETS), help="default all")
    parser.add_argument("--contenders", default=",".join([*OURS, *PEERS]), help="default all")
    parser.add_argument("--n", type=int, default=5000, help="samples, default 5000")
    parser.add_argument("--threads", type=int, default=2, help="default 2")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    asked.out.mkdir(parents=True, exist_ok=True)
    budgets = sorted(asked.budgets.split(","), key=parse_duration)
    parts: list[dict[str, Any]] = []
    for name in asked.sets.split(","):
        for contender in asked.contenders.split(","):
            for budget in budgets:
                short = format_duration(parse_duration(budget)).replace(" ", "")
                parts.append(part(name, contender, short, asked))
                (asked.out / "table.md").write_text(table(parts))
                draw_curve(parts, asked.out / "curve.png")
    print(table(parts))


if __name__ == "__main__":
    main()
