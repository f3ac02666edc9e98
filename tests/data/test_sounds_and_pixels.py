"""What recordings and images of a folder become, and what is said, at the limits of each rule."""

from __future__ import annotations

import io
import os
import struct

import numpy as np
import pytest
from image_files import folder_of, pixels
from PIL import Image

from undiffuse.data import complete, conform, load
from undiffuse.data.decoding import Unreadable
from undiffuse.data.images.decode import PixelFormat, read_image, read_image_header, read_with_alpha
from undiffuse.data.recordings.decode import (
    SampleFormat,
    _whole_wav,
    plan_recordings,
    read_sample_format,
    read_samples,
)
from undiffuse.errors import InputError

pytest.importorskip("soundfile")

MONO, STEREO = SampleFormat(8000, 1, "int16"), SampleFormat(44100, 2, "float32")


@pytest.mark.parametrize(
    ("headers", "wanted", "target", "notes"),
    [
        ([MONO] * 3, None, MONO, []),
        (
            [MONO, MONO, STEREO],
            None,
            MONO,
            [
                "x/: 1 of 3 recordings are resampled to 8,000 Hz, as most are.",
                "x/: 1 of 3 recordings are mixed to mono, as most are.",
                "x/: 1 of 3 recordings are converted to int16 samples, as most are.",
            ],
        ),
        (
            [MONO, MONO, SampleFormat(8000, 2, "int16")],
            STEREO,
            STEREO,
            [
                "x/: 3 of 3 recordings are resampled to 44,100 Hz, as the run's are.",
                "x/: 2 of 3 recordings are mixed to stereo, as the run's are.",
                "x/: 3 of 3 recordings are converted to float32 samples, as the run's are.",
            ],
        ),
        (
            [SampleFormat(8000, 4, "int16"), SampleFormat(9000, 3, "int16")],
            None,
            SampleFormat(9000, 4, "int16"),  # of as many, the greater
            [
                "x/: 1 of 2 recordings are resampled to 9,000 Hz, as most are.",
                "x/: 1 of 2 recordings are mixed to 4 channels, as most are.",
            ],
        ),
    ],
)
def test_recordings_become_what_most_are_or_what_the_run_s_are(headers, wanted, target, notes):
    assert plan_recordings("x/", dict(enumerate(headers)), wanted) == (target, notes)


def riff(samples, *, more=b"", riff_size=None, data_size=None, tail=b""):
    """A WAV file of 16-bit mono at 8,000 Hz, with further chunks before its data."""
    body = samples.astype("<i2").tobytes()
    chunks = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16) + more
    data = b"data" + struct.pack("<I", len(body) if data_size is None else data_size) + body
    size = 4 + len(chunks) + len(data) + len(tail)
    head = b"RIFF" + struct.pack("<I", size if riff_size is None else riff_size) + b"WAVE"
    return head + chunks + data + tail


SAMPLES = np.arange(-500, 500, dtype=np.int16)
LIST = b"LIST" + struct.pack("<I", 5) + b"INFO?" + b"\0"  # of an odd length, and so padded


@pytest.mark.parametrize("more", [b"", LIST, LIST * 3])
def test_a_recording_from_a_pipe_is_read_behind_any_chunks(tmp_path, more):
    (tmp_path / "x.wav").write_bytes(riff(SAMPLES, more=more, riff_size=0, data_size=0xFFFFFFFF))
    whole = _whole_wav(tmp_path / "x.wav")
    assert isinstance(whole, io.BytesIO)
    assert whole.getvalue() == riff(SAMPLES, more=more)
    assert read_sample_format(tmp_path / "x.wav") == MONO
    np.testing.assert_array_equal(read_samples(tmp_path / "x.wav", MONO)[:, 0], SAMPLES)
    (tmp_path / "y.wav").write_bytes(riff(SAMPLES, more=more))
    assert _whole_wav(tmp_path / "y.wav") == os.fsencode(tmp_path / "y.wav")


def test_a_file_may_lack_the_byte_that_pads_it_and_no_more(tmp_path):
    whole = riff(SAMPLES, tail=LIST)
    for cut, readable in ((0, True), (1, True), (2, False), (500, False)):
        (tmp_path / "x.wav").write_bytes(whole[: len(whole) - cut])
        if readable:
            assert _whole_wav(tmp_path / "x.wav") == os.fsencode(tmp_path / "x.wav")
        else:
            with pytest.raises(Unreadable, match="cut short"):
                _whole_wav(tmp_path / "x.wav")
    (tmp_path / "x.wav").write_bytes(b"RIFX" + whole[4:900])
    assert _whole_wav(tmp_path / "x.wav") == os.fsencode(tmp_path / "x.wav")


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".AIFF", ".mp3", ".ogg"])
def test_fewer_samples_than_announced_are_a_cut_where_the_format_knows_their_number(
    tmp_path, suffix, monkeypatch
):
    class File:
        samplerate, frames = 8000, 1000

        def __init__(self, path):
            self.samples = SAMPLES[: int(os.fsdecode(path).removesuffix(suffix).rpartition("_")[2])]

        def __enter__(self):
            return self

        def __exit__(self, *problem):
            pass

        def read(self, dtype, always_2d):
            return (self.samples[:, None] / 32768).astype(dtype)

    monkeypatch.setattr("soundfile.SoundFile", File)
    known = suffix.lower() in (".wav", ".flac", ".aiff")
    for length in (0, 1, 999, 1000):
        path = tmp_path / f"x_{length}{suffix}"
        path.write_bytes(b"whatever")
        if length == 0 or (known and length < 1000):
            with pytest.raises(Unreadable, match="empty" if length == 0 else "cut short"):
                read_samples(path, MONO)
        else:
            np.testing.assert_array_equal(read_samples(path, MONO)[:, 0], SAMPLES[:length])


# --- images


@pytest.fixture
def greys(tmp_path):
    """A run of 8-bit grey images of 6 x 5, and a folder for new ones."""
    (tmp_path / "run").mkdir()
    (tmp_path / "new").mkdir()
    data = load(folder_of(tmp_path / "run", [pixels(6, 5, seed=i) for i in range(9)]))
    return data.config(), tmp_path / "new"


def test_each_change_to_new_images_is_counted(greys):
    config, folder = greys
    for i, shape in enumerate([(6, 5), (6, 5, 3), (12, 10), (9, 9, 3)]):
        Image.fromarray(pixels(*shape, seed=i)).save(folder / f"{i}.png")
    assert conform(folder, config).notes == (
        "new/: 2 of 4 images are resized and centre-cropped to the run's 6 x 5 (height x width).",
        "new/: 2 of 4 images are turned into the run's kind of pixels.",
    )
    (folder / "0.png").write_bytes(b"torn")
    rows = conform(folder, config)
    assert rows.names == ["0.png", "1.png", "2.png", "3.png"]
    taken, problems = rows.readable.take(np.array([2, 0]))
    assert list(problems) == [1]
    assert problems[1].reason == "could not be read"
    assert not taken[1].any()
    for i in range(1, 4):
        (folder / f"{i}.png").write_bytes(b"torn")
    told = []
    with pytest.raises(InputError, match=r"new/: 4 of 4 images could not be read \(.*\); repair"):
        conform(folder, config, progress=lambda *step: told.append(step))
    assert told[-1] == (4, 4, "looking at new/")


def test_given_images_have_the_size_and_the_levels_of_the_run(greys, tmp_path):
    config, folder = greys
    half = np.stack([pixels(6, 5), np.repeat([[0], [1], [255]], 2, 0) * np.ones((6, 5))], -1)
    Image.fromarray(half.astype(np.uint8)).save(folder / "a.png")
    given = complete(folder, config)
    np.testing.assert_array_equal(given.known[0], half[..., 1] > 0)
    np.testing.assert_array_equal(given.rows[given.known], half[..., 0][half[..., 1] > 0])
    assert given.rows.shape == (1, 6, 5)
    (folder / "b.png").write_bytes(b"torn")
    with pytest.raises(InputError, match=r"b\.png: could not be read as an image; repair"):
        complete(folder, config)
    (tmp_path / "dark").mkdir()
    dark = load(
        folder_of(tmp_path / "dark", [np.minimum(pixels(6, 5, seed=i), 9) for i in range(9)])
    )
    limit = np.stack([np.full((6, 5), 9), np.full((6, 5), 255)], -1).astype(np.uint8)
    limit[0, 0] = (77, 0)  # transparent: whatever it is
    Image.fromarray(limit).save(tmp_path / "limit.png")
    assert int(complete(tmp_path / "limit.png", dark.config()).known.sum()) == 29
    limit[0, 0] = (10, 1)
    Image.fromarray(limit).save(tmp_path / "limit.png")
    with pytest.raises(InputError, match=r"has values up to 10, and the run's images 9; correct"):
        complete(tmp_path / "limit.png", dark.config())
    deep = load(folder_of(tmp_path / "deep", [pixels(6, 5, seed=i, dtype=np.uint16)
                                              for i in range(9)]))  # fmt: skip
    with pytest.raises(InputError, match="the run's images are not 8-bit grey or RGB"):
        complete(tmp_path / "limit.png", deep.config())


@pytest.mark.parametrize("grey", [True, False])
def test_colour_and_transparency_are_read_apart(tmp_path, grey):
    values = pixels(6, 5, 4)
    Image.fromarray(values).save(tmp_path / "x.png")
    found, alpha = read_with_alpha(tmp_path / "x.png", grey=grey)
    np.testing.assert_array_equal(alpha, values[..., 3:])
    if grey:
        luma = values[..., :3] @ np.array([0.299, 0.587, 0.114])  # ITU-R 601-2
        assert found.shape == (6, 5, 1)
        assert np.abs(found[..., 0] - luma).max() <= 1
    else:
        np.testing.assert_array_equal(found, values[..., :3])


@pytest.mark.parametrize(("height", "width"), [(4, 4), (2, 4), (4, 2)])
def test_sixteen_bits_are_averaged_as_they_are(tmp_path, height, width):
    """A flat image of any size is as flat after it is made smaller."""
    Image.fromarray(np.full((16, 16), 40_123, np.uint16)).save(tmp_path / "x.png")
    header = read_image_header(tmp_path / "x.png")
    assert (header.height, header.width, header.deep, header.colour) == (16, 16, True, False)
    assert header.frames == (0,)
    assert not header.deep_colour
    found = read_image(tmp_path / "x.png", PixelFormat(height, width, 1, deep=True))[0]
    assert (found.shape, found.dtype) == ((height, width, 1), np.uint16)
    assert (found == 40_123).all()


@pytest.mark.filterwarnings("ignore")  # Pillow's
def test_pixels_that_only_an_array_holds_and_too_many_of_them_are_said(tmp_path, monkeypatch):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "f.tif")
    assert read_image_header(tmp_path / "f.tif").wide == "float32"
    for target in (PixelFormat(4, 4, 1, deep=True), PixelFormat(4, 4, 3, deep=False)):
        with pytest.raises(Unreadable, match="real pixels, which the others have not"):
            read_image(tmp_path / "f.tif", target)
    (tmp_path / "x.tif").write_bytes(b"II*\0 torn")
    with pytest.raises(Unreadable, match="damaged, or pixels of a kind that only an array holds"):
        read_image_header(tmp_path / "x.tif")
    (tmp_path / "x.png").write_bytes(b"torn")
    with pytest.raises(Unreadable) as torn:
        read_image_header(tmp_path / "x.png")
    assert str(torn.value) == ""
    Image.fromarray(pixels(10, 100)).save(tmp_path / "y.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert read_image_header(tmp_path / "y.png").width == 100
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 999)
    with pytest.raises(Unreadable, match="over 999 pixels, which may be a decompression bomb"):
        read_image_header(tmp_path / "y.png")
