"""Images that files held: their form, how they are modelled, and as what pixels files are read."""

from __future__ import annotations

from undiffuse.data.arrays.transform import measure_array
from undiffuse.data.images.decode import PixelFormat
from undiffuse.data.images.form import ImageForm, ScanForm, levels_in_use, transform_of_images
from undiffuse.data.rows import ArrayRows, MakeTransform, chunks
from undiffuse.errors import InputError


def model_images(rows: ArrayRows, name: str) -> tuple[ImageForm | ScanForm, MakeTransform]:
    """Return the form of images (N, H, W) or (N, H, W, C) that files held, and their transform."""
    return (_as_scans if rows.dtype.itemsize == 4 else _as_images)(rows, name)


def _as_images(rows: ArrayRows, name: str) -> tuple[ImageForm, MakeTransform]:
    pixels = rows.array
    form = ImageForm(
        row_shape=pixels.shape[1:],
        channel_axis=None if pixels.ndim == 3 else -1,
        levels=levels_in_use(pixels),
        dtype=pixels.dtype.name,
        from_files=True,
    )
    return form, lambda chunks: transform_of_images(chunks, form, name)


def _as_scans(rows: ArrayRows, name: str) -> tuple[ScanForm, MakeTransform]:
    parts = [(part.min().item(), part.max().item()) for part in chunks(rows)]
    height, width = rows.array.shape[1:]
    form = ScanForm(
        row_shape=(height, width),
        dtype=rows.dtype.name,
        low=min(low for low, _ in parts),
        high=max(high for _, high in parts),
    )
    return form, lambda training_chunks: measure_array(
        training_chunks(),
        name=name,
        row_shape=form.row_shape,
        axes="HW",
        dtype=form.dtype,
    )


def pixels_of(form: ImageForm | ScanForm, name: str) -> PixelFormat:
    """Return what image files become as rows. Raises InputError if no file holds such."""
    if isinstance(form, ScanForm):
        return PixelFormat(*form.row_shape, 1, deep=False, wide=form.dtype)
    deep = form.dtype == "uint16" if form.from_files else form.levels > 256
    if deep and form.size[2] > 1:
        raise InputError(
            f"{name}: the run was trained on 16-bit colour, which image files do not hold; give an "
            "array."
        )
    return PixelFormat(*form.size, deep)


def rescaling(form: ImageForm | ScanForm, name: str) -> tuple[str, ...]:
    """Return what is said of image files for a run that has fewer levels than they."""
    if isinstance(form, ScanForm) or not form.rescaled:
        return ()
    return (
        f"{name}: black to white are taken for the values 0 to {form.levels - 1} that the run was "
        "trained on.",
    )
