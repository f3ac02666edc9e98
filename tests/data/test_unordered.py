"""Levels without an order: the law of their points, and that they come back in any order."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from examples import decoded, encoded, law_of

from undiffuse.data.tables import unordered
from undiffuse.data.tables.modelled import UnorderedColumn
from undiffuse.data.tables.transform import TableTransform
from undiffuse.data.tables.unordered import Simplices

GENERATOR = torch.Generator().manual_seed(0)


def noise(*shape):
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def column_of(masses, missing=True):
    """Levels of these masses, the last but one unseen, the last missing; or the last unseen."""
    values = len(masses) - 1 - missing
    return UnorderedColumn(
        name="c", values=[*map(float, range(values))], masses=masses, unseen=values
    )


COLUMNS = {
    "three": column_of([5, 3, 2, 1], missing=False),
    "with missing": column_of([5, 3, 2, 1, 4]),
    "rare": column_of([1e6, 1e6, 1, 1, 1]),
    "sixteen": column_of([*range(20, 3, -1)], missing=False),
}


def codes_of(column):
    """A code of each level, with an unseen one where that stands."""
    missing = [math.nan] if column.missing else []
    return torch.tensor([*column.values, 1e3, *missing], dtype=torch.float64)


@pytest.mark.parametrize("name", COLUMNS)
def test_under_its_own_law_a_level_has_its_share_whatever_the_noise(name):
    column = COLUMNS[name]
    shares = torch.tensor(column.masses, dtype=torch.float64) / sum(column.masses)
    codes = codes_of(column).repeat(20)
    x, correction = encoded(column, codes, 1.5 * noise(len(codes), column.width))
    expected = shares.log().repeat(20)
    torch.testing.assert_close(law_of(column, x) + correction, expected, atol=1e-5, rtol=1e-6)


@pytest.mark.parametrize("name", ["three", "with missing", "sixteen"])
def test_the_probabilities_of_all_levels_sum_to_one(name):
    """Under another density than the column's own: broader, and with other shares."""
    column = COLUMNS[name]
    codes = codes_of(column)
    other = UnorderedColumn(
        name="c", values=column.values, masses=column.masses[::-1], unseen=column.unseen
    )
    total = 0.0
    for code in codes:
        own = code.expand(4000)
        x, correction = encoded(column, own, noise(4000, column.width))
        log_p = law_of(column, x, masses=other.masses, wider=1.1)
        total += float((log_p + correction).exp().mean())
    assert total == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("size", [1.0, 4.0, 40.0])
def test_every_level_comes_back_whatever_the_noise(name, size):
    """Far noise lies beyond the nearest corner, in the cells of others."""
    column = COLUMNS[name]
    codes = codes_of(column).repeat(max(3000 // len(column.masses), 4))
    x, correction = encoded(column, codes, size * noise(len(codes), column.width))
    assert bool(x.isfinite().all() and correction.isfinite().all())
    beside = column.values[-1]
    expected = torch.where(codes == 1e3, beside, codes)
    np.testing.assert_array_equal(decoded(column, x), expected)


def test_a_point_on_the_face_between_two_cells_keeps_its_level():
    """There float32 may carry it over: it is moved towards its corner."""
    column = COLUMNS["sixteen"]
    frame = Simplices([torch.ones(16, dtype=torch.float64)])._frames[0]
    z = math.sqrt(2) * unordered.APART * (frame[1:] - frame[0]) / 2
    x, _ = encoded(column, torch.zeros(15, dtype=torch.float64), z)
    np.testing.assert_array_equal(decoded(column, x), np.zeros(15))
    mean, std = x.double().mean(0), x.std()
    assert float(std) > 0.1
    assert bool(mean.isfinite().all())


def test_another_order_of_the_levels_turns_the_coordinates_and_changes_nothing_else():
    masses, order = [9, 4, 3, 2, 1], [2, 0, 3, 1]
    column = column_of(masses, missing=False)
    rare = order.index(3)  # whose corner is that of unseen values too
    moved = [masses[i] for i in order]
    other = UnorderedColumn(
        name="c",
        values=[column.values[i] for i in order],
        masses=[*moved[:rare], 1, *moved[rare:]],
        unseen=rare,
    )
    frame = Simplices([torch.ones(4, dtype=torch.float64)])._frames[0]
    z = noise(500, 3)
    turned = z @ frame.T[:, order] @ frame
    codes = codes_of(column)[:4].repeat(125)
    x, correction = encoded(column, codes, z)
    y, same = encoded(other, codes, turned)
    torch.testing.assert_close(correction, same, atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(x.norm(dim=1), y.norm(dim=1), atol=1e-4, rtol=1e-4)
    np.testing.assert_array_equal(decoded(column, x), decoded(other, y))


def test_simplices_of_several_sizes_are_encoded_together_as_each_by_itself():
    columns = [COLUMNS["three"], column_of([*range(9, 3, -1), 1, 2]), COLUMNS["with missing"]]
    transform = TableTransform(columns=columns)
    rows = torch.stack([codes_of(one)[torch.randint(3, (400,))] for one in columns], 1)
    z = noise(400, sum(one.width for one in columns))
    x, correction = transform.encode(rows, lambda like: z)
    back = transform.decode(x)
    widths = [one.width for one in columns]
    for one, codes, own, own_z in zip(columns, rows.T, x.split(widths, 1), z.split(widths, 1)):
        alone, more = encoded(one, codes, own_z)
        torch.testing.assert_close(own, alone)
        correction = correction - more
    torch.testing.assert_close(correction, torch.zeros(400).double(), atol=1e-6, rtol=0)
    np.testing.assert_array_equal(back, rows)


def test_coordinates_have_mean_zero_and_on_average_variance_one():
    column = column_of([50, 30, 15, 5, 1], missing=False)
    counts = torch.tensor([50, 30, 15, 6])
    codes = torch.arange(4, dtype=torch.float64).repeat_interleave(counts).repeat(300)
    x, _ = encoded(column, codes, noise(len(codes), 3))
    assert x.mean(0).abs().max() < 0.02
    assert float(x.var(0).mean()) == pytest.approx(1, abs=0.02)
