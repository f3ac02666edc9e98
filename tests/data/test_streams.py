"""Data in many files: each row once an epoch, whole files held out, the same from anywhere."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stream_files import FORMATS, image_of, numbers_in, suffix, write_files

import undiffuse.data.stream.formats as formats
import undiffuse.data.stream.read as reading
import undiffuse.data.stream.stored as stored
from undiffuse.data import load
from undiffuse.data.load import conform
from undiffuse.errors import InputError

SIZES = (30, 50, 20, 40, 25)


@pytest.fixture(scope="module", params=FORMATS)
def stream(request, tmp_path_factory):
    """A format, its folder and the data in it: pieces of some ten rows, windows of some forty."""
    folder = write_files(tmp_path_factory.mktemp(request.param) / "x", request.param, SIZES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNDIFFUSE_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(formats, "PIECE", 80 if request.param == "npy" else 15_000)
        patch.setattr(reading, "WINDOW", 400)
        yield request.param, folder, load(folder, stream=True)


def file_of(numbers):
    return np.searchsorted(np.cumsum(SIZES), numbers, side="right")


def held(data, form):
    split = data.split
    return numbers_in(data.loaded.rows.take(split.held_out(np.arange(split.n_held_out))), form)


def epochs(data, form, size, steps, **place):
    batches = data.batches(size, seed=3, **place)
    return [numbers_in(batch["row"], form) for batch in islice(batches, steps)]


@pytest.mark.parametrize("world", [1, 2, 4])
def test_each_epoch_meets_each_training_row_once_whatever_the_ranks(stream, world):
    """Positions q of all ranks in turn are, epoch by epoch, the training rows in some order."""
    form, _, data = stream
    n, size = len(data), 4
    steps = -(-2 * n // (size * world))
    ranks = [data.batches(size, seed=3, rank=rank, world=world) for rank in range(world)]
    places = [next(batches) for _ in range(steps) for batches in ranks]
    seen = [one for batch in places for one in numbers_in(batch["row"], form)][: 2 * n]
    training = sorted(set(range(sum(SIZES))) - set(held(data, form)))
    for epoch in range(2):
        assert sorted(seen[epoch * n : (epoch + 1) * n]) == training
    assert seen[:n] != seen[n : 2 * n]
    alone = epochs(data, form, size * world, steps)
    assert [one for batch in alone for one in batch][: 2 * n] == seen


def test_batches_from_any_step_are_those_that_were_there(stream):
    form, _, data = stream
    whole = epochs(data, form, 16, 20)
    for start in (1, 7, 19):
        assert epochs(data, form, 16, 20 - start, start_step=start) == whole[start:]


def test_an_epoch_reads_few_pieces_at_a_time(stream):
    """Rows of one window come of the pieces that are next, so each piece is read about once."""
    data = stream[2]
    stream_of = data.loaded.stream
    rows = data.split.shuffled(np.arange(len(data)), np.zeros(len(data), int), seed=0)
    pieces = stream_of.pieces.locate(rows)[0]
    windows = [
        set(part) for part in np.split(pieces, range(stream_of.window, len(data), stream_of.window))
    ]
    assert len(windows) > 1
    assert sum(map(len, windows)) <= len(set(pieces)) + len(windows) - 1  # one is cut by a border
    assert sorted(rows.tolist()) != rows.tolist()
    within = rows[: stream_of.window]
    assert sorted(within.tolist()) != within.tolist()


def test_whole_files_are_held_out_and_never_trained_on(stream):
    form, _, data = stream
    outside = held(data, form)
    files = set(file_of(outside))
    assert sorted(outside) == [i for i in range(sum(SIZES)) if file_of(i) in files]
    trained = {one for batch in epochs(data, form, 32, 10) for one in batch}
    assert not files & set(file_of(sorted(trained)))
    assert data.n_held_out + len(data) == sum(SIZES)
    assert any("held out are 1 of 5 files" in note for note in data.notes)


def test_another_seed_holds_out_other_files_and_shuffles_anew(stream):
    form, folder, _ = stream
    found = {tuple(set(file_of(held(load(folder, stream=True, seed=s), form)))) for s in range(4)}
    assert len(found) > 1
    more = load(folder, stream=True, held_out=0.6)
    assert len(set(file_of(held(more, form)))) == 3


def test_a_stream_and_the_whole_hold_the_same_rows(stream):
    form, folder, data = stream
    whole = load(folder, stream=False)
    assert whole.config()["reading"]["stream"] is False
    assert data.config()["reading"]["stream"] is True
    every = np.arange(sum(SIZES))
    ours, theirs = (one.loaded.rows.take(every) for one in (data, whole))
    assert numbers_in(ours, form) == numbers_in(theirs, form) == every.tolist()
    np.testing.assert_array_equal(ours, theirs)
    if form in ("tar", "cells"):
        np.testing.assert_array_equal(data.labels[every], whole.labels[every])
        assert data.classes == whole.classes == ("0", "1", "2")
        assert data.describe()["classes"] == whole.describe()["classes"] == dict.fromkeys("012", 55)


def test_labels_follow_their_rows(stream):
    form, _, data = stream
    batch = next(data.batches(32, seed=0))
    if form in ("tar", "cells"):
        expected = [number % 3 for number in numbers_in(batch["row"], form)]
        assert batch["label"].tolist() == expected
    else:
        assert set(batch) == {"row"}


def test_what_is_recorded_says_the_window_and_the_sample(stream):
    _, _, data = stream
    tree = data.config()["stream"]
    assert tree == {"files": 5, "window": data.loaded.stream.window, "sample": tree["sample"]}
    assert 0 < tree["window"] < sum(SIZES)


def test_new_rows_are_read_in_pieces_and_are_those_of_the_whole(stream):
    form, folder, data = stream
    conformed = conform(str(folder / "part-*"), data.config())
    batches = list(conformed.batches(50))
    rows = np.concatenate([batch["row"].numpy() for batch in batches])
    assert len(conformed) == sum(SIZES)
    assert numbers_in(rows, form) == list(range(sum(SIZES)))
    if form in ("tar", "cells"):
        labels = np.concatenate([batch["label"].numpy() for batch in batches])
        assert labels.tolist() == [number % 3 for number in range(sum(SIZES))]
        assert conformed.names[31] == f"part-001.{suffix(form)}:1"
    some = conformed.only(np.array([40, 2, 41]))
    assert numbers_in(next(some.batches(3))["row"], form) == [40, 2, 41]


def test_held_out_rows_are_those_of_the_split(stream):
    form, _, data = stream
    rows = np.concatenate([b["row"].numpy() for b in data.held_out_rows().batches(16)])
    assert numbers_in(rows, form) == held(data, form)


def test_an_order_is_a_function_of_its_arguments_alone(stream):
    """Two readers that ask in another order get the same rows: reading ahead decides nothing."""
    form, folder, data = stream
    other = load(folder, stream=True)
    late, early = other.batches(8, seed=3, start_step=5), other.batches(8, seed=3)
    mixed = [numbers_in(next(one)["row"], form) for one in (late, early, late, early)]
    whole = epochs(data, form, 8, 7)
    assert mixed == [whole[5], whole[0], whole[6], whole[1]]


@pytest.mark.parametrize("form", FORMATS)
def test_a_store_gives_the_rows_that_the_disk_gives(form, tmp_path, monkeypatch):
    from fsspec import filesystem

    monkeypatch.setenv("UNDIFFUSE_CACHE", str(tmp_path / "cache"))
    folder = write_files(tmp_path / "x", form, SIZES)
    store = filesystem("memory")
    for path in folder.iterdir():
        store.pipe_file(f"/{form}/{path.name}", path.read_bytes())
    here, there = load(folder, stream=True), load(f"memory://{form}", stream=True)
    assert here.fingerprint == there.fingerprint
    assert there.path == f"memory://{form}"
    assert epochs(here, form, 8, 5) == epochs(there, form, 8, 5)
    named = load(f"memory://{form}/part-{{000..002}}.{suffix(form)}", stream=True)
    assert len(named) + named.n_held_out == 100
    every = load(
        [
            f"memory://{form}/part-000.{suffix(form)}",
            f"memory://{form}/part-003.{suffix(form)}",
        ]
    )
    assert len(every) + every.n_held_out == 70
    assert load(every.path).fingerprint == every.fingerprint


@pytest.mark.parametrize("place", ["memory://{}", "memory://{}/part-*", "{}", "{}/part-*", "list"])
def test_files_are_in_the_order_of_their_names_whatever_order_they_are_listed_in(
    tmp_path, monkeypatch, place
):
    """Of a folder, a pattern and a list, here and in a store; so is what is held out."""
    from fsspec.implementations.memory import MemoryFileSystem

    monkeypatch.setenv("UNDIFFUSE_CACHE", str(tmp_path / "cache"))
    folder = write_files(tmp_path / "x", "npy", SIZES)
    paths = [str(path) for path in sorted(folder.iterdir())]
    store = MemoryFileSystem()
    for path in paths:
        store.pipe_file(f"{tmp_path}/x/{path[-12:]}", Path(path).read_bytes())
    source = paths if place == "list" else place.format(folder)
    found, order = [], [1]
    for name in ("find", "glob"):
        inner = getattr(MemoryFileSystem, name)

        def listed(self, *given, inner=inner, **options):
            return dict(sorted(inner(self, *given, **options).items())[:: order[0]])

        monkeypatch.setattr(MemoryFileSystem, name, listed)
    monkeypatch.setattr(stored, "glob", lambda *given, **named: paths[:: order[0]])
    monkeypatch.setattr(stored, "walk", lambda *given: ([*map(Path, paths)][:: order[0]], []))
    for order[0] in (1, -1):
        data = load(source[:: order[0]] if place == "list" else source, stream=True)
        every = numbers_in(data.loaded.rows.take(np.arange(sum(SIZES))), "npy")
        found.append([every, held(data, "npy"), data.fingerprint, epochs(data, "npy", 8, 3)])
    assert found[0] == found[1]
    assert found[0][0] == list(range(sum(SIZES)))


def test_a_single_file_of_a_store_is_read_as_one_here(tmp_path, monkeypatch):
    from fsspec import filesystem

    monkeypatch.setenv("UNDIFFUSE_CACHE", str(tmp_path / "cache"))
    text = "a,b\n" + "".join(f"{i},{i * 0.5}\n" for i in range(40))
    filesystem("memory").pipe_file("/t/table.csv", text.encode())
    (tmp_path / "table.csv").write_text(text)
    there, here = load("memory://t/table.csv"), load(tmp_path / "table.csv")
    assert there.fingerprint == here.fingerprint
    assert (there.name, there.path) == ("table.csv", "memory://t/table.csv")
    assert len(conform("memory://t/table.csv", here.config())) == 40


def test_a_large_table_streams_by_itself_and_a_small_one_does_not(tmp_path, monkeypatch):
    folder = write_files(tmp_path / "x", "parquet", SIZES)
    assert load(folder).loaded.stream is None
    monkeypatch.setattr(reading, "memory", lambda: 20_000)
    assert load(folder).loaded.stream is not None
    assert load(folder, stream=False).loaded.stream is None


def test_one_file_holds_out_parts_of_itself(tmp_path, monkeypatch):
    write_files(tmp_path / "x", "parquet", (100,))
    data = load(tmp_path / "x", stream=True)
    assert data.n_held_out == 10
    assert any("is one file, of which 1 of 10 parts are held out" in note for note in data.notes)
    write_files(tmp_path / "y", "parquet", (100,), group=100)
    with pytest.raises(InputError, match="one file of one part"):
        load(tmp_path / "y", stream=True)


def test_the_next_window_is_read_before_it_is_asked_for(tmp_path, monkeypatch):
    """What is read after one batch is more than it holds, and is no more than two windows."""
    folder = write_files(tmp_path / "x", "npy", (200, 200, 200, 200))
    monkeypatch.setattr(formats, "PIECE", 80)
    monkeypatch.setattr(reading, "WINDOW", 400)
    data = load(folder, stream=True)
    rows, window = data.loaded.rows, data.loaded.stream.window
    order = data.split.shuffled(np.arange(2 * window), np.zeros(2 * window, int), 3)
    pieces = data.loaded.stream.pieces.locate(order)[0]
    begun, read = set(), formats.NpyFormat.read

    def recorded(self, place, start, end):
        begun.add((place.name, start))
        return read(self, place, start, end)

    monkeypatch.setattr(formats.NpyFormat, "read", recorded)
    next(data.batches(8, seed=3))
    rows.blocks._pool.shutdown(wait=True)
    soon, first = ({begin_of(data, p) for p in some} for some in (pieces, pieces[:window]))
    assert len(begun & (soon - first)) > 2
    assert len(begun) <= len(soon) + 3  # one more is begun at each end


def begin_of(data, piece):
    """The file of a piece, and the number of its first row there."""
    pieces, shards = data.loaded.stream.pieces, data.loaded.rows.shards
    first = shards.firsts[pieces.files[piece]]
    return shards.place_of(piece).name, int(pieces.starts[piece] - pieces.starts[first])


def test_images_of_others_are_read_from_parquet(tmp_path):
    """The names of classes of Hugging Face; bytes alone; what else there is is left out."""
    number = np.arange(30)
    features = {"answer": {"names": ["no", "yes"], "_type": "ClassLabel"}}
    features["label"] = features.pop("answer")
    about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    images = pa.array([image_of(n) for n in number], pa.large_binary())
    table = pa.table({"id": number, "photo": images, "label": number % 2})
    pq.write_table(table.replace_schema_metadata(about), tmp_path / "photos.parquet")
    data = load(tmp_path / "photos.parquet")
    assert data.classes == ("no", "yes")
    assert data.labels.tolist() == (number % 2).tolist()
    assert numbers_in(data.loaded.rows.take(number), "cells") == number.tolist()
    assert any("columns are left out: id" in note for note in data.notes)
    with pytest.raises(InputError, match=r"--data\.drop is not for images"):
        load(tmp_path / "photos.parquet", drop="id")


def test_images_in_parquet_are_no_rows_of_a_table(tmp_path):
    folder = write_files(tmp_path / "x", "cells", (8, 8))
    with pytest.raises(InputError, match="holds images, which the run was not trained on"):
        conform(folder, load(pa.table({"a": number_of(20), "b": number_of(20)})).config())


def number_of(n):
    return np.random.default_rng(n).normal(size=n)


def test_the_class_of_images_in_parquet_may_be_the_name_of_their_folder(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / f"x/label={name}").mkdir(parents=True)
        images = pa.array([image_of(n) for n in range(20)], pa.binary())
        pq.write_table(pa.table({"image": images}), tmp_path / f"x/label={name}/part-0.parquet")
    data = load(tmp_path / "x")
    assert data.classes == ("cat", "dog")
    assert data.labels.tolist() == [0] * 20 + [1] * 20


def test_bytes_that_are_no_images_leave_a_table_a_table(tmp_path):
    """A column of hashes, and sound as Hugging Face has it, are left out of it, which is said."""
    sounds = [{"bytes": b"RIFF", "path": "a.wav"}] * 20
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"sound": pa.array(sounds, kind), "sha256": pa.array([b"0"] * 20, pa.binary())}
    about = {"info": {"features": {"sound": {"_type": "Audio", "sampling_rate": 8000}}}}
    table = pa.table({"a": number_of(20), "b": number_of(21)[:20], **columns})
    pq.write_table(
        table.replace_schema_metadata({b"huggingface": json.dumps(about).encode()}),
        tmp_path / "table.parquet",
    )
    data = load(tmp_path / "table.parquet")
    assert data.loaded.kind == "tables"
    assert [column.name for column in data.form.columns] == ["a", "b"]
