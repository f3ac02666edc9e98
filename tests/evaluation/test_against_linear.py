"""The error of a model over that of the best linear denoiser, of models whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import undiffuse as ud
from undiffuse.diffusion.oracle import Mixture
from undiffuse.evaluation.history import against_linear
from undiffuse.evaluation.references import refer


def modelled(rows: np.ndarray, exact: bool):
    """A model that has met the rows: untrained, or with the exact denoiser of two narrow modes."""
    data = ud.load(rows, held_out=60)
    model = ud.edm(width=16, depth=1)
    model.meet(data)
    if exact:
        x = data.transform.encode(torch.from_numpy(rows), torch.zeros_like)[0].double()
        sides = [x[rows[:, 0] > 0], x[rows[:, 0] < 0]]
        mean, std = (
            torch.stack([moment(side, 0) for side in sides]) for moment in (torch.mean, torch.std)
        )
        model.denoiser = Mixture(model.schedule, mean, std)
        model.denoiser.where = torch.nn.Parameter(
            torch.zeros(1)
        )  # a model is where its weights are
    return model, refer(data)


@pytest.mark.parametrize("modes", [True, False])
@pytest.mark.parametrize("exact", [True, False])
def test_only_what_a_model_knows_beyond_the_covariance_brings_it_below_one(modes, exact):
    rng = np.random.default_rng(0)
    centre = rng.choice([-3.0, 3.0], 400)[:, None] if modes else 0.0
    rows = centre + rng.normal(size=(400, 2)) @ np.array([[1.0, 0.0], [0.0, 0.5]])
    found = against_linear(*modelled(rows, exact and modes))
    if exact and modes:
        assert found["share"] + 3 * found["stderr"] < 0.9
    else:
        assert found["share"] > 0.97
