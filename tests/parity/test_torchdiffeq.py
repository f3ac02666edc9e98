"""The adaptive solver beside torchdiffeq's dopri5, on the same field."""

import pytest
import torch

from undiffuse.diffusion import EDM, LinearVP
from undiffuse.diffusion.oracle import Mixture
from undiffuse.diffusion.steps.adaptive import flow_rate, flow_time, flow_variable, integrate

torchdiffeq = pytest.importorskip("torchdiffeq")


@pytest.mark.parametrize("schedule", [LinearVP(), EDM()], ids=["linear_vp", "edm"])
@pytest.mark.parametrize("tolerance", [1e-4, 1e-6])
def test_agrees_with_dopri5_at_its_cost(schedule, tolerance):
    """One row, the flow of a mixture: the same end to ten tolerances, and at most 1.3
    times the evaluations.
    """
    mean = torch.tensor([[-1.5, 0.0], [1.5, 1.0], [0.0, -1.0]]).double()
    oracle = Mixture(schedule, mean, torch.tensor([[0.4], [0.2], [0.1]]).double().expand(3, 2))
    low = schedule.inverse(
        -2 * torch.tensor(0.3, dtype=torch.float64).log()
    )  # theirs steps beyond the end
    start, end = flow_variable(schedule, torch.ones_like(low)), flow_variable(schedule, low)
    calls = 0

    def slope(w, y):
        nonlocal calls
        calls += 1
        t = flow_time(schedule, w)
        alpha, sigma = schedule(t)
        x_hat, z_hat = oracle.split((alpha + sigma) * y, t)
        return flow_rate(w) * (z_hat - x_hat)

    y = torch.tensor([[0.4, -1.1]]).double()
    options = {"rtol": tolerance, "atol": tolerance, "method": "dopri5"}
    theirs = torchdiffeq.odeint(slope, y, torch.stack([start, end]), **options)[-1]
    their_calls = calls
    (ours,), evaluations = integrate(
        lambda state, w, rows: (slope(w[0], state[0]),),
        (y,),
        start,
        end,
        rtol=tolerance,
        atol=tolerance,
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=10 * tolerance)
    assert int(evaluations) == calls - their_calls
    assert int(evaluations) <= 1.3 * their_calls
