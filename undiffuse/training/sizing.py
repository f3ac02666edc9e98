"""How wide a network is, in a run with a budget: as wide as the rows that it will see can train.

A pass forward and backward of each width is timed on this machine. With r the rows that the budget
pays for, D the numbers in a row and p the parameters, the widest network is taken that has

    r D / p >= NUMBERS

The rule and what it was fitted to stand in docs/measurements.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from undiffuse.interfaces import Stop, Trainable
from undiffuse.training.hearing import Stopped
from undiffuse.training.trial import Try

NUMBERS = 20.0  # of the data that a parameter is to see, at least
SHARE = 0.04  # of the budget that timing may take
STEP = 1.5  # a step over its pass: the optimizer, the average and the next rows take time too


@final
@dataclass(frozen=True)
class Sizing:
    """What was measured to choose a width.

    Attributes:
        width: the chosen one.
        widths: those that were timed, from the narrowest.
        rows: how many rows of each the budget pays for.
        numbers: how many numbers of the data a parameter of each would see.
    """

    width: int
    widths: tuple[int, ...]
    rows: tuple[int, ...]
    numbers: tuple[float, ...]

    @property
    def said(self) -> str:
        """What was chosen, and why, in a sentence."""
        rows = self.rows[self.widths.index(self.width)]
        rough = round(rows, 1 - len(str(rows)))
        return (
            f"network of width {self.width}, for some {rough:,} rows that it will see in its time"
        )


def choose_width(
    model: Trainable,
    trial: Try,
    *,
    budget: float,
    rows: int,
    numbers: int,
    precision: str,
    stop: Stop = lambda: False,
) -> Sizing | None:
    """Return the widest network that the budget can train; None if there is no choice or no time.

    Args:
        model: the model, whose network is left of the width that was timed last.
        trial: `trial(precision, rows)` times one pass on so many rows.
        budget: the run's, in seconds.
        rows: those of a batch.
        numbers: those in a row.
        precision: that of the run.
        stop: polled before each pass; true ends it without a choice.
    """
    found: list[tuple[int, int, float]] = []
    spent = 0.0
    for width in model.widths:
        model.take_width(width)
        passes: list[float] = []
        while len(passes) < 3:
            expected = passes[-1] if passes else 0.0
            if stop() or spent + expected > SHARE * budget:
                return None
            try:
                seconds, _ = trial(precision, rows)
            except Stopped:
                return None
            spent += seconds
            passes.append(seconds)
        pays = int(rows * budget / (STEP * sorted(passes)[1]))
        found.append((width, pays, round(pays * numbers / model.parameter_count, 3)))
        if found[-1][2] < NUMBERS:
            break
    if not found:
        return None
    enough = [width for width, _, numbers in found if numbers >= NUMBERS] or [found[0][0]]
    widths, seen, each = zip(*found)
    return Sizing(enough[-1], widths, seen, each)
