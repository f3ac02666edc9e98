"""Every format of tables reads what another program wrote, whole, packed or in parts."""

import datetime as dt
import gzip
import os
import sys
import zipfile

import numpy as np
import pytest
from table_files import PACKERS, WRITERS, write

from undiffuse.data import complete, conform, load
from undiffuse.data.arrays import unpacked
from undiffuse.data.paths import COMPRESSED, TEXT_SUFFIXES, suffix_of
from undiffuse.data.tables.read import READERS, open_table
from undiffuse.errors import InputError

pa = pytest.importorskip("pyarrow")

CAFE = os.fsdecode(b"caf\xe9") if sys.platform == "linux" else "caf\xe9"
FILES = [
    (suffix, packing)
    for suffix in READERS
    for packing in PACKERS
    if not packing or suffix in TEXT_SUFFIXES
]


def table(rows=24):
    """A table of every type that all formats have."""
    days = [dt.date(2024, 2, 1 + i % 7) for i in range(rows)]
    return pa.table(
        {
            "whole": [i % 8 * 3 - 7 for i in range(rows)],
            "real": (np.arange(rows) % 6 / 7).round(12),
            "word": ["x", "y", "ä b"] * (rows // 3),
            "flag": [i % 5 == 0 for i in range(rows)],
            "day": days,
            "gap": [None if i % 4 == 0 else i % 8 / 2 for i in range(rows)],
        }
    )


def refusal(source, **options):
    with pytest.raises(InputError) as problem:
        load(source, **options)
    assert "\n" not in str(problem.value)
    return str(problem.value)


@pytest.mark.parametrize(("suffix", "packing"), FILES)
def test_a_file_is_read_as_it_was_written(suffix, packing, tmp_path):
    wanted = table()
    path = write(wanted, tmp_path / f"{CAFE}{suffix}", packing)
    assert suffix_of(path) == suffix
    data = load(path)
    assert data.form.table(data.loaded.rows.take(np.arange(24))).equals(wanted)
    new = next(conform(path, data.config()).batches(24))
    np.testing.assert_array_equal(new["row"], data.loaded.rows.take(np.arange(24)))
    assert complete(path, data.config()).known.sum() == 24 * 6 - 6
    assert load(data.path).fingerprint == data.fingerprint


def test_every_format_and_packing_is_covered():
    assert set(WRITERS) == set(READERS)
    assert set(PACKERS) == {"", *COMPRESSED}


@pytest.mark.parametrize("suffix", READERS)
def test_a_folder_of_parts_is_one_table(suffix, tmp_path):
    wanted, folder = table(), tmp_path / "parts"
    for i in range(2):
        (folder / f"year={2023 + i}").mkdir(parents=True)
        write(wanted[12 * i : 12 * i + 12], folder / f"year={2023 + i}" / f"part-{i}{suffix}")
    (folder / "_SUCCESS").write_text("")
    (folder / "_temporary").mkdir()
    write(wanted[:3].select(["whole"]), folder / "_temporary" / f"part-9{suffix}")
    whole = wanted.append_column("year", pa.array([2023] * 12 + [2024] * 12))
    data = load(folder)
    assert data.form.table(data.loaded.rows.take(np.arange(24))).equals(whole)
    assert any("2 files are parts of one table" in note for note in data.notes)
    assert len(conform(folder, data.config())) == 24


def test_names_of_folders_are_decoded_and_may_say_that_a_value_is_missing(tmp_path):
    """As Hive and Spark write them."""
    for key in ("__HIVE_DEFAULT_PARTITION__", "x%20y"):
        (tmp_path / f"city={key}").mkdir()
        write(table(12), tmp_path / f"city={key}" / "part.csv")
    found = open_table(tmp_path).table.column("city").to_pylist()
    assert found == [None] * 12 + ["x y"] * 12


@pytest.mark.parametrize("suffix", READERS)
def test_parts_that_differ_are_refused(suffix, tmp_path):
    write(table(), tmp_path / f"a{suffix}")
    write(table().drop_columns(["real"]), tmp_path / f"b{suffix}")
    said = f'{tmp_path.name}/: a{suffix} has the column "real", and b{suffix} has not; give all'
    assert refusal(tmp_path).startswith(said)
    (tmp_path / f"b{suffix}").unlink()
    other = ".csv" if suffix != ".csv" else ".parquet"
    write(table(), tmp_path / f"b{other}")
    same = READERS[other] is READERS[suffix]
    assert same or "have different formats" in refusal(tmp_path)


def test_tables_beside_images_are_lists_and_an_image_beside_tables_is_passed_over(tmp_path):
    from image_files import folder_of

    folder = folder_of(tmp_path, [np.full((8, 8), 20 * i, np.uint8) for i in range(10)])
    write(table(), folder / "metadata.csv")
    assert load(folder).loaded.kind == "images"
    for path in sorted(folder.glob("*.png"))[1:]:
        path.unlink()
    for i in range(10):
        write(table(), folder / f"part-{i}.csv")
    (folder / "metadata.csv").unlink()
    assert load(folder).loaded.kind == "tables"


def test_a_sheet_is_chosen_by_its_name(tmp_path):
    import openpyxl

    book = openpyxl.Workbook()
    for title, factor in (("empty", 0), ("First one", 1), ("second", 2)):
        sheet = book.active if title == "empty" else book.create_sheet(title)
        sheet.title = title
        for row in [["a", "b"], *([i % 3, i * factor / 4] for i in range(12))] * (factor > 0):
            sheet.append([None, *row])
    book.save(tmp_path / "t.xlsx")
    first, second = load(tmp_path / "t.xlsx"), load(f"{tmp_path}/t.xlsx:second")
    assert [first.form.columns[1].name, len(first.loaded.rows)] == ["b", 12]
    assert first.notes[0].startswith('t.xlsx: the sheet "First one" is read; t.xlsx:NAME reads')
    assert not second.loaded.notes
    values = second.form.table(second.loaded.rows.take(np.arange(12))).column("b").to_pylist()
    assert values == [i / 2 for i in range(12)]
    assert "t.xlsx: secnd: no such sheet. Did you mean second?" in refusal(
        f"{tmp_path}/t.xlsx:secnd"
    )
    assert refusal(f"{tmp_path}/t.xlsx:empty").startswith("t.xlsx:empty: has no cells with values")


@pytest.mark.parametrize(
    ("first", "names"),
    [(["Report", None], ["x", "y"]), ([None, "y"], ["", "y"]), (["x", None], ["x", ""])],
)
def test_a_title_above_the_names_is_passed_over(first, names, tmp_path):
    """Not so names that the first of the columns, or the last, has none of."""
    import openpyxl

    book, title = openpyxl.Workbook(), first[0] == "Report"
    last = [0, 1, 2, 3] if first == ["x", None] else ["a", "b", "c", "d"]
    rows = [[f"a{i % 3}", last[i % 4]] for i in range(40)]
    for row in [first, *[["x", "y"]] * title, *rows]:
        book.active.append(row)
    book.save(tmp_path / "t.xlsx")
    found = open_table(tmp_path / "t.xlsx")
    assert found.table.column_names == names
    assert len(found.table) == 40
    said = 't.xlsx: "Report" is taken for a title; row 2 names the columns.'
    assert (said in found.notes) == title


def test_cells_of_a_sheet_are_what_a_csv_file_would_hold(tmp_path):
    import openpyxl

    book, rows = openpyxl.Workbook(), 40
    book.active.append(["price", "when", "took", "at", "mixed"])
    for i in range(rows):
        when, took = dt.datetime(2024, 5, 1, 8, i), dt.timedelta(hours=i, seconds=3)
        mixed = "sum" if i == rows - 1 else i + 0.5
        book.active.append([f"$1,{i:03}.50", when, took, dt.time(9, i), mixed])
    book.save(tmp_path / "t.xlsx")
    found = open_table(tmp_path / "t.xlsx")
    assert [str(field.type) for field in found.table.schema] == [
        "double", "timestamp[s]", "string", "time32[s]", "double"
    ]  # fmt: skip
    assert found.table.column("price")[7].as_py() == 1007.5
    assert any("1 of 40 rows is left out: row 41 holds" in note for note in found.notes)


# --- what is refused


def bad_gzip(folder):
    whole = gzip.compress(b"a,b\n1,2\n3,4\n" * 100)
    (folder / "t.csv.gz").write_bytes(whole[:-20])


def bad_zstd(folder):
    (folder / "t.csv.zst").write_bytes(PACKERS[".zst"](b"a,b\n1,2\n3,4\n" * 100)[:-9])


def no_gzip(folder):
    (folder / "t.csv.gz").write_bytes(b"a,b\n1,2\n")


def no_json(folder):
    (folder / "t.jsonl").write_text('{"a": 1}\n{"a": 2\n')


def no_object(folder):
    (folder / "t.jsonl").write_text('{"a": 1}\n[1, 2]\n')


def mixed_json(folder):
    (folder / "t.jsonl").write_text('{"a": 1}\n{"a": 2}\n{"a": "x"}\n')


def json_list(folder):
    (folder / "t.jsonl").write_text('[{"a": 1}, {"a": 2}]')


def no_rows(folder):
    write(table()[:0], folder / "t.xlsx")


def no_workbook(folder):
    (folder / "t.xlsx").write_bytes(b"\xd0\xcf\x11\xe0" * 100)


def other_archive(folder):
    with zipfile.ZipFile(folder / "t.xlsx", "w") as archive:
        archive.writestr("a.txt", "x")


def one_file(name):
    return lambda folder: (folder / name).write_bytes(b"x" * 100)


REFUSED = {
    "cut short": (bad_gzip, "t.csv.gz: is cut short; write or fetch it again."),
    "zstd cut short": (bad_zstd, "t.csv.zst: could not be unpacked (Truncated compressed stream"),
    "no gzip": (no_gzip, "t.csv.gz: could not be unpacked (Not a gzipped file (b'a,')); write"),
    "no json": (no_json, "t.jsonl: line 2 is not valid JSON"),
    "no object": (no_object, "t.jsonl: line 2 is not an object; correct it."),
    "mixed": (mixed_json, 't.jsonl: column "a" holds a number in line 1 and a text in line 3;'),
    "a list": (json_list, "t.jsonl: not JSON lines: each line is to be one object, as"),
    "no rows": (no_rows, "t.xlsx: has no rows; at least two are needed."),
    "password": (
        no_workbook,
        "t.xlsx: is not a workbook, or is damaged or protected by a password;",
    ),
    "other zip": (other_archive, "t.xlsx: could not be read as a workbook ("),
    **{
        name: (one_file(name), f"{name}: files of this kind cannot be read; {advice}")
        for name, advice in {
            "t.xls": "save the sheet as .xlsx or .csv.",
            "t.dta": "save it as .csv or .parquet.",
            "t.pkl": "pickles are never read; save it as .csv or .parquet.",
            "t.mat": "save the array as .npy, or in an HDF5 file, .h5.",
            "t.zip": "unpack it.",
            "t.json": "save a table as JSON lines, .jsonl: one object in each line.",
            "t.foo": "give .csv, .tsv,",
        }.items()
    },
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_damaged_or_unknown_is_refused(name, tmp_path):
    make, sentence = REFUSED[name]
    make(tmp_path)
    path = next(tmp_path.iterdir())
    assert refusal(path).replace(f"{tmp_path}/", "").startswith(sentence)


@pytest.mark.parametrize("name", ["t.csv.gz", "t.csv.zst", "t.xlsx"])
def test_a_bomb_is_not_unpacked(name, tmp_path, monkeypatch):
    monkeypatch.setattr(unpacked, "LARGE", 2**16)
    content = b"a\n" + b"0\n" * 2**20
    if name == "t.xlsx":
        with zipfile.ZipFile(tmp_path / name, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("xl/worksheets/sheet1.xml", content)
    else:
        (tmp_path / name).write_bytes(PACKERS[f".{name.split('.')[-1]}"](content))
    assert "may be a decompression bomb" in refusal(tmp_path / name)


@pytest.mark.parametrize(("package", "name"), [("openpyxl", "t.xlsx"), ("h5py", "t.h5")])
def test_a_package_that_is_missing_is_named(package, name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).write_bytes(b"x")
    said = f"needs {package}; pip install 'undiffuse[science]'."
    assert refusal(tmp_path / name).endswith(said)
