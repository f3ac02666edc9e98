"""Draw samples again that agree where no two rows of the data do: in the key of a table.

Each round draws those that repeat a key anew, under their own conditions, from other noise: sample
i as number i + r 2^40 in round r. A sample then depends on those before it too. Rounds end when
none repeats, after `ROUNDS`, after `TRIES` draws for each sample, or when as many draws as there
are samples, and `FRUITLESS`, have mended none, as where no key is left that a model can draw.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch import Tensor

from undiffuse.interfaces import Form, Progress

ROUNDS = 100
TRIES = 10
FRUITLESS = 50
_APART = 1 << 40  # more than there are samples


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
        self, n: int, *, label: Any = None, vector: Any = None, seed: int = 0, first: Any = 0
    ) -> dict[str, Tensor]:
        """Return the conditions of samples by name."""
        ...


def distinct(
    model: Redrawable, rows: np.ndarray, *, progress: Progress | None = None, **options: Any
) -> np.ndarray:
    """Return samples (n, ...) of which those that repeat a key of the data are drawn again.

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
    vector = model.vectors_of(options.pop("where", None))
    vector = options.pop("vector", None) if vector is None else vector
    first, label = options.pop("first", 0), options.pop("label", None)
    shared: dict[str, Any] = {"label": label, "seed": options.get("seed", 0), "first": first}
    conditions = model.sample_conditions(len(rows), vector=vector, **shared)
    numbers = np.arange(len(rows)) + first if isinstance(first, int) else np.asarray(first)
    rows, drawn, fruitless = rows.copy(), 0, 0
    for round_number in range(1, ROUNDS + 1):
        if progress is not None:
            progress(round_number, ROUNDS, "drawing again")
        own: dict[str, Any] = {name: value[repeated] for name, value in conditions.items()}
        if "label" in own:
            known = bool((own["label"] >= 0).all())
            own["label"] = [int(label) for label in own["label"]] if known else None
        n = 1 if "vector" in own else len(repeated)
        own["first"] = numbers[repeated] + round_number * _APART
        rows[repeated] = model.sample_rows(n, **own, **options)
        drawn, left = drawn + len(repeated), np.flatnonzero(model.form.repeated(rows))
        fruitless = 0 if len(left) < len(repeated) else fruitless + len(repeated)
        repeated = left
        ended = drawn >= TRIES * len(rows) or fruitless >= max(len(rows), FRUITLESS)
        if ended or not len(left):
            break
    return rows
