"""The work of jobs: each calls what the command of the same name calls, and leaves a file.

A sample is drawn by `cli.sample.draw_to`, so its bytes are those of `undiffuse sample` with the
same options. Sentences are told without the places of folders.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, final

import numpy as np
from torch import Tensor

from undiffuse.atomic import passing, remove
from undiffuse.cli.sample import draw_to
from undiffuse.cli.terminal import Terminal, plain
from undiffuse.cli.verb import Asked
from undiffuse.comparison.facts import comparison_facts
from undiffuse.data import Data
from undiffuse.declared import checked, with_defaults
from undiffuse.errors import InputError
from undiffuse.evaluation.evaluate import evaluate
from undiffuse.evaluation.references import refer
from undiffuse.evaluation.report import render_comparison
from undiffuse.evaluation.score import Scores, score
from undiffuse.models import Diffusion, GenerativeModel
from undiffuse.options import SampleOptions
from undiffuse.run import Run
from undiffuse.web.faces import is_few
from undiffuse.web.jobs import Cancelled, Job, Outcome
from undiffuse.web.limits import RESULTS
from undiffuse.web.opened import Opened
from undiffuse.web.schemas import (
    CompareRequest,
    CompleteRequest,
    EvaluateRequest,
    SampleRequest,
    ScoreRequest,
)
from undiffuse.web.uploads import Uploads, clean

MEDIA = {
    "npy": "application/octet-stream",
    "npz": "application/octet-stream",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "zip": "application/zip",
    "png": "image/png",
    "json": "application/json",
    "html": "text/html; charset=utf-8",
}
SHOWN = 64  # rows in a picture of what is being drawn
_DATE = (1980, 1, 1, 0, 0, 0)  # of entries of a zip file: the same request gives the same bytes


@final
class Work:
    """What jobs are made of: the runs that are open, and the uploads."""

    def __init__(self, opened: Opened, uploads: Uploads) -> None:
        self.opened, self.uploads = opened, uploads

    def sample(self, job: Job, asked: SampleRequest) -> Outcome:
        """Draw samples, or complete rows."""
        with self._told_well(asked):
            run, model = self.opened.open(job.run)
            given = None
            if isinstance(asked, CompleteRequest):
                given = str(self.uploads.find(asked.upload).path)
            else:
                check_result(model, asked.n)
            form = asked.form or own_form(model)
            name = "samples" if form == "zip" else f"samples.{form}"
            tree = {
                "n": asked.n, "seed": asked.seed, "batch": asked.batch, "steps": asked.steps,
                "method": asked.method, "label": asked.label, "guidance": asked.guidance,
                "given": given, "out": str(job.folder / "drawn" / name),
            }  # fmt: skip
            found = checked(SampleOptions, tree) | ({"where": asked.where} if asked.where else {})
            options = with_defaults(SampleOptions, found)
            terminal = Terminal(quiet=True, heard=lambda text: _note(job, text))
            picture = Picture(job, model) if isinstance(model, Diffusion) else None
            bar = contextlib.nullcontext(job.progress)
            out = Path(options.out)
            with passing():
                draw_to(out, model, run, Asked(options, found, terminal), bar, picture)
        if form == "zip":
            return Outcome(zipped(out.parent, job.folder / "samples.zip"), MEDIA["zip"],
                          "samples.zip")  # fmt: skip
        return Outcome(out, MEDIA[form], name)

    def score(self, job: Job, asked: ScoreRequest) -> Outcome:
        """Score rows."""
        with self._told_well(asked):
            run = self.opened.runs.open(job.run)
            upload = self.uploads.find(asked.upload)
            table = asked.form in ("csv", "parquet")
            out = job.folder / f"scores.{asked.form if table else 'csv'}"
            given = asked.model_dump(exclude={"upload", "form", "where"}, exclude_none=True)
            found = score(
                run,
                str(upload.path),
                out=out,
                where=asked.where,
                on_note=lambda note: _note(job, note),
                progress=job.progress,
                stop=job.stopped,
                device=str(self.opened.device),
                **given,
            )
        if found is None:
            raise Cancelled
        if asked.form == "npz":
            out = job.folder / "scores.npz"
            np.savez(out, allow_pickle=False, **_arrays(found))
        elif asked.form == "json":
            out = job.folder / "scores.json"
            out.write_text(json.dumps(plain(_tree(found))), encoding="utf-8")
        return Outcome(out, MEDIA[asked.form], out.name)

    def evaluate(self, job: Job, asked: EvaluateRequest) -> Outcome:
        """Evaluate a run; its report is written into it, as the command does."""
        with self._told_well(asked):
            run = self.opened.runs.open(job.run)
            report = evaluate(
                run,
                progress=job.progress,
                stop=job.stopped,
                device=str(self.opened.device),
                **asked.model_dump(exclude_none=True),
            )
            if report is None:
                raise Cancelled
            report.write(run.path)
        out = job.folder / "report.json"
        out.write_text(json.dumps(plain(report.facts)), encoding="utf-8")
        return Outcome(out, MEDIA["json"], "report.json")

    def compare(self, job: Job, asked: CompareRequest) -> Outcome:
        """Compare runs of the same data by one reference."""
        names = list(dict.fromkeys(asked.runs))
        with self._told_well(asked):
            runs = {name: self.opened.runs.open(name) for name in names}
            data = _shared_data(runs, job)
            reference = refer(data, seed=asked.seed, progress=job.progress)
            told: dict[str, dict[str, Any]] = {}
            pictures: dict[str, bytes] = {}
            for name, run in runs.items():
                report = evaluate(
                    run,
                    reference=reference,
                    progress=job.progress,
                    stop=job.stopped,
                    device=str(self.opened.device),
                    **asked.model_dump(exclude={"runs"}, exclude_none=True),
                )
                if report is None:
                    raise Cancelled
                told[name] = {"folder": name, "status": "done", "problem": "",
                              "report": report.facts}  # fmt: skip
                for kind, key in (("real", "real rows"), ("samples", name)):
                    if kind in report.pictures:
                        pictures[key] = report.pictures[kind]
        facts = comparison_facts(
            told, source=data.name, data=_described(data), seed=asked.seed, samples=asked.n
        )
        out = job.folder / "comparison.html"
        out.write_text(render_comparison(facts, pictures), encoding="utf-8")
        return Outcome(out, MEDIA["html"], "comparison.html")

    @contextlib.contextmanager
    def _told_well(self, asked: Any) -> Any:
        """Tell an InputError inside without the places of the server's folders."""
        try:
            yield
        except InputError as problem:
            raise InputError(self.told(str(problem))) from problem

    def told(self, text: str) -> str:
        """Return a sentence without the places of the server's folders."""
        for upload in (one.folder for one in self.uploads.all()):
            text = clean(text, upload)
        return clean(text, self.opened.runs.folder)


@final
class Picture:
    """`watch` of a drawing: a picture of the estimates x_hat of its first rows, at times.

    Args:
        job: shows it.
        model: is drawn from.
    """

    def __init__(self, job: Job, model: GenerativeModel) -> None:
        self.job, self.model = job, model

    def __call__(self, x_hat: Tensor) -> None:
        """Take the estimates (B, *) at unit scale."""
        if self.job.stopped():
            raise Cancelled
        if not self.job.watched():
            return
        transform, form = self.model.transform, self.model.form
        if transform is None or form is None or is_few(transform, len(x_hat)):
            return
        picture = io.BytesIO()
        rows = transform.decode(x_hat[:SHOWN].float().cpu())
        form.preview(rows).save(picture, format="PNG")
        self.job.preview = picture.getvalue()


def check_result(model: GenerativeModel, n: int) -> None:
    """Raise InputError if the array of `n` samples is larger than a result may be."""
    assert model.transform is not None
    size = (
        n
        * math.prod(model.transform.row_shape)
        * np.dtype(getattr(model.form, "dtype", "f8")).itemsize
    )
    if size > RESULTS:
        raise InputError(
            f"n {n:,}: so many samples take {size / 2**30:,.1f} GiB, and a result may take "
            f"{RESULTS / 2**30:,.0f}; draw fewer at a time, each with another seed."
        )


def own_form(model: GenerativeModel) -> str:
    """Return the form that the data of a model have: that of a file, or zip for a folder."""
    assert model.form is not None
    suffix = Path(model.form.suggested_out).suffix
    return suffix.removeprefix(".") or "zip"


def zipped(folder: Path, file: Path) -> Path:
    """Write all files in a folder to a zip file, in order and without their dates.

    The files are removed.
    """
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(str(path.relative_to(folder)), _DATE)
            entry.external_attr = 0o644 << 16
            with path.open("rb") as source, archive.open(entry, "w", force_zip64=True) as target:
                while part := source.read(2**20):
                    target.write(part)
    remove(folder)
    return file


def _note(job: Job, text: str) -> None:
    if not text.startswith(("wrote ", "completed ")):
        job.note(clean(text, job.folder / "drawn", job.folder))


def _arrays(found: Scores) -> dict[str, np.ndarray]:
    return {
        name: column.astype(str) if column.dtype == object else column
        for name, column in found.columns.items()
    }


def _tree(found: Scores) -> dict[str, Any]:
    """Scores as plain data."""
    return {
        "columns": found.columns,
        "summary": asdict(found.summary),
        "held_out": found.held_out,
        "notes": list(found.notes),
        "kind": found.summary.kind,
        "meaning": found.summary.meaning,
    }


def _shared_data(runs: Mapping[str, Run], job: Job) -> Data:
    """The data that all runs were trained on. Raises InputError if they differ."""
    marks = {run.config["data"].get("fingerprint") for run in runs.values()}
    splits = {json.dumps(run.config["data"].get("split"), sort_keys=True) for run in runs.values()}
    if len(marks) != 1 or len(splits) != 1:
        raise InputError(
            f"{', '.join(runs)}: were trained on different data, or hold out different rows, so "
            "they cannot be compared; choose runs of the same data and seed."
        )
    first = next(iter(runs.values()))
    data = first.data(progress=job.progress)
    if not isinstance(data, Data):
        raise InputError(f"{first.given}: its data have changed; restore them.")
    return data


def _described(data: Data) -> dict[str, Any]:
    return {
        "name": data.name,
        "training_rows": len(data),
        "held_out_rows": data.n_held_out,
        "shape": list(data.shape),
        "classes": list(data.classes),
    }
