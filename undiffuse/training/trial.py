"""What is fastest on this machine, found by trying: bfloat16 or float32, compiled or not.

A trial computes one loss and its gradient on a batch of the run's own shape and leaves no trace:
parameters, buffers and gradients are what they were. On CUDA the capability decides; on a CPU it
depends on the network and on the kernels, so both are timed, and bfloat16 must win by 15 % and
agree on the loss. The choice is recorded in the run.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import inf
from typing import Any, final

import torch
from torch import Tensor, nn

from undiffuse.interfaces import Trainable, Transform
from undiffuse.training.randomness import Randomness
from undiffuse.training.step import autocast, encoded

ROUNDS = 3
ENOUGH = 6.0  # seconds after which no further round is timed,
ENOUGH_SHARE = 0.05  # or this share of the budget, if that is less
GAIN = 0.85  # bfloat16 must take at most this share of float32's time
AGREEMENT = 0.1  # and give the same loss within this share

Try = Callable[[str], Any]  # precision -> (seconds, loss), what a Trial is


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
    ) -> None:
        self.model, self.batch, self.transform = model, batch, transform
        self.device, self.randomness = device, randomness

    def __call__(self, precision: str) -> tuple[float, float]:
        """Return (seconds, loss) of one pass in this precision."""
        buffers = {name: buffer.clone() for name, buffer in self.model.named_buffers()}
        self.randomness.at(0, 0, 0)
        start = time.perf_counter()
        try:
            x, conditions = encoded(self.batch, self.transform, self.device)
            with autocast(self.device, precision)():
                _, loss = next(self.model.losses(x, **conditions))
            loss.backward()
            return time.perf_counter() - start, loss.item()
        finally:
            self.model.zero_grad(set_to_none=True)
            with torch.no_grad():
                for name, buffer in self.model.named_buffers():
                    buffer.copy_(buffers[name])


def choose_precision(device: torch.device, trial: Try, budget: float | None = None) -> str:
    """Return "bfloat16" if it is faster here, else "float32"; `budget` is the run's, in seconds."""
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    if device.type != "cpu":
        return "float32"
    best = {"float32": (inf, inf), "bfloat16": (inf, inf)}
    enough = min(ENOUGH, ENOUGH_SHARE * budget) if budget else ENOUGH
    start = time.perf_counter()
    for _ in range(ROUNDS):
        for precision in best:
            best[precision] = min(best[precision], trial(precision))
        if time.perf_counter() - start > enough:
            break
    (full, reference), (half, loss) = best["float32"], best["bfloat16"]
    agrees = abs(loss - reference) <= AGREEMENT * abs(reference)
    return "bfloat16" if agrees and half <= GAIN * full else "float32"


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
