"""Nats lost and rows per second of densities of known laws in 2 to 16 dimensions.

On 20,000 rows of each law, in the same time:

    ours       ud.edm() with a budget, scored as by default
    classic    the same model by RK45 at 1e-5 with one probe (Song et al. 2021)
    nsf        zuko's neural spline flow, AdamW with a falling rate, rows standardized, kept where
               held-out rows are likeliest
    gmm        scikit-learn's GaussianMixture, the number of components by BIC
    kde        scikit-learn's KernelDensity, the bandwidth by held-out rows

The loss is the mean of log p(truth) - score over fresh rows: in expectation the divergence
KL(truth || model). Its standard error is that of the mean of the differences.

    python benchmarks/density.py [--seconds 120] [--threads 2] [--laws five,rings] [--out F]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import undiffuse as ud
from undiffuse.data.toys import draw_toy, toy_log_density
from undiffuse.models.likelihood import Density

TRAINED, FRESH, CLASSIC = 20_000, 2_000, 250  # rows; the classic way is slow, so fewer of them
HELD_OUT = 2_000  # of the trained ones, for peers that choose something
METHODS = ("ours", "classic", "nsf", "gmm", "kde")

Rows = np.ndarray
Score = Callable[[Rows], Rows]


class Law(NamedTuple):
    """A density: its dimensions, n rows of a seed, and the logarithm of the density of rows."""

    dimensions: int
    draw: Callable[[int, int], Rows]
    log_density: Score


def _normal(z: Rows) -> Rows:
    return -0.5 * (z**2 + np.log(2 * np.pi))


def mixture(components: int, dimensions: int, seed: int, apart: float) -> Law:
    """Gaussians of random means, covariances and shares."""
    rng = np.random.default_rng(seed)
    means = rng.normal(0, apart, (components, dimensions))
    factors = rng.normal(0, 0.45, (components, dimensions, dimensions)) / (dimensions / 3) ** 0.5
    covariances = factors @ factors.transpose(0, 2, 1) + 0.03 * np.eye(dimensions)
    shares = rng.dirichlet(np.full(components, 5.0))
    roots = np.linalg.cholesky(covariances)

    def draw(n: int, seed: int) -> Rows:
        rng = np.random.default_rng(seed)
        chosen = rng.choice(components, n, p=shares)
        z = rng.normal(size=(n, dimensions))
        return means[chosen] + np.einsum("nij,nj->ni", roots[chosen], z)

    def log_density(x: Rows) -> Rows:
        parts = []
        for share, mean, root in zip(shares, means, roots):
            z = np.linalg.solve(root, (x - mean).T).T
            inside = np.log(share) - np.log(root.diagonal()).sum()
            parts.append(inside + _normal(z).sum(1))
        return np.logaddexp.reduce(parts, 0)

    return Law(dimensions, draw, log_density)


def chain(dimensions: int, seed: int) -> Law:
    """x_1 = z_1, x_i = 1.5 sin(2 x_{i-1}) + a_i x_{i-2} + exp(0.5 tanh(x_{i-1}) - 1) z_i."""
    weights = np.random.default_rng(seed).uniform(-0.5, 0.5, dimensions)

    def parts(x: Rows, i: int) -> tuple[Rows, Rows]:
        before = x[:, i - 1] if i else np.zeros(len(x))
        further = x[:, i - 2] if i > 1 else np.zeros(len(x))
        mean = 1.5 * np.sin(2 * before) + weights[i] * further
        return mean, np.exp(0.5 * np.tanh(before) - (1.0 if i else 0.0))

    def draw(n: int, seed: int) -> Rows:
        z = np.random.default_rng(seed).normal(size=(n, dimensions))
        x = np.zeros_like(z)
        for i in range(dimensions):
            mean, spread = parts(x, i)
            x[:, i] = mean + spread * z[:, i]
        return x

    def log_density(x: Rows) -> Rows:
        total = np.zeros(len(x))
        for i in range(dimensions):
            mean, spread = parts(x, i)
            total += _normal((x[:, i] - mean) / spread) - np.log(spread)
        return total

    return Law(dimensions, draw, log_density)


LAWS = {
    "rings": Law(
        2, lambda n, seed: draw_toy("rings", n, seed=seed), lambda x: toy_log_density("rings", x)
    ),
    "five": mixture(5, 3, seed=7, apart=2.5),
    "chain4": chain(4, seed=1),
    "mixture8": mixture(6, 8, seed=2, apart=1.5),
    "chain16": chain(16, seed=3),
}


def ours(rows: Rows, seconds: float) -> tuple[Score, Score, str]:
    """Train by default; score by default, and by the classic recipe."""
    model = ud.edm()
    ud.fit(model, rows, budget=seconds, samples=0)
    classic: Any = Density(tolerance=1e-5, probes=1)
    said = f"width {model.width}, {model.parameter_count:,} parameters"
    return model.log_prob, lambda x: model.log_prob(x, how=classic), said


def nsf(rows: Rows, seconds: float) -> tuple[Score, str]:
    """A neural spline flow of zuko, trained for so many seconds."""
    import zuko

    torch.manual_seed(0)
    x = torch.from_numpy(rows)
    mean, std = x.mean(0), x.std(0)
    x, held_out = ((part - mean) / std for part in (x[HELD_OUT:], x[:HELD_OUT]))
    flow = zuko.flows.NSF(x.shape[1], transforms=3, hidden_features=(64, 64))
    optimizer = torch.optim.AdamW(flow.parameters(), lr=1e-3)
    began, best, kept, steps = time.perf_counter(), -np.inf, flow.state_dict(), 0
    while (share := (time.perf_counter() - began) / seconds) < 1:
        optimizer.param_groups[0]["lr"] = 1e-3 * min(1.0, 2 * (1 - share))
        loss = -flow().log_prob(x[torch.randint(len(x), (256,))]).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        steps += 1
        if steps % 200 == 0:
            with torch.no_grad():
                found = float(flow().log_prob(held_out).mean())
            if found > best:
                best, kept = found, {key: v.clone() for key, v in flow.state_dict().items()}
    flow.load_state_dict(kept)

    def score(rows: Rows) -> Rows:
        with torch.no_grad():
            scaled = (torch.from_numpy(rows) - mean) / std
            return flow().log_prob(scaled).double().numpy() - float(std.double().log().sum())

    return score, f"{steps:,} steps"


def gmm(rows: Rows, _: float) -> tuple[Score, str]:
    """A Gaussian mixture, its number of components by BIC."""
    from sklearn.mixture import GaussianMixture

    tried = [GaussianMixture(k, random_state=0).fit(rows) for k in (1, 2, 4, 5, 6, 8, 12, 16, 24)]
    best = min(tried, key=lambda one: one.bic(rows))
    return best.score_samples, f"{best.n_components} components"


def kde(rows: Rows, _: float) -> tuple[Score, str]:
    """A kernel density, its bandwidth by held-out rows."""
    from sklearn.neighbors import KernelDensity

    spread = rows.std(0)

    def fitted(part: Rows, width: float) -> KernelDensity:
        return KernelDensity(bandwidth=width).fit(part / spread)

    def score(density: KernelDensity, x: Rows) -> Rows:
        return density.score_samples(x / spread) - np.log(spread).sum()

    widths = 2.0 ** np.arange(-6, 0.5, 0.5)
    best = max(widths, key=lambda w: score(fitted(rows[HELD_OUT:], w), rows[:500]).mean())
    final = fitted(rows, best)
    return lambda x: score(final, x), f"bandwidth {best:.3g}"


def measure(name: str, seconds: float) -> list[dict[str, Any]]:
    """Every method on one law."""
    law = LAWS[name]
    rows, fresh = (law.draw(n, seed).astype("f4") for n, seed in ((TRAINED, 1), (FRESH, 2)))
    truth, found = law.log_density(fresh.astype("f8")), []

    def add(method: str, score: Score, fresh: Rows, said: str, trained: float) -> None:
        score(fresh[:64])  # the first call takes longer
        began = time.perf_counter()
        lost = truth[: len(fresh)] - score(fresh)
        taken = time.perf_counter() - began
        row = {"law": name, "dimensions": law.dimensions, "method": method, "said": said}
        row |= {"lost": float(lost.mean()), "stderr": float(lost.std() / len(lost) ** 0.5)}
        row |= {"ms_a_row": 1e3 * taken / len(fresh), "trained": trained}
        print(line(row), flush=True)
        found.append(row)

    began = time.perf_counter()
    by_default, classic, said = ours(rows, seconds)
    trained = time.perf_counter() - began
    add("ours", by_default, fresh, said, trained)
    add("classic", classic, fresh[:CLASSIC], said, trained)
    for peer in (nsf, gmm, kde):
        began = time.perf_counter()
        score, said = peer(rows, seconds)
        add(peer.__name__, score, fresh, said, time.perf_counter() - began)
    return found


def line(row: dict[str, Any]) -> str:
    """A row of the table in Markdown."""
    lost = f"{row['lost']:.4f} +- {row['stderr']:.4f}"
    speed = f"{row['ms_a_row']:.3f} | {1e3 / row['ms_a_row']:,.0f}"
    cells = [row["law"], row["dimensions"], row["method"], lost, speed, f"{row['trained']:.0f}"]
    return f"| {' | '.join(map(str, cells))} | {row['said']} |"


def main() -> None:
    """Measure, print the table, and write it as JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=120.0, help="to train for, default 120")
    parser.add_argument("--threads", type=int, default=2, help="default 2")
    parser.add_argument("--laws", default=",".join(LAWS), help="default all")
    parser.add_argument("--out", type=Path, help="JSON file")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    heads = ("law", "D", "method", "nats lost", "ms a row", "rows/s", "trained s", "")
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    found = [row for name in asked.laws.split(",") for row in measure(name, asked.seconds)]
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
