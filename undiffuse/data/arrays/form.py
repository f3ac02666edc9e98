"""What rows look like to a person: how samples are returned, written and pictured.

A form is what remains of the data when a run is opened elsewhere. It holds the shape and type of a row and nothing of
how rows are modelled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from undiffuse.data import pictures
from undiffuse.data import writing
from undiffuse.errors import InputError


class ImageForm:
    """Images as arrays (N, *row_shape) of `dtype`, values 0 to levels - 1; see `ImageTransform` for the arguments.

    Pictures and PNG files show the whole range from black to white whatever `levels` is; where that is the whole
    range of the type, a PNG holds the values themselves.

    >>> form = ImageForm(row_shape=(8, 8), channel_axis=None, levels=17, dtype="uint8")
    >>> form.preview(np.zeros((4, 8, 8), np.uint8)).size
    (134, 134)
    """

    def __init__(
        self, *, row_shape: tuple[int, ...], channel_axis: int | None, levels: int, dtype: str
    ) -> None:
        self.row_shape = row_shape
        self.channel_axis = channel_axis
        self.levels = levels
        self.dtype = dtype
        self.columns = ()

    def present(self, rows: np.ndarray) -> np.ndarray:
        """The array itself."""
        return rows

    def save(self, rows: np.ndarray, out: Path, *, labels: Any = None) -> None:
        """Write .npy, .npz, one .png with all images side by side, or a folder of PNG files.

        Raises InputError for any other suffix, for 16-bit colour as PNG files, and where writing fails.
        """
        writers = {
            ".npy": writing.write_npy,
            ".npz": writing.write_npz,
            ".png": lambda rows, out, labels: writing.write_picture(self.preview(rows), out),
            writing.FOLDER: self._save_folder,
        }
        writing.write(rows, Path(out), labels, writers, "images")

    def preview(self, rows: np.ndarray) -> Image.Image:
        """All images side by side."""
        return pictures.tile_images(pictures.to_bytes(self._channels_last(rows), 0, self.levels - 1))

    def _save_folder(self, rows: np.ndarray, out: Path, labels: Any) -> None:
        images = self._channels_last(rows)
        if self.levels > 256 and images.shape[-1] > 1:
            raise InputError(
                f"{out}: PNG files of 16-bit colour are not supported; write .npy or .npz."
            )
        if self.levels > 256:
            images = np.rint(images * (65535 / (self.levels - 1))).astype(np.uint16)
        else:
            images = pictures.to_bytes(images, 0, self.levels - 1)
        writing.write_pictures([pictures.pixels_to_image(image) for image in images], out, labels)

    def _channels_last(self, rows: np.ndarray) -> np.ndarray:
        if self.channel_axis is None:
            return rows[..., None]
        return rows if self.channel_axis == -1 else np.moveaxis(rows, 1, -1)


class ArrayForm:
    """Rows of any shape as an array (N, *row_shape) of `dtype`; see `ArrayTransform` for the layout.

    `low` and `high` are the least and greatest value of the data: black and white, where a row is shown as an image.
    """

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
        self.columns = ()

    def present(self, rows: np.ndarray) -> np.ndarray:
        """The array itself."""
        return rows

    def save(self, rows: np.ndarray, out: Path, *, labels: Any = None) -> None:
        """Write .npy, .npz, or a .png that pictures the rows.

        Raises InputError for any other suffix and where writing fails.
        """
        writers = {
            ".npy": writing.write_npy,
            ".npz": writing.write_npz,
            ".png": lambda rows, out, labels: writing.write_picture(self.preview(rows), out),
        }
        writing.write(rows, Path(out), labels, writers, "arrays")

    def preview(self, rows: np.ndarray) -> Image.Image:
        """Points for two columns, a histogram for one, curves for sequences and longer vectors, tiles for grids."""
        rows = np.moveaxis(rows, -1, 1) if self.channels_last else rows
        rows = rows.reshape(len(rows), *self.layout)
        match self.layout:
            case (1,):
                return pictures.draw_histogram(rows[:, 0])
            case (2,):
                return pictures.draw_points(rows)
            case (_,):
                return pictures.draw_curves(rows[:, None])
            case (_, _):
                return pictures.draw_curves(rows)
            case _:
                return pictures.tile_images(self._tiles(rows))

    def _tiles(self, rows: np.ndarray) -> np.ndarray:
        """Grids (n, C, H, W) as images: three channels are colours, others stand side by side, eight at most."""
        scaled = pictures.to_bytes(rows, self.low, self.high)
        if self.layout[0] == 3:
            return np.moveaxis(scaled, 1, -1)
        return np.concatenate(list(np.moveaxis(scaled[:, :8], 1, 0)), axis=-1)[..., None]
