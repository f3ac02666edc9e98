"""Folders of images to read."""

import numpy as np
from PIL import Image


def pixels(h, w, *channels, seed=0, dtype=np.uint8):
    return (
        np.random.default_rng(seed)
        .integers(0, np.iinfo(dtype).max + 1, (h, w, *channels))
        .astype(dtype)
    )


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def folder_of(tmp_path, arrays, suffix=".png"):
    for i, array in enumerate(arrays):
        save(tmp_path / "photos" / f"{i}{suffix}", array)
    return tmp_path / "photos"


def rows(data):
    """All rows in the order of the files."""
    return data.loaded.rows.take(np.arange(len(data.loaded.rows)))
