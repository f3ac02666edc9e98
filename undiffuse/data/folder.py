"""What a folder of images and a folder of recordings have in common: its files, their state, their classes, the
place of what was decoded, and the sentence about those that cannot be read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from undiffuse.errors import InputError

MOST_UNREADABLE = 0.05  # share of the files


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
    """The class of each file, which is the subfolder it lies in, None unless all lie in one of several; and notes."""
    parts = [path.relative_to(folder).parts for path in files]
    outside = sum(len(part) == 1 for part in parts)
    if 0 < outside < len(parts):
        return None, [
            f"{name}: {outside:,} {what} lie outside of the subfolders, so these are not used as classes."
        ]
    classes = [part[0] for part in parts]
    return (None if outside or len(set(classes)) < 2 else classes), []


def refuse_many(name: str, files: Sequence[Path], failed: Mapping[int, object], what: str) -> None:
    """Raise InputError if over 5 % of the files, or all of them, cannot be read."""
    if len(failed) == len(files) or len(failed) > MOST_UNREADABLE * len(files):
        raise InputError(f"{unreadable(name, files, failed, what)}; repair or remove them.")


def unreadable(name: str, files: Sequence[Path], failed: Mapping[int, object], what: str) -> str:
    """ "photos/: 2 of 90 images could not be read (a.jpg, b.jpg)", the first three by name, a reason where known."""
    shown = [
        files[i].name + (f": {failed[i]}" if str(failed[i]) else "") for i in sorted(failed)[:3]
    ]
    if len(failed) > 3:
        shown.append("...")
    return (
        f"{name}: {len(failed):,} of {len(files):,} {what} could not be read ({', '.join(shown)})"
    )
