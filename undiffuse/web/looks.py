"""What only looking needs: rows to show, a sample's path, its neighbour, where a row surprises.

Each is a call of what training, sampling and scoring use; the routes say which rows are meant:

    {"job": ID}         rows that a job has drawn, into an array or a table
    {"upload": ID}      rows of uploaded files, in the run's stored type
    {"held_out": true}  rows that the run held out

Uploaded rows whose values are asked for may have gaps: transparent pixels, NaN. These are null.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Annotated, Any, NamedTuple, final

import numpy as np
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from undiffuse.data import complete, conform
from undiffuse.data.conformed import Readable
from undiffuse.data.rows import as_tensor
from undiffuse.errors import InputError
from undiffuse.interfaces import PartialRows
from undiffuse.models import GenerativeModel
from undiffuse.run import Run
from undiffuse.web.api import Prefer, RunName, Served, answer
from undiffuse.web.faces import json_number, shown_rows
from undiffuse.web.jobs import Job, Outcome
from undiffuse.web.looking import (
    draws_of_cells,
    held_out_scores_of,
    known_data,
    nearest_of,
    path_of,
    surprise_of,
)
from undiffuse.web.service import Service
from undiffuse.web.toy import toy

MOST_ROWS = 256  # shown at a time
MOST_DRAWS = 256  # of the cells of a row

looks = APIRouter(prefix="/api/v1/runs/{name}/looks", tags=["looks"])
toys = APIRouter(prefix="/api/v1", tags=["looks"])


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WhichRows(_Asked):
    """Which rows are meant: those of one of three places."""

    job: str | None = None
    upload: str | None = None
    held_out: bool = False
    rows: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=MOST_ROWS)] | None = None
    values: bool = False


class WhichRow(_Asked):
    """Which row is meant."""

    job: str | None = None
    upload: str | None = None
    held_out: bool = False
    row: Annotated[int, Field(ge=0)] = 0


class WhichPath(_Asked):
    """A sample, as the job that drew it was asked."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    row: Annotated[int, Field(ge=0, lt=2**31)] = 0
    label: str | None = None
    where: dict[str, str | float] | None = None
    guidance: float | None = None
    method: str | None = None
    steps: Annotated[int, Field(ge=1, le=1000)] | None = None


class WhichCells(_Asked):
    """A row of a table of which some cells are filled."""

    cells: Annotated[dict[str, str], Field(max_length=1024)]
    n: Annotated[int, Field(ge=1, le=MOST_DRAWS)] = 64
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class WhichScores(_Asked):
    """Scores that are compared with those of held-out rows."""

    scores: Annotated[list[float | None], Field(max_length=100_000)] = []


# --- routes


@looks.post("/rows", response_model=None)
def look_at_rows(name: RunName, asked: WhichRows, service: Served) -> Any:
    """Rows as a page shows them: pictures, curves, sounds, cells."""
    run, model = service.opened.open(name)
    if asked.values and asked.upload is not None and not asked.held_out and asked.job is None:
        given = complete(service.uploads.find(asked.upload).path, run.config["data"])
        places = asked.rows or [0]
        if max(places) >= len(given):
            raise InputError(f"row {max(places)}: there are {len(given):,} rows, from 0 on.")
        return _partial(model, given.at(np.array(places)))
    found = _found(service, run, asked)
    places = list(range(min(len(found), 64))) if asked.rows is None else asked.rows
    return found.shown(model, places, values=asked.values)


@looks.post("/path", response_model=None)
async def look_at_path(
    name: RunName, asked: WhichPath, service: Served, request: Request, prefer: Prefer = None
) -> Response:
    """The way of a sample from noise."""

    def look(run: Run, model: GenerativeModel) -> Any:
        return path_of(model, **asked.model_dump())

    return await _looked(name, service, request, prefer, look)


@looks.post("/nearest", response_model=None)
async def look_at_nearest(
    name: RunName, asked: WhichRow, service: Served, request: Request, prefer: Prefer = None
) -> Response:
    """The training row that is nearest to a row."""

    def look(run: Run, model: GenerativeModel) -> Any:
        return nearest_of(run, model, _found(service, run, asked).take([asked.row]))

    return await _looked(name, service, request, prefer, look)


@looks.post("/likelihood", response_model=None)
async def look_at_likelihood(
    name: RunName, asked: WhichRow, service: Served, request: Request, prefer: Prefer = None
) -> Response:
    """The log-likelihood of a row, in nats."""

    def look(run: Run, model: GenerativeModel) -> Any:
        row = _found(service, run, asked).take([asked.row])
        found = model.likelihood_rows(as_tensor(row).to(model.device))
        numbers = {"nats": float(found.nats[0]), "stderr": float(found.stderr[0])}
        told = {key: json_number(value) for key, value in numbers.items()}
        return told | {"kind": found.kind, "meaning": found.meaning}

    return await _looked(name, service, request, prefer, look)


@looks.post("/surprise", response_model=None)
async def look_at_surprise(
    name: RunName, asked: WhichRow, service: Served, request: Request, prefer: Prefer = None
) -> Response:
    """Where a row surprises."""

    def look(run: Run, model: GenerativeModel) -> Any:
        return surprise_of(run, model, _found(service, run, asked).take([asked.row]))

    return await _looked(name, service, request, prefer, look)


@looks.post("/cells", response_model=None)
async def look_at_cells(
    name: RunName, asked: WhichCells, service: Served, request: Request, prefer: Prefer = None
) -> Response:
    """How the empty cells of a row of a table are distributed."""

    def look(run: Run, model: GenerativeModel) -> Any:
        return draws_of_cells(model, asked.cells, n=asked.n, seed=asked.seed)

    return await _looked(name, service, request, prefer, look)


@looks.post("/held-out-scores", response_model=None)
async def look_at_held_out_scores(
    name: RunName, asked: WhichScores, service: Served, request: Request, prefer: Prefer = None
) -> Response:
    """The log-likelihoods of held-out rows, and the p-values of scores among them."""

    def look(run: Run, model: GenerativeModel) -> Any:
        return held_out_scores_of(run, model, asked.scores)

    return await _looked(name, service, request, prefer, look)


async def _looked(
    name: str,
    service: Service,
    request: Request,
    prefer: str | None,
    look: Callable[[Run, GenerativeModel], Any],
) -> Response:
    """Let a job look, which waits for its turn at the model as all others do."""
    service.runs.path(name)

    def work(job: Job) -> Outcome:
        found = look(*service.opened.open(name))
        out = job.folder / "look.json"
        out.write_text(json.dumps(found, allow_nan=False), encoding="utf-8")
        return Outcome(out, "application/json", "look.json")

    return await answer(service, request, prefer, "look", name, work)


@toys.get("/toy.json", response_model=None)
def look_at_toy(
    cloud: Annotated[str, Query(max_length=50)] = "eight",
    schedule: Annotated[str, Query(max_length=50)] = "linear_vp",
) -> Any:
    """The numbers behind "How it works"."""
    return toy(cloud, schedule)


router = APIRouter()
router.include_router(looks)
router.include_router(toys)


# --- rows


@final
class RowsAt(NamedTuple):
    """Rows of one place, and what they are called."""

    rows: Readable
    total: int
    names: Sequence[Any]
    notes: tuple[str, ...]

    def __len__(self) -> int:
        """Return how many there are."""
        return self.total

    def take(self, places: list[int]) -> np.ndarray:
        """Return these rows. Raises InputError for one that there is not."""
        wrong = [place for place in places if not 0 <= place < self.total]
        if wrong:
            raise InputError(f"row {wrong[0]}: there are {self.total:,} rows, from 0 on.")
        return self.rows.take(np.array(places, np.int64))[0]

    def shown(self, model: GenerativeModel, places: list[int], *, values: bool) -> dict[str, Any]:
        """Return these rows as JSON for a page."""
        taken = self.take(places)
        names = [str(self.names[place]) for place in places]
        facts = {"total": self.total, "rows": places, "names": names, "notes": list(self.notes)}
        return facts | shown_rows(model, taken, values=values)


def _partial(model: GenerativeModel, given: PartialRows) -> dict[str, Any]:
    """Return rows with gaps as JSON for a page; values that are not known are None."""
    shown = shown_rows(model, given.rows, values=True)
    for item, known in zip(shown["items"], given.known.reshape(len(given), -1), strict=True):
        item["values"] = [value if here else None for value, here in zip(item["values"], known)]
    return shown | {"notes": list(given.notes)}


def _found(service: Service, run: Run, asked: WhichRows | WhichRow) -> RowsAt:
    if sum([asked.job is not None, asked.upload is not None, asked.held_out]) != 1:
        raise InputError("looks: name one of job, upload and held_out.")
    if asked.held_out:
        own = known_data(run).data.held_out_rows()
    elif asked.upload is not None:
        own = conform(service.uploads.find(asked.upload).path, run.config["data"])
    else:
        job = service.jobs.find(str(asked.job))
        if job.result is None or job.run != run.path.name:
            raise InputError("looks: this job has drawn no rows of this run.")
        own = conform(job.result.file, run.config["data"])
    return RowsAt(own.readable, len(own), own.names, own.notes)
