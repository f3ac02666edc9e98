"""What a user trains, and the two interfaces it is trained through.

`GenerativeModel` is the noun of the library: a family (diffusion, and later VAE, GAN, flow) implements five methods at
unit scale, tensors in and tensors out; the methods a user calls are final and work in the data's own units, through
the transform. `Transform` and `Source` are protocols: `data/` implements them, models and training only use them.

    row  --encode-->  x (unit scale)  --model-->  x  --decode-->  row

    log p(row) >= E[log p(x) + log_correction]

where the correction is the log-determinant of the encoding less the log-density of any noise it added.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from undiffuse.errors import InputError

Noise = Callable[[Tensor], Tensor]
"""`noise(like) -> z`: standard normal draws of the shape, type and device of `like`; one stream per row."""


@runtime_checkable
class Transform(Protocol):
    """Between the rows that a person has and the tensors at unit scale that a model is trained on."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one encoded row: (D,) vectors, (C, L) sequences, (C, H, W) images and grids."""
        ...

    def encode(self, row: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Rows (B, ...) in their stored type -> `x` (B, *shape) float32 and `log_correction` (B,) float64, in nats.

        `noise` supplies whatever is random (dequantization, the fill of missing values); `torch.zeros_like` puts
        every value at the centre of its bin.
        """
        ...

    def decode(self, x: Tensor) -> np.ndarray:
        """`x` (B, *shape) -> rows (B, ...) in the stored type: in range, rounded, missing where a value is missing."""
        ...


@runtime_checkable
class Source(Protocol):
    """Data to train on. Finite sets are permuted anew each epoch, streams are sought: nothing here has a length."""

    transform: Transform
    conditions: Mapping[str, int]  # name -> number of classes, e.g. {"label": 10}; empty if unconditional

    def batches(
        self, size: int, *, seed: int, start_step: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[dict]:
        """Training batches from step `start_step` on, without end: {"row": (size, ...), "label": (size,) int64}.

        A pure function of (seed, step, rank, world): resuming needs no iterator state.
        """
        ...

    def held_out_batch(self, size: int) -> dict:
        """The first `size` held-out rows (fewer if there are fewer), in the same form; always the same ones."""
        ...

    def sample_batch(self, size: int) -> dict:
        """`size` training rows (fewer if there are fewer) spread over the data, to measure moments on."""
        ...

    def config(self) -> dict[str, Any]:
        """Plain data for a run's config.json: path, fingerprint, split, transform, form, classes."""
        ...


@dataclass(frozen=True)
class Player:
    """One separately optimized part of a model: a diffusion model has one, a GAN two."""

    module: nn.Module
    averaged: bool = True  # keep a running average of its weights, and sample with that
    lr_scale: float = 1.0  # its learning rate relative to the run's


class GenerativeModel(nn.Module, ABC):
    """A trainable distribution over rows. Families implement the abstract methods, at unit scale.

    `transform`, `form` and `classes` are None until the model has met its data (`prepare`, called by `fit`, or
    `ud.open`).
    """

    transform: Transform | None = None
    form: Any = None
    classes: tuple[str, ...] = ()

    @abstractmethod
    def prepare(self, source: Source) -> None:
        """Take from the data what is not yet decided: the network's size, sigma_data, the prior's moments."""

    @abstractmethod
    def players(self) -> dict[str, Player]:
        """What is optimized, by name."""

    @abstractmethod
    def losses(self, x: Tensor, **cond: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield (player, scalar loss) in turn; each is computed after the step on the one before was taken."""

    @abstractmethod
    def draw(self, n: int, *, noise: Noise, **options: Any) -> Tensor:
        """`n` samples (n, *shape) at unit scale."""

    @abstractmethod
    def diagnostics(self, x: Tensor, **cond: Tensor) -> dict[str, Any]:
        """Named numbers and curves on held-out `x` with fixed noise; "loss" is the one to watch."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """The resolved tree of parts, enough to rebuild the model before its weights are loaded."""

    @final
    def fit(self, data: Any, **options: Any) -> GenerativeModel:
        """Train on `data` (anything `ud.load` takes); the options are those of `undiffuse.training.fit`. Returns self."""
        from undiffuse.training import fit

        fit(self, data, **options)
        return self

    @final
    def label_index(self, label: int | str) -> int:
        """The index of a class given by name or by number. Raises InputError for one the model does not know."""
        if not self.classes:
            raise InputError(f"label {label}: this model was trained without labels; leave the label out.")
        names = list(self.classes)
        if str(label) in names:
            return names.index(str(label))
        shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise InputError(f"label {label}: no such class; the model knows {shown}.")

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device
