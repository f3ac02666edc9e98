"""What the files of a folder are for, and of which class: by their subfolders or by a list.

*Parts.* train/, val/ and test/ (or training, valid, validation, dev, testing), as the outermost
folders that differ or as the ones within each class, are no classes: train is trained on, val is
held out in training, and test is kept for evaluation alone.

*Classes* are the outermost folders that differ, whatever lies deeper in them; the next level if
each of those holds the same folders (2023/cat, 2023/dog, 2024/cat, 2024/dog).

*Lists.* A file metadata.csv or metadata.jsonl, as Hugging Face's imagefolder has them, names files
relative to where it lies in its column file_name; so does any other CSV, TSV or JSON-lines file of
which one column holds names of files. The class is its column "label", or the one asked for.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import numpy as np

from undiffuse.data.conditions import rows_of
from undiffuse.data.folder import Folder, are_few, digest
from undiffuse.data.given import Given
from undiffuse.data.paths import TEXT_SUFFIXES
from undiffuse.data.split import HELD_OUT, TEST, TRAINING
from undiffuse.errors import InputError
from undiffuse.reading import printable, said

_PARTS = {
    **dict.fromkeys(("train", "training"), TRAINING),
    **dict.fromkeys(("val", "valid", "validation", "dev"), HELD_OUT),
    **dict.fromkeys(("test", "testing"), TEST),
}
_LABELS = ("label", "labels", "class", "category")  # columns of classes, unless one is asked for
_SHOWN = 3  # names in a sentence


@final
@dataclass(frozen=True)
class Arranged:
    """The files of a folder that are used, and what is known of each.

    Args:
        folder: the folder with these files alone.
        classes: the class of each file; None if there are none.
        parts: TRAINING, HELD_OUT or TEST for each file; None if it is not said.
        notes: what was decided and what is left out, one sentence each.
        listed: changes when a list of labels does; "" without one.
        given: columns of conditions, a value for each file.
    """

    folder: Folder
    classes: list[str] | None
    parts: np.ndarray | None
    notes: tuple[str, ...] = ()
    listed: str = ""
    given: tuple[Given, ...] = ()

    def classes_of(self, files: np.ndarray) -> list[str] | None:
        """Return the class of each row, given which file it is of."""
        return None if self.classes is None else [self.classes[i] for i in files]

    def parts_of(self, files: np.ndarray) -> np.ndarray | None:
        """Return what each row is for, given which file it is of."""
        return None if self.parts is None else self.parts[files]

    def given_of(self, files: np.ndarray) -> tuple[Given, ...]:
        """Return the conditions of each row, given which file it is of."""
        return tuple(replace(one, codes=one.codes[files]) for one in self.given)

    def fingerprint(self, folder_fingerprint: str) -> str:
        """Return a name for what the files hold, how they are labelled, and their conditions."""
        more = self.listed + "".join(
            f"\0{one.name}\0{one.categories}\0{one.codes.tolist()}" for one in self.given
        )
        return digest(folder_fingerprint + more)[:16] if more else folder_fingerprint


def arrange(
    folder: Folder, labels: str | None = None, condition: Sequence[str] | None = None
) -> Arranged:
    """Return the files of a folder with their classes, parts and conditions.

    Args:
        folder: the files.
        labels: a column of the list among them, a file with such a list, or "FILE:COLUMN".
        condition: columns of such a list, the first of which may be "FILE:COLUMN"; None: none.

    Raises:
        InputError: there is no such column or list, or it does not fit the files.
    """
    if condition is None:
        return _classed(folder, labels, ())
    file, separator, first = condition[0].rpartition(":")
    names = (first, *condition[1:])
    arranged = _classed(folder, labels, names)
    given, notes = _given(folder, arranged.folder, names, f"{file}{separator}{first}")
    return replace(arranged, given=given, notes=(*arranged.notes, *notes))


def _classed(folder: Folder, labels: str | None, used: Sequence[str]) -> Arranged:
    """Return the files of a folder with their classes and parts; `used` columns are no classes."""
    steps = [path.relative_to(folder.path).parts[:-1] for path in folder.files]
    folder, steps, parts, notes = _parted(folder, steps)
    lists, column = _lists_for(folder, labels)
    if lists:
        files = {one.path for one in lists}
        folder = replace(folder, others=tuple(one for one in folder.others if one not in files))
        if (listed := _listed(folder, lists, column, used)) is not None:
            kept = listed.kept
            return Arranged(
                replace(folder, files=tuple(folder.files[i] for i in kept)),
                listed.classes,
                None if parts is None else parts[kept],
                (*notes, *listed.notes),
                digest("\0".join(listed.classes)),
            )
        if not used:
            notes.append(_unused(folder, lists))
    classes, more = _classes(folder, steps)
    return Arranged(folder, classes, parts, (*notes, *more))


Steps = list[tuple[str, ...]]  # the folders that each file lies in, outermost first


def _parted(folder: Folder, steps: Steps) -> tuple[Folder, Steps, np.ndarray | None, list[str]]:
    """Return the folder, the steps without parts, the parts (None if there are none), and notes."""
    level = 0
    while steps and all(len(step) > level for step in steps):
        names = {step[level] for step in steps}
        if len(names) > 1:
            break
        level += 1
    for place in (level, level + 1):  # above the classes, or within each
        here = [step[place].lower() if len(step) > place else "" for step in steps]
        known = {_PARTS[name] for name in here if name in _PARTS}
        all_known = set(here) <= set(_PARTS)
        if len(set(here)) > 1 and all_known and TRAINING not in known:
            named = " and ".join(sorted({step[place] for step in steps}))
            note = (
                f"{folder.name}: {named} are taken for parts of one data set, not for classes; "
                "without train/, all files are read together."
            )
            return folder, [_without(step, place) for step in steps], None, [note]
        if TRAINING not in known or len(known) < 2 or (place > level and not all_known):
            continue
        used = [i for i, name in enumerate(here) if name in _PARTS]
        parts = np.array([_PARTS[here[i]] for i in used])
        notes = [_parts_note(folder, {steps[i][place] for i in used}, known)]
        if len(used) < len(here):
            outside = f"{len(here) - len(used):,} {folder.what} lie outside of these"
            notes.append(f"{folder.name}: {outside} and are not read.")
        kept = replace(folder, files=tuple(folder.files[i] for i in used))
        return kept, [_without(steps[i], place) for i in used], parts, notes
    return folder, steps, None, []


def _without(step: tuple[str, ...], place: int) -> tuple[str, ...]:
    return step[:place] + step[place + 1 :]


def _parts_note(folder: Folder, names: set[str], known: set[int]) -> str:
    """A sentence on what each part is used for."""
    use = {
        TRAINING: "is trained on",
        HELD_OUT: "is held out in training",
        TEST: "is kept for undiffuse evaluate",
    }
    said = [
        f"{' and '.join(of)} {use[part]}"
        for part in sorted(known)
        if (of := sorted(name + "/" for name in names if _PARTS.get(name.lower()) == part))
    ]
    return f"{folder.name}: {', '.join(said)}."


# --- classes by folders


def _classes(folder: Folder, steps: Steps) -> tuple[list[str] | None, list[str]]:
    """Return the class of each file by its folders, and notes."""
    while steps and all(steps) and len({step[0] for step in steps}) == 1:
        steps = [step[1:] for step in steps]
    outside = sum(not step for step in steps)
    if 0 < outside < len(steps):
        note = (
            f"{folder.name}: {outside:,} {folder.what} lie outside of the subfolders, so these are "
            "not used as classes."
        )
        return None, [note]
    if outside or not steps:
        return None, []
    inner = {
        name: {step[1:2] for step in steps if step[0] == name} for name in {s[0] for s in steps}
    }
    first, *others = inner.values()
    crossed = () not in first and len(first) > 1 and all(other == first for other in others)
    level = 1 if crossed else 0
    notes = []
    if crossed:
        above = _some(sorted(inner), len(inner))
        notes.append(
            f"{folder.name}: each of {above} holds the same folders, which are the classes; they "
            "are none."
        )
    elif any(len(deeper) > 1 for deeper in inner.values()):
        notes.append(
            f"{folder.name}: the classes are the {len(inner):,} outermost folders; those in them "
            "are not told apart."
        )
    return [printable(step[level]) for step in steps], notes


# --- lists


@dataclass(frozen=True)
class _Listed:
    """The positions of the files that lists name, their classes, and notes."""

    kept: list[int]
    classes: list[str]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _List:
    """A file that names others: its rows, and the column of their names."""

    path: Path
    rows: list[dict[str, Any]]
    names: str
    base: Path  # that names are relative to

    @property
    def columns(self) -> list[str]:
        """Its other columns."""
        return [name for name in self.rows[0] if name != self.names]

    def label(self, column: str | None, used: Sequence[str]) -> str | None:
        """The column of classes: as asked for, called label or alike, or the only other one."""
        if column is not None:
            return column if column in self.columns else None
        others = [name for name in self.columns if name not in used]
        by_name = {name.lower(): name for name in reversed(others)}
        found = next((by_name[name] for name in _LABELS if name in by_name), None)
        alone = len(others) == 1 and not self.path.stem.startswith("metadata")
        return found or (others[0] if alone else None)


def _lists_for(
    folder: Folder, labels: str | None, option: str = "--data.labels"
) -> tuple[list[_List], str | None]:
    """Return the lists of a folder and the column that is asked for by an option, if one is."""
    file, _, column = (labels or "").rpartition(":")
    for path, of in ((labels, None), (file, column)):
        if path and Path(path).suffix.lower() in TEXT_SUFFIXES:
            place = next(
                (p for p in (folder.path / path, Path(path).expanduser()) if p.is_file()), None
            )
            if place is None:
                raise InputError(f"{option} {labels}: no such file; check the path.")
            found = _read_list(place.resolve(), folder)
            if found is None:
                raise InputError(
                    f"{place.name}: no column of it holds names of the {folder.what} of "
                    f"{folder.name}; name them as they lie in the folder."
                )
            return [found], of
    among = [path for path in folder.others if path.suffix.lower() in TEXT_SUFFIXES]
    named = [path for path in among if path.stem.lower() == "metadata"]
    lists = [found for path in named or among if (found := _read_list(path, folder)) is not None]
    if not lists and labels is not None:
        map_folder = f", or {labels}/ for a folder of arrays" if Path(labels).is_dir() else ""
        raise InputError(
            f"{option} {labels}: {folder.name} holds no metadata.csv, metadata.jsonl or other "
            f"CSV file that names its {folder.what}; write one, or give FILE:COLUMN{map_folder}."
        )
    if not named and len(lists) > 1 and len({one.path.parent for one in lists}) < len(lists):
        raise InputError(
            f"{folder.name}: {_some([one.path.name for one in lists], len(lists))} name its "
            f"{folder.what}; say which with {option} FILE:COLUMN."
        )
    return lists, labels


def _listed(
    folder: Folder, lists: Sequence[_List], column: str | None, used: Sequence[str]
) -> _Listed | None:
    """Return the files that lists name with their classes; None if none has a column of these."""
    columns = [one.label(column, used) for one in lists]
    if column is not None and None in columns:
        lacks = lists[columns.index(None)]
        raise InputError(
            f"{lacks.path.name}: it has no column {column}; it has {', '.join(lacks.columns)}."
        )
    if all(name is None for name in columns):
        return None
    classes: dict[int, str] = {}
    notes: list[str] = []
    for one, name in zip(lists, columns):
        if name is not None:
            classes |= _labels_in(folder, one, name, notes, used)
    unnamed = len(folder.files) - len(classes)
    if unnamed:
        what = next(iter(folder.called[i] for i in range(len(folder.files)) if i not in classes))
        file = "file of labels" if len(lists) > 1 else lists[0].path.name
        notes.append(
            f"{folder.name}: {unnamed:,} of {len(folder.files):,} {folder.what} are not named in "
            f"{file} and are left out ({what}{', ...' * (unnamed > 1)})."
        )
    kept = sorted(classes)
    return _Listed(kept, [classes[i] for i in kept], tuple(notes))


def _labels_in(
    folder: Folder, one: _List, column: str, notes: list[str], used: Sequence[str]
) -> dict[int, str]:
    """Return position -> class by a list; adds to the notes."""
    name, place = one.path.name, _Places(folder, one.base)
    classes: dict[int, str] = {}
    lost: list[str] = []
    again: list[str] = []
    for row in one.rows:
        file, label = str(row.get(one.names)), row.get(column)
        position = place.of(file)
        if position is None:
            lost.append(file)
            continue
        text = "" if label is None else str(label).strip()
        if not text:
            raise InputError(f"{name}: {file} has no {column}; give it one, or take its row out.")
        if position in classes:
            again.append(file)
            if classes[position] != text:
                raise InputError(
                    f"{name}: {file} is named twice, with {column} {classes[position]} and {text}; "
                    "take one of the rows out."
                )
        classes[position] = text
    if lost:
        are = "is" if len(lost) == 1 else "are"
        counts = (
            f"{len(lost):,} of {len(one.rows):,} files that it names {are} not in {folder.name}"
        )
        sentence = f"{name}: {counts} ({_some(lost, len(lost))})"
        if not classes or not are_few(len(lost), len(one.rows)):
            raise InputError(f"{sentence}; put them there, or correct the names.")
        notes.append(f"{sentence}; the others are used.")
    if again:
        shown = _some(again, len(again))
        times = "name occurs" if len(again) == 1 else "names occur"
        notes.append(f"{name}: {len(again):,} {times} twice, with one {column} ({shown}).")
    rest = [other for other in one.columns if other not in (column, *used)]
    unused = f"; not used: {_some(rest, len(rest))}" if rest else ""
    count = len(set(classes.values()))
    notes.append(f"{name}: its column {column} has the {count:,} classes{unused}.")
    return classes


def _given(
    folder: Folder, kept: Folder, names: Sequence[str], asked: str
) -> tuple[tuple[Given, ...], tuple[str, ...]]:
    """Return columns of the lists of a folder as conditions of the files that are kept, and notes.

    What no list says of a file is not known.
    """
    notes = []
    lists, _ = _lists_for(folder, asked, "--condition")
    values: dict[str, list[Any]] = {name: [None] * len(kept.files) for name in names}
    named = np.zeros(len(kept.files), bool)
    for one in lists:
        place = _Places(kept, one.base)
        for name in names:
            if name not in one.columns:
                raise InputError(
                    f"{one.path.name}: it has no column {name}; it has {', '.join(one.columns)}."
                )
        for row in one.rows:
            if (position := place.of(str(row.get(one.names)))) is not None:
                named[position] = True
                for name in names:
                    values[name][position] = row.get(name)
    where = lists[0].path.name
    if not named.all():
        count = int((~named).sum())
        notes.append(
            f"{kept.name}: {count:,} of {len(named):,} {kept.what} are not named in {where}; their "
            "conditions are taken as not known."
        )
    return tuple(Given.of(name, of, where) for name, of in values.items()), tuple(notes)


def _unused(folder: Folder, lists: Sequence[_List]) -> str:
    """A sentence on lists without a column of classes."""
    one = lists[0]
    columns = _some(one.columns, len(one.columns)) or "no other column"
    return (
        f"{folder.name}: {one.path.name} has {columns}, none of them called label; "
        "for one as classes give --data.labels COLUMN."
    )


class _Places:
    """The positions of the files of a folder by how a list may name them."""

    def __init__(self, folder: Folder, base: Path) -> None:
        self.exact: dict[str, int] = {}
        alone: dict[str, list[int]] = {}
        for i, path in enumerate(folder.files):
            for root in (base, folder.path):
                if path.is_relative_to(root):
                    self.exact.setdefault(path.relative_to(root).as_posix(), i)
            for name in {
                path.name,
                path.stem,
                path.relative_to(folder.path).with_suffix("").as_posix(),
            }:
                alone.setdefault(name, []).append(i)
        self.alone = {name: found[0] for name, found in alone.items() if len(found) == 1}

    def of(self, name: str) -> int | None:
        """Return the position of a file by its path, with its suffix or not, or by its name."""
        path = name.strip().replace("\\", "/").removeprefix("./")
        found = self.exact.get(path)
        return (
            self.alone.get(path, self.alone.get(path.rpartition("/")[2]))
            if found is None
            else found
        )


def _read_list(path: Path, folder: Folder) -> _List | None:
    """Return what a file lists; None if it names no files. Raises InputError if it is damaged."""
    must = path.stem.lower() == "metadata"
    try:
        rows = rows_of(path)
    except (OSError, ValueError, csv.Error) as problem:
        if not must:
            return None
        raise InputError(
            f"{path.name}: could not be read ({said(problem)}); correct it."
        ) from problem
    if not rows:
        return None
    place = _Places(folder, path.parent)
    names = next((name for name in rows[0] if name.lower() == "file_name"), None)
    if names is None:
        counts = Counter(
            {c: sum(place.of(str(row.get(c))) is not None for row in rows) for c in rows[0]}
        )
        names, count = counts.most_common(1)[0]
        if 2 * count < len(rows):
            return None
    return _List(path, rows, names, path.parent)


def _some(names: Sequence[str], count: int) -> str:
    """Return the first few of names, and that there are more."""
    return ", ".join(map(printable, names[:_SHOWN])) + ", ..." * (count > _SHOWN)
