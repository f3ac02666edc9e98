"""Folders as people have them: copied, with strays, thumbnails, parts, and files of other sorts."""

import os
import shutil
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse.data import load
from undiffuse.data.load import complete, conform
from undiffuse.errors import InputError


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("UNDIFFUSE_CACHE", str(tmp_path / "cache"))


def noise(shape=(8, 8), seed=0, high=255):
    return np.random.default_rng(seed).integers(0, high, shape, np.uint8)


def photos(folder, count=12, **more):
    folder.mkdir(parents=True)
    for i in range(count):
        Image.fromarray(noise(seed=i, **more)).save(folder / f"{i:02d}.png")
    return folder


def rows(data):
    return data.loaded.rows.take(np.arange(len(data.loaded.rows)))


def said(data, sentence):
    return any(sentence in note for note in data.notes)


def test_a_copy_is_the_same_data_and_other_pixels_are_not(tmp_path):
    """Names, sizes and times alike, pixels not: two folders share neither fingerprint nor cache."""
    first = photos(tmp_path / "a" / "x")
    loaded = load(first)
    copy = shutil.copytree(first, tmp_path / "b" / "x")
    for file in copy.iterdir():
        os.utime(file, ns=(1, 1))
    assert load(copy).fingerprint == loaded.fingerprint
    other = tmp_path / "c" / "x"
    other.mkdir(parents=True)
    for file in sorted(first.iterdir()):
        bmp = Image.open(file)
        bmp.save(file.with_suffix(".bmp"))
        Image.eval(bmp, lambda v: 255 - v).save(other / f"{file.stem}.bmp")
        os.unlink(file)
    ours, theirs = load(first), load(other)
    for file in [*first.iterdir(), *other.iterdir()]:
        os.utime(file, ns=(10**18, 10**18))
    assert sorted(f.stat().st_size for f in first.iterdir()) == sorted(
        f.stat().st_size for f in other.iterdir()
    )
    assert ours.fingerprint != theirs.fingerprint
    np.testing.assert_array_equal(rows(ours), 255 - rows(theirs))


def test_a_file_that_is_written_anew_at_once_is_seen(tmp_path):
    folder = photos(tmp_path / "x")
    before = load(folder).fingerprint
    status = (folder / "00.png").stat()
    (folder / "00.png").write_bytes((folder / "01.png").read_bytes())
    os.utime(folder / "00.png", ns=(status.st_atime_ns, status.st_mtime_ns))
    assert load(folder).fingerprint != before
    np.testing.assert_array_equal(rows(load(folder))[0], rows(load(folder))[1])


def test_contents_are_hashed_once(tmp_path, monkeypatch):
    from undiffuse.data import folder as module

    folder = photos(tmp_path / "x")
    monkeypatch.setattr(module, "_FRESH", -1e12)
    load(folder)
    monkeypatch.setattr(module, "_content", lambda path: pytest.fail("hashed twice"))
    assert len(load(folder)) > 0


def with_heic(folder):
    for i in range(30):
        (folder / f"{i}.HEIC").write_bytes(b"x")


def without_suffix(folder):
    for i in range(3):
        shutil.copy(folder / "00.png", folder / f"scan{i}")


def thumbnails(folder):
    for name in ("@eaDir", "#recycle", ".hidden", "__MACOSX"):
        (folder / name).mkdir()
        shutil.copy(folder / "00.png", folder / name / "thumb.png")


def unreadable(folder):
    (folder / "00.png").write_bytes(b"\x89PNG broken")


def sounds(folder):
    (folder / "a.wav").write_bytes(b"RIFF")


def hidden_files(folder):
    for name in (".DS_Store", "._00.png", ".other.png"):
        shutil.copy(folder / "00.png", folder / name)


AMONG = {
    "hidden files": (hidden_files, 12, "2 hidden files are not read (2 .png)."),
    "photos of a telephone": (with_heic, 12, "30 others are not read (30 .HEIC)"),
    "files without a suffix": (without_suffix, 12, "3 others are not read (3 no suffix)"),
    "thumbnails of a server": (
        thumbnails,
        12,
        "4 hidden folders are not looked into (1 #recycle, 1 .hidden, 1 @eaDir, 1 __MACOSX).",
    ),
    "one of twelve that is broken": (unreadable, 11, "1 of 12 images could not be read"),
    "a stray of another kind": (sounds, 12, "1 other file is not read (1 .wav)"),
}


@pytest.mark.parametrize("name", AMONG)
def test_what_lies_among_the_files_is_left_out_and_said(tmp_path, name):
    add, count, sentence = AMONG[name]
    folder = photos(tmp_path / "x")
    assert not said(load(folder), sentence)
    add(folder)
    data = load(folder)
    assert len(data.loaded.rows) == count
    assert said(data, sentence)
    assert len(conform(folder, data.config())) >= count


def test_train_and_test_are_no_classes(tmp_path):
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            photos(tmp_path / "pets" / part / name, 3)
    data = load(tmp_path / "pets")
    assert data.classes == ("cat", "dog")
    assert said(data, "pets/: train/ is trained on, test/ is kept for undiffuse evaluate.")
    assert load(tmp_path / "pets" / "train").classes == ("cat", "dog")
    for name in ("a", "b"):
        photos(tmp_path / "one" / "inner" / name, 3)
    assert load(tmp_path / "one").classes == ("a", "b")


def test_pages_and_colours_of_sixteen_bits_are_said(tmp_path):
    (tmp_path / "x").mkdir()
    for i in range(12):
        pages = [Image.fromarray(noise(seed=i + k)) for k in range(3)]
        pages[0].save(tmp_path / "x" / f"{i}.tif", save_all=True, append_images=pages[1:])
    data = load(tmp_path / "x")
    assert len(data.loaded.rows) == 36
    assert said(data, "12 of 12 images hold several pages or frames, 36 in all; each is a row")
    deep = photos(tmp_path / "deep", 3, shape=(8, 8, 3))
    for file in deep.iterdir():
        file.write_bytes(
            png_of_sixteen_bits(np.random.default_rng(0).integers(0, 2**16, (8, 8, 3)))
        )
    assert said(load(deep), "3 of 3 images are 16-bit colour, read as 8 bits")


def png_of_sixteen_bits(values):
    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    height, width, _ = values.shape
    lines = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    return (
        b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    )


def scans(folder, values):
    folder.mkdir()
    for i, image in enumerate(values):
        Image.fromarray(image).save(folder / f"{i:02d}.tif")
    return folder


def tiff(values):
    """A TIFF file of (H, W) whole numbers, with or without a sign: Pillow writes fewer types."""
    (height, width), bits = values.shape, 8 * values.itemsize
    sign = 2 if values.dtype.kind == "i" else 1
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 277: 1, 278: height}
    tags |= {279: values.nbytes, 339: sign}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    end = struct.pack("<H", len(tags)) + entries + b"\0" * 4
    return b"II*\0" + struct.pack("<I", 8 + values.nbytes) + values.tobytes() + end


@pytest.mark.parametrize("value", [-(2**31), -1000, -1, 65_536, 2**31 - 1])
@pytest.mark.parametrize("dtype", [np.int32, np.float32])
def test_pixels_that_sixteen_bits_do_not_hold_are_kept_and_come_back(tmp_path, value, dtype):
    """As the same array is modelled; what a run writes is read by it again, and nothing clipped."""
    values = np.stack([noise(seed=i) for i in range(12)]).astype(dtype)
    values[:, :3] = value
    data = load(scans(tmp_path / "ct", values))
    np.testing.assert_array_equal(rows(data), values)
    assert rows(data).dtype == dtype
    assert data.transform.description == load(values).transform.description
    assert said(data, "which are kept as they are; a folder of samples will hold TIFF files")
    data.form.save(values, tmp_path / "out")
    again, problems = conform(tmp_path / "out", data.config()).readable.take(np.arange(12))
    np.testing.assert_array_equal(again, values)
    assert not problems


def test_signed_pixels_of_16_bits_and_more_than_a_sign_leaves(tmp_path):
    """TIFF's own signed 16 bits; 32 bits without a sign, which would turn negative, are refused."""
    values = np.random.default_rng(0).integers(-1000, 1000, (12, 8, 8))
    for i, image in enumerate(values):
        (tmp_path / f"{i:02d}.tif").write_bytes(tiff(image.astype("<i2")))
    np.testing.assert_array_equal(rows(load(tmp_path)), values)
    for i, image in enumerate(values):
        (tmp_path / f"{i:02d}.tif").write_bytes(tiff((image + 2**31).astype("<u4")))
    with pytest.raises(InputError, match=r"pixels above 2,147,483,647.*give \.npy"):
        load(tmp_path)


def test_other_pixels_among_signed_ones_and_nan_cost_their_own_file(tmp_path):
    values = np.random.default_rng(0).normal(0, 400, (39, 8, 8)).astype(np.float32)
    for bad in (noise(), np.full((8, 8), np.nan, np.float32)):
        folder = scans(tmp_path / str(bad.dtype), values)
        Image.fromarray(bad).save(folder / "x.tif")
        data = load(folder)
        assert len(data.loaded.rows) == 39
        assert said(data, "1 of 40 images could not be read (x.tif:")


@pytest.mark.parametrize(("dtype", "greatest"), [(np.uint8, 2), (np.uint16, 3795)])
def test_levels_of_a_folder_are_those_in_use(tmp_path, dtype, greatest):
    """As those of the same array; and what a run writes is read by it again."""
    images = np.random.default_rng(0).integers(0, greatest + 1, (12, 8, 8)).astype(dtype)
    images[0, 0, 0] = greatest
    (tmp_path / "x").mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(tmp_path / "x" / f"{i:02d}.png")
    data = load(tmp_path / "x")
    assert data.transform.description == load(images).transform.description
    assert data.form.levels == greatest + 1
    data.form.save(images, tmp_path / "out")
    again = conform(tmp_path / "out", data.config())
    taken, problems = again.readable.take(np.arange(12))
    np.testing.assert_array_equal(taken, images)
    assert not problems
    Image.fromarray(np.full((8, 8), greatest + 1, dtype)).save(tmp_path / "out" / "00000.png")
    problems = conform(tmp_path / "out", data.config()).readable.take(np.arange(12))[1]
    assert problems[0].nats == -np.inf
    assert f"up to {greatest:,}" in problems[0].reason


def test_dark_images_come_to_unit_scale(tmp_path):
    """12 bits with a background near 300: mean 0 and deviation 1, where [-1, 1] had mean -0.84."""
    rng = np.random.default_rng(0)
    images = np.clip(300 + 15 * rng.normal(size=(40, 8, 8)), 0, 4095).astype(np.uint16)
    images[:, 4, 4] = 2000
    data = load(images)
    x, _ = data.transform.encode(torch.from_numpy(images.astype(np.int32)), torch.zeros_like)
    assert abs(float(x.mean())) < 0.1 < 0.9 < float(x.std()) < 1.1
    np.testing.assert_array_equal(data.transform.decode(x), images)
    plain = load(noise((40, 8, 8)))
    assert plain.transform.levels == 256


def test_a_given_image_is_turned_upright(tmp_path):
    folder = photos(tmp_path / "x", shape=(8, 8, 3))
    whole = np.concatenate([noise((8, 8, 3)), np.full((8, 8, 1), 255, np.uint8)], 2)
    whole[6:, :, 3] = 0
    upright = Image.fromarray(whole)
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 3
    upside_down = upright.transpose(Image.Transpose.ROTATE_180)
    upside_down.save(tmp_path / "turned.png", exif=exif)
    config = load(folder).config()
    one, other = (complete(tmp_path / f"{n}.png", config) for n in ("upright", "turned"))
    np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.known, other.known)
    assert one.known[0, :6].all()
    assert not one.known[0, 6:].any()


def wav(path, samples, riff=None, data=None):
    body = samples.astype("<i2").tobytes()
    riff = 36 + len(body) if riff is None else riff
    format_ = struct.pack("<IHHIIHH", 16, 1, 1, 8000, 16000, 2, 16)
    head = b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt " + format_
    data = len(body) if data is None else data
    path.write_bytes(head + b"data" + struct.pack("<I", data) + body)


HEADERS = {
    "sox": (0x7FFFF024, 0x7FFFF000),
    "arecord": (0x80000024, 0x80000000),
    "ffmpeg": (0xFFFFFFFF, 0xFFFFFFFF),
    "zeros": (0, 0),
    "no data length": (None, 0),
}


@pytest.mark.parametrize("name", HEADERS)
def test_recordings_from_a_pipe_are_whole(tmp_path, name):
    pytest.importorskip("soundfile")
    for folder, sizes in (("piped", HEADERS[name]), ("right", (None, None))):
        (tmp_path / folder).mkdir()
        for i in range(12):
            samples = 9000 * np.sin(np.arange(4000 + i) / (9 + i))
            wav(tmp_path / folder / f"{i:02d}.wav", samples, *sizes)
    np.testing.assert_array_equal(rows(load(tmp_path / "piped")), rows(load(tmp_path / "right")))


def test_a_recording_that_is_cut_short_is_none_from_a_pipe(tmp_path):
    pytest.importorskip("soundfile")
    (tmp_path / "x").mkdir()
    for i in range(12):
        wav(tmp_path / "x" / f"{i:02d}.wav", 9000 * np.sin(np.arange(4000) / (9 + i)))
    cut = (tmp_path / "x" / "03.wav").read_bytes()[:3000]
    (tmp_path / "x" / "03.wav").write_bytes(cut)
    assert said(load(tmp_path / "x"), "1 of 12 recordings could not be read (03.wav: cut short)")


def test_short_recordings_do_not_decide_the_window(tmp_path):
    pytest.importorskip("soundfile")
    (tmp_path / "x").mkdir()
    for i in range(20):
        wav(tmp_path / "x" / f"{i}.wav", 9000 * np.sin(np.arange(16000) / (9 + i)))
    for i in range(5):
        wav(tmp_path / "x" / f"click{i}.wav", noise((40,), seed=i).astype(np.int16))
    data = load(tmp_path / "x")
    assert data.loaded.facts["window"] == 8000
    assert said(data, "5 of 25 recordings are shorter than that; silence is added")
