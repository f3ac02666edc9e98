"""Files of text in UTF-8, also compressed: what they are called, and their lines."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from undiffuse.data.arrays.unpacked import check_unpacked
from undiffuse.data.paths import COMPRESSED
from undiffuse.errors import InputError
from undiffuse.reading import said


def _open_zstd(path: Path) -> Any:
    import pyarrow as pa

    return pa.CompressedInputStream(path.open("rb"), "zstd")


_OPENERS: Mapping[str, Callable[[Path], Any]] = dict(
    zip(COMPRESSED, (gzip.open, bz2.open, lzma.open, _open_zstd))
)
_PIECE = 2**24  # bytes


@final
@dataclass(frozen=True)
class TextFile:
    """A file of text, unpacked in memory if it is compressed.

    Args:
        path: the file.
        content: what was unpacked; None for a plain file.
    """

    path: Path
    content: bytes | None = None

    @classmethod
    def of(cls, path: Path) -> TextFile:
        """Return the file. Raises InputError if it cannot be unpacked, or is a bomb."""
        if path.suffix.lower() not in _OPENERS:
            return cls(path)
        pieces, size = [], 0
        try:
            with _OPENERS[path.suffix.lower()](path) as stream:
                while piece := stream.read(_PIECE):
                    pieces.append(piece)
                    size += len(piece)
                    check_unpacked(path, size, "unpack it yourself if it is meant")
        except EOFError as problem:
            raise InputError(f"{path.name}: is cut short; write or fetch it again.") from problem
        except (OSError, zlib.error, lzma.LZMAError) as problem:
            raise InputError(
                f"{path.name}: could not be unpacked ({said(problem)}); write or fetch it again."
            ) from problem
        return cls(path, b"".join(pieces))

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return self.path.name

    def open(self) -> io.BufferedReader | io.BytesIO:
        """Return the bytes as a stream: Arrow takes no path that is not UTF-8."""
        return self.path.open("rb") if self.content is None else io.BytesIO(self.content)

    def lines(self, errors: str = "strict") -> io.TextIOWrapper:
        """Return the text as a stream of lines, as they end in the file."""
        return io.TextIOWrapper(self.open(), encoding="utf-8-sig", errors=errors, newline="")

    def head(self, size: int) -> str:
        """Return the first characters. Raises InputError if there are none, or no text."""
        try:
            with self.lines() as file:
                head = file.read(size)
        except UnicodeDecodeError as problem:
            raise InputError(
                f"{self.name}: is not UTF-8 text; save the file as UTF-8."
            ) from problem
        except OSError as problem:
            raise InputError(
                f"{self.name}: could not be read ({said(problem)}); check the file."
            ) from problem
        if not head.strip():
            raise InputError(f"{self.name}: the file is empty; check the path.")
        return head
