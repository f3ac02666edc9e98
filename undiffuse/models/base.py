"""What a user trains: a distribution over rows, of any family.

A family implements some methods at unit scale, tensors in and tensors out. The methods that a user
calls are final, and work in the data's own units through the transform:

    row  --encode-->  x (unit scale)  --model-->  x  --decode-->  row

    log p(row) >= E[log p(x) + log_correction]

where the correction is the log-determinant of the encoding less the log-density of any noise it
added.
"""

from __future__ import annotations

import inspect
import math
from abc import abstractmethod
from collections.abc import Collection, Generator, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any, ClassVar, TypeVar, final

import numpy as np
import torch
from numpy.typing import DTypeLike
from PIL import Image
from torch import Tensor

from undiffuse.diffusion.likelihood.dequantize import Dequantization
from undiffuse.diffusion.noise import Purpose, RowNoise
from undiffuse.diffusion.sample import Callback
from undiffuse.errors import InputError, unknown
from undiffuse.interfaces import Form, Noise, PartialRows, Source, Stop, Trainable, Transform
from undiffuse.models.conditions import KeptConditions, chosen, hide, rows_kept
from undiffuse.models.continuation import continued
from undiffuse.models.gaps import APPROXIMATE
from undiffuse.models.likelihood import How, Likelihood, likelihood_rows
from undiffuse.room import bounded, check_room, memory

_WIDER: dict[str, DTypeLike] = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64}
MOST_TENSORS = 20_000  # of a network
_COUNTED = 4096  # rows that the shares of the classes are counted on
_SHORT = 1024  # numbers in a vector, at most, of which many are computed at once

_Model = TypeVar("_Model", bound="GenerativeModel")


class GenerativeModel(Trainable):
    """A trainable distribution over rows.

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

    # --- from data to a trained model

    @final
    def meet(self, data: Any) -> Source:  # anything that `load` takes
        """Size the model to data and return these as a source. Can be repeated.

        Args:
            data: a source, or anything `ud.load` takes.

        Raises:
            InputError: for data of another shape, or other classes, than the model was made for.
        """
        source = data if isinstance(data, Source) else _upward()[0].load(data)
        shape, classes = tuple(source.transform.shape), source.conditions.get("label", 0)
        asked = source.conditions.keys() & {"vector", "maps"}
        if asked and not self.takes_vectors:
            raise InputError(
                f"conditions: {self.called} takes classes alone; train a diffusion model, such as "
                "preset edm, or leave --condition out."
            )
        if self.shape is not None and tuple(self.shape) != shape:
            raise InputError(
                f"the data has rows of shape {shape}, but the model was made for "
                f"{tuple(self.shape)}; make a new model for these data."
            )
        most = f"a fifth of {memory() / 2**30:.1f} GiB of memory, as training takes five times that"
        family = type(self).__name__.lower()
        problem = f"{family}: the network needs more than {most}; choose smaller dimensions."
        with bounded(memory() // 5, MOST_TENSORS, problem):
            self.prepare(source)
        if classes and not self.class_shares:
            label = source.sample_batch(_COUNTED)["label"]
            counts = torch.bincount(label, minlength=classes).double() + 1e-3  # none is impossible
            self.class_shares = tuple(float(share) for share in counts / counts.sum())
        if asked and not self.measured:
            self._keep(source)
        self.shape, self.classes, self.measured = shape, tuple(source.classes), True
        self.transform, self.form, self.data_config = source.transform, source.form, source.config()
        return source

    def _keep(self, source: Source) -> None:
        """Keep the conditions of some training rows."""
        own = _upward()[0].Conditions.restore(source.config())
        batch = source.sample_batch(rows_kept(source.sample_batch(1)["vector"].shape[1]))
        self.condition_widths = batch["vector"].shape[1:] if own is None else own.widths
        self.condition_rows = len(batch["vector"])
        self.kept = KeptConditions(self.condition_widths, self.condition_rows).to(self.device)
        self.kept.take(batch)

    @final
    def fit(self: _Model, data: Any, **options: Any) -> _Model:
        """Train the model and return it, ready to sample.

        Args:
            data: anything `ud.load` takes.
            options: as for `undiffuse.fit`: steps or budget, out, batch, lr, device, ...

        Raises:
            InputError: as `undiffuse.fit` does.
        """
        _upward()[1].fit(self, data, **options)
        return self

    def hidden(self, cond: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return conditions (B, *) in which a random share of the rows has none.

        The share is `drop_condition`; hidden labels are -1, hidden vectors 0. Of vectors, as large
        a share has only some columns.
        """
        if not cond:
            return {}
        rows = len(next(iter(cond.values())))
        hidden = hide(cond, torch.rand(rows) < self.drop_condition)
        if self.kept is not None and "vector" in hidden:
            hidden["vector"] = self.kept.partly(hidden["vector"], self.drop_condition)
        return hidden

    # --- samples

    @final
    def sample(self, n: int, *, length: int | None = None, **options: Any) -> Any:
        """Return `n` samples in the form the data came in: an array, a data frame, recordings.

        Args:
            n: how many.
            length: steps of each, of series (see `continued`); None: as many as a row has.
            options: as for `sample_rows`.
        """
        draw = self.sample_rows if length is None else partial(continued, self, length=length)
        rows = draw(n, **options)
        return rows if self.form is None else self.form.present(rows)

    @final
    def preview(self, n: int, *, seed: int, stop: Stop = lambda: False) -> Image.Image | None:
        """Return a picture of `n` samples, drawn with `preview_options`.

        None without a form, and as soon as `stop()`, polled after each step, is true.
        """
        if self.form is None:
            return None

        def poll(*state: Any) -> None:
            if stop():
                raise _Stopped

        try:
            rows = self.sample_rows(n, seed=seed, callback=poll, **self.preview_options)
        except _Stopped:
            return None
        return self.form.preview(rows)

    @property
    def completion_notes(self) -> tuple[str, ...]:
        """What there is to say of the rows that this model completes, one sentence each."""
        return (APPROXIMATE,) if self.completes and not self.gaps else ()

    @property
    def at_once(self) -> int:
        """How many rows are computed at a time unless asked otherwise.

        A short vector takes so little that calls of the network cost more.
        """
        short = self.shape is not None and len(self.shape) == 1 and self.shape[0] <= _SHORT
        return 1024 if short else 64

    @final
    def sample_rows(
        self,
        n: int,
        *,
        given: Any = None,  # what `data.complete` takes
        label: int | str | None = None,
        where: Any = None,  # what `data.ask` takes
        vector: Tensor | None = None,
        seed: int = 0,
        first: int = 0,
        batch: int | None = None,
        **options: Any,
    ) -> np.ndarray:
        """Return `n` samples as rows (n, ...) of the stored type.

        A sample depends only on `seed`, its number and its conditions.

        Args:
            n: how many; with `given` or several rows of conditions, how many for each.
            given: rows of which some entries are known, to be completed: a file, an array with NaN,
                a data frame with empty cells.
            label: the class of all samples, by name or number; None: drawn with the shares of the
                training data, or hidden where rows or conditions are given.
            where: the conditions of all samples, or of as many rows, as a mapping of names to
                values, "angle=30,colour=red", a CSV file or a data frame; those that are left out
                are hidden. None: drawn from those of training rows, or hidden where rows are given
                without theirs.
            vector: the same as vectors (m, v), in place of `where`.
            seed: decides everything random.
            first: the number of the first sample.
            batch: samples computed at a time; None: `at_once`.
            options: what the family offers, such as steps and method.

        Returns:
            Rows (n, ...), or (m n, ...): the samples for the first row, then for the next.

        Raises:
            InputError: for a model that has not met its data, a class or a condition that it does
                not know, given rows if it cannot complete any, and options that the family does not
                have.
        """
        batch = self.at_once if batch is None else batch
        if n < 1 or batch < 1:
            raise InputError(f"n {n}, batch {batch}: both must be at least 1.")
        if given is not None and not self.completes:
            raise InputError("given: this model draws whole rows only; leave it out.")
        transform = self._met()
        takes = [one.name for one in inspect.signature(self.draw).parameters.values()
                 if one.kind is one.KEYWORD_ONLY and one.name != "noise"]  # fmt: skip
        for name in options:
            if name not in takes:
                raise unknown("sample:", "option", name, (*takes, "given", "where", "seed"))
        if given is not None and not isinstance(given, PartialRows):
            given = _upward()[0].complete(given, self.data_config)
        asked = self.vectors_of(where) if vector is None else vector
        total = self._total(n, given, asked)
        self.check_samples(total, batch)
        shared: dict[str, Any] = {"label": label, "vector": asked, "seed": seed, "first": first}
        conditions = self.sample_conditions(total, given=given, **shared)
        columns = _upward()[0].Conditions.restore(self.data_config or {})
        rows: list[np.ndarray] = []
        with self._evaluating():
            for start in range(0, total, batch):
                numbers = np.arange(start, min(start + batch, total))
                own = {name: value[numbers] for name, value in conditions.items()}
                cond: dict[str, Any] = {name: part.to(self.device) for name, part in own.items()}
                part = None
                if given is not None:
                    place = numbers * len(given) // total
                    part = PartialRows(given.rows[place], given.known[place])
                    cond["known"] = self._encoded(part, seed, first + start)
                noise = RowNoise(seed, len(numbers), first + start)
                x = self.draw(len(numbers), noise=noise, **cond, **options)
                drawn = transform.decode(x.float().cpu())
                if columns is not None:
                    drawn = columns.filled(drawn, own["vector"].numpy())
                rows.append(drawn if part is None else _completed(part, drawn))
        return np.concatenate(rows)

    def _total(self, n: int, given: PartialRows | None, asked: Tensor | None) -> int:
        """How many samples are drawn, `n` for each row that is given or asked for."""
        counts = {len(one) for one in (given, asked) if one is not None} - {1}
        if len(counts) > 1:
            raise InputError(
                f"where: {max(counts):,} and {min(counts):,} conditions and given rows; give one "
                "condition for all, or one for each."
            )
        return n * max(counts, default=1)

    @final
    def vectors_of(self, where: Any) -> Tensor | None:  # what `data.ask` takes
        """Return conditions as vectors (m, v) on the CPU; None for None.

        Raises:
            InputError: for a model that was trained without, or some of them all, and as `data.ask`
                does.
        """
        if where is None:
            return None
        self._met()
        return torch.as_tensor(_upward()[0].ask(where, self.data_config or {})[0])

    @final
    def sample_conditions(
        self,
        n: int,
        *,
        label: int | str | None = None,
        vector: Tensor | None = None,
        given: PartialRows | None = None,
        seed: int = 0,
        first: int = 0,
    ) -> dict[str, Tensor]:
        """Return the conditions of `n` samples by name: label (n,) int64, vector (n, v).

        They are independent of what is drawn given them. What is not known is hidden.

        Args:
            n: how many.
            label: the class of all of them; None: drawn as in the training data, or hidden where
                rows or vectors are given.
            vector: their vectors (m, v), the first n/m samples have the first; None: drawn as in
                the training data, or hidden where rows are given that do not have any.
            given: rows of which some entries are known.
            seed: as for `sample_rows`.
            first: the number of the first sample.

        Raises:
            InputError: for a class that the model does not know.
        """
        told = None if given is None or given.label is None else torch.as_tensor(given.label)
        index = told if label is None else self.label_index(label)
        if vector is None and given is not None and given.vector is not None:
            vector = torch.as_tensor(given.vector)

        def uniform() -> Tensor:
            noise = RowNoise(seed, n, first, purpose=Purpose.LABEL)
            z = noise(torch.empty(n, 1, dtype=torch.float64))[:, 0]
            return torch.erfc(-z / 2**0.5) / 2  # the standard normal distribution function

        shares = (self.class_shares or (1.0,) * len(self.classes)) if self.classes else ()
        known = vector is not None or given is not None
        shared: dict[str, Any] = {"known": known, "kept": self.kept, "shares": shares}
        return chosen(n, index, vector, **shared, uniform=uniform)

    @final
    def check_samples(self, n: int, batch: int) -> None:
        """Raise InputError if this machine cannot hold `n` samples, or so many at a time."""
        transform = self._met()
        row = self.form.dtype if self.form is not None and hasattr(self.form, "dtype") else "f8"
        condition = 4.0 * sum(self.condition_widths)
        size = n * (8.0 + condition + np.dtype(row).itemsize * math.prod(transform.row_shape))
        check_room(size, f"{n:,} samples", "draw fewer at a time, each with another seed")
        values = 16.0 * min(batch, n) * math.prod(transform.shape)
        check_room(values, f"batch {batch:,}", "compute fewer samples at a time")

    def _encoded(self, given: PartialRows, seed: int, first: int) -> tuple[Tensor, Tensor]:
        """(x, mask), each (B, *shape), of partial rows for the samples number `first`, ..."""
        transform, dtype = self._met(), given.rows.dtype
        stored = np.ascontiguousarray(given.rows, dtype=_WIDER.get(dtype.name, dtype))
        noise = RowNoise(seed, len(given), first, purpose=Purpose.GIVEN)
        x, _ = transform.encode(torch.as_tensor(stored), noise)
        mask = transform.known(torch.as_tensor(given.known))
        return x.to(self.device), mask.to(self.device)

    # --- likelihoods

    @final
    def log_prob(
        self,
        data: Any,  # anything that `load` takes
        *,
        where: Any = None,  # what `data.ask` takes
        batch: int | None = None,
        **options: Any,
    ) -> np.ndarray:
        """Return the log-likelihood of each row, (N,) float64, in nats and the data's own units.

        Args:
            data: anything `ud.load` takes, or stored rows as a tensor.
            where: the conditions of all rows, or of each; None: each row's own, where the data have
                them, else hidden.
            batch: rows computed at a time; None: `at_once`.
            options: as for `likelihood_rows`.

        Returns:
            nats; nan for rows that could not be read.

        Raises:
            InputError: for data unlike the training data, and as `likelihood_rows` does.
        """
        batch = self.at_once if batch is None else batch
        if batch < 1:
            raise InputError(f"batch {batch}: score at least 1 row at a time.")
        self._met()
        parts: Iterator[Mapping[str, Any]] = (
            ({"row": data[start : start + batch]} for start in range(0, len(data), batch))
            if isinstance(data, Tensor)
            else _upward()[0].conform(data, self.data_config).batches(batch)
        )
        first, found, asked = 0, [np.zeros(0)], self.vectors_of(where)
        for part in parts:
            vector, rows = part.get("vector"), len(part["row"])
            if asked is not None:
                vector = asked if len(asked) == 1 else asked[first : first + rows]
            scored = self.likelihood_rows(part["row"], first=first, vector=vector, **options)
            nats = scored.nats.numpy().copy()
            for row, problem in part.get("problems", {}).items():
                nats[row] = nats[row] if problem.nats is None else problem.nats
            first += len(nats)
            found.append(nats)
        return np.concatenate(found)

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
        vector: Tensor | None = None,
        importance: bool = False,
        dequantization: Dequantization | None = None,
    ) -> Likelihood:
        """Return the log-likelihood of stored rows, in nats and the data's own units.

        Row i depends on `seed` and its number, `first` + i, alone.

        Args:
            rows: rows (B, ...) of the stored type.
            how: a way of scoring, one of `scored_by`; None: the family's own choice.
            first: the number of the first row.
            seed: decides everything random.
            draws: draws of what the transform adds; None: 4, or 1 if it adds nothing.
            label: score given this class; None hides the class.
            vector: score given these conditions, (B, v) or (1, v); None hides them.
            importance: weight the draws by importance instead of averaging them.
            dequantization: the noise that whole numbers are given; None: none where the way of
                scoring takes whole numbers, else uniform.

        Raises:
            InputError: for a model that has no density or has not met its data, a class that it
                does not know, and a way of scoring that it does not have.
        """
        self._met()
        cond = self.label_condition(len(rows), label)
        if self.kept is not None:
            if vector is None:
                vector = self.kept.hidden(1)
            if len(vector) not in (1, len(rows)):
                raise InputError(
                    f"where: {len(vector):,} rows of conditions for {len(rows):,} rows; give one "
                    "for all, or one for each."
                )
            cond["vector"] = vector.float().expand(len(rows), -1).to(self.device)
        with self._evaluating():
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
                device=self.device,
            )

    @final
    def label_index(self, label: int | str) -> int:
        """Return the index of a class.

        Args:
            label: its name, or its number unless the names are numbers themselves.

        Raises:
            InputError: for a class that the model does not know.
        """
        if not self.classes:
            raise InputError(f"label {label}: this model was trained without labels; leave it out.")
        if str(label) in self.classes:
            return self.classes.index(str(label))
        numbered = any(name.removeprefix("-").isdecimal() for name in self.classes)
        if str(label).isdecimal() and not numbered and int(label) < len(self.classes):
            return int(label)
        shown = ", ".join(self.classes[:20]) + (", ..." if len(self.classes) > 20 else "")
        raise InputError(f"label {label}: no such class; the model knows {shown}.")

    @final
    def label_condition(self, n: int, label: int | str | None) -> dict[str, Tensor]:
        """Return the condition of `n` rows of one class, hidden if None; {} without classes."""
        if not self.classes and label is None:
            return {}
        index = -1 if label is None else self.label_index(label)
        return {"label": torch.full((n,), index, dtype=torch.int64, device=self.device)}

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device

    def _met(self) -> Transform:
        if self.transform is None:
            raise unmet()
        return self.transform

    @contextmanager
    def _evaluating(self) -> Generator[None]:
        """Evaluation mode inside, the mode from before afterwards."""
        training = [module for module in self.modules() if module.training]
        for module in training:
            module.training = False
        try:
            yield
        finally:
            for module in training:
                module.training = True


@final
class _Stopped(Exception):
    """Samples are no longer wanted."""


def unmet() -> InputError:
    """Return the error for a model that is used before it has met its data."""
    return InputError(
        "this model has not met its data yet; call fit, give the preset the data, or open a run."
    )


def one_pass(x: Tensor, callback: Callback | None) -> Tensor:
    """Return the samples of a family that draws in one pass, reported as its one step."""
    if callback is not None:
        callback(1, 1, torch.zeros((), dtype=torch.float64), x)
    return x


def _upward() -> tuple[ModuleType, ModuleType]:
    """`undiffuse.data` and `undiffuse.training`: the only import that goes up, so deferred."""
    from undiffuse import data, training

    return data, training


def _loaded(model: GenerativeModel, _: object) -> None:
    """The weights hold what was measured on the data."""
    model.measured, model.widths = True, ()


def _completed(given: PartialRows, drawn: np.ndarray) -> np.ndarray:
    """The drawn rows, with what is known exactly as it was given."""
    return np.where(given.known, given.rows, drawn).astype(drawn.dtype)
