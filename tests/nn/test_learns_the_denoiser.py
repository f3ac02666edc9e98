"""The perceptron, trained on samples alone, reaches the closed-form denoiser of a mixture.

For a mixture of Gaussians N(mu_k, s^2 I) with equal weights, x_t = x + sigma z,

    E[x | x_t] = sum_k r_k (mu_k + s^2 / (s^2 + sigma^2) (x_t - mu_k)),
    r = softmax_k(-|x_t - mu_k|^2 / 2 (s^2 + sigma^2)).

A new network is the best linear denoiser; training must close the gap to the closed form.
"""

from __future__ import annotations

import math

import torch

from undiffuse.nn import for_shape

ANGLES = torch.arange(8) * math.pi / 4
MEANS = torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1) * math.sqrt(2)
S = 0.1


def draw(means, n, sigma, generator):
    x = means[torch.randint(len(means), (n,), generator=generator)] + S * torch.randn(
        n, means.shape[1], generator=generator
    )
    return x, x + sigma * torch.randn(x.shape, generator=generator)


def closed_form(means, x_t, sigma):
    variance = S**2 + sigma**2
    offsets = x_t[:, None] - means
    r = torch.softmax(-offsets.square().sum(dim=2) / (2 * variance[:, :, None]).squeeze(2), dim=1)
    return (r[:, :, None] * (means + S**2 / variance[:, :, None] * offsets)).sum(dim=1)


def denoise(network, x_t, sigma, spread):
    """Karras et al. 2022, Eq. 7."""
    total = sigma**2 + spread**2
    answer = network(x_t / total.sqrt(), sigma.log().squeeze(1) / 4)
    return spread**2 / total * x_t + sigma * spread / total.sqrt() * answer


def test_reaches_the_closed_form():
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(1)
    means, steps, n = MEANS, 300, 256
    spread = draw(means, 20_000, torch.zeros(1, 1), generator)[0].square().mean().sqrt()
    network = for_shape((means.shape[1],), width=64, depth=2)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 3e-3 * min(1, step / 20) * (1 - step / steps)
        sigma = torch.exp(torch.randn(n, 1, generator=generator) * 1.0 - 1.0)
        x, x_t = draw(means, n, sigma, generator)
        weight = (sigma**2 + spread**2) / (sigma * spread) ** 2
        loss = (weight * (denoise(network, x_t, sigma, spread) - x).square()).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for level in (0.1, 0.2, 0.4, 0.8, 1.6):
        sigma = torch.full((5_000, 1), level)
        _, x_t = draw(means, 5_000, sigma, generator)
        truth = closed_form(means, x_t, sigma)
        weight = (sigma**2 + spread**2) / (sigma * spread) ** 2
        with torch.no_grad():
            error = (weight * (denoise(network, x_t, sigma, spread) - truth).square()).mean()
        assert error < 0.03, (
            f"sigma {level}"
        )  # in units of the network; the best linear denoiser is off by up to 0.8
