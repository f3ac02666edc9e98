"""A deterministic sampler as a table of numbers.

Every such step is linear in the rows and in what the network makes of them. So the input of
evaluation i, and the result, are sums over what was there before,

    x_i = sum_k M[i, k] h_k,    h_0 = the start,  h_k = x_hat of evaluation k

    x_hat = clip(c_skip x_i + c_out F),   F = network(c_in x_i, c_noise, ...)

with numbers M that no data change. They are read off by running the sampling loop itself on the
unit vectors of h, in double precision: whatever the method is, and whatever evaluations a step has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np
import torch
from torch import Tensor

from undiffuse.diffusion import Schedule, sample
from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate
from undiffuse.diffusion.schedules.process import Times
from undiffuse.errors import InputError
from undiffuse.models import Diffusion
from undiffuse.models.methods import evaluations


@final
@dataclass(frozen=True)
class SamplerTable:
    """What a sampler is, in numbers.

    Attributes:
        method: its name.
        steps: how many steps it takes.
        combine: M (n + 1, n + 1), the last row the result.
        network: (n, 4): c_in, c_noise, c_skip, c_out of each evaluation.
        ratio: (n,) sigma/alpha of each evaluation.
        mean: (*shape) of the start: x = mean + scale z, z ~ N(0, I).
        scale: (*shape) of the start, or (d, d), which z is multiplied with from the right.
        clip: the range that x_hat is kept in; None: it is not.
    """

    method: str
    steps: int
    combine: np.ndarray
    network: np.ndarray
    ratio: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    clip: tuple[float, float] | None


def sampler_table(
    model: Diffusion, *, method: str | None = None, steps: int | None = None
) -> SamplerTable:
    """Return the table of a model's sampler.

    Args:
        model: a trained diffusion model.
        method: the sampling method; None: its default.
        steps: how many steps; None: as many as that takes.

    Raises:
        InputError: for a method that draws noise on its way or chooses its own steps.
    """
    denoiser = model.trained()
    model.check_sampler(method=method, steps=steps)
    step, times = model.course(method=method, steps=steps)
    name = method or model.usual_method or "its own"
    if step.adaptive:
        raise InputError(
            f"method {name}: chooses its steps as it goes; take another, such as deis."
        )
    size = evaluations(step, times, model.schedule) + 1
    recorder = _Recorder(model.schedule, size)

    def noise(like: Tensor) -> Tensor:
        raise InputError(f"method {name}: draws noise on its way; take another, such as deis.")

    end = sample(recorder, torch.eye(size, dtype=torch.float64)[:1], times, step, noise=noise)
    n = len(recorder.times)
    rows = [denoiser.row(t) for t in recorder.times]
    kept = [[float(c) for c in (row.c_in, row.c_noise, row.c_skip, row.c_out)] for row in rows]
    log_snr = torch.stack([model.schedule.log_snr(t) for t in recorder.times])
    assert model.shape is not None
    mean, scale = _start(model, tuple(model.shape))
    return SamplerTable(
        method=name,
        steps=len(times) - 1,
        combine=torch.cat([*recorder.inputs, end])[:, : n + 1].numpy(),
        network=np.array(kept),
        ratio=torch.exp(-log_snr / 2).numpy(),
        mean=mean,
        scale=scale,
        clip=model.data_range if model.clip else None,
    )


def _start(model: Diffusion, shape: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and scale of the prior, which is affine in its noise."""
    zero = torch.zeros(1, *shape, device=model.device)
    mean = model.prior.draw(zero)
    if model.prior.correlation is None:
        scale = (model.prior.draw(torch.ones_like(zero)) - mean)[0]
    else:
        d = zero.numel()
        units = torch.eye(d, device=model.device).reshape(d, *shape)
        scale = (model.prior.draw(units) - mean).reshape(d, d)
    return mean[0].cpu().numpy(), scale.cpu().numpy()


@final
class _Recorder(AbstractDenoiser):
    """The denoiser whose k-th x_hat is the k-th unit vector; keeps what it was asked."""

    def __init__(self, schedule: Schedule, size: int) -> None:
        super().__init__()
        self.schedule, self.units = schedule, torch.eye(size, dtype=torch.float64)
        self.inputs: list[Tensor] = []
        self.times: list[Times] = []

    def estimate(self, x_t: Tensor, t: Times, **cond: Any) -> Estimate:
        alpha, sigma = self.schedule(t)
        if sigma == 0:
            return Estimate(x_t / alpha, torch.zeros_like(x_t))
        self.inputs.append(x_t)
        self.times.append(t)
        x_hat = self.units[len(self.inputs)][None]
        return Estimate(x_hat, (x_t - alpha * x_hat) / sigma)
