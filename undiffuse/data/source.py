"""Data to train on: rows, a held-out split, and a transform measured on the training rows alone.

The split (see `split`) numbers the training rows T(0) ... T(n-1). Each epoch e has a permutation
Q_e of range(n) of its own; the rows of all batches lie one after another through all epochs, and
the batch of step k on rank r of w takes the positions

    (k w + r) B ... (k w + r) B + B - 1,     position q -> row T(Q_{q div n}(q mod n)).

Of rows that are read from many files as they are needed, Q_e shuffles parts of files and then rows
within windows (see `stream.pieces`). No order is stored, every batch is a function of (seed, step,
rank, world), each epoch meets each training row once, and the ranks together see what one rank with
a batch of w B would. Whether the image at position q is mirrored is a bit that depends on (seed,
q); so does by how much a window of a recording is moved, where there are few.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from functools import cached_property, partial
from itertools import count
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from undiffuse.data.conditions import Conditions, Vectors, VectorsByRow
from undiffuse.data.conformed import CheckedRows, Conformed
from undiffuse.data.kind import KINDS
from undiffuse.data.mirror import Mirrored, mirror, tell_mirrored
from undiffuse.data.permutation import key
from undiffuse.data.rows import (
    ByRow,
    Expecting,
    Loaded,
    Movable,
    SomeRows,
    as_tensor,
    chunk_indices,
    chunks,
)
from undiffuse.data.split import FEWEST, Split, make_split, split_by_parts
from undiffuse.data.stream.pieces import split_by_files
from undiffuse.errors import InputError
from undiffuse.interfaces import Progress
from undiffuse.options import AS_IT_IS, ReadingOptions
from undiffuse.shown import PICTURED, card, is_table, words_for

_MIRROR, _MOVE = 4, 5  # what a key is for; the split has others
FEW = 500  # training images, below which mirrored ones helped (docs/measurements.md)
FEW_WINDOWS = 2000  # in training, below which they are moved
_PLANNED = 4096  # rows of which the places in the epoch are worked out together: that is quicker


@final
class Data:
    """A finite data set, split and ready to train on; made by `undiffuse.load`.

    Args:
        loaded: what was read.
        seed: decides which rows are held out.
        held_out: a share between 0 and 1, or a number of rows; None for a tenth of the rows, at
            least 8 (1 of fewer than 24 rows) and at most 10,000. Where rows belong to groups
            (windows of one recording), that share of the groups is held out, whatever their sizes.
        reading: how the rows were read, kept for reading them again.
        mirrored: whether training sees images mirrored half the time; None: if they are few, and
            as likely mirrored as they are (see `mirror`), and have no conditions.
        progress: called now and then.

    Raises:
        InputError: for fewer than two rows, a share that leaves none to train on, and rows to be
            mirrored that are no images.

    >>> from undiffuse.data import load
    >>> data = load("digits")
    >>> len(data), len(data.held_out), data.shape, data.conditions
    (1617, 180, (1, 8, 8), {'label': 10})
    """

    def __init__(
        self,
        loaded: Loaded,
        *,
        seed: int = 0,
        held_out: float | int | None = None,
        reading: ReadingOptions = AS_IT_IS,
        mirrored: bool | None = None,
        progress: Progress | None = None,
    ) -> None:
        if len(loaded.rows) < 2:
            count = "1 row" if len(loaded.rows) else "no rows"
            raise InputError(f"{loaded.name}: it has {count}; training needs at least 2 rows.")
        self.loaded = loaded
        self.seed = seed
        self.reading = reading
        asked = (loaded.groups, held_out, seed, loaded.name)
        self.split: Split
        if (stream := loaded.stream) is not None:
            self.split = split_by_files(stream.pieces, held_out, seed, stream.window, loaded.name)
        elif loaded.parts is None:
            self.split = make_split(len(loaded.rows), *asked)
        else:
            self.split = split_by_parts(loaded.parts, *asked)
        self.form = loaded.form
        self.conditions = {"label": len(loaded.classes)} if loaded.labels is not None else {}
        self._asked, self.vector = self._conditions()
        if self._asked is not None:
            self.conditions |= self._asked.sizes
        self.transform = loaded.make_transform(partial(self._training_chunks, progress))
        self._mirrored, self._axis = mirrored, KINDS[loaded.kind].mirror_axis(self.transform)
        if mirrored and self._axis is None:
            raise InputError(
                f"{loaded.name}: only images can be mirrored, not {loaded.kind}; leave out "
                "--data.mirrored."
            )
        if mirrored and loaded.maps:
            raise InputError(
                f"{loaded.name}: its conditions that are whole arrays are not mirrored with its "
                "images; leave out --data.mirrored."
            )

    def _conditions(self) -> tuple[Conditions | None, np.ndarray | Vectors | ByRow | None]:
        """The conditions as the training rows measure them, and the vector of every row."""
        given, maps, stream = self.loaded.given, self.loaded.maps, self.loaded.stream
        if not given and not maps:
            return None, None
        if stream is not None:
            asked = Conditions.measure(given, np.flatnonzero(~self.split.holds_out(stream.looked)))
            return asked, VectorsByRow(asked, self.loaded.rows)
        rows = np.arange(len(self.loaded.rows))
        asked = Conditions.measure(given, rows[~self.split.holds_out(rows)], maps)
        codes = np.zeros((len(rows), 0))
        codes = np.stack([one.codes for one in given], 1) if given else codes
        if maps:
            return asked, Vectors(asked, codes, [one.rows for one in maps])
        return asked, asked.encode(codes)

    @property
    def name(self) -> str:
        """What the data is called in messages: the file, the folder or the named set."""
        return self.loaded.name

    @property
    def path(self) -> str | None:
        """What `load` takes to read it again: an absolute path or a name; None for an object."""
        return self.loaded.path

    @property
    def fingerprint(self) -> str:
        """Changes when the data changes, and not when it is moved."""
        return self.loaded.fingerprint

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the labels; empty if there are none."""
        return self.loaded.classes

    @property
    def labels(self) -> np.ndarray | ByRow | None:
        """The class of every row of the source, (N,) int64, or what has them by number; or None."""
        return self.loaded.labels

    @property
    def notes(self) -> tuple[str, ...]:
        """What was skipped, resized or left out, and what cannot be done: one sentence each."""
        few: tuple[str, ...] = ()
        if self._room is not None:
            few = (
                f"{self.name}: training moves each window by up to half of it whenever it is met, "
                "as there are few; held-out windows stay, and share no sample with these.",
            )
        if self.n_held_out < FEWEST:
            few += (
                f"{self.name}: {self.n_held_out} of {len(self.loaded.rows):,} rows are held out, "
                f"and a report needs {FEWEST}: this run cannot be evaluated on its own data; have "
                "more rows or a larger --data.held-out.",
            )
        unknown = [one.note for one in (*self.loaded.given, *self.loaded.maps) if one.note]
        return (*self.loaded.notes, *unknown, *self.split.notes, *few)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one row as the model sees it."""
        return tuple(self.transform.shape)

    @property
    def n_held_out(self) -> int:
        """The number of rows held out."""
        return self.split.n_held_out

    @property
    def mirrored(self) -> bool:
        """Whether training sees each row mirrored half the time."""
        found = self._pairs
        return bool(self._mirrored) if found is None else found.likely

    @cached_property
    def _pairs(self) -> Mirrored | None:
        """How well few images are told from mirrored ones; None if that does not matter.

        Nor for images with conditions: an angle is another one in the mirror.
        """
        if self._axis is None or self._mirrored is not None or len(self) >= FEW or self._asked:
            return None
        batch = self.sample_batch(FEW)
        x, _ = self.transform.encode(batch["row"], torch.zeros_like)
        return tell_mirrored(x, batch.get("label"))

    def __len__(self) -> int:
        """Return the number of training rows."""
        return self.split.n_training

    @property
    def tested(self) -> Data:
        """The data with their test rows held out, for an evaluation; the same without any."""
        data = copy.copy(self)
        data.split = self.split.tested()
        return data

    @property
    def held_out(self) -> Any:  # an array, a data frame: the user's own type
        """The held-out rows in the form the data came in, read anew at each access."""
        positions = self.split.held_out(np.arange(self.n_held_out))
        return self.form.present(self.loaded.rows.take(positions), drawn=False)

    @property
    def train(self) -> TrainingRows:
        """The training rows in the form the data came in, read only where they are indexed."""
        return TrainingRows(self)

    def held_out_rows(self) -> Conformed:
        """Return the held-out rows in their stored type, named as the rows of the source are."""
        loaded = self.loaded
        every_row = Conformed(
            CheckedRows(loaded.rows),
            loaded.names or range(len(loaded.rows)),
            name=loaded.name,
            fingerprint=loaded.fingerprint,
            labels=loaded.labels,
            vector=self.vector,
            groups=loaded.groups,
            notes=tuple(loaded.notes),
        )
        return every_row.only(self.split.held_out(np.arange(self.n_held_out)))

    def batches(
        self, size: int, *, seed: int, start_step: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[dict[str, Tensor]]:
        """Yield batches {"row", "label", "vector"} of `size` rows without end; see `Source`."""
        ahead = max(1, _PLANNED // size)
        rows, anew = self.loaded.rows, True

        def planned(first: int) -> tuple[np.ndarray, np.ndarray]:
            """The positions of some steps (ahead, size), and the rows there, soon to be read."""
            nonlocal anew
            steps = np.arange(first, first + ahead)[:, None]
            positions = (steps * world + rank) * size + np.arange(size)
            epochs, within = np.divmod(positions, len(self))
            indices = self.split.shuffled(within, epochs, seed)
            if isinstance(rows, Expecting):
                rows.expect(indices.reshape(-1), anew=anew)
                anew = False
            return positions, indices

        following = planned(start_step)
        for first in count(start_step + ahead, ahead):
            (positions, order), following = following, planned(first)
            chosen, moves = [None] * ahead, [None] * ahead
            if self.mirrored:
                chosen = key(_MIRROR, seed, positions) & np.uint64(1) == 1
            if self._room is not None:
                moves = np.asarray(key(_MOVE, seed, positions) >> np.uint64(11)) / 2.0**53
            for indices, some, move in zip(order, chosen, moves):
                yield self._batch(indices, some, move)

    def held_out_batch(self, size: int) -> dict[str, Tensor]:
        """Return the first `size` held-out rows, all if there are fewer; always the same ones."""
        return self._batch(self.split.held_out(np.arange(min(size, self.n_held_out))))

    def sample_batch(self, size: int) -> dict[str, Tensor]:
        """Return `size` training rows, or all if there are fewer, spread over the source."""
        return self._batch(self.split.training(np.arange(min(size, len(self)))))

    def describe(self) -> dict[str, Any]:
        """Return what the data looks like and how it will be modelled, as plain data."""
        tree: dict[str, Any] = {
            "name": self.name,
            "path": self.path,
            "rows": len(self.loaded.rows),
            "training_rows": len(self),
            "held_out_rows": self.n_held_out,
            **({"test_rows": self.split.n_test} if self.split.n_test else {}),
            **self.loaded.facts,
        }
        if self.labels is not None:
            counts = self.loaded.counts
            if counts is None:
                counts = np.bincount(np.asarray(self.labels), minlength=len(self.classes)).tolist()
            tree["classes"] = dict(zip(self.classes, counts))
        if self._asked is not None:
            tree["conditions"] = self._asked.describe()
        if self._mirrored or self._pairs is not None:
            why = "as asked for" if self._pairs is None else self._pairs.said
            tree["mirrored_images"] = f"{'trained on' if self.mirrored else 'left out'}: {why}"
        tree["modelled_shape"] = list(self.shape)
        tree["modelled_as"] = self.transform.description
        tree["notes"] = list(self.notes)
        return tree

    def __repr__(self) -> str:
        """Return the name, the numbers of rows and the shape, in a line."""
        return (
            f"Data({self.name!r}: {len(self):,} rows to train on, {self.n_held_out:,} held out, "
            f"each {words_for(list(self.transform.row_shape))}"
            f"{f', {len(self.classes)} classes' if self.classes else ''})"
        )

    def _repr_html_(self) -> str:
        tree = self.describe()
        tables = [value for value in tree.values() if is_table(value)]
        facts = {name: value for name, value in tree.items() if not is_table(value)}
        del facts["name"], facts["path"]
        count = min(PICTURED if len(self.shape) > 1 else 1000, len(self))
        rows = self.loaded.rows.take(self.split.training(np.arange(count)))
        pictures = {"training rows": self.form.preview(rows)}
        facts["notes"] = " ".join(self.notes)
        return card(repr(self), facts, pictures=pictures, tables=tables)

    def config(self) -> dict[str, Any]:
        """Return what a run records: enough to sample and score, and to recognize the data."""
        return {
            "name": self.name,
            "path": self.path,
            "fingerprint": self.fingerprint,
            "rows": len(self.loaded.rows),
            "reading": {**self.reading.given, **self.loaded.decided},
            "split": {"seed": self.seed, "held_out": self.split.wanted},
            "mirrored": self.mirrored,
            **KINDS[self.loaded.kind].describe(self.transform, self.form),
            "classes": list(self.classes),
            **({} if self._asked is None else {"conditions": self._asked.tree()}),
            **({} if self.loaded.stream is None else {"stream": self.loaded.stream.tree()}),
        }

    @cached_property
    def _room(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Where each of few training windows of recordings can begin; None for other rows."""
        rows = self.loaded.rows
        if not isinstance(rows, Movable) or len(self) >= FEW_WINDOWS:
            return None
        return rows.room(self.split.holds_out(np.arange(len(self.loaded.rows))))

    def _batch(
        self,
        indices: np.ndarray,
        mirrored: np.ndarray | None = None,
        move: np.ndarray | None = None,
    ) -> dict[str, Tensor]:
        source = self.loaded.rows
        if move is None or self._room is None or not isinstance(source, Movable):
            rows = source.take(indices)
        else:
            rows = source.moved(indices, self._room, move)
        if mirrored is not None and self._axis is not None:
            rows = mirror(rows, mirrored, self._axis)
        batch = {"row": as_tensor(rows)}
        if self.labels is not None:
            batch["label"] = as_tensor(self.labels[indices])
        if self.vector is not None:
            batch["vector"] = as_tensor(self.vector[indices])
        return batch

    def _training_chunks(self, progress: Progress | None) -> Iterator[np.ndarray]:
        """Yield the training rows in the order of the source: a file is read from front to back."""
        rows, stream = self.loaded.rows, self.loaded.stream
        if stream is not None:
            training = stream.looked[~self.split.holds_out(stream.looked)]
            yield from chunks(SomeRows(rows, training), progress, f"measuring {self.name}")
            return
        for indices in chunk_indices(rows, progress, f"measuring {self.name}"):
            training = indices[~self.split.holds_out(indices)]
            if len(training):
                yield rows.take(training)


@final
class TrainingRows:
    """A view of the training rows: `len`, and rows in the data's own form where it is indexed.

    >>> from undiffuse.data import load
    >>> load("digits").train[:3].shape
    (3, 8, 8)
    """

    def __init__(self, data: Data) -> None:
        self._data = data

    def __len__(self) -> int:
        """Return the number of training rows."""
        return len(self._data)

    def __getitem__(self, index: int | slice | np.ndarray | list[int]) -> Any:  # as the user's
        """Return the rows that a number, a slice or a list of numbers picks, as `sample` would.

        Raises:
            IndexError: for a row that there is not.
        """
        if isinstance(index, slice):
            positions = np.arange(*index.indices(len(self)))
        else:
            positions = np.atleast_1d(index)
        if np.any((positions < -len(self)) | (positions >= len(self))):
            raise IndexError(f"row {index} of {len(self)}")
        taken = self._data.split.training(positions % len(self))
        return self._data.form.present(self._data.loaded.rows.take(taken), drawn=False)
