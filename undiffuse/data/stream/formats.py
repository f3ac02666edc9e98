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
from undiffuse.data.cells import LABELS, CellColumns
from undiffuse.data.decoding import Unreadable
from undiffuse.data.folder import cache_folder, digest
from undiffuse.data.images.decode import image_suffixes
from undiffuse.data.stream.stored import StoredFile, StoredFiles
from undiffuse.errors import InputError
from undiffuse.reading import read_json, said

PIECE = 2**20  # bytes, about
_BLOCK = 512  # bytes of tar
_SHOWN = 3  # suffixes in a message
_FEWEST = 8  # samples in a piece: one that does not decode is replaced by another
_INDEX = 2  # the version of what is kept of a tar file


@final
@dataclass(frozen=True)
class Looked:
    """What a file holds.

    Args:
        sizes: rows of each piece.
        ends: for each piece where it begins, in the units of its format, and then where all end.
        like: what every file has to agree in, by name; see `Format.joined`.
        row_bytes: of one row in memory, about.
        classes: how many rows of each class there are.
        bad: rows that cannot be read, and are left out.
        such: one of these, for messages.
        nulls: column -> a piece in which a value of it is missing.
    """

    sizes: tuple[int, ...]
    ends: tuple[int, ...]
    like: Mapping[str, Any]
    row_bytes: int
    classes: Mapping[str, int] = field(default_factory=dict)
    bad: int = 0
    such: str = ""
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

    def joined(self, one: Any, other: Any) -> Any:
        """Return what files are that are like `one` and `other`; None if they cannot be both."""
        return one if one == other else None


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
        rows = np.frombuffer(content, dtype).reshape(end - start, *shape[1:])
        return rows.astype(dtype.newbyteorder("="))

    def _header(self, place: StoredFile) -> tuple[tuple[int, ...], np.dtype, int]:
        head = io.BytesIO(place.read(0, min(place.size, 2**16)))
        shape, fortran, dtype = _npy_header(head, place.name)
        if not shape or (fortran and len(shape) > 1):
            what = "in Fortran order" if shape else "a single number"
            raise InputError(
                f"{place.name}: is {what}; save rows along the first axis, in C order."
            )
        return shape, dtype, head.tell()


def _npy_header(head: io.BytesIO, name: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return (shape, whether in Fortran order, type) of what begins as a .npy file.

    Raises InputError for Python objects, and Unreadable for damage.
    """
    try:
        version = np.lib.format.read_magic(head)
        reader = "read_array_header_1_0" if version == (1, 0) else "read_array_header_2_0"
        shape, fortran, dtype = getattr(np.lib.format, reader)(head)
    except ValueError as problem:
        raise Unreadable("no .npy file, or a damaged one") from problem
    if dtype.hasobject:
        raise InputError(f"{name}: holds Python objects, which are never unpickled; save numbers.")
    return shape, fortran, dtype


@final
class ParquetFormat(Format):
    """Tables: `read` returns a table of Arrow; a list of `Sample` of images and arrays."""

    suffixes = (".parquet", ".pq")
    expands = 4.0

    def look(self, place: StoredFile) -> Looked:
        """See `Format`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        from undiffuse.data.tables.opened import refuse_twins

        with place.opened() as stream:
            try:
                file = pq.ParquetFile(stream)
                about, schema = file.metadata, file.schema_arrow
            except (pa.ArrowException, OSError) as problem:
                if isinstance(problem, OSError) and (problem.errno or type(problem) is not OSError):
                    raise  # of the store: Arrow's own have no number
                raise Unreadable(said(problem).splitlines()[0].rstrip(".")) from problem
        sizes = [about.row_group(i).num_rows for i in range(about.num_row_groups)]
        kept = [i for i, size in enumerate(sizes) if size]
        refuse_twins(schema.names, place.name)
        columns = _with_keys(pa.Table.from_batches([], schema), place).schema
        if (cells := CellColumns.of(columns)) is not None:
            return self._samples(place, cells, about, kept)
        like = {f"column {one.name}": one.type for one in columns}
        width = 8 * max(len(like), 1)
        nulls = _nulls(about, kept)
        return Looked(tuple(sizes[i] for i in kept), (*kept, len(sizes)), like, width, nulls=nulls)

    def read(self, place: StoredFile, start: int, end: int) -> Any:
        """See `Format`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        with place.opened() as stream:
            file = pq.ParquetFile(stream)
            schema = file.schema_arrow
            cells = CellColumns.of(_with_keys(pa.Table.from_batches([], schema), place).schema)
            if cells is None:
                return _with_keys(file.read_row_group(start), place)
            columns = [name for name in (cells.column, cells.label) if name in schema.names]
            table = _with_keys(file.read_row_group(start, columns), place)
        kind = ".png" if cells.images else ".npy"
        pairs = zip(cells.contents(table), cells.labels(table))
        return [Sample(kind, content, label) for content, label in pairs]

    def _samples(
        self, place: StoredFile, cells: CellColumns, about: Any, kept: list[int]
    ) -> Looked:
        """What a file of images or arrays holds; of classes it is read."""
        import pyarrow.parquet as pq

        labels = Counter[str]()
        with place.opened() as stream:
            file = pq.ParquetFile(stream)
            named = [cells.label] if cells.label in file.schema_arrow.names else []
            for group in kept if cells.label else ():
                labels.update(cells.labels(_with_keys(file.read_row_group(group, named), place)))
        sizes = tuple(about.row_group(i).num_rows for i in kept)
        like = {"a sample": "images" if cells.images else "arrays"}
        like["its class"] = "given" if any(labels) else "not given"
        like["what is left out"] = ", ".join(cells.others)
        size = sum(about.row_group(i).total_byte_size for i in kept)
        ends = (*kept, about.num_row_groups)
        return Looked(sizes, ends, like, size // max(sum(sizes), 1), dict(labels))

    def joined(self, one: Any, other: Any) -> Any:
        """See `Format`; an Arrow type that holds the values of both."""
        import pyarrow as pa

        if isinstance(one, str):
            return super().joined(one, other)
        try:
            schemas = [pa.schema([("", type_)]) for type_ in (one, other)]
            return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
        except (pa.ArrowException, ValueError, TypeError):
            return None


def _with_keys(table: Any, place: StoredFile) -> Any:
    """Return a table with a column for each folder called column=value that its file lies in."""
    from undiffuse.data.tables.opened import with_keys

    return with_keys(table, place.name.split("/")[:-1])


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
        kept = cache_folder() / f"tar-{digest(f'{place.fingerprint()} {place.state()}')[:24]}.json"
        if (known := _remembered(kept)) is not None:
            return known
        _check_tar(place)
        sizes, ends, labels, kinds = [], [0], Counter[str](), Counter[bool]()
        good, last, bad, such = 0, 0, 0, ""
        with place.opened() as stream:
            for found, end in _samples(stream):
                last = end
                if isinstance(found, Sample):
                    good += 1
                    kinds[found.kind == ".npy"] += 1
                    labels[found.label] += 1
                else:
                    bad, such = bad + 1, such or found
                if end - ends[-1] >= PIECE and good >= _FEWEST:
                    sizes.append(good)
                    ends.append(end)
                    good = 0
        if good:
            sizes.append(good)
            ends.append(last)
        like = {"a sample": "arrays" if kinds[True] > kinds[False] else "images"}
        like["its class"] = "given" if any(labels) else "not given"
        row_bytes = last // max(sum(sizes) + bad, 1)
        looked = Looked(tuple(sizes), tuple(ends), like, row_bytes, dict(labels), bad, such)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_json(kept, {"version": _INDEX, **vars(looked)})
        return looked

    def read(self, place: StoredFile, start: int, end: int) -> list[Sample]:
        """See `Format`."""
        content = io.BytesIO(place.read(start, end) + bytes(2 * _BLOCK))
        return [sample for sample, _ in _samples(content) if isinstance(sample, Sample)]


def _check_tar(place: StoredFile) -> None:
    """Raise Unreadable for a file that does not begin or end as a tar file does."""
    head = place.read(0, min(place.size, _BLOCK))
    if head == bytes(_BLOCK):  # it holds nothing
        return
    try:
        tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except tarfile.HeaderError as problem:
        raise Unreadable("no tar file, or a compressed one") from problem
    if place.read(max(0, place.size - _BLOCK)).strip(b"\0"):
        raise Unreadable("cut short: its end is missing")


def _remembered(kept: Any) -> Looked | None:
    try:
        tree = read_json(kept)
        if tree.pop("version") != _INDEX:
            return None
        return Looked(**{**tree, "sizes": tuple(tree["sizes"]), "ends": tuple(tree["ends"])})
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def _samples(stream: Any) -> Iterator[tuple[Sample | str, int]]:
    """Yield each sample, or what names one that cannot be read, and where it ends in the file.

    Raises Unreadable if the file is cut short or damaged.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            yield from _samples_in(archive)
    except (tarfile.TarError, EOFError) as problem:
        raise Unreadable("cut short or damaged") from problem


def _samples_in(archive: tarfile.TarFile) -> Iterator[tuple[Sample | str, int]]:
    members: dict[str, bytes] = {}
    before, end = "", 0
    for member in archive:
        if not member.isfile():
            continue
        folder, slash, base = member.name.rpartition("/")
        stem, _, suffix = base.partition(".")
        if base.startswith(".") or stem == "":
            continue
        name, kind = folder + slash + stem, f".{suffix.lower()}"
        if members and (name != before or kind in members):
            yield _sample(before, members), end
            members = {}
        before = name
        part = archive.extractfile(member)
        content = part.read() if part is not None else b""
        if len(content) < member.size:
            raise tarfile.ReadError("cut short")
        members[kind] = content
        end = member.offset_data + -(-member.size // _BLOCK) * _BLOCK
    if members:
        yield _sample(before, members), end


def _sample(name: str, members: Mapping[str, bytes]) -> Sample | str:
    """Return the sample of some files by suffix; what names it if it cannot be read."""
    kind = next((one for one in members if one == ".npy" or one in image_suffixes()), "")
    try:
        content = members[kind]
        if kind == ".npy":
            _npy_header(io.BytesIO(content), name)
        else:
            with Image.open(io.BytesIO(content)):
                pass
        return Sample(kind, content, _label(members))
    except Exception:  # Pillow raises OSError, SyntaxError, ValueError and more
        shown = ", ".join(sorted(members)[:_SHOWN]) + ", ..." * (len(members) > _SHOWN)
        return f"{name} ({shown})"


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
