"""Images as a person sees them: arrays, PNG files, or one picture of many."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import final

import numpy as np
from PIL import Image

from undiffuse.data.pictures import pixels_to_image, tile_images, to_bytes
from undiffuse.data.writing import (
    FOLDER,
    Labels,
    Writer,
    find_writer,
    numbered_folder,
    write_npy,
    write_npz,
    write_picture,
)


@final
class ImageForm:
    """Images as arrays (N, *row_shape) of whole numbers.

    Pictures and PNG files show the whole range from black to white whatever `levels` is; where that
    is the whole range of the type, a PNG holds the values themselves.

    >>> form = ImageForm(row_shape=(8, 8), channel_axis=None, levels=17, dtype="uint8")
    >>> form.preview(np.zeros((4, 8, 8), np.uint8)).size
    (134, 134)
    """

    column_sizes: Mapping[str, int] = {}
    suggested_out = "samples.png"

    def __init__(
        self, *, row_shape: tuple[int, ...], channel_axis: int | None, levels: int, dtype: str
    ) -> None:
        self.row_shape = row_shape
        self.channel_axis = channel_axis
        self.levels = levels
        self.dtype = dtype

    @property
    def size(self) -> tuple[int, int, int]:
        """Height, width and number of channels."""
        sides = list(self.row_shape)
        channels = 1 if self.channel_axis is None else sides.pop(self.channel_axis)
        return sides[0], sides[1], channels

    def as_row(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels (..., H, W, C) with the axes of rows, (..., *row_shape)."""
        if self.channel_axis is None:
            return pixels[..., 0]
        return pixels if self.channel_axis == -1 else np.moveaxis(pixels, -1, -3)

    def present(self, rows: np.ndarray) -> np.ndarray:
        """Return the array itself."""
        return rows

    def check_out(self, out: Path) -> None:
        """Raise InputError for another suffix than those of `save`."""
        self._writer(out)

    def save(self, rows: np.ndarray, out: Path, *, labels: Labels = None) -> None:
        """Write .npy, .npz, one .png with all images side by side, or a folder of PNG files.

        Raises:
            InputError: any other suffix, a folder for 16-bit colour, or writing fails.
        """
        self._writer(out)(rows, out, labels)

    def preview(self, rows: np.ndarray) -> Image.Image:
        """Return all images side by side."""
        return tile_images(to_bytes(self._channels_last(rows), 0, self.levels - 1))

    def _writer(self, out: Path) -> Writer:
        writers: dict[str, Writer] = {
            ".npy": write_npy,
            ".npz": write_npz,
            ".png": lambda rows, out, labels: write_picture(self.preview(rows), out),
            FOLDER: self._save_folder,
        }
        if (
            self.levels > 256 and self.size[2] > 1
        ):  # PNG files hold that, but Pillow does not write it
            del writers[FOLDER]
            return find_writer(writers, out, "images of 16-bit colour")
        return find_writer(writers, out, "images")

    def _save_folder(self, rows: np.ndarray, out: Path, labels: Labels) -> None:
        images = self._channels_last(rows)
        if self.levels > 256:
            images = np.rint(images * (65535 / (self.levels - 1))).astype(np.uint16)
        else:
            images = to_bytes(images, 0, self.levels - 1)
        with numbered_folder(out, ".png", labels) as path:
            for i, image in enumerate(images):
                pixels_to_image(image).save(path(i), format="PNG")

    def _channels_last(self, rows: np.ndarray) -> np.ndarray:
        if self.channel_axis is None:
            return rows[..., None]
        return rows if self.channel_axis == -1 else np.moveaxis(rows, 1, -1)
