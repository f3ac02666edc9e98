import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from undiffuse.data.arrays.axes import layout_of, shape_axes
from undiffuse.data.arrays.read import from_array
from undiffuse.data.arrays.transform import ArrayTransform, measure_array
from undiffuse.data.images.form import ImageForm, image_transform
from undiffuse.data.rows import as_tensor, chunks

WHOLE = ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
FLOATS = ["float16", "float32", "float64"]
SHAPES = [(), (1,), (3,), (2, 40), (4, 5), (3, 6, 5), (9, 8, 3), (2, 3, 4, 5), (2, 2, 2, 3, 2)]


def transform_of(array):
    loaded = from_array(array, name="data")
    return loaded.make_transform(lambda: chunks(loaded.rows))


def images(row_shape, *, levels, channel_axis=None, dtype="uint8"):
    form = ImageForm(row_shape=row_shape, channel_axis=channel_axis, levels=levels, dtype=dtype)
    return image_transform(form)


def rows_of(dtype, shape, n=30, seed=0):
    rng = np.random.default_rng(seed)
    if dtype == "bool":
        return rng.integers(0, 2, (n, *shape)).astype(bool)
    if np.dtype(dtype).kind == "f":
        return (3 + 2 * rng.standard_normal((n, *shape))).astype(dtype)
    return rng.integers(0, 100, (n, *shape)).astype(dtype)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", WHOLE + FLOATS)
@pytest.mark.parametrize("noise", [torch.zeros_like, torch.randn_like])
def test_rows_come_back_in_their_own_shape_and_type(dtype, shape, noise):
    rows = rows_of(dtype, shape)
    transform = transform_of(rows)
    x, log_correction = transform.encode(as_tensor(rows), noise)
    assert x.shape == (len(rows), *transform.shape)
    assert (x.dtype, log_correction.dtype, log_correction.shape) == (
        torch.float32,
        torch.float64,
        (30,),
    )
    back = transform.decode(x)
    assert (back.shape, back.dtype) == (rows.shape, rows.dtype)
    if np.dtype(dtype).kind == "f":
        np.testing.assert_allclose(back, rows, rtol=2e-3 if dtype == "float16" else 2e-6, atol=2e-6)
    else:
        assert np.array_equal(back, rows)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.sampled_from(WHOLE).flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            hnp.array_shapes(min_dims=2, max_dims=4, min_side=2, max_side=5),
            elements=None if np.dtype(dtype).itemsize < 4 else st.integers(0, 2**21),
        )
    ),
    offset=st.sampled_from([0, 10**9, 10**18]),
    seed=st.integers(0, 2**32),
)
def test_whole_numbers_come_back_exactly(rows, offset, seed):
    if rows.dtype.itemsize == 8:
        rows = rows + np.array(offset, rows.dtype)
    if (rows == rows[:1]).all():
        return
    torch.manual_seed(seed)
    x, _ = (transform := transform_of(rows)).encode(as_tensor(rows), torch.randn_like)
    assert np.array_equal(transform.decode(x), rows)


@pytest.mark.parametrize("levels", [2, 17, 256, 65536])
def test_every_level_survives_the_edges_of_its_bin(levels):
    """Uniform draws of exactly 0 and 1, as float32 gives far out in the tails, decode the same."""
    shape = (1, levels)
    transform = images(shape, levels=levels, channel_axis=None, dtype="uint16")
    rows = torch.arange(levels).reshape(1, *shape)
    for edge in (-40.0, 40.0):
        x, _ = transform.encode(rows, lambda like, edge=edge: torch.full_like(like, edge))
        assert np.array_equal(transform.decode(x), rows.numpy())
        assert x.min() >= -1
        assert x.max() <= 1


def test_noise_fills_each_bin_evenly():
    transform = images((1, 1), levels=4, channel_axis=None, dtype="uint8")
    torch.manual_seed(0)
    x, _ = transform.encode(torch.full((20000, 1, 1), 3), torch.randn_like)
    u = (x.flatten().double() - 0.5) / 0.5
    empirical = (torch.arange(20000) + 0.5) / 20000
    assert (u.sort().values - empirical).abs().max() < 1.95 / math.sqrt(
        20000
    )  # Kolmogorov-Smirnov, 0.1 %


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_uniform_model_on_the_cube_gives_every_image_its_exact_probability(levels):
    transform = images((5, 4, 3), levels=levels, channel_axis=-1, dtype="uint8")
    x, log_correction = transform.encode(
        torch.zeros(2, 5, 4, 3, dtype=torch.uint8), torch.randn_like
    )
    uniform = -x[0].numel() * math.log(2)
    np.testing.assert_allclose(uniform + log_correction, -60 * math.log(levels), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["int16", "uint8"])
def test_probabilities_of_whole_numbers_sum_to_one(dtype):
    """For a standard normal on x, int_bin p(x) dx = E_u[p(x)] / scale: summed over k it is one."""
    rows = np.random.default_rng(0).integers(20, 60, (200, 1)).astype(dtype)
    transform = transform_of(rows)
    every_k = torch.arange(-400, 500).reshape(-1, 1)
    fine = torch.linspace(0, 1, 101).double()
    total = 0.0
    for u in (fine[:-1] + fine[1:]) / 2:
        z = torch.special.ndtri(u)
        x, log_correction = transform.encode(
            every_k, lambda like, z=z: torch.full_like(like, float(z))
        )
        log_p = -0.5 * x.double().square().sum(1) - 0.5 * math.log(2 * math.pi)
        total += float((log_p + log_correction).exp().sum()) / 100
    assert total == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("shape", [(), (3,), (2, 40), (3, 6, 5), (9, 8, 3)])
def test_log_correction_is_the_log_determinant(shape):
    rows = rows_of("float64", shape)
    transform = transform_of(rows)
    step = 1e-3
    row = as_tensor(rows[:1])
    at, log_correction = transform.encode(row, torch.zeros_like)
    slopes = []
    for index in np.ndindex(*shape):
        moved = row.clone()
        moved[(0, *index)] += step
        change = (transform.encode(moved, torch.zeros_like)[0] - at).double().abs()
        assert (change > 0).sum() == 1  # the Jacobian is a permuted diagonal
        slopes.append(float(change.sum()) / step)
    np.testing.assert_allclose(
        log_correction, sum(math.log(slope) for slope in slopes), rtol=1e-3, atol=2e-3
    )


@pytest.mark.parametrize("shape", [(), (3,), (2, 40), (3, 6, 5), (9, 8, 3)])
@pytest.mark.parametrize("dtype", WHOLE + FLOATS)
def test_the_moments_are_those_of_the_values_spread_over_their_bins(dtype, shape):
    """By numpy: of whole numbers, from the least, mean k + 1/2 and variance plus 1/12."""
    rows = rows_of(dtype, shape)
    axes = shape_axes(shape) if len(shape) > 1 else "C"[: len(shape)]
    layout = layout_of(shape, axes)
    transform = measure_array(
        iter(np.split(rows, [1, 8])),
        name="data",
        row_shape=shape,
        axes=axes,
        dtype=dtype,
    )
    channels = np.moveaxis(rows, -1, 1) if axes[1:].endswith("C") else rows
    v = channels.reshape(len(rows), layout[0], -1).astype(np.float64)
    mean, variance = v.mean((0, 2)), v.var((0, 2))
    if np.dtype(dtype).kind != "f":
        mean, variance = mean - v.min((0, 2)) + 0.5, variance + 1 / 12
    np.testing.assert_allclose(transform.mean, mean, rtol=1e-11)
    np.testing.assert_allclose(transform.std, np.sqrt(variance), rtol=1e-11)
    np.testing.assert_array_equal(transform.low, v.min((0, 2)))
    np.testing.assert_array_equal(transform.high, v.max((0, 2)))
    x, _ = transform.encode(as_tensor(rows), torch.zeros_like)
    whole = 0 if np.dtype(dtype).kind == "f" else 0.5 - v.min((0, 2), keepdims=True)
    expected = (v + whole - mean[:, None]) / np.sqrt(variance)[:, None]
    np.testing.assert_allclose(x.reshape(expected.shape), expected, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize("shape", [(3,), (2, 40), (3, 6, 5)])
def test_encoded_data_far_from_zero_has_mean_zero_and_variance_one(dtype, shape):
    """A million, where float32 has 16 values between whole numbers, costs no digits of x."""
    rows = (rows_of("float64", shape, n=500) * 7 + 1e6).astype(dtype)
    torch.manual_seed(0)
    x, _ = transform_of(rows).encode(as_tensor(rows), torch.randn_like)
    x = x.movedim(1, 0).flatten(1).double()
    tolerance = 0.05 if dtype == "int32" else 1e-5
    assert x.mean(1).abs().max() < tolerance
    assert (x.var(1, correction=0) - 1).abs().max() < tolerance


def test_bins_lie_side_by_side_and_are_as_wide_as_is_said():
    """x(k + 1) - x(k) is the width of a bin, whichever of the two is asked for."""
    for transform, low, high in (
        (transform_of(rows_of("int16", (4,))), 0, 99),
        (transform_of(rows_of("uint8", (2, 40))), 0, 99),
        (images((1, 2), levels=17), 0, 16),
        (images((2, 3, 3), levels=65536, channel_axis=-1, dtype="uint16"), 0, 65535),
    ):
        for k in (low, high - 1):
            first, second = (
                transform.encode(torch.full((1, *transform.row_shape), i), torch.zeros_like)[0]
                for i in (k, k + 1)
            )
            width = torch.as_tensor(transform.bin_width).expand_as(first)
            np.testing.assert_allclose(second - first, width, atol=2e-7, rtol=1e-5)
    assert transform_of(rows_of("float32", (4,))).bin_width is None


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_the_cells_of_images_part_the_line_and_hold_their_points(levels):
    transform = images((1, levels), levels=levels)
    k = torch.arange(levels).reshape(1, 1, levels)
    low, high = (edges.flatten() for edges in transform.cells(k))
    assert torch.equal(low[1:], high[:-1])
    assert (low[0], high[-1]) == (-math.inf, math.inf)
    np.testing.assert_allclose(high[:-1], -1 + 2 / levels * np.arange(1, levels), atol=1e-12)
    torch.manual_seed(0)
    x = transform.encode(k, torch.randn_like)[0].flatten()
    assert bool(((low < x) & (x < high)).all())
    assert transform_of(rows_of("int16", (4,))).cells(torch.zeros(1, 4)) is None


def test_moments_far_from_zero_lose_nothing():
    rows = np.random.default_rng(0).standard_normal((5000, 1)) * 1e-3 + 1e8
    transform = transform_of(rows)
    exact = (rows - 1e8).std()
    assert transform.std[0] == pytest.approx(exact, rel=1e-9)


def test_constant_columns_are_left_out_and_restored():
    rows = np.column_stack([np.full(50, 7.5), np.arange(50.0), np.full(50, -2.0)])
    transform = transform_of(rows)
    x, log_correction = transform.encode(as_tensor(rows), torch.zeros_like)
    assert transform.shape == (1,)
    expected = -math.log(np.arange(50).std()) + 2 * math.log(50 / 51)
    assert float(log_correction[0]) == pytest.approx(expected)
    np.testing.assert_allclose(transform.decode(x), rows, atol=1e-5)


@pytest.mark.parametrize("shape", [(3,), (3, 40), (3, 4, 5)])
@pytest.mark.parametrize("dtype", ["float64", "float32", "int16", "int64"])
def test_another_value_than_that_of_all_n_training_rows_has_one_part_in_n_plus_one(shape, dtype):
    """As in tables, and for each of the constant columns or channels by itself."""
    rows = rows_of(dtype, shape, n=9)
    rows[:, 0], rows[:, 2] = 7, 3
    transform = transform_of(rows)
    new = np.concatenate([rows[:4], rows])
    new[1, 0], new[2, 2], new[3, 0], new[3, 2] = 8, 8, 8, 8
    new[(4, 0, *[-1] * (len(shape) - 1))] = 9  # one place of a channel makes it another
    _, correction = transform.encode(as_tensor(new), torch.zeros_like)
    seen = correction[0] - 2 * math.log(0.9)
    others = (correction[:6] - seen).exp().tolist()
    assert others == pytest.approx([0.81, 0.09, 0.09, 0.01, 0.09, 0.81])


def test_decoded_values_stay_in_range():
    rows = np.random.default_rng(0).integers(-5, 9, (100, 3)).astype(np.int8)
    far = torch.tensor([[-1e9, 0.0, 1e9]])
    low, _, high = transform_of(rows).decode(far)[0]
    assert (low, high) == (rows[:, 0].min(), rows[:, 2].max())
    image = images((1, 2), levels=256, channel_axis=None, dtype="uint8")
    assert image.decode(torch.tensor([[[[-3.0, 3.0]]]])).tolist() == [[[0, 255]]]
    halves = transform_of(np.linspace(-60000, 60000, 50, dtype=np.float16))
    assert halves.decode(torch.tensor([[100.0]])).tolist() == [65504.0]


def test_images_are_channels_first_whatever_they_were():
    pixels = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    last = images((4, 5, 3), levels=256, channel_axis=-1, dtype="uint8")
    first = images((3, 4, 5), levels=256, channel_axis=0, dtype="uint8")
    a, _ = last.encode(as_tensor(pixels), torch.zeros_like)
    b, _ = first.encode(as_tensor(np.moveaxis(pixels, -1, 1)), torch.zeros_like)
    assert torch.equal(a, b)
    assert last.shape == first.shape == (3, 4, 5)


def test_parts_say_how_rows_are_modelled():
    assert "constant" in transform_of(np.column_stack([np.ones(9), np.arange(9.0)])).description
    assert isinstance(transform_of(rows_of("float32", (3,))), ArrayTransform)
    image = transform_of(np.arange(2 * 8 * 8, dtype=np.uint8).reshape(2, 8, 8) * 2)
    assert image.description == (
        "images with 1 channel of 8 x 8 values, whole numbers from 0 to 255, "
        "dequantized and scaled to [-1, 1]."
    )
