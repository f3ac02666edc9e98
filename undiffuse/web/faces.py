"""Rows as a page shows them: pictures, curves, sounds and cells, each as plain JSON."""

from __future__ import annotations

import base64
import csv
import io
import math
import wave
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from undiffuse.data.pictures import untiled
from undiffuse.errors import InputError
from undiffuse.models import GenerativeModel

MOST_VALUES = 2**20  # numbers of a row that are sent
POINTS = 512  # of a curve
COLUMNS = 64  # of a vector that are shown
FEW = 8  # rows: histograms of so few say less than the rows themselves


def shown_rows(model: GenerativeModel, rows: np.ndarray, *, values: bool = False) -> dict[str, Any]:
    """Return stored rows (n, ...) as a page shows them.

    Args:
        model: the model that has met their data.
        rows: of the stored type.
        values: whether the numbers themselves are sent too.

    Returns:
        "items", a mapping for each row: "picture" (a data URL) of images and grids, "curves" of
        sequences (lists of numbers, a channel each), "sound" (a data URL) of recordings, "cells" of
        tables and vectors, "values" (a flat list, None for NaN); "columns", the names of the cells;
        "picture" of all rows, where a row of its own has none and they are more than a few;
        "row_shape" and "axes".

    Raises:
        InputError: for values of rows of more than 2^20 numbers.
    """
    transform, form = model.transform, model.form
    assert transform is not None
    assert form is not None
    sides = len(transform.shape) - 1
    items: list[dict[str, Any]] = [{} for _ in rows]
    columns, names = None, list(form.column_sizes)
    if sides == 0:
        columns, lines = shown_cells(form, rows)
        for item, line in zip(items, lines, strict=True):
            item["cells"] = line
    elif sides == 1:
        for item, curves in zip(items, _curves(transform, rows), strict=True):
            item["curves"] = curves
    else:
        for i, item in enumerate(items):
            item["picture"] = data_url(untiled(form.preview(rows[i : i + 1])))
    rate = getattr(form, "rate", None)
    if rate is not None:
        for item, row in zip(items, rows, strict=True):
            item["sound"] = _wav(row, rate)
    if values:
        if rows[0].size > MOST_VALUES:
            raise InputError(f"rows of {rows[0].size:,} numbers are too large to edit in a page.")
        for item, row in zip(items, rows, strict=True):
            item["values"] = [json_number(value) for value in row.reshape(-1).tolist()]
    return {
        "items": items,
        "columns": columns,
        "modelled": names or columns,
        "picture": None if sides or is_few(transform, len(rows)) else data_url(form.preview(rows)),
        "row_shape": list(transform.row_shape),
        "axes": getattr(transform, "axes", None),
        "rate": rate,
    }


def is_few(transform: Any, count: int) -> bool:
    """Return whether so many rows of cells are shown as they are, without their histograms."""
    return len(transform.shape) == 1 and count <= FEW


def shown_cells(form: Any, rows: np.ndarray) -> tuple[list[str], list[list[str]]]:
    """Return the names and the cells of rows of a table, or of vectors."""
    if form.column_sizes:
        return table_cells(form, rows)
    flat = rows.reshape(len(rows), -1)[:, :COLUMNS]
    lines = [[f"{value:.6g}" for value in line] for line in flat.tolist()]
    return [str(i) for i in range(flat.shape[1])], lines


def table_cells(form: Any, rows: np.ndarray) -> tuple[list[str], list[list[str]]]:
    """Return the names and the cells of rows of a table, spelled as a file of them has them."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "rows.csv"
        form.save(rows, file)
        with file.open(newline="", encoding="utf-8") as stream:
            names, *lines = csv.reader(stream, delimiter=form.delimiter)
    return names, lines


def _curves(transform: Any, rows: np.ndarray) -> list[list[list[float | None]]]:
    """Sequences as lists of at most 512 numbers: all, or the least and greatest of each part."""
    where = transform.axes.find("C") if len(transform.axes) > 1 else -1
    waves = np.moveaxis(rows, where + 1, 1) if where > 0 else rows
    waves = waves.reshape(len(rows), transform.layout[0], -1).astype(np.float64)
    if waves.shape[2] > POINTS:
        starts = np.linspace(0, waves.shape[2], POINTS // 2, endpoint=False).astype(np.int64)
        low, high = (of.reduceat(waves, starts, axis=2) for of in (np.fmin, np.fmax))
        waves = np.stack([low, high], 3).reshape(*low.shape[:2], -1)
    return [
        [[rounded(value) for value in channel] for channel in row] for row in waves[:, :8].tolist()
    ]


def _wav(row: np.ndarray, rate: int) -> str:
    """A recording (L,) or (L, C) as a WAV file of 16 bits, in a data URL."""
    if row.dtype.kind == "f":
        row = np.rint(np.clip(np.nan_to_num(row), -1, 1) * 32767)
    samples = row.reshape(len(row), -1).astype("<i2")
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return "data:audio/wav;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def data_url(image: Image.Image) -> str:
    """Return an image as a PNG in a data URL.

    >>> data_url(Image.new("L", (1, 1)))[:22]
    'data:image/png;base64,'
    """
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def json_number(value: float | int) -> float | int | None:
    """Return a number, None for what JSON has no number for.

    >>> json_number(1.5), json_number(math.inf)
    (1.5, None)
    """
    return value if math.isfinite(value) else None


def rounded(value: float) -> float | None:
    """Return a number to five digits; None likewise."""
    return float(f"{value:.5g}") if math.isfinite(value) else None
