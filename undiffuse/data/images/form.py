"""Images as a person sees them: arrays, PNG files, or one picture of many.

To a model, whole numbers 0 ... K - 1 at each of d places fill the cube [-1, 1]^d:

    x = 2 (k + u) / K - 1,   u ~ U[0, 1),       log P(k) >= E_u[log p(x)] + d log(2 / K)

This is the transform of arrays with mean = std = K / 2: nothing is measured on the data. Where
their mean lies more than three standard deviations from the middle (a dark sky, a camera of 12
bits), the networks' inputs would hardly vary: such images are standardized as other arrays are.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import final

import numpy as np
from PIL import Image

from undiffuse.data.arrays.transform import ArrayTransform, measure_array
from undiffuse.data.pictures import pixels_to_image, tile_images, to_bytes
from undiffuse.data.writing import Encode, WrittenForm

FAR = 3.0  # standard deviations from the middle of the levels to the mean
_TOGETHER = 1024  # images looked at together
_LOOKED_AT = 8  # chunks, to find the mean


@final
class ImageForm(WrittenForm):
    """Images as arrays (N, *row_shape) of whole numbers.

    Pictures show the whole range from black to white whatever `levels` is. So do PNG files, unless
    the data came from files: then they hold the values themselves, as those did.

    >>> form = ImageForm(row_shape=(8, 8), channel_axis=None, levels=17, dtype="uint8")
    >>> form.preview(np.zeros((4, 8, 8), np.uint8)).size
    (134, 134)
    """

    suggested_out, called = "samples.png", "images"

    def __init__(
        self,
        *,
        row_shape: tuple[int, ...],
        channel_axis: int | None,
        levels: int,
        dtype: str,
        from_files: bool = False,
    ) -> None:
        self.row_shape = row_shape
        self.channel_axis = channel_axis
        self.levels = levels
        self.dtype = dtype
        self.from_files = from_files
        self._written_singly = levels <= 256 or self.size[2] == 1  # Pillow writes no others
        if not self._written_singly:
            self.called = "images of 16-bit colour"

    @property
    def size(self) -> tuple[int, int, int]:
        """Height, width and number of channels."""
        sides = list(self.row_shape)
        channels = 1 if self.channel_axis is None else sides.pop(self.channel_axis)
        return sides[0], sides[1], channels

    @property
    def rescaled(self) -> bool:
        """Whether the whole range from black to white of a file stands for fewer levels."""
        return not self.from_files and self.levels not in (256, 65536)

    def of_files(self, pixels: np.ndarray) -> np.ndarray:
        """Return the values of pixels of image files: where `rescaled`, the nearest levels.

        >>> form = ImageForm(row_shape=(1, 3), channel_axis=None, levels=17, dtype="uint8")
        >>> form.of_files(np.array([0, 127, 255], np.uint8)).tolist()
        [0, 8, 16]
        """
        if not self.rescaled:
            return pixels
        white = 255 if self.levels <= 256 else 65535
        return np.rint(pixels / white * (self.levels - 1)).astype(self.dtype)

    def as_row(self, pixels: np.ndarray) -> np.ndarray:
        """Return pixels (..., H, W, C) with the axes of rows, (..., *row_shape)."""
        if self.channel_axis is None:
            return pixels[..., 0]
        return pixels if self.channel_axis == -1 else np.moveaxis(pixels, -1, -3)

    def preview(self, rows: np.ndarray) -> Image.Image:
        """Return all images side by side."""
        return tile_images(to_bytes(self._channels_last(rows), 0, self.levels - 1))

    def files(self) -> dict[str, Encode]:
        """Return what makes PNG files, which 16-bit colour lacks."""
        return {".png": self._encoded} if self._written_singly else {}

    def cells(self) -> tuple[Encode | None, str]:
        """Return what makes PNG files, where these hold the values themselves."""
        whole = self._written_singly and not self.rescaled
        return (self._encoded, ".png") if whole else (None, "")

    def _encoded(self, rows: np.ndarray) -> Iterator[bytes]:
        images = self._channels_last(rows)
        if self.from_files:
            images = images.astype(self.dtype)
        elif self.levels > 256:
            images = np.rint(images * (65535 / (self.levels - 1))).astype(np.uint16)
        else:
            images = to_bytes(images, 0, self.levels - 1)
        return (_content(pixels_to_image(image), "PNG") for image in images)

    def _channels_last(self, rows: np.ndarray) -> np.ndarray:
        if self.channel_axis is None:
            return rows[..., None]
        return rows if self.channel_axis == -1 else np.moveaxis(rows, 1, -1)


@final
class ScanForm(WrittenForm):
    """Grey images (N, H, W) of int32 or float32, from TIFF files: heights, Hounsfield units.

    `low` and `high` are the least and greatest value of the data, black and white in pictures. A
    folder of them holds TIFF files of the values themselves.
    """

    suggested_out, called = "samples/", "images of signed, 32-bit or real values"

    def __init__(
        self, *, row_shape: tuple[int, int], dtype: str, low: int | float, high: int | float
    ) -> None:
        self.row_shape = row_shape
        self.dtype = dtype
        self.low = low
        self.high = high

    def preview(self, rows: np.ndarray) -> Image.Image:
        """Return all images side by side."""
        return tile_images(to_bytes(rows[..., None], self.low, self.high))

    def files(self) -> dict[str, Encode]:
        """Return what makes TIFF files."""
        return {".tif": self._encoded}

    def cells(self) -> tuple[Encode | None, str]:
        """Return what makes TIFF files."""
        return self._encoded, ".tif"

    def _encoded(self, rows: np.ndarray) -> Iterator[bytes]:
        images = (Image.fromarray(image.astype(self.dtype)) for image in rows)
        return (_content(image, "TIFF") for image in images)


def _content(image: Image.Image, kind: str) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind)
    return stream.getvalue()


def levels_in_use(pixels: np.ndarray) -> int:
    """Return K: all of the type, or only those up to the greatest value, if that is below half.

    Masks, quantized and 12-bit images use less than half of their type.

    >>> levels_in_use(np.array([0, 2, 1], np.uint8)), levels_in_use(np.array([0, 200], np.uint8))
    (3, 256)
    """
    greatest, half = 1, 2 ** (8 * pixels.dtype.itemsize - 1)
    for start in range(0, len(pixels), _TOGETHER):
        greatest = max(greatest, int(pixels[start : start + _TOGETHER].max()))
        if greatest >= half:
            return 2 * half
    return greatest + 1


def transform_of_images(
    chunks: Callable[[], Iterator[np.ndarray]], form: ImageForm, name: str
) -> ArrayTransform:
    """Return the transform of images of a form, given training rows, some at a time."""
    plain = image_transform(form)
    measure = partial(
        measure_array,
        name=name,
        row_shape=plain.row_shape,
        axes=plain.axes,
        dtype=plain.dtype,
    )
    some = np.concatenate(list(islice(chunks(), _LOOKED_AT)))
    centre, spread = (form.levels - 1) / 2, some.std(dtype=np.float64)
    if spread == 0 or abs(some.mean(dtype=np.float64) - centre) <= FAR * spread:
        return plain
    return measure(chunks())


def image_transform(form: ImageForm) -> ArrayTransform:
    """Return the transform of images of a form.

    >>> import torch
    >>> form = ImageForm(row_shape=(2, 2, 3), channel_axis=-1, levels=256, dtype="uint8")
    >>> black = torch.zeros(1, 2, 2, 3, dtype=torch.uint8)
    >>> x, log_correction = image_transform(form).encode(black, torch.zeros_like)
    >>> x.shape, round(float(log_correction[0]), 3)
    (torch.Size([1, 3, 2, 2]), -58.224)
    """
    channels = form.size[2]
    return ArrayTransform(
        row_shape=form.row_shape,
        axes={None: "HW", -1: "HWC", 0: "CHW"}[form.channel_axis],
        dtype=form.dtype,
        mean=(form.levels / 2,) * channels,
        std=(form.levels / 2,) * channels,
        low=(0,) * channels,
        high=(form.levels - 1,) * channels,
        levels=form.levels,
    )
