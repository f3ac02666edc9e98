"""What a user trains, and the two interfaces it is trained through.

`GenerativeModel` is the noun of the library: a family implements some methods at unit scale, tensors in and tensors
out; those a user calls are final, in the data's own units. `data/` implements the protocols `Transform` and `Source`.

    row  --encode-->  x (unit scale)  --model-->  x  --decode-->  row

    log p(row) >= E[log p(x) + log_correction]

where the correction is the log-determinant of the encoding less the log-density of any noise it added.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any, final

import numpy as np
import torch
from numpy.typing import DTypeLike
from PIL import Image
from torch import Tensor

from undiffuse.diffusion.likelihood.dequantize import TruncatedNormal
from undiffuse.diffusion.sample import RowNoise
from undiffuse.errors import InputError
from undiffuse.interfaces import Noise, PartialRows, Source, Trainable, Transform
from undiffuse.models.likelihood import How, Likelihood, likelihood_rows, stored_batches

_KNOWN = 0x6B0317  # keeps the stream that encodes known entries apart from the one that draws
_WIDER: dict[str, DTypeLike] = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64}
_LABELS = 0x1ABE15  # keeps the stream that draws classes apart from the one that draws samples


class GenerativeModel(Trainable):
    """A trainable distribution over rows; `transform` and `form` are None until it has met its data."""

    transform: Transform | None = None
    form: Any = None
    classes: tuple[str, ...] = ()
    class_shares: tuple[float, ...] = ()
    completes: bool = (
        False  # whether `draw` takes `known`, (x_known, mask) of (B, *shape), and draws the rest
    )
    preview_options: Mapping[str, Any] = {}  # what `draw` is given for quick looks during training
    scored_by: tuple[
        type[How], ...
    ] = ()  # ways of scoring that can be asked for, the default first
    no_density: str = ""  # why there is no likelihood, in a sentence; "" if there is one
    data_config: Mapping[str, Any] | None = (
        None  # what the data said of themselves, for reading more of their kind
    )

    @abstractmethod
    def prepare(self, source: Source) -> None:
        """Take from the data what is not yet decided: the network's size, sigma_data, the prior's moments."""

    @abstractmethod
    def draw(self, n: int, *, noise: Noise, **options: Any) -> Tensor:
        """`n` samples (n, *shape) at unit scale."""

    def within(self, evaluations: int) -> dict[str, Any]:
        """Options of `draw` that take at most so many evaluations of the network a sample; {}: its own way does."""
        return {}

    def steps_of(self, method: str | None) -> int | None:
        """How many steps `draw` takes by `method` unless told; None: it draws in one pass."""
        return None

    def pictures(self, rows: np.ndarray) -> dict[str, Any]:
        """Pictures of the family's own, name -> PIL image, of stored rows (n, ...) that it was not trained on."""
        return {}

    def likelihood(
        self,
        x: Tensor,
        *,
        noise: Noise,
        cond: Mapping[str, Tensor],
        how: How | None = None,
        cells: tuple[Tensor, Tensor] | None = None,
    ) -> Likelihood:
        """Return log p(x | cond) of rows (B, *shape) at unit scale, in nats.

        Args:
            x: rows (B, *shape).
            noise: supplies what is random.
            cond: the condition of each row.
            how: one of `scored_by`; None is the family's own choice.
            cells: the edges (low, high) of each value's bin, where `takes_cells` says so.

        Raises:
            InputError: for a model with `no_density`.
        """
        raise InputError(self.no_density)

    def takes_cells(self, how: How | None, width: float) -> bool:
        """Return whether `likelihood` in this way takes `cells` of bins of this width."""
        return False

    @final
    def meet(self, data: Any) -> Source:
        """Size the model to `data` (anything `ud.load` takes) and return the data as a source. Idempotent."""
        source = data
        if not isinstance(data, Source):
            from undiffuse.data import load

            source = load(data)
        self.prepare(source)
        self.transform = source.transform
        self.form = getattr(source, "form", None)
        self.classes = tuple(getattr(source, "classes", ()))
        self.data_config = source.config()
        return source

    @final
    def fit(self, data: Any, **options: Any) -> GenerativeModel:
        """Train on `data` (anything `ud.load` takes), options as `undiffuse.training.fit`; returns self."""
        from undiffuse.training import fit

        fit(self, data, **options)
        return self

    @final
    def sample_labels(
        self, n: int, *, label: int | str | None = None, seed: int = 0, first: int = 0
    ) -> np.ndarray | None:
        """The class of each of `n` samples (n,): `label` for all, or drawn with the training data's shares.

        None without classes. Raises InputError for a label the model does not know.
        """
        if label is not None:
            return np.full(n, self.label_index(label), dtype=np.int64)
        if not self.classes:
            return None
        shares = np.cumsum(self.class_shares or np.full(len(self.classes), 1 / len(self.classes)))
        u = torch.special.ndtr(
            RowNoise(seed ^ _LABELS, n, first)(torch.empty(n, 1, dtype=torch.float64))
        )[:, 0].numpy()
        return (
            np.searchsorted(shares / shares[-1], u, side="right")
            .clip(max=len(shares) - 1)
            .astype(np.int64)
        )

    @final
    def sample_rows(
        self,
        n: int,
        *,
        given: PartialRows | None = None,
        label: int | str | None = None,
        seed: int = 0,
        first: int = 0,
        batch: int = 64,
        **options: Any,
    ) -> np.ndarray:
        """`n` samples as rows (n, ...) in their stored type; with `given`, `n` completions of each of its rows in turn.

        A row depends on `seed` and its number (from `first`) alone. `options` are the family's. No `label`: given rows
        hide theirs.
        """
        if n < 1 or batch < 1:
            raise InputError(
                f"n {n}, batch {batch}: draw at least 1 sample, and at least 1 at a time."
            )
        if self.transform is None:
            raise InputError("this model has not met its data yet; call fit, or open a run.")
        if given is not None and not self.completes:
            raise InputError(
                f"given: {type(self).__name__.lower()} models draw whole rows only; leave it out."
            )
        total = n * (len(given) if given else 1)
        labels = self.sample_labels(total, label=label, seed=seed, first=first)
        labels = (
            labels
            if given is None or label is not None or labels is None
            else np.full_like(labels, -1)
        )
        was_training = self.training
        self.eval()
        rows = []
        try:
            for start in range(0, total, batch):
                places = np.arange(start, min(start + batch, total)) // n
                cond = self._known(given, places, seed, first + start) if given else {}
                if labels is not None:
                    cond["label"] = torch.from_numpy(labels[start : start + batch]).to(self.device)
                x = self.draw(
                    len(places), noise=RowNoise(seed, len(places), first + start), **cond, **options
                )
                drawn = self.transform.decode(x.float().cpu())
                if given:
                    drawn = np.where(given.known[places], given.rows[places], drawn).astype(
                        drawn.dtype
                    )
                rows.append(drawn)
        finally:
            self.train(was_training)
        return np.concatenate(rows)

    def _known(
        self, given: PartialRows, places: np.ndarray, seed: int, first: int
    ) -> dict[str, Any]:
        """The option `known` of `draw`: (x_known, mask) of the given rows at these places."""
        assert self.transform is not None
        rows = given.rows[places]
        stored = torch.from_numpy(
            np.ascontiguousarray(rows, _WIDER.get(rows.dtype.name, rows.dtype))
        )
        x, _ = self.transform.encode(stored, RowNoise(seed ^ _KNOWN, len(rows), first))
        mask = self.transform.known(torch.from_numpy(np.ascontiguousarray(given.known[places])))
        return {"known": (x.to(self.device), mask.to(self.device))}

    @final
    def preview(self, n: int, *, seed: int) -> Image.Image | None:
        """`n` samples drawn quickly, in one picture; None without a form."""
        if self.form is None:
            return None
        return self.form.preview(self.sample_rows(n, seed=seed, **self.preview_options))

    @final
    def sample(self, n: int, **options: Any) -> Any:
        """`n` samples in the form the data came in: an array, a data frame, recordings. Options as `sample_rows`."""
        rows = self.sample_rows(n, **options)
        return rows if self.form is None else self.form.present(rows)

    @final
    def likelihood_rows(
        self,
        rows: Tensor,
        *,
        how: How | None = None,
        first: int = 0,
        seed: int = 0,
        draws: int | None = None,
        label: int | str | None = None,
        importance: bool = False,
        dequantization: TruncatedNormal | None = None,
    ) -> Likelihood:
        """Return the log-likelihood of rows (B, ...) of the stored type, nats in the data's units.

        Row i depends on (`seed`, `first` + i) alone.

        Args:
            rows: rows (B, ...) of the stored type.
            how: a way of scoring, one of `scored_by`; None is the family's own choice.
            first: the number of the first row.
            seed: decides everything random.
            draws: draws of what the transform adds; default 2, or 1 if it adds nothing.
            label: score given this class; None hides the class.
            importance: weight the draws by importance instead of averaging them.
            dequantization: the noise that whole numbers are given; None is uniform.
        """
        if self.transform is None:
            raise InputError("this model has not met its data yet; call fit, or open a run.")
        cond = {}
        if self.classes or label is not None:
            index = -1 if label is None else self.label_index(label)
            cond["label"] = torch.full((len(rows),), index, dtype=torch.int64, device=self.device)
        was_training = self.training
        self.eval()
        try:
            return likelihood_rows(
                self,
                rows,
                how=how,
                first=first,
                seed=seed,
                draws=draws,
                importance=importance,
                dequantization=dequantization,
                cond=cond,
            )
        finally:
            self.train(was_training)

    @final
    def log_prob(self, data: Any, *, batch: int = 64, **options: Any) -> np.ndarray:
        """The log-likelihood of each row of `data` (anything `ud.load` takes, or stored rows as a tensor), (N,) nats.

        -inf for what training rules out, such as a new category; nan for an unreadable row. See `likelihood_rows`.
        """
        values = [np.zeros(0)]
        for first, part in stored_batches(data, self.data_config, batch):
            found = self.likelihood_rows(part["row"], first=first, **options).nats.numpy().copy()
            for place, problem in part.get("problems", {}).items():
                found[place] = problem.nats
            values.append(found)
        return np.concatenate(values)

    @final
    def label_index(self, label: int | str) -> int:
        """The index of a class given by name or by number. Raises InputError for one the model does not know."""
        if not self.classes:
            raise InputError(
                f"label {label}: this model was trained without labels; leave the label out."
            )
        names = list(self.classes)
        if str(label) in names:
            return names.index(str(label))
        numbers = any(
            name.removeprefix("-").isdecimal() for name in names
        )  # then a number is a name
        if str(label).isdecimal() and not numbers and int(label) < len(names):
            return int(label)
        shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise InputError(f"label {label}: no such class; the model knows {shown}.")

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device
