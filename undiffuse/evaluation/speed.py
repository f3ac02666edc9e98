"""What a sample costs: the time of one, the memory, the size of the model."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from undiffuse.evaluation.metrics import Figure
from undiffuse.models import GenerativeModel

DRAWS = 6  # of one sample: between the shortest and the longest lies the median, with probability 1 - 2^-5 = 97 %
PATIENCE = 30.0  # seconds, after which fewer have to do


def latency(
    model: GenerativeModel,
    options: Mapping[str, Any],
    *,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> Figure | None:
    """The median time of drawing one sample, in seconds, after a first one that is not measured; None if stopped.

    The interval is from the shortest to the longest of six. Where they take long there are fewer, with a warning.
    """
    model.sample_rows(1, seed=seed, **options)
    times: list[float] = []
    while len(times) < DRAWS and (sum(times) < PATIENCE or not times):
        if stop():
            return None
        began = time.perf_counter()
        model.sample_rows(1, seed=seed, first=len(times), **options)
        times.append(time.perf_counter() - began)
    low, high = min(times), max(times)
    return Figure(
        value=statistics.median(times),
        low=low,
        high=high,
        stderr=(high - low) / 4,
        n=len(times),
        warning=""
        if len(times) == DRAWS
        else f"only {len(times)} of {DRAWS} draws: they take long",
    )


def peak_memory(model: GenerativeModel) -> int:
    """The most bytes that this process has held: on the accelerator, if the model is on one, else in main memory."""
    if model.device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(model.device))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak) * (1 if sys.platform == "darwin" else 1024)
