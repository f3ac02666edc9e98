"""How long work hears that it shall stop: between two layers of the model, forward and backward.

Of a large model on a slow machine, one training step or one evaluation takes many seconds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from undiffuse.interfaces import Stop


class Stopped(Exception):
    """What was being done has been given up."""


@contextmanager
def hearing(model: nn.Module, stop: Stop) -> Iterator[None]:
    """Inside, every layer of the model polls `stop` before its work, and raises `Stopped`.

    Layers poll it before their part of a backward pass too.
    """

    def ask(*_: Any) -> None:
        if stop():
            raise Stopped

    def ask_backward(_module: nn.Module, _args: Any, output: Any) -> None:
        if isinstance(output, Tensor) and output.requires_grad:
            output.register_hook(ask)

    hooks = [part.register_forward_pre_hook(ask) for part in model.modules()]
    hooks += [part.register_forward_hook(ask_backward) for part in model.modules()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@contextmanager
def revocable(model: nn.Module, *, always: bool = False) -> Iterator[None]:
    """Where it is left by an exception, or always, the model's buffers are as before.

    It has no gradients then.
    """
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    done = False
    try:
        yield
        done = True
    finally:
        if always or not done:
            model.zero_grad(set_to_none=True)
            with torch.no_grad():
                for name, buffer in model.named_buffers():
                    buffer.copy_(buffers[name])
