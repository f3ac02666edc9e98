"""Windows that training moves: within their recording, never onto one that is held out."""

from __future__ import annotations

import numpy as np
import pytest

import undiffuse.data.source as source
from undiffuse.data import load
from undiffuse.data.recordings.windows import Windows

LENGTHS, SIZE = (100, 64, 10, 257), 32


@pytest.fixture
def windows():
    """Windows of recordings whose samples are 1, 2, 3, ..."""
    samples = np.arange(sum(LENGTHS), dtype=np.float32)[:, None] + 1
    return Windows(samples, LENGTHS, SIZE)


def test_a_moved_window_stays_in_its_recording_and_off_what_is_held_out(windows):
    """And begins, as often as anywhere, at each place up to half a window away."""
    held = np.zeros(len(windows), bool)
    held[[1, 9, 12]] = True  # the middle of the first recording; two of the last
    forbidden = set(windows.take(np.flatnonzero(held))[windows.take(np.flatnonzero(held)) > 0])
    room = windows.room(held)
    own = windows.take(np.arange(len(windows)))[:, 0]
    ends = np.cumsum(LENGTHS)
    for i in np.flatnonzero(~held):
        u = (np.arange(200) + 0.5) / 200
        rows = windows.moved(np.full(200, i), room, u)
        group, first = windows.groups[i], rows[:, 0]
        inside = rows[rows > 0]
        assert inside.min() > ends[group] - LENGTHS[group]
        assert inside.max() <= ends[group]
        assert not forbidden & set(inside)
        assert ((rows > 0).sum(1) == (own[i] > 0) * min(SIZE, LENGTHS[group])).all()
        assert np.abs(first - own[i]).max() <= SIZE // 2
        starts, counts = np.unique(first, return_counts=True)
        assert np.ptp(starts) == len(starts) - 1
        assert np.ptp(counts) <= 2
    free = windows.moved(np.array([7, 7]), room, np.array([0.0, 0.999]))[:, 0] - own[7]
    assert free[0] < 0 < free[1]
    everywhere = windows.room(np.zeros(len(windows), bool))
    assert (everywhere[1] - everywhere[0])[6:14].max() == SIZE


def test_training_moves_few_windows_and_leaves_held_out_ones(tmp_path, monkeypatch):
    """By the seed and the place in the run alone; it is said, and many are left as they are."""
    soundfile = pytest.importorskip("soundfile")
    rng = np.random.default_rng(0)
    for i in range(12):
        soundfile.write(tmp_path / f"{i}.wav", rng.uniform(-0.5, 0.5, 300), 800, subtype="FLOAT")
    data = load(tmp_path, size=64, seed=1)
    assert any("training moves each window by up to half of it" in note for note in data.notes)
    held = data.held_out_batch(100)["row"].numpy()
    seen = np.concatenate(
        [batch["row"].numpy() for _, batch in zip(range(8), data.batches(16, seed=3))]
    )
    again = np.concatenate(
        [batch["row"].numpy() for _, batch in zip(range(4), data.batches(32, seed=3))]
    )
    np.testing.assert_array_equal(seen, again)
    own = data.sample_batch(1000)["row"].numpy()
    assert np.isin(seen[:, 0], own[:, 0]).mean() < 0.2  # they begin elsewhere
    assert not np.isin(seen, held).any()
    monkeypatch.setattr(source, "FEW_WINDOWS", 10)
    many = load(tmp_path, size=64, seed=1)
    assert not any("training moves" in note for note in many.notes)
    first = next(many.batches(16, seed=3))["row"].numpy()
    assert np.isin(first[:, 0], own[:, 0]).all()
