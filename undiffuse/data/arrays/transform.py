r"""Between stored rows and unit scale: every column or channel is shifted and scaled.

    x = (v - mean) / std,                    log p(v) = log p(x) - sum log std

for real numbers v. Whole numbers are first dequantized on their own grid, v = k - low + u, u ~ U[0,
1), so that

    log P(k) >= E_u[log p(x)] - sum log std     (see `whole_numbers`).

Vectors have one mean and std for each column, anything larger for each channel; sequences whose
mean or scale changes along time have them for each channel and step. A column that is constant in
all n training rows has nothing to model: it is left out of x and restored. That a row differs from
it has probability 1/(n + 1), whatever it holds instead (see `unseen`).

*Gaps.* A channel in which some value is NaN has a second one in x, of the levels {known, missing}
(see `tables.modelled`), and where a value is missing x holds z ~ N(0, 1), whose log-density is
subtracted: the likelihood is that of what is known and of where the gaps are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from undiffuse.data.arrays.axes import layout_of
from undiffuse.data.tables.batches import LevelBatch, negative_log_normal
from undiffuse.data.tables.modelled import LevelColumn
from undiffuse.data.unseen import log_seen
from undiffuse.data.whole_numbers import dequantize, quantize
from undiffuse.errors import InputError
from undiffuse.interfaces import Noise

_LEAST_ROWS = 32  # that means and stds for each step are measured on
_SHARE, _CHANGE = 0.1, 0.25  # from where on they are used; see `_by_step`


@final
class ArrayTransform:
    """The transform of images, arrays and recordings: any shape and any real type.

    `measure_array` makes one from data, `image_transform` from the number of levels of images.

    Args:
        row_shape: the shape of a stored row.
        axes: the letters of a row's axes (see `axes`).
        dtype: the stored type, as NumPy names it.
        mean: for each column or channel, or for each channel and step, one channel after another;
            of value - low + 1/2 for whole numbers.
        std: in the same way; 0 where all values are `low`.
        low: least values of each column or channel.
        high: greatest values.
        levels: K if every entry is a whole number 0 ... K - 1 and x fills [-1, 1].
        bounded: whether decoded numbers are kept between `low` and `high`; whole numbers always
            are.
        rows: how many training rows it was measured on.
        gaps: (column or channel, values known, values missing) of those with NaN.

    >>> transform = ArrayTransform(
    ...     row_shape=(3,), axes="C", dtype="float32",
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
        axes: str,
        dtype: str,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        low: tuple[int | float, ...],
        high: tuple[int | float, ...],
        levels: int | None = None,
        bounded: bool = False,
        rows: int = 1,
        gaps: Sequence[tuple[int, int, int]] = (),
    ) -> None:
        self.row_shape = row_shape
        self.axes = axes
        self.layout = layout = layout_of(row_shape, axes)
        self.dtype = dtype
        self.mean = mean
        self.std = std
        self.low = low
        self.high = high
        self.levels = levels
        self.bounded = bounded
        self.rows = rows
        self.gaps = tuple((channel, known, missing) for channel, known, missing in gaps)
        self._inner = math.prod(layout[1:])  # values of a channel
        self._steps = len(std) // layout[0]  # means and scales of a channel
        self._with_gaps = [channel for channel, _, _ in self.gaps]
        self._missing = (
            LevelBatch([_known_or_missing(*counts) for _, *counts in self.gaps]) if gaps else None
        )
        self._whole = np.dtype(dtype).kind in "biu"
        self._wide = self._whole and np.dtype(dtype).itemsize == 8  # float64 does not hold them all
        self._varying = [i for i in range(layout[0]) if std[i * self._steps] > 0]
        self.constant = [i for i in range(layout[0]) if std[i * self._steps] == 0]
        self._where = axes.find("C") if len(axes) > 1 else -1  # a row's axis of channels, or none

    @property
    def shape(self) -> tuple[int, ...]:
        """The layout less its constant columns or channels, with one more for each with gaps."""
        return (len(self._varying) + len(self.gaps), *self.layout[1:])

    @property
    def by_step(self) -> bool:
        """Whether every step of time has a mean and a scale of its own."""
        return self._steps > 1

    @property
    def description(self) -> str:
        """One sentence on how the rows are modelled."""
        count, sides = len(self._varying), self.layout[1:]
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
        per = f"{part} and step" if self.by_step else part
        gaps = len(self.gaps)
        rest += f"; {gaps} more for where values are missing" if gaps else ""
        return f"{what}{grid} standardized per {per}{rest}."

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
        seen = log_seen(~self.differs(row), self.rows).sum(1)
        scales = math.fsum(math.log(s) for s in self.std if s > 0) * (self._inner // self._steps)
        if self._missing is None:
            return x, seen - scales
        return self._fill(x, v.isnan(), noise, seen)

    def _fill(
        self, x: Tensor, missing: Tensor, noise: Noise, seen: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Encode where values are missing (B, *layout), and fill x there with noise."""
        assert self._missing is not None
        batch, z = len(x), noise(x.new_zeros(len(x), *self.shape))
        fill, z = z.split([len(self._varying), len(self.gaps)], 1)
        gone = self._select(missing)
        x = torch.where(gone, fill, x)
        log_std = self._columns[1].log().to(x.device)
        corrections = torch.where(gone, negative_log_normal(x), -log_std).flatten(1).sum(1)
        by_channel = missing[:, self._with_gaps].movedim(1, 0).flatten(1).long()
        flags, more = self._missing.spread(by_channel, z.movedim(1, 0).flatten(1))
        flags = flags.reshape(len(self.gaps), batch, *self.layout[1:]).movedim(0, 1)
        more = more.reshape(len(self.gaps), batch, -1).sum((0, 2))
        return torch.cat([x, flags.to(x.dtype)], 1), corrections + more + seen

    def differs(self, row: Tensor) -> Tensor:
        """Return where rows differ from what is constant, (B, constant columns or channels)."""
        v, constant = self._as_layout(row)[:, self.constant], self._low[:, self.constant]
        others = (v != constant.to(row.device)) & (v == v)
        return others.reshape(len(row), len(self.constant), self._inner).any(2)

    def decode(self, x: Tensor) -> np.ndarray:
        """Return rows (B, *row_shape) of the stored type, whole numbers in the range observed."""
        x, flags = x.detach().cpu().split([len(self._varying), len(self.gaps)], 1)
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
        if self._missing is not None:
            by_channel = flags.nan_to_num().movedim(1, 0).flatten(1).contiguous()
            gone = self._missing.level_at(by_channel) == 1
            gone = gone.reshape(len(self.gaps), len(x), *self.layout[1:]).movedim(0, 1)
            values[:, self._with_gaps] = values[:, self._with_gaps].masked_fill(gone, math.nan)
        array = values.numpy()
        if self._where > 0:
            sides = [side for i, side in enumerate(self.row_shape) if i != self._where]
            shape = (len(x), self.row_shape[self._where], *sides)
            array = np.moveaxis(array.reshape(shape), 1, self._where + 1)
        return array.reshape(len(x), *self.row_shape).astype(self.dtype, order="C")

    def decoding(self) -> dict[str, Any] | None:
        """Return how `decode` makes rows of x, as plain data; None where there is more to it.

        Rows are x std + mean, of whole numbers rounded down, then between 0 and high - low, plus
        low; then the axis of channels is moved to where a row has it. Keys: mean, std, low, high
        (numbers, or lists that broadcast against x), whole, bounded, channel (the axis of a row;
        None: the first), row_shape, dtype. There is more to constant columns, gaps and whole
        numbers of 64 bits.
        """
        if self.constant or self.gaps or self._wide:
            return None
        mean, std, low, high = (one.tolist() for one in self._columns)
        return {
            "mean": mean,
            "std": std,
            "low": low,
            "high": high,
            "whole": self._whole,
            "bounded": self.bounded,
            "channel": self._where if self._where > 0 else None,
            "row_shape": list(self.row_shape),
            "dtype": self.dtype,
        }

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
        """Return the mask (B, *shape) of x for a mask (B, *row_shape) of rows, true where known.

        That no value is missing is known of each: what is drawn for a gap is a value.
        """
        values = self._select(self._as_layout(mask))
        return torch.cat([values, values.new_ones(len(mask), len(self.gaps), *self.layout[1:])], 1)

    def missing_elsewhere(self, row: Tensor) -> Tensor:
        """Return which rows (B, *row_shape) have a NaN where no training row has one."""
        empty = self._as_layout(row).isnan().reshape(len(row), self.layout[0], -1).any(2)
        empty[:, self._with_gaps] = False
        return empty.any(1)

    def _as_layout(self, row: Tensor) -> Tensor:
        row = row.moveaxis(self._where + 1, 1) if self._where > 0 else row
        return row.reshape(len(row), *self.layout)

    def _select(self, v: Tensor) -> Tensor:
        """Return the columns that vary, of values (B, *layout)."""
        return v[:, self._varying] if len(self.constant) else v

    @cached_property
    def _columns(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Mean, std, low and high of the columns that vary.

        Each is (1, C, 1, ...), (1, C, L) if there is one for each step, or () if all are alike.
        """

        def column(values: tuple[int | float, ...], dtype: torch.dtype = torch.float64) -> Tensor:
            each = torch.tensor(values, dtype=dtype).reshape(self.layout[0], -1)[self._varying]
            alike = len(each.unique()) == 1  # arithmetic with one number is faster
            return each[0, 0] if alike else self._as_column(each)

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
        return self._as_column(torch.tensor(self.low, dtype=dtype).reshape(-1, 1))

    def _as_column(self, values: Tensor) -> Tensor:
        """Return values (C, 1) or (C, L) with the axes of rows in the layout."""
        steps = values.shape[1:] if values.shape[1] > 1 else [1] * (len(self.layout) - 1)
        return values.reshape(1, len(values), *steps)


def _known_or_missing(known: int, missing: int) -> LevelColumn:
    """The column of levels {known, missing}, which so many values of training rows are."""
    return LevelColumn(name="missing", values=[], masses=[max(known, 1), max(missing, 1)], unseen=0)


def measure_array(
    chunks: Iterator[np.ndarray],
    *,
    name: str,
    row_shape: tuple[int, ...],
    axes: str,
    dtype: str,
    bounded: bool = False,
    gaps: Sequence[int] = (),
) -> ArrayTransform:
    """Return the transform with the mean and std of the given rows, found in one pass.

    Whole numbers count as spread evenly over their bins: mean k + 1/2, variance larger by 1/12.

    Args:
        chunks: the rows, some (B, *row_shape) at a time.
        name: what the data is called in messages.
        row_shape: as in `ArrayTransform`.
        axes: as in `ArrayTransform`.
        dtype: as in `ArrayTransform`.
        bounded: as in `ArrayTransform`.
        gaps: the columns or channels in which some row, if only one held out, has NaN.

    Raises:
        InputError: all rows are the same, a column or channel is empty, or numbers are too large or
            too close together for their squares.
    """
    whole = np.dtype(dtype).kind in "biu"
    layout, where = layout_of(row_shape, axes), axes.find("C") if len(axes) > 1 else -1
    moments, steps = _Moments(layout[0], whole), None
    if len(layout) == 2 and not bounded:
        steps = _Moments(math.prod(layout), whole)
    for chunk in chunks:
        values = np.moveaxis(chunk, where + 1, 1) if where > 0 else chunk
        moments.add(values.reshape(len(values), layout[0], -1))
        if steps:
            steps.add(values.reshape(len(values), -1, 1))
    if (empty := np.flatnonzero(moments.count == 0)).size:
        raise InputError(
            f"{name}: {'column' if len(layout) == 1 else 'channel'} {empty[0]} has no value in any "
            "training row, only NaN; leave it out or fill it."
        )
    low, high = moments.low.tolist(), moments.high.tolist()
    mean, std = _spread(moments, low, high, whole=whole, name=name)
    if steps and moments.rows >= _LEAST_ROWS:
        mean, std = _by_step(moments, steps, mean, std)
    return ArrayTransform(
        row_shape=row_shape,
        axes=axes,
        dtype=dtype,
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
        low=tuple(int(lo) if whole else lo for lo in low),
        high=tuple(int(h) if whole else h for h in high),
        bounded=bounded,
        rows=moments.rows,
        gaps=[(i, int(moments.count[i]), int(moments.missing[i])) for i in gaps],
    )


def _spread(
    moments: _Moments, low: list[Any], high: list[Any], *, whole: bool, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Return the means and deviations, 0 where nothing varies. Raises InputError."""
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
    return mean, np.where(varies, std, 0.0)


def _by_step(
    moments: _Moments, steps: _Moments, mean: np.ndarray, std: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return means and stds for each channel and step if they change along time, else as given.

    They change if, less what chance adds, the means of the steps account for a tenth of the
    variance of some channel, or the logarithms of their stds have a deviation of 0.25.
    """
    shape = (len(std), -1)
    step_mean, step_std = (part.reshape(shape) for part in steps.mean_and_std())
    if steps.whole:  # of values less their own least, of the channel's here
        step_mean += moments.difference(steps.low.reshape(shape), moments.low[:, None])
    n = np.maximum(steps.count.reshape(shape), 1)
    varies = std > 0
    with np.errstate(all="ignore"):
        share = (np.var(step_mean, 1) - (step_std**2 / n).mean(1)) / std**2
        least = 0.05 * np.median(step_std, 1, keepdims=True)
        logs = np.log(np.maximum(step_std, least))
        changes = np.var(logs, 1) - (1 / n).mean(1)
    differ = varies & ((share >= _SHARE) | (changes >= _CHANGE**2))
    usable = np.isfinite(step_mean).all() and (steps.count.reshape(shape)[varies] >= 8).all()
    if not differ.any() or not usable:
        return mean, std
    floor = np.where(least > 0, least, std[:, None])
    step_std = np.where(varies[:, None], np.maximum(step_std, floor), 0.0)
    return step_mean.ravel(), step_std.ravel()


class _Moments:
    """Running count, extremes, mean and sum of squared deviations of each channel.

    Chunks are merged by Chan, Golub, LeVeque (1983). Values are taken relative to the first chunk's
    least, for precision far from zero.
    """

    def __init__(self, channels: int, whole: bool) -> None:
        self.whole = whole
        self.rows = 0
        self.count = self.missing = np.zeros(channels, np.int64)
        self.mean, self.squares = np.zeros(channels), np.zeros(channels)
        self.low = self.high = self.origin = np.zeros(0)

    def add(self, values: np.ndarray) -> None:
        """Take in values (B, C, n), NaN where missing."""
        self.rows += len(values)
        known = np.full(self.count.shape, values.shape[0] * values.shape[2])
        empty = np.isnan(values) if values.dtype.kind == "f" else None
        if empty is not None and not empty.any():
            empty = None
        if empty is None:
            low, high = values.min((0, 2)), values.max((0, 2))
        else:
            gone = empty.sum((0, 2))
            known, self.missing = known - gone, self.missing + gone
            low, high = np.fmin.reduce(values, (0, 2)), np.fmax.reduce(values, (0, 2))
        if not self.low.size:
            self.low, self.high, self.origin = low, high, low
        elif self.whole:
            self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
        else:
            self.low, self.high = np.fmin(self.low, low), np.fmax(self.high, high)
            self.origin = np.where(np.isnan(self.origin), low, self.origin)
        with np.errstate(over="ignore", invalid="ignore"):
            shifted = self.difference(values, self.origin[:, None])
            if empty is not None:
                shifted[empty] = 0.0
            mean = shifted.sum((0, 2)) / np.maximum(known, 1)
            deviations = shifted - mean[:, None]
            if empty is not None:
                deviations[empty] = 0.0
            squares = (deviations**2).sum((0, 2))
            total = self.count + known
            step = mean - self.mean
            self.squares += squares + step**2 * (self.count * (known / np.maximum(total, 1)))
            self.mean += step * (known / np.maximum(total, 1))
            self.count = total

    def mean_and_std(self) -> tuple[np.ndarray, np.ndarray]:
        """Return those of the values; for whole numbers, of value - low + u."""
        variance = self.squares / np.maximum(self.count, 1)
        if self.whole:
            mean = self.mean + self.difference(self.origin, self.low) + 0.5
            return mean, np.sqrt(variance + 1 / 12)
        return self.mean + self.origin.astype(np.float64), np.sqrt(variance)

    def difference(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """Return a - b in float64; of whole numbers exactly, however large they are."""
        exact = np.int64 if self.whole else np.float64
        return (a.astype(exact) - b.astype(exact)).astype(np.float64)
