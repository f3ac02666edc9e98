"""The laws of networks, on small ones of odd shapes with every condition that they take."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from undiffuse import parts
from undiffuse.laws.broken import close, hold
from undiffuse.nn.sized import SizedNetwork
from undiffuse.parts import arguments

SHAPES = {1: ((2,), (5,)), 2: ((2, 9),), 3: ((1, 8, 8), (2, 5, 7))}
SMALL = {"width": 16, "depth": 2, "heads": 2, "head_width": 8, "transforms": 2, "bins": 4}
ROWS, LATENT, CLASSES, VECTOR, MAPS = 4, 6, 3, 2, 2

Case = tuple[type[SizedNetwork], tuple[int, ...]]
"""A class of networks and the shape of a row."""


def small(network: type[SizedNetwork], shape: tuple[int, ...], **more: Any) -> SizedNetwork:
    """Return a small network with every condition that it takes, the same on every call.

    Long sides are cut into patches that do not divide them.

    Args:
        network: the class.
        shape: of a row.
        more: arguments of its constructor; those that it does not have are left out.
    """
    sizes: dict[str, Any] = dict(SMALL)
    if max(shape[1:], default=0) > 9:
        sizes["patch"] = 3
    sizes = {name: value for name, value in sizes.items() if name in network.dimensions()}
    decided = {"classes": CLASSES, "vector": VECTOR, "latent": LATENT, "outputs": 5, "maps": MAPS}
    decided["given"] = 2 * next(iter(shape))
    decided = {name: value for name, value in decided.items() if name in arguments(network)}
    for name in more.keys() & arguments(network).keys():
        (sizes if name in network.dimensions() else decided)[name] = more[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return network.sized(shape, sizes, **decided).eval()


def shaken(
    network: type[SizedNetwork],
    shape: tuple[int, ...],
    dtype: torch.dtype = torch.float64,
    **more: Any,
) -> SizedNetwork:
    """Return the same with every parameter moved: no branch is at its zero start any more."""
    made = small(network, shape, **more)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    if callable(initialize := getattr(made, "initialize", None)):
        x = 0.5 + 0.7 * torch.randn(64, *shape, generator=generator)  # a flow's normalizations
        initialize(x, torch.arange(64) % (CLASSES + 1) - 1)
    return made.eval().to(dtype)


def inputs(
    network: type[nn.Module],
    shape: tuple[int, ...],
    dtype: torch.dtype = torch.float64,
    rows: int = ROWS,
) -> dict[str, Tensor]:
    """Return what the network is called with, by name: values, and each condition.

    Each condition is dropped for the last row.
    """
    generator = torch.Generator().manual_seed(2)
    taken = list(inspect.signature(network.forward).parameters)[1:]
    x = 0.5 + 0.7 * torch.randn(rows, *shape, generator=generator)
    maps = MAPS * math.prod(shape[1:]) if "maps" in arguments(network) else 0
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
    given = {name: known[name] for name in taken if name in known}
    return {name: v.to(dtype) if v.is_floating_point() else v for name, v in given.items()}


def called_with(network: nn.Module, given: Mapping[str, Tensor]) -> Tensor:
    """Return the output (B, numbers), of a flow z and the log-determinant side by side."""
    output = network(**given)
    each = output if isinstance(output, tuple) else (output,)
    rows = len(next(iter(given.values())))
    return torch.cat([part.reshape(rows, -1) for part in each], dim=1)


def rows_do_not_meet(case: Case) -> None:
    """A row's output is what it is alone."""
    network, given = shaken(*case), inputs(*case)
    together = called_with(network, given)
    for i in range(ROWS):
        alone = called_with(network, {name: value[i : i + 1] for name, value in given.items()})
        close(alone[0], together[i], f"row {i} of {case[1]}", rtol=1e-9, atol=1e-9)


def every_parameter_is_moved(case: Case) -> None:
    """A gradient of a random sum of the outputs reaches every parameter."""
    network = shaken(*case, out=2)
    output = called_with(network, inputs(*case))
    (
        output * torch.randn(output.shape, generator=torch.Generator().manual_seed(3))
    ).sum().backward()
    idle = [
        name
        for name, p in network.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.any())
    ]
    hold(not idle, f"{', '.join(idle)} of {case[1]}: none")


def plain_data_rebuild_it(case: Case) -> None:
    """`parts.rebuild(parts.describe(network))` computes the same with the same weights."""
    network = shaken(*case, torch.float32, dropout=0.25, span=1000)
    registry = {"this": case[0]}
    tree = parts.describe(network, registry)
    again = parts.rebuild(tree, registry)
    hold(parts.describe(again, registry) == tree, f"another description of {case[1]}")
    again.load_state_dict(network.state_dict(), strict=True)
    given = inputs(*case, torch.float32)
    close(called_with(again.eval(), given), called_with(network, given), f"rows of {case[1]}")


def out_times_the_channels(case: Case) -> None:
    """A row (C, *S) becomes (out C, *S)."""
    shape = case[1]
    for out in (1, 2):
        found = tuple(small(*case, out=out)(**inputs(*case, torch.float32)).shape)
        hold(found == (ROWS, out * shape[0], *shape[1:]), f"{found} for rows of {shape}")


def conditions_can_be_dropped(case: Case) -> None:
    """Noise level and label change the output; a label of -1 is as none."""
    network, given = shaken(*case), inputs(*case)
    base = {**given, "label": torch.zeros(ROWS, dtype=torch.int64)}
    first = called_with(network, base)
    for name, value in (("c_noise", given["c_noise"] + 0.3), ("label", base["label"] + 1)):
        moved = (called_with(network, {**base, name: value}) - first).abs().amax(1).min()
        hold(moved > 1e-6, f"{name} makes no difference to rows of {case[1]}")
    without = called_with(network, {n: v for n, v in base.items() if n != "label"})
    dropped = called_with(network, {**base, "label": base["label"] - 1})
    close(dropped, without, f"rows of {case[1]} of label -1", rtol=1e-9, atol=1e-9)


NETWORK_LAWS: Mapping[str, Callable[[Case], None]] = {
    "out times the channels of a row come out, of its shape": out_times_the_channels,
    "a row's output depends on that row alone": rows_do_not_meet,
    "noise level and label matter, and a label of -1 is as none": conditions_can_be_dropped,
    "every parameter gets a gradient": every_parameter_is_moved,
    "its constructor's arguments rebuild it": plain_data_rebuild_it,
}
"""What a network is held to, in a sentence -> the law, of its class and a shape."""
