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
