"""Randomness that needs no saved state: every draw of training is keyed by where it is made.

Before micro-batch r (the position of its first row in the batch) of step k computes its i-th loss,
the generators are seeded with mix(seed, k, r, i). So a run that is resumed at step k draws what it
would have drawn, and a loss draws the same on one machine as on several.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor

from undiffuse.seeds import mix

HELD_OUT, PREPARE = -1, -2  # keys of evaluation and of preparation, which no step has


@final
class Randomness:
    """Torch's own generators of the CPU and of `device`, seeded by keys.

    They are seeded one by one: `torch.manual_seed` visits every kind of device, 0.2 ms a call.
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
        """Seed the generators for what is drawn next."""
        seed = mix(self.seed, *keys)
        for generator in self.generators:
            generator.manual_seed(seed)

    def generator(self, *keys: int) -> torch.Generator:
        """Return a generator of the CPU that draws what `at` these keys would be drawn."""
        return torch.Generator().manual_seed(mix(self.seed, *keys))

    def go_on(self, state: Tensor) -> None:
        """Draw on the CPU what follows on the state of a `generator`."""
        self.generators[0].set_state(state)

    @contextmanager
    def put_back(self) -> Iterator[None]:
        """On leaving, the generators are as they were on entering."""
        states = [generator.get_state() for generator in self.generators]
        try:
            yield
        finally:
            for generator, state in zip(self.generators, states):
                generator.set_state(state)
