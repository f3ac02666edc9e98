"""Tables: each figure on cases whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from undiffuse.evaluation.metrics import Tables
from undiffuse.evaluation.metrics.tables import (
    association,
    association_figure,
    column_fidelity,
    column_figures,
    detection,
    usefulness,
)

SIZES = {"length": 0, "weight": 0, "kind": 3}


def table(n, seed, *, linked=True):
    """Two numbers of correlation 0.8, and the sign of their sum, missing now and then."""
    rng = np.random.default_rng(seed)
    a, z = rng.normal(size=(2, n))
    b = 0.8 * a + 0.6 * z
    kind = np.where(a + b > 0, 1.0, 0.0)
    rows = np.stack([a, b, np.where(rng.random(n) < 0.05, np.nan, kind)], 1)
    if not linked:
        rows = np.stack([rng.permutation(column) for column in rows.T], 1)
    return rows


def test_column_fidelity_is_one_less_the_ks_statistic_or_the_total_variation():
    from scipy.stats import ks_2samp

    rng = np.random.default_rng(0)
    a, b = rng.normal(size=60).round(1), rng.normal(0.5, size=40).round(1)
    assert column_fidelity(a, b) == pytest.approx(1 - ks_2samp(a, b).statistic)
    assert column_fidelity(np.array([0.0, 0, 1, np.nan]), np.array([0.0, 1.0]), 2) == pytest.approx(
        0.75
    )
    assert column_fidelity(np.array([1.0, np.nan]), np.array([1.0, 1.0])) == 0.5


def test_associations_are_those_of_scipy():
    from scipy.stats import spearmanr
    from scipy.stats.contingency import association as contingency

    rows = table(200, 0)
    rows = rows[~np.isnan(rows[:, 2])]
    assert association(rows[:, 0], rows[:, 1]) == pytest.approx(
        spearmanr(rows[:, 0], rows[:, 1]).statistic
    )
    codes = (rows[:, 0] > 0.5) + (rows[:, 0] > 1.0) * 1.0
    counts = np.array(
        [[np.sum((codes == i) & (rows[:, 2] == j)) for j in range(2)] for i in range(3)]
    )
    assert association(codes, rows[:, 2], 3, 3) == pytest.approx(
        contingency(counts, method="cramer")
    )
    assert association(rows[:, 2], rows[:, 2] * 1.0, 3, 3) == pytest.approx(1)
    assert association(np.repeat([0.0, 1.0], 50), np.arange(100.0), 2, 0) == pytest.approx(
        0.866, abs=1e-3
    )


def tables(real, fake, training=None, sizes=SIZES):
    return Tables(real=real, fake=fake, training=training, sizes=sizes)


def test_shuffled_columns_lose_their_associations_and_nothing_else():
    given = tables(table(1200, 0), table(600, 1, linked=False))
    for name, figure in column_figures(given).items():
        assert figure.high > figure.floor - 0.02, name
    associations = association_figure(given)
    assert associations.high < associations.floor - 0.2


def test_shuffled_columns_are_detected_and_real_rows_are_not():
    assert detection(tables(table(300, 0), table(300, 1, linked=False))).low > 0.7
    same = detection(tables(table(300, 0), table(300, 1)))
    assert abs(same.value - 0.5) < 4 * same.stderr


@pytest.mark.parametrize("numbers", [True, False])
def test_what_is_learned_from_samples_is_useful_if_they_are_good(numbers):
    """Categories are predicted, or the last column if there are none."""
    columns = slice(0, 2) if numbers else slice(0, 3)
    sizes = dict(list(SIZES.items())[columns])
    train, test = table(400, 0)[:, columns], table(400, 2)[:, columns]
    (name, good), (_, bad) = (
        *usefulness(tables(test, table(400, 1)[:, columns], train, sizes)).items(),
        *usefulness(tables(test, table(400, 1, linked=False)[:, columns], train, sizes)).items(),
    )
    assert name == ("weight" if numbers else "kind")
    assert abs(good.value - good.floor) < 0.1
    assert bad.high < bad.floor - 0.1


@pytest.mark.parametrize("side", range(3))
def test_a_column_that_is_hardly_known_is_not_predicted(side):
    numbers = {"length": 0, "weight": 0}
    sides = [table(60, seed)[:, :2] for seed in range(3)]
    sides[side][1:, 1] = np.nan
    train, fake, test = sides
    assert usefulness(tables(test, fake, train, numbers)) == {}
    sides[side][:, 1] = 3.0  # nothing to explain, or nothing to learn
    found = usefulness(tables(test, fake, train, numbers))
    assert list(found) == ([] if side == 2 else ["weight"])
    assert usefulness(tables(test, fake, None, numbers)) is None


def test_a_floor_on_fewer_rows_is_said():
    few, enough = (column_figures(tables(table(n, 0), table(200, 1)))["weight"] for n in (200, 400))
    assert "the floor is that of 100 real rows" in few.warning
    assert not enough.warning
