"""What the laws of the networks run over: every registered network on shapes that are odd, non-square and tiny."""

from __future__ import annotations

import torch

from undiffuse.nn import for_shape

SMALL = {
    "unet": {"width": 16, "head_width": 8},
    "transformer": {"width": 16, "depth": 2, "heads": 2},
    "mlp": {"width": 32, "depth": 2},
}
SHAPES = {
    "unet": [(1, 1, 1), (1, 8, 8), (5, 33, 20), (3, 7, 64), (2, 1, 9), (1, 28, 28)],
    "transformer": [(1, 1), (2, 3), (1, 1000), (3, 257), (1, 1, 1), (5, 33, 20), (3, 7, 64)],
    "mlp": [(1,), (2,), (13,), (200,)],
}
CASES = [(kind, shape) for kind, shapes in SHAPES.items() for shape in shapes]


def small(kind, shape, **more):
    """A small network of this kind with both conditions, the same on every call."""
    torch.manual_seed(0)
    return for_shape(shape, kind=kind, **{"classes": 3, "vector": 2, **SMALL[kind], **more}).eval()


def shaken(kind, shape, **more):
    """The same with every parameter moved, so that no branch is at its zero start any more."""
    network = small(kind, shape, **more)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return network


def inputs(shape, rows=4):
    """x, c_noise, label (one dropped) and vector (one dropped) for `rows` rows."""
    generator = torch.Generator().manual_seed(2)
    x = torch.randn(rows, *shape, generator=generator)
    c_noise = torch.linspace(-1.5, 1.5, rows)
    label = torch.arange(rows) % 4 - 1
    vector = torch.randn(rows, 2, generator=generator)
    vector[-1] = torch.nan
    return x, c_noise, label, vector
