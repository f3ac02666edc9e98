"""Small trainings with gaps, and how far they are from conditional laws in closed form."""

from __future__ import annotations

import math

import numpy as np
import torch

import undiffuse as ud
from undiffuse.interfaces import PartialRows

R = 0.8  # of the autoregressive process x_i = R x_(i - 1) + sqrt(1 - R^2) z_i, of variance 1


def modes(n, seed):
    """Two modes (-0.3, -2) and (0.3, 2) of weights 0.3 and 0.7, their first entries overlapping."""
    rng = np.random.default_rng(seed)
    side = np.where(rng.random(n) < 0.3, -1.0, 1.0)
    rows = np.stack([0.3 * side, 2 * side], 1) + rng.normal(size=(n, 2)) * (0.4, 0.2)
    return rows.astype(np.float32)


def error_of_weights(steps, n=4000, batch=256, **options):
    """The greatest error of the share of the second mode, given the first entry at five values."""
    torch.manual_seed(0)
    model = ud.edm(width=64, depth=3, **options)
    ud.fit(model, ud.load(modes(20_000, 0)), steps=steps, batch=batch, samples=0, device="cpu")
    at = np.array([-0.6, -0.2, 0.0, 0.2, 0.6], np.float32)
    known = np.array([[True, False]]).repeat(5, 0)
    given = PartialRows(np.stack([at, 0 * at], 1), known)
    x = model.sample_rows(n, given=given, seed=1, batch=5 * n).reshape(5, n, 2)[:, :, 1]
    nats = [0.5 * ((at - m) / 0.4) ** 2 for m in (-0.3, 0.3)]
    exact = 1 / (1 + 0.3 / 0.7 * np.exp(nats[1] - nats[0]))
    return float(np.abs((x > 0).mean(1) - exact).max())


def process(n, length, seed):
    """Rows (n, length) of the autoregressive process, as sequences of one channel."""
    z = np.random.default_rng(seed).normal(size=(n, length))
    rows = [z[:, 0]]
    for i in range(1, length):
        rows.append(R * rows[-1] + math.sqrt(1 - R**2) * z[:, i])
    return np.stack(rows, 1).astype(np.float32)[:, :, None]


def error_of_future(steps, length=12, n=2000, *, sequence=True, **options):
    """The greatest error of P(x_i > 0) for 1, 2 and 3 steps after a known past that ends in -1.

    The second row has a known end too: its law is the bridge between them. As sequences, or as
    vectors of so many numbers.
    """
    torch.manual_seed(0)
    rows, few = process(10_000, length, 0), process(2, length, 5)
    data = ud.load(rows, axes="NTC") if sequence else ud.load(rows[:, :, 0])
    model = ud.edm(width=32 if sequence else 64, **options)
    ud.fit(model, data, steps=steps, batch=128, samples=0, device="cpu")
    past, known = length // 2, np.zeros((2, length, 1), bool)
    known[:, :past] = True
    known[1, past + 3 :] = True
    few[:, past - 1] = -1
    exact = _above(few[:, :, 0], known[:, :, 0])[:, past : past + 3]
    if not sequence:
        few, known = few[:, :, 0], known[:, :, 0]
    x = model.sample_rows(n, given=PartialRows(few, known), seed=1, batch=2 * n)
    found = (x.reshape(2, n, length)[:, :, past : past + 3] > 0).mean(1)
    return float(np.abs(found - exact).max())


def regimes(n, length, seed):
    """Rows (n, length) of x_i = m + r (x_(i - 1) - m) + noise, r = 0.5, m = 1 in 0.7 of them or -1.

    Each regime has variance 1.
    """
    rng = np.random.default_rng(seed)
    m = np.where(rng.random(n) < 0.7, 1.0, -1.0)
    rows = [m + rng.normal(size=n)]
    for _ in range(1, length):
        rows.append(m + 0.5 * (rows[-1] - m) + math.sqrt(0.75) * rng.normal(size=n))
    return np.stack(rows, 1).astype(np.float32)


def error_of_regimes(steps, n, batch, **options):
    """The greatest error of P(x_2 > 0) given x_0 and x_1, at five pairs, by Bayes' rule."""
    torch.manual_seed(0)
    model = ud.edm(width=64, depth=3, **options)
    rows = regimes(40_000, 3, 0)
    ud.fit(model, ud.load(rows), steps=steps, batch=batch, samples=0, device="cpu")
    at = np.array([[0, 0], [0.4, -0.3], [-0.5, 0.2], [-0.6, -0.4], [1, -0.5]], np.float32)
    known = np.array([[True, True, False]]).repeat(5, 0)
    given = PartialRows(np.pad(at, ((0, 0), (0, 1))), known)
    x = model.sample_rows(n, given=given, seed=1, batch=5 * n).reshape(5, n, 3)[:, :, 2]
    a, b = at.astype(np.float64).T
    weights, above = [], []
    for share, m in ((0.7, 1.0), (0.3, -1.0)):
        nats = (a - m) ** 2 / 2 + (b - m - 0.5 * (a - m)) ** 2 / 1.5
        weights.append(share * np.exp(-nats))
        mean = m + 0.5 * (b - m)
        above.append([0.5 * math.erfc(-one / math.sqrt(1.5)) for one in mean])
    exact = (np.array(weights) * np.array(above)).sum(0) / np.sum(weights, 0)
    return float(np.abs((x > 0).mean(1) - exact).max())


def _above(rows, known):
    """P(x_i > 0 | known) of each entry, by conditioning the Gaussian."""
    place = np.arange(rows.shape[1])
    cov = R ** np.abs(place[:, None] - place)
    found = []
    for row, mask in zip(rows.astype(np.float64), known):
        gain = cov[:, mask] @ np.linalg.inv(cov[np.ix_(mask, mask)])
        mean, var = gain @ row[mask], np.diag(cov - gain @ cov[mask])
        scaled = mean / np.sqrt(2 * np.maximum(var, 1e-12))
        found.append([0.5 * math.erfc(-value) for value in scaled])
    return np.array(found)
