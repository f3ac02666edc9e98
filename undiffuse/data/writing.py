"""Writing rows by the suffix of the wanted file; every file appears whole or not at all.

`WrittenForm` is what the forms of images, arrays and recordings share.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final
from urllib.parse import quote

import numpy as np
from PIL import Image

from undiffuse.atomic import atomic_file, atomic_folder
from undiffuse.errors import InputError
from undiffuse.interfaces import PartialRows

FOLDER = "folder/"
"""What stands for the suffix of a path that is a folder or has no suffix."""

Labels = Sequence[Any] | np.ndarray | None
Writer = Callable[[Any, Path, Labels], None]
"""`writer(rows, out, labels)`: rows are whatever the form writes, an array or a table."""


def find_writer(writers: Mapping[str, Writer], out: Path, what: str) -> Writer:
    """Return the writer for the suffix of `out`.

    Args:
        writers: suffix (or FOLDER) -> writer.
        out: the file or folder to be written.
        what: what the rows are called, in the plural.

    Raises:
        InputError: there is no such writer; it names those that there are.
    """
    suffix = FOLDER if out.is_dir() or not out.suffix else out.suffix.lower()
    if suffix not in writers:
        raise InputError(
            f"{out}: {what} cannot be written as {suffix}; use one of {', '.join(writers)}."
        )
    return writers[suffix]


def write_npy(rows: np.ndarray, out: Path, labels: Labels) -> None:
    """Write the array as it is; labels have no place in this form."""
    with atomic_file(out) as temporary, temporary.open("wb") as stream:
        np.save(stream, rows, allow_pickle=False)  # given a path, numpy would add .npy to .NPY


def write_npz(rows: np.ndarray, out: Path, labels: Labels, **more: np.ndarray) -> None:
    """Write the array as `data`, labels, if any, as `labels`, and `more` under their names."""
    arrays = {"data": rows, **more}
    if labels is not None:
        array = np.asarray(labels)
        arrays["labels"] = array.astype(str) if array.dtype == object else array
    with atomic_file(out) as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)  # pyright: ignore[reportArgumentType]


@contextmanager
def numbered_folder(out: Path, suffix: str, labels: Labels) -> Iterator[Callable[[int], Path]]:
    """Give `path(i)` of file i in a folder: 00000.png, or 00000-cat.png where there are labels.

    A folder that holds nothing but such files is replaced.
    """
    with atomic_folder(out, replace=r"\d{5,6}(-.*)?" + re.escape(suffix)) as folder:

        def path(i: int) -> Path:
            label = "" if labels is None else "-" + re.sub(r"[^\w.+ -]", _spelled, str(labels[i]))
            return folder / f"{i:05d}{label}{suffix}"

        yield path


def _spelled(character: re.Match[str]) -> str:
    """Return the bytes of a character as a URL spells them, so that labels stay apart."""
    return quote(character[0], safe="", errors="surrogatepass")


class WrittenForm(ABC):
    """A form whose rows are arrays, written as such or as one picture; see `interfaces.Form`."""

    suggested_out: str
    called: str  # what the rows are called, in the plural
    dtype: str

    @final
    @property
    def column_sizes(self) -> Mapping[str, int]:
        """Empty: no entry is the code of a category."""
        return {}

    @final
    def present(self, rows: np.ndarray, *, drawn: bool = True) -> np.ndarray:
        """Return the array itself."""
        return rows

    def check_out(self, out: Path) -> None:
        """Raise InputError for another suffix than those of `save`."""
        find_writer(self.writers(), out, self.called)

    @final
    def save(self, rows: np.ndarray, out: Path, *, labels: Labels = None) -> None:
        """Write the rows to `out`, by its suffix.

        Raises:
            InputError: as `check_out` does, or writing fails.
        """
        find_writer(self.writers(), out, self.called)(rows, out, labels)

    @abstractmethod
    def preview(self, rows: np.ndarray) -> Image.Image:
        """Return one picture of all these rows."""

    def sound(self, rows: np.ndarray) -> bytes | None:
        """Return None: only recordings are heard; see `Form`."""
        return None

    def remarks(self, rows: np.ndarray) -> Sequence[str]:
        """Return nothing: only tables have keys; see `Form`."""
        return ()

    def repeated(self, rows: np.ndarray) -> np.ndarray:
        """Return none of the rows: only tables have keys; see `Form`."""
        return np.zeros(len(rows), dtype=bool)

    def bands(self, given: PartialRows, drawn: np.ndarray) -> Image.Image | None:
        """Return None: only sequences have bands; see `Form`."""
        return None

    def writers(self) -> dict[str, Writer]:
        """Return the writer of each suffix."""
        return {".npy": write_npy, ".npz": write_npz, ".png": self._write_picture}

    def _write_picture(self, rows: np.ndarray, out: Path, labels: Labels) -> None:
        with atomic_file(out) as temporary:
            self.preview(rows).save(temporary, format="PNG")
