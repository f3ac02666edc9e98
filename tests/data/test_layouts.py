"""Which axis of an array is what: guessed from shapes and values, and said."""

import numpy as np
import pytest
import torch

from undiffuse.data import load
from undiffuse.data.labels import index_labels
from undiffuse.errors import InputError

RNG = np.random.default_rng(0)


def windows(n=200, t=24):
    price = 100 + RNG.normal(0, 5, (n, 1)) + np.cumsum(RNG.normal(0, 0.5, (n, t)), 1)
    return np.stack([price, np.exp(RNG.normal(13, 0.4, (n, t))), RNG.normal(0, 0.01, (n, t))], 2)


def bands(n, count):
    scale = np.geomspace(10, 900, count)
    return np.geomspace(100, 8000, count) + scale * RNG.normal(size=(n, 16, 16, count))


LAYOUTS = {
    "windows of features": (windows(), (3, 24), "sequences of 24, 3 channels (the last axis)"),
    "features of windows": (windows().swapaxes(1, 2), (3, 24), "3 channels (the first axis)"),
    "more features than steps": (
        RNG.normal(size=(90, 5, 12)) * np.array([1, 1e3, 1e-2] * 4),
        (12, 5),
        "sequences of 5, 12 channels (the last axis)",
    ),
    "places": (RNG.normal(size=(90, 24, 20)) + np.arange(20) % 2 * 50, (20, 24), "the last axis"),
    "steps of alike features": (RNG.normal(size=(90, 200, 4)), (4, 200), "the last axis"),
    "walks": (RNG.normal(size=(90, 2, 200)).cumsum(2), (2, 200), "the first axis"),
    "grids": (RNG.normal(size=(90, 30, 40)), (1, 30, 40), "30 x 40, one number in each place"),
    "bands last": (bands(9, 13).astype(np.uint16), (13, 16, 16), "grids of 16 x 16, 13 channels"),
    "flow": (RNG.normal(size=(9, 16, 16, 2)), (2, 16, 16), "2 channels (the last axis)"),
    "video": (
        RNG.integers(0, 255, (9, 4, 16, 16, 3), np.uint8),
        (12, 16, 16),
        "grids of 16 x 16, 12 channels (the last axis and those before the grid)",
    ),
    "latents": (RNG.normal(size=(9, 64, 4, 4)), (64, 4, 4), "64 channels (the first axis)"),
    "letters": (RNG.integers(0, 2, (9, 4, 20), np.uint8), (1, 4, 20), "taken for images of 4 x 20"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_channels_are_found_standardized_and_said(name):
    rows, shape, sentence = LAYOUTS[name]
    data = load(rows)
    assert data.shape == shape
    assert any(sentence in note for note in data.notes)
    rows = rows[data.split.training(np.arange(len(data)))]
    wide = rows.astype(np.int32) if rows.dtype == np.uint16 else rows
    x, _ = data.transform.encode(torch.from_numpy(wide), torch.zeros_like)
    if rows.dtype != np.uint8:
        axes = (0, *range(2, x.ndim))
        torch.testing.assert_close(x.std(axes), torch.ones(shape[0]), atol=0.2, rtol=0)
        assert float(x.mean(axes).abs().max()) < 0.2
    back = data.transform.decode(x)
    assert back.shape == rows.shape
    np.testing.assert_allclose(back, rows, rtol=1e-5, atol=1e-3)


def test_masked_values_are_missing_and_not_what_lies_beneath():
    rows = np.ma.masked_less(RNG.normal(10, 2, (50, 8)), 8)
    rows.data[rows.mask] = 9.96920997e36
    with pytest.raises(InputError, match="are NaN or infinite, the first in row"):
        load(rows)
    whole = np.ma.masked_equal(RNG.integers(0, 9, (50, 8)), 3)
    with pytest.raises(InputError, match="are NaN or infinite"):
        load(whole)
    assert len(load(np.ma.masked_less(np.abs(RNG.normal(size=(50, 8))), 0))) == 45


def test_labels_are_read_from_whatever_holds_them():
    pd = pytest.importorskip("pandas")
    names = ["cat", "dog", "cat"]
    for labels in (
        names,
        np.array(names),
        np.array(names, dtype=object),
        np.array([name.encode() for name in names]),
        pd.Series(names),
        pd.Categorical(names),
        pd.Series(names, dtype="category"),
        pd.Series(names, dtype="string"),
    ):
        index, classes = index_labels(labels, 3, "x")
        assert (index.tolist(), classes) == ([0, 1, 0], ("cat", "dog"))
        loaded = load((RNG.normal(size=(3, 2)), labels)).loaded
        assert loaded.classes == ("cat", "dog")
    numbers = index_labels(np.array([2, 5, 2], dtype=object), 3, "x")
    assert numbers[1] == ("2", "5")
    with pytest.raises(InputError, match="neither whole numbers nor names"):
        index_labels(np.array([None, "a", 2], dtype=object), 3, "x")
