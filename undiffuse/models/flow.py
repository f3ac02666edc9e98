"""Normalizing flows: an invertible network between the data and a normal distribution (Rezende and Mohamed 2015).

    x = f(z),  z ~ N(0, I)
    log p(x) = log N(z; 0, I) + log |det dz/dx|,   z = f^-1(x)                           (Kim and Lee 2024, Eq. 4)

Training maximizes it: both terms, of which the second form of their Eq. 5 leaves out the first, so that a linear f
would shrink all data to a point's neighbourhood and gain without end. It is a density, exactly, of rows at unit scale;
a draw takes one pass through f (Eq. 6), a density one through f^-1 (Eq. 7).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from undiffuse.diffusion.sample import Callback, RowNoise
from undiffuse.errors import InputError
from undiffuse.interfaces import Noise, Player, Source
from undiffuse.models.base import GenerativeModel
from undiffuse.models.likelihood import How, Likelihood
from undiffuse.models.meeting import (
    check_classes,
    check_one_pass,
    check_shape,
    hide,
    loaded,
    shares_of,
    unmet,
)
from undiffuse.nn.flows.size import FLOWS, flow_for_shape
from undiffuse.parts import describe

_SHARE_ROWS = 4096  # rows that the classes are counted in
_START_ROWS = 512  # rows that the normalizations start from


@final
class Flow(GenerativeModel):
    """A normalizing flow.

    network          one of `undiffuse.nn.flows.size`, or sizes that override those chosen from the data
    drop_condition   share of training rows whose conditions are hidden
    shape            of the data at unit scale; taken from the data if None
    """

    def __init__(
        self,
        *,
        network: nn.Module | Mapping[str, Any] | None = None,
        drop_condition: float = 0.1,
        shape: tuple[int, ...] | None = None,
        class_shares: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        self.drop_condition, self.shape, self.class_shares = drop_condition, shape, class_shares
        self.sizes: Mapping[str, Any] = network if isinstance(network, Mapping) else {}
        self.bijection = network if isinstance(network, nn.Module) else None
        self.measured = False  # whether the normalizations have started: from the data, or loaded
        self.register_load_state_dict_post_hook(loaded)

    @property
    def network(self) -> Any:
        """The invertible network. Raises InputError before the model has met its data."""
        if self.bijection is None:
            raise unmet()
        return self.bijection

    def prepare(self, source: Source) -> None:
        """Choose the network's size and start its normalizations. A model that has met its data, or has loaded its
        weights, only checks that these data fit: InputError for another shape or classes.
        """
        shape, classes = tuple(source.transform.shape), source.conditions.get("label", 0)
        check_shape(shape, self.shape)
        if self.bijection is not None:
            check_classes(self.bijection, classes)
        if self.measured:
            return
        batch = source.sample_batch(_SHARE_ROWS)
        self.shape, self.class_shares = shape, self.class_shares or shares_of(batch, classes)
        if self.bijection is None:
            self.bijection = flow_for_shape(shape, classes=classes, **self.sizes)
        batch = {name: value[:_START_ROWS] for name, value in batch.items()}
        x, _ = source.transform.encode(batch["row"], RowNoise(0, len(batch["row"])))
        label = batch["label"].to(self.device) if classes else None
        self.network.initialize(x.to(self.device), label)
        self.measured = True

    def players(self) -> dict[str, Player]:
        """The network: there is one loss."""
        return {"flow": Player(self.network)}

    def log_density(self, x: Tensor, **cond: Tensor) -> tuple[Tensor, Tensor]:
        """Log p(x | cond) (B,) in nats and z (B, D), for rows (B, *shape) at unit scale."""
        z, log_det = self.network(x, **cond)
        return log_det - z.square().sum(1) / 2 - z.shape[1] * math.log(2 * math.pi) / 2, z

    def losses(self, x: Tensor, **cond: Tensor) -> Iterator[tuple[str, Tensor]]:
        """-log p(x), nats per coordinate."""
        nats, _ = self.log_density(x, **hide(cond, self.drop_condition))
        yield "flow", -nats.mean() / x[0].numel()

    @torch.no_grad()
    def diagnostics(self, x: Tensor, **cond: Tensor) -> dict[str, Any]:
        """The loss on `x`, and the mean square of z: 1 for rows that are as the training's."""
        nats, z = self.log_density(x, **cond)
        return {"loss": float(-nats.mean()) / x[0].numel(), "square_of_z": float(z.square().mean())}

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
        """`n` samples (n, *shape) in one pass; z is multiplied by `temperature`, below 1 for likelier rows than data.

        Raises InputError for a temperature below 0, and if asked for steps or a method.
        """
        check_one_pass("a flow", steps=steps, method=method)
        if not 0 <= temperature < math.inf:
            raise InputError(
                f"temperature {temperature:g}: give a number of at least 0; 1 is the model's own law."
            )
        network = self.network
        assert self.shape is not None
        z = temperature * noise(torch.empty(n, math.prod(self.shape), device=self.device))
        x = network.inverse(z, **cond)
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
        cells: tuple[Tensor, Tensor] | None = None,
    ) -> Likelihood:
        """Return log p(x | cond) of rows (B, *shape), exact, by one pass."""
        nats, _ = self.log_density(x, **cond)
        nats = nats.cpu().double()
        return Likelihood(nats, torch.zeros_like(nats), "exact", 1.0)

    def config(self) -> dict[str, Any]:
        """The network and its dimensions, as a run's config.json keeps them."""
        return describe(self, {**FLOWS, "flow": Flow})
