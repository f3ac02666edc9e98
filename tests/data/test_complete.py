"""Partly known rows: which entries of x are known, and what a file of them may and may not hold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import undiffuse as ud
from undiffuse.data import complete, load
from undiffuse.errors import InputError

RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "age": RNG.integers(17, 90, 400),
        "job": RNG.choice(["cook", "nurse", "pilot"], 400),
        "gain": np.where(RNG.random(400) < 0.6, 0.0, RNG.normal(50, 9, 400)),
        "weight": np.where(RNG.random(400) < 0.2, np.nan, RNG.normal(70, 9, 400)),
        "country": ["here"] * 400,
    }
)
COLOUR = RNG.integers(0, 256, (30, 6, 5, 3)).astype(np.uint8)


def test_a_table_is_known_where_its_cells_are_filled(tmp_path):
    config = load(FRAME).config()
    (tmp_path / "t.csv").write_text("job,age,weight\npilot,30,\n,,71.5\ncook,,\n")
    given = complete(tmp_path / "t.csv", config)
    assert given.known.tolist() == [
        [1, 1, 0, 0, 0],
        [0, 0, 0, 1, 0],
        [0, 1, 0, 0, 0],
    ]  # in the run's order
    form = load(FRAME).form
    back = form.present(given.rows)
    assert back["job"][0] == "pilot"
    assert back["age"][0] == 30
    assert back["weight"][1] == 71.5
    same = complete(pd.DataFrame({"job": ["pilot"], "age": [30.0]}), config)
    np.testing.assert_array_equal(same.known[0], given.known[0])


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"name": ["x"]}, 'column "name" is one that the run was not trained with'),
        ({"job": ["judge"]}, "column \"job\" holds 'judge' in row 1, which is none of the values"),
        ({"job": ["cook", None, "cock"]}, "'cock' in row 3"),
        ({"age": [30.5]}, "holds 30.5 in row 1"),
        ({"age": ["old"]}, "holds 'old' in row 1, and in training it held"),
        ({"country": ["there"]}, "column \"country\" holds 'there'"),
    ],
)
def test_a_table_that_contradicts_the_run_s_is_refused(table, sentence):
    with pytest.raises(InputError, match=sentence.replace("(", r"\(")):
        complete(pd.DataFrame(table), load(FRAME).config())


def test_a_number_that_no_training_row_has_is_kept_and_said():
    """Between others, where few values are levels, as much as where numbers are continuous."""
    ages = RNG.choice([20, 30, 31, 50], 400)
    data = load(pd.DataFrame({"age": ages, "job": RNG.choice(["cook", "pilot"], 400)}))
    given = complete(pd.DataFrame({"age": [30, 40]}), data.config())
    assert given.rows[:, 0].tolist() == [10, 20]  # steps from the least
    said = "holds 40 in row 2, and no training row has such a value; it is kept"
    assert len(given.notes) == 1
    assert said in given.notes[0]
    for outside, nearest in ((19, 0), (51, 30)):
        given = complete(pd.DataFrame({"age": [outside]}), data.config())
        assert given.rows[:, 0].tolist() == [nearest]
        assert given.completed(given.rows)[:, 0].tolist() == [outside - 20]
        said = f"holds {outside} in row 1, and no training row has such a value; it is kept"
        assert (
            f"{said}, and the others are drawn as for the nearest that one has." in given.notes[0]
        )


def test_what_is_given_beyond_the_training_rows_is_kept_and_conditions_as_the_nearest():
    """A known number far out changes nothing of the others, but stands in the completed row."""
    x = np.random.default_rng(0).normal(size=(200, 2))
    model = ud.edm(width=8, depth=1).fit(pd.DataFrame(x, columns=["a", "b"]), steps=2, seed=1)
    most = ud.load(pd.DataFrame(x, columns=["a", "b"]), seed=1).transform.columns[0].high
    rows = [model.complete(pd.DataFrame({"a": [a]}), n=2) for a in (most, most + 1, 1e9)]
    for filled, a in zip(rows, (most, most + 1, 1e9)):
        assert filled["a"].tolist() == [a, a]
        assert filled["b"].tolist() == rows[0]["b"].tolist()


def test_nan_is_unknown_in_an_array(tmp_path):
    config = load("digits").config()
    rows = np.full((2, 8, 8), np.nan)
    rows[0, :3], rows[1] = 16, 5
    np.save(tmp_path / "g.npy", rows)
    given = complete(tmp_path / "g.npy", config)
    np.testing.assert_array_equal(given.known, ~np.isnan(rows))
    np.testing.assert_array_equal(given.rows[given.known], rows[given.known].astype(np.uint8))
    assert len(complete(rows[0], config)) == 1
    assert complete(np.zeros((3, 8, 8), int), config).known.all()
    assert not complete(np.full((1, 8, 8), np.nan), config).known.any()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (np.zeros((3, 7, 8)), r"its shape is \(3, 7, 8\), and a row of the run has \(8, 8\)"),
        (np.full((1, 8, 8), 17.0), "holds 17.0 .* whole numbers from 0 to 16"),
        (np.full((1, 8, 8), 0.5), "holds 0.5"),
        (np.full((1, 8, 8), -1), "holds -1"),
        (np.full((1, 8, 8), np.inf), "holds inf"),
        (np.full((1, 8, 8), "a"), "are no numbers"),
    ],
)
def test_an_array_that_contradicts_the_run_s_is_refused(tmp_path, values, sentence):
    np.save(tmp_path / "g.npy", values)
    with pytest.raises(InputError, match=sentence):
        complete(tmp_path / "g.npy", load("digits").config())


def test_transparent_pixels_are_unknown(tmp_path):
    config = load(COLOUR).config()
    alpha = np.full((6, 5, 1), 255, np.uint8)
    alpha[2:] = 0
    for i in range(2):
        Image.fromarray(np.concatenate([COLOUR[i], alpha], 2)).save(tmp_path / f"{i}.png")
    given = complete(tmp_path, config)
    assert given.known[:, :2].all()
    assert not given.known[:, 2:].any()
    np.testing.assert_array_equal(given.rows[:, :2], COLOUR[:2, :2])
    assert len(complete(tmp_path / "1.png", config)) == 1
    Image.new("RGBA", (9, 6)).save(tmp_path / "wide.png")
    with pytest.raises(
        InputError, match=r"wide.png: is 6 x 9 \(height x width\), and the run's images are 6 x 5"
    ):
        complete(tmp_path, config)


def test_grey_pictures_have_the_levels_of_the_run(tmp_path):
    """A PNG of digits, as `sample` writes it, reads back as the digits."""
    data = load("digits")
    rows = np.asarray(data.held_out)[:3]
    data.form.save(rows, tmp_path / "out")
    np.testing.assert_array_equal(complete(tmp_path / "out", data.config()).rows, rows)


def test_what_is_known_is_changed_only_with_a_note(tmp_path):
    """Numbers of more digits than the run's, times of shorter steps, images of another kind."""
    wide = pd.DataFrame({"a": RNG.integers(0, 4_000_000, 300) / 2, "b": np.arange(300) % 7})
    wide["at"] = pd.to_datetime(RNG.uniform(1.60e9, 1.73e9, 300), unit="s")
    config = load(wide).config()
    for a, rounded in ((9000.125, True), (9000.5, False), (np.nan, False)):
        given = complete(pd.DataFrame({"a": [9000.0, a], "b": [3, 4]}), config)
        assert [*given.notes] == [
            'pandas table: column "a": 1 value has more digits than the run\'s data and is rounded:'
            " in row 2, 9000.125 becomes 9000.1."
        ] * rounded
    given = complete(pd.DataFrame({"at": wide["at"][:9] + pd.Timedelta("1ns")}), config)
    assert 'column "at": 9 values have more digits than the run\'s data' in given.notes[0]
    turned = "1 of 1 images are turned into the run's kind of pixels."
    for mode, notes in (("RGB", [turned]), ("LA", [])):
        Image.new(mode, (5, 6)).save(tmp_path / "g.png")
        given = complete(tmp_path / "g.png", load(COLOUR[..., 0]).config())
        assert [note.removeprefix("g.png: ") for note in given.notes] == notes
    for value, notes in ((16, []), (17, ["1 of 1 images are rounded to the run's 17 levels."])):
        Image.fromarray(np.full((8, 8), value, np.uint8)).save(tmp_path / "d.png")
        given = complete(tmp_path / "d.png", load("digits").config())
        assert [note.removeprefix("d.png: ") for note in given.notes] == notes


def test_a_short_recording_is_a_known_beginning(tmp_path):
    soundfile = pytest.importorskip("soundfile")
    wave = (RNG.normal(size=(6, 4000)) * 3000).astype(np.int16)
    (tmp_path / "train").mkdir()
    for i, samples in enumerate(wave):
        soundfile.write(tmp_path / "train" / f"{i}.wav", samples, 4000)
    data = load(tmp_path / "train", size=1024)
    soundfile.write(tmp_path / "begin.wav", wave[0, :300], 4000)
    given = complete(tmp_path / "begin.wav", data.config())
    assert given.rows.shape == given.known.shape == (1, 1024)
    assert given.known[0].tolist() == [True] * 300 + [False] * 724
    np.testing.assert_array_equal(given.rows[0, :300], wave[0, :300])
    assert not given.notes
    soundfile.write(tmp_path / "slow.wav", wave[0, :300], 2000)
    slow = complete(tmp_path / "slow.wav", data.config())
    assert slow.notes == (
        "slow.wav: 1 of 1 recordings are resampled to 4,000 Hz, as the run's are.",
    )
    with pytest.raises(
        InputError, match=r"0\.wav: has 4,000 samples at 4,000 Hz, and the run's windows 1,024"
    ):
        complete(tmp_path / "train" / "0.wav", data.config())


@pytest.mark.parametrize("name", ["nothing.npy", "nothing/", "x.txt"])
def test_a_file_that_is_not_there_or_not_of_the_kind_is_refused(tmp_path, name):
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(InputError, match=r"no such file|no images are in it"):
        complete(tmp_path / name, load("digits").config())
