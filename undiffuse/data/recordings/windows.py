"""Windows of a fixed length from recordings of any length.

A recording of n samples gives floor(n/L) windows of L samples, spread evenly over it, that do not
overlap: no sample is in two windows. A recording shorter than L gives one window, ended by silence.
`Windows.groups` tells which recording a window comes from: the split is one of recordings, as
windows of the same one are alike.

Where there are few, each is moved whenever training meets it, by up to half a window, so that no
two epochs see the same: within its recording, and never onto a window that is held out.
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
        self.begins, self.ends = begin, begin + n[self.groups]  # of the recordings
        self.stops = np.minimum(self.starts + length, self.ends)

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Return the windows (B, L) or (B, L, C) at these positions, in the stored type."""
        return self._cut(self.starts[indices], self.stops[indices])

    def _cut(self, starts: np.ndarray, stops: np.ndarray) -> np.ndarray:
        rows = np.zeros((len(starts), self.length, self.samples.shape[1]), self.samples.dtype)
        for row, start, stop in zip(rows, starts, stops):
            row[: stop - start] = self.samples[start:stop]
        return rows[..., 0] if rows.shape[2] == 1 else rows

    def room(self, held_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the first and the last start (N,) of each window, moved by half of it at most.

        Args:
            held_out: (N,) the windows whose samples no other window may hold.
        """
        before = np.maximum.accumulate(np.where(held_out, self.stops, 0))
        after = np.minimum.accumulate(np.where(held_out, self.starts, self.ends[-1])[::-1])[::-1]
        half = self.length // 2
        first = np.maximum.reduce([self.begins, before, self.starts - half])
        last = np.minimum.reduce([self.ends, after, self.stops + half]) - self.length
        return np.minimum(first, self.starts), np.maximum(last, self.starts)

    def moved(
        self, indices: np.ndarray, room: tuple[np.ndarray, np.ndarray], u: np.ndarray
    ) -> np.ndarray:
        """Return the windows (B, ...) at these positions, moved: u (B,) is uniform in [0, 1)."""
        first, last = (ends[indices] for ends in room)
        starts = first + np.floor(u * (last - first + 1)).astype(np.int64)
        return self._cut(starts, np.minimum(starts + self.length, self.ends[indices]))


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
