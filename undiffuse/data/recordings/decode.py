"""Sound files -> arrays of samples of one rate, one number of channels and one type.

A recording is mixed by averaging its channels, resampled, and rounded where 16 bits are wanted.
Files that are cut short are found by what their header announces: libsndfile reads what is there
and says nothing.
"""

from __future__ import annotations

import io
import os
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from undiffuse.data.decoding import Decoded, Unreadable, decode_once
from undiffuse.data.folder import Folder
from undiffuse.data.recordings.resample import resample
from undiffuse.errors import InputError
from undiffuse.interfaces import Progress

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff")
_NEED_FLOATS = ("FLOAT", "DOUBLE", "PCM_24", "PCM_32")  # 16 bits do not hold these
_UNKNOWN = (0, 0x7FFFF000, 0x7FFFF024, 0x7FFFFFFF, 0x80000000, 0x80000024, 0xFFFFFFFF)
"""Lengths that programs write into a WAV header when they write to a pipe and do not know them."""
_EXACT_LENGTH = (
    ".flac",
    ".wav",
    ".aif",
    ".aiff",
)  # formats whose header knows the number of samples


@dataclass(frozen=True)
class SampleFormat:
    """The samples of a recording: rate in Hz, number of channels, and type, int16 or float32."""

    rate: int
    channels: int
    dtype: str


def soundfile(purpose: str) -> ModuleType:
    """Return the module. Raises InputError, with the purpose, if it is not installed."""
    try:
        import soundfile
    except (ImportError, OSError) as problem:  # OSError: the library beneath it is missing
        raise InputError(f"{purpose} needs soundfile; pip install 'undiffuse[audio]'.") from problem
    return soundfile


def decode_recordings(
    folder: Folder, wanted: SampleFormat | None, progress: Progress | None
) -> tuple[Decoded, SampleFormat]:
    """Return the samples (total, C) of all recordings of a folder, and their format.

    Args:
        folder: the sound files.
        wanted: the format of a run; None for the most common rate, number of channels and type.
        progress: called after each file.

    Raises:
        InputError: more than a few of the files, or all of them, cannot be read, or soundfile is
            not installed.
    """
    soundfile("reading recordings")
    decoded = decode_once(
        folder,
        read_sample_format,
        lambda headers: plan_recordings(folder.name, headers, wanted),
        read_samples,
        key=str(wanted),
        ahead=4,  # a recording can be large
        rest="going on with" if wanted else "training on",
        progress=progress,
    )
    return decoded, SampleFormat(**decoded.target)


def read_sample_format(path: Path) -> SampleFormat:
    """Return the format of a recording from its header. Raises Unreadable."""
    library = soundfile("reading recordings")
    try:
        info = library.info(_whole_wav(path))
    except (RuntimeError, OSError, struct.error) as problem:
        raise Unreadable("") from problem
    if info.frames <= 0:
        raise Unreadable("empty")
    dtype = "float32" if info.subtype in _NEED_FLOATS else "int16"
    return SampleFormat(info.samplerate, info.channels, dtype)


def read_samples(path: Path, target: SampleFormat) -> np.ndarray:
    """Return the samples (n, C) of a recording in the format `target`. Raises Unreadable."""
    library = soundfile("reading recordings")
    try:
        with library.SoundFile(_whole_wav(path)) as file:
            announced, rate = file.frames, file.samplerate
            samples = file.read(dtype="float32", always_2d=True)
    except (RuntimeError, OSError, struct.error) as problem:
        raise Unreadable("") from problem
    if len(samples) == 0:
        raise Unreadable("empty")
    if len(samples) < announced and path.suffix.lower() in _EXACT_LENGTH:
        raise Unreadable("cut short")
    if not np.isfinite(samples).all():
        raise Unreadable("NaN or infinite samples")
    if samples.shape[1] != target.channels:
        samples = samples.mean(1, keepdims=True).repeat(target.channels, 1)
    samples = resample(samples, rate, target.rate)
    if target.dtype == "int16":
        return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    return samples


def _whole_wav(path: Path) -> str | bytes | io.BytesIO:
    """Return what libsndfile reads: the path, or the bytes with the lengths that a pipe left out.

    Raises Unreadable for a WAV file that ends before its header says.
    """
    size = path.stat().st_size
    named = str(path) if os.name == "nt" else os.fsencode(path)  # names need not be UTF-8
    with path.open("rb") as stream:
        start = stream.read(12)
        if start[:4] != b"RIFF":
            return named
        riff, length = struct.unpack("<I", start[4:8])[0], 0
        while len(head := stream.read(8)) == 8:
            length = struct.unpack("<I", head[4:])[0]
            if head[:4] == b"data":
                break
            stream.seek(length + length % 2, os.SEEK_CUR)
        begin = stream.tell()
        if len(head) < 8 or length not in _UNKNOWN:
            if riff not in _UNKNOWN and riff + 8 > size + 1:
                raise Unreadable("cut short")
            return named
        stream.seek(0)
        content = bytearray(stream.read())
    struct.pack_into("<I", content, 4, size - 8)
    struct.pack_into("<I", content, begin - 4, size - begin)
    return io.BytesIO(content)


def plan_recordings(
    name: str, headers: Mapping[int, SampleFormat], wanted: SampleFormat | None
) -> tuple[SampleFormat, list[str]]:
    """Return what every recording becomes, and notes on what that changes."""
    fields = ("rate", "channels", "dtype")
    met = {
        field: Counter(getattr(header, field) for header in headers.values()) for field in fields
    }
    most = {field: max(met[field], key=lambda v, n=met[field]: (n[v], v)) for field in fields}
    target = wanted or SampleFormat(**most)
    mixed = {1: "mono", 2: "stereo"}.get(target.channels, f"{target.channels} channels")
    changes = {
        "rate": f"resampled to {target.rate:,} Hz",
        "channels": f"mixed to {mixed}",
        "dtype": f"converted to {target.dtype} samples",
    }
    notes = []
    others_are = "the run's are" if wanted else "most are"
    for field, change in changes.items():
        others = sum(
            getattr(header, field) != getattr(target, field) for header in headers.values()
        )
        if others:
            notes.append(
                f"{name}: {others:,} of {len(headers):,} recordings are {change}, as {others_are}."
            )
    return target, notes
