"""Generative adversarial networks: a generator and a discriminator that are trained against each other.

    x_hat = G(z, label),  z ~ N(0, I)          D(x, label): how real x looks, a logit

Each step trains the discriminator on real rows and on generated ones, then the generator against the discriminator
that has just moved (Goodfellow et al. 2014, Algorithm 1; Kim and Lee 2024, Eq. 1-3); what each minimizes is the game,
see `gan_losses`. A label is the same for a real row and the one generated beside it, and hidden from both at random.

A GAN's losses say how the game stands, not how good the samples are. What is watched instead, on held-out rows x and
as many samples y of the same labels, is the energy distance (Szekely and Rizzo 2013) as a share of the rows'
own spread, without bias: 0 for the data's own law, comparable over a run, and never a density.

    loss = (2 E|x - y| - E|x - x'| - E|y - y'|) / E|x - x'|
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor, nn

from undiffuse.diffusion.sample import Callback, RowNoise
from undiffuse.errors import InputError
from undiffuse.interfaces import Noise, Player, Source
from undiffuse.models.base import GenerativeModel
from undiffuse.models.gan_losses import GAMES, Game, Relativistic
from undiffuse.models.meeting import (
    check_classes,
    check_one_pass,
    check_shape,
    hide,
    shares_of,
    unmet,
)
from undiffuse.nn.adversarial import ADVERSARIAL, adversarial_pair
from undiffuse.parts import describe

_LATENTS = (16, 128)  # the fewest and the most, unless asked for
_COUNTED = 4096  # rows that the shares of the classes are counted on
_LR = {
    1: 3.0
}  # of both players, relative to the run's, by the number of axes: vectors learn faster, others as given
_BETAS = (0.0, 0.99)  # no momentum, which makes the game circle
_ALIKE, _TOLD = 0.2, 0.99  # diversity below which, and separation above which, something is wrong
_ENOUGH = 16  # rows that this is told from, at least


@final
class GAN(GenerativeModel):
    """A generator, a discriminator, and the game they play.

    game                       the losses, `NonSaturating` or `Relativistic`
    latent                     how many numbers z has; None: as many as a row, within 16 and 128
    generator, discriminator   networks called as G(z) and D(x), and with label= if the data have classes; chosen from
                               the data if None
    sizes                      dimensions that override those chosen from the data
    drop_condition             share of training rows whose label is hidden
    class_shares               how often each class is drawn; measured if empty
    """

    no_density = (
        "a GAN has no density: its samples are a function of random numbers that cannot be inverted; score with a "
        "model of another preset, such as edm."
    )

    def __init__(
        self,
        *,
        game: Game = Relativistic(),  # noqa: B008 - immutable
        latent: int | None = None,
        generator: nn.Module | None = None,
        discriminator: nn.Module | None = None,
        sizes: Mapping[str, Any] | None = None,
        drop_condition: float = 0.1,
        shape: tuple[int, ...] | None = None,
        class_shares: tuple[float, ...] = (),
    ) -> None:
        super().__init__()
        if (generator is None) != (discriminator is None):
            raise InputError(
                "gan: one network of two; give both a generator and a discriminator, or neither."
            )
        self.game, self.generator, self.discriminator, self.sizes = (
            game,
            generator,
            discriminator,
            dict(sizes or {}),
        )
        self.latent, self.drop_condition, self.shape, self.class_shares = (
            latent,
            drop_condition,
            shape,
            class_shares,
        )

    def prepare(self, source: Source) -> None:
        """Choose the networks' size, count the classes. A model that has its networks only checks that these data fit:
        InputError for rows of another shape, or other classes.
        """
        shape, classes = tuple(source.transform.shape), source.conditions.get("label", 0)
        check_shape(shape, self.shape)
        self.shape = shape
        if self.latent is None:
            self.latent = min(max(math.prod(shape), _LATENTS[0]), _LATENTS[1])
        if self.generator is None:
            pair = adversarial_pair(shape, latent=self.latent, classes=classes, **self.sizes)
            self.generator, self.discriminator = pair
        for network in self._ready():
            check_classes(network, classes)
        if classes and not self.class_shares:
            self.class_shares = shares_of(source.sample_batch(_COUNTED), classes)

    def _ready(self) -> tuple[nn.Module, nn.Module]:
        if self.generator is None or self.discriminator is None or self.latent is None:
            raise unmet()
        return self.generator, self.discriminator

    def players(self) -> dict[str, Player]:
        """Both networks; the generator is averaged, which is what makes its samples steady."""
        generator, discriminator = self._ready()
        hints: dict[str, Any] = {"lr_scale": _LR.get(len(self.shape or ()), 1.0), "betas": _BETAS}
        return {
            "discriminator": Player(discriminator, averaged=False, **hints),
            "generator": Player(generator, **hints),
        }

    def losses(self, x: Tensor, **cond: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The discriminator's, then the generator's against the discriminator that has just moved."""
        _, discriminator = self._ready()
        cond = hide(cond, self.drop_condition)

        def critic(rows: Tensor) -> Tensor:
            return discriminator(rows, **cond)

        with torch.no_grad():
            y = self._generated(torch.randn_like, len(x), **cond)
        yield "discriminator", self.game.discriminator(critic, x, y)
        with _frozen(discriminator):  # while the loss is computed: no gradient is, then or later
            loss = self.game.generator(critic, x, self._generated(torch.randn_like, len(x), **cond))
        yield "generator", loss

    def _generated(self, noise: Noise, n: int, **cond: Tensor) -> Tensor:
        """`n` rows (n, *shape), each from `latent` normals of its own."""
        generator, _ = self._ready()
        assert self.latent is not None
        return generator(noise(torch.empty(n, self.latent, device=self.device)), **cond)

    @torch.no_grad()
    def diagnostics(self, x: Tensor, **cond: Tensor) -> dict[str, Any]:
        """Of held-out `x` and as many samples, with fixed noise:

        loss         the energy distance between them, as a share of the rows' own
        diversity    distance of a sample to its nearest other, over that of a row: 0 if all samples are one
        variance     of the samples, over that of the rows
        separation   share of pairs in which the discriminator takes the row for more real: 0.5 if it cannot tell, near
                     1 if it wins

        and a `warning`, a sentence where these are signs of collapse and the rows are enough to tell.
        """
        _, discriminator = self._ready()
        y = self._generated(RowNoise(0, len(x)), len(x), **cond)
        real, fake = discriminator(x, **cond).double(), discriminator(y, **cond).double()
        won = (real[:, None] > fake).double() + 0.5 * (real[:, None] == fake).double()
        found = {**compared(x, y), "separation": float(won.mean())}
        warning = _warning(found) if len(x) >= _ENOUGH else None
        return found if warning is None else {**found, "warning": warning}

    @torch.no_grad()
    def draw(
        self,
        n: int,
        *,
        noise: Noise,
        steps: int | None = None,
        method: str | None = None,
        callback: Callback | None = None,
        **cond: Tensor,
    ) -> Tensor:
        """`n` samples (n, *shape), in one pass of the generator. Raises InputError if asked for steps or a method."""
        check_one_pass("a GAN", steps=steps, method=method)
        x = self._generated(noise, n, **cond)
        if callback is not None:
            callback(1, 1, torch.zeros(()), x)
        return x

    def config(self) -> dict[str, Any]:
        """The game, the networks and their dimensions, as a run's config.json keeps them."""
        return describe(self, {**GAMES, **ADVERSARIAL, "gan": GAN})


def compared(x: Tensor, y: Tensor) -> dict[str, float]:
    """loss, diversity and variance (see `GAN.diagnostics`) of samples y beside rows x, each (N, *), N at least 2.

    >>> torch.manual_seed(0)
    <torch._C.Generator object at ...>
    >>> same = compared(torch.randn(200, 3), torch.randn(200, 3))
    >>> abs(same["loss"]) < 0.03, 0.8 < same["diversity"] < 1.25
    (True, True)
    """
    x, y = x.flatten(1).double(), y.flatten(1).double()
    within, of_samples, between = _distances(x, x), _distances(y, y), _distances(x, y)
    off = len(x) * max(len(x) - 1, 1)
    spread = within.sum() / off
    energy = 2 * between.mean() - spread - of_samples.sum() / off
    diversity = _nearest(of_samples) / _nearest(within).clamp_min(_LEAST)
    variance = y.var(0, correction=0).sum() / x.var(0, correction=0).sum().clamp_min(_LEAST)
    loss = energy / spread.clamp_min(_LEAST)
    return {"loss": float(loss), "diversity": float(diversity), "variance": float(variance)}


_LEAST = 1e-12  # instead of dividing by zero where all rows are one


def _distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _nearest(distances: Tensor) -> Tensor:
    """The mean distance to the nearest other row."""
    other = distances + torch.diag(
        torch.full((len(distances),), torch.inf, dtype=distances.dtype).to(distances.device)
    )
    nearest = other.amin(1)
    return nearest[nearest.isfinite()].sum() / len(distances)


def _warning(found: Mapping[str, float]) -> str | None:
    """What the numbers say is wrong, if anything."""
    if found["diversity"] < _ALIKE:
        return (
            f"signs of collapse: samples lie {found['diversity']:.2g} times as far apart as the rows do "
            f"(variance {found['variance']:.2g}); try a lower --training.lr or a larger --training.batch."
        )
    if found["separation"] > _TOLD:
        return (
            f"the discriminator wins: in {found['separation']:.1%} of pairs it takes the row for more real than the "
            "sample; train for longer, or try a lower --training.lr."
        )
    return None


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Inside, what is computed with the module has no gradient for its parameters."""
    parameters = [p for p in module.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in parameters:
            parameter.requires_grad_(True)
