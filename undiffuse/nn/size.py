"""Which network, and how large, for data of a given shape: the defaults, chosen for time to quality.

A row (D,) is a vector, (C, L) a sequence, (C, H, W) an image or grid. The size follows from the number of positions
after patching: U-Nets work on 8 to 32 positions a side and halve down to 4 or 7, transformers on at most 512
tokens, perceptrons get wider with the number of columns. Each dimension that is given is kept, and those that depend
on it (attention levels on patch, heads on width) follow it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import nn

from undiffuse.errors import InputError, unknown
from undiffuse.nn.layers import divisor
from undiffuse.nn.mlp import MLP
from undiffuse.nn.transformer import Transformer
from undiffuse.nn.unet import UNet
from undiffuse.parts import arguments

Sizes = dict[str, Any]

NETWORKS: dict[str, type[nn.Module]] = {"unet": UNet, "transformer": Transformer, "mlp": MLP}
KIND_OF_AXES = {1: "mlp", 2: "transformer", 3: "unet"}
GIVEN = (
    "shape",
    "classes",
    "vector",
    "out",
    "span",
)  # what the data and the model decide, not the user


def for_shape(
    shape: Sequence[int],
    *,
    classes: int = 0,
    vector: int = 0,
    out: int = 1,
    span: float | int = 4.0,
    kind: str | None = None,
    **overrides: Any,
) -> nn.Module:
    """A network for rows of `shape`, its kind and dimensions chosen from the shape except for those given.

    `classes`, `vector`: conditions; `out`: outputs per channel; `span`: length of the interval that c_noise lives in
    (4 for log(sigma)/4, the number of levels for level numbers). Raises InputError for a shape of no known form, an
    unknown kind or dimension, or a value that cannot be used.

    >>> for_shape((1, 28, 28), width=32).multipliers
    (1, 2, 2)
    """
    if len(shape) not in KIND_OF_AXES:
        raise InputError(
            f"network: rows of shape {tuple(shape)} are neither vectors (D,), sequences (C, L) nor images (C, H, W); "
            "reshape them to one of these."
        )
    kind = KIND_OF_AXES[len(shape)] if kind is None else kind
    names = dimensions(kind)
    for name in overrides:
        if name not in names:
            raise unknown(f"{kind}:", "dimension", name, names)
    checked = {name: _checked(kind, name, value) for name, value in overrides.items()}
    if len(shape) not in AXES[kind]:
        fits = ", ".join(k for k in NETWORKS if len(shape) in AXES[k])
        raise InputError(
            f"{kind}: does not take rows of shape {tuple(shape)}; choose another network ({fits})."
        )
    given = {"classes": classes, "vector": vector, "out": out, "span": float(span)}
    return NETWORKS[kind](shape=tuple(shape), **given, **SIZES[kind](tuple(shape), checked))


def dimensions(kind: str) -> tuple[str, ...]:
    """The names of the dimensions of this kind of network that can be set. Raises InputError for an unknown kind.

    >>> dimensions("mlp")
    ('width', 'depth', 'octaves', 'dropout')
    """
    if kind not in NETWORKS:
        raise unknown("network", "kind", kind, NETWORKS)
    return tuple(name for name in arguments(NETWORKS[kind]) if name not in GIVEN)


def _checked(kind: str, name: str, value: Any) -> Any:
    """`value` in the type of the dimension's default: int, float or tuple of ints."""
    default = arguments(NETWORKS[kind])[name].default
    if isinstance(default, tuple):
        numbers = (
            tuple(value) if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
        )
        if all(isinstance(n, int) and not isinstance(n, bool) for n in numbers):
            return numbers
        raise InputError(f"{kind}: {name} is {value!r}; give whole numbers.")
    fits = isinstance(
        value, (int, float) if isinstance(default, float) else int
    ) and not isinstance(value, bool)
    if not fits:
        raise InputError(
            f"{kind}: {name} is {value!r}; give a {'' if isinstance(default, float) else 'whole '}number."
        )
    return type(default)(value)


def _unet(shape: tuple[int, ...], given: Sizes) -> Sizes:
    """8 to 32 positions a side at level 0, fewer than 6 at the last; attention lower down, over at most 64."""
    height, width = shape[1:]
    side = math.sqrt(height * width)
    patch = given.get(
        "patch",
        min(1 if side <= 16 else 2 if side <= 48 else 4 if side <= 144 else 8, height, width),
    )
    checked_patch = max(1, patch)  # an unusable one is refused by the network
    longest = -(-max(height, width) // checked_patch)
    depth = 1 + sum(longest >= 6 * 2**level for level in range(3))
    multipliers = given.get("multipliers", (1, 2, 2, 3)[:depth])
    positions = [
        math.prod(-(-n // (checked_patch * 2**level)) for n in shape[1:])
        for level in range(len(multipliers))
    ]
    sizes = {
        "width": 32 if side <= 12 else 64 if side <= 144 else 96,
        "multipliers": multipliers,
        "blocks": 1 if side <= 48 else 2,
        "attention": tuple(
            k for k, n in enumerate(positions) if 1 < n <= 64 and (k or len(positions) == 1)
        ),
        "patch": patch,
    }
    return {**sizes, **given}


def _transformer(shape: tuple[int, ...], given: Sizes) -> Sizes:
    """Patches of a power of two that leave at most 256 tokens (512 of long rows); tokens not narrower than a patch."""
    axes = len(shape) - 1
    most = 256 if math.prod(shape[1:]) <= 2**15 else 512
    patch = given.get(
        "patch", next(p for p in (2**k for k in range(64)) if _tokens(shape, p) <= most)
    )
    values = shape[0] * max(1, patch) ** axes
    width = given.get(
        "width", 128 if values <= 16 else 192 if values <= 64 else 256 if values <= 256 else 384
    )
    sizes = {
        "patch": patch,
        "width": width,
        "depth": 6,
        "heads": divisor(max(1, width), max(1, width // 32)),
    }
    return {**sizes, **given}


def _tokens(shape: tuple[int, ...], patch: int) -> int:
    return math.prod(-(-side // patch) for side in shape[1:])


def _mlp(shape: tuple[int, ...], given: Sizes) -> Sizes:
    """Wider with the number of columns; sines and cosines of each coordinate where there are few."""
    columns = shape[0]
    sizes = {
        "width": 256 if columns <= 32 else 512 if columns <= 256 else 768,
        "depth": 4,
        "octaves": 4 if columns <= 32 else 2 if columns <= 128 else 0,
    }
    return {**sizes, **given}


AXES: dict[str, tuple[int, ...]] = {"unet": (3,), "transformer": (2, 3), "mlp": (1,)}
SIZES: Mapping[str, Callable[[tuple[int, ...], Sizes], Sizes]] = {
    "unet": _unet,
    "transformer": _transformer,
    "mlp": _mlp,
}
