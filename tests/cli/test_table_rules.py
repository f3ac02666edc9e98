"""A table with rules on the command line: found, kept in samples, scored, and stated."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

SMALL = ("--steps", 3, "--model.width", 8, "--model.depth", 1, "--precision", "float32",
         "--training.samples", 0, "--device", "cpu", "--quiet")  # fmt: skip
N = 600


def trips(n: int = N) -> pd.DataFrame:
    """Trips of which distance, hour, total and arrival follow from others."""
    rng = np.random.default_rng(0)
    origin, dest = rng.integers(0, 3, n), rng.integers(0, 6, n) // 2
    leaves = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 400_000, n), "min")
    fare, tip = rng.integers(300, 4000, n) / 100, rng.integers(0, 500, n) / 100
    return pd.DataFrame(
        {
            "origin": np.array(["north", "south", "west"])[origin],
            "dest": np.array(["port", "zoo", "sea"])[(origin + dest // 2) % 3],
            "miles": 7 * origin + 3 * ((origin + dest // 2) % 3) + 1,
            "leaves": leaves,
            "weekday": leaves.day_name(),
            "arrives": leaves + pd.to_timedelta(rng.integers(1, 90, n), "min"),
            "fare": fare,
            "tip": tip,
            "total": np.round(fare + tip, 2),
        }
    )


def keep(frame: pd.DataFrame, real: pd.DataFrame) -> np.ndarray:
    """Return which rows keep all rules."""
    route = ["origin", "dest", "miles"]
    leaves = pd.to_datetime(frame.leaves)
    return np.all(
        [
            pd.MultiIndex.from_frame(frame[route]).isin(pd.MultiIndex.from_frame(real[route])),
            leaves.dt.day_name() == frame.weekday,
            pd.to_datetime(frame.arrives) > leaves,
            np.isclose(frame.total, frame.fare + frame.tip),
        ],
        axis=0,
    )


@pytest.fixture
def table(tmp_path: Path) -> Path:
    trips().to_csv(tmp_path / "trips.csv", index=False)
    return tmp_path / "trips.csv"


def test_rules_hold_from_info_to_scores(cli, table: Path, tmp_path: Path) -> None:
    run, real = tmp_path / "run", trips()
    rule = ("--data.rule", "arrives > leaves,fare >= 3")
    told = json.loads(cli("info", table, *rule, "--json").done().out)
    assert {line["column"] for line in told["rules"]} == {
        "miles", "dest", "weekday", "arrives", "total",
    }  # fmt: skip
    alone = json.loads(cli("info", table, "--data.rules", "false", "--json").done().out)
    assert "rules" not in alone
    done = cli("train", table, "--out", run, *rule, *SMALL).done()
    assert "Traceback" not in done.err
    for suffix, read in ((".csv", pd.read_csv), (".parquet", pd.read_parquet)):
        out = tmp_path / f"new{suffix}"
        cli("sample", run, "-n", 300, "--out", out, "--steps", 3).done()
        rows = read(out)
        assert list(rows) == list(real)
        assert keep(rows, real).all()
        assert (rows.fare >= 3).all()
        if suffix == ".parquet":
            assert rows.dtypes["miles"] == real.dtypes["miles"]
            assert pd.api.types.is_datetime64_any_dtype(rows.arrives)

    odd = real.head(6).copy()
    odd.loc[1, "total"] += 1
    odd.loc[2, "arrives"] = odd.loc[2, "leaves"]
    odd.loc[3, "weekday"] = "Monday" if odd.loc[3, "weekday"] != "Monday" else "Sunday"
    odd.to_csv(tmp_path / "odd.csv", index=False)
    scores = tmp_path / "scores.csv"
    cli("score", run, tmp_path / "odd.csv", "--out", scores, "--evaluations", 4,
        "--calibration", 20).done()  # fmt: skip
    scored = pd.read_csv(scores)
    said = scored.note
    assert 'in all training rows it follows from "fare" and "tip"' in said[1]
    assert 'breaks the stated rule "arrives > leaves"' in said[2]
    assert "lookup of 7 values of the weekday of leaves" in said[3]
    assert scored.log_likelihood[2] == -np.inf
    assert np.isfinite(scored.log_likelihood.drop(2)).all()


def test_given_cells_keep_the_rules(cli, table: Path, tmp_path: Path) -> None:
    run, real, out = tmp_path / "run", trips(), tmp_path / "full.csv"
    cli("train", table, "--out", run, *SMALL).done()
    given = tmp_path / "given.csv"
    real[["origin", "fare", "tip"]].head(5).to_csv(given, index=False)
    cli("sample", run, "--given", given, "-n", 2, "--out", out, "--steps", 3).done()
    rows = pd.read_csv(out)
    assert keep(rows, real).all()
    assert (rows.fare.to_numpy() == real.fare.head(5).repeat(2).to_numpy()).all()
    real[["total"]].head(2).to_csv(given, index=False)
    words = ("sample", run, "--given", given, "-n", 2, "--out", out, "--overwrite")
    assert cli(*words).refused('fill "fare" and "tip" too, or leave "total" empty')


def test_a_stated_rule_that_rows_break_is_refused(cli, table: Path, tmp_path: Path) -> None:
    words = ("train", table, "--out", tmp_path / "run", "--steps", 2)
    said = ("rows break the stated rule", "the first of them row 1;")
    assert cli(*words, "--data.rule", "tip > fare").refused(*said)
    assert cli(*words, "--data.rule", "tips > fare").refused('there is no column "tips"')
    assert not (tmp_path / "run").exists()
