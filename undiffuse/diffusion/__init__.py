"""The mathematics: torch only, no I/O, no networks, no training.

schedule   the forward process        t -> (alpha_t, sigma_t)
target     what a network predicts    one affine row (c_skip, c_out)
denoiser   the trained thing          (x_t, t) -> E[x | x_t], and its views
objective  what is minimized          weighting, training times
grid       where a sampler stops      descending times
steps      sampling methods           (denoiser, x_t, t, s, memory, noise) -> (x_s, memory)
sample     the only loop
prior      what sampling starts from
oracle     exact denoisers and densities
"""

from undiffuse.diffusion import target
from undiffuse.diffusion.chain import DiscreteVP, cosine_betas, linear_betas, sigmoid_betas
from undiffuse.diffusion.denoiser import CONDITIONS, AbstractDenoiser, Denoiser, Estimate, Level, LogSigma
from undiffuse.diffusion.grid import GRIDS, Grid, Karras, Levels, LogSNR, Quadratic, Uniform
from undiffuse.diffusion.guidance import Clipped
from undiffuse.diffusion.objective import (
    DRAWS,
    OBJECTIVES,
    TIMES,
    VLB,
    WEIGHTINGS,
    DiscreteTimes,
    EDMWeight,
    FlowMatching,
    Independent,
    Likelihood,
    LogitNormalTimes,
    LogNormalTimes,
    LowDiscrepancy,
    MinSNR,
    Objective,
    Simple,
    UniformTimes,
)
from undiffuse.diffusion.prior import Prior
from undiffuse.diffusion.sample import RowNoise, sample
from undiffuse.diffusion.schedule import (
    EDM,
    VE,
    CosineVP,
    Linear,
    LinearVP,
    Schedule,
    SubVP,
)
from undiffuse.diffusion.steps import (
    COORDINATES,
    DDIM,
    STEPS,
    VARIANCES,
    Ancestral,
    Beta,
    BetaTilde,
    DPMpp,
    Euler,
    Fraction,
    Heun,
    Ratio,
    Step,
)
from undiffuse.diffusion.target import TARGETS

SCHEDULES: dict[str, type[Schedule]] = {
    "linear_vp": LinearVP,
    "cosine_vp": CosineVP,
    "discrete_vp": DiscreteVP,
    "subvp": SubVP,
    "ve": VE,
    "linear": Linear,
    "edm": EDM,
}
BETAS = {"linear": linear_betas, "cosine": cosine_betas, "sigmoid": sigmoid_betas}

FAMILIES: dict[str, type] = {
    **SCHEDULES,
    **TARGETS,
    **CONDITIONS,
    **WEIGHTINGS,
    **TIMES,
    **DRAWS,
    **OBJECTIVES,
    **GRIDS,
    **STEPS,
    **VARIANCES,
    **COORDINATES,
}
"""Every part by kind, for writing a model down and building it again."""
