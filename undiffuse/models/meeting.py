"""What every family asks of the data it meets: rows of its own shape, the classes it was made for, and their shares."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from undiffuse.diffusion import AbstractObjective, BetaTilde, Denoiser, Schedule, Step
from undiffuse.diffusion.schedules.process import as_times
from undiffuse.diffusion.target import Target
from undiffuse.errors import InputError


def unmet() -> InputError:
    """What to raise where a model is used before it has met any data."""
    return InputError("this model has not met its data yet; call fit, or give the preset the data.")


def loaded(model: Any, _: Any) -> None:
    """To be called when weights are loaded into a model that measures its data: they hold what was measured."""
    model.measured = True


def check_parts(
    schedule: Schedule, target: Target, objective: AbstractObjective, step: Step
) -> None:
    """Refuses parts that can never work together, before any data is read: a target that is undefined on the schedule,
    levels that it does not have, a variance that nobody learns. Raises InputError.
    """
    t = objective.times.quantile(schedule, as_times([0.5]))
    Denoiser(nn.Identity(), schedule, target).row(t)
    weighting = getattr(objective, "weighting", None)
    if weighting is not None:
        weighting(schedule, t)
    if getattr(step, "variance", BetaTilde()).learned and not objective.learned_variance:
        raise InputError(
            "variance learned: this objective trains none; take Hybrid, or beta or beta_tilde instead."
        )


def check_one_pass(family: str, **asked: Any) -> None:
    """Raises InputError if a family that draws in one pass was asked for anything, such as steps or a method."""
    for name, value in asked.items():
        if value is not None:
            raise InputError(
                f"{name} {value}: {family} draws in one pass, there is nothing to choose; leave it out."
            )


def check_shape(shape: tuple[int, ...], own: tuple[int, ...] | None) -> None:
    """Raises InputError if the rows' shape is not the model's own; None fits all."""
    if own is not None and tuple(shape) != tuple(own):
        raise InputError(
            f"the data has rows of shape {tuple(shape)}, but the model was made for {tuple(own)}; "
            "make a new model for these data."
        )


def check_classes(network: nn.Module, classes: int) -> None:
    """Raises InputError if the data have `classes` and the network takes no labels, or is made for other classes."""
    if not classes:
        return
    takes = inspect.signature(network.forward).parameters.values()
    if not any(p.name == "label" or p.kind is inspect.Parameter.VAR_KEYWORD for p in takes):
        raise InputError(
            f"network {type(network).__name__}: the data have {classes} classes, but its forward takes no `label`; "
            "give it that argument, or train on data without labels."
        )
    own = getattr(network, "classes", classes)
    if own != classes:
        raise InputError(
            f"the data have {classes} classes, but the network was made for {own}; make a new model."
        )


def shares_of(batch: Mapping[str, Tensor], classes: int) -> tuple[float, ...]:
    """How often each class occurs in a batch; never 0, and () without classes."""
    if not classes:
        return ()
    counts = torch.bincount(batch["label"], minlength=classes).double() + 1e-3
    return tuple((counts / counts.sum()).tolist())


def hide(cond: Mapping[str, Tensor], share: float) -> dict[str, Tensor]:
    """Conditions (B, *) with this share of the rows, drawn at random, marked as none: labels -1, vectors NaN."""
    if not cond:
        return {}
    hidden = torch.rand(len(next(iter(cond.values())))) < share
    return {name: _hidden(value, hidden.to(value.device)) for name, value in cond.items()}


def _hidden(value: Tensor, hidden: Tensor) -> Tensor:
    none = float("nan") if value.is_floating_point() else -1
    return torch.where(hidden.reshape(-1, *[1] * (value.ndim - 1)), none, value)
