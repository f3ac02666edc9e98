"""Each paper's recipe as a plain function that returns a model. Given data, the model is sized to it at once;
otherwise at `fit`. Keyword arguments are the network's dimensions (`width=64`, ...), which override what the data
would choose.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from undiffuse.diffusion import (
    EDM,
    Ancestral,
    DiscreteTimes,
    DiscreteVP,
    EDMWeight,
    Heun,
    Karras,
    Levels,
    LogNormalTimes,
    Objective,
    Simple,
    linear_betas,
)
from undiffuse.diffusion.target import Noise, Preconditioned
from undiffuse.models.base import GenerativeModel
from undiffuse.models.diffusion import Diffusion


def edm(data: Any = None, **sizes: Any) -> Diffusion:
    """Elucidated diffusion (Karras et al. 2022): preconditioned network, log-normal noise levels, Heun on rho = 7.

    The default: the best samples for the time spent, on every kind of data.

    >>> edm(width=32).steps
    18
    """
    return _made(
        "edm",
        Diffusion(
            schedule=EDM(),
            target=Preconditioned(),
            objective=Objective(weighting=EDMWeight(), times=LogNormalTimes()),
            step=Heun(),
            grid=Karras(),
            steps=18,
            network=sizes,
        ),
        data,
    )


def ddpm(data: Any = None, **sizes: Any) -> Diffusion:
    """Denoising diffusion probabilistic model (Ho et al. 2020): 1000 levels, linear betas, noise prediction, L_simple,
    ancestral sampling over all levels with variance beta-tilde and x_hat kept in the data's range.

    >>> ddpm().schedule.levels
    1000
    """
    return _made(
        "ddpm",
        Diffusion(
            schedule=DiscreteVP(betas=linear_betas(1000)),
            target=Noise(),
            objective=Objective(weighting=Simple(), times=DiscreteTimes()),
            step=Ancestral(),
            grid=Levels(),
            steps=1000,
            clip=True,
            network=sizes,
        ),
        data,
    )


def _made(preset: str, model: Diffusion, data: Any) -> Diffusion:
    model.preset = preset
    if data is not None:
        model.meet(data)
    return model


PRESETS: dict[str, Callable[..., GenerativeModel]] = {"edm": edm, "ddpm": ddpm}
