"""Pictures for a report, by the data's own form: samples, real rows, and the most suspicious pairs side by side.

    vectors of two numbers      samples drawn over real rows
    sequences                   curves, a sample and its training row in turn
    images and grids            tiles, each sample beside its training row

A form that draws no pictures gives none.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from undiffuse.evaluation.metrics import Memorization
from undiffuse.evaluation.references import Reference

SHOWN, ROWS = 64, 1000  # in one picture; where each is a point
_GAP, _APART = 2, 10  # pixels within a pair, and around it


def views(
    samples: np.ndarray,
    reference: Reference,
    found: Memorization | None,
    *,
    extra: Mapping[str, Any],
) -> dict[str, bytes]:
    """Name -> PNG: "samples" and "real" for any form that draws, "pairs" where there are some; and the PIL images of
    `extra`.
    """
    form, shape = reference.form, tuple(reference.transform.shape)
    if not hasattr(form, "preview"):
        return {name: png(image) for name, image in extra.items()}
    count = SHOWN if len(shape) > 1 else ROWS  # points and histograms need more than tiles
    real = reference.held_out.rows
    made = {"samples": form.preview(samples[:count]), "real": form.preview(real[:count])}
    points = shape == (2,) and not hasattr(
        form, "column_sizes"
    )  # codes and missing values of a table are none
    if points and samples.shape[1:] == (2,):
        made["samples"] = over(samples[:ROWS], real[:ROWS])
    if (
        found is not None
        and found.pairs
        and reference.training is not None
        and len(shape) in _PAIRED
    ):
        ours = samples[[pair.sample for pair in found.pairs]]
        theirs = reference.training.rows[[pair.training for pair in found.pairs]]
        made["pairs"] = _PAIRED[len(shape)](form, ours, theirs)
    return {name: png(image) for name, image in {**made, **extra}.items()}


def over(samples: np.ndarray, real: np.ndarray) -> Image.Image:
    """Points of the plane, samples (n, 2) over real rows (m, 2)."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 5), dpi=100, layout="tight")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.scatter(real[:, 0], real[:, 1], s=10, color="0.75", linewidths=0, label="real")
    axes.scatter(samples[:, 0], samples[:, 1], s=5, color="C0", linewidths=0, label="samples")
    low, high = np.percentile(real, [0.5, 99.5], axis=0)
    margin = 0.2 * (high - low) + 1e-9
    axes.set_xlim(low[0] - margin[0], high[0] + margin[0])
    axes.set_ylim(low[1] - margin[1], high[1] + margin[1])
    axes.legend(loc="upper right", markerscale=2)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def tiles(form: Any, ours: np.ndarray, theirs: np.ndarray) -> Image.Image:
    """Pairs of images, each sample on the left of its training row, as many pairs in a line as lines."""
    pairs = [
        [form.preview(rows[i : i + 1]).convert("RGB") for rows in (ours, theirs)]
        for i in range(len(ours))
    ]
    width, height = pairs[0][0].size
    across = max(1, round(len(pairs) ** 0.5))
    wide, high = 2 * width + _GAP + _APART, height + _APART
    sheet = Image.new(
        "RGB", (across * wide + _APART, -(-len(pairs) // across) * high + _APART), "white"
    )
    for i, (sample, row) in enumerate(pairs):
        left, top = _APART + i % across * wide, _APART + i // across * high
        sheet.paste(sample, (left, top))
        sheet.paste(row, (left + width + _GAP, top))
    return sheet


def curves(form: Any, ours: np.ndarray, theirs: np.ndarray) -> Image.Image:
    """Sequences, a sample and its training row in turn."""
    return form.preview(np.stack([ours, theirs], 1).reshape(-1, *ours.shape[1:]))


_PAIRED: dict[int, Callable[[Any, np.ndarray, np.ndarray], Image.Image]] = {2: curves, 3: tiles}
"""How pairs are shown, by the axes of a row; vectors have no picture each."""


def png(image: Image.Image) -> bytes:
    """A picture as the bytes of a PNG file."""
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()
