"""New data for a run: what it becomes, and what is refused; `test_kinds` holds the laws."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch
from examples import frame, tones
from image_files import folder_of, pixels

from undiffuse.data import conform, load, restore
from undiffuse.errors import InputError

sf = pytest.importorskip("soundfile")
RNG = np.random.default_rng(0)


def through_json(data):
    return json.loads(json.dumps(data.config()))


def together(rows, size=7, start=0):
    return torch.cat([batch["row"] for batch in rows.batches(size, start)])


def test_names_of_rows(tmp_path):
    photos = folder_of(tmp_path, [pixels(6, 9, seed=i) for i in range(3)])
    assert list(conform(photos, load(photos).config()).names) == ["0.png", "1.png", "2.png"]
    recordings = tones(tmp_path)
    data = load(recordings, size=1500)
    names = list(conform(recordings, data.config()).names)
    assert names[:4] == [
        "tone_0.wav@0.006",
        "tone_0.wav@0.206",
        "tone_0.wav@0.406",
        "tone_1.wav@0.006",
    ]
    assert list(conform(frame(), load(frame()).config()).names)[:2] == [1, 2]
    assert list(conform("digits", load("digits").config()).names)[:2] == [0, 1]


def test_new_rows_of_a_table_are_what_they_were_given_as():
    """Coding inverts presenting, for values beyond the range of training too."""
    data = load(frame())
    new = frame(40, seed=1)
    new.loc[0, "age"], new.loc[1, "age"] = -400, 100_000
    new.loc[2, "price"], new.loc[3, "height"] = 1e4 + 0.25, -50.0
    new.loc[4, "when"] = pd.Timestamp("1970-01-01 05:00")
    config = data.config()
    config["transform"] = {
        **config["transform"],
        "columns": [open_(c) for c in config["transform"]["columns"]],
    }
    shuffled = new[list(reversed(new.columns))]
    rows = conform(shuffled, config)
    assert not any(batch["problems"] for batch in rows.batches(100))
    _, form, _ = restore(data.config())
    pd.testing.assert_frame_equal(form.present(together(rows).numpy()), new)


def open_(column):
    """A column's support with its numbers unlimited, so that only the coding is tested."""
    return (
        column
        if column["kind"] == "constant"
        else {"kind": "number", "low": 0.0, "name": column["name"], **ENDS}
    )


ENDS = {"rows": 60, "high": 1.0, "knots": [0.0, 1.0], "marks": [0.0, 1.0]}


@pytest.mark.parametrize(
    ("column", "value"),
    [("colour", "teal"), ("age", 37), ("age", 36.5), ("price", 0.005), ("same", 8)],
)
def test_a_value_that_training_does_not_have_is_noted_and_costs_its_row_alone(column, value):
    data = load(frame())
    new = frame()
    new[column] = new[column].astype(object if isinstance(value, str) else float)
    new.loc[3, column] = value
    rows = conform(new, data.config())
    (batch,) = rows.batches(100)
    assert list(batch["problems"]) == [3]
    assert batch["problems"][3].nats is None
    assert column in batch["problems"][3].reason
    assert str(value) in batch["problems"][3].reason
    x, correction = data.transform.encode(batch["row"], torch.zeros_like)
    own, usual = data.transform.encode(
        torch.from_numpy(data.loaded.rows.take(np.arange(60))), torch.zeros_like
    )
    others = np.arange(60) != 3
    assert x.isfinite().all()
    density = correction - x.double().square().sum(1) / 2
    assert density.isfinite().all()
    assert density[3] < (usual - own.double().square().sum(1) / 2)[3] - 1
    torch.testing.assert_close(x[others], own[others])


def test_a_missing_value_costs_its_row_alone_where_training_had_none():
    data, new = load(frame()), frame()
    new["colour"] = new["colour"].astype(object)
    new.loc[4, "colour"] = None
    rows = conform(new, data.config())
    taken, problems = rows.readable.take(np.arange(60))
    assert list(problems) == [4]
    assert np.isnan(problems[4].nats)
    assert problems[4].reason == 'column "colour": is empty, and in training it never was'
    others = np.arange(60) != 4
    own = data.loaded.rows.take(np.arange(60))
    np.testing.assert_array_equal(taken[others], own[others])
    assert rows.fingerprint != conform(frame(), data.config()).fingerprint


def test_numbers_beyond_training_are_encoded_where_they_lie():
    """Whole numbers below and above those of training keep their order and their distances."""
    data = load(RNG.integers(0, 50, (200, 2), dtype=np.int32))
    new = np.array([[-70, 30], [120, 30], [20, 30]], np.int64)
    rows = together(conform(new, data.config()))
    x, _ = data.transform.encode(rows, torch.zeros_like)
    std = data.transform.std[0]
    torch.testing.assert_close(
        x[:2, 0] - x[2, 0], torch.tensor([-90 / std, 100 / std], dtype=torch.float32)
    )


def test_images_of_another_size_come_to_the_size_of_the_run(tmp_path):
    (tmp_path / "run").mkdir()
    data = load(folder_of(tmp_path / "run", [pixels(8, 8, 3, seed=i) for i in range(6)]))
    (tmp_path / "new").mkdir()
    images = [
        np.full((20, 30, 3), 90, np.uint8),
        pixels(8, 8, 3, seed=1),
        np.full((16, 16), 30, np.uint8),
    ]
    photos = folder_of(tmp_path / "new", images)
    (photos / "3.png").write_bytes(b"rubbish")
    rows = conform(photos, data.config())
    (batch,) = rows.batches(10)
    expected = np.stack(
        [np.full((8, 8, 3), 90), images[1], np.full((8, 8, 3), 30), np.zeros((8, 8, 3))]
    )
    np.testing.assert_array_equal(batch["row"], expected)
    assert [(i, np.isnan(p.nats), p.reason) for i, p in batch["problems"].items()] == [
        (3, True, "could not be read")
    ]
    assert "2 of 4 images are resized" in " ".join(rows.notes)


def test_recordings_at_another_rate_are_resampled_as_training_does(tmp_path):
    data = load(tones(tmp_path), size=1000)
    folder = tones(tmp_path, (16000, 8000), "new")
    rows = conform(folder, data.config())
    own = together(conform(tmp_path / "tones", data.config())).double()
    got = together(rows).double()
    assert len(rows) == 8
    assert rows.notes
    torch.testing.assert_close(got[4:], own[4:8], rtol=0, atol=0)
    inner = slice(100, -100)  # away from the ends of the recording, where silence leaks in
    torch.testing.assert_close(got[1:3, inner], own[1:3, inner], rtol=0, atol=0.002 * 32768)


def test_an_unreadable_recording_is_a_row_with_a_problem(tmp_path):
    data = load(tones(tmp_path), size=1000)
    folder = tones(tmp_path, (8000,) * 24, "new", seconds=0.1)
    (folder / "tone_3.wav").write_bytes(b"RIFF rubbish")
    rows = conform(folder, data.config())
    assert len(rows) == 24
    broken = [name for name, batch in zip(rows.names, rows.batches(1)) if batch["problems"]]
    assert broken == ["tone_3.wav@0.000"]


def floats(*place, value):
    x = np.zeros((5, 4))
    x[place] = value
    return x


REFUSED = {
    "another shape": ("array", lambda: np.zeros((5, 6)), ("(6,)", "(4,)")),
    "one row alone": ("array", lambda: np.zeros(4), ("(4,)", "one row")),
    "NaN": ("array", lambda: floats(2, 1, value=np.nan), ("1 value is NaN", "row 2")),
    "text": ("array", lambda: np.array([["a", "b"]]), ("<U1",)),
    "no rows": ("array", lambda: np.zeros((0, 4)), ("no rows",)),
    "a table for an array": ("array", frame, ("table", "arrays")),
    "an array for a table": ("pandas", lambda: np.zeros((5, 9)), ("trained on a table", "ndarray")),
    "halves for whole numbers": (
        "digits",
        lambda: np.full((3, 8, 8), 0.5),
        ("192 values", "0.5 in row 0", "0 to 16"),
    ),
    "bytes for 17 levels": (
        "digits",
        lambda: np.full((3, 8, 8), 200, np.uint8),
        ("0 to 16", "200 in row 0"),
    ),
    "a negative pixel": ("digits", lambda: np.full((3, 8, 8), -1, np.int8), ("0 to 16", "-1")),
    "a missing column": (
        "pandas",
        lambda: frame().drop(columns=["age", "kind"]),
        ('"age", "kind"', "missing"),
    ),
    "a column too many": ("pandas", lambda: frame().assign(id=1), ('"id"', "remove it")),
    "only missing values": (
        "pandas",
        lambda: frame().assign(colour=None),
        ("colour", "60 values are missing", "row 1"),
    ),
    "text for a number": ("pandas", lambda: frame().assign(age="old"), ('"age"', "'old'", "row 1")),
    "an infinite number": (
        "pandas",
        lambda: frame().assign(height=np.inf),
        ("height", "60 infinite values"),
    ),
    "a date for a number": (
        "pandas",
        lambda: frame().assign(age=pd.Timestamp("2024-01-01")),
        ("age", "dates"),
    ),
    "a number for a date": ("pandas", lambda: frame().assign(when=1.5), ("when", "timestamp")),
    "no rows of a table": ("pandas", lambda: frame().head(0), ("no rows",)),
}


RUNS = {"array": lambda: RNG.normal(size=(30, 4)), "digits": lambda: "digits", "pandas": frame}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_structurally_different_is_refused_in_a_sentence(what, tmp_path):
    run, make, fragments = REFUSED[what]
    config = through_json(load(RUNS[run]()))
    with pytest.raises(InputError) as refusal:
        conform(make(), config)
    for fragment in fragments:
        assert fragment in str(refusal.value)


def test_columns_that_are_missing_or_too_many_are_named_up_to_three():
    data, whole = load(frame()), frame()
    for columns, named in (
        (["age"], 'column "age" is missing; '),
        (["age", "kind"], 'column "age", "kind" is missing (2 such columns); '),
        (
            ["age", "price", "height", "flag"],
            'column "age", "price", "height", ... is missing (4 such columns); ',
        ),
    ):
        with pytest.raises(InputError) as refusal:
            conform(whole.drop(columns=columns), data.config())
        assert named in str(refusal.value)
    with pytest.raises(InputError, match=r"\(2 such columns\); remove it"):
        conform(whole.assign(a=1, b=2), data.config())


def test_folders_of_another_kind_are_refused(tmp_path):
    photos = folder_of(tmp_path, [pixels(6, 9, seed=i) for i in range(3)])
    recordings = tones(tmp_path)
    for source, data, fragment in (
        (photos, load(recordings), "no recordings"),
        (recordings, load(photos), "no images"),
        (photos, load("moons"), "not on a folder of files"),
    ):
        with pytest.raises(InputError, match=fragment):
            conform(source, data.config())


def test_photos_are_rows_of_a_run_with_fewer_levels_and_that_is_said(tmp_path):
    """Black to white are 0 to 16; the levels in between are the nearest."""
    shades = np.arange(0, 256, 4, dtype=np.uint8).reshape(1, 8, 8)
    rows = conform(folder_of(tmp_path, shades), load("digits").config())
    (batch,) = rows.batches(4)
    nearest = np.abs(shades[..., None] - np.linspace(0, 255, 17)).argmin(-1)
    np.testing.assert_array_equal(batch["row"].numpy(), nearest)
    assert any("black to white are taken for the values 0 to 16" in note for note in rows.notes)


def test_constant_rows_and_single_rows_can_be_scored_though_not_trained_on():
    config = load("digits").config()
    assert len(conform(np.zeros((1, 8, 8), np.uint8), config)) == 1
    assert len(conform(np.full((4, 8, 8), 3.0), config)) == 4
    with pytest.raises(InputError, match="nothing to learn"):
        load(np.zeros((4, 8, 8), np.uint8))


def test_another_value_than_that_of_all_training_rows_is_noted():
    data = load(np.column_stack([RNG.normal(size=40), np.full(40, 5.5), np.full(40, -1.0)]))
    rows = np.array([[0, 5.5, -1], [0, 5, -1], [0, 5.5, 2], [0, 0, 0]])
    (batch,) = conform(rows, data.config()).batches(4)
    assert {row: (p.nats, p.reason) for row, p in batch["problems"].items()} == {
        1: (None, "column 1: all training rows hold 5.5 there"),
        2: (None, "column 2: all training rows hold -1.0 there"),
        3: (None, "column 1: all training rows hold 5.5 there"),
    }


def test_labels_are_those_of_the_run_by_name():
    data = load((RNG.normal(size=(30, 4)), np.repeat(["ant", "bee", "cat"], 10)))
    new = (RNG.normal(size=(3, 4)), np.array(["cat", "dog", "ant"]))
    (batch,) = conform(new, data.config()).batches(5)
    assert batch["label"].tolist() == [2, -1, 0]
