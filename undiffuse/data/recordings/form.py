"""Recordings as a person has them: sound files at their rate, arrays, or a picture of waveforms."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import final

import numpy as np
from PIL import Image

from undiffuse.data.pictures import draw_curves
from undiffuse.data.recordings.decode import soundfile
from undiffuse.data.writing import FOLDER, Encode, Writer, WrittenForm, npz_writer

_HEARD, _PAUSE = 10.0, 0.2  # seconds: of a sound at most, and between two rows of it
_PICTURED = 256  # parts of a waveform in a picture; each shows its least and greatest sample


@final
class RecordingForm(WrittenForm):
    """Windows as arrays (N, L) or (N, L, C) of `dtype` int16 or float32, at `rate` in Hz."""

    suggested_out, called = "samples/", "recordings"

    def __init__(self, *, rate: int, channels: int, dtype: str) -> None:
        self.rate = rate
        self.channels = channels
        self.dtype = dtype

    def check_out(self, out: Path) -> None:
        """Raise InputError for another suffix than those of `save`; a folder needs soundfile."""
        super().check_out(out)
        if out.is_dir() or not out.suffix:
            self.check_part(".wav")

    def preview(self, rows: np.ndarray) -> Image.Image:
        """Return the envelopes of the first 64 windows."""
        waves = rows.reshape(len(rows), rows.shape[1], -1).transpose(0, 2, 1).astype(np.float64)
        if waves.shape[2] > 2 * _PICTURED:
            starts = np.linspace(0, waves.shape[2], _PICTURED, endpoint=False).astype(np.int64)
            low = np.minimum.reduceat(waves, starts, axis=2)
            high = np.maximum.reduceat(waves, starts, axis=2)
            waves = np.stack([low, high], 3).reshape(*low.shape[:2], -1)
        return draw_curves(waves)

    def sound(self, rows: np.ndarray) -> bytes:
        """Return the first rows as a WAV file of 16 bits: ten seconds at most, but one row."""
        length = rows.shape[1]
        pause = np.zeros((round(_PAUSE * self.rate), self.channels))
        count = max(1, int(_HEARD * self.rate / (length + len(pause))))
        waves = rows[:count].reshape(-1, length, self.channels).astype(np.float64)
        if self.dtype != "int16":
            waves = np.round(32767 * waves.clip(-1, 1))
        parts = [part for one in waves for part in (one, pause)][:-1]
        encoded = io.BytesIO()
        with wave.open(encoded, "wb") as file:
            file.setnchannels(self.channels)
            file.setsampwidth(2)
            file.setframerate(self.rate)
            file.writeframes(np.concatenate(parts).astype("<i2").tobytes())
        return encoded.getvalue()

    def writers(self) -> dict[str, Writer]:
        """Return those of a folder of .wav files, and of arrays; an .npz holds the rate too."""
        found = super().writers()
        with_rate = partial(npz_writer, rate=np.array(self.rate))
        return {FOLDER: found.pop(FOLDER), **found, ".npz": with_rate}

    def check_part(self, suffix: str) -> None:
        """Raise InputError for other files than `parts`, and for .wav without soundfile."""
        super().check_part(suffix)
        if suffix in self.files():
            soundfile("writing recordings")

    def files(self) -> dict[str, Encode]:
        """Return what makes .wav files; it needs soundfile."""
        return {".wav": self._encoded}

    def _encoded(self, rows: np.ndarray) -> Iterator[bytes]:
        library = soundfile("writing recordings")
        subtype = "PCM_16" if self.dtype == "int16" else "FLOAT"
        for row in rows:
            encoded = io.BytesIO()  # a full disk is then met by Python's own write, which says so
            library.write(encoded, row, self.rate, subtype=subtype, format="WAV")
            yield encoded.getvalue()
