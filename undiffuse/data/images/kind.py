"""Images: folders of image files; arrays of images become this kind too, once `arrays` has read them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np

from undiffuse.data.arrays.conform import complete_rows, conform_rows
from undiffuse.data.arrays.form import ImageForm
from undiffuse.data.arrays.transform import ImageTransform
from undiffuse.data.conformed import Conformed
from undiffuse.data.folder import Folder, files_for_run
from undiffuse.data.images.conform import Pictures
from undiffuse.data.images.read import read_images
from undiffuse.data.kind import Kind
from undiffuse.data.labels import index_labels, match_classes
from undiffuse.data.rows import Loaded
from undiffuse.errors import InputError
from undiffuse.interfaces import PartialRows, Progress

_NO_IMAGES = (
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
)


@final
class Images(Kind):
    """Images: see `Kind`."""

    name = "images"
    file_suffixes = ()

    @cached_property
    def folder_suffixes(self) -> Collection[str]:
        """The suffixes of all image formats that this Pillow reads."""
        from PIL import Image

        extensions = Image.registered_extensions()
        return {suffix for suffix, form in extensions.items() if form in Image.OPEN} - set(
            _NO_IMAGES
        )

    @property
    def transform_class(self) -> type:
        """See `Kind`."""
        return ImageTransform

    @property
    def form_class(self) -> type:
        """See `Kind`."""
        return ImageForm

    def reads(self, source: Any) -> bool:
        """No single file, and no object: images are read from folders, or by `arrays`."""
        return False

    def read(
        self,
        source: Any,
        *,
        size: int | tuple[int, ...] | None = None,
        progress: Progress | None = None,
    ) -> Loaded:
        """See `Kind.read`."""
        folder: Folder = source
        return read_images(folder.path, folder.files, size=size, progress=progress)

    def conform(
        self, source: Any, config: Mapping[str, Any], *, progress: Progress | None = None
    ) -> Conformed:
        """See `Kind.conform`."""
        transform, form, classes = self.restore(config)
        if not (isinstance(source, Path) and source.is_dir()):
            return conform_rows(source, config, transform, form, classes, progress)
        folder = files_for_run(source, self.folder_suffixes, self.name)
        rows = Pictures(folder.files, form, folder.name)
        notes = rows.changes(progress)
        own, _ = folder.classes()
        return Conformed(
            rows,
            folder.called,
            name=folder.name,
            fingerprint=folder.fingerprint(),
            labels=match_classes(*index_labels(own, len(folder.files), folder.name), classes),
            notes=notes,
        )

    def complete(self, source: Any, config: Mapping[str, Any]) -> PartialRows:
        """See `Kind.complete`."""
        transform, form, _ = self.restore(config)
        if isinstance(source, Path) and source.suffix.lower() not in (".npy", ".npz"):
            return _pictures(
                files_for_run(source, self.folder_suffixes, self.name), transform, form
            )
        return complete_rows(source, transform, form)


def _pictures(folder: Folder, transform: Any, form: Any) -> PartialRows:
    from PIL import Image

    c, h, w = transform.shape
    if c not in (1, 3) or transform.levels > 256:
        raise InputError(
            f"{folder.name}: the run's images are not 8-bit grey or RGB; give .npy, with NaN for unknown."
        )
    rows, known = [], []
    for file in folder.files:
        try:
            with Image.open(file) as image:
                rgba = np.asarray(image.convert("RGBA"))
                grey = np.asarray(image.convert("RGBA").convert("RGB").convert("L"))[..., None]
        except Exception as problem:
            raise InputError(
                f"{file.name}: could not be read as an image; repair or remove it."
            ) from problem
        if rgba.shape[:2] != (h, w):
            there, here = f"{rgba.shape[0]} x {rgba.shape[1]}", f"{h} x {w}"
            raise InputError(
                f"{file.name}: is {there} (height x width), and the run's images are {here}; resize it."
            )
        pixels = np.rint((grey if c == 1 else rgba[..., :3]) / 255 * (transform.levels - 1))
        rows.append(_as_row(pixels.astype(form.dtype), form.channel_axis))
        known.append(_as_row(np.repeat(rgba[..., 3:] > 0, c, 2), form.channel_axis))
    return PartialRows(np.stack(rows), np.stack(known))


def _as_row(pixels: np.ndarray, channel_axis: int | None) -> np.ndarray:
    return pixels[..., 0] if channel_axis is None else np.moveaxis(pixels, -1, channel_axis)
