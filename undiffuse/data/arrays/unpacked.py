"""Refuse decompression bombs."""

from __future__ import annotations

from pathlib import Path

from undiffuse.errors import InputError
from undiffuse.room import check_room

LARGE = 2**30  # bytes
MOST_UNPACKED = 100  # times the size of the file, beyond that many bytes


def check_unpacked(
    path: Path, size: int, advice: str = "save it as .npy, which is read from the disk"
) -> None:
    """Raise InputError for a decompression bomb, and for what does not fit into memory."""
    check_room(size, path.name, advice)
    if size > LARGE and size > MOST_UNPACKED * path.stat().st_size:
        raise InputError(
            f"{path.name}: unpacks to {size / 2**30:.1f} GiB, {size // path.stat().st_size:,} "
            f"times its size, which may be a decompression bomb; {advice}."
        )
