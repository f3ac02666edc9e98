"""Images: folders of image files; arrays of images become this kind too, once `arrays` has read them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, final

from undiffuse.data.arrays.conform import complete_rows, conform_rows
from undiffuse.data.arrays.transform import ArrayTransform
from undiffuse.data.conformed import Conformed
from undiffuse.data.folder import files_for_run
from undiffuse.data.images.form import ImageForm
from undiffuse.data.images.read import complete_images, conform_images, read_images
from undiffuse.data.kind import Kind
from undiffuse.data.rows import Loaded
from undiffuse.interfaces import PartialRows, Progress

# what Pillow lists among its formats and is no image to train on, or needs another program
_NO_IMAGES = ".pdf .eps .ps .mpg .mpeg .h5 .hdf .grib .bufr .emf .wmf".split()


@final
class Images(Kind):
    """Images: see `Kind`."""

    name = "images"
    parts: Mapping[str, type] = {"transform": ArrayTransform, "form": ImageForm}
    file_suffixes = ()

    @cached_property
    def folder_suffixes(self) -> Collection[str]:
        """The suffixes of all image formats that this Pillow reads."""
        from PIL import Image

        extensions = Image.registered_extensions()
        return {suffix for suffix, form in extensions.items() if form in Image.OPEN} - set(
            _NO_IMAGES
        )

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
        return read_images(source, size=size, progress=progress)

    def conform(
        self, source: Any, config: Mapping[str, Any], *, progress: Progress | None = None
    ) -> Conformed:
        """See `Kind.conform`."""
        transform, form, classes = self.restore(config)
        if not (isinstance(source, Path) and source.is_dir()):
            return conform_rows(source, config, transform, form, classes, progress)
        folder = files_for_run(source, self.folder_suffixes, self.name)
        return conform_images(folder, form, classes, progress)

    def complete(self, source: Any, config: Mapping[str, Any]) -> PartialRows:
        """See `Kind.complete`."""
        transform, form, _ = self.restore(config)
        if isinstance(source, Path) and source.suffix.lower() not in (".npy", ".npz"):
            folder = files_for_run(source, self.folder_suffixes, self.name)
            return complete_images(folder, form)
        return complete_rows(source, transform, form)
