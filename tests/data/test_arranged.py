"""What files of a folder are for, and their classes: by subfolders, and by lists of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from undiffuse.data import conform, load
from undiffuse.data.arranged import arrange
from undiffuse.data.folder import Folder, walk
from undiffuse.errors import InputError


def photos(folder, count=6, seed=0, shape=(6, 5)):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        pixels = np.random.default_rng([seed, i]).integers(0, 256, shape)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i:02d}.png")
    return folder


def named(tmp_path, *names, others=()):
    """A folder of files that are not read: what they are called is all that is needed."""
    root = tmp_path / "pets"
    for name in (*names, *others):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        if not (root / name).exists():
            (root / name).touch()
    files, hidden = walk(root)
    images = tuple(file for file in files if file.suffix == ".png")
    return Folder(root, images, "images", tuple(f for f in files if f not in images), tuple(hidden))


def said(data, sentence):
    return any(sentence in note for note in data.notes)


# --- parts


PARTS = {
    "without classes": ["train/1", "train/2", "val/1", "test/1"],
    "above classes": ["train/cat/1", "train/dog/1", "valid/cat/1", "test/dog/2"],
    "within classes": ["cat/train/1", "cat/test/2", "dog/train/1", "dog/validation/1"],
    "below a common folder": ["all/Training/cat/1", "all/Training/dog/1", "all/Testing/cat/1"],
}


@pytest.mark.parametrize("case", PARTS)
def test_parts_are_found_wherever_they_lie_and_are_no_classes(tmp_path, case):
    names = [f"{name}.png" for name in PARTS[case]]
    found = arrange(named(tmp_path, *names))
    use = {
        "train": 0,
        "training": 0,
        "val": 1,
        "valid": 1,
        "validation": 1,
        "test": 2,
        "testing": 2,
    }
    called = found.folder.called
    steps = [[step.lower() for step in name.split("/")] for name in called]
    assert found.parts.tolist() == [next(use[s] for s in step if s in use) for step in steps]
    if case == "without classes":
        assert found.classes is None
        assert found.notes == (
            "pets/: train/ is trained on, val/ is held out in training, test/ is kept for "
            "undiffuse evaluate.",
        )
    else:
        assert found.classes == [next(s for s in step if s in ("cat", "dog")) for step in steps]


@pytest.mark.parametrize(
    ("names", "classes", "note"),
    [
        (["test/1", "val/1"], None, "without train/, all files are read together"),
        (["train/1", "bus/1"], ["bus", "train"], None),  # a train is a vehicle here
        (["train/1", "train/2"], None, None),
        (["a/train/1", "b/other/1"], ["a", "b"], None),
        (["2023/cat/1", "2023/dog/1", "2024/cat/1", "2024/dog/1"], ["cat", "dog", "cat", "dog"],
         "each of 2023, 2024 holds the same folders, which are the classes"),
        (["cat/tabby/1", "cat/black/1", "dog/1"], ["cat", "cat", "dog"],
         "the classes are the 2 outermost folders; those in them are not told apart"),
        (["1", "a/1", "b/1"], None, "1 images lie outside of the subfolders"),
    ],
)  # fmt: skip
def test_classes_are_the_folders_that_a_person_means(tmp_path, names, classes, note):
    found = arrange(named(tmp_path, *(f"{name}.png" for name in names)))
    assert (found.classes, found.parts) == (classes, None)
    assert len(found.notes) == (note is not None)
    assert note is None or note in found.notes[0]


def test_what_lies_outside_of_the_parts_is_left_out_and_said(tmp_path):
    found = arrange(named(tmp_path, "train/1.png", "test/1.png", "extra/1.png", "2.png"))
    assert found.folder.called == ["test/1.png", "train/1.png"]
    assert "2 images lie outside of these and are not read" in found.notes[1]


@pytest.mark.parametrize("val", [True, False])
def test_parts_are_never_mixed(tmp_path, val):
    """Of every row it is known where it lay: pixels hold the number of the part."""
    marks = {"train": 10, "test": 30} | ({"val": 20} if val else {})
    for part, mark in marks.items():
        (tmp_path / "x" / part).mkdir(parents=True)
        for i in range(30):
            pixels = np.full((4, 4), mark, np.uint8)
            pixels[0, 0] = i
            Image.fromarray(pixels).save(tmp_path / "x" / part / f"{i}.png")
    data = load(tmp_path / "x", seed=3)
    tested = data.tested

    def part(rows):
        return set(np.asarray(rows)[:, 1, 1].tolist())

    assert part(data.train[:]) == part(tested.train[:]) == {10}
    assert part(data.held_out) == ({20} if val else {10})
    assert part(tested.held_out) == {30}
    assert (len(data), data.n_held_out) == ((30, 30) if val else (22, 8))
    assert tested.n_held_out == data.describe()["test_rows"] == 30
    seen = next(data.batches(64, seed=0))["row"]
    assert part(seen.numpy()) == {10}
    assert data.tested.tested.n_held_out == 30
    together = [tuple(row) for row in np.asarray(data.train[:])[:, 0, :1].tolist()]
    if not val:
        held = [tuple(row) for row in np.asarray(data.held_out)[:, 0, :1].tolist()]
        assert not set(together) & set(held)
        assert len(load(tmp_path / "x", held_out=0.5)) == 15
    else:
        with pytest.raises(InputError, match=r"held_out 0.5: x/ says itself which rows are held"):
            load(tmp_path / "x", held_out=0.5)
    config = data.config()
    again = load(tmp_path / "x", seed=3, held_out=config["split"]["held_out"])
    np.testing.assert_array_equal(again.held_out, data.held_out)


# --- lists


def rows_of(names, **columns):
    return [
        {"file_name": name} | {c: values[i] for c, values in columns.items()}
        for i, name in enumerate(names)
    ]


def written(path, rows):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        mark = "\t" if path.suffix == ".tsv" else ","
        lines = [mark.join(rows[0]), *(mark.join(map(str, row.values())) for row in rows)]
        path.write_text("\n".join(lines) + "\n")


NAMES = [f"{i:02d}.png" for i in range(6)]
KINDS = list("aabbab")


@pytest.mark.parametrize("file", ["metadata.csv", "metadata.jsonl", "labels.csv", "x.tsv"])
def test_a_list_beside_the_images_has_their_classes(tmp_path, file):
    folder = photos(tmp_path / "x")
    written(folder / file, rows_of(NAMES, label=KINDS))
    data = load(folder, held_out=1)
    assert data.classes == ("a", "b")
    assert [data.classes[i] for i in data.labels] == KINDS
    assert not said(data, "not read")
    assert said(data, f"{file}: its column label has the 2 classes.")
    first = data.fingerprint
    written(folder / file, rows_of(NAMES, label=KINDS[::-1]))
    assert load(folder, held_out=1).fingerprint != first


def test_the_column_can_be_chosen_and_is_recorded(tmp_path):
    folder = photos(tmp_path / "x")
    columns = {"angle": range(6), "breed": KINDS, "label": list("xxxyyy")}
    written(folder / "metadata.jsonl", rows_of(NAMES, **columns))
    data = load(folder, held_out=1, labels="breed")
    assert data.classes == ("a", "b")
    assert data.config()["reading"] == {"labels": "breed"}
    assert said(data, "its column breed has the 2 classes; not used: angle, label.")
    assert load(folder, held_out=1).classes == ("x", "y")
    batch = next(conform(folder, data.config()).batches(6))
    assert [data.classes[i] for i in batch["label"]] == KINDS
    (folder / "metadata.jsonl").rename(tmp_path / "elsewhere.jsonl")
    where = f"{tmp_path / 'elsewhere.jsonl'}:breed"
    assert load(folder, held_out=1, labels=where).classes == ("a", "b")
    assert "label" not in next(conform(folder, data.config()).batches(6))


@pytest.mark.parametrize(
    "names",
    [
        [f"photos/{i:02d}.png" for i in range(6)],  # from another place
        [f"{i:02d}" for i in range(6)],  # without a suffix
        [f".\\{i:02d}.png" for i in range(6)],
    ],
)
def test_names_are_understood_as_people_write_them(tmp_path, names):
    folder = photos(tmp_path / "x")
    rows = [
        {"id": i, "image": name, "kind": kind} for i, (name, kind) in enumerate(zip(names, KINDS))
    ]
    written(folder / "list.csv", rows)
    data = load(folder, held_out=1, labels="kind")
    assert [data.classes[i] for i in data.labels] == KINDS


def test_each_part_can_have_a_list_of_its_own(tmp_path):
    for k, part in enumerate(("train", "test")):
        folder = photos(tmp_path / "x" / part, seed=k)
        written(folder / "metadata.csv", rows_of(NAMES, label=KINDS if k else KINDS[::-1]))
    data = load(tmp_path / "x", held_out=2)
    names = [data.classes[i] for i in data.labels]
    assert names == [*KINDS, *KINDS[::-1]]  # test/ before train/
    assert data.tested.n_held_out == 6


def test_columns_that_are_no_label_are_said(tmp_path):
    folder = photos(tmp_path / "x")
    written(folder / "metadata.csv", rows_of(NAMES, angle=range(6), light=range(6)))
    data = load(folder, held_out=1)
    assert data.labels is None
    assert said(
        data, "metadata.csv has angle, light, none of them called label; for one as classes"
    )


LISTS = {
    "a file that is missing": (
        [*rows_of(NAMES, label=KINDS), {"file_name": "gone.png", "label": "a"}], None,
        "metadata.csv: 1 of 7 files that it names is not in x/ (gone.png); put them there",
    ),
    "one name with two labels": (
        [*rows_of(NAMES, label=KINDS), {"file_name": "00.png", "label": "b"}], None,
        "metadata.csv: 00.png is named twice, with label a and b; take one of the rows out",
    ),
    "no label": (
        rows_of(NAMES, label=[*KINDS[:-1], ""]), None, "metadata.csv: 05.png has no label; give it"
    ),
    "no such column": (
        rows_of(NAMES, label=KINDS), "breed", "metadata.csv: it has no column breed; it has label."
    ),
    "no such file": (
        rows_of(NAMES, label=KINDS), "no.csv:label", "--data.labels no.csv:label: no such file"
    ),
    "no list": ([], "breed", "--data.labels breed: x/ holds no metadata.csv, metadata.jsonl or"),
}  # fmt: skip


@pytest.mark.parametrize("case", LISTS)
def test_a_list_that_does_not_fit_is_refused_in_a_sentence(tmp_path, case):
    rows, labels, sentence = LISTS[case]
    folder = photos(tmp_path / "x")
    if rows:
        written(folder / "metadata.csv", rows)
    with pytest.raises(InputError) as refused:
        load(folder, held_out=1, labels=labels)
    assert str(refused.value).startswith(sentence)


def test_a_damaged_list_is_refused_by_its_name(tmp_path):
    folder = photos(tmp_path / "x")
    (folder / "metadata.jsonl").write_text('{"file_name": "00.png", "label": 1}\n{"file_na')
    with pytest.raises(InputError, match=r"metadata\.jsonl: could not be read \(.*\); correct it"):
        load(folder, held_out=1)


def test_few_files_that_do_not_fit_are_left_out_and_said(tmp_path):
    folder = photos(tmp_path / "x", 30)
    names = [f"{i:02d}.png" for i in range(28)]
    rows = rows_of([*names, "gone.png"], label=["a", "b"] * 14 + ["a"])
    written(folder / "metadata.csv", [*rows, rows[0]])
    data = load(folder)
    assert len(data.loaded.rows) == 28
    assert said(data, "metadata.csv: 1 of 30 files that it names is not in x/ (gone.png); the oth")
    assert said(data, "x/: 2 of 30 images are not named in metadata.csv and are left out (28.png, ")
    assert said(data, "metadata.csv: 1 name occurs twice, with one label (00.png).")


def test_only_folders_have_labels_in_lists(tmp_path):
    with pytest.raises(InputError, match=r"--data\.labels is for images or recordings, not for"):
        load("digits", labels="label")


# --- several frames in a file


def animation(path, count, shape=(6, 5, 3), seed=0, sizes=()):
    rng = np.random.default_rng(seed)
    frames = [rng.integers(0, 256, shape).astype(np.uint8) for _ in range(count)]
    frames += [rng.integers(0, 256, (*size, 3)).astype(np.uint8) for size in sizes]
    first, *rest = map(Image.fromarray, frames)
    first.save(path, save_all=True, append_images=rest)
    return np.stack(frames[:count])


def test_every_page_is_a_row_and_those_of_a_file_stay_together(tmp_path):
    folder = photos(tmp_path / "x", 4, shape=(6, 5, 3))
    pages = [animation(folder / f"{name}.tif", 3, seed=k, sizes=[(3, 2)]) for k, name in
             enumerate("pqr")]  # fmt: skip
    data = load(folder, held_out=0.5, seed=1)
    assert len(data.loaded.rows) == 4 + 9
    rows = np.asarray(data.loaded.rows.take(np.arange(13)))
    np.testing.assert_array_equal(rows[4:], np.concatenate(pages))
    assert said(data, "3 of 7 images hold several pages or frames, 9 in all; each is a row of its")
    assert said(data, "3 pages of another size than the first of their file are not read")
    held = data.split.holds_out(np.arange(13))
    for k in range(3):
        assert len(set(held[4 + 3 * k : 7 + 3 * k].tolist())) == 1
    new = conform(folder, data.config())
    assert list(new.names)[3:7] == ["03.png", "p.tif", "p.tif#1", "p.tif#2"]
    np.testing.assert_array_equal(next(new.batches(13))["row"].numpy(), rows)


def test_frames_of_a_gif_are_read_in_their_colours(tmp_path):
    (tmp_path / "x").mkdir()
    grey = Image.new("P", (5, 6), 3)
    grey.putpalette([v for i in range(256) for v in (i, i, i)])
    red = Image.new("RGB", (5, 6), (200, 0, 0))
    for i in range(3):
        grey.save(tmp_path / "x" / f"{i}.gif", save_all=True, append_images=[red, red.rotate(90)])
    data = load(tmp_path / "x", held_out=1)
    rows = np.asarray(data.loaded.rows.take(np.arange(len(data.loaded.rows))))
    assert rows.shape[1:] == (6, 5, 3)
    assert (rows[1] == [200, 0, 0]).all()
    assert (rows[0] == 3).all()
