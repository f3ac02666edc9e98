"""Arrays as a person sees them: the array itself, and a picture of its rows by their shape."""

from __future__ import annotations

from typing import final

import numpy as np
from PIL import Image

from undiffuse.data.arrays.axes import layout_of
from undiffuse.data.pictures import (
    draw_bands,
    draw_curves,
    draw_histogram,
    draw_points,
    tile_images,
    to_bytes,
)
from undiffuse.data.writing import WrittenForm
from undiffuse.interfaces import PartialRows


@final
class ArrayForm(WrittenForm):
    """Rows of any shape as an array (N, *row_shape), with the axes of `ArrayTransform`.

    `low` and `high` are the least and greatest value of the data: black and white, where a row is
    shown as an image.
    """

    suggested_out, called = "samples.npy", "arrays"

    def __init__(
        self,
        *,
        row_shape: tuple[int, ...],
        axes: str,
        dtype: str,
        low: float,
        high: float,
    ) -> None:
        self.row_shape = row_shape
        self.axes = axes
        self.layout = layout_of(row_shape, axes)
        self.dtype = dtype
        self.low = low
        self.high = high

    def preview(self, rows: np.ndarray) -> Image.Image:
        """Return points (two columns), a histogram (one), curves (sequences) or tiles (grids)."""
        rows = self._in_layout(rows)
        match self.layout:
            case (1,):
                return draw_histogram(rows[:, 0])
            case (2,):
                return draw_points(rows)
            case (_,):
                return draw_curves(rows[:, None])
            case (_, _):
                return draw_curves(rows)
            case _:
                return tile_images(self._as_images(rows))

    def bands(self, given: PartialRows, drawn: np.ndarray) -> Image.Image | None:
        """Return the bands of completed sequences; see `Form`."""
        if len(self.layout) != 2 or self.layout[1] < 2:
            return None
        known = np.where(given.known, given.rows, np.nan)
        parts = [self._in_layout(known), self._in_layout(drawn)]
        return draw_bands(parts[0], parts[1].reshape(len(given), -1, *self.layout))

    def _in_layout(self, rows: np.ndarray) -> np.ndarray:
        where = self.axes.find("C") if len(self.axes) > 1 else -1
        rows = np.moveaxis(rows, where + 1, 1) if where > 0 else rows
        longer = len(self.layout) == 2  # series may be
        return rows.reshape(len(rows), self.layout[0], *((-1,) if longer else self.layout[1:]))

    def _as_images(self, rows: np.ndarray) -> np.ndarray:
        """Return grids (n, C, H, W) as images: 3 channels as RGB, up to 8 others side by side."""
        scaled = to_bytes(rows, self.low, self.high)
        if self.layout[0] == 3:
            return np.moveaxis(scaled, 1, -1)
        return np.concatenate(list(np.moveaxis(scaled[:, :8], 1, 0)), axis=-1)[..., None]
