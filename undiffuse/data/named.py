"""Data sets by name: scikit-learn's digits, Fashion-MNIST (a Debian package), toys in the plane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from undiffuse.data.arrays.files import read_idx
from undiffuse.data.arrays.read import from_array
from undiffuse.data.rows import Loaded
from undiffuse.data.toys import TOYS, draw_toy
from undiffuse.errors import InputError
from undiffuse.interfaces import Progress

FASHION_FOLDER = Path("/usr/share/datasets/fashion-mnist")
_GARMENTS = (
    "t-shirt",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def _digits(name: str, seed: int, progress: Progress | None) -> Loaded:
    """Return 1,797 handwritten digits of 8 x 8 values 0 to 16 (Alpaydin and Kaynak 1998)."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = np.asarray(pixels).reshape(-1, 8, 8).astype(np.uint8)
    return replace(from_array(images, name=name, path=name, labels=labels), notes=())


def _fashion(name: str, seed: int, progress: Progress | None, *, part: str) -> Loaded:
    """Return 60,000 (train) or 10,000 (t10k) garments of 28 x 28 (Xiao, Rasul, Vollgraf 2017)."""
    path = FASHION_FOLDER / f"{part}-images-idx3-ubyte.gz"
    if not path.is_file():
        raise InputError(
            f"{name}: not found in {FASHION_FOLDER}; "
            "install it with: apt install dataset-fashion-mnist"
        )
    return replace(read_idx(path, progress, classes=_GARMENTS), name=name, path=name, notes=())


def _toy(name: str, seed: int, progress: Progress | None) -> Loaded:
    """Return 20,000 points (2,) float32 drawn with the seed."""
    return from_array(draw_toy(name, seed=seed), name=name, path=name)


NAMED: dict[str, Callable[[str, int, Progress | None], Loaded]] = {
    "digits": _digits,
    "fashion-mnist": partial(_fashion, part="train"),
    "fashion-mnist-test": partial(_fashion, part="t10k"),
    **dict.fromkeys(TOYS, _toy),
}
"""Name -> `read(name, seed, progress)`."""
