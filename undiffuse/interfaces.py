"""What the parts of undiffuse know of each other: protocols, and the plain data between them.

    data/  implements Rows, Transform, Form and Source
    models/  implements Trainable, and names its Players
    training/  sees nothing but these

Everybody may import this module; it imports nothing of undiffuse.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, final, runtime_checkable

import numpy as np
from PIL import Image
from torch import Tensor, nn

Noise = Callable[[Tensor], Tensor]
"""`noise(like) -> z`: standard normal draws shaped like `like`, one stream per row."""

WriteRows = Callable[..., None]
"""`write(rows, labels)`: takes the next rows (B, ...) of a file, and their labels or None."""

Progress = Callable[[int, int, str], None]
"""`progress(done, total, what)`: called now and then by work that can last."""

Stop = Callable[[], bool]
"""`stop()`: polled by work that can last; True ends it early, keeping what is done."""

Listener = Callable[[dict[str, Any]], None]
"""`listener(event)`: called with what happens, as plain data with an "event" in it."""


@runtime_checkable
class Rows(Protocol):
    """Random access to rows, in memory or on disk; `take` is the only way data is read."""

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def take(self, indices: np.ndarray) -> np.ndarray:
        """Return the rows (B, ...) at these positions, in their stored type, as a new array."""
        ...


@runtime_checkable
class Transform(Protocol):
    """The map between rows as a person has them and tensors at unit scale to train a model on."""

    @property
    def row_shape(self) -> tuple[int, ...]:
        """The shape of one stored row."""
        ...

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one encoded row: (D,) vectors, (C, L) sequences, (C, H, W) images."""
        ...

    @property
    def description(self) -> str:
        """One sentence on how the rows are modelled."""
        ...

    @property
    def levels(self) -> int | None:
        """The number of values 0, 1, ... that a stored entry can have; None for other entries."""
        ...

    @property
    def bin_width(self) -> Tensor | float | None:
        """The width in x of a whole number's bin, broadcasting against x; None without bins."""
        ...

    def encode(self, row: Tensor, noise: Noise) -> tuple[Tensor, Tensor]:
        """Encode stored rows.

        Args:
            row: rows (B, *row_shape) in their stored type.
            noise: supplies what is random (dequantization, missing values); `torch.zeros_like`
                gives the centre of each bin.

        Returns:
            `x` (B, *shape) float32 and `log_correction` (B,) float64, in nats.
        """
        ...

    def decode(self, x: Tensor) -> np.ndarray:
        """Decode `x` (B, *shape) to rows (B, *row_shape): in range, rounded, NaN where missing."""
        ...

    def cells(self, row: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the edges (low, high) of each entry's bin in x, each (B, *shape) float64.

        None where the entries are not whole numbers in bins.
        """
        ...

    def known(self, mask: Tensor) -> Tensor:
        """Map a mask (B, *row_shape), true where an entry is known, to one of x, (B, *shape)."""
        ...


@final
@dataclass(frozen=True)
class Preview:
    """A few samples as a person meets them.

    Attributes:
        picture: all of them.
        sound: the first of them as a WAV file; None for rows that are not heard.
    """

    picture: Image.Image
    sound: bytes | None = None


@runtime_checkable
class Form(Protocol):
    """How rows look to a person: how they are returned, written and pictured."""

    @property
    def dtype(self) -> str:
        """The stored type of an entry, as NumPy names it."""
        ...

    @property
    def column_sizes(self) -> Mapping[str, int]:
        """For a table, column name -> number of categories, 0 for numbers; else empty."""
        ...

    @property
    def suggested_out(self) -> str:
        """A name that rows of this form can be written to, such as "samples.csv"."""
        ...

    def present(
        self, rows: np.ndarray, *, drawn: bool = True
    ) -> Any:  # an array, a data frame, a table: the user's own type
        """Return the rows in the form that the data came in; samples are `drawn`, data are not."""
        ...

    def check_out(self, out: Path) -> None:
        """Raise InputError if rows of this form cannot be written to `out`; writes nothing."""
        ...

    def save(self, rows: np.ndarray, out: Path, *, labels: np.ndarray | None = None) -> None:
        """Write the rows to `out`, whole or not at all. Raises InputError as `check_out` does."""
        ...

    def writing(self, out: Path, count: int) -> AbstractContextManager[WriteRows]:
        """Return what takes `count` rows, some at a time, and writes them to `out` as `save` does.

        `out` appears, whole, when it is left without an exception.
        """
        ...

    @property
    def parts(self) -> tuple[str, ...]:
        """The suffixes of the files that a folder of samples can hold, the usual one first."""
        ...

    def check_part(self, suffix: str) -> None:
        """Raise InputError for other files than `parts`, and for want of their library."""
        ...

    def part(
        self, folder: Path, suffix: str, *, number: int, first: int, count: int, total: int
    ) -> AbstractContextManager[WriteRows]:
        """Return what takes the rows of a part of a folder, some at a time.

        Args:
            folder: where its files are written.
            suffix: of the files, one of `parts`.
            number: of the part.
            first: the number of its first row among all.
            count: how many rows it has.
            total: how many rows there are in all parts.
        """
        ...

    @property
    def keyed(self) -> bool:
        """Whether there is something that no two rows of the data agree in; see `repeated`."""
        ...

    def preview(self, rows: np.ndarray) -> Image.Image:
        """Return one picture of all these rows."""
        ...

    def sound(self, rows: np.ndarray) -> bytes | None:
        """Return the first of these rows, one after another, as a WAV file; None if silent."""
        ...

    def remarks(self, rows: np.ndarray) -> Sequence[str]:
        """Return what is to be said of samples (n, ...), a sentence each."""
        ...

    def repeated(self, rows: np.ndarray) -> np.ndarray:
        """Return which samples (n,) agree with another, or the data, where no two rows of it do."""
        ...

    def bands(self, given: PartialRows, drawn: np.ndarray) -> Image.Image | None:
        """Return a picture of what is known, and of the median and the bands of what is drawn.

        Args:
            given: m rows of which some entries are known.
            drawn: (m n, ...), n completions of the first, then of the next.

        Returns:
            None for rows without such a picture.
        """
        ...


@runtime_checkable
class Source(Protocol):
    """Data to train on. Finite sets are permuted anew each epoch; streams may have no length."""

    transform: Transform
    form: Form
    classes: tuple[str, ...]

    @property
    def conditions(self) -> Mapping[str, int]:
        """Name -> size: {"label": classes, "vector": numbers, "maps": channels}, of what there is.

        Maps are numbers at each position of a row: they are the last ones of the vector.
        """
        ...

    def batches(
        self, size: int, *, seed: int, start_step: int = 0, rank: int = 0, world: int = 1
    ) -> Iterator[dict[str, Tensor]]:
        """Yield batches {"row": (size, ...)}, depending on this alone.

        And "label" (size,) int64 and "vector" (size, v) float32, of the `conditions`: its
        `vector` numbers, then `maps` for each position.
        """
        ...

    def held_out_batch(self, size: int) -> dict[str, Tensor]:
        """Return the first `size` held-out rows (fewer if there are fewer)."""
        ...

    def sample_batch(self, size: int) -> dict[str, Tensor]:
        """Return `size` training rows (fewer if there are fewer) spread over the data."""
        ...

    def config(self) -> dict[str, Any]:
        """Return plain data for config.json: path, fingerprint, split, transform, form, classes."""
        ...


@final
@dataclass(frozen=True)
class Player:
    """One separately optimized part of a model: a diffusion model has one, a GAN two."""

    module: nn.Module
    averaged: bool = True  # keep a running average of its weights, and sample with that
    lr_scale: float = 1.0  # its learning rate relative to the run's
    betas: tuple[float, float] = (
        0.9,
        0.99,
    )  # decay of AdamW's averages of the gradient and its square
    hidden: Collection[str] = ()  # weights, by name, that Muon trains and not AdamW
    sloped: bool = False  # a slope of what it computes is in its loss


@final
@dataclass(frozen=True, eq=False)
class PartialRows:
    """Stored rows of which some entries are known; the rest is for a model to draw.

    Attributes:
        rows: (m, ...) in the run's stored type. Unknown entries are not used, but have to be
            values that can be encoded.
        known: (m, ...) bool, true where an entry is known.
        notes: what was changed in what is known, one sentence each.
        vector: (m, v) the conditions that the rows give themselves; None: none.
        label: (m,) their classes, -1 for an unknown one; None: none.
        exact: rows whose known entries completed ones have; None: `rows`. They differ where what
            was given lies beyond the training rows: the others are drawn given the nearest value.
    """

    rows: np.ndarray
    known: np.ndarray
    notes: tuple[str, ...] = ()
    vector: np.ndarray | None = None
    label: np.ndarray | None = None
    exact: np.ndarray | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def at(self, places: np.ndarray) -> PartialRows:
        """Return the rows at these places, without their conditions."""
        exact = None if self.exact is None else self.exact[places]
        return PartialRows(self.rows[places], self.known[places], exact=exact)

    def completed(self, drawn: np.ndarray) -> np.ndarray:
        """Return drawn rows (m, ...) with what is known exactly as it was given."""
        exact = self.rows if self.exact is None else self.exact
        return np.where(self.known, exact, drawn).astype(drawn.dtype)


class Trainable(nn.Module, ABC):
    """What training asks of a model, whichever family it is of."""

    preset: str | None = None  # the recipe it was made by, for the run's record
    progress: float = 1.0  # the share of its training that is behind, as of the step being taken
    record: Any = None  # how it was trained, a `training.Record`; None before
    origin: Mapping[str, Any] | None = None  # what its first weights are of; None: drawn at random

    @property
    def parameter_count(self) -> int:
        """How many numbers are trained."""
        return sum(one.numel() for one in self.parameters() if one.requires_grad)

    @abstractmethod
    def meet(self, data: Any) -> Source:  # anything that `load` takes
        """Size the model to `data` and return the data as a source."""

    @abstractmethod
    def players(self) -> dict[str, Player]:
        """Return what is optimized, by name."""

    @abstractmethod
    def losses(self, x: Tensor, **cond: Tensor) -> Iterator[tuple[str, Tensor]]:
        """Yield (player, scalar loss), each computed after the step on the one before."""

    @abstractmethod
    def diagnostics(self, x: Tensor, **cond: Tensor) -> dict[str, Any]:
        """Return numbers and curves on held-out `x`; "loss" is watched, "warning" is shown."""

    def row_terms(self, x: Tensor, *, first: int = 0, **cond: Tensor) -> dict[str, Tensor] | None:
        """Return what `diagnostics` is made of for each row, so that processes can share the rows.

        Args:
            x: some of the held-out rows (B, *shape).
            first: the number of the first of them.
            **cond: the condition of each row.

        Returns:
            Tensors of B rows, each of which depends on its own row alone, for `diagnosed`. None for
            a model that can only measure all rows together.
        """
        return None

    def diagnosed(self, terms: Mapping[str, Tensor]) -> dict[str, Any]:
        """Return the diagnostics of all rows from their `row_terms`."""
        raise NotImplementedError

    widths: Sequence[int] = ()
    """The widths of its network that a budget may choose among, ascending.

    None if it is given, or has weights that are to be kept.
    """

    width: int = 0
    """The width of its network, where there are `widths`."""

    def take_width(self, width: int) -> None:
        """Build the network anew, of this width: one of `widths`."""

    def conclude(self, source: Source, *, stop: Stop) -> bool:
        """Choose on training rows what depends on the trained weights; nothing by default.

        Returns whether it is chosen: not if `stop()`, which is polled meanwhile, was true.
        """
        return True

    tuning: int = 0
    """The evaluations of one row that `tune` takes at least; 0: there is nothing to choose."""

    def tune(
        self,
        source: Source,
        *,
        seed: int = 0,
        seconds: float | None = None,
        progress: Progress | None = None,
        stop: Stop = lambda: False,
    ) -> str:
        """Choose how the trained model is sampled, on held-out rows.

        Args:
            source: the data.
            seed: decides everything random.
            seconds: how long it may take; None: as long as it needs.
            progress: called now and then.
            stop: polled; true ends it without a choice.

        Returns:
            What was chosen, or why nothing was, in a sentence.
        """
        return "not tuned: there is one way to draw from this model"

    @property
    def tuned_tree(self) -> dict[str, Any] | None:
        """What `tune` chose, as plain data: kept beside the weights. None: nothing."""
        return None

    def take_tuned(self, tree: Mapping[str, Any] | None) -> None:
        """Sample as `tuned_tree` said; None: as by default. Raises ValueError if it is unsound."""
        if tree is not None:
            raise ValueError("there is one way to draw from this model")

    @property
    def conclusion(self) -> int:
        """The evaluations of one row that `conclude` takes, at most: a budget sets them aside."""
        return 0

    @abstractmethod
    def preview(self, n: int, *, seed: int, stop: Stop) -> Preview | None:
        """Draw `n` samples and return a picture of them, and recordings to be heard.

        None for data that have no pictures, and if `stop()`, which is polled meanwhile, was true.
        """

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Return the resolved tree of parts, enough to rebuild the model without its weights."""
