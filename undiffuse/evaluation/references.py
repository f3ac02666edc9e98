"""What samples are compared with: real rows and their features, made once for any number of runs.

    stored rows  --encode, noise 0-->  x (unit scale)  --features-->  (N, D)

Real rows and samples go the same way, so that both are rounded as the data is. Figures are measured
against held-out rows. Features are fitted on training rows, and copies are looked for among them.
Of each side at most 10,000 rows are kept, chosen at random, and fewer where they are large. Only
the rows in their stored type and their features are held in memory: x is made again where it is
needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
import torch
from torch import Tensor

from undiffuse.data import Conformed, Data
from undiffuse.data.rows import as_tensor
from undiffuse.data.split import FEWEST
from undiffuse.errors import InputError
from undiffuse.evaluation.features import choose_features
from undiffuse.evaluation.features.abstract import Features
from undiffuse.evaluation.features.trained import Trained
from undiffuse.interfaces import Form, Progress, Transform
from undiffuse.seeds import mix

MOST_ROWS = 10_000  # of each side
MOST_BYTES = 2**29  # of each side at unit scale
_CHUNK = 512
_FITTED = 0xF17  # keeps what features are fitted on apart from other choices of rows

Chosen = str | Path | Callable[[Tensor], Tensor] | None
"""What `choose_features` takes: a name, a file, a function, or None for what fits the data."""


@final
@dataclass(frozen=True, kw_only=True)
class Side:
    """Rows of one side of the split.

    Attributes:
        rows: (N, ...) of the stored type.
        features: (N, D).
        labels: (N,), -1 for an unknown class; None without classes.
        vector: (N, v) the condition of each row; None without conditions.
    """

    rows: np.ndarray
    features: Tensor
    labels: Tensor | None
    vector: Tensor | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)


@final
@dataclass(frozen=True, kw_only=True)
class Reference:
    """Real rows and what they are compared by; made by `refer` or `refer_to_others`.

    Attributes:
        name: of the data.
        transform, form: of the data.
        classes: their names; none if there are fewer than two.
        training: training rows; None if the rows are not those that a run was trained on.
        held_out: held-out rows.
        training_rows, held_out_rows: how many there are of each, kept or not.
        features: what rows are compared by.
        classifier: tells classes apart; None without labels of two classes.
        notes: sentences on what is unusual.
    """

    name: str
    transform: Transform
    form: Form
    classes: tuple[str, ...]
    training: Side | None
    held_out: Side
    training_rows: int
    held_out_rows: int
    features: Features
    classifier: Trained | None
    notes: tuple[str, ...] = ()

    @property
    def time(self) -> int | None:
        """The axis of stored rows (N, ...) that is time; None for rows that are no series."""
        axes, shape = getattr(self.transform, "axes", ""), self.transform.shape
        return axes.index("T") + 1 if "T" in axes and len(shape) == 2 else None

    def series(self, rows: np.ndarray) -> np.ndarray:
        """Return stored rows of series as (N, C, L) float64, with constant channels."""
        assert self.time is not None
        along = np.moveaxis(rows, self.time, -1)
        return along.reshape(len(along), -1, along.shape[-1]).astype(np.float64)

    def encode(self, rows: np.ndarray) -> Tensor:
        """Encode stored rows (N, ...) to x (N, *shape), at the centres of their bins."""
        return torch.cat(list(_encoded(self.transform, rows)))

    def features_of(self, rows: np.ndarray) -> Tensor:
        """Return the features (N, D) of stored rows (N, ...)."""
        return _features(self.features, self.transform, rows)

    def classes_of(self, rows: np.ndarray) -> Tensor:
        """Return the class (N,) that the classifier gives each of the stored rows (N, ...)."""
        assert self.classifier is not None
        return torch.cat([self.classifier.classify(x) for x in _encoded(self.transform, rows)])


def refer(
    data: Data,
    *,
    features: Chosen = None,
    seed: int = 0,
    most: int = MOST_ROWS,
    progress: Progress | None = None,
) -> Reference:
    """Make the reference of data that were split; test rows, if it has such, are held out here.

    Args:
        data: the data.
        features: what rows are compared by, as `choose_features` takes it.
        seed: of that fit.
        most: rows of each side that are kept.
        progress: told what is being done.

    Raises:
        InputError: for fewer than 8 held-out rows, and for features that cannot take the rows.
    """
    n_test, data = data.split.n_test, data.tested
    if data.n_held_out < FEWEST:
        raise InputError(
            f"{data.name}: {data.n_held_out} held-out rows are too few to compare with; have at "
            f"least {FEWEST}, by more data or a larger --data.held-out in training."
        )
    asked = 0 if data.vector is None else data.vector[np.arange(1)].shape[1]
    most = _most(data.transform, most, asked)
    sides: list[tuple[np.ndarray, Tensor | None, Tensor | None]] = []
    for count, take in ((len(data), data.split.training), (data.n_held_out, data.split.held_out)):
        indices = take(np.arange(min(count, most)))  # the split's own order is random
        labels = None
        if data.labels is not None and len(data.classes) > 1:
            labels = torch.from_numpy(data.labels[indices]).long()
        vector = None if data.vector is None else torch.from_numpy(data.vector[indices])
        sides.append((_taken(data, indices, progress), labels, vector))
    (rows, labels, _), _ = sides
    chosen, classifier = _fitted(data.transform, rows, labels, features, seed, progress)
    training, held_out = (
        Side(rows=x, labels=y, vector=c, features=_features(chosen, data.transform, x))
        for x, y, c in sides
    )
    return Reference(
        name=data.name,
        transform=data.transform,
        form=data.form,
        classes=data.classes if held_out.labels is not None else (),
        training=training,
        held_out=held_out,
        training_rows=len(data),
        held_out_rows=data.n_held_out,
        features=chosen,
        classifier=classifier,
        notes=tuple(_notes(data, len(training), n_test)),
    )


def _notes(data: Data, kept: int, n_test: int) -> Iterator[str]:
    """What is unusual about a split of which `kept` training rows are compared with."""
    if n_test:
        yield f"the held-out rows are the {n_test:,} of the data's test part, never met in training"
    if kept < len(data):
        yield f"copies are looked for among {kept:,} of the {len(data):,} training rows alone"
    if data.mirrored:
        yield "copies of mirrored training rows are not looked for"
    groups = data.loaded.groups
    if groups is not None and len(np.unique(groups)) < len(groups):
        yield (
            "rows of one origin were held out together and resemble each other: intervals should "
            "be wider than shown"
        )


def refer_to_others(
    rows: Conformed,
    transform: Transform,
    form: Form,
    classes: tuple[str, ...],
    *,
    features: Chosen = None,
    seed: int = 0,
    most: int = MOST_ROWS,
    progress: Progress | None = None,
) -> Reference:
    """Make the reference of rows that a run was not trained on.

    Features are fitted on a random half of the rows and figures measured on the other: features
    fitted on the rows that they describe would favour these. Rows with a problem are left out.
    There are no training rows, so copies cannot be told.

    Args:
        rows: rows in the run's stored type.
        transform: of the run.
        form: of the run.
        classes: of the run.
        features: as for `refer`, as are the others.
        seed: of the choice of rows and the fit.
        most: rows of either half that are kept.
        progress: told what is being done.

    Raises:
        InputError: for fewer than 16 rows, and for features that cannot take them.
    """
    order = np.random.default_rng(mix(seed, _FITTED)).permutation(len(rows))
    part = rows.only(np.sort(order[: 2 * _most(transform, most)]))
    kept, labels, vector = _without_problems(part, len(classes))
    if len(kept) < 2 * FEWEST:
        raise InputError(
            f"{rows.name}: {len(kept)} rows are too few to compare with; give at least "
            f"{2 * FEWEST}."
        )
    mixed = np.random.default_rng(mix(seed, _FITTED, 1)).permutation(len(kept))
    fit, own = mixed[: len(kept) // 2], mixed[len(kept) // 2 :]
    known = None if labels is None else labels[fit]
    chosen, classifier = _fitted(transform, kept[fit], known, features, seed, progress)
    notes = [
        f"{rows.name} is not what the run was trained on: features were fitted on one half of it "
        "and figures measured on the other; copies of training rows cannot be told without those"
    ]
    if lost := len(part) - len(kept):
        notes.append(
            f"{lost:,} rows of {rows.name} could not be read as the run's and are left out"
        )
    return Reference(
        name=rows.name,
        transform=transform,
        form=form,
        classes=classes if labels is not None else (),
        training=None,
        held_out=Side(
            rows=kept[own],
            features=_features(chosen, transform, kept[own]),
            labels=None if labels is None else labels[own],
            vector=None if vector is None else vector[own],
        ),
        training_rows=0,
        held_out_rows=len(own),
        features=chosen,
        classifier=classifier,
        notes=tuple(notes),
    )


def _without_problems(
    part: Conformed, classes: int
) -> tuple[np.ndarray, Tensor | None, Tensor | None]:
    """The rows that can be read, and their labels and conditions.

    Labels if all have some and there are two classes.
    """
    rows, labels, vectors = [np.empty((0,))], [], []
    for batch in part.batches(_CHUNK):
        good = np.delete(np.arange(len(batch["row"])), list(batch["problems"]))
        rows.append(batch["row"].numpy()[good])
        if "label" in batch and classes > 1:
            labels.append(batch["label"][torch.from_numpy(good)].long())
        if "vector" in batch:
            vectors.append(batch["vector"][torch.from_numpy(good)])
    joined, wanted = (torch.cat(parts) if parts else None for parts in (labels, vectors))
    return np.concatenate(rows[1:] or rows), joined, wanted


def _fitted(
    transform: Transform,
    training: np.ndarray,
    labels: Tensor | None,
    chosen: Chosen,
    seed: int,
    progress: Progress | None,
) -> tuple[Features, Trained | None]:
    """The features, and what tells classes apart: the features, or another classifier."""
    if progress:
        progress(0, 1, "fitting features")
    x = torch.cat(list(_encoded(transform, training)))
    features = choose_features(x, labels, chosen=chosen, seed=seed)
    classifier = features if isinstance(features, Trained) and features.classes else None
    if classifier is None and labels is not None and len(labels[labels >= 0].unique()) > 1:
        classifier = Trained(x, labels, seed=seed)
    if progress:
        progress(1, 1, "fitting features")
    return features, classifier


def _features(features: Features, transform: Transform, rows: np.ndarray) -> Tensor:
    return torch.cat([features(x) for x in _encoded(transform, rows)])


def _encoded(transform: Transform, rows: np.ndarray) -> Iterator[Tensor]:
    for first in range(0, len(rows), _CHUNK):
        yield transform.encode(as_tensor(rows[first : first + _CHUNK]), torch.zeros_like)[0]


def _taken(data: Data, indices: np.ndarray, progress: Progress | None) -> np.ndarray:
    parts = []
    for first in range(0, len(indices), _CHUNK):
        parts.append(data.loaded.rows.take(indices[first : first + _CHUNK]))
        if progress:
            progress(min(first + _CHUNK, len(indices)), len(indices), f"reading {data.name}")
    return np.concatenate(parts)


def _most(transform: Transform, most: int, asked: int = 0) -> int:
    """How many rows of this size and of so long a condition are kept, at most `most`."""
    return min(most, max(1000, MOST_BYTES // (4 * (math.prod(transform.shape) + asked))))
