"""The options of the presets by name: what `--prediction`, `--variance`, `--loss`, ... stand for.

    words --CHOICES--> parts --keywords--> ddpm(prediction=..., ...), flow_matching(path=..., ...), ...

A preset takes the options that its signature names; which these are is read off it, and another one is refused.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from undiffuse.diffusion import (
    BETAS,
    VARIANCES,
    CosineVP,
    IndependentCoupling,
    Linear,
    OptimalTransport,
    target,
)
from undiffuse.errors import InputError
from undiffuse.models import PRESETS
from undiffuse.models.gan_losses import GAMES
from undiffuse.models.losses import LOSSES
from undiffuse.models.observation import OBSERVATIONS

CHOICES: dict[str, Mapping[str, Any]] = {
    "prediction": {
        "noise": target.noise,
        "data": target.data,
        "v": target.v,
        "posterior_mean": target.posterior_mean,
    },
    "variance": {name: variance() for name, variance in VARIANCES.items()},
    "loss": LOSSES,
    "betas": BETAS,
    "path": {"linear": Linear(), "cosine": CosineVP()},
    "game": {name: game() for name, game in GAMES.items()},
    "observation": {name: observation() for name, observation in OBSERVATIONS.items()},
    "coupling": {"independent": IndependentCoupling(), "optimal_transport": OptimalTransport()},
}
NAMES = (
    *CHOICES,
    "levels",
    "latent",
    "sigma",
)  # every option that some preset takes; the last ones are numbers


def taken(preset: str) -> tuple[str, ...]:
    """The options that the preset takes, besides its data and the sizes of its network.

    >>> taken("flow_matching")
    ('path', 'coupling')
    """
    parameters = inspect.signature(PRESETS[preset]).parameters.values()
    return tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)


def keywords(preset: str, words: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `preset` that the words spell. Raises InputError for an option that it does not take."""
    known = taken(preset)
    for name in words:
        if name not in known:
            takes = (
                "it takes " + ", ".join(f"--{one}" for one in known)
                if known
                else "it has no options of its own"
            )
            raise InputError(f"--{name}: the preset {preset} has no such choice; {takes}.")
    return {name: CHOICES[name][word] if name in CHOICES else word for name, word in words.items()}


def model_of(preset: str, words: Mapping[str, Any], sizes: Mapping[str, Any]) -> Any:
    """The preset's model, its choices made by `words`, its network's dimensions `sizes` where they are given."""
    make: Callable[..., Any] = PRESETS[preset]
    return make(**keywords(preset, words), **sizes)
