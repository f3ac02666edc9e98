"""Several small plots in one picture, drawn without a display and without matplotlib's global state."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from PIL import Image


def panels(
    count: int, columns: int = 4, width: float = 2.2, height: float = 1.7
) -> tuple[Any, list[Any]]:
    """A figure and `count` axes in lines of at most `columns`; sizes in inches."""
    from matplotlib.figure import Figure

    across = min(columns, count)
    down = math.ceil(count / across)
    figure = Figure(figsize=(width * across, height * down), dpi=100)
    inches = {
        "left": 0.4,
        "right": width * across - 0.15,
        "bottom": 0.45,
        "top": height * down - 0.25,
    }
    sides = {
        side: at / (width * across if side in ("left", "right") else height * down)
        for side, at in inches.items()
    }
    figure.subplots_adjust(**sides, wspace=0.35, hspace=0.75)
    axes = [figure.add_subplot(down, across, i + 1) for i in range(count)]
    for axis in axes:
        axis.tick_params(labelsize=6)
    return figure, axes


def picture(figure: Any) -> Image.Image:
    """The drawn figure as an RGB image."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
