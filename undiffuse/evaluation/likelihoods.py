"""The likelihood of held-out rows, and by how much training rows are likelier.

    nats    mean over held-out rows of log p(row), in the data's own units
    bits    -nats / (d log 2), d the entries of a stored row
    gap     the same mean over as many training rows, less nats: near 0 for a model that has not learned rows by heart

Rows are independent, so intervals are those of means; they hold what the rows' own estimates scatter. Scores are kept
in the run's folder as they come (`scores.py`), so that an interrupted evaluation goes on.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch

from undiffuse.data import Conformed, Progress
from undiffuse.data.conformed import Taken
from undiffuse.errors import InputError
from undiffuse.evaluation.metrics import Figure
from undiffuse.evaluation.metrics.figure import normal, of_mean
from undiffuse.evaluation.references import Reference
from undiffuse.evaluation.scores.file import ScoreFile
from undiffuse.evaluation.scores.scores import Scoring, identity, score_rows
from undiffuse.models import GenerativeModel
from undiffuse.models.likelihood import bits_per_dimension
from undiffuse.seeds import mix

_SEED = 0x71AE11  # keeps this noise apart from that of other scores


@final
@dataclass(frozen=True, kw_only=True)
class Likelihoods:
    """Of `rows` held-out rows: nats per row, bits per dimension, the gap (None without training rows).

    `kind` is exact, bound or estimate, `meaning` says it in words; `lost` rows had no finite likelihood.
    """

    nats: Figure
    bits_per_dim: Figure
    gap: Figure | None
    kind: str
    meaning: str
    rows: int
    lost: int


@final
class _Stored:
    """Rows in memory, of which nothing is wrong."""

    def __init__(self, rows: np.ndarray) -> None:
        self.rows = rows

    def take(self, indices: np.ndarray) -> Taken:
        return self.rows[indices], {}


def refusal(model: GenerativeModel, reference: Reference) -> str | None:
    """Why the model has no likelihood, in a sentence; None if it has."""
    return model.no_density or None


def likelihoods(
    model: GenerativeModel,
    reference: Reference,
    folder: Path,
    *,
    rows: int = 500,
    seed: int = 0,
    batch: int = 64,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Likelihoods | None:
    """The first `rows` held-out rows, and as many training rows, scored; None if `stop()` said so before the last.

    Raises InputError for a family that has no density, and if no row has a finite one.
    """
    found = []
    for side, what in ((reference.held_out, "held-out"), (reference.training, "training")):
        if side is None:
            continue
        scores = _scores(
            model,
            side.rows[:rows],
            folder,
            what,
            mix(seed, _SEED, len(found)),
            batch,
            progress,
            stop,
        )
        if scores is None:
            return None
        found.append(scores)
    (nats, kind, meaning), *training = found
    finite = nats[np.isfinite(nats)]
    if not len(finite):
        raise InputError(
            "likelihood: no held-out row has a finite one; look at the rows with undiffuse score."
        )
    bounds = (-math.inf, math.inf)
    mean = of_mean(torch.from_numpy(finite), bounds=bounds)
    gap = None
    if training and np.isfinite(training[0][0]).any():
        own = of_mean(torch.from_numpy(training[0][0][np.isfinite(training[0][0])]), bounds=bounds)
        gap = normal(
            own.value - mean.value, math.hypot(own.stderr, mean.stderr), min(own.n, mean.n)
        )
    return Likelihoods(
        nats=mean,
        bits_per_dim=_bits(mean, reference.held_out.rows[0].size),
        gap=gap,
        kind=kind,
        meaning=meaning,
        rows=len(nats),
        lost=len(nats) - len(finite),
    )


def _scores(
    model: GenerativeModel,
    rows: np.ndarray,
    folder: Path,
    what: str,
    seed: int,
    batch: int,
    progress: Progress | None,
    stop: Callable[[], bool],
) -> tuple[np.ndarray, str, str] | None:
    """(nats of each row, kind, meaning)."""
    digest = hashlib.sha256(np.ascontiguousarray(rows).tobytes()).hexdigest()[:16]
    stored = Conformed(_Stored(rows), range(len(rows)), name=what, fingerprint=digest)
    scoring = Scoring(seed=seed)
    about = identity(model, stored, scoring)
    name = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]
    file = ScoreFile(folder / f"{name}.jsonl", about)
    words = f"scoring {what} rows"
    if not score_rows(
        model, stored, file, scoring=scoring, batch=batch, progress=progress, stop=stop, what=words
    ):
        return None
    last = list(file.batches())[-1]
    return file.nats(len(rows)), last["kind"], last["meaning"]


def _bits(nats: Figure, dimensions: int) -> Figure:
    value, low, high = (
        bits_per_dimension(x, dimensions) for x in (nats.value, nats.high, nats.low)
    )
    stderr = -bits_per_dimension(nats.stderr, dimensions)
    return Figure(value=value, low=low, high=high, stderr=stderr, n=nats.n, warning=nats.warning)
