"""Arrays as a person sees them: the array itself, and a picture of its rows by their shape."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import final

import numpy as np
from PIL import Image

from undiffuse.data.pictures import (
    draw_curves,
    draw_histogram,
    draw_points,
    tile_images,
    to_bytes,
)
from undiffuse.data.writing import (
    Labels,
    Writer,
    find_writer,
    write_npy,
    write_npz,
    write_picture,
)


@final
class ArrayForm:
    """Rows of any shape as an array (N, *row_shape), with the layout of `ArrayTransform`.

    `low` and `high` are the least and greatest value of the data: black and white, where a row is
    shown as an image.
    """

    column_sizes: Mapping[str, int] = {}
    suggested_out = "samples.npy"

    def __init__(
        self,
        *,
        row_shape: tuple[int, ...],
        layout: tuple[int, ...],
        channels_last: bool,
        dtype: str,
        low: float,
        high: float,
    ) -> None:
        self.row_shape = row_shape
        self.layout = layout
        self.channels_last = channels_last
        self.dtype = dtype
        self.low = low
        self.high = high

    def present(self, rows: np.ndarray) -> np.ndarray:
        """Return the array itself."""
        return rows

    def check_out(self, out: Path) -> None:
        """Raise InputError for another suffix than those of `save`."""
        self._writer(out)

    def save(self, rows: np.ndarray, out: Path, *, labels: Labels = None) -> None:
        """Write .npy, .npz, or a .png that pictures the rows.

        Raises:
            InputError: any other suffix, or writing fails.
        """
        self._writer(out)(rows, out, labels)

    def preview(self, rows: np.ndarray) -> Image.Image:
        """Return points (two columns), a histogram (one), curves (sequences) or tiles (grids)."""
        rows = np.moveaxis(rows, -1, 1) if self.channels_last else rows
        rows = rows.reshape(len(rows), *self.layout)
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

    def _as_images(self, rows: np.ndarray) -> np.ndarray:
        """Return grids (n, C, H, W) as images: 3 channels as RGB, up to 8 others side by side."""
        scaled = to_bytes(rows, self.low, self.high)
        if self.layout[0] == 3:
            return np.moveaxis(scaled, 1, -1)
        return np.concatenate(list(np.moveaxis(scaled[:, :8], 1, 0)), axis=-1)[..., None]

    def _writer(self, out: Path) -> Writer:
        writers: dict[str, Writer] = {
            ".npy": write_npy,
            ".npz": write_npz,
            ".png": lambda rows, out, labels: write_picture(self.preview(rows), out),
        }
        return find_writer(writers, out, "arrays")
