"""Sampling steps, each declared once.

A class of steps that stands in `STEPS` is a part of models, a method of `sample` and of the
command line, a row of the table of solvers, and held to the laws of
tests/diffusion/test_steps.py.
"""

from undiffuse.diffusion.steps.adaptive import AdaptiveODE
from undiffuse.diffusion.steps.langevin import AnnealedLangevin, Langevin
from undiffuse.diffusion.steps.moves import DDIM, Ancestral, Euler, Heun, Step
from undiffuse.diffusion.steps.solvers import DEIS, IPNDM, DPMpp, DPMpp2S, DPMppSDE, UniPC
from undiffuse.diffusion.steps.stochastic import ConsistencyStep, EulerMaruyama, PredictorCorrector

STEPS: dict[str, type[Step]] = {
    "ancestral": Ancestral,
    "consistency_step": ConsistencyStep,
    "ddim": DDIM,
    "deis": DEIS,
    "dpmpp": DPMpp,
    "dpmpp_2s": DPMpp2S,
    "dpmpp_sde": DPMppSDE,
    "euler": Euler,
    "euler_maruyama": EulerMaruyama,
    "heun": Heun,
    "ipndm": IPNDM,
    "langevin": AnnealedLangevin,
    "ode": AdaptiveODE,
    "pc": PredictorCorrector,
    "plain_langevin": Langevin,
    "unipc": UniPC,
}
"""Steps by kind."""

METHODS: dict[str, Step] = {
    **{kind: step() for kind, step in STEPS.items() if step.from_noise},
    "dpmpp3": DPMpp(order=3),
}
"""Sampling methods by name, for `sample(method=...)` and the command line."""
