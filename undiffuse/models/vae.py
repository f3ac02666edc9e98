"""The variational autoencoder (Kingma and Welling 2014; Kim and Lee 2024, Eq. 8-13).

    p(x) = int p(x | z) p(z) dz,   p(z) = N(0, I)                                                           (Eq. 8)
    q(z | x) = N(m, diag(v)),      (m, v) the encoder's                                                     (Eq. 10)
    log p(x) >= E_q[log p(x | z)] - KL(q(z | x) | p(z))                                                     (Eq. 11)
             <= or, closer, >= E log 1/K sum_k p(x | z_k) p(z_k) / q(z_k | x),  z_k ~ q    (Burda et al. 2016, Eq. 8)

Training minimizes the negative of the bound in Eq. 11 by one draw of z = m + sqrt(v) e (Eq. 12), the divergence in
closed form, in nats per coordinate. p(x | z) is an `Observation` whose mean the decoder gives. Sampling draws z from
p(z) and then x from p(x | z), so that samples and likelihoods are those of one distribution; `method="mean"` leaves out
the noise of p(x | z) instead, which is what pictures in papers show and is not the distribution that was trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, final

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from undiffuse.diffusion.gaussian import kl
from undiffuse.diffusion.sample import Callback, RowNoise
from undiffuse.errors import InputError, unknown
from undiffuse.interfaces import Noise, Player, Source
from undiffuse.models.base import GenerativeModel
from undiffuse.models.likelihood import Bound, How, Likelihood, Weighted
from undiffuse.models.meeting import check_classes, check_shape, hide, shares_of, unmet
from undiffuse.models.observation import (
    OBSERVATIONS,
    Cells,
    Gaussian,
    Logistic,
    Observation,
    cells_of,
)
from undiffuse.nn import NETWORKS
from undiffuse.nn.autoencoder import AUTOENCODERS, Autoencoder, autoencoder
from undiffuse.parts import describe

_SHARE_ROWS = 4096  # rows that the classes are counted in
_ACTIVE = 0.01  # variance of a unit's posterior mean above which it says something (Burda et al. 2016, section 5.2)


@final
class VAE(GenerativeModel):
    """A variational autoencoder.

    observation      p(x | z); None: logistic for images of whole numbers, Gaussian for all other data
    latent           coordinates of z; None: as many as those of a row, up to 32 (64 and 128 for large ones)
    network          an `Autoencoder`, or sizes that override those chosen from the data. Its encoder gives m, then
                     numbers whose softplus is sqrt(v): (B, 2 latent)
    drop_condition   share of training rows whose conditions are hidden
    shape, levels    of the data at unit scale: a row's shape, and how many whole numbers fill [-1, 1] (None: it is
                     other data); taken from the data if the shape is None
    """

    scored_by = (Weighted, Bound)

    def __init__(
        self,
        *,
        observation: Observation | None = None,
        latent: int | None = None,
        network: nn.Module | Mapping[str, Any] | None = None,
        drop_condition: float = 0.1,
        shape: tuple[int, ...] | None = None,
        levels: int | None = None,
        class_shares: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        self.observation, self.latent, self.drop_condition = observation, latent, drop_condition
        self.shape, self.levels, self.class_shares = shape, levels, class_shares
        self.sizes: Mapping[str, Any] = network if isinstance(network, Mapping) else {}
        self.autoencoder = network if isinstance(network, nn.Module) else None
        if latent is not None and latent < 1:
            raise InputError(f"latent {latent}: give a whole number of at least 1.")

    @property
    def network(self) -> Autoencoder:
        """The trained network. Raises InputError before the model has met its data."""
        if self.autoencoder is None or self.observation is None:
            raise unmet()
        assert isinstance(self.autoencoder, Autoencoder)
        return self.autoencoder

    def prepare(self, source: Source) -> None:
        """Choose the network's size, and the observation; a model that has met its data only checks that these fit.

        Raises InputError for data of another shape or other classes, or that the observation is not for.
        """
        shape, classes = tuple(source.transform.shape), source.conditions.get("label", 0)
        check_shape(shape, self.shape)
        if self.shape is None:
            width = getattr(source.transform, "bin_width", None)
            whole = isinstance(width, float) and hasattr(source.transform, "cells")
            self.shape, self.levels = shape, round(2 / width) if whole and width else None
        self.observation = self.observation or (Gaussian() if self.levels is None else Logistic())
        self.observation.check(self.levels)
        self.latent = self.latent or _latent(math.prod(shape))
        if classes and not self.class_shares:
            self.class_shares = shares_of(source.sample_batch(_SHARE_ROWS), classes)
        if self.autoencoder is None:
            given = {
                "latent": self.latent,
                "classes": classes,
                "scales": self.observation.scales(shape[0]),
            }
            self.autoencoder = autoencoder(shape, **given, **self.sizes)
        for part in (self.network.encoder, self.network.decoder):
            check_classes(part, classes)

    def players(self) -> dict[str, Player]:
        """Encoder, decoder and scales together: they have one loss."""
        return {"autoencoder": Player(self.network)}

    def posterior(self, x: Tensor, **cond: Tensor) -> tuple[Tensor, Tensor]:
        """(m, sqrt(v)) of q(z | x), each (B, latent), for rows `x` (B, *shape)."""
        mean, width = self.network.encoder(x, **cond).to(x.dtype).chunk(2, dim=1)
        return mean, F.softplus(
            width.clamp(min=-20.0)
        )  # beside the mean, float32 sees nothing narrower

    def log_prob_given(self, x: Tensor, cells: Cells | None, z: Tensor, **cond: Tensor) -> Tensor:
        """Log p(x | z) of each row, nats (B,), of whole numbers where `cells` are those of `x`."""
        assert self.observation is not None
        dtype = x.dtype if cells is None else cells[0].dtype
        output = self.network.decoder(z, **cond).to(dtype)
        return self.observation.log_prob(x, cells, output, self.network.log_scale.to(dtype))

    def _seen(self, x: Tensor) -> tuple[Tensor, Cells | None]:
        """The rows as the encoder sees them, and the edges of their bins: points of whole numbers go to the centres."""
        discrete = self.observation is not None and self.observation.discrete
        return cells_of(x, self.levels) if discrete and self.levels else (x, None)

    def terms(self, x: Tensor, e: Tensor, **cond: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(log p(x | z), KL, m) of rows (B, *shape), for z made of standard normals `e` (B, latent)."""
        x, cells = self._seen(x)
        mean, std = self.posterior(x, **cond)
        divergence = kl(mean, std.square(), torch.zeros_like(mean), torch.ones_like(std))
        return self.log_prob_given(x, cells, mean + std * e, **cond), divergence, mean

    def losses(self, x: Tensor, **cond: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The negative bound, nats per coordinate."""
        assert self.latent is not None
        given = hide(cond, self.drop_condition)
        likelihood, divergence, _ = self.terms(
            x, torch.randn(len(x), self.latent, device=x.device), **given
        )
        yield "autoencoder", (divergence - likelihood).mean() / x[0].numel()

    @torch.no_grad()
    def diagnostics(self, x: Tensor, **cond: Tensor) -> dict[str, Any]:
        """The loss on `x` with fixed noise, its two terms in nats per row, and how many latent units say something."""
        assert self.latent is not None
        e = RowNoise(0, len(x))(x.new_empty(len(x), self.latent))
        likelihood, divergence, mean = self.terms(x, e, **cond)
        return {
            "loss": float((divergence - likelihood).mean()) / x[0].numel(),
            "reconstruction": float(likelihood.mean()),
            "kl": float(divergence.mean()),
            "active_units": int((mean.var(0, correction=0) > _ACTIVE).sum()),
        }

    @torch.no_grad()
    def draw(
        self,
        n: int,
        *,
        noise: Noise,
        method: str | None = None,
        steps: int | None = None,
        callback: Callback | None = None,
        **cond: Tensor,
    ) -> Tensor:
        """`n` samples (n, *shape) of p(x), or the means of p(x | z) if `method` is "mean".

        Raises InputError for another method, and for a number of steps: there is one.
        """
        network, observation = self.network, self.observation
        assert self.latent is not None
        assert observation is not None
        if method is not None and method not in DRAWS:
            raise unknown("method", "method", method, DRAWS)
        if steps is not None:
            raise InputError("steps: a variational autoencoder draws in one step; leave it out.")
        z = noise(torch.empty(n, self.latent, device=self.device))
        output = network.decoder(z, **cond).to(z.dtype)
        x = DRAWS[method or "likelihood"](observation, output, network.log_scale.to(z.dtype), noise)
        if callback is not None:
            callback(1, 1, torch.zeros((), dtype=torch.float64), x)
        return x

    @torch.no_grad()
    def likelihood(
        self,
        x: Tensor,
        *,
        noise: Noise,
        cond: Mapping[str, Tensor],
        how: How | None = None,
        cells: Cells | None = None,
    ) -> Likelihood:
        """Return a bound on log p(x | cond) for rows (B, *shape).

        `Weighted` (the default) weights draws of z by importance, `Bound` has the divergence in closed form. Without
        `cells`, whole numbers count as densities that are even within their bins. The standard error of the weighted
        bound is that of a ratio to first order: too small where few draws carry all the weight.
        """
        how = how or Weighted()
        evaluations = how.evaluations if isinstance(how, Bound) else how.draws
        seen, own = self._seen(x)
        low, high = cells or own or (None, None)
        edges = None if low is None or high is None else (low.double(), high.double())
        mean, std = self.posterior(seen, **cond)
        found, ratios = [], []
        for _ in range(evaluations):
            e = noise(mean)
            z = mean + std * e
            found.append(self.log_prob_given(seen, edges, z, **cond).double())
            ratios.append(
                (e.double().square() - z.double().square()).sum(1) / 2 + std.double().log().sum(1)
            )
        divergence = kl(
            mean.double(),
            std.double().square(),
            torch.zeros_like(mean).double(),
            std.double() * 0 + 1,
        )
        nats, stderr = BOUNDS[type(how)](torch.stack(found), torch.stack(ratios), divergence)
        if own is not None and cells is None:
            assert self.levels is not None
            nats = nats + x[0].numel() * math.log(self.levels / 2)
        return Likelihood(nats, stderr, "bound", float(evaluations + 1))

    def takes_cells(self, how: How | None, width: float) -> bool:
        return self.observation is not None and self.observation.discrete

    def pictures(self, rows: np.ndarray) -> dict[str, Any]:
        """The "reconstructions" of sixteen rows, and the "traversal" of latent units."""
        from undiffuse.models.vae_pictures import reconstructions, traversal

        return {
            "reconstructions": reconstructions(self, rows[:16]),
            "traversal": traversal(self, rows),
        }

    def config(self) -> dict[str, Any]:
        """The tree of parts, `kind` and arguments, as a run's config.json keeps it."""
        return describe(self, {**NETWORKS, **AUTOENCODERS, **OBSERVATIONS, "vae": VAE})


def elbo(likelihood: Tensor, log_ratio: Tensor, divergence: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 11, (nats, standard error) (B,), from log p(x | z_k) and log p(z_k)/q(z_k | x), (K, B), and the KL (B,)."""
    return likelihood.mean(0) - divergence, _spread(likelihood)


def importance(likelihood: Tensor, log_ratio: Tensor, divergence: Tensor) -> tuple[Tensor, Tensor]:
    """Burda et al. (2016), Eq. 8, in the same form; with K = 1 the bound of Eq. 11 without its closed divergence."""
    w = likelihood + log_ratio
    total = w.logsumexp(0) - math.log(len(w))
    return total, _spread((w - total).exp())


def _spread(values: Tensor) -> Tensor:
    """The standard error of the mean over the first axis; unknown from one value."""
    return (
        values.std(0) / math.sqrt(len(values))
        if len(values) > 1
        else torch.full_like(values[0], math.nan)
    )


def _latent(coordinates: int) -> int:
    return min(coordinates, 32 if coordinates <= 256 else 64 if coordinates <= 4096 else 128)


def _drawn(observation: Observation, output: Tensor, log_scale: Tensor, noise: Noise) -> Tensor:
    return observation.draw(output, log_scale, noise(output))


def _mean(observation: Observation, output: Tensor, log_scale: Tensor, noise: Noise) -> Tensor:
    return observation.mean(output)


BOUNDS: dict[type, Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    Bound: elbo,
    Weighted: importance,
}
"""The bound of each way of scoring."""
DRAWS: dict[str, Callable[..., Tensor]] = {"likelihood": _drawn, "mean": _mean}
"""Methods of sampling by name."""
