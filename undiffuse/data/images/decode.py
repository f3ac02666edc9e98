"""Image files -> arrays of one size and one kind of pixels.

An image is turned upright (EXIF), made grey, grey + alpha, RGB or RGB + alpha, resized to cover the
wanted size and cropped about its centre; one that has the size already keeps its values exactly.
JPEG files are decoded at a fraction of their size (1/2, 1/4, 1/8) where that still covers the
wanted one, which is several times faster.

16 bits become 8 by division by 257 = 65535 / 255, so that white stays white, and 8 bits become 16
by multiplication. Grey values that 16 bits without a sign do not hold (in TIFF files) are kept as
they are: whole numbers of 32 bits with a sign, or real numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache
from io import BytesIO
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from undiffuse.data.decoding import Unreadable
from undiffuse.errors import InputError

ImageFile = Path | BytesIO
"""A file, or what one holds."""

LONGEST_SIDE = 64
"""Pixels of the longer side, unless a size is asked for."""

MOST_FRAMES = 10_000  # of one file
_FEW_COLOURS = 32  # of a palette, which number classes
# Pillow lists these among its formats, but they are no images or need another program.
_NO_IMAGES = {
    ".pdf",
    ".eps",
    ".ps",
    ".mpg",
    ".mpeg",
    ".h5",
    ".hdf",
    ".grib",
    ".bufr",
    ".emf",
    ".wmf",
}
_LARGE, _LARGE_PIXELS = Lock(), 2**24  # images of more pixels are decoded one at a time
_ORIENTATION, _SIDEWAYS = (
    0x0112,
    (5, 6, 7, 8),
)  # an EXIF tag, and its values for images on their side
_DEEP = ("I;16", "I;16L", "I;16B", "I")
_TIFF, _BITS, _SAMPLE_FORMAT = (".tif", ".tiff"), 258, 339  # suffixes, and tags
_GREY = ("1", "L", "LA", "La", "F", *_DEEP)


@dataclass(frozen=True)
class ImageHeader:
    """What is known of an image before it is decoded: its upright size and its kind of pixels."""

    height: int
    width: int
    colour: bool
    alpha: bool
    deep: bool  # more than 8 bits per value
    wide: str = ""  # the type of values that 16 bits without a sign do not hold: int32, float32
    frames: tuple[int, ...] = (0,)  # which of its pages or frames are read
    others: int = 0  # pages of another size than the first, which are not
    deep_colour: bool = False  # 16 bits per value and colour, which Pillow reads as 8


@dataclass(frozen=True)
class PixelFormat:
    """What every image becomes: (height, width, channels) of 8 bits, or one channel of more.

    That has 16 bits, or a `wide` type: int32 or float32.
    """

    height: int
    width: int
    channels: int
    deep: bool
    wide: str = ""


def plan_images(
    name: str,
    files: Sequence[ImageFile],
    headers: Mapping[int, ImageHeader],
    size: int | Sequence[int] | None,
) -> tuple[PixelFormat, list[str]]:
    """Return what every image becomes, and notes on what that changes.

    The size is the one that at least half of the images have, or else the median height and width;
    reduced so that the longer side is at most 64, or to `size`. The pixels are the richest met:
    colour if any image has colour, alpha if any is truly transparent somewhere, and if all are
    grey, the 16 bits or the wide type that some have.

    Args:
        name: what they are called in messages.
        files: the files.
        headers: those that can be read, by position.
        size: the longer side, or height and width, in pixels; None for the default.

    Raises:
        InputError: a size that is not positive.
    """
    height, width, notes = _plan_size(name, headers, size)
    colour = any(header.colour for header in headers.values())
    deep = any(header.deep for header in headers.values())
    with_alpha = [files[i] for i, header in headers.items() if header.alpha]
    alpha = any(map(_is_transparent, with_alpha))
    if with_alpha and not alpha:
        notes.append(
            f"{name}: no pixel of any image is transparent; the alpha channel is left out."
        )
    if deep and (colour or alpha):
        notes.append(
            f"{name}: 16-bit images are reduced to 8 bits, as others have colour or transparency."
        )
    grey = sum(not header.colour for header in headers.values())
    if colour and grey:
        notes.append(
            f"{name}: {grey:,} of {len(headers):,} images are grey and are turned into RGB."
        )
    notes += _left_out(name, headers)
    channels = (3 if colour else 1) + alpha
    wide = [header.wide for header in headers.values() if header.wide] if channels == 1 else []
    if wide:
        what = "real numbers" if "float32" in wide else "signed or 32-bit whole numbers"
        notes.append(
            f"{name}: {len(wide):,} of {len(headers):,} images hold {what}, which "
            "are kept as they are; a folder of samples will hold TIFF files of such."
        )
    return PixelFormat(
        height,
        width,
        channels,
        deep=deep and channels == 1 and not wide,
        wide=min(wide, default=""),
    ), notes


def _left_out(name: str, headers: Mapping[int, ImageHeader]) -> list[str]:
    """Notes on pages and bits that are not read."""
    total = f"{len(headers):,} images"
    many = [len(header.frames) for header in headers.values() if len(header.frames) > 1]
    others = sum(header.others for header in headers.values())
    notes = []
    if many:
        notes.append(
            f"{name}: {len(many):,} of {total} hold several pages or frames, {sum(many):,} in all; "
            "each is a row of its own, and those of one file are held out together."
        )
    if others:
        notes.append(
            f"{name}: {others:,} pages of another size than the first of their file are not read."
        )
    lost = sum(header.deep_colour for header in headers.values())
    if lost:
        notes.append(f"{name}: {lost:,} of {total} are 16-bit colour, read as 8 bits.")
    return notes


def read_image_header(path: ImageFile) -> ImageHeader:
    """Return what is known of an image without decoding it. Raises Unreadable."""
    with _opened(path) as image:
        tile = str(getattr(image, "tile", ""))  # gone once it is loaded
        width, height = image.size
        if _is_sideways(image):
            width, height = height, width
        header = ImageHeader(
            height=height,
            width=width,
            colour=_is_colour(image),
            alpha=image.has_transparency_data,
            deep=image.mode in (*_DEEP, "F"),
            wide=_wide_type(image),
            deep_colour=image.mode not in _DEEP and ";16" in tile,
        )
        return _with_frames(header, image)


def read_image(path: ImageFile, target: PixelFormat, frames: Sequence[int] = (0,)) -> np.ndarray:
    """Return the pixels (frames, H, W, C) of an image, uint8 or of a larger type.

    Args:
        path: the file.
        target: what they become.
        frames: which of its pages or frames; those of the header.

    Raises:
        Unreadable: it is damaged, or of another kind.
    """
    return np.stack([_read_frame(path, target, frame) for frame in frames])


def _read_frame(path: ImageFile, target: PixelFormat, frame: int) -> np.ndarray:
    """Return the pixels (H, W, C) of one page or frame. Raises Unreadable."""
    size = (target.width, target.height)
    with _opened(path) as image:
        if frame:
            image.seek(frame)
        image.draft(None, size[::-1] if _is_sideways(image) else size)  # pyright: ignore[reportArgumentType]
        upright = ImageOps.exif_transpose(image)
        if target.wide:
            pixels = _wide_values(image, upright, target.wide, size)
        elif target.deep:
            fitted = _fit(Image.fromarray(_deep_values(upright)), size)
            pixels = np.clip(np.rint(np.asarray(fitted)), 0, 65535).astype(np.uint16)
        else:
            mode = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}[target.channels]
            pixels = np.asarray(_fit(_shallow(upright).convert(mode), size))
    return pixels.reshape(target.height, target.width, target.channels)


def read_with_alpha(path: Path, *, grey: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels (H, W, 1 or 3) and alpha (H, W, 1) of an image, uint8. Raises Unreadable."""
    with _opened(path) as image:
        rgba = _shallow(ImageOps.exif_transpose(image)).convert("RGBA")
        pixels = np.asarray(rgba.convert("RGB").convert("L") if grey else rgba.convert("RGB"))
        return pixels.reshape(rgba.height, rgba.width, -1), np.asarray(rgba)[..., 3:]


def read_as_is(
    path: Path, *, channels: int | None = None, size: Sequence[int] = (), nearest: bool = False
) -> np.ndarray:
    """Return the values (H, W, C) of the first page of an image, upright, as the file has them.

    Those of a palette of few colours are their numbers in it; alpha is left out.

    Args:
        path: the file.
        channels: 1, or 3 for RGB; None: as the file has.
        size: height and width to resize and centre-crop to; empty: as it is.
        nearest: whether each value is one of the file's.

    Raises:
        Unreadable: it is damaged.
    """
    with _opened(path) as image:
        upright = ImageOps.exif_transpose(image)
        numbered = upright.mode == "P" and len(upright.getcolors() or ()) <= _FEW_COLOURS
        colour = not numbered and upright.mode not in _GREY
        if channels == 3 or (channels is None and colour):
            upright = _shallow(upright).convert("RGB")
        elif upright.mode in ("1", "LA", "La") or colour:
            upright = _shallow(upright).convert("L")
        if size:
            how = Image.Resampling.NEAREST if nearest else Image.Resampling.LANCZOS
            if upright.mode.startswith("I") and not nearest:
                upright = Image.fromarray(np.asarray(upright).astype(np.float32))
            upright = ImageOps.fit(upright, (size[1], size[0]), how)
        values = np.asarray(upright)
    return values.reshape(*values.shape[:2], -1)


def _plan_size(
    name: str, headers: Mapping[int, ImageHeader], size: int | Sequence[int] | None
) -> tuple[int, int, list[str]]:
    sizes = Counter((header.height, header.width) for header in headers.values())
    (height, width), count = sizes.most_common(1)[0]
    if 2 * count < len(headers):
        height, width = (
            int(np.median([pair[side] for pair in sizes.elements()])) for side in (0, 1)
        )
    sides = (size,) if isinstance(size, int) else size or (LONGEST_SIDE,)
    if len(sides) > 2 or min(sides) < 1:
        raise InputError(
            f"size {size}: give the longer side, or height and width, as whole numbers of pixels."
        )
    if len(sides) == 2:
        chosen = (sides[0], sides[1])
    else:
        scale = sides[0] / max(height, width)
        scale = min(scale, 1.0) if size is None else scale
        chosen = (max(1, round(height * scale)), max(1, round(width * scale)))
    target = f"{chosen[0]} x {chosen[1]} (height x width)"
    choice = "" if size is not None else "; give a size to choose another"
    notes = []
    if len(sizes) > 1:
        notes = [
            f"{name}: the images come in {len(sizes):,} sizes; "
            f"each is resized and centre-cropped to {target}{choice}."
        ]
    elif chosen != (height, width):
        notes = [f"{name}: the images of {height} x {width} are resized to {target}{choice}."]
    return *chosen, notes


@contextmanager
def _opened(path: ImageFile) -> Iterator[Image.Image]:
    """Give an open image; whatever goes wrong with it inside is raised as Unreadable."""
    try:
        with Image.open(path) as image:
            if Image.MAX_IMAGE_PIXELS and image.width * image.height > Image.MAX_IMAGE_PIXELS:
                raise Image.DecompressionBombError
            with _LARGE if image.width * image.height > _LARGE_PIXELS else nullcontext():
                yield image
    except Unreadable:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as problem:
        most = Image.MAX_IMAGE_PIXELS or 0
        raise Unreadable(f"over {most:,} pixels, which may be a decompression bomb") from problem
    except Exception as problem:  # Pillow raises OSError, SyntaxError, ValueError and more
        tiff = (
            isinstance(problem, UnidentifiedImageError)
            and isinstance(path, Path)
            and path.suffix.lower() in _TIFF
        )
        reason = "damaged, or pixels of a kind that only an array holds: give .npy" if tiff else ""
        raise Unreadable(reason) from problem


def _with_frames(header: ImageHeader, image: Image.Image) -> ImageHeader:
    """Return the header of the first frame with what the others add.

    Pages of other sizes are thumbnails or reduced copies (TIFF), as are the others of a camera's
    MPO file. A palette may get its colours later: a few frames are looked at.
    """
    count = getattr(image, "n_frames", 1)
    if count == 1 or image.format == "MPO":
        return header
    if count > MOST_FRAMES:
        raise Unreadable(f"{count:,} frames, and at most {MOST_FRAMES:,} are read; cut it")
    alike, size, colour = [0], image.size, header.colour
    for frame in range(1, count):
        image.seek(frame)
        if image.size != size:
            continue
        alike.append(frame)
        if not colour and len(alike) <= 8 and image.mode not in _GREY:
            pixels = np.asarray(image.convert("RGB"))
            colour = bool((pixels != pixels[..., :1]).any())
    return replace(header, frames=tuple(alike), others=count - len(alike), colour=colour)


def _is_sideways(image: Image.Image) -> bool:
    return image.getexif().get(_ORIENTATION, 1) in _SIDEWAYS


def _is_colour(image: Image.Image) -> bool:
    """Return whether an image, in its first frame, has colour."""
    if image.mode != "P":
        return image.mode not in _GREY
    palette = np.asarray(image.getpalette("RGB") or [0, 0, 0]).reshape(-1, 3)
    return bool((palette != palette[:, :1]).any())


def _is_transparent(path: ImageFile) -> bool:
    """Return whether any pixel is not opaque; False if the image cannot be read."""
    try:
        with _opened(path) as image:
            return bool((np.asarray(image.convert("RGBA").getchannel("A")) < 255).any())
    except Unreadable:
        return False


def _shallow(image: Image.Image) -> Image.Image:
    """Return an image of 8 bits that can be converted to any mode without loss.

    Pillow's own conversion clips 16 bits at 255, and loses a palette's transparency on a direct way
    to grey.
    """
    if image.mode in (*_DEEP, "F"):
        return Image.fromarray(np.rint(_deep_values(image) / 257).astype(np.uint8))
    if image.mode == "P":
        return image.convert("RGBA" if image.has_transparency_data else "RGB")
    return image


def _deep_values(image: Image.Image) -> np.ndarray:
    """Return grey values from 0 to 65535 as float32, from an image of 16 or of 8 bits."""
    if _wide_type(image):
        raise Unreadable("signed, 32-bit or real pixels, which the others have not")
    if image.mode in _DEEP:
        return np.asarray(image).astype(np.float32)
    return np.asarray(image.convert("L")).astype(np.float32) * 257


def _wide_type(image: Image.Image) -> str:
    """Return the type of grey values, "" where they are whole numbers from 0 to 65,535."""
    if image.mode == "F":
        return "float32"
    if image.mode != "I":
        return ""
    values = np.asarray(image)
    return "int32" if values.min() < 0 or values.max() > 65535 else ""


def _wide_values(
    image: Image.Image, upright: Image.Image, wide: str, size: tuple[int, int]
) -> np.ndarray:
    """Return grey values of more than 8 bits in a wide type; they change only with the size."""
    if upright.mode not in (*_DEEP, "F") or (upright.mode == "F" and wide != "float32"):
        raise Unreadable("other pixels than the signed, 32-bit or real ones of the others")
    values = np.asarray(upright)
    bits, sign = (getattr(image, "tag_v2", {}).get(tag) for tag in (_BITS, _SAMPLE_FORMAT))
    if image.mode == "I" and bits == (32,) and sign in (None, (1,)) and values.min() < 0:
        raise Unreadable("pixels above 2,147,483,647, which only an array holds: give .npy")
    if not np.isfinite(values).all():
        raise Unreadable("pixels that are NaN or infinite")
    if upright.size != size:
        fitted = np.asarray(_fit(Image.fromarray(values.astype(np.float32)), size), np.float64)
        values = fitted if wide == "float32" else np.clip(np.rint(fitted), -(2**31), 2**31 - 1)
    return values.astype(wide)


def _fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return an image that covers the size, cropped; the image itself if it has the size."""
    return image if image.size == size else ImageOps.fit(image, size, Image.Resampling.LANCZOS)


@cache
def image_suffixes() -> frozenset[str]:
    """Return the suffixes of all image formats that this Pillow reads."""
    extensions = Image.registered_extensions()
    return frozenset(s for s, kind in extensions.items() if kind in Image.OPEN) - _NO_IMAGES
