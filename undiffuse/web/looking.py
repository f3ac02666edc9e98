"""What there is to see of a row: its path from noise, its neighbour, its surprise, its empty cells.

Each function calls what training, sampling and scoring use, and returns plain JSON.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, final

import numpy as np
import torch
from torch import Tensor

from undiffuse.data import Data, complete
from undiffuse.data.rows import as_tensor
from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate, expand, noised
from undiffuse.diffusion.noise import RowNoise
from undiffuse.diffusion.schedules.process import Times
from undiffuse.errors import InputError
from undiffuse.evaluation.metrics.neighbours import nearest
from undiffuse.evaluation.scores import Scoring, calibrate
from undiffuse.models import GenerativeModel
from undiffuse.models.again import filled
from undiffuse.models.diffusion import Diffusion, Wrap, guided
from undiffuse.models.likelihood import how_of
from undiffuse.run import Run
from undiffuse.training.checkpoint import WEIGHTS
from undiffuse.web.faces import json_number, rounded, shown_rows, table_cells

FRAMES = 24  # of a path
NEIGHBOURS = 20_000  # training rows that are looked through, at most
LEVELS, DRAWS, USUAL = 12, 4, 8  # noise levels, draws at each, and rows that say what is usual
_MOST_KEPT = 2**24  # numbers of training rows in memory
_SURPRISE = 0x5A  # the seed of the noise that errors are measured with
_BINS = 24


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
    x_t = torch.cat([x for _, x, _ in seen]).float().cpu()
    x_hat = torch.cat([x for _, _, x in seen]).float().cpu()
    spread = model.sigma_data or 1.0
    scale = spread / ((alpha * spread).square() + sigma.square()).sqrt()
    decoded = [model.transform.decode(x) for x in (expand(scale, x_t) * x_t, x_hat)]
    noisy, hats = (shown_rows(model, rows)["items"] for rows in decoded)
    ratio = (sigma / alpha).tolist()
    return [
        {"t": t, "noise": json_number(noise), "x_t": x, "x_hat": hat}
        for t, noise, x, hat in zip(times.tolist(), ratio, noisy, hats, strict=True)
    ]


# --- training rows, and those that were held out


@final
class KnownRows(NamedTuple):
    """A run's data, training rows at unit scale (N, d), and how near held-out rows are to them."""

    data: Data
    x: Tensor
    usual: float


def known_data(run: Run) -> KnownRows:
    """Return a run's data; read once, as long as its weights stay."""
    weights = run.path / WEIGHTS
    return _read(str(run.path), weights.stat().st_mtime_ns if weights.exists() else 0)


@lru_cache(maxsize=2)
def _read(path: str, stamp: int) -> KnownRows:
    data = Run(path).data()
    if not isinstance(data, Data):
        raise InputError(f"{path}: the data that it was trained on are not there any more.")
    most = max(2, min(NEIGHBOURS, _MOST_KEPT // math.prod(data.transform.shape)))
    x = _encoded(data.transform, data.sample_batch(most)["row"])
    held_out = _encoded(data.transform, data.held_out_batch(64)["row"])
    return KnownRows(
        data, x, float(nearest(held_out, x)[0].median()) if len(held_out) else math.nan
    )


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
    known = known_data(run)
    distance, index = nearest(_encoded(model.transform, as_tensor(row)), known.x)
    place = int(index[0, 0])
    found = known.data.sample_batch(len(known.x))["row"][place : place + 1].numpy()
    shown = shown_rows(model, found)
    return {
        "item": shown["items"][0],
        "columns": shown["columns"],
        "distance": float(distance[0, 0]),
        "usual": json_number(known.usual),
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
        "nats": [json_number(value) for value in found.scores.tolist()],
        "p_values": [json_number(value) for value in found.p_values(others).tolist()],
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
        "kind" and "values" in nats: "map" (H lists of W numbers, summed over channels), "curve"
        (one list, a number for each step) or "columns" (pairs of a name and a number, the greatest
        first).

    Raises:
        InputError: for a model without noise levels, and if the run's data are not there any more.
    """
    if not isinstance(model, Diffusion) or model.only_own:
        raise InputError("surprise: only a diffusion model says where it sits.")
    transform, form = model.transform, model.form
    assert transform is not None
    assert form is not None
    usual = known_data(run).data.held_out_batch(USUAL)["row"]
    own = _errors(model, as_tensor(row), DRAWS)[0]
    excess = own - _errors(model, usual, 1).mean(0)
    sides = excess.ndim - 1
    if sides:
        summed = excess.sum(0)
        if sides == 1:
            return {"kind": "curve", "values": [_listed(summed)]}
        return {"kind": "map", "values": [_listed(line) for line in summed]}
    entries = math.prod(transform.row_shape)
    masks = torch.eye(entries, dtype=torch.bool).reshape(entries, *transform.row_shape)
    shares = (transform.known(masks).double() * excess).sum(1).tolist()
    names = list(form.column_sizes) or [str(i) for i in range(entries)]
    order = sorted(range(entries), key=lambda i: -shares[i])
    return {"kind": "columns", "values": [[names[i], rounded(shares[i])] for i in order]}


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


def draws_of_cells(
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
    form: Any = model.form
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
    rows = filled(model, model.sample_rows(n, given=given, seed=seed), given=given, seed=seed)
    fields = zip(form.columns, form.arrow_schema(), rows.T, given.known[0], strict=True)
    empty = {
        column.name: _distribution(column, field.type, codes)
        for column, field, codes, known in fields
        if not known
    }
    columns, lines = table_cells(form, rows[:8])
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


def _listed(values: Tensor) -> Any:
    return [rounded(one) for one in values.tolist()]
