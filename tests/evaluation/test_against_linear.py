"""The error of a model over that of the best linear denoiser, of models whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import undiffuse as ud
from undiffuse.diffusion.oracle import Mixture
from undiffuse.evaluation.history import against_linear
from undiffuse.evaluation.references import refer
from undiffuse.models import Diffusion


@pytest.mark.parametrize(
    ("modes", "exact"), [(True, False), (False, False), (True, True)],
    ids=["untrained", "untrained on one mode", "exact"],
)  # fmt: skip
def test_only_what_a_model_knows_beyond_the_covariance_brings_it_below_one(
    modes, exact, monkeypatch
):
    rng = np.random.default_rng(0)
    centre = rng.choice([-3.0, 3.0], 400)[:, None] if modes else 0.0
    rows = centre + rng.normal(size=(400, 2)) @ np.array([[1.0, 0.0], [0.0, 0.5]])
    data = ud.load(rows, held_out=60)
    model = ud.edm(width=16, depth=1)
    model.meet(data)
    if exact:
        x = data.transform.encode(torch.from_numpy(rows), torch.zeros_like)[0].double()
        sides = x[rows[:, 0] > 0], x[rows[:, 0] < 0]
        mean, std = (torch.stack([of(side, 0) for side in sides]) for of in (torch.mean, torch.std))
        oracle = Mixture(model.schedule, mean, std)
        monkeypatch.setattr(Diffusion, "trained", lambda model: oracle)
    found = against_linear(model, refer(data))
    if exact:
        assert found["share"] + 3 * found["stderr"] < 0.9
    else:
        assert found["share"] > 0.97
