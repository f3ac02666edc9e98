"""What is wrong with one row, so that the others need not suffer for it."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """Why a row has no finite score: `nats` is minus infinity where it has no probability, NaN where nobody can tell.

    >>> Problem.unreadable().reason
    'could not be read'
    """

    nats: float
    reason: str

    @staticmethod
    def unreadable(reason: str = "") -> Problem:
        """Of a row that cannot be read."""
        return Problem(math.nan, "could not be read" + (f": {reason}" if reason else ""))

    @staticmethod
    def impossible(reason: str) -> Problem:
        """Of a row that the run's model gives no probability."""
        return Problem(-math.inf, reason)
