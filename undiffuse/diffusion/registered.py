"""What schedules, targets, objectives, grids have in common: they show what the laws run over."""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from typing import TypeVar

Shown = TypeVar("Shown", bound="Registered")


class Registered(ABC):  # noqa: B024 - the families below it are abstract
    """A part of a diffusion model that stands in a registry, by kind."""

    @classmethod
    def examples(cls: type[Shown]) -> Mapping[str, Shown]:
        """Return instances by name, "" for the plain one: what the laws of a registry run over."""
        return {"": cls()}
