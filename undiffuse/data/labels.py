"""Labels as a person has them -> indices into named classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from undiffuse.errors import InputError


def index_labels(
    labels: Any, rows: int, name: str, classes: Sequence[str] = ()
) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Return labels as indices into classes.

    Args:
        labels: whole numbers or names, one per row, in whatever holds them: a list, an array, a
            series or categories of pandas, bytes; None for no labels.
        rows: the number of rows.
        name: what the data is called in messages.
        classes: the names of classes 0, 1, ...; the different labels in order, if empty.

    Returns:
        The indices (rows,) int64 and the names of the classes; (None, ()) for no labels.

    Raises:
        InputError: for labels that are not one per row, or neither whole numbers nor names.

    >>> index_labels(["cat", "dog", "cat"], 3, "pets")
    (array([0, 1, 0]), ('cat', 'dog'))
    """
    if labels is None:
        return None, ()
    given = np.asarray(labels)
    given = given.reshape(len(given)) if given.ndim and given.size == len(given) else given
    if given.shape != (rows,):
        raise InputError(
            f"{name}: labels of shape {given.shape} for {rows:,} rows; give one label for each row."
        )
    if given.dtype.kind in "OS":
        given = _from_objects(given)
    lacking = [
        i for i, label in enumerate(given.tolist()) if (label == label) is not True or label is None
    ]
    if lacking:
        raise InputError(
            f"{name}: {len(lacking):,} of {rows:,} rows have no label, the first of them row "
            f"{lacking[0] + 1:,}; give it one, or leave the row out."
        )
    if given.dtype.kind == "f" and np.array_equal(given, np.round(given)):
        given = given.astype(np.int64)
    if given.dtype.kind not in "biuU":
        raise InputError(
            f"{name}: the labels are neither whole numbers nor names; leave them out or convert "
            "them."
        )
    if classes and given.dtype.kind in "iu" and given.min() >= 0 and given.max() < len(classes):
        return given.astype(np.int64), tuple(str(name) for name in classes)
    names, index = np.unique(given, return_inverse=True)
    return index.reshape(-1).astype(np.int64), tuple(str(name) for name in names.tolist())


def _from_objects(given: np.ndarray) -> np.ndarray:
    """Return labels held as Python objects or bytes as numbers or text, if they are either."""
    labels = [
        label.decode("utf-8", "backslashreplace") if isinstance(label, bytes) else label
        for label in given.tolist()
    ]
    if all(isinstance(label, str) for label in labels):
        return np.array(labels, dtype=str)
    numbers = all(isinstance(label, int | float) for label in labels)
    return np.array(labels) if numbers else given


def as_labels(index: np.ndarray, classes: Sequence[str]) -> np.ndarray:
    """Return indices (N,) into classes as labels (N,): whole numbers if all classes are.

    "01" is no whole number, as it would come back as 1, which may be another class.

    >>> as_labels(np.array([1, 0]), ["-1", "7"]), as_labels(np.array([1, 0]), ["01", "1"])
    (array([ 7, -1]), array(['1', '01'], dtype='<U2'))
    """
    names = np.asarray(classes)[index]
    return names.astype(np.int64) if all(map(_is_whole, classes)) else names


def _is_whole(name: str) -> bool:
    """Return whether a name is that of a whole number of 64 bits, as Python writes it."""
    digits = name.removeprefix("-")
    return (
        digits.isascii()
        and digits.isdecimal()
        and len(digits) < 20
        and str(int(name)) == name
        and -(2**63) <= int(name) < 2**63
    )


def match_classes(
    labels: np.ndarray | None, own: Sequence[str], classes: Sequence[str]
) -> np.ndarray | None:
    """Return indices into the classes `own` as indices into `classes`, by name.

    Args:
        labels: (N,) indices into `own`, or None.
        own: the names of a source's classes.
        classes: the names of a run's classes.

    Returns:
        (N,) int64, -1 where the class is none of the run's; None without labels or classes.

    >>> match_classes(np.array([1, 0, 1]), ["ant", "bee"], ["bee", "cat"])
    array([ 0, -1,  0])
    """
    if labels is None or not classes:
        return None
    index = {name: i for i, name in enumerate(classes)}
    return np.array([index.get(name, -1) for name in own], dtype=np.int64)[labels]
