"""Samples drawn for a report, kept as they come, and what they cost.

Samples are kept in a `BatchFile` named by the weights, the sampler, the seed and the kind of
device, so that drawing goes on from the last whole batch. A sample depends on the seed and its
number alone: asking for fewer or more of them later takes from, or adds to, what is there.

Evaluations are counted where they happen: rows that pass through a player's `forward`, per sample,
of the player with the most. A family that uses its networks otherwise (a decoder, an inverse)
counts as one.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from undiffuse.evaluation.batch_file import BatchFile
from undiffuse.evaluation.features.abstract import content_hash
from undiffuse.evaluation.metrics.model import SINGLES
from undiffuse.interfaces import Progress, Stop
from undiffuse.models import GenerativeModel

FOLDER = "evaluation"  # in the run's
_LIKE = {"rows": "biuf", "seconds": "f", "evaluations": "f"}  # of a batch, kinds of numpy types
_PATIENCE = 30.0  # seconds of single samples, after which fewer are enough


@final
@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Samples and what they cost.

    Attributes:
        rows: samples (n, ...) of the stored type.
        evaluations: of the network, per sample.
        batches: (rows, seconds) of each batch.
    """

    rows: np.ndarray
    evaluations: float
    batches: tuple[tuple[int, float], ...]


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
    stop: Stop = lambda: False,
) -> Drawn | None:
    """Draw the samples 0 ... n - 1 of `seed`, or take them from `folder` as far as they are there.

    Args:
        model: the model.
        n: the number of samples.
        folder: where samples are kept; None keeps nothing.
        options: of the family's `draw`.
        seed: of the samples.
        batch: samples at a time.
        progress: told how many are drawn.
        what: the words it is told in.
        stop: polled before each batch.

    Returns:
        The samples; None if `stop()` was true before the last batch.

    Raises:
        InputError: for options that the family does not take, and more than this machine can hold.
    """
    model.check_samples(n, batch)
    file = None
    if folder is not None:
        shape = None if model.transform is None else tuple(model.transform.row_shape)
        identity = _identity(model, options, seed)
        file = BatchFile.in_folder(folder, identity, like=_LIKE, shape=shape)
    parts: list[dict[str, Any]] = [] if file is None else list(file)
    have = sum(len(part["rows"]) for part in parts)
    if have < n and not stop():
        model.sample_rows(1, seed=seed, **options)  # the first one takes longer and is not timed
    while have < n:
        if stop():
            return None
        if progress:
            progress(have, n, what)
        size, began = min(batch, n - have), time.perf_counter()
        with counted(model) as count:
            rows = model.sample_rows(size, seed=seed, first=have, batch=batch, **options)
        seconds, evaluations = time.perf_counter() - began, max(1.0, count() / len(rows))
        part = {"rows": rows, "seconds": seconds, "evaluations": evaluations}
        if file is not None:
            file.append(part)
        parts.append(part)
        have += len(rows)
    if progress:
        progress(n, n, what)
    sizes = [len(part["rows"]) for part in parts]
    return Drawn(
        rows=np.concatenate([part["rows"] for part in parts])[:n],
        evaluations=float(np.average([part["evaluations"] for part in parts], weights=sizes)),
        batches=tuple((size, float(part["seconds"])) for size, part in zip(sizes, parts)),
    )


def time_singles(
    model: GenerativeModel,
    options: Mapping[str, Any],
    *,
    seed: int = 0,
    stop: Stop = lambda: False,
) -> tuple[float, ...] | None:
    """Return the seconds that single samples take, after a first one that is not timed.

    Six of them, or fewer where they take long; None if `stop()` was true before the last.
    """
    model.sample_rows(1, seed=seed, **options)
    times: list[float] = []
    while len(times) < SINGLES and (sum(times) < _PATIENCE or not times):
        if stop():
            return None
        began = time.perf_counter()
        model.sample_rows(1, seed=seed, first=len(times), **options)
        times.append(time.perf_counter() - began)
    return tuple(times)


def peak_memory(model: GenerativeModel) -> int:
    """Return the most bytes that this process has held.

    On the accelerator if the model is on one, else in main memory.
    """
    if model.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(model.device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)


@contextmanager
def counted(model: GenerativeModel) -> Iterator[Callable[[], float]]:
    """Give a function that returns how many rows have passed through the player with the most."""
    counts = dict.fromkeys(model.players(), 0)

    def hook(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def count(module: nn.Module, given: tuple[Any, ...]) -> None:
            x = next((value for value in given if isinstance(value, Tensor)), None)
            counts[name] += len(x) if x is not None and x.ndim > 1 else 0

        return count

    handles = [
        player.module.register_forward_pre_hook(hook(name))
        for name, player in model.players().items()
    ]
    try:
        yield lambda: float(max(counts.values(), default=0))
    finally:
        for handle in handles:
            handle.remove()


def _identity(model: GenerativeModel, options: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """What samples depend on, and what their times do."""
    weights = content_hash("model", model.state_dict())
    device = model.device.type
    tuned = model.tuned_tree if options.get("method") is None else None
    settings = {"options": dict(options), "tuned": tuned}
    return {"weights": weights, **settings, "seed": seed, "device": device}
