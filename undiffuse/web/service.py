"""What the service is made of, made once: runs, trainings, jobs, models, uploads, sources."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from undiffuse.atomic import remove
from undiffuse.declared import written
from undiffuse.device import find_device
from undiffuse.duration import parse_duration
from undiffuse.errors import InputError
from undiffuse.run import Run
from undiffuse.shown import words_for
from undiffuse.web import limits
from undiffuse.web.allowed import allowed
from undiffuse.web.jobs import Jobs
from undiffuse.web.opened import Opened
from undiffuse.web.problems import Refusal
from undiffuse.web.runs import RunsFolder, is_name
from undiffuse.web.schemas import Length, TrainRequest
from undiffuse.web.scratch import Scratch
from undiffuse.web.sources import Sources
from undiffuse.web.trainings import HIDDEN, Trainings
from undiffuse.web.uploads import Uploads
from undiffuse.web.work import Work


@final
@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a folder of runs is served.

    Attributes:
        folder: the folder of runs.
        data: folders that runs can be trained on.
        trainings: how many train at a time.
        jobs: how many drawings, scorings and evaluations are worked on at a time.
        queue: how many more of each may wait.
        device: what is computed on.
        plugin: files of plug-ins, which trainings get too.
    """

    folder: Path
    data: Sequence[Path] = ()
    trainings: int = 1
    jobs: int = 1
    queue: int = 16
    device: str = "auto"
    plugin: Sequence[str] = ()


@final
class Service:
    """What answers requests; `close` ends all of it but the trainings."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        device = find_device(settings.device)
        self.scratch = Scratch()
        self.runs = RunsFolder(settings.folder)
        self.trainings = Trainings(
            settings.folder, at_once=settings.trainings, waiting=settings.queue
        )
        self.jobs = Jobs(
            self.scratch.folder("results"), workers=settings.jobs, waiting=settings.queue
        )
        self.uploads = Uploads(self.scratch.folder("uploads"))
        self.sources = Sources(settings.data, self.uploads)
        self.opened = Opened(self.runs, device)
        self.work = Work(self.opened, self.uploads)
        self._busy: set[str] = set()  # names that are begun, resumed or deleted this moment
        self._lock = threading.Lock()
        self.watchers = 0
        self.closing = False  # streams of events end

    def close(self) -> list[str]:
        """End all jobs; return the names of the trainings that go on."""
        self.jobs.close()
        going_on = self.trainings.close()
        self.scratch.close()
        return going_on

    def tidy(self) -> None:
        """Remove results and uploads that have been kept for as long as they are."""
        self.jobs.forget()
        self.uploads.forget()

    def is_closing(self) -> bool:
        """Whether the server ends."""
        return self.closing

    def check_watchers(self) -> None:
        """Raise Refusal (429) if as many streams of events are open as may."""
        if self.watchers >= limits.WATCHERS:
            text = f"events: {limits.WATCHERS} streams are open; close some."
            raise Refusal(429, text, {"retry-after": "5"})

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count a stream of events as long as it lasts."""
        self.watchers += 1
        try:
            yield
        finally:
            self.watchers -= 1

    # --- runs

    def cards(self) -> list[dict[str, Any]]:
        """Return a card of every run, those that wait and those that failed included."""
        names = {*self.runs.names(), *self.trainings.waiting(), *self.trainings.failures()}
        return [self.card(name) for name in sorted(names | set(self.trainings.alive()))]

    def card(self, name: str) -> dict[str, Any]:
        """Return the card of a run. Raises Refusal (404) if there is none."""
        if not is_name(name):
            raise Refusal(404, "run: there is none of this name.")
        waits, alive = name in self.trainings.waiting(), self.trainings.is_alive(name)
        failure = self.trainings.failures().get(name)
        try:
            card = self.runs.card(name)
        except Refusal:
            if not (waits or alive or failure):
                raise
            card = {"name": name, "state": "failed"}
        if alive:
            card |= {"state": "training", "stopping": self.trainings.is_stopping(name)}
        elif waits:
            card["state"] = "waiting"
        elif failure:
            card["problem"] = self.told(failure)
        return card

    def detail(self, name: str) -> dict[str, Any]:
        """Return all there is to say of a run."""
        card = self.card(name)
        if card["state"] in ("damaged", "failed") or not self.runs.has(name):
            return card
        try:
            run = self.runs.open(name)
            return {**card, **_detail(run), "samples": self.runs.samples(name),
                    "methods": self._methods(name)}  # fmt: skip
        except InputError as problem:
            return {**card, "problem": self.told(str(problem))}

    def _methods(self, name: str) -> list[str]:
        try:
            return list(self.opened.open(name)[1].methods)
        except InputError:
            return []

    def told(self, text: str) -> str:
        """Return a sentence without the places of the server's folders."""
        text = self.work.told(text)
        for name, root in self.sources.roots.items():
            text = text.replace(str(root), name)
        return re.sub(rf"{re.escape(HIDDEN)}/(data/[^/\s]+/|logs/)", "", text)

    # --- trainings

    def train(self, asked: TrainRequest) -> dict[str, Any]:
        """Let a run be trained, and return its card.

        Raises:
            Refusal: there is a run of this name (409), no such source (404), or the queue is full.
            InputError: for options that cannot be.
        """
        with self._alone(asked.name):
            return self._train(asked)

    def _train(self, asked: TrainRequest) -> dict[str, Any]:
        name = asked.name
        self._check_free(name)
        options = allowed(
            {**asked.options, "preset": asked.preset, "seed": asked.seed, **_length(asked)}
        )
        self.trainings.check_place()
        kind, source = asked.source.named
        place = self.trainings.hidden / "data" / name
        path = self.sources.path(kind, source)
        if kind == "upload":
            path = str(self.uploads.keep(source, place))
        try:
            self.trainings.start(name, [path, *self._shared()], options)
        except BaseException:
            shutil.rmtree(place, ignore_errors=True)
            raise
        return self.card(name)

    @contextmanager
    def _alone(self, name: str) -> Iterator[None]:
        """Begin, resume or delete a run. Raises Refusal (409) if another request does, too."""
        with self._lock:
            if name in self._busy:
                raise Refusal(409, f"{name}: is being begun or deleted by another request.")
            self._busy.add(name)
        try:
            yield
        finally:
            self._busy.discard(name)

    def _check_free(self, name: str) -> None:
        place = self.settings.folder / name
        taken = place.exists() or place.is_symlink()
        if taken or name in self.trainings.waiting() or self.trainings.is_alive(name):
            raise Refusal(409, f"{name}: there is a run of this name; choose another name.")

    def _shared(self) -> list[str]:
        words = ["--device", self.settings.device]
        return words + [word for file in self.settings.plugin
                        for word in ("--plugin", str(Path(file).absolute()))]  # fmt: skip

    def resume(self, name: str, asked: Length | None = None) -> dict[str, Any]:
        """Let a run be resumed, or extended to more steps or a longer budget in all.

        Raises:
            Refusal: there is none (404), it is being trained (409), or the queue is full (429).
            InputError: it is damaged, or finished and not extended.
        """
        with self._alone(name):
            run = self.runs.open(name)
            length = {} if asked is None else _length(asked)
            if asked is not None and not length:
                raise InputError("give a budget or steps: how long the training takes in all.")
            if asked is None and run.state["finished"]:
                raise Refusal(409, f"{name}: is finished; extend it.")
            if length:
                allowed(length)
                _check_longer(run, length)
            self.trainings.start(name, ["--resume", *self._shared()], length)
            return self.card(name)

    def stop(self, name: str) -> dict[str, Any] | None:
        """Stop a training, which saves first; None if it waited and is gone."""
        self.card(name)
        self.trainings.stop(name)
        try:
            return self.card(name)
        except Refusal:
            return None

    def delete(self, name: str) -> None:
        """Delete a run and what is kept of it.

        Raises:
            Refusal: there is none (404), it is being trained, or a job works on it (409).
        """
        with self._alone(name):
            card = self.card(name)
            if card["state"] in ("training", "waiting"):
                raise Refusal(409, f"{name}: is being trained; stop it first.")
            if self.jobs.working_on(name):
                raise Refusal(409, f"{name}: a job works on it; wait for it, or cancel it.")
            self.opened.forget(name)
            if self.runs.has(name):
                remove(self.runs.path(name))
            self.trainings.forget(name)


def _length(asked: Length) -> dict[str, Any]:
    """How long to train, as options."""
    if asked.steps is not None:
        return {"steps": asked.steps}
    return {} if asked.budget is None else {"budget": asked.budget}


def _check_longer(run: Run, length: Mapping[str, Any]) -> None:
    state, name = run.state, run.given
    if "steps" in length and length["steps"] <= state["step"]:
        raise InputError(
            f"steps {length['steps']:,}: {name} has taken {state['step']:,}; ask for more in all."
        )
    if "budget" in length and parse_duration(length["budget"]) <= state["elapsed"]:
        raise InputError(
            f"budget {length['budget']}: {name} was trained for {state['elapsed']:.0f} s; ask for "
            "more in all."
        )


def _detail(run: Run) -> dict[str, Any]:
    summary = run.summary()
    train, held_out = run.curves()
    latest = summary["held_out"] or {}
    warnings = [latest["warning"]] if latest.get("warning") else []
    notes = [str(event["said"]) for event in run.log if "said" in event]
    data = summary["data"]
    facts = [
        ("data", f"{data.get('name')} ({data.get('rows', 0):,} rows)"),
        ("model", f"{summary['preset'] or 'made in Python'}, {summary['parameters']:,} parameters"),
        ("skipped steps", str(summary["skipped"]) if summary["skipped"] else ""),
        ("student of", str(summary["teacher"] or "")),
        ("started from", str((summary["origin"] or {}).get("from") or "")),
        *((f"held-out {name.replace('_', ' ')}", words_for(value))
          for name, value in latest.items() if isinstance(value, int | float)),
    ]  # fmt: skip
    return {
        "facts": [(name, text) for name, text in facts if text],
        "sampler": _sampler(summary["sampler"]),
        "curves": {
            "train": [(one["step"], one["loss"]) for one in train if _is_number(one["loss"])],
            "held_out": [(one["step"], one["loss"]) for one in held_out
                         if _is_number(one["loss"])],
            "levels": _levels(latest),
        },
        "snapshots": run.snapshots,
        "warnings": warnings,
        "notes": notes[-20:],
        "options": {
            name: written(value) if isinstance(value, list | tuple) else value
            for name, value in summary["training"].items()
            if isinstance(value, str | int | float | bool | list | tuple)
        },
    }  # fmt: skip


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and abs(value) < float("inf")


def _levels(latest: Mapping[str, Any]) -> dict[str, list[float | None]] | None:
    """The loss at each noise level: the first curve among the diagnostics."""
    for value in latest.values():
        lists = list(value.values()) if isinstance(value, Mapping) else []
        if len(lists) == 2 and all(isinstance(one, list) for one in lists):
            x, y = ([v if _is_number(v) else None for v in one] for one in lists)
            if len(x) == len(y):
                return {"x": x, "y": y}
    return None


def _sampler(tree: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """How the run is sampled, and the errors that were measured."""
    if tree is None:
        return None
    curve = [
        {
            "method": one["method"],
            "steps": len(one["times"]) - 1,
            "error": one["error"],
            "chosen": number == tree["chosen"],
        }
        for number, one in enumerate(tree["candidates"])
    ]
    best = curve[tree["chosen"]] if 0 <= tree["chosen"] < len(curve) else {}
    guidance = (tree.get("guidance") or {}).get("scale")
    return {"method": best.get("method"), "steps": best.get("steps"), "guidance": guidance,
            "curve": curve}  # fmt: skip
