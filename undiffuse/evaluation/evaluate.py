"""One honest report of a trained run: its samples beside held-out rows, its likelihood, its cost, and a verdict.

    run -> data -> Reference
        -> samples -> quality, coverage, memorization, tables
        -> held-out rows -> likelihood, loss per noise level
        -> log -> curves
        -> facts (plain data), pictures -> report.json, report.html

`evaluate` asks each piece and puts their answers side by side; what differs between families and kinds of data is a
method of theirs. Samples and scores are kept in the run's folder as they come, so that the same call goes on from
where it was stopped.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from undiffuse import __version__
from undiffuse.atomic import atomic_file, write_json
from undiffuse.data import Data, Progress, restore
from undiffuse.device import find_device
from undiffuse.errors import InputError
from undiffuse.evaluation.drawn import FOLDER, Drawn, draw, peak_memory, time_singles
from undiffuse.evaluation.history import loss_by_level
from undiffuse.evaluation.metrics import Figure, Timings, as_facts, figures_of
from undiffuse.evaluation.references import FEWEST, Chosen, Reference, refer, refer_to_others
from undiffuse.evaluation.scores import Likelihoods, likelihoods
from undiffuse.evaluation.views import views
from undiffuse.evaluation.yardsticks import Sampled, measure, quality_by_steps, sampled
from undiffuse.models import GenerativeModel
from undiffuse.parts import as_json
from undiffuse.run import Run

__all__ = ["Report", "evaluate", "refer"]

MOST, LEAST = 5000, 1000  # samples, unless asked otherwise


@final
@dataclass(frozen=True)
class Report:
    """What is known of a run: `facts`, plain data as report.json holds them, and `pictures`, name -> PNG."""

    facts: dict[str, Any]
    pictures: dict[str, bytes]

    def write(self, folder: str | Path) -> tuple[Path, Path]:
        """Write report.html and report.json into `folder`, each whole or not at all. Raises InputError where it cannot.

        The page needs nothing else: pictures are in it.
        """
        from undiffuse.evaluation.report import render

        place = Path(os.path.expanduser(folder))
        page, data = place / "report.html", place / "report.json"
        with atomic_file(page) as temporary:
            temporary.write_text(render(self.facts, self.pictures), encoding="utf-8")
        write_json(data, self.facts)
        return page, data


def evaluate(
    run: str | Path | Run,
    *,
    data: Any = None,
    n: int | None = None,
    method: str | None = None,
    steps: int | None = None,
    features: Chosen = None,
    reference: Reference | None = None,
    rows: int = 500,
    seed: int = 0,
    batch: int = 64,
    device: str = "auto",
    progress: Progress | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Report | None:
    """The report of the run in folder `run`; None if `stop()` said so before the end.

    `data` is where its data are now, or other data of their kind. `n` samples are drawn, by `method` in `steps` steps
    as `GenerativeModel.sample` takes them (None: as many as there are held-out rows, from 1,000 to 5,000, in the
    preset's own way). `features` are those of `evaluation.features`; a `reference` that was made already stands
    for both. The likelihood is taken of `rows` held-out rows. `progress(done, total, what)` is called now and then.

    Raises InputError for what is no run, data that have moved or do not fit, and settings that the family does not
    take.
    """
    if min(rows, batch) < 1 or (n is not None and n < FEWEST):
        raise InputError(
            f"n {n}, rows {rows}, batch {batch}: give at least {FEWEST} samples, and 1 of the others."
        )
    run = Run.of(run)
    model = run.model(device=find_device(device))
    asked = (("method", method), ("steps", steps))
    options: dict[str, Any] = {name: value for name, value in asked if value is not None}
    if options:
        model.sample_rows(
            1, **options
        )  # what the family does not take is refused before any data are read
    if reference is None:
        reference = _reference(run, data, features, seed, progress)
    if n is None:
        n = min(MOST, max(LEAST, len(reference.held_out)))
    work = _Work(model, reference, run.path / FOLDER, seed, batch, progress, stop)
    drawn = work.draw(n, options)
    if drawn is None:
        return None
    return _report(run, work, drawn, options, rows)


def _reference(
    run: Run, source: Any, features: Chosen, seed: int, progress: Progress | None
) -> Reference:
    """The run's own split where `source` is its data (None: where they were), or other rows of their kind."""
    rows = run.data(source, progress=progress)
    shared: dict[str, Any] = {"features": features, "seed": seed, "progress": progress}
    if isinstance(rows, Data):
        return refer(rows, **shared)
    return refer_to_others(rows, *restore(run.config["data"]), **shared)


@final
@dataclass(frozen=True)
class _Work:
    """What all pieces need."""

    model: GenerativeModel
    reference: Reference
    folder: Path
    seed: int
    batch: int
    progress: Progress | None
    stop: Callable[[], bool]

    def draw(
        self, n: int, options: Mapping[str, Any], what: str = "drawing samples"
    ) -> Drawn | None:
        shared: dict[str, Any] = {
            "seed": self.seed,
            "batch": self.batch,
            "progress": self.progress,
            "stop": self.stop,
        }
        return draw(self.model, n, self.folder, options=options, what=what, **shared)

    def says(self, what: str) -> None:
        """Tell what is being done, where it cannot be told how far it has come."""
        if self.progress:
            self.progress(0, 1, what)


def _report(
    run: Run, work: _Work, drawn: Drawn, options: Mapping[str, Any], rows: int
) -> Report | None:
    from undiffuse.evaluation.verdict.verdict import verdict

    model, reference = work.model, work.reference
    samples = sampled(drawn.rows, reference)
    work.says("measuring quality, coverage and tables")
    found = measure(samples, reference, seed=work.seed)
    score = _likelihood(work, rows)
    settings = score and quality_by_steps(
        drawn,
        options.get("steps") or model.steps_of(options.get("method")),
        lambda n, steps: work.draw(
            n, {**options, "steps": steps}, f"drawing samples in {steps} steps"
        ),
        reference,
        seed=work.seed,
    )
    singles = None
    if settings is not None:
        singles = time_singles(model, options, seed=work.seed, stop=work.stop)
    if score is None or settings is None or singles is None or work.stop():
        return None
    work.says("drawing pictures")
    scores, refused = score
    likelihood = {} if scores is None else figures_of(scores.scored)
    difference = likelihood.get("gap")
    (training, held_out), levels, about = (
        run.curves(),
        loss_by_level(model, reference),
        run.summary(),
    )
    said = verdict(
        training=training,
        held_out=held_out,
        levels=levels,
        memorization=found.memorization,
        gap=difference if isinstance(difference, Figure) else None,
        finished=bool(about["finished"]),
    )
    facts = {
        "format": 1,
        "kind": "report",
        "undiffuse": __version__,
        "run": run.given,
        "preset": about["preset"],
        "family": type(model).__name__.lower(),
        **_identity(reference, drawn, work, options),
        "verdict": said,
        **found.facts(reference.classes),
        "likelihood": {"none": refused}
        if scores is None
        else {
            **as_facts(likelihood),
            "meaning": scores.meaning,
            "kind": scores.kind,
            "rows": scores.rows,
        },
        "speed": _speed(model, drawn, singles, about),
        "curves": {
            "training": training,
            "held_out": held_out,
            "levels": levels,
            "by_evaluations": settings,
        },
        "warnings": _warnings(samples, drawn, scores, reference),
    }
    pictures = views(
        samples.rows,
        reference,
        found.memorization,
        extra=model.pictures(reference.held_out.rows[:64]),
    )
    return Report(as_json(facts), pictures)


def _identity(
    reference: Reference, drawn: Drawn, work: _Work, options: Mapping[str, Any]
) -> dict[str, Any]:
    """What was compared with what, by what."""
    features, method = reference.features, options.get("method")
    return {
        "data": {
            "name": reference.name,
            "training_rows": reference.training_rows,
            "held_out_rows": reference.held_out_rows,
            "shape": list(reference.transform.shape),
            "classes": list(reference.classes),
        },
        "samples": len(drawn.rows),
        "seed": work.seed,
        "sampler": {
            "method": method or "the preset's own",
            "steps": options.get("steps") or work.model.steps_of(method),
            "evaluations": drawn.evaluations,
        },
        "features": {
            "name": features.name,
            "hash": features.hash,
            "dimensions": reference.held_out.features.shape[1],
            "accuracy": features.accuracy,
        },
    }


def _likelihood(work: _Work, rows: int) -> tuple[Likelihoods | None, str] | None:
    """(the likelihood, "") or (None, why there is none); None if stopped."""
    if work.model.no_density:
        return None, work.model.no_density
    found = likelihoods(
        work.model,
        work.reference,
        work.folder,
        rows=rows,
        seed=work.seed,
        batch=work.batch,
        progress=work.progress,
        stop=work.stop,
    )
    return None if found is None else (found, "")


def _speed(
    model: GenerativeModel, drawn: Drawn, singles: tuple[float, ...], about: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        **as_facts(figures_of(Timings(batches=drawn.batches, singles=singles))),
        "evaluations_per_sample": drawn.evaluations,
        "training_seconds": about["elapsed"],
        "steps": about["steps"],
        "parameters": about["parameters"] or sum(p.numel() for p in model.parameters()),
        "peak_memory": peak_memory(model),
    }


def _warnings(
    samples: Sampled, drawn: Drawn, scores: Likelihoods | None, reference: Reference
) -> list[str]:
    found = list(reference.notes)
    if samples.lost:
        found.append(
            f"{samples.lost:,} of {len(drawn.rows):,} samples hold values that are no numbers; left out"
        )
    if scores is not None and scores.lost:
        found.append(
            f"{scores.lost:,} of {scores.rows:,} held-out rows have no finite likelihood; left out of its mean"
        )
    few = min(len(samples), len(reference.held_out))
    width = reference.held_out.features.shape[1]
    if few < 2 * width:
        found.append(
            f"{few:,} rows on either side are few for {width:,} features: trust the kernel distance more than Frechet's"
        )
    return found
