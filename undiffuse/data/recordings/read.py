"""Recordings -> windows of a fixed length, and back to files at the same rate.

A 16-bit sample k is modelled as the number k + u, u ~ U(0, 1), standardized over the training windows,

    x = (k + u - mean)/scale,    log P(k) >= E_u[log p(x)] - log scale   per sample and channel,

and a floating-point sample as it is: log p(row) = log p(x) - log scale, exactly.
"""

from __future__ import annotations

import io
import math
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from undiffuse.data import pictures
from undiffuse.data import writing
from undiffuse.data.whole_numbers import dequantize, quantize
from undiffuse.data.folder import classes_of, fingerprint, walk
from undiffuse.data.labels import index_labels
from undiffuse.data.recordings.files import SUFFIXES, WHAT, decoded, soundfile
from undiffuse.data.recordings.windows import Windows, window_length, window_notes
from undiffuse.data.rows import Loaded
from undiffuse.errors import InputError
from undiffuse.interfaces import Noise, Progress

PICTURED = 256  # bins of a waveform's envelope in a picture


@final
class AudioTransform:
    """Windows (B, L) or (B, L, C) of `dtype` int16 or float32 <-> x (B, C, L); see the head of this module.

    Decoded floating-point samples are clipped to [-peak, peak].

    >>> transform = AudioTransform(channels=1, length=2, dtype="int16", mean=0.5, scale=100.0, peak=1.0)
    >>> x, correction = transform.encode(torch.tensor([[-300, 7]], dtype=torch.int16), torch.zeros_like)
    >>> x.shape, transform.decode(x).tolist()
    (torch.Size([1, 1, 2]), [[-300, 7]])
    """

    def __init__(
        self,
        *,
        channels: int,
        length: int,
        dtype: str,
        mean: float,
        scale: float,
        peak: float = 1.0,
    ) -> None:
        self.channels = channels
        self.length = length
        self.dtype = dtype
        self.mean = mean
        self.scale = scale
        self.peak = peak
        self.levels = None

    @property
    def row_shape(self) -> tuple[int, ...]:
        """(L,) for mono, (L, C) otherwise."""
        return (self.length,) if self.channels == 1 else (self.length, self.channels)

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, L)."""
        return (self.channels, self.length)

    @property
    def description(self) -> str:
        """One sentence on how rows are modelled."""
        return f"windows of {self.length:,} samples, standardized" + (
            ", whole numbers spread over their bins" if self.dtype == "int16" else ""
        )

    def encode(self, row: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """See `Transform.encode`."""
        k = row.double().reshape(len(row), self.length, self.channels).transpose(1, 2)
        if self.dtype == "int16":
            x = dequantize(k, self.mean, self.scale, noise)
        else:
            x = ((k - self.mean) / self.scale).float()
        correction = -self.channels * self.length * math.log(self.scale)
        return x, torch.full((len(row),), correction, dtype=torch.float64, device=row.device)

    bin_width = None
    levels = None

    @property
    def row_shape(self) -> tuple[int, ...]:
        """(L,) for one channel, else (L, C)."""
        return (self.length,) if self.channels == 1 else (self.length, self.channels)

    def cells(self, row: Tensor) -> None:
        """Return None: there are no bins of one width."""
        return None

    def known(self, mask: Tensor) -> Tensor:
        """Which entries of x are known where `mask` (B, L) or (B, L, C) says it of the window's, (B, C, L)."""
        return mask.reshape(len(mask), self.length, self.channels).transpose(1, 2)

    def decode(self, x: Tensor) -> np.ndarray:
        """See `Transform.decode`."""
        x = x.detach().nan_to_num().transpose(1, 2)
        if self.dtype == "int16":
            rows = quantize(x, self.mean, self.scale).clamp(-32768, 32767).to(torch.int16)
        else:
            rows = (x.double() * self.scale + self.mean).clamp(-self.peak, self.peak).float()
        return (rows[..., 0] if self.channels == 1 else rows).cpu().numpy()


@final
class RecordingsForm:
    """How windows are presented and written: arrays (N, L) or (N, L, C) of `dtype`, at `rate` samples per second."""

    def __init__(self, *, rate: int, channels: int, dtype: str) -> None:
        self.rate = rate
        self.channels = channels
        self.dtype = dtype
        self.columns = ()

    def present(self, rows: np.ndarray) -> np.ndarray:
        """The array itself."""
        return rows

    def save(self, rows: np.ndarray, out: Path, *, labels: Any = None) -> None:
        """Write a folder of .wav files, .npy, .npz (with the rate), or a .png of waveforms.

        Raises InputError for any other suffix and where writing fails.
        """
        writers = {
            writing.FOLDER: self._save_folder,
            ".npy": writing.write_npy,
            ".npz": partial(writing.write_npz, rate=np.array(self.rate)),
            ".png": lambda rows, out, labels: writing.write_picture(self.preview(rows), out),
        }
        writing.write(rows, Path(out), labels, writers, "recordings")

    def preview(self, rows: np.ndarray) -> Image.Image:
        """The envelopes of the first 64 windows."""
        waves = rows.reshape(len(rows), rows.shape[1], -1).transpose(0, 2, 1).astype(np.float64)
        if waves.shape[2] > 2 * PICTURED:
            at = np.linspace(0, waves.shape[2], PICTURED, endpoint=False).astype(np.int64)
            low, high = (
                np.minimum.reduceat(waves, at, axis=2),
                np.maximum.reduceat(waves, at, axis=2),
            )
            waves = np.stack([low, high], 3).reshape(*low.shape[:2], -1)
        return pictures.draw_curves(waves)

    def _save_folder(self, rows: np.ndarray, out: Path, labels: Any) -> None:
        library = soundfile("writing recordings")
        with writing.numbered_folder(out, ".wav", labels) as place:
            for i, row in enumerate(rows):
                encoded = (
                    io.BytesIO()
                )  # so that a full disk is met by Python's own write, which says so
                subtype = "PCM_16" if self.dtype == "int16" else "FLOAT"
                library.write(encoded, row, self.rate, subtype=subtype, format="WAV")
                place(i).write_bytes(encoded.getbuffer())


def read_recordings(
    folder: str | Path,
    *,
    size: int | tuple[int, ...] | None = None,
    progress: Progress | None = None,
) -> Loaded:
    """The recordings of a folder and its subfolders, cut into windows of `size` samples.

    By default a window is one second, at most 16,384 samples, at most what nine in ten recordings reach. If every file
    lies in one of several subfolders, these are the classes. Raises InputError if there are no recordings, if over 5 %
    of them or all cannot be read, for a size that none of them reaches, and if they are all silent.
    """
    folder = Path(os.path.expanduser(folder)).resolve()
    soundfile("reading recordings")
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; check the path.")
    files = [path for path in walk(folder) if path.suffix.lower() in SUFFIXES]
    name = f"{folder.name}/"
    if not files:
        raise InputError(f"{name}: holds no recordings ({', '.join(SUFFIXES)}); check the path.")
    recordings = decoded(folder, files, progress)
    length = window_length(name, recordings.lengths, recordings.rate, size)
    rows = Windows(recordings.samples, recordings.lengths, length)
    channels, dtype = recordings.samples.shape[1], recordings.samples.dtype.name
    classes, notes = classes_of(folder, [files[i] for i in recordings.kept], name, WHAT)
    named = None if classes is None else [classes[group] for group in rows.groups]
    labels, names = index_labels(named, len(rows), name)
    return Loaded(
        kind="recordings",
        rows=rows,
        form=RecordingsForm(rate=recordings.rate, channels=channels, dtype=dtype),
        make_transform=partial(_fit, name, channels, length, dtype),
        name=name,
        path=str(folder),
        fingerprint=fingerprint(folder, files),
        labels=labels,
        classes=names,
        groups=rows.groups,
        notes=(
            *recordings.notes,
            *notes,
            *window_notes(name, rows, recordings.lengths, recordings.rate),
        ),
        facts={
            "recordings": len(recordings.lengths),
            "seconds": round(sum(recordings.lengths) / recordings.rate, 3),
            "rate": recordings.rate,
            "channels": channels,
            "dtype": dtype,
            "window": length,
        },
    )


def _fit(
    name: str, channels: int, length: int, dtype: str, chunks: Callable[[], Iterator[np.ndarray]]
) -> AudioTransform:
    """Mean and deviation over the training windows, in one pass; whole numbers count as spread over their bins."""
    count, total, squares, peak = 0, 0.0, 0.0, 1.0
    for chunk in chunks():
        values = chunk.astype(np.float64)
        count += values.size
        total += values.sum()
        squares += (values**2).sum()
        peak = max(peak, float(np.abs(values).max()))
    mean = total / count
    variance = squares / count - mean**2
    if variance <= 1e-14 * max(mean**2, 1e-30):
        raise InputError(
            f"{name}: every sample is {mean:g}; there is nothing to learn from silence."
        )
    whole = dtype == "int16"
    scale = math.sqrt(variance + (1 / 12 if whole else 0.0))
    return AudioTransform(
        channels=channels,
        length=length,
        dtype=dtype,
        mean=float(mean + (0.5 if whole else 0.0)),
        scale=float(scale),
        peak=1.0 if whole else peak,
    )
