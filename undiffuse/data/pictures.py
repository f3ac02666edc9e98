"""Pictures of many rows at once: images side by side, curves, points, histograms.

Figures are drawn without a display and without matplotlib's global state.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from PIL import Image

if TYPE_CHECKING:  # importing matplotlib takes a second: only what draws a figure does it
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LITERAL: dict[str, Any] = {"parse_math": False}  # texts with names from the data: $ is a letter
_MOST_CURVES = 64  # in one picture
_TINY = 1e-300  # keeps a range of zero from being divided by


def tile_images(images: np.ndarray) -> Image.Image:
    """Return images side by side in a nearly square picture.

    Small images are enlarged by a whole factor, so that every pixel stays a sharp square.

    Args:
        images: (n, H, W, C) uint8; C is 1 to 4: grey, grey + alpha, RGB, RGB + alpha.

    >>> tile_images(np.zeros((16, 8, 8, 1), np.uint8)).size
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
    return pixels_to_image(canvas)


def untiled(picture: Image.Image) -> Image.Image:
    """Return the one image that `tile_images` made a picture of, without the frame around it.

    >>> untiled(tile_images(np.zeros((1, 8, 8, 1), np.uint8))).size
    (64, 64)
    """
    side = min(picture.size)
    gap = next(gap for gap in range(1, side) if gap == max(1, (side - 2 * gap) // 24))
    return picture.crop((gap, gap, picture.width - gap, picture.height - gap))


def pixels_to_image(pixels: np.ndarray) -> Image.Image:
    """Return pixels (H, W, C) uint8, or (H, W, 1) uint16, as an image of the same values."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def to_bytes(values: np.ndarray, low: int | float, high: int | float) -> np.ndarray:
    """Return values as uint8, with `low` as 0 and `high` as 255, rounded and clipped.

    >>> to_bytes(np.array([0, 8, 16]), 0, 16).tolist()
    [0, 128, 255]
    """
    with np.errstate(invalid="ignore"):
        scaled = (np.asarray(values, np.float64) - low) * (255 / max(high - low, _TINY))
    return np.clip(np.rint(np.nan_to_num(scaled)), 0, 255).astype(np.uint8)


def draw_curves(sequences: np.ndarray) -> Image.Image:
    """Return the first 64 of sequences (n, C, L), a cell each, a line per channel.

    They have one scale, unless their ranges differ fourfold: then each channel has its own. NaN is
    a gap in its line.
    """
    from matplotlib.collections import LineCollection

    sequences = np.array(sequences[:_MOST_CURVES], np.float64)
    sequences[np.isinf(sequences)] = np.nan
    n, channels, length = sequences.shape
    columns = max(1, math.ceil(math.sqrt(n / 2)))
    lines = -(-n // columns)
    low = np.fmin.reduce(sequences, (0, 2))
    span = np.nan_to_num(np.fmax.reduce(sequences, (0, 2)) - low)
    if span.max(initial=0) < 4 * span.min(initial=np.inf):
        low, span = np.full(channels, np.fmin.reduce(low)), np.full(channels, 0.0)
        span += np.nan_to_num(np.fmax.reduce(sequences, None) - low)
    figure, axes = _single_axes(width=8.0, height=max(1.5, 8.0 * lines / columns / 2))
    x = np.linspace(0.04, 0.96, length)
    for channel in range(channels):
        y = 0.05 + 0.9 * (sequences[:, channel] - low[channel]) / max(span[channel], _TINY)
        cells = [np.column_stack([x + i % columns, y_i - i // columns]) for i, y_i in enumerate(y)]
        axes.add_collection(LineCollection(cells, colors=f"C{channel % 10}", linewidths=0.8))
    axes.set_xlim(0, columns)
    axes.set_ylim(1 - lines, 1)
    axes.axis("off")
    return figure_to_image(figure)


BANDED = 8  # sequences whose bands are drawn


def draw_bands(known: np.ndarray, drawn: np.ndarray) -> Image.Image:
    """Return what is known of sequences, and the median and the 50 % and 90 % bands of the rest.

    A line of plots for each of the first `BANDED` sequences, a plot for each of the first 4
    channels.

    Args:
        known: (m, C, L), NaN where a value is drawn.
        drawn: completions (m, n, C, L).
    """
    m, channels, length = len(known), min(known.shape[1], 4), known.shape[2]
    figure, axes = small_axes(min(m, BANDED) * channels, channels, width=3.6, height=2.0)
    place = np.arange(length)
    for i, axis in enumerate(axes):
        row, channel = divmod(i, channels)
        values, own = drawn[row, :, channel].astype(np.float64), known[row, channel]
        levels = np.nanquantile(values, (0.05, 0.25, 0.5, 0.75, 0.95), axis=0)
        levels[:, ~_beside_gap(np.isnan(own))] = np.nan
        axis.fill_between(place, levels[0], levels[4], color="C0", alpha=0.2, lw=0, label="90 %")
        axis.fill_between(place, levels[1], levels[3], color="C0", alpha=0.4, lw=0, label="50 %")
        axis.plot(place, levels[2], color="C0", lw=1, label="median")
        axis.plot(place, own, color="black", lw=1, marker=".", ms=2, label="known")
        axis.set_title(f"row {row}" + (f", channel {channel}" if channels > 1 else ""), fontsize=7)
    axes[0].legend(fontsize=5)
    return figure_to_image(figure)


def _beside_gap(gap: np.ndarray) -> np.ndarray:
    """Where values (L,) are unknown or next to one that is, so that bands meet what is known."""
    near = gap.copy()
    near[1:] |= gap[:-1]
    near[:-1] |= gap[1:]
    return near


def draw_points(points: np.ndarray) -> Image.Image:
    """Return a scatter plot of points (n, 2), with equal scales on both axes."""
    figure, axes = _single_axes(width=5.0, height=5.0)
    size = max(0.5, min(12.0, 4000 / max(len(points), 1)))
    axes.scatter(points[:, 0], points[:, 1], s=size, linewidths=0)
    axes.set_aspect("equal", adjustable="datalim")
    return figure_to_image(figure)


def draw_histogram(values: np.ndarray) -> Image.Image:
    """Return a histogram of values (n,); NaN and infinite ones are left out."""
    figure, axes = _single_axes(width=5.0, height=3.5)
    values = np.asarray(values, np.float64)
    axes.hist(values[np.isfinite(values)], bins=min(60, max(8, len(values) // 10)))
    return figure_to_image(figure)


def small_axes(
    count: int, columns: int = 4, width: float = 2.2, height: float = 1.7
) -> tuple[Figure, list[Axes]]:
    """Return a figure of `count` small plots, at most `columns` side by side.

    Args:
        count: number of plots.
        columns: most plots in one line.
        width: of one plot, inches.
        height: of one plot, inches.
    """
    from matplotlib.figure import Figure

    across = min(columns, count)
    down = math.ceil(count / across)
    figure = Figure(figsize=(width * across, height * down), dpi=100)
    figure.subplots_adjust(
        left=0.4 / (width * across),
        right=1 - 0.15 / (width * across),
        bottom=0.45 / (height * down),
        top=1 - 0.25 / (height * down),
        wspace=0.35,
        hspace=0.75,
    )
    axes = [figure.add_subplot(down, across, i + 1) for i in range(count)]
    for axis in axes:
        axis.tick_params(labelsize=6)
    return figure, axes


def figure_to_image(figure: Figure) -> Image.Image:
    """Return a drawn figure as an RGB image."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _single_axes(*, width: float, height: float) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=100, layout="tight")
    return figure, figure.add_subplot()


def save_map(values: np.ndarray, stream: BinaryIO) -> None:
    """Write condition maps (n, C, *S) as one picture of all, black at the least that is known."""
    known = values[~np.isnan(values)]
    low, high = (known.min(), known.max()) if len(known) else (0, 1)
    map_to_image(values, low, high).save(stream, format="PNG")


def map_to_image(values: np.ndarray, low: float, high: float) -> Image.Image:
    """Return condition maps (n, C, *S) as one picture, from black at `low` to white at `high`."""
    return tile_images(to_bytes(np.moveaxis(values, 1, -1), low, high))
