"""Normalizing flows: an invertible network between the data and a normal distribution.

    x = f(z),  z ~ N(0, I)                                       (Rezende and Mohamed 2015)
    log p(x) = log N(z; 0, I) + log |det dz/dx|,   z = f^-1(x)   (Kim and Lee 2024, Eq. 4)

Training maximizes it, both terms. The second form of their Eq. 5 leaves out the first: without it a
linear f would shrink all data towards one point and gain without end. It is the exact density of
rows at unit scale; a sample takes one pass through f (Eq. 6), a density one through f^-1 (Eq. 7).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from undiffuse.diffusion.gaussian import log_prob
from undiffuse.diffusion.noise import RowNoise
from undiffuse.diffusion.sample import Callback, one_pass
from undiffuse.errors import InputError
from undiffuse.interfaces import Noise, Player, Source
from undiffuse.models.base import GenerativeModel, unmet
from undiffuse.models.conditions import check_network
from undiffuse.models.likelihood import How, Likelihood
from undiffuse.nn import FLOWS, flow_for_shape
from undiffuse.parts import describe

_START_ROWS = 512  # rows that the normalizations start from


@final
class Flow(GenerativeModel):
    """A normalizing flow.

    Args:
        network: an invertible network, or dimensions that override those chosen from the data.
        drop_condition: share of training rows whose conditions are hidden.
        shape: of a row at unit scale; None: taken from the data.
        class_shares: how often each class is drawn; empty: counted on the data.
    """

    called = "a flow"
    no_density = ""

    def __init__(
        self,
        *,
        network: nn.Module | Mapping[str, Any] | None = None,
        drop_condition: float = 0.1,
        shape: tuple[int, ...] | None = None,
        class_shares: tuple[float, ...] = (),
    ) -> None:
        super().__init__(shape=shape, class_shares=class_shares, drop_condition=drop_condition)
        self.sizes = network if isinstance(network, Mapping) else {}
        self.bijection = network if isinstance(network, nn.Module) else None

    @property
    def network(self) -> Any:  # any module with `inverse` and `initialize`, see nn.flows
        """The invertible network. Raises InputError before the model has met its data."""
        if self.bijection is None:
            raise unmet()
        return self.bijection

    def prepare(self, source: Source) -> None:
        """Choose the network's size, and start its normalizations from the data, both once."""
        shape, classes = tuple(source.transform.shape), source.conditions.get("label", 0)
        if self.bijection is None:
            self.bijection = flow_for_shape(shape, classes=classes, **self.sizes)
        check_network(self.bijection, {"label": classes})
        if not self.measured:
            batch = source.sample_batch(_START_ROWS)
            x, _ = source.transform.encode(batch["row"], RowNoise(0, len(batch["row"])))
            label = batch["label"].to(self.device) if classes else None
            self.network.initialize(x.to(self.device), label)

    def players(self) -> dict[str, Player]:
        """Return the network: there is one loss."""
        return {"flow": Player(self.network)}

    def log_density(self, x: Tensor, **cond: Tensor) -> tuple[Tensor, Tensor]:
        """Return log p(x | cond) (B,), in nats, and z (B, D), of rows (B, *shape)."""
        z, log_det = self.network(x, **cond)
        return log_det + log_prob(z, torch.zeros_like(z), torch.ones_like(z)), z

    def losses(self, x: Tensor, **cond: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield -log p(x), in nats per coordinate."""
        nats, _ = self.log_density(x, **self.hidden(cond))
        yield "flow", -nats.mean() / x[0].numel()

    def diagnostics(self, x: Tensor, **cond: Tensor) -> dict[str, Any]:
        """Return the loss on `x`, and the mean square of z: 1 for rows like the training rows."""
        return self.diagnosed(self.row_terms(x, first=0, **cond))

    @torch.no_grad()
    def row_terms(self, x: Tensor, *, first: int = 0, **cond: Tensor) -> dict[str, Tensor]:
        """Return log p(x) per coordinate, and z, of each row."""
        nats, z = self.log_density(x, **cond)
        return {"nats": nats / x[0].numel() if len(x) else nats, "z": z}

    def diagnosed(self, terms: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the loss, and the mean square of z."""
        return {
            "loss": float(-terms["nats"].mean()),
            "square_of_z": float(terms["z"].square().mean()),
        }

    @torch.no_grad()
    def draw(
        self,
        n: int,
        *,
        noise: Noise,
        temperature: float = 1.0,
        steps: int | None = None,
        method: str | None = None,
        callback: Callback | None = None,
        **cond: Tensor,
    ) -> Tensor:
        """Return `n` samples (n, *shape), in one pass.

        Args:
            n: how many.
            noise: supplies z.
            temperature: what z is multiplied by; below 1, samples are likelier than data.
            steps: refused, as is a method: there is nothing to choose.
            method: likewise.
            callback: called once.
            cond: the condition of each sample.

        Raises:
            InputError: for a temperature below 0, and if steps or a method are given.
        """
        self.check_sampler(method=method, steps=steps)
        if not 0 <= temperature < math.inf:
            raise InputError(f"temperature {temperature:g}: give a number of at least 0, 1 = off.")
        network = self.network
        z = noise(torch.empty(n, math.prod(self.shape or ()), device=self.device))
        return one_pass(network.inverse(temperature * z, **cond), callback)

    @torch.no_grad()
    def likelihood(
        self,
        x: Tensor,
        *,
        noise: Noise,
        cond: Mapping[str, Tensor],
        how: How | None = None,
        cells: tuple[Tensor, Tensor] | None = None,
    ) -> Likelihood:
        """Return log p(x | cond) of rows (B, *shape), exact, by one pass."""
        nats, _ = self.log_density(x, **cond)
        nats = nats.cpu().double()
        return Likelihood(nats, torch.zeros_like(nats), "exact", 1.0)

    def config(self) -> dict[str, Any]:
        """Return the network and its dimensions, as a run's config.json keeps them."""
        return describe(self, {**FLOWS, "flow": Flow})
