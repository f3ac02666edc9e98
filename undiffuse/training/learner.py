"""A player of a model in training: its parameters, optimizers, running average, and the step.

The matrices and kernels that a player calls hidden are trained by Muon, all else by AdamW
(Loshchilov and Hutter 2019), with betas (0.9, 0.99) unless the player has its own: diffusion losses
are noisy across noise levels, and a second moment over a thousand steps is late in a run that has
only a few thousand. Weight decay applies to matrices and kernels, not to gains, biases and scalars.
A step whose loss or gradient is not finite is not taken: parameters, moments and average stay what
they were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor

from undiffuse.interfaces import Player
from undiffuse.options import TrainingOptions
from undiffuse.training.averaging import PowerAverage
from undiffuse.training.muon import Muon
from undiffuse.training.ranks import ALONE, Ranks


@final
class Learner:
    """A player's optimizers and average; `average` is None for a player that keeps none."""

    def __init__(self, player: Player, options: TrainingOptions) -> None:
        named = {name: p for name, p in player.module.named_parameters() if p.requires_grad}
        hidden = {name: p for name, p in named.items() if name in player.hidden}
        others = {name: p for name, p in named.items() if name not in hidden}
        lr, decay = options.lr, options.weight_decay
        groups = [
            {"params": [p for p in others.values() if p.ndim >= 2], "weight_decay": decay},
            {"params": [p for p in others.values() if p.ndim < 2], "weight_decay": 0.0},
        ]
        self.parameters, self.hidden = named, hidden
        self.lr_scale, self.clip = player.lr_scale, options.clip
        self.optimizers: list[torch.optim.Optimizer] = []
        if others:
            groups = [group for group in groups if group["params"]]
            adamw = torch.optim.AdamW(groups, lr=lr, betas=player.betas, fused=_fused(others))
            self.optimizers.append(adamw)
        if hidden:
            self.optimizers.append(Muon(hidden.values(), lr=lr, weight_decay=decay))
        self.average = (
            PowerAverage(self.parameters.values(), options.averaging) if player.averaged else None
        )

    def update(self, loss: Tensor, lr: float, ranks: Ranks = ALONE) -> tuple[float, bool]:
        """Take a step on the gradients of `loss`, a scalar; both are added over all ranks.

        Returns:
            The value of the loss, and whether the step was taken.
        """
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        loss = loss.clone()
        ranks.add([*gradients, loss])
        norm = torch.nn.utils.get_total_norm(gradients)
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

    def forget_gradients(self) -> None:
        """Drop the gradients of the latest step."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """Return the optimizers' moments and the average, by name."""
        tensors = {}
        for name, parameter in self.parameters.items():
            for optimizer in self.optimizers:
                for key, value in optimizer.state.get(parameter, {}).items():
                    tensors[f"optimizer.{key}/{name}"] = value
        if self.average is not None:
            tensors |= {
                f"average/{name}": v for name, v in zip(self.parameters, self.average.values)
            }
        return tensors

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
        averages = []
        for name, parameter in self.parameters.items() if self.average is not None else ():
            averages.append(tensors[f"average/{name}"])
            _check_sound(f"the average of {name}", averages[-1], parameter)
        names = {parameter: name for name, parameter in self.parameters.items()}
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
