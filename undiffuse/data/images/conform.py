"""A folder of images as rows of a run: each file decoded when its batch is asked for, to the run's own size and kind.

The decoding is the one that training uses (`decode.py`); here it is told what to make of every file instead of finding
that out from the folder, and a file that cannot be read costs one row.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import final

import numpy as np

from undiffuse.data.arrays.form import ImageForm
from undiffuse.data.conformed import Problem
from undiffuse.data.folder import unreadable
from undiffuse.data.images.decode import Target, Unreadable, read_header, read_image
from undiffuse.errors import InputError
from undiffuse.interfaces import Progress

_BLOCK = 64  # headers looked at together


@final
class Pictures:
    """Rows by number from image files, in the shape and type of `form`. Raises InputError if no image has that type."""

    def __init__(self, files: Sequence[Path], form: ImageForm, name: str) -> None:
        if form.levels not in (256, 65536):
            raise InputError(
                f"{name}: the run was trained on arrays of the values 0 to {form.levels - 1}, which image files do not "
                "hold; give such an array."
            )
        sides = list(form.row_shape)
        channels = 1 if form.channel_axis is None else sides.pop(form.channel_axis)
        deep = form.levels > 256
        if deep and channels > 1:
            raise InputError(
                f"{name}: the run was trained on 16-bit colour, which no file gives; use an array."
            )
        self.files, self.form, self.name = files, form, name
        self.target = Target(height=sides[0], width=sides[1], channels=channels, deep=deep)

    def take(self, indices: np.ndarray) -> tuple[np.ndarray, dict[int, Problem]]:
        """The images at these positions; one that cannot be read is black and has a problem."""
        rows = np.zeros((len(indices), *self.form.row_shape), self.form.dtype)
        problems = {}
        with warnings.catch_warnings(), _pool() as pool:
            warnings.simplefilter("ignore")  # Pillow's remarks on odd files
            for i, pixels in enumerate(pool.map(self._read, [self.files[j] for j in indices])):
                if isinstance(pixels, Unreadable):
                    problems[i] = Problem.unreadable(str(pixels))
                else:
                    rows[i] = pixels
        return rows, problems

    def changes(self, progress: Progress | None) -> tuple[str, ...]:
        """What is done to files that are not as the run's images are; refused if none of them can be read."""
        other_size, other_kind, failed = 0, 0, {}
        size, target = (self.target.height, self.target.width), self.target
        with warnings.catch_warnings(), _pool() as pool:
            warnings.simplefilter("ignore")
            for start in range(0, len(self.files), _BLOCK):
                block = self.files[start : start + _BLOCK]
                for i, header in enumerate(pool.map(_header, block), start):
                    if isinstance(header, Unreadable):
                        failed[i] = header
                        continue
                    other_size += (header.height, header.width) != size
                    other_kind += (header.colour, header.deep) != (target.channels > 2, target.deep)
                if progress:
                    progress(start + len(block), len(self.files), f"looking at {self.name}")
        total = len(self.files)
        if len(failed) == total:
            raise InputError(
                f"{unreadable(self.name, self.files, failed, 'images')}; repair or remove them."
            )
        into = f"{size[0]} x {size[1]} (height x width)"
        sentences = {
            f"{other_size:,} of {total:,} images are resized and centre-cropped to the run's {into}": other_size,
            f"{other_kind:,} of {total:,} images are turned into the run's kind of pixels": other_kind,
        }
        return tuple(f"{self.name}: {sentence}." for sentence, count in sentences.items() if count)

    def _read(self, path: Path) -> np.ndarray | Unreadable:
        try:
            pixels = read_image(path, self.target)
        except Unreadable as problem:
            return problem
        axis = self.form.channel_axis
        if axis is None:
            return pixels
        return np.moveaxis(pixels.reshape(*pixels.shape[:2], -1), -1, axis)


def _header(path: Path):
    try:
        return read_header(path)
    except Unreadable as problem:
        return problem


def _pool() -> ThreadPoolExecutor:
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return ThreadPoolExecutor(min(32, cores))
