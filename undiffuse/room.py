"""Memory: what this machine has, and refusing what does not fit before it is taken."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from torch import Tensor
from torch.nn.modules import module as hooks

from undiffuse.errors import InputError


@cache
def memory() -> int:
    """Return the bytes of main memory that this process may use at most."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    limits += [one for one in resource.getrlimit(resource.RLIMIT_AS) if one > 0]
    with suppress(OSError, ValueError):  # "max", or no such file
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text()))
    return min(limits)


def check_room(size: float | int, what: str, advice: str) -> None:
    """Raise InputError if `size` bytes are more than this machine has.

    >>> check_room(1e18, "-n 1000000000000", "draw fewer")
    Traceback (most recent call last):
    undiffuse.errors.InputError: -n 1000000000000: needs 931,322,575 GiB of memory, and this ...
    """
    if size > memory():
        raise InputError(
            f"{what}: needs {_gib(size)} of memory, and this machine has {_gib(memory())}; "
            f"{advice}."
        )


def _gib(size: float | int) -> str:
    return f"{size / 2**30:,.0f} GiB" if size >= 10 * 2**30 else f"{size / 2**30:.1f} GiB"


@contextmanager
def bounded(size: int, tensors: int, problem: str) -> Iterator[None]:
    """Within, networks may be built of so many bytes in so many tensors; then an InputError.

    A tensor is counted when a module takes it in, which is before its initial values are drawn.
    """
    bytes_left, tensors_left = size, tensors

    def count(module: object, name: str, tensor: Tensor | None) -> None:
        nonlocal bytes_left, tensors_left
        bytes_left -= 0 if tensor is None else tensor.numel() * tensor.element_size()
        tensors_left -= tensor is not None
        if bytes_left < 0 or tensors_left < 0:
            raise InputError(problem)

    handles = [
        hooks.register_module_parameter_registration_hook(count),
        hooks.register_module_buffer_registration_hook(count),
    ]
    try:
        yield
    except RuntimeError as refusal:  # of the allocator, for a single tensor
        if "alloc" in str(refusal) or "overflow" in str(refusal).lower():
            raise InputError(problem) from refusal
        raise
    finally:
        for handle in handles:
            handle.remove()
