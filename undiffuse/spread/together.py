"""Who makes which range: this process, torchrun's ranks in turns, or Ray's actors.

Ranks meet after each turn, so that a refusal of one is told by all, and none waits for one that has
ended. Ray shares out ranges by itself, and gives those of an actor that died to another.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

from undiffuse.interfaces import Progress, Stop
from undiffuse.spread.ranges import RowRange
from undiffuse.training.ranks import Ranks

MakeRange = Callable[[RowRange], None]


@runtime_checkable
class Task(Protocol):
    """Plain data that say how ranges are made: it can be sent to another process."""

    def open(self) -> MakeRange:
        """Return what makes a range and writes it."""
        ...


def make_ranges(
    make: MakeRange,
    ranges: Sequence[RowRange],
    ranks: Ranks,
    *,
    progress: Progress | None = None,
    what: str = "",
    total: int = 0,
    stop: Stop = lambda: False,
) -> bool:
    """Make the ranges that are missing, in turns with the other ranks, if there are any.

    Args:
        make: makes one.
        ranges: the same for all ranks.
        ranks: this process and the others.
        progress: told how many rows are made, of `total`, after each turn.
        what: the words it is told in.
        total: all rows, those that were there before included.
        stop: polled before each turn; on any rank it stops all.

    Returns:
        Whether all are made.

    Raises:
        InputError: what `make` raised, here or on another rank; and if another has ended.
    """
    left = sum(one.count for one in ranges)
    for turn in range(0, len(ranges), ranks.size):
        if ranks.agree(0.0, stop())[1]:
            return False
        own = ranges[turn : turn + ranks.size]
        if ranks.size == 1:
            make(own[0])
        else:
            ranks.together(lambda own=own: _made(make, own[ranks.rank : ranks.rank + 1]))
        left -= sum(one.count for one in own)
        if progress and total:
            progress(total - left, total, what)
    return True


def _made(make: MakeRange, ranges: Sequence[RowRange]) -> Any:
    for one in ranges:
        make(one)
