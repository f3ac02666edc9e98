"""A folder of images, and new images for a run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import final

import numpy as np

from undiffuse.data.conformed import Conformed, Problem, Taken
from undiffuse.data.decoding import Unreadable, decode_once, for_each, unreadable
from undiffuse.data.folder import Folder
from undiffuse.data.images.decode import (
    PixelFormat,
    plan_images,
    read_image,
    read_image_header,
    read_with_alpha,
)
from undiffuse.data.images.form import ImageForm
from undiffuse.data.images.transform import image_transform
from undiffuse.data.labels import index_labels, match_classes
from undiffuse.data.rows import ArrayRows, Loaded
from undiffuse.errors import InputError
from undiffuse.interfaces import PartialRows, Progress

_AHEAD = 64  # images that wait in memory


def read_images(
    folder: Folder, *, size: int | Sequence[int] | None = None, progress: Progress | None = None
) -> Loaded:
    """Return a folder of images as rows (H, W) or (H, W, C) of uint8, or (H, W) of uint16.

    If every file lies in one of several subfolders, these are the classes.

    Args:
        folder: the image files.
        size: the longer side, or height and width, in pixels; see `plan_images` for the default.
        progress: called after each file.

    Raises:
        InputError: over 5 % of the files, or all of them, cannot be read.
    """
    decoded = decode_once(
        folder,
        read_image_header,
        lambda headers: plan_images(folder, headers, size),
        lambda path, target: read_image(path, target)[None],
        key=str(size),
        ahead=_AHEAD,
        progress=progress,
    )
    pixels = decoded.values
    channel_axis = None if pixels.shape[-1] == 1 else -1
    rows = ArrayRows(pixels[..., 0] if channel_axis is None else pixels)
    classes, notes = folder.classes(decoded.kept)
    index, names = index_labels(classes, len(rows), folder.name)
    row_shape, levels = rows.array.shape[1:], 2 ** (8 * pixels.dtype.itemsize)
    looks = {
        "row_shape": row_shape,
        "channel_axis": channel_axis,
        "levels": levels,
        "dtype": pixels.dtype.name,
    }
    return Loaded(
        kind="images",
        rows=rows,
        form=ImageForm(**looks),
        make_transform=lambda _: image_transform(**looks),
        name=folder.name,
        path=str(folder.path),
        fingerprint=folder.fingerprint(),
        labels=index,
        classes=names,
        notes=(*decoded.notes, *notes),
        facts={"images": len(rows), "row_shape": list(row_shape), "dtype": pixels.dtype.name},
    )


@final
class ImageFiles:
    """Image files as rows of a run, each decoded when its batch is asked for.

    They are decoded as for training; here the format is given instead of found, and a file that cannot be read costs
    one row.

    Args:
        folder: the image files.
        form: the form of the run's rows.

    Raises:
        InputError: no image file holds rows of this form.
    """

    def __init__(self, folder: Folder, form: ImageForm) -> None:
        if form.levels not in (256, 65536):
            raise InputError(
                f"{folder.name}: the run was trained on arrays of the values 0 to {form.levels - 1}, "
                "which image files do not hold; give such an array."
            )
        height, width, channels = form.size
        deep = form.levels > 256
        if deep and channels > 1:
            raise InputError(
                f"{folder.name}: the run was trained on 16-bit colour, "
                "which image files do not hold; give an array."
            )
        self.folder, self.form = folder, form
        self.target = PixelFormat(height, width, channels, deep)

    def take(self, indices: np.ndarray) -> Taken:
        """Return the images at these positions; one that cannot be read is black and has a problem."""
        rows = np.zeros((len(indices), *self.form.row_shape), self.form.dtype)
        problems = {}
        files = [self.folder.files[i] for i in indices]
        for i, pixels in for_each(files, partial(read_image, target=self.target), ahead=_AHEAD):
            if isinstance(pixels, Unreadable):
                problems[i] = Problem.unreadable(str(pixels))
            else:
                rows[i] = self.form.as_row(pixels)
        return rows, problems

    def changes(self, progress: Progress | None) -> tuple[str, ...]:
        """Return what is done to files of another format, a sentence each.

        Raises:
            InputError: no file can be read.
        """
        other_size, other_kind, failed = 0, 0, {}
        folder, target = self.folder, self.target
        looking = f"looking at {folder.name}"
        for i, header in for_each(
            folder.files, read_image_header, ahead=_AHEAD, progress=progress, what=looking
        ):
            if isinstance(header, Unreadable):
                failed[i] = header
                continue
            other_size += (header.height, header.width) != (target.height, target.width)
            other_kind += (header.colour, header.deep) != (target.channels > 2, target.deep)
        total = len(folder.files)
        if len(failed) == total:
            raise InputError(f"{unreadable(folder, failed)}; repair or remove them.")
        size = f"{target.height} x {target.width} (height x width)"
        changes = {
            f"resized and centre-cropped to the run's {size}": other_size,
            "turned into the run's kind of pixels": other_kind,
        }
        return tuple(
            f"{folder.name}: {count:,} of {total:,} images are {change}."
            for change, count in changes.items()
            if count
        )


def conform_images(
    folder: Folder, form: ImageForm, classes: tuple[str, ...], progress: Progress | None
) -> Conformed:
    """Return the images of a folder as rows of a run.

    Args:
        folder: the image files.
        form: the form of the run's rows.
        classes: the names of the run's classes.
        progress: called after each file.

    Raises:
        InputError: no image file holds rows of this form, or none can be read.
    """
    rows = ImageFiles(folder, form)
    own, _ = folder.classes()
    return Conformed(
        rows,
        folder.called,
        name=folder.name,
        fingerprint=folder.fingerprint(),
        labels=match_classes(*index_labels(own, len(folder.files), folder.name), classes),
        notes=rows.changes(progress),
    )


def complete_images(folder: Folder, form: ImageForm) -> PartialRows:
    """Return images with transparent pixels (alpha 0) as rows of which these are unknown.

    Raises:
        InputError: a file cannot be read or has another size, or the run's images are not 8-bit grey or RGB.
    """
    height, width, channels = form.size
    if channels not in (1, 3) or form.levels > 256:
        raise InputError(
            f"{folder.name}: the run's images are not 8-bit grey or RGB; "
            "give .npy, with NaN for unknown."
        )
    rows, known = [], []
    for file in folder.files:
        try:
            pixels, alpha = read_with_alpha(file, grey=channels == 1)
        except Unreadable as problem:
            raise InputError(
                f"{file.name}: could not be read as an image; repair or remove it."
            ) from problem
        if pixels.shape[:2] != (height, width):
            raise InputError(
                f"{file.name}: is {pixels.shape[0]} x {pixels.shape[1]} (height x width), "
                f"and the run's images are {height} x {width}; resize it."
            )
        levels = np.rint(pixels / 255 * (form.levels - 1)).astype(form.dtype)
        rows.append(form.as_row(levels))
        known.append(form.as_row(np.repeat(alpha > 0, channels, axis=2)))
    return PartialRows(np.stack(rows), np.stack(known))
