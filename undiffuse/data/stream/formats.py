"""What files of each format hold, found without reading them whole, and their pieces.

    .npy       rows one after another; a piece is about 1 MB of them
    .parquet   a piece is a row group
    .tar       samples as WebDataset has them: files that follow each other and have one name up to
               its first dot; a piece is about 1 MB of samples

A format looks at a file once: `look` finds its pieces, and what all files have to agree in. Then
`read` returns what a piece holds, as the format has it; what a row is made of that is the business
of `rows`.
"""

from __future__ import annotations

import io
import json
import tarfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, final

import numpy as np
from PIL import Image

from undiffuse.atomic import write_json
from undiffuse.data.cells import LABELS, Cells
from undiffuse.data.decoding import Unreadable
from undiffuse.data.folder import cache_folder, digest
from undiffuse.data.images.decode import image_suffixes
from undiffuse.data.stream.stored import StoredFile, StoredFiles
from undiffuse.errors import InputError
from undiffuse.reading import read_json, said

PIECE = 2**20  # bytes, about
_BLOCK = 512  # bytes of tar
_INDEX = 1  # the version of what is kept of a tar file


@final
@dataclass(frozen=True)
class Looked:
    """What a file holds.

    Args:
        sizes: rows of each piece.
        ends: for each piece where it begins, in the units of its format, and then where all end.
        like: what every file has to agree in, by name, as text.
        row_bytes: of one row in memory, about.
        classes: how many rows of each class there are.
        bad: rows that cannot be read, and are left out.
        nulls: column -> a piece in which a value of it is missing.
    """

    sizes: tuple[int, ...]
    ends: tuple[int, ...]
    like: Mapping[str, str]
    row_bytes: int
    classes: Mapping[str, int] = field(default_factory=dict)
    bad: int = 0
    nulls: Mapping[str, int] = field(default_factory=dict)


class Format(ABC):
    """One format of files of rows."""

    suffixes: ClassVar[tuple[str, ...]]
    expands: ClassVar[float] = 1.0  # memory that all rows take, to the bytes of their files, about
    sampled: ClassVar[int] = 65_536  # rows that a stream is measured on, at most

    @abstractmethod
    def look(self, place: StoredFile) -> Looked:
        """Return what a file holds. Raises Unreadable if it is damaged."""

    @abstractmethod
    def read(self, place: StoredFile, start: int, end: int) -> Any:
        """Return what a piece between two `ends` holds. Raises InputError."""


@final
class NpyFormat(Format):
    """Arrays: `read` returns rows (n, ...)."""

    suffixes = (".npy",)

    def look(self, place: StoredFile) -> Looked:
        """See `Format`."""
        shape, dtype, offset = self._header(place)
        row = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        if offset + shape[0] * row != place.size:
            raise Unreadable("cut short or damaged")
        length = max(1, PIECE // max(row, 1))
        ends = (*range(0, shape[0], length), shape[0])
        like = {"shape of a row": str(shape[1:]), "type": dtype.newbyteorder("=").name}
        return Looked(tuple(np.diff(ends).tolist()), ends, like, row)

    def read(self, place: StoredFile, start: int, end: int) -> np.ndarray:
        """See `Format`."""
        shape, dtype, offset = self._header(place)
        row = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        content = place.read(offset + start * row, offset + end * row)
        rows = np.frombuffer(content, dtype).reshape(-1, *shape[1:])
        return rows.astype(dtype.newbyteorder("="))

    def _header(self, place: StoredFile) -> tuple[tuple[int, ...], np.dtype, int]:
        head = io.BytesIO(place.read(0, min(place.size, 2**16)))
        try:
            version = np.lib.format.read_magic(head)
            reader = "read_array_header_1_0" if version == (1, 0) else "read_array_header_2_0"
            shape, fortran, dtype = getattr(np.lib.format, reader)(head)
        except ValueError as problem:
            raise Unreadable("no .npy file, or a damaged one") from problem
        if dtype.hasobject:
            raise InputError(
                f"{place.name}: holds Python objects, which are never unpickled; save numbers."
            )
        if not shape or (fortran and len(shape) > 1):
            what = "in Fortran order" if shape else "a single number"
            raise InputError(
                f"{place.name}: is {what}; save rows along the first axis, in C order."
            )
        return shape, dtype, head.tell()


@final
class ParquetFormat(Format):
    """Tables: `read` returns a table of Arrow; a list of `Sample` of images and arrays."""

    suffixes = (".parquet", ".pq")
    expands = 4.0

    def look(self, place: StoredFile) -> Looked:
        """See `Format`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with place.opened() as stream:
                file = pq.ParquetFile(stream)
                about, schema = file.metadata, file.schema_arrow
        except (pa.ArrowException, InputError) as problem:
            raise Unreadable(said(problem).splitlines()[0].rstrip(".")) from problem
        sizes = [about.row_group(i).num_rows for i in range(about.num_row_groups)]
        kept = [i for i, size in enumerate(sizes) if size]
        like = {f"column {one.name}": str(one.type) for one in schema}
        if (cells := Cells.of(schema)) is not None:
            return self._samples(place, cells, about, kept)
        width = 8 * max(len(schema), 1)
        nulls = _nulls(about, kept)
        return Looked(tuple(sizes[i] for i in kept), (*kept, len(sizes)), like, width, nulls=nulls)

    def read(self, place: StoredFile, start: int, end: int) -> Any:
        """See `Format`."""
        import pyarrow.parquet as pq

        with place.opened() as stream:
            file = pq.ParquetFile(stream)
            if (cells := Cells.of(file.schema_arrow)) is None:
                return file.read_row_group(start)
            columns = [name for name in (cells.column, cells.label) if name]
            table, kind = file.read_row_group(start, columns), ".png" if cells.images else ".npy"
        pairs = zip(cells.contents(table), cells.labels(table))
        return [Sample(kind, content, label) for content, label in pairs]

    def _samples(self, place: StoredFile, cells: Cells, about: Any, kept: list[int]) -> Looked:
        """What a file of images or arrays holds; of classes it is read."""
        import pyarrow.parquet as pq

        labels = Counter[str]()
        with place.opened() as stream:
            file = pq.ParquetFile(stream)
            for group in kept if cells.label else ():
                labels.update(cells.labels(file.read_row_group(group, [cells.label])))
        sizes = tuple(about.row_group(i).num_rows for i in kept)
        like = {"a sample": "images" if cells.images else "arrays"}
        like["its class"] = "given" if any(labels) else "not given"
        like["left out"] = ", ".join(cells.others)
        size = sum(about.row_group(i).total_byte_size for i in kept)
        ends = (*kept, about.num_row_groups)
        return Looked(sizes, ends, like, size // max(sum(sizes), 1), dict(labels))


def _nulls(about: Any, kept: list[int]) -> dict[str, int]:
    """Return the columns of a Parquet file of which it says that values are missing, and where."""
    nulls: dict[str, int] = {}
    for piece, group in enumerate(kept):
        for i in range(about.num_columns):
            column = about.row_group(group).column(i)
            counts = column.statistics if column.is_stats_set else None
            if counts is not None and counts.has_null_count and counts.null_count:
                nulls.setdefault(column.path_in_schema, piece)
    return nulls


@final
@dataclass(frozen=True)
class Sample:
    """One sample of a tar file.

    Args:
        kind: the suffix of what is modelled.
        content: its bytes.
        label: its class; "" if it has none.
    """

    kind: str
    content: bytes
    label: str


@final
class TarFormat(Format):
    """Tar files of samples: `read` returns a list of `Sample`, without those that are damaged."""

    suffixes = (".tar",)
    expands = 4.0
    sampled = 2048

    def look(self, place: StoredFile) -> Looked:
        """See `Format`. What was found is kept in the cache: it takes reading the file once."""
        kept = cache_folder() / f"tar-{digest(f'{place.fingerprint()} {_state(place)}')[:24]}.json"
        if (known := _remembered(kept)) is not None:
            return known
        if place.read(max(0, place.size - _BLOCK)).strip(b"\0"):
            raise Unreadable("cut short: its end is missing")
        sizes, ends, labels, bad, kinds = [], [0], Counter[str](), 0, Counter[str]()
        good, last = 0, 0
        try:
            with place.opened() as stream:
                for sample, end in _samples(stream):
                    last = end
                    if sample is None:
                        bad += 1
                    else:
                        good += 1
                        kinds[sample.kind] += 1
                        labels[sample.label] += 1
                    if end - ends[-1] >= PIECE:
                        sizes.append(good)
                        ends.append(end)
                        good = 0
        except tarfile.TarError as problem:
            raise Unreadable(said(problem)) from problem
        except InputError as problem:
            if isinstance(problem.__cause__, tarfile.TarError | EOFError | OSError):
                raise Unreadable("cut short or damaged") from problem
            raise
        if last > ends[-1]:
            sizes.append(good)
            ends.append(last)
        if not kinds and not bad:
            raise Unreadable("holds no images and no .npy")
        arrays = kinds.most_common(1)[:1] == [(".npy", kinds[".npy"])] and bool(kinds[".npy"])
        like = {"a sample": "arrays" if arrays else "images"}
        like["its class"] = "given" if any(labels) else "not given"
        row_bytes = last // max(sum(sizes) + bad, 1)
        found = Looked(tuple(sizes), tuple(ends), like, row_bytes, dict(labels), bad)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, {"version": _INDEX, **vars(found)})
        return found

    def read(self, place: StoredFile, start: int, end: int) -> list[Sample]:
        """See `Format`."""
        content = io.BytesIO(place.read(start, end) + bytes(2 * _BLOCK))
        return [sample for sample, _ in _samples(content) if sample is not None]


def _state(place: StoredFile) -> str:
    """What tells that a file here has changed; "" for one elsewhere."""
    about = place.files.info(place.path)
    return f"{about.get('ino', '')} {about.get('mtime', '')}"


def _remembered(kept: Any) -> Looked | None:
    try:
        tree = read_json(kept)
        if tree.pop("version") != _INDEX:
            return None
        return Looked(**{**tree, "sizes": tuple(tree["sizes"]), "ends": tuple(tree["ends"])})
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _samples(stream: Any) -> Iterator[tuple[Sample | None, int]]:
    """Yield each sample, None for a damaged one, and where it ends in the file."""
    members: dict[str, bytes] = {}
    before, end = None, 0
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        for member in archive:
            if not member.isfile():
                continue
            folder, slash, base = member.name.rpartition("/")
            stem, _, suffix = base.partition(".")
            if base.startswith(".") or stem == "":
                continue
            name = folder + slash + stem
            if name != before and members:
                yield _sample(members), end
                members = {}
            before = name
            part = archive.extractfile(member)
            content = part.read() if part is not None else b""
            if len(content) < member.size:
                raise tarfile.ReadError("cut short")
            members[f".{suffix.lower()}"] = content
            end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
    if members:
        yield _sample(members), end


def _sample(members: Mapping[str, bytes]) -> Sample | None:
    """Return the sample of some files by suffix; None if it is damaged, or has nothing to model."""
    kind = next((one for one in members if one == ".npy" or one in image_suffixes()), None)
    if kind is None:
        return None
    content = members[kind]
    try:
        if kind == ".npy":
            np.lib.format.read_magic(io.BytesIO(content))
        else:
            with Image.open(io.BytesIO(content)):
                pass
        return Sample(kind, content, _label(members))
    except Exception:  # Pillow raises OSError, SyntaxError, ValueError and more
        return None


def _label(members: Mapping[str, bytes]) -> str:
    """Return the class of a sample: what .cls holds, or .json under label, cls or class."""
    if ".cls" in members:
        return members[".cls"].decode("utf-8").strip()
    if ".json" in members:
        tree = json.loads(members[".json"])
        if isinstance(tree, dict):
            found = next((tree[name] for name in LABELS if name in tree), "")
            return str(found) if isinstance(found, str | int) else ""
        return str(tree) if isinstance(tree, str | int) else ""
    return ""


FORMATS: tuple[Format, ...] = (NpyFormat(), ParquetFormat(), TarFormat())


def format_of(suffixes: set[str]) -> Format | None:
    """Return the format that all of some suffixes are of; None for others."""
    own = (one for one in FORMATS if suffixes and suffixes <= set(one.suffixes))
    return next(own, None)


def of_rows(places: StoredFiles) -> StoredFiles:
    """Return files without others, such as a README, that lie beside those of one format."""
    known = {suffix for one in FORMATS for suffix in one.suffixes}
    kept = tuple(place for place in places.files if place.suffix in known)
    if not kept or len(kept) == len(places.files):
        return places
    others = len(places.files) - len(kept)
    note = f"{places.name}: {others:,} other files are not read."
    return replace(places, files=kept, notes=(*places.notes, note))
