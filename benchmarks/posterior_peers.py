"""Simulators with closed-form posteriors, and sbi beside them, in an environment of its own.

    linear   theta ~ N(0, I_5),  y = A theta + e / 2,   theta | y is Gaussian
    moons    theta ~ U[-1, 1]^2,  y = p + (-|theta_1 + theta_2|, theta_2 - theta_1) / sqrt(2),
             p = (r cos a + 1/4, r sin a),  r ~ N(0.1, 0.01^2),  a ~ U[-pi/2, pi/2]: the two moons
             of Greenberg et al. (2019). theta -> p is one to one on either side of
             theta_1 + theta_2 = 0, with a determinant of 1, so theta | y is: draw p, go back to
             either side, keep what is in the square

NPSE is sbi's as it is (variance exploding), but trained until its time is over if it has not
stopped by itself. C2ST is `sbi.utils.metrics.c2st`. Run inside the environment (see peers.py):

    PYTHON benchmarks/posterior_peers.py train --data SIMULATIONS.npz --seconds 120 --out FILE
    PYTHON benchmarks/posterior_peers.py judge --data SAMPLES.npz --out FILE
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

PACKAGES = ["sbi==0.27.0"]
DIMENSIONS, NOISE, SQUARE = 5, 0.5, 2**0.5


class Linear:
    """See the head of this module."""

    def __init__(self) -> None:
        draw = np.random.default_rng(0)
        self.A = draw.normal(size=(DIMENSIONS, DIMENSIONS)) / DIMENSIONS**0.5

    def simulate(self, n: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return n draws of (theta, y)."""
        theta = draw.normal(size=(n, DIMENSIONS))
        return theta, theta @ self.A.T + NOISE * draw.normal(size=theta.shape)

    def posterior(self, y: np.ndarray, n: int, draw: np.random.Generator) -> np.ndarray:
        """Return n exact draws of theta given one y."""
        covariance = np.linalg.inv(np.eye(DIMENSIONS) + self.A.T @ self.A / NOISE**2)
        mean = covariance @ self.A.T @ y / NOISE**2
        return mean + draw.normal(size=(n, DIMENSIONS)) @ np.linalg.cholesky(covariance).T


class Moons:
    """See the head of this module."""

    def simulate(self, n: int, draw: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Return n draws of (theta, y)."""
        theta = draw.uniform(-1, 1, (n, 2))
        sums, differences = theta.sum(1), theta[:, 1] - theta[:, 0]
        return theta, self._p(n, draw) + np.stack([-np.abs(sums), differences], 1) / SQUARE

    def posterior(self, y: np.ndarray, n: int, draw: np.random.Generator) -> np.ndarray:
        """Return n exact draws of theta given one y."""
        found = np.zeros((0, 2))
        while len(found) < n:
            p = self._p(4 * n, draw)
            sums = SQUARE * (p[:, 0] - y[0])
            differences = SQUARE * (y[1] - p[:, 1])
            p, kept = p[sums >= 0], sums >= 0
            sums = sums[kept] * draw.choice([-1, 1], kept.sum())
            theta = np.stack([sums - differences[kept], sums + differences[kept]], 1) / 2
            found = np.concatenate([found, theta[(np.abs(theta) <= 1).all(1)]])
        return found[:n]

    def _p(self, n: int, draw: np.random.Generator) -> np.ndarray:
        r, a = 0.1 + 0.01 * draw.normal(size=n), draw.uniform(-np.pi / 2, np.pi / 2, n)
        return np.stack([r * np.cos(a) + 0.25, r * np.sin(a)], 1)


LAWS: dict[str, Any] = {"linear": Linear(), "moons": Moons()}


def train(asked: argparse.Namespace) -> None:
    """Train NPSE on simulations for a time, and draw given each observation."""
    import torch
    from sbi.inference import NPSE
    from torch.distributions import Independent, MultivariateNormal, Uniform

    class Timed(NPSE):
        """NPSE that ends when its time is over, with the weights of the best epoch."""

        def _converged(self, epoch: int, stop_after_epochs: int) -> bool:
            if super()._converged(epoch, stop_after_epochs):
                return True
            over = time.process_time() - began > asked.seconds
            if over and self._best_model_state_dict is not None:
                self._neural_net.load_state_dict(self._best_model_state_dict)
            return over

    torch.set_num_threads(1)
    torch.manual_seed(0)
    with np.load(asked.data) as data:
        theta, y, observed = (torch.from_numpy(data[name]).float() for name in ("theta", "y", "o"))
    width = theta.shape[1]
    prior: Any = MultivariateNormal(torch.zeros(width), torch.eye(width))
    if asked.law == "moons":
        prior = Independent(Uniform(-torch.ones(width), torch.ones(width)), 1)
    began = time.process_time()
    inference = Timed(prior, show_progress_bars=False).append_simulations(theta, y)
    inference.train()
    seconds = time.process_time() - began
    posterior = inference.build_posterior()
    drawn = [posterior.sample((asked.n,), x=one, show_progress_bars=False) for one in observed]
    facts = {"seconds": seconds, "epochs": inference.epoch}
    np.savez(asked.out, samples=torch.stack(drawn).numpy(), facts=json.dumps(facts))


def judge(asked: argparse.Namespace) -> None:
    """Tell samples (observations, n, D) by name from the exact ones: name -> C2ST of each."""
    import torch
    from sbi.utils.metrics import c2st

    with np.load(asked.data) as data:
        sets = {name: torch.from_numpy(data[name]).float() for name in data}
    exact = sets.pop("exact")
    found = {
        name: [float(c2st(one, other)) for one, other in zip(drawn, exact)]
        for name, drawn in sets.items()
    }
    asked.out.write_text(json.dumps(found))


def main() -> None:
    """Train NPSE, or judge samples."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("train", "judge"):
        one = verbs.add_parser(verb)
        one.add_argument("--data", type=Path, required=True)
        one.add_argument("--out", type=Path, required=True)
        if verb == "train":
            one.add_argument("--law", choices=LAWS, required=True)
            one.add_argument("--seconds", type=float, required=True)
            one.add_argument("--n", type=int, required=True)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    {"train": train, "judge": judge}[asked.verb](asked)


if __name__ == "__main__":
    main()
