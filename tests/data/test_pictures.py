"""Pictures show what they are given: every pixel, curve, point and number at its place."""

from __future__ import annotations

import numpy as np
import pytest

from undiffuse.data import pictures
from undiffuse.data.pictures import (
    draw_curves,
    draw_histogram,
    draw_points,
    figure_to_image,
    pixels_to_image,
    small_axes,
    tile_images,
    to_bytes,
)

rng = np.random.default_rng(0)


def stripes(paper: np.ndarray) -> list[tuple[int, int]]:
    """(first, length) of the runs of True in a line."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], paper.astype(int), [0]])))
    return [(int(a), int(b - a)) for a, b in zip(edges[::2], edges[1::2])]


@pytest.mark.parametrize(
    ("n", "height", "width", "channels", "factor", "columns", "gap"),
    [
        (16, 8, 8, 1, 8, 4, 2),
        (5, 8, 8, 3, 8, 2, 2),
        (7, 10, 20, 2, 3, 2, 1),
        (6, 100, 30, 4, 1, 4, 1),
        (3, 200, 100, 1, 1, 2, 4),
        (1, 43, 43, 1, 1, 1, 1),
        (2, 42, 42, 3, 2, 1, 3),
        (3, 200, 1, 1, 1, 3, 1),  # no more columns than images
    ],
)
def test_images_stand_side_by_side_in_reading_order(
    n, height, width, channels, factor, columns, gap
):
    """Enlarged by the whole number nearest to 64 / the longer side, apart by a 24th of the shorter.

    The paper between them, around them and in empty places is white, or clear where it can be.
    """
    images = rng.integers(0, 250, (n, height, width, channels), dtype=np.uint8)
    picture = np.asarray(tile_images(images)).reshape(*tile_images(images).size[::-1], channels)
    clear = {1: [255], 2: [255, 0], 3: [255] * 3, 4: [255] * 3 + [0]}[channels]
    seen = np.full_like(picture, 0)
    seen[:] = clear
    assert picture.shape[0] == -(-n // columns) * (height * factor + gap) + gap
    assert picture.shape[1] == columns * (width * factor + gap) + gap
    for i, image in enumerate(images):
        large = np.kron(image, np.ones((factor, factor, 1), np.uint8))
        top = gap + i // columns * (height * factor + gap)
        left = gap + i % columns * (width * factor + gap)
        seen[top : top + height * factor, left : left + width * factor] = large
    np.testing.assert_array_equal(picture, seen)


def test_pixels_keep_their_values():
    for pixels in (
        rng.integers(0, 2**16, (3, 4, 1)).astype(np.uint16),
        rng.integers(0, 256, (3, 4, 1)).astype(np.uint8),
        rng.integers(0, 256, (3, 4, 3)).astype(np.uint8),
    ):
        shown = np.asarray(pixels_to_image(pixels))
        np.testing.assert_array_equal(shown.reshape(pixels.shape), pixels)


def test_bytes_run_from_low_to_high():
    """Rounded to the nearest, clipped at the ends; what is no number is black."""
    values = np.linspace(-3, 5, 256)
    np.testing.assert_array_equal(to_bytes(values, -3, 5), np.arange(256))
    assert to_bytes(np.array([-9.0, 9.0, np.nan, np.inf, -np.inf]), -3, 5).tolist() == [
        0, 255, 0, 255, 0,
    ]  # fmt: skip
    assert to_bytes(np.array([0.4, 0.6]), 0, 255).tolist() == [0, 1]
    assert to_bytes(np.array([1.0, 2.0, 3.0]), 2, 2).tolist() == [0, 0, 255]


@pytest.fixture
def drawn(drawn_by):
    """The figures that were drawn."""
    return drawn_by(pictures)


@pytest.mark.parametrize(
    ("n", "channels", "columns"), [(1, 1, 1), (2, 2, 1), (3, 1, 2), (9, 2, 3), (70, 1, 6)]
)
def test_each_curve_is_whole_in_a_cell_of_its_own_on_one_scale(drawn, n, channels, columns):
    """Cells are filled in reading order, about twice as wide as high; 64 rows are shown."""
    rows = rng.normal(size=(n, channels, 12)) * np.arange(1, n + 1)[:, None, None]
    shown, lines = rows[:64], -(-min(n, 64) // columns)
    picture = draw_curves(rows)
    assert picture.size == (800, round(max(150, 800 * lines / columns / 2)))
    (axes,) = drawn[0].axes
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, columns), (1 - lines, 1))
    assert not axes.axison
    assert len(axes.collections) == channels
    assert len({tuple(c.get_edgecolor()[0]) for c in axes.collections}) == channels
    low, high = shown.min(), shown.max()
    for channel, curves in enumerate(axes.collections):
        assert len(curves.get_segments()) == len(shown)
        for i, segment in enumerate(curves.get_segments()):
            x, y = segment.T - [[i % columns], [-(i // columns)]]
            np.testing.assert_allclose(np.diff(x), (x[-1] - x[0]) / 11)
            assert 0 < x[0] < 0.1
            assert x[-1] == pytest.approx(1 - x[0])
            height = (shown[i, channel] - low) / (high - low)
            np.testing.assert_allclose((y - 0.5) / 0.9 + 0.5, height, atol=1e-9)


def test_curves_that_are_flat_or_broken_can_be_drawn(drawn):
    draw_curves(np.full((2, 1, 5), 3.0))
    segments = np.array(drawn[0].axes[0].collections[0].get_segments())
    assert np.ptp(segments[:, :, 1], axis=1).max() == 0
    draw_curves(np.full((2, 1, 5), np.nan))
    assert draw_curves(np.zeros((200, 40, 2))[:, :11]).size[0] == 800  # colours are used again


def test_what_is_missing_is_a_gap_and_channels_of_other_units_have_their_own_scale(drawn):
    rows = rng.normal(size=(4, 2, 12))
    rows /= np.abs(rows).max((0, 2), keepdims=True)
    gone = rows.copy()
    gone[1, 0, 4], gone[2, 1, 7] = np.nan, np.inf
    draw_curves(gone)
    draw_curves(gone * [[1.0], [1000.0]])
    for figure in drawn:  # in ranges this far apart each channel fills its cell as if alone
        for channel, curves in enumerate(figure.axes[0].collections):
            heights = np.array([path.vertices[:, 1] for path in curves.get_paths()])
            assert np.isnan(heights).sum() == 1
            assert np.isnan(heights[1 + channel, (4, 7)[channel]])
            spans = np.nanmax(heights[:2]) - np.nanmin(heights[:2])
            assert spans > 0.5


@pytest.mark.parametrize(("n", "size"), [(3, 12.0), (1000, 4.0), (20_000, 0.5)])
def test_points_are_where_they_are_and_the_smaller_the_more(drawn, n, size):
    points = rng.normal(size=(n, 2))
    assert draw_points(points).size == (500, 500)
    (axes,) = drawn[0].axes
    (dots,) = axes.collections
    np.testing.assert_array_equal(dots.get_offsets(), points)
    assert dots.get_sizes() == [size]
    assert dots.get_linewidths() == [0]
    assert axes.get_aspect() == 1
    assert draw_points(np.zeros((0, 2))).size == (500, 500)


@pytest.mark.parametrize(("n", "bins"), [(5, 8), (200, 20), (3000, 60)])
def test_a_histogram_counts_every_finite_number(drawn, n, bins):
    values = rng.normal(size=n)
    values[:2] = np.nan, np.inf
    assert draw_histogram(values).size == (500, 350)
    bars = drawn[0].axes[0].patches
    assert len(bars) == bins
    assert sum(bar.get_height() for bar in bars) == n - 2


@pytest.mark.parametrize(("count", "across"), [(1, 1), (4, 4), (9, 4)])
def test_small_plots_lie_apart_inside_the_page(count, across):
    """In lines of four, each of the size that was asked for; the margins hold the labels."""
    figure, axes = small_axes(count, width=2.2, height=1.7)
    down = -(-count // across)
    assert len(axes) == count
    np.testing.assert_allclose(figure.get_size_inches(), [2.2 * across, 1.7 * down])
    boxes = [axis.get_position() for axis in axes]
    inches = np.array([box.extents for box in boxes]) * np.tile(figure.get_size_inches(), 2)
    assert inches[:, 0].min() == pytest.approx(0.4)
    assert inches[:, 1].min() == pytest.approx(0.45)
    assert inches[:, 2].max() == pytest.approx(2.2 * across - 0.15)
    assert inches[:, 3].max() == pytest.approx(1.7 * down - 0.25)
    for i, (left, bottom, right, top) in enumerate(inches):
        assert right - left > 0.55 * 2.2
        assert top - bottom > 0.4 * 1.7
        line, place = divmod(i, across)
        if place:
            assert left - inches[i - 1][2] > 0.4
        if line:
            assert inches[i - across][1] - top > 0.3
        assert {label.get_fontsize() for label in axes[i].get_xticklabels()} == {6}


def test_a_figure_is_an_image_of_it():
    figure, axes = small_axes(1, width=1.0, height=1.0)
    axes[0].set_facecolor("red")
    image = figure_to_image(figure)
    assert (image.size, image.mode) == ((100, 100), "RGB")
    assert image.getpixel((60, 40)) == (255, 0, 0)
    assert image.getpixel((0, 0)) == (255, 255, 255)
