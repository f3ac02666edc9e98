"""Numbers, scales and marks of the report: what is written and drawn is what was measured."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_facts import figure
from report_reader import Page, read

from undiffuse.evaluation.report.charts import Axis, Chart, Dot, Series, bar
from undiffuse.evaluation.report.numbers import value_text
from undiffuse.evaluation.report.page import _environment
from undiffuse.evaluation.report.scales import Scale, scale_for

PARTS = _environment().get_template("parts.html").module


@given(st.floats(-1e6, 1e6), st.floats(1e-4, 1e6))
def test_a_value_is_written_to_a_tenth_of_its_error(value: float, half: float) -> None:
    shown = value_text(figure(value, half))
    assert abs(read(shown) - value) <= 0.0501 * max(half, 1.0 if half >= 10 else 0.0) + 0.05 * half


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_even_and_inside(low: float, width: float) -> None:
    scale = Scale(low, low + width)
    ticks = scale.ticks(6)
    steps = [b - a for a, b in itertools.pairwise(ticks)]
    assert 1 <= len(ticks) <= 8
    assert all(low - 1e-6 * width <= tick <= low + width * (1 + 1e-6) for tick in ticks)
    assert all(step == pytest.approx(steps[0], rel=1e-3) for step in steps)


def test_marks_stand_where_the_numbers_are() -> None:
    """A bar from 0 to 10: the value 5 in the middle, its interval from 40 % to 60 %,
    the floor at 10 %.
    """
    drawn = Page(PARTS.draw_bar(bar(figure(5.0, 1.0, floor=1.0), Scale(0.0, 10.0)))).opened
    marks = {given.get("class"): given for _, given in drawn}
    assert marks["dot"]["cx"] == "50.00%"
    assert (marks["interval"]["x"], marks["interval"]["width"]) == ("40.00%", "20.00%")
    assert marks["floor"]["x1"] == marks["floor"]["x2"] == "10.00%"


def test_points_stand_where_the_numbers_are() -> None:
    """A straight line stays straight, and on two logarithmic axes so does a power."""
    linear = [Dot(float(x), 3.0 * x + 2) for x in (0, 1, 5, 9)]
    power = [Dot(10.0**x, 5 * 100.0**-x) for x in (0, 1, 2.5, 4)]
    for points, log in ((linear, False), (power, True)):
        axes = Axis("x", log=log), Axis("y", log=log)
        chart = Chart("one", [Series("one", points)], *axes, alt="a line")
        drawn = Page(PARTS.draw_chart(chart)).opened
        path = next(given["points"] or "" for name, given in drawn if name == "polyline")
        (ax, ay), *between, (bx, by) = (
            [float(v) for v in each.split(",")] for each in path.split()
        )
        for cx, cy in between:
            assert (cx - ax) * (by - ay) == pytest.approx(
                (cy - ay) * (bx - ax), abs=40.0
            )  # a tenth of a unit of 400


def test_scales_hold_what_they_are_made_for() -> None:
    assert scale_for([0.2, 0.4], low=0.0, high=1.0) == Scale(0.0, 1.0)
    beyond = scale_for([-0.2, 1.4], low=0.0, high=1.0)
    assert beyond.low < -0.2
    assert beyond.high > 1.4
    assert scale_for([3.0]).low < 3.0 < scale_for([3.0]).high
