"""Several models on the same data, measured with the same yardstick: trained for as long, one after another, sampled
with no more evaluations, and compared with the same rows by the same features.

    source --> train each preset for `budget` --> evaluate each by one reference --> comparison.html, comparison.json

Everything is kept as it is made (see `comparison_folder.py`), so a comparison that was interrupted goes on where it
was, and a model that fails does not take the others with it.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, final

from undiffuse import __version__
from undiffuse.comparison.facts import comparison_facts
from undiffuse.comparison.folder import ComparisonFolder, Kept
from undiffuse.data import Data, Progress, load
from undiffuse.device import find_device
from undiffuse.duration import parse_duration
from undiffuse.errors import InputError, unknown
from undiffuse.evaluation.evaluate import evaluate
from undiffuse.evaluation.references import Reference, refer
from undiffuse.models import PRESETS
from undiffuse.run import Run
from undiffuse.training import fit
from undiffuse.training.folder import CONFIG

COMPARED = ("edm", "ddpm", "ncsn", "vae", "gan", "flow")
SAMPLES = 1000
EVALUATIONS = 50

Listener = Callable[[Mapping[str, Any]], None]


@final
@dataclass(frozen=True)
class Comparison:
    """The facts of a comparison, as they stand in comparison.json; `pictures` of samples, preset -> PNG."""

    facts: dict[str, Any]
    pictures: dict[str, bytes]

    def presets(self, status: str) -> list[str]:
        """The presets that are "done", that "failed", or that are "waiting"."""
        return [preset for preset, run in self.facts["runs"].items() if run["status"] == status]


def compare(
    source: Any,
    *,
    out: str | Path,
    presets: Sequence[str] = COMPARED,
    budget: str | float = "5m",
    n: int = SAMPLES,
    evaluations: int = EVALUATIONS,
    features: Any = None,
    seed: int = 0,
    rows: int = 500,
    batch: int = 64,
    device: str = "auto",
    overwrite: bool = False,
    on_event: Listener = lambda event: None,
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Comparison:
    """Train each of `presets` on `source` for `budget` seconds ("90s", "10m"), and compare `n` samples of each.

    Models draw their samples as they do by themselves if that takes no more than `evaluations` of the network for each,
    and else as `GenerativeModel.within` says. `features` and `rows` (held-out ones, for the likelihood) are those of
    `evaluate`. Writes to the folder `out`; the same call goes on with what is there: runs that have had their time and
    reports that are as asked for are kept, so another number of samples, or one more preset, costs only what it adds.
    `stop` is polled; when it says so, those not done are "waiting". `on_event` is given the events of `fit`, and

        phase     preset, phase ("training" or "evaluating"), number, total
        failed    preset, problem

    Raises InputError for an unknown preset, a source that cannot be read, a folder that holds something else, or a
    comparison of other data or with another budget or seed (unless `overwrite` says that it may go). What goes wrong
    with one model is said in its place: status "failed" and the problem.
    """
    names, length = _checked(presets, evaluations), parse_duration(budget)
    find_device(device)
    folder = ComparisonFolder(out, overwrite=overwrite)
    data = load(source, seed=seed, progress=progress)
    fresh = refer(data, features=features, seed=seed, progress=progress) if overwrite else None
    folder.begin(
        {"source": data.name, "fingerprint": data.fingerprint, "budget": length, "seed": seed},
        _named(features),
    )
    runs = {
        name: {"folder": f"runs/{name}", "status": "waiting", "problem": "", "report": None}
        for name in names
    }
    job = _Job(folder, data, {"seed": seed, "device": device}, on_event, progress, stop, runs)
    pictures: dict[str, bytes] = {}
    asked = {"n": n, "evaluations": evaluations, "rows": rows, "batch": batch}
    reference = _Lazy(lambda: _reference(job, features, fresh))
    if callable(features) or not all(job.kept(preset, asked) for preset in names):
        reference()  # features that are of no use are refused before anything is trained
    if job.each("training", lambda preset, begin: _train(job, preset, begin, length)):
        job.each(
            "evaluating",
            lambda preset, begin: _evaluate(job, preset, begin, asked, reference, pictures),
        )
    settings = {"budget": length, "evaluations": evaluations, "samples": n, "seed": seed}
    facts = comparison_facts(
        runs, undiffuse=__version__, source=data.name, data=_about(data), **settings
    )
    if facts["table"]:
        folder.write(facts, pictures)
    return Comparison(facts, pictures)


def _named(features: Any) -> str | None:
    """What features are called in the folder's settings; "given" for an object without a name."""
    name = (
        os.fspath(features)
        if isinstance(features, Path)
        else getattr(features, "__name__", features)
    )
    return name if isinstance(name, str) or name is None else "given"


def _checked(presets: Sequence[str], evaluations: int) -> list[str]:
    if not presets:
        raise InputError("presets: none are named; give some, such as edm,gan.")
    for preset in presets:
        if preset not in PRESETS:
            raise unknown("presets", "preset", preset, PRESETS)
    if evaluations < 1:
        raise InputError(f"evaluations {evaluations}: a sample takes 1 at least; allow more.")
    return list(dict.fromkeys(presets))


@final
@dataclass(frozen=True)
class _Job:
    """What every stage of a comparison needs, and `runs`, what has become of each preset."""

    folder: ComparisonFolder
    data: Data
    shared: Mapping[str, Any]  # seed and device
    tell: Listener
    progress: Progress | None
    stop: Callable[[], bool]
    runs: dict[str, dict[str, Any]]

    def kept(self, preset: str, asked: Mapping[str, int]) -> Kept | None:
        """What an earlier evaluation left, if just this was asked of the run as it is now."""
        with suppress(InputError):  # a run that is damaged says so where it is trained
            return self.folder.kept(preset, self.about(preset, asked))
        return None

    def about(self, preset: str, asked: Mapping[str, int]) -> dict[str, int]:
        """What an evaluation of a run hangs on: what is asked, and how far the run has been trained."""
        place = self.folder.run(preset)
        return {**asked, "step": Run(place).state["step"] if (place / CONFIG).exists() else 0}

    def each(self, phase: str, work: Callable[[str, Callable[[], None]], bool]) -> bool:
        """Do `work(preset, begin)` for each that has not failed; whether all was done, and nobody stopped it. It calls
        `begin` if there is anything to do.
        """
        going = [preset for preset, run in self.runs.items() if run["status"] != "failed"]
        for number, preset in enumerate(going, start=1):
            if self.stop():
                return False
            event = {
                "event": "phase",
                "preset": preset,
                "phase": phase,
                "number": number,
                "total": len(going),
            }
            done = True
            with self._survived(preset):
                done = work(preset, partial(self.tell, event))
            if not done:
                return False
        return True

    @contextmanager
    def _survived(self, preset: str) -> Iterator[None]:
        """Within, what goes wrong is written down as this preset's, and the others go on."""
        try:
            yield
        except InputError as problem:
            said = str(problem)
        except Exception as problem:
            where = self.folder.note(preset, traceback.format_exc())
            said = f"{type(problem).__name__}: {str(problem).strip() or 'no more is known'} (in full in {where})"
        else:
            return
        self.runs[preset] |= {"status": "failed", "problem": " ".join(said.split())}
        self.tell({"event": "failed", "preset": preset, "problem": self.runs[preset]["problem"]})


@final
class _Lazy:
    """A thing that is made when it is first asked for."""

    def __init__(self, make: Callable[[], Reference]) -> None:
        self.make, self.made = make, None

    def __call__(self) -> Reference:
        self.made = self.made or self.make()
        return self.made


def _train(job: _Job, preset: str, begin: Callable[[], None], budget: float) -> bool:
    """Train the preset until its time is over; whether it is."""
    place = job.folder.run(preset)
    begun = (place / CONFIG).exists()
    if begun and Run(place).state["finished"]:
        return True
    begin()
    model = PRESETS[preset]()
    options = {
        "resume": begun,
        "budget": budget,
        "stop": job.stop,
        "on_event": job.tell,
        **job.shared,
    }
    return not fit(model, job.data, out=place, **options).stopped


def _reference(job: _Job, features: Any, fresh: Reference | None) -> Reference:
    """The rows that all samples are compared with, by features fitted once and kept; `fresh` if made before."""
    kept = job.folder.features
    chosen = kept if kept.exists() else features
    reference = fresh or refer(
        job.data, features=chosen, seed=job.shared["seed"], progress=job.progress
    )
    if not kept.exists():
        job.folder.keep_features(reference.features)
    return reference


def _evaluate(
    job: _Job,
    preset: str,
    begin: Callable[[], None],
    asked: Mapping[str, int],
    reference: _Lazy,
    pictures: dict[str, bytes],
) -> bool:
    """Evaluate the preset, unless what is kept is what is asked for; whether that is done."""
    place = job.folder.run(preset)
    kept = job.kept(preset, asked)
    if kept and reference.made and kept[0]["features"]["hash"] != reference.made.features.hash:
        kept = None  # of a function that is another one now
    if kept is None:
        begin()
        way = Run(place).model().within(asked["evaluations"])
        options = {name: asked[name] for name in ("n", "rows", "batch")}
        calls = {"progress": job.progress, "stop": job.stop}
        report = evaluate(
            place, data=job.data, reference=reference(), **options, **way, **job.shared, **calls
        )
        if report is None:
            return False
        report.write(place)
        kept = report.facts, report.pictures.get("samples"), report.pictures.get("real")
        job.folder.keep(preset, job.about(preset, asked), *kept)
    facts, samples, real = kept
    pictures.update(
        {name: png for name, png in (("real rows", real), (preset, samples)) if png is not None}
    )
    job.runs[preset] |= {"status": "done", "report": facts}
    return True


def _about(data: Data) -> dict[str, Any]:
    return {
        "name": data.name,
        "training_rows": len(data),
        "held_out_rows": data.n_held_out,
        "shape": list(data.shape),
        "classes": list(data.classes),
    }
