"""Changing the sampling rate: band-limited interpolation with a windowed sinc.

A recording x[n] at rate f becomes y[j] at rate g: the value at time j/g of the signal from which
everything above the lower of the two Nyquist frequencies is removed,

    y[j] = sum_n x[n] h(j f/g - n),    h(s) = c sinc(c s) w(c s / W),    c = rolloff min(1, g/f),

with a Kaiser window w over W zero crossings to each side. Only g/gcd(f, g) different sets of taps
occur: they are made once. W = 64 and beta = 7.86 put the stop band 80 dB down; the transition is 8
% of the Nyquist frequency wide, all of it below (Oppenheim and Schafer, Discrete-Time Signal
Processing, section 7.5.3).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn.functional import pad

ZERO_CROSSINGS = 64
BETA = 0.1102 * (80 - 8.7)
ROLLOFF = 0.96
BLOCK = 2**14  # outputs computed at a time


def resample(x: np.ndarray, rate: int, new_rate: int) -> np.ndarray:
    """Return samples at another rate; beyond its ends a recording is silent.

    Args:
        x: samples (n, C) float32.
        rate: their rate in Hz.
        new_rate: the wanted rate in Hz.

    Returns:
        Samples (ceil(n new_rate / rate), C) float32.

    >>> resample(np.ones((441, 1), np.float32), 44100, 16000).shape
    (160, 1)
    """
    if rate == new_rate:
        return x
    common = math.gcd(rate, new_rate)
    old, new = rate // common, new_rate // common
    taps = _taps(old, new)  # (new, K)
    reach = taps.shape[1] // 2
    padded = pad(torch.from_numpy(np.ascontiguousarray(x.T)), (reach, reach + 1))
    windows = padded.unfold(
        1, taps.shape[1], 1
    )  # (C, n', K), a view: window i begins at input i - reach
    y = torch.empty(x.shape[1], -(-len(x) * new // old))
    for start in range(0, y.shape[1], BLOCK):
        at = torch.arange(start, min(start + BLOCK, y.shape[1])) * old
        here = taps[at % new]
        for channel, out in zip(windows, y):
            out[start : start + BLOCK] = (channel[at // new + 1] * here).sum(1)
    return y.T.contiguous().numpy()


def _taps(old: int, new: int) -> torch.Tensor:
    """Return taps (new, K) for the inputs floor(s) - K/2 + 1 ... floor(s) + K/2, by new frac(s)."""
    cutoff = ROLLOFF * min(1.0, new / old)
    reach = math.ceil(ZERO_CROSSINGS / cutoff)
    s = np.arange(new)[:, None] / new - np.arange(1 - reach, reach + 1)[None, :]
    edge = 1 - (s * cutoff / ZERO_CROSSINGS) ** 2
    window = np.where(edge > 0, np.i0(BETA * np.sqrt(np.clip(edge, 0, None))) / np.i0(BETA), 0.0)
    taps = cutoff * np.sinc(cutoff * s) * window
    taps /= taps.sum(1, keepdims=True)  # a constant stays what it is
    return torch.from_numpy(taps.astype(np.float32))
