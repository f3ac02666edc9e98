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


def test_associations_are_alike_by_their_difference_over_its_range():
    """Of numbers from -1 to 1, of the others from 0 to 1; the mean over pairs."""
    up, n = np.arange(40.0), 40
    real, fake = np.stack([up, up], 1), np.stack([up, -up], 1)
    numbers = {"a": 0, "b": 0}
    assert association_figure(tables(real, fake, sizes=numbers)).value == 0
    codes, halves = up % 2, (up >= 20) * 1.0
    for a, b in ((codes, codes), (codes, up % 2 + 10)):  # of two categories, of both sorts
        sizes = {"a": 2, "b": 0 if b.max() > 1 else 2}
        real, fake = np.stack([a, b], 1), np.stack([a, np.tile([0.0, 0, 1, 1], 10) + b.min()], 1)
        assert association_figure(tables(real, fake, sizes=sizes)).value == pytest.approx(0)
        swapped = {"b": sizes["b"], "a": sizes["a"]}
        turned = tables(np.flip(real, 1).copy(), np.flip(fake, 1).copy(), sizes=swapped)
        assert association_figure(turned).value == pytest.approx(0)
    three = {"a": 0, "b": 0, "c": 2}
    real = np.stack([up, up, halves], 1)
    fake = np.stack([up, -up, halves], 1)
    assert association_figure(tables(real, fake, sizes=three)).value == pytest.approx(2 / 3)
    alone = association_figure(tables(real[:, :1], fake[:, :1], sizes={"a": 0}))
    assert (alone.value, alone.floor, alone.n) == (1, 1, n)


def test_associations_are_over_rows_that_have_both_and_none_where_one_is_constant():
    nan = np.nan
    a, b = np.array([0.0, 1, 2, 9, nan]), np.array([0.0, 1, 2, nan, -9])
    assert association(a, b) == pytest.approx(1)
    for size_a, size_b in ((0, 0), (3, 0), (0, 3), (3, 3)):
        assert association(np.ones(3), np.arange(3.0), size_a, size_b) == 0
        assert association(np.arange(3.0), np.ones(3), size_a, size_b) == 0
        assert association(np.array([1.0, nan]), np.array([1.0, 1]), size_a, size_b) == 0
        assert association(np.array([0.0, 1]), np.array([0.0, 1]), size_a, size_b) == (
            pytest.approx(1)
        )


def test_the_correlation_ratio_is_the_share_of_the_variance_of_ranks_between_categories():
    rng = np.random.default_rng(0)
    codes, values = rng.choice([0.0, 2.0, 5.0], 50), rng.normal(size=50).round(1)
    from scipy.stats import rankdata

    ranks = rankdata(values)
    between = sum(
        (codes == code).sum() * (ranks[codes == code].mean() - ranks.mean()) ** 2
        for code in np.unique(codes)
    )
    expected = np.sqrt(between / ((ranks - ranks.mean()) ** 2).sum())
    assert association(codes, values, 6, 0) == pytest.approx(expected)
    assert association(values, codes, 0, 6) == pytest.approx(expected)


def test_a_missing_value_is_a_category_of_its_own():
    """Shares of 0, 1, 2 and missing: 1/4 each against 1/2, 0, 0, 1/2."""
    real, fake = np.array([0.0, 1, 2, np.nan]), np.array([0.0, np.nan])
    assert column_fidelity(real, fake, 3) == 0.5
    assert column_fidelity(real[:3], np.full(4, np.nan), 3) == 0
    assert column_fidelity(real, real, 3) == 1
    assert column_fidelity(np.array([-5.0, np.nan, 3, 4]), np.array([np.nan, -7.0])) == 0.25


@pytest.fixture
def few_trees(monkeypatch):
    """Five of them, which learn a rule of one split as well."""
    monkeypatch.setattr("undiffuse.evaluation.metrics.tables.TREES", 5)


def test_eight_categories_are_predicted_from_all_other_columns(few_trees):
    """Each is the sign of the last column. A column of one category teaches nothing."""
    rng = np.random.default_rng(0)
    names = [f"c{i}" for i in range(10)]
    sizes = {"constant": 1, **dict.fromkeys(names, 2), "x": 0}

    def rows(n):
        x = rng.normal(size=n)
        return np.stack([np.zeros(n), *[(x > 0) * 1.0 for _ in names], x], 1)

    test = rows(40)
    test[0, 1] = 1 - test[0, 1]  # predicted wrongly, and the others of it
    found = usefulness(tables(test, rows(60), rows(50), sizes))
    assert list(found) == names[:8]
    assert (found["c0"].value, found["c0"].high) == (39 / 40, 1)
    assert all(one.floor == one.value in (1, 39 / 40) for one in found.values())
    assert all((one.n, one.high) == (40, 1) for one in found.values())
    two = {"constant": 1, "x": 0}
    pair = rows(40)[:, [0, 11]]
    assert list(usefulness(tables(pair, pair, pair, two))) == ["x"]  # the last, if none has two
    assert usefulness(tables(pair[:, 1:], pair[:, 1:], pair[:, 1:], {"x": 0})) is None


def test_what_is_explained_is_one_less_the_error_over_the_variance(few_trees):
    """Trees see as many rows of either side, and rows without the target not at all."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=90)
    whole = np.stack([x, 3 * (x > 0) - 1.0], 1)
    test, fake, train = whole[:30], whole[30:60].copy(), whole[60:].copy()
    test[:5, 1], fake[:10, 1], train[20:, 1] = np.nan, np.nan, np.nan
    numbers = {"x": 0, "y": 0}
    (found,) = usefulness(tables(test, fake, train, numbers)).values()
    from sklearn.ensemble import HistGradientBoostingRegressor

    truth = test[5:, 1]

    def explained(rows):
        trees = HistGradientBoostingRegressor(max_iter=5, early_stopping=False)
        wrong = trees.fit(rows[:, :1], rows[:, 1]).predict(test[5:, :1]) - truth
        return 1 - wrong**2 / truth.var()

    ours, theirs = explained(fake[10:]), explained(train[:20])
    assert found.value == pytest.approx(ours.mean())
    assert found.stderr == pytest.approx(ours.std(ddof=1) / 5)
    assert found.floor == pytest.approx(theirs.mean())
    assert (found.n, found.high <= 1) == (25, True)
    few = fake.copy()
    few[12:, 1] = np.nan  # two rows are left, and are enough
    assert list(usefulness(tables(test, few, train, numbers))) == ["y"]
    few[11:, 1] = np.nan
    assert usefulness(tables(test, few, train, numbers)) == {}


@pytest.mark.parametrize(("size", "numbers"), [(0, True), (60, False), (254, False), (300, True)])
def test_more_categories_than_trees_take_are_numbers_to_them(few_trees, size, numbers):
    """Numbers are split at the middle; of a category with two rows trees learn nothing."""
    codes = np.tile(np.arange(float(size or 100)), 2)
    whole = np.stack([codes, (codes >= (size or 100) / 2) * 1.0], 1)
    found = usefulness(tables(whole, whole, whole, {"code": size, "half": 2}))
    assert found["half"].value == (1 if numbers else 0.5)
