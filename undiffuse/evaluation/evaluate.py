"""The report of a trained run: samples against held-out rows, likelihood, cost, and a verdict.

    run -> data -> Reference
        -> samples -> quality, coverage, memorization, tables
        -> held-out rows -> likelihood, loss per noise level
        -> log -> curves
        -> facts (plain data), pictures -> report.json, report.html

`evaluate` collects the results; what differs between families and kinds of data is a method of
theirs. Samples and scores are kept in the run's folder as they come, so the same call resumes where
it stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, final

from torch import Tensor

from undiffuse import __version__
from undiffuse.atomic import atomic_file, write_json
from undiffuse.called import called
from undiffuse.data import Data, restore
from undiffuse.declared import checked, with_defaults
from undiffuse.device import find_device
from undiffuse.evaluation.asked import by_condition, picture_of_maps
from undiffuse.evaluation.drawn import FOLDER, Drawn, draw, peak_memory, time_singles
from undiffuse.evaluation.forecast import Forecast, forecast
from undiffuse.evaluation.given_samples import given_samples
from undiffuse.evaluation.history import against_linear, loss_by_level
from undiffuse.evaluation.logged import log_report
from undiffuse.evaluation.metrics import Figure, Timings, as_facts, figures_of
from undiffuse.evaluation.overlays import overlays
from undiffuse.evaluation.references import Reference, refer, refer_to_others
from undiffuse.evaluation.report import render
from undiffuse.evaluation.scores import Likelihoods, likelihoods
from undiffuse.evaluation.verdict.verdict import verdict
from undiffuse.evaluation.views import views
from undiffuse.evaluation.yardsticks import Sampled, Yardsticks, measure, quality_by_steps, sampled
from undiffuse.interfaces import Listener, Progress, Stop
from undiffuse.models import GenerativeModel
from undiffuse.notebook import progress_bar
from undiffuse.options import REPORT_SAMPLES, EvaluationOptions
from undiffuse.parts import as_json
from undiffuse.run import Run, as_run
from undiffuse.shown import card
from undiffuse.training.loggers import Logger, find_loggers

_TIMED = 128  # samples that are drawn for their time, where others were drawn before


@final
@dataclass(frozen=True)
class Report:
    """The results of an evaluation.

    Attributes:
        facts: plain data, as report.json holds them.
        pictures: name -> PNG.
    """

    facts: dict[str, Any]
    pictures: dict[str, bytes]

    def __repr__(self) -> str:
        """Return the run and the verdict in a line."""
        state = self.facts["verdict"]["state"]
        return f"Report({self.facts['run']}: {self.facts['samples']:,} samples, {state})"

    def _repr_html_(self) -> str:
        verdict, seen = self.facts["verdict"], (self.facts["quality"], self.facts["coverage"])
        figures = [
            {
                "figure": name.replace("_", " "),
                "value": one["value"],
                "95 %": f"{one['low']:.4g} to {one['high']:.4g}",
                "floor": one["floor"],
                "better": one["better"],
            }
            for group in seen
            for name, one in (group or {}).items()
            if isinstance(one, Mapping) and "value" in one
        ]
        facts = {"verdict": verdict["sentence"], "advice": verdict["advice"]}
        facts["warnings"] = " ".join(self.facts["warnings"])
        shown = {name: self.pictures[name] for name in ("samples", "real") if name in self.pictures}
        return card(repr(self), facts, pictures=shown, tables=[figures])

    def write(self, folder: str | Path) -> tuple[Path, Path]:
        """Write report.json and report.html, which needs no other file, into `folder`.

        In this order: a folder with the first alone is known to be that of a report.

        Raises:
            InputError: if the folder cannot be written to; each file is whole or not there.
        """
        place = Path(os.path.expanduser(folder))
        page, data = place / "report.html", place / "report.json"
        text = render(self.facts, self.pictures)
        write_json(data, self.facts)
        with atomic_file(page) as temporary:
            temporary.write_text(text, encoding="utf-8")
        return page, data


@called
def evaluate(
    run: str | Path | Run | GenerativeModel,
    data: Any = None,
    *,
    samples: Any = None,
    features: str | Path | Callable[[Tensor], Tensor] | None = None,
    reference: Reference | None = None,
    loggers: Iterable[str | Logger | Listener] = (),
    progress: Progress | None = None,
    stop: Stop = lambda: False,
    **options: Any,
) -> Report | None:
    """Evaluate a run, or a trained model.

    Args:
        run: the run, its folder, or the model.
        data: where its data are now, or other data of their kind; None: where they were.
        samples: those to evaluate, drawn before: a file or folder that `undiffuse sample` wrote, or
            anything else `undiffuse.load` takes. The first n of them are compared. None: they are
            drawn.
        features: what rows are compared by: a name, a file of weights, a function of x (N, *shape)
            that returns (N, D); None: chosen from the data.
        reference: made before, to be used in place of `data` and `features`.
        loggers: where the report goes besides, as for `fit`: its figures and its page.
        progress: called with (done, total, what) now and then.
        stop: polled; when true, what is done is kept and None is returned.
        options: the fields of `options.EvaluationOptions`: n, method, steps, rows, seed, batch,
            device.

    Returns:
        The report; None if it was stopped.

    Raises:
        InputError: for what is not a run, data that have moved or do not fit, and settings that the
            family does not take.
    """
    asked = with_defaults(EvaluationOptions, checked(EvaluationOptions, options))
    progress = progress or progress_bar()
    if isinstance(run, GenerativeModel):
        with as_run(run) as kept:
            made = {"features": features, "reference": reference, "loggers": loggers}
            made |= {"samples": samples}
            return evaluate(kept, data, **made, progress=progress, stop=stop, **options)
    loggers = find_loggers(loggers)
    run = Run.of(run)
    model = run.model(device=find_device(asked.device))
    sampler = {"method": asked.method, "steps": asked.steps}
    model.check_sampler(**sampler)  # before any data are read
    sampler = {name: value for name, value in sampler.items() if value is not None}
    if reference is None:
        made = {"features": features, "seed": asked.seed, "progress": progress}
        reference = _reference(run, data, **made)
    report = _Evaluation(run, model, reference, asked, sampler, progress, stop, samples).report()
    if report is not None and loggers:
        log_report(report.facts, report.pictures, run, loggers)
    return report


def _reference(run: Run, source: Any, **made: Any) -> Reference:
    """The run's own split if `source` is its data, or other rows of their kind."""
    rows = run.data(source, progress=made["progress"])
    if isinstance(rows, Data):
        return refer(rows, **made)
    return refer_to_others(rows, *restore(run.config["data"]), **made)


@final
@dataclass(frozen=True)
class _Evaluation:
    run: Run
    model: GenerativeModel
    reference: Reference
    asked: EvaluationOptions
    sampler: Mapping[str, Any]
    progress: Progress | None
    stop: Stop
    own: Any = None  # samples that were drawn before, and where

    @property
    def shared(self) -> dict[str, Any]:
        """Options of both drawing and scoring."""
        asked = self.asked
        calls = {"progress": self.progress, "stop": self.stop}
        return {"seed": asked.seed, "batch": asked.batch or self.model.at_once, **calls}

    @property
    def steps(self) -> int | None:
        """The number of sampling steps; None for a family that draws in one pass."""
        return self.asked.steps or self.model.steps_of(self.asked.method)

    def announce(self, what: str) -> None:
        """Report work whose length is unknown."""
        if self.progress:
            self.progress(0, 1, what)

    def draw(self, n: int, steps: int | None = None) -> Drawn | None:
        """Draw samples, in another number of steps if one is given."""
        options = self.sampler if steps is None else {**self.sampler, "steps": steps}
        what = "drawing samples" if steps is None else f"drawing samples in {steps} steps"
        folder = self.run.path / FOLDER
        return draw(self.model, n, folder, options=options, what=what, **self.shared)

    def report(self) -> Report | None:
        """Draw, score and measure everything; None if stopped."""
        reference, model, seed = self.reference, self.model, self.asked.seed
        fewest, most = REPORT_SAMPLES
        count = self.asked.n or min(most, max(fewest, len(reference.held_out)))
        drawn = self.draw(count if self.own is None else min(count, _TIMED))
        if drawn is None:
            return None
        compared, notes = drawn.rows, []
        if self.own is not None:
            batch, config = self.shared["batch"], self.run.config["data"]
            shared: dict[str, Any] = {"batch": batch, "progress": self.progress}
            compared, notes = given_samples(self.own, config, count, **shared)
        samples = sampled(compared, reference)
        self.announce("measuring quality, coverage and tables")
        found = measure(samples, reference, seed=seed, progress=self.progress)
        scores = None
        if not model.no_density:
            folder, rows = self.run.path / FOLDER, self.asked.rows
            scores = likelihoods(model, reference, folder, rows=rows, **self.shared)
            if scores is None:
                return None
        most = model.most_steps(self.asked.method)
        by_steps: list[dict[str, Any]] | None = []
        if self.own is None:
            by_steps = quality_by_steps(drawn, self.steps, most, self.draw, reference, seed=seed)
        if by_steps is None:
            return None
        ahead = self.forecast()
        told = self.told()
        singles = time_singles(model, self.sampler, seed=seed, stop=self.stop)
        if singles is None or told is None or self.stop():
            return None
        self.announce("drawing pictures")
        facts = {
            "format": 1,
            "kind": "report",
            "undiffuse": __version__,
            "run": self.run.given,
            "preset": self.run.config.get("preset"),
            "family": type(model).__name__.lower(),
            **self.identity(drawn, len(compared)),
            **self.judged(found, scores, by_steps),
            **found.facts(reference.classes),
            "overlays": overlays(samples.rows, reference, seed=seed),
            **({} if ahead is None else {"forecast": ahead.facts()}),
            "conditions": told,
            "speed": self.speed(drawn, singles),
            "warnings": [*notes, *_warnings(samples, len(compared), scores, reference)],
        }
        own = model.pictures(reference.held_out.rows[:64])
        if ahead is not None and ahead.picture is not None:
            own |= {"forecast": ahead.picture}
        given = picture_of_maps(model, reference, sampler=self.sampler, seed=seed)
        own |= {} if given is None else {"conditions": given}
        return Report(as_json(facts), views(samples.rows, reference, found.memorization, extra=own))

    def forecast(self) -> Forecast | None:
        """The forecast of held-out series; None for other rows."""
        self.announce("forecasting held-out series")
        shared = {"seed": self.asked.seed, "batch": self.asked.batch}
        return forecast(self.model, self.reference, **shared)

    def told(self) -> dict[str, Any] | None:
        """Whether samples have their conditions, a figure for each; None if stopped."""
        self.announce("comparing samples with their conditions")
        options = {name: value for name, value in self.shared.items() if name != "progress"}
        asked = by_condition(self.model, self.reference, sampler=self.sampler, **options)
        if asked is None:
            return None
        return {name: {**asdict(figure), "better": "floor"} for name, figure in asked.items()}

    def identity(self, drawn: Drawn, samples: int) -> dict[str, Any]:
        """What was compared with what, and by which features."""
        reference, features = self.reference, self.reference.features
        return {
            "data": {
                "name": reference.name,
                "training_rows": reference.training_rows,
                "held_out_rows": reference.held_out_rows,
                "shape": list(reference.transform.shape),
                "classes": list(reference.classes),
            },
            "samples": samples,
            "seed": self.asked.seed,
            "sampler": {
                "method": self.asked.method or self.model.usual_method or "the preset's own",
                "steps": self.steps,
                "evaluations": drawn.evaluations,
            },
            "features": {
                "name": features.name,
                "hash": features.hash,
                "dimensions": reference.held_out.features.shape[1],
                "accuracy": features.accuracy,
            },
        }

    def judged(
        self, found: Yardsticks, scores: Likelihoods | None, by_steps: list[dict[str, Any]]
    ) -> dict[str, Any]:
        """The likelihood, the curves, and the verdict on these and on the samples."""
        model, (training, held_out) = self.model, self.run.curves()
        levels = loss_by_level(model, self.reference)
        curves = {"training": training, "held_out": held_out, "levels": levels}
        likelihood = {} if scores is None else figures_of(scores.scored)
        gap, detected = likelihood.get("gap"), found.figures.get("detection")
        facts: dict[str, Any] = {"none": model.no_density}
        if scores is not None:
            said = {"meaning": scores.meaning, "kind": scores.kind, "rows": scores.rows}
            facts = {**as_facts(likelihood), **said}
        return {
            "verdict": verdict(
                **curves,
                memorization=found.memorization,
                gap=gap if isinstance(gap, Figure) else None,
                finished=bool(self.run.state["finished"]),
                linear=against_linear(model, self.reference),
                detection=detected if isinstance(detected, Figure) else None,
            ),
            "likelihood": facts,
            "curves": {**curves, "by_evaluations": by_steps},
        }

    def speed(self, drawn: Drawn, singles: tuple[float, ...]) -> dict[str, Any]:
        """What samples and training cost."""
        state, parameters = self.run.state, self.model.parameter_count
        return {
            **as_facts(figures_of(Timings(batches=drawn.batches, singles=singles))),
            "evaluations_per_sample": drawn.evaluations,
            "training_seconds": state["elapsed"],
            "steps": state["step"],
            "parameters": self.run.config.get("parameters") or parameters,
            "peak_memory": peak_memory(self.model),
        }


def _warnings(
    samples: Sampled, drawn: int, scores: Likelihoods | None, reference: Reference
) -> list[str]:
    warnings = list(reference.notes)
    if samples.lost:
        total = f"{drawn:,}"
        warnings.append(f"{samples.lost:,} of {total} samples are not finite and were left out")
    if scores is not None and scores.lost:
        warnings.append(
            f"{scores.lost:,} of {scores.rows:,} held-out rows have no finite likelihood and were "
            "left out of its mean"
        )
    few = min(len(samples), len(reference.held_out))
    width = reference.held_out.features.shape[1]
    if few < 2 * width:
        warnings.append(
            f"{few:,} rows are few for {width:,} features: trust the kernel distance more than the "
            "Frechet distance"
        )
    return warnings
