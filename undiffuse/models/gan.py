"""Generative adversarial networks: a generator and a discriminator, trained against each other.

    x_hat = G(z, label),  z ~ N(0, I)          D(x, label): how real x looks, a logit

Each step trains the discriminator on real rows and on samples, then the generator against the
discriminator that has just moved (Goodfellow et al. 2014, Algorithm 1; Kim and Lee 2024, Eq. 1-3);
what each minimizes is the game, see `gan_losses`. A real row and the sample beside it have the same
label, hidden from both networks at random.

A GAN's losses say how the game stands, not how good the samples are. The number to watch is instead
the energy distance (Szekely and Rizzo 2013) between held-out rows x and as many samples y of the
same labels, as a share of the rows' own spread, unbiased: 0 if both have the same distribution,
comparable over a run, and never a density.

    loss = (2 E|x - y| - E|x - x'| - E|y - y'|) / E|x - x'|
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, final

import torch
from torch import Tensor, nn

from undiffuse.diffusion.noise import RowNoise
from undiffuse.diffusion.sample import Callback, one_pass
from undiffuse.errors import InputError
from undiffuse.interfaces import Noise, Player, Source
from undiffuse.models.base import GenerativeModel, unmet
from undiffuse.models.conditions import check_network
from undiffuse.models.gan_losses import GAMES, Game, Relativistic, frozen
from undiffuse.nn.adversarial import ADVERSARIAL, adversarial_pair
from undiffuse.parts import describe

_LATENTS = (16, 128)  # fewest and most coordinates of z, unless told
_LR = {1: 3.0}  # of both players, by the number of axes: vectors learn faster, others as given
_BETAS = (0.0, 0.99)  # of AdamW: momentum makes the game circle
_COLLAPSED, _WON = 0.2, 0.99  # a diversity below, or a separation above, is worth a warning
_FEWEST = 16  # rows that a warning takes
_LEAST = 1e-12  # instead of dividing by zero where all rows are equal


@final
class GAN(GenerativeModel):
    """A generator, a discriminator, and the game they play.

    Args:
        game: the losses, `NonSaturating` or `Relativistic`.
        latent: coordinates of z, at least 1; None: as many as a row has, within 16 and 128.
        generator: a network called as G(z), and with label= if the data have classes; None:
            chosen from the data, as is the discriminator.
        discriminator: a network called as D(x), likewise.
        sizes: dimensions of both that override those chosen from the data.
        drop_condition: share of training rows whose label is hidden.
        shape: of a row at unit scale; None: taken from the data.
        class_shares: how often each class is drawn; empty: counted on the data.

    Raises:
        InputError: for one network of two, and a latent below 1.
    """

    called = "a GAN"
    no_density = (
        "a GAN has no density: its generator cannot be inverted, so it cannot say how likely a row "
        "is; score with a model of another preset, such as edm."
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
        super().__init__(shape=shape, class_shares=class_shares, drop_condition=drop_condition)
        if (generator is None) != (discriminator is None):
            raise InputError(
                "gan: one network of two; give both a generator and a discriminator, or neither."
            )
        if latent is not None and latent < 1:
            raise InputError(f"latent {latent}: give a whole number of at least 1.")
        self.game, self.latent, self.sizes = game, latent, dict(sizes or {})
        self.generator, self.discriminator = generator, discriminator

    def prepare(self, source: Source) -> None:
        """Choose the networks' size, once."""
        shape, classes = tuple(source.transform.shape), source.conditions.get("label", 0)
        self.latent = self.latent or min(max(math.prod(shape), _LATENTS[0]), _LATENTS[1])
        if self.generator is None:
            pair = adversarial_pair(shape, latent=self.latent, classes=classes, **self.sizes)
            self.generator, self.discriminator = pair
        for network in self._ready()[:2]:
            check_network(network, {"label": classes})

    def _ready(self) -> tuple[nn.Module, nn.Module, int]:
        if self.generator is None or self.discriminator is None or self.latent is None:
            raise unmet()
        return self.generator, self.discriminator, self.latent

    def players(self) -> dict[str, Player]:
        """Return both networks; averaging the generator makes its samples steady."""
        generator, discriminator, _ = self._ready()
        lr_scale = _LR.get(len(self.shape or ()), 1.0)
        return {
            "discriminator": Player(
                discriminator, False, lr_scale, _BETAS, sloped=self.game.sloped
            ),
            "generator": Player(generator, True, lr_scale, _BETAS),
        }

    def losses(self, x: Tensor, **cond: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield the discriminator's, then the generator's against the moved discriminator."""
        _, discriminator, _ = self._ready()
        cond = self.hidden(cond)

        def critic(rows: Tensor) -> Tensor:
            return discriminator(rows, **cond)

        with torch.no_grad():
            y = self._generated(torch.randn_like, len(x), **cond)
        yield "discriminator", self.game.discriminator(critic, x, y)
        with frozen(discriminator):  # while the loss is computed: no gradient is, then or later
            loss = self.game.generator(critic, x, self._generated(torch.randn_like, len(x), **cond))
        yield "generator", loss

    def _generated(self, noise: Noise, n: int, **cond: Tensor) -> Tensor:
        """`n` rows (n, *shape), each from `latent` normals of its own."""
        generator, _, latent = self._ready()
        return generator(noise(torch.empty(n, latent, device=self.device)), **cond)

    def diagnostics(self, x: Tensor, **cond: Tensor) -> dict[str, Any]:
        """Return numbers on held-out `x` and as many samples, drawn with fixed noise.

        loss: the energy distance between them, as a share of the rows' own. diversity and variance:
        see `compared`. separation: share of pairs in which the discriminator finds the row more
        real than the sample, 0.5 if it cannot tell. A warning is added where these are signs of
        collapse and the rows are enough to tell.
        """
        return self.diagnosed(self.row_terms(x, first=0, **cond))

    @torch.no_grad()
    def row_terms(self, x: Tensor, *, first: int = 0, **cond: Tensor) -> dict[str, Tensor]:
        """Return each row and a sample, and the discriminator's logits of both."""
        _, discriminator, _ = self._ready()
        y = self._generated(RowNoise(0, len(x), first), len(x), **cond)
        logits = discriminator(x, **cond), discriminator(y, **cond)
        return {"x": x, "y": y, "real": logits[0], "fake": logits[1]}

    def diagnosed(self, terms: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the numbers of `diagnostics`."""
        x, real, fake = terms["x"], terms["real"].double(), terms["fake"].double()
        won = (real[:, None] > fake).double() + 0.5 * (real[:, None] == fake).double()
        numbers = {**compared(x, terms["y"]), "separation": float(won.mean())}
        warning = _warning(numbers) if len(x) >= _FEWEST else None
        return numbers if warning is None else {**numbers, "warning": warning}

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
        """Return `n` samples (n, *shape), in one pass of the generator.

        Args:
            n: how many.
            noise: supplies z.
            steps: refused, as is a method: there is nothing to choose.
            method: likewise.
            callback: called once.
            cond: the condition of each sample.

        Raises:
            InputError: if steps or a method are given.
        """
        self.check_sampler(method=method, steps=steps)
        return one_pass(self._generated(noise, n, **cond), callback)

    def config(self) -> dict[str, Any]:
        """Return the game, the networks and their dimensions, as a run's config.json keeps them."""
        return describe(self, {**GAMES, **ADVERSARIAL, "gan": GAN})


def compared(x: Tensor, y: Tensor) -> dict[str, float]:
    """Return how samples compare with rows.

    Args:
        x: rows (N, *).
        y: samples (N, *).

    Returns:
        loss: the energy distance, over the mean distance of two rows. diversity: the mean distance
        of a sample to the nearest other, over that of a row; 0 if all samples are equal. variance:
        of the samples, over that of the rows.

    >>> _ = torch.manual_seed(0)
    >>> same = compared(torch.randn(200, 3), torch.randn(200, 3))
    >>> abs(same["loss"]) < 0.03, 0.8 < same["diversity"] < 1.25
    (True, True)
    """
    x, y = x.flatten(1).double(), y.flatten(1).double()
    within, of_samples, between = _distances(x, x), _distances(y, y), _distances(x, y)
    pairs = len(x) * max(len(x) - 1, 1)
    spread = within.sum() / pairs
    energy = 2 * between.mean() - spread - of_samples.sum() / pairs
    diversity = _nearest(of_samples) / _nearest(within).clamp_min(_LEAST)
    variance = y.var(0, correction=0).sum() / x.var(0, correction=0).sum().clamp_min(_LEAST)
    loss = energy / spread.clamp_min(_LEAST)
    return {"loss": float(loss), "diversity": float(diversity), "variance": float(variance)}


def _distances(x: Tensor, y: Tensor) -> Tensor:
    return torch.cdist(x, y, compute_mode="donot_use_mm_for_euclid_dist")


def _nearest(distances: Tensor) -> Tensor:
    """The mean distance to the nearest other row; 0 for a single row."""
    itself = torch.eye(len(distances), dtype=torch.bool, device=distances.device)
    nearest = distances.masked_fill(itself, math.inf).amin(1)
    return nearest[nearest.isfinite()].sum() / len(distances)


def _warning(numbers: Mapping[str, float]) -> str | None:
    """What the diagnostics say is wrong, if anything."""
    if numbers["diversity"] < _COLLAPSED:
        return (
            f"signs of collapse: samples lie {numbers['diversity']:.2g} times as far apart as the "
            f"rows do (variance {numbers['variance']:.2g}); try a lower --training.lr or a larger "
            "--training.batch."
        )
    if numbers["separation"] > _WON:
        return (
            f"the discriminator wins: in {numbers['separation']:.1%} of pairs it finds the row "
            "more real than the sample; train for longer, or try a lower --training.lr."
        )
    return None
