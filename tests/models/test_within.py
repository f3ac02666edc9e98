"""Every preset keeps to a number of evaluations of its network, counted where they happen."""

from __future__ import annotations

import pytest
import torch
from model_cases import Rows

from undiffuse.diffusion import RowNoise
from undiffuse.errors import InputError
from undiffuse.models import PRESETS, Diffusion

DIFFUSIONS = [
    name
    for name, make in PRESETS.items()
    if isinstance(model := make(), Diffusion) and not model.one_level
]
SIZES = {"width": 8, "depth": 1}


def met(preset: str):
    model = PRESETS[preset](**SIZES)
    model.meet(Rows(torch.randn(300, 2, generator=torch.Generator().manual_seed(0))))
    return model.eval()


def counted(model, **options) -> int:
    """How often the first player's network is called for one sample."""
    calls: list[int] = []
    player = next(iter(model.players().values()))
    hook = player.module.register_forward_hook(lambda *_: calls.append(1))
    model.draw(1, noise=RowNoise(0, 1), **options)
    hook.remove()
    return len(calls)


@pytest.mark.parametrize("limit", [11, 50])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_sample_takes_no_more_than_is_allowed(preset: str, limit: int) -> None:
    model = met(preset)
    options = model.within(limit)
    assert set(options) <= {"method", "steps"}
    assert counted(model, **options) <= limit


@pytest.mark.parametrize("preset", DIFFUSIONS)
def test_a_way_that_takes_few_enough_is_kept(preset: str) -> None:
    model = met(preset)
    assert counted(model) == model.steps_of(None) == 12
    assert model.within(12) == {}
    fewer = model.within(11)
    assert counted(model, **fewer) == fewer["steps"] == 11


@pytest.mark.parametrize(("preset", "evaluations"), [("edm", 35), ("flow_matching", 39)])
def test_heun_takes_two_evaluations_a_step_and_one_for_the_last(
    preset: str, evaluations: int
) -> None:
    assert counted(met(preset), method="published") == evaluations


def test_what_no_step_fits_is_refused() -> None:
    model = met("dae")
    assert counted(model, **model.within(11)) == 11
    with pytest.raises(InputError, match=r"evaluations 10: this model takes at least 11"):
        model.within(10)
