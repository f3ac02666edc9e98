"""Posteriors beside sbi's and beside closed forms: how well samples are told from exact draws.

Two simulators (see posterior_peers.py), 10,000 simulations each; ours and sbi's NPSE have the same
seconds of one processor core, and draw given the same observations. C2ST, by sbi's own function:
the accuracy of a classifier that tells samples from exact draws, 0.5 if it cannot.

python benchmarks/conditions.py --seconds 120
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

time.perf_counter = time.process_time  # budgets are of this process alone

import numpy as np  # noqa: E402 - after the clock
import peers  # noqa: E402
import posterior_peers  # noqa: E402
import torch  # noqa: E402

import undiffuse as ud  # noqa: E402

SIMULATIONS, OBSERVED, DRAWS = 10_000, 5, 1000


def ours(theta: np.ndarray, y: np.ndarray, observed: np.ndarray, seconds: float) -> np.ndarray:
    """Return samples (observations, draws, D) of a model that has trained so long."""
    torch.manual_seed(0)
    model = ud.edm().fit(ud.load((theta, y)), budget=seconds, samples=0, seed=0)
    drawn = model.sample(DRAWS, where=observed, seed=0)
    return np.asarray(drawn).reshape(len(observed), DRAWS, -1)


def measure(name: str, seconds: float, folder: Path) -> None:
    """Print the C2ST of both, and of exact draws, for one simulator."""
    law, draw = posterior_peers.LAWS[name], np.random.default_rng(1)
    theta, y = law.simulate(SIMULATIONS, draw)
    _, observed = law.simulate(OBSERVED, draw)
    exact, again = (np.stack([law.posterior(o, DRAWS, draw) for o in observed]) for _ in range(2))
    simulations, drawn, found = (folder / f"{name}-{part}" for part in ("s.npz", "d.npz", "f.json"))
    np.savez(simulations, theta=theta, y=y, o=observed)
    python = peers.python("posteriors", posterior_peers.PACKAGES, [])
    script = str(Path(posterior_peers.__file__))
    words = ["train", "--law", name, "--data", simulations, "--n", DRAWS, "--seconds", seconds]
    run = {"check": True, "env": peers.environ(1)}
    subprocess.run([python, script, *map(str, words), "--out", str(drawn)], **run)
    with np.load(drawn) as theirs:
        facts = json.loads(str(theirs["facts"]))
        sets = {"NPSE": theirs["samples"], "exact draws": again}
    sets["undiffuse"] = ours(theta, y, observed, seconds)
    np.savez(simulations, exact=exact, **sets)
    words = ["judge", "--data", str(simulations), "--out", str(found)]
    subprocess.run([python, script, *words], **run)
    print(f"{name}: NPSE trained {facts['seconds']:.0f} s, {facts['epochs']} epochs", flush=True)
    for who, each in json.loads(found.read_text()).items():
        numbers = ", ".join(f"{one:.3f}" for one in each)
        print(f"  {who:12} C2ST {np.mean(each):.3f} ({numbers})", flush=True)


def main() -> None:
    """Measure both simulators."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120, help="of each, default 120")
    parser.add_argument("--laws", default="linear,moons", help="default linear,moons")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name in asked.laws.split(","):
            measure(name, asked.seconds, Path(folder))


if __name__ == "__main__":
    main()
