"""One training step, for any family: a batch becomes losses, losses become steps of the players.

`model.losses` is a generator: it yields (player, loss), and the step on that player is taken before
it is advanced, so the second loss of a two-player family is computed against the player that has
just moved. With accumulation the batch is split, each part has a generator of its own, and they are
advanced in lockstep: every part's i-th loss, then one step on their mean, weighted by rows.
Autocast is around the `next()` alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import count
from typing import Any

import torch
from torch import Tensor

from undiffuse.interfaces import Stop, Trainable, Transform
from undiffuse.training.hearing import hearing, revocable
from undiffuse.training.learner import Learner
from undiffuse.training.loading import RowsPart, encoded
from undiffuse.training.randomness import Randomness
from undiffuse.training.ranks import ALONE, Ranks

Autocast = Callable[[], AbstractContextManager[Any]]


def autocast(device: torch.device, precision: str) -> Autocast:
    """Return a maker of contexts: bfloat16 for the operations that gain from it, or nothing."""
    if precision == "bfloat16":
        return lambda: torch.autocast(device.type, dtype=torch.bfloat16)
    return nullcontext


def train_step(
    model: Trainable,
    learners: Mapping[str, Learner],
    parts: Sequence[RowsPart],
    *,
    step: int,
    lr: float,
    transform: Transform,
    device: torch.device,
    randomness: Randomness,
    cast: Autocast,
    stop: Stop | None = None,
    ranks: Ranks = ALONE,
) -> tuple[dict[str, float], bool]:
    """Take step number `step` of every player on the parts of a batch.

    A player whose loss or gradient is not finite does not move, and ends the step: what follows
    would build on it.

    Returns:
        The losses by player, and whether all players moved.

    Raises:
        Stopped: `stop()`, polled between layers until the first player moves, was true; nothing has
            changed then.
    """
    generators, losses = [], {}
    for turn in count():
        player, total = "", torch.zeros(())
        with _listening(model, stop if turn == 0 else None):
            for i, part in enumerate(parts):
                if turn > 0 or part.encoded is None:
                    randomness.at(step, part.row, turn)
                if turn == 0:
                    x, conditions = _start(part, transform, device, randomness)
                    generators.append(model.losses(x, **conditions))
                with cast():
                    yielded = next(generators[i], None)
                if yielded is None:
                    return losses, True
                player, loss = yielded[0], yielded[1] * part.share
                loss.backward()
                total = loss.detach() if i == 0 else total + loss.detach()
        losses[player], taken = learners[player].update(total, lr, ranks)
        for learner in learners.values():
            learner.forget_gradients()
        if not taken:
            return losses, False
    raise AssertionError("unreachable")


def _start(
    part: RowsPart, transform: Transform, device: torch.device, randomness: Randomness
) -> tuple[Tensor, dict[str, Tensor]]:
    """(x, conditions) of a part; what is drawn next follows on what was drawn for them."""
    if part.encoded is None:
        return encoded(part.batch, transform, device)
    x, conditions, drawn = part.encoded
    randomness.go_on(drawn)
    return x, conditions


@contextmanager
def _listening(model: Trainable, stop: Stop | None) -> Iterator[None]:
    """Inside, `Stopped` is raised as soon as `stop()` is true, and leaves the model as before."""
    if stop is None:
        yield
        return
    with revocable(model), hearing(model, stop):
        yield
