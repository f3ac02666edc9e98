"""The best linear denoiser: its closed form and its covariance."""

from __future__ import annotations

import pytest
import torch

from undiffuse.diffusion import EDM, LinearVP
from undiffuse.diffusion.known import as_given
from undiffuse.diffusion.linear import LinearDenoiser
from undiffuse.diffusion.oracle import Gaussian


def rows(n: int, *shape: int, seed: int = 0) -> torch.Tensor:
    """Correlated normal rows with a mean."""
    generator = torch.Generator().manual_seed(seed)
    d = torch.Size(shape).numel()
    mix = torch.randn(d, d, generator=torch.Generator().manual_seed(99)).double() / d**0.5
    return (torch.randn(n, d, generator=generator).double() @ mix + 2).reshape(n, *shape)


@pytest.mark.parametrize("n", [7, 300], ids=["fewer rows than numbers", "more"])
def test_the_covariance_is_that_of_ledoit_and_wolf(n):
    from sklearn.covariance import ledoit_wolf

    x = rows(n, 3, 4)
    found = LinearDenoiser.measured(EDM(), x)
    inside = found.basis @ torch.diag(found.variance - found.rest) @ found.basis.T
    expected, _ = ledoit_wolf(x.flatten(1).numpy())
    torch.testing.assert_close(
        inside + found.rest * torch.eye(12).double(), torch.from_numpy(expected)
    )


@pytest.mark.parametrize("schedule", [EDM(), LinearVP()], ids=repr)
@pytest.mark.parametrize("t", [0.02, 0.5, 1.0])
def test_it_is_the_matrix_formula_and_both_parts_make_x_t(schedule, t):
    x = rows(9, 3, 4)
    denoiser = LinearDenoiser.measured(schedule, x)
    full = denoiser.basis @ torch.diag(denoiser.variance - denoiser.rest) @ denoiser.basis.T
    full = full + denoiser.rest * torch.eye(12).double()
    time = torch.tensor(t, dtype=torch.float64)
    alpha, sigma = schedule(time)
    x_t = rows(5, 3, 4, seed=1)
    gain = alpha * full @ torch.linalg.inv(alpha**2 * full + sigma**2 * torch.eye(12).double())
    expected = denoiser.mean + ((x_t - alpha * denoiser.mean).flatten(1) @ gain).reshape(x_t.shape)
    x_hat, z_hat = denoiser.split(x_t, time)
    torch.testing.assert_close(x_hat, expected)
    torch.testing.assert_close(alpha * x_hat + sigma * z_hat, x_t)


@pytest.mark.parametrize("schedule", [EDM(), LinearVP()], ids=repr)
@pytest.mark.parametrize("t", [0.02, 0.5, 1.0])
def test_given_entries_it_is_the_formula_of_the_conditioned_gaussian(schedule, t):
    """Row by row: of any known entries, none and all; with one time for all, and one for each."""
    denoiser, time = LinearDenoiser.measured(schedule, rows(90, 6)), torch.tensor(t).double()
    C, eye = covariance(denoiser), torch.eye(6).double()
    alpha, sigma = schedule(time)
    x, x_t = rows(4, 6, seed=2), rows(4, 6, seed=1)
    mask = torch.tensor([[1, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1], [0] * 6, [1] * 6]).bool()
    given = as_given(x, mask)
    x_hat, z_hat = denoiser.split(x_t, time, given=given)
    each = denoiser.split(x_t, time.expand(4), given=given)
    torch.testing.assert_close((x_hat, z_hat), each)
    for i, known in enumerate(mask):
        gain = C[~known][:, known] @ torch.linalg.pinv(C[known][:, known])
        mean = denoiser.mean[~known] + gain @ (x[i] - denoiser.mean)[known]
        rest = C[~known][:, ~known] - gain @ C[known][:, ~known]
        noisy = alpha**2 * rest + sigma**2 * eye[~known][:, ~known]
        there = x_t[i, ~known] - alpha * mean
        expected = mean + alpha * rest @ torch.linalg.solve(noisy, there)
        torch.testing.assert_close(x_hat[i, ~known], expected, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(x_hat[i, known], x[i, known])
    torch.testing.assert_close(alpha * x_hat + sigma * z_hat, x_t)


def test_directions_beyond_those_asked_for_share_what_variance_they_have():
    """The law of probabilistic principal components, of the same total variance."""
    x = rows(50, 8)
    whole, cut = (covariance(LinearDenoiser.measured(EDM(), x, most)) for most in (None, 3))
    values, others = (torch.linalg.eigvalsh(C) for C in (whole, cut))
    torch.testing.assert_close(others[-3:], values[-3:])
    torch.testing.assert_close(others[:5], values[:5].mean().expand(5))
    torch.testing.assert_close(cut @ whole, whole @ cut)  # the same directions


def test_known_entries_that_determine_others_are_no_trouble_to_the_solver():
    """Of a law on a line through its mean, and of one that is a point."""
    line, mean = torch.tensor([[1.0, 2.0, -1.0]]).double(), torch.tensor([3.0, 0.0, 1.0]).double()
    given = as_given(mean + 0.5 * line, torch.tensor([[True, False, False]]))
    for size, expected in ((1.5, mean + 0.5 * line), (0.0, mean + 0 * line)):
        variance = torch.tensor([6 * size]).double()
        law = LinearDenoiser(EDM(), mean, line.T / 6**0.5, variance)
        x_hat = law(rows(1, 3), 0.5, given=given)
        torch.testing.assert_close(x_hat[:, 1:], expected[:, 1:], rtol=1e-3, atol=1e-3)


def test_for_independent_coordinates_it_is_the_gaussian_oracle():
    mean, std = torch.tensor([1.0, -2.0]).double(), torch.tensor([0.3, 2.0]).double()
    ours = LinearDenoiser(EDM(), mean, torch.eye(2).double(), std.square())
    x_t, t = rows(6, 2), torch.linspace(0.01, 1, 6).double()
    for one, other in zip(ours.split(x_t, t), Gaussian(EDM(), mean, std).split(x_t, t)):
        torch.testing.assert_close(one, other)


def covariance(denoiser):
    """C (d, d), of its basis and of what lies outside."""
    inside = denoiser.basis @ torch.diag(denoiser.variance - denoiser.rest) @ denoiser.basis.T
    return inside + denoiser.rest * torch.eye(len(denoiser.basis)).double()


@pytest.mark.parametrize("scale", [1e-7, 1e7])
@pytest.mark.parametrize("n", [5, 12, 300])
def test_the_covariance_follows_the_unit_of_the_data(n, scale):
    x = rows(n, 12)
    one, other = (covariance(LinearDenoiser.measured(EDM(), c * x)) for c in (1.0, scale))
    torch.testing.assert_close(other / scale**2, one, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_of_independent_numbers_of_one_variance_no_direction_is_told_from_another(seed):
    """Where the error of the covariance is larger than what it differs by, it is shrunk whole."""
    from sklearn.covariance import ledoit_wolf

    x = torch.randn(40, 3, generator=torch.Generator().manual_seed(seed)).double()
    found, (expected, share) = LinearDenoiser.measured(EDM(), x), ledoit_wolf(x.numpy())
    torch.testing.assert_close(covariance(found), torch.from_numpy(expected))
    assert share > 0.3
    if share == 1:
        torch.testing.assert_close(found.variance, found.variance[:1].expand(3))


def test_of_one_row_everything_is_known():
    row, t = rows(1, 3), torch.linspace(0.01, 1, 4).double()
    for denoiser in (
        LinearDenoiser.measured(EDM(), row),
        LinearDenoiser(EDM(), row[0], torch.eye(3)[:, :0].double(), torch.zeros(0).double()),
    ):
        x_hat, z_hat = denoiser.split(rows(4, 3, seed=5), t)
        torch.testing.assert_close(x_hat, row.expand(4, 3))
        torch.testing.assert_close(x_hat + 80 * t[:, None] * z_hat, rows(4, 3, seed=5))
