"""Anything a person has -> `Data`: which reader a source goes to is decided here, in two literal dicts."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from undiffuse.data.families import build_part
from undiffuse.data.folder import walk
from undiffuse.data.loaded import Loaded, Progress
from undiffuse.data.recordings.files import SUFFIXES
from undiffuse.data.source import Data
from undiffuse.errors import InputError, unknown

_NOT_PICTURES = (
    ".pdf",
    ".eps",
    ".ps",
    ".mpg",
    ".mpeg",
    ".h5",
    ".hdf",
    ".grib",
    ".bufr",
    ".emf",
    ".wmf",
)


def load(
    source: Any,
    *,
    seed: int = 0,
    held_out: float | int | None = None,
    size: int | tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> Data:
    """Read a source, split it, and measure how it is to be modelled.

    `source` is a path (a folder of images or of recordings, .npy, .npz, .csv, .tsv, .parquet, an IDX file), a name
    ("digits", "fashion-mnist", "moons", "rings", "checkerboard", "gaussians8"), or an object: an array, a tensor,
    (x, labels), a data frame, a map-style torch Dataset. `seed` decides which rows are held out (and draws the toys);
    `held_out` is a share or a number of rows, a tenth by default. `size` is, for images, the longer side or (height,
    width) in pixels, and for recordings the length in samples.

    Raises InputError for whatever cannot be read or learned from, in one sentence.

    >>> data = load("moons", held_out=0.2)
    >>> len(data), data.shape, data.held_out.dtype
    (16000, (2,), dtype('float32'))
    """
    if isinstance(source, Data):
        return source
    loaded = read(source, seed, size, progress)
    return Data(loaded, seed=seed, held_out=held_out, size=size, progress=progress)


def restore(config: Mapping[str, Any]) -> tuple[Any, Any, tuple[str, ...]]:
    """(transform, form, classes) from `Data.config()`, without the data. Raises InputError if it is damaged.

    >>> transform, form, classes = restore(load("digits").config())
    >>> transform.shape, classes[:3]
    ((1, 8, 8), ('0', '1', '2'))
    """
    missing = [name for name in ("transform", "form", "classes") if name not in config]
    if missing:
        raise InputError(
            f'data: "{missing[0]}" is missing from the run\'s config.json; the run is damaged.'
        )
    return build_part(config["transform"]), build_part(config["form"]), tuple(config["classes"])


def read(source: Any, seed: int, size: Any, progress: Progress | None) -> Loaded:
    """What `load` makes `Data` of: the source as its reader hands it over, neither split nor measured."""
    from undiffuse.data.arrays.objects import is_frame, read_object
    from undiffuse.data.named import NAMED

    if isinstance(source, str | os.PathLike):
        if isinstance(source, str) and source in NAMED:
            _no_size(source, size)
            return NAMED[source](source, seed, progress)
        return _read_path(source, size, progress)
    _no_size("data", size)
    if is_frame(source):
        return _read_table(source, progress)
    return read_object(source, progress)


def _read_path(source: str | os.PathLike, size: Any, progress: Progress | None) -> Loaded:
    if not os.fspath(source):
        raise InputError("data: the path is empty; give a file, a folder or a name.")
    path = Path(os.path.expanduser(source))
    try:
        if path.is_dir():
            return _read_folder(path.resolve(), size, progress)
        if path.exists():
            _no_size(str(source), size)
            return _read_file(path.resolve(), progress)
    except OSError as problem:
        raise InputError(
            f"{source}: could not be read: {problem.strerror or problem}."
        ) from problem
    from undiffuse.data.named import NAMED

    if path.suffix or len(path.parts) > 1 or str(source).endswith(("/", os.sep)):
        raise InputError(f"{source}: no such file or folder; check the path.")
    raise unknown("data", "name or path", str(source), NAMED)


def _read_file(path: Path, progress: Progress | None) -> Loaded:
    from undiffuse.data.arrays.files import is_idx, read_idx

    suffix = path.suffix.lower()
    if suffix in FILES:
        return FILES[suffix](path, progress)
    if is_idx(path):
        return read_idx(path, progress)
    if suffix in SUFFIXES or suffix in picture_suffixes():
        raise InputError(
            f"{path.name}: this is a single file; give the folder that holds all of them."
        )
    raise InputError(
        f"{path.name}: files of this kind cannot be read; give {', '.join(FILES)}, an IDX file or a folder."
    )


def _read_folder(folder: Path, size: Any, progress: Progress | None) -> Loaded:
    """Images or recordings, whichever there are more of; the other kind must be no more than strays."""
    files = walk(folder)
    pictures = picture_suffixes()
    images = [path for path in files if path.suffix.lower() in pictures]
    recordings = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not files:
        raise InputError(f"{folder.name}/: the folder is empty; put images or recordings into it.")
    if not images and not recordings:
        kinds = [
            kind or "no suffix" for kind, _ in Counter(path.suffix for path in files).most_common(3)
        ]
        raise InputError(
            f"{folder.name}/: no images or recordings are in it, only files of {', '.join(kinds)}."
        )
    if images and recordings:
        raise InputError(
            f"{folder.name}/: it holds {len(images):,} images and {len(recordings):,} recordings; "
            "keep each kind in a folder of its own."
        )
    if recordings:
        from undiffuse.data.recordings.read import read_recordings

        return read_recordings(folder, size=size, progress=progress)
    from undiffuse.data.images.read import read_images

    return read_images(folder, images, size=size, progress=progress)


def picture_suffixes() -> set[str]:
    """The suffixes of all image formats that this Pillow reads."""
    from PIL import Image

    extensions = Image.registered_extensions()
    return {suffix for suffix, kind in extensions.items() if kind in Image.OPEN} - set(
        _NOT_PICTURES
    )


def _no_size(name: str, size: Any) -> None:
    if size is not None:
        raise InputError(
            f"{name}: a size can be chosen for folders of images or recordings only; leave it out."
        )


def _read_npy(path: Path, progress: Progress | None) -> Loaded:
    from undiffuse.data.arrays.files import read_npy

    return read_npy(path, progress)


def _read_npz(path: Path, progress: Progress | None) -> Loaded:
    from undiffuse.data.arrays.files import read_npz

    return read_npz(path, progress)


def _read_table(source: Any, progress: Progress | None) -> Loaded:
    from undiffuse.data.tables.read import read_table

    return read_table(source, progress=progress)


FILES: dict[str, Callable[[Any, Progress | None], Loaded]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    **dict.fromkeys((".csv", ".tsv", ".parquet", ".pq"), _read_table),
}
