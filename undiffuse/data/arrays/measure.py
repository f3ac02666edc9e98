"""The mean and deviation of each column or channel, in one pass over data of any size."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from undiffuse.data.arrays.transform import ArrayTransform
from undiffuse.errors import InputError


def array_transform(
    chunks: Iterator[np.ndarray],
    *,
    name: str,
    row_shape: tuple[int, ...],
    layout: tuple[int, ...],
    channels_last: bool,
    dtype: str,
) -> ArrayTransform:
    """The transform whose moments are those of the rows in `chunks` (each (B, *row_shape)), summed in float64.

    Whole numbers count as spread evenly over their bins: mean k + 1/2, variance larger by 1/12. Raises InputError if
    all rows are the same, or if numbers are too large or too close together for their squares.
    """
    whole = np.dtype(dtype).kind in "biu"
    moments = _Moments(layout[0], whole)
    for chunk in chunks:
        values = np.moveaxis(chunk, -1, 1) if channels_last else chunk
        moments.add(values.reshape(len(values), layout[0], -1))
    low, high = moments.low.tolist(), moments.high.tolist()
    varies = [h > lo for lo, h in zip(low, high)]
    if not any(varies):
        raise InputError(f"{name}: all training rows are the same; there is nothing to learn.")
    if whole and any(int(h) - int(lo) >= 2**62 for lo, h in zip(low, high)):
        raise InputError(
            f"{name}: the whole numbers span more than 62 bits; convert them to floats."
        )
    mean, std = moments.mean_and_std()
    if not np.isfinite(std).all():
        raise InputError(
            f"{name}: values as large as {max(high):g} overflow when squared; divide them first."
        )
    if any(v and s == 0 for v, s in zip(varies, std)):
        raise InputError(
            f"{name}: values differ by so little that their squares vanish; multiply them first."
        )
    return ArrayTransform(
        row_shape=row_shape,
        layout=layout,
        channels_last=channels_last,
        dtype=dtype,
        mean=tuple(mean.tolist()),
        std=tuple(float(s) if v else 0.0 for s, v in zip(std, varies)),
        low=tuple(int(lo) if whole else lo for lo in low),
        high=tuple(int(h) if whole else h for h in high),
    )


class _Moments:
    """Running count, extremes, mean and sum of squared deviations per channel, merged a chunk at a time
    (Chan, Golub, LeVeque 1983); values are taken relative to the first chunk's least, for precision far from zero.
    """

    def __init__(self, channels: int, whole: bool) -> None:
        self.whole = whole
        self.count = 0
        self.mean, self.squares = np.zeros(channels), np.zeros(channels)
        self.low = self.high = self.origin = np.zeros(0)

    def add(self, values: np.ndarray) -> None:
        """Take in values (B, C, n)."""
        low, high = values.min((0, 2)), values.max((0, 2))
        if not self.count:
            self.low, self.high, self.origin = low, high, low
        self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        with np.errstate(over="ignore", invalid="ignore"):
            shifted = self._difference(values, self.origin[:, None])
            count, mean = values.shape[0] * values.shape[2], shifted.mean((0, 2))
            squares = ((shifted - mean[:, None]) ** 2).sum((0, 2))
            total = self.count + count
            step = mean - self.mean
            self.squares += squares + step**2 * (self.count * count / total)
            self.mean += step * (count / total)
            self.count = total

    def mean_and_std(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the values; for whole numbers, of value - low + u."""
        variance = self.squares / self.count
        if self.whole:
            return self.mean + self._difference(self.origin, self.low) + 0.5, np.sqrt(
                variance + 1 / 12
            )
        return self.mean + self.origin.astype(np.float64), np.sqrt(variance)

    def _difference(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """A - b in float64, taken in whole numbers where both are, so that large ones lose nothing."""
        exact = np.int64 if self.whole else np.float64
        return (a.astype(exact) - b.astype(exact)).astype(np.float64)
