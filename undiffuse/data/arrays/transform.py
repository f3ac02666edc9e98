"""Between stored rows and unit scale, for images and for arrays of any shape.

Images, whole numbers 0 ... K - 1 at each of d places, fill the cube [-1, 1]^d:

    x = 2 (k + u) / K - 1,   u ~ U[0, 1),       log P(k) >= E[log p(x)] + d log(2 / K).

Arrays are standardized, with one mean and deviation for each column of vectors, each channel of anything larger:

    x = (v - mean) / std,                       log p(v) = log p(x) - sum log std,

whole numbers after dequantization on their own grid (v = k + u). A constant column has nothing to model: it is left
out of x and restored, and a row that differs from it has log-density minus infinity.
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from undiffuse.data.whole_numbers import dequantize, quantize
from undiffuse.interfaces import Noise


class ImageTransform:
    """Images with `levels` whole-number values, stored as `dtype` in rows of shape `row_shape`.

    `channel_axis` is the place of the channels within a row: -1 (H, W, C), 0 (C, H, W), or None for (H, W).

    >>> transform = ImageTransform(row_shape=(2, 2, 3), channel_axis=-1, levels=256, dtype="uint8")
    >>> x, log_correction = transform.encode(torch.zeros(1, 2, 2, 3, dtype=torch.uint8), torch.zeros_like)
    >>> x.shape, round(float(log_correction[0]), 3)
    (torch.Size([1, 3, 2, 2]), -58.224)
    """

    def __init__(
        self, *, row_shape: tuple[int, ...], channel_axis: int | None, levels: int, dtype: str
    ) -> None:
        self.row_shape = row_shape
        self.channel_axis = channel_axis
        self.levels = levels
        self.dtype = dtype

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        if self.channel_axis is None:
            return (1, self.row_shape[0], self.row_shape[1])
        sides = list(self.row_shape)
        channels = sides.pop(self.channel_axis)
        return (channels, sides[0], sides[1])

    @property
    def description(self) -> str:
        """One sentence on how the rows are modelled."""
        c, h, w = self.shape
        return (
            f"images of {h} x {w} (height x width) with {c} channel{'s' * (c > 1)} of {self.levels:,} whole-number "
            "values each, dequantized and scaled to [-1, 1]."
        )

    def encode(self, row: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Rows (B, *row_shape) -> x (B, C, H, W) float32 in [-1, 1] and the log correction (B,), d log(2 / K)."""
        half = self.levels / 2
        k = (
            row.unsqueeze(1)
            if self.channel_axis is None
            else row.moveaxis(_batched(self.channel_axis), 1)
        )
        x = dequantize(k.double().contiguous(), half, half, noise)
        correction = math.prod(self.shape) * math.log(2 / self.levels)
        return x, torch.full((len(row),), correction, dtype=torch.float64, device=row.device)

    @property
    def bin_width(self) -> float:
        """The width of one value's bin in x."""
        return 2 / self.levels

    def cells(self, row: Tensor) -> tuple[Tensor, Tensor]:
        """The edges (low, high) of the bins of rows (B, *row_shape) in x, each (B, C, H, W) float64.

        Value k has 2k/K - 1 and 2(k + 1)/K - 1; the first bin begins at -inf and the last ends at +inf.
        """
        k = (
            row.unsqueeze(1)
            if self.channel_axis is None
            else row.moveaxis(_batched(self.channel_axis), 1)
        )
        k = k.double()
        low, high = 2 * k / self.levels - 1, 2 * (k + 1) / self.levels - 1
        return torch.where(k <= 0, -math.inf, low), torch.where(
            k >= self.levels - 1, math.inf, high
        )

    def known(self, mask: Tensor) -> Tensor:
        """Which entries of x are known where `mask` (B, *row_shape) says it of the row's, (B, C, H, W)."""
        return (
            mask.unsqueeze(1)
            if self.channel_axis is None
            else mask.moveaxis(_batched(self.channel_axis), 1)
        )

    def decode(self, x: Tensor) -> np.ndarray:
        """X (B, C, H, W) -> rows (B, *row_shape) of the stored type; what lies outside of [-1, 1] is clamped."""
        half = self.levels / 2
        k = quantize(x.detach().cpu(), half, half).clamp(0, self.levels - 1).numpy()
        k = k[:, 0] if self.channel_axis is None else np.moveaxis(k, 1, _batched(self.channel_axis))
        return np.ascontiguousarray(k.astype(self.dtype))


class ArrayTransform:
    """Rows of any shape and real type, standardized; `measure.array_transform` makes one from data.

    `layout` is the shape in which the model sees a row with nothing left out: (D,), (C, L) or (C, H, W), with one
    mean, std, low (least value) and high (greatest) for each entry of its first axis; std is 0 where all values are
    `low`. `channels_last` says that a row's last axis is the first of the layout. For whole-number types (`dtype`
    bool, int*, uint*) mean and std are those of value - low + 1/2.

    >>> transform = ArrayTransform(row_shape=(3,), layout=(3,), channels_last=False, dtype="float32",
    ...                            mean=(1.0, 0.0, 5.0), std=(2.0, 1.0, 0.0), low=(0.0, -1.0, 5.0),
    ...                            high=(2.0, 1.0, 5.0))
    >>> x, log_correction = transform.encode(torch.tensor([[3.0, 0.0, 5.0]]), torch.zeros_like)
    >>> x, round(float(log_correction[0]), 3), transform.decode(x)
    (tensor([[1., 0.]]), -0.693, array([[3., 0., 5.]], dtype=float32))
    """

    levels = None

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
    ) -> None:
        self.row_shape = row_shape
        self.layout = layout
        self.channels_last = channels_last
        self.dtype = dtype
        self.mean = mean
        self.std = std
        self.low = low
        self.high = high
        self.levels = None
        self._whole = np.dtype(dtype).kind in "biu"
        self._varies = torch.tensor([s > 0 for s in std])

    @property
    def shape(self) -> tuple[int, ...]:
        """The layout less its constant columns or channels."""
        return (sum(s > 0 for s in self.std), *self.layout[1:])

    @property
    def description(self) -> str:
        """One sentence on how the rows are modelled."""
        n, *rest = self.shape
        part = "column" if not rest else "channel"
        what = (
            f"vectors of {n} {part}s"
            if not rest
            else f"{n} {part}s of {' x '.join(map(str, rest))} values"
        )
        grid = ", dequantized on their whole-number grid," if self._whole else ""
        constant = len(self.std) - n
        left_out = f"; {constant} constant {part}s are left out and restored" * (constant > 0)
        return f"{what.replace('1 ' + part + 's', '1 ' + part)}{grid} standardized per {part}{left_out}."

    def encode(self, row: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Rows (B, *row_shape) -> x (B, *shape) float32 and the log correction (B,), minus the sum of log std."""
        row = row.moveaxis(-1, 1) if self.channels_last else row
        row = row.reshape(len(row), *self.layout)
        low, mean, std = (_per_channel(values, row) for values in self._columns)
        varies = self._varies.to(row.device)
        if (
            self._whole
        ):  # the difference is taken in whole numbers, where it is exact however large they are
            offset = (row.long() - low.long()).double()
            x = dequantize(offset[:, varies], mean[:, varies], std[:, varies], noise)
            differs = offset[:, ~varies] != 0
        else:
            x = ((row[:, varies].double() - mean[:, varies]) / std[:, varies]).float()
            differs = row[:, ~varies].double() != low[:, ~varies]
        correction = torch.full(
            (len(row),), self._log_correction, dtype=torch.float64, device=row.device
        )
        return x, correction.masked_fill(differs.flatten(1).any(1), -math.inf)

    @property
    def bin_width(self) -> Tensor | None:
        """The width of a whole number's bin in x, broadcasting against it; None for real numbers."""
        std = self._columns[2][self._varies]
        return 1 / std.reshape(1, -1, *[1] * (len(self.layout) - 1)) if self._whole else None

    def cells(self, row: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return None: bins are dequantized."""
        return None

    def known(self, mask: Tensor) -> Tensor:
        """Which entries of x are known where `mask` (B, *row_shape) says it of the row's, (B, *shape)."""
        mask = mask.moveaxis(-1, 1) if self.channels_last else mask
        return mask.reshape(len(mask), *self.layout)[:, self._varies]

    def decode(self, x: Tensor) -> np.ndarray:
        """X (B, *shape) -> rows (B, *row_shape) of the stored type; whole numbers stay in the range observed."""
        x = x.detach().cpu()
        low, mean, std = (_per_channel(values, x) for values in self._columns)
        value = low.expand(len(x), *self.layout).clone()
        v = self._varies
        if self._whole:
            span = _per_channel(torch.tensor([h - lo for lo, h in zip(self.low, self.high)]), x)[
                :, v
            ]
            k = quantize(x, mean[:, v], std[:, v]).clamp(torch.zeros_like(span), span.double())
            value[:, v] += torch.minimum(k.long(), span.long())
        else:
            value[:, v] = x.double() * std[:, v] + mean[:, v]
        rows = value.numpy()
        if not self._whole:
            limit = np.finfo(self.dtype)
            rows = np.clip(rows, float(limit.min), float(limit.max))
        rows = (
            np.moveaxis(rows.reshape(len(rows), *self._moved), 1, -1)
            if self.channels_last
            else rows
        )
        return np.ascontiguousarray(rows.reshape(len(rows), *self.row_shape).astype(self.dtype))

    @cached_property
    def _columns(self) -> tuple[Tensor, Tensor, Tensor]:
        low = torch.tensor(self.low, dtype=torch.int64 if self._whole else torch.float64)
        return (
            low,
            torch.tensor(self.mean, dtype=torch.float64),
            torch.tensor(self.std, dtype=torch.float64),
        )

    @property
    def _moved(self) -> tuple[int, ...]:
        """The row's shape with the channels first."""
        return (self.row_shape[-1], *self.row_shape[:-1])

    @cached_property
    def _log_correction(self) -> float:
        return -math.prod(self.layout[1:]) * sum(math.log(s) for s in self.std if s > 0)


def _batched(axis: int) -> int:
    return axis if axis < 0 else axis + 1


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    """(C,) -> (1, C, 1, ...), on the device of `like`, to go with (B, C, ...)."""
    return values.to(like.device).reshape(1, -1, *[1] * (like.ndim - 2))
