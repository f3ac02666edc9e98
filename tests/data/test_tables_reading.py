"""Cells of a CSV file are read as what they spell, in training and in new rows, or named."""

import datetime
import random

import numpy as np
import pandas as pd
import pytest
import torch

from undiffuse.data import load
from undiffuse.data.load import conform
from undiffuse.data.tables.text import (
    SPELLINGS,
    DateSpelling,
    FormatSpelling,
    NumberSpelling,
    Plain,
    cells_to,
    spelling_of,
    with_spelling,
)
from undiffuse.errors import InputError

pa = pytest.importorskip("pyarrow")
N = 40


def write(path, head, rows):
    path.write_text("\n".join([head, *rows]) + "\n")
    return path


def read(path):
    data = load(path, held_out=2)
    rows = data.loaded.rows.take(np.arange(len(data.loaded.rows)))
    return data, data.form.table(rows)


def euro(number):
    return f"{number:,.2f}".translate(str.maketrans(",.", ".,"))


VALUES = [round(1234.5 + 987.25 * i, 2) for i in range(N)]
DAYS = [datetime.date(1950, 1, 1) + datetime.timedelta(397 * i) for i in range(N)]
CELLS = {
    "money": (",", [f'"${x:,.2f}"' for x in VALUES], VALUES),
    "euros after": (";", [f"{euro(x)} €" for x in VALUES], VALUES),
    "negative money": (",", [f'"-${x:,.2f}"' for x in VALUES], [-x for x in VALUES]),
    "thousands": (
        ",",
        [f'"{1000 + 997 * i:,}"' for i in range(N)],
        [1000 + 997 * i for i in range(N)],
    ),
    "Swiss": (",", [f"{x:,.2f}".replace(",", "'") for x in VALUES], VALUES),
    "decimal comma": ("\t", [f"{i},5" for i in range(N)], [i + 0.5 for i in range(N)]),
    "German": (";", [euro(x) for x in VALUES], VALUES),
    "percent": (",", [f"{i}%" for i in range(N)], list(range(N))),
    "day first": (",", [f"{d:%d/%m/%Y}" for d in DAYS], DAYS),
    "month first": (",", [f"{d:%m/%d/%Y}" for d in DAYS], DAYS),
    "dots": (",", [f"{d.day}.{d.month}.{d.year}" for d in DAYS], DAYS),
    "clock": (
        ",",
        [f"{d:%d.%m.%Y} {i % 24}:05" for i, d in enumerate(DAYS)],
        [datetime.datetime(d.year, d.month, d.day, i % 24, 5) for i, d in enumerate(DAYS)],
    ),
}


@pytest.mark.parametrize("name", CELLS)
def test_cells_are_the_values_they_spell(tmp_path, name):
    """Read, said, and written so that a run reads its own samples, new rows and plain ones."""
    delimiter, cells, values = CELLS[name]
    rows = [f"a{delimiter}{cell}" for cell in cells]
    data, table = read(write(tmp_path / "t.csv", f"k{delimiter}v", rows))
    assert table.column("v").to_pylist() == values
    assert any('"v" is read as' in note for note in data.notes)
    stored = data.loaded.rows.take(np.arange(N))
    data.form.save(stored, tmp_path / "out.csv")
    again = conform(tmp_path / "out.csv", data.config())
    np.testing.assert_array_equal(again.readable.take(np.arange(N))[0], stored)
    few = conform(write(tmp_path / "few.csv", f"k{delimiter}v", rows[3:5]), data.config())
    assert few.readable.take(np.arange(2)) == (pytest.approx(stored[3:5]), {})


def numbers(n=N):
    return [f"{random.Random(i).uniform(1, 900):.3f}" for i in range(n)]


SAID = {
    "a line of sums": (
        "v,k",
        [*(f"{x},a" for x in numbers()), "Total,"],
        'line 42 holds "Total" in column "v"',
    ),
    "a line of sums that is a row": (
        "v,k",
        [f"{x},{'ab'[i % 2] if i < N - 1 else 'Total'}" for i, x in enumerate(numbers())],
        'the last row holds "Total" in column "k", as a line of sums does',
    ),
    "a line of units": (
        "v,k",
        ["degC,-", *(f"{x},a" for x in numbers())],
        'line 2 holds "degC" in column "v"',
    ),
    "identifiers": (
        "v,k",
        [f"{x},id{i}" for i, x in enumerate(numbers())],
        'column "k" names the rows: it is left out of the model, and samples get new values, those '
        "from id40 on, in their order; --data.types k=text leaves it out.",
    ),
    "free text": (
        "v,k",
        [f"{x},{i} of {i + 1} words" for i, x in enumerate(numbers())],
        'column "k" has 40 different values',
    ),
    "an empty column": ("v,k", [f"{x}," for x in numbers()], 'column "k" is empty in all 40 rows'),
    "a comma at the end": ("v,", [f"{x}," for x in numbers()], 'column "" is empty in all 40 rows'),
    "an index": (",v", [f"{i},{x}" for i, x in enumerate(numbers())], 'column "" counts the rows'),
    "words for nothing": (
        "v,k",
        [f"{x},{k}" for x, k in zip(numbers(), ["NA", "b"] * 20)],
        '20 "NA" are taken for missing',
    ),
    "long numbers": (
        "v,k",
        [f"{x},{10**18 + 10**16 * i + i * i}" for i, x in enumerate(numbers())],
        "2**53 steps",
    ),
    "days": (
        "v,k",
        [f"{x},2021{i % 12 + 1:02d}{i % 28 + 1:02d}" for i, x in enumerate(numbers())],
        "is read as days",
    ),
}


def test_a_line_with_other_fields_is_left_out_and_named(tmp_path):
    lines = [f"{x},a" for x in numbers()]
    data, table = read(write(tmp_path / "t.csv", "v,k", [*lines[:5], "1.5,a,b", *lines[5:]]))
    assert table.num_rows == N
    assert "1 of 41 rows are left out: line 7 has 3 fields where the header has 2" in data.notes[0]
    with pytest.raises(InputError, match="line 7 has 3 fields"):
        conform(tmp_path / "t.csv", data.config())


@pytest.mark.parametrize("name", SAID)
def test_what_is_left_out_or_guessed_is_said_and_nothing_stops(tmp_path, name):
    head, rows, sentence = SAID[name]
    data, table = read(write(tmp_path / "t.csv", head, rows))
    assert any(sentence in note for note in data.notes)
    assert table.num_rows == N
    assert table.column("v").to_pylist() == [float(x) for x in numbers()]
    new = conform(write(tmp_path / "new.csv", head, rows), data.config())
    problems = new.readable.take(np.arange(len(new)))[1]
    assert len(problems) == len(rows) - N


@pytest.mark.parametrize(
    ("head", "row"),
    [
        ("0.5,0.1,lily", "1.5,1.1,rose"),
        ("2020-01-03,lily", "2020-01-04,rose"),
        ('"$1,000.50",NA,lily', '"$2,000.50",7,rose'),
        ("12/31/2020,38%,lily", "12/30/2020,39%,rose"),
    ],
)
def test_a_first_line_of_values_is_refused(tmp_path, head, row):
    rows = [row, row.replace("rose", "lily")] * (N // 2)
    with pytest.raises(InputError, match=r"the first line \(.*\) holds values"):
        load(write(tmp_path / "t.csv", head, rows))


def test_names_that_could_be_values_are_said(tmp_path):
    ids = [f"n{i},{i % 9}.5,{'rose' if i % 3 else 'lily'}" for i in range(N)]
    data = load(write(tmp_path / "t.csv", "bob,1.5,rose", ids))
    assert 'the first line is taken for names, though "1.5" could be a value' in data.notes[0]
    years = [f"{country},{i}.5,{i}.25" for i, country in enumerate(["France", "Peru"] * 20)]
    years = load(write(tmp_path / "years.csv", "country,2019,2020", years))
    assert len(years.form.columns) == 3
    assert not any("taken for names" in note for note in years.notes)


WORDS = {
    "zero-padded codes": ["01067", "02116", "80331"],
    "codes that look like numbers in some rows": ["01", "02", "1A", "7"],
    "hexadecimal codes": ["0x10", "0x1F", "0x20"],
    "codes beyond 64 bits": [str(10**24 + i) for i in range(4)],
    "truth beside other words": ["TRUE", "FALSE", "unknown"],
}


@pytest.mark.parametrize("name", WORDS)
def test_codes_stay_words_in_training_and_in_new_rows(tmp_path, name):
    words = WORDS[name]
    column = [words[i % len(words)] for i in range(N)]
    data, table = read(
        write(tmp_path / "t.csv", "k,v", [f"{w},{x}" for w, x in zip(column, numbers())])
    )
    assert table.column("k").to_pylist() == column
    for word in words:
        new = conform(write(tmp_path / "new.csv", "k,v", [f"{word},1.5"] * 2), data.config())
        rows, problems = new.readable.take(np.arange(2))
        assert not problems
        assert data.form.table(rows).column("k").to_pylist() == [word] * 2


def test_a_run_reads_its_own_samples_whatever_their_types(tmp_path):
    """Words that mean nothing elsewhere, times of day, durations, decimals: from a frame to CSV."""
    table = pa.table(
        {
            "word": ["NA", "None", "", "b"] * 10,
            "flag": [True, False] * 20,
            "clock": pa.array([datetime.time(i % 24, 51, 7, i) for i in range(N)], pa.time64("us")),
            "span": pa.array([datetime.timedelta(i, i) for i in range(N)], pa.duration("ns")),
            "stamp": pa.array(
                [datetime.datetime(2020, 1, 1, i % 24) for i in range(N)],
                pa.timestamp("ns", "Europe/Berlin"),
            ),
            "small": pa.array([float(i) for i in range(N)], pa.float16()),
            "day": [20210101 + i % 28 for i in range(N)],
        }
    )
    data = load(table)
    stored = data.loaded.rows.take(np.arange(N))
    data.form.save(stored, tmp_path / "out.csv")
    rows, problems = conform(tmp_path / "out.csv", data.config()).readable.take(np.arange(N))
    assert not problems
    np.testing.assert_array_equal(rows, stored)


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_durations_are_written_as_anyone_reads_them(tmp_path, unit):
    """As pandas reads them; its own spelling, with days, is read by a run, and odd ones said."""
    counts = np.random.default_rng(0).integers(-(10**15), 10**15, N)
    spans = pa.array(counts // 10 ** {"s": 9, "ms": 6, "us": 3, "ns": 0}[unit], pa.duration(unit))
    table = pa.table({"span": spans, "x": np.arange(N) % 7})
    data = load(table)
    stored = data.loaded.rows.take(np.arange(N))
    data.form.save(stored, tmp_path / "out.csv")
    cells = pd.read_csv(tmp_path / "out.csv")["span"]
    assert (pd.to_timedelta(cells).to_numpy() == spans.to_numpy(zero_copy_only=False)).all()
    longer = pa.array([2 * 86400 * 10**9 + 3_000_000_000, None], pa.duration("ns"))
    for text, odd in (("2 days 00:00:03", False), ("00:61:00", True), ("soon", True)):
        cells = pa.array([text, None, "00:00:01"])
        read = cells_to(cells, pa.field("span", pa.duration(unit)), ())
        assert read.odd == ((0,) if odd else ())
        assert odd or read.values[0].as_py() == longer[0].as_py()
    clock = cells_to(pa.array(["10:30:00", "25:00:00"]), pa.field("t", pa.time32("s")), ())
    assert (clock.odd, clock.values[0].as_py()) == ((1,), datetime.time(10, 30))


def test_nanoseconds_over_years_are_rounded_and_that_is_said():
    ns = np.random.default_rng(0).integers(0, 3 * 10**16, N)
    for arrow_type in (pa.timestamp("ns"), pa.duration("ns")):
        data = load(pa.table({"when": pa.array(ns, arrow_type), "x": np.arange(N) % 7}))
        assert any('"when" has more steps' in note for note in data.notes)
        table = data.form.table(data.loaded.rows.take(np.arange(N)))
        assert np.abs(table.column("when").cast(pa.int64()).to_numpy() - ns).max() < 1000


def test_days_as_numbers_come_back_as_days_alone():
    days = [int(f"{d:%Y%m%d}") for d in DAYS]
    data = load(pa.table({"day": pa.array(days, pa.int32())}))
    x = 3 * np.random.default_rng(0).normal(size=(300, data.shape[0]))
    drawn = data.form.table(data.transform.decode(torch.tensor(x))).column("day").to_pylist()
    assert len({datetime.datetime.strptime(str(day), "%Y%m%d") for day in drawn}) > 20
    trained = data.train[:].column("day").to_pylist()
    assert {min(trained), max(trained)} <= set(drawn)
    assert min(trained) <= min(drawn)
    new = conform(pa.table({"day": [days[3], 20210230]}), data.config())
    assert list(new.readable.take(np.arange(2))[1]) == [1]


def test_what_no_table_holds_is_left_out_or_refused_by_its_name():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"mixed": [1, {2}, 3], "x": [1, 2, 3]})
    data = load(frame, held_out=1)
    assert data.notes[0] == (
        'pandas table: column "mixed" holds values that are no numbers, times or text; it is left '
        "out."
    )
    assert len(conform(frame, data.config())) == 3
    with pytest.raises(InputError) as refused:
        load(frame[["mixed"]])
    start, reason = str(refused.value).split(" (", 1)
    assert start == "pandas table: not a table of plain columns"
    assert "column mixed" in reason
    assert reason.endswith("); convert it.")
    assert reason[0] not in "('\""  # words, not a tuple of them


def test_numbers_among_text_are_text_as_in_a_csv_file():
    frame = pd.DataFrame({3: [1, "12b", None, 2.5] * 10, "x": range(40)})
    data = load(frame)
    assert 'pandas table: column "3" holds float, int, str; all are read as text.' in data.notes
    table = data.form.table(data.loaded.rows.take(np.arange(4)))
    assert table.column("3").to_pylist() == ["1", "12b", None, "2.5"]
    assert not conform(frame, data.config()).readable.take(np.arange(40))[1]
    assert frame[3][0] == 1


EXAMPLES = [
    (Plain(), ["-1.5", "20", "3e8"]),
    *((NumberSpelling("$", "", ",", "."), [text]) for text in ("-1234567.5", "0.25", "999")),
    (NumberSpelling("", " %", ".", ","), ["-1234.5", "12"]),
    *((DateSpelling(order, "/"), ["2020-12-01", "0999-02-28"]) for order in ("dmy", "mdy", "ymd")),
    (DateSpelling("dmy", "."), ["2020-12-01 08:30:00"]),
    (FormatSpelling("%d %b %Y"), ["2020-12-01", "1999-02-28"]),
    (FormatSpelling("%Y%m%d-%H%M"), ["2020-12-01 08:30:00", "1999-02-28 00:00:00"]),
]


def law_of_spellings():
    """What is spelled fits, is read back as it was, and is recorded with its field."""
    assert {type(spelling) for spelling, _ in EXAMPLES} == set(SPELLINGS.values())
    for spelling, texts in EXAMPLES:
        cells = pa.array([spelling.spell(text) for text in texts])
        assert all(spelling.fits(cells).to_pylist())
        assert spelling.plain(cells).to_pylist() == texts
        assert spelling_of(with_spelling(pa.field("v", pa.float64()), spelling)) == spelling


def test_every_sort_of_spelling_gives_its_cells_back():
    law_of_spellings()


@pytest.mark.parametrize("sort", SPELLINGS)
def test_a_wrong_spelling_is_caught(sort, monkeypatch):
    monkeypatch.setattr(SPELLINGS[sort], "spell", lambda self, text: "1" + text)
    with pytest.raises(AssertionError):
        law_of_spellings()
