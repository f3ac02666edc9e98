"""Weights that are shared out among processes: each holds a part of the first axis of each.

FSDP2 (Zhao et al. 2023, "PyTorch FSDP"; stage 3 of Rajbhandari et al. 2020, "ZeRO"): the weights
of a block are gathered for its work, forward and backward; its gradients are added up, and each
process keeps its part. Optimizers and averages work on parts alone, Muon on matrices that are
gathered one shape at a time. What is not called as a module, such as the scales of a decoder or a
learned schedule, stays whole in each process; its gradients are added up as without shards.

What is sharded is a copy of the model. The model itself is whole: it is evaluated and sampled.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch import distributed as dist

from undiffuse.interfaces import Trainable
from undiffuse.rank import local
from undiffuse.room import memory
from undiffuse.training.ranks import Ranks

NUMBERS = 5  # a parameter, its gradient, two moments and an average
SHARE = 1 / 3  # of a device's memory, that these may take in each process


def decide(parallel: str, parameters: int, device: torch.device, ranks: Ranks) -> bool:
    """Return whether the weights are shared out.

    Args:
        parallel: "ddp", "fsdp" or "auto": if all numbers take more than a third of the memory.
        parameters: how many numbers are trained.
        device: where.
        ranks: the processes; one alone has nobody to share with.
    """
    if parallel == "auto":
        return ranks.size > 1 and 4.0 * NUMBERS * parameters > SHARE * room(device)
    return parallel == "fsdp" and dist.is_available() and dist.is_initialized()


def room(device: torch.device) -> float:
    """Return the bytes of memory that this process may use on a device."""
    if device.type == "cuda":
        return float(torch.cuda.get_device_properties(device).total_memory)
    return memory() / max(local()[1], 1)


def shard(model: Trainable, precision: str) -> Trainable:
    """Return a copy of `model` to train, whose weights are shared out among all processes.

    In bfloat16 on a GPU, weights are gathered in that type, and gradients added up in float32.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    warnings.filterwarnings("ignore", message="FSDP2-wrapped module")  # of changes in place: none
    copied = copy.deepcopy(model)
    half = precision == "bfloat16" and model_device(model).type == "cuda"
    policy = MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if half else None,
        reduce_dtype=torch.float32 if half else None,
        cast_forward_inputs=False,  # noise levels and times keep their digits
    )
    mesh = init_device_mesh(model_device(model).type, (dist.get_world_size(),))
    for player in copied.players().values():
        for root in roots(player.module):
            kept = not player.sloped  # a slope's own gradient needs the weights again
            for module in dict.fromkeys([*blocks(root), root]):
                fully_shard(module, mesh=mesh, mp_policy=policy, reshard_after_forward=kept)
            for module in sharded_modules(root):  # a gradient is of a share of the mean: a sum
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
                module.set_reshard_after_backward(kept)
    return copied


def model_device(model: nn.Module) -> torch.device:
    """Return where the weights are."""
    return next(model.parameters()).device


def roots(module: nn.Module) -> list[nn.Module]:
    """Return the outermost modules with blocks that are called, not those used in parts."""
    if type(module).forward is not nn.Module.forward:
        return [module] if any(True for _ in lists(module)) else []
    return [one for child in module.children() for one in roots(child)]


def blocks(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost modules with weights in the lists of a network that work when called."""
    for one in () if getattr(network, "lazy", False) else lists(network):
        if any(True for _ in one.parameters()):
            yield one


def lists(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the outermost modules in the lists within a module."""
    for child in module.children():
        within = isinstance(module, nn.ModuleList) and not isinstance(child, nn.ModuleList)
        yield from [child] if within else lists(child)


def sharded_modules(module: nn.Module) -> Iterator[Any]:
    """Yield the modules whose weights are gathered together."""
    for one in module.modules():
        if hasattr(one, "set_gradient_divide_factor"):
            yield one


def reshard(module: nn.Module) -> None:
    """Free the weights that were gathered: a step changes them."""
    for one in sharded_modules(module):
        one.reshard()


def is_shared(parameter: Tensor) -> bool:
    """Return whether other processes hold other parts of it."""
    return hasattr(parameter, "full_tensor")


def here(parameter: Tensor) -> Tensor:
    """Return the part of a parameter that is here, in the same memory; without shards, all."""
    if not is_shared(parameter):
        return parameter
    with torch.no_grad():
        return cast(Any, parameter).to_local().detach()


def part(whole: Tensor, parameter: Tensor) -> Tensor:
    """Return the part that is here of something shaped like a whole parameter."""
    if not is_shared(parameter):
        return whole
    mesh = cast(Any, parameter).device_mesh
    parts, rank = whole.chunk(mesh.size()), mesh.get_local_rank()
    return parts[rank] if rank < len(parts) else whole[:0]


def whole(own: Tensor, parameter: Tensor) -> Tensor:
    """Return all parts of something shaped like a parameter, put together in each process."""
    if not is_shared(parameter) or own.ndim == 0:
        return own
    from torch.distributed.tensor import DTensor

    like = cast(Any, parameter)
    about: Mapping[str, Any] = {"shape": like.shape, "stride": like.stride(), "run_check": False}
    return DTensor.from_local(own, like.device_mesh, like.placements, **about).full_tensor()
