"""Tables come back as they went in, and a table that cannot be used is refused in one sentence."""

import datetime
import json

import numpy as np
import pytest
from examples import every_arrow_type

from undiffuse.data import KINDS

pa = pytest.importorskip("pyarrow")
csv, pq = pytest.importorskip("pyarrow.csv"), pytest.importorskip("pyarrow.parquet")

read_table = KINDS["tables"].read
N = 40


def rows_of(loaded):
    return loaded.rows.take(np.arange(len(loaded.rows)))


def assert_same(one, other):
    """Equal tables, where Arrow holds NaN unequal to itself."""
    np.testing.assert_array_equal(one["nan"].to_numpy(), other["nan"].to_numpy())
    assert one["nan"].null_count == other["nan"].null_count
    assert one.schema == other.schema
    assert one.drop_columns("nan").equals(other.drop_columns("nan"))


def test_every_type_comes_back_as_itself():
    table = every_arrow_type()
    loaded = read_table(table)
    assert_same(loaded.form.present(rows_of(loaded)), table)
    json.dumps(loaded.facts, allow_nan=False)


def test_prices_over_a_wide_range_keep_their_decimals():
    """Too many steps of a cent to be a grid: a number, rounded to the cent on the way back."""
    rng = np.random.default_rng(0)
    cents = rng.integers(0, 10**9, N)
    loaded = read_table(pa.table({"price": cents / 100, "raw": rng.normal(size=N)}))
    stored = rows_of(loaded)
    for nudge in (0.0, 0.001, -0.004):
        back = loaded.form.present(stored + nudge)
        assert back.column("price").to_pylist() == (cents / 100).tolist()
        assert back.column("raw").to_pylist() == (stored[:, 1] + nudge).tolist()


def test_times_are_modelled_in_steps_of_their_own():
    days = pa.array(
        [datetime.datetime(2020, 1, 1) + datetime.timedelta(d) for d in (4, 0, 2, 10)],
        pa.timestamp("ns"),
    )
    loaded = read_table(pa.table({"day": days}))
    assert rows_of(loaded)[:, 0].tolist() == [2, 0, 1, 5]


def test_pandas_frames_come_back_with_their_types_and_order():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "z": pd.Categorical(
                ["lo", "hi", None, "lo"], categories=["lo", "mid", "hi"], ordered=True
            ),
            "Int": pd.array([1, None, 3, 4], dtype="Int64"),
            "a": [1.5, np.nan, 2.25, 1.0],
            "b": [True, False, True, True],
            "t": pd.to_datetime(["2020-01-01", "2021-01-01", None, "2020-06-01"]).tz_localize(
                "Europe/Berlin"
            ),
            "s": ["x", "y", "x", None],
            "i8": np.array([1, 2, 3, 3], np.int8),
            "f4": np.array([0.1, 0.2, 0.3, 0.4], np.float32),
        },
        index=[3, 1, 2, 9],
    )
    loaded = read_table(frame)
    presented = loaded.form.present(rows_of(loaded))
    pd.testing.assert_frame_equal(presented, frame.reset_index(drop=True))
    assert loaded.path is None
    numbered = pd.DataFrame(np.arange(12.0).reshape(4, 3) ** 2 / 7)
    loaded = read_table(numbered)
    pd.testing.assert_frame_equal(loaded.form.present(rows_of(loaded)), numbered)


def test_polars_frames_come_back_with_their_types_and_order():
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame(
        {
            "e": pl.Series(["a", "b", "a", None], dtype=pl.Enum(["b", "a"])),
            "c": pl.Series(["u", "v", "u", "u"], dtype=pl.Categorical),
            "s": ["x", "y", None, "y"],
            "f": [1.5, float("nan"), 0.25, 3.0],
            "n": pl.Series([1, None, 2, 2], dtype=pl.UInt8),
            "d": pl.Series([0, 1, 2, 3], dtype=pl.Date),
        }
    )
    loaded = read_table(frame)
    presented = loaded.form.present(rows_of(loaded))
    assert presented.schema == frame.schema
    assert presented.equals(frame, null_equal=True)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_of_any_delimiter(tmp_path, delimiter):
    rows = [
        ["city, or town" if delimiter != "," else "city", "n", "x"],
        *[[f"c{i % 3}", str(i % 4), f"{i}.25"] for i in range(12)],
    ]
    path = tmp_path / "t.csv"
    path.write_text("\n".join(delimiter.join(row) for row in rows) + "\n")
    loaded = read_table(path)
    table = loaded.form.present(rows_of(loaded))
    assert table.column_names == rows[0]
    assert table.column("n").to_pylist() == [i % 4 for i in range(12)]
    assert table.column("x").to_pylist() == [i + 0.25 for i in range(12)]
    assert loaded.path == str(path.resolve())


def test_csv_with_decimal_commas_missing_values_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("\ufeffa;b;c\n1,5;x;?\n2,5;NA;2\n;x;3\n".encode())
    table = read_table(path).form.present(rows_of(read_table(path)))
    assert table.to_pydict() == {"a": [1.5, 2.5, None], "b": ["x", None, "x"], "c": [None, 2, 3]}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_files_are_written_so_that_they_read_back(tmp_path, suffix):
    table = every_arrow_type(1).select(
        ["int64", "double", "price", "flag", "word", "date", "coded"]
    )
    loaded = read_table(table)
    out = tmp_path / f"samples{suffix}"
    loaded.form.save(rows_of(loaded), out)
    read = (
        csv.read_csv(out, convert_options=csv.ConvertOptions(strings_can_be_null=True))
        if suffix == ".csv"
        else pq.read_table(out)
    )
    assert read.to_pydict() == table.to_pydict()
    assert list(tmp_path.iterdir()) == [out]


def test_the_fingerprint_follows_the_values():
    table = pa.table({"a": [1.0, 2.5, 3.0]})
    assert read_table(table).fingerprint == read_table(pa.table({"a": [1.0, 2.5, 3.0]})).fingerprint
    assert read_table(table).fingerprint != read_table(pa.table({"a": [1.0, 2.5, 3.5]})).fingerprint
    assert read_table(table).fingerprint != read_table(pa.table({"b": [1.0, 2.5, 3.0]})).fingerprint


def test_constant_columns_are_reproduced_and_row_counters_noted():
    table = pa.table({"t": range(30), "always": ["yes"] * 30, "x": np.linspace(0, 1, 30)})
    loaded = read_table(table)
    transform = loaded.make_transform(lambda: iter([rows_of(loaded)]))
    drawn = loaded.form.present(transform.decode(np_to_torch(np.zeros((5, *transform.shape)))))
    assert transform.shape == (2,)
    assert drawn.column("always").to_pylist() == ["yes"] * 5
    assert tuple(loaded.notes) == (
        'pyarrow table: column "t" counts the rows; remove it unless that is meant.',
    )


def np_to_torch(array):
    import torch

    return torch.from_numpy(array).float()


def test_the_picture_shows_each_column():
    loaded = read_table(every_arrow_type(2).select(range(10, 27)))
    picture = loaded.form.preview(rows_of(loaded))
    assert picture.size == (880, 510)  # twelve panels in three lines of four
    one = read_table(pa.table({"x": [0.5, 1.25, 7.125]}))
    low, high = (
        one.form.preview(np.array([[0.0], [0.0]])),
        one.form.preview(np.array([[0.0], [1.0]])),
    )
    assert np.asarray(low).shape == np.asarray(high).shape
    assert (np.asarray(low) != np.asarray(high)).any()


def test_a_table_says_how_each_column_is_modelled():
    """In the values' own type: the zeros of a gain, the days of a date."""
    rng = np.random.default_rng(0)
    day = np.where(rng.random(400) < 0.5, 0, rng.integers(1, 9999, 400)).astype("M8[D]")
    table = pa.table(
        {
            "gain": np.where(rng.random(400) < 0.6, 0.0, rng.normal(size=400)),
            "day": pa.array(day),
            "size": pa.array(rng.choice(["s", "m"], 400, p=[0.9, 0.1]), mask=np.arange(400) == 3),
            "fixed": [2.5] * 400,
        }
    )
    loaded = read_table(table)
    loaded.make_transform(lambda: iter([loaded.rows.take(np.arange(400))]))
    facts = {column["name"]: column for column in loaded.facts["columns"]}
    assert facts["gain"]["modelled as"] == "a continuous number, with 0 apart"
    assert facts["day"]["modelled as"] == "whole steps, with 1970-01-01 apart"
    assert facts["day"]["values"].startswith("1970-01-01 to ")
    assert facts["size"]["modelled as"] == "one of 2 values, or missing"
    assert (facts["size"]["values"], facts["size"]["missing"]) == ("s, m", 1)
    assert facts["fixed"]["modelled as"].startswith("a constant")
    assert facts["fixed"]["values"] == "2.5 to 2.5"
