"""Laws of the table transform: round trips, and corrections that make probabilities sum to one."""

import itertools
import math

import numpy as np
import pytest
import torch
from examples import decoded, encoded, own_law
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from undiffuse.data import KINDS, load
from undiffuse.data.tables.columns import FloatColumn, measure_column
from undiffuse.data.tables.modelled import (
    ConstantColumn,
    EnumeratedColumn,
    LevelColumn,
    NumberColumn,
    measure_model,
)
from undiffuse.data.tables.transform import TableTransform
from undiffuse.errors import InputError

pa = pytest.importorskip("pyarrow")

TABLES = KINDS["tables"]
read_table = TABLES.read


def normal_log_density(x, mean=0.0, std=1.0):
    return (
        -0.5 * ((x.double() - mean) / std) ** 2 - math.log(std) - 0.5 * math.log(2 * math.pi)
    ).sum(1)


def in_order(words):
    """Categories whose order means something."""
    plain = pa.array(words).dictionary_encode()
    return pa.DictionaryArray.from_arrays(plain.indices, plain.dictionary, ordered=True)


def fitted(table):
    loaded = read_table(table)
    rows = loaded.rows.take(np.arange(len(loaded.rows)))
    return (
        loaded,
        rows,
        loaded.make_transform(lambda: iter([rows[: len(rows) // 2], rows[len(rows) // 2 :]])),
    )


def uniform_grid(n):
    """Noise under which u = ndtr(noise) takes the midpoints of n equal parts of (0, 1)."""
    u = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    return lambda like: torch.special.ndtri(u).to(like.dtype)[:, None].expand_as(like)


def chance_of(transform, value):
    """E_u[p(x) exp(correction)] of one column, whose coordinates are independent given the value.

    So it is a product of means over the noise of each, the others in the middle.
    """
    grid = uniform_grid(4000)(torch.empty(4000, 1, dtype=torch.float64))
    middle = torch.zeros(4000, *transform.shape, dtype=torch.float64)

    def mean(z):
        code = torch.full((4000, 1), value, dtype=torch.float64)
        x, correction = transform.encode(code, lambda like: z)
        return (normal_log_density(x, 0.4, 0.8) + correction).exp().mean().item()

    each = [mean(middle.index_copy(1, torch.tensor([k]), grid)) for k in range(middle.shape[1])]
    return math.prod(each) / mean(middle) ** (len(each) - 1)


def cells(cell, size):
    return st.lists(cell, min_size=size, max_size=size)


@st.composite
def tables(draw):
    size = draw(st.integers(4, 40))
    whole = st.integers(-(10**5), 10**5)
    real = st.floats(-1e6, 1e6, allow_nan=False, width=32)
    columns = {
        "whole": pa.array(draw(cells(whole, size)), pa.int64()),
        "maybe": pa.array(draw(cells(st.none() | st.integers(0, 5), size)), pa.int16()),
        "real": pa.array(draw(cells(real, size)), pa.float64()),
        "gone": pa.array(draw(cells(st.none() | real, size)), pa.float32()),
        "flag": pa.array(draw(cells(st.booleans() | st.none(), size)), pa.bool_()),
        "word": pa.array(draw(cells(st.sampled_from(["b", "a"]), size)), pa.string()),
        "fixed": pa.array([3] * size, pa.int8()),
        "other": pa.array([0, 1] * (size // 2) + [0] * (size % 2), pa.int8()),
    }
    return pa.table({name: array for name, array in columns.items() if array.null_count < size})


@settings(max_examples=40, deadline=None)
@given(tables(), st.integers(0, 2**32 - 1))
def test_every_row_comes_back(table, seed):
    loaded, rows, transform = fitted(table)
    generator = torch.Generator().manual_seed(seed)
    x, correction = transform.encode(
        torch.from_numpy(rows),
        lambda like: torch.randn(like.shape, generator=generator, dtype=like.dtype),
    )
    assert x.dtype == torch.float32
    assert x.shape == (len(rows), *transform.shape)
    assert torch.isfinite(x).all()
    assert torch.isfinite(correction).all()
    back = transform.decode(x)
    for column, before, after in zip(loaded.form.columns, rows.T, back.T):
        np.testing.assert_array_equal(np.isnan(after), np.isnan(before), column.name)
        if isinstance(column, FloatColumn):
            spread = np.nanmax(before) - np.nanmin(before)
            np.testing.assert_allclose(
                after, before, rtol=0, atol=2e-6 * spread, err_msg=column.name
            )
        else:
            np.testing.assert_array_equal(after, before, column.name)
    presented = loaded.form.present(rows)
    assert presented.equals(table)


def test_the_probabilities_of_all_rows_sum_to_one():
    """Under another density than the standard normal, by integrating over the noise at each row."""
    table = pa.table(
        {
            "word": in_order(["a", "b", "b", "c", "b", "a", "b", None]),
            "count": pa.array([1, 2, 7, 1, 1, 2, None, 7], pa.int32()),
            "flag": pa.array([True, False] * 4),
        }
    )
    _, _, transform = fitted(table)
    marginals = []
    for column in range(3):
        single = TableTransform(columns=[transform.columns[column]])
        values = [*transform.columns[column].values, 99.0]  # and whatever was not seen
        values += [math.nan] if transform.columns[column].missing else []
        marginals.append([chance_of(single, value) for value in values])
        assert len(values) == (5, 5, 3)[column]
    total = sum(math.prod(chances) for chances in itertools.product(*marginals))
    assert total == pytest.approx(1, abs=2e-5)
    rows = torch.tensor(
        [
            [a, b, c]
            for a in (0, 1, 2, 9, math.nan)
            for b in (0, 1, 6, 3.5, math.nan)
            for c in (0, 1, 2)
        ]
    )
    x, correction = transform.encode(rows.double(), torch.randn_like)
    # Under the standard normal the bound is an equality, whatever the noise.
    assert (normal_log_density(x) + correction).exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("missing", [False, True])
def test_the_density_of_a_number_integrates_to_one(missing):
    """Quadrature over the values, plus the mass of a shared value and of the missing one."""
    rng = np.random.default_rng(0)
    values = np.exp(rng.normal(size=400))
    values[:100] = 0.0
    if missing:
        values[200:260] = np.nan
    _, _, transform = fitted(pa.table({"income": values}))
    assert transform.shape == (2,)
    y = torch.linspace(-60, 120, 800_001, dtype=torch.float64) + 1e-7
    x, correction = transform.encode(y[:, None], torch.zeros_like)
    density = (normal_log_density(x, 0.2, 0.9) + correction).exp()
    # the coordinate that says "ordinary" is at the middle of its bin: integrate over its noise
    state = TableTransform(columns=[transform.columns[0].state])
    grid = uniform_grid(4000)
    s, flag = state.encode(torch.ones(4000, 1, dtype=torch.float64), grid)
    ordinary = (normal_log_density(s, 0.2, 0.9) + flag).exp().mean()
    s0, flag0 = state.encode(torch.ones(1, 1, dtype=torch.float64), torch.zeros_like)
    density *= ordinary / (normal_log_density(s0, 0.2, 0.9) + flag0).exp()
    total = torch.trapezoid(density, y).item()
    generator = torch.Generator().manual_seed(0)
    for value in [0.0, math.nan][: 1 + missing]:
        row = torch.full((200_000, 1), value, dtype=torch.float64)
        noise = lambda like: torch.randn(like.shape, generator=generator, dtype=like.dtype)  # noqa: E731
        x, correction = transform.encode(row, noise)
        total += (normal_log_density(x, 0.2, 0.9) + correction).exp().mean().item()
    assert total == pytest.approx(1, abs=5e-3)


def test_a_wide_whole_number_sums_to_one():
    rng = np.random.default_rng(1)
    _, _, transform = fitted(pa.table({"n": rng.integers(0, 600, 2000)}))
    assert isinstance(transform.columns[0], NumberColumn)
    total = 0.0
    for u in (np.arange(64) + 0.5) / 64:
        z = torch.special.ndtri(torch.tensor(u))
        k = torch.arange(-2000, 2600, dtype=torch.float64)[
            :, None
        ]  # the map goes on beyond what was observed
        x, correction = transform.encode(k, lambda like, z=z: torch.full_like(like, z.item()))
        total += (normal_log_density(x, 0.1, 1.1) + correction).exp().sum().item() / 64
    assert total == pytest.approx(2000 / 2001, abs=1e-4)  # the rest lies between two steps


def test_the_coordinates_are_close_to_standard_normals():
    rng = np.random.default_rng(2)
    n = 4000
    table = pa.table(
        {
            "income": np.exp(rng.normal(10, 1.5, n)),
            "cauchy": rng.standard_cauchy(n),
            "age": rng.integers(18, 90, n),
            "word": in_order(rng.choice(["a", "b", "c"], n, p=[0.9, 0.07, 0.03])),
            "gain": np.where(rng.random(n) < 0.9, 0.0, rng.normal(size=n)),
        }
    )
    _, rows, transform = fitted(table)
    torch.manual_seed(0)
    x, _ = transform.encode(torch.from_numpy(rows), torch.randn_like)
    quantiles = torch.quantile(
        x.double(), torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64), dim=0
    )
    expected = torch.tensor([-1.645, 0.0, 1.645], dtype=torch.float64)[:, None].expand_as(quantiles)
    torch.testing.assert_close(quantiles, expected, atol=0.12, rtol=0)


def test_whatever_a_model_draws_is_a_valid_row():
    rng = np.random.default_rng(3)
    n = 500
    table = pa.table(
        {
            "n": pa.array(rng.integers(-5, 10**6, n), pa.int32()),
            "few": pa.array(rng.choice([2, 3, 11], n), pa.uint8()),
            "price": np.round(rng.random(n) * 10, 2),
            "real": rng.normal(size=n),
            "word": rng.choice(["x", "y"], n),
            "flag": rng.random(n) < 0.5,
        }
    )
    loaded, _, transform = fitted(table)
    torch.manual_seed(0)
    wild = torch.cat(
        [torch.randn(2000, *transform.shape) * 4, torch.full((1, *transform.shape), math.nan)]
    )
    wild[0] = math.inf
    out = loaded.form.present(transform.decode(wild))
    assert out.schema == table.schema
    for name in table.column_names:
        drawn, real = out[name].to_numpy(), table[name].to_numpy()
        if name in ("few", "word", "flag"):
            assert set(drawn.tolist()) <= set(real.tolist())
        else:
            assert drawn.min() >= real.min()
            assert drawn.max() <= real.max()
    np.testing.assert_array_equal(out["price"].to_numpy(), np.round(out["price"].to_numpy(), 2))


def test_whole_numbers_beyond_float32_come_back_to_a_millionth():
    rng = np.random.default_rng(4)
    _, rows, transform = fitted(pa.table({"n": rng.integers(0, 2**40, 300)}))
    x, _ = transform.encode(torch.from_numpy(rows), torch.randn_like)
    np.testing.assert_allclose(transform.decode(x), rows, rtol=0, atol=1e-6 * 2**40)


def test_held_out_rows_are_not_measured_but_have_a_probability():
    table = pa.table({"word": ["a", "b"] * 10 + ["c", "c"], "x": np.arange(22) * math.pi})
    loaded = read_table(table)
    transform = loaded.make_transform(lambda: iter([loaded.rows.take(np.arange(20))]))
    other = loaded.make_transform(
        lambda: iter([loaded.rows.take(np.arange(10)), loaded.rows.take(np.arange(10, 20))])
    )
    assert TABLES.describe(transform, loaded.form) == TABLES.describe(other, loaded.form)
    assert transform.columns[0].values == [0.0, 1.0]
    assert transform.columns[1].high == 19 * math.pi
    rows = torch.from_numpy(loaded.rows.take(np.arange(20, 22)))
    x, correction = transform.encode(rows, torch.zeros_like)
    assert torch.isfinite(correction).all()
    assert np.isin(transform.decode(x)[:, 0], [0.0, 1.0]).all()  # never drawn


def levels_of(values, sort):
    array = pa.array([sort(value) for value in values])
    column = measure_column("c", array, "c")
    codes, _ = column.encode(array, array.type, "c")
    return measure_model(column, codes, array.type)


@pytest.mark.parametrize("sort", [int, math.exp, "w{}".format])
def test_values_seen_once_and_unseen_ones_share_what_the_values_seen_once_have(sort):
    """Good's (1953) share N_1/n, in N_1 + 1 equal parts; 1/(n + 1) without such values."""
    for values, masses, unseen in (
        ([0] * 6 + [1] * 4, [6 / 11, 4 / 11], 1 / 11),
        (
            [0] * 80 + [1, 2, 3, 4, 6, 7] * 5 + [5, 9],
            np.array([80, 5, 5, 5, 5, 2 / 3, 5, 5, 2 / 3]) / 112,
            2 / 3 / 112,
        ),
    ):
        model = levels_of(values, sort)
        assert isinstance(model, EnumeratedColumn)
        some = torch.randn(50, model.width, generator=torch.Generator().manual_seed(0))
        codes = torch.tensor([*sorted(set(model.values)), 77.5], dtype=torch.float64)
        for code, mass in zip(codes, [*masses, unseen]):
            x, correction = encoded(model, code.expand(50), some.double())
            # in all parts of its interval, under the standard normal; of its cell, of a simplex
            log_p = own_law(TableTransform(columns=[model]), x)
            assert (log_p + correction).exp().numpy() == pytest.approx(mass, rel=1e-5)
        assert model.expects(codes.numpy()).tolist() == [True] * len(masses) + [False]
        x, _ = encoded(model, torch.full((50,), 77.5, dtype=torch.float64), some.double())
        assert np.isin(decoded(model, x), codes[:-1]).all()


def test_another_value_of_a_constant_column_has_one_part_in_n_plus_one():
    array = pa.array([7] * 9 + [8])
    column = measure_column("c", array, "c")
    codes, _ = column.encode(array, array.type, "c")
    model = measure_model(column, codes[:9], array.type)
    assert isinstance(model, ConstantColumn)
    _, correction = encoded(model, torch.from_numpy(codes[8:]), torch.zeros(2, 0))
    assert correction.exp().tolist() == pytest.approx([0.9, 0.1])
    empty = measure_model(column, np.full(4, np.nan), array.type)
    _, correction = encoded(empty, torch.tensor([math.nan, 0.0]).double(), torch.zeros(2, 0))
    assert correction.exp().tolist() == pytest.approx([0.8, 0.2])
    assert np.isnan(decoded(empty, torch.zeros(2, 0))).all()


@pytest.mark.parametrize("kind", ["float64", "float32", "int64", "date32"])
def test_the_grid_is_that_of_the_training_rows(kind):
    """A held-out row between two steps changes nothing but its own score."""
    rng = np.random.default_rng(6)
    steps = rng.permutation(800)
    scale = 0.05 if kind.startswith("float") else 5
    values = np.append(steps * scale, [100 * scale + scale / 5, 3 * scale]).round(2)
    values[-1] += scale * 1e-5
    if kind in ("int64", "date32"):
        values = values[:-1].astype(np.int32 if kind == "date32" else np.int64)
    array = pa.array(values).cast(getattr(pa, kind)())
    models, chances = [], []
    for held_out in range(len(values) - 800 + 1):  # none, one or two rows read besides
        read = array[: 800 + held_out]
        column = measure_column("c", read, "c")
        training, _ = column.encode(read[:800], array.type, "c")
        models.append(measure_model(column, training, array.type))
        codes, between = column.encode(array, array.type, "c")
        codes[between] += 0.5
        x, correction = encoded(models[-1], torch.from_numpy(codes), torch.zeros(len(codes), 1))
        chances.append((normal_log_density(x) + correction).numpy())
        back = decoded(models[-1], x[:800])
        assert column.decode(back, array.type).equals(array[:800])
        assert models[-1].expects(codes).tolist() == [True] * 800 + [False] * (len(values) - 800)
    for other in chances[1:]:
        assert other == pytest.approx(chances[0], abs=1e-4)
    near = chances[0][np.argsort(np.abs(values[:800] - values[800]))[0]]
    assert chances[0][800] == pytest.approx(near - math.log(800), abs=0.05)


def test_constants_have_no_coordinate_and_missing_numbers_have_two():
    rng = np.random.default_rng(5)
    real = np.where(rng.random(80) < 0.2, np.nan, rng.normal(size=80))
    words = pa.array(["a", None, "b", "a"] * 20)
    _, _, transform = fitted(pa.table({"word": words, "fixed": [1.5] * 80, "real": real}))
    assert transform.shape == (3,)
    assert "1 constant" in transform.description


def test_a_missing_value_where_the_data_has_none_is_refused():
    size = LevelColumn(name="size", values=[0.0, 1.0, 5.0], masses=[1, 1, 1, 1], unseen=3)
    price = NumberColumn(
        name="price", low=0.0, high=9.0, rows=9, knots=[0.0, 9.0], marks=[-1.0, 1.0]
    )
    transform = TableTransform(columns=[size, price])
    for bad, name in (([math.nan, 1.0], "size"), ([1.0, math.nan], "price")):
        with pytest.raises(InputError, match=f'column "{name}": a value is missing'):
            transform.encode(torch.tensor([bad], dtype=torch.float64), torch.zeros_like)


def mixed_table(columns, rows=120):
    """Columns of every sort by turns, each with its own number of levels, knots and atoms."""
    rng = np.random.default_rng(columns)
    sorts = (
        lambda i: rng.normal(size=rows),
        lambda i: rng.integers(0, 10 ** (2 + i % 5), rows),
        lambda i: rng.choice([f"w{k}" for k in range(1 + i % 40)], rows),
        lambda i: np.where(rng.random(rows) < 0.1 * (1 + i % 5), 0.0, rng.normal(size=rows)),
        lambda i: pa.array(rng.normal(size=rows), mask=rng.random(rows) < 0.2),
        lambda i: np.r_[rng.integers(0, 60, rows - 40), 1000 * (i % 3) + rng.integers(0, 60, 40)],
        lambda i: np.full(rows, i),
        lambda i: pa.array(rng.integers(0, 2 + i % 9, rows), mask=rng.random(rows) < 0.2),
        lambda i: pa.array(rng.integers(0, 999, rows), mask=rng.random(rows) < 0.2),
    )
    return pa.table({f"c{i}": sorts[i % len(sorts)](i) for i in range(columns)})


def test_all_columns_at_once_are_as_each_by_itself():
    """The same bytes from the same noise, unseen values and far x included."""
    _, rows, transform = fitted(mixed_table(27))
    sorts = [(type(column), column.alike) for column in transform.columns]
    assert 6 < len(set(sorts)) < 10
    rows = torch.from_numpy(rows)
    for i, column in enumerate(transform.columns):
        rows[0, i] = column.some_code + 0.3
        rows[1, i] = math.nan if column.missing else 1e9
    z = 2 * torch.randn((len(rows), *transform.shape), dtype=torch.float64)
    x, correction = transform.encode(rows, lambda like: z)
    wild = 4 * torch.randn((len(rows), *transform.shape))
    parts = zip(
        transform.columns, rows.unbind(1), *(of.split(transform._widths, 1) for of in (z, x, wild))
    )
    total = 0.0
    for i, (column, codes, noise, own, far) in enumerate(parts):
        alone, more = encoded(column, codes, noise)
        assert torch.equal(alone, own)
        total = total + more
        for one, all_of_them in ((own, x), (far, wild)):
            np.testing.assert_array_equal(
                decoded(column, one), transform.decode(all_of_them)[:, i], column.name
            )
    torch.testing.assert_close(correction, total, rtol=1e-12, atol=1e-9)


class Counted(TorchDispatchMode):
    """Counts the operations on tensors."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_columns_of_one_sort_are_encoded_together():
    """Fifteen times as many columns do not take twice the operations."""

    def operations(columns):
        _, rows, transform = fitted(mixed_table(columns, rows=40))
        rows = torch.from_numpy(rows)
        with Counted() as counted:
            transform.decode(transform.encode(rows, torch.zeros_like)[0])
        return counted.count

    assert 0 < operations(135) < 2 * operations(9)


def gaps(rng):
    """Name -> values, and the ends of where they have none."""
    warm = rng.normal(12, 6, 800)
    low, high = rng.uniform(0, 10, 300), rng.uniform(50, 60, 80)
    whole, near = [rng.integers(0, 1000, 300), rng.integers(5000, 6000, 99)], rng.gamma(2, 40, 800)
    return {
        "-999 for missing": (np.where(rng.random(800) < 0.03, -999, warm), -998, -30),
        "-999 and 999": (np.r_[[-999.0] * 3, [999.0] * 2, warm], -998, -30),
        "-1 for missing, near the others": (np.r_[[-1.0] * 25, 2 + near], -0.99, 1.99),
        "two ends": (np.r_[[-9999.0] * 3, [-999.0] * 5, warm], -998, -30),
        "two clusters": (np.r_[low, high], 10.01, 49.99),
        "whole clusters": (np.concatenate(whole), 1000, 4999),
        "one value below": (np.r_[[-4.0] * 12, low], -3.99, -0.01),
        "one value above": (np.r_[low, [14.0] * 12], 10.01, 13.99),
        "one value in the middle": (np.r_[low, [50.0] * 12, low + 90], 10.01, 49.99),
    }


@pytest.mark.parametrize("name", gaps(np.random.default_rng(0)))
def test_nothing_is_drawn_where_the_data_have_nothing(name):
    """Whatever a model gives; and every row still comes back, and the density is still one."""
    values, low, high = gaps(np.random.default_rng(1))[name]
    data = load(pa.table({"v": values}), held_out=20)
    (column,) = data.transform.columns
    assert np.diff(column.knots).min() > 0
    assert np.diff(column.marks).min() > 0
    x = 1.5 * torch.randn(20_000, data.shape[0], generator=torch.Generator().manual_seed(0))
    drawn = data.form.table(data.transform.decode(x)).column("v").to_numpy()
    assert not ((drawn > low) & (drawn < high)).any()
    assert (drawn < low).any()
    assert (drawn > high).any()
    stored = data.loaded.rows.take(np.arange(len(values)))
    back, _ = data.transform.encode(torch.from_numpy(stored), torch.zeros_like)
    again = data.form.table(data.transform.decode(back)).column("v").to_numpy()
    trained = data.train[:].column("v").to_numpy()  # their range is what can be drawn
    held = values.clip(trained.min(), trained.max())
    np.testing.assert_allclose(again, held, rtol=1e-5, atol=1e-3)


def test_a_repeated_far_date_stands_apart_whatever_its_share():
    days = np.r_[np.arange(18_000, 19_000), [2_932_896] * 2]
    data = load(pa.table({"end": pa.array(days.astype(np.int32), pa.date32())}))
    (column,) = data.transform.columns
    assert len(column.atoms) == 1
    assert column.high == 999


@pytest.mark.parametrize(
    "law", ["lognormal", "normal", "exponential", "uniform", "standard_cauchy"]
)
def test_smooth_laws_have_no_gaps(law):
    """Heavy tails too: what lies far out stays a number like others."""
    rng = np.random.default_rng(0)
    draw = getattr(rng, law)
    for n in (200, 2000):
        data = load(pa.table({"v": draw(size=n), "w": np.round(100 * draw(size=n)).astype(int)}))
        for column in data.transform.columns:
            assert isinstance(column, LevelColumn) or not (column.gaps or column.atoms)


def test_a_table_of_real_numbers_draws_no_noise():
    """Its density is exact: nothing is averaged, and no error is stated that is not there."""
    rng = np.random.default_rng(0)
    real = load(pa.table({"a": rng.normal(size=200) * math.pi, "b": rng.normal(size=200)}))
    whole = load(pa.table({"a": rng.normal(size=200), "b": rng.integers(0, 5, 200)}))

    def refused(like):
        raise AssertionError("noise was asked for")

    x, _ = real.transform.encode(real.sample_batch(4)["row"], refused)
    assert x.shape == (4, 2)
    with pytest.raises(AssertionError, match="asked for"):
        whole.transform.encode(whole.sample_batch(4)["row"], refused)
