"""The laws of table columns, held over `COLUMNS`, `MODELLED` and the files and libraries of tables.

For each registry a wrong entry is registered, which the laws catch.
"""

from __future__ import annotations

import json
import math
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from examples import decoded, encoded, every_arrow_type, frame

from undiffuse import parts
from undiffuse.data import KINDS, load
from undiffuse.data.tables import form as table_form
from undiffuse.data.tables import read as table_read
from undiffuse.data.tables.batches import BATCHES, NumberBatch
from undiffuse.data.tables.columns import COLUMNS, GridColumn, IntegerColumn, measure_column
from undiffuse.data.tables.form import LIBRARIES, WRITERS
from undiffuse.data.tables.modelled import (
    MODELLED,
    ConstantColumn,
    GappedColumn,
    LevelColumn,
    NumberColumn,
    UnorderedColumn,
)
from undiffuse.data.tables.placing import corners
from undiffuse.data.tables.read import READERS, open_table

pa = pytest.importorskip("pyarrow")

TABLE = every_arrow_type()
TYPES = TABLE.column_names


def array_of(name):
    return TABLE.column(name).combine_chunks()


def same(one, other):
    """Equal arrays, of one type, where NaN equals itself."""
    assert one.type == other.type
    np.testing.assert_array_equal(one.is_null(), other.is_null())
    assert str(one.to_pylist()) == str(other.to_pylist())


# --- stored columns


def law_values_come_back(array):
    """decode(encode(values)) is the values, bit by bit; all of the training data have codes."""
    column = measure_column("c", array, "t")
    codes, impossible = column.encode(array, array.type, "t")
    assert not impossible.any()
    np.testing.assert_array_equal(np.isnan(codes), array.is_null(nan_is_null=True))
    same(column.decode(codes, array.type), array)
    assert column.missing == "no" or np.isnan(codes).any()
    tree = json.loads(json.dumps(parts.describe(column, COLUMNS), allow_nan=False))
    assert parts.rebuild(tree, COLUMNS) == column
    return column


@pytest.mark.parametrize("name", TYPES)
def test_every_type_of_values_comes_back(name):
    law_values_come_back(array_of(name))


def test_every_sort_of_column_is_met():
    sorts = {type(measure_column(name, array_of(name), "t")) for name in TYPES}
    assert sorts == set(COLUMNS.values())


NOT_SPELLED = {
    "half",
    "clock",
    "clock64",
    "span",
}  # Arrow writes these as text that it does not read


@pytest.mark.parametrize("name", [name for name in TYPES if name not in NOT_SPELLED])
def test_text_is_coded_as_the_values_it_spells(name):
    array = array_of(name)
    column = measure_column(name, array, "t")
    plain = array.dictionary_decode() if pa.types.is_dictionary(array.type) else array
    codes, _ = column.encode(array, array.type, "t")
    spelled, impossible = column.encode(plain.cast(pa.string()), array.type, "t", gaps=True)
    np.testing.assert_array_equal(spelled, codes)
    assert not impossible.any()


@pytest.mark.parametrize("name", ["int64", "uint64", "negative", "huge", "money", "price", "stamp"])
def test_new_values_lie_on_the_grid_of_training_or_have_no_code(name):
    array = array_of(name)
    column = measure_column(name, array, "t")
    assert isinstance(column, GridColumn)
    steps = np.array([-3.0, 0.0, 17.0, 2000.0])
    values = column.decode(steps, array.type)
    expected = [column.offset + int(k) * column.unit for k in steps]
    limits = {"huge": 2**64, "uint64": 2**64}.get(name, 2**63)
    fits = [(0 if limits == 2**64 else -limits) <= value < limits for value in expected]
    codes, impossible = column.encode(values, array.type, "t")
    np.testing.assert_array_equal(codes[fits], steps[fits])
    assert not impossible[fits].any()
    wide = measure_column("w", pa.array([0, 10, 30]), "t")
    codes, impossible = wide.encode(pa.array([-20, -15, 5, 40]), pa.int64(), "t")
    assert impossible.tolist() == [False, True, True, False]
    assert codes[~impossible].tolist() == [-2, 4]


def test_grids_span_the_whole_of_unsigned_integers():
    array = pa.array([0, 2**63, 3 * 2**62], pa.uint64())
    column = law_values_come_back(array)
    assert (column.offset, column.unit) == (0, 2**62)


def test_a_table_of_whole_numbers_beyond_int64_is_read_with_all_its_rules():
    values = [2**63 + 60 * i for i in range(40)]
    table = pa.table({"huge": pa.array(values, pa.uint64()), "other": [i % 7 for i in range(40)]})
    data = load(table)
    assert (
        data.form.table(data.loaded.rows.take(np.arange(40))).column("huge").to_pylist() == values
    )


class OffByOne(IntegerColumn):
    def _decode(self, codes, empty, own):
        return super()._decode(codes + 1, empty, own)


class Forgets(IntegerColumn):
    def _code(self, values):
        codes, impossible = super()._code(values)
        return codes, impossible | (codes > 1)


@pytest.mark.parametrize("sort", [OffByOne, Forgets])
def test_a_wrong_sort_of_column_is_caught(sort, monkeypatch):
    monkeypatch.setitem(COLUMNS, "integer", sort)
    with pytest.raises(AssertionError):
        law_values_come_back(array_of("int32"))


# --- modelled columns

EXAMPLES = {
    "constant": ConstantColumn(name="c", value=7.0, rows=9),
    "levels": LevelColumn(
        name="c", values=[3.0, 0.0, 1.0], masses=[0.5, 0.3, 0.1, 0.05, 0.05], unseen=3
    ),
    "gapped": GappedColumn(
        name="c", values=[0.0, 1.0, 3.0], masses=[0.5, 0.3, 0.1, 0.05, 0.05], unseen=3
    ),
    "unordered": UnorderedColumn(
        name="c",
        values=[3.0, 0.0, 1.0],
        masses=[0.5, 0.3, 0.1, 0.05, 0.05],
        unseen=3,
        points=corners(4).tolist(),
    ),
    "number": NumberColumn(
        name="c",
        low=0.0,
        high=90.0,
        rows=9,
        grid=[0, 1, 1],
        knots=[0.0, 20.0, 91.0],
        marks=[-1.5, 0.0, 1.5],
        atoms=[120.0],
        states=[0.7, 0.2, 0.1],
    ),
}
CODES = {
    "constant": [7.0],
    "levels": [3.0, 0.0, 1.0, np.nan],
    "gapped": [3.0, 0.0, 1.0, np.nan],
    "unordered": [3.0, 0.0, 1.0, np.nan],
    "number": [*range(91), 120.0, np.nan],
}


def law_codes_come_back(column, codes):
    """Whatever a column can hold is decoded as it was encoded, whichever the noise."""
    codes = torch.tensor(codes, dtype=torch.float64).repeat(50)
    z = torch.randn(len(codes), column.width, generator=torch.Generator().manual_seed(0))
    x, correction = encoded(column, codes, z.double())
    assert x.shape == (len(codes), column.width)
    assert bool(x.isfinite().all() and correction.isfinite().all())
    np.testing.assert_array_equal(decoded(column, x), codes)
    held = codes[~codes.isnan()].numpy()
    assert np.array_equal(column.nearest(held), held)
    assert column.expects(held).all()
    assert column.nearest(np.array([column.some_code])) == column.some_code
    assert (column.nearest(np.array([-1.0, 500.0])) != np.array([-1.0, 500.0])).all()


def test_a_condition_is_no_part_of_the_model():
    column, codes = MODELLED["given"](name="c"), torch.tensor([3.0, -7.5, math.nan])
    x, correction = encoded(column, codes, torch.zeros(3, 1).double())
    assert x.shape == (3, 0)
    assert not correction.any()
    assert np.isnan(decoded(column, x)).all()
    assert column.expects(codes.numpy()).all()


@pytest.mark.parametrize("name", [name for name in MODELLED if name != "given"])
def test_every_way_to_model_a_column_gives_its_codes_back(name):
    column = EXAMPLES[name]
    assert type(column) is MODELLED[name]
    law_codes_come_back(column, CODES[name])
    tree = json.loads(json.dumps(parts.describe(column, MODELLED), allow_nan=False))
    law_codes_come_back(parts.rebuild(tree, MODELLED), CODES[name])


class Truncates(NumberBatch):
    def decode(self, x):
        return super().decode(x).clamp(max=80.0)


def test_a_wrong_way_to_model_a_column_is_caught(monkeypatch):
    monkeypatch.setitem(BATCHES, NumberColumn, Truncates)
    with pytest.raises(AssertionError):
        law_codes_come_back(EXAMPLES["number"], CODES["number"])


def test_every_modelled_column_has_what_encodes_it():
    assert set(BATCHES) == set(MODELLED.values())


# --- libraries and files


def law_a_file_holds_the_rows(suffix, folder):
    """What is written reads back as the same rows, by whatever reads that suffix."""
    loaded = KINDS["tables"].read(frame())
    rows = loaded.rows.take(np.arange(60))
    loaded.form.save(rows, folder / f"t{suffix}")
    table = open_table(folder / f"t{suffix}").table
    for name in ("age", "price", "flag", "debt", "same"):
        assert table.column(name).to_pylist() == loaded.form.table(rows).column(name).to_pylist()


def law_a_library_presents_the_rows(library):
    """A frame of the library reads back as the same rows, and is presented as itself."""
    table = table_read.open_table(frame()).table
    own = KINDS["tables"].read(LIBRARIES[library](table))
    assert own.form.library == library
    rows = own.rows.take(np.arange(60))
    again = KINDS["tables"].read(own.form.present(rows))
    np.testing.assert_array_equal(again.rows.take(np.arange(60)), rows)
    assert [again.form.library, again.fingerprint] == [library, own.fingerprint]


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_file_that_is_written_reads_back(suffix, tmp_path):
    assert suffix in READERS
    law_a_file_holds_the_rows(suffix, tmp_path)


def test_every_file_that_a_table_is_read_from_has_a_reader():
    assert set(READERS) == set(KINDS["tables"].file_suffixes)


@pytest.mark.parametrize("library", LIBRARIES)
def test_every_library_presents_its_own_frames(library):
    law_a_library_presents_the_rows(library)


def test_a_wrong_file_or_library_is_caught(monkeypatch, tmp_path):
    right = table_form.WRITERS[".parquet"]

    @contextmanager
    def half(path, delimiter):
        with right(path, delimiter) as write:
            yield lambda table: write(table.slice(0, 30))

    monkeypatch.setitem(WRITERS, ".parquet", half)
    with pytest.raises(AssertionError):
        law_a_file_holds_the_rows(".parquet", tmp_path)
    monkeypatch.setitem(LIBRARIES, "pandas", lambda table: table.to_pandas()[::-1])
    with pytest.raises(AssertionError):
        law_a_library_presents_the_rows("pandas")
