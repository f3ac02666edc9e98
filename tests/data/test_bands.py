"""The picture of completed sequences: what is known is drawn as it is, bands where it is not."""

from __future__ import annotations

import numpy as np
import pytest

from undiffuse.data import load
from undiffuse.data.pictures import draw_bands
from undiffuse.interfaces import PartialRows


def given(rows, known):
    return PartialRows(rows.astype(np.float32), known)


@pytest.mark.parametrize("axes", ["NTC", "NCT", "NT"])
def test_sequences_have_bands_whatever_the_order_of_their_axes(axes):
    """The same picture for the same values."""
    rng, (m, n, length) = np.random.default_rng(0), (2, 20, 12)
    source = rng.normal(size=(40, length, 2)).cumsum(1)
    known = np.ones((m, length, 2), bool)
    known[:, 8:] = False
    drawn = rng.normal(size=(m, n, length, 2))

    def arranged(rows):
        rows = rows[..., :1] if axes == "NT" else rows
        rows = rows if axes != "NCT" else rows.swapaxes(-1, -2)
        return rows[..., 0] if axes == "NT" else rows

    form = load(arranged(source).astype(np.float32), axes=axes).form
    rows = arranged(drawn).astype(np.float32).reshape(m * n, *form.row_shape)
    picture = form.bands(given(arranged(source[:m]), arranged(known)), rows)
    shown = drawn[..., :1] if axes == "NT" else drawn
    past = np.where(known, source[:m], np.nan)[..., : shown.shape[-1]]
    wanted = draw_bands(
        past.astype(np.float32).swapaxes(1, 2), shown.astype(np.float32).swapaxes(2, 3)
    )
    assert np.array_equal(np.asarray(picture), np.asarray(wanted))
    other = form.bands(given(arranged(source[:m]), arranged(known)), 2 * rows)
    assert not np.array_equal(np.asarray(other), np.asarray(picture))


@pytest.mark.parametrize("shape", [(4,), (3, 8, 8)], ids=str)
def test_other_rows_have_none(shape):
    rows = np.random.default_rng(0).normal(size=(40, *shape)).astype(np.float32)
    form = load(rows).form
    assert form.bands(given(rows[:1], np.ones((1, *shape), bool)), rows[:20]) is None


def test_a_table_has_none():
    pandas = pytest.importorskip("pandas")
    form = load(pandas.DataFrame({"a": np.arange(40.0), "b": np.arange(40.0) ** 2})).form
    rows = np.zeros((20, 2))
    assert form.bands(given(rows[:1], np.ones((1, 2), bool)), rows) is None
