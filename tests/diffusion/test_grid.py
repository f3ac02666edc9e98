"""Laws of time grids, over every grid on every schedule, and how each is spaced."""

import math

import numpy as np
import pytest
import torch
from cases import GRID_CASES, SCHEDULE_CASES, times

from undiffuse.diffusion import (
    EDM,
    GRIDS,
    DiscreteVP,
    Jumps,
    Karras,
    Levels,
    Linear,
    LinearVP,
    LogSNR,
    Strided,
    linear_betas,
)
from undiffuse.diffusion.schedules.process import LEAST_SAMPLED, LEAST_SCORED
from undiffuse.errors import InputError

every_grid = pytest.mark.parametrize("grid", GRID_CASES.values(), ids=GRID_CASES)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)


@every_schedule
@every_grid
def test_a_grid_descends_from_noise_to_the_least_trained_level_and_the_data(grid, schedule):
    """n + 1 times, 1 = t_0 > ... > t_{n-1} = t_min (if there is one) > t_n = 0, or a refusal."""
    if isinstance(grid, Levels) and schedule.levels is None:
        with pytest.raises(InputError, match="grid levels: this schedule has no levels; use the"):
            grid(schedule, 5)
        return
    for steps in (1, 2, 7):
        t = grid(schedule, steps)
        assert t.shape == (steps + 1,)
        assert t.dtype == torch.float64
        assert (float(t[0]), float(t[-1])) == (1.0, 0.0)
        assert bool((t.diff() < 0).all())
        if schedule.t_min > 0 and steps > 1:
            assert float(t[-2]) == pytest.approx(schedule.t_min, abs=1e-15)
    with pytest.raises(InputError, match="steps 0: sampling takes at least 1 step"):
        grid(schedule, 0)


def ratio(schedule, t):
    return torch.exp(-schedule.log_snr(t) / 2)


# what is equally spaced, as published
COORDINATES = {
    "uniform": lambda schedule, t: t,
    "quadratic": lambda schedule, t: t.sqrt(),
    "karras": lambda schedule, t: ratio(schedule, t) ** (1 / 7),
    "log_snr": lambda schedule, t: schedule.log_snr(t),
    "levels": lambda schedule, t: t,
}


@pytest.mark.parametrize("name", GRIDS)
def test_what_is_equally_spaced(name):
    """Karras et al. (2022), Eq. 5; Lu et al. (2022), section 3.4; Song et al. (2021a), D.2."""
    schedule = DiscreteVP(betas=(0.01,) * 64) if name == "levels" else EDM()
    t = GRIDS[name]()(schedule, 8)[:-1]
    gaps = COORDINATES[name](schedule, t).diff()
    torch.testing.assert_close(gaps, gaps[:1].expand(7), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rho", [1.0, 3.0])
def test_rho_is_the_power(rho):
    gaps = (ratio(EDM(), Karras(rho=rho)(EDM(), 6)[:-1]) ** (1 / rho)).diff()
    torch.testing.assert_close(gaps, gaps[:1].expand(5), rtol=1e-9, atol=1e-12)


@every_schedule
def test_jumps_are_few_and_far_apart(schedule):
    """From t = 1 to levels between 30 and a half of the data's deviation, even in their logs."""
    assert torch.equal(Jumps()(schedule, 1), times(1.0, 0.0))
    for steps in (2, 4):
        t = Jumps(sigma_data=0.7)(schedule, steps)
        assert t.shape == (steps + 1,)
        assert (float(t[0]), float(t[-1])) == (1.0, 0.0)
        assert bool((t.diff() < 0).all())
        share = torch.arange(1, steps, dtype=torch.float64) / steps
        wanted = 0.7 * 30 ** (1 - share) * 0.5**share
        torch.testing.assert_close(ratio(schedule, t[1:-1]), wanted, rtol=1e-6, atol=0)


def test_levels_are_knots_and_all_of_them_with_as_many_steps():
    schedule = DiscreteVP(betas=(0.1,) * 10)
    every = torch.arange(10, -1, -1, dtype=torch.float64) / 10
    assert torch.equal(Levels()(schedule, 10), every)
    assert torch.equal(Levels()(schedule, 4), times(1.0, 0.7, 0.4, 0.1, 0.0))
    with pytest.raises(InputError, match="steps 11: the schedule has 10 levels; ask for at most"):
        Levels()(schedule, 11)


@pytest.mark.parametrize("grid", [Karras, LogSNR])
def test_where_a_schedule_has_no_ends_the_noise_is_held(grid):
    """sigma/alpha goes from 80, or from what is given, to 0.002; a schedule's own ends are kept,
    but where a power of noise starts higher than is asked.
    """
    t = grid()(Linear(), 6)
    assert (float(t[0]), float(t[-1])) == (1.0, 0.0)
    shares = grid().inner(Linear(), times(0.0, 0.5))
    assert float(ratio(Linear(), shares[:1])) == pytest.approx(80.0)
    held = grid(highest=20.0, lowest=0.5).inner(Linear(), times(0.0, 1 - 1e-12))
    torch.testing.assert_close(ratio(Linear(), held), times(20.0, 0.5), rtol=1e-6, atol=0)
    own = grid(highest=2.0, lowest=1.0).inner(EDM(), times(0.0, 1.0))
    top = 2.0 if grid is Karras else 80.0
    torch.testing.assert_close(ratio(EDM(), own), times(top, 0.002), rtol=1e-9, atol=0)


@every_schedule
def test_the_last_time_is_t_min_or_where_the_noise_is_least(schedule):
    for least in (LEAST_SAMPLED, LEAST_SCORED):
        t = schedule.last_time(least)
        if schedule.t_min > 0:
            assert float(t) == schedule.t_min
        else:
            assert float(ratio(schedule, t)) == pytest.approx(least, rel=1e-9)
    assert (LEAST_SAMPLED, LEAST_SCORED) == (0.002, 1e-4)


def test_levels_are_counted_or_asked_for():
    chain = DiscreteVP(betas=(0.1,) * 10)
    assert chain.count_levels(None, "here") == 10
    assert chain.count_levels(3, "here") == 3
    assert chain.count_levels(2, "here", least=2) == 2
    with pytest.raises(InputError, match="here: this schedule has no levels; give levels=T"):
        LinearVP().count_levels(None, "here")
    with pytest.raises(InputError, match="here: it takes 2 levels or more, not 1"):
        chain.count_levels(1, "here", least=2)
    assert math.isclose(chain.t_min, 0.1)


@pytest.mark.parametrize("n", [1, 7, 10, 50, 1000])
@pytest.mark.parametrize("offset", [0, 1])
def test_strides_are_the_timesteps_that_others_count_from_0(n, offset):
    """Leading and trailing spacing (Lin et al. 2024, Table 2): timestep k is level k + 1."""
    chain = DiscreteVP(betas=linear_betas(1000))
    if n + offset <= 1000:
        leading = np.arange(n)[::-1] * (1000 // n) + offset
        assert (1000 * Strided(offset=offset)(chain, n))[:-1].round().tolist() == [*(leading + 1)]
    trailing = np.round(np.arange(1000, 0, -1000 / n)) - 1
    found = 1000 * Strided(trailing=True)(chain, n)
    assert found[:-1].round().tolist() == [*(trailing + 1)]
    assert found[-1] == 0


def test_strides_are_no_more_than_there_are_levels():
    chain = DiscreteVP(betas=linear_betas(100))
    with pytest.raises(InputError, match="has 99 levels"):
        Strided(offset=1)(chain, 100)
    with pytest.raises(InputError, match="has no levels"):
        Strided()(EDM(), 10)
