"""Tables come back as they went in, and a table that cannot be used is refused in one sentence."""

import builtins
import datetime
import decimal
import json
from pathlib import Path

import numpy as np
import pytest

from undiffuse import parts
from undiffuse.data import load
from undiffuse.data.table_form import TableForm
from undiffuse.data.tables import read_table
from undiffuse.errors import InputError

pa = pytest.importorskip("pyarrow")
csv, pq = pytest.importorskip("pyarrow.csv"), pytest.importorskip("pyarrow.parquet")

FAMILY = {"table_form": TableForm}
N = 40


def everything(rng):
    """One column of each type that can be modelled, most with missing values."""
    gone = rng.random(N) < 0.25
    days = rng.integers(0, 1000, N)
    base = datetime.datetime(2020, 3, 1, 12, 0, 5)
    return pa.table(
        {
            **{
                name: pa.array(rng.integers(0, 100, N), getattr(pa, name)(), mask=gone)
                for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
            },
            "negative": pa.array(-(2**63) + rng.integers(0, 9, N), pa.int64()),
            "huge": pa.array([2**64 - 1 - int(d) for d in days], pa.uint64()),
            "half": pa.array(rng.normal(size=N).astype(np.float16), pa.float16(), mask=gone),
            "single": pa.array(rng.normal(size=N), pa.float32(), mask=gone),
            "double": pa.array(rng.normal(size=N), pa.float64()),
            "nan": pa.array(np.where(gone, np.nan, rng.normal(size=N)), pa.float64()),
            "price": pa.array(np.round(rng.random(N) * 100, 2), pa.float64()),
            "money": pa.array(
                [None if g else decimal.Decimal(int(d)) / 100 for g, d in zip(gone, days)], pa.decimal128(9, 2)
            ),
            "flag": pa.array(rng.random(N) < 0.5, pa.bool_(), mask=gone),
            "word": pa.array(rng.choice(["b", "a", "ü"], N), pa.string(), mask=gone),
            "large": pa.array(rng.choice(["b", "a"], N), pa.large_string()),
            "coded": pa.DictionaryArray.from_arrays(
                pa.array(rng.integers(0, 2, N), pa.int8(), mask=gone), pa.array(["z", "y", "unused"])
            ),
            "numbers": pa.DictionaryArray.from_arrays(
                pa.array(rng.integers(0, 2, N), pa.int32()), pa.array([7, 3], pa.int16()), ordered=True
            ),
            "date": pa.array(
                [datetime.date(2020, 1, 1) + datetime.timedelta(int(d)) for d in days], pa.date32(), mask=gone
            ),
            "date64": pa.array([datetime.date(2020, 1, 1) + datetime.timedelta(int(d)) for d in days], pa.date64()),
            "stamp": pa.array(
                [base + datetime.timedelta(int(d)) for d in days], pa.timestamp("ns", "Europe/Berlin"), mask=gone
            ),
            "clock": pa.array([datetime.time(int(d) % 24, 5) for d in days], pa.time32("s")),
            "clock64": pa.array([datetime.time(int(d) % 24, 5) for d in days], pa.time64("us")),
            "span": pa.array([datetime.timedelta(int(d)) for d in days], pa.duration("us"), mask=gone),
        }
    )


def rows_of(loaded):
    return loaded.rows.take(np.arange(len(loaded.rows)))


def assert_same(one, other):
    """Equal tables, where Arrow holds NaN unequal to itself."""
    np.testing.assert_array_equal(one["nan"].to_numpy(), other["nan"].to_numpy())
    assert one["nan"].null_count == other["nan"].null_count
    assert one.schema == other.schema
    assert one.drop_columns("nan").equals(other.drop_columns("nan"))


def test_every_type_comes_back_as_itself():
    table = everything(np.random.default_rng(0))
    loaded = read_table(table)
    assert_same(loaded.form.present(rows_of(loaded)), table)
    again = parts.build(json.loads(json.dumps(parts.describe(loaded.form, FAMILY), allow_nan=False)), FAMILY)
    assert parts.describe(again, FAMILY) == parts.describe(loaded.form, FAMILY)
    assert_same(again.present(rows_of(loaded)), table)
    json.dumps(loaded.facts, allow_nan=False)


def test_times_are_modelled_in_steps_of_their_own():
    days = pa.array([datetime.datetime(2020, 1, 1) + datetime.timedelta(d) for d in (4, 0, 2, 10)], pa.timestamp("ns"))
    loaded = read_table(pa.table({"day": days}))
    assert rows_of(loaded)[:, 0].tolist() == [2, 0, 1, 5]


def test_pandas_frames_come_back_with_their_types_and_order():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {
            "z": pd.Categorical(["lo", "hi", None, "lo"], categories=["lo", "mid", "hi"], ordered=True),
            "Int": pd.array([1, None, 3, 4], dtype="Int64"),
            "a": [1.5, np.nan, 2.25, 1.0],
            "b": [True, False, True, True],
            "t": pd.to_datetime(["2020-01-01", "2021-01-01", None, "2020-06-01"]).tz_localize("Europe/Berlin"),
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
    table = everything(np.random.default_rng(1)).select(["int64", "double", "price", "flag", "word", "date", "coded"])
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
    table = pa.table({"id": range(30), "always": ["yes"] * 30, "x": np.linspace(0, 1, 30)})
    loaded = read_table(table)
    transform = loaded.make_transform(lambda: iter([rows_of(loaded)]))
    drawn = loaded.form.present(transform.decode(np_to_torch(np.zeros((5, *transform.shape)))))
    assert transform.shape == (2,)
    assert drawn.column("always").to_pylist() == ["yes"] * 5
    assert loaded.notes == ('pyarrow table: column "id" counts the rows; remove it unless that is meant.',)


def np_to_torch(array):
    import torch

    return torch.from_numpy(array).float()


def test_the_picture_shows_each_column():
    loaded = read_table(everything(np.random.default_rng(2)).select(range(10, 27)))
    picture = loaded.form.preview(rows_of(loaded))
    assert picture.size == (880, 510)  # twelve panels in three lines of four
    one = read_table(pa.table({"x": [0.5, 1.25, 7.125]}))
    low, high = one.form.preview(np.array([[0.0], [0.0]])), one.form.preview(np.array([[0.0], [1.0]]))
    assert np.asarray(low).shape == np.asarray(high).shape
    assert (np.asarray(low) != np.asarray(high)).any()


FILES = {
    "empty.csv": (b"", "empty.csv: the file is empty; check the path."),
    "header.csv": (b"a,b\n", "header.csv: has no rows; at least two are needed."),
    "single.csv": (b"a,b\n1,2\n", "single.csv: has one row; at least two are needed."),
    "ragged.csv": (b"a,b,c\n1,2,3\n4,5\n", "ragged.csv: line 3 has 2 fields where the header has 3; make them equal."),
    "quoted.csv": (
        b'a,b\n1,"x\ny"\n1,2,3\n',
        "quoted.csv: line 4 has 3 fields where the header has 2; make them equal.",
    ),
    "numbers.csv": (
        b"1,2\n3,4\n5,6\n",
        "numbers.csv: the first line holds numbers, not column names; add a line of names.",
    ),
    "latin.csv": ("a,b\nh\xe9,2\nx,3\n".encode("latin-1"), "latin.csv: is not UTF-8 text; save the file as UTF-8."),
    "twice.csv": (b"a,a\n1,2\n3,4\n", 'twice.csv: two columns are called "a"; rename one.'),
    "gone.csv": (b"a,b\n1,\n2,\n3,NA\n", 'gone.csv: column "b" is empty in all 3 rows; remove it or fill it.'),
    "inf.csv": (
        b"a,b\n1,0.5\n2,inf\n3,-inf\n",
        'inf.csv: column "b" holds 2 infinite values, the first in row 2; replace them or remove those rows.',
    ),
    "names.csv": (
        b"a,name\n1,x\n2,y\n3,z\n4,w\n",
        'names.csv: column "name" has 4 different values in 4 rows, as an identifier or free text has; remove it.',
    ),
    "constant.csv": (
        b"a,b\n1,x\n1,x\n",
        "constant.csv: every column holds one value in all rows; there is nothing to learn from.",
    ),
    "bad.parquet": (b"PAR1 not really", "bad.parquet: could not be read as Parquet"),
    "notes.txt": (b"a,b\n", "notes.txt: not a table that can be read (.csv, .tsv, .parquet, .pq); convert it."),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_used_is_refused(tmp_path, name):
    content, sentence = FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError) as refusal:
        read_table(tmp_path / name)
    assert str(refusal.value).startswith(sentence)
    assert "\n" not in str(refusal.value)


OBJECTS = {
    "no columns": (lambda: pa.table({}), "pyarrow table: has no columns; there is nothing to learn from."),
    "nested": (lambda: pa.table({"a": [[1], [2]]}), 'pyarrow table: column "a" has the type list<'),
    "binary": (lambda: pa.table({"a": [b"x", b"y"]}), 'pyarrow table: column "a" has the type binary, which cannot be'),
    "wide": (
        lambda: pa.table({"a": [0, 1, 2**60 + 1]}),
        'pyarrow table: column "a" spans more than 2**53 steps, as identifiers do; remove it or make it a float.',
    ),
    "extreme": (
        lambda: pa.table({"a": [0.5, 1e200]}),
        'pyarrow table: column "a" holds numbers beyond 1e+150; rescale it.',
    ),
    "one column": (lambda: pa.chunked_array([[1, 2]]), "pyarrow table: not a table of plain columns ("),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_an_object_that_cannot_be_used_is_refused(name):
    make, sentence = OBJECTS[name]
    with pytest.raises(InputError) as refusal:
        read_table(make())
    assert str(refusal.value).startswith(sentence)


def test_pandas_frames_that_cannot_be_used_are_refused():
    pd = pytest.importorskip("pandas")
    with pytest.raises(InputError, match='two columns are called "a"; rename one'):
        read_table(pd.DataFrame([[1, 2], [3, 4]], columns=["a", "a"]))
    with pytest.raises(InputError, match="not a table of plain columns"):
        read_table(pd.DataFrame({"a": [1, "x", object()]}))


def test_a_missing_file_and_a_missing_library_are_named(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"nothing\.csv: no such file; check the path"):
        read_table(tmp_path / "nothing.csv")
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"reading tables needs pyarrow; pip install 'undiffuse\[tables\]'\."):
        read_table("t.csv")


def test_load_takes_every_file_that_holds_a_table(tmp_path):
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        lines = [delimiter.join(("a", "b")), *(delimiter.join((str(i % 3), f"{i}.5")) for i in range(20))]
        (tmp_path / f"t{suffix}").write_text("\n".join(lines))
        data = load(tmp_path / f"t{suffix}")
        assert sorted(data.train[:].column("b").to_pylist() + data.held_out.column("b").to_pylist()) == [
            i + 0.5 for i in range(20)
        ]


def test_a_form_that_a_table_cannot_have_is_refused(tmp_path):
    loaded = read_table(pa.table({"a": [1.0, 2.5]}))
    with pytest.raises(InputError, match=r"can be written as \.csv or \.parquet"):
        loaded.form.save(rows_of(loaded), tmp_path / "x.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="could not be written"):
        loaded.form.save(rows_of(loaded), Path(tmp_path / "file" / "x.csv"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
