"""What series are asked besides: can a recurrent network tell them apart, or learn to predict them?

    discriminative   |0.5 - accuracy| of a classifier that tells samples from held-out series, on
                     series that it was not fitted on (two folds)
    predictive       the mean absolute error of predicting each next step of held-out series by a
                     network fitted on samples, in standard deviations of a channel

both of Yoon et al. (2019, "Time-series generative adversarial networks", section 5), and each the
mean of three networks. Beside them stands what training rows in place of the samples give.

The networks are gated recurrent units (Cho et al. 2014),

    r, z = sigmoid(W x + U h),  c = tanh(W' x + r U' h),  h <- z h + (1 - z) c

with 16 numbers of state, whose outputs are linear in the state and in the values; the classifier
sees the mean of both over time. All networks of a figure are fitted at once, as one batch of
matrices. Of longer series a random window of 48 steps is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from torch import Tensor

from undiffuse.evaluation.metrics.figure import Figure, normal
from undiffuse.interfaces import Progress
from undiffuse.seeds import mix

NETWORKS, FOLDS = 3, 2
STATE, BATCH, LR = 16, 32, 0.03
FITTED = 100  # steps of each network
ROWS, STEPS = 500, 48  # series of either side, and values of each channel, at most
_ONCE = 2048  # series of all networks that are computed at once


@final
@dataclass(frozen=True, kw_only=True)
class Sequences:
    """Series (n, C, L), at least 8 of each and of two steps, NaN where a value is missing.

    Attributes:
        real: held-out series.
        fake: samples.
        training: training series.
        seed: decides the networks, and which series and steps they see.
        progress: called while networks are fitted.
    """

    real: np.ndarray
    fake: np.ndarray
    training: np.ndarray
    seed: int = 0
    progress: Progress | None = None

    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return as many real series, samples and training series, each (n, L, C).

        In standard deviations of the channel in training, 0 where a value is missing. Where one is,
        as many channels follow that are 1 there and else 0.
        """
        mean = np.nanmean(self.training, axis=(0, 2), keepdims=True)
        std = np.nanstd(self.training, axis=(0, 2), keepdims=True)
        sides = [self.real, self.fake, self.training]
        n = min(ROWS, *map(len, sides))
        found = []
        for i, side in enumerate(sides):
            rng = np.random.default_rng(mix(self.seed, i))
            rows = (side[rng.permutation(len(side))[:n]] - mean) / np.where(std > 0, std, 1.0)
            first = rng.integers(max(rows.shape[2] - STEPS, 0) + 1, size=(n, 1, 1))
            place = first + np.arange(min(STEPS, rows.shape[2]))
            found.append(np.take_along_axis(rows, place, 2).swapaxes(1, 2))
        if any(np.isnan(x).any() for x in found):
            found = [np.concatenate([np.nan_to_num(x), np.isnan(x)], 2) for x in found]
        real, fake, training = (torch.from_numpy(x).float() for x in found)
        return real, fake, training

    def told(self, what: str) -> Callable[[int], None]:
        """Return what is called with the number of steps that networks have been fitted for."""
        return lambda done: self.progress(done, FITTED, what) if self.progress else None


def discriminative(given: Sequences) -> Figure:
    """Return how well classifiers tell samples from held-out series, 0 to 0.5."""
    real, *others = given.parts()
    n = len(real)
    each = [torch.cat([real, other]) for other in others]  # held-out series come first
    made = torch.arange(2 * n) >= n
    folds = torch.stack([_folds(n, mix(given.seed, seed)) for seed in range(NETWORKS)])
    # networks: by what the real series are told from, by seed, by the fold that is fitted
    fitted = torch.stack([folds == fold for fold in range(FOLDS)], 1)
    fitted = fitted.expand(len(each), -1, -1, -1).flatten(0, 2)
    x = torch.stack(each).repeat_interleave(NETWORKS * FOLDS, 0)
    networks = _Recurrent(len(x), x.shape[-1], 1, given.seed)

    def loss(numbers: Tensor) -> Tensor:
        said = networks.of_means(_of(x, numbers))[..., 0]
        wanted = made[numbers].float()
        return torch.nn.functional.binary_cross_entropy_with_logits(said, wanted)

    weights = torch.stack([fitted & made, fitted & ~made], 1).double()
    _fit(networks, loss, weights, given.seed, given.told("telling series apart"))
    said = _by_parts(networks.of_means, x)[..., 0] > 0
    right = ((said == made) & ~fitted).reshape(len(each), NETWORKS, FOLDS, -1).any(2).double()
    gap = (right.mean(2) - 0.5).abs()
    stderr = _error(right[0], gap[0])
    value, floor = gap.mean(1).tolist()
    return normal(value, stderr, n, floor=floor, bounds=(0.0, 0.5))


def predictive(given: Sequences) -> Figure:
    """Return the error of predictions of held-out series by networks fitted on samples."""
    real, *others = given.parts()
    channels = given.real.shape[1]
    x = torch.stack(others).repeat_interleave(NETWORKS, 0)
    networks = _Recurrent(len(x), x.shape[-1], channels, given.seed)

    def errors(x: Tensor) -> tuple[Tensor, Tensor]:
        """The errors of all steps but the first, 0 where a value is missing, and where none is."""
        flags = x[..., 1:, channels:]
        known = 1 - flags if flags.shape[-1] else torch.ones_like(x[..., 1:, :])
        return (networks.of_steps(x[..., :-1, :]) - x[..., 1:, :channels]).abs() * known, known

    def loss(numbers: Tensor) -> Tensor:
        found, known = errors(_of(x, numbers))
        return found.sum() / known.sum().clamp(min=1)

    weights = torch.ones(len(x), 1, x.shape[1], dtype=torch.float64)
    _fit(networks, loss, weights, given.seed, given.told("learning to predict series"))

    def by_series(x: Tensor) -> Tensor:
        found, known = errors(x)
        return (found.sum((2, 3)) / known.sum((2, 3)))[..., None]

    found = _by_parts(by_series, real.expand(len(x), -1, -1, -1))[..., 0].double()
    found = found[:, ~found.isnan().any(0)].reshape(len(others), NETWORKS, -1)
    value, floor = found.mean((1, 2)).tolist()
    return normal(
        value, _error(found[0], found[0].mean(1)), len(real), floor=floor, bounds=(0.0, math.inf)
    )


def _error(found: Tensor, by_network: Tensor) -> float:
    """The error of a mean: by what rows differ (networks, rows), and by what networks do."""
    rows, networks = found.mean(0).var() / found.shape[1], by_network.var() / len(by_network)
    return float((rows + networks).sqrt())


def _folds(n: int, seed: int) -> Tensor:
    """The fold (2 n,) of each row of either side, as many of each side in each."""
    generator = torch.Generator().manual_seed(seed)
    return torch.cat([torch.randperm(n, generator=generator) % FOLDS for _ in range(2)])


def _of(x: Tensor, numbers: Tensor) -> Tensor:
    """Rows (K, B, L, I) of x (K, N, L, I), those with these numbers (K, B)."""
    return x[torch.arange(len(x))[:, None], numbers]


def _fit(
    networks: _Recurrent,
    loss: Callable[[Tensor], Tensor],
    weights: Tensor,
    seed: int,
    told: Callable[[int], None],
) -> None:
    """Fit by Adam; a batch has as many rows of each of the kinds, weights (K, kinds, N)."""
    optimizer = torch.optim.Adam(networks.weights, lr=LR)
    slower = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, FITTED)
    generator = torch.Generator().manual_seed(mix(seed, FITTED))
    kinds = weights.shape[1]
    for done in range(FITTED):
        rows = weights.flatten(0, 1)
        numbers = torch.multinomial(rows, BATCH // kinds, replacement=True, generator=generator)
        optimizer.zero_grad()
        # the sum over networks, each of which has a loss of its own
        (len(weights) * loss(numbers.reshape(len(weights), -1))).backward()
        optimizer.step()
        slower.step()
        told(done + 1)


@torch.no_grad()
def _by_parts(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The function of rows (K, N, L, I), some at a time."""
    return torch.cat([function(part) for part in x.split(max(1, _ONCE // len(x)), 1)], 1)


@final
class _Recurrent:
    """K gated recurrent networks side by side, of I inputs and O outputs."""

    def __init__(self, networks: int, inputs: int, outputs: int, seed: int) -> None:
        generator = torch.Generator().manual_seed(mix(seed, networks))

        def drawn(*shape: int) -> Tensor:
            u = torch.rand(networks, *shape, generator=generator)
            return ((2 * u - 1) / math.sqrt(shape[0])).requires_grad_()

        self.enter, self.loop = drawn(inputs + 1, 3 * STATE), drawn(STATE, 3 * STATE)
        self.leave = drawn(STATE + inputs + 1, outputs)
        self.weights = [self.enter, self.loop, self.leave]

    def states(self, x: Tensor) -> Tensor:
        """Return state, values and 1 (K, B, L, STATE + I + 1) after each step of x (K, B, L, I)."""
        x = torch.cat([x, torch.ones_like(x[..., :1])], 3)
        entered = (x.flatten(1, 2) @ self.enter).unflatten(1, x.shape[1:3])
        h = x.new_zeros(*x.shape[:2], STATE)
        found = []
        for one in entered.unbind(2):
            looped = h @ self.loop
            r, z = (one + looped)[..., : 2 * STATE].sigmoid().chunk(2, -1)
            c = torch.tanh(one[..., 2 * STATE :] + r * looped[..., 2 * STATE :])
            h = torch.lerp(c, h, z)
            found.append(h)
        return torch.cat([torch.stack(found, 2), x], 3)

    def of_steps(self, x: Tensor) -> Tensor:
        """Return the outputs (K, B, L, O) after each step."""
        states = self.states(x)
        return (states.flatten(1, 2) @ self.leave).unflatten(1, states.shape[1:3])

    def of_means(self, x: Tensor) -> Tensor:
        """Return the outputs (K, B, O) for the means over time."""
        return self.states(x).mean(2) @ self.leave
