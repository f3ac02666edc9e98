"""The registries of networks, and which of them, how large, for rows of a given shape.

    NETWORKS   F(x, c_noise, label, vector, given), the network of a denoiser
    FLOWS      x <-> z: network(x, label) -> (z, log|det dz/dx|), network.inverse(z, label) -> x,
               network.initialize(x, label) from rows, before it is trained

A row (D,) is a vector, (C, L) a sequence, (C, H, W) an image or grid. Unless a kind is asked for,
the first one registered that takes such rows is built. Each network has its own rule for its size,
chosen for time to quality; a dimension that is given is kept, and those that depend on it follow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from undiffuse.errors import unknown
from undiffuse.nn.flows.invertible import CouplingFlow
from undiffuse.nn.flows.vector import AutoregressiveFlow, SplineFlow
from undiffuse.nn.mlp import MLP
from undiffuse.nn.sized import SizedNetwork, first_that_takes
from undiffuse.nn.transformer import Transformer
from undiffuse.nn.unet import UNet

NETWORKS: dict[str, type[nn.Module]] = {kind.name: kind for kind in (UNet, Transformer, MLP)}
FLOWS: dict[str, type[nn.Module]] = {
    kind.name: kind for kind in (CouplingFlow, SplineFlow, AutoregressiveFlow)
}


def for_shape(
    shape: Sequence[int],
    *,
    classes: int = 0,
    vector: int = 0,
    maps: int = 0,
    given: int = 0,
    out: int = 1,
    span: float | int = 4.0,
    kind: str | None = None,
    **overrides: Any,
) -> nn.Module:
    """Build the network of a denoiser for rows of `shape`.

    Args:
        shape: of a row: (D,), (C, L) or (C, H, W).
        classes: number of labels, 0 for none.
        vector: numbers in a condition vector, 0 for none.
        maps: channels of condition maps, whose values follow in the vector, 0 for none.
        given: channels of what is known, 2 C (see `layers`), 0 for none.
        out: outputs per channel, 2 for a learned variance.
        span: length of the interval of c_noise: 4 for log(sigma)/4, else the number of levels.
        kind: a key of NETWORKS; chosen from the shape if None.
        **overrides: dimensions of that kind, instead of those chosen from the shape.

    Raises:
        InputError: for a shape of another form, an unknown kind or dimension, or an unusable
            value.

    >>> for_shape((1, 28, 28), width=32).multipliers
    (1, 2, 2)
    """
    network = _chosen(NETWORKS, "network", shape, kind)
    decided = {"classes": classes, "vector": vector, "given": given, "out": out}
    decided |= {"maps": maps} if maps else {}  # which vectors do not have
    return network.sized(shape, overrides, span=float(span), **decided)


def flow_for_shape(
    shape: Sequence[int], *, classes: int = 0, kind: str | None = None, **overrides: Any
) -> nn.Module:
    """Build an invertible network for rows of `shape`; arguments and errors as in `for_shape`.

    >>> flow_for_shape((1, 28, 28)).scales, flow_for_shape((6,), bins=4).bins
    (2, 4)
    """
    return _chosen(FLOWS, "flow", shape, kind).sized(shape, overrides, classes=classes)


def _chosen(
    registry: Mapping[str, type[nn.Module]], what: str, shape: Sequence[int], kind: str | None
) -> type[SizedNetwork]:
    """The network of that kind, or the first one registered that takes rows of `shape`."""
    sized = {
        name: network for name, network in registry.items() if issubclass(network, SizedNetwork)
    }
    if kind is None:
        return first_that_takes(shape, sized.values(), what)
    if kind not in sized:  # a user's own network, registered to be recorded, has no sizes
        raise unknown(what, "kind", kind, sized)
    return sized[kind]
