"""Posteriors against closed forms: how well a classifier tells samples from exact draws.

theta ~ N(0, I_D),   y = A theta + s e,   n simulations
C2ST: the accuracy of a network of two layers that tells samples from exact posterior draws,
5-fold (Lopez-Paz and Oquab 2017; as in sbi.utils.metrics.c2st); 0.5 is indistinguishable

python benchmarks/conditions.py --budget 120
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import undiffuse as ud

DIMENSIONS, NOISE, OBSERVED, DRAWS = 5, 0.5, 5, 1000


def c2st(one: np.ndarray, other: np.ndarray, seed: int = 0) -> float:
    """Return the 5-fold accuracy of telling two sets of rows (n, D) apart."""
    width = 10 * one.shape[1]
    network = MLPClassifier((width, width), max_iter=1000, solver="adam", random_state=seed)
    rows, side = np.concatenate([one, other]), np.repeat([0, 1], len(one))
    told = cross_val_score(make_pipeline(StandardScaler(), network), rows, side, cv=5)
    return float(told.mean())


def main() -> None:
    """Train once, draw for several y, and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=10_000, help="simulations, default 10,000")
    parser.add_argument("--budget", type=float, default=120, help="seconds, default 120")
    parser.add_argument("--seed", type=int, default=0, help="of everything, default 0")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(asked.seed)
    rng = np.random.default_rng(asked.seed)
    A = rng.normal(size=(DIMENSIONS, DIMENSIONS)) / DIMENSIONS**0.5
    theta = rng.normal(size=(asked.n + OBSERVED, DIMENSIONS))
    y = theta @ A.T + NOISE * rng.normal(size=theta.shape)
    began = time.perf_counter()
    model = ud.edm().fit(
        ud.load((theta[OBSERVED:], y[OBSERVED:])), budget=asked.budget, samples=0, seed=asked.seed
    )
    print(f"trained {time.perf_counter() - began:.0f} s on {asked.n:,} simulations")
    covariance = np.linalg.inv(np.eye(DIMENSIONS) + A.T @ A / NOISE**2)
    root, found = np.linalg.cholesky(covariance), []
    samples = model.sample(DRAWS, where=y[:OBSERVED], seed=asked.seed)
    for i, drawn in enumerate(samples.reshape(OBSERVED, DRAWS, -1)):
        mean = covariance @ A.T @ y[i] / NOISE**2
        exact, again = (mean + rng.normal(size=drawn.shape) @ root.T for _ in range(2))
        found.append((c2st(drawn, exact, asked.seed), c2st(again, exact, asked.seed)))
        print(f"y number {i}: C2ST {found[-1][0]:.3f}, of exact draws {found[-1][1]:.3f}")
    print("mean: C2ST {:.3f}, of exact draws {:.3f}".format(*np.mean(found, 0)))


if __name__ == "__main__":
    main()
