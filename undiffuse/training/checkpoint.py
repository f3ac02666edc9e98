"""What a checkpoint holds: tensors by name, enough to go on with training bit for bit, or to sample.

    model/NAME                    the weights in training, and the buffers
    PLAYER/optimizer.KEY/NAME     AdamW's step count and moments
    PLAYER/average/NAME           the running average

Everything is written and read by name and shape; nothing is ever unpickled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from undiffuse.errors import InputError
from undiffuse.models.base import GenerativeModel
from undiffuse.training.averaging import averaged
from undiffuse.training.folder import read_weights
from undiffuse.training.learner import Learner


def stored(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies on the CPU, contiguous and sharing no memory, as the file format asks."""
    return {
        name: value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        for name, value in tensors.items()
    }


def averaged_weights(model: GenerativeModel, learners: Mapping[str, Learner]) -> dict[str, Tensor]:
    """The model's state with the averages in place: what a run is sampled with."""
    with averaged(averages(learners)):
        return stored(model.state_dict())


def averages(learners: Mapping[str, Learner]):
    """The running averages of the players that keep one."""
    return [learner.average for learner in learners.values() if learner.average is not None]


def resume_tensors(model: GenerativeModel, learners: Mapping[str, Learner]) -> dict[str, Tensor]:
    """All that the next step depends on."""
    tensors = {f"model/{name}": value for name, value in model.state_dict().items()}
    for player, learner in learners.items():
        tensors |= {f"{player}/{name}": value for name, value in learner.tensors().items()}
    return stored(tensors)


def resume_from(
    model: GenerativeModel,
    learners: Mapping[str, Learner],
    tensors: Mapping[str, Tensor],
    counts: Mapping[str, int],
    where: str,
) -> None:
    """Put back what `resume_tensors` returned. Raises InputError if it is not of this model."""

    def under(prefix: str) -> dict[str, Tensor]:
        return {
            name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)
        }

    load_weights(model, under("model/"), where)
    for player, learner in learners.items():
        try:
            learner.load(under(f"{player}/"), counts[player])
        except (KeyError, RuntimeError) as problem:
            raise InputError(
                f"{where}: its resume state lacks {problem}; start another run from its weights with --init."
            ) from problem


def load_weights(model: GenerativeModel, tensors: Mapping[str, Tensor], where: str) -> None:
    """Take every tensor of the model's state from `tensors`.

    Raises InputError, naming the first, for a tensor that is missing, left over, of another shape or not finite.
    """
    compare(model.state_dict(), tensors, where)
    model.load_state_dict(dict(tensors))


def initialize(model: GenerativeModel, run: str | Path) -> None:
    """Start from the averaged weights of another run: the players' tensors, and none of what was measured on its data.

    Raises InputError if that is no run, or naming the first tensor that differs in shape.
    """
    given = read_weights(run)
    modules = [player.module for player in model.players().values()]
    prefixes = [
        name for name, module in model.named_modules() if any(module is other for other in modules)
    ]
    state = model.state_dict()

    def ours(names: Iterable[str]) -> list[str]:
        return [
            name for name in names if any(p == "" or name.startswith(p + ".") for p in prefixes)
        ]

    chosen = {name: given[name] for name in ours(given)}
    compare({name: state[name] for name in ours(state)}, chosen, str(run))
    model.load_state_dict(state | chosen)


def compare(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], where: str) -> None:
    """Raises InputError, naming the first tensor that differs in presence or shape or that is not finite."""
    for name, tensor in ours.items():
        if name not in theirs:
            raise InputError(f"{where}: holds another model, for tensor {name} is missing in it.")
        if theirs[name].shape != tensor.shape:
            there, here = tuple(theirs[name].shape), tuple(tensor.shape)
            raise InputError(
                f"{where}: holds another model, for tensor {name} is {there} there and {here} here; "
                "build the model with the same sizes."
            )
        if theirs[name].is_floating_point() and not torch.isfinite(theirs[name]).all():
            raise InputError(
                f"{where}: tensor {name} is damaged, for it holds values that are not finite."
            )
    for name in theirs:
        if name not in ours:
            raise InputError(
                f"{where}: holds another model, for tensor {name} is in it and not in this one."
            )
