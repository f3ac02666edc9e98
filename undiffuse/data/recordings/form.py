"""Recordings as a person has them: sound files at their rate, arrays, or a picture of waveforms."""

from __future__ import annotations

import io
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import final

import numpy as np
from PIL import Image

from undiffuse.data.pictures import draw_curves
from undiffuse.data.recordings.decode import soundfile
from undiffuse.data.writing import (
    FOLDER,
    Labels,
    Writer,
    find_writer,
    numbered_folder,
    write_npy,
    write_npz,
    write_picture,
)

_PICTURED = 256  # parts of a waveform in a picture; each shows its least and greatest sample


@final
class RecordingForm:
    """Windows as arrays (N, L) or (N, L, C) of `dtype` int16 or float32, at `rate` in Hz."""

    column_sizes: Mapping[str, int] = {}
    suggested_out = "samples/"

    def __init__(self, *, rate: int, channels: int, dtype: str) -> None:
        self.rate = rate
        self.channels = channels
        self.dtype = dtype

    def present(self, rows: np.ndarray) -> np.ndarray:
        """Return the array itself."""
        return rows

    def check_out(self, out: Path) -> None:
        """Raise InputError for another suffix than those of `save`; a folder needs soundfile."""
        if self._writer(out) == self._save_folder:
            soundfile("writing recordings")

    def save(self, rows: np.ndarray, out: Path, *, labels: Labels = None) -> None:
        """Write a folder of .wav files, .npy, .npz (with the rate), or a .png of waveforms.

        Raises:
            InputError: any other suffix, or writing fails.
        """
        self._writer(out)(rows, out, labels)

    def preview(self, rows: np.ndarray) -> Image.Image:
        """Return the envelopes of the first 64 windows."""
        waves = rows.reshape(len(rows), rows.shape[1], -1).transpose(0, 2, 1).astype(np.float64)
        if waves.shape[2] > 2 * _PICTURED:
            starts = np.linspace(0, waves.shape[2], _PICTURED, endpoint=False).astype(np.int64)
            low = np.minimum.reduceat(waves, starts, axis=2)
            high = np.maximum.reduceat(waves, starts, axis=2)
            waves = np.stack([low, high], 3).reshape(*low.shape[:2], -1)
        return draw_curves(waves)

    def _writer(self, out: Path) -> Writer:
        writers: dict[str, Writer] = {
            FOLDER: self._save_folder,
            ".npy": write_npy,
            ".npz": partial(write_npz, rate=np.array(self.rate)),
            ".png": lambda rows, out, labels: write_picture(self.preview(rows), out),
        }
        return find_writer(writers, out, "recordings")

    def _save_folder(self, rows: np.ndarray, out: Path, labels: Labels) -> None:
        library = soundfile("writing recordings")
        subtype = "PCM_16" if self.dtype == "int16" else "FLOAT"
        with numbered_folder(out, ".wav", labels) as path:
            for i, row in enumerate(rows):
                encoded = (
                    io.BytesIO()
                )  # a full disk is then met by Python's own write, which says so
                library.write(encoded, row, self.rate, subtype=subtype, format="WAV")
                path(i).write_bytes(encoded.getbuffer())
