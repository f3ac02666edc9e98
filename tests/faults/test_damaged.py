"""Damaged data files: each is read, or refused in one sentence, in bounded time and memory."""

from __future__ import annotations

import importlib
import random
import struct
import time
import wave
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from damage import mutated
from forked import GIB, fork

import undiffuse as ud
from undiffuse.errors import InputError


def _csv(path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{rng.normal():.3f},{rng.integers(9)},{'ab'[i % 2]}" for i in range(60)]
    path.write_text("x,k,word\n" + "\n".join(lines) + "\n")


def _parquet(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": np.arange(60.0), "word": ["a", "b"] * 30}), path)


def _idx(path: Path) -> None:
    values = np.arange(40 * 16, dtype=np.uint8) % 7
    path.write_bytes(bytes([0, 0, 8, 3]) + struct.pack(">3I", 40, 4, 4) + values.tobytes())


def _picture(path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (12, 12, 3), np.uint8)
    PIL.Image.fromarray(pixels).save(path)


def _wav(path: Path) -> None:
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(8000)
        stream.writeframes(
            np.random.default_rng(0).integers(-999, 999, 4000).astype("<i2").tobytes()
        )


def _flac(path: Path) -> None:
    import soundfile

    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 4000), 8000)


def _npy(path: Path) -> None:
    np.save(path, np.random.default_rng(0).normal(size=(40, 5)))


def _npz(path: Path) -> None:
    np.savez(path, data=np.random.default_rng(0).normal(size=(40, 5)), labels=np.arange(40) % 3)


FORMATS: dict[str, Callable[[Path], None]] = {
    ".npy": _npy, ".npz": _npz, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet,
    "-idx3-ubyte": _idx,
    ".png": _picture, ".jpg": _picture, ".tif": _picture, ".gif": _picture, ".bmp": _picture,
    ".webp": _picture, ".wav": _wav, ".flac": _flac, ".ogg": _flac,
}  # fmt: skip
IN_A_FOLDER = {".png", ".jpg", ".tif", ".gif", ".bmp", ".webp", ".wav", ".flac", ".ogg"}
TOGETHER = 100  # in one child


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A file of each format; and what reads them is imported, once for all children."""
    for module in ("pandas", "pyarrow.csv", "pyarrow.parquet", "soundfile"):
        importlib.import_module(module)
    PIL.Image.init()
    folder, contents = tmp_path_factory.mktemp("formats"), {}
    for suffix, make in FORMATS.items():
        make(folder / f"x{suffix}")
        contents[suffix] = (folder / f"x{suffix}").read_bytes()
    return contents


@pytest.mark.faults
@pytest.mark.parametrize("suffix", FORMATS)
def test_damaged_files_are_read_or_refused(
    suffix: str, whole: dict[str, bytes], tmp_path: Path
) -> None:
    rng, counts = random.Random(suffix), {"read": 0, "refused": 0}
    worst = 0.0
    for _ in range(3):
        contents = [mutated(whole[suffix], rng, [*whole.values()]) for _ in range(TOGETHER)]
        for said, seconds in loaded([(suffix, content) for content in contents], whole, tmp_path):
            counts[said] += 1
            worst = max(worst, seconds)
    assert counts["refused"] > 0
    assert counts["read"] + counts["refused"] == 300
    assert worst < 20
    print(f"{suffix}: {counts}, {worst:.2f} s at most")


def test_a_few_damaged_files_of_each_format(whole: dict[str, bytes], tmp_path: Path) -> None:
    rng, others = random.Random(7), [*whole.values()]
    few = [(suffix, mutated(content, rng, others)) for suffix, content in whole.items()] * 2
    assert {said for said, _ in loaded(few, whole, tmp_path)} == {"read", "refused"}


def loaded(
    files: list[tuple[str, bytes]], whole: dict[str, bytes], folder: Path
) -> list[tuple[str, float]]:
    """Load each in a child of 2 GiB; whether it was read or refused, and the seconds it took."""

    def work() -> int:
        for i, (suffix, content) in enumerate(files):
            source = folder / f"{i}{suffix}"
            if suffix in IN_A_FOLDER:
                source = folder / f"{i}"
                source.mkdir(exist_ok=True)
                (source / f"a{suffix}").write_bytes(content)
                (source / f"b{suffix}").write_bytes(whole[suffix])
            else:
                source.write_bytes(content)
            began = time.monotonic()
            try:
                ud.load(source)
                said = "read"
            except InputError:
                said = "refused"
            print(said, time.monotonic() - began, flush=True)
        return 0

    ended = fork(work, seconds=600, memory=2 * GIB)
    lines = [line.split() for line in ended.out.splitlines()]
    assert ended.code == 0, (files[len(lines) % len(files)], ended.code, ended.err[-1500:])
    return [(said, float(seconds)) for said, seconds in lines]
