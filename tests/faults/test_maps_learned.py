"""What a brief training learns of a law given whole arrays, beside the closed form."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "models"))

from map_law import SIDE, S, mean_given, nats_given, simulated

import undiffuse as ud

pytestmark = pytest.mark.faults


def test_training_learns_the_law_given_an_array():
    """200 draws leave a mean of 0.056 deviations; a tenth more is the network's."""
    torch.manual_seed(0)
    model = ud.edm(width=16, multipliers=(1,), blocks=1, patch=1)
    data = ud.load(simulated(3000, 0), axes="NHW")
    model.fit(data, steps=400, batch=64, lr=5e-3, samples=0, device="cpu", precision="float32")
    x, y = simulated(40, 6)
    drawn = model.sample(200, where=y[:3], batch=600).reshape(3, 200, SIDE, SIDE)
    white = (drawn - mean_given(y[:3])[:, None]) / S
    assert np.abs(white.mean(1)).mean() < 0.15
    assert white.std(1).mean() == pytest.approx(1, abs=0.03)
    lost = nats_given(x, y) - model.log_prob(x, where=y)
    assert lost.mean() < 0.03 * SIDE**2
