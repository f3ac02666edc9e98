"""Reading files that somebody else may have made: regular files, bounded in bytes and in depth.

A run that was sent, a file under a wrong name, a pipe: whatever is met, reading ends, takes bounded
memory, and what is wrong is an OSError or a ValueError whose text says it.
"""

from __future__ import annotations

import json
import math
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

MOST_BYTES = 64 * 2**20  # of a file of text; the config.json of 10,000 columns has a tenth
MOST_DEPTH = 64  # of JSON
MOST_DIGITS = 300  # of a whole number in it: each is a finite float too


def open_regular(path: str | Path) -> int:
    """Return a descriptor of a regular file, for reading; no pipe or device is waited for.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is no regular file.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    raise ValueError("not a regular file")


def read_text(path: str | Path, most: int = MOST_BYTES) -> str:
    """Return the text of a regular file in UTF-8 of at most so many bytes.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no regular file, larger, or no text.

    >>> read_text("/dev/zero")
    Traceback (most recent call last):
    ValueError: not a regular file
    """
    with os.fdopen(open_regular(path), "rb") as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"larger than {most // 2**20} MiB")
    return content.decode("utf-8")


def read_json(path: str | Path, most: int = MOST_BYTES) -> Any:
    """Return the tree in a file of JSON. Raises OSError and ValueError, as `read_text`."""
    return parse_json(read_text(path, most))


def parse_json(text: str | bytes) -> Any:
    """Return the tree in a text of JSON, at most 64 levels deep.

    Raises:
        ValueError: for other text, deeper trees, NaN and numbers beyond those of floats.

    >>> parse_json("[" * 100000)
    Traceback (most recent call last):
    ValueError: nested more than 64 levels deep
    """
    try:
        tree = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_float, parse_int=_whole
        )
    except RecursionError:
        raise ValueError(f"nested more than {MOST_DEPTH} levels deep") from None
    level = [tree]
    for _ in range(MOST_DEPTH):
        level = [item for node in level for item in _children(node)]
        if not level:
            return tree
    raise ValueError(f"nested more than {MOST_DEPTH} levels deep")


def _children(node: Any) -> Any:
    return node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _float(text: str) -> float:
    if math.isinf(value := float(text)):
        raise ValueError(f"{text[:20]} is larger than any number here may be")
    return value


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise ValueError(f"{text[:20]}... is larger than any number here may be")
    return int(text)


def number_in(value: Any) -> float | None:
    """Return the number that a text or another value is; None if it is none.

    >>> number_in(" 1e3"), number_in("a"), number_in(None)
    (1000.0, None, None)
    """
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def printable(name: str) -> str:
    r"""Return the name of a file as text that can be written anywhere.

    Bytes of it that are no UTF-8 are spelled out.

    >>> printable("caf\udce9.png")
    'caf\\xe9.png'
    """
    return os.fsencode(name).decode("utf-8", "backslashreplace")


@contextmanager
def utf8_path(path: Path) -> Iterator[Path]:
    """Yield a path to a file whose name is UTF-8, which not every library can do without.

    Raises:
        OSError: the file cannot be opened.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with path.open("rb") as stream:
            yield Path(f"/dev/fd/{stream.fileno()}")
    else:
        yield path


def said(problem: BaseException) -> str:
    """Return what went wrong with a file as a part of a sentence: one line, without its name."""
    reason = problem.strerror if isinstance(problem, OSError) else None
    return (reason or " ".join(str(problem).split()) or type(problem).__name__).rstrip(".")
