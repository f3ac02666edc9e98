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
        return fingerprint(self.path, self.files)

    def classes(self, kept: Sequence[int] | None = None) -> tuple[list[str] | None, list[str]]:
        """Return the class of each file (of those `kept`), and notes.

        The class is the subfolder that a file lies in; None unless all files lie in one of several.
        """
        files = self.files if kept is None else [self.files[i] for i in kept]
        return classes_of(self.path, files, self.name, self.what)


def files_for_run(path: Path, suffixes: Collection[str], what: str) -> Folder:
    """Return the files at `path`, a folder or one file, for a run trained on such files.

    Raises:
        InputError: there is none.
    """
    files = [path] if path.is_file() else walk(path)
    chosen = tuple(file for file in files if file.suffix.lower() in suffixes)
    if not chosen:
        name = path.name if path.is_file() else f"{path.name}/"
        raise InputError(
            f"{name}: no {what} are in it, and the run was trained on {what}; check the path."
        )
    return Folder(path.parent if path.is_file() else path, chosen, what)


def walk(folder: Path) -> list[Path]:
    """Every file below a folder, sorted, but for hidden ones; links are followed once."""
    found, seen = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        found += [Path(place) / name for name in sorted(names) if not name.startswith(".")]
    return [path for path in found if path.is_file()]


def cache_folder() -> Path:
    """Where decoded files are kept: $UNDIFFUSE_CACHE, or ~/.cache/undiffuse."""
    return Path(os.environ.get("UNDIFFUSE_CACHE") or os.path.expanduser("~/.cache/undiffuse"))


def fingerprint(folder: Path, files: Sequence[Path]) -> str:
    """A name for the state of a folder: the files' relative paths, sizes and times of change."""
    digest = hashlib.sha256()
    for path in files:
        status = path.stat()
        digest.update(
            f"{path.relative_to(folder)}\0{status.st_size}\0{status.st_mtime_ns}\n".encode()
        )
    return digest.hexdigest()[:16]


def classes_of(
    folder: Path, files: Sequence[Path], name: str, what: str
) -> tuple[list[str] | None, list[str]]:
    """Return the class of each file, as `Folder.classes` does, and notes."""
    parts = [path.relative_to(folder).parts for path in files]
    outside = sum(len(part) == 1 for part in parts)
    if 0 < outside < len(parts):
        return None, [
            f"{name}: {outside:,} {what} lie outside of the subfolders, "
            "so these are not used as classes."
        ]
    classes = [part[0] for part in parts]
    return (None if outside or len(set(classes)) < 2 else classes), []
