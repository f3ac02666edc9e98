"""Draw samples again that are not what was asked for.

    distinct    those that repeat a key of the data, in which no two rows agree
    filled      completions of a table in which a cell that was to be filled is missing again, as it
                can be in a sample where it can be in the data

Each round draws these anew, under their own conditions, from other noise: sample i as number
i + r 2^52 in round r.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from undiffuse.interfaces import Form, PartialRows, Progress
from undiffuse.models.conditions import as_asked

ROUNDS = 100
TRIES = 10
FRUITLESS = 50
ATTEMPTS = 30  # of which a cell that is there in one of ten samples is missed by one of 24
EMPTY = "such a row hardly ever has a value there."
_APART = 1 << 52  # more than there are samples, and than numbers of what is drawn for a row


@runtime_checkable
class Redrawable(Protocol):
    """A model that draws rows."""

    form: Form | None

    def sample_rows(self, n: int, **options: Any) -> np.ndarray:
        """Return samples."""
        ...

    def vectors_of(self, where: Any) -> Tensor | None:
        """Return what is asked for as vectors."""
        ...

    def sample_conditions(
        self,
        n: int,
        *,
        label: Any = None,
        vector: Any = None,
        given: Any = None,
        seed: int = 0,
        first: Any = 0,
    ) -> dict[str, Tensor]:
        """Return the conditions of samples by name."""
        ...


def distinct(
    model: Redrawable, rows: np.ndarray, *, progress: Progress | None = None, **options: Any
) -> np.ndarray:
    """Return samples (n, ...) of which those that repeat a key of the data are drawn again.

    A sample then depends on those before it too. Rounds end when none repeats, after `ROUNDS`,
    after `TRIES` draws for each sample, or when as many draws as there are samples, and
    `FRUITLESS`, have mended none, as where no key is left that a model can draw.

    Args:
        model: what drew them.
        rows: the samples; completions are left as they are, since their keys may be given.
        progress: called before each round.
        options: those they were drawn with, of `sample_rows`.
    """
    if model.form is None or options.get("given") is not None:
        return rows
    repeated = np.flatnonzero(model.form.repeated(rows))
    if not len(repeated):
        return rows
    draw, rows, drawn, fruitless = _redraw(model, len(rows), options), rows.copy(), 0, 0
    for round_number in range(1, ROUNDS + 1):
        if progress is not None:
            progress(round_number, ROUNDS, "drawing again")
        rows[repeated] = draw(repeated, round_number)
        drawn, left = drawn + len(repeated), np.flatnonzero(model.form.repeated(rows))
        fruitless = 0 if len(left) < len(repeated) else fruitless + len(repeated)
        repeated = left
        ended = drawn >= TRIES * len(rows) or fruitless >= max(len(rows), FRUITLESS)
        if ended or not len(left):
            break
    return rows


def filled(
    model: Redrawable, rows: np.ndarray, *, progress: Progress | None = None, **options: Any
) -> np.ndarray:
    """Return completions (m n, ...) of which those that leave a cell empty are drawn again.

    So they are drawn given that it is there: by rejection, in `ATTEMPTS` at most, of which the
    first is kept with the fewest empty cells. A cell that hardly any such row has is left empty.
    One completion does not depend on others.

    Args:
        model: what drew them.
        rows: the completions of given rows; anything else is left as it is.
        progress: called before each round.
        options: those they were drawn with, of `sample_rows`.
    """
    given = options.get("given")
    if not isinstance(given, PartialRows) or not (empty := unfilled(rows)).any():
        return rows
    draw, rows = _redraw(model, len(rows), options), rows.copy()
    for attempt in range(1, ATTEMPTS):
        if progress is not None:
            progress(attempt, ATTEMPTS - 1, "drawing again")
        places = np.flatnonzero(empty)
        drawn = draw(places, attempt)
        fewer = unfilled(drawn) < empty[places]
        rows[places[fewer]] = drawn[fewer]
        if not (empty := unfilled(rows)).any():
            break
    return rows


def unfilled(rows: np.ndarray) -> np.ndarray:
    """Return how many entries are missing of each row (n, ...): (n,)."""
    if rows.dtype.kind != "f":
        return np.zeros(len(rows), dtype=np.int64)
    return np.isnan(rows).reshape(len(rows), -1).sum(1)


def _redraw(
    model: Redrawable, total: int, options: Mapping[str, Any]
) -> Callable[[np.ndarray, int], np.ndarray]:
    """What draws samples at some places again, in a round, as `options` drew them."""
    rest = {name: value for name, value in options.items() if name not in _OWN}
    given, vector = options.get("given"), model.vectors_of(options.get("where"))
    vector = options.get("vector") if vector is None else vector
    first = options.get("first", 0)
    shared: dict[str, Any] = {
        "label": options.get("label"),
        "seed": options.get("seed", 0),
        "first": first,
    }
    conditions = model.sample_conditions(total, vector=vector, given=given, **shared)
    numbers = np.arange(total) + first if isinstance(first, int) else np.asarray(first)

    def draw(places: np.ndarray, round_number: int) -> np.ndarray:
        own: dict[str, Any] = {name: value[places] for name, value in conditions.items()}
        if given is not None:
            told = {name: np.asarray(value) for name, value in own.items()}
            own = {"given": replace(given.at(places * len(given) // total), **told)}
            n = 1
        else:
            n, own = as_asked(own, len(places))
        first = numbers[places] + round_number * _APART
        return model.sample_rows(n, first=first, **own, **rest)

    return draw


_OWN = {"given", "where", "vector", "first", "label"}
