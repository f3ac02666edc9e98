"""`drop`, `keep` and `types`: what a table's owner says of its columns, in training and after."""

import numpy as np
import pytest

from undiffuse.data import complete, conform, load
from undiffuse.data.tables.text import LEFT_OUT, TYPES, WANTED, FormatSpelling, typed_as
from undiffuse.errors import InputError
from undiffuse.options import ReadingOptions

pa = pytest.importorskip("pyarrow")

HEAD = "zip,price,date,note,x"


def line(i):
    sign, price, day = "-" * (i % 10 == 3), f"${i % 10},{i:03}.50", 1 + i % 7
    return f'{1000 + i % 4},"{sign}{price}",{day:02}/02/2024,n{i} and so on,{i % 9 / 8}'


def file(path, rows=40):
    path.write_text("\n".join([HEAD, *map(line, range(rows))]) + "\n")
    return path


TYPED = {"zip": "category", "price": "money", "date": "%d/%m/%Y", "note": "text"}


def test_types_are_read_as_they_are_said_and_written_as_they_were(tmp_path):
    path = file(tmp_path / "t.csv")
    data = load(path, types=TYPED)
    assert [(field.name, str(field.type)[:10]) for field in data.form.arrow_schema()] == [
        ("zip", "dictionary"), ("price", "double"), ("date", "date32[day"), ("x", "double")
    ]  # fmt: skip
    rows = data.loaded.rows.take(np.arange(40))
    table = data.form.table(rows)
    assert table.column("price").to_pylist() == [
        (-1 if i % 10 == 3 else 1) * (1000 * (i % 10) + i + 0.5) for i in range(40)
    ]
    assert [str(day) for day in table.column("date").to_pylist()[:2]] == [
        "2024-02-01",
        "2024-02-02",
    ]
    data.form.save(rows, tmp_path / "again.csv")
    again = (tmp_path / "again.csv").read_text().replace('"', "").splitlines()
    assert again[2:4] == ["1001,$1,001.5,02/02/2024,0.125", "1002,$2,002.5,03/02/2024,0.25"]
    new = next(conform(path, data.config()).batches(40))["row"]
    np.testing.assert_array_equal(new, rows)
    assert complete(path, data.config()).known.all()


def test_what_is_recorded_reads_the_same_again(tmp_path):
    data = load(file(tmp_path / "t.csv"), types=TYPED, drop=["x"])
    recorded = data.config()["reading"]
    assert recorded["drop"] == ("x",)
    assert load(data.path, **recorded).fingerprint == data.fingerprint
    assert ReadingOptions(**recorded).wanted == TYPED


@pytest.mark.parametrize("options", [{"drop": ["zip", "note"]}, {"keep": ["x", "price", "date"]}])
def test_columns_that_are_left_out_may_be_in_new_rows(options, tmp_path):
    path = file(tmp_path / "t.csv")
    data = load(path, **options)
    assert [column.name for column in data.form.columns] == ["price", "date", "x"]
    assert len(conform(path, data.config())) == len(complete(path, data.config())) == 40
    spoilt = path.read_text().replace("1001", "oops").splitlines()
    path.write_text("\n".join(spoilt))  # nothing in a column that is dropped can be wrong
    assert not any("oops" in note for note in load(path, **options).notes)


@pytest.mark.parametrize("frame", ["arrow", "pandas", "lines"])
def test_texts_that_are_not_of_a_csv_file_are_read_by_their_spelling(frame, tmp_path):
    rows = [{"price": f"€{i % 7}.{i:03},25", "x": i / 4} for i in range(1, 40)]
    table = pa.Table.from_pylist(rows)
    if frame == "lines":
        import json

        table = tmp_path / "t.jsonl"
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif frame == "pandas":
        table = table.to_pandas()
    data = load(table, types={"price": "money"})
    values = data.form.table(data.loaded.rows.take(np.arange(39))).column("price").to_pylist()
    assert values == [1000 * (i % 7) + i + 0.25 for i in range(1, 40)]
    new = next(conform(table, data.config()).batches(39))["row"]
    np.testing.assert_array_equal(new, data.loaded.rows.take(np.arange(39)))


CELLS = {
    "number": (["1", "2.5"], [1.0, 2.5]),
    "integer": (["1", "007"], [1, 7]),
    "money": (["CHF 1'234.50", "CHF 2.00"], [1234.5, 2.0]),
    "boolean": (["true", "false"], [True, False]),
    "date": (["31.12.2024", "01.02.2024"], ["2024-12-31", "2024-02-01"]),
    "time": (["08:30:00", "09:05:01"], ["08:30:00", "09:05:01"]),
    "duration": (["30:00:00", "00:00:01"], ["1 day, 6:00:00", "0:00:01"]),
    "category": (["1", "x"], ["1", "x"]),
}


@pytest.mark.parametrize("wanted", WANTED)
def test_every_type_reads_its_cells_and_refuses_others(wanted):
    cells, values = CELLS[wanted]
    read = typed_as(pa.array([*cells, "NA"]), wanted, "t").values.to_pylist()
    assert [str(one) for one in read] == [*map(str, values), "None"]
    if wanted != "category":
        with pytest.raises(
            InputError, match=rf"t holds 'oops' in row 3, which is not of type {wanted};"
        ):
            typed_as(pa.array([*cells, "oops"]), wanted, "t")
        with pytest.raises(InputError, match=r"t holds list<.*, and not"):
            typed_as(pa.array([[1], [2]]), wanted, "t")


def test_money_that_can_be_two_amounts_is_refused():
    for cells in (["1,234", "5,678"], ["1.234", "5.678"]):
        with pytest.raises(InputError, match=r"t holds '1.234' in row 1, which can be 1"):
            typed_as(pa.array(cells), "money", "t")
    for cells in (["1,234", "5,678.50"], ["1.234", "5.678,50"], ["$1,234.00", "$5,678.50"]):
        assert typed_as(pa.array(cells), "money", "t").values.to_pylist() == [1234.0, 5678.5]


def test_every_date_of_a_format_comes_back_as_it_was():
    spelling = FormatSpelling("%d %B %Y, %H:%M")
    cells = pa.array(["01 March 2024, 08:00", "31 December 1999, 23:59"])
    read = typed_as(cells, spelling.format, "t")
    assert [read.values.type, read.spelling] == [pa.timestamp("s"), spelling]
    assert [spelling.spell(str(one)) for one in read.values] == cells.to_pylist()
    with pytest.raises(
        InputError, match=r"holds '31/02/2024' in row 2, which is not of type %d/%m/%Y"
    ):
        typed_as(pa.array(["01/02/2024", "31/02/2024"]), "%d/%m/%Y", "t")


def test_a_comma_may_belong_to_a_name_or_a_format():
    options = ReadingOptions(types=("x", "y=number", "when=%b %d", "%Y", "a=money"))
    assert options.wanted == {"x,y": "number", "when": "%b %d,%Y", "a": "money"}


REFUSED = {
    "unknown type": ({"types": {"zip": "categry"}}, "Did you mean category?"),
    "unknown column": (
        {"types": {"zap": "text"}},
        "--data.types zap: no such column. Did you mean",
    ),
    "unknown typed": ({"types": {"zap": "money"}}, "--data.types zap: no such column. Did you"),
    "unknown drop": ({"drop": ["pric"]}, "--data.drop pric: no such column. Did you mean price?"),
    "unknown keep": ({"keep": ["pric"]}, "--data.keep pric: no such column. Did you mean price?"),
    "everything": ({"drop": HEAD.split(",")}, "t.csv: no column is left to learn from; keep some."),
    "both": ({"drop": ["x"], "keep": ["zip"]}, "exclude each other; leave one of them out."),
    "no pair": ({"types": ["zip"]}, "--data.types zip: give column=type, such as zip=category,"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_meant_is_refused(name, tmp_path):
    options, sentence = REFUSED[name]
    with pytest.raises(InputError) as refusal:
        load(file(tmp_path / "t.csv"), **options)
    assert sentence in str(refusal.value)


def test_options_of_tables_are_not_for_arrays():
    with pytest.raises(InputError, match=r"--data\.drop is for tables, not for this"):
        load(np.zeros((4, 2)), drop=["a"])


def test_every_type_is_named_in_the_help():
    from undiffuse.declared import options_of

    text = options_of(ReadingOptions)["types"].help
    assert all(kind in text for kind in (*WANTED, *LEFT_OUT))
    assert {t for types in WANTED.values() for t in types} >= set(TYPES)
