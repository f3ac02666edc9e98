"""A network as plain data: what its constructor is given is checked, and kept under its own name.

That is what lets a run write a network down and build it again (see `undiffuse.parts`), and what
lets a user override one dimension of a network that is otherwise sized by the data. Whether an
argument is a whole number, a number or a sequence of whole numbers follows from its default.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

from torch import Tensor, nn

from undiffuse.errors import InputError, unknown
from undiffuse.parts import arguments

MOST = 2**24  # of a dimension
FORMS = {1: "(D,)", 2: "(C, L)", 3: "(C, H, W)"}
"""How the shape of a row reads, by its number of axes."""

DECIDED = ("shape", "classes", "vector", "maps", "given", "out", "span", "latent", "outputs")
"""Constructor arguments that the data and the model decide, not the user."""


Sized = TypeVar("Sized", bound="SizedNetwork")


class SizedNetwork(nn.Module, ABC):
    """A network whose constructor takes plain data, and which has a size for every shape of row.

    A subclass hands its constructor's `locals()` on; from then on each argument is an attribute.

    Args:
        given: the names and values of the constructor's arguments.
    """

    name: ClassVar[str]  # the kind, in registries and in errors
    axes: ClassVar[tuple[int, ...]]  # the numbers of axes that a row may have
    hidden: ClassVar[tuple[str, ...]] = ()  # modules whose matrices and kernels Muon trains
    least: ClassVar[Mapping[str, int]] = {}  # of whole numbers that may be below 1
    lazy: ClassVar[bool] = False  # its blocks return what computes with their weights later

    shape: tuple[int, ...]
    classes: int = 0
    vector: int = 0
    maps: int = 0
    given: int = 0
    out: int = 1

    def __init__(self, given: Mapping[str, Any]) -> None:
        super().__init__()
        own = {name: value for name, value in given.items() if name not in ("self", "__class__")}
        for name, value in self.checked(**own).items():
            setattr(self, name, value)

    @classmethod
    @abstractmethod
    def sizes(cls, shape: tuple[int, ...], given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the default dimensions for rows of `shape`, following those that are `given`."""

    @classmethod
    def ladder(cls, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Return the widths, ascending, that a run with a budget chooses among; (): the usual."""
        return ()

    @classmethod
    def dimensions(cls) -> tuple[str, ...]:
        """Return the names of the arguments that a user can set."""
        return tuple(name for name in arguments(cls) if name not in DECIDED)

    @classmethod
    def sized(
        cls: type[Sized], shape: Sequence[int], overrides: Mapping[str, Any], **decided: Any
    ) -> Sized:
        """Build the network for rows of `shape`.

        Args:
            shape: of a row, without the batch.
            overrides: dimensions set by the user; the others follow from `shape` and these.
            decided: the other arguments of the constructor.

        Raises:
            InputError: for an unknown dimension, or a value that cannot be used.
        """
        names = cls.dimensions()
        for name in overrides:
            if name not in names:
                raise unknown(f"{cls.name}:", "dimension", name, names)
        given = cls.checked(shape=shape, **overrides)
        return cls(**decided, **{**cls.sizes(given["shape"], given), **given})

    @classmethod
    def checked(cls, **given: Any) -> dict[str, Any]:
        """Return arguments of the constructor in their types: int, float, or tuple of ints.

        Raises:
            InputError: naming the network and the argument, if one cannot be used.
        """
        return {name: cls._checked(name, value) for name, value in given.items()}

    @classmethod
    def _checked(cls, name: str, value: Any) -> Any:
        where, default = f"{cls.name}: {name} is {value!r}", arguments(cls)[name].default
        if isinstance(default, float):
            low, high, wanted = (0, 1, "from 0 to below 1") if name == "dropout" else (
                math.ulp(0.0), math.inf, "above 0"
            )  # fmt: skip
            if not _number(value, (int, float)) or not low <= value < high:
                raise InputError(f"{where}; give a number {wanted}.")
            return float(value)
        least = cls.least.get(name, 0 if name in ("classes", "vector", "maps", "given") else 1)
        if name != "shape" and not isinstance(default, tuple):
            if not _number(value, int) or not least <= value <= MOST:
                most = f" and at most {MOST:,}" if _number(value, int) and value > MOST else ""
                raise InputError(f"{where}; give a whole number of at least {least}{most}.")
            return value
        numbers = tuple(value) if isinstance(value, Sequence) else (value,)
        if not all(_number(n, int) and n >= least for n in numbers) or (default and not numbers):
            raise InputError(f"{where}; give one or more whole numbers of at least {least}.")
        if name == "shape" and len(numbers) not in cls.axes:
            forms = " or ".join(FORMS[n] for n in cls.axes)
            raise InputError(
                f"{cls.name}: takes rows of shape {forms}, not {numbers}; choose another network."
            )
        return numbers

    def check_call(
        self,
        x: Tensor,
        label: Tensor | None,
        vector: Tensor | None = None,
        given: Tensor | None = None,
        *,
        latent: int = 0,
    ) -> None:
        """Raise InputError for rows, or conditions, that the network was not built for.

        Shapes and Python numbers only are looked at, so that `torch.compile` sees constants.
        `latent`, if not 0, is the number of values in a row instead of `shape`.
        """
        shape = (latent,) if latent else self.shape
        if tuple(x.shape[1:]) != shape:
            raise InputError(
                f"{self.name}: made for rows of shape {shape}, not {tuple(x.shape[1:])}; "
                "reshape the rows."
            )
        if label is not None and not self.classes:
            raise InputError(
                f"{self.name}: made without classes; leave the label out or build it with "
                "classes=N."
            )
        numbers = self.vector + self.maps * math.prod(self.shape[1:])
        if vector is not None and vector.shape[-1] != numbers:
            raise InputError(
                f"{self.name}: made for condition vectors of {numbers} numbers, "
                f"not {vector.shape[-1]}; give that many."
            )
        if given is not None and given.shape[1] != self.given:
            raise InputError(
                f"{self.name}: made for {self.given} channels of what is known, not "
                f"{given.shape[1]}; give values and mask, or leave them out."
            )


def parted(
    vector: Tensor | None, numbers: int, shape: Sequence[int]
) -> tuple[Tensor | None, Tensor | None]:
    """Return the first numbers (B, v) of condition vectors, and the rest as maps (B, M, *S).

    None for what there is not.

    >>> import torch
    >>> [part.shape for part in parted(torch.zeros(4, 2 + 3 * 35), 2, (1, 5, 7))]
    [torch.Size([4, 2]), torch.Size([4, 3, 5, 7])]
    """
    if vector is None or vector.shape[1] == numbers:
        return vector, None
    channels = (vector.shape[1] - numbers) // math.prod(shape[1:])
    return vector[:, :numbers], vector[:, numbers:].unflatten(1, (channels, *shape[1:]))


def first_that_takes(shape: Sequence[int], kinds: Iterable[type[Sized]], what: str) -> type[Sized]:
    """Return the first of `kinds` for rows of `shape`.

    Raises:
        InputError: naming `what`, if there is none.
    """
    for kind in kinds:
        if len(shape) in kind.axes:
            return kind
    raise InputError(
        f"{what}: rows of shape {tuple(shape)} are neither vectors (D,), sequences (C, L) nor "
        "images (C, H, W); reshape them to one of these."
    )


def _number(value: Any, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool)
