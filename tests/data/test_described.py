"""What data are described as, how rows are read by position, and what refusals and notes say."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse.data import Problem, complete, conform, load
from undiffuse.data.arrays.objects import to_array
from undiffuse.data.arrays.read import from_array
from undiffuse.data.arrays.transform import ArrayTransform
from undiffuse.data.conformed import CheckedRows, Conformed
from undiffuse.data.images.form import ImageForm, levels_in_use, transform_of_images
from undiffuse.data.kind import KINDS, kind_of
from undiffuse.data.load import read
from undiffuse.data.rows import CHUNK_BYTES, ArrayRows, chunk_indices, chunk_length, fingerprint
from undiffuse.errors import InputError
from undiffuse.options import ReadingOptions

rng = np.random.default_rng(0)

# --- rows by position


def mapped(folder, array, view=lambda array: array):
    np.save(folder / "x.npy", array)
    return view(np.load(folder / "x.npy", mmap_mode="r"))


VIEWS = {
    "whole": (lambda a: a, True),
    "later rows": (lambda a: a[5:], True),
    "rows between": (lambda a: a[5:11], True),
    "a part of each row": (lambda a: a[:, 1:], False),
    "every second row": (lambda a: a[::2], False),
    "column by column": (lambda a: a.T, False),
    "no rows": (lambda a: a[:0], False),
}


@pytest.mark.parametrize("dtype", ["f4", ">i2", "?"])
@pytest.mark.parametrize("name", VIEWS)
def test_a_file_gives_the_rows_that_its_map_shows(tmp_path, name, dtype):
    view, by_position = VIEWS[name]
    array = mapped(tmp_path, rng.integers(-99, 99, (30, 4)).astype(dtype), view)
    rows = ArrayRows(array)
    assert (rows.file is not None) == by_position
    assert len(rows) == len(array)
    assert rows.dtype == array.dtype.newbyteorder("=")
    for indices in ([], [0], [3, 2, 2], [1, 2, 3, 0, 1], [len(array) - 1]):
        if len(array) or not indices:
            taken = rows.take(np.array(indices, dtype=np.int64))
            np.testing.assert_array_equal(taken, array[indices])
            assert taken.dtype == rows.dtype
            assert taken.flags.writeable


def test_a_file_of_single_numbers_is_read_by_position(tmp_path):
    rows = ArrayRows(mapped(tmp_path, np.arange(9.0)))
    assert rows.take(np.array([8, 0, 1])).tolist() == [8, 0, 1]
    scalar = mapped(tmp_path, np.array(3.0))
    assert ArrayRows(scalar).file is None
    assert ArrayRows(np.arange(9.0)).file is None


def test_a_file_that_is_cut_short_meanwhile_is_said(tmp_path):
    array = mapped(tmp_path, np.arange(9000.0))
    rows, name = ArrayRows(array), fingerprint(array)
    assert name == fingerprint(np.arange(9000.0))
    os.truncate(tmp_path / "x.npy", (tmp_path / "x.npy").stat().st_size - 8)
    assert rows.take(np.array([8998])).tolist() == [8998]
    with pytest.raises(InputError, match=r"x\.npy: has been cut short since it was opened"):
        rows.take(np.array([8998, 8999]))
    with pytest.raises(InputError, match=r"x\.npy: has been cut short since it was opened"):
        fingerprint(array)


@pytest.mark.parametrize(
    ("row_bytes", "length"), [(8, 65536), (128, 65536), (256, 2**15), (CHUNK_BYTES, 1),
                              (2 * CHUNK_BYTES, 1)]
)  # fmt: skip
def test_a_chunk_is_8_mb_and_65536_rows_at_most(row_bytes, length):
    rows = ArrayRows(np.broadcast_to(np.float64(0), (100_000, row_bytes // 8)))
    assert chunk_length(rows) == length
    told = []
    parts = list(chunk_indices(rows if length > 1 else ArrayRows(rows.array[:3]),
                               lambda *step: told.append(step), "them"))  # fmt: skip
    total = 100_000 if length > 1 else 3
    np.testing.assert_array_equal(np.concatenate(parts), np.arange(total))
    assert [len(part) for part in parts[:-1]] == [length] * (len(parts) - 1)
    ends = np.cumsum([len(part) for part in parts]).tolist()
    assert told == [(end, total, "them") for end in ends]


# --- what data are described as


def test_a_description_is_what_was_counted(tmp_path):
    rows, labels = rng.normal(size=(50, 3)), ["b"] * 20 + ["a"] * 30
    data = load((rows, labels), seed=3, held_out=0.2)
    tree = data.describe()
    assert [tree[name] for name in ("name", "path", "rows", "training_rows", "held_out_rows")] == [
        "data", None, 50, 40, 10
    ]  # fmt: skip
    assert tree["classes"] == {"a": 30, "b": 20}
    assert (tree["modelled_shape"], tree["row_shape"], tree["dtype"]) == ([3], [3], "float64")
    assert (tree["least"], tree["greatest"]) == (rows.min(), rows.max())
    assert tree["modelled_as"] == "3 columns, standardized per column."
    assert tree["notes"] == list(data.notes) == []
    config = data.config()
    assert config["split"] == {"seed": 3, "held_out": 10}
    assert [config[name] for name in ("name", "path", "rows", "reading", "classes")] == [
        "data", None, 50, {}, ["a", "b"]
    ]  # fmt: skip
    assert config["fingerprint"] == data.fingerprint == tree.get("fingerprint", data.fingerprint)
    assert "classes" not in load(rows).describe()
    own = data.held_out_rows()
    assert own.notes == data.loaded.notes
    assert own.name == "data"
    np.testing.assert_array_equal(
        own.labels, np.array([label == "b" for label in labels])[list(own.names)]
    )


@pytest.mark.parametrize(("rows", "held_out", "said"), [(70, 7, True), (70, 8, False)])
def test_fewer_held_out_rows_than_a_report_needs_are_said(rows, held_out, said):
    notes = load(rng.normal(size=(rows, 2)), held_out=held_out).notes
    assert bool(notes) == said
    if said:
        assert notes[0].startswith("data: 7 of 70 rows are held out, and a report needs 8")


DESCRIPTIONS = {
    "a vector": (lambda: rng.normal(size=(30, 1)), "1 column, standardized per column."),
    "whole numbers": (
        lambda: rng.integers(0, 500, (30, 2)),
        "2 columns, whole numbers, dequantized and standardized per column.",
    ),
    "sequences": (
        lambda: rng.normal(size=(30, 3, 1200)),
        "3 channels of 1,200 values, standardized per channel.",
    ),
    "a constant column": (
        lambda: np.column_stack([rng.normal(size=(30, 2)), np.ones(30)]),
        "2 columns, standardized per column; 1 constant column is left out and restored.",
    ),
    "constant columns": (
        lambda: np.column_stack([rng.normal(size=30), np.ones(30), np.zeros(30)]),
        "1 column, standardized per column; 2 constant columns are left out and restored.",
    ),
    "colour": (
        lambda: rng.integers(0, 256, (30, 5, 4, 3)).astype(np.uint8),
        "images with 3 channels of 5 x 4 values, whole numbers from 0 to 255, dequantized and "
        "scaled to [-1, 1].",
    ),
    "deep": (
        lambda: rng.integers(0, 65536, (30, 5, 4)).astype(np.uint16),
        "images with 1 channel of 5 x 4 values, whole numbers from 0 to 65,535, dequantized and "
        "scaled to [-1, 1].",
    ),
}


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_how_rows_are_modelled_is_one_sentence(name):
    make, sentence = DESCRIPTIONS[name]
    assert load(make()).transform.description == sentence


def test_training_rows_are_picked_from_either_end():
    data = load(np.arange(40.0)[:, None], held_out=8)
    every = data.train[:]
    assert len(data.train) == len(every) == 32
    np.testing.assert_array_equal(data.train[-32], every[:1])
    np.testing.assert_array_equal(data.train[31], every[-1:])
    np.testing.assert_array_equal(data.train[np.array([-1, 0])], every[[-1, 0]])
    np.testing.assert_array_equal(data.train[2:9:3], every[2:9:3])
    for index in (32, -33, [0, 32], np.array([-33])):
        with pytest.raises(IndexError, match="of 32"):
            data.train[index]


def test_batches_are_planned_ahead_and_are_the_same_ones():
    """More of them than are planned together: each is the one that is asked for by its step."""
    data = load(np.arange(100.0)[:, None])
    size = 300  # 13 batches are planned at a time
    batches = data.batches(size, seed=1, start_step=2)
    for step in range(2, 32):
        one = next(data.batches(size, seed=1, start_step=step))["row"]
        assert torch.equal(next(batches)["row"], one)
    assert next(data.batches(5000, seed=1))["row"].shape == (5000, 1)


# --- rows of a run


def test_a_type_that_holds_all_values_of_another_needs_no_look():
    told = []
    config = load(rng.integers(0, 99, (30, 3)).astype(np.int16)).config()
    conform(np.zeros((9, 3), np.int8), config, progress=lambda *step: told.append(step[2]))
    assert "checking data" in told  # for NaN, as all arrays are
    before = len(told)
    conform(np.zeros((9, 3), np.int32), config, progress=lambda *step: told.append(step[2]))
    assert len(told) - before == before + 1


def test_values_unlike_the_run_s_are_counted_and_the_first_is_shown():
    whole = load(rng.integers(0, 99, (30, 4)).astype(np.int16)).config()
    rows = np.zeros((70_000, 4))
    rows[66_000, 2] = 0.5
    with pytest.raises(InputError) as refused:
        conform(rows, whole)
    assert str(refused.value) == (
        "data: 1 value is unlike the run's, which are whole numbers from -32,768 to 32,767: the "
        "first is 0.5 in row 66000 at position (2,)."
    )
    rows[69_999] = 40_000.0
    told = []
    with pytest.raises(InputError, match=r"data: 5 values are unlike .* 0\.5 in row 66000"):
        conform(rows, whole, progress=lambda *step: told.append(step))
    assert told[-1] == (70_000, 70_000, "checking data")
    halves = load(rng.normal(size=30).astype(np.float16)).config()
    with pytest.raises(InputError, match=r"up to 65504: the first is 1000000\.0 in row 1\."):
        conform(np.array([1.0, 1e6]), halves)
    assert len(conform(np.array([1.0, -65504.0]), halves)) == 2
    flags = load(rng.integers(0, 2, (30, 2)).astype(bool)).config()
    with pytest.raises(InputError, match="whole numbers from 0 to 1: the first is 2 in row 0"):
        conform(np.array([[2, 0]]), flags)


def test_a_row_alone_and_another_shape_get_their_own_advice():
    config = load(rng.normal(size=(30, 4))).config()
    with pytest.raises(InputError, match=r"rows have shape \(\), those of the run \(4,\); for one"):
        conform(np.zeros(4), config)
    with pytest.raises(InputError, match=r"shape \(2,\), those of the run \(4,\); reshape them"):
        conform(np.zeros((4, 2)), config)


def test_the_first_known_value_that_cannot_be_is_shown(tmp_path):
    config = load(rng.integers(0, 99, (30, 2, 3)).astype(np.uint8)).config()
    rows = np.full((3, 2, 3), np.nan)
    rows[1, 0, 2], rows[2, 1, 1] = 98.5, 300
    np.save(tmp_path / "x.npy", rows)
    for source, name in ((rows, "given"), (tmp_path / "x.npy", "x.npy")):
        with pytest.raises(
            InputError, match=rf"^{name}: holds 98\.5 at position \(0, 2\) of row 1"
        ):
            complete(source, config)
    masked = np.ma.masked_array(np.full((1, 2, 3), 7), mask=[[[0, 1, 1], [0, 0, 1]]])
    found = complete(masked, config)
    np.testing.assert_array_equal(found.known, ~masked.mask)
    assert found.rows[found.known].tolist() == [7, 7, 7]
    with pytest.raises(InputError, match=r"its shape is \(0, 2, 3\)"):
        complete(np.zeros((0, 2, 3)), config)


def test_masked_values_are_nan_and_images_keep_their_values():
    whole = np.ma.masked_array([1, 2, 3], mask=[0, 1, 0])
    np.testing.assert_array_equal(to_array(whole), [1, np.nan, 3])
    assert to_array(np.ma.masked_array([1, 2], mask=[0, 0])).dtype.kind == "i"
    single = np.ma.masked_array(np.float32([1, 2]), mask=[0, 1])
    assert to_array(single).dtype == np.float32
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    np.testing.assert_array_equal(to_array(Image.fromarray(grey)), grey)
    palette = Image.fromarray(grey).quantize(8)
    assert to_array(palette).shape == (3, 4, 3)
    palette.info["transparency"] = 0
    assert to_array(palette).shape == (3, 4, 4)


def test_problems_stay_with_their_rows_and_the_rest_is_converted():
    problem = Problem.unreadable("torn")
    assert (problem.reason, math.isnan(problem.nats)) == ("could not be read: torn", True)
    assert Problem.unseen("new") == Problem(None, "new")
    rows = CheckedRows(ArrayRows(np.arange(6.0)), {4: problem}, np.int16)
    taken, problems = rows.take(np.array([5, 4, 0, 4]))
    assert (taken.tolist(), taken.dtype, problems) == (
        [5, 4, 0, 4],
        np.int16,
        dict.fromkeys((1, 3), problem),
    )
    whole = Conformed(rows, list("abcdef"), name="n", fingerprint="f", labels=np.arange(6),
                      groups=np.arange(6) // 2, notes=("one",))  # fmt: skip
    some = whole.only(np.array([4, 1]))
    assert (some.names, some.labels.tolist(), some.groups.tolist()) == (["e", "b"], [4, 1], [2, 0])
    assert (some.name, some.fingerprint, some.notes) == ("n", "f", ("one",))
    first, second = some.batches(1)
    assert (first["problems"], second["problems"]) == ({0: problem}, {})
    assert (first["row"].tolist(), first["label"].tolist()) == ([4], [4])
    assert [batch["row"].tolist() for batch in some.batches(1, 1)] == [[1]]


# --- images


def test_levels_are_all_of_the_type_from_its_middle_on():
    for dtype, greatest, levels in (("u1", 0, 2), ("u1", 1, 2), ("u1", 127, 128), ("u1", 128, 256),
                                    ("u2", 255, 256), ("u2", 32767, 32768),
                                    ("u2", 32768, 65536)):  # fmt: skip
        pixels = np.zeros((3000, 2), dtype)
        pixels[2999, 1] = greatest
        assert levels_in_use(pixels) == levels


@pytest.mark.parametrize(
    ("mean", "plain"), [(128, True), (157, True), (158, False), (98, True), (97, False)]
)
def test_images_far_from_the_middle_are_standardized(mean, plain):
    """Three standard deviations of 10 from 127.5, the middle of 0 ... 255."""
    form = ImageForm(row_shape=(2, 2), channel_axis=None, levels=256, dtype="uint8")
    rows = np.resize(np.array([mean - 10, mean + 10], np.uint8), (1000, 2, 2))
    found = transform_of_images(lambda: iter(np.split(rows, 4)), form, "x")
    assert (found.levels is not None) == plain
    if not plain:
        assert found.mean[0] == mean - rows.min() + 0.5
    black = transform_of_images(lambda: iter([0 * rows]), form, "x")
    assert black.levels == 256


def test_a_form_of_images_knows_its_size_wherever_the_channels_are():
    for row_shape, axis, size in (((4, 5), None, (4, 5, 1)), ((4, 5, 3), -1, (4, 5, 3)),
                                  ((3, 4, 5), 0, (4, 5, 3))):  # fmt: skip
        form = ImageForm(row_shape=row_shape, channel_axis=axis, levels=256, dtype="uint8")
        assert form.size == size
        pixels = rng.integers(0, 256, (2, *size)).astype(np.uint8)
        rows = form.as_row(pixels)
        assert rows.shape == (2, *row_shape)
        assert (
            form.preview(rows).tobytes()
            == ImageForm(row_shape=size, channel_axis=-1, levels=256, dtype="uint8")
            .preview(pixels)
            .tobytes()
        )


def test_sixteen_bit_files_of_fewer_levels_span_black_to_white(tmp_path):
    """From an array: scaled to all of the type; from files: as those were."""
    rows = np.array([[[0, 1000]], [[500, 250]]], np.uint16)
    for from_files, values in ((False, rows * 65.535), (True, rows)):
        form = ImageForm(row_shape=(1, 2), channel_axis=None, levels=1001, dtype="uint16",
                         from_files=from_files)  # fmt: skip
        form.save(rows, tmp_path / str(from_files))
        for i in range(2):
            with Image.open(tmp_path / str(from_files) / f"{i:05d}.png") as image:
                np.testing.assert_array_equal(np.asarray(image), np.rint(values[i]))


# --- kinds and places


def test_the_kinds_are_known_by_name_without_being_imported():
    assert list(KINDS) == ["images", "recordings", "tables", "arrays"]
    assert len(KINDS) == 4
    assert "tables" in KINDS
    assert "table" not in KINDS
    assert KINDS["tables"] is KINDS["tables"]
    with pytest.raises(InputError, match='"kind" is missing'):
        kind_of({})


def test_a_pipe_is_refused_and_not_read(tmp_path):
    os.mkfifo(tmp_path / "x.npy")
    config = load(rng.normal(size=(9, 2))).config()
    for use in (lambda: load(tmp_path / "x.npy"), lambda: conform(tmp_path / "x.npy", config),
                lambda: complete(str(tmp_path / "x.npy"), config)):  # fmt: skip
        with pytest.raises(InputError, match=r"^x\.npy: is a pipe or a device"):
            use()


@pytest.mark.parametrize(
    ("problem", "sentence"),
    [
        (MemoryError(), "does not fit into memory; give fewer rows, or an .npy file"),
        (RuntimeError("torn\npage"), "could not be read (torn page); check it."),
    ],
)
def test_whatever_a_decoder_raises_is_a_sentence_on_the_file(
    tmp_path, problem, sentence, monkeypatch
):
    def fail(*_, **__):
        raise problem

    np.save(tmp_path / "x.npy", np.arange(9.0))
    config = load(np.arange(9.0)).config()
    monkeypatch.setattr("undiffuse.data.arrays.files.np.load", fail)
    for use in (load, lambda path: conform(path, config), lambda path: complete(path, config)):
        with pytest.raises(InputError) as refused:
            use(tmp_path / "x.npy")
        assert sentence in " ".join(str(refused.value).split())
        assert "x.npy: " in str(refused.value)


def test_a_size_is_for_folders_alone(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(9.0))
    for source, name in (("moons", "moons"), (tmp_path / "x.npy", "x.npy"),
                         (np.arange(9.0), "data")):  # fmt: skip
        with pytest.raises(InputError) as refused:
            read(source, reading=ReadingOptions(size=8))
        advice = "--data.size is for images or recordings, not for this; leave it out."
        assert str(refused.value) == f"{name}: {advice}"


def test_a_folder_of_two_kinds_is_taken_for_the_one_with_nearly_all_files(tmp_path):
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (4, 4)).astype(np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "a.wav").touch()
    assert len(read(tmp_path).rows) == 20
    for name in ("b.wav", "c.wav"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match="holds 20 images and 3 recordings; keep each kind in a"):
        read(tmp_path)


def test_three_suffixes_of_what_is_of_no_kind_are_named(tmp_path):
    names = [*(f"{i}.a" for i in range(4)), *(f"{i}.b" for i in range(3)), "1.c", "2.c", "1.d"]
    for name in (*names, *(f"{i}" for i in range(5))):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"are in it, only files of no suffix, \.a, \.b\."):
        load(tmp_path)


def test_the_transform_that_an_array_is_given_fits_its_values():
    loaded = from_array(np.array([[3.0, 5.0], [5.0, 9.0]]), name="x")
    transform = loaded.make_transform(lambda: iter([loaded.rows.take(np.arange(2))]))
    assert isinstance(transform, ArrayTransform)
    assert (transform.mean, transform.std) == ((4.0, 7.0), (1.0, 2.0))
    assert (transform.low, transform.high, transform.bounded) == ((3.0, 5.0), (5.0, 9.0), False)
