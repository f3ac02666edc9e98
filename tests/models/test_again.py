"""Completions that leave a cell empty are drawn again: by rejection, each on its own."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats

import undiffuse as ud
from undiffuse.cli.main import main
from undiffuse.interfaces import PartialRows
from undiffuse.models.again import ATTEMPTS, filled, unfilled

SHARE = 0.4


class Gappy:
    """Fills the second of two cells of a row: nothing in `share` of the cases, else U(0, 1)."""

    form = None

    def __init__(self, share=SHARE):
        self.share = share

    def vectors_of(self, where):
        return where

    def sample_conditions(self, n, **options):
        return {}

    def sample_rows(self, n, *, given, seed=0, first=0):
        total = n * len(given)
        numbers = first if isinstance(first, np.ndarray) else first + np.arange(total)
        drawn = [np.random.default_rng([seed, i]).uniform(size=2) for i in numbers]
        cells = [np.nan if gap < self.share else value for gap, value in drawn]
        part = given.at(np.arange(total) * len(given) // total)
        return part.completed(np.column_stack([np.zeros(total), cells]))


def of(rows):
    known = np.tile([True, False], (rows, 1))
    return PartialRows(np.column_stack([np.arange(rows), np.zeros(rows)]).astype(float), known)


def test_what_fills_a_cell_is_drawn_given_that_it_is_there():
    model, given = Gappy(), of(500)
    rows = model.sample_rows(4, given=given)
    assert unfilled(rows).sum() > 500
    found = filled(model, rows, given=given)
    assert not unfilled(found).any()
    there = ~np.isnan(rows[:, 1])
    np.testing.assert_array_equal(found[there], rows[there])
    np.testing.assert_array_equal(found[:, 0], np.repeat(np.arange(500), 4))
    assert stats.kstest(found[~there, 1], "uniform").pvalue > 1e-3
    assert len(np.unique(found[:, 1])) == 2000


def test_a_completion_does_not_depend_on_others():
    model, given = Gappy(), of(50)
    whole = filled(model, model.sample_rows(1, given=given), given=given)
    few, first = given.at(np.arange(30, 50)), np.arange(30, 50)
    own = filled(model, model.sample_rows(1, given=few, first=first), given=few, first=first)
    np.testing.assert_array_equal(own, whole[30:])


@pytest.mark.parametrize("share", [0.9, 1.0])
def test_a_cell_that_is_hardly_ever_there_is_left_empty_after_some_attempts(share):
    model, given = Gappy(share), of(1000)
    left = unfilled(filled(model, model.sample_rows(1, given=given), given=given)).sum()
    assert abs(left - 1000 * share**ATTEMPTS) <= 4 * np.sqrt(1000 * share**ATTEMPTS)


class Gated(Gappy):
    """The same, with a third cell that no row ever has."""

    def sample_rows(self, n, *, given, seed=0, first=0):
        rows = super().sample_rows(n, given=given, seed=seed, first=first)
        return np.column_stack([rows, np.full(len(rows), np.nan)])


def test_beside_a_cell_that_no_row_has_the_others_are_filled():
    """And stay so while that one is tried in vain."""
    model, given = Gated(), of(200)
    rows = model.sample_rows(1, given=given)
    found = filled(model, rows, given=given)
    there = ~np.isnan(rows[:, 1])
    assert not np.isnan(found[:, 1]).any()
    np.testing.assert_array_equal(found[there], rows[there])
    assert np.isnan(found[:, 2]).all()


def test_samples_keep_their_gaps():
    model, given = Gappy(), of(50)
    rows = model.sample_rows(1, given=given)
    assert filled(model, rows) is rows


def test_a_table_is_filled_by_the_command_and_in_python(tmp_path, capsys, monkeypatch):
    """Half of the cells were missing; what is still empty after the last attempt is counted."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=300), "b": rng.normal(size=300)})
    frame["k"] = rng.choice(list("xyz"), 300)
    frame.loc[rng.random(300) < 0.5, "b"] = np.nan
    frame.loc[rng.random(300) < 0.5, "k"] = None
    model = ud.edm(ud.load(frame), width=8).fit(frame, steps=3)
    asked = frame.head(40).assign(b=np.nan, k=None)
    assert model.sample(200, seed=1)[["b", "k"]].isna().any().all()
    whole = model.complete(asked, n=2, seed=1)
    assert not whole.isna().any().any()
    run = model.save(tmp_path / "run")
    asked.to_csv(tmp_path / "asked.csv", index=False)
    command = f"sample {run} --given {tmp_path}/asked.csv -n 2 --seed 1 --out {tmp_path}/whole.csv"
    assert main(command.split()) == 0
    again = pd.read_csv(tmp_path / "whole.csv")
    pd.testing.assert_frame_equal(again, whole, check_dtype=False)
    assert "empty cell" not in capsys.readouterr().err
    monkeypatch.setattr("undiffuse.models.again.ATTEMPTS", 1)
    assert main([*command.split(), "--overwrite"]) == 0
    left = pd.read_csv(tmp_path / "whole.csv").isna().any(axis=1).sum()
    assert left > 0
    assert f"{left} of them still have an empty cell" in capsys.readouterr().err
