"""Series longer than rows: a process drawn by an exact network, across the seams of windows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from exact_process import ExactProcess
from exact_process import process as of_coefficient
from model_cases import Rows

import undiffuse as ud
from undiffuse.errors import InputError
from undiffuse.interfaces import PartialRows
from undiffuse.models.continuation import continued, windows

R, SIZE = 0.8, 8


def process(n):
    return of_coefficient(n, SIZE, R)


@pytest.fixture(scope="module")
def model():
    model = ud.edm(width=8)
    model.meet(ud.load(process(20_000), axes="NTC"))
    model.denoiser.network = ExactProcess(model, (R,))
    model.denoiser.linear = None
    return model


@pytest.fixture(scope="module")
def long(model):
    return continued(model, 500, 30, seed=3, batch=500)


def test_a_process_goes_on_across_the_seams_as_elsewhere(long):
    """Its autocorrelation, and the spread of its increments, which a seam would change."""
    assert long.shape == (500, 30, 1)
    rows, seams = long[:, :, 0].astype(np.float64), range(SIZE, 30, SIZE // 2)
    for lag in (1, 2, 3, 6):
        across = [(rows[:, at - 1] * rows[:, at - 1 + lag]).mean() for at in seams if at + lag < 30]
        error = 4 / math.sqrt(500 * len(across) / 3)
        assert np.mean(across) == pytest.approx(R**lag, abs=error)
    steps = np.diff(rows, axis=1)
    at_seams = steps[:, [at - 1 for at in seams]]
    elsewhere = np.delete(steps, [at - 1 for at in seams], 1)
    exact = math.sqrt(2 - 2 * R)
    for found in (at_seams, elsewhere):
        assert found.std() == pytest.approx(exact, abs=4 * exact / math.sqrt(2 * found.size))
    assert rows[:, 20:].std() == pytest.approx(1, abs=0.06)  # it does not drift


def test_the_first_window_is_a_sample_and_the_seed_decides_the_rest(model, long):
    np.testing.assert_array_equal(long[:, :SIZE], model.sample_rows(500, seed=3, batch=500))
    np.testing.assert_array_equal(long, continued(model, 500, 30, seed=3, batch=500))
    some = model.sample(2, length=13, seed=3, first=4)  # by its number alone, whatever the batch
    np.testing.assert_allclose(some, long[4:6, :13], atol=1e-5)
    assert not np.allclose(continued(model, 1, 12, seed=4)[0], long[0, :12])
    assert [windows(model, n) for n in (8, 9, 12, 13, 16)] == [1, 2, 2, 3, 3]
    np.testing.assert_array_equal(model.sample(2, length=SIZE), model.sample(2))


def test_a_class_and_conditions_are_kept_from_window_to_window(model, monkeypatch):
    """As they were drawn for the first."""
    seen = []
    told = {"label": torch.tensor([1, 0, 1]), "vector": torch.tensor([[1.0], [2.0], [3.0]])}

    def rows(n, *, given=None, **options):
        seen.append((given, options))
        return np.zeros((3, SIZE, 1), np.float32)

    monkeypatch.setattr(model, "sample_rows", rows)
    monkeypatch.setattr(model, "sample_conditions", lambda n, **options: told)
    continued(model, 3, 16, label=1, steps=4)
    assert len(seen) == 3
    for given, options in seen[1:]:
        np.testing.assert_array_equal(given.label, told["label"])
        np.testing.assert_array_equal(given.vector, told["vector"])
        assert "label" not in options
        assert options["steps"] == 4
    monkeypatch.undo()
    labelled = ud.edm(width=8)
    labelled.meet(Rows(torch.tensor(process(60)), torch.arange(60) % 3, ("a", "b", "c")))
    given = PartialRows(process(2), np.ones((2, SIZE, 1), bool), label=np.array([2, 0]))
    found = labelled.sample_conditions(4, given=given)
    assert found["label"].tolist() == [2, 2, 0, 0]


def test_what_cannot_be_continued_is_refused(model):
    with pytest.raises(InputError, match="length 7: a row has 8 steps; give at least as many"):
        windows(model, 7)
    other = ud.edm(width=8, gaps=0.0)
    other.meet(ud.load(process(60), axes="NTC"))
    with pytest.raises(InputError, match=r"trained without gaps; train one with --gaps 0\.25"):
        other.sample(1, length=20)
    days = process(60) + 3 * np.arange(SIZE)[:, None]
    seasonal = ud.edm(width=8)
    seasonal.meet(ud.load(days.astype(np.float32), axes="NTC"))
    with pytest.raises(InputError, match="change along the steps of a row"):
        seasonal.sample(1, length=20)
    vectors = ud.edm(width=8)
    vectors.meet(ud.load(process(60)[:, :3, 0]))
    with pytest.raises(InputError, match="length 20: the rows are no series"):
        vectors.sample(1, length=20)
