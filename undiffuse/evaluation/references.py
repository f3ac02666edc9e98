"""What samples are compared with: training and held-out rows, and their features, made once for any number of runs.

    stored rows  --encode, noise 0-->  x (unit scale)  --features-->  (N, D)

Real rows and samples go the same way, so that both are rounded as the data is. Held-out rows are what figures are
measured against; training rows are what the features are fitted on and what copies are told by. Of each side a random
10,000 rows are kept at most, fewer where they are large. Only the rows in their stored type and their features are
held in memory: x is made again where it is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from undiffuse.data import Conformed, Data, Progress
from undiffuse.data.rows import as_tensor
from undiffuse.errors import InputError
from undiffuse.evaluation.features import choose_features
from undiffuse.evaluation.features.base import Features
from undiffuse.evaluation.features.trained import Trained
from undiffuse.interfaces import Transform
from undiffuse.seeds import mix

MOST_ROWS = 10_000  # of each side
MOST_BYTES = 2**29  # of each side at unit scale
FEWEST = 8  # held-out rows
_CHUNK = 512
_FITTED = 0xF17  # keeps what features are fitted on apart from other choices of rows

Chosen = str | Path | Callable[[Tensor], Tensor] | None
"""What `choose_features` takes: a name, a file, a function, or None for what fits the data."""


@final
@dataclass(frozen=True, kw_only=True)
class Side:
    """Rows of one side of the split: stored (N, ...), features (N, D), labels (N,) (-1: unknown) or None."""

    rows: np.ndarray
    features: Tensor
    labels: Tensor | None

    def __len__(self) -> int:
        return len(self.rows)


@final
@dataclass(frozen=True, kw_only=True)
class Reference:
    """Held-out rows and what they are compared by; made by `refer`, or by `refer_to_others`.

    `training` is None where they are not the rows that a run was trained on. `classifier` tells classes apart, None
    where there are no labels of two classes. `notes` are sentences on what is unusual.
    """

    name: str
    transform: Transform
    form: Any
    classes: tuple[str, ...]
    training: Side | None
    held_out: Side
    training_rows: int
    held_out_rows: int
    features: Features
    classifier: Trained | None
    notes: tuple[str, ...] = ()

    def encode(self, rows: np.ndarray) -> Tensor:
        """Stored rows (N, ...) -> x (N, *shape), at the centres of their bins."""
        return torch.cat(list(_encoded(self.transform, rows)))

    def features_of(self, rows: np.ndarray) -> Tensor:
        """Stored rows (N, ...) -> features (N, D), a part at a time."""
        return torch.cat([self.features(x) for x in _encoded(self.transform, rows)])

    def classes_of(self, rows: np.ndarray) -> Tensor:
        """Stored rows (N, ...) -> the class that the classifier gives each, (N,)."""
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
    """The reference of data that were split: `features` as `choose_features` takes them, fitted on the training rows.

    Raises InputError for fewer than 8 held-out rows, and for features that cannot take the rows.
    """
    if data.n_held_out < FEWEST:
        raise InputError(
            f"{data.name}: {data.n_held_out} held-out rows are too few to compare with; have at least {FEWEST}, by "
            "more data or a larger --data.held-out in training."
        )
    most = _most(data.transform, most)
    with_labels = data.labels is not None and len(data.classes) > 1
    sides = []
    for count, take in ((len(data), data.split.training), (data.n_held_out, data.split.held_out)):
        indices = take(np.arange(min(count, most)))  # the split's own order is random
        labels = torch.from_numpy(np.asarray(data.labels)[indices]).long() if with_labels else None
        sides.append(
            (_taken(data.loaded.rows.take, indices, progress, f"reading {data.name}"), labels)
        )
    training, labels = sides[0]
    chosen, classifier = _fitted(data.transform, training, labels, features, seed, progress)
    parts = [
        Side(rows=x, labels=y, features=_features(chosen, data.transform, x)) for x, y in sides
    ]
    return Reference(
        name=data.name,
        transform=data.transform,
        form=data.form,
        classes=data.classes if with_labels else (),
        training=parts[0],
        held_out=parts[1],
        training_rows=len(data),
        held_out_rows=data.n_held_out,
        features=chosen,
        classifier=classifier,
        notes=tuple(_notes(data, len(training))),
    )


def _notes(data: Data, kept: int) -> Iterator[str]:
    """What is unusual about a split of which `kept` training rows are looked at."""
    if kept < len(data):
        yield f"copies are looked for among {kept:,} of the {len(data):,} training rows alone"
    groups = data.loaded.groups
    if groups is not None and len(np.unique(groups)) < len(groups):
        yield "rows of one origin were held out together and resemble each other: intervals should be wider than shown"


def refer_to_others(
    rows: Conformed,
    transform: Transform,
    form: Any,
    classes: tuple[str, ...],
    *,
    features: Chosen = None,
    seed: int = 0,
    most: int = MOST_ROWS,
    progress: Progress | None = None,
) -> Reference:
    """The reference of rows that a run has never met, `conform`ed to it; there are no training rows to tell copies by.

    Features are fitted on a random half of them and figures measured on the other: features that had been fitted on
    the rows they describe would favour those. Rows with a problem are left out. Raises InputError for fewer than 16
    rows, and for features that cannot take them.
    """
    most = _most(transform, most)
    order = np.random.default_rng(mix(seed, _FITTED)).permutation(len(rows))[: 2 * most]
    part = rows.only(np.sort(order))
    taken = [
        (np.delete(batch["row"].numpy(), list(batch["problems"]), 0), _labels(batch))
        for batch in part.batches(_CHUNK)
    ]
    kept = np.concatenate([x for x, _ in taken]) if taken else np.empty((0,))
    if len(kept) < 2 * FEWEST:
        raise InputError(
            f"{rows.name}: {len(kept)} rows are too few to compare with; give at least {2 * FEWEST}."
        )
    known = [y for _, y in taken if y is not None]
    labels = torch.cat(known) if len(known) == len(taken) and len(classes) > 1 else None
    mixed = np.random.default_rng(mix(seed, _FITTED, 1)).permutation(len(kept))
    fit, own = mixed[: len(kept) // 2], mixed[len(kept) // 2 :]
    given = None if labels is None else labels[fit]
    chosen, classifier = _fitted(transform, kept[fit], given, features, seed, progress)
    held_out = Side(
        rows=kept[own],
        features=_features(chosen, transform, kept[own]),
        labels=None if labels is None else labels[own],
    )
    note = (
        f"{rows.name} is not what the run was trained on: features were fitted on one half of it and figures measured "
        "on the other; copies of training rows cannot be told without those"
    )
    lost = len(part) - len(kept)
    return Reference(
        name=rows.name,
        transform=transform,
        form=form,
        classes=classes if labels is not None else (),
        training=None,
        held_out=held_out,
        training_rows=0,
        held_out_rows=len(own),
        features=chosen,
        classifier=classifier,
        notes=(
            note,
            *(
                [f"{lost:,} rows of {rows.name} could not be read as the run's and are left out"]
                * (lost > 0)
            ),
        ),
    )


def _labels(batch: dict[str, Any]) -> Tensor | None:
    if "label" not in batch:
        return None
    kept = np.delete(np.arange(len(batch["row"])), list(batch["problems"]))
    return batch["label"][torch.from_numpy(kept)].long()


def _fitted(
    transform: Transform,
    training: np.ndarray,
    labels: Tensor | None,
    chosen: Chosen,
    seed: int,
    progress: Progress | None,
) -> tuple[Features, Trained | None]:
    """The features, and what tells classes apart: the features themselves if they can, or a classifier of its own."""
    if progress:
        progress(0, 1, "fitting features")
    x = torch.cat(list(_encoded(transform, training)))
    features = choose_features(x, labels, chosen=chosen, seed=seed)
    classifier = (
        features if isinstance(features, Trained) and features.name == "classifier" else None
    )
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


def _taken(
    take: Callable[[np.ndarray], np.ndarray],
    indices: np.ndarray,
    progress: Progress | None,
    what: str,
) -> np.ndarray:
    parts = []
    for first in range(0, len(indices), _CHUNK):
        parts.append(take(indices[first : first + _CHUNK]))
        if progress:
            progress(min(first + _CHUNK, len(indices)), len(indices), what)
    return np.concatenate(parts)


def _most(transform: Transform, most: int) -> int:
    """How many rows of this size are kept, `most` at most."""
    return min(most, max(1000, MOST_BYTES // (4 * math.prod(transform.shape))))
