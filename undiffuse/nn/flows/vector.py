"""Invertible networks for vectors and the rows of tables, through zuko: each coordinate given those before it.

    z_i = tau(x_i; theta(x_1, ..., x_{i-1})),    log|det dz/dx| = sum_i log tau'(x_i)

with theta a masked perceptron and tau increasing: affine (Papamakarios et al. 2017) or a rational-quadratic spline
(Durkan et al. 2019). Transformations follow each other in alternating order. x is normalized per column before the
first: a spline bends what is between -5 and 5 and leaves the rest as it is. The way back takes one pass for each
coordinate, or, in more than 64, for each of 64 groups, whose members are then independent given the groups before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from undiffuse.errors import InputError
from undiffuse.nn import checks
from undiffuse.nn.flows.invertible import Normalize
from undiffuse.nn.layers import LabelEntry

_PASSES = 64
_FEATURES = 16  # numbers that stand for a label


@final
class _Body(nn.Module):
    """A normalization, then one of zuko's flows, whose context is the label's entry."""

    def __init__(self, flow: Any, columns: int, classes: int) -> None:
        super().__init__()
        self.normalize, self.flow = Normalize(columns), flow
        self.label = LabelEntry(classes=classes, width=_FEATURES) if classes else None

    def transform(self, rows: int, label: Tensor | None) -> Any:
        """Zuko's transformation, given the label."""
        context = None if self.label is None else self.label(label).expand(rows, -1)
        return self.flow(context).transform

    def forward(self, x: Tensor, label: Tensor | None) -> tuple[Tensor, Tensor]:
        with torch.autocast(
            x.device.type, enabled=False
        ):  # a density is only as exact as its arithmetic
            h, _, log_det = self.normalize(x, None)
            z, log_scale = self.transform(len(x), label).call_and_ladj(h)
            return z, log_det + log_scale

    def inverse(self, z: Tensor, label: Tensor | None) -> Tensor:
        with torch.autocast(z.device.type, enabled=False):
            return self.normalize.inverse(self.transform(len(z), label).inv(z), z, None)

    @torch.no_grad()
    def initialize(self, x: Tensor) -> None:
        self.normalize.measure(x)


class VectorFlow(nn.Module, ABC):
    """x (B, D) <-> z (B, D) by one of zuko's flows after a normalization; `name` is what errors call it."""

    name: ClassVar[str]

    @abstractmethod
    def __init__(self, flow: Any, shape: Sequence[int], classes: int) -> None:
        super().__init__()
        self.shape, self.classes = tuple(shape), classes
        self.body = _Body(flow, shape[0], classes)

    def forward(
        self, x: Float[Tensor, "b d"], label: Int64[Tensor, " b"] | None = None
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, " b"]]:
        """Z and log|det dz/dx|."""
        checks.call(self.name, self.shape, self.classes, 0, x, label, None)
        return self.body(x, label)

    def inverse(
        self, z: Float[Tensor, "b d"], label: Int64[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b d"]:
        """The x whose z this is."""
        return self.body.inverse(z, label)

    def initialize(self, x: Float[Tensor, "b d"], label: Int64[Tensor, " b"] | None = None) -> None:
        """Let the normalization start with the mean and deviation of these rows."""
        self.body.initialize(x)


@final
class SplineFlow(VectorFlow):
    """x (B, D) <-> z (B, D) by rational-quadratic splines of `bins` pieces: zuko's NSF after a normalization.

    Arguments (all plain, kept under their own names):
        shape: (D,) of a row. width, depth: of the perceptrons' hidden layers. transforms: how many follow each other.
        bins: pieces of a spline. classes: labels 0 .. classes - 1, -1 for none (0 for no labels).

    Raises InputError for sizes that are not positive or another data shape, and where zuko is not installed.

    >>> net = SplineFlow(shape=(2,), width=16)
    >>> x = torch.randn(3, 2)
    >>> bool((net.inverse(net(x)[0]) - x).abs().max() < 1e-4)
    True
    """

    name = "spline"

    def __init__(
        self,
        *,
        shape: Sequence[int],
        width: int = 64,
        depth: int = 2,
        transforms: int = 3,
        bins: int = 8,
        classes: int = 0,
    ) -> None:
        _check(
            self.name, shape, classes, width=width, depth=depth, transforms=transforms, bins=bins
        )
        choices = _choices(shape[0], width, depth, transforms, classes)
        super().__init__(_zuko().flows.NSF(shape[0], bins=bins, **choices), shape, classes)
        self.width, self.depth, self.transforms, self.bins = width, depth, transforms, bins


@final
class AutoregressiveFlow(VectorFlow):
    """x (B, D) <-> z (B, D) by affine maps: zuko's MAF after a normalization. Arguments as `SplineFlow`, but no bins.

    >>> AutoregressiveFlow(shape=(3,), width=16)(torch.randn(4, 3))[0].shape
    torch.Size([4, 3])
    """

    name = "autoregressive"

    def __init__(
        self,
        *,
        shape: Sequence[int],
        width: int = 64,
        depth: int = 2,
        transforms: int = 5,
        classes: int = 0,
    ) -> None:
        _check(self.name, shape, classes, width=width, depth=depth, transforms=transforms)
        choices = _choices(shape[0], width, depth, transforms, classes)
        super().__init__(_zuko().flows.MAF(shape[0], **choices), shape, classes)
        self.width, self.depth, self.transforms = width, depth, transforms


def _check(where: str, shape: Sequence[int], classes: int, **sizes: int) -> None:
    checks.axes(where, shape, {1: "(D,)"})
    checks.at_least(where, 1, **sizes)
    checks.at_least(where, 0, classes=classes)


def _choices(columns: int, width: int, depth: int, transforms: int, classes: int) -> dict[str, Any]:
    """What zuko's flows are told."""
    return {
        "context": _FEATURES if classes else 0,
        "transforms": transforms,
        "hidden_features": [width] * depth,
        "passes": min(columns, _PASSES),
        "randperm": columns
        > _PASSES,  # members of a group are strangers in the next transformation
    }


def _zuko() -> Any:
    try:
        import zuko
    except ImportError as problem:
        raise InputError(
            "flow: vectors and tables need zuko, which is not installed; run pip install 'undiffuse[flows]'."
        ) from problem
    return zuko
