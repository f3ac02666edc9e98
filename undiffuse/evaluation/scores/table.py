"""Scores as a table: a line per row, written a batch at a time, and their summary."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from undiffuse.atomic import atomic_file, atomic_folder
from undiffuse.errors import InputError
from undiffuse.evaluation.scores.conformal import Calibration
from undiffuse.models.likelihood import bits_per_dimension

GROUP = 65_536  # rows written together to a Parquet file
PART = r"part-\d{5}\.parquet"  # names of files in a folder of scores
Columns = dict[str, list[Any]]
Write = Callable[[Columns], None]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """All scores in a few numbers.

    Attributes:
        rows: how many rows there are.
        finite: how many have a finite score; means are over these.
        log_likelihood, stderr: the mean in nats, and its standard error over rows.
        bits_per_dim, bits_error: the same in bits per entry of a row.
        kind, meaning: what kind of likelihood it is, in one word and in words.
        evaluations: of the network, per row.
        seconds: that scoring took.
        alarms: how many rows raise one, or recordings that rows are parts of; None if no alarm was
            asked for.
        units: how many rows, or such recordings, there are; None likewise.
        realized: the interval of the rate of alarms among ordinary rows; None likewise.
        model_error: the mean of the estimates of the model's own error in nats; None if not asked.
    """

    rows: int
    finite: int
    log_likelihood: float
    stderr: float
    bits_per_dim: float
    bits_error: float
    kind: str
    evaluations: float
    seconds: float
    alarms: int | None = None
    units: int | None = None
    realized: tuple[float, float] | None = None
    model_error: float | None = None
    meaning: str = ""


@final
class _Mean:
    """Mean and standard error of numbers that come in parts (Chan, Golub and LeVeque 1983)."""

    def __init__(self) -> None:
        self.count, self.mean, self.squares = 0, 0.0, 0.0

    def add(self, values: np.ndarray) -> None:
        if len(values):
            step, total = values.mean() - self.mean, self.count + len(values)
            self.squares += ((values - values.mean()) ** 2).sum() + step**2 * self.count * len(
                values
            ) / total
            self.mean += step * len(values) / total
            self.count = total

    def result(self) -> tuple[float, float]:
        if not self.count:
            return math.nan, math.nan
        spread = self.squares / (self.count - 1) if self.count > 1 else math.nan
        return float(self.mean), math.sqrt(spread / self.count)


def is_folder(out: Path) -> bool:
    """Return whether scores are written to `out` as a folder of Parquet files."""
    return out.is_dir() or not out.suffix


def check_out(out: Path) -> None:
    """Raise InputError unless `out` is a .csv or .parquet file, or a folder.

    Parquet needs pyarrow.
    """
    if not is_folder(out) and out.suffix.lower() not in _WRITERS:
        raise InputError(
            f"{out}: scores can be written as .csv or .parquet, or to a folder; choose such a name."
        )
    if is_folder(out) or out.suffix.lower() == ".parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError as problem:
            raise InputError(
                f"{out}: Parquet needs pyarrow; write .csv or pip install 'undiffuse[tables]'."
            ) from problem


def write_table(
    file: Iterable[dict[str, np.ndarray]],
    out: Path,
    names: Sequence[Any],
    *,
    dimensions: int,
    calibration: Calibration | None = None,
    alarm: float | None = None,
    groups: np.ndarray | None = None,
    parts: Sequence[int] = (),
) -> Summary:
    """Write a line per row to `out` (.csv or .parquet), which appears whole or not at all.

    Columns: row, log_likelihood (nats), stderr, bits_per_dim; model_error, quantile and alarm if
    they are asked for; note.

    Args:
        file: the scores, as `score_rows` appends them.
        out: the file.
        names: what the rows are called.
        dimensions: the number of entries of a row.
        calibration: for quantiles and alarms; None: neither.
        alarm: the rate of false alarms; None: no alarms.
        groups: (rows,) the recordings that rows are parts of; None: each is one of its own.
        parts: how many rows each file of the folder `out` has; empty: `out` is a file.
    """
    realized, raised_by, alarms = None, set(), 0
    doubted = any(np.isfinite(batch["model_error"]).any() for batch in file)
    if calibration is not None and alarm is not None:
        realized = calibration.realized(alarm)
    mean, own = _Mean(), _Mean()
    rows, evaluations, seconds, kinds, meaning = 0, 0.0, 0.0, set(), ""
    with _writing(out, names, parts) as write:
        for batch in file:
            nats, doubt = batch["nats"], batch["model_error"]
            called = [names[rows + i] for i in range(len(nats))]
            columns = _columns(batch, called, dimensions, doubted, calibration, alarm)
            write(columns)
            raised = rows + np.flatnonzero([bool(a) for a in columns.get("alarm", [])])
            alarms += len(raised)
            raised_by.update([] if groups is None else groups[raised].tolist())
            mean.add(nats[np.isfinite(nats)])
            own.add(doubt[np.isfinite(doubt)])
            rows += len(nats)
            evaluations += float(batch["evaluations"]) * len(nats)
            seconds += float(batch["seconds"])
            kinds.add(str(batch["kind"]))
            meaning = str(batch["meaning"])
    average, error = mean.result()
    return Summary(
        rows=rows,
        finite=mean.count,
        log_likelihood=average,
        stderr=error,
        bits_per_dim=bits_per_dimension(average, dimensions),
        bits_error=-bits_per_dimension(error, dimensions),
        kind=" and ".join(sorted(kinds)),
        evaluations=evaluations / max(rows, 1),
        seconds=seconds,
        alarms=None if realized is None else alarms if groups is None else len(raised_by),
        units=None if realized is None else rows if groups is None else len(np.unique(groups)),
        realized=realized,
        model_error=own.result()[0] if doubted else None,
        meaning=meaning,
    )


def _columns(
    batch: Mapping[str, np.ndarray],
    names: list[Any],
    dimensions: int,
    doubted: bool,
    calibration: Calibration | None,
    alarm: float | None,
) -> Columns:
    """The lines of a batch; `doubted`: with the model's own error."""
    nats, notes = batch["nats"], json.loads(str(batch["notes"]))
    columns: Columns = {
        "row": names,
        "log_likelihood": _plain(nats),
        "stderr": _plain(batch["stderr"]),
        "bits_per_dim": _plain(bits_per_dimension(nats, dimensions)),
    }
    if doubted:
        columns["model_error"] = _plain(batch["model_error"])
    if calibration is not None:
        columns["quantile"] = _plain(calibration.quantiles(nats))
    if calibration is not None and alarm is not None:
        raised = calibration.alarms(nats, rate=alarm)
        columns["alarm"] = [None if np.isnan(n) else bool(a) for n, a in zip(nats, raised)]
    columns["note"] = [notes.get(str(i), "") for i in range(len(nats))]
    return columns


def _plain(values: np.ndarray) -> list[float | None]:
    return [None if math.isnan(value) else value for value in values.tolist()]


@contextmanager
def _writing(out: Path, names: Sequence[Any], parts: Sequence[int]) -> Iterator[Write]:
    """Give what takes columns and writes them to a file, or to one part of a folder after another.

    A part ends where a batch does.
    """
    if not parts:
        kind = _WRITERS[out.suffix.lower()]
        with atomic_file(out) as temporary, kind(temporary, names) as take:
            yield take
        return
    with atomic_folder(out, replace=PART) as folder, ExitStack() as leaving:
        left, number = 0, 0
        open_one: Any = None

        def write(columns: Columns) -> None:
            nonlocal left, number, open_one
            if open_one is None or left == 0:
                leaving.pop_all().close()
                file = folder / f"part-{number:05d}.parquet"
                open_one = leaving.enter_context(_parquet(file, names))
                left, number = parts[number], number + 1
            open_one(columns)
            left -= len(columns["row"])

        yield write


@contextmanager
def _csv(path: Path, names: Sequence[Any]) -> Iterator[Write]:
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        begun = False

        def write(columns: Columns) -> None:
            nonlocal begun
            if not begun:
                writer.writerow(columns)
                begun = True
            writer.writerows(zip(*columns.values()))

        yield write


@contextmanager
def _parquet(path: Path, names: Sequence[Any]) -> Iterator[Write]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbered = isinstance(names[0], int)
    kinds = {
        "row": pa.int64() if numbered else pa.string(),
        "alarm": pa.bool_(),
        "note": pa.string(),
    }
    with ExitStack() as leaving:
        stream = leaving.enter_context(path.open("wb"))  # Arrow takes no path that is not UTF-8
        writer, waiting = None, []

        def flush() -> None:
            nonlocal writer
            group = pa.concat_tables(waiting)
            writer = writer or leaving.enter_context(pq.ParquetWriter(stream, group.schema))
            writer.write_table(group, row_group_size=GROUP)
            waiting.clear()

        def write(columns: Columns) -> None:
            schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in columns])
            waiting.append(pa.table(columns, schema=schema))
            if sum(len(one) for one in waiting) >= GROUP:
                flush()

        yield write
        if waiting:
            flush()


_WRITERS: Mapping[str, Callable[[Path, Sequence[Any]], AbstractContextManager[Write]]] = {
    ".csv": _csv,
    ".parquet": _parquet,
}
