"""The laws of kinds of data, on a source that the kind reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from undiffuse.data import KINDS, Data, conform, restore
from undiffuse.data.folder import Folder, walk
from undiffuse.data.kind import Kind
from undiffuse.data.paths import suffix_of
from undiffuse.interfaces import Form, Transform
from undiffuse.laws.broken import close, hold


@final
@dataclass(frozen=True)
class Read:
    """A kind, a source as the kind takes it, and the data that it read."""

    kind: Kind
    source: Any
    data: Data


def read_by(kind: Kind, source: Any) -> Read:
    """Return what the kind reads of a source: a path, or an object."""
    if isinstance(source, str | Path) and Path(source).exists():
        source = Path(source).resolve()
    hold(source_fits(kind, source), "it does not read this source")
    if isinstance(source, Path) and source.is_dir():
        files, hidden = walk(source)
        own = tuple(file for file in files if suffix_of(file) in kind.folder_suffixes)
        others = tuple(file for file in files if file not in own)
        source = Folder(source, own, kind.name, others, tuple(hidden))
    loaded = kind.read(source)
    hold(len(loaded.rows) >= 2, f"it read {len(loaded.rows)} rows; give a source of more")
    return Read(kind, source, Data(loaded, held_out=0.3))


def source_fits(kind: Kind, source: Any) -> bool:
    """Return whether the kind says that it reads the source."""
    if isinstance(source, Path) and source.is_dir():
        return bool(kind.folder_suffixes)
    return kind.reads(source)


@contextmanager
def registered(kind: Kind) -> Iterator[None]:
    """Let the kind be found by its name inside."""
    new = kind.name not in KINDS
    if new:
        KINDS.more[kind.name] = kind
    try:
        yield
    finally:
        if new:
            del KINDS[kind.name]


def stored(data: Data) -> np.ndarray:
    """Return all rows (N, ...) as they are stored."""
    return data.loaded.rows.take(np.arange(len(data.loaded.rows)))


def strict_config(data: Data) -> dict[str, Any]:
    """Return what a run records of data, as it comes back from strict JSON."""
    return json.loads(json.dumps(data.config(), allow_nan=False))


def assert_same_rows(rows: np.ndarray, expected: np.ndarray, transform: Any) -> None:
    """Raise AssertionError unless rows are equal, except real numbers.

    These are rounded to float32 on the way through x.
    """
    hold(rows.shape == expected.shape, f"rows {rows.shape}, not {expected.shape}")
    np.testing.assert_array_equal(np.isnan(rows), np.isnan(expected))
    real = expected.dtype.kind == "f" and np.nanmax(expected) - np.nanmin(expected)
    np.testing.assert_allclose(rows, expected, rtol=0, atol=2e-6 * float(real))
    columns = getattr(transform, "columns", ())  # of a table: on a grid or in levels they are exact
    exact = [i for i, column in enumerate(columns) if getattr(column, "grid", True)]
    np.testing.assert_array_equal(rows[:, exact], expected[:, exact])


def rows_come_back(one: Read) -> None:
    """decode(encode(row)) is the row, for those of training, whose range decoding stays in."""
    data, rows = one.data, stored(one.data)
    hold(isinstance(data.transform, Transform), "its transform lacks parts of one")
    hold(isinstance(data.form, Form), "its form lacks parts of one")
    shape, dtype = data.transform.row_shape, np.dtype(data.form.dtype)
    hold(shape == rows.shape[1:], f"the transform's row_shape is {shape}, not {rows.shape[1:]}")
    hold(dtype == rows.dtype, f"the form's dtype is {dtype}, not {rows.dtype}")
    torch.manual_seed(0)
    x, correction = data.transform.encode(data.sample_batch(10**6)["row"], torch.randn_like)
    hold(x.shape[1:] == data.shape, f"x has shape {tuple(x.shape[1:])}, not {data.shape}")
    types = x.dtype, correction.dtype
    hold(types == (torch.float32, torch.float64), f"x and its correction are of {types}")
    hold(bool(x.isfinite().all() and correction.isfinite().all()), "x is not finite")
    own = rows[data.split.training(np.arange(len(data)))]
    assert_same_rows(data.transform.decode(x), own, data.transform)


def a_run_restores_it(one: Read) -> None:
    """From strict JSON, without the data: the same transform and the same form."""
    data, config = one.data, strict_config(one.data)
    transform, form, classes = restore(config)
    hold(tuple(classes) == data.classes, "other classes")
    kind = KINDS[data.loaded.kind]
    hold(config["kind"] == kind.name, f"it records the kind {config['kind']}, not {kind.name}")
    hold({"transform", "form"} <= set(kind.parts), "its parts are not {transform, form, ...}")
    again = json.loads(json.dumps(kind.describe(transform, form)))
    hold(again == {name: config[name] for name in again}, "another description")
    row = data.held_out_batch(5)["row"]
    encoded = zip(*(each.encode(row, torch.zeros_like) for each in (data.transform, transform)))
    for own, other in encoded:
        close(other, own, "encoded rows")
    x = torch.zeros(2, *data.shape)
    np.testing.assert_array_equal(transform.decode(x), data.transform.decode(x))
    shown, after = data.form.present(row.numpy()), form.present(row.numpy())
    same = shown.equals(after) if hasattr(shown, "equals") else np.array_equal(shown, after)
    hold(same, "rows are presented in another way")


def rows_conform(one: Read) -> None:
    """New rows from the same source are those of training, with the same fingerprint."""
    rows = conform(one.data, strict_config(one.data))
    batches = [batch for batch in rows.batches(7)]
    found = torch.cat([batch["row"] for batch in batches]).numpy()
    np.testing.assert_array_equal(found, stored(one.data))
    hold(rows.fingerprint == one.data.fingerprint, "its fingerprint is another one")
    hold(not any(batch["problems"] for batch in batches), "some rows could not be read")


KIND_LAWS: Mapping[str, Callable[[Read], None]] = {
    "decode undoes encode": rows_come_back,
    "a run's config.json restores transform and form": a_run_restores_it,
    "rows of its own source conform to a run": rows_conform,
}
"""What a kind of data is held to, in a sentence -> the law, of what it read."""
