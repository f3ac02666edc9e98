"""Recordings: resampling, windows and round trips held to laws; real files written by soundfile."""

import builtins
import json
import math

import numpy as np
import pytest
import torch

from undiffuse.data import load
from undiffuse.data.arrays.transform import measure_array
from undiffuse.data.kind import KINDS
from undiffuse.data.load import read
from undiffuse.data.recordings.decode import SampleFormat, read_sample_format, read_samples
from undiffuse.data.recordings.form import RecordingForm
from undiffuse.data.recordings.windows import Windows
from undiffuse.errors import InputError
from undiffuse.options import ReadingOptions

sf = pytest.importorskip("soundfile")


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("UNDIFFUSE_CACHE", str(folder))
    return folder


def sine(frequency, rate, seconds=0.4, phase=0.3):
    return np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate + phase).astype(
        np.float32
    )[:, None]


def tones(folder, count, *, rate=8000, seconds=0.5, suffix="wav", **options):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        sf.write(
            folder / f"tone_{i:02d}.{suffix}",
            0.5 * sine(200 + 20 * i, rate, seconds),
            rate,
            **options,
        )


def read_recordings(folder, size=None, progress=None):
    return read(folder, 0, ReadingOptions(size=size), progress)


def rows_of(loaded):
    return loaded.rows.take(np.arange(len(loaded.rows)))


def transform_of(loaded):
    return loaded.make_transform(lambda: iter([rows_of(loaded)]))


def window_transform(rows):
    """The transform that `read_recordings` measures on windows (B, L) or (B, L, C)."""
    channels = rows.shape[2] if rows.ndim > 2 else 1
    return measure_array(
        iter([rows]),
        name="x/",
        row_shape=rows.shape[1:],
        axes="T" if channels == 1 else "TC",
        dtype=rows.dtype.name,
        bounded=True,
    )


def test_windows_cover_recordings_evenly_without_meeting():
    lengths = (100, 64, 10, 257)
    samples = np.arange(sum(lengths), dtype=np.float32)[:, None] + 1
    windows = Windows(samples, lengths, 32)
    rows = windows.take(np.arange(len(windows)))
    assert windows.groups.tolist() == [0] * 3 + [1] * 2 + [2] + [3] * 8
    assert rows.shape == (14, 32)
    used = rows[rows > 0]
    assert len(np.unique(used)) == len(used)
    ends = np.cumsum(lengths)
    for row, group in zip(rows, windows.groups):
        inside = row[row > 0]
        assert inside.min() > ends[group] - lengths[group]
        assert inside.max() <= ends[group]
        np.testing.assert_array_equal(np.diff(inside), 1)
    np.testing.assert_array_equal(rows[5], np.append(np.arange(165, 175), np.zeros(22)))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("scale", [1, 30, 2000])
def test_every_sixteen_bit_sample_comes_back(channels, scale):
    rng = np.random.default_rng(0)
    rows = np.clip(rng.normal(12.3, scale, (8, 512, channels)), -32768, 32767).astype(np.int16)
    rows[0, 0], rows[0, 1] = -32768, 32767
    rows = rows[..., 0] if channels == 1 else rows
    transform = window_transform(rows)
    torch.manual_seed(0)
    x, _ = transform.encode(torch.from_numpy(rows), torch.randn_like)
    assert x.shape == (8, channels, 512)
    np.testing.assert_array_equal(transform.decode(x), rows)
    assert transform.decode(torch.full((1, channels, 512), 1e9)).max() == 32767
    assert transform.decode(torch.full((1, channels, 512), math.nan)).dtype == np.int16


def test_the_correction_of_stereo_windows_is_the_log_determinant():
    """x is a rearrangement of (row - mean) / std, one mean and std for each channel."""
    rows = np.random.default_rng(0).normal(0.1, (0.2, 0.05), (40, 3, 2)).astype(np.float32)
    transform = window_transform(rows)
    x, correction = transform.encode(torch.from_numpy(rows), torch.zeros_like)
    mean, std = rows.mean((0, 1), dtype=np.float64), rows.std((0, 1), dtype=np.float64)
    np.testing.assert_allclose(correction, -3 * np.log(std).sum(), rtol=1e-6)
    np.testing.assert_allclose(x, ((rows - mean) / std).transpose(0, 2, 1), atol=1e-5)
    np.testing.assert_allclose(transform.decode(x), rows, atol=1e-6)


def test_decoded_windows_stay_in_the_range_of_the_training_windows():
    rows = np.random.default_rng(0).normal(size=(9, 30, 2)).astype(np.float32)
    transform = window_transform(rows)
    for far, end in ((-1e9, rows.min((0, 1))), (1e9, rows.max((0, 1)))):
        decoded = transform.decode(torch.full((1, 2, 30), far))
        np.testing.assert_array_equal(decoded, np.broadcast_to(end, (1, 30, 2)))
    assert np.isfinite(transform.decode(torch.full((1, 2, 30), math.nan))).all()


def test_wav_files_are_read_as_they_are_and_written_at_their_rate(tmp_path):
    rng = np.random.default_rng(0)
    written = {}
    for name in ("a", "b", "c"):
        written[name] = rng.integers(-3000, 3000, (800, 2)).astype(np.int16)
        sf.write(tmp_path / f"{name}.wav", written[name], 11025, subtype="PCM_16")
    loaded = read_recordings(tmp_path, size=400)
    rows = rows_of(loaded)
    assert rows.shape == (6, 400, 2)
    np.testing.assert_array_equal(rows.reshape(3, 800, 2), np.stack(list(written.values())))
    transform = transform_of(loaded)
    x, _ = transform.encode(torch.from_numpy(rows), torch.randn_like)
    assert transform.shape == (2, 400)
    assert x.mean().item() == pytest.approx(0, abs=1e-3)
    assert x.std().item() == pytest.approx(1, abs=1e-3)
    out = tmp_path / "out"
    loaded.form.save(transform.decode(x), out, labels=["x/y"] * 6)
    names = sorted(path.name for path in out.iterdir())
    assert names == [f"{i:05d}-x%2Fy.wav" for i in range(6)]
    back, rate = sf.read(out / names[3], dtype="int16")
    assert rate == 11025 == loaded.form.rate
    assert sf.info(out / names[3]).subtype == "PCM_16"
    np.testing.assert_array_equal(back, rows[3])


def test_float_files_stay_float(tmp_path):
    values = np.random.default_rng(1).normal(size=(4, 256)).astype(np.float32) * 0.6
    for i, value in enumerate(values):
        sf.write(tmp_path / f"{i}.wav", value, 8000, subtype="FLOAT")
    loaded = read_recordings(tmp_path)
    np.testing.assert_array_equal(rows_of(loaded), values)
    transform = transform_of(loaded)
    x, _ = transform.encode(torch.from_numpy(values), torch.randn_like)
    np.testing.assert_allclose(transform.decode(x), values, atol=1e-6)
    loaded.form.save(values, tmp_path / "out.npz", labels=np.arange(4))
    with np.load(tmp_path / "out.npz", allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["data"], values)
        assert archive["rate"] == 8000
        assert archive["labels"].tolist() == [0, 1, 2, 3]
    loaded.form.save(values, tmp_path / "wavs")
    np.testing.assert_array_equal(
        sf.read(tmp_path / "wavs" / "00002.wav", dtype="float32")[0], values[2]
    )


@pytest.mark.parametrize(("suffix", "tolerance"), [("flac", 1e-4), ("ogg", 0.1), ("mp3", 0.1)])
def test_compressed_files_are_read(tmp_path, suffix, tolerance):
    if suffix.upper() not in sf.available_formats():
        pytest.skip("this libsndfile does not write the format")
    tones(tmp_path / "x", 3, rate=16000, seconds=1.0, suffix=suffix)
    loaded = read_recordings(tmp_path / "x", size=8000)
    rows = rows_of(loaded) / 32768
    expected = np.concatenate(
        [0.5 * sine(200 + 20 * i, 16000, 1.0).reshape(2, 8000) for i in range(3)]
    )
    assert len(rows) == 6
    np.testing.assert_allclose(rows[:, 2000:6000], expected[:, 2000:6000], atol=tolerance)


def test_subfolders_are_classes(tmp_path):
    tones(tmp_path / "no", 2)
    tones(tmp_path / "yes" / "deeper", 3, suffix="flac")
    loaded = read_recordings(tmp_path, size=2000)
    assert loaded.classes == ("no", "yes")
    assert loaded.labels.tolist() == [0] * 4 + [1] * 6
    tones(tmp_path, 1)
    loaded = read_recordings(tmp_path, size=2000)
    assert loaded.labels is None
    assert any("1 recordings lie outside of the subfolders" in note for note in loaded.notes)


def test_the_most_common_rate_and_channels_win_and_it_is_said(tmp_path):
    tones(tmp_path / "x", 5, rate=8000)
    sf.write(tmp_path / "x" / "z_fast.wav", 0.5 * np.repeat(sine(300, 44100, 0.5), 2, 1), 44100)
    loaded = read_recordings(tmp_path / "x", size=4000)
    assert (loaded.form.rate, loaded.form.channels) == (8000, 1)
    expected = 0.5 * sine(300, 8000, 0.5)[:, 0]
    np.testing.assert_allclose(
        rows_of(loaded)[-1][1000:3000] / 32768, expected[1000:3000], atol=1e-3
    )
    assert "x/: 1 of 6 recordings are resampled to 8,000 Hz, as most are." in loaded.notes
    assert "x/: 1 of 6 recordings are mixed to mono, as most are." in loaded.notes


def test_channels_are_mixed_by_their_mean_and_rounded_and_clipped(tmp_path):
    """1.5 is louder than 16 bits hold; mono among stereo is on both sides."""
    one, two = (SampleFormat(rate=8000, channels=n, dtype="int16") for n in (1, 2))
    stereo = np.tile(np.float32([[0.5, -0.25], [1.75, 1.25], [-3, -3]]), (20, 1))
    sf.write(tmp_path / "a.wav", stereo, 8000, subtype="FLOAT")
    sf.write(tmp_path / "b.wav", stereo[:, 1] / 100, 8000, subtype="FLOAT")
    mono = read_samples(tmp_path / "a.wav", one)
    np.testing.assert_array_equal(mono[:3], [[4096], [32767], [-32768]])
    both = read_samples(tmp_path / "b.wav", two)
    np.testing.assert_array_equal(both, np.rint(stereo[:, 1:] * 327.68).repeat(2, 1))


@pytest.mark.parametrize(
    ("subtype", "dtype"),
    [("PCM_U8", "int16"), ("PCM_16", "int16"), ("PCM_24", "float32"), ("FLOAT", "float32")],
)
def test_the_type_of_samples_holds_those_of_the_file(tmp_path, subtype, dtype):
    values = np.random.default_rng(0).uniform(-1, 1, (64, 1)).astype(np.float32)
    sf.write(tmp_path / "a.wav", values, 8000, subtype=subtype)
    header = read_sample_format(tmp_path / "a.wav")
    assert header == SampleFormat(rate=8000, channels=1, dtype=dtype)
    stored = sf.read(tmp_path / "a.wav", dtype=dtype, always_2d=True)[0]
    np.testing.assert_array_equal(read_samples(tmp_path / "a.wav", header), stored)


def test_the_default_window_and_short_recordings(tmp_path):
    tones(tmp_path / "x", 20, rate=8000, seconds=1.3)
    sf.write(tmp_path / "x" / "z_short.wav", 0.5 * sine(300, 8000, 0.1), 8000)
    loaded = read_recordings(tmp_path / "x")
    assert loaded.facts["window"] == 8000 - 8000 % 64
    assert not rows_of(loaded)[-1][800:].any()
    assert "x/: 1 of 21 recordings are shorter than that; silence is added." in loaded.notes


def test_damaged_files_are_skipped_counted_and_listed(tmp_path):
    tones(tmp_path / "x", 60, seconds=0.05)
    whole = (tmp_path / "x" / "tone_07.wav").read_bytes()
    (tmp_path / "x" / "tone_07.wav").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "x" / "tone_08.wav").write_bytes(b"")
    (tmp_path / "x" / "._tone_09.wav").write_bytes(b"not a recording")
    loaded = read_recordings(tmp_path / "x")
    assert loaded.notes[0] == "x/: 1 hidden file is not read (1 .wav)."
    assert loaded.notes[1] == (
        "x/: 2 of 60 recordings could not be read (tone_07.wav: cut short, tone_08.wav); "
        "training on the other 58."
    )
    assert len(loaded.rows) == 58
    (tmp_path / "x" / "tone_09.wav").write_bytes(whole[:60])
    sf.write(tmp_path / "x" / "tone_10.wav", np.full(10, np.nan, np.float32), 8000, subtype="FLOAT")
    with pytest.raises(
        InputError,
        match=r"^x/: 4 of 60 recordings could not be read \(.*\.\.\.\); repair or remove them\.$",
    ):
        read_recordings(tmp_path / "x")


def test_a_truncated_flac_file_is_noticed(tmp_path):
    tones(tmp_path / "x", 2, suffix="flac", seconds=2.0)
    whole = (tmp_path / "x" / "tone_01.flac").read_bytes()
    (tmp_path / "x" / "tone_01.flac").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"1 of 2 recordings could not be read \(tone_01.flac"):
        read_recordings(tmp_path / "x")


def test_decoding_happens_once_and_again_when_the_folder_changes(tmp_path, cache):
    tones(tmp_path / "x", 3)
    seen = []
    first = read_recordings(tmp_path / "x", progress=lambda *event: seen.append(event))
    assert seen[-1] == (3, 3, "decoding x/")
    again = read_recordings(
        tmp_path / "x", size=500, progress=lambda *event: pytest.fail("decoded twice")
    )
    assert again.fingerprint == first.fingerprint
    assert len(list(cache.glob("recordings-*"))) == 1
    tones(tmp_path / "x", 4)
    changed = read_recordings(tmp_path / "x")
    assert changed.fingerprint != first.fingerprint
    assert changed.facts["recordings"] == 4


def test_described_and_built_again_it_is_the_same(tmp_path):
    tones(tmp_path / "x", 3)
    data = load(tmp_path / "x", size=1000)
    tree = json.loads(json.dumps(data.config(), allow_nan=False))
    transform, form, _ = KINDS["recordings"].restore(tree)
    assert KINDS["recordings"].describe(transform, form).items() <= data.config().items()
    json.dumps(data.loaded.facts, allow_nan=False)


def test_the_picture_shows_the_waves():
    form = RecordingForm(rate=8000, channels=1, dtype="int16")
    quiet, loud = np.zeros((4, 3000), np.int16), np.zeros((4, 3000), np.int16)
    loud[:, 1000:2000:2] = 20000
    pictures = [np.asarray(form.preview(rows)).astype(int) for rows in (quiet, loud)]
    assert pictures[0].shape == pictures[1].shape
    assert (pictures[1] < 250).any(2).sum() > 2 * (pictures[0] < 250).any(2).sum()


def test_what_cannot_be_used_is_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such file or folder; check the path"):
        read_recordings(tmp_path / "nothing")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"^none/: the folder is empty; put images or recordings"):
        read_recordings(tmp_path / "none")
    tones(tmp_path / "x", 2)
    with pytest.raises(
        InputError, match="size 0: give the length of a window as a whole number of samples"
    ):
        read_recordings(tmp_path / "x", size=0)
    with pytest.raises(
        InputError, match="size 4001: the longest recording of x/ has 4,000 samples; give less"
    ):
        read_recordings(tmp_path / "x", size=4001)
    with pytest.raises(
        InputError, match=r"recordings cannot be written as \.csv; use one of folder/, \.npy"
    ):
        read_recordings(tmp_path / "x").form.save(np.zeros((1, 8), np.int16), tmp_path / "x.csv")
    for i in range(2):
        (tmp_path / "silent").mkdir(exist_ok=True)
        sf.write(tmp_path / "silent" / f"{i}.wav", np.zeros(500, np.int16), 8000)
    with pytest.raises(
        InputError, match=r"^silent/: all training rows are the same; there is nothing to learn\.$"
    ):
        transform_of(read_recordings(tmp_path / "silent"))
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "soundfile":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(
        InputError, match=r"reading recordings needs soundfile; pip install 'undiffuse\[audio\]'\."
    ):
        read_recordings(tmp_path / "x")


def test_recordings_behind_a_link_are_found(tmp_path):
    tones(tmp_path / "elsewhere", 3)
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "linked").symlink_to(tmp_path / "elsewhere")
    assert read_recordings(tmp_path / "x").facts["recordings"] == 3
