"""Files of rows, here or in an object store, as data: whole where they fit, else as a stream.

A stream is not looked at row by row before training. Of each file its index is read (how many rows
it has and where), and what is measured of all rows otherwise is measured of a sample: columns,
sizes of images, scales, and what the transform is made of. What lies outside of it is learned as
the nearest thing that the model can say:

    a category that the sample has not    the level of all unseen values
    a number beyond those of the sample   itself; samples stay within
    a number between two steps of a grid  the step below
    a missing value where none was        the next row in its place

that whole numbers have a grid, that columns determine each other, that a column is constant, are
likewise what the sample shows.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, final

import numpy as np

from undiffuse.data.arrays.axes import by_channel
from undiffuse.data.arrays.form import ArrayForm
from undiffuse.data.arrays.read import channels_of, from_array
from undiffuse.data.cells import CellColumns, need_pyarrow
from undiffuse.data.conformed import Conformed, Problem, WithProblems
from undiffuse.data.decoding import Unreadable, for_each
from undiffuse.data.folder import digest
from undiffuse.data.images.decode import (
    ImageFile,
    PixelFormat,
    plan_images,
    read_image,
    read_image_header,
)
from undiffuse.data.images.files import model_images, pixels_of, rescaling
from undiffuse.data.images.form import ImageForm, ScanForm
from undiffuse.data.kind import KINDS, kind_of
from undiffuse.data.rows import ArrayRows, Loaded, Stream, fingerprint
from undiffuse.data.stream.formats import Format, Looked, Sample, format_of
from undiffuse.data.stream.pieces import some_of
from undiffuse.data.stream.rows import (
    MOST_BAD,
    ArrayBlock,
    Block,
    ConformedPieces,
    EachOf,
    ShardLabels,
    ShardNames,
    ShardRows,
    Shards,
    totals,
)
from undiffuse.data.stream.stored import StoredFile, StoredFiles
from undiffuse.data.tables.form import TableForm
from undiffuse.errors import InputError
from undiffuse.interfaces import Progress
from undiffuse.options import AS_IT_IS, ReadingOptions
from undiffuse.room import memory

SHARE = 4  # of the memory that data which are not streamed take, at most: 1/4
SAMPLE = 16 * 2**20  # bytes of rows that a stream is measured on, at most
WINDOW = 16 * 2**20  # bytes of rows that are shuffled among each other, about
_ABSENT = "not there"
_FEWEST_PIECES = 4  # in a window, on average
_TOGETHER = 16  # files that are looked at
_TAKES = {
    "arrays": ("axes",),
    "tables": ("drop", "keep", "types", "rules", "rule", "condition"),
    "images": ("size",),
    "arrays of samples": (),
}  # options that files are read by

Make = Callable[[Any, StoredFile], Block]


def holds_samples(places: StoredFiles) -> bool:
    """Return whether Parquet files hold images or arrays, each in a cell, by the first of them.

    What is no Parquet file is told of where it is read.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with places.files[0].opened() as stream:
            return CellColumns.of(pq.read_schema(stream)) is not None
    except (pa.ArrowException, OSError, InputError):
        return False


def streams(places: StoredFiles, asked: bool | None) -> bool:
    """Return whether files are read as a stream: as asked, or if they are large."""
    own = format_of(places.suffixes)
    assert own is not None
    return own.expands * places.size > memory() / SHARE if asked is None else asked


def read_files(
    places: StoredFiles, reading: ReadingOptions = AS_IT_IS, progress: Progress | None = None
) -> Loaded:
    """Return the rows of files as data.

    Args:
        places: the files, of one format.
        reading: how they are to be read.
        progress: called now and then.

    Raises:
        InputError: 1 % of the files or more is damaged, they differ in what they hold, or their
            rows cannot be modelled.
    """
    streamed = streams(places, reading.stream)
    shards, notes = look_at(places, progress)
    _check_takes(shards, reading)
    pieces = shards.pieces
    if streamed and len(pieces.sizes) < 2 and reading.stream is None:
        streamed = False
    row_bytes = max(one.row_bytes for one in shards.looked) or 1
    most = int(np.clip(SAMPLE // row_bytes, 256, shards.format.sampled))
    count = len(pieces) if not streamed else min(len(pieces), most)
    numbers = np.arange(len(pieces))
    if streamed:
        numbers = some_of(pieces, np.arange(len(pieces.sizes)), count, 0)
    contents = _contents(shards, numbers, progress)
    loaded, make = _MAKERS[_what(shards)](shards, contents, reading, not streamed, progress)
    if left := shards.like.get("what is left out"):
        notes = (*notes, f"{shards.name}: columns are left out: {left}.")
    notes = (*places.notes, *notes, *loaded.notes)
    shared: dict[str, Any] = {"path": places.source, "notes": notes}
    shared["decided"] = {"stream": streamed}
    if not streamed:
        return replace(loaded, **shared)
    window = int(max(WINDOW // row_bytes, _FEWEST_PIECES * pieces.sizes.mean(), 1))
    window = min(window, len(pieces))
    rows = ShardRows(shards, make, window)
    classes, labels = loaded.classes, None
    if classes:
        counts = totals(shards.looked)
        labels = ShardLabels(rows)
        shared["counts"] = [counts.get(name, 0) for name in classes]
    said = (
        f"{shards.name}: {_gib(places.size)} in {len(shards.places):,} files are a stream: rows "
        f"are read as they are needed, shuffled by file and within {window:,} rows, and what they "
        f"hold is measured on {len(numbers):,} of {len(pieces):,}: a category or a range that "
        "these do not show is in no sample; --data.stream false reads all."
    )
    shared |= {"notes": (said, *shared["notes"]), "labels": labels, "rows": rows}
    tables = isinstance(loaded.form, TableForm)
    shared["names"] = range(1, len(pieces) + 1) if tables else ShardNames(shards)
    facts = {**loaded.facts, **({"rows": len(pieces)} if tables else {})}
    facts["streamed"] = f"{len(shards.places):,} files, measured on {len(numbers):,} rows"
    stream = Stream(pieces, window, numbers)
    return replace(loaded, **shared, stream=stream, fingerprint=_print_of(places), facts=facts)


def look_at(
    places: StoredFiles, progress: Progress | None = None
) -> tuple[Shards, tuple[str, ...]]:
    """Return what files hold, without those that are damaged, and notes on these.

    Raises:
        InputError: 1 % or more of what they hold is damaged, or they differ in what they hold.
    """
    own, name = format_of(places.suffixes), places.name
    assert own is not None
    found: list[tuple[StoredFile, Looked]] = []
    failed: dict[str, str] = {}
    lost, bad, worst = 0, 0, ("", 0, "")
    what = f"indexing {name}"
    for i, looked in for_each(
        places.files, own.look, ahead=_TOGETHER, progress=progress, what=what
    ):
        place = places.files[i]
        if isinstance(looked, Unreadable):
            failed[place.name] = str(looked)
            lost += place.size
            continue
        bad += looked.bad
        if looked.bad > worst[1]:
            worst = place.name, looked.bad, looked.such
        if looked.sizes:
            found.append((place, looked))
    shown = ", ".join([f"{one}: {why}" for one, why in failed.items()][:3])
    shown += ", ..." * (len(failed) > 3)
    files = f"{len(failed):,} of {len(places.files):,} files cannot be read ({shown})"
    if failed and ((not found and not bad) or lost >= MOST_BAD * places.size):
        raise InputError(f"{name}: {files}; repair or remove them.")
    total = bad + sum(sum(one.sizes) for _, one in found)
    if not total:
        raise InputError(f"{name}: holds no rows; there is nothing to learn.")
    notes = [f"{name}: {files}; they are left out."] if failed else []
    if bad:
        told = f"{name}: {bad:,} of {total:,} samples cannot be read, most of them in {worst[0]}"
        told += f", such as {worst[2]}"
        if bad >= MOST_BAD * total:
            raise InputError(
                f"{told}; repair or remove them: a sample is the files that follow each other with "
                "one name up to its first dot, such as 7.png and 7.cls."
            )
        notes.append(f"{told}; they are left out.")
    kept, looked = zip(*found)
    return Shards(name, own, kept, looked, _agreed(name, own, found)), tuple(notes)


def _agreed(
    name: str, own: Format, found: Sequence[tuple[StoredFile, Looked]]
) -> Mapping[str, Any]:
    """Return what all files agree in. Raises InputError, naming a file and the difference."""
    first, like = found[0][0].name, dict(found[0][1].like)
    for place, one in found[1:]:
        for key in dict.fromkeys((*like, *one.like)):
            before, now = like.get(key), one.like.get(key)
            both = None if before is None or now is None else own.joined(before, now)
            if both is None:
                before, now = (_ABSENT if one is None else one for one in (before, now))
                raise InputError(
                    f"{name}: {key} is {before} in {first} and {now} in {place.name}; make them "
                    "equal."
                )
            like[key] = both
    return like


def conform_files(
    places: StoredFiles, config: Mapping[str, Any], progress: Progress | None = None
) -> Conformed:
    """Return the rows of files in the stored type of a run, read as they are needed.

    Raises:
        InputError: as for `look_at`, and for rows that are not like those of the run.
    """
    shards, notes = look_at(places, progress)
    kind = kind_of(config)
    form = kind.restore(config)[1]

    def labelled(array: np.ndarray, samples: list[Sample]) -> Any:
        labels = [sample.label for sample in samples]  # "", where one has none, is no class
        return (array, labels) if shards.like["its class"] == "given" else array

    def make(content: Any, place: StoredFile) -> Conformed:
        if _what(shards) == "tables":
            from undiffuse.data.tables.opened import TableSource

            content = TableSource(content, place.name, part=True)
        elif _what(shards) == "images":
            target = pixels_of(image_form(form, place.name), place.name)
            block = _ImageBlock(content, target, (), place.name)
            every = np.arange(len(content))
            pixels = block.take(every)[0]
            if isinstance(form, ImageForm):
                whole = pixels[..., None] if pixels.ndim == 3 else pixels
                pixels = form.as_row(form.of_files(whole))
            conformed = kind.conform(labelled(pixels, content), config)
            lost = np.flatnonzero(block.instead(every) != every).tolist()
            problems = {i: Problem.unreadable() for i in lost}
            conformed.readable = WithProblems(conformed.readable, problems)
            return conformed
        elif _what(shards) == "arrays of samples":
            content = labelled(_arrays_in(content, place.name), content)
        return kind.conform(content, config)

    images = _what(shards) == "images"
    told = rescaling(image_form(form, shards.name), shards.name) if images else ()
    window = max(WINDOW // int(shards.looked[0].row_bytes or 1), 1)
    rows = ConformedPieces(shards, make, window)
    first = rows.first()
    return Conformed(
        rows,
        range(1, len(shards.pieces) + 1) if kind.name == "tables" else ShardNames(shards),
        name=shards.name,
        fingerprint=_print_of(places),
        labels=None if first.labels is None else EachOf(rows, "labels"),
        vector=None if first.vector is None else EachOf(rows, "vector"),
        notes=(*notes, *told, *first.notes),
    )


def image_form(form: Any, name: str) -> ImageForm | ScanForm:
    """Return the form of a run, if that is one of images. Raises InputError for others."""
    if not isinstance(form, ImageForm | ScanForm):
        raise InputError(f"{name}: holds images, which the run was not trained on.")
    return form


def _print_of(places: StoredFiles) -> str:
    """A name for the names, sizes and ends of files."""
    with ThreadPoolExecutor(_TOGETHER) as pool:
        return digest("".join(pool.map(StoredFile.fingerprint, places.files)))[:16]


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.1f} MiB"


def _what(shards: Shards) -> str:
    """What their rows are, a key of `_MAKERS`."""
    sample = shards.like.get("a sample")
    if sample is None:
        return {".npy": "arrays", ".parquet": "tables"}[shards.format.suffixes[0]]
    return "images" if sample == "images" else "arrays of samples"


def _check_takes(shards: Shards, reading: ReadingOptions) -> None:
    """Raise InputError for an option that the files are not read by."""
    taken = (*_TAKES[_what(shards)], "stream")
    for option in reading.given:
        if option not in taken:
            word = option if option == "condition" else f"data.{option.replace('_', '-')}"
            kind = f"{_what(shards)} in {shards.format.suffixes[0]} files"
            raise InputError(
                f"{shards.name}: --{word} is not for {kind} that are read in pieces; leave it out."
            )


def _contents(shards: Shards, numbers: np.ndarray, progress: Progress | None) -> list[Any]:
    """What rows consist of, of each piece that has some of them."""
    pieces, places = shards.pieces.locate(numbers)
    cuts = np.flatnonzero(np.diff(pieces)) + 1
    contents = []
    for own in np.split(np.arange(len(numbers)), cuts):
        content, some = shards.read(int(pieces[own[0]])), places[own]
        if isinstance(content, list):
            content = [content[i] for i in some.tolist()]
        elif isinstance(content, np.ndarray):
            content = content[some]
        else:
            content = content.take(some)
        contents.append(content)
        if progress:
            progress(int(own[-1]) + 1, len(numbers), f"reading {shards.name}")
    return contents


# --- what rows are made of


def _from_arrays(
    shards: Shards,
    contents: list[np.ndarray],
    reading: ReadingOptions,
    whole: bool,
    progress: Progress | None,
) -> tuple[Loaded, Make]:
    """Arrays, of which each file holds some rows."""
    array = np.concatenate(contents)
    loaded = from_array(array, name=shards.name, axes=reading.axes, progress=progress)
    return loaded, _ArrayMaker.of(array, loaded)


def _from_array_samples(
    shards: Shards,
    contents: list[list[Sample]],
    reading: ReadingOptions,
    whole: bool,
    progress: Progress | None,
) -> tuple[Loaded, Make]:
    """Arrays, each a sample."""
    samples = [sample for content in contents for sample in content]
    array = _arrays_in(samples, shards.name)
    classes = _classes(shards)
    labels = _index(samples, classes) if classes else None
    loaded = from_array(array, name=shards.name, labels=labels, classes=classes, progress=progress)
    inner = _ArrayMaker.of(array, loaded)

    def make(content: Any, place: StoredFile) -> Block:
        block = inner(_arrays_in(content, place.name, array.shape[1:], array.dtype), place)
        block.labels = _index(content, classes) if classes else None
        return block

    return replace(loaded, classes=classes), make


def _from_images(
    shards: Shards,
    contents: list[list[Sample]],
    reading: ReadingOptions,
    whole: bool,
    progress: Progress | None,
) -> tuple[Loaded, Make]:
    """Images, each a sample of a tar file."""
    samples = [sample for content in contents for sample in content]
    files: list[ImageFile] = [io.BytesIO(sample.content) for sample in samples]
    headers = {}
    for i, file in enumerate(files):
        try:
            headers[i] = read_image_header(file)
        except Unreadable:
            continue
    target, notes = plan_images(shards.name, files, headers, reading.size)
    classes = _classes(shards)

    def make(content: Any, place: StoredFile) -> Block:
        return _ImageBlock(content, target, classes, place.name)

    block, every = _ImageBlock(samples, target, classes, shards.name), np.arange(len(samples))
    pixels, bad = block.take(every)
    told = f"{shards.name}: {bad:,} of {len(samples):,} images do not decode"
    if bad > MOST_BAD * len(samples):
        raise InputError(f"{told}; repair or remove them.")
    good = block.instead(every) == every
    pixels, labels = pixels[good], None if block.labels is None else block.labels[good]
    if bad and whole:
        notes = [*notes, f"{told}; they are left out."]
    rows = ArrayRows(pixels)
    form, make_transform = model_images(rows, shards.name)
    facts: dict[str, Any] = {"images": len(pixels) if whole else len(shards.pieces)}
    facts["row_shape"] = list(pixels.shape[1:])
    facts["dtype"] = pixels.dtype.name
    loaded = Loaded(
        kind="images",
        rows=rows,
        form=form,
        make_transform=make_transform,
        name=shards.name,
        path=None,
        fingerprint=fingerprint(pixels, labels) if whole else "",
        labels=labels,
        classes=classes,
        notes=tuple(notes),
        facts=facts,
    )
    return loaded, make


def _from_tables(
    shards: Shards,
    contents: list[Any],
    reading: ReadingOptions,
    whole: bool,
    progress: Progress | None,
) -> tuple[Loaded, Make]:
    """Rows of tables, with one more row for each column that lacks values elsewhere alone."""
    need_pyarrow("reading tables")
    import pyarrow as pa

    from undiffuse.data.tables.kind import TableKind, codes_in
    from undiffuse.data.tables.opened import TableSource, with_typed_keys

    schema = pa.schema([(key.removeprefix("column "), one) for key, one in shards.like.items()])
    contents = [one.select(schema.names) for one in contents]
    parts = [schema.empty_table(), *contents, *([] if whole else _with_gaps(shards, contents))]
    folders = shards.places[0].name.split("/")[:-1]
    own = set(schema.names) - {folder.partition("=")[0] for folder in folders}
    table = with_typed_keys(pa.concat_tables(parts, promote_options="permissive"), own)
    kind = KINDS["tables"]
    assert isinstance(kind, TableKind)
    reading = replace(reading, stream=None)
    source = TableSource(table, shards.name)
    loaded = kind.read(source, reading=reading, progress=progress, whole=whole)
    form = loaded.form
    assert isinstance(form, TableForm)

    def make(content: Any, place: StoredFile) -> Block:
        rows, bad = codes_in(TableSource(content, place.name), form)
        return ArrayBlock(rows, bad, None, place.name)

    return loaded, make


def _with_gaps(shards: Shards, contents: Sequence[Any]) -> list[Any]:
    """A row for each column in which values are missing, but in none of some rows of it."""
    rows = []
    for name in contents[0].column_names:
        if any(one.column(name).null_count for one in contents):
            continue
        for file, looked in enumerate(shards.looked):
            if name in looked.nulls:
                table = shards.read(int(shards.firsts[file]) + looked.nulls[name])
                first = int(np.argmax(table.column(name).is_null().to_numpy()))
                rows.append(table.slice(first, 1).select(contents[0].column_names))
                break
    return rows


_MAKERS: Mapping[str, Callable[..., tuple[Loaded, Make]]] = {
    "arrays": _from_arrays,
    "arrays of samples": _from_array_samples,
    "images": _from_images,
    "tables": _from_tables,
}
"""What rows are made of -> the data of some of them, and what makes blocks of others."""


@final
@dataclass(frozen=True)
class _ArrayMaker:
    """Makes blocks of arrays; rows are bad with infinite values, and NaN where others have none.

    Args:
        gaps: the channels that may have gaps.
        axes: the letters of a row's axes.
    """

    gaps: frozenset[int]
    axes: str

    @classmethod
    def of(cls, array: np.ndarray, loaded: Loaded) -> _ArrayMaker:
        axes = loaded.form.axes if isinstance(loaded.form, ArrayForm) else ""
        if array.dtype.kind != "f":
            return cls(frozenset(), axes)
        return cls(frozenset(channels_of(np.asarray(np.isnan(array).any(0)), axes)), axes)

    def __call__(self, rows: np.ndarray, place: StoredFile) -> ArrayBlock:
        bad = np.zeros(len(rows), bool)
        if rows.dtype.kind == "f" and not np.isfinite(rows).all():
            odd = np.isinf(rows)
            missing = by_channel(np.isnan(rows), self.axes)
            missing[:, sorted(self.gaps)] = False
            bad |= odd.reshape(len(rows), -1).any(1)
            bad |= missing.reshape(len(rows), -1).any(1)
        return ArrayBlock(rows, bad, None, place.name)


@final
class _ImageBlock:
    """Images in files of bytes, decoded where they are taken."""

    def __init__(
        self, samples: list[Sample], target: PixelFormat, classes: tuple[str, ...], name: str
    ) -> None:
        self._samples, self._target, self._name = samples, target, name
        self._instead: dict[int, int] = {}  # of those that have been decoded
        self.labels = _index(samples, classes) if classes else None

    def take(self, places: np.ndarray) -> tuple[np.ndarray, int]:
        """See `Block`."""
        images: list[np.ndarray] = []
        for place, image in zip(places.tolist(), _decoders().map(self._attempted, places.tolist())):
            following = place
            while isinstance(image, Unreadable):
                following = (following + 1) % len(self._samples)
                if following == place:
                    raise InputError(f"{self._name}: no image of a part of it decodes; remove it.")
                image = self._attempted(following)
            self._instead[place] = following
            images.append(image)
        pixels = np.stack(images)
        bad = sum(place != following for place, following in self._instead.items())
        return (pixels[..., 0] if pixels.shape[-1] == 1 else pixels), bad

    def instead(self, places: np.ndarray) -> np.ndarray:
        """See `Block`."""
        new = [place for place in places.tolist() if place not in self._instead]
        if new:
            self.take(np.array(new))
        return np.array([self._instead[place] for place in places.tolist()], np.int64)

    def _attempted(self, place: int) -> np.ndarray | Unreadable:
        try:
            return read_image(io.BytesIO(self._samples[place].content), self._target)[0]
        except Unreadable as problem:
            return problem


@cache
def _decoders() -> ThreadPoolExecutor:
    """What decodes images in parallel."""
    return ThreadPoolExecutor(min(32, os.cpu_count() or 1), thread_name_prefix="images")


def _arrays_in(
    samples: list[Sample],
    name: str,
    shape: tuple[int, ...] | None = None,
    dtype: Any = None,
) -> np.ndarray:
    """The arrays of samples, all of one shape and type: those of the first, if not given.

    Raises InputError where they differ.
    """
    arrays = [np.load(io.BytesIO(one.content), allow_pickle=False) for one in samples]
    shape = arrays[0].shape if shape is None else shape
    dtype = arrays[0].dtype if dtype is None else dtype
    for array in arrays:
        if array.shape != shape or array.dtype != dtype:
            raise InputError(
                f"{name}: a sample is of shape {array.shape} and type {array.dtype}, and another "
                f"one of {shape} and {dtype}; make them equal."
            )
    return np.stack(arrays)


def _classes(shards: Shards) -> tuple[str, ...]:
    """The names of the classes, by number if all are; () if none is given."""
    names = set(totals(shards.looked)) if shards.like["its class"] == "given" else set()
    if "" in names:
        raise InputError(
            f"{shards.name}: {totals(shards.looked)['']:,} samples have no class, and others have; "
            "give all of them one (.cls, or a label in .json), or none."
        )
    if all(name.isascii() and name.isdecimal() for name in names):
        return tuple(sorted(names, key=int))
    return tuple(sorted(names))


def _index(samples: list[Sample], classes: tuple[str, ...]) -> np.ndarray:
    """The classes of samples by number."""
    number = {name: i for i, name in enumerate(classes)}
    return np.array([number[sample.label] for sample in samples], np.int64)
