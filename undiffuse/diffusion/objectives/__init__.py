"""Weightings, training times, couplings, and the losses made of them; their registries."""

from undiffuse.diffusion.objectives.bound import Hybrid, VariationalBound
from undiffuse.diffusion.objectives.consistency import Consistency
from undiffuse.diffusion.objectives.coupling import (
    Coupling,
    IndependentCoupling,
    OptimalTransport,
)
from undiffuse.diffusion.objectives.matching import (
    ExplicitScoreMatching,
    GaussianProjection,
    Projection,
    RademacherProjection,
    SlicedScoreMatching,
)
from undiffuse.diffusion.objectives.objective import AbstractObjective, Objective
from undiffuse.diffusion.objectives.times import (
    DiscreteTimes,
    Draw,
    FittedTimes,
    Independent,
    LogitNormalTimes,
    LogNormalTimes,
    LowDiscrepancy,
    TrainingTimes,
    UniformTimes,
)
from undiffuse.diffusion.objectives.weighting import (
    VLB,
    EDMWeight,
    FlowMatching,
    LikelihoodWeight,
    MinSNR,
    Simple,
    Weighting,
)

WEIGHTINGS: dict[str, type[Weighting]] = {
    "simple": Simple,
    "vlb": VLB,
    "likelihood": LikelihoodWeight,
    "min_snr": MinSNR,
    "edm_weight": EDMWeight,
    "flow_matching": FlowMatching,
}
TIMES: dict[str, type[TrainingTimes]] = {
    "uniform_times": UniformTimes,
    "discrete_times": DiscreteTimes,
    "log_normal_times": LogNormalTimes,
    "fitted_times": FittedTimes,
    "logit_normal_times": LogitNormalTimes,
}
DRAWS: dict[str, type[Draw]] = {"independent": Independent, "low_discrepancy": LowDiscrepancy}
COUPLINGS: dict[str, type[Coupling]] = {
    "independent_coupling": IndependentCoupling,
    "optimal_transport": OptimalTransport,
}
PROJECTIONS: dict[str, type[Projection]] = {
    "rademacher_projection": RademacherProjection,
    "gaussian_projection": GaussianProjection,
}
OBJECTIVES: dict[str, type[AbstractObjective]] = {
    "objective": Objective,
    "variational_bound": VariationalBound,
    "hybrid": Hybrid,
    "explicit_score_matching": ExplicitScoreMatching,
    "sliced_score_matching": SlicedScoreMatching,
    "consistency": Consistency,
}
