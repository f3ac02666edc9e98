"""Drawn autocorrelations and spectra: closed forms, bands that hold what they say, charts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.signal import lfilter

from undiffuse.data import load
from undiffuse.evaluation.overlays import autocorrelation, frequencies, overlays, spectrum
from undiffuse.evaluation.references import refer
from undiffuse.evaluation.report import render
from undiffuse.evaluation.report.charts import overlay_charts

R = 0.8


def process(n, seed, length=24, r=R):
    """Rows (n, length) of x_i = r x_(i - 1) + sqrt(1 - r^2) z_i, from its own law on."""
    z = np.random.default_rng(seed).normal(size=(n, length + 100))
    return lfilter([math.sqrt(1 - r**2)], [1, -r], z)[:, 100:]


def series(rows):
    """The reference of series (N, T, C), with features that take no time to fit."""
    return refer(load(rows.astype(np.float32), axes="NTC"), features=lambda x: x.flatten(1))


@pytest.fixture(scope="module")
def reference():
    rows = np.stack([process(200, 0), 5 + 3 * process(200, 1, r=-0.5)], 2)
    return series(rows)


def test_the_autocorrelation_of_an_autoregressive_process_is_its_powers(reference):
    """Within its error, with values missing too; so is its spectrum what its formula says."""
    first, second = overlays(reference.held_out.rows, reference)
    for found, r in ((first, R), (second, -0.5)):
        curve = found["autocorrelation"]
        data, low, high = (np.array(curve[name]) for name in ("data", "low", "high"))
        assert curve["at"] == list(range(13))
        error = (high - low) / 2  # of 20 samples: at least that of the 200 rows
        assert (np.abs(data - r ** np.arange(13.0)) <= error).mean() > 0.9
        assert 0 < error[1:].max() < 0.5
    rows = process(4000, 2)
    rows[np.random.default_rng(0).random(rows.shape) < 0.3] = np.nan
    np.testing.assert_allclose(autocorrelation(rows), R ** np.arange(13.0), atol=0.03)
    rows, at = process(4000, 3, 256), frequencies(256)
    exact = 2 * (1 - R**2) / np.abs(1 - R * np.exp(-2j * np.pi * at)) ** 2
    np.testing.assert_allclose(spectrum(rows)[3:], exact[3:], rtol=0.1)


@pytest.mark.parametrize(("length", "rate"), [(100, 1.0), (1000, 8000.0)])
def test_the_spectrum_of_a_sine_is_at_its_frequency_and_holds_its_variance(length, rate):
    rng = np.random.default_rng(0)
    phase, wanted = rng.uniform(0, 2 * np.pi, (50, 1)), 0.21 * rate
    rows = 3 * np.sin(2 * np.pi * 0.21 * np.arange(length) + phase)
    at, found = frequencies(length, rate), spectrum(rows, rate)
    assert len(at) <= 128
    assert at[np.argmax(found)] == pytest.approx(wanted, abs=at[1] - at[0])
    assert found.sum() * (at[1] - at[0]) == pytest.approx(4.5, rel=0.03)


def test_samples_of_the_law_lie_in_the_band_as_often_as_it_says_and_others_do_not():
    inside, other = [], []
    for seed in range(12):
        rows, samples = process(60, seed)[:, :, None], process(40, 100 + seed)[:, :, None]
        reference = series(rows)
        for kept, drawn in ((inside, samples), (other, process(40, seed, r=0.2)[:, :, None])):
            (found,) = overlays(drawn, reference)
            for name in ("autocorrelation", "spectrum"):
                low, high, ours = (np.array(found[name][k]) for k in ("low", "high", "samples"))
                kept.append(((low <= ours) & (ours <= high))[1:].mean())
    assert np.mean(inside) == pytest.approx(0.95, abs=0.05)
    assert np.mean(other) < 0.7


def test_charts_draw_the_curves_where_the_numbers_are(reference):
    found = overlays(reference.held_out.rows, reference)
    made = overlay_charts(found)
    assert [chart.title for chart in made] == [
        "Autocorrelation, channel 0",
        "Spectrum, channel 0",
        "Autocorrelation, channel 1",
        "Spectrum, channel 1",
    ]
    data, samples = made[0].series
    curve = found[0]["autocorrelation"]
    ends = list(zip(curve["low"], curve["high"]))
    told = [(p.x, p.y, p.y_ends) for p in data.points]
    assert told == list(zip(curve["at"], curve["data"], ends, strict=True))
    assert [p.y for p in samples.points] == curve["samples"]
    band = [tuple(map(float, p.split(","))) for p in made[0].drawn(data)["band"].split()]
    assert len(band) == 2 * 13
    assert band[1] == pytest.approx(made[0].place(1.0, curve["low"][1]), abs=0.06)
    assert band[-2] == pytest.approx(made[0].place(1.0, curve["high"][1]), abs=0.06)
    page = render({"preset": "edm", "overlays": found}, {})
    assert page.count('<polygon class="band"') == 4
    assert "lag in steps" in page
    assert "cycles per step" in page


def test_rows_that_are_no_series_have_none_and_constant_channels_are_left_out(reference):
    vectors = np.random.default_rng(0).normal(size=(60, 5))
    assert overlays(vectors, refer(load(vectors))) == []
    rows = np.stack([process(60, 0), np.full((60, 24), 2.0)], 2)
    assert [found["channel"] for found in overlays(rows, series(rows))] == [0]
    assert overlays(reference.held_out.rows[:7], reference) == []
