"""How a law says that it is broken."""

from __future__ import annotations

from typing import Any

import torch


class BrokenLaw(AssertionError):
    """A part does not keep a law; the message names the part and the law, and says what was found.

    >>> raise BrokenLaw("step ab2: a step converges at the order that it declares; observed 1.")
    Traceback (most recent call last):
    undiffuse.laws.broken.BrokenLaw: step ab2: a step converges at ...
    """


def hold(condition: object, found: str) -> None:
    """Raise BrokenLaw with what was `found`, unless the condition holds."""
    if not condition:
        raise BrokenLaw(found)


def close(found: Any, expected: Any, what: str, *, rtol: float = 0.0, atol: float = 0.0) -> None:
    """Raise BrokenLaw unless two tensors are equal up to `rtol` and `atol`; nan is not."""
    found, expected = torch.as_tensor(found).detach(), torch.as_tensor(expected).detach()
    hold(found.shape == expected.shape, f"{what}: shape {tuple(found.shape)}")
    if not torch.allclose(found, expected, rtol=rtol, atol=atol):
        error = float((found - expected).abs().nan_to_num(torch.inf).max())
        raise BrokenLaw(f"{what}: differs by {error:.3g}")
