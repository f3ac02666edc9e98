"""Levels without an order: the law of their points, and that they come back in any order."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest
import torch
from examples import decoded, encoded, law_of
from scipy.spatial.distance import pdist
from scipy.stats import spearmanr

import undiffuse as ud
from undiffuse.data import load
from undiffuse.data.tables.modelled import UnorderedColumn
from undiffuse.data.tables.placing import place_alone
from undiffuse.data.tables.transform import TableTransform
from undiffuse.data.tables.unordered import APART
from undiffuse.diffusion.oracle import Mixture

GENERATOR = torch.Generator().manual_seed(0)


def noise(*shape):
    return torch.randn(*shape, generator=GENERATOR, dtype=torch.float64)


def column_of(masses, missing=True):
    """Levels of these masses, the last but one unseen, the last missing; or the last unseen."""
    values = len(masses) - 1 - missing
    return UnorderedColumn(
        name="c",
        values=[*map(float, range(values))],
        masses=masses,
        unseen=values,
        points=place_alone(np.arange(len(masses) - 1.0)).points.tolist(),
    )


COLUMNS = {
    "three": column_of([5, 3, 2, 1], missing=False),
    "with missing": column_of([5, 3, 2, 1, 4]),
    "rare": column_of([1e6, 1e6, 1, 1, 1]),
    "sixteen": column_of([*range(20, 3, -1)], missing=False),
    "forty": column_of([*range(3_000, 0, -77), 1, 200]),
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


@pytest.mark.parametrize("name", ["three", "with missing", "sixteen", "forty"])
def test_the_probabilities_of_all_levels_sum_to_one(name):
    """Under another density than the column's own: a narrower mixture, with other shares.

    Each is E_q[p(x)/q(x)], so that together they are the mass that p has in all cells.
    """
    column = COLUMNS[name]
    codes = codes_of(column)
    points = encoded(column, codes, torch.zeros(len(codes), column.width).double())[0].double()
    other = torch.linspace(1, 9, len(codes)).double()
    std = 0.9 * encoded(column, codes[:1].expand(999), noise(999, column.width))[0].std(0).mean()
    total = 0.0
    for code in codes:
        own = code.expand(2000)
        x, correction = encoded(column, own, noise(2000, column.width))
        square = (x[:, None].double() - points).square().sum(2) / std**2
        log_p = ((other / other.sum()).log() - square / 2).logsumexp(1)
        log_p = log_p - column.width * (std.log() + math.log(2 * math.pi) / 2)
        total += float((log_p + correction).exp().mean())
    assert total == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("name", ["three", "with missing", "sixteen", "forty"])
def test_where_all_is_known_the_bound_is_close_to_the_probability_and_not_above_it(name):
    """Of points with normal noise, whose density is a mixture: hardly any lies in another cell.

    Its deviation is that of the noise; that of a cell is its point's share but for 1e-4 of it.
    """
    column = COLUMNS[name]
    shares = torch.tensor(np.delete(column.masses, column.unseen)).double()
    shares[column.unseen - 1] += column.masses[column.unseen]
    shares /= shares.sum()
    codes = torch.tensor([*column.values, *[math.nan] * column.missing]).double()
    points = encoded(column, codes, torch.zeros(len(codes), column.width).double())[0].double()
    spread = shares @ (points - shares @ points).square().sum(1)
    law = Mixture(ud.LinearVP(), points, (1 - spread / column.width).sqrt(), shares.log())
    part = shares[-1 - column.missing] * column.masses[column.unseen]
    part = part / (column.masses[column.unseen - 1] + column.masses[column.unseen])
    exact = shares.clone()
    exact[column.unseen - 1] -= part
    for code, share in zip(codes, exact):
        x, correction = encoded(column, code.expand(400), noise(400, column.width))
        bound = float((law.log_prob(x.double()) + correction).mean())
        assert math.log(share) - 0.02 < bound < math.log(share) + 2e-3


@pytest.mark.parametrize("name", COLUMNS)
@pytest.mark.parametrize("size", [1.0, 4.0, 40.0])
def test_every_level_comes_back_whatever_the_noise(name, size):
    """Far noise lies beyond the nearest point, in the cells of others."""
    column = COLUMNS[name]
    codes = codes_of(column).repeat(max(3000 // len(column.masses), 4))
    x, correction = encoded(column, codes, size * noise(len(codes), column.width))
    assert bool(x.isfinite().all() and correction.isfinite().all())
    beside = column.values[-1]
    expected = torch.where(codes == 1e3, beside, codes)
    np.testing.assert_array_equal(decoded(column, x), expected)


@pytest.mark.parametrize("name", COLUMNS)
def test_no_two_points_are_nearer_than_noise_allows(name):
    assert pdist(np.array(COLUMNS[name].points)).min() >= 2 * APART - 1e-9


def test_a_point_on_the_face_between_two_cells_keeps_its_level():
    """There float32 may carry it over: it is moved towards its own point."""
    column = COLUMNS["sixteen"]
    points = torch.tensor(column.points).double()
    shares = torch.tensor(column.masses[:-1]).double()
    shares[-1] += column.masses[-1]
    way, log_ratio = points[1:] - points[0], (shares[0] / shares[1:]).log()[:, None]
    z = way * (0.5 + log_ratio / way.square().sum(1, keepdim=True))
    x, _ = encoded(column, torch.zeros(15, dtype=torch.float64), z)
    np.testing.assert_array_equal(decoded(column, x), np.zeros(15))
    over, _ = encoded(column, torch.zeros(15, dtype=torch.float64), z * 0.999)
    torch.testing.assert_close(x, over, atol=0.01, rtol=0)


def test_columns_of_several_sizes_are_encoded_together_as_each_by_itself():
    columns = [COLUMNS["three"], column_of([*range(9, 3, -1), 1, 2]), COLUMNS["with missing"]]
    columns += [COLUMNS["forty"], COLUMNS["sixteen"]]
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


# --- where the points of a table's categories stand


def towns(n=3000, seed=0, count=60):
    """A town has a height, which its rain and its trees depend on, and a country."""
    rng = np.random.default_rng(seed)
    town = np.minimum(rng.geometric(0.05, n) - 1, count - 1)
    height = rng.permutation(count)[town] / count
    return pd.DataFrame(
        {
            "town": [f"t{i:03d}" for i in town],
            "rain": height * 3 + rng.normal(size=n),
            "tree": np.where(rng.random(n) < height, "fir", rng.choice(["oak", "elm", "ash"], n)),
            "country": np.where(town % 2, "north", "south"),
            "bus": [f"b{i:02d}" for i in (town * 7 + rng.integers(0, 4, n)) % 30],
            "height": height,
        }
    )


def renamed(frame, seed):
    """Other names in another order."""
    rng = np.random.default_rng(seed)
    names = {}
    for name in frame.select_dtypes(exclude="number"):
        values = sorted(set(frame[name]))
        names[name] = dict(zip(values, (f"{name}-{i}" for i in rng.permutation(len(values)))))
    return frame.replace(names), names


def test_another_naming_of_the_categories_changes_nothing():
    """Bit for bit: the coordinates, their corrections, and but for the names what is drawn.

    So it is of points, of what is looked up, and of categories that occur beside some others only.
    """
    frame = towns().drop(columns="height")
    other, names = renamed(frame, 1)
    one, two = load(frame), load(other)
    assert {type(rule).__name__ for rule in one.transform.rules} == {"Within", "Lookup"}
    rows = [torch.from_numpy(data.loaded.rows.take(np.arange(500))) for data in (one, two)]
    z = noise(500, *one.transform.shape)
    (x, correction), (y, same) = (
        data.transform.encode(own, lambda like: z) for data, own in zip((one, two), rows)
    )
    assert torch.equal(x, y)
    assert torch.equal(correction, same)
    moved = x + 0.5 * z.float()
    drawn = [data.form.present(data.transform.decode(moved)) for data in (one, two)]
    pd.testing.assert_frame_equal(drawn[0].replace(names), drawn[1])


def test_categories_stand_near_those_that_go_together_with_the_same():
    data = load(towns())
    column = data.transform.columns[0]
    assert isinstance(column, UnorderedColumn)
    assert column.width < 16 < len(column.values)
    heights = towns().groupby("town")["height"].first()
    names = [data.form.columns[0].categories[int(code)] for code in column.values]
    apart = pdist(heights[names].to_numpy()[:, None])
    assert spearmanr(pdist(np.array(column.points)), apart).statistic > 0.3
