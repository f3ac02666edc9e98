"""Looking at a model in training: its held-out diagnostics and a preview of its samples, on the averaged weights.

Rows, noise and seeds are the same at every look, so that what changes from one to the next is the model.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from undiffuse.atomic import atomic_file
from undiffuse.models.base import GenerativeModel, Source
from undiffuse.training.averaging import averaged
from undiffuse.training.checkpoint import averages
from undiffuse.training.learner import Learner
from undiffuse.training.options import batch_for
from undiffuse.training.randomness import Randomness
from undiffuse.training.step import Autocast, encoded

FEWEST, MOST = 64, 256  # held-out rows that are looked at: twice the default batch, within these
HELD_OUT, PREPARE = -1, -2  # keys of randomness that no step has


class Evaluator:
    """`held_out()` and `preview(file)`; `spent` and `cost` are the seconds of all looks and of the latest."""

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
    ) -> None:
        self.model, self.transform, self.learners = model, data.transform, learners
        self.device, self.randomness, self.cast, self.samples = device, randomness, cast, samples
        self.batch = data.held_out_batch(max(FEWEST, min(2 * batch_for(tuple(data.transform.shape)), MOST)))
        self.spent = self.cost = 0.0

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Averaged weights, evaluation mode, no gradients; everything as it was on leaving, and the time taken."""
        start = time.perf_counter()
        self.model.eval()
        try:
            with averaged(averages(self.learners)), torch.no_grad(), self.cast():
                yield
        finally:
            self.model.train()
            self.cost = time.perf_counter() - start
            self.spent += self.cost

    def held_out(self) -> dict[str, Any] | None:
        """The model's diagnostics on held-out rows, as plain data; None if no rows are held out."""
        if len(self.batch["row"]) == 0:
            return None
        self.randomness.at(HELD_OUT)
        x, conditions = encoded(self.batch, self.transform, self.device)
        return plain(self.model.diagnostics(x, **conditions))

    def preview(self, file: Path) -> bool:
        """Draw samples from fixed seeds and save their picture; False for a model whose data have no pictures."""
        form, options = self.model.form, self.model.preview_options
        if not self.samples or not hasattr(form, "preview"):
            return False
        picture = form.preview(self.model.sample_rows(self.samples, seed=self.randomness.seed, **options))
        with atomic_file(file) as temporary:
            picture.save(temporary)
        return True


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
