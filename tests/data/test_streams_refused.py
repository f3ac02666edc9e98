"""Files of rows that are damaged, unlike each other, or hold what their sample has not."""

import io
import os
import shutil

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from stream_files import FORMATS, image_of, numbers_in, suffix, write_files, write_tar

import undiffuse.data.stream.formats as formats
import undiffuse.data.stream.read as reading
from undiffuse.data import load
from undiffuse.errors import InputError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDIFFUSE_CACHE", str(tmp_path / "cache"))


def refused(source, **options):
    with pytest.raises(InputError) as problem:
        load(source, **{"stream": True, **options})
    said = str(problem.value)
    assert "\n" not in said
    assert said.endswith(".")
    return said


def cut(path, share=0.5):
    os.truncate(path, int(path.stat().st_size * share))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("streamed", [True, False])
def test_a_file_that_is_cut_short_is_named_and_refused(form, streamed, tmp_path):
    folder = write_files(tmp_path / "x", form)
    cut(folder / f"part-002.{suffix(form)}")
    if form == "parquet" and not streamed:
        return  # read whole, as tables are, and refused there
    said = refused(folder, stream=streamed)
    assert f"x/: 1 of 5 files cannot be read (part-002.{suffix(form)}: " in said
    assert said.endswith("repair or remove them.")


@pytest.mark.parametrize("form", FORMATS)
def test_a_damaged_file_under_one_percent_is_left_out_and_said(form, tmp_path):
    sizes = {
        "npy": (4000, 4000, 4),
        "parquet": (20_000, 20_000, 4),
        "cells": (4000, 4000, 2),
        "tar": (400, 400, 2),
    }[form]
    folder = write_files(tmp_path / "x", form, sizes, group=5000)
    cut(folder / f"part-002.{suffix(form)}", 0.9 if form == "npy" else 0.4)
    data = load(folder, stream=True)
    assert len(data.loaded.rows) == sum(sizes[:2])
    said = f"1 of 3 files cannot be read (part-002.{suffix(form)}: "
    assert any(said in note and note.endswith("they are left out.") for note in data.notes)


def test_files_that_differ_are_named_with_the_difference(tmp_path):
    npy = write_files(tmp_path / "n", "npy")
    np.save(npy / "part-003.npy", np.zeros((9, 3), np.float32))
    assert "shape of a row is (2,) in part-000.npy and (3,) in part-003.npy" in refused(npy)
    np.save(npy / "part-003.npy", np.zeros((9, 2)))
    assert "type is float32 in part-000.npy and float64 in part-003.npy" in refused(npy)
    tables = write_files(tmp_path / "t", "parquet")
    other = pq.read_table(tables / "part-001.parquet")
    pq.write_table(other.rename_columns(["number", "length", "kind"]), tables / "part-001.parquet")
    assert "column size is double in part-000.parquet and not there in part-001" in refused(tables)
    place = other.column_names.index("size")
    text = other.set_column(place, "size", other["size"].cast(pa.string()))
    pq.write_table(text, tables / "part-001.parquet")
    assert "column size is double in part-000.parquet and string in part-001" in refused(tables)
    tars = write_files(tmp_path / "w", "tar")
    write_tar(tars / "part-004.tar", [("a", {".png": image_of(1)}), ("b", {".png": image_of(2)})])
    assert "its class is given in part-000.tar and not given in part-004.tar" in refused(tars)


def test_what_is_no_file_of_rows_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "empty").mkdir()
    assert "the folder is empty" in refused(tmp_path / "empty", stream=None)
    (tmp_path / "a.csv").write_text("a,b\n" + "1,2\n3,4\n" * 20)
    assert "--data.stream is for .npy, Parquet and tar files" in refused(tmp_path / "a.csv")
    assert load(tmp_path / "a.csv", stream=False).loaded.stream is None
    assert "no such file, folder or bucket" in refused("memory://nowhere", stream=None)
    assert "with a password would be written" in refused(
        "https://me:secret@host/x.npy", stream=None
    )
    assert _has("s3fs") or "needs s3fs" in refused("s3://bucket/x", stream=None)
    folder = write_files(tmp_path / "x", "npy")
    assert "names no file" in refused(f"{folder}/*.tar")
    assert "stands for no files" in refused(f"{folder}/part-{{005..002}}.npy")
    assert "--data.labels is not for arrays in .npy files" in refused(folder, labels="kind")
    np.save(folder / "part-000.npy", np.array([{}, {}], object), allow_pickle=True)
    assert "never unpickled" in refused(folder)


@pytest.mark.parametrize("out", ["s3://bucket/run", "memory://run", "gs://b/x.npy"])
def test_nothing_is_written_to_a_store(out, tmp_path, monkeypatch):
    from undiffuse.cli.verb import free_place
    from undiffuse.training.checkpoint import RunFolder

    monkeypatch.chdir(tmp_path)
    for claim in (RunFolder.claim, lambda place: free_place(place, overwrite=False)):
        with pytest.raises(InputError, match="is not on this machine"):
            claim(out)
    assert not list(tmp_path.iterdir())


def _has(name):
    import importlib.util

    return importlib.util.find_spec(name) is not None


def samples(count, bad=(), **more):
    return [
        (f"{n:05d}", {".png": b"no image" if n in bad else image_of(n), **more})
        for n in range(count)
    ]


def test_samples_of_a_tar_that_are_no_images_are_left_out_if_few(tmp_path):
    (tmp_path / "x").mkdir()
    write_tar(tmp_path / "x" / "a.tar", samples(300, bad=(7, 150)))
    write_tar(tmp_path / "x" / "b.tar", samples(100))
    data = load(tmp_path / "x", stream=True)
    rows = data.loaded.rows.take(np.arange(len(data.loaded.rows)))
    assert numbers_in(rows, "tar") == [*(n for n in range(300) if n not in (7, 150)), *range(100)]
    assert any("2 of 400 samples cannot be read, most of them in a.tar" in n for n in data.notes)
    write_tar(tmp_path / "x" / "a.tar", samples(300, bad=range(8)))
    assert "8 of 400 samples cannot be read, most of them in a.tar" in refused(tmp_path / "x")


def test_an_image_that_does_not_decode_costs_one_row_and_is_said(tmp_path, monkeypatch):
    """Its header is right: only decoding shows it. The next one of its part stands in its place."""
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (4, 4), np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    broken = stream.getvalue()[:50]
    (tmp_path / "x").mkdir()
    some = samples(400)
    some[5] = ("00005", {".png": broken})
    write_tar(tmp_path / "x" / "a.tar", some)
    write_tar(tmp_path / "x" / "b.tar", samples(400))
    monkeypatch.setattr(formats.TarFormat, "sampled", 8)
    data = load(tmp_path / "x", stream=True)
    with pytest.warns(UserWarning, match=r"a\.tar: 1 rows are damaged"):
        rows = data.loaded.rows.take(np.array([4, 5, 6]))
    assert numbers_in(rows, "tar") == [4, 6, 6]
    some[5:60] = [(f"{n:05d}", {".png": broken}) for n in range(5, 60)]
    write_tar(tmp_path / "x" / "a.tar", some)
    data = load(tmp_path / "x", stream=True)
    with pytest.raises(InputError, match=r"a\.tar: \d+ of \d+ rows read so far are damaged"):
        data.loaded.rows.take(np.arange(60))


def test_classes_are_given_to_all_samples_or_to_none(tmp_path):
    (tmp_path / "x").mkdir()
    some = samples(20, **{".json": b'{"label": "cat"}'})
    some[3][1][".json"] = b'{"label": "dog"}'
    write_tar(tmp_path / "x" / "a.tar", some)
    write_tar(tmp_path / "x" / "b.tar", some)
    data = load(tmp_path / "x", stream=True)
    assert data.classes == ("cat", "dog")
    assert data.describe()["classes"] == {"cat": 38, "dog": 2}
    del some[4][1][".json"]
    write_tar(tmp_path / "x" / "b.tar", some)
    assert "1 samples have no class, and others have" in refused(tmp_path / "x")


def test_a_tar_that_is_packed_as_no_images_is_refused(tmp_path):
    (tmp_path / "x").mkdir()
    write_tar(tmp_path / "x" / "a.tar", [("a", {".txt": b"words"})])
    assert "1 of 1 samples cannot be read" in refused(tmp_path / "x")


def test_arrays_in_a_tar_are_rows(tmp_path):
    (tmp_path / "x").mkdir()

    def stored(n):
        stream = io.BytesIO()
        np.save(stream, np.array([n, n % 7], np.float32))
        return stream.getvalue()

    for part in range(3):
        numbers = range(part * 20, part * 20 + 20)
        some = [(f"{n}", {".npy": stored(n), ".cls": b"%d" % (n % 2)}) for n in numbers]
        write_tar(tmp_path / "x" / f"{part}.tar", some)
    data = load(tmp_path / "x", stream=True)
    assert data.loaded.rows.take(np.array([41, 3]))[:, 0].tolist() == [41, 3]
    assert data.labels[np.array([41, 4])].tolist() == [1, 0]


def out_of_sample(tmp_path, monkeypatch, change, column=None):
    """A stream of which 8 rows are measured, and a row that these do not show."""
    folder = write_files(tmp_path / "x", "parquet", (2000, 2000, 10), group=1000)
    table = pq.read_table(folder / "part-002.parquet").to_pandas()
    change(table)
    table = pa.Table.from_pandas(table, preserve_index=False)
    pq.write_table(
        table.cast(pq.read_schema(folder / "part-000.parquet")), folder / "part-002.parquet"
    )
    monkeypatch.setattr(formats.ParquetFormat, "sampled", 256)
    monkeypatch.setattr(reading, "SAMPLE", 1)
    return load(folder, stream=True, rules=False)


def encoded(data, rows):
    return data.transform.encode(torch.from_numpy(rows), torch.zeros_like)[0]


def test_a_category_outside_of_the_sample_is_the_unseen_one(tmp_path, monkeypatch):
    def change(table):
        table.loc[9, "kind"] = "never"

    data = out_of_sample(tmp_path, monkeypatch, change)
    assert data.form.columns[2].categories == ("a", "b")
    row = data.loaded.rows.take(np.array([4009]))
    assert not data.transform.columns[2].expects(row[:, 2]).any()
    assert torch.isfinite(encoded(data, row)).all()
    drawn = data.transform.decode(torch.randn(500, *data.transform.shape))
    assert set(drawn[:, 2]) <= {0.0, 1.0}


def test_a_number_beyond_the_sample_is_itself_and_in_no_sample(tmp_path, monkeypatch):
    def change(table):
        table.loc[9, "size"] = 1e6

    data = out_of_sample(tmp_path, monkeypatch, change)
    row = data.loaded.rows.take(np.array([4009]))
    assert row[0, 1] == 1e6
    assert torch.isfinite(encoded(data, row)).all()
    drawn = data.transform.decode(3 * torch.randn(500, *data.transform.shape))
    assert np.abs(drawn[:, 1]).max() < 10


def test_a_column_whose_gaps_are_outside_of_the_sample_has_gaps(tmp_path, monkeypatch):
    """The files say in which part values are missing, so nobody has to look for them."""

    def change(table):
        table.loc[9, "size"] = None

    data = out_of_sample(tmp_path, monkeypatch, change)
    assert data.form.columns[1].missing == "null"
    row = data.loaded.rows.take(np.array([4009]))
    assert np.isnan(row[0, 1])
    assert torch.isfinite(encoded(data, row)).all()


def test_infinite_and_missing_values_of_arrays_cost_one_row(tmp_path, monkeypatch):
    folder = write_files(tmp_path / "x", "npy", (2000, 2000, 2000))
    monkeypatch.setattr(formats.NpyFormat, "sampled", 256)
    monkeypatch.setattr(reading, "SAMPLE", 1)
    rows = np.load(folder / "part-001.npy")
    rows[11, 1], rows[12, 1] = np.nan, np.inf
    np.save(folder / "part-001.npy", rows)
    data = load(folder, stream=True)
    with pytest.warns(UserWarning, match=r"part-001\.npy: 2 rows are damaged"):
        taken = data.loaded.rows.take(np.arange(2010, 2014))
    assert taken[:, 0].tolist() == [2010, 2013, 2013, 2013]


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_that_goes_while_it_is_read_is_named(form, tmp_path, monkeypatch):
    folder = write_files(tmp_path / "x", form, (300, 300))
    monkeypatch.setattr(formats, "PIECE", 400)
    monkeypatch.setattr(reading, "WINDOW", 400)
    data = load(folder, stream=True)
    kept = shutil.copy(folder / f"part-001.{suffix(form)}", tmp_path)
    (folder / f"part-001.{suffix(form)}").unlink()
    with pytest.raises(InputError, match=rf"part-001\.{suffix(form)}: no such file"):
        data.loaded.rows.take(np.arange(300, 600, 7))
    shutil.copy(kept, folder)
    assert len(data.loaded.rows.take(np.arange(300, 600, 7))) == 43


def test_a_changed_file_is_other_data(tmp_path):
    folder = write_files(tmp_path / "x", "npy")
    before = load(folder, stream=True).fingerprint
    rows = np.load(folder / "part-004.npy")
    rows[-1, 1] += 1
    np.save(folder / "part-004.npy", rows)
    assert load(folder, stream=True).fingerprint != before
    shutil.copytree(folder, tmp_path / "y")
    assert load(tmp_path / "y", stream=True).fingerprint == load(folder, stream=True).fingerprint
    (folder / "part-004.npy").unlink()
    assert load(folder, stream=True).fingerprint != before
