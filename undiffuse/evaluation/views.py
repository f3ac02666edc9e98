"""Pictures for a report, in the data's own form: samples, real rows, and the most suspicious pairs.

vectors of two numbers      samples drawn over real rows
sequences                   curves, a sample and its training row in turn
images and grids            tiles, each sample beside its training row
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image

from undiffuse.evaluation.metrics import Memorization
from undiffuse.evaluation.references import Reference
from undiffuse.interfaces import Form

SHOWN, POINTS = 64, 1000  # rows in one picture; where each is a point
_GAP, _APART = 2, 10  # pixels within a pair, and around it


def views(
    samples: np.ndarray,
    reference: Reference,
    memorization: Memorization | None,
    *,
    extra: Mapping[str, Image.Image],
) -> dict[str, bytes]:
    """Draw samples and real rows.

    Args:
        samples: (n, ...) of the stored type.
        reference: what they are compared with.
        memorization: the pairs that are drawn; None for none.
        extra: other pictures.

    Returns:
        Name -> PNG: "samples", "real", "pairs" if there are some, and those of `extra`.
    """
    form, shape, real = reference.form, tuple(reference.transform.shape), reference.held_out.rows
    count = SHOWN if len(shape) > 1 else POINTS  # points and histograms need more than tiles
    made = {"samples": form.preview(samples[:count]), "real": form.preview(real[:count])}
    in_the_plane = shape == samples.shape[1:] == (2,)
    if in_the_plane and not form.column_sizes:  # a table holds codes, and missing values
        made["samples"] = _points(samples[:POINTS], real[:POINTS])
    if memorization and memorization.pairs and reference.training and len(shape) in _PAIRED:
        ours = samples[[pair.sample for pair in memorization.pairs]]
        theirs = reference.training.rows[[pair.training for pair in memorization.pairs]]
        made["pairs"] = _PAIRED[len(shape)](form, ours, theirs)
    return {name: _png(image) for name, image in {**made, **extra}.items()}


def _points(samples: np.ndarray, real: np.ndarray) -> Image.Image:
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


def _tiled_pairs(form: Form, ours: np.ndarray, theirs: np.ndarray) -> Image.Image:
    """Pairs of images, each sample on the left of its training row."""
    return side_by_side(
        [[form.preview(rows[i : i + 1]) for rows in (ours, theirs)] for i in range(len(ours))]
    )


def side_by_side(groups: Sequence[Sequence[Image.Image]]) -> Image.Image:
    """Return groups of as many images on one sheet, about as many groups in a line as lines.

    Args:
        groups: the images of each, from left to right; all become as large as the first.
    """
    width, height = groups[0][0].size
    across = max(1, round(len(groups) ** 0.5))
    wide, high = len(groups[0]) * (width + _GAP) - _GAP + _APART, height + _APART
    size = across * wide + _APART, -(-len(groups) // across) * high + _APART
    sheet = Image.new("RGB", size, "white")
    for i, group in enumerate(groups):
        left, top = _APART + i % across * wide, _APART + i // across * high
        for k, image in enumerate(group):
            own = image.convert("RGB").resize((width, height), Image.Resampling.NEAREST)
            sheet.paste(own, (left + k * (width + _GAP), top))
    return sheet


def _curve_pairs(form: Form, ours: np.ndarray, theirs: np.ndarray) -> Image.Image:
    """Sequences, a sample and its training row in turn."""
    return form.preview(np.stack([ours, theirs], 1).reshape(-1, *ours.shape[1:]))


_PAIRED: dict[int, Callable[[Form, np.ndarray, np.ndarray], Image.Image]] = {
    2: _curve_pairs,
    3: _tiled_pairs,
}
"""How pairs are shown, by the axes of a row; vectors have no picture each."""


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return stream.getvalue()
