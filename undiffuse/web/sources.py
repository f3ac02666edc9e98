"""Data that a run can be trained on: named sets, uploads, and what is below the roots of --data.

    {"builtin": "digits"}    {"upload": ID}    {"folder": "ROOT/sub/file.csv"}

What `undiffuse info` finds of them is shown before anything is trained: facts, columns with their
histograms, a picture; of a few rows of a table or of vectors the rows themselves.
"""

from __future__ import annotations

import io
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from undiffuse.data import load
from undiffuse.data.named import FASHION_FOLDER, NAMED
from undiffuse.data.paths import HDF5_SUFFIXES, WORKBOOK_SUFFIXES, suffix_of
from undiffuse.errors import InputError
from undiffuse.shown import PICTURED, is_table, words_for
from undiffuse.web.faces import is_few, shown_cells
from undiffuse.web.limits import LISTED
from undiffuse.web.opened import identity
from undiffuse.web.problems import Refusal
from undiffuse.web.uploads import SUFFIXES, Uploads, clean

BINS = 24  # of a histogram
COUNTED = 10_000  # rows that histograms are made of
LOOKED = 20_000  # entries of a root that are looked at
DEEPEST = 3  # folders within a root that are listed
KEPT = 32  # sources whose facts are kept


@final
@dataclass(frozen=True)
class SourceFound:
    """What is found of a source: plain data, and a picture as PNG."""

    tree: dict[str, Any]
    preview: bytes


@final
class Sources:
    """The sources that a run can be trained on.

    Args:
        roots: folders of --data.
        uploads: what was sent.
    """

    def __init__(self, roots: Sequence[Path], uploads: Uploads) -> None:
        self.uploads = uploads
        self.roots: dict[str, Path] = {}
        for root in roots:
            name, number = root.name or "data", 2
            while name in self.roots:
                name, number = f"{root.name}-{number}", number + 1
            self.roots[name] = root
        self._facts: OrderedDict[Any, SourceFound] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def builtin(self) -> list[str]:
        """The names of data sets that are on this machine."""
        there = FASHION_FOLDER.is_dir()
        return [name for name in NAMED if there or not name.startswith("fashion")]

    def entries(self, root: str) -> list[str]:
        """Return what is below a root by relative paths: folders, and files that hold many rows.

        Of images and recordings their folder is listed, not each of them.
        """
        top, found, looked = self.roots[root], [], 0
        for place, folders, files in os.walk(top):
            folders[:] = sorted(name for name in folders if name[:1] != ".")
            depth = len(Path(place).relative_to(top).parts)
            looked += len(folders) + len(files)
            whole = (name for name in files if name[:1] != "." and _holds_rows(name))
            names = sorted([*folders, *whole])
            found += [os.path.relpath(os.path.join(place, name), top) for name in names[:LISTED]]
            if depth + 1 >= DEEPEST:
                folders[:] = []
            if len(found) >= LISTED or looked >= LOOKED:
                break
        return found[:LISTED]

    def path(self, kind: str, name: str) -> str:
        """Return what `load` takes for a source.

        Args:
            kind: "builtin", "upload" or "folder".
            name: its name, its id, or its path that begins with the name of a root.

        Raises:
            Refusal: there is none (404).
        """
        if kind == "builtin":
            if name not in self.builtin:
                raise Refusal(404, f"builtin: there is none of this name ({', '.join(NAMED)}).")
            return name
        if kind == "upload":
            return str(self.uploads.find(name).path)
        root, _, rest = name.partition("/")
        if root not in self.roots:
            raise Refusal(404, "folder: begins with no root of --data.")
        top = self.roots[root].resolve()
        hidden = any(part[:1] == "." for part in rest.split("/")) or "\0" in rest
        place = top if hidden else (top / rest.lstrip("/")).resolve()
        if hidden or not place.is_relative_to(top) or not place.exists():
            raise Refusal(404, "folder: there is no such file or folder below its root.")
        return str(place)

    def facts(self, kind: str, name: str) -> SourceFound:
        """Return what `undiffuse info` finds of a source; read once, as long as it is the same.

        Raises:
            Refusal: there is none (404).
            InputError: it cannot be read.
        """
        path = self.path(kind, name)
        with self._lock:  # one at a time: reading takes memory
            key = (kind, name, identity(Path(path)) if kind != "builtin" else None)
            if key not in self._facts:
                self._facts[key] = read_facts(path, self._hidden(kind, path))
                while len(self._facts) > KEPT:
                    self._facts.popitem(last=False)
            self._facts.move_to_end(key)
            return self._facts[key]

    def _hidden(self, kind: str, path: str) -> list[str]:
        """The folders whose places are not told."""
        return [] if kind == "builtin" else [str(Path(path).parent)]


def _holds_rows(name: str) -> bool:
    rows = (*SUFFIXES["arrays"], *SUFFIXES["tables"], *HDF5_SUFFIXES, *WORKBOOK_SUFFIXES)
    return suffix_of(Path(name)) in rows


def read_facts(path: str, hidden: Sequence[str]) -> SourceFound:
    """Read a source and describe it. Raises InputError if it cannot be read."""
    try:
        data = load(path)
        tree = data.describe()
        rows = data.loaded.rows.take(np.arange(min(len(data.loaded.rows), PICTURED)))
        picture = io.BytesIO()
        data.form.preview(rows).save(picture, format="PNG")
        few = is_few(data.transform, len(data.loaded.rows))
        names, lines = shown_cells(data.form, rows) if few else ([], [])
    except InputError as problem:
        raise InputError(clean(str(problem), *hidden)) from problem
    left_out = {"path", "notes", "columns"}
    facts = [
        [name.replace("_", " "), clean(words_for(value), *hidden)]
        for name, value in tree.items()
        if name not in left_out and not is_table(value)
    ]
    found = {
        "kind": data.loaded.kind,
        "facts": facts,
        "notes": [clean(note, *hidden) for note in tree["notes"]],
        "columns": [] if few else _columns(data, tree.get("columns")),
        "rows": {"columns": names, "cells": lines} if few else None,
        "classes": list(data.classes)[:LISTED],
    }
    return SourceFound(found, picture.getvalue())


def _columns(data: Any, described: Any) -> list[dict[str, Any]]:
    """The columns of a table, each with a histogram; none of other data."""
    if not isinstance(described, list):
        return []
    rows = data.loaded.rows.take(np.arange(min(len(data.loaded.rows), COUNTED)))
    shown = data.form.present(rows, drawn=False)
    columns = []
    for column in described[:LISTED]:
        name = str(column.get("name"))
        facts = {str(key).replace("_", " "): words_for(value) for key, value in column.items()
                 if value is not None}  # fmt: skip
        columns.append(
            {
                "name": name,
                "type": str(column.get("modelled as") or column.get("type") or ""),
                "facts": facts,
                "histogram": _histogram(_values(shown, name)),
            }
        )
    return columns


def _values(shown: Any, name: str) -> list[Any]:
    """The values of a column of a table, whichever library it is of; none if it has no such one."""
    try:
        column = shown[name]
        return list(column.to_pylist() if hasattr(column, "to_pylist") else column)
    except (KeyError, TypeError, ValueError, IndexError):
        return []


def _histogram(values: Sequence[Any]) -> Mapping[str, Any] | None:
    """Counts of numbers in bins of equal width, {"edges", "counts"}, or of words, {"values", ...}.

    None without values.
    """
    known = [value for value in values if value is not None and value == value]
    if not known:
        return None
    numbers = all(isinstance(one, int | float | np.number) for one in known)
    if numbers and not all(isinstance(one, bool | np.bool_) for one in known):
        finite = np.array(known, dtype=np.float64)
        finite = finite[np.isfinite(finite)]
        if not len(finite):
            return None
        counts, edges = np.histogram(finite, bins=min(BINS, max(1, len(np.unique(finite)))))
        return {"edges": edges.tolist(), "counts": counts.tolist()}
    words, counts = np.unique([str(one)[:100] for one in known], return_counts=True)
    order = np.argsort(-counts, kind="stable")[:BINS]
    return {"values": words[order].tolist(), "counts": counts[order].tolist()}
