"""Windows of a fixed length from recordings of any length.

A recording of n samples gives floor(n/L) windows of L samples, spread evenly over it, that do not
overlap: no sample is in two windows. A recording shorter than L gives one window, ended by silence.
`Windows.groups` tells which recording a window comes from: the split is one of recordings, as
windows of the same one are alike.
"""

from __future__ import annotations

import numpy as np

from undiffuse.errors import InputError

LONGEST = 16384  # samples of a window, unless a size is asked for
MULTIPLE = 64  # that windows of the default length are a multiple of, so that any patch size fits


class Windows:
    """The windows of recordings, as rows (L,) if mono, else (L, C).

    Args:
        samples: all recordings, one after another, (total, C).
        lengths: the number of samples of each.
        length: L.
    """

    def __init__(self, samples: np.ndarray, lengths: tuple[int, ...], length: int) -> None:
        self.samples = samples
        self.length = length
        n = np.asarray(lengths, dtype=np.int64)
        count = np.maximum(n // length, 1)
        self.groups = np.repeat(np.arange(len(n)), count)
        number = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
        gaps = (
            np.maximum(n - count * length, 0)[self.groups]
            * (2 * number + 1)
            // (2 * count[self.groups])
        )
        begin = (n.cumsum() - n)[self.groups]
        self.starts = begin + number * length + gaps
        self.stops = np.minimum(self.starts + length, begin + n[self.groups])

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Return the windows (B, L) or (B, L, C) at these positions, in the stored type."""
        rows = np.zeros((len(indices), self.length, self.samples.shape[1]), self.samples.dtype)
        for row, i in zip(rows, indices):
            row[: self.stops[i] - self.starts[i]] = self.samples[self.starts[i] : self.stops[i]]
        return rows[..., 0] if rows.shape[2] == 1 else rows


def window_length(
    name: str, lengths: tuple[int, ...], rate: int, size: int | tuple[int, ...] | None
) -> int:
    """Return the length of a window in samples.

    Args:
        name: what the folder is called in messages.
        lengths: the samples of each recording.
        rate: their rate in Hz.
        size: the length if it is given; else it is one second, at most 16,384 samples, and at most
            what recordings reach that hold nine tenths of all samples.

    Raises:
        InputError: `size` is no positive number, or no recording reaches it.
    """
    if size is None:
        rising = np.sort(lengths)
        below = np.cumsum(rising) - rising  # samples in shorter recordings
        length = min(rate, LONGEST, int(rising[below <= 0.1 * rising.sum()][-1]))
        return length - length % MULTIPLE if length >= MULTIPLE else length
    length = size if isinstance(size, int) else size[0] if len(size) == 1 else 0
    if length < 1:
        raise InputError(f"size {size}: give the length of a window as a whole number of samples.")
    if length > max(lengths):
        raise InputError(
            f"size {length}: the longest recording of {name} has {max(lengths):,} samples; "
            "give less."
        )
    return length


def window_notes(name: str, rows: Windows, lengths: tuple[int, ...], rate: int) -> list[str]:
    """Return a sentence on what was cut, and one on what was filled up."""
    seconds = rows.length / rate
    notes = [
        f"{name}: {len(lengths):,} recordings are cut into {len(rows):,} windows of "
        f"{rows.length:,} samples ({seconds:.3g} s) that do not overlap."
    ]
    short = sum(n < rows.length for n in lengths)
    if short:
        notes.append(
            f"{name}: {short:,} of {len(lengths):,} recordings are shorter than that; "
            "silence is added."
        )
    return notes
