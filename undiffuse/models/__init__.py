"""What a user trains: the interface, the families, the presets."""

from collections.abc import Mapping
from typing import Any

from undiffuse import parts
from undiffuse.diffusion import FAMILIES
from undiffuse.models.base import GenerativeModel, Player, Source, Transform
from undiffuse.models.diffusion import Diffusion
from undiffuse.models.methods import METHODS
from undiffuse.models.presets import PRESETS, ddpm, edm, flow_matching, iddpm, ncsn, ssm, subvp, vdm, ve, vp
from undiffuse.nn import NETWORKS

MODELS: dict[str, type[GenerativeModel]] = {"diffusion": Diffusion}


def build(tree: Mapping[str, Any]) -> GenerativeModel:
    """The model that `GenerativeModel.config` wrote down, its weights not yet loaded. Raises InputError."""
    return parts.build(tree, {**FAMILIES, **NETWORKS, **MODELS}, "model")
