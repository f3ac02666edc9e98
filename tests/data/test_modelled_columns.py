"""How a column is modelled, at the limits of each rule, and the numbers that are measured of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from examples import decoded, encoded
from scipy.stats import norm

from undiffuse.data.tables.columns import measure_column
from undiffuse.data.tables.modelled import (
    ConstantColumn,
    EnumeratedColumn,
    GappedColumn,
    LevelColumn,
    NumberColumn,
    UnorderedColumn,
    copies_of,
    measure_model,
    phrase_of,
)
from undiffuse.errors import InputError

pa = pytest.importorskip("pyarrow")

rng = np.random.default_rng(0)


def modelled(values, rows=None):
    """The column of all values as modelled on the first `rows` of them, and the phrase about it."""
    array = pa.array(values)
    column = measure_column("c", array, "t")
    codes, _ = column.encode(array, array.type, "t")
    model = measure_model(column, codes[:rows], array.type)
    return model, phrase_of(model, column, array.type)


def repeated(values, rows):
    """Each of so many whole numbers with gaps, so often that there are `rows` in all."""
    return np.resize(3 * np.arange(values) ** 2, rows).tolist()


def apart(values, rows):
    """As `repeated`, of numbers that lie on no grid."""
    return (math.pi * np.array(repeated(values, rows))).tolist()


@pytest.mark.parametrize(
    ("values", "sort", "phrase"),
    [
        ([7, 7, 7], ConstantColumn, "a constant: left out of the model and put back"),
        ([7, 7, None], LevelColumn, "one of 1 values, or missing"),
        (repeated(256, 1024), LevelColumn, "one of 256 values"),
        (repeated(256, 1023), NumberColumn, "whole steps"),
        (repeated(257, 2000), NumberColumn, "whole steps"),
        (repeated(5, 20), LevelColumn, "one of 5 values"),
        ([*repeated(5, 20), None], GappedColumn, "one of 5 values, or missing"),
        ([*repeated(25, 95), *[None] * 5], NumberColumn, "whole steps, or missing"),
        ([0.5] * 5 + [math.pi * i for i in range(95)], NumberColumn, "a continuous number"),
        (
            [0.5] * 6 + [math.pi * i for i in range(94)],
            NumberColumn,
            "a continuous number, with 0.5 apart",
        ),
        ([0.5] * 9 + [math.pi] * 9 + [math.e], LevelColumn, "one of 3 values on no grid"),
        (apart(256, 1024), LevelColumn, "one of 256 values on no grid"),
        (apart(256, 1023), NumberColumn, "a continuous number"),
        (apart(257, 2000), NumberColumn, "a continuous number"),
        ([*apart(25, 100), None], GappedColumn, "one of 25 values on no grid, or missing"),
        (  # four rows per value, but most of the values that are no atom come once
            [0.5] * 800 + [math.pi * i for i in range(200)],
            NumberColumn,
            "a continuous number, with 0.5 apart",
        ),
        (apart(20, 800) + [math.e * i for i in range(1, 150)], NumberColumn, "a continuous number"),
        (["a", "b", "a", "b"], LevelColumn, "one of 2 values"),
        (["a", "b", "c"] * 3, UnorderedColumn, "one of 3 values, without an order"),
        ([*"abcdefghijklmnop"] * 3, UnorderedColumn, "one of 16 values, without an order"),
        ([*"abcdefghijklmnopq"] * 3, UnorderedColumn, "one of 17 values, without an order"),
        (
            [*"abcdefghijklmno", None] * 3,
            UnorderedColumn,
            "one of 15 values, or missing, without an order",
        ),
        (
            [*"abcdefghijklmnop", None] * 3,
            UnorderedColumn,
            "one of 16 values, or missing, without an order",
        ),
        (["a", "b", None] * 3, LevelColumn, "one of 2 values, or missing"),
        ([True, False, None], LevelColumn, "one of 2 values, or missing"),
    ],
)
def test_few_values_are_levels_and_others_numbers_whose_frequent_values_stand_apart(
    values, sort, phrase
):
    column, said = modelled(values)
    assert (type(column), said) == (sort, phrase)


def test_numbers_that_recur_in_copied_rows_alone_are_continuous():
    codes = np.resize(rng.normal(size=40), 400)
    array = pa.array(codes)
    column = measure_column("c", array, "t")
    for others, sort in ((np.arange(400) // 40, LevelColumn), (codes, NumberColumn)):
        copies = copies_of(np.stack([codes, np.where(codes > 0, np.nan, 1), others], 1))
        assert type(measure_model(column, codes, array.type, copies)) is sort


@pytest.mark.parametrize(
    ("values", "listed", "counts"),
    [
        (["b"] * 6 + ["a"] * 3 + ["c"] * 1, [1, 0, 2], [6, 3, 0.5, 0.5]),
        (["b"] * 4 + ["a"] * 4, [1, 0], [4, 4, 1]),
        (["b"] * 6 + ["a"] * 3 + [None], [1, 0], [6, 3, 1, 1]),
        ([0] * 2 + [2] * 6 + [1] * 2, [0, 1, 2], [2, 2, 6, 1]),
        ([False] + [True] * 7, [0, 1], [0.5, 7, 0.5]),
    ],
)
def test_levels_have_their_shares_and_unseen_values_theirs(values, listed, counts):
    """Without an order by falling frequency, of one frequency as they come; else as they rise.

    Unseen and missing come last.
    """
    column, _ = modelled(values)
    assert isinstance(column, EnumeratedColumn)
    assert column.values == listed
    assert column.missing == (len(counts) > len(listed) + 1)
    np.testing.assert_allclose(column.masses, counts)


def test_a_map_has_as_many_knots_as_make_other_rows_likeliest():
    """Of numbers in many narrow blocks more than of a smooth law, of which more would be noise."""
    blocks = rng.integers(0, 60, 6000) * 100 + rng.integers(0, 40, 6000)
    smooth = np.round(rng.normal(0, 2000, 6000)).astype(int)
    counts = []
    for values in (blocks, smooth):
        column, _ = modelled(values.tolist())
        assert isinstance(column, NumberColumn)
        counts.append(len(column.knots))
    assert counts[0] > 100
    assert counts[1] <= 65


def test_categories_of_one_frequency_stand_in_the_order_in_which_they_come():
    names = [f"{i:03d}" for i in range(90)]
    column, _ = modelled(names[::-1] * 2 + names[::2])
    assert isinstance(column, UnorderedColumn)
    assert column.values == [*range(88, -1, -2), *range(89, 0, -2)]


def test_each_level_owns_its_interval_of_a_standard_normal():
    """x = Phi^-1(F_k + u w_k), at most eight deviations away; the correction is log w - log phi."""
    column = LevelColumn(name="c", values=[4.0, 0.0, 9.0], masses=[1, 2, 3, 1, 1], unseen=3)
    below = np.array([0, 1, 3, 6, 7, 8]) / 8
    u = torch.linspace(0.01, 0.99, 9, dtype=torch.float64)
    for k, (code, drawn) in enumerate(
        [(4.0, 4.0), (0.0, 0.0), (9.0, 9.0), (5.5, 9.0), (math.nan, math.nan)]
    ):
        x, correction = encoded(
            column, torch.full((9,), code).double(), torch.special.ndtri(u)[:, None]
        )
        expected = norm.ppf(below[k] + u.numpy() * (below[k + 1] - below[k]))
        np.testing.assert_allclose(x[:, 0], expected, atol=1e-6)
        width = math.log(below[k + 1] - below[k])
        np.testing.assert_allclose(correction, width - norm.logpdf(x[:, 0].double()), rtol=1e-6)
        np.testing.assert_array_equal(decoded(column, x), [drawn] * 9)
        far = torch.tensor([[-40.0], [40.0]]).double()
        ends, _ = encoded(column, torch.full((2,), code).double(), far)
        assert ends.abs().max() <= 8
        np.testing.assert_array_equal(decoded(column, ends), [drawn] * 2)
    assert column.expects(np.array([4.0, 1.0, 9.0])).tolist() == [True, False, True]
    assert column.some_code == 4
    complete = LevelColumn(name="c", values=[4.0, 0.0], masses=[1, 2, 1], unseen=2)
    with pytest.raises(InputError, match='column "c": a value is missing'):
        encoded(complete, torch.tensor([0.0, math.nan]).double(), torch.zeros(2, 1).double())


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"masses": [1, 1]}, "masses"),
        ({"masses": [1, 1, 1, 1, 1]}, "masses"),
        ({"masses": [1, -1, 1]}, "masses"),
        ({"masses": [0, 0, 0]}, "masses"),
        ({"unseen": 3}, "masses"),
        ({"unseen": -1}, "masses"),
        ({"values": [], "masses": [1], "unseen": 0}, "masses"),
    ],
)
def test_levels_that_cannot_be_are_refused(changes, sentence):
    right = {"name": "c", "values": [4.0, 0.0], "masses": [1, 2, 1], "unseen": 2}
    LevelColumn(**right)
    with pytest.raises(ValueError, match=sentence):
        LevelColumn(**right | changes)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"knots": [0.0]}, "knots"),
        ({"knots": [0.0, 0.0]}, "knots"),
        ({"marks": [1.0, -1.0]}, "knots"),
        ({"knots": [0.0], "marks": [0.0]}, "knots"),
        ({"grid": [0, 1]}, "grid"),
        ({"grid": [0, 0, 1]}, "grid"),
        ({"gaps": [[1.0]]}, "gaps"),
    ],
)
def test_maps_of_numbers_that_cannot_be_are_refused(changes, sentence):
    right = {"name": "c", "low": 0.0, "high": 9.0, "rows": 9}
    right |= {"knots": [0.0, 9.0], "marks": [-1.0, 1.0], "grid": [0, 1, 1], "gaps": [[1.0, 2.0]]}
    NumberColumn(**right)
    with pytest.raises(ValueError, match=sentence):
        NumberColumn(**right | changes)


def test_the_farthest_noise_stays_within_the_last_level():
    """Whose end, the sum of all shares before it and its own, may be rounded to more than one."""
    masses = [14.0, 16.0, 16.0, 16.0, 18.0, 16.0, 17.0, 10.0, 11.0, 1.0, 16]
    column = LevelColumn(name="c", values=list(range(9)), masses=masses, unseen=9)
    x, _ = encoded(column, torch.full((2,), math.nan).double(), torch.tensor([[8.0], [40.0]]))
    assert x[:, 0].tolist() == pytest.approx([8.0, 8.0], abs=0.3)


@pytest.mark.parametrize(("n", "knots"), [(21, 2), (24, 3), (100, 12), (264, 33), (2000, 33)])
def test_the_map_of_numbers_goes_through_quantiles_at_normal_scores(n, knots):
    """As many as there are eights of rows, 2 to 33, out to the score of half a row."""
    values = np.exp(rng.normal(size=n))
    column, _ = modelled(values)
    assert isinstance(column, NumberColumn)
    farthest = norm.ppf(1 - 0.5 / n)
    scores = np.linspace(-farthest, farthest, knots)
    np.testing.assert_allclose(column.marks, scores, atol=1e-9)
    np.testing.assert_allclose(column.knots, np.quantile(values, norm.cdf(scores)), rtol=1e-9)
    assert (column.low, column.high) == (values.min(), values.max())
    assert (column.width, column.grid, column.states) == (1, (), [])
    at = np.array(column.knots)
    middle = (at[1:] + at[:-1]) / 2
    for points, expected in (
        (at, scores),
        (middle, (scores[1:] + scores[:-1]) / 2),
        ([at[0] - np.diff(at)[0]], [2 * scores[0] - scores[1]]),  # goes on beyond the ends
        ([at[-1] + np.diff(at)[-1]], [2 * scores[-1] - scores[-2]]),
    ):
        x, _ = encoded(column, torch.tensor(points).double(), torch.zeros(len(points), 1).double())
        np.testing.assert_allclose(x[:, 0], expected, atol=1e-5)
    _, slope = encoded(column, torch.tensor(middle), torch.zeros(len(middle), 1).double())
    np.testing.assert_allclose(slope, np.log(np.diff(scores) / np.diff(at)), rtol=1e-9)


def test_equal_quantiles_are_one_knot_at_their_mean_score():
    values = np.concatenate([[0.0] * 4, [1.0] * 4, [2.0] * 4, np.arange(3, 91)]) * math.pi
    column, _ = modelled(values)
    assert isinstance(column, NumberColumn)
    scores = np.linspace(norm.ppf(0.005), norm.ppf(0.995), 12)
    quantiles = np.quantile(values, norm.cdf(scores))
    for knot, mark in zip(column.knots, column.marks):
        assert mark == pytest.approx(scores[np.isclose(quantiles, knot)].mean())
    assert len(column.knots) == len(set(quantiles.round(9)))


def test_whole_numbers_lie_in_the_middle_of_their_bins():
    values = rng.integers(0, 5000, 800)
    column, _ = modelled(values)
    assert isinstance(column, NumberColumn)
    assert column.grid == (0, 1, 1)
    scores = np.array(column.marks)
    codes = values - values.min()
    np.testing.assert_allclose(column.knots, np.quantile(codes + 0.5, norm.cdf(scores)), rtol=1e-6)
    z = torch.special.ndtri(torch.tensor([[0.25], [0.75]]).double())
    for code in (0.0, 77.0, column.high):
        x, _ = encoded(column, torch.full((2,), code).double(), z)
        expected = np.interp([code + 0.25, code + 0.75], column.knots, scores)
        inside = [column.knots[0] < code + u < column.knots[-1] for u in (0.25, 0.75)]
        np.testing.assert_allclose(x[inside, 0], expected[inside], atol=1e-5)
        np.testing.assert_array_equal(decoded(column, x), [code] * 2)


def test_a_bin_of_whole_numbers_is_wide_enough_for_float32():
    """A narrow bulk and a far outlier: the map rises by at least 3e-6 for each step."""
    values = np.concatenate([np.arange(400), [10**6]])
    column, _ = modelled(values)
    assert isinstance(column, NumberColumn)
    slopes = np.diff(column.marks) / np.diff(column.knots)
    assert slopes.min() == pytest.approx(3e-6, rel=1e-6)
    codes = torch.arange(990_000, 1_000_001, 7).double()
    x, _ = encoded(column, codes, torch.randn(len(codes), 1).double())
    np.testing.assert_array_equal(decoded(column, x), codes)
    wide, _ = modelled(np.concatenate([np.arange(400), [2**21]]))  # more steps than float32 tells
    assert isinstance(wide, NumberColumn)
    assert (np.diff(wide.marks) / np.diff(wide.knots)).min() < 3e-6


def test_atoms_and_missing_are_states_of_a_second_coordinate():
    """Of 200 rows 20 are 0.5, 12 are missing; the rest is mapped without them."""
    rest = np.exp(rng.normal(size=168)) + 3
    values = np.concatenate([[0.5] * 20, [np.nan] * 12, rest])
    column, said = modelled(values)
    assert isinstance(column, NumberColumn)
    assert said == "a continuous number, with 0.5 apart, or missing"
    share = np.array([168, 20, 12]) / 200
    np.testing.assert_allclose(column.states, share)
    assert (column.atoms, column.missing, column.width) == ([0.5], True, 2)
    assert (column.low, column.high) == (rest.min(), rest.max())
    farthest = norm.ppf(1 - 0.5 / 168)
    np.testing.assert_allclose(column.marks, np.linspace(-farthest, farthest, 21), atol=1e-9)
    near = column.nearest(np.array([0.5, 0.4, 2.0, rest.max(), rest.max() + 1]))
    assert near.tolist() == [0.5, 0.5, 2.0, rest.max(), rest.max()]
    z = torch.randn(3, 2, generator=torch.Generator().manual_seed(0)).double()
    x, correction = encoded(column, torch.tensor([0.5, math.nan, 5.0]).double(), z)
    np.testing.assert_allclose(x[:2, 0], z[:2, 0], rtol=1e-6)  # filled with noise
    state = LevelColumn(name="c", values=[0.5], masses=column.states, unseen=0)
    flags, more = encoded(state, torch.tensor([0.5, math.nan, 5.0]).double(), z[:, 1:])
    np.testing.assert_allclose(x[:, 1:], flags)
    np.testing.assert_allclose(
        correction[:2], more[:2].numpy() - norm.logpdf(x[:2, 0].double()), rtol=1e-6
    )
    j = np.searchsorted(column.knots, 5.0) - 1
    slope = np.diff(column.marks)[j] / np.diff(column.knots)[j]
    assert float(correction[2] - more[2]) == pytest.approx(math.log(slope))


@pytest.mark.parametrize("step", [10, math.pi])
def test_nothing_is_known_of_a_column_but_what_the_training_rows_hold(step):
    """They hold one value alone: the column is a constant, whatever the held-out rows hold."""
    values = np.concatenate([[step * 3] * 30, step * np.arange(1000)])
    column, said = modelled(values, rows=30)
    assert isinstance(column, ConstantColumn)
    assert said.startswith("a constant")
    assert column.rows == 30


# --- what lies apart


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("apart", "atoms"),
    [
        ([-50.1] * 2, [-50.1]),  # more than half of the range of the rest, which is 100
        ([-49.9] * 2, []),
        ([-50.1], []),  # one row alone is a heavy tail
        ([-50.1] * 2 + [150.1] * 2, []),  # either makes the range of the other's rest larger
        ([-76.0] * 2 + [151.0] * 2, [-76.0, 151.0]),
        ([-51.0] * 2 + [-201.0] * 2, [-201.0, -51.0]),  # the farthest first, then the next
    ],
)
def test_a_repeated_end_far_from_the_rest_stands_apart(apart, atoms, sign):
    values = np.concatenate([np.arange(101.0), apart]) * math.pi * sign
    column, _ = modelled(values)
    assert isinstance(column, NumberColumn)
    np.testing.assert_allclose(column.atoms, sorted(np.array(atoms) * math.pi * sign))
    rest = [value for value in values if value not in column.atoms]
    assert (column.low, column.high) == (min(rest), max(rest))


def clusters(left, right, gap, unit):
    """So many rows a unit apart, a gap of so many units, and so many rows a unit apart."""
    return unit * np.concatenate([np.arange(left), left - 1 + gap + np.arange(right)])


@pytest.mark.parametrize("unit", [math.pi, 3])
@pytest.mark.parametrize(
    ("left", "right", "gap", "is_one"),
    [
        (50, 50, 37, True),  # five times what eight rows span, 7 units, is 35
        (50, 50, 34, False),
        (8, 50, 37, True),
        (7, 50, 37, False),  # eight rows on either side
        (50, 8, 37, True),
        (50, 7, 37, False),
        (150, 150, 37, True),
        (180, 180, 37, False),  # a tenth of the range
    ],
)
def test_a_gap_is_five_times_as_wide_as_eight_rows_beside_it_and_a_tenth_of_all(
    left, right, gap, is_one, unit
):
    column, _ = modelled(clusters(left, right, gap, unit))
    assert isinstance(column, NumberColumn)
    unit = unit if isinstance(unit, float) else 1  # of whole numbers by their steps
    ends = [[unit * (left - 1), unit * (left - 1 + gap)]]
    if is_one:
        np.testing.assert_allclose(column.gaps, ends)
    else:
        assert column.gaps == []


@pytest.mark.parametrize(("gap", "is_one"), [(36, False), (37, True)])
def test_of_whole_numbers_the_gap_is_what_lies_between_their_bins(gap, is_one):
    column, _ = modelled(clusters(50, 50, gap, 1).astype(int))
    assert isinstance(column, NumberColumn)
    assert column.gaps == ([[49.0, 49.0 + gap]] if is_one else [])


@pytest.mark.parametrize("unit", [math.pi, 1])
@pytest.mark.parametrize(("left", "right"), [(50, 50), (30, 90)])
def test_what_a_model_draws_in_a_gap_goes_to_the_nearer_end(left, right, unit):
    """A gap takes x of 1e-4 to either side of the score of the share below it, or 3e-6 a step."""
    values = clusters(left, right, 200, unit)
    column, _ = modelled(values if unit > 1 else values.astype(int))
    assert isinstance(column, NumberColumn)
    centre, whole = norm.ppf(left / (left + right)), unit == 1
    ends = np.searchsorted(column.knots, [values[left - 1] + whole - 1e-9, values[left] - 1e-9])
    low, high = np.array(column.marks)[ends]
    assert high - low == pytest.approx(3e-6 * 199 if whole else 2e-4)
    assert (low + high) / 2 == pytest.approx(centre, abs=0.02 if whole else 1e-9)
    quarters = torch.tensor([[0.75 * low + 0.25 * high], [0.25 * low + 0.75 * high]])
    np.testing.assert_allclose(decoded(column, quarters.double()), [values[left - 1], values[left]])
    wide = torch.linspace(-4, 4, 4001).double()[:, None]
    drawn = decoded(column, wide)
    assert (np.diff(drawn) >= 0).all()
    assert not ((drawn > values[left - 1]) & (drawn < values[left])).any()
    assert (drawn.min(), drawn.max()) == (values.min(), values.max())
    below = float(np.mean(drawn <= values[left - 1]))
    assert below == pytest.approx((centre + 4) / 8, abs=0.01)
    codes = torch.from_numpy(np.asarray(values, dtype=float))
    back = decoded(column, encoded(column, codes, torch.zeros(len(codes), 1).double())[0])
    np.testing.assert_allclose(back, values, atol=1e-4)
