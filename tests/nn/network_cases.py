"""What the laws of networks run over: all that is registered, on odd, non-square, tiny shapes.

Shapes go by the number of axes that a network takes, small sizes by the names of its dimensions,
and what it is called with by the names of its arguments: a new network needs nothing here.
"""

from __future__ import annotations

import inspect
import math

import torch

from undiffuse.nn import FLOWS, NETWORKS
from undiffuse.nn.adversarial import ADVERSARIAL
from undiffuse.nn.autoencoder import AUTOENCODERS
from undiffuse.nn.sized import SizedNetwork
from undiffuse.parts import arguments

SHAPES = {
    1: [(1,), (2,), (13,), (70,)],
    2: [(1, 1), (2, 3), (2, 9), (3, 257)],
    3: [(1, 1, 1), (3, 1, 1), (1, 8, 8), (2, 1, 9), (2, 5, 7), (5, 33, 20)],
}
SMALL = {"width": 16, "depth": 2, "heads": 2, "head_width": 8, "transforms": 2, "bins": 4}
ROWS, LATENT, CLASSES, VECTOR, MAPS = 4, 6, 3, 2, 2
REGISTRIES = (NETWORKS, FLOWS, ADVERSARIAL, AUTOENCODERS)


def registered():
    """Every network that has sizes, by kind, now."""
    kinds = {kind: network for registry in REGISTRIES for kind, network in registry.items()}
    return {kind: network for kind, network in kinds.items() if issubclass(network, SizedNetwork)}


def cases(registry=None):
    return [
        (kind, shape)
        for kind, network in registered().items()
        if registry is None or kind in registry
        for axes in network.axes
        for shape in SHAPES[axes]
    ]


def small(kind, shape, **more):
    """A small network of this kind with every condition that it takes, the same on every call.

    Long sides are cut into patches that do not divide them.
    """
    torch.manual_seed(0)
    network = registered()[kind]
    sizes = {**SMALL, **({"patch": 3} if len(shape) > 1 and max(shape[1:]) > 9 else {})}
    sizes = {name: value for name, value in sizes.items() if name in network.dimensions()}
    decided = {"classes": CLASSES, "vector": VECTOR, "latent": LATENT, "outputs": 5, "maps": MAPS}
    decided["given"] = 2 * shape[0]
    decided = {name: value for name, value in decided.items() if name in arguments(network)}
    for name in more.keys() & arguments(network).keys():
        (sizes if name in network.dimensions() else decided)[name] = more[name]
    return network.sized(shape, sizes, **decided).eval()


def shaken(kind, shape, dtype=torch.float64, **more):
    """The same with every parameter moved, so that no branch is at its zero start any more."""
    network = small(kind, shape, **more)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    if hasattr(network, "initialize"):  # a flow starts its normalizations on data
        x = 0.5 + 0.7 * torch.randn(64, *shape, generator=generator)
        network.initialize(x, torch.arange(64) % (CLASSES + 1) - 1)
    return network.eval().to(dtype)


def inputs(kind, shape, dtype=torch.float64, rows=ROWS):
    """What the network is called with, by name: values, and each condition, dropped for one row."""
    generator = torch.Generator().manual_seed(2)
    taken = list(inspect.signature(registered()[kind].forward).parameters)[1:]
    x = 0.5 + 0.7 * torch.randn(rows, *shape, generator=generator)
    maps = MAPS * math.prod(shape[1:]) if "maps" in arguments(registered()[kind]) else 0
    vector = torch.randn(rows, VECTOR + maps, generator=generator)
    vector[-1] = 0
    mask = torch.rand(rows, *shape, generator=generator) < 0.5
    mask[-1] = False
    known = {
        "x": x,
        "given": torch.cat([mask * torch.randn(rows, *shape, generator=generator), mask], 1),
        "z": torch.randn(rows, LATENT, generator=generator),
        "c_noise": torch.linspace(-1.5, 1.5, rows),
        "label": torch.arange(rows) % (CLASSES + 1) - 1,
        "vector": vector,
    }
    given = {name: known[name] for name in taken}
    return {name: v.to(dtype) if v.is_floating_point() else v for name, v in given.items()}


def values(inputs):
    """The one input that is not a condition."""
    return inputs["x"] if "x" in inputs else inputs["z"]


def called(network, inputs):
    """The output (B, numbers), of a flow z and the log-determinant side by side."""
    output = network(**inputs)
    parts = output if isinstance(output, tuple) else (output,)
    return torch.cat([part.reshape(len(values(inputs)), -1) for part in parts], dim=1)


def rebuildable(kind):
    """The registry that a kind is in."""
    return next(registry for registry in REGISTRIES if kind in registry)


def changed(network, name):
    """Another value for a dimension, from its default: one more."""
    default = arguments(network)[name].default
    if isinstance(default, tuple):
        return (*default, network.least.get(name, 1))
    return default + (0.25 if isinstance(default, float) else 1)


def numbers(shape):
    return math.prod(shape)
