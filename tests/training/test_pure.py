"""Schedules, durations, seeds, averages, options: what needs no model."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from undiffuse.device import find_device
from undiffuse.duration import format_duration, parse_duration
from undiffuse.errors import InputError
from undiffuse.training import schedule
from undiffuse.training.averaging import PowerAverage, averaged, exponent
from undiffuse.training.randomness import Randomness, mix
from undiffuse.training.settle import batch_for, merge
from undiffuse.training.sizing import NUMBERS, SHARE, STEP, choose_width


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("90s", 90),
        ("90", 90),
        ("10m", 600),
        ("1.5h", 5400),
        ("1h30m", 5400),
        ("1 h 30 m", 5400),
        ("2D", 172800),
    ],
)
def test_durations_read_as_people_write_them(text, value):
    assert parse_duration(text) == value


@pytest.mark.parametrize(
    "text", ["", "soon", "10x", "-5m", "10m!", "m", "1..5h", "0s", "0", "nan", "inf", "1 2"]
)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(InputError, match="10m or 1h30m"):
        parse_duration(text)


@pytest.mark.parametrize("number", [0, -3.0, float("nan"), float("inf")])
def test_budgets_that_are_no_length_of_time_are_refused(number):
    with pytest.raises(InputError, match="budget"):
        parse_duration(number)


@pytest.mark.parametrize("duration", [1, 59, 60, 3600, 5400, 86400 * 3])
def test_words_read_back(duration):
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize("decay", [0.3, 0.7, 1.0])
def test_rate_falls_to_zero_exactly_at_the_end(decay):
    rates = [schedule.rate(step / 1000, step, warmup=50, decay=decay) for step in range(1001)]
    assert rates[-1] == 0.0
    assert rates[0] == 1 / 50
    tail = rates[round(1000 * (1 - decay)) :] if decay < 1 else rates[50:]
    slopes = [b - a for a, b in pairwise(tail)]
    assert slopes == pytest.approx([-1 / (1000 * decay)] * len(slopes))  # a straight line
    if decay < 1:
        assert max(rates) == 1.0


def test_warm_up_takes_no_more_than_a_twentieth_of_a_short_run():
    assert schedule.rate(0.05, 1, warmup=100, decay=0.5) == pytest.approx(1.0)
    assert schedule.rate(0.55, 1, warmup=100, decay=1.0, started=0.5) == pytest.approx(0.45)


def test_progress_follows_the_steps_or_the_clock():
    assert schedule.progress(25, 9e9, steps=100, budget=None) == 0.25
    assert schedule.progress(25, 30.0, steps=None, budget=120.0) == 0.25
    assert schedule.progress(25, 500.0, steps=None, budget=120.0) == 1.0


def test_evaluations_are_early_even_spread_and_bounded():
    steps = 20_000
    due = [
        k
        for k in range(1, steps + 1)
        if schedule.evaluation_due(k, (k - 1) / steps, k / steps, every=None)
    ]
    assert {250, 500, 1000, 2000, 4000, 8000, 16_000, 20_000} <= set(due)
    assert {steps * i // schedule.EVALUATIONS for i in range(1, schedule.EVALUATIONS + 1)} <= set(
        due
    )
    assert len(due) < 25
    assert [k for k in range(1, 10) if schedule.evaluation_due(k, 0.0, 1.0, every=3)] == [3, 6, 9]


def test_evaluations_keep_to_their_share_of_the_time():
    assert schedule.affordable(1.0, 20.0, every=None)
    assert not schedule.affordable(1.1, 20.0, every=None)
    assert schedule.affordable(9.0, 1.0, every=10)


def test_power_average_has_its_closed_form_weights():
    """avg_T = sum over s of (s^p - (s-1)^p) / T^p theta_s, p = gamma + 1, whatever the start."""
    width, last = 0.15, 40
    parameter = torch.full((last,), 1e3, dtype=torch.float64)  # the start: to be forgotten
    average = PowerAverage([parameter], width)
    for step in range(last):
        parameter.zero_()
        parameter[step] = 1.0
        average.update()
    p = exponent(width) + 1
    s = torch.arange(1, last + 1, dtype=torch.float64)
    expected = (s**p - (s - 1) ** p) / last**p
    torch.testing.assert_close(average.values[0], expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("width", [0.02, 0.05, 0.1, 0.2, 12**-0.5])
def test_power_average_has_the_width_asked_for(width):
    steps = 20_000
    s = torch.arange(1, steps + 1, dtype=torch.float64)
    p = exponent(width) + 1
    weights = ((s / steps) ** p).diff(prepend=torch.zeros(1, dtype=torch.float64))
    mean = (weights * s).sum()
    std = (weights * (s - mean) ** 2).sum().sqrt() / steps
    assert float(std) == pytest.approx(width, rel=2e-3)


def test_no_width_is_no_average_and_the_exchange_is_undone():
    parameter = torch.tensor([1.0, 2.0])
    average, wide = PowerAverage([parameter], 0.0), PowerAverage([parameter], 12**-0.5)
    for value in (3.0, 4.0):
        parameter.fill_(value)
        average.update()
        wide.update()
    assert average.values[0].tolist() == [4.0, 4.0]
    with averaged([wide]):
        assert parameter.tolist() == pytest.approx([3.5, 3.5])  # the plain mean
    assert parameter.tolist() == [4.0, 4.0]


def test_keys_give_seeds_that_do_not_collide():
    seeds = {
        mix(seed, k, r, i)
        for seed in range(4)
        for k in range(-2, 60)
        for r in (0, 8, 16)
        for i in range(2)
    }
    assert len(seeds) == 4 * 62 * 3 * 2
    assert all(0 <= seed < 2**63 for seed in seeds)
    drawn = [mix(0, k) for k in range(2000)]
    bits = torch.tensor([[seed >> b & 1 for b in range(63)] for seed in drawn], dtype=torch.float64)
    assert (bits.mean(0) - 0.5).abs().max() < 5 * 0.5 / 2000**0.5  # five standard errors


def test_draws_are_a_function_of_the_keys_and_the_caller_keeps_its_own():
    torch.manual_seed(3)
    expected = torch.randn(2)
    torch.manual_seed(3)
    randomness = Randomness(torch.device("cpu"), 7)
    with randomness.put_back():
        randomness.at(5, 0, 0)
        first = torch.randn(3)
        randomness.at(6, 0, 0)
        assert not torch.equal(torch.randn(3), first)
        randomness.at(5, 0, 0)
        assert torch.equal(torch.randn(3), first)
    assert torch.equal(torch.randn(2), expected)


def test_options_given_win_over_recorded_over_defaults():
    recorded = {
        "steps": 100,
        "budget": None,
        "lr": 0.5,
        "seed": 4,
        "precision": "bfloat16",
        "unknown_to_us": 1,
    }
    options = merge({"lr": 0.1, "precision": "auto", "batch": None, "seed": 9}, recorded)
    assert (options.lr, options.precision, options.seed, options.steps) == (0.1, "bfloat16", 4, 100)
    timed = merge({"budget": "2m"}, recorded)
    assert (timed.steps, timed.budget) == (None, 120.0)
    assert merge({}).budget == 600.0
    assert merge({"steps": 5}, {"steps": None, "budget": 9.0}).budget is None


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"steps": -1}, "steps -1"),
        ({"steps": 0}, "steps 0"),
        ({"steps": 2.5}, "steps 2.5"),
        ({"steps": 5, "budget": "1m"}, "steps and budget"),
        ({"lr": 0.0}, "lr"),
        ({"lr": float("nan")}, "lr"),
        ({"lr": "high"}, "lr high"),
        ({"batch": 0}, "batch"),
        ({"batch": 4, "accumulate": 5}, "accumulate 5"),
        ({"decay": 0.0}, "decay"),
        ({"averaging": 0.5}, "averaging"),
        ({"clip": -1.0}, "clip"),
        ({"seed": -1}, "seed"),
        ({"precision": "float16"}, "Did you mean"),
        ({"stepz": 5}, "Did you mean steps"),
    ],
)
def test_options_that_make_no_sense_are_refused_by_name(options, what):
    with pytest.raises(InputError, match=what):
        merge(options)


def test_the_batch_shrinks_with_the_rows_size_and_number():
    shapes = [(64,), (1, 8, 8), (3, 64, 64), (3, 128, 128), (3, 256, 256)]
    sizes = [batch_for(shape) for shape in shapes]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] >= 1
    assert [batch_for((2,), rows=rows) for rows in (2, 20, 400, 10**6)] == [2, 16, 32, 256]
    assert batch_for((3, 32, 32), accelerated=True) == 4 * batch_for((3, 32, 32))


def test_devices_that_are_not_there_are_refused():
    assert find_device("cpu").type == "cpu"
    with pytest.raises(InputError, match="Did you mean cuda"):
        find_device("cdua")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match=r"none on this machine; use .*cpu"):
            find_device("cuda")


class Widening:
    """A network of width^2 parameters, a pass of which takes width^2 / 10^6 seconds."""

    widths, width = (10, 20, 40, 80), 40

    def take_width(self, width):
        self.width, self.parameter_count = width, width**2

    def __call__(self, precision, rows):
        assert (precision, rows) == ("bfloat16", 2)
        return self.width**2 / 1e6, 0.0


def chosen_width(budget, stop=lambda: False):
    model = Widening()
    options = {"rows": 2, "numbers": 1, "precision": "bfloat16", "stop": stop}
    return choose_width(model, model, budget=budget, **options)


@pytest.mark.parametrize("width", Widening.widths)
def test_the_width_is_the_widest_that_sees_enough_numbers(width):
    """r D / p with r = 2 budget / (STEP width^2 / 10^6) and D = 1: it falls as width^4."""
    budget = 1.01 * NUMBERS * STEP * width**4 / 1e6 / 2
    found = chosen_width(budget)
    assert found.width == width
    assert found.widths == tuple(one for one in Widening.widths if one <= 2 * width)
    seen = 2 * budget / (STEP * found.widths[-1] ** 2 / 1e6)
    assert found.rows[-1] == pytest.approx(seen, abs=2)
    assert found.numbers[found.widths.index(width)] == pytest.approx(1.01 * NUMBERS, rel=1e-3)
    assert chosen_width(budget / 1.02).width == max(10, width // 2)


def test_no_width_is_chosen_without_time_or_when_stopped():
    assert chosen_width(0.9 * 2e-4 / SHARE) is None  # three passes of the narrowest take 3e-4 s
    assert chosen_width(100.0, stop=lambda: True) is None
    model = Widening()
    model.widths = ()
    assert choose_width(model, model, budget=9.0, rows=8, numbers=5, precision="bfloat16") is None
