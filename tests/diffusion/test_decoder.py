"""The discretized decoder: its masses sum to one, and its tails are those of
arbitrary precision.
"""

from __future__ import annotations

import math

import pytest
import torch
from cases import SCHEDULE_CASES, times
from scipy.stats import norm, truncnorm

from undiffuse.diffusion.likelihood.decoder import log_mass
from undiffuse.diffusion.likelihood.dequantize import TruncatedNormal
from undiffuse.diffusion.schedules.process import LEAST_SCORED


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


def test_an_open_bin_has_the_mass_of_its_side_and_the_whole_line_has_all_of_it():
    mean, std, edge = times(0.3, -40.0, 5.0), times(0.5, 2.0, 1.0), times(0.7)
    line, below = times(math.inf), torch.special.ndtr((edge - mean) / std)
    assert torch.equal(log_mass(mean, std, -line, line), torch.zeros(3).double())
    torch.testing.assert_close(log_mass(mean, std, -line, edge).exp(), below)
    torch.testing.assert_close(log_mass(mean, std, edge, line).exp(), 1 - below)


@pytest.mark.parametrize("width", [0.05, 0.4, 6.0])
@pytest.mark.parametrize("std", [0.02, 0.1])
def test_dequantization_is_a_normal_cut_off_at_the_edges_of_the_bin(width, std):
    """Its place in the bin is that of scipy's quantile, and the correction minus the log-density
    of the place (Zheng et al. 2023, Eq. 13).
    """
    z = torch.linspace(-3, 3, 14).double().reshape(2, 7)
    tau = width / (2 * std)
    e = torch.from_numpy(truncnorm.ppf(norm.cdf(z), -tau, tau))
    place, correction = TruncatedNormal(std)(z, width)
    from_centre = (torch.special.ndtr(place) - 0.5) * width
    torch.testing.assert_close(from_centre, std * e, rtol=1e-7, atol=1e-9)
    log_q = torch.from_numpy(truncnorm.logpdf(e, -tau, tau)) + math.log(width / std)
    torch.testing.assert_close(correction, -log_q.sum(1), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", SCHEDULE_CASES)
def test_dequantization_takes_the_noise_at_which_a_likelihood_ends(name):
    schedule = SCHEDULE_CASES[name]
    alpha, sigma = schedule(schedule.last_time(LEAST_SCORED))
    assert TruncatedNormal.of(schedule).std == pytest.approx(float(sigma / alpha), rel=1e-12)
