"""`datasets.Dataset` objects read as their content is read from files and arrays."""

import io
import wave

import numpy as np
import pytest
from PIL import Image

import undiffuse as ud
from undiffuse.data import complete, conform
from undiffuse.errors import InputError

datasets = pytest.importorskip("datasets")


def png(pixels):
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format="PNG")
    return {"bytes": stream.getvalue(), "path": None}


def wav(samples):
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((1, 2, 8000, len(samples), "NONE", ""))
        file.writeframes(samples.tobytes())
    return {"bytes": stream.getvalue(), "path": None}


def made(columns, **features):
    return datasets.Dataset.from_dict(columns, features=datasets.Features(features))


@pytest.fixture
def labels():
    return [i % 2 for i in range(40)]


def test_images_are_those_stored_with_their_classes_and_other_columns(labels):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (40, 8, 8, 3), dtype=np.uint8)
    kind = datasets.ClassLabel(names=["a/cat", "dog"])
    source = made(
        {"image": list(map(png, pixels)), "kind": labels, "age": list(range(40))},
        image=datasets.Image(),
        kind=kind,
        age=datasets.Value("int64"),
    )
    data = ud.load(source, condition=["age"])
    rows = data.loaded.rows.take(np.arange(40))
    assert np.array_equal(rows, pixels)
    assert data.classes == ("a/cat", "dog")
    assert data.labels.tolist() == labels
    assert data.loaded.given[0].codes.tolist() == list(range(40))
    again = ud.load(data.path, condition=["age"])  # a run finds its data again
    assert again.fingerprint == data.fingerprint
    picked = ud.load(source.select(range(20, 40)))
    assert np.array_equal(picked.loaded.rows.take(np.arange(20)), pixels[20:])


def test_audio_is_cut_into_windows_as_files_are(labels):
    rng = np.random.default_rng(0)
    samples = rng.integers(-3000, 3000, (40, 256), dtype=np.int16)
    source = datasets.Dataset.from_dict({"audio": list(map(wav, samples))})
    source = source.cast_column("audio", datasets.Audio())
    data = ud.load(source, size=256)
    assert np.array_equal(data.loaded.rows.take(np.arange(40)), samples)
    assert data.form.rate == 8000


@pytest.mark.parametrize("dtype", ["float64", "float32", "uint8", "int64"])
def test_arrays_keep_their_type_and_every_value(labels, dtype):
    x = (np.random.default_rng(0).normal(size=(40, 4, 5)) * 100).astype(dtype)
    feature = datasets.Array2D((4, 5), dtype)
    kind = datasets.ClassLabel(names=["no", "yes"])
    source = made({"x": x, "y": labels}, x=feature, y=kind)
    data = ud.load(source)
    assert np.array_equal(
        data.loaded.rows.take(np.arange(40)), ud.load(x).loaded.rows.take(np.arange(40))
    )
    assert data.classes == ("no", "yes")
    listed = datasets.Dataset.from_dict({"x": x.tolist(), "id": list(range(40))})
    assert "left out the columns id" in " ".join(ud.load(listed).notes)


def test_a_table_is_that_of_its_data_frame(labels):
    rng = np.random.default_rng(0)
    columns = {"a": rng.normal(size=40).tolist(), "b": ["x", "y"] * 20, "c": labels}
    names = ["no", "yes"]
    source = made(
        columns,
        a=datasets.Value("float64"),
        b=datasets.Value("string"),
        c=datasets.ClassLabel(names=names),
    )
    frame = source.to_pandas()
    frame["c"] = [names[i] for i in labels]
    data, same = ud.load(source), ud.load(frame)
    every = np.arange(40)
    assert np.array_equal(data.loaded.rows.take(every), same.loaded.rows.take(every))
    rows = next(conform(source, data.config()).batches(40))["row"]
    assert np.array_equal(rows.numpy(), data.loaded.rows.take(every))
    given = complete(source.remove_columns("b"), data.config())
    assert given.known.sum() == 80


def test_a_class_of_the_users_own_package_called_datasets_is_not_taken_for_theirs():
    class Photos(list):
        __module__ = "datasets.photos"

    rows = np.random.default_rng(0).normal(size=(40, 3))
    assert np.array_equal(ud.load(Photos(rows)).loaded.rows.take(np.arange(40)), rows)


def test_what_is_no_one_data_set_is_refused():
    one = datasets.Dataset.from_dict({"x": [1.0, 2.0]})
    with pytest.raises(InputError, match=r"DatasetDict of train.*dataset\['train'\]"):
        ud.load(datasets.DatasetDict({"train": one}))
    with pytest.raises(InputError, match="load it without streaming"):
        ud.load(one.to_iterable_dataset())
    with pytest.raises(InputError, match=r"2 columns of arrays \(a, b\); keep one"):
        ud.load(datasets.Dataset.from_dict({"a": [[1.0], [2.0]], "b": [[1.0], [2.0]]}))
    with pytest.raises(InputError, match="column a holds no arrays of one shape"):
        ud.load(datasets.Dataset.from_dict({"a": [[1.0], [2.0, 3.0]]}))
    with pytest.raises(InputError, match="no rows"):
        ud.load(one.select([]))
    missing = made({"image": [None, None]}, image=datasets.Image())
    with pytest.raises(InputError, match="row 0 has no image"):
        ud.load(missing)
