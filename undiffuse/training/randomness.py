"""Randomness that needs no saved state: every draw of training is keyed by where in the run it is made.

Before micro-batch r (its first row's place in the batch) of step k computes its i-th loss, the generators are seeded
with mix(seed, k, r, i). A run that is resumed at step k therefore draws what it would have drawn, and a loss draws
the same on one machine as on several.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from undiffuse.seeds import mix


class Randomness:
    """Torch's own generators of the CPU and of `device`, seeded by keys.

    The generators are seeded one by one: `torch.manual_seed` visits every kind of device, which costs 0.2 ms a call.
    """

    def __init__(self, device: torch.device, seed: int) -> None:
        self.seed = seed
        self.generators = [torch.default_generator]
        if device.type == "cuda":
            torch.cuda.init()
            self.generators.append(torch.cuda.default_generators[device.index or 0])
        elif device.type == "mps":
            self.generators.append(torch.mps._get_default_mps_generator())

    def at(self, *keys: int) -> None:
        """Seed for what is drawn next."""
        seed = mix(self.seed, *keys)
        for generator in self.generators:
            generator.manual_seed(seed)

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """The caller's generators are on leaving as they were on entering."""
        states = [generator.get_state() for generator in self.generators]
        try:
            yield
        finally:
            for generator, state in zip(self.generators, states):
                generator.set_state(state)
