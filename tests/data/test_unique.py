"""Columns that name the rows together are found, said, and counted in samples; no others are."""

import numpy as np
import pandas as pd
import pytest

from undiffuse.data import load, restore

N = 600


def keyed(seed=0):
    """Days of shops: each shop has each day once, and each till of a shop has its own number."""
    rng = np.random.default_rng(seed)
    shop, day = np.divmod(rng.permutation(6 * 150)[:N], 150)
    return pd.DataFrame(
        {
            "shop": np.array(list("abcdef"))[shop],
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(day, "D"),
            "sold": rng.poisson(40, N),
            "staff": rng.integers(2, 6, N),
            "paid": rng.gamma(2, 30, N),
        }
    )


def three(seed=0):
    rng = np.random.default_rng(seed)
    a, b, c = np.unravel_index(rng.permutation(12 * 12 * 12)[:N], (12, 12, 12))
    return pd.DataFrame({"a": a, "b": b * 10, "c": c, "x": rng.normal(size=N)})


@pytest.mark.parametrize(("made", "key"), [(keyed, "shop + day"), (three, "a + b + c")])
def test_the_smallest_sets_of_columns_in_which_no_row_repeats_are_said(made, key):
    assert load(made()).describe()["unique_keys"] == [key]


def test_nothing_is_a_key_that_one_row_repeats_or_that_would_hardly_repeat_by_chance():
    again = keyed()
    again.loc[5, ["shop", "day"]] = again.loc[9, ["shop", "day"]]
    assert "unique_keys" not in load(again).describe()
    rng = np.random.default_rng(0)
    for _ in range(12):  # 20 pairs of rows agree by chance in two of these, if not in three
        independent = pd.DataFrame(rng.integers(0, 90, (N, 5)), columns=list("abcde"))
        assert "unique_keys" not in load(independent).describe()


def test_samples_that_repeat_a_key_are_counted():
    data = load(keyed())
    form = restore(data.config())[1]
    rows = data.loaded.rows.take(np.arange(50))
    assert form.remarks(rows) == []
    rows[[7, 8, 30], :2] = rows[[1, 1, 2], :2]
    (said,) = form.remarks(rows)
    assert said.startswith('3 of 50 samples have the "shop" and "day" of another')
