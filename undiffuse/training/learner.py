"""A player of a model in training: its parameters, optimizer, running average, and the step.

AdamW (Loshchilov and Hutter 2019), with betas (0.9, 0.99) unless the player has its own: diffusion
losses are noisy across noise levels, and a second moment over a thousand steps is late in a run
that has only a few thousand. Weight decay applies to matrices and kernels, not to gains, biases and
scalars. A step whose loss or gradient is not finite is not taken: parameters, moments and average
stay what they were.
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


@final
class Learner:
    """A player's optimizer and average; `average` is None for a player that keeps none."""

    def __init__(self, player: Player, options: TrainingOptions) -> None:
        named = {name: p for name, p in player.module.named_parameters() if p.requires_grad}
        decayed = {name: p for name, p in named.items() if p.ndim >= 2}
        others = {name: p for name, p in named.items() if p.ndim < 2}
        groups = [
            {"params": list(decayed.values()), "weight_decay": options.weight_decay},
            {"params": list(others.values()), "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        self.parameters = decayed | others
        self.lr_scale, self.clip = player.lr_scale, options.clip
        self.optimizer = torch.optim.AdamW(
            groups, lr=options.lr, betas=player.betas, fused=_fused(named)
        )
        self.average = (
            PowerAverage(self.parameters.values(), options.averaging) if player.averaged else None
        )

    def update(self, loss: Tensor, lr: float) -> tuple[float, bool]:
        """Take a step on the gradients of `loss`, a scalar.

        Returns:
            The value of the loss, and whether the step was taken.
        """
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        # The step's one wait for the device.
        value, size = torch.stack([loss.float(), norm.float()]).tolist()
        taken = math.isfinite(value) and math.isfinite(size)
        if taken:
            if self.clip and size > self.clip:
                torch._foreach_mul_(gradients, self.clip / size)  # pyright: ignore[reportPrivateImportUsage]
            for group in self.optimizer.param_groups:
                group["lr"] = lr * self.lr_scale
            self.optimizer.step()
            if self.average is not None:
                self.average.update()
        return value, taken

    def tensors(self) -> dict[str, Tensor]:
        """Return the optimizer's moments and the average, by name."""
        tensors = {}
        for name, parameter in self.parameters.items():
            for key, value in self.optimizer.state.get(parameter, {}).items():
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
        saved = self.optimizer.state_dict()
        for index, (name, parameter) in enumerate(self.parameters.items()):
            if any(f"optimizer.{key}/{name}" in tensors for key in _MOMENTS):
                moments = {key: tensors[f"optimizer.{key}/{name}"] for key in _MOMENTS}
                for key, value in moments.items():
                    _check_sound(f"{key} of {name}", value, parameter, key)
                saved["state"][index] = moments
        averages = []
        for name, parameter in self.parameters.items() if self.average is not None else ():
            averages.append(tensors[f"average/{name}"])
            _check_sound(f"the average of {name}", averages[-1], parameter)
        self.optimizer.load_state_dict(saved)
        if self.average is not None:
            self.average.count = count
            torch._foreach_copy_(self.average.values, averages)  # pyright: ignore[reportPrivateImportUsage]


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
