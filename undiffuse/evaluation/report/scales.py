"""From numbers to places on a chart: linear and logarithmic scales, and ticks at round numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import final

PAD = 0.06  # of the scale, left free at an end that is not fixed


@final
@dataclass(frozen=True)
class Scale:
    """An axis from `low` to `high`, linear or logarithmic."""

    low: float
    high: float
    log: bool = False

    def at(self, value: float) -> float:
        """Return where a value lies: 0 at the low end, 1 at the high end.

        >>> Scale(0.0, 10.0).at(2.5), Scale(1.0, 100.0, log=True).at(10.0)
        (0.25, 0.5)
        """
        low, high, value = (math.log10(v) if self.log else v for v in (self.low, self.high, value))
        return (value - low) / (high - low)

    def percent(self, value: float) -> float:
        """Return where a value lies in per cent of the axis, values beyond an end at that end."""
        if self.log and value <= 0:
            return 0.0
        return 100 * min(max(self.at(float(value)), 0.0), 1.0)

    def ticks(self, most: int = 6) -> list[float]:
        """Return round numbers on the axis, about `most` of them or fewer.

        >>> Scale(0.0, 1.0).ticks(), Scale(0.02, 3.0, log=True).ticks()
        ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.1, 1.0])
        """
        return self._powers(most) if self.log else self._steps(most)

    def _steps(self, most: int) -> list[float]:
        rough = (self.high - self.low) / most
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * (1 - 1e-9))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(i * step, 12) for i in range(first, last + 1)]

    def _powers(self, most: int) -> list[float]:
        first, last = math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))
        low, high = self.low * (1 - 1e-9), self.high * (1 + 1e-9)
        for factors in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
            every = [f * 10.0**p for p in range(first, last + 1) for f in factors]
            inside = [tick for tick in every if low <= tick <= high]
            if len(inside) >= 2:
                return inside[:: -(-len(inside) // most)]
        return Scale(self.low, self.high)._steps(most)


def scale_for(
    values: Iterable[float],
    *,
    low: float | None = None,
    high: float | None = None,
    log: bool = False,
) -> Scale:
    """Return a scale that holds all values; a given end stays, unless a value lies beyond it.

    >>> scale_for([0.2, 0.7], low=0.0, high=1.0)
    Scale(low=0.0, high=1.0, log=False)
    """
    known = sorted(values) or [0.0, 1.0]
    least, most = known[0], known[-1]
    if log:
        wide = max((most / least) ** PAD, 1.05)
        return Scale(least / wide, most * wide, log=True)
    ends = [least, most, *(end for end in (low, high) if end is not None)]
    pad = PAD * ((max(ends) - min(ends)) or abs(most) or 1.0)
    return Scale(
        low if low is not None and low <= least else least - pad,
        high if high is not None and high >= most else most + pad,
    )


def spans_decades(values: Sequence[float], decades: float = 1.0) -> bool:
    """Return whether the values are positive and span at least so many powers of ten.

    >>> spans_decades([0.1, 2.0]), spans_decades([0.0, 2.0])
    (True, False)
    """
    return bool(values) and min(values) > 0 and math.log10(max(values) / min(values)) >= decades


def tick_text(value: float) -> str:
    """Return a number as it is written beside an axis, as short as possible.

    >>> [tick_text(v) for v in (0.0, 0.25, 2500.0, 20000.0, 1e-05)]
    ['0', '0.25', '2.5k', '20k', '1e−5']
    """
    for power, unit in ((9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 10**power:
            return tick_text(value / 10**power) + unit
    if value and abs(value) < 1e-4:
        mantissa, power = f"{value:.2e}".split("e")
        return f"{float(mantissa):g}e{int(power)}".replace("-", "−")
    return f"{value:.6f}".rstrip("0").rstrip(".").replace("-", "−")
