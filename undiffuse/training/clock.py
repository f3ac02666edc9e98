"""The clock of a run: the time spent on it, the share of it that is behind, and the learning rate.

A run with a budget counts the seconds of every sitting. Before its end it sets aside the time of
the last evaluation, of the last checkpoint, of what the model chooses at the end, and on average of
half a step, so that it ends in time.
"""

from __future__ import annotations

import time
from typing import Any, final

from undiffuse.options import TrainingOptions
from undiffuse.training import schedule

DISK = 200e6  # bytes a second, until a checkpoint has been timed
LATE = 600.0  # seconds after a checkpoint in which another is written
SOON = 2.0  # seconds that count as a moment
TUNING = 0.05  # of a budget, in which a sampler is chosen
LEAST_TUNING = 20.0  # seconds for that
EVALUATIONS = 3  # that a training step costs for each row: one forward, two backward


@final
class Clock:
    """Time in seconds. `started` is the `perf_counter` at which this sitting began.

    Attributes:
        before: the seconds of earlier sittings.
        pace: the seconds per step, smoothed.
        evaluating: the seconds of the latest evaluation.
        saving: the seconds of the latest checkpoint, an estimate before the first.
        ramp: the step and the elapsed time at which the latest warm-up began.
        conclusion: the steps that would take as long as what follows the last.
    """

    def __init__(
        self,
        options: TrainingOptions,
        started: float,
        *,
        size: float = 0.0,
        conclusion: int = 0,
        tuning: int = 0,
    ) -> None:
        """`size` is that of a checkpoint in bytes.

        `conclusion` evaluations of a row follow the last step, and at least `tuning` if a sampler
        is chosen.
        """
        a_step = EVALUATIONS * (options.batch or 1)
        self.conclusion, self._least = conclusion / a_step, tuning / a_step  # in steps
        self.tunable = tuning > 0 and options.budget is not None
        self.options, self.started = options, started
        self.budget = None if options.budget is None else float(options.budget)
        self.before = self.pace = self.evaluating = 0.0
        self.saving = size / DISK
        self.ramp = {"step": 0, "elapsed": 0.0}
        self._laps, self._latest = 0, time.perf_counter()
        self._evaluated = self._saved = started

    def elapsed(self) -> float:
        """Return the seconds spent on this run, in all sittings."""
        return self.before + time.perf_counter() - self.started

    def progress(self, step: int, elapsed: float | None = None) -> float:
        """Return the share of the run that is behind after `step` steps, in [0, 1]."""
        budget = self.budget
        if budget is not None:
            aside = self.evaluating + self.saving + 0.5 * self.pace + self.tuning()
            aside += self.concluding() if self.can_conclude() else 0.0
            budget = max(budget - aside, budget / 2)
        elapsed = self.elapsed() if elapsed is None else elapsed
        return schedule.progress(step, elapsed, steps=self.options.steps, budget=budget)

    def lr(self, step: int, progress: float) -> float:
        """Return the learning rate of the step that follows `step` steps."""
        options = self.options
        return options.lr * schedule.rate(
            progress,
            step - self.ramp["step"],
            warmup=options.warmup,
            decay=options.decay,
            started=self.progress(self.ramp["step"], self.ramp["elapsed"]),
        )

    def left(self, step: int) -> float:
        """Return the estimated seconds until the end."""
        if self.budget is not None:
            return max(self.budget - self.elapsed(), 0.0)
        return ((self.options.steps or 0) - step) * self.pace

    def concluding(self) -> float:
        """Return the estimated seconds of what the model chooses at the end, 0 if unknown."""
        return self.pace * self.conclusion

    def can_conclude(self) -> bool:
        """Whether that takes a moment or no more than half of the budget, if there is one.

        A run of so many steps always does: what it makes depends on no clock.
        """
        return self.budget is None or self.concluding() <= max(SOON, 0.5 * self.budget)

    def tuning(self) -> float:
        """Return the seconds in which a sampler is chosen at the end; 0: too few to do it."""
        seconds = TUNING * (self.budget or 0.0) if self.tunable else 0.0
        return seconds if seconds >= max(LEAST_TUNING, self._least * self.pace) else 0.0

    def stepped(self) -> None:
        """A step has ended."""
        now = time.perf_counter()
        seconds, self._latest = now - self._latest, now
        self._laps += 1
        self.pace += max(0.05, 1 / self._laps) * (seconds - self.pace)

    def evaluated(self, seconds: float) -> None:
        """An evaluation of so many seconds has ended."""
        self.evaluating = seconds
        self._latest = self._evaluated = time.perf_counter()

    def saved(self, seconds: float) -> None:
        """A checkpoint of so many seconds has been written."""
        self.saving = seconds
        self._latest = self._saved = time.perf_counter()

    def can_evaluate(self) -> bool:
        """Whether another evaluation keeps to its share of the time."""
        since = time.perf_counter() - self._evaluated
        return schedule.affordable(self.evaluating, since, every=self.options.evaluate_every)

    def late(self) -> bool:
        """Whether the latest checkpoint is so old that another is due, unless told how often."""
        old = time.perf_counter() - self._saved > LATE
        return old and self.options.checkpoint_every is None

    def can_save(self) -> bool:
        """Whether another checkpoint keeps to its share of the time."""
        since = time.perf_counter() - self._saved
        return schedule.affordable(self.saving, since, every=self.options.checkpoint_every)

    def counters(self) -> dict[str, Any]:
        """Return what a resumed run needs, as plain data."""
        return {
            "elapsed": self.elapsed(),
            "budget": self.budget,
            "evaluating": self.evaluating,
            "ramp": self.ramp,
        }

    def restore(self, counters: dict[str, Any]) -> None:
        """Go on from the counters of a checkpoint; after a finished run, with a new warm-up."""
        self.before, self.evaluating = counters["elapsed"], counters["evaluating"]
        finished = {"step": counters["step"], "elapsed": self.before}
        self.ramp = finished if counters["finished"] else counters["ramp"]
