"""Score matching without a target to regress on: explicit and sliced, at every noise level.

For a score s(x_t, t) the Fisher divergence to the score of p_t is, integrated by parts and up to a
constant,

    explicit   E[ 1/2 |s|^2 + tr grad s ]                       (Hyvarinen 2005, Theorem 1)
    sliced     E[ 1/2 |s|^2 + v^T (grad s) v ],  E v v^T = I    (Song et al. 2019, Eq. 8)
    denoising  E[ 1/2 |s + z / sigma|^2 ]                       (Vincent 2011, Eq. 9)

and all three have the same minimizer, the score of p_t: E[s . z] = sigma E[tr grad s] (Stein).
Losses here carry the weight 2 sigma^2, per coordinate, so that explicit and sliced are denoising's
|F - F*|^2 (`Objective` with a noise or score target and weighting `Simple`) less exactly 1.

The trace costs one backward pass per coordinate; a slice costs one. The networks are differentiated
twice, which the fused attention kernels cannot do: the plain one is used.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from undiffuse.diffusion.denoiser import Denoiser, expand, noised
from undiffuse.diffusion.objectives.objective import AbstractObjective
from undiffuse.diffusion.objectives.times import Draw, LowDiscrepancy, TrainingTimes, UniformTimes
from undiffuse.diffusion.registered import Registered
from undiffuse.diffusion.schedules.process import Times


class Projection(Registered):
    """Random vectors v with E v v^T = I."""

    @abstractmethod
    def __call__(self, like: Tensor) -> Tensor:
        """Return a draw for each row of `like` (B, *), from torch's global generator."""


@final
@dataclass(frozen=True)
class RademacherProjection(Projection):
    """Signs: the least variance of the trace among independent coordinates."""

    def __call__(self, like: Tensor) -> Tensor:
        """Return +1 and -1."""
        return torch.randint_like(like, 0, 2) * 2 - 1


@final
@dataclass(frozen=True)
class GaussianProjection(Projection):
    """Standard normals."""

    def __call__(self, like: Tensor) -> Tensor:
        """Return standard normals."""
        return torch.randn_like(like)


@final
@dataclass(frozen=True, kw_only=True)
class ExplicitScoreMatching(AbstractObjective):
    """sigma^2 (|s|^2 + 2 tr grad s) per coordinate, the trace exact: for few coordinates.

    Hyvarinen (2005), Theorem 1.

    Args:
        times: the distribution of training times.
        draw: how uniform numbers are drawn for a batch of times.
    """

    times: TrainingTimes
    draw: Draw = LowDiscrepancy()
    sloped: ClassVar[bool] = True

    @classmethod
    def examples(cls) -> Mapping[str, ExplicitScoreMatching]:
        """Return one at uniform times."""
        return {"": cls(times=UniformTimes())}

    def losses(self, denoiser: Denoiser, x: Tensor, z: Tensor, t: Times, **cond: Any) -> Tensor:
        """Return the loss of each row (B,), with one backward pass per coordinate."""
        unit = torch.eye(x[0].numel(), dtype=x.dtype, device=x.device)
        directions = [e.reshape(x.shape[1:]).expand_as(x) for e in unit]
        return _matching(denoiser, x, z, t, directions, cond)


@final
@dataclass(frozen=True, kw_only=True)
class SlicedScoreMatching(AbstractObjective):
    """sigma^2 (|s|^2 + 2 v^T (grad s) v) per coordinate, averaged over draws of v.

    Song et al. (2019), Eq. 8, with reduced variance.

    Args:
        times: the distribution of the training times.
        projection: how v is drawn.
        projections: how many v are averaged over.
        draw: how the times are drawn.

    >>> from undiffuse.diffusion import VE, Denoiser, target
    >>> from undiffuse.diffusion.objectives import UniformTimes
    >>> denoiser = Denoiser(lambda x, c_noise: -x, VE(), target.score)
    >>> x, t = torch.zeros(4, 3), torch.ones(4, dtype=torch.float64)
    >>> # at t = 1, s = -x / (sigma sqrt(1 + sigma^2)): both parts in closed form
    >>> SlicedScoreMatching(times=UniformTimes()).losses(denoiser, x, x, t).detach()
    tensor([-1.9996, -1.9996, -1.9996, -1.9996])
    """

    times: TrainingTimes
    projection: Projection = RademacherProjection()
    projections: int = 1
    draw: Draw = LowDiscrepancy()
    sloped: ClassVar[bool] = True

    @classmethod
    def examples(cls) -> Mapping[str, SlicedScoreMatching]:
        """Return one with a single slice and one with two of the other kind."""
        return {
            "": cls(times=UniformTimes()),
            "gaussian": cls(times=UniformTimes(), projection=GaussianProjection(), projections=2),
        }

    def losses(self, denoiser: Denoiser, x: Tensor, z: Tensor, t: Times, **cond: Any) -> Tensor:
        """Return the loss of each row (B,), with one backward pass per projection."""
        directions = [self.projection(x) / self.projections**0.5 for _ in range(self.projections)]
        return _matching(denoiser, x, z, t, directions, cond)


def _matching(
    denoiser: Denoiser,
    x: Tensor,
    z: Tensor,
    t: Times,
    directions: list[Tensor],
    cond: dict[str, Any],
) -> Tensor:
    """sigma^2 (|s|^2 + 2 sum_v v^T (grad s) v) / d from z_hat = -sigma s, not divided by sigma."""
    wanted = torch.is_grad_enabled()
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):
        x_t = noised(denoiser.schedule, x, z, t).requires_grad_()
        z_hat = denoiser.noise(x_t, t, **cond)
        slope = torch.zeros(len(x), dtype=x.dtype, device=x.device)
        for v in directions:
            (pulled,) = torch.autograd.grad((v * z_hat).sum(), x_t, create_graph=True)
            slope = slope + (v * pulled).flatten(1).sum(1)
        _, sigma = denoiser.schedule(t)
        losses = z_hat.square().flatten(1).mean(1) - 2 * expand(sigma, slope) * slope / x[0].numel()
        return losses if wanted else losses.detach()
