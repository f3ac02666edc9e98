"""Writing rows by the suffix of the file that is asked for; every file appears whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from undiffuse.atomic import atomic_file, atomic_folder
from undiffuse.errors import InputError

FOLDER = "folder/"
Writer = Callable[[Any, Path, Any], None]
"""`writer(rows, out, labels)`"""


def write(rows: Any, out: Path, labels: Any, writers: Mapping[str, Writer], what: str) -> None:
    """Write `rows` with the writer that goes with the suffix of `out`; a path without one, or a folder, is FOLDER.

    Raises InputError, naming what is possible, if there is no such writer.
    """
    suffix = FOLDER if out.is_dir() or not out.suffix else out.suffix.lower()
    if suffix not in writers:
        raise InputError(
            f"{out}: {what} cannot be written as {suffix}; use one of {', '.join(writers)}."
        )
    writers[suffix](rows, out, labels)


def write_npy(rows: np.ndarray, out: Path, labels: Any) -> None:
    """The array as it is; labels have no place in this form."""
    with (
        atomic_file(out) as temporary,
        temporary.open("wb") as stream,
    ):  # numpy would add .npy to a name in .NPY
        np.save(stream, rows, allow_pickle=False)


def write_npz(rows: np.ndarray, out: Path, labels: Any, **more: np.ndarray) -> None:
    """The array under `data`, if there are any the labels under `labels`, and `more` under their own names."""
    arrays = {"data": rows, **more}
    if labels is not None:
        arrays["labels"] = (
            np.asarray(labels) if np.asarray(labels).dtype != object else np.asarray(labels, str)
        )
    with atomic_file(out) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # type: ignore[arg-type]


def write_picture(picture: Image.Image, out: Path) -> None:
    """One PNG."""
    with atomic_file(out) as temporary:
        picture.save(temporary, format="PNG")


def write_pictures(pictures: Sequence[Image.Image], out: Path, labels: Any) -> None:
    """One PNG each; see `numbered_folder`."""
    with numbered_folder(out, ".png", labels) as place:
        for i, picture in enumerate(pictures):
            picture.save(place(i), format="PNG")


@contextmanager
def numbered_folder(out: Path, suffix: str, labels: Any) -> Iterator[Callable[[int], Path]]:
    """Give the place of file i: 00000.png, 00001.png, ..., with the label behind the number if there is one.

    A folder that holds nothing but such files is replaced.
    """
    with atomic_folder(out, replace=r"\d{5,6}(-.*)?" + re.escape(suffix)) as folder:

        def place(i: int) -> Path:
            label = "" if labels is None else "-" + re.sub(r"[^\w.+ -]", "_", str(labels[i]))
            return folder / f"{i:05d}{label}{suffix}"

        yield place
