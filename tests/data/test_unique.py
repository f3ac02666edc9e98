"""Columns that name the rows are found and said, and samples that repeat them drawn again."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

import undiffuse as ud
from undiffuse.data import load, restore
from undiffuse.data.tables.form import TableForm
from undiffuse.data.tables.unique import Key
from undiffuse.models.again import distinct

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
    assert form.repeated(rows).all()  # they are rows of the data
    rows[:, 1] += 1000
    assert form.remarks(rows) == []
    rows[[7, 8, 30], :2] = rows[[1, 1, 2], :2]
    assert np.flatnonzero(form.repeated(rows)).tolist() == [7, 8, 30]
    (said,) = form.remarks(rows)
    assert said.startswith('3 of 50 samples have the "shop" and "day" of another, or of a row')


class Keyed:
    """Draws a row of two numbers and a condition by its own number, of few keys."""

    def __init__(self, form, width, conditions):
        self.form, self.width, self.conditions, self.asked = form, width, conditions, 0

    def vectors_of(self, where):
        return where

    def sample_conditions(self, n, *, label=None, vector=None, given=None, seed=0, first=0):
        own = self.conditions[np.arange(n) % len(self.conditions)] if vector is None else vector
        return {"vector": torch.as_tensor(own)}

    def sample_rows(self, n, *, vector, seed=0, first=0):
        n = n * len(vector)
        self.asked += n
        numbers = first if isinstance(first, np.ndarray) else first + np.arange(n)
        drawn = [np.random.default_rng([seed, i]).integers(0, self.width, 2) for i in numbers]
        own = self.sample_conditions(n, vector=vector)["vector"][:, 0].numpy()
        return np.column_stack([drawn, own])


@pytest.mark.parametrize(("width", "met"), [(40, True), (12, False)])
def test_samples_that_repeat_a_key_are_drawn_again_under_their_own_conditions(width, met):
    """As long as that helps; 60 keys are taken, and 12 x 12 are too few for 100 more."""
    taken = np.random.default_rng(0).integers(0, width, (60, 2))
    form = SimpleNamespace(keys=[Key.of(taken.astype(float), [0, 1])])
    form.repeated = lambda rows: TableForm.repeated(form, rows)
    model = Keyed(form, width, np.array([[3.0], [5.0], [8.0]]))
    rows = model.sample_rows(1, vector=model.sample_conditions(100)["vector"])
    assert form.repeated(rows).sum() > 3
    found = distinct(model, rows)
    np.testing.assert_array_equal(found[:, 2], rows[:, 2])
    same = (found == rows).all(1)
    assert same.sum() > 30 or not met  # else those drawn again displace later ones
    assert not form.repeated(rows)[same].any() or not met
    pairs = {*map(tuple, found[:, :2].tolist())}
    if met:
        assert len(pairs) == 100
        assert not pairs & {*map(tuple, taken.tolist())}
    else:
        assert len(pairs) < 100
        assert model.asked < 100 * 30


def test_a_key_of_one_column_and_none_of_numbers_that_differ_by_chance():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"seat": rng.permutation(4 * N)[:N] * 5, "x": rng.normal(size=N)})
    assert load(frame).describe()["unique_keys"] == ["seat"]
    apart = frame.assign(seat=np.unique(rng.integers(0, 10**7, N + 9))[:N])
    assert "unique_keys" not in load(apart).describe()


def test_samples_from_a_model_repeat_no_key_neither_of_each_other_nor_of_the_data():
    frame = keyed()
    data = load(frame)
    model = ud.flow(data).fit(data, steps=3)
    names = ["shop", "day"]
    drawn = model.sample(100, seed=1)
    both = pd.concat([frame[names], drawn[names]])
    assert not both.duplicated().any()
    assert list(drawn) == list(frame)
