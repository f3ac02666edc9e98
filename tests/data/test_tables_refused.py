"""Tables that cannot be used are refused in one sentence; others are taken from any file."""

import builtins
from pathlib import Path

import numpy as np
import pytest

from undiffuse.data import KINDS, load
from undiffuse.errors import InputError

pa = pytest.importorskip("pyarrow")
csv, pq = pytest.importorskip("pyarrow.csv"), pytest.importorskip("pyarrow.parquet")
read_table = KINDS["tables"].read


FILES = {
    "empty.csv": (b"", "empty.csv: the file is empty; check the path."),
    "header.csv": (b"a,b\n", "header.csv: has no rows; at least two are needed."),
    "single.csv": (b"a,b\n1,2\n", "single.csv: has one row; at least two are needed."),
    "ragged.csv": (
        b"a,b,c\n1,2,3\n4,5\n",
        "ragged.csv: line 3 has 2 fields where the header has 3; make them equal.",
    ),
    "quoted.csv": (
        b'a,b\n1,"x\ny"\n1,2,3\n',
        "quoted.csv: line 4 has 3 fields where the header has 2; make them equal.",
    ),
    "numbers.csv": (
        b"1,2\n3,4\n5,6\n",
        "numbers.csv: the first line holds numbers, not column names; add a line of names.",
    ),
    "latin.csv": (
        "a,b\nh\xe9,2\nx,3\n".encode("latin-1"),
        "latin.csv: is not UTF-8 text; save the file as UTF-8.",
    ),
    "twice.csv": (b"a,a\n1,2\n3,4\n", 'twice.csv: two columns are called "a"; rename one.'),
    "gone.csv": (
        b"b\nNA\nNA\nNA\n",
        'gone.csv: column "b" is empty in all 3 rows; remove it or fill it.',
    ),
    "inf.csv": (
        b"a,b\n1,0.5\n2,inf\n3,-inf\n",
        'inf.csv: column "b" holds 2 infinite values, the first in row 2; replace them or remove '
        "those rows.",
    ),
    "names.csv": (
        b"name,gone\nx,\ny,\nz,\nw,\n",
        'names.csv: column "name" has 4 different values in 4 rows, as an identifier or free text '
        "has; remove it.",
    ),
    "constant.csv": (
        b"a,b\n1,x\n1,x\n",
        "constant.csv: every column holds one value in all rows; there is nothing to learn from.",
    ),
    "bad.parquet": (b"PAR1 not really", "bad.parquet: could not be read as Parquet"),
    "notes.txt": (
        b"a,b\n",
        "notes.txt: not a table that can be read (.csv, .tsv, .jsonl, .ndjson, .parquet, .pq, "
        ".xlsx, .xlsm); convert it.",
    ),
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
    "no columns": (
        lambda: pa.table({}),
        "pyarrow table: has no columns; there is nothing to learn from.",
    ),
    "nested": (lambda: pa.table({"a": [[1], [2]]}), 'pyarrow table: column "a" has the type list<'),
    "binary": (
        lambda: pa.table({"a": [b"x", b"y"]}),
        'pyarrow table: column "a" has the type binary, which cannot be',
    ),
    "wide": (
        lambda: pa.table({"a": [0, 1, 2**60 + 1]}),
        'pyarrow table: column "a" spans more than 2**53 steps, as identifiers do; remove it or '
        "make it a float.",
    ),
    "extreme": (
        lambda: pa.table({"a": [0.5, 1e200]}),
        'pyarrow table: column "a" holds numbers beyond 1e+150; rescale it.',
    ),
    "one column": (
        lambda: pa.chunked_array([[1, 2]]),
        "pyarrow table: not a table of plain columns (",
    ),
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
        read_table(pd.DataFrame({"a": [1, {2}, object()]}))


def test_a_missing_file_and_a_missing_library_are_named(tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"nothing\.csv: no such file; check the path"):
        read_table(tmp_path / "nothing.csv")
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.partition(".")[0] == "pyarrow":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        InputError, match=r"reading tables needs pyarrow; pip install 'undiffuse\[tables\]'\."
    ):
        read_table(Path("t.csv"))


def test_load_takes_every_file_that_holds_a_table(tmp_path):
    for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
        lines = [
            delimiter.join(("a", "b")),
            *(delimiter.join((str(i % 3), f"{i}.5")) for i in range(20)),
        ]
        (tmp_path / f"t{suffix}").write_text("\n".join(lines))
        data = load(tmp_path / f"t{suffix}")
        assert sorted(
            data.train[:].column("b").to_pylist() + data.held_out.column("b").to_pylist()
        ) == [i + 0.5 for i in range(20)]


def test_a_form_that_a_table_cannot_have_is_refused(tmp_path):
    loaded = read_table(pa.table({"a": [1.0, 2.5]}))
    with pytest.raises(InputError, match=r"can be written as \.csv or \.parquet"):
        loaded.form.save(loaded.rows.take(np.arange(2)), tmp_path / "x.png")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="could not be written"):
        loaded.form.save(loaded.rows.take(np.arange(2)), Path(tmp_path / "file" / "x.csv"))
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
