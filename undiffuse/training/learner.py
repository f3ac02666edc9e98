"""A player of a model in training: its parameters, optimizers, running average, and the step.

The matrices and kernels that a player calls hidden are trained by Muon, all else by AdamW
(Loshchilov and Hutter 2019), with betas (0.9, 0.99) unless the player has its own: diffusion losses
are noisy across noise levels, and a second moment over a thousand steps is late in a run that has
only a few thousand. Weight decay applies to matrices and kernels, not to gains, biases and scalars.
A step whose loss or gradient is not finite is not taken: parameters, moments and average stay what
they were.

Of a parameter that is shared out among processes (see `shards.py`), this one optimizes its part.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import final

import torch
from torch import Tensor

from undiffuse.interfaces import Player
from undiffuse.options import TrainingOptions
from undiffuse.training.averaging import PowerAverage
from undiffuse.training.muon import Muon
from undiffuse.training.ranks import ALONE, Ranks
from undiffuse.training.shards import here, is_shared, part, reshard, whole


@final
class Learner:
    """A player's optimizers and average; `average` is None for a player that keeps none."""

    def __init__(self, player: Player, options: TrainingOptions) -> None:
        named = {name: p for name, p in player.module.named_parameters() if p.requires_grad}
        own = {name: here(p) for name, p in named.items()}
        hidden = {name: p for name, p in own.items() if name in player.hidden}
        others = {name: p for name, p in own.items() if name not in hidden}
        lr, decay = options.lr, options.weight_decay
        groups = [
            {"params": [p for p in others.values() if p.ndim >= 2], "weight_decay": decay},
            {"params": [p for p in others.values() if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.module, self.parameters, self.own, self.hidden = player.module, named, own, hidden
        self.shared = any(map(is_shared, named.values()))
        self.lr_scale, self.clip = player.lr_scale, options.clip
        self.optimizers: list[torch.optim.Optimizer] = []
        if others:
            groups = [group for group in groups if group["params"]]
            adamw = torch.optim.AdamW(groups, lr=lr, betas=player.betas, fused=_fused(others))
            self.optimizers.append(adamw)
        if hidden:
            of = {own[name]: named[name] for name in hidden} if self.shared else {}
            self.optimizers.append(Muon(hidden.values(), lr=lr, weight_decay=decay, parts=of))
        self.average = PowerAverage(own.values(), options.averaging) if player.averaged else None

    def update(self, loss: Tensor, lr: float, ranks: Ranks = ALONE) -> tuple[float, bool]:
        """Take a step on the gradients of `loss`, a scalar; both are added over all ranks.

        Returns:
            The value of the loss, and whether the step was taken.
        """
        gradients, apart = self._gradients()
        loss = loss.clone()
        ranks.add([*gradients, loss])
        norm = torch.nn.utils.get_total_norm(gradients)
        if self.shared:
            square = torch.nn.utils.get_total_norm(apart).double().square()
            ranks.add([square])
            norm, gradients = (norm.double().square() + square).sqrt(), [*gradients, *apart]
        # The step's one wait for the device.
        value, size = torch.stack([loss.float(), norm.float()]).tolist()
        taken = math.isfinite(value) and math.isfinite(size)
        if taken:
            if self.clip and size > self.clip:
                torch._foreach_mul_(gradients, self.clip / size)  # pyright: ignore[reportPrivateImportUsage]
            for optimizer in self.optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = lr * self.lr_scale
                optimizer.step()
            if self.average is not None:
                self.average.update()
        return value, taken

    def _gradients(self) -> tuple[list[Tensor], list[Tensor]]:
        """Those of what is whole here, and those of parts, which have been added up."""
        found: tuple[list[Tensor], list[Tensor]] = [], []
        for name, parameter in self.parameters.items():
            if parameter.grad is not None:
                slope = self.own[name].grad = here(parameter.grad)
                found[is_shared(parameter)].append(slope)
        return found

    def forget_gradients(self) -> None:
        """Drop the gradients of the latest step, and weights that were gathered for it."""
        if self.shared:
            reshard(self.module)
        for own in (self.parameters, self.own) if self.shared else (self.parameters,):
            for parameter in own.values():
                parameter.grad = None

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the optimizers' moments and the average by name, each whole."""
        for name, parameter in self.parameters.items():
            own = self.own[name]
            for optimizer in self.optimizers:
                for key, value in optimizer.state.get(own, {}).items():
                    yield f"optimizer.{key}/{name}", whole(value, parameter)
        if self.average is not None:
            for (name, parameter), value in zip(self.parameters.items(), self.average.values):
                yield f"average/{name}", whole(value, parameter)

    def load(self, tensors: Mapping[str, Tensor], count: int) -> None:
        """Go back to what `tensors` returned, with an average over `count` steps.

        Raises:
            KeyError: a tensor is missing.
            ValueError: one is of another shape, or not finite; nothing has been changed then.
        """
        loaded: dict[str, dict[str, Tensor]] = {}
        for name, parameter in self.parameters.items():
            keys = _MOMENTUM if name in self.hidden else _MOMENTS
            if any(f"optimizer.{key}/{name}" in tensors for key in keys):
                loaded[name] = {key: tensors[f"optimizer.{key}/{name}"] for key in keys}
                for key, value in loaded[name].items():
                    _check_sound(f"{key} of {name}", value, parameter, key)
                    loaded[name][key] = value if key == "step" else part(value, parameter)
        averages = []
        for name, parameter in self.parameters.items() if self.average is not None else ():
            averages.append(part(tensors[f"average/{name}"], parameter))
            _check_sound(f"the average of {name}", tensors[f"average/{name}"], parameter)
        names = {parameter: name for name, parameter in self.own.items()}
        for optimizer in self.optimizers:
            saved = optimizer.state_dict()
            own = [names[one] for group in optimizer.param_groups for one in group["params"]]
            saved["state"] = {i: loaded[name] for i, name in enumerate(own) if name in loaded}
            optimizer.load_state_dict(saved)
        if self.average is not None:
            self.average.count = count
            torch._foreach_copy_(self.average.values, averages)  # pyright: ignore[reportPrivateImportUsage]


_MOMENTUM = ("momentum",)
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def _check_sound(what: str, value: Tensor, parameter: Tensor, key: str = "") -> None:
    """Raise ValueError for a tensor that a step would ruin the weights with."""
    if value.shape != (() if key == "step" else parameter.shape):
        raise ValueError(f"{what} is of shape {tuple(value.shape)}")
    if not value.is_floating_point():
        raise ValueError(f"{what} is of type {value.dtype}")
    if not torch.isfinite(value).all() or (key in ("step", "exp_avg_sq") and (value < 0).any()):
        raise ValueError(f"{what} holds values that are not possible")


def _fused(named: Mapping[str, Tensor]) -> bool:
    """Whether the optimizer can step in one pass: three times faster, on the CPU too."""
    return all(
        p.device.type in ("cpu", "cuda", "mps") and p.is_floating_point() for p in named.values()
    )
