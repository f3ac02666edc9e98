"""Completions of series that follow one of two regimes: each as often as Bayes' rule says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from exact_process import ExactProcess, process

import undiffuse as ud
from undiffuse.interfaces import PartialRows

R, WEIGHTS, SIZE, N = (0.8, -0.8), (0.3, 0.7), 8, 10_000


def posterior(first, second):
    """The probability of the first regime given x_0 and x_1."""
    each = [
        w * math.exp(-((second - r * first) ** 2) / (2 * (1 - r**2))) for r, w in zip(R, WEIGHTS)
    ]
    return each[0] / sum(each)


def follows_first(rows):
    """Whether rows (n, steps) look like the first regime: neighbours of the same sign."""
    return (rows[:, 1:] * rows[:, :-1]).sum(1) > 0


@pytest.fixture(scope="module")
def model():
    rows = [process(int(20_000 * w), SIZE, r, seed) for seed, (r, w) in enumerate(zip(R, WEIGHTS))]
    model = ud.edm(width=8)
    model.meet(ud.load(np.concatenate(rows), axes="NTC"))
    model.denoiser.network = ExactProcess(model, R, WEIGHTS)
    model.denoiser.linear = None
    return model


@pytest.mark.parametrize(("first", "second"), [(0.5, 0.2), (1.0, 0.6), (-0.8, 0.3)])
def test_completions_follow_each_regime_as_often_as_bayes_rule_says(model, first, second):
    """To 0.02, of which chance takes two standard errors of 10,000: 0.01."""
    values = np.zeros((1, SIZE, 1), np.float32)
    values[0, :2, 0] = first, second
    known = np.zeros((1, SIZE, 1), bool)
    known[:, :2] = True
    drawn = model.sample_rows(N, given=PartialRows(values, known), seed=1, batch=N)[:, :, 0]
    assert (drawn[:, :2] == values[0, :2, 0]).all()
    ahead = [follows_first(process(40_000, SIZE - 1, r, 5, second)[:, :, 0]).mean() for r in R]
    share = posterior(first, second)
    exact = share * ahead[0] + (1 - share) * ahead[1]
    assert follows_first(drawn[:, 1:]).mean() == pytest.approx(exact, abs=0.02)
    assert 0.1 < share < 0.9
