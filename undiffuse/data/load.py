"""Data as a person has it -> `Data`, or rows of a run: here its kind is found, nowhere else."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from undiffuse.called import called
from undiffuse.data.arrays.maps import located
from undiffuse.data.cells import need_pyarrow
from undiffuse.data.conditions import Conditions
from undiffuse.data.conformed import Conformed
from undiffuse.data.folder import Folder, are_few, walk
from undiffuse.data.hugging_face import unwrap
from undiffuse.data.kind import KINDS, kind_of
from undiffuse.data.named import NAMED
from undiffuse.data.paths import name_of, split_part, suffix_of
from undiffuse.data.rows import Loaded
from undiffuse.data.source import Data
from undiffuse.data.stream.formats import format_of, of_rows
from undiffuse.data.stream.read import conform_files, holds_samples, read_files, streams
from undiffuse.data.stream.stored import StoredFiles, find_files, is_remote
from undiffuse.declared import checked, options_of
from undiffuse.errors import InputError, unknown
from undiffuse.interfaces import PartialRows, Progress
from undiffuse.notebook import progress_bar
from undiffuse.options import AS_IT_IS, ConditionOptions, ReadingOptions
from undiffuse.reading import said

_AS_TABLE = "save it as .csv or .parquet"
_ADVICE = {
    **dict.fromkeys((".xls", ".xlsb", ".ods"), "save the sheet as .xlsx or .csv"),
    **dict.fromkeys((".sav", ".dta", ".sas7bdat", ".rds", ".rdata"), _AS_TABLE),
    **dict.fromkeys((".feather", ".arrow", ".orc", ".avro", ".sqlite", ".db"), _AS_TABLE),
    **dict.fromkeys((".gz", ".bz2", ".xz", ".zip", ".zst", ".tar", ".7z"), "unpack it"),
    **dict.fromkeys((".pkl", ".pickle", ".joblib"), "pickles are never read; " + _AS_TABLE),
    **dict.fromkeys((".pt", ".pth"), "pickles are never read; save the tensor as .npy"),
    **dict.fromkeys((".mat", ".nc", ".zarr"), "save the array as .npy, or in an HDF5 file, .h5"),
    ".json": "save a table as JSON lines, .jsonl: one object in each line",
}  # for files that people have and that are not read


@called
def load(
    source: Any,
    *,
    seed: int = 0,
    held_out: float | int | None = None,
    size: int | tuple[int, int] | None = None,
    mirrored: bool | None = None,
    axes: str | None = None,
    labels: str | None = None,
    stream: bool | None = None,
    drop: Sequence[str] | None = None,
    keep: Sequence[str] | None = None,
    types: Mapping[str, str] | Sequence[str] | None = None,
    rules: bool | None = None,
    rule: str | Sequence[str] | None = None,
    condition: Sequence[str] | str | None = None,
    progress: Progress | None = None,
) -> Data:
    """Read a source, split it, and measure how it is to be modelled.

    Args:
        source: a path, a name ("digits", "fashion-mnist", "moons", "rings", "checkerboard",
            "gaussians8"), or an object: an array, a tensor, (x, y), a data frame, a map-style
            torch Dataset, a `datasets.Dataset`. Paths are those of a folder of images or of
            recordings; of an array in .npy, .npz, "file.h5:/group/name" or an IDX file; of a table
            in .csv, .tsv, .jsonl or .ndjson, all of them also with .gz, .bz2, .xz or .zst, in
            .parquet, "file.xlsx:Sheet" or a folder of such parts. Many .npy, .parquet or .tar files
            (as WebDataset has them) are a folder, "part-*.parquet", "s3://bucket/{000..099}.tar" or
            a list of paths. A y (N,) of whole numbers or text are labels; other floats, floats
            (N, k) and columns by name (a mapping, a data frame) are conditions, called y, or y0,
            y1, ..., and so are arrays (N, *S) or (N, C, *S) with a value at each position of the
            rows (see `maps`).
        seed: decides which rows are held out, and draws the toys.
        held_out: the share or the number of rows to hold out; a tenth by default.
        size: for images the longer side or (height, width) in pixels, for recordings the length
            of a window in samples.
        mirrored: whether images are mirrored half the time in training; by default where they are
            few, and a classifier cannot tell mirrored ones from others.
        axes: of an array, what its axes are: a letter for each, N (rows) first, then T (time), C
            (channels), D, H, W (depth, height, width), such as "NTC" or "NCHW". Inferred by
            default: `load(...).describe()["axes"]` says what from.
        labels: of a folder, the column of classes in the metadata.csv, metadata.jsonl or other CSV
            file that names its files, or "FILE.csv:COLUMN". By default the column "label", or the
            subfolders.
        stream: of Parquet, .npy and .tar files, whether rows are read as they are needed, columns
            and scales measured on a sample, and whole files held out; by default if they would take
            more than a quarter of the memory.
        drop: columns of a table that are left out.
        keep: the only columns of a table that are kept; either this or `drop`.
        types: column -> what it holds, where its values do not show it: "number", "integer",
            "money", "boolean", "category", "date", a format of dates such as "%d/%m/%Y", "time",
            "duration", "text", which is left out, or "identifier", which is left out of the model
            and drawn anew. Or "column=type" of each.
        rules: of a table, whether samples keep what holds in all training rows: columns that
            others determine, and numbers that are never below others. By default they do.
        rule: of a table, comparisons that every row keeps, such as "arrival > departure" or
            "price >= 0"; rows that break one are refused, and have a log-likelihood of -inf.
        condition: columns that rows are modelled given, and samples can be asked for (`where=`):
            of a table; of a folder's metadata file, as for `labels`, or "FILE.csv:COLUMN,COLUMN";
            of what stands beside an array, the names of its columns. Whole arrays are "masks/", a
            folder of images of the same names, or "y.npy" beside an array.
        progress: called now and then.

    Returns:
        The data, split into rows to train on and rows that are held out (`held_out`).

    Raises:
        InputError: for whatever cannot be read or learned from, in one sentence.

    >>> data = load("moons", held_out=0.2)
    >>> len(data), data.shape, data.held_out.dtype
    (16000, (2,), dtype('float32'))
    """
    if isinstance(source, Data):
        return source
    if isinstance(types, Mapping):
        types = [f"{name}={kind}" for name, kind in types.items()]
    rule = rule.split(",") if isinstance(rule, str) else rule
    condition = condition.split(",") if isinstance(condition, str) else condition
    condition = None if condition is None else located(condition)
    columns = {"drop": drop, "keep": keep, "types": types, "rule": rule, "condition": condition}
    given: dict[str, Any] = {"size": size, "axes": axes, "labels": labels, "rules": rules}
    given["stream"] = stream
    given |= {name: tuple(words) for name, words in columns.items() if words is not None}
    reading = ReadingOptions(**checked(ReadingOptions, given, called=" ".join))
    progress = progress or progress_bar()
    loaded = read(source, seed, reading, progress)
    own: dict[str, Any] = {"reading": reading, "mirrored": mirrored, "progress": progress}
    return Data(loaded, seed=seed, held_out=held_out, **own)


def restore(config: Mapping[str, Any]) -> tuple[Any, Any, tuple[str, ...]]:
    """Return (transform, form, classes) from `Data.config()`, without the data.

    Raises:
        InputError: if it is damaged.

    >>> transform, form, classes = restore(load("digits").config())
    >>> transform.shape, classes[:3]
    ((1, 8, 8), ('0', '1', '2'))
    """
    return kind_of(config).restore(config)


def conform(
    source: Any, config: Mapping[str, Any], *, progress: Progress | None = None
) -> Conformed:
    """Return the rows of a source in the type that a run stores its own in.

    A run has fixed what a row is: a shape and a type, the columns of a table, the size of an image,
    the rate of a recording. New data are read as its own were: images decoded to its size and kind
    of pixels, recordings to its rate and channels, each column of a table coded on its grid or in
    its categories, other rows converted to its type where that loses nothing.

    Args:
        source: anything that `load` takes, or a `Data`.
        config: the run's config["data"].
        progress: called now and then.

    Returns:
        The rows in their order. What is wrong with one row alone (a file that cannot be read, a
        category that training never met) is that row's `Problem`.

    Raises:
        InputError: for another shape, values that the run's type does not hold, NaN and infinite
            values, columns that are missing or too many, and values missing where none were in
            training.

    >>> data = load("digits")
    >>> rows = conform(data.held_out, data.config())
    >>> len(rows), next(rows.batches(32))["row"].shape
    (180, torch.Size([32, 8, 8]))
    """
    files = _files_of_rows(source)
    if files is not None and not _is_plain(files):
        with _in_a_sentence(files.name):
            return conform_files(files, config, progress)
    place = _located(source)
    with _in_a_sentence(_name(source)):
        return kind_of(config).conform(place, config, progress=progress)


def ask(where: Any, config: Mapping[str, Any]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return conditions that a person asks for, as vectors (m, v), and notes on them.

    Args:
        where: "angle=30,colour=red"; a CSV or JSON-lines file, one line a row; a mapping of names
            to a value, or to m of them; a data frame; rows (m, columns) of all columns. Columns
            that are left out, and empty values, are not known.
        config: the run's config["data"].

    Raises:
        InputError: for a run without conditions, an unknown name or category, text for a number.
    """
    if Conditions.restore(config) is None:
        raise InputError(
            "where: this model was trained without conditions; train one with --condition."
        )
    with _in_a_sentence("where"):
        return kind_of(config).ask(where, config)


def _name(source: Any) -> str:
    return str(source) if isinstance(source, str | os.PathLike) else "data"


def complete(source: Any, config: Mapping[str, Any]) -> PartialRows:
    """Return rows of which some entries are known, for a run to complete.

        a table            empty cells are unknown; so is every column that is left out
        .npy, .npz         NaN is unknown (so whole numbers come as floats); one row, or several
        images             a file or a folder; transparent pixels (alpha 0) are unknown
        recordings         a file or a folder; what lies beyond the end of a shorter one is unknown

    Args:
        source: a path, an array, a tensor or a data frame.
        config: the run's config["data"].

    Raises:
        InputError: for a column that the run does not have, another shape, type, rate or size, and
            for a known value that the run's data could not hold.

    >>> import numpy as np
    >>> row = np.full((8, 8), np.nan)
    >>> row[:4] = 3
    >>> partial = complete(row, load("digits").config())
    >>> partial.rows.dtype, int(partial.known.sum())
    (dtype('uint8'), 32)
    """
    place = _located(source)
    if isinstance(place, str | os.PathLike) and not split_part(Path(place))[0].exists():
        raise InputError(f"{source}: no such file or folder; check the path.")
    with _in_a_sentence(_name(source)):
        return kind_of(config).complete(place, config)


def _located(source: Any) -> Any:
    """The absolute Path of a path that exists; anything else as it is."""
    if isinstance(source, str | os.PathLike) and os.fspath(source) and source not in NAMED:
        path = Path(os.path.expanduser(source))
        with _in_a_sentence(str(source)):
            if (file := split_part(path)[0]).exists():
                _check_regular(file)
                return path.resolve()
    with _in_a_sentence(_name(source)):
        if is_remote(source) and (files := find_files(source)) is not None:
            return files.files[0].fetched()
        return unwrap(source).source


def _check_regular(path: Path) -> None:
    """Raise InputError for a pipe or a device, which could be read for ever."""
    if not path.is_dir() and not path.is_file():
        raise InputError(
            f"{path.name}: is a pipe or a device; write what it gives into a file, and give that."
        )


def read(
    source: Any,
    seed: int = 0,
    reading: ReadingOptions = AS_IT_IS,
    progress: Progress | None = None,
) -> Loaded:
    """Return the source as its kind reads it, neither split nor measured; see `load`."""
    if isinstance(source, str) and source in NAMED:
        _check_takes(source, (), reading)
        return NAMED[source](source, seed, progress)
    files = _files_of_rows(source, reading)
    if files is not None and not _is_plain(files, reading):
        with _in_a_sentence(files.name):
            return read_files(files, reading, progress)
    if files is not None or reading.stream is not None:
        loaded = _read_plain(source, seed, replace(reading, stream=None), progress)
        return replace(loaded, decided={"stream": False})
    return _read_plain(source, seed, reading, progress)


def _read_plain(
    source: Any, seed: int, reading: ReadingOptions, progress: Progress | None
) -> Loaded:
    """Return the source as its kind reads it, whole or through a memory map."""
    if is_remote(source):
        return _read_elsewhere(source, reading, progress)
    if isinstance(source, str | os.PathLike):
        return _read_path(source, reading, progress)
    with _in_a_sentence(f"data ({type(source).__name__})"):
        given = unwrap(source, progress)
        if isinstance(given.source, Path):
            loaded = _read_folder(given.source, reading, progress)
        else:
            kind = next(kind for kind in KINDS.values() if kind.reads(given.source))
            _check_takes("data", kind.takes, reading)
            loaded = kind.read(given.source, reading=reading, progress=progress)
        return replace(loaded, notes=(*given.notes, *loaded.notes)) if given.notes else loaded


def _files_of_rows(source: Any, reading: ReadingOptions = AS_IT_IS) -> StoredFiles | None:
    """Return the files that a source names, if all are .npy, Parquet or tar files; None for others.

    Raises:
        InputError: other files are to be read as a stream, or are named by a pattern.
    """
    if isinstance(source, str | os.PathLike) and not is_remote(source):
        path = Path(os.path.expanduser(source))
        one = path.is_file() and format_of({suffix_of(path)}) is None
        one = one or (path.exists() and not path.is_file() and not path.is_dir())
        if one or source in NAMED or (path.is_dir() and not _holds_rows(path)):
            return _not_files(source, reading)
    files = find_files(source)
    if files is None:
        return _not_files(source, reading)
    files = of_rows(files)
    if format_of(files.suffixes) is not None:
        return files
    if len(files.files) > 1:
        found = ", ".join(sorted(one or "no suffix" for one in files.suffixes))
        raise InputError(
            f"{files.name}: names {len(files.files):,} files of {found}; give .npy, .parquet or "
            ".tar files of one format, or a folder on this machine."
        )
    return _not_files(source, reading)


def _not_files(source: Any, reading: ReadingOptions) -> None:
    """Raise InputError if a source that is none of files of rows is to be read as a stream."""
    if reading.stream:
        raise InputError(
            f"{_name(source)}: --data.stream is for .npy, Parquet and tar files; leave it out."
        )


def _is_plain(files: StoredFiles, reading: ReadingOptions = AS_IT_IS) -> bool:
    """Return whether files of rows are read as other sources are.

    These are a single .npy on this machine, which is read from the disk as it is, and Parquet files
    of tables here that fit into the memory, unless they are to be read as a stream.
    """
    place = Path(files.source)
    if place.is_file() and files.suffixes == {".npy"}:
        return not reading.stream
    tables = place.exists() and files.suffixes <= {".parquet", ".pq"}
    if not tables or streams(files, reading.stream):
        return False
    need_pyarrow("reading tables")
    return not holds_samples(files)


def _holds_rows(path: Path) -> bool:
    """Return whether a folder is one of .npy, .tar or Parquet files, whatever few lie beside."""
    files, _ = walk(path)
    kinds = Counter(suffix_of(file) for file in files)
    owned = {suffix for kind in KINDS.values() for suffix in kind.folder_suffixes}
    rest = sum(count for suffix, count in kinds.items() if suffix in owned)
    parquet = kinds[".parquet"] + kinds[".pq"]
    return parquet == rest > 0 or (not rest and bool(kinds[".npy"]) != bool(kinds[".tar"]))


def _read_elsewhere(source: str, reading: ReadingOptions, progress: Progress | None) -> Loaded:
    """Read a file of an object store, of which there is a copy in the cache then."""
    files = find_files(source)
    assert files is not None
    return replace(_read_path(files.files[0].fetched(), reading, progress), path=source)


def recorded_reading(config: Mapping[str, Any]) -> ReadingOptions:
    """Return how a run's data were read, from its config["data"]. Raises InputError for damage."""
    return ReadingOptions(**checked(ReadingOptions, config.get("reading") or {}))


@contextmanager
def _in_a_sentence(name: str) -> Iterator[None]:
    """Whatever a decoder makes of bytes that it did not write is one sentence on the file."""
    try:
        yield
    except InputError:
        raise
    except MemoryError as problem:
        raise InputError(
            f"{name}: does not fit into memory; give fewer rows, or an .npy file, which is read "
            "from the disk."
        ) from problem
    except Exception as problem:
        raise InputError(f"{name}: could not be read ({said(problem)}); check it.") from problem


def _read_path(
    source: str | os.PathLike[str], reading: ReadingOptions, progress: Progress | None
) -> Loaded:
    if not os.fspath(source):
        raise InputError("data: the path is empty; give a file, a folder or a name.")
    path = Path(os.path.expanduser(source))
    with _in_a_sentence(str(source)):
        if path.is_dir():
            return _read_folder(path.resolve(), reading, progress)
        if (file := split_part(path)[0]).exists():
            _check_regular(file)
            return _read_file(path.resolve(), reading, progress)
    if path.suffix or len(path.parts) > 1 or str(source).endswith(("/", os.sep)):
        raise InputError(f"{source}: no such file or folder; check the path.")
    raise unknown("data", "name or path", str(source), NAMED)


def _read_file(path: Path, reading: ReadingOptions, progress: Progress | None) -> Loaded:
    for kind in KINDS.values():
        if kind.reads(path):
            _check_takes(name_of(path), kind.takes, reading)
            return kind.read(path, reading=reading, progress=progress)
    if any(suffix_of(path) in kind.folder_suffixes for kind in KINDS.values()):
        raise InputError(
            f"{path.name}: this is a single file; give the folder that holds all of them."
        )
    suffixes = ", ".join(suffix for kind in KINDS.values() for suffix in kind.file_suffixes)
    advice = _ADVICE.get(path.suffix.lower(), f"give {suffixes}, an IDX file or a folder")
    raise InputError(f"{path.name}: files of this kind cannot be read; {advice}.")


def _read_folder(path: Path, reading: ReadingOptions, progress: Progress | None) -> Loaded:
    """Read a folder by the one kind whose files are in it."""
    files, hidden = walk(path)
    kinds = [kind for kind in KINDS.values() if kind.folder_suffixes]
    known = " or ".join(kind.name for kind in kinds)
    if not files:
        raise InputError(f"{path.name}/: the folder is empty; put {known} into it.")
    of_kind = {
        kind: [file for file in files if suffix_of(file) in kind.folder_suffixes] for kind in kinds
    }
    met = [kind for kind in kinds if of_kind[kind]]
    beside = [kind for kind in met if kind.accompanies]  # lists of labels, say, beside images
    owners = sum(len(of_kind[kind]) for kind in met if not kind.accompanies)
    if owners and not are_few(owners, owners + sum(len(of_kind[kind]) for kind in beside)):
        met = [kind for kind in met if not kind.accompanies]
    if not met:
        common = Counter(file.suffix for file in files).most_common(3)
        suffixes = ", ".join(suffix or "no suffix" for suffix, _ in common)
        raise InputError(f"{path.name}/: no {known} are in it, only files of {suffixes}.")
    most = max(met, key=lambda kind: len(of_kind[kind]))
    chosen = set(of_kind[most])
    strays = sum(len(of_kind[kind]) for kind in met) - len(chosen)
    if not are_few(strays, strays + len(chosen)):
        counts = " and ".join(f"{len(of_kind[kind]):,} {kind.name}" for kind in met)
        raise InputError(f"{path.name}/: it holds {counts}; keep each kind in a folder of its own.")
    _check_takes(f"{path.name}/", most.takes, reading)
    others = tuple(file for file in files if file not in chosen)
    folder = Folder(path, tuple(of_kind[most]), most.name, others, tuple(hidden))
    return most.read(folder, reading=reading, progress=progress)


def _check_takes(name: str, taken: Collection[str], reading: ReadingOptions) -> None:
    """Raise InputError for an option that the kind of a source is not read by."""
    for option in reading.given:
        if option not in taken:
            kinds = " or ".join(kind for kind in KINDS if option in KINDS[kind].takes)
            word = option if option in options_of(ConditionOptions) else f"data.{option}"
            raise InputError(f"{name}: --{word} is for {kinds}, not for this; leave it out.")
