"""Small data at unit scale, and networks whose answers are known."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import undiffuse as ud
from undiffuse.diffusion import Schedule
from undiffuse.diffusion.target import Target, regression_target
from undiffuse.models import PRESETS, Diffusion

DIFFUSIONS = [preset for preset, make in PRESETS.items() if isinstance(make(), Diffusion)]


def small(preset: str, shape: tuple[int, ...] = (2,)) -> dict[str, Any]:
    """Dimensions of a small network of the preset, for rows of this shape."""
    return {"width": 8} if len(shape) > 1 else {"width": 16, "depth": 1}


def few(preset: str, steps: int) -> dict[str, int]:
    """That many steps, as an option of `draw`, for a preset that takes any."""
    return {"steps": steps} if preset in DIFFUSIONS else {}


class Identity:
    """Rows that are at unit scale already."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.shape = shape

    def encode(self, row: Tensor, noise: Any) -> tuple[Tensor, Tensor]:
        return row, torch.zeros(len(row), dtype=torch.float64)

    description, levels, bin_width = "", None, None

    @property
    def row_shape(self) -> tuple[int, ...]:
        return self.shape

    def cells(self, row: Tensor) -> None:
        return None

    def known(self, mask: Tensor) -> Tensor:
        return mask

    def decode(self, x: Tensor) -> np.ndarray:
        return x.numpy()


class Rows:
    """Rows (N, *shape) float32 to train on, in random batches, with labels or without.

    The last tenth is held out.
    """

    def __init__(
        self, rows: Tensor, labels: Tensor | None = None, classes: tuple[str, ...] = ()
    ) -> None:
        self.rows, self.labels, self.classes = rows.float(), labels, classes
        self.transform, self.form = Identity(tuple(rows.shape[1:])), None
        self.conditions = {"label": len(classes)} if classes else {}

    def _batch(self, pick: Tensor) -> dict[str, Tensor]:
        return {"row": self.rows[pick]} | (
            {} if self.labels is None else {"label": self.labels[pick]}
        )

    def batches(
        self, size: int, *, seed: int, start_step: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[dict]:
        step, last = start_step, len(self.rows) * 9 // 10
        while True:
            generator = torch.Generator().manual_seed(seed * 100_003 + step)
            yield self._batch(torch.randint(last, (size,), generator=generator))
            step += 1

    def held_out_batch(self, size: int) -> dict:
        first = len(self.rows) * 9 // 10
        return self._batch(torch.arange(first, min(first + size, len(self.rows))))

    def sample_batch(self, size: int) -> dict:
        return self._batch(torch.arange(min(size, len(self.rows) * 9 // 10)))

    def config(self) -> dict[str, Any]:
        return {"name": "rows", "path": None, "fingerprint": "rows"}


def shaken(model: Any) -> Any:
    """The model with random weights: new networks are zero, and zero hides what goes in.

    So does keeping what they say in the range of the data, where all of it lies outside.
    """
    if isinstance(model, Diffusion) and model.data_range is not None:
        model.data_range = (-1e6, 1e6)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model


class Recorder(nn.Module):
    """A network in no family: zero times a weight, and every label it was called with."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen: list[Tensor | None] = []

    def forward(self, x: Tensor, c_noise: Tensor, label: Tensor | None = None) -> Tensor:
        self.seen.append(label)
        return self.weight * x


class Exact(nn.Module):
    """The exact network for coordinates that are independent draws from sum_k w_k N(m_k, s^2).

    It knows the noise level from c_noise = log(sigma/alpha)/4 alone: with r = sigma/alpha and
    y = x_t/alpha, x_hat = sum_k p_k (m_k + s^2/(s^2 + r^2) (y - m_k)), p_k in proportion to
    w_k exp(-(y - m_k)^2 / 2(s^2 + r^2)).
    """

    def __init__(
        self,
        schedule: Schedule,
        target: Target,
        sigma_data: float,
        means: Tensor,
        weights: Tensor,
        s: float,
    ) -> None:
        super().__init__()
        self.schedule, self.target, self.sigma_data = schedule, target, sigma_data
        self.means, self.weights, self.s = means.double(), weights.double(), s
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, c_noise: Tensor) -> Tensor:
        r = torch.exp(4 * c_noise.double())
        t = self.schedule.inverse(-2 * r.log())
        wide = r[:, None]
        y = (
            x.double() * (self.sigma_data**2 + wide**2).sqrt()
        )  # x is x_t / sqrt(alpha^2 sigma_data^2 + sigma^2)
        variance = self.s**2 + wide**2
        offset = y[..., None] - self.means
        p = torch.softmax(self.weights.log() - offset.square() / (2 * variance[..., None]), dim=-1)
        x_hat = (p * (self.means + self.s**2 / variance[..., None] * offset)).sum(-1)
        c_x, c_z = (c[:, None] for c in regression_target(self.schedule, self.target, t))
        return (c_x * x_hat + c_z * (y - x_hat) / wide).to(x.dtype)


def exact_edm(data: Any, network: nn.Module) -> Diffusion:
    """A model that has met data, and predicts them by a network that knows their moments."""
    model = Diffusion(
        schedule=ud.EDM(),
        target=ud.target.data,
        objective=ud.Objective(
            weighting=ud.objective.EDMWeight(), times=ud.objective.LogNormalTimes()
        ),
        step=ud.Heun(),
        grid=ud.grid.Karras(),
        steps=40,
        network=network,
    )
    model.meet(data)
    network.sigma_data = model.sigma_data or 1.0
    return model
