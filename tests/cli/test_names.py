"""Names of files that are not UTF-8, as old archives and cameras have them, are names."""

import os
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from undiffuse import edm, load
from undiffuse.data.arrays.form import ArrayForm
from undiffuse.data.tables.read import open_table
from undiffuse.evaluation.features import load_features, save_features
from undiffuse.evaluation.features.abstract import Raw
from undiffuse.evaluation.scores.table import _WRITERS
from undiffuse.run import Run

CAFE = os.fsdecode(b"caf\xe9")
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names are text elsewhere")


def write_sound(path: Path) -> None:
    with wave.open(str(path), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(np.arange(800, dtype="<i2").tobytes())


@pytest.mark.parametrize("write", [write_sound, lambda path: Image.new("L", (8, 8)).save(path)])
def test_folders(write, tmp_path):
    suffix = ".wav" if write is write_sound else ".png"
    folder = tmp_path / CAFE
    folder.mkdir()
    for i in range(9):
        write(tmp_path / f"new{suffix}")
        (tmp_path / f"new{suffix}").rename(folder / f"{CAFE}{i}{suffix}")
    facts = load(folder).loaded.facts
    assert facts[{".wav": "recordings", ".png": "images"}[suffix]] == 9


def test_arrays(tmp_path):
    rows = np.random.default_rng(0).normal(size=(20, 3)).astype("f4")
    form = ArrayForm(row_shape=(3,), axes="C", dtype="float32", low=-9.0, high=9.0)
    for suffix in (".npy", ".npz"):
        form.save(rows, tmp_path / f"{CAFE}{suffix}")
        loaded = load(tmp_path / f"{CAFE}{suffix}").loaded
        np.testing.assert_array_equal(loaded.rows.take(np.arange(20)), rows)


def test_runs(tmp_path):
    rows, path = np.random.default_rng(0).normal(size=(20, 1)), tmp_path / CAFE
    model = edm(width=8).fit(rows, steps=1, samples=0, precision="float32", out=path)
    drawn = [one.sample(3, steps=1) for one in (model, Run(path).model())]
    np.testing.assert_array_equal(*drawn)


@pytest.mark.parametrize("suffix", _WRITERS)
def test_scores(suffix, tmp_path):
    out = tmp_path / f"{CAFE}{suffix}"
    with _WRITERS[suffix](out, [0, 1]) as write:
        write({"row": [0, 1], "log_likelihood": [-1.5, -2.5], "note": ["", "x"]})
    table = open_table(out).table
    assert table["log_likelihood"].to_pylist() == [-1.5, -2.5]


def test_features(tmp_path):
    features = Raw()
    save_features(features, tmp_path / CAFE)
    assert load_features(tmp_path / CAFE).hash == features.hash
