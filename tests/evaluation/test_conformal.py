"""Conformal alarms keep what they promise: by enumeration and in distribution."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest

from undiffuse.errors import InputError
from undiffuse.evaluation.scores.conformal import Calibration


@pytest.mark.parametrize("n", [1, 2, 4, 6])
def test_p_values_are_exactly_uniform_over_all_orders(n):
    """All orders of distinct scores are equally likely: so are the p-values 1/(n + 1) ... 1."""
    p = [
        Calibration(np.array(order[:n], float)).p_values(np.array(order[n:], float))[0]
        for order in permutations(range(n + 1))
    ]
    values, counts = np.unique(p, return_counts=True)
    np.testing.assert_allclose(values, np.arange(1, n + 2) / (n + 1), rtol=1e-12)
    assert len(set(counts)) == 1


@pytest.mark.parametrize("n", [3, 4])
def test_ties_never_make_too_many_alarms(n):
    """Independent scores from three values: P(p <= r) <= r exactly, for every r that p can take."""
    p = [
        Calibration(np.array(draw[:n], float)).p_values(np.array(draw[n:], float))[0]
        for draw in product(range(3), repeat=n + 1)
    ]
    for rate in np.arange(1, n + 2) / (n + 1):
        assert np.mean(np.array(p) <= rate + 1e-12) <= rate + 1e-12


@pytest.mark.parametrize(
    ("n", "rate"), [(99, 0.01), (99, 0.29), (999, 0.07), (19, 0.05), (50, 0.1), (9, 0.7)]
)
def test_an_alarm_is_a_p_value_at_or_below_the_rate(n, rate):
    from fractions import Fraction

    exact = Fraction(str(rate))
    calibration = Calibration(np.arange(n) + 0.5)
    scores = np.arange(n + 1.0)
    expected = [Fraction(k + 1, n + 1) <= exact for k in range(n + 1)]
    assert calibration.alarms(scores, rate=rate).tolist() == expected
    assert calibration.lowest(rate) == sum(expected)


def test_the_realized_rate_is_the_beta_law_and_averages_to_the_promise():
    """20,000 sets of uniform scores: the realized rate is the l-th smallest score."""
    n, rate, sets = 199, 0.05, 20_000
    rng = np.random.default_rng(0)
    drawn = np.sort(rng.random((sets, n)), 1)
    calibration = Calibration(drawn[0])
    realized = drawn[:, calibration.lowest(rate) - 1]
    grid = np.linspace(0, 1, 10_001)
    assert calibration.alarms(grid, rate=rate).mean() == pytest.approx(realized[0], abs=2e-4)
    low, high = calibration.realized(rate)
    assert np.mean(realized < low) == pytest.approx(0.025, abs=0.004)
    assert np.mean(realized > high) == pytest.approx(0.025, abs=0.004)
    assert realized.mean() == pytest.approx(rate, abs=4 * realized.std() / sets**0.5)


def test_the_share_of_alarms_among_ordinary_rows_is_the_rate():
    rng = np.random.default_rng(1)
    alarms = [
        Calibration(rng.normal(size=49)).alarms(rng.normal(size=20), rate=0.1).mean()
        for _ in range(4000)
    ]
    error = np.std(alarms) / len(alarms) ** 0.5
    assert np.mean(alarms) == pytest.approx(0.1, abs=4 * error)
    assert error < 0.002


@pytest.mark.parametrize(
    ("n", "rate", "needed"), [(98, 0.01, "99"), (5, 0.001, "999"), (18, 0.05, "19"), (2, 0.3, "3")]
)
def test_a_rate_that_the_held_out_rows_cannot_give_is_refused(n, rate, needed):
    with pytest.raises(
        InputError, match=f"needs at least {needed} held-out rows, and there are {n}"
    ):
        Calibration(np.arange(n, dtype=float)).alarms(np.zeros(1), rate=rate)
    assert Calibration(np.arange(float(needed))).lowest(rate) >= 1


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, float("nan")])
def test_a_rate_is_between_0_and_1(rate):
    with pytest.raises(InputError, match="between 0 and 1"):
        Calibration(np.arange(9.0)).lowest(rate)


def test_scores_that_are_no_numbers():
    """A held-out NaN counts against alarms, a new one has no p-value; -infinity is the lowest."""
    calibration = Calibration(np.array([np.nan, 1.0, 2.0, 3.0]))
    new = np.array([-np.inf, 0.0, np.nan, 9.0])
    np.testing.assert_allclose(calibration.p_values(new), [0.4, 0.4, np.nan, 1.0])
    np.testing.assert_allclose(calibration.quantiles(new), [0.25, 0.25, np.nan, 1.0])
    assert calibration.alarms(new, rate=0.4).tolist() == [True, True, False, False]
    with pytest.raises(InputError, match="no held-out rows"):
        Calibration(np.zeros(0))
