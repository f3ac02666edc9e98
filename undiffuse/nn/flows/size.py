"""Which invertible network, and how large, for data of a given shape: x (B, *shape) <-> z (B, D).

Splines for vectors, couplings for images and sequences. Each has `network(x, label) -> (z, log|det dz/dx|)`,
`network.inverse(z, label) -> x` and `network.initialize(x, label)`, from rows, before it is trained.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from undiffuse.errors import InputError, unknown
from undiffuse.nn.flows.coupling import CouplingFlow
from undiffuse.nn.flows.vector import AutoregressiveFlow, SplineFlow
from undiffuse.parts import arguments

FLOWS: Mapping[str, type[nn.Module]] = {
    "coupling": CouplingFlow,
    "spline": SplineFlow,
    "autoregressive": AutoregressiveFlow,
}
KIND_OF_AXES = {1: "spline", 2: "coupling", 3: "coupling"}
GIVEN = ("shape", "classes")  # what the data decide, not the user


def flow_for_shape(
    shape: Sequence[int], *, classes: int = 0, kind: str | None = None, **overrides: Any
) -> nn.Module:
    """An invertible network for rows of `shape`, its kind and dimensions chosen from the shape except for those given.

    Raises InputError for a shape of no known form, an unknown kind or dimension, or a value that cannot be used.

    >>> flow_for_shape((1, 28, 28)).scales, flow_for_shape((6,), bins=4).bins
    (2, 4)
    """
    if len(shape) not in KIND_OF_AXES:
        raise InputError(
            f"flow: rows of shape {tuple(shape)} are neither vectors (D,), sequences (C, L) nor images (C, H, W); "
            "reshape them to one of these."
        )
    kind = KIND_OF_AXES[len(shape)] if kind is None else kind
    names = flow_dimensions(kind)
    for name, value in overrides.items():
        if name not in names:
            raise unknown(f"{kind}:", "dimension", name, names)
        if isinstance(value, bool) or not isinstance(value, int):
            raise InputError(f"{kind}: {name} is {value!r}; give a whole number of at least 1.")
    return FLOWS[kind](shape=tuple(shape), classes=classes, **SIZES[kind](tuple(shape), overrides))


def flow_dimensions(kind: str) -> tuple[str, ...]:
    """The names of the dimensions of this kind that can be set. Raises InputError for an unknown kind.

    >>> flow_dimensions("coupling")
    ('width', 'depth', 'scales', 'patch')
    """
    if kind not in FLOWS:
        raise unknown("flow", "kind", kind, FLOWS)
    return tuple(name for name in arguments(FLOWS[kind]) if name not in GIVEN)


def _coupling(shape: tuple[int, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """At most 144 positions at first, then halved until 3 to 5 a side are left (8 to 15 of a sequence)."""
    axes, longest = len(shape) - 1, max(shape[1:])
    patch = next(p for p in (2**k for k in range(1, 64)) if math.prod(shape[1:]) // p**axes <= 144)
    least = 3 if axes == 2 else 8
    scales = next(s for s in range(1, 64) if longest // (patch * 2**s) < least)
    return {"patch": patch, "scales": scales, **given}


def _vector(shape: tuple[int, ...], given: Mapping[str, Any]) -> dict[str, Any]:
    """Wider with the number of columns."""
    return {"width": 64 if shape[0] <= 8 else 128 if shape[0] <= 32 else 256, **given}


SIZES: Mapping[str, Callable[[tuple[int, ...], Mapping[str, Any]], dict[str, Any]]] = {
    "coupling": _coupling,
    "spline": _vector,
    "autoregressive": _vector,
}
