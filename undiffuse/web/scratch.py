"""The server's own folder: uploads and results, gone with the server.

It is made among the system's temporary files, for its owner alone, and removed at the end. A server
that was killed cannot remove it: the next one does. A lock in it says whether its server lives.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import final

PREFIX = "undiffuse-serve-"


@final
class Scratch:
    """A temporary folder, `path`, until `close`."""

    def __init__(self) -> None:
        _sweep(Path(tempfile.gettempdir()))
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._handle = os.open(self.path / "lock", os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def folder(self, *names: str) -> Path:
        """Return a folder in it, made if there is none."""
        place = self.path.joinpath(*names)
        place.mkdir(parents=True, exist_ok=True)
        return place

    def close(self) -> None:
        """Remove it."""
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._handle)


def _sweep(place: Path) -> None:
    """Remove the folders of servers of ours that are gone."""
    for folder in place.glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            handle = os.open(folder / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(handle)


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder.

    >>> size_of(Path("/dev/null"))
    0
    """
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total
