"""Looking at a model in training: its held-out diagnostics and a preview of its samples, on the averaged weights.

Rows, noise and seeds are the same at every look, so that what changes from one to the next is the model. A run with a
budget keeps its looks short: at the first one it finds, by doubling, how many rows and samples the time allows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undiffuse.atomic import atomic_file
from undiffuse.interfaces import Source
from undiffuse.models.base import GenerativeModel
from undiffuse.training.averaging import averaged
from undiffuse.training.checkpoint import averages
from undiffuse.training.learner import Learner
from undiffuse.training.options import batch_for
from undiffuse.training.randomness import Randomness
from undiffuse.training.step import Autocast, encoded

FEWEST, MOST = (
    64,
    256,
)  # held-out rows that are looked at: four times the default batch, within these
HELD_OUT, PREPARE = -1, -2  # keys of randomness that no step has


class Evaluator:
    """`look(file)` is the one entry; `cost` is the seconds of the latest look, without those it took to size it.

    `allowance` is how many seconds a look may take, None for any number.
    """

    def __init__(
        self,
        model: GenerativeModel,
        data: Source,
        learners: Mapping[str, Learner],
        *,
        device: torch.device,
        randomness: Randomness,
        cast: Autocast,
        samples: int,
        allowance: float | None = None,
    ) -> None:
        self.model, self.transform, self.learners = model, data.transform, learners
        self.device, self.randomness, self.cast, self.samples = device, randomness, cast, samples
        self.batch = data.held_out_batch(
            max(FEWEST, min(4 * batch_for(tuple(data.transform.shape)), MOST))
        )
        self.allowance, self.cost = allowance, 0.0

    def look(self, file: Path | None) -> tuple[dict[str, Any] | None, bool]:
        """The diagnostics on held-out rows (None if there are none), and whether a picture was saved to `file`."""
        with self._looking():
            if self.allowance is not None:
                self._shorten(self.allowance / 2)
                self.allowance = None
            sized = time.perf_counter()
            found = self._held_out(self.batch) if len(self.batch["row"]) else None
            pictured = file is not None and self._preview(file)
        self.cost = time.perf_counter() - sized
        return found, pictured

    @contextmanager
    def _looking(self) -> Iterator[None]:
        """Averaged weights, evaluation mode, no gradients; everything as it was on leaving."""
        self.model.eval()
        try:
            with averaged(averages(self.learners)), torch.no_grad(), self.cast():
                yield
        finally:
            self.model.train()

    def _shorten(self, allowance: float) -> None:
        """Fewer rows and samples, so that each of the two takes no longer than this many seconds."""
        if rows := len(self.batch["row"]):
            rows = largest(lambda n: self._held_out(_first(self.batch, n)), rows, allowance)
            self.batch = _first(self.batch, rows)
        if self._has_pictures():
            self.samples = largest(self._rows, self.samples, allowance)

    def _held_out(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        """The model's diagnostics on these rows, as plain data."""
        self.randomness.at(HELD_OUT)
        x, conditions = encoded(batch, self.transform, self.device)
        return plain(self.model.diagnostics(x, **conditions))

    def _has_pictures(self) -> bool:
        return self.samples > 0 and hasattr(self.model.form, "preview")

    def _rows(self, n: int) -> np.ndarray:
        """Samples from fixed seeds."""
        return self.model.sample_rows(n, seed=self.randomness.seed, **self.model.preview_options)

    def _preview(self, file: Path) -> bool:
        """Draw samples and save their picture; False for a model whose data have no pictures."""
        if not self._has_pictures():
            return False
        picture = self.model.form.preview(self._rows(self.samples))
        with atomic_file(file) as temporary:
            picture.save(temporary)
        return True


def _first(batch: Mapping[str, Tensor], n: int) -> dict[str, Tensor]:
    return {name: value[:n] for name, value in batch.items()}


def largest(work: Callable[[int], Any], most: int, allowance: float) -> int:
    """How many rows, up to `most`, `work` does within `allowance` seconds; finding out takes no longer than that.

    Doubles from 1, after a first call that is not measured. The time of `work` grows at most in proportion to the
    rows, so the most may be known to fit before it is tried. Never less than 1, whatever that takes.
    """
    began, rows = time.perf_counter(), 1
    work(1)
    while True:
        start = time.perf_counter()
        work(rows)
        now = time.perf_counter()
        seconds = now - start
        if seconds * most <= allowance * rows:
            return most
        if 2 * rows > most or now - began + 2 * seconds > allowance:
            return rows
        rows *= 2


def plain(value: Any) -> Any:
    """Tensors, arrays and numbers as JSON knows them; what is not finite becomes None.

    >>> plain({"loss": torch.tensor(0.5), "curve": np.array([1.0, np.nan])})
    {'loss': 0.5, 'curve': [1.0, None]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Tensor | np.ndarray | np.generic):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
