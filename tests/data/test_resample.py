"""Resampling: what both rates can hold is kept, what the new one cannot is gone."""

import math

import numpy as np
import pytest

from undiffuse.data.recordings.resample import resample

RATES = [(44100, 16000), (16000, 44100), (48000, 44100), (22050, 8000), (8000, 16000), (1001, 1000)]


def sine(frequency, rate, seconds=0.4, phase=0.3):
    return np.sin(2 * np.pi * frequency * np.arange(int(rate * seconds)) / rate + phase).astype(
        np.float32
    )[:, None]


@pytest.mark.parametrize(("old", "new"), RATES)
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_sine_below_both_nyquist_frequencies_is_reproduced(old, new, share):
    frequency = share * min(old, new) / 2
    seconds = 1.0 if old < 2000 else 0.2
    changed = resample(sine(frequency, old, seconds), old, new)
    expected = sine(frequency, new, 2 * seconds)[: len(changed)]
    middle = slice(len(changed) // 3, -len(changed) // 3)  # away from the silence beyond the ends
    assert len(changed) == math.ceil(int(old * seconds) * new / old)
    np.testing.assert_allclose(changed[middle], expected[middle], atol=1e-3)


@pytest.mark.parametrize(("old", "new"), [(old, new) for old, new in RATES if new < old * 0.95])
@pytest.mark.parametrize("share", [1.01, 1.3, 1.7])
def test_a_sine_above_the_new_nyquist_frequency_is_suppressed(old, new, share):
    frequency = share * new / 2
    if frequency > old / 2:
        pytest.skip("the old rate cannot hold this frequency")
    changed = resample(sine(frequency, old), old, new)
    middle = slice(len(changed) // 3, -len(changed) // 3)
    assert 20 * np.log10(np.abs(changed[middle]).max()) < -60


@pytest.mark.parametrize(("old", "new"), [(3, 2), (2, 3), (441, 160), (1, 2)])
def test_samples_are_sums_of_taps_of_the_windowed_sinc(old, new):
    """By the definition, one output at a time: 64 zero crossings, 80 dB, 0.96 of the band."""
    x = np.random.default_rng(0).normal(size=(700, 2)).astype(np.float32)
    found = resample(x, 100 * old, 100 * new)
    assert (found.dtype, found.shape) == (np.float32, (math.ceil(700 * new / old), 2))
    c, beta = 0.96 * min(1.0, new / old), 0.1102 * (80 - 8.7)
    for j in range(0, len(found), 17):
        s = j * old / new - np.arange(-2000, 2700)  # of silence and of samples
        inside = np.abs(c * s / 64) < 1
        window = np.i0(beta * np.sqrt(np.where(inside, 1 - (c * s / 64) ** 2, 0))) * inside
        taps = np.sinc(c * s) * window
        expected = (taps / taps.sum())[2000:2700] @ x
        np.testing.assert_allclose(found[j], expected, atol=1e-5)


def test_long_recordings_are_resampled_as_their_parts():
    """More outputs than are computed at a time; a constant stays what it is."""
    x = np.random.default_rng(0).normal(size=(40_000, 1)).astype(np.float32)
    whole = resample(x, 1000, 2000)
    part = resample(x[14_000:20_000], 1000, 2000)
    np.testing.assert_allclose(whole[28_400:39_600], part[400:11_600], atol=1e-5)
    flat = resample(np.ones((2000, 1), np.float32), 44100, 16000)[300:400]
    np.testing.assert_allclose(flat, 1, atol=1e-6)
    assert resample(x, 8000, 8000) is x
