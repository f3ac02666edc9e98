"""Arrays in files and in Python: what they are taken for, and what each bad one gets."""

import gzip
import pickle
import struct

import numpy as np
import pytest
import torch

from undiffuse.data import conform, load
from undiffuse.data.arrays.axes import layout_of, shape_axes
from undiffuse.data.load import read
from undiffuse.errors import InputError


def everything(data):
    return data.loaded.rows.take(np.arange(len(data.loaded.rows)))


@pytest.mark.parametrize(
    ("dtype", "row_shape", "shape"),
    [
        ("float32", (), (1,)),
        ("float64", (7,), (7,)),
        ("uint8", (9,), (9,)),
        ("uint8", (9, 6), (1, 9, 6)),
        ("uint16", (9, 6), (1, 9, 6)),
        ("uint8", (9, 6, 3), (3, 9, 6)),
        ("uint16", (9, 6, 4), (4, 9, 6)),
        ("uint8", (3, 9, 6), (3, 9, 6)),
        ("uint8", (5, 9, 6), (5, 9, 6)),
        ("float32", (2, 100), (2, 100)),
        ("float32", (30, 40), (1, 30, 40)),
        ("int32", (8, 40), (8, 40)),
        ("float16", (5, 33, 20), (5, 33, 20)),
        ("float32", (32, 24, 3), (3, 32, 24)),
        ("float32", (3, 32, 24), (3, 32, 24)),
        ("bool", (9, 6), (1, 9, 6)),
        ("float32", (2, 3, 5, 4), (6, 5, 4)),
    ],
)
def test_what_a_row_is_taken_for(tmp_path, dtype, row_shape, shape):
    rows = np.random.default_rng(0).integers(0, 2, (12, *row_shape)).astype(dtype)
    np.save(tmp_path / "x.npy", rows)
    data = load(tmp_path / "x.npy")
    assert data.shape == shape
    np.testing.assert_array_equal(everything(data), rows)
    assert data.held_out.dtype == rows.dtype


def test_layout_keeps_every_value():
    for shape in [(3, 50), (20, 20), (8, 8, 3), (3, 4, 5), (2, 3, 4, 5)]:
        assert np.prod(layout_of(shape, shape_axes(shape))) == np.prod(shape)


@pytest.mark.parametrize(
    ("dtype", "greatest", "levels"),
    [
        ("uint8", 1, 2),
        ("uint8", 16, 17),
        ("uint8", 255, 256),
        ("uint8", 128, 256),
        ("uint16", 4095, 4096),
    ],
)
def test_levels_are_those_in_use(dtype, greatest, levels):
    rows = np.random.default_rng(0).integers(0, greatest + 1, (40, 8, 8)).astype(dtype)
    rows[0, 0, 0] = greatest
    assert load(rows).transform.levels == levels


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (
            np.array([[1, 2], [np.nan, 4], [5, np.inf]]),
            "1 value is infinite, the first in row 2 at position (1,); replace them, by NaN where",
        ),
        (np.array([1.0, 2, -np.inf]), "1 value is infinite, the first in row 2;"),
        (np.full((5, 2), np.nan), "every value is NaN; there is nothing to learn"),
        (np.array([[1, np.nan], [2, np.nan], [3, np.nan]]), "column 1 has no value in any"),
        (np.zeros((0, 3)), "it has no rows; there is nothing to learn"),
        (np.zeros((3, 0)), "it has rows of shape (0,), without any values"),
        (np.arange(3.0).reshape(1, 3), "it has 1 row; training needs at least 2 rows"),
        (np.full((9, 2), 3), "every value is 3; there is nothing to learn"),
        (np.full((9, 4, 4), 7, np.uint8), "every value is 7; there is nothing to learn"),
        (np.tile(np.arange(3.0), (9, 1)), "all training rows are the same; there is nothing"),
        (np.array(3.0), "it holds a single number"),
        (np.ones((4, 2), complex), "complex numbers are not supported; stack their real"),
        (np.array(["a", "b"]), "values of type <U1 are not supported; convert them"),
        (np.array(["2020-01-01", "2020-01-02"], "M8[D]"), "type datetime64[D] are not supported"),
        (np.zeros(4, [("a", int), ("b", float)]), "it has named fields (a, b); save it as a CSV"),
        (np.array([1e200, -1e200, 3]), "overflow when squared; divide them first"),
        (np.array([1e-200, -1e-200, 3e-200]), "differ by so little that their squares vanish"),
        (np.array([0, 1, 2**63], np.uint64), "needs 64 bits without a sign; convert to floats"),
        (np.array([-(2**62), 0, 2**62]), "span more than 62 bits; convert them to floats"),
    ],
)  # fmt: skip
def test_bad_arrays_are_refused_in_a_sentence(tmp_path, rows, sentence):
    np.save(tmp_path / "bad.npy", rows)
    for source, name in ((tmp_path / "bad.npy", "bad.npy: "), (rows, "data: ")):
        with pytest.raises(InputError) as refused:
            load(source, held_out=1)
        assert str(refused.value).startswith(name)
        assert sentence in str(refused.value)


def test_nothing_is_ever_unpickled(tmp_path):
    """Each file would create `proof` if it were opened by pickle."""
    proof = tmp_path / "proof"

    class Attack:
        def __reduce__(self):
            return open, (str(proof), "w")

    np.save(tmp_path / "objects.npy", np.array([Attack(), None]), allow_pickle=True)
    (tmp_path / "pickled.npy").write_bytes(pickle.dumps(Attack()))
    np.savez(tmp_path / "objects.npz", np.array([Attack(), None]), allow_pickle=True)
    (tmp_path / "pickled.npz").write_bytes(pickle.dumps(Attack()))
    for name, sentence in {
        "objects.npy": "it holds Python objects, which are never unpickled",
        "pickled.npy": "this is not a numpy file, or a pickled one, which is never opened",
        "objects.npz": "it holds Python objects, which are never unpickled",
        "pickled.npz": "this is not a numpy file, or a pickled one, which is never opened",
    }.items():
        with pytest.raises(InputError) as refused:
            load(tmp_path / name)
        assert f"{name}: {sentence}" in str(refused.value)
    assert not proof.exists()


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x-idx1-ubyte", "x-idx1-ubyte.gz"])
def test_files_cut_short_are_refused(tmp_path, name):
    write_any(tmp_path / name, np.arange(2000, dtype=np.uint8))
    whole = (tmp_path / name).read_bytes()
    for length, sentence in (
        (len(whole) - 40, "cut short or damaged"),
        (0, "(the file is empty|cut short or damaged|of this kind)"),
    ):
        (tmp_path / name).write_bytes(whole[:length])
        with pytest.raises(InputError, match=sentence):
            load(tmp_path / name)


def write_any(path, array):
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez(path, array)
    else:
        codes = {"uint8": 8, "int8": 9, "int16": 11, "int32": 12, "float32": 13, "float64": 14}
        head = bytes([0, 0, codes[array.dtype.name], array.ndim]) + struct.pack(
            f">{array.ndim}I", *array.shape
        )
        content = head + array.astype(array.dtype.newbyteorder(">")).tobytes()
        path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_and_the_labels_beside_them(tmp_path, dtype, suffix):
    images = np.random.default_rng(0).integers(0, 100, (30, 6, 5)).astype(dtype)
    labels = np.arange(30, dtype=np.uint8) % 4
    write_any(tmp_path / f"train-images-idx3-ubyte{suffix}", images)
    assert load(tmp_path / f"train-images-idx3-ubyte{suffix}").labels is None
    write_any(tmp_path / f"train-labels-idx1-ubyte{suffix}", labels)
    data = load(tmp_path / f"train-images-idx3-ubyte{suffix}")
    np.testing.assert_array_equal(everything(data), images)
    np.testing.assert_array_equal(data.labels, labels)


def test_big_endian_and_column_major_arrays(tmp_path):
    rows = np.random.default_rng(0).standard_normal((20, 3)).astype(">f4")
    np.save(tmp_path / "x.npy", np.asfortranarray(rows))
    data = load(tmp_path / "x.npy")
    np.testing.assert_array_equal(everything(data), rows.astype("f4"))
    assert next(data.batches(4, seed=0))["row"].dtype == torch.float32


def test_npz_finds_data_and_labels(tmp_path):
    rows, labels = np.random.default_rng(0).standard_normal((20, 3)), np.arange(20) % 3
    np.savez(tmp_path / "a.npz", images=rows, labels=labels)
    np.savez(tmp_path / "b.npz", small=labels, big=rows)
    np.savez(tmp_path / "c.npz", y=rows)
    a, b, c = (load(tmp_path / f"{name}.npz") for name in "abc")
    for data in (a, b, c):
        np.testing.assert_array_equal(everything(data), rows)
    np.testing.assert_array_equal(a.labels, labels)
    assert b.loaded.notes == ('b.npz: the array "big" is used, out of small, big.',)
    np.savez(tmp_path / "d.npz")
    with pytest.raises(InputError, match=r"d\.npz: the archive is empty"):
        load(tmp_path / "d.npz")


@pytest.mark.parametrize(
    ("labels", "sentence"),
    [
        (np.arange(7), "labels of shape (7,) for 20 rows; give one label for each row"),
        (np.full(20, 1 + 2j), "the labels are neither whole numbers nor names"),
        (np.zeros((20, 2), int), "labels of shape (20, 2) for 20 rows"),
    ],
)
def test_labels_that_do_not_fit_are_refused(labels, sentence):
    with pytest.raises(InputError) as refused:
        load((np.random.default_rng(0).standard_normal((20, 3)), labels))
    assert sentence in str(refused.value)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("digts", "data digts: no such name or path. Did you mean digits?"),
        ("fashion", "Did you mean fashion-mnist?"),
        ("photos/", "photos/: no such file or folder; check the path."),
        ("missing.npy", "missing.npy: no such file or folder; check the path."),
        (
            "~nobody-of-this-name/x",
            "~nobody-of-this-name/x: no such file or folder; check the path.",
        ),
        ("", "data: the path is empty; give a file, a folder or a name."),
    ],
)
def test_unknown_names_and_missing_paths(source, sentence):
    with pytest.raises(InputError) as refused:
        load(source)
    assert sentence in str(refused.value)


def test_files_of_other_kinds_are_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("hello")
    with pytest.raises(
        InputError, match=r"notes\.txt: files of this kind cannot be read; give \.csv, .*\.npy"
    ):
        load(tmp_path / "notes.txt")


def test_fingerprint_follows_the_content_not_the_place(tmp_path):
    rows = np.random.default_rng(0).standard_normal((20_000, 50)).astype(np.float32)
    (tmp_path / "elsewhere").mkdir()
    np.save(tmp_path / "a.npy", rows)
    np.save(tmp_path / "elsewhere/b.npy", rows)
    a, b = load(tmp_path / "a.npy"), load(tmp_path / "elsewhere/b.npy")
    assert a.fingerprint == b.fingerprint
    rows[12_345, 7] += 1
    np.save(tmp_path / "a.npy", rows)
    assert load(tmp_path / "a.npy").fingerprint != b.fingerprint
    assert load(rows[:, :49]).fingerprint != load(rows).fingerprint


def test_fingerprint_tells_type_shape_order_and_labels():
    """The same bytes are other data if they are of another type or shape, or in another order."""
    zeros = [
        np.zeros((8, 4), "int16"),
        np.zeros((4, 8), "int16"),
        np.zeros((8, 2, 2), "int16"),
        np.zeros((8, 4), "uint16"),
        np.zeros((8, 4), "float16"),
        np.zeros((8, 2), "int32"),
        np.zeros((8, 1), "int64"),
    ]
    assert {part.nbytes for part in zeros} == {64}
    rows = np.random.default_rng(0).standard_normal((20, 3))
    labels = np.arange(20) % 2
    sources = [*zeros, rows, rows[::-1], (rows, labels), (rows, 1 - labels)]
    assert len({read(source).fingerprint for source in sources}) == len(sources)


@pytest.mark.parametrize("own", ["bool", "int8", "uint8", "int16", "uint16", "int64", "float32"])
@pytest.mark.parametrize("run", ["bool", "uint8", "int16", "uint16", "float16", "float64"])
def test_new_rows_are_taken_exactly_where_the_run_s_type_holds_them(run, own):
    """Whole numbers as they are, numbers within the range of a floating-point type."""
    training = np.random.default_rng(0).integers(0, 2, (30, 4)).astype(run)
    config = load(training).config()
    whole = np.dtype(run).kind != "f"
    info = np.iinfo if np.dtype(own).kind in "iu" else np.finfo
    values = [False, True] if own == "bool" else [0, 1, 2, info(own).min, info(own).max]
    for value in [*values, *([0.5] if own == "float32" else [])]:
        rows = np.full((2, 4), value, own)
        exact = rows[0, 0].item()
        if whole:
            low, high = (0, 1) if run == "bool" else (np.iinfo(run).min, np.iinfo(run).max)
            held = exact == int(exact) and low <= exact <= high
        else:
            held = abs(exact) <= float(np.finfo(run).max)
        if held:
            taken = next(conform(rows, config).batches(2))["row"]
            np.testing.assert_array_equal(taken.numpy(), rows.astype(run))
        else:
            with pytest.raises(InputError, match="8 values are unlike the run's"):
                conform(rows, config)
