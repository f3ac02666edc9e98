"""A folder of files of one kind: which files, their state, and their classes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from undiffuse.errors import InputError


@final
@dataclass(frozen=True)
class Folder:
    """Files of one kind in a folder and its subfolders.

    Args:
        path: the folder, absolute.
        files: the files of the kind, sorted.
        what: what they are called in messages, such as "images".
    """

    path: Path
    files: tuple[Path, ...]
    what: str

    @property
    def name(self) -> str:
        """What the folder is called in messages."""
        return f"{self.path.name}/"

    @property
    def called(self) -> list[str]:
        """Each file by its path within the folder."""
        return [str(path.relative_to(self.path)) for path in self.files]

    def fingerprint(self) -> str:
        """Return a name for the state of the files: their paths, sizes and times of change."""
        digest = hashlib.sha256()
        for path, called in zip(self.files, self.called):
            status = path.stat()
            digest.update(f"{called}\0{status.st_size}\0{status.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:16]

    def classes(self, kept: Sequence[int] | None = None) -> tuple[list[str] | None, list[str]]:
        """Return the class of each file, and notes.

        The class is the subfolder that a file lies in; None unless all files lie in one of several.

        Args:
            kept: the positions of the files that count; all if None.
        """
        files = self.files if kept is None else [self.files[i] for i in kept]
        parts = [path.relative_to(self.path).parts for path in files]
        outside = sum(len(part) == 1 for part in parts)
        if 0 < outside < len(parts):
            note = (
                f"{self.name}: {outside:,} {self.what} lie outside of the subfolders, so these are "
                "not used as classes."
            )
            return None, [note]
        classes = [part[0] for part in parts]
        return (None if outside or len(set(classes)) < 2 else classes), []


def files_for_run(path: Path, suffixes: Collection[str], what: str) -> Folder:
    """Return the files of a kind at `path`, a folder or one file, for a run trained on such files.

    Raises:
        InputError: there are none.
    """
    single = path.is_file()
    files = [path] if single else walk(path)
    chosen = tuple(file for file in files if file.suffix.lower() in suffixes)
    if not chosen:
        name = path.name if single else f"{path.name}/"
        raise InputError(
            f"{name}: no {what} are in it, and the run was trained on {what}; check the path."
        )
    return Folder(path.parent if single else path, chosen, what)


def walk(folder: Path) -> list[Path]:
    """Return every file below a folder, sorted, but for hidden ones; links are followed once."""
    files: list[Path] = []
    visited: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        files += [Path(place) / name for name in sorted(names) if not name.startswith(".")]
    return [path for path in files if path.is_file()]


def cache_folder() -> Path:
    """Return where decoded files are kept: $UNDIFFUSE_CACHE, or ~/.cache/undiffuse."""
    return Path(os.environ.get("UNDIFFUSE_CACHE") or os.path.expanduser("~/.cache/undiffuse"))
