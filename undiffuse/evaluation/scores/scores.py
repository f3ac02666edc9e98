"""Scoring: every row of a source gets a log-likelihood, its error, and its place among held-out rows.

    rows  --likelihood_rows-->  OUT.part (a batch at a time)  --calibration-->  OUT, whole or not at all

A row's score depends on the seed and the row's number alone. So memory does not grow with the rows, the batch changes
nothing, and a scoring that was interrupted is continued as if it had not been. Held-out rows are scored in the same
way, with noise of their own, and kept in the run's folder; asking for more of them later extends what is there.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from undiffuse.data import Conformed, Progress, conform, load
from undiffuse.diffusion.likelihood.dequantize import TruncatedNormal
from undiffuse.errors import InputError
from undiffuse.evaluation.scores.conformal import Calibration
from undiffuse.evaluation.scores.file import ScoreFile
from undiffuse.evaluation.scores.table import Summary, check_out, write_table
from undiffuse.models.likelihood import How
from undiffuse.seeds import mix

FOLDER = "held_out_scores"  # in the run's
_HELD_OUT = (
    0xCA11B  # keeps the noise of held-out rows apart from that of the rows compared with them
)


@runtime_checkable
class Scorer(Protocol):
    """The part of `GenerativeModel` that is needed here."""

    def likelihood_rows(self, rows: Any, **options: Any) -> Any: ...

    def state_dict(self) -> Mapping[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """How rows are scored: what `likelihood_rows` is given besides them; None is the family's own choice."""

    how: How | None = None
    seed: int = 0
    draws: int | None = None
    label: int | str | None = None
    importance: bool = False
    dequantization: TruncatedNormal | None = None

    def of(self, model: Scorer, rows: torch.Tensor, first: int) -> Any:
        """The `Likelihood` of rows (B, ...), the first of which has number `first`."""
        return model.likelihood_rows(
            rows,
            how=self.how,
            first=first,
            seed=self.seed,
            draws=self.draws,
            label=self.label,
            importance=self.importance,
            dequantization=self.dequantization,
        )


def score(
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
    stop: Callable[[], bool] = lambda: False,
) -> Summary | None:
    """Score `rows` and write a line per row to `out`; None if `stop()` said so before the last.

    What is done so far lies in OUT.part, from which the same call goes on. Raises InputError for an `out` that is
    neither .csv nor .parquet, for an alarm without a calibration or at a rate it cannot give, and for an OUT.part that
    something else began, unless `replace` says that it may go.
    """
    out, scoring = Path(os.path.expanduser(out)), scoring or Scoring()
    check_out(out)
    if alarm is not None:
        if calibration is None:
            raise InputError(f"alarm {alarm:g}: needs held-out rows to compare with.")
        calibration.lowest(alarm)
    part = out.with_name(out.name + ".part")
    file = ScoreFile(part, identity(model, rows, scoring) | {"rows": len(rows)}, replace=replace)
    if not score_rows(
        model, rows, file, scoring=scoring, batch=batch, progress=progress, stop=stop
    ):
        return None
    dimensions = next(rows.batches(1))["row"][0].numel()
    summary = write_table(
        file, out, rows.names, dimensions=dimensions, calibration=calibration, alarm=alarm
    )
    part.unlink()
    return summary


def score_rows(
    model: Scorer,
    rows: Conformed,
    file: ScoreFile,
    *,
    scoring: Scoring,
    count: int | None = None,
    batch: int = 64,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
    what: str = "scoring",
) -> bool:
    """Append the scores of the rows that `file` lacks, of the first `count`; whether all are there."""
    total = len(rows) if count is None else min(count, len(rows))
    if file.rows >= total:
        return True
    for block in rows.batches(batch, file.rows):
        if stop():
            return False
        values = block["row"][: total - file.rows]
        began = time.perf_counter()
        found = scoring.of(model, values, file.rows)
        nats, stderr = (
            found.nats.double().cpu().numpy().copy(),
            found.stderr.double().cpu().numpy().copy(),
        )
        notes = {
            i: "the computation gave no finite number"
            for i in np.flatnonzero(~np.isfinite(nats)).tolist()
        }
        notes |= {
            i: "the model gives it no probability" for i in np.flatnonzero(nats == -np.inf).tolist()
        }
        nats[nats == np.inf] = np.nan
        for i, problem in block["problems"].items():
            if i < len(nats):
                nats[i], notes[i] = problem.nats, problem.reason
        stderr[~np.isfinite(nats)] = np.nan
        file.append(
            {
                "nats": nats.tolist(),
                "stderr": stderr.tolist(),
                "notes": {str(i): text for i, text in notes.items()},
                "kind": found.kind,
                "meaning": found.meaning,
                "evaluations": float(found.evaluations),
                "seconds": time.perf_counter() - began,
            }
        )
        if progress:
            progress(file.rows, total, what)
        if file.rows >= total:
            return True
    return True


def identity(model: Scorer, rows: Conformed, scoring: Scoring) -> dict[str, Any]:
    """What a score depends on besides the row's number, as plain data."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(
            tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        )
    return {"weights": digest.hexdigest()[:16], "data": rows.fingerprint, **asdict(scoring), "how": repr(scoring.how)}


def held_out_rows(
    config: Mapping[str, Any],
    *,
    source: Any = None,
    label: int | None = None,
    progress: Progress | None = None,
) -> Conformed:
    """The held-out rows of the run whose config's "data" is given, or the rows of `source` in their place; of the
    class `label` alone, if there is one and they have classes.

    Raises InputError if the run's data are gone, or are not what they were.
    """
    rows = (
        _own_held_out(config, progress)
        if source is None
        else conform(source, config, progress=progress)
    )
    if label is None or rows.labels is None:
        return rows
    return rows.only(np.flatnonzero(rows.labels == label))


def _own_held_out(config: Mapping[str, Any], progress: Progress | None) -> Conformed:
    advice = "give other rows it was not trained on (--held-out), or do without quantiles (--no-calibration)"
    path, split = config.get("path"), config["split"]
    if path is None:
        raise InputError(
            f"held-out rows: the run was trained on data from Python, which are not kept; {advice}."
        )
    size = config.get("size")
    size = tuple(size) if isinstance(size, list) else size
    try:
        data = load(
            path, seed=split["seed"], held_out=split["held_out"], size=size, progress=progress
        )
    except InputError as problem:
        raise InputError(
            f"held-out rows: {str(problem).split(';')[0].rstrip('.')}; {advice}."
        ) from problem
    if data.fingerprint != config["fingerprint"]:
        raise InputError(
            f"held-out rows: {path} is not what the run was trained on, or has changed since; {advice}."
        )
    return conform(data, config).only(data.split.held_out(np.arange(data.n_held_out)))


def calibrate(
    model: Scorer,
    run: str | Path,
    rows: Conformed,
    *,
    scoring: Scoring,
    count: int = 1000,
    batch: int = 64,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Calibration | None:
    """The scores of the first `count` of the held-out `rows`, from the run's folder as far as they are there already;
    None if `stop()` said so before the last.
    """
    scoring = dataclasses.replace(scoring, seed=mix(scoring.seed, _HELD_OUT))
    what = identity(model, rows, scoring) | {"held_out": [str(name) for name in rows.names[:3]]}
    name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]
    file = ScoreFile(Path(os.path.expanduser(run)) / FOLDER / f"{name}.jsonl", what)
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
    return Calibration(file.nats(count)) if whole else None
