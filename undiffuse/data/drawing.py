"""Pictures of many rows at once: tiles, curves and points. Drawn without any state of pyplot's."""

from __future__ import annotations

import io
import math
from typing import Any

import numpy as np
from PIL import Image

_CELLS = 64  # curves in one picture


def tile(images: np.ndarray) -> Image.Image:
    """Images (n, H, W, C) uint8, C = 1 to 4 (grey, grey + alpha, RGB, RGB + alpha), side by side, near-square.

    Tiny images are enlarged by a whole factor, so that every pixel stays a sharp square.

    >>> tile(np.zeros((16, 8, 8, 1), np.uint8)).size
    (266, 266)
    """
    n, h, w, channels = images.shape
    factor = max(1, round(64 / max(h, w)))
    images = images.repeat(factor, axis=1).repeat(factor, axis=2)
    h, w = h * factor, w * factor
    gap = max(1, min(h, w) // 24)
    columns = min(max(1, round(math.sqrt(n * h / w))), max(n, 1))
    lines = -(-n // columns)
    background = (255,) * channels if channels in (1, 3) else (255,) * (channels - 1) + (0,)
    canvas = np.empty((lines * (h + gap) + gap, columns * (w + gap) + gap, channels), np.uint8)
    canvas[:] = background
    for i, image in enumerate(images):
        top, left = gap + i // columns * (h + gap), gap + i % columns * (w + gap)
        canvas[top : top + h, left : left + w] = image
    return to_image(canvas)


def to_image(pixels: np.ndarray) -> Image.Image:
    """Pixels (H, W, C) uint8, or (H, W, 1) uint16, as an image of the same values."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def to_bytes(values: np.ndarray, low: int | float, high: int | float) -> np.ndarray:
    """Values from `low` to `high` as uint8 from 0 to 255, clipped and rounded.

    >>> to_bytes(np.array([0, 8, 16]), 0, 16).tolist()
    [0, 128, 255]
    """
    with np.errstate(invalid="ignore"):
        scaled = (np.asarray(values, np.float64) - low) * (255 / max(high - low, 1e-300))
    return np.clip(np.rint(np.nan_to_num(scaled)), 0, 255).astype(np.uint8)


def curves(sequences: np.ndarray) -> Image.Image:
    """The first 64 of sequences (n, C, L), one cell each with a line per channel, all on one scale."""
    from matplotlib.collections import LineCollection

    sequences = np.nan_to_num(np.asarray(sequences[:_CELLS], np.float64))
    n, channels, length = sequences.shape
    columns = max(1, math.ceil(math.sqrt(n / 2)))
    low, high = sequences.min(), sequences.max()
    figure, axes = _figure(width=8.0, height=max(1.5, 8.0 * -(-n // columns) / columns / 2))
    x = np.linspace(0.04, 0.96, length)
    for channel in range(channels):
        y = 0.05 + 0.9 * (sequences[:, channel] - low) / max(high - low, 1e-300)
        cells = [
            np.column_stack([x + i % columns, line - i // columns]) for i, line in enumerate(y)
        ]
        axes.add_collection(LineCollection(cells, colors=f"C{channel % 10}", linewidths=0.8))
    axes.set_xlim(0, columns)
    axes.set_ylim(1 - -(-n // columns), 1)
    axes.axis("off")
    return _render(figure)


def points(values: np.ndarray) -> Image.Image:
    """Points (n, 2) in the plane, with equal axes."""
    figure, axes = _figure(width=5.0, height=5.0)
    axes.scatter(
        values[:, 0], values[:, 1], s=max(0.5, min(12.0, 4000 / max(len(values), 1))), linewidths=0
    )
    axes.set_aspect("equal", adjustable="datalim")
    return _render(figure)


def histogram(values: np.ndarray) -> Image.Image:
    """How often each value (n,) occurs."""
    figure, axes = _figure(width=5.0, height=3.5)
    values = np.asarray(values, np.float64)
    axes.hist(values[np.isfinite(values)], bins=min(60, max(8, len(values) // 10)))
    return _render(figure)


def _figure(*, width: float, height: float) -> tuple[Any, Any]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="tight")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _render(figure: Any) -> Image.Image:
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    stream.seek(0)
    return Image.open(stream).convert("RGB")
