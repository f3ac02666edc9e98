"""What an image file becomes, held to Pillow's own conversions and to closed forms."""

import numpy as np
import pytest
from image_files import folder_of, pixels, rows, save
from PIL import Image

from undiffuse.data import load
from undiffuse.data.images.decode import PixelFormat, read_image, read_image_header
from undiffuse.errors import InputError

DEEP = np.arange(65536, dtype=np.uint16).reshape(256, 256)


def test_every_sixteen_bit_grey_is_the_nearest_of_eight_bits(tmp_path):
    """Black stays black and white stays white: v 255 / 65535, rounded."""
    save(tmp_path / "deep.png", DEEP)
    shallow = read_image(tmp_path / "deep.png", PixelFormat(256, 256, 1, deep=False))[0][..., 0]
    np.testing.assert_array_equal(shallow, np.rint(DEEP.astype(np.float64) * 255 / 65535))
    assert (shallow[0, 0], shallow[-1, -1]) == (0, 255)


@pytest.mark.parametrize("channels", [2, 3, 4])
def test_sixteen_bits_among_others_are_that_grey_in_every_channel(tmp_path, channels):
    save(tmp_path / "deep.png", DEEP)
    found = read_image(tmp_path / "deep.png", PixelFormat(256, 256, channels, deep=False))[0]
    grey = np.rint(DEEP / 257)[..., None]
    opaque = np.full(grey.shape, 255)
    expected = np.concatenate([grey] * (1 if channels == 2 else 3) + [opaque], 2)[..., :channels]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_sixteen_bits_are_read_as_they_are(tmp_path, suffix):
    save(tmp_path / f"deep{suffix}", DEEP)
    found = read_image(tmp_path / f"deep{suffix}", PixelFormat(256, 256, 1, deep=True))[0]
    np.testing.assert_array_equal(found[..., 0], DEEP)


def test_the_bytes_of_sixteen_bits_may_be_in_either_order(tmp_path):
    for order in (">", "<"):
        save(tmp_path / "deep.tif", DEEP.astype(f"{order}u2"))
        found = read_image(tmp_path / "deep.tif", PixelFormat(256, 256, 1, deep=True))[0]
        np.testing.assert_array_equal(found[..., 0], DEEP)


def test_eight_bits_span_the_same_range_as_sixteen(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    save(tmp_path / "grey.png", grey)
    found = read_image(tmp_path / "grey.png", PixelFormat(16, 16, 1, deep=True))[0]
    np.testing.assert_array_equal(found[..., 0], np.rint(grey * (65535 / 255)))


def picture(mode):
    """An image of this mode with many values; transparent in places where the mode has alpha."""
    colour = Image.fromarray(pixels(9, 7, 4), "RGBA")
    if mode == "P":
        return colour.convert("RGB").quantize(16)
    if mode == "grey palette":
        return Image.fromarray(pixels(9, 7)).quantize(16)
    if mode == "transparent palette":
        clear = colour.convert("RGB").quantize(16)
        clear.info["transparency"] = 3
        return clear
    return (
        colour.convert("RGB").convert(mode) if mode in ("CMYK", "YCbCr") else colour.convert(mode)
    )


FILES = {
    "1": ".png",
    "L": ".png",
    "LA": ".png",
    "RGB": ".png",
    "RGBA": ".png",
    "P": ".png",
    "grey palette": ".png",
    "transparent palette": ".png",
    "CMYK": ".tif",
    "YCbCr": ".tif",
}


@pytest.mark.parametrize("mode", FILES)
@pytest.mark.parametrize("wanted", ["L", "LA", "RGB", "RGBA"])
def test_kinds_of_pixels_are_converted_as_pillow_does(tmp_path, mode, wanted):
    path = tmp_path / f"x{FILES[mode]}"
    picture(mode).save(path)
    with Image.open(path) as image:
        full = image.convert("RGBA") if image.mode == "P" else image
        expected = np.asarray(full.convert(wanted)).reshape(9, 7, -1)
    found = read_image(path, PixelFormat(9, 7, expected.shape[2], deep=False))[0]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("mode", "colour", "alpha"),
    [
        ("1", False, False),
        ("L", False, False),
        ("LA", False, True),
        ("RGB", True, False),
        ("RGBA", True, True),
        ("P", True, False),
        ("grey palette", False, False),
        ("transparent palette", True, True),
        ("CMYK", True, False),
    ],
)
def test_the_header_tells_colour_and_alpha(tmp_path, mode, colour, alpha):
    picture(mode).save(tmp_path / f"x{FILES[mode]}")
    header = read_image_header(tmp_path / f"x{FILES[mode]}")
    assert (header.height, header.width) == (9, 7)
    assert (header.colour, header.alpha, header.deep) == (colour, alpha, False)


def test_without_a_common_size_it_is_the_median(tmp_path):
    heights, widths = [10, 14, 30, 34, 50], [40, 12, 20, 28, 22]
    folder = folder_of(tmp_path, [pixels(h, w) for h, w in zip(heights, widths)])
    assert rows(load(folder)).shape == (5, int(np.median(heights)), int(np.median(widths)))


@pytest.mark.parametrize(("bad", "accepted"), [(1, True), (2, False)])
def test_one_file_in_twenty_may_be_unreadable(tmp_path, bad, accepted):
    """5 % exactly is accepted; 2 of 39 is more."""
    total = 20 if accepted else 39
    folder = folder_of(tmp_path, [pixels(4, 4, seed=i) for i in range(total)])
    for i in range(bad):
        (folder / f"{i}.png").write_bytes(b"")
    if accepted:
        assert len(rows(load(folder))) == total - bad
    else:
        with pytest.raises(InputError, match="2 of 39 images could not be read"):
            load(folder)


def test_the_size_of_half_of_the_images_is_common(tmp_path):
    folder = folder_of(tmp_path, [pixels(h, w) for h, w in [(9, 8), (9, 8), (40, 30), (50, 20)]])
    assert rows(load(folder)).shape == (4, 9, 8)
