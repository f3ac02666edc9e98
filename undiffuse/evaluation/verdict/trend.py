"""How a loss goes on: what twice the training would bring, and whether the loss has risen since its best.

Training twice as long would lower the held-out loss by the gain g that a power law (Hestness et al. 2017) foretells:

    loss(s) = a + b phi_c(s / S),   phi_c(r) = (r^-c - 1) / c  (-log r for c = 0),   g = -b phi_c(2),   S the last step

For each exponent c in [0, 2], a and b are fitted to the looks of the last three quarters by least squares. c is
averaged over, each with the weight RSS^(-df/2) that the looks give it (a flat prior, and the usual one for the
noise); the error of g is that of b and the spread over c. Looks are at the same rows and the same noise, and few: a
prior that is worth NOISE_LOOKS of them says how much they scatter. While the learning rate falls, the loss falls
faster than it would at the same step of a longer run: there g is an upper estimate.

A rise is the mean of the last fifth of the looks less the lowest mean of as many earlier ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np
from scipy.special import stdtrit

FEWEST = 3  # looks: two parameters and one residual
WORTH = 0.1  # of the fall of the loss over the last three quarters of the run: a gain or rise below it does not matter
UNSEEN = (
    0.003  # of the loss itself: neither does one below this, however little the loss has fallen
)
OPEN = 0.3  # of that fall: a gain that may be larger, and may be none, is not known
NOISE, NOISE_LOOKS = (
    0.03,
    1,
)  # scatter of looks as a share of that fall, and how many looks that is worth
SURE = 2.0  # errors by which a gain must differ from none
CHANCE = 0.01  # that a curve which only scatters counts as risen
_EXPONENTS = np.linspace(0.0, 2.0, 21)


@final
@dataclass(frozen=True, kw_only=True)
class Trend:
    """Of the looks at `steps`: the gain by twice the training, and the rise since the step `best`, with their errors.

    `fall` is the scale of both: how far the loss has come down since a quarter of the run, or UNSEEN / WORTH of the
    loss itself if that is more. `rise_needed` is how many errors a rise must exceed, the best being chosen among many.
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
        """Whether the loss has been lower, by more than chance and by enough to matter."""
        return self.rise > max(self.rise_needed * self.rise_error, WORTH * self.fall)

    @property
    def improving(self) -> bool:
        """Whether twice the training is worth it."""
        return self.gain > max(SURE * self.gain_error, WORTH * self.fall)

    @property
    def perhaps_risen(self) -> bool:
        """Whether it seems to have been lower, which so few looks cannot make sure."""
        return not self.risen and self.rise > max(2 * self.rise_error, OPEN * self.fall)

    @property
    def open(self) -> bool:
        """Whether a gain or a rise that matters can neither be seen nor be excluded."""
        hidden = self.gain + SURE * self.gain_error > OPEN * self.fall or self.perhaps_risen
        return hidden and not (self.improving or self.risen)


def trend(looks: Sequence[Mapping[str, Any]]) -> Trend | None:
    """The trend of looks {"step", "loss"}; None for fewer than FEWEST with a finite loss.

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
    """Whether it is a number, and a finite one."""
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
    """Standard deviation of looks about a smooth curve, each against the line of its neighbours (Gasser et al. 1986),
    and its degrees of freedom.
    """
    share = (x[2:] - x[1:-1]) / (x[2:] - x[:-2])
    off = y[1:-1] - share * y[:-2] - (1 - share) * y[2:]
    squares = np.square(off) / (1 + share**2 + (1 - share) ** 2)
    late = squares[len(squares) // 3 :]  # early looks bend
    return math.sqrt(late.mean() + noise**2), 0.75 * len(late)  # neighbouring residuals share looks
