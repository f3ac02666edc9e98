"""Functions of torch that it gives no types, with theirs."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any, cast

import torch
from torch import Tensor

_random = cast(Any, torch.random)
# bound from C++, or written, without types: to a type checker they are unknown
_torch, _special, _linalg = cast(Any, torch), cast(Any, torch.special), cast(Any, torch.linalg)


def broadcast(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Return the tensors expanded to the shape that they have together."""
    return tuple(_torch.broadcast_tensors(*tensors))


def ndtr(x: Tensor) -> Tensor:
    """Return Phi(x), the standard normal distribution function, elementwise."""
    return _special.ndtr(x)


def ndtri(p: Tensor) -> Tensor:
    """Return the x with Phi(x) = p, elementwise."""
    return _special.ndtri(p)


def log_ndtr(x: Tensor) -> Tensor:
    """Return log Phi(x), elementwise, finite far down the tail."""
    return _special.log_ndtr(x)


def eigh(a: Tensor) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues (n,), ascending, and eigenvectors (n, n) of a symmetric `a` (n, n)."""
    return _linalg.eigh(a)


def solve(a: Tensor, b: Tensor) -> Tensor:
    """Return the x (n,) with a x = b, for `a` (n, n) and `b` (n,)."""
    return _linalg.solve(a, b)


def solve_each(a: Tensor, b: Tensor) -> Tensor:
    """Return the x (B, n) with a x = b, for positive definite `a` (B, n, n) and `b` (B, n)."""
    return _torch.cholesky_solve(b[..., None], _linalg.cholesky(a))[..., 0]


def fork_rng(devices: list[torch.device]) -> AbstractContextManager[None]:
    """Return a context: what is drawn inside, on the CPU and on `devices`, is drawn again after."""
    return _random.fork_rng(devices)
