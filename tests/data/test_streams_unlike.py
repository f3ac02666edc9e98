"""Files of rows that are not all alike, and samples that do not decode: what becomes of each."""

import datetime
import gzip
import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from stream_files import FORMATS, image_of, numbers_in, suffix, write_files, write_tar

import undiffuse.data.stream.formats as formats
import undiffuse.data.stream.read as reading
from undiffuse.data import load
from undiffuse.data.load import conform
from undiffuse.errors import InputError

ROWS = 40


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDIFFUSE_CACHE", str(tmp_path / "cache"))


def texts(rng, *words):
    return pa.array(rng.choice(words, ROWS))


def days(rng, unit):
    first = datetime.datetime(2024, 1, 1)
    times = [first + datetime.timedelta(hours=int(hours)) for hours in rng.integers(0, 9999, ROWS)]
    return pa.array(times, pa.timestamp(unit))


UNLIKE = {
    "other categories": lambda rng, i: texts(rng, *["xy", "yz", "wx"][i]).dictionary_encode(),
    "categories of other widths": lambda rng, i: (
        texts(rng, "x", "y")
        .dictionary_encode()
        .cast(pa.dictionary([pa.int8(), pa.int16(), pa.int32()][i], pa.string()))
    ),
    "numbers with and without a point": lambda rng, i: rng.integers(0, 5, ROWS) * [1, 0.5, 1][i],
    "whole numbers of other widths": lambda rng, i: rng.integers(0, 5, ROWS).astype(f"i{2**i}"),
    "nothing in one part": lambda rng, i: pa.nulls(ROWS) if i == 1 else texts(rng, "x", "y"),
    "texts of other widths": lambda rng, i: texts(rng, "x", "y").cast(
        [pa.string(), pa.large_string()][i % 2]
    ),
    "times of other units": lambda rng, i: days(rng, ["s", "ms", "us"][i]),
}


@pytest.fixture(params=[*UNLIKE, "folders called column=value"])
def unlike(request, tmp_path):
    """A folder of three parts whose columns are not of one type, or that lie in such folders."""
    rng = np.random.default_rng(0)
    for i in range(3):
        columns = {"number": np.arange(ROWS) + ROWS * i + rng.random(ROWS)}
        folder = tmp_path / "x"
        if request.param in UNLIKE:
            columns["other"] = UNLIKE[request.param](rng, i)
        else:
            folder = folder / f"year={2020 + i}" / "region=a%20b"
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.table(columns), folder / f"{i}.parquet", row_group_size=10)
    return tmp_path / "x"


def table_of(data, rows):
    return data.form.table(data.loaded.rows.take(rows))


@pytest.mark.parametrize("pattern", [False, True])
def test_a_table_of_unlike_parts_is_the_same_as_a_stream(unlike, pattern):
    """So a table that grows beyond the memory keeps its columns, their types and its rows."""
    source = str(unlike / "**" / "*.parquet") if pattern else unlike
    whole, stream = load(unlike, stream=False), load(source, stream=True)
    measured = [
        [(one["name"], one["type"], one["missing"], one["values"]) for one in tree["columns"]]
        for tree in (stream.describe(), whole.describe())
    ]
    assert measured[0] == measured[1]
    assert len(measured[0]) >= 2
    every = np.arange(3 * ROWS)
    ours, theirs = (table_of(data, every) for data in (stream, whole))
    assert ours.equals(theirs)
    rows = [batch["row"].numpy() for batch in conform(source, stream.config()).batches(50)]
    np.testing.assert_array_equal(np.concatenate(rows), stream.loaded.rows.take(every))


def test_parts_that_cannot_be_one_table_are_named(tmp_path):
    for i, type_ in enumerate((pa.null(), pa.int64(), pa.string())):
        (tmp_path / "x").mkdir(exist_ok=True)
        cells = pa.nulls(ROWS) if i == 0 else pa.array(range(ROWS)).cast(type_)
        pq.write_table(pa.table({"a": cells, "b": np.arange(ROWS)}), tmp_path / f"x/{i}.parquet")
    with pytest.raises(InputError, match=r"column a is int64 .* string in 2\.parquet; make them"):
        load(tmp_path / "x", stream=True)
    twice = pa.table([np.arange(ROWS)] * 2, names=["a", "a"])
    pq.write_table(twice, tmp_path / "x" / "0.parquet")
    with pytest.raises(InputError, match='two columns are called "a"; rename one'):
        load(tmp_path / "x", stream=True)


def test_rows_of_a_part_without_a_column_are_scored_as_those_of_the_whole(tmp_path):
    """A row group in which nobody filled a column costs its rows, and not all others."""
    write_files(tmp_path / "x", "parquet")
    config = load(tmp_path / "x", stream=True).config()
    table = pq.read_table(tmp_path / "x" / "part-000.parquet")
    empty = pa.array([None] * 10 + table.column("size").to_pylist()[10:], pa.float64())
    pq.write_table(table.set_column(1, "size", empty), tmp_path / "new.parquet", row_group_size=10)
    rows = conform(str(tmp_path / "new*.parquet"), config)
    whole = conform(tmp_path / "new.parquet", config)
    ours, theirs = (next(one.batches(30))["problems"] for one in (rows, whole))
    assert sorted(ours) == list(range(10))
    assert {i: one.reason for i, one in ours.items()} == {
        i: one.reason for i, one in theirs.items()
    }


def labels_of(data, rows):
    return data.labels[rows]


@pytest.fixture
def broken(tmp_path, monkeypatch):
    """300 images of classes 0, 1, 2 in turn, of which number 5 shows its damage when decoded."""
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (4, 4), np.uint8)
    Image.fromarray(noise).save(stream, "PNG")
    (tmp_path / "x").mkdir()
    for part in range(3):
        numbers = range(100 * part, 100 * part + 100)
        samples = [(f"{n}", {".png": image_of(n), ".cls": b"%d" % (n % 3)}) for n in numbers]
        if part == 0:
            samples[5][1][".png"] = stream.getvalue()[:50]
        write_tar(tmp_path / "x" / f"{part}.tar", samples)
    monkeypatch.setattr(formats.TarFormat, "sampled", 8)
    return tmp_path / "x"


@pytest.mark.filterwarnings("ignore:.*are damaged")
@pytest.mark.parametrize("first", ["rows", "labels"])
def test_the_class_of_a_replaced_image_is_that_of_what_replaces_it(broken, first):
    data, some = load(broken, stream=True), np.array([4, 5, 6, 5])
    labels = labels_of(data, some) if first == "labels" else None
    numbers = numbers_in(data.loaded.rows.take(some), "tar")
    labels = labels_of(data, some) if labels is None else labels
    assert numbers == [4, 6, 6, 6]
    assert labels.tolist() == [number % 3 for number in numbers]


@pytest.mark.filterwarnings("ignore:.*are damaged")
def test_an_image_that_does_not_decode_has_no_score(broken):
    data = load(broken, stream=True)
    batch = next(conform(str(broken / "*.tar"), data.config()).batches(20))
    assert [(i, one.reason) for i, one in batch["problems"].items()] == [(5, "could not be read")]
    assert np.isnan(batch["problems"][5].nats)


def test_an_image_that_does_not_decode_is_left_out_of_the_whole_and_said(broken):
    data = load(broken, stream=False)
    assert len(data.loaded.rows) == data.describe()["images"] == 299
    every = np.arange(299)
    numbers = numbers_in(data.loaded.rows.take(every), "tar")
    assert numbers == [n for n in range(300) if n != 5]
    assert labels_of(data, every).tolist() == [number % 3 for number in numbers]
    assert any("1 of 300 images do not decode; they are left out" in note for note in data.notes)


def test_one_image_of_a_large_part_may_be_damaged_however_large_they_are(broken, monkeypatch):
    monkeypatch.setattr(formats, "PIECE", 1)
    data = load(broken, stream=True)
    with pytest.warns(UserWarning, match="are damaged"):
        assert numbers_in(data.loaded.rows.take(np.array([5])), "tar") == [6]


@pytest.mark.filterwarnings("ignore:.*are damaged")
def test_a_sample_without_a_class_beside_others_has_none_when_scored(broken, monkeypatch):
    """Nor one of a class that the run does not have, whatever the part that it is in holds."""
    data = load(broken, stream=True)
    monkeypatch.setattr(formats, "PIECE", 1)
    given = [b"7"] * 8 + [b"1"] * 12 + [b""] * 10
    samples = [(f"{n}", {".png": image_of(n), ".cls": one}) for n, one in enumerate(given)]
    write_tar(broken.parent / "new.tar", samples)
    rows = conform(str(broken.parent / "new*.tar"), data.config())
    assert next(rows.batches(30))["label"].tolist() == [-1] * 8 + [1] * 12 + [-1] * 10


def test_samples_of_one_name_are_several_rows(tmp_path):
    (tmp_path / "x").mkdir()
    for part in range(2):
        numbers = range(20 * part, 20 * part + 20)
        write_tar(
            tmp_path / "x" / f"{part}.tar",
            [("a", {".png": image_of(n), ".cls": b"%d" % (n % 2)}) for n in numbers],
        )
    data = load(tmp_path / "x", stream=True)
    every = np.arange(40)
    assert numbers_in(data.loaded.rows.take(every), "tar") == every.tolist()
    assert labels_of(data, every).tolist() == (every % 2).tolist()


def test_a_tar_that_holds_nothing_is_no_damage(broken):
    write_tar(broken / "9.tar", [])
    assert len(load(broken, stream=True).loaded.rows) == 300


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ("compressed", r"0\.tar: no tar file, or a compressed one"),
        ("out of order", r"100 of 300 samples .*most of them in 0\.tar, such as 0 \(\.cls\);"),
        ("objects", r"100 of 300 samples .*most of them in 0\.tar, such as 0 \(\.cls, \.npy\);"),
    ],
)
def test_what_is_no_sample_is_named(damage, said, broken):
    part = broken / "0.tar"
    if damage == "compressed":
        part.write_bytes(gzip.compress(np.random.default_rng(0).bytes(100_000)))
    elif damage == "objects":
        stream = io.BytesIO()
        np.save(stream, np.array([[1], [1, 2]], dtype=object), allow_pickle=True)
        members = {".npy": stream.getvalue(), ".cls": b"0"}
        write_tar(part, [(f"{n}", members) for n in range(100)])
    else:
        classes = [(f"{n}", {".cls": b"0"}) for n in range(100)]
        write_tar(part, classes + [(f"{n}", {".png": image_of(n)}) for n in range(100)])
        said = said.replace("300", "400")
    with pytest.raises(InputError, match=said):
        load(broken, stream=True)


@pytest.mark.parametrize("form", FORMATS)
def test_a_file_of_fewer_rows_in_the_place_of_one_is_named(form, tmp_path, monkeypatch):
    """Its pieces are not where they were: a row is never taken for another."""
    monkeypatch.setattr(formats, "PIECE", 400)
    monkeypatch.setattr(reading, "WINDOW", 400)
    folder = write_files(tmp_path / "x", form, (400, 400), group=20)
    data = load(folder, stream=True)
    write_files(tmp_path / "y", form, (200, 400), group=10)
    name = f"part-000.{suffix(form)}"
    (tmp_path / "y" / name).replace(folder / name)
    with pytest.raises(InputError, match=rf"{name}: has been (cut short or )?changed"):
        data.loaded.rows.take(np.arange(0, 400, 7))


def test_rows_without_values_are_refused_in_a_sentence(tmp_path):
    (tmp_path / "x").mkdir()
    for part in "ab":
        np.save(tmp_path / "x" / f"{part}.npy", np.zeros((5, 0)))
    with pytest.raises(InputError, match=r"x/: it has rows of shape \(0,\), without any values"):
        load(tmp_path / "x", stream=True)
