"""A run in progress: the model in training and everything that is counted, reported and saved along the way."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

from undiffuse.interfaces import Source
from undiffuse.models.base import GenerativeModel
from undiffuse.training import schedule
from undiffuse.training.checkpoint import averaged_weights, averages, resume_from, resume_tensors
from undiffuse.training.evaluate import Evaluator
from undiffuse.training.folder import LOG, SAMPLES, RunFolder
from undiffuse.training.learner import Learner
from undiffuse.training.log import Listener, Log
from undiffuse.training.options import Options
from undiffuse.training.randomness import Randomness
from undiffuse.training.record import config_of, given_up, refuse_if_done, same
from undiffuse.training.step import autocast

PATIENCE = 10  # steps in a row without a finite loss before a run is given up
DISK = 200e6  # bytes a second, until a checkpoint has been timed


class Run:
    """What the loop in `fit.py` reads like: progress, rate, count, look, save.

    With a folder whose run is resumed, everything is as it was at its newest checkpoint. `started` is the
    `perf_counter` at which this sitting began.
    """

    def __init__(
        self,
        model: GenerativeModel,
        data: Source,
        options: Options,
        folder: RunFolder | None,
        device: torch.device,
        randomness: Randomness,
        listener: Listener | None,
        started: float,
    ) -> None:
        self.model, self.data, self.options, self.folder = model, data, options, folder
        self.device, self.randomness, self.listener = device, randomness, listener
        self.out = folder.path if folder else None
        self.parameters = sum(parameter.numel() for parameter in model.parameters())
        self.config = config_of(model, data, options) if folder else {}
        self.learners = {name: Learner(player, options) for name, player in model.players().items()}
        self.cast = autocast(device, options.precision)
        self.evaluator = Evaluator(
            model,
            data,
            self.learners,
            device=device,
            randomness=randomness,
            cast=self.cast,
            samples=options.samples if folder else 0,
            allowance=schedule.LOOK_SHARE * options.budget if options.budget else None,
        )
        self.saving = (
            20 * self.parameters / DISK if folder else 0.0
        )  # seconds: weights, average, moments and average
        self.step = self.skipped = self.in_a_row = 0
        self.ramp = {"step": 0, "elapsed": 0.0}  # where the rate's latest warm-up began
        self.held_out: dict[str, Any] | None = None
        self.looked_at, self.last_look = -1, started
        self.started, self.before = started, 0.0
        self.latest, self.paces, self.pace = (
            time.perf_counter(),
            0,
            0.0,
        )  # seconds per step, smoothed
        if folder is not None and folder.config is not None:
            same(folder.config, self.config, folder.given)
            self._go_back(folder)

    # -- time ---------------------------------------------------------------------------------------------------

    def elapsed(self) -> float:
        """Seconds spent on this run, in all sittings."""
        return self.before + time.perf_counter() - self.started

    def progress(self) -> float:
        """How much of the run is behind, in [0, 1]."""
        return self._progress(self.step, self.elapsed())

    def _progress(self, step: int, elapsed: float) -> float:
        return schedule.progress(
            step, elapsed, steps=self.options.steps, budget=self._training_time()
        )

    def _training_time(self) -> float | None:
        """The budget less what the end takes: the last look, the last checkpoint, and on average half a step."""
        budget = self.options.budget
        return (
            max(budget - self.evaluator.cost - self.saving - self.pace / 2, budget / 2)
            if budget
            else None
        )

    def lr(self, progress: float) -> float:
        """The learning rate of the next step."""
        began = self._progress(self.ramp["step"], self.ramp["elapsed"])
        taken, options = self.step - self.ramp["step"], self.options
        return options.lr * schedule.rate(
            progress, taken, warmup=options.warmup, decay=options.decay, started=began
        )

    # -- counting and reporting ---------------------------------------------------------------------------------

    def count(self, losses: Mapping[str, float], taken: bool, lr: float) -> None:
        """Count a step and report it. Raises InputError at the tenth in a row that could not be taken."""
        self.step += 1
        self.skipped += not taken
        self.in_a_row = 0 if taken else self.in_a_row + 1
        now = time.perf_counter()
        seconds, self.latest = now - self.latest, now
        self.paces += 1
        self.pace += max(0.05, 1 / self.paces) * (seconds - self.pace)
        if self.log.wants(self.step):
            self._report(dict(losses) if taken else {}, lr)
        if self.in_a_row >= PATIENCE:
            raise given_up(self.folder, self.step, self.options, PATIENCE)

    def _report(self, losses: dict[str, float], lr: float) -> None:
        options, elapsed = self.options, self.elapsed()
        left = (
            options.budget - elapsed
            if options.budget
            else ((options.steps or 0) - self.step) * self.pace
        )
        self.log(
            "step",
            self.step,
            loss=next(iter(losses.values()), None),
            **({"losses": losses} if len(losses) > 1 else {}),
            rate=(options.batch or 0) / max(self.pace, 1e-9),
            elapsed=elapsed,
            left=max(left, 0.0),
            lr=lr,
            skipped=self.skipped,
        )

    def announce(self) -> None:
        """Say what is about to happen."""
        self.log(
            "start",
            self.step,
            **{
                name: getattr(self.options, name)
                for name in ("steps", "budget", "batch", "precision", "device")
            },
            parameters=self.parameters,
            out=str(self.out) if self.out else None,
            resumed_at=self.step if self.before else None,
        )

    def end(self, *, stopped: bool) -> None:
        """Say how it ended."""
        reason, out = "stopped" if stopped else "done", str(self.out) if self.out else None
        self.log("end", self.step, elapsed=self.elapsed(), reason=reason, out=out)

    # -- looking ------------------------------------------------------------------------------------------------

    def can_afford_to_look(self) -> bool:
        """Whether another evaluation keeps to its share of the time."""
        since = time.perf_counter() - self.last_look
        return schedule.affordable(self.evaluator.cost, since, every=self.options.evaluate_every)

    def look(self) -> None:
        """Held-out diagnostics, and a preview if the run has a folder; once a step."""
        if self.looked_at == self.step:
            return
        self.looked_at = self.step
        file = self.out / SAMPLES / f"step-{self.step:06d}.png" if self.out else None
        found, pictured = self.evaluator.look(file)
        if found is not None:
            self.held_out = found
            self.log("held_out", self.step, **found)
        if pictured:
            self.log("samples", self.step, path=str(file))
        self.latest = self.last_look = time.perf_counter()

    # -- saving -------------------------------------------------------------------------------------------------

    def save(self, *, finished: bool) -> None:
        """Write a checkpoint, if the run has a folder."""
        if self.folder is None:
            return
        start = time.perf_counter()
        state = {
            "step": self.step,
            "finished": finished,
            "elapsed": self.elapsed(),
            "budget": self.options.budget,
            "look": self.evaluator.cost,
            "skipped": self.skipped,
            "ramp": self.ramp,
            "counts": {
                name: x.average.count if x.average else 0 for name, x in self.learners.items()
            },
            "held_out": self.held_out,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }
        path = self.folder.save(
            state,
            resume_tensors(self.model, self.learners),
            averaged_weights(self.model, self.learners),
        )
        self.log("checkpoint", self.step, path=str(path))
        self.latest = time.perf_counter()
        self.saving = self.latest - start

    def _go_back(self, folder: RunFolder) -> None:
        """To the newest checkpoint; a run that has none begins at its beginning."""
        saved = folder.load()
        if saved is None:
            return
        state, tensors = saved
        self.step, self.skipped = state["step"], state["skipped"]
        self.before, self.held_out, self.ramp = state["elapsed"], state["held_out"], state["ramp"]
        self.evaluator.cost = state.get("look", 0.0)
        if state["finished"]:
            self.ramp = {"step": self.step, "elapsed": self.before}
        refuse_if_done(folder.given, state, self.options)
        resume_from(self.model, self.learners, tensors, state["counts"], folder.given)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Write config.json and open the log; on leaving, the model has its averaged weights, whatever happened."""
        try:
            if self.folder is not None:
                self.folder.begin(self.config)
            log = self.out / LOG if self.out else None
            self.log = Log(log, self.listener, every=self.options.log_every, resumed_at=self.step)
            try:
                self.announce()
                yield
            finally:
                self.log.close()
        except BaseException:
            if self.folder is not None:
                self.folder.give_up()
            raise
        finally:
            with torch.no_grad():
                for average in averages(self.learners):
                    average.exchange()
            self.model.eval()
