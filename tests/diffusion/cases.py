"""Every part there is, ready made: the laws run over these, so that a new part is held to them by being registered."""

import torch

from undiffuse.diffusion import (
    COORDINATES,
    GRIDS,
    SCHEDULES,
    TARGETS,
    DiscreteVP,
    DPMpp,
    Euler,
    Heun,
    Karras,
    Uniform,
    cosine_betas,
    linear_betas,
    sigmoid_betas,
)
from undiffuse.diffusion.target import PosteriorMean, Preconditioned

ARGUMENTS = {"discrete_vp": {"betas": linear_betas(1000)}}
SCHEDULE_CASES = {name: cls(**ARGUMENTS.get(name, {})) for name, cls in SCHEDULES.items()} | {
    "discrete_cosine": DiscreteVP(betas=cosine_betas(100)),
    "discrete_sigmoid": DiscreteVP(betas=sigmoid_betas(100)),
    "discrete_ending_in_1": DiscreteVP(betas=(*linear_betas(49), 1.0)),
    "ncsn": SCHEDULES["ve"](sigma_min=0.01, sigma_max=20.0, levels=10),
}
TARGET_CASES = {name: cls() for name, cls in TARGETS.items()} | {
    "posterior_mean": PosteriorMean(levels=50),
    "preconditioned": Preconditioned(0.7),
}
GRID_CASES = {name: cls() for name, cls in GRIDS.items()}


def times(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def has_signal_at_the_end(schedule) -> bool:
    return bool(schedule(times(1.0))[0] > 0)


__all__ = [
    "COORDINATES",
    "GRID_CASES",
    "SCHEDULE_CASES",
    "TARGET_CASES",
    "DPMpp",
    "Euler",
    "Heun",
    "Karras",
    "Uniform",
    "has_signal_at_the_end",
    "times",
]
