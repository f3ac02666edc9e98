"""Features: what rows are compared by. Whatever they are, their name and a hash stand beside each figure.

    Raw                     vectors as they are
    Whitened                vectors with the training rows' mean and covariance taken out: no column outweighs another
    Trained                 an encoder fitted on the training split; `features_trained.py`
    Lite0                   photographs: EfficientNet-Lite0, FD(lite0) and never FID; `features_lite0.py`
    Inception               the network of FID, from a file; `features_inception.py`
    Given                   any function of the user's

`feature_choice.py` picks one for the data, and keeps it in a file.

Rows come at unit scale, as `transform.encode(rows, torch.zeros_like)[0]` gives them: (N, D) vectors, (N, C, L)
sequences, (N, C, H, W) images in [-1, 1]. Samples must be decoded to the stored type and encoded again before:
figures are about what the user gets, rounded as the data is. Two figures may be compared only if the features have
the same hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, final, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from undiffuse.errors import InputError

BATCH = 256


@runtime_checkable
class Features(Protocol):
    """Rows at unit scale (N, *shape) -> features (N, D) float64, finite, the same for a row whatever its batch."""

    @property
    def name(self) -> str: ...

    @property
    def hash(self) -> str: ...

    def __call__(self, rows: Tensor) -> Tensor: ...


@runtime_checkable
class Savable(Features, Protocol):
    """Features that plain data and tensors hold in full: the same ones, with the same hash, can be made from them."""

    def config(self) -> dict[str, Any]:
        """Plain data: what is needed beside the tensors."""
        ...

    def state(self) -> dict[str, Tensor]:
        """The tensors, by name."""
        ...

    @classmethod
    def from_state(cls, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> "Savable":
        """The features again. Raises KeyError, RuntimeError or InputError where that is not of such features."""
        ...


def content_hash(name: str, state: Mapping[str, Tensor]) -> str:
    """Twelve hexadecimal digits that change with the name or with any of the tensors.

    >>> len(content_hash("raw", {}))
    12
    """
    digest = hashlib.sha256(name.encode())
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.numpy().tobytes())
    return digest.hexdigest()[:12]


def batched(
    encode: Callable[[Tensor], Tensor], rows: Tensor, *, batch: int = BATCH
) -> Float[Tensor, "n d"]:
    """`encode` over batches of rows, without gradients, as float64. Raises InputError if there are no rows."""
    if len(rows) == 0:
        raise InputError("features: there are no rows; give some.")
    with torch.no_grad():
        return torch.cat([encode(part).double().flatten(1) for part in rows.split(batch)])


def check_images(name: str, rows: Tensor) -> None:
    """Raises InputError unless `rows` are images (N, 1 or 3, H, W)."""
    if rows.ndim != 4 or rows.shape[1] not in (1, 3):
        raise InputError(
            f"features {name}: rows of shape {tuple(rows.shape[1:])} are not images of 1 or 3 channels; "
            "use trained features."
        )


@final
@dataclass(frozen=True)
class Raw:
    """Each row as a vector.

    >>> Raw()(torch.zeros(2, 3, 4)).shape
    torch.Size([2, 12])
    """

    name: str = "raw"

    @property
    def hash(self) -> str:
        return content_hash(self.name, {})

    def __call__(self, rows: Tensor) -> Tensor:
        return rows.double().flatten(1)

    def config(self) -> dict[str, Any]:
        return {}

    def state(self) -> dict[str, Tensor]:
        return {}

    @classmethod
    def from_state(cls, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> "Raw":
        return cls()


@final
class Whitened:
    """U^T (x - mean)/sqrt(l) over eigenvalues l of the training rows' covariance that are above 1e-6 of the largest.

    >>> x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0)) @ torch.tensor([[9.0, 0.0], [5.0, 1.0]])
    >>> torch.allclose(Whitened(x)(x).T.cov(), torch.eye(2).double())
    True
    """

    name = "whitened"

    def __init__(self, training: Tensor) -> None:
        x = training.double().flatten(1)
        if len(x) < 2:
            raise InputError(
                "whitened features: there must be two training rows at least; give more."
            )
        self.mean = x.mean(0)
        values, vectors = torch.linalg.eigh((x - self.mean).T @ (x - self.mean) / (len(x) - 1))
        kept = values > 1e-6 * values[-1].clamp(min=1e-300)
        if not kept.any():
            raise InputError(
                "whitened features: all training rows are equal; there is nothing to compare by."
            )
        self.matrix = vectors[:, kept] / values[kept].sqrt()

    @property
    def hash(self) -> str:
        return content_hash(self.name, self.state())

    def __call__(self, rows: Tensor) -> Tensor:
        x = rows.double().flatten(1)
        if x.shape[1] != len(self.mean):
            raise InputError(
                f"features whitened: rows of {x.shape[1]} values, fitted on {len(self.mean)}; fit them on such rows."
            )
        return (x - self.mean) @ self.matrix

    def config(self) -> dict[str, Any]:
        return {}

    def state(self) -> dict[str, Tensor]:
        return {"mean": self.mean, "matrix": self.matrix}

    @classmethod
    def from_state(cls, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> "Whitened":
        made = cls.__new__(cls)
        made.mean, made.matrix = state["mean"], state["matrix"]
        return made


@final
class Given:
    """Any function of rows (N, *shape) to features (N, D). Its hash is that of what it makes of `probe`, some rows.

    Raises InputError for a function that fails on them, or gives anything but a finite row of numbers for each.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], probe: Tensor, name: str = "") -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", type(function).__name__)
        try:
            found = self(probe)
        except InputError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as problem:
            raise InputError(
                f"features {self.name}: cannot take rows {tuple(probe.shape)}: {problem}"
            ) from problem
        self.hash = content_hash(self.name, {"probe": found})

    def __call__(self, rows: Tensor) -> Tensor:
        return batched(self._vectors, rows)

    def _vectors(self, rows: Tensor) -> Tensor:
        found = self.function(rows)
        if (
            not isinstance(found, Tensor)
            or found.ndim < 2
            or len(found) != len(rows)
            or not found.isfinite().all()
        ):
            what = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise InputError(
                f"features {self.name}: {what} for {len(rows)} rows; return a finite vector for each."
            )
        return found
