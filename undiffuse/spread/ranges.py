"""A folder that is made in ranges of rows, each of which is there whole or not at all.

OUT.part/identity.json    what the rows depend on: the same command goes on, another is refused
OUT.part/files/           the files of finished ranges, as they will lie in OUT
OUT.part/done/00007.json  range 7 is finished: written after its files
OUT                       what `files` becomes, with one rename, when all are
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from undiffuse.atomic import (
    atomic_files,
    check_replaceable,
    remove,
    replace_folder,
    write_json,
)
from undiffuse.errors import InputError
from undiffuse.reading import read_json

FEW, MOST = 64, 64  # ranges that are wanted at least, and batches in one at most
_IDENTITY = "identity.json"


@final
@dataclass(frozen=True)
class RowRange:
    """Range `number`: `count` rows from row `first` on."""

    number: int
    first: int
    count: int

    @property
    def stop(self) -> int:
        """The row after the last one."""
        return self.first + self.count


def ranges_of(rows: int, batch: int) -> list[RowRange]:
    """Return all ranges of so many rows, each of whole batches.

    There are enough of them to share out, and few enough to be worth a file each.

    >>> [one.count for one in ranges_of(250, 100)], len(ranges_of(10**7, 1024))
    ([100, 100, 50], 153)
    """
    batches = -(-rows // batch)
    size = batch * min(MOST, max(1, batches // FEW))
    starts = range(0, rows, size)
    return [RowRange(i, first, min(size, rows - first)) for i, first in enumerate(starts)]


@final
class ResumableFolder:
    """The folder OUT while it is made; see the module.

    Args:
        out: the folder.
        identity: plain data, all that the rows depend on.
        ranges: what it is made of.
        replaces: a regular expression; OUT is replaced if all its names match. None: OUT is made of
            the files, and not what becomes of them.
    """

    def __init__(
        self,
        out: Path,
        identity: Mapping[str, Any],
        ranges: list[RowRange],
        *,
        replaces: str | None,
    ) -> None:
        self.out, self.ranges, self.replaces = out, ranges, replaces
        self.identity = json.loads(json.dumps({**identity, "ranges": len(ranges)}))
        self.work = unfinished(out)
        self.files, self.done = self.work / "files", self.work / "done"

    def begin(self, *, replace: bool = False) -> None:
        """Begin, or go on with what the same command has begun.

        Args:
            replace: whether what another command began is replaced.

        Raises:
            InputError: for what another command began, saying what differs, and if OUT holds other
                files or cannot be written.
        """
        if self.replaces is not None:
            check_replaceable(self.out, self.replaces)
        found = self._found()
        if found is None and os.path.lexists(self.work):
            raise InputError(f"{self.work}: is in the way; choose another --out, or remove it.")
        different = [] if found is None else _differences(found, self.identity)
        if different and not replace:
            raise InputError(
                f"{self.work}: holds what another command began ({'; '.join(different)}); finish "
                "that one, or --overwrite to begin anew."
            )
        if found is not None and (different or not self.files.is_dir()):
            remove(self.work)
            found = None
        if found is None:
            write_json(self.work / _IDENTITY, self.identity)
        for folder in (self.files, self.done):
            folder.mkdir(exist_ok=True)

    def missing(self) -> list[RowRange]:
        """Return the ranges that are not finished."""
        return [one for one in self.ranges if not self._mark(one).is_file()]

    @contextmanager
    def writing(self, one: RowRange, facts: Mapping[str, Any] | None = None) -> Iterator[Path]:
        """Give a folder for the files of a range; on leaving, it is finished.

        `facts` are kept with it, as they are then.

        Raises:
            InputError: they cannot be written.
        """
        with atomic_files(self.files) as folder:
            yield folder
        write_json(self._mark(one), {"first": one.first, "count": one.count, **(facts or {})})

    def facts(self) -> list[dict[str, Any]]:
        """Return what is kept with each of the ranges, which are finished."""
        return [read_json(self._mark(one)) for one in self.ranges]

    def finish(self) -> None:
        """Let the folder appear as OUT, once all ranges are finished, and leave nothing else."""
        assert self.replaces is not None
        replace_folder(self.files, self.out, self.replaces)
        self.discard()

    def discard(self) -> None:
        """Remove all that is kept while OUT is made."""
        remove(self.work)

    def _mark(self, one: RowRange) -> Path:
        return self.done / f"{one.number:05d}.json"

    def _found(self) -> dict[str, Any] | None:
        """The identity of what was begun; {} if it is damaged, None if there is none."""
        if not self.work.is_dir():
            return None
        try:
            found = read_json(self.work / _IDENTITY)
        except FileNotFoundError:
            return None if os.listdir(self.work) else {}
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}


def unfinished(out: Path) -> Path:
    """Return the folder that holds OUT while it is made."""
    return out.with_name(out.name + ".part")


def _differences(found: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    names = [*asked, *(name for name in found if name not in asked)]
    return [
        f"{name} {_word(found.get(name))} there, {_word(asked.get(name))} now"
        for name in names
        if found.get(name) != asked.get(name)
    ]


def _word(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
