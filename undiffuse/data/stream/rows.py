"""Rows by number from pieces of files: read when they are needed or shortly before, then forgotten.

`CachedPieces` holds what was read last and reads ahead in a thread what is expected next: about two
windows of rows in all, however many there are. A `Block` is what one piece holds as rows.

A row that cannot be used (an image that does not decode, a missing value where none was in what was
measured) costs nobody the training: the next row of its piece is taken in its place. It is said
once, and is refused where it is more than 1 % of what has been read.
"""

from __future__ import annotations

import threading
import warnings
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, Protocol, TypeVar, final, runtime_checkable

import numpy as np

from undiffuse.data.conformed import Conformed, Problem, Taken
from undiffuse.data.decoding import Unreadable
from undiffuse.data.stream.formats import Format, Looked
from undiffuse.data.stream.pieces import Pieces, sizes_of
from undiffuse.data.stream.stored import StoredFile
from undiffuse.errors import InputError

MOST_BAD = 0.01  # of all rows, or of all bytes
_SURE = 1000  # rows that a share is told from
_READERS = 4  # threads

Held = TypeVar("Held")


@final
@dataclass(frozen=True)
class Shards:
    """Files of rows, looked at.

    Args:
        name: what they are called in messages.
        format: how they are read.
        places: the files.
        looked: what each of them holds.
        like: what they agree in.
    """

    name: str
    format: Format
    places: tuple[StoredFile, ...]
    looked: tuple[Looked, ...]
    like: Mapping[str, Any]

    @cached_property
    def pieces(self) -> Pieces:
        """Their pieces."""
        return sizes_of([one.sizes for one in self.looked])

    @cached_property
    def firsts(self) -> np.ndarray:
        """The number of the first piece of each file."""
        return np.cumsum([0, *(len(one.sizes) for one in self.looked)])

    def place_of(self, piece: int) -> StoredFile:
        """Return the file that a piece is of."""
        return self.places[int(self.pieces.files[piece])]

    def read(self, piece: int) -> Any:
        """Return what a piece holds, as its format has it. Raises InputError if it has changed."""
        file = int(self.pieces.files[piece])
        ends, own = self.looked[file].ends, piece - int(self.firsts[file])
        place = self.places[file]
        try:
            content = self.format.read(place, ends[own], ends[own + 1])
        except Unreadable as problem:
            raise self._changed(place, str(problem)) from problem
        if len(content) != self.pieces.sizes[piece]:
            raise self._changed(place, "another number of rows")
        return content

    def _changed(self, place: StoredFile, why: str) -> InputError:
        return InputError(
            f"{place.name}: has been changed since it was first read ({why}); restore it, and "
            "start again or continue with --resume."
        )


@runtime_checkable
class Block(Protocol):
    """The rows of a piece."""

    labels: np.ndarray | None

    def take(self, places: np.ndarray) -> tuple[np.ndarray, int]:
        """Return rows of the piece, and how many of its rows are known to be bad."""
        ...

    def instead(self, places: np.ndarray) -> np.ndarray:
        """Return which rows of the piece these are: for a bad row the one in its place."""
        ...


@final
class ArrayBlock:
    """Rows that are an array.

    Args:
        rows: (n, ...).
        bad: (n,) which cannot be used.
        labels: (n,) their classes.
        name: of the file, for messages.
    """

    def __init__(
        self, rows: np.ndarray, bad: np.ndarray, labels: np.ndarray | None, name: str
    ) -> None:
        self.rows, self.labels = rows, labels
        self._bad = int(bad.sum())
        self._instead = np.arange(len(rows))
        if self._bad:
            good = np.flatnonzero(~bad)
            if not len(good):
                raise InputError(
                    f"{name}: no row of a part of it can be used: every one lacks a value that "
                    "the rows measured have, or is damaged; remove the file."
                )
            following = good[np.searchsorted(good, self._instead) % len(good)]
            self._instead = np.where(bad, following, self._instead)

    def take(self, places: np.ndarray) -> tuple[np.ndarray, int]:
        """See `Block`."""
        return self.rows[self._instead[places]], self._bad

    def instead(self, places: np.ndarray) -> np.ndarray:
        """See `Block`."""
        return self._instead[places]


@final
class CachedPieces(Generic[Held]):
    """What pieces hold, by their number.

    Args:
        shards: the files.
        make: what is made of the content of a piece of a file.
        room: rows that are kept; as many again are read ahead.
    """

    def __init__(self, shards: Shards, make: Callable[[Any, StoredFile], Held], room: int) -> None:
        self._shards, self._make = shards, make
        sizes = shards.pieces.sizes
        self._room = room + 2 * int(sizes.max())
        self._held: OrderedDict[int, Future[Held]] = OrderedDict()
        self._coming: deque[int] = deque()
        self._ahead: set[int] = set()  # read, or being read, and not yet asked for
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(_READERS, thread_name_prefix="pieces")
        weakref.finalize(self, self._pool.shutdown, wait=False, cancel_futures=True)

    def __getitem__(self, piece: int) -> Held:
        """Return what a piece holds. Raises InputError where it cannot be read."""
        with self._lock:
            self._ahead.discard(piece)
            future = self._begun(piece)
            self._held.move_to_end(piece)
            self._read_ahead()
            self._forget()
        try:
            return future.result()
        except BaseException:
            with self._lock:
                self._held.pop(piece, None)
            raise

    def expect(self, pieces: Sequence[int], *, anew: bool) -> None:
        """Begin to read pieces, in this order, after those expected before, or in their place."""
        with self._lock:
            if anew:
                self._coming.clear()
                self._ahead.clear()
            self._coming.extend(pieces)
            self._read_ahead()
            self._forget()

    def _begun(self, piece: int) -> Future[Held]:
        if piece not in self._held:
            self._held[piece] = self._pool.submit(_read, self._shards, self._make, piece)
        return self._held[piece]

    def _read_ahead(self) -> None:
        sizes = self._shards.pieces.sizes
        waiting = sum(int(sizes[piece]) for piece in self._ahead)
        while self._coming and waiting < self._room:
            piece = self._coming.popleft()
            if piece not in self._held:
                self._ahead.add(piece)
                self._begun(piece)
                waiting += int(sizes[piece])

    def _forget(self) -> None:
        """Let go what was used longest ago, beyond the room for that."""
        sizes = self._shards.pieces.sizes
        used = [piece for piece in self._held if piece not in self._ahead]
        total = sum(int(sizes[piece]) for piece in used)
        for piece in used[:-1]:
            if total <= self._room:
                return
            total -= int(sizes[piece])
            del self._held[piece]


def _read(shards: Shards, make: Callable[[Any, StoredFile], Held], piece: int) -> Held:
    return make(shards.read(piece), shards.place_of(piece))


@final
class ShardRows:
    """All rows of some files, as `Rows`.

    Args:
        shards: the files.
        make: the block of what a piece of a file holds.
        room: rows that are kept in memory.
    """

    def __init__(self, shards: Shards, make: Callable[[Any, StoredFile], Block], room: int) -> None:
        self.shards = shards
        self.blocks = CachedPieces(shards, make, room)
        self._bad: dict[int, int] = {}  # of each piece that has been read
        self._met = 0

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.shards.pieces)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Return the rows at these positions; see `Rows`."""
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for piece, own, places in self._by_piece(indices):
            rows, bad = self.blocks[piece].take(places)
            self._count(piece, bad)
            parts.append((own, rows))
        if not parts:
            piece = self.blocks[0].take(np.arange(1))[0]
            return piece[:0]
        first = parts[0][1]
        taken = np.empty((len(indices), *first.shape[1:]), first.dtype)
        for own, rows in parts:
            taken[own] = rows
        return taken

    def labels(self, indices: np.ndarray) -> np.ndarray:
        """Return the classes of the rows at these positions; they have some."""
        labels = np.empty(len(indices), np.int64)
        for piece, own, places in self._by_piece(indices):
            block = self.blocks[piece]
            assert block.labels is not None
            labels[own] = block.labels[block.instead(places)]
        return labels

    def expect(self, indices: np.ndarray, *, anew: bool) -> None:
        """See `Expecting`."""
        pieces, _ = self.shards.pieces.locate(indices)
        order = np.unique(pieces, return_index=True)
        self.blocks.expect(order[0][np.argsort(order[1])].tolist(), anew=anew)

    def _by_piece(self, indices: np.ndarray) -> list[tuple[int, np.ndarray, np.ndarray]]:
        """For each piece: its number, which of the indices are in it, and their places there."""
        pieces, places = self.shards.pieces.locate(np.asarray(indices))
        order = np.argsort(pieces, kind="stable")
        cuts = np.flatnonzero(np.diff(pieces[order])) + 1
        groups = np.split(order, cuts) if len(order) else []
        return [(int(pieces[own[0]]), own, places[own]) for own in groups]

    def _count(self, piece: int, bad: int) -> None:
        """Say once of a file that some of its rows are bad; raise InputError for many."""
        if self._bad.get(piece) == bad:
            return
        if piece not in self._bad:
            self._met += int(self.shards.pieces.sizes[piece])
        self._bad[piece] = bad
        total, place = sum(self._bad.values()), self.shards.place_of(piece)
        if not bad:
            return
        if total > MOST_BAD * max(self._met, _SURE):
            raise InputError(
                f"{place.name}: {total:,} of {self._met:,} rows read so far are damaged, or lack a "
                "value that all rows measured have; repair or remove them."
            )
        warnings.warn(
            f"{place.name}: {bad:,} rows are damaged, or lack a value that all rows measured have; "
            "others of the same file are taken in their place.",
            stacklevel=4,
        )


@final
class ShardLabels:
    """The classes of rows, read where they are indexed; see `ByRow`."""

    def __init__(self, rows: ShardRows) -> None:
        self._rows = rows

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        """Return the classes (n,) int64 of the rows at these positions (n,)."""
        return self._rows.labels(index)


@final
class ShardNames(Sequence[str]):
    """What rows are called: the name of the file, and the number of the row in it."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._shards.pieces)

    def __getitem__(self, row: Any) -> Any:
        """Return the name of a row."""
        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(len(self)))]
        pieces = self._shards.pieces
        piece, _ = pieces.locate(np.array([row]))
        file = int(pieces.files[piece[0]])
        first = int(pieces.starts[self._shards.firsts[file]])
        return f"{self._shards.places[file].name}:{int(row) - first}"


@final
class ConformedPieces:
    """Rows of files in the stored type of a run; see `conformed.Readable`.

    Args:
        shards: the files.
        make: the rows of the run that a piece of a file holds.
        room: rows that are kept in memory.
    """

    def __init__(
        self, shards: Shards, make: Callable[[Any, StoredFile], Conformed], room: int
    ) -> None:
        self._blocks = CachedPieces(shards, make, room)
        self._pieces = shards.pieces

    def first(self) -> Conformed:
        """Return the rows of the first piece."""
        return self._blocks[0]

    def take(self, indices: np.ndarray) -> Taken:
        """See `conformed.Readable`."""
        parts: list[np.ndarray] = []
        problems: dict[int, Problem] = {}
        for conformed, own, places in self._runs(indices):
            rows, found = conformed.readable.take(places)
            parts.append(rows)
            problems |= {int(own[i]): problem for i, problem in found.items()}
        return np.concatenate(parts), problems

    def each(self, indices: np.ndarray, name: str) -> np.ndarray:
        """Return the "labels" or the "vector" of the rows at these positions."""
        parts = [getattr(one, name)[places] for one, _, places in self._runs(indices)]
        return np.concatenate(parts)

    def _runs(self, indices: np.ndarray) -> Any:
        """For indices that follow each other in one piece: its rows, which these are, and where."""
        pieces, places = self._pieces.locate(indices)
        cuts = np.flatnonzero(np.diff(pieces)) + 1
        for own in np.split(np.arange(len(indices)), cuts):
            yield self._blocks[int(pieces[own[0]])], own, places[own]


@final
class EachOf:
    """The labels or the vectors of rows of files, read where they are indexed."""

    def __init__(self, rows: ConformedPieces, name: str) -> None:
        self._rows, self._name = rows, name

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        """Return those of some rows."""
        return self._rows.each(index, self._name)


def totals(looked: Sequence[Looked]) -> Mapping[str, int]:
    """Return how many rows of each class all files hold together."""
    counts: dict[str, int] = {}
    for one in looked:
        for name, count in one.classes.items():
            counts[name] = counts.get(name, 0) + count
    return counts
