"""Quality against evaluations: which settings are drawn, and what becomes of those that cannot be."""

from __future__ import annotations

import numpy as np
import pytest

from undiffuse.data import load
from undiffuse.errors import InputError
from undiffuse.evaluation.by_evaluations import by_evaluations
from undiffuse.evaluation.drawn import Drawn
from undiffuse.evaluation.references import refer
from undiffuse.evaluation.yardsticks import quick, sampled

rng = np.random.default_rng(0)
PER_STEP = 2.0


@pytest.fixture(scope="module")
def reference():
    return refer(load(rng.normal(size=(400, 2)), held_out=100))


def drawn(n: int, steps: int) -> Drawn:
    """Samples that are better the more steps there are, at two evaluations a step."""
    rows = rng.normal(size=(n, 2)) + 8 / steps
    return Drawn(rows=rows, evaluations=PER_STEP * steps, batches=((n, 1.0),))


@pytest.mark.parametrize(
    ("own", "drawn_too"),
    [
        (18, [36, 9, 4]),  # 72 + 18 + 8 evaluations
        (4, [8, 2]),  # one step is no path
        (40, [20, 10, 5]),  # twice as many would cost 160 of the 120 there are
        (1000, [31, 15, 7]),  # 62 + 30 + 14
        (1, [2]),
    ],
)
def test_settings_lie_around_the_one_in_use_and_cost_no_more_than_allowed(
    reference, own, drawn_too
):
    asked: list[tuple[int, int]] = []

    def draw(n: int, steps: int) -> Drawn:
        asked.append((n, steps))
        return drawn(n, steps)

    whole = drawn(60, own)
    lines = by_evaluations(whole, own, draw, reference)
    assert asked == [(60, steps) for steps in drawn_too]
    assert [line["steps"] for line in lines] == sorted([own, *drawn_too])
    assert [line["evaluations"] for line in lines] == [PER_STEP * line["steps"] for line in lines]
    values = quick(sampled(whole.rows, reference), reference)
    mine = next(line for line in lines if line["steps"] == own)
    assert mine["frechet"]["value"] == values["frechet"].value
    assert mine["precision"]["better"] == "higher"


def test_the_better_setting_shows(reference):
    lines = by_evaluations(drawn(60, 18), 18, drawn, reference)
    assert lines[0]["frechet"]["low"] > lines[-1]["frechet"]["high"]


def test_a_family_that_draws_in_one_pass_has_no_settings(reference):
    assert by_evaluations(drawn(60, 1), None, drawn, reference) == []


def test_a_setting_that_the_model_does_not_take_is_left_out(reference):
    def draw(n: int, steps: int) -> Drawn:
        if steps > 18:
            raise InputError("steps 36: there are 18 levels.")
        found = drawn(n, steps)
        if steps == 4:
            found.rows[:] = np.nan
        return found

    assert [line["steps"] for line in by_evaluations(drawn(60, 18), 18, draw, reference)] == [
        2,
        9,
        18,
    ]


def test_stopping_stops(reference):
    assert by_evaluations(drawn(60, 18), 18, lambda n, steps: None, reference) is None
