"""Laws of the adaptive solver: exact to its tolerance, row by row, and at the cost it reports."""

import math

import numpy as np
import pytest
import torch
from cases import SCHEDULE_CASES, times
from scipy.integrate import RK45, solve_ivp
from scipy.integrate._ivp.rk import rk_step

from undiffuse.diffusion import (
    EDM,
    Autoguided,
    ClassifierFree,
    ClassifierGuided,
    Clipped,
    Conditional,
    Interval,
    Linear,
    LinearVP,
    RowNoise,
    sample,
)
from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate, expand
from undiffuse.diffusion.oracle import Gaussian, Mixture
from undiffuse.diffusion.steps import adaptive
from undiffuse.diffusion.steps.adaptive import AdaptiveODE, flow_time, flow_variable, integrate
from undiffuse.errors import InputError

# not those with parameters: they find a time by bisection, a hundred times slower, and the
# field is the same
FIXED = {name: schedule for name, schedule in SCHEDULE_CASES.items() if schedule.module is None}
every_schedule = pytest.mark.parametrize("schedule", FIXED.values(), ids=FIXED)


def mixture(schedule):
    mean = torch.tensor([[-1.5, 0.0], [1.5, 1.0], [0.0, -1.0]]).double()
    return Mixture(schedule, mean, torch.tensor([[0.4], [0.2], [0.05]]).double().expand(3, 2))


class Counted(AbstractDenoiser):
    """Another denoiser, and how many rows it was asked for."""

    def __init__(self, denoiser):
        super().__init__()
        self.denoiser, self.schedule, self.rows = denoiser, denoiser.schedule, []

    def estimate(self, x_t, t, **cond):
        self.rows.append(len(x_t))
        return self.denoiser.estimate(x_t, t, **cond)


class Shifted(AbstractDenoiser):
    """The point `where`, one for each row: a condition that must stay with its row."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def estimate(self, x_t, t, *, where):
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        k = (0.3 * alpha) ** 2 + sigma**2
        x_hat = where + alpha * 0.09 / k * (x_t - alpha * where)
        return Estimate(x_hat, (x_t - alpha * x_hat) / sigma)


@every_schedule
def test_follows_the_exact_flow_of_a_gaussian_to_its_tolerance(schedule):
    """It carries quantiles to quantiles, from t = 1 to any t above 0, alpha_1 = 0 included."""
    mean, std = torch.tensor([0.7, -0.2]).double(), torch.tensor([0.6, 1.7]).double()
    oracle = Gaussian(schedule, mean, std)
    q = torch.tensor([[-2.5, 0.3], [0.0, 1.0], [1.1, -3.0]]).double()
    for s in (0.5, max(schedule.t_min, 1e-3)):
        t, s = times(1.0, s)
        exact = [
            a * mean + ((a * std) ** 2 + b**2).sqrt() * q for a, b in (schedule(t), schedule(s))
        ]
        errors = []
        for tolerance in (1e-4, 1e-7):
            x, evaluations = AdaptiveODE(tolerance)(oracle, exact[0], t, s, None, torch.zeros_like)
            errors.append(float((x - exact[1]).abs().max()))
            assert errors[-1] < 10 * tolerance, (s, tolerance)
            assert bool((evaluations < 40 * math.log10(1 / tolerance)).all())


@every_schedule
def test_variable_and_time_are_each_other_s_inverse(schedule):
    t = torch.linspace(max(schedule.t_min, 1e-3), 1, 40, dtype=torch.float64)
    torch.testing.assert_close(
        flow_time(schedule, flow_variable(schedule, t)), t, rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize(
    "schedule", [EDM(), LinearVP(), Linear()], ids=["edm", "linear_vp", "linear"]
)
def test_a_row_does_not_know_its_batch(schedule):
    """Each row chooses its own steps: alone, among others and in another order it
    ends where it ends.
    """
    oracle, grid = mixture(schedule), times(1.0, max(schedule.t_min, 1e-3), 0.0)
    start = schedule(grid[0])[1] * RowNoise(4, 6)(torch.empty(6, 2).double())
    whole, counts = AdaptiveODE()(oracle, start, grid[0], grid[1], None, torch.zeros_like)
    alone = [
        AdaptiveODE()(oracle, row[None], grid[0], grid[1], None, torch.zeros_like) for row in start
    ]
    torch.testing.assert_close(whole, torch.cat([x for x, _ in alone]), rtol=0, atol=1e-12)
    assert counts.tolist() == [int(n) for _, n in alone]
    assert len(set(counts.tolist())) > 1


WHERE = torch.tensor([[0.0], [3.0], [100.0], [-40.0]]).double()
WRAPPED = {
    "given": lambda d, rows: d.given(where=WHERE[rows]),
    "classifier_free": lambda d, rows: ClassifierFree(d.given(where=WHERE[rows]), 1.5, where=0.0),
    "autoguided": lambda d, rows: Autoguided(
        d.given(where=WHERE[rows]), d.given(where=WHERE[rows] / 2), 2.0
    ),
    "classifier": lambda d, rows: ClassifierGuided(
        d.given(where=WHERE[rows]), lambda x, t: -(x - WHERE[rows]).square().sum(1) / 2
    ),
    "clipped": lambda d, rows: Clipped(d.given(where=WHERE[rows]), -9.0, 9.0),
    "interval": lambda d, rows: Interval(
        Clipped(d.given(where=WHERE[rows]), -9.0, 9.0), d.given(where=WHERE[rows]), 0.1, 2.0
    ),
    "known": lambda d, rows: Conditional(
        d.given(where=WHERE[rows].expand(-1, 2)),
        WHERE[rows] + torch.tensor([[1.0, 0.0]]).double(),
        torch.tensor([[True, False]]),
    ),
}


@pytest.mark.parametrize("name", WRAPPED)
def test_what_a_wrapper_holds_for_each_row_stays_with_it(name):
    """Rows that still move are evaluated without the others: each ends where it ends alone."""
    made, schedule = WRAPPED[name], LinearVP()
    start = torch.tensor([[0.1], [1.0], [-2.0], [0.5]]).double().expand(4, 1 + (name == "known"))

    def end(rows):
        counted = Counted(Shifted(schedule))
        x, _ = AdaptiveODE(1e-3)(
            made(counted, rows), start[rows], *times(1.0, 0.001), None, torch.zeros_like
        )
        return x, counted.rows

    together, rows = end(torch.arange(4))
    apart = torch.cat([end(torch.tensor([i]))[0] for i in range(4)])
    assert min(rows) < max(rows)
    torch.testing.assert_close(together, apart, rtol=1e-9, atol=1e-9)


def test_arrived_rows_leave_the_batch_and_conditions_stay_with_their_rows():
    schedule = LinearVP()
    where = torch.tensor([[0.0], [3.0], [100.0], [-40.0]]).double()
    start = schedule(times(1.0)[0])[1] * torch.tensor([[0.1], [1.0], [-2.0], [0.5]]).double()
    counted = Counted(Shifted(schedule).given(where=where))
    x, evaluations = AdaptiveODE()(counted, start, *times(1.0, 0.001), None, torch.zeros_like)
    assert min(counted.rows) < 4
    assert sum(counted.rows) == int(evaluations.sum())
    a_t, a_s = schedule(times(1.0, 0.001))[0]
    s_t, s_s = schedule(times(1.0, 0.001))[1]
    exact = (
        a_s * where
        + ((0.3 * a_s) ** 2 + s_s**2).sqrt()
        * (start - a_t * where)
        / ((0.3 * a_t) ** 2 + s_t**2).sqrt()
    )
    torch.testing.assert_close(x, exact, rtol=2e-5, atol=2e-5)


def test_the_last_step_is_exact_for_a_point_whatever_the_grid():
    """x_hat at the smallest noise level: no time, no slope at sigma = 0 is asked for."""
    for schedule in FIXED.values():
        point = torch.tensor([0.3, -1.7]).double()
        oracle = Gaussian(schedule, point, torch.zeros(2).double())
        start = schedule(times(1.0))[1] * torch.randn(3, 2).double()
        for grid in (times(1.0, 0.0), times(1.0, max(schedule.t_min, 1e-3) / 2, 0.0)):
            x = sample(oracle, start, grid, AdaptiveODE(1e-3))
            torch.testing.assert_close(x, point.expand(3, 2), rtol=0, atol=1e-9)


def test_a_state_of_several_parts_is_controlled_part_by_part():
    """x' = -x with l' = 40 cos(40 w): l alone needs short steps, and gets them only
    while it is controlled.
    """
    start = (torch.ones(1, 3).double(), torch.zeros(1).double())

    def field(state, w, rows):
        return -state[0], 40 * torch.cos(40 * w)

    (x, swing), both = integrate(field, start, 0.0, 1.0, rtol=1e-6, atol=1e-6)
    assert float(swing) == pytest.approx(math.sin(40), abs=1e-4)
    torch.testing.assert_close(x, start[0] * math.exp(-1), rtol=1e-5, atol=0)
    _, one = integrate(field, start, 0.0, 1.0, rtol=1e-8, atol=(1e-6, math.inf))
    assert int(one) * 2 < int(both)
    (back, _), _ = integrate(field, (x, swing), 1.0, 0.0, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(back, start[0], rtol=1e-5, atol=0)


def test_error_falls_with_the_fifth_power_of_the_work():
    """The advancing formula is of order 5: a tolerance 10^5 smaller takes ten times
    the evaluations.
    """

    def field(state, w, rows):
        return (torch.stack([state[0][:, 1], -state[0][:, 0]], 1),)

    start = (torch.tensor([[1.0, 0.0]]).double(),)
    exact = torch.tensor([[math.cos(6), -math.sin(6)]], dtype=torch.float64)
    counts, errors = [], []
    for tolerance in (1e-6, 1e-11):
        (x,), n = integrate(field, start, 0.0, 6.0, rtol=tolerance, atol=tolerance)
        counts.append(int(n))
        errors.append(float((x - exact).abs().max()))
    assert math.log(errors[0] / errors[1]) / math.log(counts[1] / counts[0]) == pytest.approx(
        5, abs=0.5
    )


def test_a_row_without_a_finite_slope_ends_as_nan_and_stops_no_other():
    start = (torch.tensor([[1.0], [2.0], [math.nan]]).double(),)

    def field(state, w, rows):
        pole = torch.where(rows == 1, 1 / (0.5 - w).clamp(min=0), 1.0)
        return (-state[0] * pole[:, None],)

    (x,), _ = integrate(field, start, 0.0, 1.0)
    assert float(x[0]) == pytest.approx(math.exp(-1), abs=1e-4)
    assert x[1:].isnan().all()


class Relay(AbstractDenoiser):
    """A prediction that jumps where x_t is 0, and drives every row there."""

    schedule = EDM()

    def estimate(self, x_t, t, **cond):
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        x_hat = -50 * x_t.sign()
        return Estimate(x_hat, (x_t - alpha * x_hat) / sigma)


def test_a_row_that_never_arrives_ends_after_a_stated_number_of_evaluations(monkeypatch):
    """Along a jump steps have no least length; the other rows arrive."""
    monkeypatch.setattr(adaptive, "MOST", 200)
    start = (torch.tensor([[1.0], [2.0]]).double(),)

    def field(state, w, rows):
        return (torch.where(rows[:, None] == 1, -100 * state[0].sign(), -state[0]),)

    (x,), evaluations = integrate(field, start, 0.0, 1.0)
    assert float(x[0]) == pytest.approx(math.exp(-1), abs=1e-4)
    assert x[1].isnan().all()
    assert 200 <= int(evaluations[1]) < 210
    with pytest.raises(InputError, match="after 200 evaluations; give a larger tolerance, or use"):
        AdaptiveODE()(Relay(), start[0], *times(1.0, 0.01), None, torch.zeros_like)


@pytest.mark.parametrize("wrong", [{"tolerance": 0.0}, {"tolerance": math.nan}])
def test_impossible_tolerances_are_refused(wrong):
    with pytest.raises(InputError, match="above 0"):
        AdaptiveODE(**wrong)


def asked_for(field, start, end, tolerance):
    """The values of the variable that `integrate` asks one row's field for, and where it ends."""
    asked = []

    def watched(state, w, rows):
        asked.append(float(w[0]))
        return field(state, w, rows)

    (x,), evaluations = integrate(watched, (start,), *end, rtol=tolerance, atol=tolerance)
    assert int(evaluations[0]) == len(asked)
    return asked, x


def bent(state, w, rows):
    """Slopes that turn quickly near w = 0.3: steps of all lengths, some of them refused."""
    return (-state[0].roll(1, 1) * expand(1 / (0.01 + (w - 0.3) ** 2), state[0]) / 10,)


BENT = torch.tensor([[1.0, -0.4]]).double()


def scipy_bent(w, x):
    return -np.roll(x, 1) / (0.01 + (w - 0.3) ** 2) / 10


@pytest.mark.parametrize("end", [(0.0, 1.0), (1.0, 0.0), (0.0, 1e-4)], ids=str)
@pytest.mark.parametrize("tolerance", [1e-3, 1e-6])
@pytest.mark.parametrize("scale", [0.0, 1e-4, 1.0])
def test_the_first_step_is_scipy_s(end, tolerance, scale):
    """Hairer, Norsett and Wanner (1993), II.4, as scipy's RK45 chooses it too."""
    (start, stop), x = end, scale * BENT
    asked, _ = asked_for(bent, x, end, tolerance)
    theirs = RK45(scipy_bent, start, x[0].numpy(), stop, rtol=tolerance, atol=tolerance)
    assert abs(asked[2] - start) * 5 == pytest.approx(
        min(theirs.h_abs, abs(stop - start)), rel=1e-9
    )
    assert (asked[2] - start) * (stop - start) > 0


def steps_of(asked, start):
    """(position, length) of each step tried: six evaluations each, the first at a fifth of it."""
    return [(asked[i + 4], (asked[i + 4] - asked[i]) / 0.8) for i in range(2, len(asked), 6)]


@pytest.mark.parametrize("end", [(0.0, 1.0), (1.0, 0.0)], ids=str)
def test_each_step_is_what_the_error_of_the_last_one_allows(end):
    """Hairer, Norsett and Wanner (1993), II.4, dopri5: h' = 0.9 h err^-0.17 err_before^0.04 within
    [0.2, 10] h; after a step that is refused 0.9 h err^-0.2, within [0.1, 1] h. The errors are
    those of scipy's own tableau.
    """
    tolerance = 1e-5
    asked, found = asked_for(bent, BENT, end, tolerance)
    (w, stop), x, before, refused = end, BENT[0].numpy(), 1.0, 0
    tried = steps_of(asked, w)
    for i, (reached, h) in enumerate(tried):
        assert reached == pytest.approx(w + h, abs=1e-12)
        k = np.empty((7, 2))
        after, k[6] = rk_step(scipy_bent, w, x, scipy_bent(w, x), h, RK45.A, RK45.B, RK45.C, k)
        scale = tolerance + tolerance * np.maximum(np.abs(x), np.abs(after))
        error = np.sqrt(np.mean((h * (k.T @ RK45.E) / scale) ** 2))
        if error <= 1:
            factor = np.clip(0.9 * error**-0.17 * before**0.04, 0.2, 10)
            w, x, before = w + h, after, max(error, 1e-4)
        else:
            factor, refused = np.clip(0.9 * error**-0.2, 0.1, 1), refused + 1
        if i + 1 < len(tried):
            wanted = min(abs(h * factor), abs(stop - w))
            assert abs(tried[i + 1][1]) == pytest.approx(wanted, rel=1e-6)
    assert w == pytest.approx(stop, abs=1e-12)
    assert refused > 0
    np.testing.assert_allclose(found[0].numpy(), x, rtol=1e-10)


def test_it_asks_no_more_than_scipy_does_for_the_same_error():
    for tolerance in (1e-4, 1e-7, 1e-10):
        asked, found = asked_for(bent, BENT, (0.0, 1.0), tolerance)
        theirs = solve_ivp(
            scipy_bent, (0.0, 1.0), BENT[0].numpy(), method="RK45", rtol=tolerance, atol=tolerance
        )
        exact = solve_ivp(
            scipy_bent, (0.0, 1.0), BENT[0].numpy(), method="DOP853", rtol=1e-13, atol=1e-13
        )
        off, theirs_off = (
            np.abs(end - exact.y[:, -1]).max() for end in (found[0].numpy(), theirs.y[:, -1])
        )
        assert len(asked) <= 1.1 * theirs.nfev
        assert off <= 3 * theirs_off


def test_nothing_to_do_costs_nothing():
    start = (torch.ones(2, 1).double(),)
    for state, end in ((start, 0.0), ((torch.empty(0, 1).double(),), 1.0)):
        (x,), evaluations = integrate(lambda *_: pytest.fail("asked"), state, 0.0, end)
        assert torch.equal(x, state[0])
        assert (evaluations == 0).all()


def test_a_state_may_be_a_number_a_row():
    (x,), _ = integrate(
        lambda state, w, rows: (-state[0],), (times(1.0, -2.0),), 0.0, 1.0, rtol=1e-9, atol=1e-9
    )
    torch.testing.assert_close(x, times(1.0, -2.0) * math.exp(-1), rtol=1e-8, atol=0)


@pytest.mark.parametrize("start", [0.0, 0.1, 0.9])
def test_the_end_is_met_to_the_last_digit_and_never_passed(start):
    for end in torch.linspace(0.2, 0.8, 7, dtype=torch.float64).tolist():
        asked, _ = asked_for(bent, BENT, (start, end), 1e-2)
        assert asked[-1] == end
        assert min(start, end) <= min(asked)
        assert max(asked) <= max(start, end)


def test_a_step_that_leaves_where_the_field_is_known_is_shortened():
    """x' = 50 (1 - x) from 0 never exceeds 1, which its trial steps do."""

    def field(state, w, rows):
        (x,) = state
        return (torch.where(x > 1 + 1e-9, torch.nan, 50 * (1 - x)),)

    (x,), evaluations = integrate(
        field, (torch.zeros(1, 1).double(),), 0.0, 0.2, rtol=0.1, atol=0.1
    )
    assert float(x) == pytest.approx(1 - math.exp(-10), abs=0.1)
    assert int(evaluations) < adaptive.MOST


def test_every_evaluation_on_the_way_is_counted():
    schedule = LinearVP()
    counted, step = Counted(mixture(schedule)), AdaptiveODE(1e-3)
    x, memory = torch.randn(3, 2).double(), None
    for t, s in ((1.0, 0.5), (0.5, 0.001), (0.001, 0.0)):
        x, memory = step(counted, x, *times(t, s), memory, torch.zeros_like)
        assert sum(counted.rows) == int(memory.sum())


def test_a_row_without_a_prediction_does_not_stop_the_others():
    oracle = mixture(LinearVP())
    x = torch.tensor([[0.3, 0.1], [math.nan, 0.0]]).double()
    found, _ = AdaptiveODE(1e-3)(oracle, x, *times(1.0, 0.1), None, torch.zeros_like)
    assert found[0].isfinite().all()
    assert found[1].isnan().any()
