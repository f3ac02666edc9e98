"""Trees tell samples of another law from real rows, of every kind of data, and only those."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from undiffuse.comparison.triangle import best
from undiffuse.data import load
from undiffuse.evaluation.metrics import Mixed, as_facts, detection
from undiffuse.evaluation.references import refer
from undiffuse.evaluation.yardsticks import mixed, sampled


def coloured(rows: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Gaussian noise with the mean and covariance of rows (N, ...)."""
    flat = rows.reshape(len(rows), -1).astype(float)
    drawn = np.random.default_rng(seed).multivariate_normal(
        flat.mean(0), np.cov(flat.T), size=n, method="svd"
    )
    low, high = rows.min(), rows.max()
    return np.clip(drawn.round(), low, high).reshape(n, *rows.shape[1:]).astype(rows.dtype)


@pytest.fixture(scope="module")
def few_digits():
    """280 digits, 28 of them held out, and 28 others."""
    every = load("digits").loaded.rows.take(np.random.default_rng(0).permutation(1797))
    return refer(load(every[:280]), features="raw"), every


def test_coloured_noise_is_told_from_28_held_out_rows(few_digits):
    """Its mean, covariance and precision are right."""
    reference, every = few_digits
    noise = sampled(coloured(every[:280], 100, 0), reference)
    found = detection(mixed(noise, reference))
    assert found.n == 28
    assert found.low > 0.7
    honest = detection(mixed(sampled(every[900:1000], reference), reference))
    assert honest.low < 0.5 < honest.high


def rows_of(kind: str, n: int, seed: int, wrong: bool) -> np.ndarray:
    """Two linked columns and a third of categories, missing now and then; unlinked if wrong."""
    rng = np.random.default_rng(seed)
    a, z = rng.normal(size=(2, n))
    b = 0.8 * a + 0.6 * z
    code = np.where(rng.random(n) < 0.1, np.nan, (a + b > 0) * 1.0)
    rows = np.stack([a, b, code], 1)[:, : 3 if kind == "table" else 2]
    return np.stack([rng.permutation(column) for column in rows.T], 1) if wrong else rows


@pytest.mark.parametrize("kind", ["table", "vectors"])
def test_what_no_column_shows_alone_is_told(kind):
    real, honest, wrong = (rows_of(kind, 300, i, i == 2) for i in range(3))
    assert detection(Mixed(real=real, fake=wrong)).low > 0.6
    same = detection(Mixed(real=real, fake=honest))
    assert abs(same.value - 0.5) < 4 * same.stderr


@pytest.mark.parametrize("blur", [0.0, 0.1])
def test_samples_that_repeat_real_rows_are_far_below_chance_and_no_better_than_noise(blur):
    """A row is judged by trees that saw its copy, of the other kind."""
    real, honest, noise = (rows_of("vectors", 40, i, False) for i in range(3))
    copies = detection(Mixed(real=real, fake=real + blur * noise))
    assert copies.high < 0.35
    facts = {"honest": detection(Mixed(real=real, fake=honest)), "copies": copies}
    rows = [{"preset": name, **as_facts({"detection": facts[name]})} for name in facts]
    assert best(rows) == {"detection": ["honest"]}


@pytest.mark.parametrize("n", [8, 20])
def test_samples_of_the_same_law_are_accused_at_the_stated_rate(n, monkeypatch):
    """The lower end of the 95 % interval lies above a half in at most 2.5 % of cases."""
    monkeypatch.setattr("undiffuse.evaluation.metrics.two_sample.TREES", 5)
    sides = [[rows_of("table", n, 2 * i + j, False) for j in (0, 1)] for i in range(60)]
    found = [detection(Mixed(real=a, fake=b, seed=i)) for i, (a, b) in enumerate(sides)]
    accused = np.mean([figure.low > 0.5 for figure in found])
    assert accused <= 0.025 + 3 * (0.025 * 0.975 / 60) ** 0.5
    values = np.array([figure.value for figure in found])
    assert values.mean() == pytest.approx(0.5, abs=4 * values.std() / 60**0.5)


def test_trees_are_those_of_the_seed_and_tell_what_is_apart(monkeypatch):
    monkeypatch.setattr("undiffuse.evaluation.metrics.two_sample.TREES", 5)
    given = Mixed(real=rows_of("vectors", 40, 0, False), fake=rows_of("vectors", 40, 1, False))
    assert detection(given) == detection(given)
    assert detection(replace(given, seed=1)).value != detection(given).value
    far = detection(replace(given, fake=given.real + 99))
    assert (far.value, far.n, far.floor) == (1, 40, 0.5)


def test_a_missing_number_is_told_from_every_number(monkeypatch):
    monkeypatch.setattr("undiffuse.evaluation.metrics.two_sample.TREES", 5)
    numbers, missing = np.zeros((40, 1)), np.full((40, 1), np.nan)
    assert detection(Mixed(real=missing, fake=numbers)).value == 1
    assert detection(Mixed(real=numbers, fake=missing)).value == 1
    assert detection(Mixed(real=missing, fake=missing)).value == 0.5
