"""Identifiers: columns that name the rows. Samples get new values.

    whole numbers   those that follow the largest, in steps of the least difference
    counters        "ID00017": the same, after one text and before another
    UUIDs           random ones, of version 4: 122 bits

A value is a function of the number of the sample among those presented together, and occurs in no
training row: by construction if it counts, else but for a chance of 2**-122.
"""

from __future__ import annotations

import hashlib
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from undiffuse.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa


@final
@dataclass(frozen=True, kw_only=True)
class Identifier:
    """How new values of such a column are made.

    Args:
        name: the column's name.
        place: its position among the columns that are presented.
        arrow_type: the name of its Arrow type.
        before: the text before each number.
        after: the text after each number.
        digits: how many digits each number has at least, with zeros before.
        first: the first new number.
        unit: the step to the next one.
        salt: what new UUIDs are made from; "" if the column counts.
        upper: whether UUIDs are written in upper case.
    """

    name: str
    place: int = 0
    arrow_type: str
    before: str = ""
    after: str = ""
    digits: int = 1
    first: int = 0
    unit: int = 1
    salt: str = ""
    upper: bool = False

    def values(self, count: int, start: int = 0) -> pa.Array:
        """Return new values for so many samples, the first of number `start`.

        Raises:
            InputError: where the type has no more.
        """
        import pyarrow as pa

        own = pa.type_for_alias(self.arrow_type)
        if self.salt:
            texts = [self._uuid(number) for number in range(start, start + count)]
            return pa.array(texts, own)
        begin = self.first + start * self.unit
        numbers = range(begin, begin + count * self.unit, self.unit)
        if self.arrow_type.endswith("string"):
            return pa.array([f"{self.before}{n:0{self.digits}}{self.after}" for n in numbers], own)
        try:
            return pa.array(numbers, own)
        except (pa.ArrowInvalid, OverflowError) as problem:
            raise InputError(
                f'column "{self.name}": {own} has no {start + count:,} values after those in '
                f"training; draw fewer samples, or train with --data.drop {self.name}."
            ) from problem

    def _uuid(self, number: int) -> str:
        digest = hashlib.sha256(f"{self.salt} {number}".encode()).digest()
        text = str(uuid.UUID(bytes=digest[:16], version=4))
        return text.upper() if self.upper else text

    @property
    def meaning(self) -> str:
        """What new values are, for people."""
        return "random UUIDs" if self.salt else f"those from {self.values(1)[0]} on"
