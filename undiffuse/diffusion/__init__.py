"""The mathematics: torch only, no I/O, no networks, no training.

schedule   the forward process        t -> (alpha_t, sigma_t)
target     what a network predicts    one affine row (c_skip, c_out)
denoiser   the trained thing          (x_t, t) -> E[x | x_t], and its views
objective  what is minimized          weighting, training times
grid       where a sampler stops      descending times
steps      sampling methods           (denoiser, x_t, t, s, memory, noise) -> (x_s, memory)
noise      one stream per row         like -> z
sample     the only loop
prior      what sampling starts from
oracle     exact denoisers and densities
gaussian   densities, products and divergences in closed form
"""

# pyright: reportUnusedImport=false
# names are imported here for others to import from here

from collections.abc import Callable

from undiffuse.diffusion import grid, oracle, target
from undiffuse.diffusion import objectives as objective
from undiffuse.diffusion.denoiser import (
    CONDITIONS,
    AbstractDenoiser,
    Denoiser,
    Level,
    LogSigma,
)
from undiffuse.diffusion.grid import (
    GRIDS,
    Grid,
    Jumps,
    Karras,
    Levels,
    LogSNR,
    Strided,
    Uniform,
)
from undiffuse.diffusion.guidance import (
    Autoguided,
    ClassifierFree,
    ClassifierGuided,
    Clipped,
    Interval,
)
from undiffuse.diffusion.known import Conditional, Known
from undiffuse.diffusion.noise import Purpose, RowNoise
from undiffuse.diffusion.objectives import (
    COUPLINGS,
    DRAWS,
    OBJECTIVES,
    PROJECTIONS,
    TIMES,
    WEIGHTINGS,
)
from undiffuse.diffusion.prior import Prior
from undiffuse.diffusion.sample import sample
from undiffuse.diffusion.schedules.chain import (
    DiscreteVP,
    cosine_betas,
    linear_betas,
    sigmoid_betas,
)
from undiffuse.diffusion.schedules.learned import LearnedVP
from undiffuse.diffusion.schedules.levels import FittedVE
from undiffuse.diffusion.schedules.process import (
    EDM,
    VE,
    CosineVP,
    Linear,
    LinearVP,
    Schedule,
    SubVP,
)
from undiffuse.diffusion.steps import METHODS, STEPS
from undiffuse.diffusion.steps.adaptive import AdaptiveODE
from undiffuse.diffusion.steps.langevin import (
    CONVENTIONS,
    AnnealedLangevin,
    Full,
    Half,
    Langevin,
    langevin,
)
from undiffuse.diffusion.steps.moves import (
    COORDINATES,
    DDIM,
    VARIANCES,
    Ancestral,
    Beta,
    BetaTilde,
    Euler,
    Fraction,
    Heun,
    Learned,
    Ratio,
    Step,
)
from undiffuse.diffusion.steps.solvers import (
    BH1,
    BH2,
    BHS,
    DEIS,
    IPNDM,
    DPMpp,
    DPMpp2S,
    DPMppSDE,
    UniPC,
)
from undiffuse.diffusion.steps.stochastic import (
    ConsistencyStep,
    EulerMaruyama,
    PredictorCorrector,
    forward,
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
    "learned_vp": LearnedVP,
    "fitted_ve": FittedVE,
}
BETAS: dict[str, Callable[[int], tuple[float, ...]]] = {
    "linear": linear_betas,
    "cosine": cosine_betas,
    "sigmoid": sigmoid_betas,
}

PARTS: dict[str, type] = {
    **SCHEDULES,
    **TARGETS,
    **CONDITIONS,
    **WEIGHTINGS,
    **TIMES,
    **DRAWS,
    **COUPLINGS,
    **PROJECTIONS,
    **OBJECTIVES,
    **GRIDS,
    "jumps": Jumps,
    "strided": Strided,
    **STEPS,
    **VARIANCES,
    **COORDINATES,
    **CONVENTIONS,
    **BHS,
}
"""Every part by kind, for writing a model down and building it again."""
