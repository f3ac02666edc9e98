"""Fewer samples and numbers of steps than a search for a sampler takes, for tests."""

from __future__ import annotations

import pytest

from undiffuse.models import tuning


def few_seeds(patch: pytest.MonkeyPatch, most: int) -> None:
    """Let a search compare 96 to `most` seeds at three numbers of steps."""
    values = {"LEAST_SEEDS": 96, "MOST_SEEDS": most, "SEEDS": most, "COUNTS": (6, 10, 14)}
    values |= {"NOISY_COUNTS": (18, 40), "PILOT": most // 2, "NOISE": 0.1}
    values |= {"_TRIALS": {6: 11, 10: 17}, "_FIRST": 10}
    for name, value in values.items():
        patch.setattr(tuning, name, value)
