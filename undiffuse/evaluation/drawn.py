"""Samples as they are drawn, kept batch by batch: whatever interrupts it, drawing goes on from the last whole batch.

    FOLDER/<key>/00000000.npz, 00000064.npz, ...     rows, seconds, evaluations: named by the number of its first row

The key is a hash of the weights, the sampler, the seed and the kind of device. A sample depends on the seed and its
number alone, so that asking for fewer or more of them later takes from, or adds to, what is there.

Evaluations are counted where they happen: rows that pass through a player's `forward`, per sample, of the player that
is asked most. A family that enters its networks by another door (a decoder, an inverse) does so once a sample.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
from torch import Tensor, nn

from undiffuse.atomic import atomic_file
from undiffuse.data import Progress
from undiffuse.evaluation.features.base import content_hash
from undiffuse.evaluation.metrics.figure import Figure, student
from undiffuse.models import GenerativeModel

FOLDER = "evaluation"  # in the run's


@final
@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Samples (n, ...) of the stored type; evaluations of the network a sample; (rows, seconds) of each batch."""

    rows: np.ndarray
    evaluations: float
    batches: tuple[tuple[int, float], ...]

    @property
    def rate(self) -> Figure:
        """Samples per second, with the interval that the batches' own rates give it."""
        largest = max(rows for rows, _ in self.batches)
        whole = [(rows, seconds) for rows, seconds in self.batches if 2 * rows >= largest]
        rows, seconds = (sum(values) for values in zip(*whole))
        value, k = rows / max(seconds, 1e-12), len(whole)
        each = np.array([s / r for r, s in whole])
        stderr = (
            value * float(each.std(ddof=1)) / float(each.mean()) / math.sqrt(k)
            if k > 1
            else math.nan
        )
        width = student(k) * stderr if k > 1 else math.nan
        warning = "" if k > 1 else "one batch alone: no interval"
        return Figure(
            value=value,
            low=max(0.0, value - width),
            high=value + width,
            stderr=stderr,
            n=rows,
            warning=warning,
        )


def draw(
    model: GenerativeModel,
    n: int,
    folder: Path | None,
    *,
    options: Mapping[str, Any],
    seed: int = 0,
    batch: int = 64,
    progress: Progress | None = None,
    what: str = "drawing samples",
    stop: Callable[[], bool] = lambda: False,
) -> Drawn | None:
    """The samples 0 ... n - 1 of `seed`, drawn with the family's `options`; None if `stop()` said so before the last.

    What is drawn is kept in `folder`, and what is kept there is not drawn again; None keeps nothing. Raises InputError
    for options that the family does not take.
    """
    place = None if folder is None else folder / _key(model, options, seed)
    parts = [] if place is None else list(_kept(place))
    have = sum(len(part["rows"]) for part in parts)
    if have < n and not stop():
        model.sample_rows(1, seed=seed, **options)  # the first one takes longer and is not timed
    while have < n:
        if stop():
            return None
        if progress:
            progress(have, n, what)
        began = time.perf_counter()
        with counted(model) as count:
            rows = model.sample_rows(
                min(batch, n - have), seed=seed, first=have, batch=batch, **options
            )
        part = {
            "rows": rows,
            "seconds": time.perf_counter() - began,
            "evaluations": max(1.0, count() / len(rows)),
        }
        if place is not None:
            with atomic_file(place / f"{have:08d}.npz") as temporary:
                np.savez(temporary, **part)
        parts.append(part)
        have += len(rows)
    if progress:
        progress(n, n, what)
    sizes = [len(part["rows"]) for part in parts]
    evaluations = sum(size * float(part["evaluations"]) for size, part in zip(sizes, parts)) / have
    return Drawn(
        rows=np.concatenate([part["rows"] for part in parts])[:n],
        evaluations=evaluations,
        batches=tuple((size, float(part["seconds"])) for size, part in zip(sizes, parts)),
    )


@contextmanager
def counted(model: GenerativeModel) -> Iterator[Callable[[], float]]:
    """A function that says how many rows have passed through the player that is asked most, since this was entered."""
    counts: dict[str, int] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def count(module: nn.Module, given: tuple[Any, ...]) -> None:
            x = next((value for value in given if isinstance(value, Tensor)), None)
            counts[name] = counts.get(name, 0) + (len(x) if x is not None and x.ndim > 1 else 0)

        return count

    players = model.players()
    handles = [
        player.module.register_forward_pre_hook(hook(name)) for name, player in players.items()
    ]
    try:
        yield lambda: float(max(counts.values(), default=0))
    finally:
        for handle in handles:
            handle.remove()


def _key(model: GenerativeModel, options: Mapping[str, Any], seed: int) -> str:
    what = {
        "weights": content_hash("model", model.state_dict()),
        "options": dict(options),
        "seed": seed,
    }
    if model.device.type != "cpu":  # it is slower or faster there, and rounds otherwise
        what["device"] = model.device.type
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def _kept(place: Path) -> Iterator[dict[str, Any]]:
    """The batches that are there whole, up to the first that is missing or cannot be read."""
    have = 0
    while (file := place / f"{have:08d}.npz").exists():
        try:
            with np.load(file, allow_pickle=False) as part:
                found = {name: part[name] for name in ("rows", "seconds", "evaluations")}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            return
        have += len(found["rows"])
        yield found
