"""What a longer training with gaps learns: shares of modes in closed form, and a process."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

from learned_gaps import error_of_future, error_of_regimes, error_of_weights

pytestmark = pytest.mark.faults


def test_modes_have_their_shares_given_a_known_entry():
    """The largest error at five known values; 16,000 completions each leave 0.008 of it."""
    assert error_of_weights(3000, 16_000, batch=1024, gaps=0.5) < 0.02


def test_an_autoregressive_process_is_forecast_and_bridged_after_a_brief_training():
    """300 steps leave 0.06, 2 standard errors of 1,500 samples are 0.026."""
    assert error_of_future(300, 6, 1500, sequence=False, gaps=0.5) < 0.09


def test_an_autoregressive_process_of_two_regimes_tells_them_apart():
    """P(next > 0 | two steps) at five pairs, by Bayes' rule; 20,000 completions leave 0.004."""
    assert error_of_regimes(4000, 20_000, 1024, gaps=0.5) < 0.02
