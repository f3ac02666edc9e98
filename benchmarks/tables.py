"""Compare samples of tables after equal training time: this library, SDV and ForestDiffusion.

Each contender learns the training rows of each of five tables that installed packages ship, with
all its defaults, for the same seconds on one thread (`undiffuse train --budget`; the others as
table_peers.py says), and as many samples are drawn. They are compared with rows that were held out:

    AUROC      of gradient boosting that tells samples from held-out rows, as many of each,
               cross-fitted in five folds, and its standard error over these: 0.5 is best
    useful     score of gradient boosting that predicts a column of held-out rows after training
               on samples, over that after training on rows (R2, or 2 AUROC - 1 of classes): 1
    quality    score of SDMetrics' QualityReport beside the training rows
    nearer     how often a sample is nearer to a training row than a held-out row is: 0.5 is best,
               1 if all are copies
    rules      share of samples that keep what holds in every row, the mean over the table's rules

    python benchmarks/tables.py --out FOLDER [--seconds 75] [--tables flights,fair] [--processor]

Results are kept in FOLDER/parts, one file for each table and contender, so an interrupted command
resumes. FOLDER/table.md is rewritten after each part. With --processor all times are CPU time,
which other work on the machine changes little.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from peers import environ, python
from scipy.stats import mannwhitneyu, rankdata
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import NearestNeighbors
from table_peers import ALONE, OTHER, PACKAGES, PEERS, TABLES, seconds_of, sort_of

from undiffuse.atomic import write_json
from undiffuse.run import Run

FOLDER, FOLDS = Path(__file__).parent, 5
MOST_CATEGORIES = 255  # that gradient boosting takes as such
CLASSES = 10  # the most values of a number that are predicted as classes
ROWS = "training rows"
RANKED = {"auroc": 1, "useful": -1, "quality": -1}  # 1: less is better

Rules = Mapping[str, Callable[[pd.DataFrame], Any]]


def coded(*frames: pd.DataFrame) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the numbers of some frames, and which columns hold categories.

    The first frame decides what a column is. Categories are numbered over all frames; gaps are NaN.
    """
    numbers, sorts = [], []
    for name in frames[0]:
        values = pd.concat([frame[name] for frame in frames], ignore_index=True)
        sort = sort_of(frames[0][name])
        if sort == "number":
            column = pd.to_numeric(values, errors="coerce").to_numpy(float, na_value=np.nan)
        elif sort == "time":
            column = seconds_of(values)
        else:
            codes = values.astype("category").cat.codes.to_numpy(float)
            column = np.where(codes < 0, np.nan, codes)
        numbers.append(column)
        sorts.append(sort == "category")
    parts = np.split(np.stack(numbers, 1), np.cumsum([len(frame) for frame in frames])[:-1])
    return parts, np.array(sorts)


def few(numbers: np.ndarray, sorts: np.ndarray) -> np.ndarray:
    """Return which columns of categories have few enough for gradient boosting."""
    top = np.max(np.nan_to_num(numbers), 0, initial=0)
    return sorts & (top < MOST_CATEGORIES)


def fitted(tree: Any, x: np.ndarray, y: np.ndarray) -> Any:
    """Fit gradient boosting; columns that are empty in all rows, which it refuses, become 0."""
    return tree.fit(np.where(np.isnan(x).all(0), 0, x), y)


def auroc(real: pd.DataFrame, drawn: pd.DataFrame, seed: int = 0) -> tuple[float, float]:
    """Return the AUROC of telling drawn rows from as many real ones, and its standard error."""
    n = min(len(real), len(drawn))
    (rows, others), sorts = coded(real.iloc[:n], drawn.iloc[:n])
    both, is_drawn = np.concatenate([rows, others]), np.repeat([0, 1], n)
    found = []
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=seed).split(
        both, is_drawn
    ):
        tree = HistGradientBoostingClassifier(
            categorical_features=few(both, sorts), random_state=seed
        )
        told = fitted(tree, both[train], is_drawn[train]).predict_proba(both[test])[:, 1]
        found.append(roc_auc_score(is_drawn[test], told))
    return float(np.mean(found)), float(np.std(found, ddof=1) / FOLDS**0.5)


def predicted(train: pd.DataFrame, test: pd.DataFrame, target: str, seed: int = 0) -> float:
    """Return R2 of a column of numbers of test rows, or 2 AUROC - 1 of one of classes."""
    (rows, others), sorts = coded(test, train)
    at = list(test.columns).index(target)
    rows, others = (part[~np.isnan(part[:, at])] for part in (rows, others))
    classes = np.unique(rows[:, at])
    how = {"random_state": seed}
    how["categorical_features"] = np.delete(few(np.concatenate([rows, others]), sorts), at)
    x, y, x_test, y_test = (
        part for one in (others, rows) for part in (np.delete(one, at, 1), one[:, at])
    )
    if not (sorts[at] or len(classes) <= CLASSES):
        line = fitted(HistGradientBoostingRegressor(**how), x, y)
        return float(r2_score(y_test, line.predict(x_test)))
    if len(np.unique(y)) < 2:
        return 0.0
    tree = fitted(HistGradientBoostingClassifier(**how), x, y)
    told = dict(zip(tree.classes_, tree.predict_proba(x_test).T))
    areas = [roc_auc_score(y_test == k, told.get(k, np.zeros(len(y_test)))) for k in classes]
    return 2 * float(np.average(areas, weights=[np.sum(y_test == k) for k in classes])) - 1


def nearer(train: pd.DataFrame, held_out: pd.DataFrame, drawn: pd.DataFrame) -> float:
    """Return how often a drawn row is nearer to a training row than a held-out one; ties half.

    Distances are Euclidean: numbers over their standard deviation, two categories 1 apart.
    """
    parts, sorts = coded(train, held_out, drawn)
    every = np.concatenate(parts)
    columns = []
    for column, is_category in zip(every.T, sorts):
        gaps = np.isnan(column)
        if is_category:
            columns.append((column[:, None] == np.unique(column[~gaps])) / 2**0.5)
        else:
            mean, std = np.nanmean(column[: len(train)]), np.nanstd(column[: len(train)])
            columns.append(np.where(gaps, 0, (column - mean) / (std or 1))[:, None])
        if gaps.any():
            columns.append(gaps[:, None])
    points = np.split(np.hstack(columns).astype(float), [len(train), len(train) + len(held_out)])
    near = NearestNeighbors(n_neighbors=1, algorithm="brute").fit(points[0])
    real, own = (near.kneighbors(part)[0][:, 0].round(6) for part in points[1:])
    return float(mannwhitneyu(real, own).statistic / (len(real) * len(own)))


def rules_of(name: str, real: pd.DataFrame) -> Rules:
    """Return what holds in every row of a table: which rows of a frame keep it, by name."""
    return {
        "flights": _flight_rules,
        "weather": lambda real: {"month, day, hour by time_hour": _hour_of_time},
        "planes": lambda real: {"seats by model": _pairs(real, ["model"], "seats")},
        "breast-cancer": lambda real: {"mean <= worst": _mean_below_worst},
    }.get(name, lambda real: {})(real)


def _pairs(real: pd.DataFrame, keys: list[str], value: str) -> Callable[[pd.DataFrame], Any]:
    known = set(real[[*keys, value]].itertuples(index=False, name=None))
    return lambda frame: [row in known for row in frame[[*keys, value]].itertuples(False, None)]


def _mean_below_worst(frame: pd.DataFrame) -> Any:
    names = [name[5:] for name in frame if name.startswith("mean ")]
    return np.all([frame[f"mean {name}"] <= frame[f"worst {name}"] for name in names], 0)


def _hour_of_time(frame: pd.DataFrame) -> Any:
    local = pd.to_datetime(frame["time_hour"], utc=True).dt.tz_convert("America/New_York")
    parts = {"month": local.dt.month, "day": local.dt.day, "hour": local.dt.hour}
    return np.all([parts[name] == frame[name] for name in parts], axis=0)


def _minutes(clock: pd.Series) -> pd.Series:
    return clock // 100 * 60 + clock % 100


def _late(actual: str, scheduled: str, delay: str) -> Callable[[pd.DataFrame], Any]:
    def kept(frame: pd.DataFrame) -> Any:
        expected = _minutes(frame[scheduled]) + frame[delay]
        same = (_minutes(frame[actual]) - expected) % 1440 == 0
        return same | frame[actual].isna() | frame[delay].isna()

    return kept


def _flight_rules(real: pd.DataFrame) -> Rules:
    return {
        "distance by origin, dest": _pairs(real, ["origin", "dest"], "distance"),
        "hour = sched_dep_time // 100": lambda f: f["hour"] == f["sched_dep_time"] // 100,
        "minute = sched_dep_time % 100": lambda f: f["minute"] == f["sched_dep_time"] % 100,
        "month, day, hour by time_hour": _hour_of_time,
        "dep_time = sched_dep_time + dep_delay": _late("dep_time", "sched_dep_time", "dep_delay"),
        "arr_time = sched_arr_time + arr_delay": _late("arr_time", "sched_arr_time", "arr_delay"),
    }


def peer_python() -> str:
    """Return the interpreter that has the peers and the tables."""
    return python("table-peers", PACKAGES, ALONE, OTHER)


def run(command: list[str], asked: Any, clocked: bool = True) -> float:
    """Run a script in an interpreter; return its seconds."""
    if asked.processor and clocked:
        command = [command[0], str(FOLDER / "processor.py"), *command[1:]]

    def now() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        spent = children.ru_utime + children.ru_stime
        return spent if asked.processor else time.perf_counter()

    began = now()
    subprocess.run(command, check=True, env=environ(1))
    return now() - began


def of_peers(*arguments: str) -> list[str]:
    """Return a command of table_peers.py."""
    return [peer_python(), str(FOLDER / "table_peers.py"), *arguments]


def table_of(name: str, asked: Any) -> tuple[Path, pd.DataFrame, pd.DataFrame]:
    """Return the file of training rows, these, and the held-out rows."""
    folder = asked.out / "tables" / name
    if not (folder / "held_out.csv").exists():
        folder.mkdir(parents=True, exist_ok=True)
        run(of_peers("table", name, "--out", str(folder)), asked, clocked=False)
    files = [folder / "train.csv", folder / "held_out.csv"]
    return files[0], pd.read_csv(files[0]), pd.read_csv(files[1])


def ours(file: Path, n: int, out: Path, asked: Any) -> dict[str, Any]:
    """Train `undiffuse` and draw samples into `out`; facts."""
    folder, script = out / "run", FOLDER.parent / "undiffuse" / "__main__.py"
    start = [sys.executable, *([str(script)] if asked.processor else ["-m", "undiffuse"])]
    train = [*start, "train", str(file), "--out", str(folder), "--overwrite", "--quiet"]
    trained = run([*train, "--budget", f"{asked.seconds:g}s"], asked)
    sample = [*start, "sample", str(folder), "-n", str(n), "--overwrite", "--quiet"]
    drawn = run([*sample, "--out", str(out / "samples.csv")], asked)
    opened = Run(folder)
    how = f"{opened.state['step']:,} steps, {opened.config['parameters'] / 1e6:.2f} M parameters"
    return {"training": trained, "sampling": drawn, "how": how}


def theirs(peer: str, file: Path, n: int, out: Path, asked: Any) -> dict[str, Any]:
    """Train another library unless that is done, and draw samples into `out`; facts."""
    facts = out / "facts.json"
    if not facts.exists():
        command = of_peers("train", peer, "--data", str(file), "--out", str(out))
        run([*command, "--seconds", str(asked.seconds), "--n", str(n)], asked)
    return json.loads(facts.read_text())


def figures_of(name: str, contender: str, out: Path, asked: Any) -> dict[str, Any]:
    """Return the figures of the samples in `out`, or of training rows in their place."""
    file, train, held_out = table_of(name, asked)
    is_rows, target = contender == ROWS, TABLES[name].target
    samples = train if is_rows else pd.read_csv(out / "samples.csv")
    value, error = auroc(held_out, samples)
    real = predicted(train, held_out, target)
    score = real if is_rows else predicted(samples[train.columns], held_out, target)
    judged = file.parent / "held_out.csv" if is_rows else out / "samples.csv"
    quality = ["--data", str(file), "--samples", str(judged), "--out", str(out / "quality.json")]
    run(of_peers("quality", *quality), asked, clocked=False)
    rules = rules_of(name, pd.concat([train, held_out]))
    return {
        "auroc": value,
        "auroc_error": error,
        "score": score,
        "score_of_rows": real,
        "useful": score / real,
        "quality": json.loads((out / "quality.json").read_text())["quality"],
        "nearer": nearer(train, held_out, held_out if is_rows else samples),
        "rules": {key: float(np.mean(keeps(samples))) for key, keeps in rules.items()},
    }


def part(name: str, contender: str, asked: Any) -> dict[str, Any]:
    """Return what is measured of a contender; kept in a file."""
    title = f"{name}-{contender}-{asked.seconds:g}s".replace(" ", "-")
    file, out = asked.out / "parts" / f"{title}.json", asked.out / "work" / title
    if file.exists():
        return json.loads(file.read_text())
    print(title, flush=True)
    out.mkdir(parents=True, exist_ok=True)
    source, train, _ = table_of(name, asked)
    facts = {}
    if contender == "undiffuse":
        facts = ours(source, len(train), out, asked)
    elif contender != ROWS:
        facts = theirs(contender, source, len(train), out, asked)
    found = {"table": name, "contender": contender, "seconds": asked.seconds, **facts}
    found["figures"] = figures_of(name, contender, out, asked)
    file.parent.mkdir(exist_ok=True)
    write_json(file, found)
    return found


def ranks(parts: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the mean rank of each contender over tables, by each figure and by all."""
    parts = [one for one in parts if one["contender"] != ROWS]
    names = list(dict.fromkeys(one["contender"] for one in parts))
    tables = [[one for one in parts if one["table"] == name] for name in TABLES]
    tables = [own for own in tables if len(own) == len(names)]
    found: dict[str, dict[str, float]] = {name: {} for name in names if tables}
    for figure, sign in RANKED.items():
        places = [rankdata([sign * one["figures"][figure] for one in own]) for own in tables]
        for own, mean in zip(found, np.mean(places, 0) if places else []):
            found[own][figure] = float(mean)
    return {
        name: means | {"all": float(np.mean([*means.values()]))} for name, means in found.items()
    }


def table(parts: list[dict[str, Any]]) -> str:
    """Return all parts as tables in Markdown, one for each table, then the ranks."""
    heads = ["contender", "AUROC", "useful", "quality", "nearer", "rules"]
    heads += ["s to train", "s to sample", ""]
    lines: list[str] = []
    for name in dict.fromkeys(one["table"] for one in parts):
        own = [one for one in parts if one["table"] == name]
        lines += [f"{name}, {own[0]['seconds']:g} s", ""]
        lines += [f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
        lines += [f"| {' | '.join(_cells(one))} |" for one in own] + [""]
    if found := ranks(parts):
        lines += ["| mean rank | AUROC | useful | quality | all |", "|" + "---|" * 5]
        for name, means in found.items():
            lines.append(f"| {name} | {' | '.join(f'{mean:.1f}' for mean in means.values())} |")
    return "\n".join([*lines, ""])


def _cells(one: dict[str, Any]) -> list[str]:
    figures, rules = one["figures"], one["figures"]["rules"]
    cells = [one["contender"], f"{figures['auroc']:.3f} +- {figures['auroc_error']:.3f}"]
    cells += [f"{figures[key]:.3f}" for key in ("useful", "quality", "nearer")]
    cells.append(f"{np.mean([*rules.values()]):.3f}" if rules else "")
    cells += [f"{one[key]:.1f}" if key in one else "" for key in ("training", "sampling")]
    return [*cells, one.get("how", "")]


def main() -> None:
    """Measure what has not been measured yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = ["undiffuse", *PEERS, ROWS]
    parser.add_argument("--out", type=Path, required=True, help="folder of results")
    parser.add_argument("--seconds", type=float, default=75, help="of training, default 75")
    parser.add_argument("--tables", default=",".join(TABLES), help="default all")
    parser.add_argument("--contenders", default=",".join(every), help="default all")
    parser.add_argument("--processor", action="store_true", help="seconds of the processor")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    parts: list[dict[str, Any]] = []
    for name in asked.tables.split(","):
        for contender in asked.contenders.split(","):
            parts.append(part(name, contender, asked))
            (asked.out / "table.md").write_text(table(parts))
    print(table(parts))


if __name__ == "__main__":
    main()
