"""What `undiffuse sample` draws: rows by number, some at a time, and how each part is written.

Rows are written as they come, and none is kept: memory does not grow with their number. It does for
one picture of all, and for a table with a key in one file, as no two of its rows may agree in that.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from undiffuse.atomic import atomic_file
from undiffuse.data import Conditions
from undiffuse.data.labels import as_labels
from undiffuse.data.pictures import save_map
from undiffuse.data.writing import npy_writer
from undiffuse.models.again import distinct, filled, unfilled
from undiffuse.models.base import SampledPart
from undiffuse.models.conditions import as_asked
from undiffuse.models.continuation import continued, windows
from undiffuse.options import SampleOptions
from undiffuse.spread import ResumableFolder, RowRange

if TYPE_CHECKING:
    from undiffuse.interfaces import Form, WriteRows
    from undiffuse.models import GenerativeModel

Callback = Callable[..., None]


@final
class Drawing:
    """The samples that one command asks for.

    Args:
        model: what draws them.
        options: of the command.
        given: rows to complete, None without.
        vector: conditions as vectors (m, v), None without.
        length: steps of each series, None: as a row has.
        how: further options of `sample_rows`.
    """

    def __init__(
        self,
        model: GenerativeModel,
        options: SampleOptions,
        *,
        given: Any = None,
        vector: Any = None,
        length: int | None = None,
        **how: Any,
    ) -> None:
        self.model, self.options, self.length, self.how = model, options, length, how
        self.asked: dict[str, Any] = {} if given is None else {"given": given}
        self.asked |= {} if vector is None else {"vector": vector}
        self.each = options.n or 1
        self.given_rows = 1 if given is None else len(given)
        self.total = self.each * max(self.given_rows, 1 if vector is None else len(vector))
        self.batch = options.batch or model.at_once
        self.passes = 1 if length is None else windows(model, length)  # of the sampler, a batch
        own = {"given": given, "label": options.label, "vector": vector}
        self.named = model.names_classes(**own)
        self.kept: list[np.ndarray] = []  # the first rows that were written
        self.keep = 0  # how many of these are kept
        self.empty = 0  # rows that were written with an empty cell

    @property
    def form(self) -> Form:
        """How the rows are written."""
        assert self.model.form is not None  # the model of a run has one
        return self.model.form

    @property
    def keyed(self) -> bool:
        """Whether samples have to differ from each other, so that they are drawn together."""
        return self.form.keyed and "given" not in self.asked and self.length is None

    def parts(
        self, start: int = 0, stop: int | None = None, callback: Callback | None = None
    ) -> Iterator[SampledPart]:
        """Yield samples `start` to `stop`, a batch at a time; `callback` is the sampling loop's."""
        options = self.options
        how: dict[str, Any] = {
            "seed": options.seed, "batch": self.batch, "steps": options.steps,
            "method": options.method, **self.how,
        }  # fmt: skip
        how |= {} if callback is None else {"callback": callback}
        if self.length is None:
            own = {"label": options.label, **self.asked, "start": start, "stop": stop}
            for part in self.model.sample_batches(self.each, **own, **how):
                yield part if "given" not in self.asked else self._filled(part, how)
            return
        stop = self.total if stop is None else stop
        for first in range(start, stop, self.batch):
            conditions = self.conditions(first, min(first + self.batch, stop))
            n, own = as_asked(conditions, min(self.batch, stop - first))
            rows = continued(self.model, n, self.length, first=first, **own, **how)
            yield SampledPart(first, self.total, rows, conditions)

    def _filled(self, part: SampledPart, how: Mapping[str, Any]) -> SampledPart:
        """Completions of which those that leave a cell empty are drawn again."""
        if not unfilled(part.rows).any():
            return part
        how = {name: value for name, value in how.items() if name != "callback"}
        given = self.asked["given"]
        numbers = part.first + np.arange(len(part.rows))
        told = {name: value.numpy() for name, value in part.conditions.items()}
        own = replace(given.at(numbers * len(given) // self.total), **told)
        rows = filled(self.model, part.rows, given=own, first=part.first, **how)
        return SampledPart(part.first, part.total, rows, part.conditions)

    def conditions(self, start: int, stop: int) -> dict[str, Any]:
        """Return the conditions of samples `start` to `stop`."""
        own = {"label": self.options.label, "seed": self.options.seed, **self.asked}
        return self.model.sample_conditions(self.total, start=start, stop=stop, **own)

    def together(
        self, start: int, stop: int, callback: Callback | None = None, progress: Any = None
    ) -> SampledPart:
        """Return samples `start` to `stop` at once; in a key of the data they do not agree."""
        parts = list(self.parts(start, stop, callback))
        rows = np.concatenate([part.rows for part in parts])
        conditions = self.conditions(start, stop)
        if self.keyed:
            _, own = as_asked(conditions, stop - start)
            how = {"seed": self.options.seed, "batch": self.batch, "steps": self.options.steps}
            how |= {"method": self.options.method, **self.how}
            rows = distinct(self.model, rows, first=start, progress=progress, **own, **how)
        return SampledPart(start, self.total, rows, conditions)

    def write(
        self,
        write: WriteRows,
        start: int,
        stop: int,
        callback: Callback | None = None,
        progress: Any = None,
    ) -> Sequence[str]:
        """Draw samples `start` to `stop` and write them; return what is to be said of them."""
        if self.keyed:
            part = self.together(start, stop, callback, progress)
            write(part.rows, self._labels(part))
            return self.form.remarks(part.rows)
        for part in self.parts(start, stop, callback):
            have = sum(len(rows) for rows in self.kept)
            if part.first == have < self.keep:
                self.kept.append(part.rows[: self.keep - have])
            write(part.rows, self._labels(part))
            self.empty += int(np.count_nonzero(unfilled(part.rows)))
        return ()

    def first_rows(self) -> np.ndarray:
        """Return the first `keep` rows; those that another process wrote are drawn once more."""
        have = sum(len(rows) for rows in self.kept)
        missing = [part.rows for part in self.parts(have, self.keep)]
        return np.concatenate([*self.kept, *missing])

    def _labels(self, part: SampledPart) -> np.ndarray | None:
        if not self.named:
            return None
        return as_labels(part.conditions["label"].numpy(), self.model.classes)

    def make(
        self, folder: ResumableFolder, suffix: str, one: RowRange, callback: Callback | None = None
    ) -> None:
        """Draw a range of a folder, and write it as files of that suffix."""
        facts: dict[str, Any] = {}
        before = self.empty
        shared = {"number": one.number, "first": one.first, "count": one.count}
        with (
            folder.writing(one, facts) as place,
            self.form.part(place, suffix, total=self.total, **shared) as write,
        ):
            facts["remarks"] = list(self.write(write, one.first, one.stop, callback))
            facts["empty"] = self.empty - before

    def save_conditions(self, files: Mapping[str, Path]) -> None:
        """Write the conditions of all samples to the files beside them; see `beside`."""
        own = Conditions.restore(self.model.data_config or {})
        if own is None or not files:
            return
        pictures = {name: [] for name, file in files.items() if file.suffix == ".png"}
        with ExitStack() as leaving:
            writers: dict[str, Any] = {
                one.name: leaving.enter_context(npy_writer(files[one.name], self.total))
                for one in own.maps
                if one.name not in pictures
            }
            lines = None
            if own.columns:
                temporary = leaving.enter_context(atomic_file(files["conditions"]))
                stream = leaving.enter_context(temporary.open("w", newline=""))
                lines = csv.DictWriter(stream, own.names)
                lines.writeheader()
            for start in range(0, self.total, self.batch):
                stop = min(start + self.batch, self.total)
                vector = self.conditions(start, stop)["vector"].numpy()
                if lines is not None:
                    lines.writerows(own.words(vector))
                for name, values in own.decode_maps(vector).items():
                    if name in pictures:
                        pictures[name].append(values)
                    else:
                        writers[name](values[:, 0] if values.shape[1] == 1 else values)
        for name, kept in pictures.items():
            with atomic_file(files[name]) as temporary, temporary.open("wb") as stream:
                save_map(np.concatenate(kept), stream)


def beside(model: GenerativeModel, out: Path) -> dict[str, Path]:
    """Return the files that conditions of samples are written to, by name.

    There are none where rows hold them.
    """
    own = Conditions.restore(model.data_config or {})
    if own is None or own.of_rows:
        return {}
    files = {"conditions": out.with_name(f"{out.stem}-conditions.csv")} if own.columns else {}
    for one in own.maps:
        picture = out.suffix == ".png" and len(one.shape) == 3 and one.shape[0] in (1, 3)
        files[one.name] = out.with_name(f"{out.stem}-{one.name}{'.png' if picture else '.npy'}")
    return files
