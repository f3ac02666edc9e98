"""Train several presets on the same data for the same time, and compare them by one reference.

    source --> train each preset for `budget` --> evaluate each --> comparison.html, comparison.json

Everything is kept as it is made (see `folder.py`), so an interrupted comparison resumes where it
was, and a preset that fails does not stop the others.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, final

from undiffuse import __version__
from undiffuse.atomic import remove
from undiffuse.called import called
from undiffuse.comparison.facts import comparison_facts
from undiffuse.comparison.folder import ComparisonFolder, Kept
from undiffuse.data import Data, load
from undiffuse.declared import checked, with_defaults, written
from undiffuse.device import find_device
from undiffuse.duration import parse_duration
from undiffuse.errors import InputError, unknown
from undiffuse.evaluation.evaluate import evaluate
from undiffuse.evaluation.references import Reference, refer
from undiffuse.interfaces import Progress, Stop
from undiffuse.models import PRESETS, GenerativeModel
from undiffuse.notebook import event_bar, progress_bar
from undiffuse.options import ComparisonOptions
from undiffuse.run import Run
from undiffuse.shown import card
from undiffuse.training import fit
from undiffuse.training.checkpoint import RunFolder

Tell = Callable[[Mapping[str, Any]], None]


@final
@dataclass(frozen=True)
class Comparison:
    """The results of a comparison.

    Attributes:
        facts: plain data, as in comparison.json.
        pictures: of samples, preset -> PNG.
        models: preset -> the trained model, of those that are done.
    """

    facts: dict[str, Any]
    pictures: dict[str, bytes]
    models: dict[str, GenerativeModel]

    def __repr__(self) -> str:
        """Return the presets and what became of each, in a line."""
        told = (f"{preset} {run['status']}" for preset, run in self.facts["runs"].items())
        return f"Comparison({self.facts['source']}: {', '.join(told)})"

    def _repr_html_(self) -> str:
        rows = [
            {name: value.get("value") if isinstance(value, Mapping) else value
             for name, value in row.items()}
            for row in self.facts["table"]
        ]  # fmt: skip
        return card(repr(self), {}, pictures=self.pictures, tables=[rows])

    def presets(self, status: str) -> list[str]:
        """Return the presets whose status is "done", "failed" or "waiting"."""
        return [preset for preset, run in self.facts["runs"].items() if run["status"] == status]


def _ignore(event: Mapping[str, Any]) -> None:
    pass


@called
def compare(
    source: Any,
    presets: Iterable[str] | None = None,
    *,
    out: str | Path | None = None,
    features: Any = None,
    reading: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    on_event: Tell | None = None,
    progress: Progress | None = None,
    stop: Stop = lambda: False,
    **options: Any,
) -> Comparison:
    """Train each preset on `source` for the same time, and compare samples of each.

    Models sample in their own way if that takes at most `evaluations` network evaluations a sample,
    and else as `GenerativeModel.within` says. The same call resumes what is in `out`: finished runs
    and reports with the same settings are kept, so another number of samples, or one more preset,
    costs only what it adds.

    Args:
        source: anything `undiffuse.load` takes.
        presets: the names of those to compare; None: as the command does.
        out: the folder to write to; None: nothing is written, and nothing can be resumed.
        features: what rows are compared by, as in `evaluate`.
        reading: how the source is read and split: arguments of `undiffuse.load` by name, such as
            {"axes": "NTC", "held_out": 0.2}.
        overwrite: replace a comparison in `out`, its runs included.
        on_event: called with the events of `fit`, and with {"event": "phase", "preset", "phase"
            ("training" or "evaluating"), "number", "total"}, {"event": "failed", "preset",
            "problem"} and {"event": "note", "note"}, of what is guessed or left out of the data.
        progress: called while data are read and samples are drawn and scored.
        stop: polled; when true, presets that are not done stay "waiting".
        options: the other fields of `options.ComparisonOptions`: budget, n, evaluations, rows,
            seed, batch, device.

    Returns:
        The comparison so far. A preset that fails has status "failed" and its problem.

    Raises:
        InputError: for an unknown preset or option, a source that cannot be read, a folder that
            holds something else, and a comparison of other data or with another budget or seed.
    """
    if presets is not None:
        options["presets"] = (presets,) if isinstance(presets, str) else tuple(presets)
    asked = with_defaults(ComparisonOptions, checked(ComparisonOptions, options))
    names = _known(asked.presets)
    on_event, progress = on_event or event_bar() or _ignore, progress or progress_bar()
    budget = parse_duration(asked.budget)
    find_device(asked.device)
    if out is None:
        with TemporaryDirectory() as place:
            own: dict[str, Any] = {"on_event": on_event, "progress": progress, "stop": stop}
            own |= {"features": features, "reading": reading, **options}
            return compare(source, out=Path(place) / "c", **own)
    folder = ComparisonFolder(out, overwrite=overwrite)
    how = dict(reading or {})
    data = load(source, seed=asked.seed, progress=progress, **how)
    runs = {
        name: {"folder": f"runs/{name}", "status": "waiting", "problem": "", "report": None}
        for name in names
    }
    for note in data.describe()["notes"]:
        on_event({"event": "note", "note": note})
    job = _Job(folder, data, features, asked, budget, on_event, progress, stop, runs)
    if overwrite:
        job.refer()  # useless features are refused before anything is deleted
    told = {name: written(value) for name, value in how.items() if value is not None}
    about = {"source": data.name, "data": told, "fingerprint": data.fingerprint, **job.settings}
    folder.begin(about, _named(features))
    if callable(features) or not all(job.kept(preset) for preset in names):
        job.reference()  # useless features are refused before anything is trained
    if job.each("training", job.train):
        job.each("evaluating", job.evaluate)
    return job.result()


def _known(presets: Iterable[str]) -> list[str]:
    """The presets, each once. Raises InputError for an unknown one, and for none."""
    names = list(dict.fromkeys(presets))
    for preset in names:
        if preset not in PRESETS:
            raise unknown("presets", "preset", preset, PRESETS)
    if not names:
        raise InputError("presets: none are named; give some, such as edm,gan.")
    return names


def _named(features: Any) -> str | None:
    """The name of features in the folder's settings; "given" for an object without a name."""
    if isinstance(features, Path):
        return os.fspath(features)
    name = getattr(features, "__name__", features)  # a function may be given
    return name if isinstance(name, str) or name is None else "given"


@final
@dataclass
class _Job:
    """What every stage of a comparison needs; `runs` says what has become of each preset."""

    folder: ComparisonFolder
    data: Data
    features: Any
    asked: ComparisonOptions
    budget: float
    tell: Tell
    progress: Progress | None
    stop: Stop
    runs: dict[str, dict[str, Any]]
    pictures: dict[str, bytes] = field(default_factory=dict)
    made: Reference | None = None

    @property
    def shared(self) -> dict[str, Any]:
        """Options of both training and evaluation."""
        return {"seed": self.asked.seed, "device": self.asked.device, "stop": self.stop}

    @property
    def settings(self) -> dict[str, Any]:
        """What the runs depend on besides the data."""
        return {"budget": self.budget, "seed": self.asked.seed}

    def result(self) -> Comparison:
        """Return the comparison so far, and write it if any preset is evaluated."""
        data = {
            "name": self.data.name,
            "training_rows": len(self.data),
            "held_out_rows": self.data.n_held_out,
            "shape": list(self.data.shape),
            "classes": list(self.data.classes),
        }
        facts = comparison_facts(
            self.runs,
            undiffuse=__version__,
            source=self.data.name,
            data=data,
            evaluations=self.asked.evaluations,
            samples=self.asked.n,
            **self.settings,
        )
        if facts["table"]:
            self.folder.write(facts, self.pictures)
        done = [preset for preset, run in self.runs.items() if run["status"] == "done"]
        models = {preset: Run(self.folder.run(preset)).model() for preset in done}
        return Comparison(facts, self.pictures, models)

    def refer(self, features: Any = None) -> Reference:
        """Make the reference, by these features or those that were asked for."""
        chosen = self.features if features is None else features
        self.made = refer(self.data, features=chosen, seed=self.asked.seed, progress=self.progress)
        return self.made

    def reference(self) -> Reference:
        """Return the rows that all samples are compared with, by features fitted once and kept."""
        file = self.folder.features
        if self.made is None and file.exists():
            with suppress(InputError):  # damaged features are fitted anew
                return self.refer(file)
            remove(file)
        made = self.made or self.refer()
        if not file.exists():
            self.folder.keep_features(made.features)
        return made

    def kept(self, preset: str) -> Kept | None:
        """Return what an earlier evaluation left, if the run and the settings are the same."""
        with suppress(InputError):  # a damaged run is reported where it is trained
            return self.folder.kept(preset, self.about(preset))
        return None

    def about(self, preset: str) -> dict[str, int | None]:
        """Return what an evaluation depends on: the settings, and how far the run is trained."""
        place, asked = self.folder.run(preset), self.asked
        step = Run(place).state["step"] if place.exists() else 0
        settings = {"n": asked.n, "evaluations": asked.evaluations, "rows": asked.rows}
        return {**settings, "batch": asked.batch, "step": step}

    def each(self, phase: str, work: Callable[[str, Callable[[], None]], bool]) -> bool:
        """Do `work(preset, begin)` for each preset that has not failed.

        `work` calls `begin` if there is anything to do, and returns whether it came to its end.
        Returns whether all did.
        """
        going = [preset for preset, run in self.runs.items() if run["status"] != "failed"]
        for number, preset in enumerate(going, start=1):
            if self.stop():
                return False
            event = {"event": "phase", "preset": preset, "phase": phase, "number": number}
            done = True
            with self._failures_of(preset):
                done = work(preset, partial(self.tell, {**event, "total": len(going)}))
            if not done:
                return False
        return True

    @contextmanager
    def _failures_of(self, preset: str) -> Iterator[None]:
        """Record a failure inside as this preset's, so that the others go on."""
        try:
            yield
        except InputError as problem:
            text = str(problem)
        except Exception as problem:
            file = self.folder.note(preset, traceback.format_exc())
            known = str(problem).strip() or "no message"
            text = f"{type(problem).__name__}: {known} (traceback in {file})"
        else:
            return
        text = " ".join(text.split())
        self.runs[preset] |= {"status": "failed", "problem": text}
        self.tell({"event": "failed", "preset": preset, "problem": text})

    def train(self, preset: str, begin: Callable[[], None]) -> bool:
        """Train the preset until its time is over; return whether it is."""
        place = self.folder.run(preset)
        begun = self.folder.begun(preset)
        if begun and Run(place).state["finished"]:
            with RunFolder(place).locked():  # removes what a process that was killed left
                return True
        begin()
        options = {"resume": begun, "budget": self.budget, "on_event": self.tell, **self.shared}
        return not fit(PRESETS[preset](), self.data, out=place, **options).stopped

    def evaluate(self, preset: str, begin: Callable[[], None]) -> bool:
        """Evaluate the preset, unless the same evaluation is kept; return whether it is there."""
        kept = self.kept(preset)
        if kept and self.made and kept[0]["features"]["hash"] != self.made.features.hash:
            kept = None  # the features are a function that has changed
        if kept is None:
            begin()
            run, asked = Run(self.folder.run(preset)), self.asked
            report = evaluate(
                run,
                data=self.data,
                reference=self.reference(),
                n=asked.n,
                rows=asked.rows,
                batch=asked.batch,
                progress=self.progress,
                **run.model().within(asked.evaluations),
                **self.shared,
            )
            if report is None:
                return False
            report.write(run.path)
            kept = report.facts, report.pictures.get("samples"), report.pictures.get("real")
            self.folder.keep(preset, self.about(preset), *kept)
        facts, samples, real = kept
        self.pictures |= {
            name: png for name, png in (("real rows", real), (preset, samples)) if png is not None
        }
        self.runs[preset] |= {"status": "done", "report": facts}
        return True
