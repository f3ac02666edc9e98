"""The states x_t after every sampling step, decoded as if they were data.

OUT-trajectory.png    for pictures and folders of them: a row per sample, a column per step
OUT-trajectory.npy    for everything else: an array (steps, n, ...) in the form of the rows
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from undiffuse.atomic import atomic_file

if TYPE_CHECKING:
    from undiffuse.models import GenerativeModel

SHOWN = 8  # samples in a picture
COLUMNS = 12  # steps in a picture
GAP = 2  # pixels


@final
class Trajectory:
    """Collects states from the sampling loop's callback; `file` is where `save` writes them."""

    def __init__(self, model: GenerativeModel, *, rows: int, out: Path) -> None:
        assert model.transform is not None
        assert model.form is not None
        self.transform, self.form = model.transform, model.form
        self.pictured = out.suffix.lower() in (".png", "")
        self.file = out.with_name(f"{out.stem}-trajectory{'.png' if self.pictured else '.npy'}")
        self.wanted = self.left = min(rows, SHOWN) if self.pictured else rows
        self.batches: list[list[np.ndarray]] = []

    def add(self, i: int, n: int, x_t: Any) -> None:
        """Keep the rows of step `i` (from 1) of `n`, as many as are wanted."""
        if i == 1:
            self.left = self.wanted - sum(len(states[0]) for states in self.batches)
            if self.left > 0:
                self.batches.append([])
        if self.left > 0 and (not self.pictured or i in _shown_steps(n)):
            self.batches[-1].append(self.transform.decode(x_t[: self.left].float().cpu()))

    def states(self) -> np.ndarray:
        """(steps, n, ...) in the stored type of the rows."""
        return np.concatenate([np.stack(states) for states in self.batches], axis=1)

    def save(self) -> None:
        """Write `file`. Raises InputError if it cannot be written."""
        with atomic_file(self.file) as temporary:
            if self.pictured:
                self.strip().save(temporary, format="PNG")
            else:
                np.save(temporary, self.states(), allow_pickle=False)

    def strip(self) -> Any:
        """The picture: samples from top to bottom, steps from left to right."""
        from PIL import Image

        states = self.states()
        tiles = [
            [self.form.preview(state[k : k + 1]) for state in states]
            for k in range(states.shape[1])
        ]
        width, height = tiles[0][0].size
        size = (width * len(states) + GAP * (len(states) - 1), (height + GAP) * len(tiles) - GAP)
        picture = Image.new("RGB", size, "white")
        for row, line in enumerate(tiles):
            for column, tile in enumerate(line):
                picture.paste(tile, (column * (width + GAP), row * (height + GAP)))
        return picture


def _shown_steps(n: int) -> set[int]:
    """At most COLUMNS of the steps 1 ... n, evenly spread, the last one among them.

    >>> sorted(_shown_steps(5)), len(_shown_steps(1000))
    ([1, 2, 3, 4, 5], 12)
    """
    return {round(n * (k + 1) / min(n, COLUMNS)) for k in range(min(n, COLUMNS))}
