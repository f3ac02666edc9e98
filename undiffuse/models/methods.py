"""Sampling methods by name, for `sample(method=...)` and the command line."""

from __future__ import annotations

from typing import NamedTuple

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


class Method(NamedTuple):
    """A step, the grid it is best on, and how many steps it is meant for; None: the model's own."""

    step: Step
    grid: Grid | None = None
    steps: int | None = None


METHODS: dict[str, Method] = {
    "ancestral": Method(Ancestral()),
    "ddim": Method(DDIM()),
    "deis": Method(DEIS(), Karras(), 18),
    "dpmpp": Method(DPMpp(), Karras(), 18),
    "dpmpp3": Method(DPMpp(order=3), Karras(), 18),
    "dpmpp_2s": Method(DPMpp2S(), Karras(), 10),
    "dpmpp_sde": Method(DPMppSDE(), Karras(), 36),
    "euler": Method(Euler()),
    "euler_maruyama": Method(EulerMaruyama(), LogSNR(), 500),
    "heun": Method(Heun(), Karras(), 18),
    "ipndm": Method(IPNDM(), Karras(), 18),
    "langevin": Method(AnnealedLangevin(), LogSNR(), 100),
    "ode": Method(AdaptiveODE(), LogSNR(), 2),  # one adaptive solution, then the step to zero noise
    "pc": Method(PredictorCorrector(), LogSNR(), 250),
    "unipc": Method(UniPC(), Karras(), 18),
}
"""Sampling methods by name."""
