"""Random sets of known entries, which models that complete rows are trained on.

A law p(x_U | x_K) for every set K of known entries is learned by one network that is told K and x_K
(Tashiro et al. 2021, "CSDI"), from sets drawn at random:

    a vector           as many entries as are known, 1 to all but one, are drawn first, then which
    anything larger    half the time the same along some of the axes, alike along the others: single
                       values, steps of time, whole channels, pixels, lines
                       else a box is unknown, or now and then all but the box: the whole of an axis,
                       the part beyond some point, or a part in between

A row of which everything or nothing is known would teach nothing new, and is hardly ever drawn.
"""

from __future__ import annotations

import inspect
import math
from typing import Any

import torch
from torch import Tensor, nn

from undiffuse.diffusion.known import as_given
from undiffuse.diffusion.objectives import AbstractObjective, IndependentCoupling
from undiffuse.errors import InputError
from undiffuse.interfaces import Transform

SHARE = 0.25  # of training rows, by default, but of images: measured (docs/measurements.md)
APPROXIMATE = (
    "this run was not trained with gaps, so completions are approximate where the rest of a row "
    "has several modes; train with --gaps 0.25 to learn their shares."
)
_SCATTERED, _INSIDE = 0.5, 0.25  # shares of rows: not in a box; known inside of the box
_LARGEST, _MOST_DIRECTIONS = 1024, 128  # numbers of a row with a covariance, and kept of that
_WHOLE = 0.4  # share of boxes that are cut along one axis alone


def checked_share(share: Any, objective: AbstractObjective) -> float | None:
    """Return `share` as a number, None for None. Raises InputError if it is no possible share."""
    if share is None:
        return None
    if isinstance(share, bool) or not isinstance(share, float | int) or not 0 <= share <= 1:
        raise InputError(f"gaps {share}: give the share of training rows with gaps, from 0 to 1.")
    if share and _paired(objective):
        raise InputError(
            f"gaps {share}: noise that is paired with whole rows tells what is unknown; give 0, or "
            "pair it independently."
        )
    return float(share)


def _paired(objective: AbstractObjective) -> bool:
    coupling = getattr(objective, "coupling", None)  # not every objective has one
    return objective.flow or not isinstance(coupling, IndependentCoupling | None)


def share_of_gaps(
    share: float | None,
    shape: tuple[int, ...],
    network: nn.Module | None,
    objective: AbstractObjective,
) -> float:
    """Return the share of training rows with gaps, that is asked for or by default.

    Args:
        share: what is asked for, None: nothing.
        shape: of a row at unit scale; for images it is none by default.
        network: the network that is there; None: one is made.
        objective: what is minimized.

    Raises:
        InputError: for a share of which the network cannot be told.
    """
    if share is None:
        able = len(shape) < 3 and (network is None or getattr(network, "given", 0))
        return SHARE if able and not _paired(objective) else 0.0
    if share and network is not None:
        takes = inspect.signature(network.forward).parameters
        if "given" not in takes or getattr(network, "given", 1) == 0:
            raise InputError(
                f"network {type(network).__name__}: it cannot be told what is known; give its "
                "forward an argument `given`, or gaps=0."
            )
    return share


def directions(shape: tuple[int, ...], gaps: float | None) -> int:
    """Return how many directions of the best linear denoiser a network begins from by default.

    A covariance says at once what known steps or pixels tell of others; a network that begins at
    zero has learned less of it after a short training (docs/measurements.md).

    Args:
        shape: of a row at unit scale.
        gaps: the share of training rows with gaps.

    >>> directions((4, 24), 0.25), directions((4, 24), 0.0), directions((9,), 0.25)
    (96, 0, 0)
    """
    size = math.prod(shape)
    return min(size, _MOST_DIRECTIONS) if gaps and len(shape) > 1 and size <= _LARGEST else 0


def draw_given(x: Tensor, share: float, transform: Transform | None) -> Tensor:
    """Return the condition `given` (B, 2 C, *S) of rows `x` (B, C, *S) with random gaps.

    Nothing is known of all but a `share` of the rows, spread evenly over the batch, as noise levels
    are. Entries of x that belong to one stored value are known together.
    """
    u = [float(one) for one in torch.rand(2)]
    count = int(share * len(x) + u[0])
    place = torch.arange(count, dtype=torch.float64) + u[1]  # below `count`; float32 could round up
    some = torch.floor(place * len(x) / max(count, 1)).long()
    shape = x.shape[1:] if transform is None else transform.row_shape
    known = draw_known(count, tuple(shape), x.device, separate=x.ndim == 2)
    mask = torch.zeros_like(x, dtype=torch.bool)
    mask[some.to(x.device)] = known if transform is None else transform.known(known)
    return as_given(x, mask)


def draw_known(
    n: int, shape: tuple[int, ...], device: torch.device, *, separate: bool = False
) -> Tensor:
    """Return masks (n, *shape), true where an entry is known.

    Args:
        n: how many.
        shape: of a stored row.
        device: where to draw them, by torch's own generator.
        separate: each entry by itself, as in a vector, whose order means nothing.
    """
    share = torch.rand(n, *[1] * len(shape), device=device)
    if separate:
        most = math.prod(shape) - 1
        rank = torch.rand(n, most + 1, device=device).argsort(1).argsort(1)
        return (rank < (1 + share.reshape(n, 1) * most).floor().clamp(max=most)).reshape(n, *shape)
    scattered = _alike(torch.rand(n, *shape, device=device)) < share
    box = torch.ones(n, *shape, dtype=torch.bool, device=device)
    cut = torch.randint(len(shape), (n, 1), device=device)  # along this axis it is never whole
    whole = _WHOLE ** (1 / max(len(shape) - 1, 1))  # of each other axis
    for axis, size in enumerate(shape):
        sides = [1] * len(shape)
        sides[axis] = size
        box = box & _part(n, size, torch.where(cut == axis, 0.0, whole)).reshape(n, *sides)
    inside, by_value = torch.rand(2, *share.shape, device=device)
    return torch.where(by_value < _SCATTERED, scattered, box == (inside < _INSIDE))


def _alike(u: Tensor) -> Tensor:
    """Repeat draws (n, *shape) along a random choice of axes, never along all, for each row."""
    n, axes = len(u), u.ndim - 1
    varies = torch.rand(n, axes, device=u.device) < 0.5
    varies[torch.arange(n, device=u.device), torch.randint(axes, (n,), device=u.device)] = True
    index = [torch.arange(n, device=u.device).reshape(-1, *[1] * axes)]
    for axis, size in enumerate(u.shape[1:]):
        sides = [1] * axes
        sides[axis] = size
        place = torch.arange(size, device=u.device) * varies[:, axis, None]
        index.append(place.reshape(n, *sides))
    return u[tuple(index)]


def _part(n: int, size: int, whole: Tensor) -> Tensor:
    """Return intervals of an axis (n, size): all of it, else from a point to an end, or in between.

    All of it with the probability `whole` (n, 1), and of the rest half and half.
    """
    u, length, begin, end = torch.rand(4, n, 1, device=whole.device)
    length = 1 + (length * max(size - 1, 1)).floor()
    start = (begin * (size + 1 - length)).floor()
    at_end = torch.where(end < 0.5, 0.0, size - length)
    start = torch.where(u < (1 + whole) / 2, at_end, start)
    place = torch.arange(size, device=whole.device)
    return (u < whole) | ((place >= start) & (place < start + length))
