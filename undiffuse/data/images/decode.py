"""One image file -> one array of the size and kind that the whole folder shares.

Upright (EXIF), then grey, grey + alpha, RGB or RGB + alpha, then resized to cover the target and cropped about its
centre; an image that has the target's size already keeps its values exactly. JPEG files are decoded at a fraction of
their size (1/2, 1/4, 1/8) where that still covers the target, which is several times faster.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

_ORIENTATION = 0x0112  # EXIF tag; values 5 to 8 lie on their side
_GREY, _DEEP = (
    ("1", "L", "LA", "La", "I;16", "I;16L", "I;16B", "I"),
    ("I;16", "I;16L", "I;16B", "I"),
)


@dataclass(frozen=True)
class Header:
    """What is known of an image before it is decoded: its upright size and its kind of pixels."""

    height: int
    width: int
    colour: bool
    alpha: bool
    deep: bool  # 16 bits per value


@dataclass(frozen=True)
class Target:
    """What every image becomes: (height, width, channels) of 8 bits, or one channel of 16."""

    height: int
    width: int
    channels: int
    deep: bool

    @property
    def row_shape(self) -> tuple[int, ...]:
        """(H, W) for one channel, (H, W, C) for more."""
        return (
            (self.height, self.width, self.channels)
            if self.channels > 1
            else (self.height, self.width)
        )

    def plain(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)


class Unreadable(Exception):
    """An image that cannot be used, with the reason if it is worth saying."""


def read_header(path: Path) -> Header:
    """Open an image without decoding it. Raises Unreadable."""
    with _opened(path) as image:
        width, height = image.size
        if image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8):
            width, height = height, width
        return Header(
            height=height,
            width=width,
            colour=_is_colour(image),
            alpha=image.has_transparency_data,
            deep=image.mode in _DEEP,
        )


def is_transparent(path: Path) -> bool:
    """Whether any pixel of an image with an alpha channel is not opaque. Raises Unreadable."""
    with _opened(path) as image:
        return bool((np.asarray(image.convert("RGBA").getchannel("A")) < 255).any())


def read_image(path: Path, target: Target) -> np.ndarray:
    """The pixels as uint8, or uint16 for a deep target, of shape `target.row_shape`. Raises Unreadable."""
    size = (target.width, target.height)
    with _opened(path) as image:
        sideways = image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        image.draft(None, size[::-1] if sideways else size)  # type: ignore[arg-type]
        upright = ImageOps.exif_transpose(image)
        if target.deep:
            return _fit_deep(upright, size)
        mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[target.channels]
        pixels = _shallow(upright)
        if (
            pixels.mode == "P"
        ):  # a palette's transparency is lost on a direct way to grey or RGB with alpha
            pixels = pixels.convert("RGBA" if pixels.has_transparency_data else "RGB")
        return np.asarray(_fit(pixels.convert(mode), size))


class _opened:
    """`Image.open`, with everything that can go wrong inside, from the header to the last pixel, as Unreadable."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> Image.Image:
        try:
            self.image = Image.open(self.path)
            self._check_size()
        except Exception as problem:
            raise _unreadable(problem) from problem
        return self.image

    def _check_size(self) -> None:
        if self.image.mode == "F":
            raise Unreadable("floating-point pixels")
        if Image.MAX_IMAGE_PIXELS and self.image.width * self.image.height > Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError

    def __exit__(self, kind: Any, problem: BaseException | None, trace: Any) -> None:
        self.image.close()
        if isinstance(problem, Exception):
            raise _unreadable(problem) from problem


def _unreadable(problem: Exception) -> Unreadable:
    """Pillow's readers raise whatever their code meets: OSError, SyntaxError, ValueError, struct.error and more."""
    if isinstance(problem, Unreadable):
        return problem
    if isinstance(problem, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return Unreadable(
            f"over {Image.MAX_IMAGE_PIXELS or 0:,} pixels, which may be a decompression bomb"
        )
    return Unreadable("")


def _is_colour(image: Image.Image) -> bool:
    if image.mode != "P":
        return image.mode not in _GREY
    palette = np.asarray(image.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
    return bool((palette != palette[:, :1]).any())


def _shallow(image: Image.Image) -> Image.Image:
    """16 bits as 8: Pillow's own conversion clips at 255 instead of scaling."""
    if image.mode not in _DEEP:
        return image
    return Image.fromarray(np.rint(_deep_values(image) / 257).astype(np.uint8))


def _deep_values(image: Image.Image) -> np.ndarray:
    """Grey values as float32 from 0 to 65535, from an image of 16 or of 8 bits."""
    if image.mode in _DEEP:
        return np.clip(np.asarray(image), 0, 65535).astype(np.float32)
    return np.asarray(image.convert("L")).astype(np.float32) * 257


def _fit_deep(image: Image.Image, size: tuple[int, int]) -> np.ndarray:
    fitted = _fit(Image.fromarray(_deep_values(image)), size)
    return np.clip(np.rint(np.asarray(fitted)), 0, 65535).astype(np.uint16)


def _fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Cover and crop; nothing is touched if the size is right."""
    return image if image.size == size else ImageOps.fit(image, size, Image.Resampling.LANCZOS)
