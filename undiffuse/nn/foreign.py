"""Networks of other libraries, which are imported when one is built, and their registry.

    FOREIGN   kind -> class, called F(x, c_noise, label) as those of NETWORKS are

A run records the configuration that the other library builds the network from, so that opening it
builds the same one.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, final

import torch
from torch import Tensor, nn

from undiffuse.errors import InputError


@final
class DiffusersUNet(nn.Module):
    """diffusers' UNet2DModel as the network of a denoiser: F(x, c_noise, label).

    Args:
        config: what UNet2DModel takes, as its config.json has it.

    Raises:
        InputError: diffusers is not installed, or does not build a network from this.
    """

    def __init__(self, *, config: Mapping[str, Any]) -> None:
        super().__init__()
        self.config: dict[str, Any] = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in config.items()
            if not name.startswith("_")
        }
        classes = self.config.get("num_class_embeds") or 0
        if not isinstance(classes, int) or classes < 0:
            raise InputError(
                f"UNet2DModel: its num_class_embeds is {classes!r:.20}; a whole number is needed."
            )
        self.classes = classes
        model = need_diffusers("a network of diffusers").UNet2DModel
        try:
            self.unet = model(**self.config)
        except InputError:
            raise
        except Exception as problem:  # whatever it makes of numbers that it cannot use
            raise InputError(
                f"UNet2DModel: diffusers cannot build it from this configuration ({problem}); "
                "restore its config.json."
            ) from problem

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape (C, H, W) of a row. Raises InputError if the configuration does not say it."""
        size = self.config.get("sample_size")
        if not size:
            raise InputError(
                "UNet2DModel: its configuration has no sample_size, so the size of an image is not "
                "known; add it to config.json."
            )
        sides = size if isinstance(size, list) else [size, size]
        if len(sides) != 2 or not all(isinstance(one, int) and one > 0 for one in sides):
            raise InputError(
                f"UNet2DModel: its sample_size is {size!r:.30}; a whole number, or two, are needed."
            )
        height, width = sides
        return int(self.config.get("in_channels", 3)), int(height), int(width)

    def forward(self, x: Tensor, c_noise: Tensor, label: Tensor | None = None) -> Tensor:
        """Return what UNet2DModel gives for x (B, C, H, W), timesteps (B,) and classes (B,).

        Raises:
            InputError: for a hidden class: the network has none for rows whose class is not known.
        """
        if label is None or not self.classes:
            return self.unet(x, c_noise, return_dict=False)[0]
        if not torch.compiler.is_compiling() and bool((label < 0).any()):
            raise InputError(
                "label: this network was never trained without a class; say which class."
            )
        return self.unet(x, c_noise, class_labels=label, return_dict=False)[0]


FOREIGN: dict[str, type[nn.Module]] = {"diffusers_unet": DiffusersUNet}
"""The networks of other libraries by kind."""


def need_diffusers(what: str) -> Any:
    """Return the module diffusers. Raises InputError if it is not installed; `what` needs it."""
    try:
        return import_module("diffusers")
    except ImportError as problem:
        raise InputError(
            f"{what} needs diffusers; pip install 'undiffuse[diffusers]'."
        ) from problem
