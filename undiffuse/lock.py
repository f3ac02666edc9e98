"""A lock on a run: one process trains it at a time, and others can ask which.

The lock is the system's own (`flock`) on a hidden file in the folder: it moves with the folder, and
ends with the process, however that ends. Where the file system has no locks there is none.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import final

from undiffuse.errors import InputError

NAME = ".lock"


@final
class Lock:
    """The lock on `folder`, held until `release`; `given` is what the folder is called in errors.

    Raises:
        InputError: another process holds it.
    """

    def __init__(self, folder: Path, given: str) -> None:
        self.file = folder / NAME
        self.handle: int | None = None
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        while self.handle is None:
            try:
                handle = os.open(self.file, flags, 0o666)
            except OSError:
                return  # where nothing can be written, nothing is trained
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as problem:
                os.close(handle)
                if problem.errno not in (errno.EAGAIN, errno.EACCES):
                    return
                raise InputError(
                    f"{given}: is being trained by {holder(folder) or 'another process'}; wait for "
                    "it, or stop it first."
                ) from None
            self.handle = handle
            if not self._is_in_place():  # its holder has just removed it
                os.close(handle)
                self.handle = None
        os.ftruncate(self.handle, 0)
        os.write(self.handle, f"process {os.getpid()} on {platform.node()}\n".encode())

    def _is_in_place(self) -> bool:
        assert self.handle is not None
        try:
            return os.path.samestat(os.fstat(self.handle), os.lstat(self.file))
        except OSError:
            return False

    def release(self) -> None:
        """Let others have it."""
        if self.handle is not None:
            with suppress(OSError):
                if self._is_in_place():
                    os.unlink(self.file)
            os.close(self.handle)
            self.handle = None


def holder(folder: Path) -> str | None:
    """Return who holds the lock on a folder, in words; None if nobody does."""
    try:
        handle = os.open(folder / NAME, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except OSError as problem:
        held = problem.errno in (errno.EAGAIN, errno.EACCES)
        return os.read(handle, 200).decode("utf-8", "replace").strip() if held else None
    finally:
        os.close(handle)
