"""Scores of series by recurrent networks, on autoregressive processes whose errors are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from undiffuse.evaluation.metrics.series import (
    FITTED,
    Sequences,
    discriminative,
    predictive,
)

R = 0.8
LEAST = math.sqrt((1 - R**2) * 2 / math.pi)  # E|x_i - R x_(i - 1)|


def process(n, seed, r=R, length=12):
    """Series (n, 2, length) of x_i = r x_(i - 1) + sqrt(1 - r^2) z_i; the channels are alike."""
    z = np.random.default_rng(seed).normal(size=(n, 2, length))
    for i in range(1, length):
        z[:, :, i] = r * z[:, :, i - 1] + math.sqrt(1 - r**2) * z[:, :, i]
    return 5 + 3 * z


def sets(r=R, n=200, **more):
    return Sequences(real=process(n, 0), fake=process(n, 1, r), training=process(n, 2), **more)


@pytest.fixture(scope="module")
def exact():
    return sets()


def test_samples_of_the_law_are_not_told_from_it_and_others_are(exact):
    found, other = discriminative(exact), discriminative(sets(0.4))
    assert found.value == pytest.approx(found.floor, abs=3 * found.stderr)
    assert found.value < 0.06
    assert found.low == 0
    assert other.floor == found.floor  # of training rows alone
    assert other.low > 0.2


def test_what_samples_of_the_law_teach_predicts_as_well_as_can_be(exact):
    """In the least possible error, and near that of training rows; another law teaches worse."""
    found, other = predictive(exact), predictive(sets(0.4))
    assert found.value == pytest.approx(found.floor, abs=0.02)
    assert found.value == pytest.approx(LEAST, abs=0.03)
    assert other.floor == found.floor
    assert other.low > found.high
    # |(r - 0.4) x + noise| of the best predictor of the other law
    wrong = math.sqrt((0.4**2 + 1 - R**2) * 2 / math.pi)
    assert other.value == pytest.approx(wrong, abs=0.05)


def test_gaps_are_seen_and_not_predicted(exact):
    """Missing at random, the law is the same; samples without gaps are told from it by those."""
    rng = np.random.default_rng(3)
    holed = [np.where(rng.random(x.shape) < 0.2, np.nan, x) for x in (exact.real, exact.training)]
    same = np.where(rng.random(exact.fake.shape) < 0.2, np.nan, exact.fake)
    like = Sequences(real=holed[0], fake=same, training=holed[1])
    whole = Sequences(real=holed[0], fake=exact.fake, training=holed[1])
    told = discriminative(whole)
    assert told.low > 0.3
    assert told.floor < 0.08
    error = predictive(like)
    assert error.value == pytest.approx(error.floor, abs=0.03)
    assert LEAST < error.value < 0.8  # of what is known; guessing the mean gives 0.8


def test_long_and_many_series_are_cut_and_it_is_said_how_far_it_is():
    told = []
    rows = np.random.default_rng(0).normal(size=(30, 1, 4000))
    rows[:, :, 100:] += 1e4 * np.sign(np.arange(3900) % 200 - 100)
    given = Sequences(
        real=rows, fake=rows, training=rows[:20], progress=lambda *said: told.append(said)
    )
    assert [part.shape for part in given.parts()] == [(20, 48, 1)] * 3
    assert not np.array_equal(given.parts()[0][0], given.parts()[0][1])
    predictive(given)
    assert told[-1] == (FITTED, FITTED, "learning to predict series")
    assert [done for done, _, _ in told] == list(range(1, FITTED + 1))


def test_the_seed_decides_everything():
    first, again, other = (predictive(sets(n=10, seed=seed)) for seed in (0, 0, 1))
    assert first == again
    assert first != other
