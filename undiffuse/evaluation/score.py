"""Log-likelihoods of rows under a trained model, and anomaly alarms: what a user calls.

    run, data -> rows in the run's stored type -> scores of held-out rows -> scores, a line per row

What can be refused is refused before the first row is scored; scores are kept when it is stopped.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, final

import numpy as np

from undiffuse.called import called
from undiffuse.data import Conformed, ask, conform
from undiffuse.declared import checked, with_defaults
from undiffuse.device import find_device
from undiffuse.diffusion.likelihood.dequantize import TruncatedNormal, UniformNoise
from undiffuse.errors import InputError
from undiffuse.evaluation.scores import (
    RangeScores,
    Scoring,
    calibrate,
    calibration_rows,
    score_range,
    score_to_file,
)
from undiffuse.evaluation.scores.conformal import Calibration
from undiffuse.evaluation.scores.own_error import WithOwnError
from undiffuse.evaluation.scores.scorer import Scorer
from undiffuse.evaluation.scores.table import PART, Summary, check_out, is_folder, write_table
from undiffuse.interfaces import Progress, Stop
from undiffuse.models import Diffusion, GenerativeModel
from undiffuse.models.likelihood import how_of
from undiffuse.notebook import progress_bar
from undiffuse.options import ScoringOptions
from undiffuse.run import Run, as_run
from undiffuse.shown import card
from undiffuse.spread import ResumableFolder, RowRange, make_ranges, ranges_of
from undiffuse.spread.on_ray import make_on_ray, need_ray
from undiffuse.spread.together import MakeRange
from undiffuse.training.ranks import ALONE, Ranks, joined

_SHOWN = 10  # rows in a notebook
_READ: dict[str, Callable[[str], Any]] = {"row": str, "note": str, "alarm": "True".__eq__}
"""How the words of a column are read; others are numbers."""


@final
@dataclass(frozen=True)
class Scores:
    """The scores of rows.

    Attributes:
        read: returns the columns; they are read when they are first asked for.
        summary: all of them in a few numbers.
        held_out: how many held-out rows they were compared with.
        data: what the rows are called.
        notes: what was left out, changed or guessed, a sentence each.
    """

    read: Callable[[], dict[str, np.ndarray]]
    summary: Summary
    held_out: int
    data: str
    notes: tuple[str, ...] = ()

    @cached_property
    def columns(self) -> dict[str, np.ndarray]:
        """Name -> (N,): row, log_likelihood (nats), stderr, bits_per_dim; ...; note.

        And model_error, quantile and alarm, if they were asked for.
        """
        return self.read()

    def __repr__(self) -> str:
        """Return the number of rows, their mean and the alarms, in a line."""
        mean, alarms = self.summary.log_likelihood, self.summary.alarms
        raised = "" if alarms is None else f", {alarms:,} alarms"
        return f"Scores({self.data}: {len(self):,} rows, mean {mean:.4g} nats{raised})"

    def _repr_html_(self) -> str:
        worst = np.argsort(self["log_likelihood"], kind="stable")[:_SHOWN]
        rows = [{name: column[i].item() for name, column in self.columns.items()} for i in worst]
        facts = {"kind": self.summary.meaning or self.summary.kind, "notes": " ".join(self.notes)}
        return card(f"{self!r}; the least likely rows:", facts, tables=[rows])

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.summary.rows

    def __getitem__(self, name: str) -> np.ndarray:
        """Return a column."""
        return self.columns[name]


@called
def score(
    what: str | Path | Run | GenerativeModel,
    data: Any,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    on: str | None = None,
    workers: int | None = None,
    label: int | str | None = None,
    where: Any = None,
    held_out: Any = None,
    on_note: Callable[[str], None] = lambda note: None,
    progress: Progress | None = None,
    stop: Stop = lambda: False,
    **options: Any,
) -> Scores | None:
    """Score rows by a run, or a trained model, and compare them with held-out rows.

    Args:
        what: the run, its folder, or the model.
        data: anything `undiffuse.load` takes, of the kind of the run's data.
        out: a file, .csv or .parquet, or a folder of Parquet files, to write a line per row to; the
            same call resumes it.
        overwrite: replace `out`.
        on: "ray": rows are shared out to a Ray cluster; `data` and `where` are then files.
        workers: how many processes on Ray; None: one for each GPU, or each CPU.
        label: the class that rows are scored given; None: any.
        where: conditions that they are scored given, of all or of each; None: each row's own.
        held_out: rows to compare with; None: those that the run held out. A model whose training
            data came from Python has none, and its rows get no quantiles.
        on_note: called with each note as it comes.
        progress: called with (done, total, what) now and then.
        stop: polled; when true, what is done is kept in `out`.part and None is returned.
        options: the fields of `options.ScoringOptions`: method, alarm, draws, evaluations,
            tolerance, probes, importance, dequantization, model_error, calibration, no_calibration,
            seed, batch, device.

    Returns:
        The scores; None if it was stopped.

    Raises:
        InputError: for what is not a run, data unlike the run's, and settings that the model or the
            held-out rows do not allow.

    >>> import undiffuse as ud
    >>> rows = np.random.default_rng(0).normal(size=(200, 2))
    >>> model = ud.edm(width=16).fit(rows, steps=20)
    >>> found = score(model, rows[:5])
    >>> found["log_likelihood"].shape
    (5,)
    """
    named = {"label": None if label is None else str(label)}
    given = checked(ScoringOptions, {**options, **named})
    asked = with_defaults(ScoringOptions, given)
    progress = progress or progress_bar()
    if held_out is not None and asked.no_calibration:
        raise InputError("held_out and no_calibration: leave one of them out.")
    if isinstance(what, GenerativeModel):
        source = (what.data_config or {}).get("path")
        bare = source is None and held_out is None and asked.alarm is None
        shared = {**options, "out": out, "overwrite": overwrite, "held_out": held_out}
        shared |= {"label": label, "where": where, "on_note": on_note, "progress": progress}
        shared |= {"on": on, "workers": workers}
        shared |= {"no_calibration": True} if bare else {}
        with as_run(what) as kept:
            return score(kept, data, stop=stop, **shared)
    if on is not None:
        need_ray()
    elif workers is not None:
        raise InputError("--workers: is for --on ray; leave it out.")
    with joined() as ranks:
        spread = _Spread(ranks, on, workers)
        job = _Job(Run.of(what), asked, given, on_note, progress, stop, spread)
        if out is None:
            if spread.several:
                raise InputError("out: several processes write a file or a folder; give one.")
            with TemporaryDirectory() as folder:
                found = job.scores(data, Path(folder) / "scores.csv", where, held_out)
                if found is not None:
                    found.columns  # noqa: B018 - read while the file is there
                return found
        place = Path(out).expanduser()
        if os.path.lexists(place) and not overwrite:
            raise InputError(f"{out}: already exists; choose another name, or overwrite it.")
        return job.scores(data, place, where, held_out, overwrite=overwrite)


@final
@dataclass(frozen=True)
class _Spread:
    """Which processes score: this one, its ranks, or those of Ray."""

    ranks: Ranks = ALONE
    on: str | None = None
    workers: int | None = None

    @property
    def several(self) -> bool:
        return self.on is not None or self.ranks.size > 1


@final
class _Job:
    """One call of `score`."""

    def __init__(
        self,
        run: Run,
        asked: ScoringOptions,
        given: Mapping[str, Any],
        on_note: Callable[[str], None],
        progress: Progress | None = None,
        stop: Stop = lambda: False,
        spread: _Spread = _Spread(),
    ) -> None:
        self.run, self.asked, self.given, self.on_note = run, asked, given, on_note
        self.progress, self.stop, self.spread = progress, stop, spread
        self.notes: list[str] = []
        self.model = run.model(device=spread.ranks.device(find_device(asked.device)))

    def note(self, text: str) -> None:
        """Keep a note, and tell it."""
        self.notes.append(text)
        self.on_note(text)

    def scores(
        self, data: Any, out: Path, where: Any, held_out: Any, *, overwrite: bool = False
    ) -> Scores | None:
        """Score the held-out rows, then the rows."""
        check_out(out)
        model, asked, config = self.model, self.asked, self.run.config["data"]
        scoring = self.scoring()
        scorer = self.scorer()
        rows = conform(data, config, progress=self.progress)
        compared = self.compared(held_out)
        for note in rows.notes:
            self.note(note)
        self.give(rows, compared, where)
        if rows.fingerprint == config["fingerprint"]:
            self.note(
                f"{rows.name}: holds the rows that the run was trained on; they score higher than "
                "new rows."
            )
        shared: dict[str, Any] = {"scoring": scoring, "batch": asked.batch or model.at_once}
        shared |= {"progress": self.progress, "stop": self.stop}
        calibration, ranks = None, self.spread.ranks
        if compared is not None:
            how = {"count": asked.calibration, **shared}
            calibration = ranks.together(
                lambda: calibrate(model, self.run.path, compared, **how) if ranks.first else None
            )
            if ranks.lead(ranks.first and calibration is None):
                return None
        own: dict[str, Any] = {"calibration": calibration, "alarm": asked.alarm}
        if self.spread.several or is_folder(out):
            work = _Ranges(self, scorer, rows, out, scoring)
            made = work.make(data, where, replace=overwrite)
            summary = work.finish(**own) if made and self.spread.ranks.first else None
        else:
            summary = score_to_file(scorer, rows, out, **own, replace=overwrite, **shared)
        if summary is None:
            return None
        count = 0 if calibration is None else len(calibration)
        return Scores(lambda: _columns(out), summary, count, rows.name, tuple(self.notes))

    def scorer(self) -> Scorer:
        """What scores: the model, with an estimate of its own error where that was asked for."""
        return self._with_own_error() if self.asked.model_error else self.model

    def scoring(self) -> Scoring:
        """How rows are scored. Raises InputError for what the model cannot do."""
        model, asked = self.model, self.asked
        dequantization = UniformNoise() if asked.dequantization == "uniform" else None
        if asked.label is not None:
            model.label_index(asked.label)
        if asked.dequantization == "truncated_normal":
            if not isinstance(model, Diffusion):
                raise InputError(
                    "--dequantization truncated_normal: is for models with noise levels; leave it "
                    "out."
                )
            dequantization = TruncatedNormal.of(model.schedule)
        own = {name: self.given.get(name) for name in ("evaluations", "tolerance", "probes")}
        return Scoring(
            how=how_of(model, asked.method, **own),
            seed=asked.seed,
            draws=asked.draws,
            label=asked.label,
            importance=asked.importance,
            dequantization=dequantization,
        )

    def _with_own_error(self) -> Scorer:
        """The model with an estimate of its own error. Raises InputError without one."""
        if not isinstance(self.model, Diffusion):
            raise InputError("--model-error: is for models with noise levels; leave it out.")
        return WithOwnError(self.model, self.run.weaker(self.model.device))

    def compared(self, source: Any) -> Conformed | None:
        """The rows to compare with, None for none; refused if they are too few for the alarm."""
        asked = self.asked
        if asked.no_calibration:
            return None
        label = None if asked.label is None else self.model.label_index(asked.label)
        rows = self.run.held_out(source, progress=self.progress)
        if label is not None and rows.labels is not None:
            rows = rows.only(np.flatnonzero(rows.labels == label))
        if asked.alarm is not None:
            ordered, count = calibration_rows(rows, asked.calibration)
            groups = None if ordered.groups is None else ordered.groups[:count]
            Calibration(np.zeros(count), groups).lowest(asked.alarm)
        return rows

    def give(self, rows: Conformed, compared: Conformed | None, where: Any) -> None:
        """Give rows the conditions of `where`, or hide those of held-out rows if rows have none.

        Raises InputError for conditions that do not fit.
        """
        if where is not None:
            vector, notes = ask(where, self.model.data_config or {})
            for note in notes:
                self.note(note)
            if len(vector) not in (1, len(rows)):
                raise InputError(
                    f"where: {len(vector):,} rows of conditions for {len(rows):,} rows of data; "
                    "give one for all, or one for each."
                )
            rows.vector = np.broadcast_to(vector, (len(rows), vector.shape[1]))
        elif self.model.kept is not None and rows.vector is None:
            self.note(
                f"{rows.name}: does not say its conditions, so rows are scored whatever these are; "
                "give them with --where."
            )
            if compared is not None:
                compared.vector = None


@final
class _Ranges:
    """Rows that are scored in ranges, by several processes or into a folder."""

    def __init__(
        self, job: _Job, scorer: Scorer, rows: Conformed, out: Path, scoring: Scoring
    ) -> None:
        self.job, self.scorer, self.rows, self.out, self.scoring = job, scorer, rows, out, scoring
        self.batch = job.asked.batch or job.model.at_once
        self.identity = {**scoring.identity(scorer, rows), "rows": len(rows), "batch": self.batch}
        replaces = PART if is_folder(out) else None
        ranges = ranges_of(len(rows), self.batch)
        self.folder = ResumableFolder(out, self.identity, ranges, replaces=replaces)
        self.scores = RangeScores(self.folder, self.identity)

    def score(self, one: RowRange) -> None:
        """Score a range."""
        shared: dict[str, Any] = {"scoring": self.scoring, "batch": self.batch}
        with self.folder.writing(one) as place:
            score_range(self.scorer, self.rows, one, self.scores.open(one, place), **shared)

    def make(self, data: Any, where: Any, *, replace: bool) -> bool:
        """Score the ranges that are missing; return whether all are there."""
        job, folder, spread = self.job, self.folder, self.job.spread
        ranks = spread.ranks
        ranks.together(lambda: folder.begin(replace=replace) if ranks.first else None)
        missing = ranks.lead([one.number for one in folder.missing()] if ranks.first else None)
        left = [folder.ranges[number] for number in missing]
        shared: dict[str, Any] = {"progress": job.progress, "what": "scoring"}
        shared |= {"total": len(self.rows)}
        if spread.on is None:
            return make_ranges(self.score, left, ranks, **shared, stop=job.stop)
        place = job.run.given if job.run.remote else os.path.abspath(job.run.path)
        for name, value in (("data", data), ("where", where)):
            if value is not None and not isinstance(value, str | Path):
                raise InputError(f"{name}: other processes read it from a file; give its name.")
        task = ScoreTask(
            place, str(data), None if where is None else str(where), dict(job.given),
            os.path.abspath(self.out), self.identity, tuple(folder.ranges),
        )  # fmt: skip
        own = {"workers": spread.workers, "gpu": job.asked.device != "cpu", "say": job.note}
        return make_on_ray(task, left, **own, **shared, stop=job.stop)

    def finish(self, calibration: Calibration | None, alarm: float | None) -> Summary:
        """Write the lines of all rows, in order."""
        parts = [one.count for one in self.folder.ranges] if is_folder(self.out) else []
        summary = write_table(
            self.scores,
            self.out,
            self.rows.names,
            dimensions=next(self.rows.batches(1))["row"][0].numel(),
            calibration=calibration,
            alarm=alarm,
            groups=self.rows.groups,
            parts=parts,
        )
        self.folder.discard()
        return summary


@final
@dataclass(frozen=True)
class ScoreTask:
    """A call of `score`, as another process takes part in it.

    Attributes:
        run: the folder of the run.
        data: the file, folder or name of the rows.
        where: their conditions.
        given: the options that were given.
        out: the file or folder of scores.
        identity: what the scores depend on.
        ranges: all of them.
    """

    run: str
    data: str
    where: str | None
    given: Mapping[str, Any]
    out: str
    identity: Mapping[str, Any]
    ranges: tuple[RowRange, ...]

    def open(self) -> MakeRange:
        """Open the run and the rows, and return what scores a range; see `Task`."""
        asked = with_defaults(ScoringOptions, dict(self.given))
        job = _Job(Run.of(self.run), asked, self.given, lambda note: None)
        rows = conform(self.data, job.run.config["data"])
        job.give(rows, None, self.where)
        work = _Ranges(job, job.scorer(), rows, Path(self.out), job.scoring())
        if {**work.identity} != {**self.identity}:
            raise InputError(f"{self.data}: other processes read other rows, or another run.")
        return work.score


def _columns(file: Path) -> dict[str, np.ndarray]:
    """The columns of a table of scores; numbers are exact, as they were written to be."""
    if is_folder(file) or file.suffix.lower() == ".parquet":
        from pyarrow.parquet import read_table

        return {name: np.array(values) for name, values in read_table(file).to_pydict().items()}
    with file.open(newline="", encoding="utf-8") as stream:
        names, *lines = csv.reader(stream)
    return {
        name: np.array([_READ.get(name, _number)(line[i]) for line in lines])
        for i, name in enumerate(names)
    }


def _number(word: str) -> float:
    return float(word or "nan")
