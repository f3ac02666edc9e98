"""Sampling methods by name, for `sample(method=...)` and the command line."""

from __future__ import annotations

from undiffuse.diffusion import (
    DDIM,
    DEIS,
    IPNDM,
    AdaptiveODE,
    Ancestral,
    AnnealedLangevin,
    DPMpp,
    DPMpp2S,
    DPMppSDE,
    Euler,
    EulerMaruyama,
    Grid,
    Heun,
    Karras,
    LogSNR,
    PredictorCorrector,
    Step,
    UniPC,
)

METHODS: dict[str, tuple[Step, Grid | None]] = {
    "ancestral": (Ancestral(), None),
    "ddim": (DDIM(), None),
    "deis": (DEIS(), Karras()),
    "dpmpp": (DPMpp(), Karras()),
    "dpmpp3": (DPMpp(order=3), Karras()),
    "dpmpp_2s": (DPMpp2S(), Karras()),
    "dpmpp_sde": (DPMppSDE(), Karras()),
    "euler": (Euler(), None),
    "euler_maruyama": (EulerMaruyama(), LogSNR()),
    "heun": (Heun(), Karras()),
    "ipndm": (IPNDM(), Karras()),
    "langevin": (AnnealedLangevin(), LogSNR()),
    "ode": (AdaptiveODE(), LogSNR()),
    "pc": (PredictorCorrector(), LogSNR()),
    "unipc": (UniPC(), Karras()),
}
"""Sampling methods by name: the step, and the grid it is best on (None: the model's own)."""
