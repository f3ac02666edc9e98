"""Guidance of a trained diffusion model, from what a person asks for to the wrapper that `draw` takes as `wrap`."""

from __future__ import annotations

import math
from typing import Any

from undiffuse.diffusion.denoiser import AbstractDenoiser, Conditioned
from undiffuse.diffusion.guidance import Autoguided, ClassifierFree, Interval
from undiffuse.errors import InputError
from undiffuse.models.base import GenerativeModel
from undiffuse.models.diffusion import Diffusion, Wrap


def guided(
    model: GenerativeModel,
    weight: float,
    *,
    weaker: GenerativeModel | None = None,
    low: float = 0.0,
    high: float = math.inf,
) -> Wrap:
    """`model.sample(n, wrap=guided(model, 3.0))`: classifier-free guidance, each row by its own class, or autoguidance
    by a `weaker` model of the same run, where sigma/alpha is in [low, high].

    Raises InputError for a model that is no diffusion model, and without `weaker` for one that has no classes, or was
    never trained with them hidden.
    """
    if not isinstance(model, Diffusion) or not (weaker is None or isinstance(weaker, Diffusion)):
        raise InputError(
            f"guidance: {type(model).__name__.lower()} models are not guided; leave it out."
        )
    if not low < high:
        raise InputError(
            f"guidance from {low:g} to {high:g}: no noise level is between them; give a range that rises."
        )
    if weaker is None and not model.classes:
        raise InputError(
            "guidance: this model was trained without labels, so there is nothing to guide it by."
        )
    if weaker is None and model.drop_condition == 0:
        raise InputError(
            "guidance: this model never saw a row without its label (drop_condition 0); leave it out."
        )

    def wrap(denoiser: AbstractDenoiser) -> AbstractDenoiser:
        if weaker is None:
            moved: AbstractDenoiser = ClassifierFree(denoiser, weight, label=-1)
        else:
            assert weaker.denoiser is not None
            cond: dict[str, Any] = denoiser.cond if isinstance(denoiser, Conditioned) else {}
            moved = Autoguided(denoiser, weaker.denoiser.given(**cond), weight)
        return Interval(moved, denoiser, low, high)

    return wrap
