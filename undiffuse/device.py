"""The device to compute on, by name."""

from __future__ import annotations

import torch

from undiffuse.errors import InputError, unknown


def find_device(name: str) -> torch.device:
    """Return the device called `name`, such as "cpu" or "cuda:1"; "auto" is the fastest present.

    Raises:
        InputError: there is no such device on this machine.
    """
    accelerators = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    present = [kind for kind, available in accelerators.items() if available()] + ["cpu"]
    if name == "auto":
        return torch.device(present[0])
    kind, _, index = name.partition(":")
    if kind not in ("cpu", *accelerators) or not (index == "" or index.isdigit()):
        raise unknown("device", "device", name, ("auto", "cpu", *accelerators))
    if kind not in present or (kind == "cuda" and int(index or 0) >= torch.cuda.device_count()):
        raise InputError(
            f"device {name}: there is none on this machine; use {' or '.join(present)}."
        )
    return torch.device(name)
