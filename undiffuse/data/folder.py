"""A folder of files of one kind: which files, their state, and their classes."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import final

from undiffuse.atomic import atomic_file
from undiffuse.data.paths import suffix_of
from undiffuse.errors import InputError
from undiffuse.interfaces import Progress
from undiffuse.reading import printable

_HIDDEN = {"__MACOSX", "@eaDir", "#recycle", "#snapshot", "$RECYCLE.BIN", "lost+found"}
_FRESH = 2e9  # ns: a file changed again so soon might keep its time of change
_SHOWN = 4  # suffixes or names in a note
_READ = 2**20  # bytes at a time
_TOGETHER = 64  # files hashed before it is told how far that is


def are_few(count: int, total: int) -> bool:
    """Return whether so many are few enough to go on without: 5 %, or one of ten or more.

    >>> are_few(1, 12), are_few(2, 12), are_few(5, 100), are_few(6, 100)
    (True, False, True, False)
    """
    return count <= 0.05 * total or (count == 1 and total >= 10)


@final
@dataclass(frozen=True)
class Folder:
    """Files of one kind in a folder and its subfolders.

    Args:
        path: the folder, absolute.
        files: the files of the kind, sorted.
        what: what they are called in messages, such as "images".
        others: files that lie among them and are not read.
        hidden: the names of folders that are not looked into, and of hidden files after "./".
    """

    path: Path
    files: tuple[Path, ...]
    what: str
    others: tuple[Path, ...] = ()
    hidden: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the folder is called in messages."""
        return f"{printable(self.path.name)}/"

    @property
    def content(self) -> str:
        """What the files are called in messages: one alone by its own name."""
        return printable(self.files[0].name) if len(self.files) == 1 else self.name

    @property
    def called(self) -> list[str]:
        """Each file by its path within the folder."""
        return [printable(str(path.relative_to(self.path))) for path in self.files]

    @property
    def unread(self) -> tuple[str, ...]:
        """Notes on the other files and the hidden folders, if there are any."""
        suffixes = [path.suffix or "no suffix" for path in self.others]
        folders = [name for name in self.hidden if not name.startswith("./")]
        files = [Path(name).suffix for name in self.hidden if name.startswith("./")]
        notes = []
        for names, one, several, what in (
            (suffixes, "other file is", "others are", "not read"),
            (folders, "hidden folder is", "hidden folders are", "not looked into"),
            (files, "hidden file is", "hidden files are", "not read"),
        ):
            if names:
                counts = Counter(map(printable, names)).most_common()
                shown = ", ".join(f"{count:,} {name}" for name, count in counts[:_SHOWN])
                shown += ", ..." * (len(counts) > _SHOWN)
                some = one if len(names) == 1 else several
                notes.append(f"{self.name}: {len(names):,} {some} {what} ({shown}).")
        return tuple(notes)

    def fingerprint(self, progress: Progress | None = None) -> str:
        """Return a name for what the files are called and hold, wherever the folder is.

        The hash of a file's content is remembered under its device, inode, size and time of change.

        Args:
            progress: called now and then while files are hashed.
        """
        place = cache_folder() / f"contents-{digest(str(self.path))[:24]}"
        known = _remembered(place)
        states = [path.stat() for path in self.files]
        keys = [f"{s.st_dev} {s.st_ino} {s.st_size} {s.st_ctime_ns}" for s in states]
        new = [(key, path) for key, path in zip(keys, self.files) if key not in known]
        with ThreadPoolExecutor(4) as pool:
            for start in range(0, len(new), _TOGETHER):  # so that it can be interrupted
                if start and progress:
                    progress(start, len(new), f"reading {self.name}")
                some = dict(new[start : start + _TOGETHER])
                known.update(zip(some, pool.map(_content, some.values())))
        if new:
            latest = time.time_ns() - _FRESH
            old = {key for key, state in zip(keys, states) if state.st_ctime_ns < latest}
            _remember(place, {key: known[key] for key in keys if key in old})
        lines = (f"{called}\0{known[key]}\n" for called, key in zip(self.called, keys))
        return digest("".join(lines))[:16]


def digest(text: str) -> str:
    """Return the hash of a text, in 64 digits."""
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _content(path: Path) -> str:
    """Return the hash of a file's content, or a word for a file that cannot be read."""
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            while block := stream.read(_READ):
                digest.update(block)
    except OSError:
        return "unreadable"
    return digest.hexdigest()[:32]


def _remembered(place: Path) -> dict[str, str]:
    """Return file state -> hash; empty if nothing is remembered, or not as it was written."""
    try:
        lines = place.read_text().splitlines()
    except (OSError, ValueError):
        return {}
    return dict(line.rsplit(" ", 1) for line in lines if line.count(" ") == 4)  # pyright: ignore[reportReturnType]


def _remember(place: Path, known: Mapping[str, str]) -> None:
    with suppress(InputError), atomic_file(place) as temporary:  # without, they are hashed again
        temporary.write_text("".join(f"{key} {digest}\n" for key, digest in known.items()))


def files_for_run(path: Path, suffixes: Collection[str], what: str) -> Folder:
    """Return the files of a kind at `path`, a folder or one file, for a run trained on such files.

    Raises:
        InputError: there are none.
    """
    single = path.is_file()
    files, hidden = ([path], []) if single else walk(path)
    chosen = tuple(file for file in files if suffix_of(file) in suffixes)
    others = tuple(file for file in files if suffix_of(file) not in suffixes)
    if not chosen:
        name = path.name if single else f"{path.name}/"
        raise InputError(
            f"{name}: no {what} are in it, and the run was trained on {what}; check the path."
        )
    return Folder(path.parent if single else path, chosen, what, others, tuple(hidden))


def walk(folder: Path) -> tuple[list[Path], list[str]]:
    """Return every file below a folder, sorted, and what is passed over, as in `Folder.hidden`.

    These are hidden folders, those that systems make for themselves, and hidden files that have a
    suffix. Links are followed once.
    """
    files: list[Path] = []
    hidden: list[str] = []
    visited: set[str] = set()
    for place, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        passed = {name for name in folders if name in _HIDDEN or name.startswith(".")}
        hidden += sorted(passed)
        hidden += [f"./{name}" for name in sorted(names) if name[:1] == "." and Path(name).suffix]
        folders[:] = sorted(set(folders) - passed)
        files += [Path(place) / name for name in sorted(names) if not name.startswith(".")]
    return [path for path in files if path.is_file()], hidden


def cache_folder() -> Path:
    """Return where decoded files are kept: $UNDIFFUSE_CACHE, or ~/.cache/undiffuse."""
    return Path(os.environ.get("UNDIFFUSE_CACHE") or os.path.expanduser("~/.cache/undiffuse"))
