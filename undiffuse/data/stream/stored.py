"""Files by their place, here or in an object store: which ones a source names, and their bytes.

    shards/                        all files of a folder and its subfolders
    shards/part-*.parquet          those that match
    s3://bucket/{000..099}.tar     numbers with leading zeros, or {a,b,c}, as a shell has them
    [path, path, ...]              in Python

StoredFiles with :// are opened by fsspec, with whatever credentials the environment holds for it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from glob import glob
from itertools import takewhile
from pathlib import Path
from typing import Any, final
from urllib.parse import urlsplit

from undiffuse.atomic import atomic_file
from undiffuse.data.decoding import Unreadable
from undiffuse.data.folder import cache_folder, walk
from undiffuse.errors import InputError
from undiffuse.reading import said

END = 2**16  # bytes at the beginning and the end of a file that tell it from others
_MARK = "://"
_NUMBERS, _CHOICES = re.compile(r"\{(\d+)\.\.(\d+)\}"), re.compile(r"\{([^{}]*,[^{}]*)\}")
_PATTERN = re.compile(r"[*?\[]")
_NEEDED = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "http": "aiohttp", "https": "aiohttp"}
_NEEDED |= {"hf": "huggingface_hub", "abfs": "adlfs", "az": "adlfs"}
_MOST = 1_000_000  # files that braces may stand for


def is_remote(source: Any) -> bool:
    """Return whether a source is a place that fsspec opens, such as s3://bucket/file.

    >>> is_remote("s3://bucket/x.npy"), is_remote("x.npy")
    (True, False)
    """
    return isinstance(source, str) and _MARK in source


@final
@dataclass(frozen=True)
class StoredFile:
    """A file.

    Args:
        files: the file system of fsspec that it is on.
        path: its path there.
        name: what it is called in messages: its path below what all have in common.
        size: its bytes.
    """

    files: Any
    path: str
    name: str
    size: int

    @property
    def suffix(self) -> str:
        """The suffix of its name, in lower case."""
        return os.path.splitext(self.name)[1].lower()

    def read(self, start: int = 0, end: int | None = None) -> bytes:
        """Return the bytes from `start` to `end`. Raises InputError if they are not there."""
        end = self.size if end is None else end
        with store_refusals(self.name):
            content = self.files.cat_file(self.path, start=start, end=end)
        if len(content) == self.size != end - start:
            raise InputError(
                f"{self.name}: its server sends whole files alone, and no parts of them; copy the "
                "files to this machine, and give their folder."
            )
        if len(content) != end - start:
            raise InputError(
                f"{self.name}: has been cut short or changed since it was first read; restore it, "
                "and start again or continue with --resume."
            )
        return content

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """Give the open file; what goes wrong with reading it inside is an InputError."""
        with store_refusals(self.name), self.files.open(self.path, "rb") as stream:
            yield stream

    def state(self) -> str:
        """Return what changes when the file changes, as far as its store knows."""
        return str(self.files.ukey(self.path))

    def fingerprint(self) -> str:
        """Return a name for its name, its size, and the 64 KiB at either end of it."""
        digest = hashlib.sha256(f"{self.name}\0{self.size}\0".encode(errors="surrogateescape"))
        digest.update(self.read(0, min(self.size, END)))
        digest.update(self.read(max(0, self.size - END), self.size))
        return digest.hexdigest()[:32]

    def fetched(self) -> Path:
        """Return a copy in the cache, made if there is none."""
        folder = cache_folder() / "fetched" / self.fingerprint()[:24]
        copy = folder / self.name
        if not copy.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_file(copy) as unfinished, store_refusals(self.name):
                self.files.get_file(self.path, str(unfinished))
        return copy


@final
@dataclass(frozen=True)
class StoredFiles:
    """The files that a source names, in the order of their names.

    Args:
        name: what they are called in messages.
        source: what names them again: a text.
        files: the files.
        notes: on files that were passed over.
    """

    name: str
    source: str
    files: tuple[StoredFile, ...]
    notes: tuple[str, ...] = ()

    @cached_property
    def suffixes(self) -> set[str]:
        """Their suffixes in lower case."""
        return {place.suffix for place in self.files}

    @property
    def size(self) -> int:
        """The bytes of all."""
        return sum(place.size for place in self.files)


def find_files(source: Any) -> StoredFiles | None:
    """Return the files that a path, a pattern, a place or a list of these names; None for others.

    Raises:
        InputError: there are none, or they cannot be listed.
    """
    if isinstance(source, list | tuple):
        if not source or not all(isinstance(one, str | os.PathLike) for one in source):
            return None
        texts = [_absolute(os.fspath(one)) for one in source]
        if any("," in text or "{" in text for text in texts):
            raise InputError("data: the path of a file in a list has a comma or brace; rename it.")
        source = texts[0] if len(texts) == 1 else "{" + ",".join(texts) + "}"
    if not isinstance(source, str | os.PathLike) or not os.fspath(source):
        return None
    text = os.fspath(source)
    if not is_remote(text) and not text.startswith("{/"):
        text = _absolute(text)
        if not os.path.exists(text) and not (_expandable(text) or _PATTERN.search(text)):
            return None
    texts = _expanded(text)
    with store_refusals(text):
        found = [one for part in texts for one in _listed(part, exact=len(texts) > 1)]
    if not found:
        raise InputError(f"{text}: names no file; check it.")
    below = _common([path for _, path, _ in found])
    places = [StoredFile(files, path, path[below:], size) for files, path, size in found]
    places.sort(key=lambda place: place.name)
    return StoredFiles(_called(text), text, tuple(places))


def _absolute(text: str) -> str:
    return text if is_remote(text) else os.path.abspath(os.path.expanduser(text))


def _called(text: str) -> str:
    """What a source is called in messages."""
    if text.startswith("{"):
        return "files"
    if is_remote(text):
        return text
    return os.path.basename(text) + ("/" if os.path.isdir(text) else "")


def _expandable(text: str) -> bool:
    return bool(_NUMBERS.search(text) or _CHOICES.search(text))


def _expanded(text: str) -> list[str]:
    """Return the texts that braces stand for.

    >>> _expanded("a{08..10}.tar"), _expanded("{a,b}.npy")
    (['a08.tar', 'a09.tar', 'a10.tar'], ['a.npy', 'b.npy'])
    """
    if not is_remote(text) and os.path.exists(text):
        return [text]
    found = _NUMBERS.search(text) or _CHOICES.search(text)
    if found is None:
        return [text]
    if found.re is _NUMBERS:
        first, last = found[1], found[2]
        if not 0 <= int(last) - int(first) < _MOST:
            raise InputError(f"{text}: {found[0]} stands for no files, or too many; correct it.")
        parts = [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)]
    else:
        parts = found[1].split(",")
    texts = [text[: found.start()] + part + text[found.end() :] for part in parts]
    return [one for part in texts for one in _expanded(part)]


def _listed(text: str, *, exact: bool) -> Iterator[tuple[Any, str, int]]:
    """Yield the file system, the path and the size of each file that a text names."""
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    if not is_remote(text):  # in a path from here, "::" and the like are letters
        files = LocalFileSystem()
        for name in _here(text):
            yield files, name, os.path.getsize(name)
        return
    if urlsplit(text).password is not None:
        raise InputError(
            "data: an address with a password would be written into the run; put the password "
            "where the store looks for it, such as an environment variable."
        )
    files, path = url_to_fs(text)
    if _PATTERN.search(path):
        found = files.glob(path, detail=True)
    else:
        about = files.info(path)
        folder = about["type"] == "directory" or text.endswith("/")  # as a page of links is named
        found = files.find(path, detail=True) if folder and not exact else {path: about}
    for name, about in found.items():
        steps = name[len(os.path.dirname(path)) :].split("/")
        hidden = any(step.startswith((".", "_")) for step in steps)
        if about["type"] == "file" and not (hidden and len(found) > 1):
            size = about.get("size")
            size = files.info(name)["size"] if size is None else size
            if size is None:
                raise InputError(f"{name}: its server does not say how large it is; copy it here.")
            yield files, name, int(size)


def _here(path: str) -> list[str]:
    """The files of a folder or of a pattern on this machine; a file itself."""
    if os.path.isdir(path):
        found = [str(file) for file in walk(Path(path))[0]]
        own = [file for file in found if "/_" not in file[len(path) :]]
        return own or found
    if os.path.exists(path) or not _PATTERN.search(path):
        return [path]
    return [file for file in glob(path, recursive=True) if os.path.isfile(file)]


def _common(paths: Sequence[str]) -> int:
    """The length of the folders that all paths have in common."""
    folders = sorted(path.split("/")[:-1] for path in paths)
    both = takewhile(lambda pair: pair[0] == pair[1], zip(folders[0], folders[-1]))
    return sum(len(folder) + 1 for folder, _ in both)


@contextmanager
def store_refusals(what: str) -> Iterator[None]:
    """Say in a sentence on `what` why a place cannot be read."""
    try:
        yield
    except (InputError, Unreadable):
        raise
    except FileNotFoundError as problem:
        cause = problem.__cause__ if what.startswith("http") else None  # there it may be anything
        why = "" if cause is None else f" ({said(cause)})"
        raise InputError(f"{what}: no such file, folder or bucket{why}; check it.") from problem
    except PermissionError as problem:
        raise InputError(
            f"{what}: you may not read it ({said(problem)}); check its permissions, and the "
            "credentials in the environment."
        ) from problem
    except ImportError as problem:
        needed = _NEEDED.get(what.partition(_MARK)[0], "another package")
        raise InputError(
            f"{what}: needs {needed}; pip install {needed}, or 'undiffuse[remote]' for s3:// and "
            "http://."
        ) from problem
    except Exception as problem:  # whatever a store's own library raises
        raise InputError(
            f"{what}: could not be read ({said(problem)}); check it, the connection, and the "
            "credentials in the environment."
        ) from problem
