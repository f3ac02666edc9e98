"""What a family of generative models implements, at unit scale: tensors in and tensors out.

What a user calls is `base.GenerativeModel`, which every family is.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Collection, Mapping
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from torch import Tensor

from undiffuse.diffusion.sample import Callback
from undiffuse.errors import InputError, unknown
from undiffuse.interfaces import Form, Noise, Source, Trainable, Transform
from undiffuse.models.conditions import KeptConditions
from undiffuse.models.likelihood import How, Likelihood


class AbstractModel(Trainable):
    """What a family of models implements: a trainable distribution over rows.

    Args:
        shape: of a row at unit scale; None: taken from the data.
        class_shares: how often each class is drawn; empty: counted on the data.
        drop_condition: share of training rows whose conditions are hidden.
        condition_widths: the numbers of each column of a condition vector; taken from the data.
        condition_rows: training rows whose condition vectors are kept; likewise.

    Attributes:
        transform: the map between stored rows and unit scale; None before the model met its data.
        form: how rows look to a person, likewise.
        data_config: what the data recorded of themselves, for reading more of their kind; likewise.
        classes: the names of the classes; empty without labels.
        sizes: dimensions of the network that override those chosen from the data.
        measured: whether all that depends on the data is known, measured on them or loaded.
        takes_vectors: whether its networks take condition vectors.
        kept: the condition vectors that samples are given by default; None without conditions.
        completes: whether `draw` takes `known`, (x_known, mask) of (B, *shape), and draws the rest.
        gaps: share of training rows of which only a random part was known to it.
        preview_options: options of `draw` for previews during training.
        scored_by: ways of scoring that can be asked for, the default first.
        no_density: why there is no likelihood, in a sentence; "" if there is one.
        called: what a model of the family is called in messages, such as "a flow".
        methods: sampling methods that can be asked for by name.
        method: the one that `draw` takes unless asked otherwise; None: there is only one way.
    """

    transform: Transform | None = None
    form: Form | None = None
    data_config: Mapping[str, Any] | None = None
    classes: tuple[str, ...] = ()
    sizes: Mapping[str, Any] = {}
    measured: bool = False
    takes_vectors: bool = False
    completes: bool = False
    gaps: float | None = None
    preview_options: Mapping[str, Any] = {}
    scored_by: tuple[type[How], ...] = ()
    no_density: str = "this family has no density; score with another model."
    called: ClassVar[str]
    methods: Collection[str] = ()
    method: str | None = None

    def __init__(
        self,
        *,
        shape: tuple[int, ...] | None = None,
        class_shares: tuple[float, ...] = (),
        drop_condition: float = 0.1,
        condition_widths: tuple[int, ...] = (),
        condition_rows: int = 0,
    ) -> None:
        super().__init__()
        self.shape: tuple[int, ...] | None = shape
        self.class_shares: tuple[float, ...] = class_shares
        self.drop_condition = drop_condition
        self.condition_widths, self.condition_rows = tuple(condition_widths), condition_rows
        kept = KeptConditions(condition_widths, condition_rows) if condition_widths else None
        self.kept: KeptConditions | None = kept
        self.register_load_state_dict_post_hook(_loaded)  # pyright: ignore[reportUnknownMemberType]

    # --- what a family implements, at unit scale, besides what `Trainable` asks

    @abstractmethod
    def prepare(self, source: Source) -> None:
        """Take from the data what is still undecided: the network's size, moments of the data.

        Called with data of the model's own shape. Raises InputError for data that do not fit.
        """

    @abstractmethod
    def draw(
        self, n: int, *, noise: Noise, callback: Callback | None = None, **options: Any
    ) -> Tensor:
        """Return `n` samples (n, *shape).

        Args:
            n: how many.
            noise: supplies what is random, one stream per sample.
            callback: called after each step.
            options: conditions, and what the family offers, such as steps and method.
        """

    def likelihood(
        self,
        x: Tensor,
        *,
        noise: Noise,
        cond: Mapping[str, Tensor],
        how: How | None = None,
        cells: tuple[Tensor, Tensor] | None = None,
    ) -> Likelihood:
        """Return log p(x | cond) of each row, in nats.

        Args:
            x: rows (B, *shape).
            noise: supplies what is random, one stream per row.
            cond: the condition of each row.
            how: one of `scored_by`; None: the family's own choice.
            cells: the edges (low, high) of each value's bin, where `takes_cells` says so.

        Raises:
            InputError: for a model with `no_density`.
        """
        raise InputError(self.no_density)

    def takes_cells(self, how: How | None) -> bool:
        """Return whether `likelihood` in this way takes `cells`."""
        return False

    def within(self, evaluations: int) -> dict[str, Any]:
        """Return options of `draw` that take at most so many evaluations of the network a sample.

        Empty if the family's own way takes no more. Raises InputError if none takes so few.
        """
        return {}

    @property
    def usual_method(self) -> str | None:
        """The sampling method that `draw` takes by default; None: there is only one way."""
        return self.method

    def steps_of(self, method: str | None) -> int | None:
        """Return how many steps `draw` takes by default; None for families that draw in one pass.

        Args:
            method: the sampling method; None: the model's own.
        """
        return None

    def most_steps(self, method: str | None) -> int | float:
        """Return the most steps that `draw` can take by this method; infinity without a limit."""
        return math.inf

    def check_sampler(self, *, method: str | None = None, steps: int | None = None) -> None:
        """Raise InputError for a sampling method or a number of steps that `draw` cannot take."""
        for name, value, taken in (
            ("method", method, bool(self.methods)),
            ("steps", steps, self.steps_of(None) is not None),
        ):
            if value is not None and not taken:
                raise InputError(f"{name} {value}: {self.called} draws in one pass; leave it out.")
        if method is not None and method not in self.methods:
            raise unknown("method", "method", method, self.methods)

    def against_linear(self, x: Tensor, training: Tensor, **cond: Tensor) -> Tensor | None:
        """Return squared errors of the model and of the best linear denoiser (2, levels, B).

        Args:
            x: held-out rows (B, *shape) at unit scale.
            training: training rows (N, *shape), whose mean and covariance make the linear one.
            **cond: the condition of each row of `x`.

        Returns:
            None for a family that removes no noise.
        """
        return None

    def pictures(self, rows: np.ndarray) -> dict[str, Image.Image]:
        """Return pictures for the report that only this family has, by name.

        Args:
            rows: held-out rows (n, ...) of the stored type.
        """
        return {}


def _loaded(model: AbstractModel, _: object) -> None:
    """The weights hold what was measured on the data."""
    model.measured, model.widths = True, ()
