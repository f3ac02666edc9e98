"""Alarms with a promise: the rank of a score among the scores of held-out rows.

Let n held-out rows have scores s_1 ... s_n, none of them used in training, and let a new row have
score s. If it comes from where they come from, the n + 1 scores are exchangeable, its rank among
them is uniform but for ties, and

    p(s) = (k + 1)/(n + 1),   k = #{i: s_i <= s},        P(p <= r) <= r   for every rate r

(Vovk, Gammerman, Shafer 2005, section 2.2; Angelopoulos and Bates 2023, section 1.1). Counting ties
as below the new score makes p larger: never too many alarms. The smallest p is 1/(n + 1), so no
alarm is possible at a rate below it.

The promise is an average over held-out sets. With the one at hand, and scores without ties, an
alarm at rate r is a score among the l = floor(r (n + 1)) lowest, and the share of ordinary rows
that raise it is a draw from

    P(p(s) <= r | s_1 ... s_n) ~ Beta(l, n + 1 - l)

(Vovk 2012, section 2; Angelopoulos and Bates 2023, section 3.2), whose interval says what to
expect. A score that is not a number among the held-out ones counts as lowest, which keeps the
promise.

Windows of one recording are not exchangeable, recordings are: s_1 ... s_n are then the lowest score
of each held-out recording, and the promise is that of an alarm in any window of a new one.
"""

from __future__ import annotations

import math
from typing import final

import numpy as np

from undiffuse.errors import InputError

INTERVAL = 0.95


@final
class Calibration:
    """The scores of held-out rows (n,), which new scores are compared with.

    Higher scores are those of more ordinary rows.

    Args:
        scores: the scores.
        groups: (n,) the recording of each row; None: each row is one of its own.

    >>> calibration = Calibration(np.arange(99.0))
    >>> calibration.p_values(np.array([-1.0, 0.0, 50.0])).tolist()
    [0.01, 0.02, 0.52]
    >>> calibration.quantiles(np.array([49.0])).round(3).tolist()
    [0.505]
    >>> calibration.alarms(np.array([-1.0, 0.0]), rate=0.01).tolist()
    [True, False]
    """

    def __init__(self, scores: np.ndarray, groups: np.ndarray | None = None) -> None:
        if len(scores) == 0:
            raise InputError("calibration: there are no held-out rows to compare with; give some.")
        scores = np.where(np.isnan(scores), -np.inf, scores)
        self.scores, self.lowest_scores, self.what = np.sort(scores), np.sort(scores), "rows"
        if groups is not None:
            names, group = np.unique(groups, return_inverse=True)
            lowest = np.full(len(names), np.inf)
            np.minimum.at(lowest, group, scores)
            self.lowest_scores, self.what = np.sort(lowest), "recordings"

    def __len__(self) -> int:
        """Return the number of held-out rows."""
        return len(self.scores)

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """Return (k + 1)/(n + 1) of each score (m,), in (0, 1]; NaN for a score that is NaN."""
        return np.where(np.isnan(scores), np.nan, (self._below(scores) + 1) / (self._n + 1))

    def quantiles(self, scores: np.ndarray) -> np.ndarray:
        """Return the share k/n of held-out rows that score no higher than each of these (m,).

        NaN for NaN.
        """
        below = np.searchsorted(self.scores, scores, side="right")
        return np.where(np.isnan(scores), np.nan, below / len(self))

    def alarms(self, scores: np.ndarray, *, rate: float) -> np.ndarray:
        """Return whether p <= rate, (m,) bool. Raises InputError as `lowest` does."""
        return ~np.isnan(scores) & (self._below(scores) < self.lowest(rate))

    def lowest(self, rate: float) -> int:
        """Return floor(r (n + 1)), the number of lowest scores that are alarms.

        Raises:
            InputError: for a rate outside of (0, 1), or too small for n held-out ones.
        """
        if not 0 < rate < 1:
            raise InputError(
                f"alarm {rate:g}: the rate of false alarms is a number between 0 and 1."
            )
        count = math.floor(rate * (self._n + 1) * (1 + 1e-12))  # 0.29 * 100 is 28.99999999999999
        if count < 1:
            needed = math.ceil((1 - 1e-12) / rate) - 1
            raise InputError(
                f"alarm {rate:g}: needs at least {needed:,} held-out {self.what}, and there are "
                f"{self._n:,}; give more of them or a larger rate."
            )
        return count

    def realized(self, rate: float) -> tuple[float, float]:
        """Return the interval of the share of ordinary rows that raise an alarm.

        It holds the share in 95 of 100 held-out sets.

        >>> low, high = Calibration(np.arange(999.0)).realized(0.01)
        >>> round(low, 4), round(high, 4)
        (0.0048, 0.017)
        """
        from scipy.special import betaincinv

        count = self.lowest(rate)
        tail = (1 - INTERVAL) / 2
        low, high = betaincinv(count, self._n + 1 - count, [tail, 1 - tail])
        return float(low), float(high)

    @property
    def _n(self) -> int:
        return len(self.lowest_scores)

    def _below(self, scores: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.lowest_scores, scores, side="right")
