"""Figures, the rows they are measured on, and small cases whose every number is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from undiffuse.errors import InputError
from undiffuse.evaluation.metrics import (
    RowScores,
    Timings,
    bits_per_dim,
    latency,
    likelihood_gap,
    match,
    match_features,
    modes,
    nats,
    samples_per_second,
)
from undiffuse.evaluation.metrics.figure import auroc, by_halves, normal, of_mean, student

T95 = {2: 12.7062, 4: 3.18245, 6: 2.57058, 20: 2.09302}  # quantiles of Student's t, from a table


@pytest.mark.parametrize(("n", "m"), [(20, 8), (20, 10), (21, 15), (9, 30), (8, 8)])
def test_matched_rows_are_different_rows_of_either_side_and_the_halves_are_disjoint(n, m):
    """min(n, m) of each; of the real rows twice as many for the floor, or all there are."""
    real, fake = torch.arange(n), 100 + torch.arange(m)
    found, size, part = match(real, fake), min(n, m), min(n, m, n // 2)
    for rows, of in ((found.reference, real), (found.fake, fake)):
        assert len(rows) == len(set(rows.tolist())) == size
        assert set(rows.tolist()) <= set(of.tolist())
    both = torch.cat(found.halves).tolist()
    assert [len(half) for half in found.halves] == [part, part]
    assert len(set(both)) == 2 * part
    assert set(both) <= set(real.tolist())
    assert (found.note == "") == (part == size)
    for name in ("reference", "fake"):
        other = match(real, fake, seed=1)
        assert getattr(match(real, fake), name).equal(getattr(found, name))
        assert not getattr(other, name).equal(getattr(found, name))


def test_which_rows_are_chosen_on_one_side_says_nothing_of_the_other():
    rows = torch.arange(40)
    found = match(rows, rows)
    assert not found.reference.equal(found.fake)
    pairs = found.subsets()
    assert len(pairs) == 20
    halves = [half for pair in pairs for half in pair]
    assert len({tuple(half.tolist()) for half in halves}) == 40
    for half in halves:
        assert len(half) == 20
        assert half.diff().min() > 0  # rows differ, and ascend
        assert 0 <= half.min() <= half.max() < 40
    assert [a.tolist() for a, _ in match(rows, rows, seed=1).subsets()] != [
        a.tolist() for a, _ in pairs
    ]


def test_features_are_checked_on_both_sides():
    good = torch.zeros(8, 3)
    assert len(match_features(good, good).fake) == 8
    for bad, words in [
        (torch.zeros(7, 3), "7 rows are too few"),
        (torch.zeros(8, 3, dtype=torch.int64), "give a matrix"),
        (torch.zeros(8, 3, 1), "give a matrix"),
        (torch.tensor([[math.inf, 0, 0]] + [[0.0] * 3] * 8), "1 of 9 rows are not finite"),
    ]:
        with pytest.raises(InputError, match=f"samples: .*{words}"):
            match_features(good, bad)
        with pytest.raises(InputError, match=f"real rows: .*{words}"):
            match_features(bad, good)


@pytest.mark.parametrize("n", [10, 11, 99, 100, 101])
def test_an_interval_is_so_many_errors_wide_and_few_rows_are_said(n):
    found = normal(2.0, 0.5, n)
    assert (found.value, found.stderr, found.n, found.floor) == (2, 0.5, n, None)
    assert found.low == pytest.approx(2 - 0.5 * 1.959964)
    assert found.high == pytest.approx(2 + 0.5 * 1.959964)
    few = f"only {n} rows: too few for the interval to be trusted"
    assert found.warning == (few if n < 100 else "")
    cut = normal(2.0, 0.5, n, width=3.0, floor=1.0, bounds=(1.0, 3.0), warnings=["a", "", "b"])
    assert (cut.low, cut.high, cut.floor) == (1.0, 3.0, 1.0)
    assert cut.warning.endswith("a; b")


@pytest.mark.parametrize("draws", T95)
def test_widths_are_those_of_the_table(draws):
    assert student(draws) == pytest.approx(T95[draws], rel=1e-5)


@pytest.mark.parametrize("n", [20, 21])
def test_a_figure_by_halves_has_its_parts(n):
    """A mean: its spread over 20 halves, Student's t, the floor of the disjoint sets, its ends."""
    x = torch.arange(float(3 * n)) / n
    sets = match(x[: 2 * n], x[2 * n :], seed=3)

    def compare(real, fake):
        return float(fake.mean() - real.mean())

    found = by_halves(compare, sets, bounds=(-math.inf, math.inf))
    each = [compare(sets.reference[a], sets.fake[b]) for a, b in sets.subsets()]
    error = np.std(each, ddof=1) * math.sqrt((n // 2) / (n - n // 2))
    assert found.value == compare(sets.reference, sets.fake)
    assert found.stderr == pytest.approx(error)
    assert found.high - found.value == pytest.approx(2.09302 * error, rel=1e-5)
    assert found.floor == compare(*sets.halves)
    assert found.n == n
    shares = by_halves(lambda a, b: float(len(a) % 2), sets)
    assert 0 <= shares.low <= shares.high <= 1


def test_a_mean_of_one_number_has_no_error():
    found = of_mean(np.array([3.0]))
    assert found.value == 3
    assert math.isnan(found.stderr)
    two = of_mean(np.array([1.0, 2.0]), floor=0.5, bounds=(1.2, 1.8))
    assert (two.value, two.stderr, two.low, two.high) == (1.5, 0.5, 1.2, 1.8)
    assert (two.floor, two.n) == (0.5, 2)


def test_the_area_under_the_curve_has_the_error_of_delong():
    """By every pair: V_a, V_b, and var V_a/n + var V_b/m."""
    rng = np.random.default_rng(0)
    a, b = rng.normal(0.3, size=9).round(1), rng.normal(size=14).round(1)
    wins = (a[:, None] > b) + 0.5 * (a[:, None] == b)
    found = auroc(a, b)
    assert found.value == pytest.approx(wins.mean())
    error = np.sqrt(wins.mean(1).var(ddof=1) / 9 + wins.mean(0).var(ddof=1) / 14)
    assert found.stderr == pytest.approx(error)
    assert (found.n, found.floor) == (9, 0.5)
    assert auroc(b + 9, a).high == 1
    assert auroc(a, b + 9).low == 0


def test_the_gap_has_the_error_of_both_means():
    held_out, training = np.array([1.0, 2, 3, 6]), np.array([4.0, 8.0])
    scored = RowScores(held_out=held_out, training=training, dimensions=3)
    gap = likelihood_gap(scored)
    assert gap is not None
    assert (gap.value, gap.n) == (3.0, 2)
    assert gap.stderr == pytest.approx(math.sqrt(held_out.var(ddof=1) / 4 + 8 / 2))
    assert bits_per_dim(scored).value == pytest.approx(-nats(scored).value / (3 * math.log(2)))
    empty = RowScores(held_out=held_out, training=held_out[:0], dimensions=3)
    assert likelihood_gap(empty) is None


def test_the_rate_is_rows_over_seconds_and_its_error_that_of_the_rates_of_batches():
    """Batches of half the largest count; the rate of one is its rows over its seconds."""
    batches = ((8, 2.0), (8, 4.0), (4, 1.0), (4, 9.0), (3, 50.0))
    found = samples_per_second(Timings(batches=batches, singles=()))
    each = np.array([2 / 8, 4 / 8, 1 / 4, 9 / 4])  # seconds a row
    assert (found.value, found.n, found.warning) == (1.5, 24, "")
    assert found.stderr == pytest.approx(1.5 * each.std(ddof=1) / each.mean() / 2)
    assert found.high - 1.5 == pytest.approx(T95[4] * found.stderr, rel=1e-5)
    assert found.low == 0  # 1.5 less so much is below it
    steady = samples_per_second(Timings(batches=((8, 2.0), (8, 2.1)), singles=()))
    assert steady.low > 0
    assert steady.low + steady.high == pytest.approx(2 * steady.value)
    alone = samples_per_second(Timings(batches=((8, 2.0),), singles=()))
    assert (alone.value, alone.n) == (4.0, 8)
    assert math.isnan(alone.stderr)
    assert math.isfinite(samples_per_second(Timings(batches=((8, 0.0),), singles=())).value)


def test_the_error_of_the_median_time_is_that_of_maritz_and_jarrett():
    """By the definition: weights of each order statistic under Beta((n + 1)/2, (n + 1)/2)."""
    from scipy.stats import beta

    times = np.array([3.0, 1.0, 2.0, 7.0, 4.0, 5.0])
    found = latency(Timings(batches=(), singles=tuple(times)))
    assert found is not None
    ends = beta.cdf(np.arange(7) / 6, 3.5, 3.5)
    first, second = (float(np.diff(ends) @ np.sort(times) ** power) for power in (1, 2))
    assert found.stderr == pytest.approx(math.sqrt(second - first**2))
    assert (found.value, found.low, found.high, found.n, found.warning) == (3.5, 1, 7, 6, "")
    mirrored = latency(Timings(batches=(), singles=tuple(10 - times)))
    assert mirrored is not None
    assert mirrored.stderr == pytest.approx(found.stderr)
    two = latency(Timings(batches=(), singles=(2.0, 5.0)))
    assert two is not None
    assert (two.value, two.stderr) == (3.5, pytest.approx(1.5))  # either is as likely the middle
    one = latency(Timings(batches=(), singles=(2.0,)))
    assert one is not None
    assert math.isnan(one.stderr)
    assert "only 1 of 6" in one.warning


def test_a_class_is_reached_at_a_tenth_of_its_share():
    """Real rows: 100, 50, 50, 0. A tenth of their shares: 0.05, 0.025, 0.025, and nothing."""
    real = torch.tensor([0] * 100 + [1] * 50 + [2] * 50)
    fake = torch.tensor([0] * 386 + [1] * 10 + [2] * 3 + [3])
    found = modes(real, fake, classes=4)
    assert found.missing == (2,)
    assert (found.reached.value, found.reached.floor, found.reached.n) == (2, 3, 400)
    assert [one.value for one in found.shares] == [386 / 400, 10 / 400, 3 / 400, 1 / 400]
    assert found.real == (0.5, 0.25, 0.25, 0.0)
    low, high = (
        sum(getattr(one, end) >= 0.1 * share for one, share in zip(found.shares[:3], found.real))
        for end in ("low", "high")
    )
    assert (low, high) == (1, 2)  # the intervals of class 1 hold its tenth; those of 2 do not
    assert (found.reached.low, found.reached.high) == (low, high)
    assert found.reached.stderr == 0.25  # of the interval, as of a normal one
    shares = torch.tensor([386, 10, 3, 1]) / 400
    whole = modes(real[:8].repeat(50), fake, classes=4).variation
    assert whole.value == pytest.approx(float(1 - shares[0]))
    assert math.isclose(modes(fake, fake, classes=4).variation.value, 0, abs_tol=1e-12)
    few = [modes(real[::3], fake[:30], classes=4, seed=seed).variation for seed in (0, 0, 1)]
    assert few[0] == few[1] != few[2]  # which rows are compared follows from the seed
    assert modes(real, fake[:399] * 0, classes=9).missing == (1, 2)


@pytest.mark.parametrize("bad", [[0] * 7, [0] * 8 + [-1], [0] * 8 + [2]])
def test_classes_that_are_none_are_refused(bad):
    good = torch.tensor([0, 1] * 4)
    assert modes(good, good, classes=2).reached.value == 2
    for real, fake, name in ((good, bad, "samples"), (bad, good, "real rows")):
        with pytest.raises(InputError, match=f"{name}: .* at least 8 rows, each from 0 to 1"):
            modes(torch.as_tensor(real), torch.as_tensor(fake), classes=2)


def test_the_error_of_the_median_time_is_its_deviation_over_fresh_draws():
    rng = np.random.default_rng(0)
    figures = [
        latency(Timings(batches=(), singles=tuple(row))) for row in rng.normal(9, 1, (400, 6))
    ]
    values, errors = (
        np.array([getattr(figure, name) for figure in figures]) for name in ("value", "stderr")
    )
    assert 1 <= errors.mean() / values.std() <= 1.3
