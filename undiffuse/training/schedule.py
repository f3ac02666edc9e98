"""The learning rate over a run, and when it is evaluated and saved, as functions of progress.

Progress p is in [0, 1]: steps taken over steps to take, or time spent over the budget, so that the
rate reaches zero exactly when the run ends, whichever was asked for. The rate relative to its peak:

    rate(p) = ramp * min(1, (1 - p) / decay)

a plateau and then a straight line to zero over the last `decay` of the run. A straight line to
zero is at least as good as a cosine for a given number of steps (Bergsma et al. 2025, "Straight to
Zero"; Defazio et al. 2023, "Optimal linear decay"), and a plateau before it lets a run be extended:
nothing done on the plateau depended on its length (Haegele et al. 2024, "Scaling laws and
compute-optimal training beyond fixed training durations").

The ramp rises linearly over the first `warmup` steps, or over the first 5 % of the run if that is
sooner.
"""

from __future__ import annotations

import math

EVALUATIONS = 16  # at equal distances over a run
FIRST_EVALUATION = 250  # and at this step and its doublings, so that a long run is seen early
EVALUATION_SHARE = 0.05  # of the time, at most, unless the interval was asked for
LOOK_SHARE = 0.01  # of a budget, at most, for one evaluation
CHECKPOINT = 500  # steps between checkpoints that are always written, unless others were asked for


def progress(step: int, elapsed: float, *, steps: int | None, budget: float | None) -> float:
    """Return the share of the run that is behind, in [0, 1].

    Args:
        step: the steps taken.
        elapsed: the seconds spent.
        steps: the steps to take; None for a run that ends with its budget.
        budget: the seconds to spend.
    """
    done = step / steps if steps is not None else elapsed / budget if budget else 1.0
    return min(max(done, 0.0), 1.0)


def rate(p: float, step: int, *, warmup: int, decay: float, started: float = 0.0) -> float:
    """Return the learning rate relative to its peak.

    Args:
        p: the progress.
        step: the steps taken since the ramp began.
        warmup: the steps of the ramp, at most.
        decay: the final share of the run in which the rate falls.
        started: the progress at which the ramp began: zero, unless a finished run is extended.

    >>> [round(rate(p, 1000, warmup=100, decay=0.5), 2) for p in (0.1, 0.5, 0.75, 1.0)]
    [1.0, 1.0, 0.5, 0.0]
    >>> rate(0.0, 0, warmup=100, decay=0.5)
    0.01
    """
    ramp = min(1.0, max((step + 1) / max(warmup, 1), (p - started) / 0.05))
    return ramp * min(1.0, (1.0 - p) / decay)


def evaluation_due(step: int, before: float, after: float, *, every: int | None) -> bool:
    """Whether an evaluation is due after step `step`, which took progress from `before` to `after`.

    With `every`, at its multiples; without, 16 times over the run, and at step 250 and its
    doublings.
    """
    if every is not None:
        return step % every == 0
    doublings = step // FIRST_EVALUATION
    early = step % FIRST_EVALUATION == 0 and doublings > 0 and doublings & (doublings - 1) == 0
    return early or math.floor(after * EVALUATIONS) > math.floor(before * EVALUATIONS)


def is_quarter(before: float, after: float) -> bool:
    """Whether a step passed a quarter of the run, where an evaluation is never left out.

    With the one at the end, each run is evaluated at least four times.
    """
    return math.floor(4 * after) > math.floor(4 * before)


def is_checkpoint(step: int, *, every: int | None) -> bool:
    """Whether the run is saved after step `step` whatever it costs: at multiples of `every`."""
    return step % (every or CHECKPOINT) == 0


def checkpoint_due(step: int, before: float, after: float, *, every: int | None) -> bool:
    """Whether a checkpoint is due after step `step`; see `evaluation_due`.

    With `every`, at its multiples; without, at those of 500, and where it is affordable as often as
    evaluations are: of a short run that is killed little is lost.
    """
    often = every is None and evaluation_due(step, before, after, every=None)
    return often or is_checkpoint(step, every=every)


def affordable(cost: float, since: float, *, every: int | None) -> bool:
    """Whether what takes `cost` seconds is at most 5 % of those `since` it was done before.

    An interval that was asked for is kept whatever it costs.
    """
    return every is not None or cost <= EVALUATION_SHARE * since
