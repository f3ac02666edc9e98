"""Students of longer lessons: ends of paths in closed form, and rows of every kind of data."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.io import wavfile

import undiffuse as ud

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

from test_student import error_on_a_gaussian, error_on_two_points

pytestmark = pytest.mark.faults


def test_a_student_reaches_the_ends_of_a_gaussian_s_paths():
    """In mean square, over the variance of the data, at nine noise levels."""
    assert error_on_a_gaussian(600) < 0.003


def test_a_student_reaches_the_ends_of_paths_to_two_points():
    """Off the separatrix."""
    assert error_on_two_points(600) < 0.05


def table(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    rows = {"a": rng.normal(size=80), "b": rng.choice(["x", "y"], 80), "c": rng.integers(0, 9, 80)}
    pd.DataFrame(rows).to_csv(folder / "t.csv", index=False)
    return folder / "t.csv"


def pictures(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (folder / "p" / label).mkdir(parents=True)
        for i in range(20):
            image = Image.fromarray(rng.integers(0, 255, (8, 8, 3), dtype=np.uint8))
            image.save(folder / "p" / label / f"{i}.png")
    return folder / "p"


def sounds(folder: Path) -> Path:
    rng = np.random.default_rng(0)
    (folder / "s").mkdir()
    for i in range(20):
        wave = (1000 * rng.normal(size=64)).astype(np.int16)
        wavfile.write(folder / "s" / f"{i}.wav", 8000, wave)
    return folder / "s"


def array(folder: Path) -> Path:
    np.save(folder / "a.npy", np.random.default_rng(0).normal(size=(60, 3, 5)).astype("float32"))
    return folder / "a.npy"


@pytest.mark.parametrize("made", [table, pictures, sounds, array])
@pytest.mark.parametrize("preset", ["edm", "flow_matching", "iddpm"])
def test_a_student_draws_rows_of_every_kind_of_data(made, preset, tmp_path):
    """In the form of the data, with its classes if there are any; opened anew, the same."""
    source, quick = str(made(tmp_path)), {"device": "cpu", "samples": 0, "precision": "float32"}
    model = getattr(ud, preset)(width=8)
    model.fit(source, steps=2, out=tmp_path / "teacher", **quick)
    guidance = 2.0 if model.classes else 1.0
    student = ud.distill(
        tmp_path / "teacher", out=tmp_path / "s1", updates=2, guidance=guidance, device="cpu"
    )
    assert student.classes == model.classes
    again = ud.open(tmp_path / "s1")
    (tmp_path / "teacher").rename(tmp_path / "elsewhere")
    for steps in (None, 1):
        drawn = again.sample_rows(3, seed=1, steps=steps)
        assert np.array_equal(drawn, student.sample_rows(3, seed=1, steps=steps), equal_nan=True)
        assert drawn.shape == (3, *model.transform.row_shape)
    if model.classes:
        assert len(again.sample_rows(2, label=model.classes[0])) == 2
    assert type(again.sample(2)) is type(model.sample(2))
