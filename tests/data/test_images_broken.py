import json
import os

import numpy as np
import pytest
from image_files import folder_of, pixels, rows, save
from PIL import Image

from undiffuse.data import load
from undiffuse.data.folder import cache_folder
from undiffuse.errors import InputError


def broken_folder(tmp_path, good, bad):
    for i in range(good):
        save(tmp_path / f"photos/good{i:03d}.png", pixels(6, 6, seed=i))
    for i in range(bad):
        save(tmp_path / f"photos/bad{i}.jpg", pixels(64, 64, 3))
        whole = (tmp_path / f"photos/bad{i}.jpg").read_bytes()
        (tmp_path / f"photos/bad{i}.jpg").write_bytes([whole[:600], b"", b"not an image"][i % 3])
    return tmp_path / "photos"


def test_broken_images_are_skipped_counted_and_listed(tmp_path):
    data = load(broken_folder(tmp_path, 77, 3))
    assert data.notes[0] == (
        "photos/: 3 of 80 images could not be read (bad0.jpg, bad1.jpg, bad2.jpg); "
        "training on the other 77."
    )
    np.testing.assert_array_equal(rows(data), [pixels(6, 6, seed=i) for i in range(77)])


def test_a_truncated_image_does_not_shift_the_labels(tmp_path):
    for i in range(60):
        save(
            tmp_path / "pets" / ("a" if i < 30 else "b") / f"{i}.png", np.full((6, 6), i, np.uint8)
        )
    for name in ("a/10.png", "b/50.png"):
        whole = (tmp_path / "pets" / name).read_bytes()
        (tmp_path / "pets" / name).write_bytes(whole[:-30])
    data = load(tmp_path / "pets")
    assert data.labels is not None
    assert len(rows(data)) == 58
    np.testing.assert_array_equal(data.labels, rows(data)[:, 0, 0] >= 30)


def test_too_many_broken_images_are_an_error(tmp_path):
    with pytest.raises(
        InputError,
        match=r"photos/: 5 of 15 images could not be read \(bad0.jpg, .*, \.\.\.\); repair",
    ):
        load(broken_folder(tmp_path, 10, 5))
    with pytest.raises(InputError, match="3 of 3 images could not be read"):
        load(broken_folder(tmp_path / "only", 0, 3))
    assert not list(cache_folder().glob(".*"))


def test_a_decompression_bomb_is_skipped_with_its_reason(tmp_path, monkeypatch):
    folder = folder_of(tmp_path, [pixels(8, 8, seed=i) for i in range(40)])
    save(folder / "bomb.png", np.zeros((30, 40), np.uint8))
    save(folder / "huge.png", np.zeros((100, 100), np.uint8))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    data = load(folder)
    assert data.notes[0] == (
        "photos/: 2 of 42 images could not be read "
        "(bomb.png, huge.png: over 1,000 pixels, which may be a decompression bomb); training on "
        "the other 40."
    )


def test_a_second_load_decodes_nothing_and_a_changed_folder_is_read_anew(tmp_path):
    folder = folder_of(tmp_path, [pixels(8, 8, seed=i) for i in range(5)])
    told = []
    first = load(folder, progress=lambda *step: told.append(step))
    assert {what for *_, what in told} == {
        "looking at photos/",
        "decoding photos/",
        "measuring photos/",
    }
    told.clear()
    second = load(folder, progress=lambda *step: told.append(step))
    assert {what for *_, what in told} == {"measuring photos/"}
    np.testing.assert_array_equal(rows(first), rows(second))
    moved = folder.rename(tmp_path / "elsewhere")
    assert load(moved).fingerprint == first.fingerprint
    save(moved / "0.png", np.zeros((8, 8), np.uint8))
    os.utime(moved / "0.png", ns=(1, 1))
    third = load(moved)
    assert third.fingerprint != first.fingerprint
    assert (rows(third)[0] == 0).all()


def test_a_damaged_cache_is_made_again(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDIFFUSE_CACHE", str(tmp_path / "cache"))
    folder = folder_of(tmp_path, [pixels(8, 8, seed=i) for i in range(5)])
    whole = rows(load(folder))
    (place,) = (tmp_path / "cache").glob("images-*")
    for name, content in (
        ("values.npy", b"\x93NUMPY"),
        ("facts.json", b"{"),
        ("facts.json", json.dumps({}).encode()),
    ):
        (place / name).write_bytes(content)
        np.testing.assert_array_equal(rows(load(folder)), whole)


def test_decoded_images_are_memory_mapped(tmp_path):
    array = load(folder_of(tmp_path, [pixels(8, 8)] * 3)).loaded.rows.array
    while not isinstance(array, np.memmap) and array.base is not None:
        array = array.base
    assert type(array).__name__ in ("memmap", "mmap")


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda path: None, "no such file or folder; check the path"),
        (
            lambda path: path.mkdir(),
            "x.d/: the folder is empty; put images or recordings or tables into it",
        ),
        (
            lambda path: (path.mkdir(), (path / "a.txt").touch()),
            "no images or recordings or tables are in it, only files of .txt",
        ),
        (
            lambda path: (path.mkdir(), (path / "a.png").touch(), (path / "b.wav").touch()),
            "1 images and 1 recordings",
        ),
        (
            lambda path: save(path / "a.png", pixels(3, 3)),
            "x.d/: it has 1 row; training needs at least 2 rows",
        ),
    ],
)
def test_folders_without_images_are_refused(tmp_path, make, sentence):
    make(tmp_path / "x.d")
    with pytest.raises(InputError) as refused:
        load(tmp_path / "x.d")
    assert sentence in str(refused.value)


def test_a_single_picture_is_no_data_set(tmp_path):
    save(tmp_path / "cat.jpg", pixels(9, 9))
    with pytest.raises(InputError, match="this is a single file; give the folder"):
        load(tmp_path / "cat.jpg")
