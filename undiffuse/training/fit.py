"""`fit`: the one training loop. It trains every family and knows none of them.

    fit -> model.losses -> denoiser -> network, and no call goes back up

It prints nothing and installs no signal handlers: it polls `stop()` once a step and reports events.
A run is a function of its options, its data and its model: randomness is keyed by the step
(`randomness.py`), batches depend on the step alone, and the rest is in the checkpoint. So a run
that is interrupted and resumed ends in the same weights, bit for bit, as one that was not (with a
number of steps, on the same number of threads of a CPU).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor

from undiffuse import __version__
from undiffuse.called import called
from undiffuse.device import find_device
from undiffuse.duration import format_duration
from undiffuse.errors import InputError
from undiffuse.interfaces import Listener, Source, Stop, Trainable
from undiffuse.notebook import event_bar
from undiffuse.options import TrainingOptions
from undiffuse.parts import as_json
from undiffuse.training.checkpoint import (
    LOG,
    SAMPLES,
    Record,
    RunFolder,
    check_same,
    config_of,
    difference,
)
from undiffuse.training.clock import SOON, Clock
from undiffuse.training.hearing import Stopped
from undiffuse.training.loading import Loader, RowsPart
from undiffuse.training.log import Log
from undiffuse.training.loggers import Logger, Relay, find_loggers
from undiffuse.training.look import Look
from undiffuse.training.randomness import PREPARE, Randomness
from undiffuse.training.ranks import Ranks, joined
from undiffuse.training.schedule import (
    LOOK_SHARE,
    checkpoint_due,
    evaluation_due,
    is_checkpoint,
    is_quarter,
)
from undiffuse.training.settle import merge, settle
from undiffuse.training.shards import decide
from undiffuse.training.state import TrainingState, initialize
from undiffuse.training.step import Autocast, autocast, train_step

PATIENCE = 10  # steps in a row without a finite loss before a run is given up
UNTUNED = "not tuned: the budget leaves too little time to compare samplers; undiffuse tune does it"


@final
@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
        step: the steps taken in total.
        elapsed: the seconds spent in total.
        held_out: the last diagnostics on held-out rows.
        stopped: whether `stop` ended it before its time.
        out: the run directory.
    """

    step: int
    elapsed: float
    held_out: dict[str, Any] | None
    stopped: bool
    out: Path | None


@called
def fit(
    model: Trainable,
    data: Any,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    overwrite: bool = False,
    init: str | Path | None = None,
    stop: Stop = lambda: False,
    on_event: Listener | None = None,
    loggers: Iterable[str | Logger | Listener] = (),
    timeout: str | float | None = None,
    **options: Any,
) -> Result:
    """Train `model` on `data`; afterwards it holds the averaged weights, ready to sample.

    Args:
        model: the model; it is sized to the data if it is not yet.
        data: anything `undiffuse.load` takes.
        out: the run directory to write (see `checkpoint.py`); without it, nothing is written.
        resume: continue the run in `out` with the options that it recorded; options given here take
            precedence. A finished run is extended by more steps or a longer budget, with a new
            warm-up of the learning rate.
        overwrite: replace the run in `out`, which is kept until the new one has a checkpoint.
        init: a run whose averaged weights to start from, or hf://OWNER/NAME; config.json says
            which.
        stop: polled once a step, of training and of a preview; True saves and returns.
        on_event: called with every event (see `log.py`).
        loggers: dashboards that get them too (see `loggers.py`): names ("tensorboard", "wandb",
            "mlflow"), loggers, or functions of an event.
        timeout: of several processes: how long one waits for another, e.g. "90s"; None: 30 minutes.
        options: fields of `undiffuse.options.TrainingOptions`: steps or budget (10 minutes by
            default), batch, lr, precision, device and more.

    Returns:
        How it ended: step, elapsed (s), held_out, stopped and out, the run's folder.

    Raises:
        InputError: options that are not possible, a place that cannot be written, a run that does
            not fit the model or the data, or ten steps in a row without a finite loss (the last
            checkpoint is kept).
    """
    if (resume or overwrite) and out is None:
        raise InputError("resume and overwrite: which run? Give its folder as out.")
    if resume and init is not None:
        raise InputError(
            f"init {init}: a run that is resumed has its own weights; leave one of the two out."
        )
    taken = find_loggers(loggers)  # refused before anything is done
    started = time.perf_counter()
    with ExitStack() as leaving:
        ranks = leaving.enter_context(joined(timeout))
        on_event = (on_event or event_bar()) if ranks.first else None
        taken = taken if ranks.first else []
        folder = _claimed(out, resume, overwrite, ranks, leaving)
        recorded = ranks.lead(folder.recorded if folder else None)
        chosen = merge(options, recorded and recorded.get("training", {}))
        device = ranks.device(find_device(chosen.device))
        randomness = Randomness(device, chosen.seed)
        leaving.enter_context(randomness.put_back())
        randomness.at(PREPARE)
        wide = init is None and recorded is None
        source = ranks.together(lambda: _prepared(model, data, init, device))
        chosen, sizing = settle(
            model, source, chosen, device, randomness, leaving, stop, wide=wide, ranks=ranks
        )
        state = _begun(model, chosen, device, ranks)
        # A checkpoint holds four numbers a parameter, the weights a fifth.
        size = 20.0 * model.parameter_count if folder else 0.0
        clock = Clock(chosen, started, size=size, conclusion=model.conclusion, tuning=model.tuning)
        model.record = Record(asdict(chosen), sizing and asdict(sizing), [])
        if recorded is not None:
            model.origin = recorded.get("origin")
        config = config_of(model, source.config(), model.record) if out is not None else {}
        ranks.together(lambda: check_same(recorded, config, str(out)) if recorded else None)
        if ranks.size > 1:
            _check_alike(ranks, config or {"data": source.config(), "training": asdict(chosen)})
        if recorded is not None or ranks.size > 1:
            _restore(folder, state, clock, chosen, ranks)
        leaving.enter_context(state.ended())
        ranks.together(
            lambda: leaving.enter_context(folder.training(config) if folder else nullcontext())
        )
        on_event = _relayed(taken, on_event, folder, model, source, chosen, leaving)
        shared = {"every": chosen.log_every, "resumed_at": state.step, "kept": model.record.log}
        log = Log(folder and folder.path / LOG, on_event, **shared)
        leaving.enter_context(closing(log))
        cast = autocast(device, chosen.precision)
        look = Look(
            state,
            source,
            device=device,
            randomness=randomness,
            cast=cast,
            samples=chosen.samples if folder else 0,
            allowance=LOOK_SHARE * clock.budget if clock.budget else None,
            stop=stop,
            ranks=ranks,
        )
        if sizing is not None:
            log("sized", state.step, said=sizing.said)
        loop = _Loop(
            source, chosen, device, randomness, cast, state, clock, look, folder, log, ranks
        )
        return loop.run(stop)


def _claimed(
    out: str | Path | None, resume: bool, overwrite: bool, ranks: Ranks, leaving: ExitStack
) -> RunFolder | None:
    """The folder to train into, locked until leaving; None without one, and for who follows."""

    def claim() -> RunFolder | None:
        if out is None or not ranks.first:
            return None
        folder = RunFolder.claim(out, resume=resume, overwrite=overwrite)
        leaving.enter_context(folder.locked())
        return folder

    return ranks.together(claim)


def _check_alike(ranks: Ranks, config: Mapping[str, Any]) -> None:
    """Raise InputError on all ranks if one has other data, options or versions than the first."""
    versions = {"undiffuse": __version__, "torch": torch.__version__}
    trees = ranks.gathered(as_json({**config, "versions": versions}))
    for rank, tree in enumerate(trees):
        if said := difference(trees[0], tree, ""):
            raise InputError(
                f"process {rank} of {ranks.size} is not like process 0: {said}; give all of them "
                "the same data, options and versions."
            )


def _prepared(model: Trainable, data: Any, init: str | Path | None, device: torch.device) -> Source:
    """Size the model to the data, give it the weights to start from, and move it to the device."""
    source = model.meet(data)
    if init is not None:
        start = RunFolder.find(init)
        start.config()  # what is not a run, or of another format, is refused
        initialize(model, start.weights(), start.given)
        model.origin = start.origin()
    model.take_tuned(None)  # which was of the weights before
    model.to(device)
    if device.type == "cuda":  # convolutions in bfloat16 are fastest with channels last there
        model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    model.train()
    return source


def _begun(
    model: Trainable, options: TrainingOptions, device: torch.device, ranks: Ranks
) -> TrainingState:
    """The state before the first step: on all ranks with the weights of rank 0, whole or shared."""
    if ranks.size > 1:
        model.load_state_dict(ranks.lead_tensors(model.state_dict()))
    sharded = decide(options.parallel, model.parameter_count, device, ranks)
    return TrainingState(model, options, sharded=sharded)


def _relayed(
    loggers: list[Logger | Listener],
    listener: Listener | None,
    folder: RunFolder | None,
    model: Trainable,
    source: Source,
    options: TrainingOptions,
    leaving: ExitStack,
) -> Listener | None:
    """A listener that hands events on to loggers, which are closed on leaving."""
    if not loggers:
        return listener
    about: dict[str, Any] = {"preset": model.preset, "parameters": model.parameter_count}
    about |= {"data": source.config().get("name"), **asdict(options)}
    about |= {"undiffuse": __version__, "torch": torch.__version__}
    place = folder and folder.path
    relay = Relay(loggers, listener, folder=place, config=about, every=options.log_every)
    leaving.callback(relay.close)
    return relay


def _restore(
    folder: RunFolder | None,
    state: TrainingState,
    clock: Clock,
    options: TrainingOptions,
    ranks: Ranks,
) -> None:
    """Go back to the newest checkpoint, if there is one.

    Raises InputError if the run has had all the steps, or finished within the time, asked for.
    """
    given = ranks.lead(folder.given if folder else "")
    counters = ranks.lead(
        ranks.together(lambda: folder.counters() if folder and folder.recorded else None)
    )
    if counters is None:
        ranks.together(lambda: _check_begun(folder))
        return
    step, elapsed = counters["step"], counters["elapsed"]
    had = more = ""
    timed = clock.budget is not None and counters["finished"]
    if options.steps is not None and step >= options.steps and counters["finished"]:
        had, more = f"{step} steps", f"--steps {2 * max(step, 1)}"
    elif timed and max(elapsed, counters["budget"] or 0.0) >= (clock.budget or 0.0):
        had, more = format_duration(elapsed), f"--budget {format_duration(2 * elapsed)}"
    if had:
        raise InputError(
            f"{given}: has already had {had}; give more, such as {more}, to extend it."
        )
    clock.restore(counters)
    tensors = ranks.lead_tensors(ranks.together(lambda: folder.tensors() if folder else None))
    state.restore(tensors, counters, given)


def _check_begun(folder: RunFolder | None) -> None:
    """Raise InputError for a run without a checkpoint that had other weights to begin with."""
    if folder and folder.recorded and (origin := folder.recorded.get("origin")):
        raise InputError(
            f"{folder.given}: was begun with the weights of {origin['from']} and has no checkpoint "
            "yet; begin it again as at first, with --overwrite."
        )


def _taken(loader: Loader) -> tuple[list[RowsPart], InputError | None]:
    """The rows of the next step, or why they cannot be read: on one rank, that ends all."""
    try:
        return loader.take(), None
    except InputError as problem:
        return [], problem


@final
@dataclass(frozen=True)
class _Loop:
    """What the loop works on."""

    data: Source
    options: TrainingOptions
    device: torch.device
    randomness: Randomness
    cast: Autocast
    state: TrainingState
    clock: Clock
    look: Look
    folder: RunFolder | None
    log: Log
    ranks: Ranks

    def run(self, stop: Stop) -> Result:
        """Train until the end, or until `stop` says so."""
        state, clock, options, log = self.state, self.clock, self.options, self.log
        ranks = self.ranks
        out = self.folder.path if self.folder else None
        names = ("steps", "budget", "batch", "precision", "device")
        log(
            "start",
            state.step,
            **{name: getattr(options, name) for name in names},
            parameters=state.model.parameter_count,
            out=str(out) if out else None,
            resumed_at=state.step if clock.before else None,
            **({"processes": ranks.size, "parallel": state.parallel} if ranks.size > 1 else {}),
        )
        stopped = self._conclude(self._train(stop), stop)
        if ranks.size > 1:  # what rank 0 has chosen
            state.model.load_state_dict(ranks.lead_tensors(state.model.state_dict()))
            state.model.take_tuned(ranks.lead(state.model.tuned_tree))
        reason = "stopped" if stopped else "done"
        elapsed = clock.elapsed()
        log("end", state.step, elapsed=elapsed, reason=reason, out=str(out) if out else None)
        return Result(state.step, elapsed, state.held_out, stopped, out)

    def _conclude(self, stopped: bool, stop: Stop) -> bool:
        """Evaluate, choose what depends on the last weights, and save; whether it was stopped."""
        ranks, state = self.ranks, self.state
        with state.averaged():
            if not stopped:
                self._evaluate()
            stopped = ranks.lead(
                ranks.together(lambda: ranks.first and self._choose(stopped, stop))
            )
            weights = self._weights()
        self._save(weights, finished=not stopped)
        if self.folder and (tree := state.model.tuned_tree) is not None:
            self.folder.keep_tuned(tree)
        return stopped

    def _choose(self, stopped: bool, stop: Stop) -> bool:
        """Choose what depends on the averaged weights; whether that, or the run, was stopped."""
        clock = self.clock
        if not stopped:
            stopped = clock.can_conclude() and not self.look.conclude(stop)
            return stopped or self._tune(stop)
        if 0 < clock.concluding() <= SOON:
            self.look.conclude(lambda: False)
        return True

    def _tune(self, stop: Stop) -> bool:
        """Choose how to sample, if there is time set aside for it; whether that was stopped."""
        seconds = self.clock.tuning()
        if self.clock.tunable:
            said = self.look.tune(seconds, stop) if seconds else UNTUNED
            self.log("tuned", self.state.step, said=said)
        return seconds > 0 and self.state.model.tuned_tree is None and stop()

    def _train(self, stop: Stop) -> bool:
        """Take the steps; whether they were stopped."""
        state, options, ranks = self.state, self.options, self.ranks
        assert options.batch is not None
        batches = self.data.batches(
            options.batch // ranks.size,
            seed=options.seed,
            start_step=state.step,
            rank=ranks.rank,
            world=ranks.size,
        )
        loader = Loader(
            batches,
            transform=self.data.transform,
            device=self.device,
            randomness=self.randomness,
            accumulate=options.accumulate,
            start_step=state.step,
            ranks=ranks,
        )
        with closing(loader):
            return self._steps(loader, stop)

    def _steps(self, loader: Loader, stop: Stop) -> bool:
        state, clock, options, ranks = self.state, self.clock, self.options, self.ranks
        while True:
            parts, problem = _taken(loader)
            before, stopped, failed = ranks.agree(
                clock.progress(state.step), stop(), problem is not None
            )
            if before >= 1.0 or stopped:
                return before < 1.0
            if failed:
                ranks.refuse(problem)
            lr = clock.lr(state.step, before)
            state.model.progress = state.trained.progress = before
            slow = not 0 < clock.pace < SOON / 4 and self.device.type == "cpu" and ranks.size == 1
            try:
                losses, taken = train_step(
                    state.trained,
                    state.learners,
                    parts,
                    step=state.step,
                    lr=lr,
                    transform=self.data.transform,
                    device=self.device,
                    randomness=self.randomness,
                    cast=self.cast,
                    stop=stop if slow and not options.compile else None,
                    ranks=ranks,
                )
            except Stopped:
                return True
            state.count(taken)
            clock.stepped()
            if self.log.wants(state.step):
                self._report(losses if taken else {}, lr)
            if state.in_a_row >= PATIENCE:
                raise self._given_up()
            after, late = ranks.agree(clock.progress(state.step), ranks.first and clock.late())
            if after >= 1.0:
                return False
            due = evaluation_due(state.step, before, after, every=options.evaluate_every)
            save = checkpoint_due(state.step, before, after, every=options.checkpoint_every) or late
            if due or save:
                loader.rest()
                self._look(due, options.evaluate_every is None and is_quarter(before, after), save)

    def _look(self, due: bool, sure: bool, save: bool) -> None:
        """Evaluate, if that is due and affordable, or sure; save likewise."""
        kept, clock = self._is_checkpoint(), self.clock
        evaluate, save = self.ranks.lead(
            [sure or (due and clock.can_evaluate()), kept or (save and clock.can_save())]
        )
        if not (evaluate or save):
            return
        began = time.perf_counter()
        with self.state.averaged():
            if evaluate:
                self._evaluate(time.perf_counter() - began)
            weights = self._weights() if save else {}
        if save:
            self._save(weights, finished=False, lasting=kept)

    def _is_checkpoint(self) -> bool:
        return is_checkpoint(self.state.step, every=self.options.checkpoint_every)

    def _weights(self) -> dict[str, Tensor]:
        """What a checkpoint is sampled with, inside `averaged`; for who writes."""
        return self.state.weights() if self.folder else {}

    def _report(self, losses: dict[str, float], lr: float) -> None:
        step, clock = self.state.step, self.clock
        self.log(
            "step",
            step,
            loss=next(iter(losses.values()), None),
            **({"losses": losses} if len(losses) > 1 else {}),
            rate=(self.options.batch or 0) / max(clock.pace, 1e-9),
            elapsed=clock.elapsed(),
            left=clock.left(step),
            lr=lr,
            skipped=self.state.skipped,
        )

    def _evaluate(self, gathering: float = 0.0) -> None:
        """Report held-out diagnostics, and save a preview if the run has a folder; once a step.

        It costs the seconds of `gathering` the weights besides.
        """
        step = self.state.step
        if self.state.evaluated_at == step:
            return
        self.state.evaluated_at = step
        self.ranks.together(lambda: self.folder.check_place() if self.folder else None)
        file = self.folder.path / SAMPLES / f"step-{step:06d}.png" if self.folder else None
        found, previewed = self.look(file)
        if found is not None:
            self.state.held_out = found
            self.log("held_out", step, **found)
        if previewed:
            self.log("samples", step, path=str(file))
        self.clock.evaluated(gathering + self.look.cost)

    def _save(self, weights: dict[str, Tensor], *, finished: bool, lasting: bool = True) -> None:
        """Write a checkpoint, if the run has a folder; a `lasting` one may be a snapshot, too."""
        start, ranks = time.perf_counter(), self.ranks
        if not ranks.lead(self.folder is not None):
            return
        tensors = self.state.tensors(kept=ranks.first)
        counters = {
            **self.state.counters(),
            **self.clock.counters(),
            "finished": finished,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
        }

        def write() -> None:
            if self.folder is not None:
                path = self.folder.save(counters, tensors, weights, lasting=lasting)
                self.log("checkpoint", self.state.step, path=str(path))
                self.clock.saved(time.perf_counter() - start)

        ranks.together(write)

    def _given_up(self) -> InputError:
        """The error for a run whose losses are no longer finite: what to try, and what is kept."""
        saved = self.folder.counters() if self.folder else None
        where = f"{self.folder.given}: " if self.folder else ""
        kept = f"; the checkpoint of step {saved['step']} is kept" if saved else ""
        precise = ", --precision float32" if self.options.precision != "float32" else ""
        return InputError(
            f"{where}stopped at step {self.state.step}: the loss or its gradient was not finite "
            f"{PATIENCE} times in a row; try a lower learning rate "
            f"(--training.lr {self.options.lr / 4:.2g}){precise}, "
            f"or look for extreme values in the data{kept}."
        )
