"""Sampling methods by name, for `sample(method=...)` and the command line."""

from __future__ import annotations

from undiffuse.diffusion import DDIM, Ancestral, DPMpp, Euler, Grid, Heun, Karras, Step

METHODS: dict[str, tuple[Step, Grid | None]] = {
    "ancestral": (Ancestral(), None),
    "ddim": (DDIM(), None),
    "dpmpp": (DPMpp(), Karras()),
    "euler": (Euler(), None),
    "heun": (Heun(), Karras()),
}
"""Sampling methods by name: the step, and the grid it is best on (None: the model's own)."""
