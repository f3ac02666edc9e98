"""What the laws of networks run over: all that is registered, on odd, non-square, tiny shapes.

Shapes go by the number of axes that a network takes, small sizes by the names of its dimensions,
and what it is called with by the names of its arguments: a new network needs nothing here.
"""

from __future__ import annotations

import math

import torch

from undiffuse.laws import network_laws
from undiffuse.laws.network_laws import ROWS
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
    """See `network_laws.small`."""
    return network_laws.small(registered()[kind], shape, **more)


def shaken(kind, shape, dtype=torch.float64, **more):
    """See `network_laws.shaken`."""
    return network_laws.shaken(registered()[kind], shape, dtype, **more)


def inputs(kind, shape, dtype=torch.float64, rows=ROWS):
    """See `network_laws.inputs`."""
    return network_laws.inputs(registered()[kind], shape, dtype, rows)


def values(inputs):
    """The one input that is not a condition."""
    return inputs["x"] if "x" in inputs else inputs["z"]


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
