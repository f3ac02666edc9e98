"""A folder of recordings -> one memory map of samples, decoded once.

Two passes, as for images: headers decide what all recordings become (the rate, the channels and the depth that most of
them have), then each is decoded, mixed, resampled and appended to one file on the disk. It lies in the cache folder
under a name made from the files' paths, sizes and times, so the next run on the same folder starts at once.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from undiffuse.atomic import atomic_folder
from undiffuse.data.folder import cache_folder, fingerprint, refuse_many, unreadable
from undiffuse.data.recordings.resample import resample
from undiffuse.errors import InputError
from undiffuse.interfaces import Progress

SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff")
_DEEP = ("FLOAT", "DOUBLE", "PCM_24", "PCM_32")  # what 16 bits do not hold
WHAT = "recordings"
_FORMAT = 1  # of the cached files


@dataclass(frozen=True)
class Header:
    """What is known of a recording before it is decoded."""

    rate: int
    channels: int
    dtype: str  # int16 or float32: what holds its samples


@dataclass(frozen=True)
class Decoded:
    """All recordings, one after another: `samples` (total, C) memory-mapped, `lengths` of each in samples."""

    samples: np.ndarray
    lengths: tuple[int, ...]
    kept: tuple[int, ...]  # which of the files
    rate: int
    notes: tuple[str, ...]


class Unreadable(Exception):
    """A recording that cannot be used, with the reason if it is worth saying."""


def soundfile(what: str) -> Any:
    """The module. Raises InputError naming the extra, if it or the library beneath it is not installed."""
    try:
        import soundfile
    except (ImportError, OSError) as problem:
        raise InputError(f"{what} needs soundfile; pip install 'undiffuse[audio]'.") from problem
    return soundfile


def decoded(
    folder: Path, files: Sequence[Path], progress: Progress | None, target: Header | None = None
) -> Decoded:
    """The samples of all readable files, from the cache or decoded now; as `target` if there is one, or as most are.

    Raises InputError if over 5 % of the files, or all of them, cannot be read.
    """
    key = hashlib.sha256(
        f"{fingerprint(folder, files)} {_FORMAT}{target or ''}".encode()
    ).hexdigest()[:24]
    place = cache_folder() / f"recordings-{key}"
    found = _cached(place)
    if found is None:
        _decode_all(place, f"{folder.name}/", files, progress, target)
        found = _cached(place)
        assert found is not None
    return found


def _cached(place: Path) -> Decoded | None:
    try:
        facts = json.loads((place / "facts.json").read_text())
        shape = (sum(facts["lengths"]), facts["channels"])
        samples = np.memmap(place / "samples.raw", dtype=facts["dtype"], mode="r", shape=shape)
    except (OSError, ValueError, KeyError):
        return None
    return Decoded(
        samples=np.asarray(samples),
        lengths=tuple(facts["lengths"]),
        kept=tuple(facts["kept"]),
        rate=facts["rate"],
        notes=tuple(facts["notes"]),
    )


def _decode_all(
    place: Path, name: str, files: Sequence[Path], progress: Progress | None, wanted: Header | None
) -> None:
    """Write samples.raw and facts.json into `place`, which appears whole or not at all."""
    failed: dict[int, str] = {}
    headers: dict[int, Header] = {}
    for i, path in enumerate(files):
        try:
            headers[i] = read_header(path)
        except Unreadable as problem:
            failed[i] = str(problem)
    refuse_many(name, files, failed, WHAT)
    target, notes = _plan(name, headers, wanted)
    lengths: dict[int, int] = {}
    with atomic_folder(place, replace=".*") as temporary:
        with (temporary / "samples.raw").open("wb") as stream:
            for i in headers:
                try:
                    samples = read_samples(files[i], target)
                except Unreadable as problem:
                    failed[i] = str(problem)
                else:
                    lengths[i] = len(samples)
                    stream.write(np.ascontiguousarray(samples).data)
                if progress:
                    progress(i + 1, len(files), f"decoding {name}")
        refuse_many(name, files, failed, WHAT)
        if failed:
            used = "going on with" if wanted else "training on"
            notes.insert(
                0, f"{unreadable(name, files, failed, WHAT)}; {used} the other {len(lengths):,}."
            )
        facts = {
            **asdict(target),
            "kept": list(lengths),
            "lengths": list(lengths.values()),
            "notes": notes,
        }
        (temporary / "facts.json").write_text(json.dumps(facts))


def read_header(path: Path) -> Header:
    """Open a recording without decoding it. Raises Unreadable."""
    library = soundfile("reading recordings")
    try:
        _check_riff(path)
        info = library.info(str(path))
    except (RuntimeError, OSError, struct.error) as problem:
        raise Unreadable("") from problem
    if info.frames <= 0:
        raise Unreadable("empty")
    return Header(info.samplerate, info.channels, "float32" if info.subtype in _DEEP else "int16")


def _check_riff(path: Path) -> None:
    """A WAV file that ends before its header says; libsndfile would read what is there and say nothing."""
    with path.open("rb") as stream:
        start = stream.read(8)
    if start[:4] == b"RIFF":
        size = struct.unpack("<I", start[4:])[0]
        streamed = size in (0, 0xFFFFFFFF)  # written to a pipe: its length was not known
        if not streamed and size + 8 > path.stat().st_size + 1:
            raise Unreadable("cut short")


def read_samples(path: Path, target: Header) -> np.ndarray:
    """The samples (n, C) at the rate, in the channels and in the type of `target`. Raises Unreadable."""
    library = soundfile("reading recordings")
    try:
        with library.SoundFile(str(path)) as file:
            announced, rate = file.frames, file.samplerate
            samples = file.read(dtype="float32", always_2d=True)
    except (RuntimeError, OSError) as problem:
        raise Unreadable("") from problem
    if len(samples) == 0:
        raise Unreadable("empty")
    if len(samples) < announced and path.suffix.lower() in (".flac", ".wav", ".aif", ".aiff"):
        raise Unreadable("cut short")
    if not np.isfinite(samples).all():
        raise Unreadable("NaN or infinite samples")
    if samples.shape[1] != target.channels:
        samples = samples.mean(1, keepdims=True).repeat(target.channels, 1)
    samples = resample(samples, rate, target.rate)
    if target.dtype == "int16":
        return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    return samples


def _plan(
    name: str, headers: Mapping[int, Header], wanted: Header | None
) -> tuple[Header, list[str]]:
    """What every recording becomes: `wanted`, or the most common rate, channels and depth; and notes on what that
    changes.
    """
    most = {}
    for what in ("rate", "channels", "dtype"):
        counts = Counter(getattr(header, what) for header in headers.values())
        most[what] = max(counts, key=lambda value, counts=counts: (counts[value], value))
    target = wanted or Header(**most)
    changes = {
        "rate": f"resampled to {target.rate:,} Hz",
        "channels": f"mixed to {_channels(target.channels)}",
        "dtype": f"converted to {target.dtype} samples",
    }
    notes = []
    others_are = "the run's are" if wanted else "most are"
    for what, change in changes.items():
        others = sum(getattr(header, what) != getattr(target, what) for header in headers.values())
        if others:
            notes.append(
                f"{name}: {others:,} of {len(headers):,} recordings are {change}, as {others_are}."
            )
    return target, notes


def _channels(count: int) -> str:
    return {1: "mono", 2: "stereo"}.get(count, f"{count} channels")
