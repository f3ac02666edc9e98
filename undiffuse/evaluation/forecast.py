"""Measure how well the last quarter of held-out series is forecast from the rest.

    crps            E|X - y| - E|X - X'|/2 of draws X, X' for the truth y (Gneiting and Raftery
                    2007, Eq. 21), unbiased; of a single forecast it is the absolute error
    covered_50, 90  how often y lies between the k-th and the (n + 1 - k)-th of n draws, which for
                    a right forecast is (n + 1 - 2 k)/(n + 1) of the time

For comparison, the crps of the last value, of the value a season before (whose length is best on
training rows), and of the Gaussian with the training rows' mean and shrunk covariance. Values are
in standard deviations of their channel; intervals are over rows.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Protocol, final, runtime_checkable

import numpy as np
import torch
from PIL import Image
from scipy.special import ndtr

from undiffuse.diffusion import EDM
from undiffuse.diffusion.linear import LinearDenoiser
from undiffuse.evaluation.metrics.figure import Figure, of_mean
from undiffuse.evaluation.references import Reference
from undiffuse.interfaces import PartialRows

DRAWS = 39  # completions of each row: 20 of the 40 places between them are half, 36 nine tenths
ROWS = 16
_INSIDE = {"covered_50": 10, "covered_90": 2}
_LONGEST = 4096  # values of a row of which there is time to draw so many
_LARGEST = 1024  # values of a row of which a covariance is measured


@runtime_checkable
class Completing(Protocol):
    """A model that completes rows."""

    completes: bool

    def sample_rows(
        self, n: int, *, given: Any = None, seed: int = 0, **options: Any
    ) -> np.ndarray:
        """Return `n` completions of each given row."""
        ...


@final
@dataclass(frozen=True)
class Forecast:
    """Figures by name, and the picture of the first rows' bands."""

    figures: dict[str, Figure]
    picture: Image.Image | None

    def facts(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        return {
            name: {**asdict(figure), "better": "floor" if name in _INSIDE else "lower"}
            for name, figure in self.figures.items()
        }


def forecast(
    model: Completing, reference: Reference, *, seed: int = 0, **options: Any
) -> Forecast | None:
    """Return how well the model forecasts held-out series.

    Args:
        model: completes rows.
        reference: its held-out rows are forecast, and its training rows make the other forecasts.
        seed: decides everything random.
        options: as for `GenerativeModel.sample_rows`.

    Returns:
        None for rows that are no series of 4 steps to 4,096 values, a model that completes none,
        and without training rows.
    """
    time, shape = reference.time, reference.transform.shape
    if not model.completes or reference.training is None or time is None:
        return None
    if shape[-1] < 4 or math.prod(shape) > _LONGEST:
        return None
    length = shape[-1]
    past = length - length // 4
    rows = reference.held_out.rows[: ROWS if math.prod(shape) <= _LARGEST else ROWS // 4]
    known = ~np.isnan(rows) if rows.dtype.kind == "f" else np.ones(rows.shape, bool)
    np.moveaxis(known, time, 1)[:, past:] = False
    given = PartialRows(np.where(known, rows, rows.dtype.type(0)), known)
    drawn = model.sample_rows(DRAWS, given=given, seed=seed, **options)
    picture = reference.form.bands(given, drawn)
    truth, training, draws = map(reference.series, (rows, reference.training.rows, drawn))
    scale = np.nanstd(training, axis=(0, 2), keepdims=True)
    scale[scale == 0] = 1.0
    truth, training, draws = truth / scale, training / scale, draws / scale
    draws = draws.reshape(len(rows), DRAWS, *draws.shape[1:])[..., past:]
    future = truth[..., past:]
    found = {"crps": crps(draws, future)}
    found |= {name: in_band(draws, future, k) for name, k in _INSIDE.items()}
    found["crps_of_last_value"] = np.abs(seasonal(truth, past, 1) - future)
    found["crps_of_season_before"] = np.abs(seasonal(truth, past, season(training, past)) - future)
    if math.prod(truth.shape[1:]) <= _LARGEST and not np.isnan(training).any():
        found["crps_of_gaussian"] = gaussian_crps(
            *conditional(truth, training, np.arange(length) < past), future
        )
    means = {name: np.nanmean(each, axis=(1, 2)) for name, each in found.items()}
    rates = {name: 1 - 2 * k / (DRAWS + 1) for name, k in _INSIDE.items()}
    figures = {
        name: of_mean(each[np.isfinite(each)], floor=rates.get(name))
        for name, each in means.items()
    }
    return Forecast(figures, picture)


def crps(draws: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the score (m, ...) of draws (m, n, ...) for the truth (m, ...), unbiased.

    >>> crps(np.array([[0.0, 2.0]]), np.array([1.0])).tolist()
    [0.0]
    """
    n = draws.shape[1]
    weights = (2 * np.arange(1, n + 1) - n - 1) / (n * (n - 1))
    apart = np.tensordot(np.sort(draws, axis=1), weights, (1, 0))
    return np.abs(draws - truth[:, None]).mean(1) - apart


def in_band(draws: np.ndarray, truth: np.ndarray, k: int) -> np.ndarray:
    """Return 1.0 where the truth lies between the k-th and the k-th last draw; NaN stays NaN."""
    ordered = np.sort(draws, axis=1)
    found = (ordered[:, k - 1] <= truth) & (truth <= ordered[:, -k])
    return np.where(np.isnan(truth), np.nan, found)


def seasonal(rows: np.ndarray, past: int, lag: int) -> np.ndarray:
    """Return the forecast (m, C, L - past) that repeats the last `lag` known values."""
    return rows[..., past - lag + np.arange(rows.shape[-1] - past) % lag]


def season(training: np.ndarray, past: int) -> int:
    """Return the lag whose repetition is closest to training rows, in the mean absolute error."""
    lags = range(1, past + 1)
    errors = [np.nanmean(np.abs(seasonal(training, past, k) - training[..., past:])) for k in lags]
    return 1 + int(np.nanargmin(errors))


def conditional(
    rows: np.ndarray, training: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and std (m, C, steps) at the steps not known (L,) bool given the others.

    The Gaussian has training rows' mean and shrunk covariance (see `LinearDenoiser.measured`).
    """
    law = LinearDenoiser.measured(EDM(), torch.from_numpy(training))
    basis = law.basis.numpy()
    d, rest = basis.shape[0], float(law.rest)
    cov = basis * (law.variance.numpy() - rest) @ basis.T + rest * np.eye(d)
    shape, known = (*rows.shape[:2], int((~known).sum())), np.tile(known, rows.shape[1])
    flat, mean = np.nan_to_num(rows.reshape(len(rows), d)), law.mean.numpy().ravel()
    gain = np.linalg.lstsq(cov[np.ix_(known, known)], cov[np.ix_(known, ~known)], rcond=None)[0]
    means = mean[~known] + (flat[:, known] - mean[known]) @ gain
    variance = np.diag(cov)[~known] - (cov[np.ix_(known, ~known)] * gain).sum(0)
    std = np.sqrt(np.maximum(variance, 1e-12))
    return means.reshape(shape), np.broadcast_to(std, means.shape).reshape(shape)


def gaussian_crps(mean: np.ndarray, std: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the score of N(mean, std^2) (Gneiting et al. 2005, Eq. 5)."""
    z = (truth - mean) / std
    density = np.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    return std * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / math.sqrt(math.pi))
