"""Whether samples have what was asked for: as often as real rows, by chance, or always."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import undiffuse as ud
from undiffuse.data import Conditions, load
from undiffuse.evaluation import asked
from undiffuse.evaluation.asked import by_condition, picture_of_maps
from undiffuse.evaluation.references import refer


def rows_given(age: np.ndarray, colour: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A column that the age decides to a deviation of 10, and one that the colour does nearly."""
    height = age + 10 * rng.normal(size=len(age))
    weight = np.where(rng.random(len(age)) < 0.9, colour, 1 - colour) + 0.1 * rng.normal(
        size=len(age)
    )
    return np.stack([height, weight], 1)


@pytest.fixture(scope="module")
def data() -> ud.data.Data:
    rng = np.random.default_rng(0)
    age, colour = rng.integers(18, 90, 900), rng.integers(0, 2, 900)
    height, weight = rows_given(age, colour, rng).T
    words = np.array(["red", "tan"])[colour]
    table = pd.DataFrame({"height": height, "age": age, "colour": words, "weight": weight})
    return load(table, condition="age,colour", held_out=300)


@pytest.mark.parametrize("obeys", [True, False])
def test_samples_that_have_what_was_asked_for_reach_the_floor(
    data: ud.data.Data, obeys: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And those that have anything else are right by chance, with no share of the variance."""
    model, rng = ud.edm(data, width=8, depth=1), np.random.default_rng(1)
    own = Conditions.restore(data.config())
    assert own is not None

    def drawn(n: int, *, vector, **options) -> np.ndarray:
        codes = own.decode(vector.numpy())
        told = codes if obeys else rng.permutation(codes)
        made = rows_given(told[:, 0] + 18, told[:, 1], rng)
        return own.filled(np.stack([made[:, 0], 0 * told[:, 0], 0 * told[:, 0], made[:, 1]], 1),
                          vector.numpy())  # fmt: skip

    monkeypatch.setattr(type(model), "sample_rows", staticmethod(drawn))
    reference = refer(data)
    found = by_condition(model, reference, sampler={}, batch=128)
    assert found is not None
    assert list(found) == ["age", "colour"]
    assert found["age"].floor == pytest.approx(1 - 100 / (72**2 / 12 + 100), abs=0.1)
    assert found["colour"].floor == pytest.approx(0.9, abs=0.05)
    for figure in found.values():
        error = 5 * figure.stderr
        assert (abs(figure.value - figure.floor) < error) == obeys
    if not obeys:
        assert found["age"].value < 0
        assert found["colour"].value == pytest.approx(0.5, abs=0.15)
    assert by_condition(model, reference, sampler={}, stop=lambda: True) is None


@pytest.mark.parametrize(("obeys", "classes"), [(True, True), (True, False), (False, False)])
def test_maps_are_told_from_what_lies_around_each_position(
    obeys: bool, classes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "POINTS", 1500)
    rng = np.random.default_rng(0)
    y = rng.normal(size=(160, 6, 6))
    y = (y > 0.5).astype(int) if classes else y
    data = load((y + 0.3 * rng.normal(size=y.shape), y), axes="NHW", held_out=60)
    model = ud.edm(data, width=8, multipliers=(1,), blocks=1)
    own = Conditions.restore(data.config())
    assert own is not None

    def drawn(n: int, *, vector, **options) -> np.ndarray:
        told = own.decode_maps(vector.numpy())["y"][:, 0]
        told = told if obeys else rng.permutation(told)
        return told + 0.3 * rng.normal(size=told.shape)

    monkeypatch.setattr(type(model), "sample_rows", staticmethod(drawn))
    found = by_condition(model, refer(data), sampler={}, batch=128)
    assert found is not None
    figure = found["y"]
    if not classes:
        assert figure.floor == pytest.approx(1 - 0.09 / 1.09, abs=0.15)
    assert figure.floor > 0.75
    assert (abs(figure.value - figure.floor) < 5 * figure.stderr) == obeys
    if not obeys:
        assert figure.value < 0.7


def test_without_conditions_nothing_is_told() -> None:
    data = load("moons", held_out=0.2)
    assert by_condition(ud.edm(data, width=8), refer(data, most=40), sampler={}) == {}


def test_the_picture_shows_each_map_between_its_sample_and_the_row_that_has_it(
    data: ud.data.Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sampler that draws the map itself has three tiles alike; nothing is drawn without maps."""
    rng = np.random.default_rng(0)
    y = rng.choice([0, 1, 3], (60, 6, 6))
    shapes = load(((y * 85).astype(np.uint8), y), axes="NHW", held_out=20)
    model = ud.edm(shapes, width=8, multipliers=(1,), blocks=1)
    own = Conditions.restore(shapes.config())
    assert own is not None

    def drawn(n: int, *, vector, **options) -> np.ndarray:
        return (own.decode_maps(vector.numpy())["y"][:, 0] * 85).astype(np.uint8)

    monkeypatch.setattr(type(model), "sample_rows", staticmethod(drawn))
    reference = refer(shapes)
    sheet = picture_of_maps(model, reference, sampler={})
    one = reference.form.preview(reference.held_out.rows[:1])
    assert sheet is not None
    pixels, width, height = np.asarray(sheet), *one.size
    for k in range(3):
        left = 10 + k * (width + 2)
        tile = pixels[10 : 10 + height, left : left + width]
        np.testing.assert_array_equal(tile, np.asarray(one.convert("RGB")))
    assert picture_of_maps(ud.edm(data, width=8), refer(data), sampler={}) is None
