"""Rows that belong together stay together: the split by groups, as recordings are split."""

import wave
from dataclasses import replace

import numpy as np
import pytest

from undiffuse.data import Data, load
from undiffuse.data.arrays.read import from_array
from undiffuse.data.permutation import key, permute
from undiffuse.data.split import SplitByGroups, SplitByRows, make_split
from undiffuse.errors import InputError
from undiffuse.evaluation.references import refer

LAYOUTS = {
    "even": np.repeat(np.arange(20), 7),
    "two": np.array([4, 4, 4, 9]),
    "one large": np.array([0] * 90 + [1] * 5 + [2] * 5),
    "interleaved": np.arange(60) % 6,
    "single rows": np.arange(30),
    "uneven": np.repeat(np.arange(12), np.random.default_rng(0).integers(1, 40, 12)),
}


def sides(split, n):
    held_out = split.held_out(np.arange(split.n_held_out))
    return held_out, split.training(np.arange(n - split.n_held_out))


@pytest.mark.parametrize("wanted", [None, 0.3, 1, 3])
@pytest.mark.parametrize("name", LAYOUTS)
def test_no_group_is_on_both_sides(name, wanted):
    groups = LAYOUTS[name]
    for seed in (0, 1):
        split = make_split(len(groups), groups, wanted, seed, name)
        held_out, training = sides(split, len(groups))
        assert sorted([*held_out, *training]) == list(range(len(groups)))
        assert min(len(held_out), len(training)) > 0
        assert set(groups[held_out]).isdisjoint(groups[training])
        outside = split.holds_out(np.arange(len(groups)))
        np.testing.assert_array_equal(np.flatnonzero(outside), np.sort(held_out))


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_same_number_asked_for_makes_the_same_split_again(name):
    groups = LAYOUTS[name]
    for wanted in [*range(1, len(groups), 13), len(groups) - 1]:
        first = SplitByGroups(groups, wanted, seed=wanted)
        again = SplitByGroups(groups, first.wanted, seed=wanted)
        assert (first.n_held_out + first.n_training, first.n_test) == (len(groups), 0)
        for one, other in zip(sides(first, len(groups)), sides(again, len(groups))):
            np.testing.assert_array_equal(one, other)


def test_groups_are_held_out_whatever_their_sizes():
    """So a long recording is, as often as any; the rows are as many as wanted on average."""
    sizes = np.array([400, 1, 1, 30, 3, 50, 9, 1, 100, 5])
    groups = np.repeat(np.arange(10), sizes)
    splits = [SplitByGroups(groups, 120, seed) for seed in range(400)]
    held_out = np.array([np.isin(np.arange(10), groups[split._held_out]) for split in splits])
    assert set(held_out.sum(1).tolist()) == {2}
    assert np.abs(held_out.mean(0) - 0.2).max() < 4 * (0.2 * 0.8 / 400) ** 0.5
    mean = np.mean([split.n_held_out for split in splits])
    assert mean == pytest.approx(120, abs=4 * sizes.std() * 2**0.5 / 400**0.5)


def test_the_split_by_groups_follows_its_seed():
    groups = LAYOUTS["even"]
    splits = [SplitByGroups(groups, 14, seed) for seed in range(20)]
    assert len({frozenset(groups[sides(split, 140)[0]]) for split in splits}) > 10


def test_a_single_group_is_split_by_rows_and_it_is_said():
    loaded = from_array(np.arange(100, dtype=np.float32)[:, None], name="one/")
    data = Data(replace(loaded, groups=np.zeros(100, np.int64)))
    assert isinstance(data.split, SplitByRows)
    assert (len(data), data.n_held_out) == (90, 10)
    assert data.notes == (
        "one/: all rows have one origin, so those held out tell less of new data than usual.",
    )


def test_nothing_is_measured_on_held_out_groups():
    groups = np.repeat(np.arange(10), 10)
    outside = SplitByGroups(groups, 10, 0).holds_out(np.arange(100))
    rows = np.where(outside, 1e6, np.arange(100)).astype(np.float32)[:, None]
    data = Data(replace(from_array(rows, name="data"), groups=groups))
    assert data.transform.high[0] < 100


def test_no_recording_has_windows_on_both_sides(tmp_path, monkeypatch):
    """Recording i holds the sample i + 1 alone, so that a window tells where it is from."""
    pytest.importorskip("soundfile")
    monkeypatch.setenv("UNDIFFUSE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "sounds").mkdir()
    for i in range(12):
        with wave.open(str(tmp_path / "sounds" / f"{i}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(np.full(700 + 100 * i, i + 1, "<i2").tobytes())
    for seed in range(4):
        data = load(tmp_path / "sounds", size=100, seed=seed, held_out=0.2)
        held_out, training = set(np.unique(data.held_out)), set(np.unique(data.train[:]))
        assert held_out
        assert held_out.isdisjoint(training)
        assert held_out | training == set(range(1, 13))
        batches = data.batches(50, seed=0)
        assert set(np.unique(np.concatenate([next(batches)["row"] for _ in range(5)]))) <= training


@pytest.mark.parametrize(
    ("n", "wanted", "rows"),
    [
        (2, None, 1), (4, None, 1), (15, None, 2), (14, None, 1), (100_000, None, 10_000),
        (200_000, None, 10_000), (24, None, 8), (89, None, 9), (50, 0.25, 12), (50, 0.001, 1),
        (50, 0.98, 49), (50, 1, 1),
        (50, 49, 49), (200_000, 0.5, 100_000),
    ],
)  # fmt: skip
def test_a_tenth_is_held_out_and_ten_thousand_rows_at_most(n, wanted, rows):
    """Unless a share or a number is asked for; 8 rows at least, or 1 of fewer than 24."""
    split = make_split(n, None, wanted, 0, "data")
    assert (split.n_held_out, split.notes) == (rows, ())
    positions = np.arange(0, n - rows, max(1, n // 1000))
    assert not split.holds_out(split.training(positions)).any()
    assert split.holds_out(split.held_out(np.arange(0, rows, max(1, rows // 1000)))).all()


@pytest.mark.parametrize("wanted", [0, 0.0, -1, -0.1, 50, 51, 0.99, 1.0])
def test_a_split_that_leaves_no_rows_on_one_side_is_refused(wanted):
    with pytest.raises(InputError, match=f"held_out {wanted}: of 50 rows this leaves none on one"):
        make_split(50, None, wanted, 0, "data")


@pytest.mark.parametrize("groups", [None, np.arange(300) // 3])
def test_which_rows_are_held_out_is_the_same_in_every_version(groups):
    """By rows the first of P, of the key (1, seed); by groups those visited first, of (3, seed)."""
    split = make_split(300, groups, 30, 7, "data")
    order = permute(np.arange(300), 300, key(1, 7))
    if groups is None:
        expected = order[:30]
    else:
        visited = permute(np.arange(100), 100, key(3, 7))[:10]
        expected = order[np.isin(groups[order], visited)]
    np.testing.assert_array_equal(split.held_out(np.arange(30)), expected)
    rest = order[~np.isin(order, expected)]
    np.testing.assert_array_equal(split.training(np.arange(270)), rest)


@pytest.mark.parametrize(("n", "held_out"), [(20, 2), (24, 8), (40, 8), (80, 8), (90, 9)])
def test_what_a_report_needs_is_held_out_or_its_lack_is_said(n, held_out):
    """40 rows used to hold out 4, and the report refused the run after its training."""
    data = load(np.arange(n, dtype=np.float32)[:, None])
    assert data.n_held_out == held_out
    assert bool([note for note in data.notes if "a report needs 8" in note]) == (held_out < 8)
    if held_out >= 8:
        assert len(refer(data).held_out) == held_out


def test_few_rows_that_were_asked_for_are_said_too():
    data = load(np.arange(100, dtype=np.float32)[:, None], held_out=5)
    assert "5 of 100 rows are held out, and a report needs 8" in data.notes[-1]
