"""The exact network of autoregressive processes, given known steps: what no training has to reach.

A row follows one of several processes x_i = r x_(i - 1) + sqrt(1 - r^2) z_i of variance 1, the
k-th with the probability w_k.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from undiffuse.diffusion.target import regression_target


def process(n, length, r, seed=0, start=None):
    """Rows (n, length, 1) of the process of coefficient r, that begin at `start` if it is given."""
    z = np.random.default_rng(seed).normal(size=(n, length, 1))
    if start is not None:
        z[:, 0] = start
    for i in range(1, length):
        z[:, i] = r * z[:, i - 1] + (1 - r**2) ** 0.5 * z[:, i]
    return z.astype(np.float32)


class ExactProcess(nn.Module):
    """E[x | x_t, x_K] at unit scale, as the model's network says it; one K for a batch."""

    def __init__(self, model, coefficients, weights=(1.0,)):
        super().__init__()
        self.model, self.unused = [model], nn.Parameter(torch.zeros(()))
        self.coefficients, self.weights = coefficients, weights

    def forward(self, x, c_noise, given=None):
        (model,), ratio, size = self.model, torch.exp(4 * c_noise.double()), x.shape[2]
        t = model.schedule.inverse(-2 * ratio.log())
        alpha, sigma = (c[:1] for c in model.schedule(t))
        x_t = (x.double() * ((alpha * model.sigma_data) ** 2 + sigma**2).sqrt())[:, 0]
        known, mask = (torch.zeros(1, 2, size) if given is None else given).double().chunk(2, 1)
        told, place = mask[0, 0] > 0, torch.arange(size)
        said, nats = [], []
        for r, weight in zip(self.coefficients, self.weights):
            cov = float(r) ** (place[:, None] - place).abs().double()
            gain = cov[~told][:, told] @ torch.linalg.inv(cov[told][:, told])
            mean, rest = (
                known[:, 0, told] @ gain.T,
                cov[~told][:, ~told] - gain @ cov[told][:, ~told],
            )
            noisy = alpha**2 * rest + sigma**2 * torch.eye(len(rest))
            offset = x_t[:, ~told] - alpha * mean
            said.append(mean + alpha * offset @ torch.linalg.solve(noisy, rest))
            nats.append(
                _log_normal(offset, noisy) + _log_normal(known[:, 0, told], cov[told][:, told])
            )
            nats[-1] = nats[-1] + np.log(weight)
        share = torch.stack(torch.broadcast_tensors(*nats)).softmax(0)[..., None]
        x_hat = torch.zeros_like(x_t)
        x_hat[:, ~told] = (share * torch.stack(said)).sum(0)
        c_x, c_z = (c[:, None] for c in regression_target(model.schedule, model.target, t))
        return (c_x * x_hat + c_z * (x_t - alpha * x_hat) / sigma)[:, None].to(x.dtype)


def _log_normal(x, cov):
    """The log-density (B,) of rows x (B, d) under N(0, cov), less a constant of d alone."""
    if not len(cov):
        return torch.zeros(len(x), dtype=torch.float64)
    return -0.5 * ((x @ torch.linalg.inv(cov)) * x).sum(1) - 0.5 * torch.logdet(cov)
