"""Writing rows by the suffix of the wanted file; every file appears whole or not at all.

Rows come some at a time and are not kept, so that memory does not grow with them: a `Writer` gives
what takes the next ones. Only a single picture of all rows keeps them. `WrittenForm` is what the
forms of images, arrays and recordings share.
"""

from __future__ import annotations

import re
import zipfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, final
from urllib.parse import quote

import numpy as np
from PIL import Image

from undiffuse.atomic import atomic_file, atomic_folder
from undiffuse.data.cells import cells_writer, need_pyarrow
from undiffuse.errors import InputError
from undiffuse.interfaces import PartialRows, WriteRows

FOLDER = "folder/"
"""What stands for the suffix of a path that is a folder or has no suffix."""

Labels = Sequence[Any] | np.ndarray | None
Writer = Callable[[Path, int], AbstractContextManager[WriteRows]]
"""`writer(out, count)`: gives what takes `count` rows in all; `out` appears once it is left."""

Encode = Callable[[np.ndarray], Iterator[bytes]]
"""`encode(rows)`: the content of a file for each row."""


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


@contextmanager
def npy_writer(out: Path, count: int) -> Iterator[WriteRows]:
    """Write an array, its header first; labels have no place in this form."""
    with atomic_file(out) as temporary, temporary.open("wb") as stream:
        array = _Array(stream, count)
        yield lambda rows, labels=None: array.write(rows)


@contextmanager
def npz_writer(out: Path, count: int, **more: np.ndarray) -> Iterator[WriteRows]:
    """Write the array as `data`, labels, if any, as `labels`, and `more` under their names."""
    with (
        atomic_file(out) as temporary,
        temporary.open("wb") as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive,
        TemporaryFile(dir=temporary.parent) as kept,
    ):
        kinds: list[np.dtype] = []
        with archive.open("data.npy", "w", force_zip64=True) as stream:
            array = _Array(stream, count)

            def write(rows: np.ndarray, labels: Labels = None) -> None:
                array.write(rows)
                if labels is not None:
                    own = np.asarray(labels)
                    own = own.astype(str) if own.dtype == object else own
                    np.save(kept, own, allow_pickle=False)
                    kinds.append(own.dtype)

            yield write
        for name, value in more.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.save(stream, value, allow_pickle=False)
        if kinds:
            kept.seek(0)
            with archive.open("labels.npy", "w", force_zip64=True) as stream:
                array = _Array(stream, count)
                for _ in kinds:
                    own = np.load(kept, allow_pickle=False)
                    array.write(own.astype(np.result_type(*set(kinds))))


@final
class _Array:
    """An array of `count` rows that is written to a stream as they come, with the .npy header."""

    def __init__(self, stream: Any, count: int) -> None:
        self.stream, self.count, self.begun = stream, count, False

    def write(self, rows: np.ndarray) -> None:
        if rows.dtype.hasobject:
            raise ValueError("objects cannot be saved with allow_pickle=False")
        if not self.begun:
            self.begun = True
            kind = np.lib.format.dtype_to_descr(rows.dtype)
            shape = (self.count, *rows.shape[1:])
            header = {"descr": kind, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(self.stream, header)
        self.stream.write(np.ascontiguousarray(rows).data.cast("B") if rows.size else b"")


@contextmanager
def picture_writer(draw: Callable[[np.ndarray], Image.Image], out: Path, count: int) -> Any:
    """Write one picture of all rows, which are kept until they are there."""
    kept: list[np.ndarray] = []
    with atomic_file(out) as temporary:
        yield lambda rows, labels=None: kept.append(rows)
        draw(np.concatenate(kept)).save(temporary, format="PNG")


@contextmanager
def folder_writer(encode: Encode, suffix: str, out: Path, count: int) -> Iterator[WriteRows]:
    """Write a folder of a file for each row. One that holds nothing but such files is replaced."""
    with atomic_folder(out, replace=files_of(suffix)) as folder:
        yield numbered(encode, suffix, folder, 0, count)


def numbered(encode: Encode, suffix: str, folder: Path, first: int, total: int) -> WriteRows:
    """Return what writes a file for each row into a folder, the first of number `first`.

    They are called 00000.png, or 00000-cat.png where there are labels; with more digits where
    there are more than 100,000 in all.
    """
    digits, next_one = max(5, len(str(total - 1))), first

    def write(rows: np.ndarray, labels: Labels = None) -> None:
        nonlocal next_one
        for i, content in enumerate(encode(rows)):
            label = "" if labels is None else "-" + re.sub(r"[^\w.+ -]", _spelled, str(labels[i]))
            (folder / f"{next_one:0{digits}d}{label}{suffix}").write_bytes(content)
            next_one += 1

    return write


def files_of(suffix: str) -> str:
    """Return a regular expression for the names of such files."""
    return r"\d{5,}(-.*)?" + re.escape(suffix)


def refuse_part(suffix: str, known: Sequence[str], called: str) -> None:
    """Raise InputError unless files of this suffix can hold the rows of a folder.

    >>> refuse_part(".csv", (".png", ".npy", ".parquet"), "images")
    Traceback (most recent call last):
    undiffuse.errors.InputError: parts csv: a folder of images holds png, npy or parquet files; ...
    """
    if suffix not in known:
        *others, last = (one.removeprefix(".") for one in known)
        names = f"{', '.join(others)} or {last}"
        raise InputError(
            f"parts {suffix.removeprefix('.')}: a folder of {called} holds {names} files; choose "
            "one of these."
        )


def _spelled(character: re.Match[str]) -> str:
    """Return the bytes of a character as a URL spells them, so that labels stay apart."""
    return quote(character[0], safe="", errors="surrogatepass")


class WrittenForm(ABC):
    """A form whose rows are arrays, written as such or as one picture; see `interfaces.Form`."""

    suggested_out: str
    called: str  # what the rows are called, in the plural
    dtype: str
    keyed = False  # only tables have keys

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
        with self.writing(out, len(rows)) as write:
            write(rows, labels)

    @final
    def writing(self, out: Path, count: int) -> AbstractContextManager[WriteRows]:
        """Return what takes `count` rows, some at a time, and writes them to `out`; see `Form`."""
        return find_writer(self.writers(), out, self.called)(out, count)

    @final
    @property
    def parts(self) -> tuple[str, ...]:
        """The suffixes of files that a folder of samples can hold; see `Form`."""
        return (*self.files(), ".npy", ".parquet")

    def check_part(self, suffix: str) -> None:
        """Raise InputError for other files than `parts`, and for Parquet without pyarrow."""
        refuse_part(suffix, self.parts, self.called)
        if suffix == ".parquet":
            need_pyarrow("writing rows to Parquet")

    @final
    def part(
        self, folder: Path, suffix: str, *, number: int, first: int, count: int, total: int
    ) -> AbstractContextManager[WriteRows]:
        """Return what takes the rows of a part of a folder; see `Form`."""
        if suffix == ".parquet":
            encode, kind = self.cells()
            return cells_writer(encode, kind, folder / f"part-{number:05d}{suffix}", first)
        if suffix in self.files():
            return _as_it_is(numbered(self.files()[suffix], suffix, folder, first, total))
        return self.writers()[suffix](folder / f"part-{number:05d}{suffix}", count)

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

    def files(self) -> dict[str, Encode]:
        """Return what makes a file of each row, by suffix; none for rows without such a file."""
        return {}

    def cells(self) -> tuple[Encode | None, str]:
        """Return what makes an image file of a row that holds all of it, and its suffix.

        In a Parquet file a row is one; None: it is a tensor.
        """
        return None, ""

    def writers(self) -> dict[str, Writer]:
        """Return the writer of each suffix."""
        folders: dict[str, Writer] = {}
        for suffix, encode in self.files().items():
            folders[FOLDER] = partial(folder_writer, encode, suffix)
        picture = partial(picture_writer, self.preview)
        return {".npy": npy_writer, ".npz": npz_writer, ".png": picture, **folders}


@contextmanager
def _as_it_is(write: WriteRows) -> Iterator[WriteRows]:
    yield write
