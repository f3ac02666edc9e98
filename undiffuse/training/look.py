"""An evaluation in training: diagnostics on held-out rows and a preview, with the averaged weights.

Rows, noise and seeds are the same each time, so that what changes is the model. A run with a budget
keeps its evaluations short: the first one finds, by doubling, how many rows and samples fit. One
row always does; where not even the picture of one sample fits, there is none.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from undiffuse.atomic import atomic_file
from undiffuse.interfaces import Source, Stop
from undiffuse.parts import as_json
from undiffuse.training.hearing import Stopped, hearing
from undiffuse.training.loading import encoded
from undiffuse.training.randomness import HELD_OUT, Randomness
from undiffuse.training.ranks import ALONE, Ranks
from undiffuse.training.settle import batch_for
from undiffuse.training.state import TrainingState
from undiffuse.training.step import Autocast

ONCE = 5.0  # seconds that what happens only once, such as imports, takes at most
PICTURE = 0.1  # seconds; in less, no picture is drawn
FEWEST_ROWS, MOST_ROWS = 64, 256  # of held-out rows: four times the default batch, within these


@final
class Look:
    """Evaluates the model of `state` when it is called.

    Attributes:
        cost: the seconds of the latest evaluation, without those in which its size was found.
    """

    def __init__(
        self,
        state: TrainingState,
        data: Source,
        *,
        device: torch.device,
        randomness: Randomness,
        cast: Autocast,
        samples: int,
        allowance: float | None = None,
        stop: Stop = lambda: False,
        ranks: Ranks = ALONE,
    ) -> None:
        """Set up evaluations.

        `samples` are drawn for a preview; `stop` ends an evaluation early, between two layers of
        the model; `allowance` is the longest that one may take, in seconds. The held-out rows are
        shared by `ranks`; rank 0 draws the preview.
        """
        self.stop, self.ranks = stop, ranks
        self.state, self.model, self.data = state, state.model, data
        self.device, self.randomness, self.cast = device, randomness, cast
        self.samples, self.allowance, self.cost = samples, allowance, 0.0
        self._deadline = math.inf  # of the sampling of a picture
        rows = 4 * batch_for(tuple(data.transform.shape))
        self.batch = data.held_out_batch(max(FEWEST_ROWS, min(rows, MOST_ROWS)))

    def __call__(self, file: Path | None) -> tuple[dict[str, Any] | None, bool]:
        """Evaluate, and save a preview as `file`; the model has its averaged weights.

        Returns:
            The diagnostics as plain data (None without held-out rows, or if stopped), and whether
            there is a preview.
        """
        found, previewed, sized = None, False, time.perf_counter()
        with suppress(Stopped), self._evaluating():
            if self.allowance is not None:
                self._heard(self._shorten)
                self.allowance = None
                rows, self.samples = self.ranks.lead([len(self.batch["row"]), self.samples])
                self.batch = _first(self.batch, rows)
            sized = time.perf_counter()
            if len(self.batch["row"]):
                found = self._shared(self.batch)
            previewed = self._heard(lambda: file is not None and self._preview(file))
        self.cost = time.perf_counter() - sized
        return found, previewed

    def _heard(self, work: Callable[[], Any], *, all_work: bool = False) -> Any:
        """What `work` returns, on rank 0 or on all. Raises `Stopped` on all if one was stopped."""

        def tried() -> tuple[Any, bool]:
            try:
                with hearing(self.model, self._over):
                    return work() if all_work or self.ranks.first else False, False
            except Stopped:
                return None, True

        found, stopped = self.ranks.together(tried)
        if self.ranks.agree(0.0, stopped)[1]:
            raise Stopped
        return found

    def _shared(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        """The diagnostics on held-out rows, of which each rank measures its share."""
        ranks, n = self.ranks, len(batch["row"])
        first, last = n * ranks.rank // ranks.size, n * (ranks.rank + 1) // ranks.size
        terms = None
        if ranks.size > 1:
            terms = self._heard(lambda: self._terms(batch, first, last), all_work=True)
        if terms is None:
            return ranks.lead(self._heard(lambda: self._diagnostics(batch)))
        return ranks.lead(as_json(self.model.diagnosed(ranks.joined_rows(terms))))

    def conclude(self, stop: Stop) -> bool:
        """Let the model choose what depends on its averaged weights; whether it did."""
        with self._evaluating():
            return self.model.conclude(self.data, stop=stop)

    def tune(self, seconds: float, stop: Stop) -> str:
        """Let the model choose how it is sampled; what it chose, or why it did not."""
        with self._evaluating():
            seed = self.randomness.seed
            return self.model.tune(self.data, seed=seed, seconds=seconds, stop=stop)

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        """Evaluation mode and no gradients inside; as before on leaving."""
        self.model.eval()
        try:
            with torch.no_grad(), self.cast():
                yield
        finally:
            self.model.train()

    def _over(self) -> bool:
        """Whether to stop. Raises `_TooLong` after the deadline."""
        if time.perf_counter() > self._deadline:
            raise _TooLong
        return self.stop()

    def _shorten(self) -> None:
        """Keep so many rows and samples that each takes at most half of the seconds allowed."""
        allowance = (self.allowance or 0.0) / 2
        if rows := len(self.batch["row"]):
            rows = largest(lambda n: self._diagnostics(_first(self.batch, n)), rows, allowance)
            self.batch = _first(self.batch, max(rows, 1))
        if self.samples and allowance >= PICTURE:
            self.samples = largest(partial(self._try, allowance), self.samples, allowance, ONCE)
        else:
            self.samples = 0

    def _try(self, allowance: float, n: int) -> None:
        """Draw a picture. Raises `_TooLong` if its samples take twice the seconds allowed."""
        self._deadline = time.perf_counter() + 2 * allowance
        try:
            self._draw(n)
        finally:
            self._deadline = math.inf

    def _diagnostics(self, batch: Mapping[str, Tensor]) -> dict[str, Any]:
        x, conditions = self._encoded(batch)
        return as_json(self.model.diagnostics(x, **conditions))

    def _terms(
        self, batch: Mapping[str, Tensor], first: int, last: int
    ) -> dict[str, Tensor] | None:
        """What the diagnostics of rows `first` to `last` are made of; encoded with all others."""
        x, conditions = self._encoded(batch)
        own = {name: value[first:last] for name, value in conditions.items()}
        return self.model.row_terms(x[first:last], first=first, **own)

    def _encoded(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        self.randomness.at(HELD_OUT)
        return encoded(batch, self.data.transform, self.device)

    def _draw(self, n: int) -> Any:
        return self.model.preview(n, seed=self.randomness.seed, stop=self.stop)

    def _preview(self, file: Path) -> bool:
        """Save a picture of samples from fixed seeds, with sound; False where there is none."""
        preview = self._draw(self.samples) if self.samples else None
        if preview is None:
            return False
        if preview.sound is not None:
            with atomic_file(file.with_suffix(".wav")) as temporary:
                temporary.write_bytes(preview.sound)
        with atomic_file(file) as temporary:
            preview.picture.save(temporary)
        return True


class _TooLong(Exception):
    """What was tried takes too long."""


def _first(batch: Mapping[str, Tensor], n: int) -> dict[str, Tensor]:
    return {name: value[:n] for name, value in batch.items()}


def largest(work: Callable[[int], Any], most: int, allowance: float, once: float = 0.0) -> int:
    """Return how many rows, up to `most`, `work` does within `allowance` seconds, 0 if not one.

    It is found by doubling, which takes no longer than that, or than two calls for one row. The
    first may pay for what happens only once, which takes `once` seconds at most: it is repeated if
    that can be why it takes too long.
    """
    began = start = time.perf_counter()
    rows = 1
    try:
        work(rows)
        if allowance < time.perf_counter() - began <= allowance + once:
            began = start = time.perf_counter()
            work(rows)
    except _TooLong:
        return 0
    while True:
        now = time.perf_counter()
        seconds = now - start
        if seconds > allowance:
            return rows // 2
        if seconds * most <= allowance * rows:
            return most
        if 2 * rows > most or now - began + 2 * seconds > allowance:
            return rows
        rows, start = 2 * rows, now
        try:
            work(rows)
        except _TooLong:
            return rows // 2
