"""The conditions of training rows that a model keeps, and how some are hidden in training.

A condition vector is made of columns, each of some numbers that are all 0 where it is not known
(see `data.conditions`). In training a share of the rows has none, and as large a share only some of
the columns, each of them with probability 1/2: the network then knows the distribution given any of
them. Samples that are asked for nothing get the conditions of training rows, drawn at random.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from undiffuse.diffusion.guidance import HIDDEN
from undiffuse.errors import InputError

KEPT, FEWEST, NUMBERS = 4096, 64, 2**22  # rows kept at most and at least, and numbers, about


def rows_kept(size: int) -> int:
    """Return of how many rows the conditions are kept, vectors of `size` numbers.

    >>> rows_kept(3), rows_kept(28 * 28 * 2), rows_kept(10**6)
    (4096, 2674, 64)
    """
    return min(KEPT, max(FEWEST, NUMBERS // size))


@final
class KeptConditions(nn.Module):
    """Conditions of training rows.

    Args:
        widths: the numbers of each column of a vector.
        rows: how many training rows they are of.
    """

    vectors: Tensor
    labels: Tensor

    def __init__(self, widths: Sequence[int], rows: int) -> None:
        super().__init__()
        self.widths = tuple(widths)
        self.register_buffer("vectors", torch.zeros(rows, sum(widths)))
        self.register_buffer("labels", torch.full((rows,), HIDDEN["label"]))

    def take(self, batch: Mapping[str, Tensor]) -> None:
        """Keep the conditions of a batch of so many rows."""
        self.vectors.copy_(batch["vector"])
        if "label" in batch:
            self.labels.copy_(batch["label"])

    def draw(self, u: Tensor, label: int | Tensor | None) -> dict[str, Tensor]:
        """Return the conditions of the rows that u (n,), uniform in (0, 1), picks.

        Args:
            u: one number for each sample.
            label: the class of the rows to pick from, or the class for each sample (n,); None: of
                all. Without such a row their vectors are hidden.
        """
        if isinstance(label, Tensor):
            found = [self.draw(u, int(one)) for one in range(int(label.max()) + 1)]
            row = torch.arange(len(u))
            return {
                name: torch.stack([one[name] for one in found])[label, row] for name in found[0]
            }
        labels, vectors = self.labels.cpu(), self.vectors.cpu()
        if label is not None:
            vectors = vectors[labels == label]
            labels = torch.full((len(vectors),), label)
        if len(vectors) == 0:
            labels, vectors = torch.full((1,), label or 0), self.hidden(1).cpu()
        index = (u * len(vectors)).long().clamp(max=len(vectors) - 1)
        return {"label": labels[index], "vector": vectors[index]}

    def hidden(self, n: int) -> Tensor:
        """Return vectors (n, v) of which nothing is known."""
        return self.vectors.new_full((n, sum(self.widths)), HIDDEN["vector"])

    def partly(self, vector: Tensor, share: float) -> Tensor:
        """Return vectors (B, v) in a share of which each column is kept with probability 1/2."""
        if len(self.widths) < 2 or not share:
            return vector
        kept = torch.rand(len(vector), len(self.widths)) < 0.5
        kept |= (torch.rand(len(vector)) >= share)[:, None]
        entries = kept.repeat_interleave(torch.tensor(self.widths), 1).to(vector.device)
        return torch.where(entries, vector, 0)


def chosen(
    n: int,
    index: int | Tensor | None,
    vector: Tensor | None,
    *,
    known: bool,
    kept: KeptConditions | None,
    shares: Sequence[float],
    uniform: Callable[[], Tensor],
) -> dict[str, Tensor]:
    """Return the conditions of `n` samples by name.

    Args:
        n: how many.
        index: the class of all of them, or classes (m,), of which the first n/m samples have the
            first; None: not said.
        vector: their vectors (m, v), of which the first n/m samples have the first; None: not said.
        known: whether what is not said is hidden, and not drawn.
        kept: the conditions of training rows; None: the model has classes at most.
        shares: of the classes; empty without.
        uniform: gives numbers (n,) in (0, 1), one for each sample.
    """
    found: dict[str, Tensor] = {}
    if kept is not None and not known:
        found = kept.draw(uniform(), index)
    elif kept is not None:
        found["vector"] = kept.hidden(1).cpu() if vector is None else vector
        found["vector"] = found["vector"].repeat_interleave(n // len(found["vector"]), 0)
    if not shares:
        found.pop("label", None)
    elif index is not None or known:
        label = torch.as_tensor(HIDDEN["label"] if index is None else index).reshape(-1)
        found["label"] = label.repeat_interleave(n // len(label))
    elif "label" not in found:
        edges = torch.tensor(shares, dtype=torch.float64).cumsum(0)
        found["label"] = torch.bucketize(uniform() * edges[-1], edges[:-1])
    return found


def as_asked(conditions: Mapping[str, Tensor], rows: int) -> tuple[int, dict[str, Any]]:
    """Return (n, options) of `sample_rows` that give so many samples these conditions, in order.

    Args:
        conditions: of the samples, by name: label (rows,), vector (rows, v).
        rows: how many samples there are.
    """
    own: dict[str, Any] = dict(conditions)
    if "label" in own:
        known = bool((own["label"] >= 0).all())
        own["label"] = [int(label) for label in own["label"]] if known else None
    return (1 if "vector" in own else rows), own


def hide(cond: Mapping[str, Tensor], dropped: Tensor) -> dict[str, Tensor]:
    """Return conditions (B, *) that are hidden where `dropped` (B,) is true."""
    return {
        name: torch.where(
            dropped.to(value.device).reshape(-1, *[1] * (value.ndim - 1)),
            HIDDEN.get(name, 0),
            value,
        )
        for name, value in cond.items()
    }


def check_network(network: nn.Module, conditions: Mapping[str, int]) -> None:
    """Raise InputError unless the network takes the conditions of data: name -> size.

    It needs an argument of each name, and the same number of `classes` and of numbers in a `vector`
    if it has these attributes.
    """
    takes = inspect.signature(network.forward).parameters.values()
    said: dict[str, tuple[str, str, str]] = {
        "label": ("classes", "classes", "labels"),
        "vector": ("vector", "numbers in a condition", "conditions"),
        "maps": ("maps", "channels of conditions", "conditions"),
    }
    for name, size in conditions.items():
        attribute, what, without = said[name]
        name = "vector" if name == "maps" else name
        if not size:
            continue
        if not any(one.name == name or one.kind is one.VAR_KEYWORD for one in takes):
            raise InputError(
                f"network {type(network).__name__}: the data have {size} {what}, but its forward "
                f"takes no `{name}`; give it that argument, or train on data without {without}."
            )
        own: Any = getattr(network, attribute, size)  # a network of the user's may not have it
        if isinstance(own, int) and own != size:
            raise InputError(
                f"the data have {size} {what}, but the network was made for {own}; make a new "
                "model."
            )
