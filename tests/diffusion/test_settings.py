"""What a part does unless told otherwise is what its paper settles on.

Numbers that no paper has are ours, and said to be. A new part states its settings here.
"""

from __future__ import annotations

from dataclasses import fields, replace
from inspect import signature

import pytest
import torch

from undiffuse.diffusion import PARTS, STEPS, Karras, LogSNR
from undiffuse.diffusion.guidance import ClassifierGuided, Clipped, Interval
from undiffuse.diffusion.known import Conditional, Known
from undiffuse.diffusion.likelihood.density import Adaptive, RungeKutta
from undiffuse.diffusion.schedules.chain import cosine_betas, linear_betas, sigmoid_betas
from undiffuse.diffusion.schedules.process import remembered
from undiffuse.diffusion.steps.adaptive import integrate
from undiffuse.diffusion.steps.moves import Ratio

# Song et al. (2021), appendix C: beta from 0.1 to 20; times from 1e-3 are ours
VP = {"low": 0.1, "high": 20.0, "t_min": 1e-3}
SETTINGS = {
    "linear_vp": VP,
    "cosine_vp": {"t_min": 1e-3},
    "subvp": VP,
    "ve": {"sigma_min": 0.01, "sigma_max": 50.0, "start": 1e-3},  # likewise, for CIFAR-10
    "linear": {"t_min": 0.0},
    "edm": {"sigma_min": 0.002, "sigma_max": 80.0},  # Karras et al. (2022), Table 1
    "learned_vp": {  # Kingma et al. (2021), B.1; width and start are ours
        "log_snr_max": 13.3,
        "log_snr_min": -5.0,
        "width": 16,
        "start": 1e-3,
    },
    "fitted_ve": {"sigma_min": 0.01},  # Song and Ermon (2020)
    "preconditioned": {"sigma_data": 1.0},  # data are brought to unit scale
    "edm_weight": {"sigma_data": 1.0},
    "bounded": {"sigma_data": 1.0, "most": 2.0},  # ours
    "consistency": {  # ours
        "first": 1.0,
        "last": 1.5,
        "sigma_data": 1.0,
        "guidance": 1.0,
        "variance": False,
        "adversarial": 0.0,
        "progress": 1.0,
    },
    "jumps": {"high": 30.0, "low": 0.5, "sigma_data": 1.0},  # ours
    "log_sigma": {"largest": 3.0},  # ours
    "level": {"scale": 1000.0, "offset": 0.0},  # Ho et al. (2020): T
    "strided": {"trailing": False, "offset": 0},  # as in diffusers: "leading", steps_offset 0
    "min_snr": {"gamma": 5.0},  # Hang et al. (2023), section 4
    # Karras et al. (2022), Table 1: -1.2 and 1.2, where sigma_data is 0.5
    "log_normal_times": {"mean": -0.507, "std": 1.2, "sigma_data": 1.0},
    "logit_normal_times": {"mean": 0.0, "std": 1.0},  # Esser et al. (2024), Table 1
    "hybrid": {"scale": 0.001},  # Nichol and Dhariwal (2021), Eq. 16
    "sliced_score_matching": {"projections": 1},  # Song et al. (2019), section 3.2
    "karras": {"rho": 7.0, "lowest": 0.002, "highest": 80.0},  # Karras et al. (2022), Table 1
    "log_snr": {"lowest": 0.002, "highest": 80.0},
    "ddim": {"eta": 0.0},
    "deis": {"order": 3},  # Zhang and Chen (2023), tAB3
    "dpmpp": {"order": 2},  # Lu et al. (2022b), 2M
    "dpmpp_2s": {"r": 0.5},  # Lu et al. (2022b), Algorithm 1
    "dpmpp_sde": {"weak_order": 2},
    "heun": {"churn": 0.0, "churn_from": 0.0, "churn_to": 1e9, "churn_noise": 1.0},
    "ipndm": {"points": 4},  # Zhang and Chen (2023)
    "langevin": {"updates": 5},  # Song and Ermon (2020): T = 5
    "ode": {"tolerance": 1e-5},  # Song et al. (2021), appendix D.4
    "pc": {"corrections": 1, "snr": 0.16},  # Song et al. (2021), appendix G
    "plain_langevin": {"size": 1e-6, "updates": 10},  # ours
    "unipc": {"p": 2},
}

# number of steps: 35 evaluations of Karras et al. (2022) for Heun, as many for the others, one or
# two a step; those that add noise take what published recipes take
STEPS_MEANT = {
    "ancestral": None,
    "consistency_step": None,
    "ddim": None,
    "deis": 12,
    "dpmpp": 18,
    "dpmpp_2s": 10,
    "dpmpp_sde": 36,
    "euler": None,
    "euler_maruyama": 500,
    "heun": 18,
    "ipndm": 18,
    "langevin": 100,
    "ode": 2,
    "pc": 250,
    "plain_langevin": None,
    "unipc": 18,
}


def settings(kind):
    """The numbers among the defaults of a part."""
    return {
        field.name: field.default
        for field in fields(PARTS[kind])
        if isinstance(field.default, int | float)
    }


@pytest.mark.parametrize("kind", PARTS)
def test_the_settings_of_every_part_are_those_that_are_published(kind):
    assert settings(kind) == SETTINGS.get(kind, {})


@pytest.mark.parametrize("kind", STEPS)
def test_every_step_says_how_it_is_meant_to_be_taken(kind):
    """On the grid that it is known for: Karras et al.'s for the fast solvers, even in log-SNR for
    those that follow noise levels. That of DEIS, the default, begins at 30: in 12 steps from 80 it
    is 1 % off the law that is in test_diffusion_learns.
    """
    step = STEPS[kind]
    assert step.steps == STEPS_MEANT[kind]
    fast = {"deis", "dpmpp", "dpmpp_2s", "dpmpp_sde", "heun", "ipndm", "unipc"}
    even = {"euler_maruyama", "langevin", "ode", "pc"}
    fast_grid = Karras(highest=30.0) if kind == "deis" else Karras()
    assert step.grid == (fast_grid if kind in fast else LogSNR() if kind in even else None)
    assert step.from_noise == (kind not in ("plain_langevin", "consistency_step"))
    assert step.adaptive == (kind == "ode")


def test_heun_s_correction_is_that_of_edm_unless_asked_otherwise():
    assert STEPS["heun"]().coordinate == Ratio()
    assert replace(STEPS["heun"](), churn=0.1).order is None


# of functions and wrappers: the argument and what it is unless given
ARGUMENTS = [
    (linear_betas, {"levels": 1000, "low": 1e-4, "high": 0.02}),  # Ho et al. (2020), section 4
    (cosine_betas, {"levels": 1000, "offset": 0.008, "largest": 0.999}),  # Nichol and Dhariwal
    (sigmoid_betas, {"levels": 1000, "low": -3.0, "high": 3.0, "tau": 1.0}),  # Jabri et al. (2022)
    (Clipped, {"low": -1.0, "high": 1.0}),
    (Interval, {"low": 0.0, "high": float("inf")}),
    (ClassifierGuided, {"weight": 1.0}),  # with which it is Bayes' rule
    (Conditional, {"products": 3}),  # Rozet et al. (2024), section 4
    (Known, {"repetitions": 10}),  # Lugmayr et al. (2022): r = 10
    (Adaptive, {"tolerance": 1e-5}),
    (integrate, {"rtol": 1e-5, "atol": 1e-5}),
    (RungeKutta, {"steps": 16}),
]


@pytest.mark.parametrize(
    ("made", "expected"), ARGUMENTS, ids=lambda of: getattr(of, "__name__", "")
)
def test_arguments_that_are_left_out_are_the_published_ones(made, expected):
    found = {
        name: parameter.default
        for name, parameter in signature(made).parameters.items()
        if isinstance(parameter.default, int | float)
    }
    assert found == expected


def test_what_was_computed_for_a_time_is_remembered_and_forgotten_before_it_is_much():
    asked, memory = [], {}

    def compute():
        asked.append(1)
        return len(asked)

    assert [remembered(memory, 0.5, compute) for _ in range(3)] == [1, 1, 1]
    for i in range(9_999):
        remembered(memory, 1.0 + i, lambda: torch.zeros(()))
    assert len(memory) == 10_000
    assert remembered(memory, 0.5, compute) == 1
    assert remembered(memory, 0.25, compute) == 2
    assert list(memory) == [0.25]
