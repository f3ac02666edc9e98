"""Choose how strongly samples of a run are guided to their classes.

Classifier-free guidance by a scale w, in an interval of noise levels (Kynkaanniemi et al. 2024),
costs one more evaluation for each step in the interval. The scales are tried in turn, on the same
seeds. In features that are fitted on training rows, let F be the Frechet distance of samples to
held-out rows. A scale is taken if F is less than at the one before by more than two standard errors
of the difference, by the jackknife over parts of the seeds, and if recall and coverage stay within
`KEPT` of what they are without: guidance is known to narrow what is drawn. The first scale that is
not taken ends the search.

Coordinates of images say too little here: on Fashion-MNIST their kernel distance rises by a third
where the Frechet distance of features falls by a quarter (docs/measurements.md).
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TypeGuard, final

import numpy as np
import torch
from torch import Tensor

from undiffuse.data import Data
from undiffuse.evaluation.metrics.coverage import manifold
from undiffuse.evaluation.metrics.frechet import between, gaussian
from undiffuse.evaluation.references import Chosen, Reference, refer
from undiffuse.evaluation.yardsticks import sampled
from undiffuse.interfaces import Progress, Stop
from undiffuse.models.base import GenerativeModel
from undiffuse.models.diffusion import Diffusion, guided
from undiffuse.models.tuning import Guidance
from undiffuse.seeds import mix

SCALES = (1.5, 2.0, 2.5, 3.0)
LOW, HIGH = 0.3, 4.0  # of sigma/alpha, over the data's deviation
SEEDS, PARTS = 1024, 16
KEPT = 0.02  # by how much recall and coverage may be less: shares of 1,024 rows are known to 0.01
_GUIDING = 0x9D1D  # keeps these seeds apart from those of samples


def can_be_guided(model: GenerativeModel) -> TypeGuard[Diffusion]:
    """Return whether samples of a model could be guided: of images and recordings, by class."""
    classes = len(model.classes) > 1 and model.drop_condition > 0
    return isinstance(model, Diffusion) and classes and len(model.shape or ()) > 1


def guide(
    model: Diffusion,
    data: Data,
    *,
    features: Chosen = None,
    seed: int = 0,
    seconds: float | None = None,
    progress: Progress | None = None,
    stop: Stop = lambda: False,
) -> str:
    """Choose how strongly a tuned model's samples are guided, for `model.tuned.guidance`.

    Args:
        model: a tuned model of images or sequences with classes.
        data: its own.
        features: what rows are compared by, as `choose_features` takes it.
        seed: decides everything random.
        seconds: how long it may take, about; None: as long as it needs.
        progress: called with (samples drawn, in all, what).
        stop: polled between samples; true ends the search and leaves samples unguided.

    Returns:
        What was chosen, in a sentence.
    """
    assert model.tuned is not None
    until = math.inf if seconds is None else time.perf_counter() + seconds
    search = _Search(
        model, refer(data, features=features, seed=seed), mix(seed, _GUIDING), progress, stop
    )
    best: Guidance | None = None
    try:
        last = plain = search.drawn(1.0)
        for scale in SCALES:
            if time.perf_counter() + 2 * search.took > until:
                break
            found = search.drawn(scale)
            excess, stderr = found.farther(last)
            wider = found.recall - plain.recall, found.coverage - plain.coverage
            if excess >= -2 * stderr or min(wider) < -KEPT:
                break
            best = Guidance(scale, *search.interval, found.distance, *found.farther(plain), *wider)
            last = found
    except _Stopped:
        return "samples are not guided: it was stopped"
    model.tuned = replace(model.tuned, guidance=best)
    return _said(best)


@final
class _Stopped(Exception):
    """The search is no longer wanted."""


def _said(best: Guidance | None) -> str:
    if best is None:
        return "guidance by class does not bring them closer, and is left out"
    before = best.distance - best.excess
    return (
        f"they are guided by class, at scale {best.scale:g} where sigma/alpha is {best.low:.2g} to "
        f"{best.high:.2g}: Frechet distance {best.distance:.3g} instead of {before:.3g}, recall "
        f"{best.recall:+.3f}, coverage {best.coverage:+.3f}; scores are not guided"
    )


@final
class _Drawn:
    """Samples by their features (n, D), and how they compare with real ones (m, D)."""

    def __init__(self, features: Tensor, real: Tensor) -> None:
        _, self.recall, _, self.coverage = manifold(real[: len(features)], features)[0].tolist()
        moments = gaussian(real)
        self.distance = between(moments, gaussian(features))
        part = torch.arange(len(features)) * PARTS // len(features)
        self.without = torch.tensor(
            [between(moments, gaussian(features[part != one])) for one in range(PARTS)]
        )

    def farther(self, other: _Drawn) -> tuple[float, float]:
        """Return by how much these are farther from real rows, and its standard error."""
        each = self.without - other.without
        return self.distance - other.distance, float(each.std() * (PARTS - 1) / PARTS**0.5)


@final
class _Search:
    """Samples of the same seeds, guided in one interval."""

    def __init__(
        self,
        model: Diffusion,
        reference: Reference,
        seed: int,
        progress: Progress | None,
        stop: Stop,
    ) -> None:
        self.model, self.reference, self.seed = model, reference, seed
        self.progress, self.stop, self.took = progress, stop, 0.0
        std = model.sigma_data or 1.0
        self.interval = LOW * std, HIGH * std

    def drawn(self, scale: float) -> _Drawn:
        """Return what is drawn with a scale."""
        began, low, high = time.perf_counter(), *self.interval
        wrap = guided(self.model, scale, low=low, high=high) if scale != 1 else None
        rows: list[np.ndarray] = []
        batch = self.model.at_once
        for first in range(0, SEEDS, batch):
            if self.stop():
                raise _Stopped
            n = min(batch, SEEDS - first)
            rows.append(self.model.sample_rows(n, seed=self.seed, first=first, wrap=wrap))
            if self.progress:
                self.progress(first + n, SEEDS, f"sampling at guidance {scale:g}")
        found = sampled(np.concatenate(rows), self.reference)
        self.took = time.perf_counter() - began
        return _Drawn(found.features, self.reference.held_out.features)
