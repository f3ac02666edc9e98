"""What every network asks of its constructor arguments and of what it is called with.

Each function raises `InputError` with one sentence that names the network and the argument; none returns anything.
All of them look at shapes and Python numbers only, so that `torch.compile` sees constants.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor

from undiffuse.errors import InputError


def at_least(where: str, least: int, **values: int | Sequence[int]) -> None:
    """Every number, alone or in a sequence, is an integer of at least `least`.

    >>> at_least("unet", 1, width=0)
    Traceback (most recent call last):
    undiffuse.errors.InputError: unet: width is 0; give a whole number of at least 1.
    """
    for name, value in values.items():
        for number in value if isinstance(value, Sequence) else (value,):
            if isinstance(number, bool) or not isinstance(number, int) or number < least:
                raise InputError(
                    f"{where}: {name} is {value!r}; give a whole number of at least {least}."
                )


def fraction(where: str, **values: float) -> None:
    """Every value is in [0, 1)."""
    for name, value in values.items():
        if not 0 <= value < 1:
            raise InputError(f"{where}: {name} is {value!r}; give a number from 0 to below 1.")


def positive(where: str, **values: float) -> None:
    """Every value is a finite number above 0."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise InputError(f"{where}: {name} is {value!r}; give a number above 0.")


def axes(where: str, shape: Sequence[int], allowed: dict[int, str]) -> None:
    """The data shape has one of the numbers of axes in `allowed` (number -> how it reads), none of them empty."""
    if len(shape) not in allowed:
        raise InputError(
            f"{where}: takes data of shape {' or '.join(allowed.values())}, not {tuple(shape)}; choose another network."
        )
    at_least(where, 1, shape=tuple(shape))


def call(
    where: str,
    shape: Sequence[int],
    classes: int,
    vector_size: int,
    x: Tensor,
    label: Tensor | None,
    vector: Tensor | None,
) -> None:
    """`x` has the network's data shape, and conditions are given only to a network that was built for them."""
    if tuple(x.shape[1:]) != tuple(shape):
        raise InputError(
            f"{where}: made for rows of shape {tuple(shape)}, not {tuple(x.shape[1:])}; reshape the rows."
        )
    if label is not None and not classes:
        raise InputError(
            f"{where}: made without classes; leave the label out or build it with classes=N."
        )
    if vector is not None and vector.shape[-1] != vector_size:
        raise InputError(
            f"{where}: made for condition vectors of {vector_size} numbers, not {vector.shape[-1]}; give that many."
        )


def levels(where: str, multipliers: Sequence[int], chosen: Sequence[int]) -> None:
    """There is a level, and every chosen one is one of 0 .. len(multipliers) - 1."""
    count = len(multipliers)
    if not count:
        raise InputError(f"{where}: multipliers is {tuple(multipliers)}; give at least one.")
    if any(level >= count for level in chosen):
        raise InputError(
            f"{where}: attention {tuple(chosen)} names a level that is not there; with {count} multipliers the levels "
            f"are 0 to {count - 1}."
        )
