"""What is fastest on this machine, found by trying: bfloat16 or float32, compiled or not.

A trial computes one loss and its gradient on a batch of the run's own shape and leaves no trace:
parameters, buffers and gradients are what they were. On CUDA the capability decides. A CPU is asked
whether it has bfloat16 at all; then one row is timed in both, and in a run of two minutes or more
the whole batch, all within 5 % of the budget. bfloat16 must win by 15 % and agree on the loss. The
choice is recorded in the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import inf
from typing import Any, final

import torch
from torch import Tensor, nn

from undiffuse.interfaces import Stop, Trainable, Transform
from undiffuse.training.hearing import Stopped, hearing, revocable
from undiffuse.training.loading import encoded
from undiffuse.training.randomness import Randomness
from undiffuse.training.step import autocast

SLIVER, ROUNDS = 1, 3  # rows of the first passes, and how often the whole batch is timed
LONG = 120.0  # seconds of budget from which on the whole batch is timed
ENOUGH = 6.0  # seconds that all passes together may take,
ENOUGH_SHARE = 0.05  # or this share of the budget, if that is less
HOPELESS = 2.0  # a sliver in bfloat16 that takes so many times as long decides
GAIN = 0.85  # bfloat16 must take at most this share of float32's time
AGREEMENT = 0.1  # and give the same loss within this share

Try = Callable[..., Any]  # (precision, rows) -> (seconds, loss), what a Trial is


@final
class Trial:
    """Times one forward and backward pass on `batch`."""

    def __init__(
        self,
        model: Trainable,
        batch: Mapping[str, Tensor],
        transform: Transform,
        device: torch.device,
        randomness: Randomness,
        stop: Stop = lambda: False,
    ) -> None:
        self.model, self.batch, self.transform = model, batch, transform
        self.device, self.randomness, self.stop = device, randomness, stop

    def __call__(self, precision: str, rows: int | None = None) -> tuple[float, float]:
        """Return (seconds, loss) of a pass in this precision, on the first `rows` rows or all.

        Raises `Stopped` as soon as `stop()` is true.
        """
        self.randomness.at(0, 0, 0)
        start = time.perf_counter()
        with revocable(self.model, always=True), hearing(self.model, self.stop):
            part = {name: value[:rows] for name, value in self.batch.items()}
            x, conditions = encoded(part, self.transform, self.device)
            with autocast(self.device, precision)():
                _, loss = next(self.model.losses(x, **conditions))
            loss.backward()
            return time.perf_counter() - start, loss.item()


def choose_precision(
    device: torch.device,
    trial: Try,
    budget: float | None = None,
    *,
    rows: int = 1,
    stop: Stop = lambda: False,
    able: Callable[[], bool] | None = None,
) -> str:
    """Return "bfloat16" if it is faster here, else "float32".

    Args:
        device: the device.
        trial: `trial(precision, rows)` times one pass on so many rows.
        budget: the run's, in seconds.
        rows: those of the batch.
        stop: polled before each pass.
        able: whether the processor computes in bfloat16; None: it is asked.
    """
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device.type != "cpu" or not (able or processor_has_bfloat16)():
        return "float32"
    allowance = min(ENOUGH, ENOUGH_SHARE * budget) if budget else ENOUGH
    spent = 0.0
    best = {"float32": (inf, inf), "bfloat16": (inf, inf)}
    sizes = [SLIVER, SLIVER] + [rows] * (ROUNDS if budget is None or budget >= LONG else 0)
    for last, size in zip([0, *sizes], sizes):
        expected = sum(seconds for seconds, _ in best.values()) * size / max(last, 1)
        if last and spent + expected > allowance:
            break
        if size != last:
            kept, best = best, {"float32": (inf, inf), "bfloat16": (inf, inf)}
            if last and kept["bfloat16"][0] > HOPELESS * kept["float32"][0]:
                return "float32"
        for precision in best:
            if stop():
                return "float32"
            try:
                seconds, loss = trial(precision, size)
            except Stopped:
                return "float32"
            spent += seconds
            best[precision] = min(best[precision], (seconds, loss))
            if spent > allowance:
                return _faster(best)
    return _faster(best)


def _faster(best: Mapping[str, tuple[float, float]]) -> str:
    """bfloat16 if it was timed, won, and agrees."""
    (full, reference), (half, loss) = best["float32"], best["bfloat16"]
    agrees = abs(loss - reference) <= AGREEMENT * abs(reference)
    return "bfloat16" if agrees and half <= GAIN * full else "float32"


def processor_has_bfloat16() -> bool:
    """Return whether this processor multiplies in bfloat16; others are many times slower in it."""
    cpu = torch.cpu
    return bool(cpu._is_avx512_bf16_supported() or cpu._is_amx_tile_supported())


@contextmanager
def compiled(modules: Iterable[nn.Module], trial: Try, precision: str) -> Iterator[bool]:
    """Inside, the modules run compiled; as they are, yielding False, if this machine cannot."""
    modules = list(modules)
    for module in modules:
        module.compile()
    worked = True
    try:
        trial(precision)
    except Exception:  # compilers fail in many ways; training goes on without
        worked = False
        _uncompile(modules)
    try:
        yield worked
    finally:
        _uncompile(modules)


def _uncompile(modules: Iterable[nn.Module]) -> None:
    for module in modules:
        module._compiled_call_impl = None
