"""What forms draw of their rows: every number, category, wave and grid at its place."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from undiffuse.data import KINDS
from undiffuse.data.arrays import form as array_form
from undiffuse.data.arrays.form import ArrayForm
from undiffuse.data.recordings import form as recording_form
from undiffuse.data.recordings.form import RecordingForm
from undiffuse.data.tables import form as table_form

pa = pytest.importorskip("pyarrow")

rng = np.random.default_rng(0)


@pytest.fixture
def panels(drawn_by):
    """`panels(columns)`: the axes that are drawn of a table of these columns."""
    drawn = drawn_by(table_form)

    def draw(columns, rows=None):
        loaded = KINDS["tables"].read(pa.table(columns))
        codes = loaded.rows.take(np.arange(len(loaded.rows)))
        loaded.form.preview(codes if rows is None else rows(codes))
        return drawn[-1].axes

    return draw


def test_a_table_is_drawn_column_by_column_the_first_twelve(panels):
    columns = {f"column {i} {'x' * 30}": rng.integers(0, 9, 40) for i in range(13)}
    axes = panels(columns)
    assert [axis.get_title() for axis in axes] == [name[:24] for name in columns][:12]
    assert len(panels({"$a$": [1, 2, 3], "b": [1.5, 2.5, 1.5]})) == 2  # no mathematics: as it is


def test_bars_are_the_counts_of_the_most_frequent_categories(panels):
    """Sixteen at most, the most frequent first, by the first eight letters of their names."""
    words = [f"category {i:02d}"[-9:] for i in range(20) for _ in range(20 - i)]
    (axis,) = panels({"word": rng.permutation(words).tolist()})
    expected = Counter(words).most_common(16)
    assert [bar.get_height() for bar in axis.patches] == [count for _, count in expected]
    assert axis.get_yticks().tolist() == [0, expected[0][1]]
    middles = [bar.get_x() + bar.get_width() / 2 for bar in axis.patches]
    np.testing.assert_allclose(middles, np.arange(16), atol=1e-9)
    np.testing.assert_array_equal(axis.get_xticks(), np.arange(16))
    assert [label.get_text() for label in axis.get_xticklabels()] == [w[:8] for w, _ in expected]
    assert axis.get_xlabel() == ""


@pytest.mark.parametrize(
    ("least", "greatest", "steps"), [(3, 9, 1), (0, 39, 1), (0, 40, 2), (-7, 200, 6)]
)
def test_each_bin_of_whole_numbers_holds_as_many_steps(panels, least, greatest, steps):
    """At most forty, and the ends are marked; every value stands in the middle of its steps."""
    values = np.append(rng.integers(least, greatest + 1, 500), [least, greatest])
    (axis,) = panels({"n": values})
    (bars,) = axis.patches
    heights, edges, _ = bars.get_data()
    assert len(heights) <= 40
    np.testing.assert_allclose(np.diff(edges), steps)
    assert edges[0] == -0.5  # codes are steps from the least value on
    counts = np.bincount((values - least) // steps, minlength=len(heights))
    assert heights.tolist() == counts.tolist()
    assert axis.get_yticks().tolist() == [0, counts.max()]
    assert axis.get_xticks().tolist() == [0, greatest - least]
    labels = [label.get_text() for label in axis.get_xticklabels()]
    assert labels == [str(least), str(greatest)]


def test_numbers_have_forty_bins_and_what_is_missing_is_said(panels):
    values = np.append(rng.normal(size=97) * np.pi, [np.nan] * 3)
    (axis,) = panels({"x": values})
    (bars,) = axis.patches
    assert len(bars.get_data().values) == 40
    assert bars.get_data().values.sum() == 97
    assert axis.get_xlabel() == "3 missing"
    ends = [label.get_text() for label in axis.get_xticklabels()]
    known = values[:97]
    assert [float(end) for end in ends] == pytest.approx([known.min(), known.max()], rel=1e-12)
    (empty,) = panels({"x": values}, rows=lambda codes: np.full_like(codes, np.nan))
    assert [text.get_text() for text in empty.texts] == ["all missing"]
    assert empty.texts[0].get_transform() == empty.transAxes
    assert empty.get_xlabel() == "100 missing"
    assert not empty.patches


# --- waves


@pytest.mark.parametrize("channels", [1, 2])
def test_a_long_wave_is_drawn_by_its_envelope_and_a_short_one_as_it_is(channels, monkeypatch):
    """256 parts, each by its least and greatest sample: 512 points a channel."""
    shown = []

    def keep(waves):
        shown.append(waves)
        return Image.new("L", (1, 1))

    monkeypatch.setattr(recording_form, "draw_curves", keep)
    form = RecordingForm(rate=8000, channels=channels, dtype="int16")
    for length in (512, 513, 2560):
        waves = rng.integers(-(2**15), 2**15, (3, length, channels)).astype(np.int16)
        form.preview(waves[..., 0] if channels == 1 else waves)
        of_channels = waves.transpose(0, 2, 1)
        if length == 512:
            np.testing.assert_array_equal(shown[-1], of_channels)
            continue
        ends = np.floor(np.arange(257) * length / 256).astype(int)
        parts = [of_channels[..., a:b] for a, b in pairwise(ends)]
        assert shown[-1].shape == (3, channels, 512)
        np.testing.assert_array_equal(shown[-1][..., ::2], np.stack([p.min(2) for p in parts], 2))
        np.testing.assert_array_equal(shown[-1][..., 1::2], np.stack([p.max(2) for p in parts], 2))


# --- arrays


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn: the name of the picture, and the rows that it is given."""
    kept = []

    def keep(name, rows):
        kept.append((name, rows))
        return Image.new("L", (1, 1))

    for name in ("draw_histogram", "draw_points", "draw_curves", "tile_images"):
        monkeypatch.setattr(array_form, name, partial(keep, name))
    return kept


def form_of(row_shape, axes, *, low=0.0, high=255.0):
    return ArrayForm(row_shape=row_shape, axes=axes, dtype="float64", low=low, high=high)


@pytest.mark.parametrize(
    ("row_shape", "axes", "name", "shape"),
    [
        ((), "", "draw_histogram", (6,)),
        ((2,), "C", "draw_points", (6, 2)),
        ((5,), "C", "draw_curves", (6, 1, 5)),
        ((3, 40), "CT", "draw_curves", (6, 3, 40)),
        ((40, 3), "TC", "draw_curves", (6, 3, 40)),
    ],
)
def test_the_picture_of_a_row_is_that_of_its_layout(drawn, row_shape, axes, name, shape):
    rows = rng.normal(size=(6, *row_shape))
    form_of(row_shape, axes).preview(rows)
    ((found, shown),) = drawn
    assert (found, shown.shape) == (name, shape)
    expected = np.moveaxis(rows, -1, 1) if axes == "TC" else rows
    np.testing.assert_array_equal(shown, expected.reshape(shape))


@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 8, 9])
def test_three_channels_are_colours_and_others_stand_side_by_side(drawn, channels, last):
    """Eight at most, from left to right; black is the least value of the data, white its most."""
    values = rng.integers(0, 256, (2, channels, 6, 5))
    rows = np.moveaxis(values, 1, -1) if last else values
    form = form_of(rows.shape[1:], "HWC" if last else "CHW", low=-1.0, high=1.0)
    form.preview(rows / 127.5 - 1)
    ((name, shown),) = drawn
    assert (name, shown.dtype) == ("tile_images", np.uint8)
    if channels == 3:
        np.testing.assert_array_equal(shown, np.moveaxis(values, 1, -1))
        return
    assert shown.shape == (2, 6, 5 * min(channels, 8), 1)
    for c in range(min(channels, 8)):
        np.testing.assert_array_equal(shown[:, :, 5 * c : 5 * c + 5, 0], values[:, c])
