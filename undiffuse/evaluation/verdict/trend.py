"""The trend of a loss: what twice the training would gain, and whether it has risen since its best.

Training twice as long would lower the held-out loss by a gain g, by a power law (Hestness et al.
2017):

    loss(s) = a + b phi_c(s / S),  phi_c(r) = (r^-c - 1) / c  (-log r for c = 0),  g = -b phi_c(2),

with S the last step. For each exponent c in [0, 2], a and b are fitted to the evaluations of the
last three quarters by least squares. c is averaged over with the weight RSS^(-df/2) that the
evaluations give it (a flat prior, and the usual one for the noise); the error of g is that of b and
the spread over c. Evaluations use the same rows and the same noise, and are few: a prior worth
NOISE_LOOKS of them says how much they scatter. While the learning rate falls, the loss falls faster
than it would at the same step of a longer run: then g is an upper estimate.

A rise is the mean of the last fifth of the evaluations less the lowest mean of as many earlier
ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from scipy.special import stdtrit

FEWEST = 3  # evaluations: two parameters and one residual
WORTH = 0.1  # of the fall over the last three quarters of the run: a smaller gain does not matter
UNSEEN = 0.003  # of the loss itself: nor does a smaller one, however little the loss has fallen
OPEN = 0.3  # of that fall: a gain that may be larger, and may be none, is unknown
NOISE, NOISE_LOOKS = (
    0.03,
    1,
)  # scatter as a share of that fall, and how many evaluations that is worth
SURE = 2.0  # standard errors by which a gain must differ from none
CHANCE = 0.01  # probability that a curve which only scatters counts as risen
_EXPONENTS = np.linspace(0.0, 2.0, 21)


@final
@dataclass(frozen=True, kw_only=True)
class Trend:
    """The gain by twice the training, and the rise since the step `best`, with standard errors.

    `fall` is the scale of both: how far the loss has fallen since a quarter of the run, or
    UNSEEN / WORTH of the loss itself if that is more. `rise_needed` is how many errors a rise must
    exceed, the best being chosen among many.
    """

    steps: tuple[int, ...]
    losses: tuple[float, ...]
    fall: float
    gain: float
    gain_error: float
    rise: float
    rise_error: float
    rise_needed: float
    best: int

    @property
    def risen(self) -> bool:
        """Whether the loss was lower before, by more than chance and by enough to matter."""
        return self.rise > max(self.rise_needed * self.rise_error, WORTH * self.fall)

    @property
    def improving(self) -> bool:
        """Whether twice the training would gain enough to matter."""
        return self.gain > max(SURE * self.gain_error, WORTH * self.fall)

    @property
    def perhaps_risen(self) -> bool:
        """Whether the loss seems to have been lower, with too few evaluations to be sure."""
        return not self.risen and self.rise > max(2 * self.rise_error, OPEN * self.fall)

    @property
    def open(self) -> bool:
        """Whether a gain or a rise that matters can neither be seen nor be ruled out."""
        hidden = self.gain + SURE * self.gain_error > OPEN * self.fall or self.perhaps_risen
        return hidden and not (self.improving or self.risen)


def trend(looks: Sequence[Mapping[str, Any]]) -> Trend | None:
    """Return the trend of evaluations {"step", "loss"}; None with fewer than FEWEST finite losses.

    >>> slow = trend([{"step": s, "loss": 1 + 2 * s**-0.5} for s in range(100, 1700, 100)])
    >>> round(slow.gain, 3), round(2 * 1600**-0.5 - 2 * 3200**-0.5, 3)
    (0.015, 0.015)
    """
    by_step = {
        int(look["step"]): float(look["loss"])
        for look in looks
        if look["step"] and finite(look.get("loss"))
    }
    if len(by_step) < FEWEST:
        return None
    steps = np.array(sorted(by_step))
    losses = np.array([by_step[step] for step in steps.tolist()])
    late = max(int((steps >= steps[-1] / 4).sum()), FEWEST)
    fall = max(losses[-late] - losses[-late:].min(), UNSEEN / WORTH * abs(losses[-1]), 1e-300)
    gain, gain_error = _gain(steps[-late:] / steps[-1], losses[-late:], NOISE * fall)
    size = max(1, len(steps) // 5)
    windows = np.convolve(losses, np.ones(size) / size, "valid")
    earlier = windows[:-size]
    lowest = int(earlier.argmin())
    scatter, df = _scatter(np.log(steps), losses, NOISE * fall)
    return Trend(
        steps=tuple(steps.tolist()),
        losses=tuple(losses.tolist()),
        fall=float(fall),
        gain=gain,
        gain_error=gain_error,
        rise=float(windows[-1] - earlier[lowest]),
        rise_error=scatter * math.sqrt(2 / size),
        rise_needed=float(stdtrit(df, 1 - CHANCE / len(earlier))),
        best=int(steps[lowest + size // 2]),
    )


def finite(value: Any) -> bool:
    """Return whether a value is a finite number."""
    return isinstance(value, int | float) and math.isfinite(value)


def _gain(r: np.ndarray, y: np.ndarray, noise: float) -> tuple[float, float]:
    """(g, its error), for losses y at r = s/S."""
    df = len(r) - 2 + NOISE_LOOKS
    gains, variances, weights = [], [], []
    for c in _EXPONENTS:
        phi = (r**-c - 1) / c if c else -np.log(r)
        twice = (2**-c - 1) / c if c else -math.log(2)
        centred = phi - phi.mean()
        b = centred @ y / (centred @ centred)
        rss = np.square(y - y.mean() - b * centred).sum() + NOISE_LOOKS * noise**2
        gains.append(-b * twice)
        variances.append(twice**2 * rss / df / (centred @ centred))
        weights.append(-df / 2 * math.log(rss))
    weight = np.exp(np.array(weights) - max(weights))
    weight /= weight.sum()
    gain = float(weight @ gains)
    spread = weight @ (
        np.array(variances) * df / max(df - 2, 1) + np.square(np.array(gains) - gain)
    )
    return gain, float(math.sqrt(spread))


def _scatter(x: np.ndarray, y: np.ndarray, noise: float) -> tuple[float, float]:
    """Standard deviation about a smooth curve, and its degrees of freedom.

    Each evaluation is compared with the line of its neighbours (Gasser et al. 1986).
    """
    share = (x[2:] - x[1:-1]) / (x[2:] - x[:-2])
    off = y[1:-1] - share * y[:-2] - (1 - share) * y[2:]
    squares = np.square(off) / (1 + share**2 + (1 - share) ** 2)
    late = squares[len(squares) // 3 :]  # early looks bend
    return math.sqrt(late.mean() + noise**2), 0.75 * len(late)  # neighbouring residuals share looks
