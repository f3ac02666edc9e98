"""A `datasets.Dataset` as what the kinds of data read: a folder, an array, a table.

    images, audio   files as they are stored, in a folder of the cache, with a metadata.csv that
                    holds their labels and their other columns
    arrays, lists   an array (N, ...), with its labels
    anything else   a table, classes by their names

The package `datasets` is not imported: its objects are known by where they come from.
"""

from __future__ import annotations

import csv
import io
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from PIL import Image

from undiffuse.atomic import atomic_folder
from undiffuse.data.folder import cache_folder
from undiffuse.errors import InputError
from undiffuse.interfaces import Progress

_MODULES = ("datasets.arrow_dataset", "datasets.dataset_dict", "datasets.iterable_dataset")
_MEDIA = {"Image": ".png", "Audio": ".wav"}  # the suffix where nothing says another
_LISTS = ("List", "LargeList", "Sequence", "Array2D", "Array3D", "Array4D", "Array5D")
_SCALARS = ("Value", "ClassLabel")


@final
@dataclass(frozen=True)
class Unwrapped:
    """What stands for a data set.

    Attributes:
        source: a folder, an array, a pair (x, labels) or a table: what a kind reads.
        notes: what is left out, a sentence each.
    """

    source: Any
    notes: tuple[str, ...] = ()


def unwrap(source: Any, progress: Progress | None = None) -> Unwrapped:
    """Return what stands for a `datasets.Dataset`; anything else as it is.

    Args:
        source: any object.
        progress: called now and then while files are written.

    Raises:
        InputError: for a dictionary of splits, a stream, and columns that are of no kind.
    """
    names = [one.__name__ for one in type(source).__mro__ if one.__module__ in _MODULES]
    if not names:
        return Unwrapped(source)
    if "DatasetDict" in names:
        raise InputError(
            f"data: a DatasetDict of {', '.join(source)}; give one of them, such as "
            f"dataset[{next(iter(source), 'train')!r}]."
        )
    if "Dataset" not in names:
        raise InputError(
            f"data: a {names[0]} has no numbered rows; load it without streaming, or take some "
            "rows of it."
        )
    if not len(source):
        raise InputError("data: it has no rows; there is nothing to learn.")
    kinds = {name: type(feature).__name__ for name, feature in source.features.items()}
    media = [name for name, kind in kinds.items() if kind in _MEDIA]
    lists = [name for name, kind in kinds.items() if kind in _LISTS]
    if len(media) > 1 or (not media and len(lists) > 1):
        several = media or lists
        raise InputError(
            f"data: has {len(several)} columns of {'files' if media else 'arrays'} "
            f"({', '.join(several)}); keep one, with remove_columns."
        )
    known = (*_MEDIA, *_LISTS, *_SCALARS)
    left = [name for name, kind in kinds.items() if kind not in known]
    if media:
        left += lists
        return Unwrapped(_folder(source, media[0], progress), _left_out(left))
    if lists:
        label = _label(source)
        left += [name for name in kinds if name not in (*lists, label, *left)]
        return Unwrapped(_pair(source, lists[0], label), _left_out(left))
    return Unwrapped(_table(source, left), _left_out(left))


def _left_out(names: list[str]) -> tuple[str, ...]:
    return (f"data: left out the columns {', '.join(names)}.",) if names else ()


def _label(source: Any) -> str | None:
    """The column of classes; None if there is none, or several of which none is called label."""
    classes = [
        n for n, feature in source.features.items() if type(feature).__name__ == "ClassLabel"
    ]
    return classes[0] if len(classes) == 1 else "label" if "label" in classes else None


def _pair(source: Any, column: str, label: str | None) -> Any:
    """The array of a column, (N, ...), in a pair with labels if there are any."""
    feature = source.features[column]
    while hasattr(feature, "feature"):
        feature = feature.feature
    dtype = getattr(feature, "dtype", "float32")
    try:
        values = source.with_format("numpy", columns=[column], dtype=np.dtype(dtype))[:][column]
        rows = np.asarray(values, dtype=dtype)
    except (TypeError, ValueError) as problem:
        raise InputError(
            f"data: column {column} holds no arrays of one shape; cut or pad them, or leave it out."
        ) from problem
    if label is None:
        return rows
    return rows, _names(source, label)


def _names(source: Any, label: str) -> list[str]:
    """The names of the classes of all rows."""
    names = source.features[label].names
    found = source.with_format("numpy", columns=[label])[:][label]
    return ["" if i < 0 else names[i] for i in np.asarray(found).tolist()]


def _table(source: Any, left: list[str]) -> Any:
    """An Arrow table, classes by their names."""
    table = source.with_format("arrow")[:].drop_columns(left)
    for name, feature in source.features.items():
        if type(feature).__name__ == "ClassLabel":
            place, names = table.column_names.index(name), feature.names
            words = [None if i is None or i < 0 else names[i] for i in table[name].to_pylist()]
            table = table.set_column(place, name, [words])
    return table


def _folder(source: Any, column: str, progress: Progress | None) -> Path:
    """A folder of the files of a column, in the cache; the same data set has the same one."""
    name = source.info.dataset_name or "dataset"
    made = cache_folder() / "datasets" / f"{name}-{source._fingerprint[:16]}-{column}"
    if made.is_dir():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    feature = source.features[column]
    stored = source.cast_column(column, type(feature)(decode=False)).with_format(None)
    label = _label(source)
    kept = [n for n, f in source.features.items() if type(f).__name__ in _SCALARS and n != label]
    with atomic_folder(made) as folder, (folder / "metadata.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["file_name", *(["label"] if label else []), *kept])
        for i, row in enumerate(stored):
            file = _written(
                folder / f"{i:08d}", row[column], _MEDIA[type(feature).__name__], column
            )
            words = list(_words(source, row, label, kept))
            writer.writerow([file.name, *words])
            if progress:
                progress(i + 1, len(source), f"writing the files of {name}")
    return made


def _words(
    source: Any, row: Mapping[str, Any], label: str | None, kept: list[str]
) -> Iterator[Any]:
    """The label and the other columns of a row, as its line of metadata.csv has them."""
    for name in ([label] if label else []) + kept:
        value, names = row[name], getattr(source.features[name], "names", None)
        yield value if names is None or value is None else names[value] if value >= 0 else None


def _written(place: Path, stored: Mapping[str, Any] | None, suffix: str, column: str) -> Path:
    """Write a file as it is stored, in bytes or at a path, and return where."""
    content, path = (stored or {}).get("bytes"), (stored or {}).get("path")
    if content is None and path is None:
        raise InputError(f"data: row {int(place.name):,} has no {column}; filter such rows out.")
    suffix = Path(path).suffix if path and Path(path).suffix else _seen(content, suffix)
    file = place.with_suffix(suffix)
    if content is None:
        try:
            shutil.copyfile(str(path), file)
        except OSError as problem:
            raise InputError(
                f"data: row {int(place.name):,}: its file {path} cannot be read "
                f"({problem.strerror}); load the data set anew."
            ) from problem
    else:
        file.write_bytes(content)
    return file


def _seen(content: bytes | None, suffix: str) -> str:
    """The suffix of an image by its content; `suffix` for anything else."""
    try:
        with Image.open(io.BytesIO(content or b"")) as image:
            return f".{str(image.format).lower()}"
    except OSError:
        return suffix
