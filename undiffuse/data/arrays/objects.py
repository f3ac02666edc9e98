"""Data that is already in Python: arrays, tensors, (x, labels) pairs, and data sets with items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from undiffuse.data.arrays.read import from_array
from undiffuse.data.rows import Loaded
from undiffuse.errors import InputError
from undiffuse.interfaces import Progress

_ARRAY_MODES = ("1", "L", "LA", "RGB", "RGBA", "I;16", "I", "F")  # of Pillow: values as they are


def read_object(
    source: Any,
    progress: Progress | None = None,
    *,
    axes: str | None = None,
    condition: Sequence[str] | None = None,
    maps: Mapping[str, np.ndarray] | None = None,
) -> Loaded:
    """Return an object as data. A data set is read once, in order, and held in memory.

    Args:
        source: an array, a tensor, a pair (x, y) of rows and labels or conditions, a list, or
            anything with a length whose items are arrays, tensors, Pillow images or pairs of one
            with a label or a number, such as a map-style `torch.utils.data.Dataset`.
        progress: called after each item.
        axes: what its axes are; None to infer it.
        condition: names of the conditions, as for `from_array`.
        maps: other conditions, likewise.

    Raises:
        InputError: anything else, or items that differ in shape or type; see also `from_array`.
    """
    shared: dict[str, Any] = {"axes": axes, "condition": condition, "maps": maps}
    shared["progress"] = progress
    if isinstance(source, tuple) and len(source) == 2 and not np.isscalar(source[0]):
        rows, labels = source
        tensors = torch.Tensor | np.ma.MaskedArray
        labels = to_array(labels) if isinstance(labels, tensors) else labels
        return from_array(to_array(rows), name="data", labels=labels, **shared)
    if isinstance(source, np.ndarray | torch.Tensor):
        return from_array(to_array(source), name="data", **shared)
    if isinstance(source, torch.utils.data.IterableDataset):
        raise InputError(
            "data: a data set without numbered items; give a map-style one, or the stacked arrays."
        )
    numbered = hasattr(source, "__getitem__") and hasattr(source, "__len__")  # Dataset is no class
    if not numbered or isinstance(source, dict | bytes):
        raise InputError(
            f"data: a {type(source).__name__} cannot be read; give a path, a name, an array, "
            "a tensor, a pair (x, labels), a data frame or a torch Dataset."
        )
    return _read_items(source, **shared)


def to_array(values: Any) -> np.ndarray:
    """Return a tensor, image, array or sequence as an array; bfloat16 becomes float32.

    Masked values become NaN.

    >>> to_array(torch.ones(2, dtype=torch.bfloat16)).dtype
    dtype('float32')
    """
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().resolve_conj()
        return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
    if isinstance(values, Image.Image) and values.mode not in _ARRAY_MODES:
        values = values.convert("RGBA" if values.has_transparency_data else "RGB")
    if isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values):
        floats = values.dtype if values.dtype.kind == "f" else np.float64
        return np.ma.filled(values.astype(floats), np.nan)
    return np.asarray(values)


def _read_items(source: Any, *, progress: Progress | None, **shared: Any) -> Loaded:
    total = len(source)
    if total == 0:
        raise InputError("data: it has no rows; there is nothing to learn.")
    rows = np.empty(0)
    labels: list[Any] = []
    for i in range(total):
        item, label = _split(source[i])
        value = to_array(item)
        if i == 0:
            rows = np.empty((total, *value.shape), value.dtype)
        if (value.shape, value.dtype) != (rows.shape[1:], rows.dtype):
            raise InputError(
                f"data: item {i} has shape {value.shape} and type {value.dtype}, "
                f"item 0 has {rows.shape[1:]} and {rows.dtype}; make them equal."
            )
        rows[i] = value
        labels.append(label)
        if progress:
            progress(i + 1, total, "reading data")
    notes = ()
    if any(label is None for label in labels):
        if labels[0] is not None:
            notes = ("data: the second part of each item is no class label and is left out.",)
        labels = []
    names = getattr(
        source, "classes", ()
    )  # torchvision's data sets have it, torch's class does not
    named = isinstance(names, Sequence) and not isinstance(names, str)
    return from_array(
        rows,
        name="data",
        labels=labels or None,
        classes=tuple(map(str, names)) if named else (),
        notes=notes,
        progress=progress,
        **shared,
    )


def _split(item: Any) -> tuple[Any, Any]:
    """Return (value, label) of an item; the label is None unless it is one number or name."""
    if isinstance(item, dict):
        raise InputError(
            f"data: its items are dictionaries ({', '.join(map(str, item))}); "
            "give (value, label) pairs."
        )
    first, *rest = item if isinstance(item, tuple | list) and item else (item,)
    if not isinstance(first, np.ndarray | torch.Tensor | Image.Image):
        return item, None
    label = to_array(rest[0]) if rest else np.empty(0)
    return first, label.item() if label.size == 1 else None
