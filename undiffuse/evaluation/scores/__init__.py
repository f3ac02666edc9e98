"""Scoring: each row gets a log-likelihood, its error, and its place among held-out rows.

    rows  --likelihood_rows-->  OUT.part, a batch at a time  --calibration-->  OUT, whole

A row's score depends on the seed and the row's number alone. So memory does not grow with the rows,
the batch size changes nothing, and an interrupted scoring is resumed with the same result. Held-out
rows are scored in the same way, with noise of their own, and kept in the run's folder; asking for
more of them later extends what is there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from torch import Tensor

from undiffuse.data import Conformed
from undiffuse.data.conformed import Taken
from undiffuse.data.permutation import key, permute
from undiffuse.diffusion.likelihood.dequantize import Dequantization
from undiffuse.errors import InputError
from undiffuse.evaluation.batch_file import BatchFile
from undiffuse.evaluation.features.abstract import content_hash
from undiffuse.evaluation.metrics.model import RowScores
from undiffuse.evaluation.references import Reference
from undiffuse.evaluation.scores.conformal import Calibration
from undiffuse.evaluation.scores.scorer import Scorer
from undiffuse.evaluation.scores.table import Summary, check_out, write_table
from undiffuse.interfaces import Progress, Stop
from undiffuse.models import GenerativeModel
from undiffuse.models.likelihood import How, Likelihood
from undiffuse.seeds import mix
from undiffuse.spread import ResumableFolder, RowRange

_HASHED = 512  # condition vectors at a time
_FOLDER = "held_out_scores"  # in the run's
_LIKE = {
    "nats": "f", "stderr": "f", "model_error": "f", "notes": "U", "kind": "U", "meaning": "U",
    "evaluations": "f", "seconds": "f",
}  # of a batch, kinds of numpy types  # fmt: skip
_HELD_OUT = 0xCA11B  # keeps the noise of held-out rows apart from that of rows compared with them
_COMPARED = 4  # what a key is for: the order of held-out groups
_SIDES = 0x71AE11  # keeps the noise of a report's likelihoods apart from that of other scores


@final
@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How rows are scored: what `GenerativeModel.likelihood_rows` is given besides them."""

    how: How | None = None  # None: the family's own choice
    seed: int = 0
    draws: int | None = None
    label: int | str | None = None
    importance: bool = False
    dequantization: Dequantization | None = None

    def of(self, model: Scorer, rows: Tensor, first: int, vector: Tensor | None) -> Likelihood:
        """Return the likelihood of stored rows (B, ...), the first of which is row `first`.

        `vector` (B, v) holds their conditions; None hides them.
        """
        return model.likelihood_rows(rows, first=first, vector=vector, **vars(self))

    def identity(self, model: Scorer, rows: Conformed) -> dict[str, Any]:
        """Return what a score depends on besides the row's number, as plain data."""
        weights, given = content_hash("model", model.state_dict()), {}
        if rows.vector is not None:
            digest = hashlib.sha256()
            for first in range(0, len(rows), _HASHED):
                some = np.arange(first, min(first + _HASHED, len(rows)))
                digest.update(rows.vector[some].tobytes())
            given["conditions"] = digest.hexdigest()[:16]
        own = {"weights": weights, "data": rows.fingerprint, **given}
        return {**own, **asdict(self), "how": repr(self.how)}


def score_to_file(
    model: Scorer,
    rows: Conformed,
    out: str | Path,
    *,
    scoring: Scoring | None = None,
    calibration: Calibration | None = None,
    alarm: float | None = None,
    batch: int = 64,
    replace: bool = False,
    progress: Progress | None = None,
    stop: Stop = lambda: False,
) -> Summary | None:
    """Score rows and write a line per row to a file.

    What is done so far is kept in OUT.part; the same call resumes from there.

    Args:
        model: the model.
        rows: rows in the run's stored type.
        out: the file, .csv or .parquet.
        scoring: how rows are scored.
        calibration: the scores of held-out rows, for quantiles and alarms; None: neither.
        alarm: the rate of false alarms, in (0, 1); None: no alarms.
        batch: rows at a time.
        replace: whether an OUT.part that another command began may be replaced.
        progress: told how many rows are scored.
        stop: polled before each batch.

    Returns:
        All rows in a few numbers; None if `stop()` was true before the last batch.

    Raises:
        InputError: for another kind of file, for an alarm without a calibration or at a rate that
            it cannot give, and for an OUT.part that another command began, unless `replace`.
    """
    out, scoring = Path(os.path.expanduser(out)), scoring or Scoring()
    check_out(out)
    if alarm is not None:
        if calibration is None:
            raise InputError(f"alarm {alarm:g}: needs held-out rows to compare with.")
        calibration.lowest(alarm)
    part = out.with_name(out.name + ".part")
    identity = {**scoring.identity(model, rows), "rows": len(rows)}
    file = BatchFile(part, identity, replace=replace, like=_LIKE, shape=())
    if not score_rows(
        model, rows, file, scoring=scoring, batch=batch, progress=progress, stop=stop
    ):
        return None
    dimensions = next(rows.batches(1))["row"][0].numel()
    summary = write_table(
        file,
        out,
        rows.names,
        dimensions=dimensions,
        calibration=calibration,
        alarm=alarm,
        groups=rows.groups,
    )
    part.unlink()
    return summary


def score_range(
    model: Scorer,
    rows: Conformed,
    one: RowRange,
    file: BatchFile,
    *,
    scoring: Scoring,
    batch: int,
) -> None:
    """Append the scores of a range of rows; a row has the number that it has among all.

    A range of whole batches has the bytes that these rows have where all are scored.
    """
    start = one.first
    for block in rows.batches(batch, one.first):
        file.append(_scores(model, scoring, block, start, one.stop - start))
        start = one.first + file.rows
        if start >= one.stop:
            break


@final
class RangeScores:
    """The scores of ranges in a folder, one batch after another.

    Args:
        folder: where each range is a file.
        identity: what the scores depend on.
    """

    def __init__(self, folder: ResumableFolder, identity: Mapping[str, Any]) -> None:
        self.folder, self.identity = folder, identity

    def open(self, one: RowRange, place: Path | None = None) -> BatchFile:
        """Return the file of a range, in the folder or in `place`."""
        path = (self.folder.files if place is None else place) / f"{one.number:05d}.batches"
        return BatchFile(path, self.identity, like=_LIKE, shape=())

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """Yield the batches of all ranges, in order."""
        for one in self.folder.ranges:
            file = self.open(one)
            if file.rows != one.count:
                raise InputError(
                    f"{file.path}: is damaged; remove {self.folder.work}, and score again."
                )
            yield from file


def score_rows(
    model: Scorer,
    rows: Conformed,
    file: BatchFile,
    *,
    scoring: Scoring,
    count: int | None = None,
    batch: int = 64,
    progress: Progress | None = None,
    stop: Stop = lambda: False,
    what: str = "scoring",
) -> bool:
    """Append the scores that `file` lacks of `count` rows; return whether all are there."""
    total = len(rows) if count is None else min(count, len(rows))
    if file.rows >= total:
        return True
    for block in rows.batches(batch, file.rows):
        if stop():
            return False
        file.append(_scores(model, scoring, block, file.rows, total - file.rows))
        if progress:
            progress(file.rows, total, what)
        if file.rows >= total:
            break
    return True


def _scores(
    model: Scorer, scoring: Scoring, block: Mapping[str, Any], first: int, most: int
) -> dict[str, Any]:
    """One batch of scores, with a note on each row that has no finite one."""
    began = time.perf_counter()
    vector = None if "vector" not in block else block["vector"][:most]
    found = scoring.of(model, block["row"][:most], first, vector)
    nats, stderr = (values.double().cpu().numpy().copy() for values in (found.nats, found.stderr))
    notes = {
        int(i): "the model gives it no probability"
        if nats[i] == -np.inf
        else "the computation gave no finite number"
        for i in np.flatnonzero(~np.isfinite(nats))
    }
    nats[nats == np.inf] = np.nan
    for i, problem in block["problems"].items():
        if i < len(nats):
            notes[i] = problem.reason
            nats[i] = nats[i] if problem.nats is None else problem.nats
    own = np.full(len(nats), np.nan)
    if found.model_error is not None:
        own = found.model_error.double().cpu().numpy().copy()
    stderr[~np.isfinite(nats)] = own[~np.isfinite(nats)] = np.nan
    return {
        "nats": nats,
        "stderr": stderr,
        "model_error": own,
        "notes": json.dumps(notes),
        "kind": found.kind,
        "meaning": found.meaning,
        "evaluations": float(found.evaluations),
        "seconds": time.perf_counter() - began,
    }


def calibrate(
    model: Scorer,
    run: str | Path,
    rows: Conformed,
    *,
    scoring: Scoring,
    count: int = 1000,
    batch: int = 64,
    progress: Progress | None = None,
    stop: Stop = lambda: False,
) -> Calibration | None:
    """Score about `count` of the held-out `rows`, or take scores from the run's folder.

    The rows are those of `calibration_rows`. The other arguments are those of `score_to_file`.
    Returns None if `stop()` was true before the last batch.
    """
    rows, count = calibration_rows(rows, count)
    scoring = dataclasses.replace(scoring, seed=mix(scoring.seed, _HELD_OUT))
    names = [str(name) for name in rows.names[:3]]
    identity = {**scoring.identity(model, rows), "held_out": names}
    file = BatchFile.in_folder(
        Path(os.path.expanduser(run)) / _FOLDER, identity, like=_LIKE, shape=()
    )
    whole = score_rows(
        model,
        rows,
        file,
        scoring=scoring,
        count=count,
        batch=batch,
        progress=progress,
        stop=stop,
        what="scoring held-out rows",
    )
    groups = None if rows.groups is None else rows.groups[:count]
    return Calibration(file.column("nats", count), groups) if whole else None


def calibration_rows(rows: Conformed, count: int) -> tuple[Conformed, int]:
    """Return held-out rows in an order, and how many of the first new scores are compared with.

    They are `count`, or all if there are fewer; of rows in groups a share of the groups, drawn
    whatever their sizes, that holds `count` rows on average.
    """
    count = min(count, len(rows))
    if rows.groups is None:
        return rows, count
    names, group = np.unique(rows.groups, return_inverse=True)
    rank = permute(np.arange(len(names)), len(names), key(_COMPARED))[group]
    kept = max(1, round(len(names) * count / len(rows)))
    return rows.only(np.argsort(rank, kind="stable")), int((rank < kept).sum())


@final
@dataclass(frozen=True, kw_only=True)
class Likelihoods:
    """The likelihoods of the rows of a reference.

    Attributes:
        scored: the finite ones.
        kind: "exact", "bound" or "estimate"; `meaning` says it in words.
        rows: the number of held-out rows.
        lost: how many of these have no finite likelihood.
    """

    scored: RowScores
    kind: str
    meaning: str
    rows: int
    lost: int


def likelihoods(
    model: GenerativeModel,
    reference: Reference,
    folder: Path,
    *,
    rows: int = 500,
    seed: int = 0,
    batch: int = 64,
    progress: Progress | None = None,
    stop: Stop = lambda: False,
) -> Likelihoods | None:
    """Score `rows` held-out rows and as many training rows, or take scores from `folder`.

    Returns None if `stop()` was true before the last batch.

    Raises:
        InputError: for a family without a density, and if no held-out row has a finite one.
    """
    sides = (("held-out", reference.held_out), ("training", reference.training))
    found, last = [], {}
    for what, side in sides:
        if side is None:
            continue
        stored = side.rows[:rows]
        digest = hashlib.sha256(np.ascontiguousarray(stored).tobytes()).hexdigest()[:16]
        vector = None if side.vector is None else side.vector[:rows].numpy()
        source = Conformed(
            _Stored(stored), range(len(stored)), name=what, fingerprint=digest, vector=vector
        )
        scoring = Scoring(seed=mix(seed, _SIDES, len(found)))
        file = BatchFile.in_folder(folder, scoring.identity(model, source), like=_LIKE, shape=())
        if not score_rows(
            model,
            source,
            file,
            scoring=scoring,
            batch=batch,
            progress=progress,
            stop=stop,
            what=f"scoring {what} rows",
        ):
            return None
        found.append(file.column("nats", len(stored)))
        last = last or list(file)[-1]
    held_out, *training = (nats[np.isfinite(nats)] for nats in found)
    if not len(held_out):
        raise InputError(
            "likelihood: no held-out row has a finite one; look at the rows with undiffuse score."
        )
    return Likelihoods(
        scored=RowScores(
            held_out=held_out,
            training=training[0] if training else None,
            dimensions=reference.held_out.rows[0].size,
        ),
        kind=str(last["kind"]),
        meaning=str(last["meaning"]),
        rows=len(found[0]),
        lost=len(found[0]) - len(held_out),
    )


@final
class _Stored:
    """Rows in memory, none of which has a problem."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def take(self, indices: np.ndarray) -> Taken:
        return self.rows[indices], {}
