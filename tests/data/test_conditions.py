"""Conditions: what people write becomes vectors and comes back, by any of the ways to give it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

import undiffuse as ud
from undiffuse.data import Conditions, ask, conform, load
from undiffuse.data.given import Given
from undiffuse.errors import InputError

ANGLE = np.array([0.0, 30.0, 60.0, np.nan, 90.0, 120.0])
COLOUR = ["red", "blue", "red", "blue", None, "red"]


def conditions() -> tuple[Conditions, np.ndarray]:
    """A number and a category of six rows, one of each not known; and their codes."""
    given = [Given.of("angle", ANGLE, "x"), Given.of("colour", COLOUR, "x")]
    codes = np.stack([one.codes for one in given], 1)
    return Conditions.measure(given, np.arange(6)), codes


def test_codes_become_vectors_and_come_back() -> None:
    own, codes = conditions()
    vectors = own.encode(codes)
    assert (vectors.dtype, vectors.shape) == (np.float32, (6, own.size))
    np.testing.assert_array_equal(own.decode(vectors), codes)
    z = vectors[~np.isnan(ANGLE), 0].astype(float)
    assert abs(z.mean()) < 1e-6
    assert z.std() == pytest.approx(1, abs=1e-6)
    assert (vectors[np.isnan(codes[:, 0])][:, :2] == 0).all()  # what is not known is zero
    assert (vectors[np.isnan(codes[:, 1])][:, 2:] == 0).all()
    again = Conditions.restore(json.loads(json.dumps({"conditions": own.tree()})))
    assert again is not None
    np.testing.assert_array_equal(again.encode(codes), vectors)
    said = own.words(vectors)
    assert str(said[0]) == "{'angle': 0, 'colour': 'red'}"  # whole, as it was written
    assert said[3] == {"angle": None, "colour": "blue"}


def test_only_training_rows_are_measured() -> None:
    given = [Given.of("y", [1.0, 3.0, 1e9], "x")]
    (column,) = Conditions.measure(given, np.array([0, 1])).columns
    assert (column.mean, column.deviation, column.low, column.high) == (2.0, 1.0, 1.0, 3.0)


def test_a_condition_that_does_not_vary_comes_back() -> None:
    own = Conditions.measure([Given.of("y", [2.0, 2.0, np.nan], "x")], np.arange(3))
    codes = np.array([[2.0], [np.nan]])
    np.testing.assert_array_equal(own.decode(own.encode(codes)), codes)


@pytest.mark.parametrize(
    "where",
    [
        "angle=30,colour=blue",
        " colour = blue , angle = 3e1",
        {"angle": 30, "colour": "blue"},
        {"angle": [30], "colour": ["blue"]},
        pd.DataFrame({"colour": ["blue"], "angle": ["30"]}),
        np.array([[30, "blue"]], dtype=object),
        "FILE.csv",
        "FILE.jsonl",
    ],
    ids=lambda one: type(one).__name__,
)
def test_what_people_write_is_one_vector(where: object, tmp_path: Path) -> None:
    own, codes = conditions()
    if isinstance(where, str) and where.startswith("FILE"):
        text = {"csv": "angle,colour\n30,blue\n", "jsonl": '{"angle": 30, "colour": "blue"}\n'}
        file = tmp_path / where
        file.write_text(text[where.rpartition(".")[2]])
        where = str(file)
    vector, notes = own.ask(where)
    np.testing.assert_array_equal(vector, own.encode(codes[[1]]))
    assert notes == ()


def test_what_is_left_out_is_not_known() -> None:
    own, codes = conditions()
    partly = codes[[1]].copy()
    partly[0, 0] = np.nan
    for where in (
        "colour=blue",
        {"angle": None, "colour": "blue"},
        {"angle": "", "colour": "blue"},
    ):
        np.testing.assert_array_equal(own.ask(where)[0], own.encode(partly))
    assert len(own.ask({"angle": [1, 2, 3]})[0]) == 3
    assert (
        "angle 500 is outside the range of the training rows, 0 to 120"
        in own.ask("angle=500")[1][0]
    )


@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("angel=30", "where: angel: no such condition. Did you mean angle? (angle, colour)"),
        ("colour=rod", "where: rod: no such colour. Did you mean red? (blue, red)"),
        ("angle=red", "where: angle red is not a number; in training it went from 0 to 120."),
        ("angle=inf", "angle inf is not a number"),
        ("angle=", "must be NAME=VALUE"),
        ("angle", "must be NAME=VALUE for angle or colour"),
        (
            "angle=1,angle=2",
            "where angle=1,angle=2: names a condition twice; leave one of them out",
        ),
        ("", "it gives no conditions; the model knows angle, colour."),
        ("gone.csv", "where gone.csv: no such file; check the path."),
        ({}, "it gives no conditions; the model knows angle, colour."),
        ({"angle": [1, 2], "colour": ["red"]}, "the columns have different lengths"),
        (np.zeros((2, 3)), "its shape is (2, 3); give rows of 2 values, for angle, colour"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(where: object, said: str) -> None:
    with pytest.raises(InputError) as refused:
        conditions()[0].ask(where)
    assert said in str(refused.value)


def test_a_file_of_conditions_whose_lines_do_not_fit_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.csv").write_text("angle,colour\n30,red,7\n")
    with pytest.raises(InputError, match=r"w\.csv: a line has more fields than the first; corr"):
        conditions()[0].ask(tmp_path / "w.csv")
    (tmp_path / "w.csv").write_text("angle,colour\n")
    with pytest.raises(InputError, match=r"w\.csv: it has no rows; give at least one row of"):
        conditions()[0].ask(str(tmp_path / "w.csv"))


def test_columns_that_are_no_conditions_are_refused() -> None:
    with pytest.raises(InputError, match="x: name has 40 different values in 40 rows, too many"):
        Given.of("name", [f"n{i}" for i in range(40)], "x")
    with pytest.raises(InputError, match="y is empty in all rows"):
        Given.of("y", [None, ""], "x")
    with pytest.raises(InputError, match="y holds infinite values"):
        Given.of("y", [1.0, np.inf], "x")
    with pytest.raises(InputError, match=r"conditions of the run are damaged .*; restore"):
        Conditions.restore({"conditions": [{"name": "y"}]})


# --- by the kind of data


def frame() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "a": rng.normal(size=200),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 90, 200), "D"),
            "age": rng.integers(18, 90, 200),
            "colour": rng.choice(["red", "blue"], 200),
        }
    )


def test_rules_that_a_condition_is_part_of_are_named_and_said_not_to_be_kept() -> None:
    table = frame().assign(double=lambda f: f.age * 2)
    data = load(table, condition="age")
    (note,) = (note for note in data.notes if "conditions take no part in rules" in note)
    assert note.endswith('not kept exactly: that "double" follows from "age" (2 × age).')
    assert "rules" not in data.describe()
    data = load(table.drop(columns="double"), condition="age")
    (note,) = (note for note in data.notes if "conditions take no part in rules" in note)
    assert note.endswith("and not kept exactly.")


def test_columns_of_a_table_leave_the_model_and_stay_in_the_rows() -> None:
    table = frame()
    data = load(table, condition="age,colour,day")
    assert data.shape == (1,)
    assert data.conditions == {"vector": 6}
    assert any("conditions take no part in rules" in note for note in data.notes)
    config = data.config()
    own = Conditions.restore(config)
    assert own is not None
    batch = next(data.batches(16, seed=0))
    rows = batch["row"].numpy()
    np.testing.assert_array_equal(own.encode(rows[:, own.places]), batch["vector"].numpy())
    x, correction = data.transform.encode(batch["row"], torch.zeros_like)
    back = own.filled(data.transform.decode(x), batch["vector"].numpy())
    np.testing.assert_allclose(back, rows, atol=1e-5)
    other = batch["row"].clone()
    other[:, own.places] += 1
    same, same_correction = data.transform.encode(other, torch.zeros_like)
    assert torch.equal(x, same)  # the likelihood is that of the other columns
    assert torch.equal(correction, same_correction)

    row = table.iloc[[7]]
    where = {"age": row.age.item(), "colour": row.colour.item(), "day": row.day.item()}
    np.testing.assert_array_equal(ask(where, config)[0], conform(row, config).vector)
    text = f"age={row.age.item()},colour={row.colour.item()},day={row.day.item()}"
    np.testing.assert_array_equal(ask(text, config)[0], conform(row, config).vector)
    with pytest.raises(InputError, match="where: red2: no such colour"):
        ask("colour=red2", config)
    with pytest.raises(InputError, match=r'column "age" holds .old. in row 1, and in training'):
        ask("age=old", config)
    with pytest.raises(InputError, match="lies between the steps of its values, from 18 to 89"):
        ask("age=30.5", config)
    assert "age 200 is outside" in ask("age=200", config)[1][0]
    for empty in ("NA", "nan", " "):  # as in cells
        np.testing.assert_array_equal(
            ask({"age": [empty], "colour": "red"}, config)[0], ask("colour=red", config)[0]
        )


def test_conditions_of_a_table_are_written_as_its_cells_are(tmp_path: Path) -> None:
    rows = [f'{i % 9 / 4},{1 + i % 28:02}/03/2024,"$1,{i % 7:03}.50"' for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["x,day,price", *rows]))
    data = load(tmp_path / "t.csv", condition="day,price")
    vector = conform(tmp_path / "t.csv", data.config()).vector
    assert vector is not None
    first = vector[:1]
    where = {"day": "01/03/2024", "price": "$1,000.50"}
    np.testing.assert_array_equal(ask(where, data.config())[0], first)
    (tmp_path / "where.csv").write_text('day,price\n01/03/2024,"$1,000.50"\n')
    np.testing.assert_array_equal(ask(tmp_path / "where.csv", data.config())[0], first)


def test_new_rows_of_a_table_may_lack_conditions() -> None:
    table = frame()
    config = load(table, condition=["age", "colour"]).config()
    whole = conform(table, config).vector
    partly = conform(table.drop(columns="age"), config).vector
    assert isinstance(whole, np.ndarray)
    assert isinstance(partly, np.ndarray)
    assert (partly[:, :2] == 0).all()
    np.testing.assert_array_equal(partly[:, 2:], whole[:, 2:])
    assert conform(table.drop(columns=["age", "colour"]), config).vector is None
    strange = conform(table.replace({"colour": {"red": "green"}}), config)
    problems = next(strange.batches(200))["problems"]
    assert len(problems) == int((table.colour == "red").sum())
    assert (
        "condition \"colour\": the model knows no 'green'" in next(iter(problems.values())).reason
    )
    given = ud.data.complete(pd.DataFrame({"age": [30], "colour": ["blue"]}), config)
    np.testing.assert_array_equal(given.vector, ask("age=30,colour=blue", config)[0])


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("ag", "no such column. Did you mean age? (a, age, colour, day)"),
        ("a,day,age,colour", "--condition names all columns; leave at least one to be drawn"),
    ],
)
def test_columns_that_a_table_does_not_have_are_refused(condition: str, said: str) -> None:
    with pytest.raises(InputError) as refused:
        load(frame(), condition=condition)
    assert said in str(refused.value)


def test_what_stands_beside_an_array_is_labels_or_conditions() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 2)), rng.normal(size=60)
    for labels in (np.arange(60) % 3, (np.arange(60) % 3).astype(float), ["a", "b", "c"] * 20):
        assert load((x, labels)).conditions == {"label": 3}
    assert load((x, y)).describe()["conditions"].keys() == {"y"}
    assert load((x, torch.from_numpy(y)[:, None])).conditions == {"vector": 2}
    both = load((x, np.stack([y, y**2], 1)))
    assert list(both.describe()["conditions"]) == ["y0", "y1"]
    named = load((x, np.arange(60) % 3), condition="size")  # whole numbers, but named
    assert named.conditions == {"vector": 2}
    mixed = {"size": y, "kind": ["a", "b"] * 30}
    assert load((x, mixed)).conditions == {"vector": 4}
    assert load((x, pd.DataFrame(mixed)), condition=["kind"]).conditions == {"vector": 2}
    items = [(row, float(value)) for row, value in zip(x, y)]
    assert load(items).conditions == {"vector": 2}
    config = both.config()
    np.testing.assert_array_equal(conform((x, np.stack([y, y**2], 1)), config).vector, both.vector)
    assert conform(x, config).vector is None
    assert load((x, y)).fingerprint != load((x, y + 1)).fingerprint


@pytest.mark.parametrize(
    ("y", "condition", "said"),
    [
        (np.zeros((60, 2, 2)) + 0.5, None, "conditions of shape (60, 2, 2)"),
        (np.zeros(59) + 0.5, None, "59 conditions for 60 rows; give one for each"),
        (np.zeros((60, 2)) + 0.5, ("a",), "1 names for 2 columns"),
        ({"a": np.zeros(60)}, ("b",), "b: no such condition"),
    ],
)
def test_what_cannot_stand_beside_an_array_is_refused(
    y: object, condition: Sequence[str] | None, said: str
) -> None:
    with pytest.raises(InputError) as refused:
        load((np.random.default_rng(0).normal(size=(60, 2)), y), condition=condition)
    assert said in str(refused.value)


def test_an_archive_has_its_conditions_beside_its_rows(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 2)), rng.normal(size=(60, 2))
    np.savez(tmp_path / "a.npz", data=x, conditions=y)
    np.savez(tmp_path / "b.npz", data=x)
    np.save(tmp_path / "c.npy", x)
    data = load(tmp_path / "a.npz", condition=["u", "v"])
    assert list(data.describe()["conditions"]) == ["u", "v"]
    config = data.config()
    np.testing.assert_array_equal(conform(tmp_path / "a.npz", config).vector, data.vector)
    assert conform(tmp_path / "b.npz", config).vector is None
    with pytest.raises(InputError, match=r"c\.npy: --condition u: nothing stands beside"):
        load(tmp_path / "c.npy", condition="u")


def folder(path: Path, lines: list[dict[str, object]]) -> Path:
    """A folder of images that a list names, and of one that it does not."""
    path.mkdir()
    rng = np.random.default_rng(0)
    for line in [*lines, {"file_name": "z.png"}]:
        pixels = rng.integers(0, 256, (6, 6)).astype(np.uint8)
        Image.fromarray(pixels).save(path / str(line["file_name"]))
    (path / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return path


LINES = [{"file_name": f"{i:02d}.png", "angle": 10 * i, "colour": "ab"[i % 2]} for i in range(20)]


@pytest.mark.parametrize("condition", ["angle,colour", "metadata.jsonl:angle,colour"])
def test_a_list_beside_images_has_their_conditions(tmp_path: Path, condition: str) -> None:
    path = folder(tmp_path / "x", LINES)
    data = load(path, condition=condition)
    own = Conditions.restore(data.config())
    assert own is not None
    assert isinstance(data.vector, np.ndarray)
    assert own.words(data.vector)[3] == {"angle": 30.0, "colour": "b"}
    assert own.words(data.vector)[20] == {"angle": None, "colour": None}
    assert any("1 of 21 images are not named in metadata.jsonl" in note for note in data.notes)
    assert not any("none of them called label" in note for note in data.notes)
    assert data.mirrored is False  # an angle is another one in the mirror
    rows = conform(path, data.config())
    np.testing.assert_array_equal(rows.vector, data.vector)
    assert rows.fingerprint == data.fingerprint
    assert not rows.notes  # the list was read
    strange = [{**line, "colour": "c"} if i == 4 else line for i, line in enumerate(LINES)]
    (path / "metadata.jsonl").write_text("\n".join(map(json.dumps, strange)))
    (note,) = conform(path, data.config()).notes
    assert note.startswith("condition colour: no training row has c; ")
    changed = [{**line, "angle": 1.0} if i == 3 else line for i, line in enumerate(LINES)]
    (path / "metadata.jsonl").write_text("\n".join(map(json.dumps, changed)))
    assert load(path, condition=condition).fingerprint != data.fingerprint
    with pytest.raises(InputError, match=r"metadata.jsonl: it has no column size; it has angle"):
        load(path, condition="size")
    with pytest.raises(InputError, match=r"--condition no\.csv:angle: no such file"):
        load(path, condition="no.csv:angle")
    labelled = [{**line, "label": "x"} for line in LINES]
    (path / "metadata.jsonl").write_text("\n".join(map(json.dumps, labelled)))
    rows = conform(path, data.config())
    assert rows.vector is None
    assert "a list names 20 of 21 images, or some lie outside" in rows.notes[0]
    (path / "metadata.jsonl").unlink()
    with pytest.raises(InputError, match=r"--condition angle: x/ holds no metadata\.csv"):
        load(path, condition="angle")
    (tmp_path / "masks").mkdir()
    with pytest.raises(InputError, match=r"FILE:COLUMN, or .*masks/ for a folder of arrays"):
        load(path, condition=str(tmp_path / "masks"))
    assert conform(path, data.config()).vector is None
