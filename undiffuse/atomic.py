"""Writing so that a reader, or a crash, never meets half of a file.

Everything is written beside its destination under a hidden name, flushed to the disk, and moved
into place with one rename, which the file system does entirely or not at all. If anything fails in
between, what was there before is still there, nothing new is left behind, and the reason is raised
as an InputError in words. A link at the destination is replaced, never followed: what a run that
somebody sent links to is not written to.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from undiffuse.errors import InputError

REASONS = {
    errno.ENOSPC: "the disk is full; free some space or choose another place.",
    errno.EDQUOT: "your disk quota is used up; free some space or choose another place.",
    errno.EFBIG: "the file would be larger than is allowed here; choose another place.",
    errno.EACCES: "permission denied; choose a place that you may write to.",
    errno.EPERM: "the system does not permit writing here; choose a place that you may write to.",
    errno.EROFS: "the file system is read-only; choose a place that you may write to.",
    errno.ENOTDIR: "a part of this path is a file, not a folder; check the path.",
    errno.EISDIR: "this is a folder, and a file was to be written; choose another name.",
    errno.EEXIST: "a part of this path is a file, not a folder; check the path.",
    errno.ENAMETOOLONG: "the name is too long; choose a shorter one.",
}


@contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to; on leaving, it becomes `path`, replacing a file there.

    The temporary path has the same name, in a hidden folder, with what a library may write beside
    it. Missing folders are made. If anything is raised inside, nothing is left behind.

    Raises:
        InputError: the place cannot be written to, or the disk fills up.

    >>> with atomic_file("/dev/null/x.txt") as temporary:
    ...     pass
    Traceback (most recent call last):
    undiffuse.errors.InputError: /dev/null/x.txt: could not be written: a part of this path is a ...
    """
    with _staged(path, end=_LONGEST) as (target, folder):
        if target.is_dir():
            raise IsADirectoryError(errno.EISDIR, "is a folder")
        folder.mkdir()
        temporary = folder / target.name
        mode = _mode_of_new_files(temporary)
        yield temporary
        _finish(temporary, mode)
        os.replace(temporary, target)
        _remove(folder)


@contextmanager
def atomic_folder(path: str | Path, *, replace: str = "") -> Iterator[Path]:
    """Give a temporary folder to write into; on leaving, it becomes `path`.

    Args:
        path: the folder to be.
        replace: a regular expression such as "[0-9]{5}[.]png". A folder that is already there is
            replaced if every name in it matches this in full.

    Raises:
        InputError: a folder there holds something else (nothing is written then), the place cannot
            be written to, or the disk fills up.
    """
    with _staged(path) as (target, temporary):
        check_replaceable(target, replace, path)
        temporary.mkdir()
        mode = _mode_of_new_files(temporary / "mode")
        yield temporary
        for folder, _, names in os.walk(temporary):
            for name in names:
                _finish(Path(folder) / name, mode)
            _flush_folder(Path(folder))
        _swap(temporary, target)


@contextmanager
def atomic_files(path: Path) -> Iterator[Path]:
    """Give a temporary folder; on leaving, each file in it moves into the folder `path`, whole.

    Files of the same names there are replaced. If anything is raised inside, none is moved.

    Raises:
        InputError: the place cannot be written to, or the disk fills up.
    """
    with _staged(path) as (target, temporary):
        temporary.mkdir()
        mode = _mode_of_new_files(temporary / "mode")
        yield temporary
        target.mkdir(exist_ok=True)
        for name in sorted(os.listdir(temporary)):
            _finish(temporary / name, mode)
            os.replace(temporary / name, target / name)
        _flush_folder(target)
        _remove(temporary)


def check_replaceable(target: Path, replace: str, called: str | Path | None = None) -> None:
    """Raise InputError unless nothing is there, or a folder of names that match `replace` in full.

    Args:
        target: the folder to be.
        replace: a regular expression such as "[0-9]{5}[.]png".
        called: what it is called in errors; None: as it is.
    """
    called = target if called is None else called
    if target.exists():
        if not target.is_dir():
            raise InputError(
                f"{called}: this is a file, and a folder was to be written; choose another name."
            )
        others = sorted(name for name in os.listdir(target) if not re.fullmatch(replace, name))
        if others:
            raise InputError(
                f"{called}: the folder holds other files ({others[0]}, ...); choose another name."
            )


def replace_folder(made: Path, path: Path, replace: str) -> None:
    """Put a folder that is whole, on the same file system, in the place of `path`.

    Raises:
        InputError: as `check_replaceable` does, and if it cannot be moved.
    """
    with _staged(path) as (target, _):
        check_replaceable(target, replace, path)
        _swap(made, target)


def write_json(path: Path, tree: Any) -> None:
    """Write plain data as JSON, whole or not at all; NaN and infinite numbers are a ValueError."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(tree, indent=2, allow_nan=False) + "\n", encoding="utf-8")


@contextmanager
def passing() -> Iterator[None]:
    """Within, what this thread writes need not outlast a crash of the machine: nothing is flushed.

    It is as whole as ever to who reads it: for results that are handed on and removed.
    """
    token = _LASTING.set(False)
    try:
        yield
    finally:
        _LASTING.reset(token)


@contextmanager
def _staged(path: str | Path, end: int | None = None) -> Iterator[tuple[Path, Path]]:
    """Give (target, temporary) in one folder; on failure, clean up and raise it in words.

    Of the name, the temporary one has the last `end` bytes; all, if the name has to come back.
    """
    given = Path(os.path.expanduser(path))
    given = given if given.name not in ("", "..") else Path(os.path.realpath(given))
    target = Path(os.path.realpath(given.parent)) / given.name  # a link there is replaced itself
    temporary = target.with_name(_beside(target.name, end))
    made: list[Path] = []
    sweep(target.parent)
    try:
        for folder in reversed([folder for folder in target.parents if not folder.exists()]):
            folder.mkdir(exist_ok=True)
            made.append(folder)
        yield target, temporary
        _flush_folder(target.parent)
    except BaseException as problem:
        _remove(temporary)
        for folder in reversed(made):
            if not any(folder.iterdir()):
                folder.rmdir()
        # Libraries in Rust raise exceptions of their own, with this in their text.
        if isinstance(problem, OSError) or "(os error " in str(problem):
            raise InputError(f"{path}: could not be written: {_reason(problem)}") from problem
        raise


def sweep(folder: Path) -> None:
    """Remove what processes that were killed left in `folder`; complete a swap that was cut short.

    Looks once per process into each folder.
    """
    if folder in _SWEPT:
        return
    _SWEPT.add(folder)
    with suppress(OSError):
        names = sorted(os.listdir(folder))
        for name in names:
            match = _TEMPORARY.fullmatch(name)
            if match is None or match["host"] != _HOST or _runs(int(match["process"])):
                continue
            if match["old"] and not os.path.lexists(folder / match["name"]):
                os.replace(folder / name, folder / match["name"])
            else:
                _remove(folder / name)


def contents(folder: Path) -> list[str]:
    """Return the names in a folder, but those that `sweep` removes or will remove."""
    sweep(folder)
    return sorted(name for name in os.listdir(folder) if not _TEMPORARY.fullmatch(name))


def remove(path: Path) -> None:
    """Remove a file or a folder, if it is there, so that none ever sees half of a folder."""
    if path.is_dir() and not path.is_symlink():
        aside = path.with_name(_beside(path.name))
        os.replace(path, aside)
        path = aside
    _remove(path)


def _beside(name: str, end: int | None = None) -> str:
    """Return a name for what will become, or was, `name`."""
    kept = name if end is None else os.fsdecode(os.fsencode(name)[-end:])
    return f".{_MINE}-{uuid.uuid4().hex[:8]}.{kept}"


_LONGEST = 200  # bytes; a file system takes 255
_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:4]
_MINE = f"{_HOST}-{os.getpid()}"
_TEMPORARY = re.compile(
    r"[.](?P<host>[0-9a-f]{4})-(?P<process>\d+)-[0-9a-f]{8}[.](?P<name>.+?)(?P<old>[.]old)?"
)
_SWEPT: set[Path] = set()
_LASTING = ContextVar("lasting", default=True)


def _forked() -> None:
    global _MINE
    _MINE = f"{_HOST}-{os.getpid()}"
    _SWEPT.clear()


os.register_at_fork(after_in_child=_forked)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _swap(temporary: Path, target: Path) -> None:
    """Put one folder in the place of another, which is removed, or comes back if that fails."""
    if not os.path.lexists(target):
        os.replace(temporary, target)
        return
    aside = temporary.with_name(temporary.name + ".old")
    os.replace(target, aside)
    try:
        os.replace(temporary, target)
    except BaseException:
        os.replace(aside, target)
        raise
    _remove(aside)


def _mode_of_new_files(path: Path) -> int:
    """The permissions of a file that is made at `path`, which nothing is at; it is removed again.

    Reading the umask would set it for a moment, for the files of all other threads too.
    """
    handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
    try:
        return os.fstat(handle).st_mode & 0o777
    finally:
        os.close(handle)
        path.unlink()


def _finish(path: Path, mode: int) -> None:
    """Flush a file, and set its mode: some libraries write files that only their owner can read."""
    path.chmod(mode)
    _flush(path)


def _flush(path: Path) -> None:
    if not _LASTING.get():
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _flush_folder(path: Path) -> None:
    with suppress(OSError):  # not every system can, and the files in it are safe already
        _flush(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        path.unlink()


def _reason(problem: BaseException) -> str:
    number = problem.errno if isinstance(problem, OSError) else None
    for known, reason in REASONS.items():
        if number == known or f"(os error {known})" in str(problem):
            return reason
    return f"{(problem.strerror if isinstance(problem, OSError) else None) or problem}."
