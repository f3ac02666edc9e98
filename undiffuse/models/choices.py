"""A row of choices: whether its parts can work together, and what they are told of the data."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import Any

from torch import nn

from undiffuse.diffusion import Denoiser, Schedule, Step
from undiffuse.diffusion.objectives import AbstractObjective
from undiffuse.diffusion.schedules.process import as_times
from undiffuse.diffusion.target import Target
from undiffuse.errors import InputError


def check_parts(
    schedule: Schedule, target: Target, objective: AbstractObjective, step: Step
) -> None:
    """Raise InputError for parts that can never work together, before any data is read.

    These are a target that is undefined on the schedule, levels that it does not have, and a
    learned variance that the objective does not train.
    """
    t = objective.times.quantile(schedule, as_times([0.5]))
    Denoiser(nn.Identity(), schedule, target).row(t)
    weighting = getattr(objective, "weighting", None)  # not every objective has one
    if weighting is not None:
        weighting(schedule, t)
    if step.reverse_variance.learned and not objective.learned_variance:
        raise InputError(
            "variance learned: this objective trains none; use Hybrid, or beta or beta_tilde."
        )


def with_sigma_data(part: Any, sigma_data: float) -> Any:
    """Return `part` with every field called sigma_data, at any depth, set to the measured value."""
    if not is_dataclass(part) or isinstance(part, type):
        return part
    changes = {
        field.name: sigma_data
        if field.name == "sigma_data"
        else with_sigma_data(getattr(part, field.name), sigma_data)
        for field in fields(part)
    }
    return replace(part, **changes)
