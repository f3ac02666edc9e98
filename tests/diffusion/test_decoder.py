"""The discretized decoder: its masses sum to one, and its tails are those of
arbitrary precision.
"""

from __future__ import annotations

import math

import pytest
import torch
from cases import times

from undiffuse.diffusion.likelihood.decoder import log_mass


def edges(levels):
    inner = 2 * torch.arange(levels + 1, dtype=torch.float64) / levels - 1
    return torch.cat([times(-math.inf), inner[1:-1], times(math.inf)])


@pytest.mark.parametrize("bits", [1, 8, 16])
@pytest.mark.parametrize("std", [1e-3, 1e-2, 0.1, 1.0, 100.0])
def test_the_masses_of_all_bins_sum_to_one(bits, std):
    e = edges(2**bits)
    for mean in (-5.0, -1.0, -0.5, 0.0, 0.123, 0.999):
        assert abs(float(log_mass(times(mean), times(std), e[:-1], e[1:]).exp().sum()) - 1) <= 1e-14


@pytest.mark.parametrize("distance", [0.3, 5.0, 37.0, 100.0])
@pytest.mark.parametrize("side", [-1, 1])
def test_a_bin_far_out_has_the_mass_that_arbitrary_precision_gives(distance, side):
    mpmath = pytest.importorskip("mpmath")
    mpmath.mp.dps = 60
    low, high = sorted((side * distance, side * (distance + 0.01)))
    beyond_low, beyond_high = (
        mpmath.erfc(edge / mpmath.sqrt(2)) / 2
        for edge in (mpmath.mpf(distance), mpmath.mpf(distance) + mpmath.mpf(0.01))
    )
    want = mpmath.log(beyond_low - beyond_high)
    assert float(log_mass(times(0.0), times(1.0), times(low), times(high))) == pytest.approx(
        float(want), rel=1e-9
    )


def test_gradients_are_finite_wherever_the_value_is_and_right():
    mean = times(0.0, 100.0, -100.0, 0.4).requires_grad_()
    std = torch.ones(4, dtype=torch.float64, requires_grad=True)
    for low, high in ((-0.5, 0.5), (-math.inf, 0.5), (0.5, math.inf), (-math.inf, math.inf)):
        value = log_mass(mean, std, times(low), times(high))
        assert value.isfinite().all()
        for gradient in torch.autograd.grad(value.sum(), (mean, std)):
            assert gradient.isfinite().all()
        assert torch.autograd.gradcheck(
            lambda m, s, a=low, b=high: log_mass(m, s, times(a), times(b)), (mean, std)
        )


def test_half_a_bin_is_a_255th_only_where_256_values_are_themselves_spread_from_end_to_end():
    """Ho et al.'s bins, 2/255 wide, are those of the 256 points 2k/255 - 1; ours are 2/K for
    K bins on the line.
    """
    widths = edges(256)[1:-1].diff()
    torch.testing.assert_close(widths, torch.full_like(widths, 2 / 256), rtol=1e-12, atol=0)
