"""A wrong part of each registry, registered like any other, breaks a law."""

import math
from dataclasses import dataclass

import pytest
import test_coupling
import test_denoiser
import test_grid
import test_objective
import test_schedule
import test_target
import torch
from cases import instances

from undiffuse import diffusion
from undiffuse.diffusion import EDM, LinearVP, LogSigma, target
from undiffuse.diffusion.denoiser import Condition
from undiffuse.diffusion.grid import Grid
from undiffuse.diffusion.objectives import (
    AbstractObjective,
    Coupling,
    Draw,
    LowDiscrepancy,
    Objective,
    Projection,
    Simple,
    TrainingTimes,
    UniformTimes,
    Weighting,
)
from undiffuse.diffusion.schedules.process import Schedule
from undiffuse.diffusion.target import Target


@dataclass(frozen=True)
class Noisy(Schedule):
    """There is noise at t = 0."""

    t_min: float = 1e-3

    def marginal(self, t):
        return 1 - t, 0.01 + t

    def slopes(self, t):
        return -torch.ones_like(t), torch.ones_like(t)

    def inverse(self, log_snr):
        k = torch.exp(-log_snr / 2)
        return ((k - 0.01) / (1 + k)).clamp(0, 1)


@dataclass(frozen=True)
class Rising(Noisy):
    """Its noise falls again."""

    def marginal(self, t):
        return torch.ones_like(t), torch.sin(3 * t)


@dataclass(frozen=True)
class Lost(Noisy):
    """Its inverse is that of another schedule."""

    def marginal(self, t):
        return torch.ones_like(t), 10 * t

    def inverse(self, log_snr):
        return (torch.exp(-log_snr / 2) / 11).clamp(0, 1)


@dataclass(frozen=True)
class Steep(Noisy):
    """It says that its noise rises a thousandth faster than it does."""

    def slopes(self, t):
        return -torch.ones_like(t), 1.001 * torch.ones_like(t)


@dataclass(frozen=True)
class Flat(Target):
    """The output makes no difference."""

    def row(self, schedule, t):
        return torch.ones_like(t), torch.zeros_like(t)


@dataclass(frozen=True)
class Ascending(Grid):
    """It goes the wrong way in the middle."""

    def inner(self, schedule, shares):
        return 1 + (schedule.t_min - 1) * (shares + torch.sin(4 * math.pi * shares))


@dataclass(frozen=True)
class Short(Grid):
    """It does not reach t_min."""

    def inner(self, schedule, shares):
        return 1 + (schedule.t_min - 1) * shares * 0.9


@dataclass(frozen=True)
class Doubled(Weighting):
    """Twice L_simple."""

    @property
    def unweights(self):
        return target.noise

    def __call__(self, schedule, t):
        return 2 * Simple()(schedule, t)


@dataclass(frozen=True)
class Loose(Weighting):
    """It says that it is the bound, and is not."""

    bound = True

    def __call__(self, schedule, t):
        return Simple()(schedule, t)


@dataclass(frozen=True)
class Unbounded(Weighting):
    """Above L_simple, of no declared meaning."""

    def __call__(self, schedule, t):
        return 1 + Simple()(schedule, t) ** 2


@dataclass(frozen=True)
class Beyond(TrainingTimes):
    """It trains times after t = 1."""

    def quantile(self, schedule, u):
        return 2 * u


@dataclass(frozen=True)
class Zigzag(TrainingTimes):
    """Not a quantile function."""

    def quantile(self, schedule, u):
        return 0.5 + 0.4 * torch.sin(20 * u)


@dataclass(frozen=True)
class Skewed(Draw):
    """Its numbers are not uniform."""

    def __call__(self, n):
        return torch.rand(n, dtype=torch.float64) ** 1.1


@dataclass(frozen=True)
class Blurred(Coupling):
    """It does more than permute."""

    def __call__(self, x, z):
        return 0.99 * z


@dataclass(frozen=True)
class Wide(Projection):
    """Its covariance is not the identity."""

    def __call__(self, like):
        return 1.1 * torch.randn_like(like)


@dataclass(frozen=True)
class Biased(AbstractObjective):
    """Its least value is not at the exact denoiser."""

    times: TrainingTimes = UniformTimes()
    draw: Draw = LowDiscrepancy()

    def losses(self, denoiser, x, z, t, **cond):
        right = Objective(weighting=Simple(), times=self.times)
        return right.losses(denoiser, 1.05 * x, z, t, **cond)


@dataclass(frozen=True)
class Jagged(Condition):
    """It tells two noise levels the same."""

    span = 2.0

    def __call__(self, schedule, t):
        return torch.sin(40 * t)


@dataclass(frozen=True)
class Cramped(LogSigma):
    """It leaves the span that it declares."""

    span = 0.1


SHAPE = test_grid.test_a_grid_descends_from_noise_to_the_least_trained_level_and_the_data
SPREAD = test_objective.test_training_times_are_trainable_times
MEANT = test_objective.test_a_weighting_means_what_it_declares
TOLD = test_denoiser.test_a_condition_is_finite_monotone_and_within_its_span
LEAST = test_objective.test_the_exact_denoiser_is_where_every_objective_is_least


@pytest.mark.parametrize(
    ("registry", "wrong", "law", "arguments"),
    [
        ("SCHEDULES", Noisy, test_schedule.test_starts_at_the_data_and_only_loses_signal, ()),
        ("SCHEDULES", Rising, test_schedule.test_starts_at_the_data_and_only_loses_signal, ()),
        ("SCHEDULES", Lost, test_schedule.test_inverse_undoes_log_snr, ()),
        ("SCHEDULES", Steep, test_schedule.test_derivatives_are_those_of_the_marginals, ()),
        ("TARGETS", Flat, test_target.test_any_target_reconstructs_x, (LinearVP(),)),
        ("GRIDS", Ascending, SHAPE, (EDM(),)),
        ("GRIDS", Short, SHAPE, (EDM(),)),
        ("CONDITIONS", Jagged, TOLD, (EDM(),)),
        ("CONDITIONS", Cramped, TOLD, (EDM(),)),
        ("WEIGHTINGS", Doubled, MEANT, (LinearVP(),)),
        ("WEIGHTINGS", Loose, MEANT, (LinearVP(),)),
        ("WEIGHTINGS", Unbounded, MEANT, (LinearVP(),)),
        ("TIMES", Beyond, SPREAD, (LinearVP(),)),
        ("TIMES", Zigzag, SPREAD, (LinearVP(),)),
        ("DRAWS", Skewed, test_objective.test_every_draw_is_uniform, ()),
        ("COUPLINGS", Blurred, test_coupling.test_a_coupling_only_permutes, ()),
        ("PROJECTIONS", Wide, test_objective.test_projections_have_unit_covariance, ()),
        ("OBJECTIVES", Biased, LEAST, ()),
    ],
    ids=lambda value: getattr(value, "__name__", value if isinstance(value, str) else None),
)  # fmt: skip
def test_a_wrong_part_breaks_a_law(registry, wrong, law, arguments, monkeypatch):
    monkeypatch.setitem(getattr(diffusion, registry), "wrong", wrong)
    part = instances(getattr(diffusion, registry))["wrong"]
    with pytest.raises(AssertionError):
        law(*arguments, part) if registry == "TARGETS" else law(part, *arguments)


def test_what_is_published_is_said_of_every_part():
    """A part that is registered without its published formula, or its law of times, is missed."""
    assert test_schedule.PUBLISHED.keys() == diffusion.SCHEDULES.keys()
    assert test_target.MEANING.keys() == diffusion.TARGETS.keys()
    assert test_grid.COORDINATES.keys() == diffusion.GRIDS.keys()
    assert test_objective.DISTRIBUTIONS.keys() == diffusion.TIMES.keys()
    assert test_schedule.TABLES.keys() == diffusion.BETAS.keys()
