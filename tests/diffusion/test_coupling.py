"""Laws of couplings: the best assignment, nothing but the order changed, the pairs' loss."""

from itertools import permutations

import pytest
import torch

from undiffuse.diffusion import COUPLINGS, Linear, target
from undiffuse.diffusion.denoiser import Denoiser
from undiffuse.diffusion.objectives import (
    FlowMatching,
    IndependentCoupling,
    Objective,
    OptimalTransport,
    UniformTimes,
)


def draws(n, shape=(2,), seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, *shape, generator=generator) * 2 + 1, torch.randn(
        n, *shape, generator=generator
    )


def cost(x, z):
    return float((x - z).double().square().sum())


@pytest.mark.parametrize("n", range(1, 7))
@pytest.mark.parametrize("shape", [(1,), (2,), (1, 2, 3)], ids=str)
def test_optimal_transport_is_the_best_of_all_permutations(n, shape):
    x, z = draws(n, shape, seed=n)
    best = min(cost(x, z[list(order)]) for order in permutations(range(n)))
    assert cost(x, OptimalTransport()(x, z)) == pytest.approx(best, rel=1e-9)


def test_on_a_line_it_pairs_by_rank():
    x, z = draws(200, (1,))
    paired = OptimalTransport()(x, z)
    assert torch.equal(x.flatten().argsort(), paired.flatten().argsort())


@pytest.mark.parametrize("coupling", [cls() for cls in COUPLINGS.values()], ids=COUPLINGS)
def test_a_coupling_only_permutes(coupling):
    x, z = draws(64, (3,))
    paired = coupling(x, z)
    assert torch.equal(paired.flatten(1).sort(0).values, z.flatten(1).sort(0).values)
    rows = {tuple(row) for row in z.tolist()}
    assert {tuple(row) for row in paired.tolist()} == rows


def test_the_loss_is_that_of_the_pairs():
    """Velocity of a straight path: |F - (z_p - x)|^2, F = 0.

    Tong et al. 2023, Eq. 14; sigma = 0.
    """
    x, z = draws(32)
    denoiser = Denoiser(lambda scaled, c_noise: torch.zeros_like(scaled), Linear(), target.velocity)
    t = torch.linspace(0.1, 0.9, 32, dtype=torch.float64)
    for coupling in (IndependentCoupling(), OptimalTransport()):
        objective = Objective(weighting=FlowMatching(), times=UniformTimes(), coupling=coupling)
        expected = (coupling(x, z) - x).square().mean(1)
        torch.testing.assert_close(
            objective.losses(denoiser, x, z, t), expected, rtol=1e-5, atol=1e-6
        )


def test_paths_cross_less_than_under_independent_noise():
    """The variance of z - x given x_t is what bends the paths: less of it is left."""
    x, z = draws(512, (1,), seed=3)

    def unexplained(paired):
        x_t, v = (0.5 * (x + paired)).flatten(), (paired - x).flatten()
        v = v[x_t.argsort()].reshape(32, 16)  # neighbours in x_t
        return float(v.var(1).mean())

    assert unexplained(OptimalTransport()(x, z)) < 0.05 * unexplained(z)


def test_where_the_network_computes_in_half_precision_pairs_are_as_exact():
    """Numbers that bfloat16 cannot tell apart are still paired by rank."""
    z = draws(64, (1,))[1]
    x = 512 + torch.randperm(64, generator=torch.Generator().manual_seed(1))[:, None] / 50
    with torch.autocast("cpu", dtype=torch.bfloat16):
        paired = OptimalTransport()(x, z)
    assert torch.equal(x.flatten().argsort(), paired.flatten().argsort())
