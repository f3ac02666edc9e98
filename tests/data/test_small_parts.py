"""Windows, labels and the files that rows are written to, by small cases whose answer is known."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from undiffuse import load
from undiffuse.data.labels import as_labels, index_labels, match_classes
from undiffuse.data.recordings.windows import Windows, window_length, window_notes
from undiffuse.data.writing import find_writer, folder_writer, npy_writer, npz_writer
from undiffuse.errors import InputError
from undiffuse.models import GenerativeModel

# --- windows


@pytest.mark.parametrize("channels", [1, 2])
def test_windows_lie_evenly_in_their_recordings_and_short_ones_end_in_silence(channels):
    """Of 10 samples two windows of 4, with gaps of 1/2, 1, 1/2 rounded down; of 3 and 1 one."""
    lengths, total = (10, 3, 4, 15, 1), 33
    samples = np.arange(1, total + 1, dtype=np.int16)[:, None].repeat(channels, 1)
    rows = Windows(samples, lengths, 4)
    assert rows.groups.tolist() == [0, 0, 1, 2, 3, 3, 3, 4]
    assert len(rows) == 8
    expected = [
        [1, 2, 3, 4], [6, 7, 8, 9],  # gaps of 10 - 8 = 2: a quarter and three quarters of it
        [11, 12, 13, 0],
        [14, 15, 16, 17],
        [18, 19, 20, 21], [23, 24, 25, 26], [28, 29, 30, 31],  # 15 - 12 = 3: 0.5, 1.5, 2.5
        [33, 0, 0, 0],
    ]  # fmt: skip
    found = rows.take(np.arange(8))
    assert found.dtype == np.int16
    for channel in np.moveaxis(found, -1, 0) if channels == 2 else [found]:
        assert channel.tolist() == expected
    assert rows.take(np.array([7, 0])).shape == (2, 4) + (2,) * (channels == 2)


@pytest.mark.parametrize(
    ("lengths", "rate", "size", "length"),
    [
        ((9999,) * 10, 8000, None, 8000),  # a second: 125 times 64
        ((9999,) * 10, 1001, None, 960),
        ((99999,) * 10, 44100, None, 16384),
        ((63,) * 10, 8000, None, 63),
        ((64,) * 10, 8000, None, 64),
        ((65,) * 10, 8000, None, 64),
        ((100, *[500] * 19), 8000, None, 448),  # one in twenty is shorter
        ((100, 100, 100, *[500] * 17), 8000, None, 448),
        ((100, 100, 100, 200, 200), 8000, None, 64),
        ((5, 10), 8000, 10, 10),
        ((5, 10), 8000, (7,), 7),
        ((5, 10), 8000, 1, 1),
    ],
)
def test_a_window_is_a_second_or_leaves_nine_tenths_of_the_sound_whole(lengths, rate, size, length):
    assert window_length("x/", lengths, rate, size) == length


@pytest.mark.parametrize("size", [0, -1, (3, 3), 11])
def test_a_window_that_cannot_be_is_refused(size):
    with pytest.raises(InputError, match=r"the longest recording|as a whole number of samples"):
        window_length("x/", (5, 10), 8000, size)


def test_what_is_cut_and_filled_is_said():
    for lengths, short in (((4000, 4000), None), ((4000, 1000, 1999, 2000), "2 of 4")):
        rows = Windows(np.zeros((sum(lengths), 1), np.int16), lengths, 2000)
        notes = window_notes("x/", rows, lengths, 8000)
        assert notes[0] == (
            f"x/: {len(lengths)} recordings are cut into {len(rows)} windows of 2,000 samples "
            "(0.25 s) that do not overlap."
        )
        assert notes[1:] == (
            []
            if short is None
            else [f"x/: {short} recordings are shorter than that; silence is added."]
        )


# --- labels


@pytest.mark.parametrize(
    ("labels", "classes", "index", "names"),
    [
        ([3, 1, 3], (), [1, 0, 1], ("1", "3")),
        ([[3], [1], [3]], (), [1, 0, 1], ("1", "3")),
        ([1.0, 0.0, 1.0], (), [1, 0, 1], ("0", "1")),
        ([True, False, True], (), [1, 0, 1], ("False", "True")),
        (["b", "a", "b"], (), [1, 0, 1], ("a", "b")),
        ([2, 0, 2], ("x", "y", "z"), [2, 0, 2], ("x", "y", "z")),
        ([0, 1, 0], ("x", "y", "z"), [0, 1, 0], ("x", "y", "z")),
        ([3, 0, 3], ("x", "y", "z"), [1, 0, 1], ("0", "3")),  # no indices of these
        ([-1, 0, -1], ("x", "y"), [0, 1, 0], ("-1", "0")),
        (["y", "x", "y"], ("x", "y"), [1, 0, 1], ("x", "y")),
    ],
)
def test_labels_are_indices_into_named_classes(labels, classes, index, names):
    found, called = index_labels(labels, 3, "data", classes)
    assert found is not None
    assert (found.tolist(), found.dtype, called) == (index, np.int64, names)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([1, 2], "labels of shape .* for 3 rows"),
        ([[1, 2], [1, 2], [1, 2]], "labels of shape .* for 3 rows"),
        (5, "labels of shape .* for 3 rows"),
        ([0.5, 1.0, 2.0], "neither whole numbers nor names"),
        ([np.nan, 1.0, 2.0], "1 of 3 rows have no label, the first of them row 1"),
        (["a", "b", None], "1 of 3 rows have no label, the first of them row 3"),
    ],
)
def test_labels_that_are_none_are_refused(labels, said):
    with pytest.raises(InputError, match=f"data: .*{said}"):
        index_labels(labels, 3, "data")
    assert index_labels(None, 3, "data") == (None, ())


ALIKE = ["01", "1", "007", "7", "+7", "7.0", "0x1", " 1", "é", "\N{DIGIT ONE}", "٣"]
HOLDERS = {
    "list": list,
    "array": np.array,
    "objects": lambda names: np.array(names, dtype=object),
    "bytes": lambda names: [name.encode() for name in names],
    "series": pd.Series,
    "category": lambda names: pd.Series(names, dtype="category"),
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_classes_whose_names_are_one_number_stay_apart(holder, tmp_path):
    """From whatever holds them to what is written, and on the command line."""
    names = sorted(set(ALIKE))
    index, classes = index_labels(HOLDERS[holder](names), len(names), "data")
    assert index is not None
    assert [classes[i] for i in index] == names
    assert match_classes(index, classes, names[::-1]).tolist() == list(range(len(names)))[::-1]  # pyright: ignore
    model: Any = SimpleNamespace(classes=classes)
    assert [classes[GenerativeModel.label_index(model, name)] for name in names] == names
    labels = as_labels(index, classes)
    assert labels.tolist() == names
    written(npz_writer, np.arange(2.0 * len(names)).reshape(-1, 2), tmp_path / "x.npz", labels)
    again = load(tmp_path / "x.npz").loaded
    assert [again.classes[i] for i in again.labels] == names
    written(pngs, np.zeros(len(names)), tmp_path / "out", labels)
    assert len({file.name[6:] for file in (tmp_path / "out").iterdir()}) == len(names)


def test_folders_whose_names_are_one_number_stay_apart(tmp_path):
    for name in ("01", "1", "007"):
        (tmp_path / name).mkdir()
        for i in range(4):
            Image.new("L", (8, 8), 9 * i).save(tmp_path / name / f"{i}.png")
    loaded = load(tmp_path).loaded
    assert sorted(loaded.classes) == ["007", "01", "1"]
    assert np.bincount(loaded.labels).tolist() == [4, 4, 4]


@pytest.mark.parametrize("labels", [[-1, 10], [0, 2**63 - 1], [7, 1]])
def test_classes_are_numbers_where_all_are(labels):
    index, classes = index_labels(labels, 2, "data")
    assert as_labels(index, classes).tolist() == labels
    assert as_labels(index, [f"0{i}" for i in range(2)]).tolist() == [f"0{i}" for i in index]
    assert as_labels(np.zeros(1, int), ["9" * 19]).tolist() == ["9" * 19]


def test_classes_are_matched_by_name():
    labels = np.array([0, 2, 1])
    found = match_classes(labels, ["c", "a", "b"], ["a", "b", "d"])
    assert found is not None
    assert (found.tolist(), found.dtype) == ([-1, 1, 0], np.int64)
    assert match_classes(None, ["a"], ["a"]) is None
    assert match_classes(labels, ["c", "a", "b"], []) is None


# --- files


pngs = partial(folder_writer, lambda rows: (b"" for _ in rows), ".png")
"""Files that hold nothing."""


def written(writer, rows, out, labels):
    """Rows written in two parts."""
    half = len(rows) // 2
    with writer(out, len(rows)) as write:
        for part in (slice(half), slice(half, None)):
            write(rows[part], None if labels is None else labels[part])


def test_the_writer_is_that_of_the_suffix(tmp_path):
    writers = {".npy": npy_writer, "folder/": npz_writer}
    assert find_writer(writers, tmp_path / "x.NPY", "rows") is npy_writer
    assert find_writer(writers, tmp_path / "x", "rows") is npz_writer
    (tmp_path / "x.png").mkdir()
    assert find_writer(writers, tmp_path / "x.png", "rows") is npz_writer
    with pytest.raises(InputError, match=r"rows cannot be written as \.csv; use one of \.npy, fol"):
        find_writer(writers, tmp_path / "x.csv", "rows")


def test_an_archive_holds_data_labels_and_more(tmp_path):
    rows = np.arange(6.0).reshape(3, 2)
    for labels in (None, np.array(["a", "b", "a"], dtype=object), [1, 2, 1]):
        written(partial(npz_writer, rate=np.array(8)), rows, tmp_path / "x.npz", labels)
        with np.load(tmp_path / "x.npz", allow_pickle=False) as found:
            assert set(found) == {"data", "rate"} | ({"labels"} if labels is not None else set())
            np.testing.assert_array_equal(found["data"], rows)
            if labels is not None:
                assert found["labels"].tolist() == list(labels)
    with pytest.raises(ValueError, match="allow_pickle"):
        written(npy_writer, np.array([None]), tmp_path / "x.npy", None)


def test_files_of_a_folder_are_numbered_and_named_by_their_label(tmp_path):
    for labels, names in (
        (None, ["00000.png", "00345.png"]),
        (["a/b%"] * 345 + ["cat 1.5+x-y_z"], ["00000-a%2Fb%25.png", "00345-cat 1.5+x-y_z.png"]),
    ):
        written(pngs, np.zeros(346), tmp_path / "out", labels)
        found = sorted(file.name for file in (tmp_path / "out").iterdir())
        assert [found[0], found[-1]] == names
    for name, ours in (("123456.png", 1), ("1234.png", 0), ("12345xpng", 0), ("1234567.png", 1)):
        (tmp_path / "other").mkdir()
        (tmp_path / "other" / name).touch()
        if ours:
            written(pngs, np.zeros(0), tmp_path / "other", None)
        else:
            refused = pytest.raises(InputError, match="holds other files")
            with refused:
                written(pngs, np.zeros(1), tmp_path / "other", None)
            (tmp_path / "other" / name).unlink()
        (tmp_path / "other").rmdir()
