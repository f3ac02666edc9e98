"""The last lesson of a student: its samples are held against rows by a discriminator.

    x_hat = f(x_t, t),  x_t on the way that the student itself samples        D(x, label), a logit

A student of few evaluations is as close to its teacher as its training was long. What is left shows
in its samples, and no loss along a path weighs it as an eye would. So in the last share of a run
the samples themselves are trained, by the game of a GAN (see `gan_losses`), as in Kim et al. (2024,
"Consistency trajectory models", section 4) and Sauer et al. (2023, "Adversarial diffusion
distillation"), but without another loss: the weights are near where they should be, and the rate is
low. The discriminator, which is new, learns alone for a quarter of that time before.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn

from undiffuse.diffusion import Denoiser, Grid, Prior, Step
from undiffuse.diffusion.typed import fork_rng
from undiffuse.interfaces import Player
from undiffuse.models.gan_losses import Relativistic, frozen
from undiffuse.nn.adversarial import Discriminator
from undiffuse.seeds import mix

ALONE = 0.25  # of the share of a run, before it, in which the discriminator learns alone
_RATE = 5.0  # of the discriminator, relative to that of the student, which is low by then
_BETAS = (0.0, 0.99)
_GAME = Relativistic()


@final
class Duel(nn.Module):
    """The discriminator, and the losses of both.

    Args:
        shape: of a row.
        classes: the number of labels, 0 for none.
        share: of a run, its last, that the game takes.
    """

    def __init__(self, shape: tuple[int, ...], *, classes: int, share: float) -> None:
        super().__init__()
        self.share = share
        with fork_rng([]):  # a student is the same whoever makes it, and when
            torch.default_generator.manual_seed(0)
            self.discriminator = Discriminator.sized(shape, {}, classes=classes)

    def player(self) -> Player:
        """Return the discriminator as a player."""
        return Player(self.discriminator, False, _RATE, _BETAS, sloped=_GAME.sloped)

    def on(self, progress: float) -> bool:
        """Return whether it is time for this lesson."""
        return progress >= 1 - (1 + ALONE) * self.share

    def losses(
        self,
        denoiser: Denoiser,
        x: Tensor,
        cond: Mapping[str, Tensor],
        *,
        progress: float,
        prior: Prior,
        grid: Grid,
        steps: int,
        step: Step,
    ) -> Iterator[tuple[str, Tensor]]:
        """Yield the discriminator's loss, then that of the denoiser against the moved one.

        Args:
            denoiser: the student's f.
            x: rows (B, *).
            cond: the conditions of the rows, and of the samples beside them.
            progress: the share of the run that is behind.
            prior: where samples start.
            grid: their times.
            steps: how many evaluations they take; one of them, as good as at random, is trained.
            step: how they move.
        """

        def critic(rows: Tensor) -> Tensor:
            return self.discriminator(rows, **cond)

        times = grid(denoiser.schedule, steps)
        chosen = mix(int(progress * 2**53)) % steps  # the same in all parts of a batch
        with torch.no_grad():
            x_t = prior.draw(torch.randn_like(x))
            for t, s in pairwise(times[: chosen + 1]):
                x_t, _ = step.move(denoiser.given(**cond), x_t, t, s, None, torch.randn_like)
        alone = progress < 1 - self.share
        with torch.set_grad_enabled(not alone):
            y = denoiser(x_t, times[chosen], **cond)
        yield "discriminator", _GAME.discriminator(critic, x, y)
        if not alone:
            with frozen(self.discriminator):
                loss = _GAME.generator(critic, x, y)
            yield "denoiser", loss
