"""Invertible networks for vectors and the rows of tables, through zuko.

    z_i = tau(x_i; theta(x_1, ..., x_{i-1})),    log|det dz/dx| = sum_i log tau'(x_i)

with theta a masked perceptron and tau increasing: affine (Papamakarios et al. 2017) or a
rational-quadratic spline (Durkan et al. 2019). Transformations follow each other in alternating
order. x is normalized per column before the first: a spline bends what is between -5 and 5 and
leaves the rest as it is. The way back takes one pass for each coordinate, or, if there are more
than 64, for each of 64 groups, whose members are then independent given the groups before.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, final

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn

from undiffuse.errors import InputError
from undiffuse.nn.flows.invertible import Normalize
from undiffuse.nn.layers import LabelEntry
from undiffuse.nn.sized import SizedNetwork

_PASSES = 64
_FEATURES = 16  # numbers that stand for a label


class VectorFlow(SizedNetwork, ABC):
    """x (B, D) <-> z (B, D): a normalization, then one of zuko's flows, given the label's entry."""

    axes = (1,)
    lazy = True

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__(given)
        try:
            import zuko
        except ImportError as problem:
            raise InputError(
                "flow: vectors and tables need zuko, which is not installed; "
                "run pip install 'undiffuse[flows]'."
            ) from problem
        columns = self.shape[0]
        self.normalize = Normalize(columns)
        self.label = LabelEntry(classes=self.classes, width=_FEATURES) if self.classes else None
        self.flow = self._flow(
            zuko.flows,
            features=columns,
            context=_FEATURES if self.classes else 0,
            transforms=given["transforms"],
            hidden_features=[given["width"]] * given["depth"],
            passes=min(columns, _PASSES),
            randperm=columns > _PASSES,  # members of a group are in different groups next time
        )

    @abstractmethod
    def _flow(self, flows: Any, **choices: Any) -> nn.Module:
        """Build the flow: `flows` is zuko's module of them, which has no types."""

    @classmethod
    def sizes(cls, shape: tuple[int, ...], given: Mapping[str, Any]) -> dict[str, Any]:
        """Wider with the number of columns."""
        return {"width": 64 if shape[0] <= 8 else 128 if shape[0] <= 32 else 256}

    def _transform(self, rows: int, label: Tensor | None) -> Any:  # zuko has no types
        """Zuko's transformation, given the label."""
        context = None if self.label is None else self.label(label).expand(rows, -1)
        return self.flow(context).transform

    def forward(
        self, x: Float[Tensor, "b d"], label: Int64[Tensor, " b"] | None = None
    ) -> tuple[Float[Tensor, "b d"], Float[Tensor, " b"]]:
        """Return z and log|det dz/dx|, in full precision under autocast too."""
        self.check_call(x, label)
        with torch.autocast(x.device.type, enabled=False):
            h, _, log_det = self.normalize(x, None)
            z, log_scale = self._transform(len(x), label).call_and_ladj(h)
            return z, log_det + log_scale

    def inverse(
        self, z: Float[Tensor, "b d"], label: Int64[Tensor, " b"] | None = None
    ) -> Float[Tensor, "b d"]:
        """Return the x whose z this is."""
        with torch.autocast(z.device.type, enabled=False):
            return self.normalize.inverse(self._transform(len(z), label).inv(z), z, None)

    @torch.no_grad()
    def initialize(self, x: Float[Tensor, "b d"], label: Int64[Tensor, " b"] | None = None) -> None:
        """Start the normalization with the mean and deviation of these rows."""
        self.normalize.measure(x)


@final
class SplineFlow(VectorFlow):
    """x (B, D) <-> z (B, D) by splines: zuko's neural spline flow after a normalization.

    Args:
        shape: (D,) of a row.
        width: numbers in the perceptrons' hidden layers.
        depth: hidden layers of each perceptron.
        transforms: how many transformations follow each other.
        bins: pieces of a spline.
        classes: number of labels, 0 for none.

    Raises:
        InputError: for a value that cannot be used, and if zuko is not installed.

    >>> net = SplineFlow(shape=(2,), width=16)
    >>> x = torch.randn(3, 2)
    >>> bool((net.inverse(net(x)[0]) - x).abs().max() < 1e-4)
    True
    """

    name = "spline"
    bins: int

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
        super().__init__(locals())

    def _flow(self, flows: Any, **choices: Any) -> nn.Module:
        return flows.NSF(bins=self.bins, **choices)


@final
class AutoregressiveFlow(VectorFlow):
    """x (B, D) <-> z (B, D) by affine maps: zuko's MAF after a normalization.

    Arguments and errors as in `SplineFlow`, but no bins.

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
        super().__init__(locals())

    def _flow(self, flows: Any, **choices: Any) -> nn.Module:
        return flows.MAF(**choices)
