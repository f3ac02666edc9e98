"""Rows for the next step, read and encoded by a thread while the step before computes.

The thread works within a step alone: it is done before an evaluation or a checkpoint begins, so
that data are never read twice at once. What it draws is what the step would have drawn: a part is
encoded with a generator seeded like the step's (see `randomness.py`), and the step goes on from the
state that it was left in. On a GPU rows are put into pinned memory, and encoded there by the step.

What goes wrong in the thread is raised where the rows are asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, pairwise
from typing import final

import torch
from torch import Tensor

from undiffuse.interfaces import Noise, Transform
from undiffuse.training.randomness import Randomness
from undiffuse.training.ranks import ALONE, Ranks


@final
@dataclass(frozen=True)
class RowsPart:
    """Rows of one step that are computed at once.

    Attributes:
        row: the position of the first of them in the whole batch.
        share: of the rows of the whole batch.
        batch: the rows as they were read, pinned or not.
        encoded: (x at unit scale, conditions), and the state of the generator that drew its noise;
            None where the step does that.
    """

    row: int
    share: float
    batch: Mapping[str, Tensor]
    encoded: tuple[Tensor, dict[str, Tensor], Tensor] | None = None


@final
class Loader:
    """Yields the parts of one step after another, a step ahead; `close` it in the end."""

    def __init__(
        self,
        batches: Iterator[Mapping[str, Tensor]],
        *,
        transform: Transform,
        device: torch.device,
        randomness: Randomness,
        accumulate: int,
        start_step: int,
        ranks: Ranks = ALONE,
    ) -> None:
        self.batches, self.transform, self.device = batches, transform, device
        self.randomness, self.accumulate, self.ranks = randomness, accumulate, ranks
        self.steps = count(start_step)
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="undiffuse-rows")
        self.pending: Future[list[RowsPart]] | None = None

    def take(self) -> list[RowsPart]:
        """Return the parts of the next step; those of the one after it are read meanwhile."""
        parts = self.load() if self.pending is None else self.pending.result()
        self.pending = self.thread.submit(self.load)
        return parts

    def rest(self) -> None:
        """Wait for the thread."""
        if self.pending is not None:
            self.pending.exception()

    def close(self) -> None:
        """End the thread."""
        self.thread.shutdown(cancel_futures=True)

    def load(self) -> list[RowsPart]:
        """Read the rows of the next step, in this thread."""
        step, batch = next(self.steps), next(self.batches)
        parts = split(batch, self.accumulate, self.ranks)
        return [self._prepared(step, *part) for part in parts]

    def _prepared(self, step: int, row: int, share: float, batch: Mapping[str, Tensor]) -> RowsPart:
        if self.device.type == "cuda":
            return RowsPart(row, share, {name: one.pin_memory() for name, one in batch.items()})
        if self.device.type != "cpu":
            return RowsPart(row, share, batch)
        generator = self.randomness.generator(step, row, 0)

        def noise(like: Tensor) -> Tensor:
            return torch.empty_like(like).normal_(generator=generator)

        x, conditions = encoded(batch, self.transform, self.device, noise)
        return RowsPart(row, share, batch, (x, conditions, generator.get_state()))


def encoded(
    batch: Mapping[str, Tensor],
    transform: Transform,
    device: torch.device,
    noise: Noise = torch.randn_like,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return (x at unit scale, conditions) on the device; encoding draws its noise there."""
    moved = {name: value.to(device, non_blocking=True) for name, value in batch.items()}
    x, _ = transform.encode(moved.pop("row"), noise)
    return x, moved


def split(
    batch: Mapping[str, Tensor], parts: int, ranks: Ranks = ALONE
) -> list[tuple[int, float, Mapping[str, Tensor]]]:
    """Return [(position of its first row, share of the rows, part)] of a rank's rows of a batch.

    Both are those in the whole batch, which is cut into so many parts; `parts` is a multiple of the
    number of ranks.
    """
    rows, parts = len(batch["row"]), parts // ranks.size
    before, whole = ranks.rank * rows, ranks.size * rows
    if parts == 1:
        return [(before, rows / whole, batch)]
    cuts = [rows * i // parts for i in range(parts + 1)]
    return [
        (
            before + start,
            (stop - start) / whole,
            {name: value[start:stop] for name, value in batch.items()},
        )
        for start, stop in pairwise(cuts)
        if stop > start
    ]
