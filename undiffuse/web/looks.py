"""What only looking needs: rows to show, a sample's path, its neighbour, where a row surprises.

Each is a call of what training, sampling and scoring use; the routes say which rows are meant:

    {"job": ID}         rows that a job has drawn, into an array or a table
    {"upload": ID}      rows of uploaded files, in the run's stored type
    {"held_out": true}  rows that the run held out
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import wave
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any, NamedTuple, final

import numpy as np
import torch
from fastapi import APIRouter, Query, Request, Response
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from undiffuse.data import Data, complete, conform
from undiffuse.data.conformed import Readable
from undiffuse.data.pictures import untiled
from undiffuse.data.rows import as_tensor
from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate, expand, noised
from undiffuse.diffusion.noise import RowNoise
from undiffuse.diffusion.schedules.process import Times
from undiffuse.errors import InputError
from undiffuse.evaluation.metrics.neighbours import nearest
from undiffuse.evaluation.scores import Scoring, calibrate
from undiffuse.models import GenerativeModel
from undiffuse.models.diffusion import Diffusion, Wrap, guided
from undiffuse.models.likelihood import how_of
from undiffuse.run import Run
from undiffuse.training.checkpoint import WEIGHTS
from undiffuse.web.api import Prefer, RunName, Served, answer
from undiffuse.web.jobs import Job, Result
from undiffuse.web.service import Service
from undiffuse.web.toy import toy

MOST_ROWS = 256  # shown at a time
MOST_DRAWS = 256  # of the cells of a row
MOST_VALUES = 2**20  # numbers of a row that are sent
FRAMES = 24  # of a path
POINTS = 512  # of a curve
COLUMNS = 64  # of a vector that are shown
NEIGHBOURS = 20_000  # training rows that are looked through, at most
LEVELS, DRAWS, USUAL = 12, 4, 8  # noise levels, draws at each, and rows that say what is usual
_MOST_KEPT = 2**24  # numbers of training rows in memory
_SURPRISE = 0x5A  # the seed of the noise that errors are measured with
_BINS = 24

looks = APIRouter(prefix="/api/v1/runs/{name}/looks", tags=["looks"])
toys = APIRouter(prefix="/api/v1", tags=["looks"])


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Which(_Asked):
    """Which rows are meant: those of one of three places."""

    job: str | None = None
    upload: str | None = None
    held_out: bool = False
    rows: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=MOST_ROWS)] | None = None
    values: bool = False


class One(_Asked):
    """Which row is meant."""

    job: str | None = None
    upload: str | None = None
    held_out: bool = False
    row: Annotated[int, Field(ge=0)] = 0


class Drawn(_Asked):
    """A sample, as the job that drew it was asked."""

    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    row: Annotated[int, Field(ge=0, lt=2**31)] = 0
    label: str | None = None
    where: dict[str, str | float] | None = None
    guidance: float | None = None
    method: str | None = None
    steps: Annotated[int, Field(ge=1, le=1000)] | None = None


class Cells(_Asked):
    """A row of a table of which some cells are filled."""

    cells: Annotated[dict[str, str], Field(max_length=1024)]
    n: Annotated[int, Field(ge=1, le=MOST_DRAWS)] = 64
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


class Compared(_Asked):
    """Scores that are compared with those of held-out rows."""

    scores: Annotated[list[float | None], Field(max_length=100_000)] = []


# --- routes


@looks.post("/rows", response_model=None)
def look_at_rows(name: RunName, asked: Which, service: Served) -> Any:
    """Rows as a page shows them: pictures, curves, sounds, cells."""
    run, model = service.opened.open(name)
    found = _found(service, run, asked)
    places = list(range(min(len(found), 64))) if asked.rows is None else asked.rows
    return found.shown(model, places, values=asked.values)


@looks.post("/path", response_model=None)
async def look_at_path(
    name: RunName, asked: Drawn, service: Served, request: Request, prefer: Prefer = None
) -> Response:
    """The way of a sample from noise."""

    def look(run: Run, model: GenerativeModel) -> Any:
        return path_of(model, **asked.model_dump())

    return await _looked(name, service, request, prefer, look)


@looks.post("/nearest", response_model=None)
async def look_at_nearest(
    name: RunName, asked: One, service: Served, request: Request, prefer: Prefer = None
) -> Response:
    """The training row that is nearest to a row."""

    def look(run: Run, model: GenerativeModel) -> Any:
        return nearest_of(run, model, _found(service, run, asked).take([asked.row]))

    return await _looked(name, service, request, prefer, look)


@looks.post("/likelihood", response_model=None)
async def look_at_likelihood(
    name: RunName, asked: One, service: Served, request: Request, prefer: Prefer = None
) -> Response:
    """The log-likelihood of a row, in nats."""

    def look(run: Run, model: GenerativeModel) -> Any:
        row = _found(service, run, asked).take([asked.row])
        found = model.likelihood_rows(as_tensor(row).to(model.device))
        numbers = {"nats": float(found.nats[0]), "stderr": float(found.stderr[0])}
        told = {key: _finite(value) for key, value in numbers.items()}
        return told | {"kind": found.kind, "meaning": found.meaning}

    return await _looked(name, service, request, prefer, look)


@looks.post("/surprise", response_model=None)
async def look_at_surprise(
    name: RunName, asked: One, service: Served, request: Request, prefer: Prefer = None
) -> Response:
    """Where a row surprises."""

    def look(run: Run, model: GenerativeModel) -> Any:
        return surprise_of(run, model, _found(service, run, asked).take([asked.row]))

    return await _looked(name, service, request, prefer, look)


@looks.post("/cells", response_model=None)
async def look_at_cells(
    name: RunName, asked: Cells, service: Served, request: Request, prefer: Prefer = None
) -> Response:
    """How the empty cells of a row of a table are distributed."""

    def look(run: Run, model: GenerativeModel) -> Any:
        return cells_of(model, asked.cells, n=asked.n, seed=asked.seed)

    return await _looked(name, service, request, prefer, look)


@looks.post("/held-out-scores", response_model=None)
async def look_at_held_out_scores(
    name: RunName, asked: Compared, service: Served, request: Request, prefer: Prefer = None
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

    def work(job: Job) -> Result:
        found = look(*service.opened.open(name))
        out = job.folder / "look.json"
        out.write_text(json.dumps(found, allow_nan=False), encoding="utf-8")
        return Result(out, "application/json", "look.json")

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
class Found(NamedTuple):
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


def _found(service: Service, run: Run, asked: Which | One) -> Found:
    if sum([asked.job is not None, asked.upload is not None, asked.held_out]) != 1:
        raise InputError("looks: name one of job, upload and held_out.")
    if asked.held_out:
        own = _known(run).data.held_out_rows()
    elif asked.upload is not None:
        own = conform(service.uploads.find(asked.upload).path, run.config["data"])
    else:
        job = service.jobs.find(str(asked.job))
        if job.result is None or job.run != run.path.name:
            raise InputError("looks: this job has drawn no rows of this run.")
        own = conform(job.result.file, run.config["data"])
    return Found(own.readable, len(own), own.names, own.notes)


def shown_rows(model: GenerativeModel, rows: np.ndarray, *, values: bool = False) -> dict[str, Any]:
    """Return stored rows (n, ...) as a page shows them.

    Args:
        model: the model that has met their data.
        rows: of the stored type.
        values: whether the numbers themselves are sent too.

    Returns:
        "items", a mapping for each row: "picture" (a data URL) of images and grids, "curves" of
        sequences (lists of numbers, a channel each), "sound" (a data URL) of recordings, "cells" of
        tables and vectors, "values" (a flat list, None for NaN); "columns", the names of the cells;
        "picture" of all rows, where a row of its own has none; "row_shape" and "axes".

    Raises:
        InputError: for values of rows of more than 2^20 numbers.
    """
    transform, form = model.transform, model.form
    assert transform is not None
    assert form is not None
    sides = len(transform.shape) - 1
    items: list[dict[str, Any]] = [{} for _ in rows]
    columns, names = None, list(form.column_sizes)
    if names:
        columns, lines = _table(form, rows)
        for item, line in zip(items, lines, strict=True):
            item["cells"] = line
    elif sides == 0:
        flat = rows.reshape(len(rows), -1)[:, :COLUMNS]
        columns = [str(i) for i in range(flat.shape[1])]
        for item, line in zip(items, flat.tolist(), strict=True):
            item["cells"] = [f"{value:.6g}" for value in line]
    elif sides == 1:
        for item, curves in zip(items, _curves(transform, rows), strict=True):
            item["curves"] = curves
    else:
        for i, item in enumerate(items):
            item["picture"] = data_url(untiled(form.preview(rows[i : i + 1])))
    rate = getattr(form, "rate", None)
    if rate is not None:
        for item, row in zip(items, rows, strict=True):
            item["sound"] = _wav(row, rate)
    if values:
        if rows[0].size > MOST_VALUES:
            raise InputError(f"rows of {rows[0].size:,} numbers are too large to edit in a page.")
        for item, row in zip(items, rows, strict=True):
            item["values"] = [_finite(value) for value in row.reshape(-1).tolist()]
    return {
        "items": items,
        "columns": columns,
        "modelled": names or columns,
        "picture": data_url(form.preview(rows)) if sides == 0 and len(rows) > 1 else None,
        "row_shape": list(transform.row_shape),
        "axes": getattr(transform, "axes", None),
        "rate": rate,
    }


def _table(form: Any, rows: np.ndarray) -> tuple[list[str], list[list[str]]]:
    """The names and the cells of rows of a table, spelled as a file of them has them."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "rows.csv"
        form.save(rows, file)
        with file.open(newline="", encoding="utf-8") as stream:
            names, *lines = csv.reader(stream, delimiter=form.delimiter)
    return names, lines


def _curves(transform: Any, rows: np.ndarray) -> list[list[list[float | None]]]:
    """Rows of sequences as lists of at most 512 numbers: all, or the least and greatest of each part."""
    where = transform.axes.find("C") if len(transform.axes) > 1 else -1
    waves = np.moveaxis(rows, where + 1, 1) if where > 0 else rows
    waves = waves.reshape(len(rows), transform.layout[0], -1).astype(np.float64)
    if waves.shape[2] > POINTS:
        starts = np.linspace(0, waves.shape[2], POINTS // 2, endpoint=False).astype(np.int64)
        low, high = (of.reduceat(waves, starts, axis=2) for of in (np.fmin, np.fmax))
        waves = np.stack([low, high], 3).reshape(*low.shape[:2], -1)
    return [
        [[_rounded(value) for value in channel] for channel in row] for row in waves[:, :8].tolist()
    ]


def _wav(row: np.ndarray, rate: int) -> str:
    """A recording (L,) or (L, C) as a WAV file of 16 bits, in a data URL."""
    if row.dtype.kind == "f":
        row = np.rint(np.clip(np.nan_to_num(row), -1, 1) * 32767)
    samples = row.reshape(len(row), -1).astype("<i2")
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setnchannels(samples.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(samples.tobytes())
    return "data:audio/wav;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def data_url(image: Image.Image) -> str:
    """Return an image as a PNG in a data URL.

    >>> data_url(Image.new("L", (1, 1)))[:22]
    'data:image/png;base64,'
    """
    stream = io.BytesIO()
    image.save(stream, format="PNG")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


# --- the path of a sample


@final
class _Watched(AbstractDenoiser):
    """A denoiser that keeps what it was asked and what it answered."""

    def __init__(self, denoiser: AbstractDenoiser) -> None:
        super().__init__()
        self.denoiser, self.schedule = denoiser, denoiser.schedule
        self.seen: list[tuple[float, Tensor, Tensor]] = []

    def estimate(self, x_t: Tensor, t: Times, **cond: Any) -> Estimate:
        """Return what the denoiser gives."""
        found = self.denoiser.estimate(x_t, t, **cond)
        self.seen.append((float(t.reshape(-1)[0]), x_t.clone(), found.x_hat.clone()))
        return found


def path_of(
    model: GenerativeModel,
    *,
    seed: int,
    row: int,
    label: str | None = None,
    where: Mapping[str, Any] | None = None,
    guidance: float | None = None,
    method: str | None = None,
    steps: int | None = None,
) -> dict[str, Any]:
    """Draw sample `row` of a seed again, and return what its sampler saw on the way.

    Args:
        model: the model.
        seed: that of the samples.
        row: the number of the sample.
        label: as for `sample_rows`.
        where: likewise.
        guidance: its scale; None: as by default.
        method: as for `sample_rows`.
        steps: likewise.

    Returns:
        "frames", from noise to data, each with "t", "noise" (sigma/alpha), "x_t" and "x_hat", items
        as of `shown_rows`; "sample", the item of the sample; "evaluations" of the network.

    Raises:
        InputError: as `sample_rows` does.
    """
    watched: list[_Watched] = []
    options = {"method": method, "steps": steps}
    options = {name: value for name, value in options.items() if value is not None}
    if isinstance(model, Diffusion):
        guide = _guide(model, guidance, method)

        def wrap(denoiser: AbstractDenoiser) -> AbstractDenoiser:
            watched.append(_Watched(guide(denoiser) if guide else denoiser))
            return watched[-1]

        options |= {"wrap": wrap}
    elif guidance is not None:
        raise InputError("guidance: this model draws in one pass; leave it out.")
    rows = model.sample_rows(1, seed=seed, first=row, label=label, where=where, **options)
    seen = watched[0].seen if watched else []
    shown = [seen[round(i)] for i in np.linspace(0, len(seen) - 1, min(FRAMES, len(seen)))]
    return {
        "frames": _frames(model, shown),
        "sample": shown_rows(model, rows),
        "evaluations": len(seen) or 1,
    }


def _guide(model: Diffusion, guidance: float | None, method: str | None) -> Wrap | None:
    """The guidance that is asked for; None asked: as `tune` found it, if it did."""
    if guidance is not None:
        return None if guidance == 1 else guided(model, guidance)
    tuned = model.tuned.guidance if model.tuned and method is None and model.classes else None
    return guided(model, tuned.scale, low=tuned.low, high=tuned.high) if tuned else None


def _frames(
    model: GenerativeModel, seen: list[tuple[float, Tensor, Tensor]]
) -> list[dict[str, Any]]:
    if not seen:
        return []
    assert isinstance(model, Diffusion)
    assert model.transform is not None
    times = torch.tensor([t for t, _, _ in seen], dtype=torch.float64)
    alpha, sigma = model.schedule(times)
    x_t, x_hat = (torch.cat([one[i] for one in seen]).float().cpu() for i in (1, 2))
    spread = model.sigma_data or 1.0
    scale = spread / ((alpha * spread).square() + sigma.square()).sqrt()
    decoded = [model.transform.decode(x) for x in (expand(scale, x_t) * x_t, x_hat)]
    noisy, hats = (shown_rows(model, rows)["items"] for rows in decoded)
    ratio = (sigma / alpha).tolist()
    return [
        {"t": t, "noise": _finite(noise), "x_t": x, "x_hat": hat}
        for t, noise, x, hat in zip(times.tolist(), ratio, noisy, hats, strict=True)
    ]


# --- training rows, and those that were held out


@final
class _Known(NamedTuple):
    """A run's data, training rows at unit scale (N, d), and how near held-out rows are to them."""

    data: Data
    x: Tensor
    usual: float


def _known(run: Run) -> _Known:
    weights = run.path / WEIGHTS
    return _read(str(run.path), weights.stat().st_mtime_ns if weights.exists() else 0)


@lru_cache(maxsize=2)
def _read(path: str, stamp: int) -> _Known:
    data = Run(path).data()
    if not isinstance(data, Data):
        raise InputError(f"{path}: the data that it was trained on are not there any more.")
    most = max(2, min(NEIGHBOURS, _MOST_KEPT // math.prod(data.transform.shape)))
    x = _encoded(data.transform, data.sample_batch(most)["row"])
    held_out = _encoded(data.transform, data.held_out_batch(64)["row"])
    return _Known(data, x, float(nearest(held_out, x)[0].median()) if len(held_out) else math.nan)


def _encoded(transform: Any, rows: Tensor) -> Tensor:
    return transform.encode(rows, torch.zeros_like)[0].flatten(1)


def nearest_of(run: Run, model: GenerativeModel, row: np.ndarray) -> dict[str, Any]:
    """Return the training row that is nearest to a stored row (1, ...).

    Returns:
        "item", as of `shown_rows`; "distance" at unit scale; "usual", the median of that of rows
        that were held out; "looked_at" and "training", of how many rows.

    Raises:
        InputError: if the run's data are not there any more.
    """
    known = _known(run)
    distance, index = nearest(_encoded(model.transform, as_tensor(row)), known.x)
    place = int(index[0, 0])
    found = known.data.sample_batch(len(known.x))["row"][place : place + 1].numpy()
    shown = shown_rows(model, found)
    return {
        "item": shown["items"][0],
        "columns": shown["columns"],
        "distance": float(distance[0, 0]),
        "usual": _finite(known.usual),
        "looked_at": len(known.x),
        "training": len(known.data),
    }


def held_out_scores_of(
    run: Run, model: GenerativeModel, scores: Sequence[float | None] = ()
) -> dict[str, Any]:
    """Return the log-likelihoods of held-out rows that `score` compares with.

    Args:
        run: the run, whose folder holds them once anything was scored.
        model: its model.
        scores: log-likelihoods of other rows, by the same way of scoring, in nats.

    Returns:
        "nats" of held-out rows, ascending; "p_values" of `scores`, None for None.

    Raises:
        InputError: for a model without a likelihood.
    """
    if model.no_density:
        raise InputError(model.no_density)
    scoring = Scoring(how=how_of(model, None))
    found = calibrate(model, run.path, run.held_out(), scoring=scoring, batch=model.at_once)
    assert found is not None
    others = np.array([math.nan if score is None else score for score in scores])
    return {
        "nats": [_finite(value) for value in found.scores.tolist()],
        "p_values": [_finite(value) for value in found.p_values(others).tolist()],
    }


# --- where a row surprises


def surprise_of(run: Run, model: GenerativeModel, row: np.ndarray) -> dict[str, Any]:
    """Return where a stored row (1, ...) is denoised worse than rows usually are.

    The bound on -log p(x) is an integral over noise levels, lambda = log SNR, of

        1/2 exp(lambda) |x - x_hat|^2 d lambda

    (Kingma et al. 2021, Eq. 15), a sum over the coordinates of x. Here it is taken over 12 levels
    between a seventh and twenty times the data's own deviation, with the same noise for all rows,
    less its mean over 8 held-out rows.

    Returns:
        "kind" and "values" in nats: "map" (H lists of W numbers, summed over channels), "curve" (a
        number for each step) or "columns" (pairs of a name and a number, the greatest first).

    Raises:
        InputError: for a model without noise levels, and if the run's data are not there any more.
    """
    if not isinstance(model, Diffusion) or model.only_own:
        raise InputError("surprise: only a diffusion model says where it sits.")
    transform, form = model.transform, model.form
    assert transform is not None
    assert form is not None
    usual = _known(run).data.held_out_batch(USUAL)["row"]
    own = _errors(model, as_tensor(row), DRAWS)[0]
    excess = own - _errors(model, usual, 1).mean(0)
    sides = excess.ndim - 1
    if sides:
        summed = excess.sum(0)
        kind, flat = ("curve", summed) if sides == 1 else ("map", summed.flatten(0, -2))
        return {"kind": kind, "values": [_listed(one) for one in flat]}
    entries = math.prod(transform.row_shape)
    masks = torch.eye(entries, dtype=torch.bool).reshape(entries, *transform.row_shape)
    shares = (transform.known(masks).double() * excess).sum(1).tolist()
    names = list(form.column_sizes) or [str(i) for i in range(entries)]
    order = sorted(range(entries), key=lambda i: -shares[i])
    return {"kind": "columns", "values": [[names[i], _rounded(shares[i])] for i in order]}


@torch.no_grad()
def _errors(model: Diffusion, rows: Tensor, draws: int) -> Tensor:
    """The integrand at each coordinate, summed over the levels: (B, *shape) in nats."""
    assert model.transform is not None
    x = model.transform.encode(rows, torch.zeros_like)[0].to(model.device)
    cond = model.label_condition(len(x), None)
    if model.kept is not None:
        cond["vector"] = model.kept.hidden(1).float().expand(len(x), -1).to(model.device)
    denoiser, middle = model.trained().given(**cond), -2 * math.log(model.sigma_data or 1.0)
    levels = torch.linspace(middle - 4, middle + 6, LEVELS, dtype=torch.float64)
    total = torch.zeros_like(x)
    for t, level in zip(model.schedule.inverse(levels).unbind(), levels.tolist(), strict=True):
        for draw in range(draws):
            z = RowNoise(_SURPRISE + draw, 1)(x[:1]).expand_as(x)
            x_hat = denoiser(noised(model.schedule, x, z, t), t)
            width = float(levels[1] - levels[0])
            total += (x_hat - x).square() * (math.exp(level) / 2 * width / draws)
    return total.cpu()


# --- the cells of a row of a table


def cells_of(
    model: GenerativeModel, cells: Mapping[str, str], *, n: int, seed: int = 0
) -> dict[str, Any]:
    """Return how the empty cells of a row of a table are distributed given the others.

    Args:
        model: a model of a table.
        cells: column -> what stands in the cell; "" and columns that are left out are empty.
        n: how often the row is completed.
        seed: decides everything random.

    Returns:
        "empty": column -> {"bars": [[text, share], ...], "missing": share} of categories, and of
        numbers {"counts", "low", "high", "quantiles": three texts (5, 50, 95 %), "missing"};
        "columns" and "rows", the first eight completed rows; "notes".

    Raises:
        InputError: for a model of no table, and cells that its data cannot have.
    """
    form = model.form
    assert form is not None
    if not form.column_sizes:
        raise InputError("cells: this model is not of a table.")
    if unknown := [name for name in cells if name not in form.column_sizes]:
        raise InputError(f'cells: the table has no column "{unknown[0]}".')
    with TemporaryDirectory() as folder:
        file = Path(folder) / "row.csv"
        with file.open("w", newline="", encoding="utf-8") as stream:
            names = list(form.column_sizes)
            csv.writer(stream, quoting=csv.QUOTE_ALL).writerows(
                [names, [cells.get(name, "") for name in names]]
            )
        given = complete(file, model.data_config or {})
    rows = model.sample_rows(n, given=given, seed=seed)
    fields = zip(form.columns, form.arrow_schema(), rows.T, given.known[0], strict=True)
    empty = {
        column.name: _distribution(column, field.type, codes)
        for column, field, codes, known in fields
        if not known
    }
    columns, lines = _table(form, rows[:8])
    return {"empty": empty, "columns": columns, "rows": lines, "notes": list(given.notes)}


def _distribution(column: Any, arrow_type: Any, codes: np.ndarray) -> dict[str, Any]:
    present = codes[~np.isnan(codes)]
    missing = 1 - len(present) / len(codes)
    if not len(present):
        return {"bars": [], "missing": missing}
    if column.size:
        values, counts = np.unique(present, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        texts = column.texts(values[order], arrow_type)
        shares = (counts[order] / len(codes)).tolist()
        return {"bars": [list(pair) for pair in zip(texts, shares)], "missing": missing}
    ends = column.texts(np.array([present.min(), present.max()]), arrow_type)
    levels = np.quantile(present, (0.05, 0.5, 0.95), method="nearest")
    counts = np.histogram(present, bins=_BINS)[0].tolist()
    quantiles = list(column.texts(levels, arrow_type))
    return {
        "counts": counts,
        "low": ends[0],
        "high": ends[1],
        "quantiles": quantiles,
        "missing": missing,
    }


# --- numbers


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _rounded(value: float) -> float | None:
    return float(f"{value:.5g}") if math.isfinite(value) else None


def _listed(values: Tensor) -> Any:
    return [_rounded(one) for one in values.tolist()] if values.ndim else _rounded(values.item())
