"""What a user trains: a distribution over rows, of any family.

A family implements what `family.AbstractModel` asks for, at unit scale. What a user calls is here:
these methods are final, and work in the data's own units through the transform:

    row  --encode-->  x (unit scale)  --model-->  x  --decode-->  row

    log p(row) >= E[log p(x) + log_correction]

where the correction is the log-determinant of the encoding less the log-density of any noise it
added.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar, final

import numpy as np
import torch
from numpy.typing import DTypeLike
from torch import Tensor

from undiffuse.called import called, known_options
from undiffuse.device import find_device
from undiffuse.diffusion.likelihood.dequantize import Dequantization
from undiffuse.diffusion.noise import Purpose, RowNoise, content_numbers
from undiffuse.errors import InputError, unknown
from undiffuse.interfaces import PartialRows, Preview, Source, Stop, Transform
from undiffuse.models.again import distinct, filled
from undiffuse.models.conditions import KeptConditions, chosen, hide, rows_kept
from undiffuse.models.continuation import continued
from undiffuse.models.family import AbstractModel
from undiffuse.models.gaps import APPROXIMATE
from undiffuse.models.likelihood import How, Likelihood, likelihood_rows
from undiffuse.room import bounded, check_room, memory
from undiffuse.shown import card, words_for

_WIDER: dict[str, DTypeLike] = {"uint16": np.int32, "uint32": np.int64, "uint64": np.int64}
MOST_TENSORS = 20_000  # of a network
_COUNTED = 4096  # rows that the shares of the classes are counted on
_SHORT = 1024  # numbers in a vector, at most, of which many are computed at once


Label = int | str


@final
@dataclass(frozen=True, eq=False)
class SampledPart:
    """Some of the samples that are drawn.

    Attributes:
        first: the place of the first of them among all.
        total: how many are drawn in all.
        rows: (m, ...) of the stored type.
        conditions: what they were drawn given, by name: label (m,), vector (m, v).
    """

    first: int
    total: int
    rows: np.ndarray
    conditions: Mapping[str, Tensor]


_Model = TypeVar("_Model", bound="GenerativeModel")


class GenerativeModel(AbstractModel):
    """A generative model as a user calls it; see `AbstractModel` for arguments and attributes.

    Args:
        shape: of a row at unit scale; None: taken from the data.
        class_shares: how often each class is drawn; empty: counted on the data.
        drop_condition: share of training rows whose conditions are hidden.
        condition_widths: the numbers of each column of a condition vector; taken from the data.
        condition_rows: training rows whose condition vectors are kept; likewise.
    """

    # --- from data to a trained model

    @final
    @called
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
    @called
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

    @final
    @called
    def save(self, out: str | Path, *, overwrite: bool = False) -> Path:
        """Write the trained model as a run, for `ud.open` and every command; return its folder.

        Args:
            out: the folder to write.
            overwrite: replace a run that is there.

        Raises:
            InputError: for a model that has not been trained, or a folder that is taken.
        """
        self._met()
        return _upward()[1].save(self, self.data_config or {}, out, overwrite=overwrite)

    @final
    def to(self: _Model, *where: Any, **options: Any) -> _Model:
        """Move or cast the model as `torch.nn.Module.to` does.

        Raises:
            InputError: for a device that this machine does not have.
        """
        for one in (*where, options.get("device")):
            if isinstance(one, str | torch.device):
                find_device(str(one))
        return super().to(*where, **options)

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
    @called
    def sample(self, n: int, *, length: int | None = None, **options: Any) -> Any:
        """Return `n` samples in the form the data came in: an array, a data frame, recordings.

        Samples of a table that repeat one of its keys, and completions that leave a cell empty, are
        drawn again; see `undiffuse.models.again`.

        Args:
            n: how many.
            length: steps of each, of series (see `continued`); None: as many as a row has.
            options: as for `sample_rows`.
        """
        if options.get("given") is not None:
            options["given"] = self._given(options["given"])
        draw = self.sample_rows if length is None else partial(continued, self, length=length)
        rows = draw(n, **options)
        if length is None:
            rows = filled(self, distinct(self, rows, **options), **options)
        return rows if self.form is None else self.form.present(rows)

    @final
    @called
    def complete(self, rows: Any, n: int = 1, **options: Any) -> Any:
        """Return `n` completions of each of `rows`, in the form the data came in.

        Args:
            rows: rows of which some entries are known: a file, an array with NaN, a data frame with
                empty cells.
            n: how many of each.
            options: as for `sample_rows`.
        """
        return self.sample(n, given=rows, **options)

    @final
    def preview(self, n: int, *, seed: int, stop: Stop = lambda: False) -> Preview | None:
        """Return a picture of `n` samples, drawn with `preview_options`, and recordings to hear.

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
        return Preview(self.form.preview(rows), self.form.sound(rows))

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
    @called
    def sample_rows(
        self,
        n: int,
        *,
        given: Any = None,  # what `data.complete` takes
        label: Label | Sequence[Label] | None = None,
        where: Any = None,  # what `data.ask` takes
        vector: Tensor | None = None,
        seed: int = 0,
        first: int | np.ndarray = 0,
        batch: int | None = None,
        **options: Any,
    ) -> np.ndarray:
        """Return `n` samples as rows (n, ...) of the stored type.

        A sample depends only on `seed`, its number and its conditions.

        Args:
            n: how many; with `given` or several rows of conditions, how many for each.
            given: rows of which some entries are known, to be completed: a file, an array with NaN,
                a data frame with empty cells.
            label: the class of all samples, by name or number, or of each; None: drawn with the
                shares of the training data, or hidden where rows or conditions are given.
            where: the conditions of all samples, or of as many rows, as a mapping of names to
                values, "angle=30,colour=red", a CSV file or a data frame; those that are left out
                are hidden. None: drawn from those of training rows, or hidden where rows are given
                without theirs.
            vector: the same as vectors (m, v), in place of `where`.
            seed: decides everything random.
            first: the number of the first sample, or the numbers of all.
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
        given, asked = self._checked(n, given, where, vector, batch, options)
        self.check_samples(self._total(n, given, asked), batch)
        shared: dict[str, Any] = {"given": given, "vector": asked, "label": label, "batch": batch}
        parts = self.sample_batches(n, seed=seed, first=first, **shared, **options)
        return np.concatenate([part.rows for part in parts])

    @final
    def sample_batches(
        self,
        n: int,
        *,
        given: Any = None,  # what `data.complete` takes
        label: Label | Sequence[Label] | None = None,
        where: Any = None,  # what `data.ask` takes
        vector: Tensor | None = None,
        seed: int = 0,
        first: int | np.ndarray = 0,
        batch: int | None = None,
        start: int = 0,
        stop: int | None = None,
        **options: Any,
    ) -> Iterator[SampledPart]:
        """Yield the samples that `sample_rows` returns, or some of them, a batch at a time.

        Nothing is held but the batch. Parts that begin at a multiple of `batch` have the bytes that
        those rows have in the whole.

        Args:
            n: as for `sample_rows`, and so is all but these:
            given: rows to be completed.
            label: the class.
            where: the conditions.
            vector: the same as vectors.
            seed: decides everything random.
            first: the number of the first sample, or those of all.
            batch: samples computed at a time.
            start: the place of the first sample among all.
            stop: the place after the last one; None: all.
            options: what the family offers.

        Raises:
            InputError: as `sample_rows` does, with the first batch.
        """
        batch = self.at_once if batch is None else batch
        given, asked = self._checked(n, given, where, vector, batch, options)
        transform, total = self._met(), self._total(n, given, asked)
        shared: dict[str, Any] = {"label": label, "vector": asked, "seed": seed, "first": first}
        columns = _upward()[0].Conditions.restore(self.data_config or {})
        stop = total if stop is None else min(stop, total)
        for begin in range(start, stop, batch):
            end = min(begin + batch, stop)
            numbers = np.arange(begin, end)
            own_first = first[numbers] if isinstance(first, np.ndarray) else first + begin
            own = self.sample_conditions(total, given=given, start=begin, stop=end, **shared)
            cond: dict[str, Any] = {name: part.to(self.device) for name, part in own.items()}
            part = None
            if given is not None:
                part = given.at(numbers * len(given) // total)
                cond["known"] = self._encoded(part, seed, own_first)
            noise = RowNoise(seed, len(numbers), own_first)
            with self._evaluating():
                x = self.draw(len(numbers), noise=noise, **cond, **options)
                drawn = transform.decode(x.float().cpu())
            if columns is not None:
                drawn = columns.filled(drawn, own["vector"].numpy())
            rows = drawn if part is None else part.completed(drawn)
            yield SampledPart(begin, total, rows, own)

    def _checked(
        self,
        n: int,
        given: Any,
        where: Any,
        vector: Tensor | None,
        batch: int,
        options: Mapping[str, Any],
    ) -> tuple[PartialRows | None, Tensor | None]:
        """The given rows and the vectors asked for; refuses what cannot be drawn."""
        if n < 1 or batch < 1:
            raise InputError(f"n {n}, batch {batch}: both must be at least 1.")
        given = self._given(given)
        self._met()
        takes = [one.name for one in inspect.signature(self.draw).parameters.values()
                 if one.kind is one.KEYWORD_ONLY and one.name != "noise"]  # fmt: skip
        for name in options:
            if name not in takes:
                raise unknown("sample:", "option", name, (*takes, "given", "where", "seed"))
        self.check_samples(min(n, batch), batch)
        return given, self.vectors_of(where) if vector is None else vector

    def _given(self, given: Any) -> PartialRows | None:
        """Given rows as the run stores them."""
        if given is not None and not self.completes:
            raise InputError("given: this model draws whole rows only; leave it out.")
        if given is None or isinstance(given, PartialRows):
            return given
        self._met()
        return _upward()[0].complete(given, self.data_config)

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
        label: Label | Sequence[Label] | None = None,
        vector: Tensor | None = None,
        given: PartialRows | None = None,
        seed: int = 0,
        first: int | np.ndarray = 0,
        start: int = 0,
        stop: int | None = None,
    ) -> dict[str, Tensor]:
        """Return the conditions of samples by name: label (m,) int64, vector (m, v).

        They are independent of what is drawn given them. What is not known is hidden.

        Args:
            n: how many samples there are.
            label: the class of all of them, or of each; None: drawn as in the training data, or
                hidden where rows or vectors are given.
            vector: their vectors (m, v), the first n/m samples have the first; None: drawn as in
                the training data, or hidden where rows are given that do not have any.
            given: rows of which some entries are known.
            seed: as for `sample_rows`.
            first: the number of the first sample.
            start: the first of them whose conditions are returned.
            stop: the one after the last; None: those of all.

        Raises:
            InputError: for a class that the model does not know, and classes of fewer or more.
        """
        numbers = np.arange(start, n if stop is None else stop)
        told = None if given is None or given.label is None else torch.as_tensor(given.label)
        index = told if label is None else self._indices(n, label)
        if isinstance(index, Tensor):
            index = index[numbers * len(index) // n]
        if vector is None and given is not None and given.vector is not None:
            vector = torch.as_tensor(given.vector)
        if vector is not None:
            vector = vector[numbers * len(vector) // n]
        own_first = first[numbers] if isinstance(first, np.ndarray) else first + start
        count = len(numbers)

        def uniform() -> Tensor:
            noise = RowNoise(seed, count, own_first, purpose=Purpose.LABEL)
            z = noise(torch.empty(count, 1, dtype=torch.float64))[:, 0]
            return torch.erfc(-z / 2**0.5) / 2  # the standard normal distribution function

        shares = (self.class_shares or (1.0,) * len(self.classes)) if self.classes else ()
        known = vector is not None or given is not None
        shared: dict[str, Any] = {"known": known, "kept": self.kept, "shares": shares}
        return chosen(count, index, vector, **shared, uniform=uniform)

    @final
    def names_classes(
        self,
        *,
        label: Label | Sequence[Label] | None = None,
        vector: Tensor | None = None,
        given: PartialRows | None = None,
    ) -> bool:
        """Return whether the class of every sample that is asked for like this is known.

        Args:
            label: the class; None: not said.
            vector: conditions; None: none.
            given: rows to complete; None: none.
        """
        if not self.classes or label is not None:
            return bool(self.classes)
        if given is not None and given.label is not None:
            return bool((np.asarray(given.label) >= 0).all())
        if given is not None or vector is not None:
            return False
        return self.kept is None or bool((self.kept.labels >= 0).all())

    def _indices(self, n: int, label: Label | Sequence[Label]) -> int | Tensor:
        """The class of all of `n` samples, or of each (n,)."""
        if isinstance(label, int | str):
            return self.label_index(label)
        if len(label) != n:
            raise InputError(
                f"label: {len(label):,} classes for {n:,} samples; give one, or one for each."
            )
        return torch.tensor([self.label_index(one) for one in label])

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

    def _encoded(
        self, given: PartialRows, seed: int, first: int | np.ndarray
    ) -> tuple[Tensor, Tensor]:
        """(x, mask), each (B, *shape), of partial rows for the samples number `first`, ..."""
        transform, dtype = self._met(), given.rows.dtype
        stored = np.ascontiguousarray(given.rows, dtype=_WIDER.get(dtype.name, dtype))
        noise = RowNoise(seed, len(given), first, purpose=Purpose.GIVEN)
        x, _ = transform.encode(torch.as_tensor(stored), noise)
        mask = transform.known(torch.as_tensor(given.known))
        return x.to(self.device), mask.to(self.device)

    # --- likelihoods

    @final
    @called
    def log_prob(
        self,
        data: Any,  # anything that `load` takes
        *,
        where: Any = None,  # what `data.ask` takes
        batch: int | None = None,
        by_content: bool = False,
        **options: Any,
    ) -> np.ndarray:
        """Return the log-likelihood of each row, (N,) float64, in nats and the data's own units.

        Args:
            data: anything `ud.load` takes, or stored rows as a tensor.
            where: the conditions of all rows, or of each; None: each row's own, where the data have
                them, else hidden.
            batch: rows computed at a time; None: `at_once`.
            by_content: whether what is random depends on a row's values in place of its number:
                neither the order of the rows nor which others there are then matters.
            options: as for `likelihood_rows`.

        Returns:
            nats; nan for rows that could not be read.

        Raises:
            InputError: for data unlike the training data, and as `likelihood_rows` does.
        """
        known_options("log_prob", options, self.likelihood_rows)
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
            number = content_numbers(part["row"].numpy()) if by_content else first
            scored = self.likelihood_rows(part["row"], first=number, vector=vector, **options)
            nats = scored.nats.numpy().copy()
            for row, problem in part.get("problems", {}).items():
                nats[row] = nats[row] if problem.nats is None else problem.nats
            first += len(nats)
            found.append(nats)
        return np.concatenate(found)

    @final
    @called
    def likelihood_rows(
        self,
        rows: Tensor,
        *,
        how: How | None = None,
        first: int | np.ndarray = 0,
        seed: int = 0,
        draws: int | None = None,
        label: int | str | None = None,
        vector: Tensor | None = None,
        importance: bool = False,
        dequantization: Dequantization | None = None,
    ) -> Likelihood:
        """Return the log-likelihood of stored rows, in nats and the data's own units.

        Row i depends on `seed` and its number, `first` + i, alone; the numbers of all rows can be
        given in place of the first.

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

    def __repr__(self) -> str:
        """Return the preset, the rows it is of, its size and its state, in a line."""
        of = "no data yet" if self.shape is None else f"rows of {words_for(list(self.shape))}"
        classes = f", {len(self.classes)} classes" if self.classes else ""
        count = sum(one.numel() for one in self.parameters())
        size = f", {count:,} parameters" if self.shape is not None else ""
        state = "trained" if self.record is not None else "not trained"
        return (
            f"{type(self).__name__}({self.preset or 'made by hand'}: {of}{classes}{size}, {state})"
        )

    def _repr_html_(self) -> str:
        training: dict[str, Any] = {} if self.record is None else self.record.training
        steps = {name: training.get(name) for name in ("steps", "budget") if training.get(name)}
        facts = {
            "data": (self.data_config or {}).get("name"),
            "rows": None if self.transform is None else self.transform.description,
            "classes": ", ".join(self.classes),
            "trained for": words_for(steps),
            "sampled by": f"{self.usual_method or 'one pass'}, {self.steps_of(None) or 1} steps",
            "likelihood": self.no_density or ", ".join(how.__name__ for how in self.scored_by),
            "device": str(self.device) if self.shape is not None else None,
        }
        return card(repr(self), facts)

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


def _upward() -> tuple[ModuleType, ModuleType]:
    """`undiffuse.data` and `undiffuse.training`: the only import that goes up, so deferred."""
    from undiffuse import data, training

    return data, training
