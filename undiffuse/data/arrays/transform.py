"""Between stored rows and unit scale: every column or channel is shifted and scaled.

    x = (v - mean) / std,                    log p(v) = log p(x) - sum log std

for real numbers v. Whole numbers are first dequantized on their own grid, v = k - low + u, u ~ U[0,
1), so that

    log P(k) >= E_u[log p(x)] - sum log std     (see `whole_numbers`).

Vectors have one mean and std for each column, anything larger for each channel. A column that is
constant in all n training rows has nothing to model: it is left out of x and restored. That a row
differs from it has probability 1/(n + 1), whatever it holds instead (see `unseen`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import final

import numpy as np
import torch
from torch import Tensor

from undiffuse.data.unseen import log_seen
from undiffuse.data.whole_numbers import dequantize, quantize
from undiffuse.errors import InputError
from undiffuse.interfaces import Noise


@final
class ArrayTransform:
    """The transform of images, arrays and recordings: any shape and any real type.

    `measure_array` makes one from data, `image_transform` from the number of levels of images.

    Args:
        row_shape: the shape of a stored row.
        layout: the shape in which the model sees a row with nothing left out: (D,), (C, L) or (C,
            H, W).
        channels_last: whether a row's last axis is the first of the layout.
        dtype: the stored type, as NumPy names it.
        mean: for each entry of the layout's first axis; of value - low + 1/2 for whole numbers.
        std: in the same way; 0 where all values are `low`.
        low: least values.
        high: greatest values.
        levels: K if every entry is a whole number 0 ... K - 1 and x fills [-1, 1].
        bounded: whether decoded numbers are kept between `low` and `high`; whole numbers always
            are.
        rows: how many training rows it was measured on.

    >>> transform = ArrayTransform(
    ...     row_shape=(3,), layout=(3,), channels_last=False, dtype="float32",
    ...     mean=(1.0, 0.0, 5.0), std=(2.0, 1.0, 0.0), low=(0.0, -1.0, 5.0), high=(2.0, 1.0, 5.0),
    ... )
    >>> x, log_correction = transform.encode(torch.tensor([[3.0, 0.0, 5.0]]), torch.zeros_like)
    >>> x, round(float(log_correction[0]), 3), transform.decode(x)
    (tensor([[1., 0.]]), -1.386, array([[3., 0., 5.]], dtype=float32))
    """

    def __init__(
        self,
        *,
        row_shape: tuple[int, ...],
        layout: tuple[int, ...],
        channels_last: bool,
        dtype: str,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        low: tuple[int | float, ...],
        high: tuple[int | float, ...],
        levels: int | None = None,
        bounded: bool = False,
        rows: int = 1,
    ) -> None:
        self.row_shape = row_shape
        self.layout = layout
        self.channels_last = channels_last
        self.dtype = dtype
        self.mean = mean
        self.std = std
        self.low = low
        self.high = high
        self.levels = levels
        self.bounded = bounded
        self.rows = rows
        self._inner = math.prod(layout[1:])  # values of a channel
        self._whole = np.dtype(dtype).kind in "biu"
        self._wide = self._whole and np.dtype(dtype).itemsize == 8  # float64 does not hold them all
        self._varying = [i for i, s in enumerate(std) if s > 0]
        self.constant = [i for i, s in enumerate(std) if s == 0]

    @property
    def shape(self) -> tuple[int, ...]:
        """The layout less its constant columns or channels."""
        return (len(self._varying), *self.layout[1:])

    @property
    def description(self) -> str:
        """One sentence on how the rows are modelled."""
        count, *sides = self.shape
        part = "channel" if sides else "column"
        what = f"{count} {part}{'s' * (count != 1)}"
        what += f" of {' x '.join(f'{side:,}' for side in sides)} values" if sides else ""
        if self.levels is not None:
            return (
                f"images with {what}, whole numbers from 0 to {self.levels - 1:,}, "
                "dequantized and scaled to [-1, 1]."
            )
        grid = ", whole numbers, dequantized and" if self._whole else ","
        constant = len(self.constant)
        constants = f"{constant} constant {part}{'s are' if constant > 1 else ' is'}"
        rest = f"; {constants} left out and restored" if constant else ""
        return f"{what}{grid} standardized per {part}{rest}."

    @property
    def bin_width(self) -> Tensor | float | None:
        """The width of a whole number's bin in x, broadcasting against x; None for real numbers."""
        if self.levels is not None:
            return 2 / self.levels
        return 1 / self._columns[1] if self._whole else None

    def encode(self, row: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Return x (B, *shape) float32 and the log correction (B,); see `interfaces.Transform`."""
        v = self._as_layout(row)
        varying = self._select(v)
        mean, std, low, _ = (values.to(row.device) for values in self._columns)
        if self._whole:
            k = (varying.long() - low).double() if self._wide else varying.double() - low
            x = dequantize(k, mean, std, noise)
        else:
            x = ((varying.double() - mean) / std).float()
        correction = -self._inner * sum(math.log(s) for s in self.std if s > 0)
        log_correction = torch.full((len(row),), correction, dtype=torch.float64, device=row.device)
        return x, log_correction + log_seen(~self.differs(row), self.rows).sum(1)

    def differs(self, row: Tensor) -> Tensor:
        """Return where rows differ from what is constant, (B, constant columns or channels)."""
        v, constant = self._as_layout(row)[:, self.constant], self._low[:, self.constant]
        others = v != constant.to(row.device)
        return others.reshape(len(row), len(self.constant), self._inner).any(2)

    def decode(self, x: Tensor) -> np.ndarray:
        """Return rows (B, *row_shape) of the stored type, whole numbers in the range observed."""
        x = x.detach().cpu()
        mean, std, low, high = self._columns
        if self._whole:
            k = quantize(x.nan_to_num(), mean, std).clamp(min=0).minimum((high - low).double())
            if self._wide:
                k = k.long().minimum(high - low)  # which float64 may have rounded up
            values = k + low
        else:
            limit = np.finfo(self.dtype)
            values = (x.double() * std + mean).clamp(float(limit.min), float(limit.max))
            values = values.nan_to_num().clamp(low, high) if self.bounded else values
        if len(self.constant):
            rows = self._low.expand(len(x), *self.layout).clone()
            rows[:, self._varying] = values
            values = rows
        array = values.numpy()
        if self.channels_last:
            shape = (len(x), self.row_shape[-1], *self.row_shape[:-1])
            array = np.moveaxis(array.reshape(shape), 1, -1)
        return array.reshape(len(x), *self.row_shape).astype(self.dtype, order="C")

    def cells(self, row: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the edges of each entry's bin in x, (B, *shape) float64; None without `levels`.

        Value k has the edges 2k/K - 1 and 2(k + 1)/K - 1; the first bin begins at -inf and the last
        ends at inf.
        """
        if self.levels is None:
            return None
        k = self._as_layout(row).double()
        low, high = 2 * k / self.levels - 1, 2 * (k + 1) / self.levels - 1
        return (
            torch.where(k <= 0, -math.inf, low),
            torch.where(k >= self.levels - 1, math.inf, high),
        )

    def known(self, mask: Tensor) -> Tensor:
        """Return the mask (B, *shape) of x for a mask (B, *row_shape) of rows, true where known."""
        return self._select(self._as_layout(mask))

    def _as_layout(self, row: Tensor) -> Tensor:
        row = row.moveaxis(-1, 1) if self.channels_last else row
        return row.reshape(len(row), *self.layout)

    def _select(self, v: Tensor) -> Tensor:
        """Return the columns that vary, of values (B, *layout)."""
        return v[:, self._varying] if len(self.constant) else v

    @cached_property
    def _columns(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean, std, low and high of the columns that vary: each (1, C, 1, ...), or () if alike."""

        def column(values: tuple[int | float, ...], dtype: torch.dtype = torch.float64) -> Tensor:
            varying = torch.tensor([values[i] for i in self._varying], dtype=dtype)
            alike = len(varying.unique()) == 1  # arithmetic with one number is faster
            return varying[0] if alike else self._as_column(varying)

        exact = torch.int64 if self._wide else torch.float64
        return (
            column(self.mean),
            column(self.std),
            column(self.low, exact),
            column(self.high, exact),
        )

    @cached_property
    def _low(self) -> Tensor:
        """`low` of all columns, (1, C, 1, ...)."""
        dtype = torch.int64 if self._wide else torch.float64
        return self._as_column(torch.tensor(self.low, dtype=dtype))

    def _as_column(self, values: Tensor) -> Tensor:
        return values.reshape(1, -1, *[1] * (len(self.layout) - 1))


def measure_array(
    chunks: Iterator[np.ndarray],
    *,
    name: str,
    row_shape: tuple[int, ...],
    layout: tuple[int, ...],
    channels_last: bool,
    dtype: str,
    bounded: bool = False,
) -> ArrayTransform:
    """Return the transform with the mean and std of the given rows, found in one pass.

    Whole numbers count as spread evenly over their bins: mean k + 1/2, variance larger by 1/12.

    Args:
        chunks: the rows, some (B, *row_shape) at a time.
        name: what the data is called in messages.
        row_shape: as in `ArrayTransform`.
        layout: as in `ArrayTransform`.
        channels_last: as in `ArrayTransform`.
        dtype: as in `ArrayTransform`.
        bounded: as in `ArrayTransform`.

    Raises:
        InputError: all rows are the same, or numbers are too large or too close together for their
            squares.
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
        bounded=bounded,
        rows=moments.rows,
    )


class _Moments:
    """Running count, extremes, mean and sum of squared deviations of each channel.

    Chunks are merged by Chan, Golub, LeVeque (1983). Values are taken relative to the first chunk's
    least, for precision far from zero.
    """

    def __init__(self, channels: int, whole: bool) -> None:
        self.whole = whole
        self.count = self.rows = 0
        self.mean, self.squares = np.zeros(channels), np.zeros(channels)
        self.low = self.high = self.origin = np.zeros(0)

    def add(self, values: np.ndarray) -> None:
        """Take in values (B, C, n)."""
        self.rows += len(values)
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
        """Return those of the values; for whole numbers, of value - low + u."""
        variance = self.squares / self.count
        if self.whole:
            mean = self.mean + self._difference(self.origin, self.low) + 0.5
            return mean, np.sqrt(variance + 1 / 12)
        return self.mean + self.origin.astype(np.float64), np.sqrt(variance)

    def _difference(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return a - b in float64; of whole numbers exactly, however large they are."""
        exact = np.int64 if self.whole else np.float64
        return (a.astype(exact) - b.astype(exact)).astype(np.float64)
