"""Features: what rows are compared by. Their name and a hash are reported beside each figure.

    Raw               vectors as they are
    Whitened          vectors less the training rows' mean, divided by a root of their covariance
    Trained           an encoder fitted on the training split: `trained.py`
    Lite0             photographs: EfficientNet-Lite0, FD(lite0) and never FID: `lite0.py`
    Inception         the network of FID, from a file: `inception.py`
    GivenFeatures     any function of the user's

Rows are at unit scale, as `transform.encode(rows, torch.zeros_like)[0]` gives them: (N, D) vectors,
(N, C, L) sequences, (N, C, H, W) images in [-1, 1]. Samples must be decoded to the stored type and
encoded again before: figures are of what the user gets, rounded as the data is. Two figures may be
compared only if the features have the same hash.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from undiffuse.errors import InputError


class Features(ABC):
    """A map from rows at unit scale (N, *shape) to features (N, D) float64.

    They are finite, and those of a row do not depend on the other rows of its batch. A class is
    made by name with `fit`, and again from a file with `from_state`; what its hash is of, it says
    with `state`.

    Attributes:
        name: as it is reported.
        accuracy: of the classifier that they come from, on rows it was not fitted on; or None.
        argument: what follows "NAME:" where they are asked for by name, as "FILE"; or "".
    """

    name: str
    argument: ClassVar[str] = ""
    accuracy: float | None = None

    @property
    def hash(self) -> str:
        """Twelve digits that change with the name and with whatever the features depend on."""
        return content_hash(self.name, self.state())

    @abstractmethod
    def __call__(self, rows: Tensor) -> Tensor:
        """Return the features of rows (N, *shape)."""

    @classmethod
    def fit(cls, rows: Tensor, labels: Tensor | None, *, seed: int, argument: str) -> Features:
        """Return such features for training rows with labels (N,) int64, or none.

        `argument` is what follows "NAME:" where they were asked for by name. Unless overridden,
        nothing is fitted.
        """
        return cls()

    def config(self) -> dict[str, Any]:
        """Return plain data: what is needed beside the tensors to make them again."""
        return {}

    def state(self) -> dict[str, Tensor]:
        """Return the tensors they consist of, by name; none where these stay in another file."""
        return {}

    @classmethod
    def from_state(cls, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Features:
        """Make them again; unless overridden, from their `config` alone.

        Raises:
            KeyError, TypeError, RuntimeError, InputError: if `config` and `state` are not of such
                features.
        """
        return cls(**config)


def content_hash(name: str, state: Mapping[str, Tensor]) -> str:
    """Return twelve hexadecimal digits that change with the name or with any of the tensors.

    >>> len(content_hash("raw", {}))
    12
    """
    digest = hashlib.sha256(name.encode())
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def batched(
    encode: Callable[[Tensor], Tensor], rows: Tensor, *, batch: int = 256
) -> Float[Tensor, "n d"]:
    """Apply `encode` to batches of rows, without gradients, and return one float64 matrix.

    Raises:
        InputError: if there are no rows.
    """
    if len(rows) == 0:
        raise InputError("features: there are no rows; give some.")
    with torch.no_grad():
        return torch.cat([encode(part).double().flatten(1) for part in rows.split(batch)])


class Pretrained(Features):
    """Features of images (N, 1 or 3, H, W) by a network that was trained elsewhere.

    Its weights stay in a file of their own.
    """

    batch: ClassVar[int]  # images at a time
    network: nn.Module
    weights_hash: str

    @property
    def hash(self) -> str:
        """Twelve digits, of the name and the weights."""
        return self.weights_hash

    @final
    def adopt(self, kind: type[nn.Module], weights: Mapping[str, Tensor]) -> None:
        """Make the network and give it weights.

        Raises:
            RuntimeError: if they are not those of such a network.
        """
        with torch.device("meta"):  # weights of its own would be thrown away
            self.network = kind()
        counters = {  # of batches seen in training: some files lack them, and they change nothing
            name: torch.zeros((), dtype=torch.int64)
            for name in self.network.state_dict()
            if name.endswith("num_batches_tracked")
        }
        self.network.load_state_dict({**weights, **counters}, assign=True)
        self.network.eval().requires_grad_(False)
        self.weights_hash = content_hash(self.name, weights)

    @staticmethod
    @abstractmethod
    def prepared(rows: Tensor) -> Tensor:
        """Return images as the network was trained on them, (N, 3, H', W')."""

    @final
    def __call__(self, rows: Tensor) -> Tensor:
        """Return the features. Raises InputError for rows that are not images."""
        if rows.ndim != 4 or rows.shape[1] not in (1, 3):
            raise InputError(
                f"features {self.name}: rows of shape {tuple(rows.shape[1:])} are not images of 1 "
                "or 3 channels; use trained features."
            )
        return batched(lambda part: self.network(self.prepared(part)), rows, batch=self.batch)


@final
class Raw(Features):
    """Each row as a vector.

    >>> Raw()(torch.zeros(2, 3, 4)).shape
    torch.Size([2, 12])
    """

    name = "raw"

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the rows, flattened."""
        return rows.double().flatten(1)


@final
class Whitened(Features):
    """U^T (x - mean)/sqrt(l) for eigenvalues l and eigenvectors U of the training rows' covariance.

    Eigenvalues below 1e-6 of the largest are left out.

    >>> x = torch.randn(500, 2, generator=torch.Generator().manual_seed(0))
    >>> x = x @ torch.tensor([[9.0, 0.0], [5.0, 1.0]])
    >>> torch.allclose(Whitened.fit(x, None)(x).T.cov(), torch.eye(2).double())
    True
    """

    name = "whitened"

    def __init__(self, mean: Tensor, matrix: Tensor) -> None:
        self.mean, self.matrix = mean, matrix

    @classmethod
    def fit(
        cls, rows: Tensor, labels: Tensor | None, *, seed: int = 0, argument: str = ""
    ) -> Whitened:
        """Fit the mean and the covariance.

        Raises:
            InputError: for fewer than two rows, and where all are equal.
        """
        x = rows.double().flatten(1)
        if len(x) < 2:
            raise InputError("whitened features: one training row is too few; give more.")
        mean = x.mean(0)
        values, vectors = torch.linalg.eigh((x - mean).T @ (x - mean) / (len(x) - 1))
        kept = values > 1e-6 * values[-1].clamp(min=1e-300)
        if not kept.any():
            raise InputError(
                "whitened features: all training rows are equal; there is nothing to compare by."
            )
        return cls(mean, vectors[:, kept] / values[kept].sqrt())

    def __call__(self, rows: Tensor) -> Tensor:
        """Return the whitened rows. Raises InputError for rows of another width."""
        x = rows.double().flatten(1)
        if x.shape[1] != len(self.mean):
            raise InputError(
                f"features whitened: rows of {x.shape[1]} values, fitted on {len(self.mean)}; fit "
                "them on such rows."
            )
        return (x - self.mean) @ self.matrix

    def state(self) -> dict[str, Tensor]:
        """Return the mean and the matrix."""
        return {"mean": self.mean, "matrix": self.matrix}

    @classmethod
    def from_state(cls, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> Whitened:
        """Make them again."""
        return cls(state["mean"], state["matrix"])


@final
class GivenFeatures(Features):
    """Any function of rows (N, *shape) to features (N, D).

    Args:
        function: the function.
        probe: some rows; the hash is that of what the function makes of them.
        name: how it is called; its own name if "".

    Raises:
        InputError: for a function that fails on the probe, or does not return finite vectors.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], probe: Tensor, name: str = "") -> None:
        self.function = function
        # a callable object need not have a name
        self.name = name or getattr(function, "__name__", type(function).__name__)
        try:
            self.probed = self(probe)
        except InputError:
            raise
        except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as problem:
            raise InputError(
                f"features {self.name}: cannot take rows {tuple(probe.shape)}: {problem}"
            ) from problem

    def __call__(self, rows: Tensor) -> Tensor:
        """Return what the function does. Raises InputError as the constructor."""
        return batched(self._vectors, rows)

    def _vectors(self, rows: Tensor) -> Tensor:
        vectors = self.function(rows)
        if (
            not isinstance(vectors, Tensor)
            or vectors.ndim < 2
            or len(vectors) != len(rows)
            or not vectors.isfinite().all()
        ):
            what = tuple(vectors.shape) if isinstance(vectors, Tensor) else type(vectors).__name__
            raise InputError(
                f"features {self.name}: {what} for {len(rows)} rows; return a finite vector for "
                "each."
            )
        return vectors

    def config(self) -> dict[str, Any]:
        """Raise InputError: no file can hold a function."""
        raise InputError(
            f"features {self.name}: a function cannot be written to a file; give it anew each time."
        )

    def state(self) -> dict[str, Tensor]:
        """Return what the function makes of the probe."""
        return {"probe": self.probed}
