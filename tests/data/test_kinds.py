"""The laws of `Kind`, held over `KINDS` itself: rows come back, and a run knows its own data.

Each law takes data and the source it was read from. For each, a wrong kind is registered that the
law catches.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

import numpy as np
import pandas as pd
import polars
import pyarrow as pa
import pytest
import torch
from examples import CASES, EXAMPLES, normal

from undiffuse.data import KINDS, Data, PartialRows, Problem, complete, conform, load, restore
from undiffuse.data.arrays.kind import ArrayKind
from undiffuse.data.arrays.transform import ArrayTransform
from undiffuse.data.conformed import CheckedRows, Conformed
from undiffuse.data.rows import ArrayRows, as_tensor
from undiffuse.interfaces import Form, Transform
from undiffuse.options import AS_IT_IS

pytest.importorskip("soundfile")


@pytest.fixture(scope="module")
def examples(tmp_path_factory):
    """(source, data) of each example; all are read once."""
    read = {}

    def example(kind, name):
        if (kind, name) not in read:
            folder = tmp_path_factory.mktemp("example")
            source = EXAMPLES[kind][name](folder)
            read[kind, name] = source, load(source, held_out=0.3)
        return read[kind, name]

    return example


def stored(data):
    return data.loaded.rows.take(np.arange(len(data.loaded.rows)))


def strict_config(data):
    return json.loads(json.dumps(data.config(), allow_nan=False))


def together(rows, size=7, start=0):
    return torch.cat([batch["row"] for batch in rows.batches(size, start)]).numpy()


def assert_same_rows(rows, expected, transform):
    """Equal, except real numbers, which float32 rounds on the way through x."""
    assert rows.shape == expected.shape
    np.testing.assert_array_equal(np.isnan(rows), np.isnan(expected))
    real = expected.dtype.kind == "f" and np.nanmax(expected) - np.nanmin(expected)
    np.testing.assert_allclose(rows, expected, rtol=0, atol=2e-6 * real)
    columns = getattr(
        transform, "columns", ()
    )  # of a table: those on a grid or in levels are exact
    exact = [i for i, column in enumerate(columns) if getattr(column, "grid", True)]
    np.testing.assert_array_equal(rows[:, exact], expected[:, exact])


# --- the laws


def law_rows_come_back(data, source):
    """decode(encode(row)) is the row, for those of training, whose range decoding stays in."""
    rows = stored(data)
    assert isinstance(data.transform, Transform)
    assert isinstance(data.form, Form)
    assert data.transform.row_shape == rows.shape[1:]
    assert np.dtype(data.form.dtype) == rows.dtype
    torch.manual_seed(0)
    x, correction = data.transform.encode(data.sample_batch(10**6)["row"], torch.randn_like)
    assert x.shape[1:] == data.shape
    assert (x.dtype, correction.dtype) == (torch.float32, torch.float64)
    assert bool(x.isfinite().all() and correction.isfinite().all())
    own = rows[data.split.training(np.arange(len(data)))]
    assert_same_rows(data.transform.decode(x), own, data.transform)


def law_rows_conform_to_their_run(data, source):
    """The source is what training stored, from the same source or from the data it became."""
    for given in (source, data):
        rows = conform(given, strict_config(data))
        assert len(rows) == len(rows.names) == len(set(map(str, rows.names))) == len(stored(data))
        np.testing.assert_array_equal(together(rows), stored(data))
        assert together(rows).dtype == data.held_out_batch(1)["row"].numpy().dtype
        assert rows.fingerprint == data.fingerprint
        assert not any(batch["problems"] for batch in rows.batches(16))
        labels = [batch["label"].numpy() for batch in rows.batches(9) if "label" in batch]
        assert bool(labels) == (data.labels is not None)
        if labels:
            np.testing.assert_array_equal(np.concatenate(labels), data.labels)


def law_held_out_rows_conform_to_themselves(data, source):
    """As they are stored, and as a person is shown them; batches are slices."""
    own = data.held_out_rows()
    expected = stored(data)[data.split.held_out(np.arange(data.n_held_out))]
    np.testing.assert_array_equal(together(own), expected)
    np.testing.assert_array_equal(together(own, 2, start=1), expected[1:])
    np.testing.assert_array_equal(data.held_out_batch(10**6)["row"], expected)
    every_name = conform(data, strict_config(data)).names
    assert list(own.names) == [every_name[i] for i in data.split.held_out(np.arange(len(own)))]
    shown = conform(data.held_out, strict_config(data))
    np.testing.assert_array_equal(together(shown), expected)


def law_samples_conform(data, source):
    """Whatever a model draws is a row that the run can score, shown to a person and read again."""
    generator = torch.Generator().manual_seed(0)
    drawn = data.transform.decode(2 * torch.randn(30, *data.shape, generator=generator))
    assert drawn.shape[1:] == data.transform.row_shape
    rows = conform(data.form.present(drawn), strict_config(data))
    assert not any(batch["problems"] for batch in rows.batches(16))
    assert_same_rows(together(rows), drawn, data.transform)
    again = conform(data.form.present(together(rows)), strict_config(data))
    np.testing.assert_array_equal(together(again), together(rows))


def law_folders_of_samples_are_read_back(data, source):
    """In each form of file that a folder of samples may have, from two parts."""
    generator = torch.Generator().manual_seed(0)
    drawn = data.transform.decode(2 * torch.randn(12, *data.shape, generator=generator))
    labels = None if data.labels is None else [data.classes[i % 2] for i in range(12)]
    for suffix in data.form.parts:
        with TemporaryDirectory() as place:
            folder = Path(place) / "out"
            folder.mkdir()
            for number, (first, stop) in enumerate([(0, 7), (7, 12)]):
                about = {"number": number, "first": first, "count": stop - first, "total": 12}
                with data.form.part(folder, suffix, **about) as write:
                    for own in (slice(first, first + 3), slice(first + 3, stop)):
                        write(drawn[own], labels and labels[own])
            rows = conform(folder, strict_config(data))
            assert not any(batch["problems"] for batch in rows.batches(16)), suffix
            assert_same_rows(together(rows), drawn, data.transform)


def law_what_is_known_stays(data, source):
    """Known entries come back as they were, and the others are said to be unknown."""
    config, rows = strict_config(data), stored(data)[:9]
    partial = complete(data.form.present(rows), config)
    assert isinstance(partial, PartialRows)
    np.testing.assert_array_equal(partial.known, ~np.isnan(rows))
    np.testing.assert_array_equal(partial.rows[partial.known], rows[partial.known])
    gaps = np.random.default_rng(0).random(rows.shape) < 0.4
    partial = complete(with_gaps(data.form.present(rows), gaps), config)
    np.testing.assert_array_equal(partial.known, ~gaps & ~np.isnan(rows))
    np.testing.assert_array_equal(partial.rows[partial.known], rows[partial.known])
    assert partial.rows.dtype == rows.dtype
    assert bool(
        data.transform.encode(torch.from_numpy(partial.rows), torch.zeros_like)[0].isfinite().all()
    )


def law_a_mask_covers_what_an_entry_decides(data, source):
    """Another value in one place changes x where `known` of that place is true, nowhere else."""
    rows, rng = stored(data)[:20], np.random.default_rng(0)
    one = rows[:1]
    z = torch.randn(1, *data.shape, generator=torch.Generator().manual_seed(0))

    def encode(rows):
        x, _ = data.transform.encode(as_tensor(rows), lambda like: z.expand_as(like).to(like))
        return x

    places = list(np.ndindex(*one.shape[1:]))
    for i in rng.permutation(len(places))[:40]:
        mask = torch.zeros(one.shape, dtype=torch.bool)
        mask[(0, *places[i])] = True
        known = data.transform.known(mask)
        assert known.shape == z.shape
        assert torch.equal(data.transform.known(~mask), ~known)
        others = np.repeat(one, len(rows), 0)
        values = others[(slice(None), *places[i])] = rows[(slice(None), *places[i])]
        changed = (encode(others) != encode(one)).any(0, keepdim=True)
        assert bool((changed <= known).all())
        assert bool(changed.any()) == (
            bool(known.any()) and len({*np.nan_to_num(values).tolist()}) > 1
        )
    assert bool(data.transform.known(torch.ones(one.shape, dtype=torch.bool)).all())


def with_gaps(shown, gaps):
    """What a person is shown, with nothing known where `gaps`."""
    if isinstance(shown, np.ndarray):
        return np.where(gaps, np.nan, shown)
    frames = {pd.DataFrame: pa.Table.from_pandas, polars.DataFrame: polars.DataFrame.to_arrow}
    table = frames.get(type(shown), lambda table: table)(shown)
    columns = [
        pa.array(
            [None if gone else value for gone, value in zip(gap, column.to_pylist())], column.type
        )
        for gap, column in zip(gaps.T, table.columns)
    ]
    return pa.table(columns, names=table.column_names)


def law_a_run_restores_its_parts(data, source):
    """From strict JSON, without the data: the same transform, the same form, the same record."""
    transform, form, classes = restore(strict_config(data))
    assert classes == data.classes
    kind = KINDS[data.loaded.kind]
    assert data.config()["kind"] == kind.name
    assert {"transform", "form"} <= set(kind.parts)
    parts = kind.describe(transform, form)
    assert json.loads(json.dumps(parts)) == {name: strict_config(data)[name] for name in parts}
    row = data.held_out_batch(5)["row"]
    for own, other in zip(
        data.transform.encode(row, torch.zeros_like), transform.encode(row, torch.zeros_like)
    ):
        assert torch.equal(own, other)
    x = torch.zeros(2, *data.shape)
    np.testing.assert_array_equal(transform.decode(x), data.transform.decode(x))
    shown, again = data.form.present(row.numpy()), form.present(row.numpy())
    assert shown.equals(again) if hasattr(shown, "equals") else np.array_equal(shown, again)


LAWS = {name: law for name, law in list(globals().items()) if name.startswith("law_")}


def test_every_kind_has_an_example():
    """A new kind is held to all laws by adding a small source of it to `examples.py`."""
    assert set(EXAMPLES) == set(KINDS)
    assert all(KINDS[name].name == name for name in KINDS)


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("kind", "name"), CASES)
def test_every_kind_keeps_the_laws(kind, name, law, examples):
    source, data = examples(kind, name)
    assert data.loaded.kind == kind
    LAWS[law](data, source)


# --- wrong kinds


class Right(ArrayKind):
    """Arrays under another name."""

    name = "wrong"

    def read(self, source, *, reading=AS_IT_IS, progress=None):
        loaded = super().read(source, reading=reading, progress=progress)
        return replace(loaded, kind=self.name, make_transform=self.changed(loaded.make_transform))

    def changed(self, make_transform):
        return make_transform


class Shifted:
    """A transform that decodes what it did not encode."""

    def __init__(self, *, inner, shift=0.0):
        self.inner, self.shift = inner, shift

    def __getattr__(self, name):
        return getattr(self.__dict__["inner"], name)

    def decode(self, x):
        return self.inner.decode(x) + self.shift


class DecodesAnother(Right):
    parts: ClassVar = {**ArrayKind.parts, "transform": Shifted, "inner": ArrayTransform}

    def changed(self, make_transform):
        return lambda chunks: Shifted(inner=make_transform(chunks), shift=1.0)


class MasksAnother(DecodesAnother):
    def changed(self, make_transform):
        def make(chunks):
            transform = Shifted(inner=make_transform(chunks))
            transform.known = lambda mask: transform.inner.known(mask.roll(1, -1))
            return transform

        return make


class RecordsAnother(DecodesAnother):
    def changed(self, make_transform):
        def make(chunks):
            transform = Shifted(inner=make_transform(chunks))
            transform.decode = lambda x: transform.inner.decode(x) + 1.0
            return transform

        return make


class TurnsTheOrder(Right):
    def conform(self, source, config, *, progress=None):
        right = super().conform(source, config, progress=progress)
        return right.only(np.arange(len(right))[::-1])


class Rounds(Right):
    def conform(self, source, config, *, progress=None):
        rows = super().conform(source, config, progress=progress)
        rounded = ArrayRows(np.round(together(rows), 3))
        return Conformed(
            CheckedRows(rounded), rows.names, name=rows.name, fingerprint=rows.fingerprint
        )


class RefusesSamples(Right):
    def conform(self, source, config, *, progress=None):
        right = super().conform(source, config, progress=progress)
        if not isinstance(source, np.ndarray) or np.abs(source).max() < 3:
            return right
        problems = {0: Problem.unreadable("far from the data")}
        rows = CheckedRows(ArrayRows(together(right)), problems)
        return Conformed(rows, right.names, name="far", fingerprint=right.fingerprint)


class ForgetsWhatIsKnown(Right):
    def complete(self, source, config):
        right = super().complete(source, config)
        return PartialRows(np.zeros_like(right.rows), right.known)


WRONG = {
    law_rows_come_back: DecodesAnother,
    law_rows_conform_to_their_run: TurnsTheOrder,
    law_held_out_rows_conform_to_themselves: Rounds,
    law_samples_conform: RefusesSamples,
    law_folders_of_samples_are_read_back: Rounds,
    law_what_is_known_stays: ForgetsWhatIsKnown,
    law_a_mask_covers_what_an_entry_decides: MasksAnother,
    law_a_run_restores_its_parts: RecordsAnother,
}


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_a_wrong_kind_breaks_each_law(law, monkeypatch):
    source = normal(20, 3)
    for kind in (Right, WRONG[law]):
        monkeypatch.setitem(KINDS.places, "wrong", f"{__name__}:{kind.__name__}")
        data = Data(KINDS["wrong"].read(source), held_out=0.3)
        if kind is Right:
            law(data, source)
        else:
            with pytest.raises(AssertionError):
                law(data, source)


# --- what is imported


def test_opening_a_run_imports_no_reader_of_files(examples):
    """Nor that of another kind: a run of images is opened without the packages of tables."""
    configs = [examples(kind, next(iter(EXAMPLES[kind])))[1].config() for kind in EXAMPLES]
    program = (
        "import json, sys; from undiffuse.data import restore;"
        "list(map(restore, json.load(sys.stdin)));"
        "print([name for name in ('pyarrow', 'pandas', 'soundfile') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(configs),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
