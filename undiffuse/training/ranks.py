"""The processes that train one model together: `torchrun` starts them, each takes its rows.

    a batch of B rows, cut into parts   rank r of R computes parts r P/R to (r + 1) P/R
    gradient                            the sum over ranks of those of their shares of the mean loss
    randomness                          keyed by a part's first row in the whole batch: see there
    what a clock decides                is decided on rank 0
    files, log, previews                are written by rank 0

So two processes do what one does with two parts, to rounding. What is sent is tensors and JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar, final

import torch
from torch import Tensor
from torch import distributed as dist

from undiffuse.duration import parse_duration
from undiffuse.errors import InputError
from undiffuse.options import DEFAULT_TIMEOUT
from undiffuse.rank import launched, local

Made = TypeVar("Made")

BUCKET = 2**22  # numbers that are sent at once


@final
class Ranks:
    """This process, `rank` of `size`, and the others.

    Raises:
        InputError: in each method, if another process has ended.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which decides and writes."""
        return self.rank == 0

    def device(self, found: torch.device) -> torch.device:
        """Return the device of this process, where `found` was asked for."""
        if self.size == 1 or found.type != "cuda" or found.index is not None:
            return found
        return torch.device("cuda", local()[0] % torch.cuda.device_count())

    def add(self, tensors: Iterable[Tensor]) -> None:
        """Put the sum over all ranks in the place of each tensor."""
        if self.size == 1:
            return
        bucket: list[Tensor] = []
        for tensor in tensors:
            full = sum(one.numel() for one in bucket) + tensor.numel() > BUCKET
            if bucket and (full or bucket[0].dtype != tensor.dtype):
                _add(bucket)
                bucket = []
            bucket.append(tensor)
        if bucket:
            _add(bucket)

    def agree(self, value: float, *flags: bool) -> tuple[Any, ...]:
        """Return the value of rank 0, and for each flag whether it is set on any rank."""
        if self.size == 1:
            return value, *flags
        sent = [value if self.first else 0.0, *map(float, flags)]
        both = torch.tensor(sent, dtype=torch.float64)
        _add([both])
        value, *found = both.tolist()
        return value, *(count > 0 for count in found)

    def lead(self, tree: Any) -> Any:
        """Return the plain data of rank 0."""
        if self.size == 1:
            return tree
        sent = json.dumps(tree).encode() if self.first else b""
        length = torch.tensor([len(sent)])
        _send(length)
        room = torch.zeros(int(length), dtype=torch.uint8)
        if self.first:
            room.copy_(torch.frombuffer(bytearray(sent), dtype=torch.uint8))
        _send(room)
        return json.loads(bytes(room.numpy().tobytes()))

    def lead_tensors(self, tensors: Mapping[str, Tensor] | None) -> dict[str, Tensor]:
        """Return the tensors of rank 0, on the CPU; the others give None."""
        if self.size == 1:
            return dict(tensors or {})
        kept = {name: value.cpu().contiguous() for name, value in (tensors or {}).items()}
        about = self.lead([[n, list(v.shape), str(v.dtype)] for n, v in kept.items()])
        for name, shape, kind in about:
            if not self.first:
                kept[name] = torch.empty(shape, dtype=getattr(torch, kind.removeprefix("torch.")))
            _send(kept[name])
        return kept

    def joined_rows(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the rows of all ranks, one rank's after another's; each has a share of them."""
        if self.size == 1:
            return dict(tensors)
        found: dict[str, Tensor] = {}
        for name, value in tensors.items():
            counts = self.gathered(len(value))
            room = value.new_zeros(sum(counts), *value.shape[1:])
            first = sum(counts[: self.rank])
            room[first : first + len(value)] = value
            _add([room])
            found[name] = room
        return found

    def together(self, work: Callable[[], Made]) -> Made:
        """Return what `work` does; if it is refused on one rank, it is on all, in its words.

        Raises:
            InputError: what `work` raised, here or elsewhere.
        """
        problem, found = None, None
        try:
            found = work()
        except InputError as refused:
            if self.size == 1:
                raise
            problem = refused
        if self.size > 1:
            self.refuse(problem)
        return found  # pyright: ignore[reportReturnType]

    def refuse(self, problem: InputError | None) -> None:
        """Raise a problem of one rank on all, if there is one; alone, that of this process."""
        said = next(filter(None, self.gathered(None if problem is None else str(problem))), None)
        if said is not None:
            raise problem or InputError(said)

    def gathered(self, tree: Any) -> list[Any]:
        """Return the plain data of each rank."""
        if self.size == 1:
            return [tree]
        sent = torch.frombuffer(bytearray(json.dumps(tree).encode()), dtype=torch.uint8)
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(sent)
        _add([lengths])
        room = torch.zeros(self.size, int(lengths.max()), dtype=torch.uint8)
        room[self.rank, : len(sent)] = sent
        _add([room])
        return [json.loads(row[:n].numpy().tobytes()) for row, n in zip(room, lengths.tolist())]


ALONE = Ranks()


@contextmanager
def joined(timeout: str | float | None = None) -> Iterator[Ranks]:
    """Join the others that a launcher has started beside this process; alone without one.

    Args:
        timeout: how long to wait for another process before it counts as lost, as a duration; None:
            30 minutes. The others wait while rank 0 evaluates and saves.

    Raises:
        InputError: they cannot be reached, or it is no duration.
    """
    patience = timedelta(
        seconds=parse_duration(DEFAULT_TIMEOUT if timeout is None else timeout, "timeout")
    )
    if dist.is_available() and dist.is_initialized():  # by the caller, or further out
        yield Ranks(dist.get_rank(), dist.get_world_size())
        return
    place = launched()
    if place is None:
        yield Ranks()
        return
    with _reached():
        kind = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        rank, size = place
        dist.init_process_group(kind, rank=rank, world_size=size, timeout=patience)
    try:
        yield Ranks(rank, size)
    except RuntimeError as problem:  # of weights that are gathered as the network is called
        if not (isinstance(problem, dist.DistError) or _CONNECTION.search(str(problem))):
            raise
        raise _lost(problem) from problem
    finally:
        dist.destroy_process_group()


_CONNECTION = re.compile(r"gloo|NCCL|[Cc]onnection (closed|reset)|[Tt]imed out waiting")


@contextmanager
def _reached() -> Iterator[None]:
    """Inside, a lost connection is a sentence."""
    try:
        yield
    except (RuntimeError, ValueError) as problem:
        raise _lost(problem) from problem


def _lost(problem: Exception) -> InputError:
    return InputError(
        "a process beside this one has ended or cannot be reached; what is saved is kept: start "
        f"all again, a training with --resume ({_first_line(problem)})."
    )


def _first_line(problem: Exception) -> str:
    return next(iter(str(problem).splitlines()), type(problem).__name__)[:200]


def _add(bucket: list[Tensor]) -> None:
    with _reached():
        if len(bucket) == 1:
            dist.all_reduce(bucket[0])
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in bucket])
        dist.all_reduce(flat)
        parts = flat.split([tensor.numel() for tensor in bucket])
        for tensor, part in zip(bucket, parts):
            tensor.copy_(part.view_as(tensor))


def _send(tensor: Tensor) -> None:
    with _reached():
        dist.broadcast(tensor, 0)
