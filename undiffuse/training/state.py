"""The state of a run: everything that the next step depends on, as tensors and counters.

    model/NAME                    the weights in training, and the buffers
    PLAYER/optimizer.KEY/NAME     AdamW's step count and moments, or Muon's momentum
    PLAYER/average/NAME           the running average

A run that is resumed from these goes on bit for bit as if it had not been interrupted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn

from undiffuse.errors import InputError
from undiffuse.interfaces import Trainable
from undiffuse.options import TrainingOptions
from undiffuse.training.averaging import averaged
from undiffuse.training.learner import Learner
from undiffuse.training.shards import here, part, shard, whole


@final
class TrainingState:
    """The model in training, its players' learners, and what is counted.

    Attributes:
        model: the model, whole.
        trained: the one whose losses are computed: the model, or a copy that is shared out.
        step: the steps taken or skipped.
        skipped: those whose loss or gradient was not finite.
        in_a_row: the skipped ones at the end.
        held_out: the latest diagnostics on held-out rows, None before the first.
        evaluated_at: the step of the latest evaluation in this sitting.
    """

    def __init__(
        self, model: Trainable, options: TrainingOptions, *, sharded: bool = False
    ) -> None:
        self.model = model
        self.trained = shard(model, options.precision) if sharded else model
        players = self.trained.players()
        self.learners = {name: Learner(player, options) for name, player in players.items()}
        self.averages = [learner.average for learner in self.learners.values() if learner.average]
        self.step = self.skipped = self.in_a_row = 0
        self.evaluated_at = -1
        self.held_out: dict[str, Any] | None = None

    @property
    def sharded(self) -> bool:
        """Whether the weights in training are shared out: other processes hold parts of them."""
        return self.trained is not self.model

    @property
    def parallel(self) -> str:
        """How several processes train: "ddp" or "fsdp"."""
        return "fsdp" if self.sharded else "ddp"

    def count(self, taken: bool) -> None:
        """Count a step that was taken, or skipped."""
        self.step += 1
        self.skipped += not taken
        self.in_a_row = 0 if taken else self.in_a_row + 1

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, the model has its averaged weights; on leaving, those in training are as before.

        Of weights that are shared out, all processes have to enter together.
        """
        own = self.model.state_dict() if self.sharded else {}
        with torch.no_grad(), averaged(self.averages):
            for name, value in self._state() if self.sharded else ():
                own[name].copy_(value)
            with torch.set_grad_enabled(True):
                yield
        if self.sharded:  # what was chosen inside
            chosen = dict(self.model.named_buffers())
            for name, buffer in self.trained.named_buffers():
                buffer.copy_(chosen[name])

    def weights(self) -> dict[str, Tensor]:
        """Return the state of the model on the CPU: inside `averaged`, what it is sampled with."""
        return {name: _on_cpu(value) for name, value in self.model.state_dict().items()}

    def tensors(self, *, kept: bool = True) -> dict[str, Tensor]:
        """Return all tensors that the next step depends on, on the CPU, by name; {} unless `kept`.

        Of weights that are shared out, all processes have to call it together: each tensor is put
        together in turn.
        """
        if not (kept or self.sharded):
            return {}
        found: dict[str, Tensor] = {}
        for name, value in self._named():
            if kept:
                found[name] = _on_cpu(value)
        return found

    def _named(self) -> Iterator[tuple[str, Tensor]]:
        for name, value in self._state():
            yield f"model/{name}", value
        for player, learner in self.learners.items():
            for name, value in learner.tensors():
                yield f"{player}/{name}", value

    def _state(self) -> Iterator[tuple[str, Tensor]]:
        """The whole state of the model in training."""
        for name, value in self.trained.state_dict().items():
            yield name, whole(here(value), value)

    def counters(self) -> dict[str, Any]:
        """Return what is counted, as plain data."""
        averages = {name: learner.average for name, learner in self.learners.items()}
        return {
            "step": self.step,
            "skipped": self.skipped,
            "held_out": self.held_out,
            "counts": {name: average.count if average else 0 for name, average in averages.items()},
        }

    def restore(
        self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any], where: str
    ) -> None:
        """Go back to what `tensors` and `counters` returned; `where` names the run in errors.

        Raises:
            InputError: the tensors are not those of this model.
        """

        def under(prefix: str) -> dict[str, Tensor]:
            named = tensors.items()
            return {name.removeprefix(prefix): v for name, v in named if name.startswith(prefix)}

        load_weights(self.model, under("model/"), where)
        if self.sharded:
            own = self.model.state_dict()
            for name, value in self.trained.state_dict().items():
                here(value).copy_(part(own[name], value))
        for player, learner in self.learners.items():
            try:
                learner.load(under(f"{player}/"), counters["counts"][player])
            except (KeyError, RuntimeError, ValueError) as problem:
                lack = "lacks " if isinstance(problem, KeyError) else "is damaged: "
                raise InputError(
                    f"{where}: its resume state {lack}{problem}; "
                    "start another run from its weights with --init."
                ) from problem
        self.step, self.skipped = counters["step"], counters["skipped"]
        self.held_out = counters["held_out"]

    @contextmanager
    def ended(self) -> Iterator[None]:
        """On leaving, the model has its averaged weights and is in evaluation mode.

        Of weights that are shared out, it has them since the last evaluation.
        """
        try:
            yield
        finally:
            with torch.no_grad():
                for average in () if self.sharded else self.averages:
                    average.exchange()
            self.model.eval()


def load_weights(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load the whole state of `model` from `tensors`; `where` names their origin in errors.

    Raises:
        InputError: a tensor is missing, left over, of another shape or kind, or not finite.
    """
    _check_equal(model.state_dict(), tensors, where)
    model.load_state_dict(dict(tensors))


def initialize(model: Trainable, weights: Mapping[str, Tensor], where: str) -> None:
    """Load the players' tensors of another run, but not what was measured on its data.

    Raises:
        InputError: as `load_weights`.
    """
    players = [player.module for player in model.players().values()]
    prefixes = [name for name, module in model.named_modules() if module in players]
    state = model.state_dict()

    def ours(names: Iterable[str]) -> list[str]:
        return [
            name for name in names if any(p == "" or name.startswith(p + ".") for p in prefixes)
        ]

    chosen = {name: weights[name] for name in ours(weights)}
    _check_equal({name: state[name] for name in ours(state)}, chosen, where)
    model.load_state_dict(state | chosen)


def _check_equal(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor], where: str) -> None:
    """Raise InputError for the first tensor that is not like ours, or not finite."""
    for name, tensor in ours.items():
        if name not in theirs:
            raise InputError(f"{where}: holds another model: tensor {name} is missing in it.")
        if theirs[name].shape != tensor.shape:
            there, here = tuple(theirs[name].shape), tuple(tensor.shape)
            raise InputError(
                f"{where}: holds another model: tensor {name} is {there} there and {here} here; "
                "build the model with the same sizes."
            )
        if _kind(theirs[name]) != _kind(tensor):
            raise InputError(
                f"{where}: holds another model: tensor {name} is of {theirs[name].dtype} there and "
                f"of {tensor.dtype} here."
            )
        if not torch.isfinite(theirs[name]).all():
            raise InputError(
                f"{where}: is damaged: tensor {name} holds values that are not finite."
            )
    for name in theirs:
        if name not in ours:
            raise InputError(
                f"{where}: holds another model: tensor {name} is in it and not in this one."
            )


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    return tensor.is_floating_point(), tensor.is_complex()


def _on_cpu(value: Tensor) -> Tensor:
    """A copy on the CPU, contiguous and sharing no memory, as the file format requires."""
    return value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
