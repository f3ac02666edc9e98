"""Autocorrelation and spectrum of series: of the data with a band, and of samples over it.

    autocorrelation   r_k = c_k/c_0, c_k the mean of (x_t - m) (x_(t+k) - m) over all pairs in all
                      rows, m the mean of the channel
    spectrum          the periodogram 2 |sum_t w_t x_t exp(-2 pi i f t)|^2/(rate sum_t w_t^2) with
                      Hann's window w, the mean over rows: the variance per unit of frequency

A row counts as one draw. From the spread v/n over halves of n rows (see `metrics.figure`) follows
the band in which m samples of the same law lie at each place in 95 of 100 cases: v (1/n + 1/m).
Values are in standard deviations of the channel in the data; a missing one is left out of the
autocorrelation, and the mean in the spectrum.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from undiffuse.evaluation.metrics.figure import HALVES, Z, spread
from undiffuse.evaluation.references import Reference
from undiffuse.seeds import mix

CHANNELS, PLACES = 3, 128  # channels shown; lags, and frequencies after averaging neighbours
_FEWEST, _LEAST_STEPS, _VALUES = 8, 4, 2**20  # rows, steps, values of one channel


def overlays(samples: np.ndarray, reference: Reference, *, seed: int = 0) -> list[dict[str, Any]]:
    """Return the curves of the first channels as plain data, none for rows that are no series.

    Args:
        samples: (n, ...) of the stored type.
        reference: the data, of which training and held-out rows are taken together.
        seed: decides the halves.

    Returns:
        For each channel {"channel", "autocorrelation", "spectrum"}, of which the latter two are
        {"at", "data", "low", "high", "samples"} of one length; "unit" says what "at" is in.
    """
    if reference.time is None or reference.transform.shape[-1] < _LEAST_STEPS:
        return []
    known = [side.rows for side in (reference.held_out, reference.training) if side is not None]
    most = max(_FEWEST, _VALUES // reference.transform.shape[-1])
    real, fake = (reference.series(x[:most]) for x in (np.concatenate(known), samples))
    if min(len(real), len(fake)) < _FEWEST:
        return []
    hertz = getattr(reference.form, "rate", None)  # recordings have one
    rate = float(hertz or 1)
    found = []
    for channel in range(min(CHANNELS, real.shape[1])):
        ours, theirs = fake[:, channel], real[:, channel]
        scale = np.nanstd(theirs)
        if not scale > 0:
            continue
        ours, theirs = ours / scale, theirs / scale
        curves = {
            "autocorrelation": (np.arange(_lags(ours)), _pairs, _correlation, "lag in steps"),
            "spectrum": (
                frequencies(ours.shape[1], rate),
                lambda rows: _periodogram(rows, rate),
                lambda parts: parts.mean(0),
                "frequency in Hz" if hertz else "cycles per step",
            ),
        }
        made = {
            name: {"at": at.tolist(), "unit": unit, **_compared(theirs, ours, of, join, seed)}
            for name, (at, of, join, unit) in curves.items()
        }
        found.append({"channel": channel, **made})
    return found


def autocorrelation(rows: np.ndarray) -> np.ndarray:
    """Return r_k of rows (n, L), NaN where missing, at the lags 0 to L/2, at most 127.

    >>> autocorrelation(np.array([[1.0, -1.0, 1.0, -1.0]])).tolist()
    [1.0, -1.0, 1.0]
    """
    return _correlation(_pairs(rows))


def spectrum(rows: np.ndarray, rate: float = 1.0) -> np.ndarray:
    """Return the spectrum of rows (n, L) at `frequencies(L, rate)`."""
    return _periodogram(rows, rate).mean(0)


def frequencies(length: int, rate: float = 1.0) -> np.ndarray:
    """Return the frequencies of the spectrum but 0, in units of `rate`: at most 128 means."""
    return _averaged(np.fft.rfftfreq(length, 1 / rate)[1:])


def _lags(rows: np.ndarray) -> int:
    return min(rows.shape[1] // 2 + 1, PLACES)


def _pairs(rows: np.ndarray) -> np.ndarray:
    """Sums over pairs in each row of products, and how many there are: (n, 2, lags)."""
    known = ~np.isnan(rows)
    offset = np.where(known, rows - np.nanmean(rows), 0.0)
    size, lags = 2 * rows.shape[1], _lags(rows)
    parts = [
        np.fft.irfft(np.abs(np.fft.rfft(x, size)) ** 2, size)[:, :lags]
        for x in (offset, known.astype(np.float64))
    ]
    return np.stack(parts, 1)


def _correlation(parts: np.ndarray) -> np.ndarray:
    products, counts = parts.sum(0)
    means = products / np.maximum(counts, 0.5)
    return means / means[0]


def _periodogram(rows: np.ndarray, rate: float) -> np.ndarray:
    rows = np.nan_to_num(rows - np.nanmean(rows))
    window = np.hanning(rows.shape[1] + 2)[1:-1]
    power = np.abs(np.fft.rfft(rows * window)[:, 1:]) ** 2
    return _averaged(2 * power / (rate * np.square(window).sum()))


def _averaged(values: np.ndarray) -> np.ndarray:
    """Means of neighbours along the last axis, so that at most 128 are left."""
    wide = math.ceil(values.shape[-1] / PLACES)
    starts = np.arange(0, values.shape[-1], wide)
    return np.add.reduceat(values, starts, -1) / np.diff([*starts, values.shape[-1]])


def _compared(
    real: np.ndarray,
    fake: np.ndarray,
    of: Callable[[np.ndarray], np.ndarray],
    join: Callable[[np.ndarray], np.ndarray],
    seed: int,
) -> dict[str, list[float]]:
    """The curve of both, and the ends of the band."""
    parts, n = of(real), len(real)
    halved = [
        join(parts[np.random.default_rng(mix(seed, i)).permutation(n)[: n // 2]])
        for i in range(HALVES)
    ]
    data = join(parts)
    error = np.array([spread(each, n) for each in np.transpose(halved).tolist()])
    wide = Z * error * math.sqrt(1 + n / len(fake))
    return {
        "data": data.tolist(),
        "low": (data - wide).tolist(),
        "high": (data + wide).tolist(),
        "samples": join(of(fake)).tolist(),
    }
