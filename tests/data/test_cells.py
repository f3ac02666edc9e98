"""Cells of text at the limits of each rule: what they are, which are odd, and what is said."""

from __future__ import annotations

import datetime
import itertools
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest

from undiffuse.data import KINDS, conform, load
from undiffuse.data.tables.columns import (
    BooleanColumn,
    CategoryColumn,
    DayColumn,
    FloatColumn,
    GridFloatColumn,
    LeftOut,
    TimeColumn,
    measure_column,
    text_to,
)
from undiffuse.data.tables.days import PLACES
from undiffuse.data.tables.delimited import DELIMITERS, sniff_delimiter
from undiffuse.data.tables.read import open_table
from undiffuse.data.tables.text import (
    DateSpelling,
    NumberSpelling,
    Plain,
    cells_to,
    null_words,
    typed_columns,
)
from undiffuse.errors import InputError

pa = pytest.importorskip("pyarrow")


def typed(cells, delimiter=",", **others):
    """One column of cells, read beside others, as values of a type."""
    return typed_columns(pa.table({"v": cells, **others}), delimiter)["v"]


@pytest.mark.parametrize(
    ("cells", "arrow_type"),
    [
        (["1", "-2", " 3 "], pa.int64()),
        (["1", str(2**63)], pa.uint64()),
        (["1", "2.5", "1e3"], pa.float64()),
        (["true", "False"], pa.bool_()),
        (["2020-01-31", "1969-12-31"], pa.date32()),
        (["2020-01-31", "2020-01-31 10:00:00"], pa.timestamp("s")),
        (["2020-01-31 10:00:00.123456789", "2020-01-31"], pa.timestamp("ns")),
        (["2020-01-31T10:00:00Z", "2020-01-31T10:00:00+02:00"], pa.timestamp("s", "UTC")),
        (["2020-01-31 10:00:00.5Z", "2020-01-31 10:00:00Z"], pa.timestamp("ns", "UTC")),
        (["10:00:00", "23:59:59"], pa.time32("s")),
        (["1", "x"], pa.string()),
        (["NA", "", "?"], pa.null()),
        (["NA", "7", "none"], pa.string()),
    ],
)
def test_cells_are_of_the_first_type_that_holds_them_all(cells, arrow_type):
    column = typed(cells)
    assert column.values.type == arrow_type
    assert (column.spelling, column.odd) == (Plain("T" if "T" in cells[0] else " "), ())
    assert len(column.values) == len(cells)


@pytest.mark.parametrize("between", ["T", " "])
@pytest.mark.parametrize("zone", ["Z", ""])
def test_days_with_a_time_are_written_as_they_were(between, zone, tmp_path):
    cells = [f"2020-01-{1 + i % 28:02d}{between}{i % 24:02d}:30:00{zone}" for i in range(60)]
    pd.DataFrame({"t": cells, "x": np.arange(60) ** 2}).to_csv(tmp_path / "t.csv", index=False)
    data = load(tmp_path / "t.csv")
    data.form.save(data.loaded.rows.take(np.arange(60)), tmp_path / "out.csv")
    assert pd.read_csv(tmp_path / "out.csv")["t"].tolist() == cells
    again = load(tmp_path / "out.csv")
    assert again.loaded.fingerprint == data.loaded.fingerprint


def test_words_keep_the_space_around_them_and_are_missing_where_they_say_so():
    assert typed([" a", "b ", "N/A"]).values.to_pylist() == [" a", "b ", None]
    assert typed(["1", "null", "#N/A"]).values.to_pylist() == [1, None, None]
    found = null_words(pa.array(["NA", "NA", "?", "", None, "x", "nan"]))
    assert found == {"NA": 2, "?": 1, "nan": 1}


@pytest.mark.parametrize("text", ["01", "-007", "+00", "0x1f", "0X2", "1" * 20, "-" + "9" * 20])
def test_a_column_with_digits_that_a_number_would_not_give_back_is_of_words(text):
    cells = ["1", "2", text]
    assert typed(cells).values.to_pylist() == cells
    assert typed(["1", "2", "0", "-0.5", "1" * 19]).values.type == pa.float64()


@pytest.mark.parametrize(
    ("cells", "delimiter", "others", "values"),
    [
        (["1,234", "5,678"], ",", {}, [1234, 5678]),
        (["1,234", "5,678"], ";", {}, [1.234, 5.678]),
        (["1,234", "5,678"], ",", {"w": ["0,5", "0,25"]}, [1.234, 5.678]),  # it is one there
        (["1,234", "5,678"], ",", {"w": ["1,234.5", "2"]}, [1234, 5678]),
        (["1.234", "5.678"], ";", {}, [1234, 5678]),
        (["1.5", "5.678"], ";", {}, [1.5, 5.678]),
        (["1,234", "5,678"], ",", {"w": ["1 000", "2 000"]}, [1234, 5678]),  # no comma there
        (["1.234,5", "5.678,25"], ",", {}, [1234.5, 5678.25]),
        (["1'234.5", "5'678"], ",", {}, [1234.5, 5678]),
        (["1’234.5", "5’678"], ",", {}, [1234.5, 5678]),
        (["1 234,5", "5 678,25"], ";", {}, [1234.5, 5678.25]),
        (["1\xa0234,5", "5\xa0678,25"], ";", {}, [1234.5, 5678.25]),
        (["1\u202f234,5", "5\u202f678,25"], ";", {}, [1234.5, 5678.25]),
        (["$1.50", "-$2", "$-3.25"], ",", {}, [1.5, -2, -3.25]),
        (["+1,234.5", "1,234,567"], ",", {}, [1234.5, 1234567]),
        (["5 kr", "7 kr"], ",", {}, [5, 7]),
        (["5%", "7.5%"], ",", {}, [5, 7.5]),
    ],
)
def test_marks_and_currencies_are_read_as_people_write_them(cells, delimiter, others, values):
    column = typed(cells, delimiter, **others)
    assert column.values.to_pylist() == values
    assert column.odd == ()


def test_what_fits_a_number_is_whole_groups_of_three():
    spelling = NumberSpelling("$", "", ",", ".")
    good = ["$1", "-$1,234", "$-12,345.5", "+$1,234,567", "$1234"]
    bad = ["$1,23", "$12345,678", "1,234", "$1,234.", "$", "$1.2.3", "€1"]
    assert spelling.fits(pa.array(good)).to_pylist() == [True] * len(good)
    assert spelling.fits(pa.array(bad)).to_pylist() == [False] * len(bad)
    plain = Plain()
    assert all(plain.fits(pa.array(["1", "-1.5", ".5", "1.", "+2e-3", "4E5"])).to_pylist())
    assert not any(plain.fits(pa.array(["", "-", "e3", "1,2", "1 ", "--1"])).to_pylist())
    assert [spelling.meaning, plain.meaning] == ["numbers", "numbers"]


@pytest.mark.parametrize(("order", "first"), [("dmy", "day"), ("mdy", "month"), ("ymd", "year")])
@pytest.mark.parametrize("separator", ["/", ".", "-"])
def test_dates_are_read_in_their_order_with_or_without_zeros_and_a_time(order, first, separator):
    spelling = DateSpelling(order, separator)
    parts = {"y": "2021", "m": "3", "d": "4"}
    date = separator.join(parts[part] for part in order)
    padded = separator.join(parts[part].zfill(2) for part in order)
    cells = pa.array([date, padded, f"{date} 5:06", f"{padded}T15:06:07"])
    assert all(spelling.fits(cells).to_pylist())
    assert spelling.plain(cells).to_pylist() == [
        *["2021-03-04"] * 2, "2021-03-04 05:06", "2021-03-04 15:06:07"
    ]  # fmt: skip
    other = "/" if separator != "/" else "."
    wrong = [
        date.replace(separator, other),
        f"{date} 5",
        f"{date} x",
        date[:-1] + "x",
        "1" + padded,
    ]
    assert not any(spelling.fits(pa.array(wrong)).to_pylist())
    assert spelling.meaning == f"dates, {first} first"
    assert spelling.spell("2021-03-04") == padded
    assert spelling.spell("2021-03-04 05:06:00") == f"{padded} 05:06:00"


# --- a few odd ones


def distinct(count):
    """So many different numbers with a fraction."""
    return [f"{i}.25" for i in range(count)]


@pytest.mark.parametrize(
    ("good", "bad", "accepted"),
    [
        (9, 1, True),  # 10 % of all
        (8, 1, False),
        (27, 3, True),  # three, where that is at most 10 %
        (26, 3, False),
        (36, 4, False),
        (75, 4, False),  # beyond three at most 5 %
        (76, 4, True),
        (95, 5, True),
        (94, 5, False),
    ],
)
def test_a_few_cells_that_are_no_numbers_are_odd(good, bad, accepted):
    cells = distinct(good)
    for i in range(bad):
        cells.insert(3 + 2 * i, f"word {i}")
    column = typed(cells)
    if accepted:
        assert column.odd == tuple(3 + 2 * i for i in range(bad))
        assert column.values.to_pylist() == [
            None if cell.startswith("word") else float(cell) for cell in cells
        ]
    else:
        assert column.values.to_pylist() == cells


@pytest.mark.parametrize("place", [0, 5, -1])
@pytest.mark.parametrize("repeats", [1, 4])
def test_a_word_among_few_numbers_is_a_category_unless_it_is_in_the_first_or_last_line(
    place, repeats
):
    """As a line of units and a line of sums are; of many different numbers none is a category."""
    cells = distinct(40 // repeats) * repeats
    cells.insert(place if place >= 0 else len(cells), "unit")
    column = typed(cells)
    assert column.odd == (() if place == 5 and repeats == 4 else (cells.index("unit"),))


def test_odd_cells_may_be_spelled_numbers_and_missing_ones_are_not_odd():
    cells = [f"${i},000" for i in range(100, 140)]
    cells[7], cells[9] = "see below", "NA"
    column = typed(cells)
    assert column.odd == (7,)
    assert column.spelling == NumberSpelling("$", "", ",", ".")
    assert column.values.to_pylist()[6:10] == [106_000, None, 108_000, None]


@pytest.mark.parametrize("bad", [(), (0,), (3, 4, 9), tuple(range(10))])
def test_cells_of_new_rows_that_are_no_values_of_the_run_are_found(bad):
    cells = [f"word {i}" if i in bad else f"{i}" for i in range(10)]
    cells[5] = "" if 5 not in bad else cells[5]
    for arrow_type in (pa.int32(), pa.float64()):
        found = cells_to(pa.array(cells), pa.field("v", arrow_type), ())
        assert found.odd == bad
        assert found.values.to_pylist() == [None if i in (*bad, 5) else i for i in range(10)]
    days = [f"word {i}" if i in bad else f"2020-01-{i + 1:02d}" for i in range(10)]
    found = cells_to(pa.array(days), pa.field("v", pa.date32()), ())
    assert found.odd == bad


def test_numbers_that_the_type_of_the_run_does_not_hold_are_still_numbers():
    field = pa.field("v", pa.int8())
    assert cells_to(pa.array(["1", "300"]), field, ()).values.type == pa.int64()
    assert cells_to(pa.array(["1", "2.5"]), field, ()).values.type == pa.float64()
    day = pa.field("v", pa.date32())
    found = cells_to(pa.array(["2020-01-01", "2020-01-01 05:00:00"]), day, ())
    assert (found.values.type, found.odd) == (pa.timestamp("us"), ())


def test_a_word_for_nothing_is_a_category_where_training_had_it():
    field = pa.field("v", pa.string())
    cells = pa.array(["NA", "None", "b"])
    assert cells_to(cells, field, ("NA", "b")).values.to_pylist() == ["NA", None, "b"]
    assert cells_to(cells, field, ("b",)).values.to_pylist() == [None, None, "b"]


# --- lines


@pytest.mark.parametrize("delimiter", DELIMITERS)
def test_the_delimiter_splits_the_lines_evenly_into_most_fields(delimiter):
    others = [other for other in DELIMITERS if other != delimiter]
    for other in others:
        lines = [delimiter.join((f"a{other}b" if i % 2 else "ab", "c", f"{i}")) for i in range(30)]
        assert sniff_delimiter("\n".join(lines)) == delimiter
    assert sniff_delimiter("name\n1\n2\n") == ","
    nine = [delimiter.join("abc")] * 9
    assert sniff_delimiter("\n".join([*nine * 2, delimiter.join("abcd")])) == delimiter
    quoted = [delimiter.join(('"x;,|\ty"', "z"))] * 5
    assert sniff_delimiter("\n".join(quoted)) == delimiter


def lines(path, head, rows):
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def test_notes_name_three_columns_and_what_their_first_cell_is(tmp_path):
    """One note for columns that are spelled alike; the first cell that is not missing is shown."""
    cells = [f'"{i},000"' for i in range(100, 120)]
    cells[0] = ""
    rows = [",".join([c, c, c, c, f"{i % 28 + 1}.1.2020", "x" if i % 2 else "NA"])
            for i, c in enumerate(cells)]  # fmt: skip
    found = open_table(lines(tmp_path / "t.csv", "a,b,c,d,day,word", rows))
    assert found.notes == (
        't.csv: column "word": 10 "NA" are taken for missing values.',
        't.csv: columns "a", "b", "c", ... are read as numbers: "101,000" is 101000.',
        't.csv: column "day" is read as dates, day first: "1.1.2020" is 2020-01-01.',
    )
    two = open_table(lines(tmp_path / "t.csv", "a,b", [",".join([c] * 2) for c in cells[1:]]))
    assert two.notes[0].startswith('t.csv: columns "a", "b" are read as')
    three = open_table(lines(tmp_path / "t.csv", "a,b,c", [",".join([c] * 3) for c in cells[1:]]))
    assert three.notes[0].startswith('t.csv: columns "a", "b", "c" are read as')


def test_rows_that_are_left_out_are_named_by_their_line(tmp_path):
    """Lines in the file, where cells may hold line ends; three at most."""
    rows = [f'{i}.5,"a\nb"' for i in range(90)]
    for i in (2, 5, 7, 60):
        rows[i] = f'odd {i},"a\nb"'
    found = open_table(lines(tmp_path / "t.csv", "v,w", rows))
    assert found.table.num_rows == 86
    assert found.notes == (
        't.csv: 4 of 90 rows are left out: line 7 holds "odd 2" in column "v", '
        'line 13 holds "odd 5" in column "v", line 17 holds "odd 7" in column "v", ..., '
        "and the others hold other values there.",
    )
    rows[5:61] = [f'{i}.5,"a\nb"' for i in range(5, 61)]
    found = open_table(lines(tmp_path / "t.csv", "v,w", rows))
    assert found.notes[0].startswith("t.csv: 1 of 90 rows is left out: line 7 holds")
    assert "..." not in found.notes[0]


def test_lines_of_other_lengths_are_left_out_where_they_are_few(tmp_path):
    rows = [f"{i},{i}.5" for i in range(95)]
    odd = [f"{i},1,2" for i in range(5)]
    found = open_table(lines(tmp_path / "t.csv", "a,b", [*rows[:50], *odd, *rows[50:]]))
    assert found.table.num_rows == 95
    assert found.notes == (
        "t.csv: 5 of 100 rows are left out: line 52 has 3 fields where the header has 2.",
    )
    with pytest.raises(InputError, match="line 52 has 3 fields where the header has 2; make"):
        open_table(lines(tmp_path / "t.csv", "a,b", [*rows[:50], *odd, "1", *rows[50:]]))


def test_a_cell_that_is_odd_in_every_row_is_refused_and_in_one_a_problem(tmp_path):
    data = load(pa.table({"n": list(range(40)), "w": ["a", "b"] * 20}))
    rows = ["1,a", "two,b", "3,a"]
    found = conform(lines(tmp_path / "t.csv", "n,w", rows), data.config())
    _, problems = found.readable.take(np.arange(3))
    assert {i: problem.reason for i, problem in problems.items()} == {
        1: "column \"n\" holds 'two', and in training it held int64"
    }
    with pytest.raises(InputError, match=r"t\.csv: column \"n\" holds 'one'.* in every row"):
        conform(lines(tmp_path / "t.csv", "n,w", ["one,a", "two,b"]), data.config())


# --- columns


def test_a_category_has_half_as_many_values_as_rows_at_most():
    for rows, values, fits in ((10, 5, True), (10, 6, False), (2000, 1000, True),
                               (2004, 1001, False)):  # fmt: skip
        array = pa.array([f"w{i}" for i in itertools.islice(itertools.cycle(range(values)), rows)])
        if fits:
            column = measure_column("c", array, "t")
            assert isinstance(column, CategoryColumn)
            assert column.size == values
        else:
            with pytest.raises(LeftOut, match=f"has {values:,} different values in {rows:,} rows"):
                measure_column("c", array, "t")
    declared = pa.DictionaryArray.from_arrays(pa.array([0, 1]), pa.array([*"abcdef"]))
    assert measure_column("c", declared, "t").size == 6


@pytest.mark.parametrize("steps", [2**20 - 1, 2**20])
def test_prices_lie_on_a_grid_of_fewer_than_a_million_steps(steps):
    values = np.array([0, 1, steps]) / 100 + 3
    column = measure_column("c", pa.array(values), "t")
    if steps < 2**20:
        assert isinstance(column, GridFloatColumn)
        assert (column.offset, column.unit, column.denominator) == (300, 1, 100)
    else:
        assert isinstance(column, FloatColumn)
        assert column.digits == 2
    codes, between = column.encode(pa.array(values), pa.float64(), "t")
    assert not between.any()
    assert column.decode(codes, pa.float64()).to_pylist() == values.tolist()


@pytest.mark.parametrize("decimals", [6, 7])
def test_six_decimals_are_a_grid_and_seven_are_none(decimals):
    values = np.array([0.0, 3.0, 8.0]) / 10**decimals
    column = measure_column("c", pa.array(values), "t")
    assert isinstance(column, GridFloatColumn if decimals == 6 else FloatColumn)
    if isinstance(column, FloatColumn):
        assert column.digits is None


def test_times_beyond_float64_are_rounded_by_thousands():
    """2^53 nanoseconds are 104 days: then microseconds, each value rounded down to one."""
    for most, unit in ((2**53 - 1, 1), (2**53, 1000), (2**53 * 1000 - 1, 1000)):
        array = pa.array([0, 1, most], pa.timestamp("ns"))
        column = measure_column("c", array, "t")
        assert isinstance(column, TimeColumn)
        assert (column.unit, column.rounded) == (unit, unit > 1)
        codes, impossible = column.encode(array, array.type, "t")
        assert codes.tolist() == [0, 1 // unit, most // unit]
        assert not impossible.any()
    whole = measure_column("c", pa.array([0, 2, 6], pa.timestamp("s")), "t")
    codes, impossible = whole.encode(pa.array([0, 1, 4], pa.timestamp("s")), pa.timestamp("s"), "t")
    assert (codes[[0, 2]].tolist(), impossible.tolist()) == ([0, 2], [False, True, False])


@pytest.mark.parametrize(
    ("values", "days"),
    [
        ([18000101, 20240229], True),
        ([20240101, 99991231], True),
        ([17991231, 20240229], False),
        ([20240101, 100000101], False),
        ([20240101, 20240101], False),  # one value alone is a number
        ([20230229, 20240101], False),  # no such day
        ([20241301, 20240101], False),
        ([20240100, 20240101], False),
        ([20240132, 20240101], False),
        ([20240001, 20240101], False),
    ],
)
def test_whole_numbers_are_days_where_all_are(values, days):
    column = measure_column("c", pa.array([*values, None]), "t")
    assert (type(column).__name__ == "DayColumn") == days
    codes, _ = column.encode(pa.array(values), pa.int64(), "t")
    if days:
        apart = [datetime.datetime.strptime(str(value), "%Y%m%d") for value in values]
        steps = (codes[1] - codes[0]) * column.unit
        assert steps == (apart[1] - apart[0]).days
    assert column.decode(codes, pa.int64()).to_pylist() == values
    gone = column.decode(np.append(codes, np.nan), pa.int64())
    assert gone.to_pylist() == [*values, None]


WRITTEN = {"ymd": "%Y%m%d", "dmy": "%d%m%Y", "mdy": "%m%d%Y"}


@pytest.mark.parametrize("floats", [False, True])
@pytest.mark.parametrize("written", WRITTEN)
def test_days_are_found_in_every_order_and_in_floats_with_gaps(written, floats):
    assert set(WRITTEN) == set(PLACES)
    days = [datetime.date(2019, 12, 20) + datetime.timedelta(3 * i) for i in range(40)]
    whole = [int(day.strftime(WRITTEN[written])) for day in days]
    array = pa.array([*whole, None], pa.float64() if floats else pa.int32())
    column = measure_column("c", array, "t")
    assert isinstance(column, DayColumn)
    assert (column.written, column.unit) == (written, 3)
    codes, impossible = column.encode(array, array.type, "t")
    assert codes[:-1].tolist() == list(range(40))
    assert not impossible.any()
    assert column.decode(codes, array.type).to_pylist() == array.to_pylist()
    few = measure_column("c", array[:7], "t")
    assert isinstance(few, DayColumn) == (written == "ymd")
    wrong = pa.array([*whole, 99], array.type)
    assert not isinstance(measure_column("c", wrong, "t"), DayColumn)


def test_new_values_of_any_type_are_coded_or_have_no_code():
    """By the value, whatever holds it; beyond what the type holds there is no code."""
    whole = measure_column("c", pa.array([0, 10, 30]), "t")
    halves = pa.array([10.0, 5.0, 10.5, -20.0, 1e300, -1e300])
    codes, impossible = whole.encode(halves, pa.int64(), "t")
    assert impossible.tolist() == [False, True, True, False, True, True]
    assert codes[[0, 3]].tolist() == [1, -2]
    flags = measure_column("c", pa.array([True, False]), "t")
    assert isinstance(flags, BooleanColumn)
    codes, impossible = flags.encode(pa.array([1, 0, 2, -1]), pa.bool_(), "t")
    assert (codes[:2].tolist(), impossible.tolist()) == ([1, 0], [False, False, True, True])
    grid = measure_column("c", pa.array([0.5, 1.0, 2.5]), "t")
    codes, impossible = grid.encode(pa.array([1, 3, 1e300]), pa.float64(), "t")
    assert (codes[:2].tolist(), impossible.tolist()) == ([1, 5], [False, False, True])
    codes, impossible = grid.encode(pa.array([0.75, 0.5000001]), pa.float64(), "t")
    assert impossible.all()


def test_decimals_beyond_64_bits_have_no_code():
    own = pa.decimal128(38, 2)
    array = pa.array([Decimal(0), Decimal("0.5"), Decimal("1.5"), None], own)
    column = measure_column("c", array, "t")
    codes, impossible = column.encode(array, own, "t")
    assert (codes[:3].tolist(), impossible.any()) == ([0, 1, 3], False)
    assert column.decode(codes, own).equals(array)
    new = pa.array([Decimal(10) ** 30, -(Decimal(10) ** 30), Decimal("0.25"), Decimal(-1)], own)
    codes, impossible = column.encode(new, own, "t", gaps=True)
    assert (codes[3], impossible.tolist()) == (-2, [True, True, True, False])
    with pytest.raises(InputError, match="t has decimals of more than 18 digits; convert it to a"):
        measure_column("c", pa.array([Decimal(0), Decimal(10) ** 17, Decimal(10) ** 20], own), "t")


def test_text_is_what_it_spells_or_nothing():
    assert text_to(pa.array(["10:30:00"]), pa.time32("s")).to_pylist() == [datetime.time(10, 30)]
    assert text_to(pa.array(["1500"]), pa.duration("ms")).to_pylist() == [
        datetime.timedelta(seconds=1.5)
    ]
    assert text_to(pa.array(["x"]), pa.int64()) is None
    assert text_to(pa.array(["25:00:00"]), pa.time32("s")) is None
    assert text_to(pa.array([1.5]), pa.int64()) is None


def test_missing_values_are_refused_where_training_had_none_and_counted():
    column = measure_column("c", pa.array([1, 2, 3]), "t")
    for array, sentence in (
        (
            pa.array([1, None]),
            "t: 1 value is missing, the first in row 2, and none was in training",
        ),
        (pa.array([None] * 1001), "t: 1,001 values are missing, the first in row 1,"),
    ):
        with pytest.raises(InputError) as refused:
            column.encode(array.cast(pa.int64()), pa.int64(), "t")
        assert str(refused.value).startswith(sentence)
        codes, impossible = column.encode(array.cast(pa.int64()), pa.int64(), "t", gaps=True)
        assert np.isnan(codes[-1])
        assert (impossible.dtype, impossible.any()) == (bool, False)


def test_a_column_is_summed_up_by_its_ends_or_its_five_most_frequent_categories():
    words = [*"aabbbccccdddddeeeeeefffffff"]
    array = pa.array(words)
    column = measure_column("c", array, "t")
    codes, _ = column.encode(array, array.type, "t")
    assert column.summary(codes, array.type) == "f, e, d, c, b, ... (6 in all)"
    assert column.summary(codes[2:], array.type) == "f, e, d, c, b"
    numbers = pa.array([2.5, None, -1.25, 1e6])
    column = measure_column("c", numbers, "t")
    codes, _ = column.encode(numbers, numbers.type, "t")
    assert column.summary(codes, numbers.type) == "-1.25 to 1000000"


@pytest.mark.parametrize(("rows", "name", "left"), [(20, "", True), (19, "", False),
                                                    (20, "t", False)])  # fmt: skip
def test_a_column_without_a_name_that_counts_twenty_rows_is_left_out(rows, name, left):
    table = pa.table({name: list(range(rows)), "x": [0.5, 1.75] * (rows // 2) + [2.5] * (rows % 2)})
    loaded = KINDS["tables"].read(table)
    assert (len(loaded.form.columns) == 1) == left
    counted = [note for note in loaded.notes if "counts the rows" in note]
    assert len(counted) == (rows == 20)
    shuffled = pa.table({name: [*range(1, rows), 0], "x": table.column("x")})
    assert len(KINDS["tables"].read(shuffled).form.columns) == len(loaded.form.columns)
    other = pa.table({name: [*range(1, rows), 1], "x": table.column("x")})
    assert not KINDS["tables"].read(other).notes


def test_whoever_waits_is_told_how_many_columns_are_done():
    told = []
    table = pa.table({"a": [1, 2, 3], "b": [1.5, 2.5, 1.5], "c": [None] * 3})
    KINDS["tables"].read(table, progress=lambda *step: told.append(step))
    assert told == [(1, 3, "columns"), (2, 3, "columns"), (3, 3, "columns")]
    told.clear()
    data = load(table.drop_columns("c"), held_out=1)
    conform(table.drop_columns("c"), data.config(), progress=lambda *step: told.append(step))
    assert told == [(1, 2, "columns"), (2, 2, "columns")]
