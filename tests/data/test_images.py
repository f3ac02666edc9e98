import numpy as np
import pytest
from image_files import folder_of, pixels, rows, save
from PIL import Image

from undiffuse.data import load
from undiffuse.errors import InputError


@pytest.mark.parametrize("shape", [(6, 9), (6, 9, 2), (6, 9, 3), (6, 9, 4)])
def test_png_values_are_kept_exactly(tmp_path, shape):
    arrays = [pixels(*shape, seed=i) for i in range(4)]
    data = load(folder_of(tmp_path, arrays))
    np.testing.assert_array_equal(rows(data), np.stack(arrays))
    assert data.shape == (shape[2] if len(shape) > 2 else 1, 6, 9)
    assert data.loaded.notes == ()


def test_sixteen_bits_are_kept_exactly(tmp_path):
    arrays = [pixels(5, 7, seed=i, dtype=np.uint16) for i in range(3)]
    data = load(folder_of(tmp_path, arrays))
    np.testing.assert_array_equal(rows(data), np.stack(arrays))
    assert (rows(data).dtype, data.transform.levels) == (np.uint16, 65536)


def test_eight_bits_among_sixteen_span_the_same_range(tmp_path):
    save(tmp_path / "photos/a.png", np.full((4, 4), 255, np.uint8))
    save(tmp_path / "photos/b.png", pixels(4, 4, dtype=np.uint16))
    assert (rows(load(tmp_path / "photos"))[0] == 65535).all()


def test_sixteen_bits_among_colour_are_scaled_not_clipped(tmp_path):
    save(tmp_path / "photos/a.png", np.full((4, 4), 128 * 257, np.uint16))
    save(tmp_path / "photos/b.png", pixels(4, 4, 3))
    data = load(tmp_path / "photos")
    assert (rows(data)[0] == 128).all()
    assert any("reduced to 8 bits" in note for note in data.notes)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_photos_are_upright(tmp_path, orientation, suffix):
    """By EXIF 2.3, which says what side of the stored picture is its top, and what its left."""
    upright = np.zeros((16, 32), np.uint8)
    upright[:8, :16], upright[:8, 16:], upright[8:, :16] = 250, 170, 90
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    for i in range(2):
        save(tmp_path / f"photos/{i}{suffix}", np.ascontiguousarray(stored), exif=exif)
    found = rows(load(tmp_path / "photos"))
    assert found.shape == (2, 16, 32)
    assert np.abs(found[0].astype(int) - upright).max() <= 12


def test_alpha_is_kept_only_where_something_is_transparent(tmp_path):
    opaque = np.concatenate([pixels(4, 4, 3), np.full((4, 4, 1), 255, np.uint8)], axis=2)
    for name in ("opaque", "mixed"):
        save(tmp_path / name / "a.png", opaque)
        save(tmp_path / name / "b.png", opaque)
    clear = opaque.copy()
    clear[0, 0, 3] = 7
    save(tmp_path / "mixed/c.png", clear)
    data = load(tmp_path / "opaque")
    np.testing.assert_array_equal(rows(data)[0], opaque[..., :3])
    assert any("alpha channel is left out" in note for note in data.notes)
    np.testing.assert_array_equal(rows(load(tmp_path / "mixed"))[2], clear)


def test_palettes_bitmaps_and_cmyk(tmp_path):
    colours = np.zeros((4, 4, 3), np.uint8)
    colours[:2] = (255, 0, 0)
    palette = Image.fromarray(colours).quantize(4)
    (tmp_path / "photos").mkdir()
    palette.save(tmp_path / "photos/a.gif")
    Image.fromarray(np.eye(4, dtype=bool)).save(tmp_path / "photos/b.png")
    Image.fromarray(colours).convert("CMYK").save(tmp_path / "photos/c.tif")
    found = rows(load(tmp_path / "photos"))
    np.testing.assert_array_equal(found[0], colours)
    np.testing.assert_array_equal(found[1], np.eye(4, dtype=np.uint8)[..., None].repeat(3, 2) * 255)
    np.testing.assert_array_equal(found[2], colours)


def test_transparent_palette_becomes_rgba(tmp_path):
    (tmp_path / "photos").mkdir()
    image = Image.fromarray(np.array([[0, 1], [1, 0]], np.uint8))
    image.putpalette([10, 20, 30, 200, 100, 50])
    for name in "ab":
        image.save(tmp_path / f"photos/{name}.png", transparency=0)
    found = rows(load(tmp_path / "photos"))
    assert found.shape == (2, 2, 2, 4)
    assert found[0, 0].tolist() == [[10, 20, 30, 0], [200, 100, 50, 255]]


def test_mixed_modes_become_the_richest(tmp_path):
    save(tmp_path / "photos/a.png", np.full((4, 4), 9, np.uint8))
    save(tmp_path / "photos/b.png", pixels(4, 4, 3))
    data = load(tmp_path / "photos")
    assert (rows(data)[0] == 9).all()
    assert rows(data).shape == (2, 4, 4, 3)
    assert "photos/: 1 of 2 images are grey and are turned into RGB." in data.notes


def test_mixed_sizes_take_the_common_one_and_say_so(tmp_path):
    arrays = [pixels(12, 20, seed=i) for i in range(3)] + [np.full((40, 30), 5, np.uint8)]
    data = load(folder_of(tmp_path, arrays))
    np.testing.assert_array_equal(rows(data)[:3], arrays[:3])
    assert (rows(data)[3] == 5).all()
    assert data.notes[0].startswith(
        "photos/: the images come in 2 sizes; each is resized and centre-cropped to 12 x 20"
    )


def test_resizing_covers_and_keeps_the_centre(tmp_path):
    wide = np.zeros((10, 40, 3), np.uint8)
    wide[:, 15:25] = 200
    folder_of(tmp_path, [wide, wide])
    assert (rows(load(tmp_path / "photos", size=(10, 10))) == 200).all()


@pytest.mark.parametrize(
    ("size", "expected"),
    [(None, (48, 64)), (32, (24, 32)), ((20, 30), (20, 30)), (160, (120, 160))],
)
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_large_photos_are_reduced(tmp_path, size, expected, suffix):
    """A smooth ramp stays the same ramp at any size, whichever way it was decoded."""
    ramp = np.broadcast_to(np.linspace(20, 220, 320), (240, 320)).astype(np.uint8)
    folder_of(tmp_path, [ramp, ramp], suffix)
    data = load(tmp_path / "photos", size=size)
    assert rows(data).shape == (2, *expected)
    h, w = expected
    if h * 4 == w * 3:
        exact = 20 + 200 * ((np.arange(w) + 0.5) * 320 / w - 0.5) / 319
        assert np.abs(rows(data)[0].mean(0) - exact)[2:-2].max() < 1.5
    assert ("give a size to choose another" in " ".join(data.notes)) == (size is None)


def test_a_senseless_size_is_refused(tmp_path):
    folder = folder_of(tmp_path, [pixels(4, 4)] * 2)
    for size in (0, -3, (3, 0)):
        with pytest.raises(InputError, match=r"size .*: must be a whole number of at least 1"):
            load(folder, size=size)
    with pytest.raises(InputError, match=r"--data\.size is for images or recordings, not for this"):
        load("digits", size=8)


def test_subfolders_are_classes(tmp_path):
    for i in range(6):
        save(
            tmp_path / "pets" / ("cat", "dog", "emu")[i % 3] / "deep" / f"{i}.png",
            np.full((3, 3), i, np.uint8),
        )
    data = load(tmp_path / "pets")
    assert data.classes == ("cat", "dog", "emu")
    assert data.labels is not None
    np.testing.assert_array_equal(rows(data)[:, 0, 0] % 3, data.labels)
    save(tmp_path / "pets/stray.png", pixels(3, 3))
    data = load(tmp_path / "pets")
    assert (data.classes, data.conditions) == ((), {})
    assert (
        "pets/: 1 images lie outside of the subfolders, so these are not used as classes."
        in data.notes
    )


def test_hidden_and_other_files_are_left_alone(tmp_path):
    folder = folder_of(tmp_path, [pixels(4, 4, seed=i) for i in range(3)])
    for name in (".hidden.png", ".git/x.png", "notes.txt", "__MACOSX/y.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(b"no image")
    assert len(rows(load(folder))) == 3
