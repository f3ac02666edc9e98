"""A figure with a panel for each data set."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from undiffuse.atomic import atomic_file


@contextmanager
def panels(names: Iterable[str], file: Path, width: float, height: float) -> Iterator[list[Any]]:
    """Give one panel, of so many inches, for each name; on leaving, write the figure as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    titles = list(names)
    size = (width * len(titles), height)
    figure, axes = plt.subplots(1, len(titles), figsize=size, squeeze=False)
    for panel, title in zip(axes[0], titles, strict=True):
        panel.set_title(title)
    yield list(axes[0])
    for panel in axes[0]:
        panel.legend()
    figure.tight_layout()
    with atomic_file(file) as temporary:
        figure.savefig(temporary, dpi=120, format="png")
    plt.close(figure)
