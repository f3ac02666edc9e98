"""Data sets by name: scikit-learn's digits, Fashion-MNIST where Debian installs it, and toys in the plane."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from undiffuse.data import toys
from undiffuse.data.arrays.files import read_idx
from undiffuse.data.arrays.read import from_array
from undiffuse.data.rows import Loaded
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
    """1,797 handwritten digits, 8 x 8 with values 0 to 16, in ten classes (Alpaydin and Kaynak 1998)."""
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    images = np.asarray(pixels).reshape(-1, 8, 8).astype(np.uint8)
    return from_array(images, name=name, path=name, labels=labels)


def _fashion(name: str, seed: int, progress: Progress | None, *, part: str) -> Loaded:
    """60,000 (train) or 10,000 (t10k) garments, 28 x 28, in ten classes (Xiao, Rasul, Vollgraf 2017)."""
    path = FASHION_FOLDER / f"{part}-images-idx3-ubyte.gz"
    if not path.is_file():
        raise InputError(
            f"{name}: not found in {FASHION_FOLDER}; install it with: apt install dataset-fashion-mnist"
        )
    return replace(read_idx(path, progress, classes=_GARMENTS), name=name, path=name)


def _toy(name: str, seed: int, progress: Progress | None) -> Loaded:
    """20,000 points (2,) float32 drawn with the seed; see `toys`."""
    return from_array(toys.draw_toy(name, seed=seed), name=name, path=name)


NAMED: dict[str, Callable[[str, int, Progress | None], Loaded]] = {
    "digits": _digits,
    "fashion-mnist": partial(_fashion, part="train"),
    "fashion-mnist-test": partial(_fashion, part="t10k"),
    **dict.fromkeys(toys.TOYS, _toy),
}
