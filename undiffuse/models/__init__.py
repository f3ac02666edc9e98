"""What a user trains: the interface, the families, the presets."""

from collections.abc import Mapping
from typing import Any

from undiffuse import parts
from undiffuse.diffusion import PARTS
from undiffuse.errors import InputError
from undiffuse.models.base import GenerativeModel
from undiffuse.models.diffusion import Diffusion
from undiffuse.models.flow import Flow
from undiffuse.models.gan import GAN
from undiffuse.models.gan_losses import GAMES
from undiffuse.models.observation import OBSERVATIONS
from undiffuse.models.presets import PRESETS as PRESETS
from undiffuse.models.vae import VAE
from undiffuse.nn import FLOWS, FOREIGN, NETWORKS
from undiffuse.nn.adversarial import ADVERSARIAL
from undiffuse.nn.autoencoder import AUTOENCODERS

MODELS: dict[str, type[GenerativeModel]] = {
    "diffusion": Diffusion,
    "vae": VAE,
    "gan": GAN,
    "flow": Flow,
}
"""The families by name."""


MOST = 2**24
"""The largest whole number in a description of a model; networks have no greater dimension."""


def recorded_kinds() -> dict[str, type]:
    """Return kind -> class of all that a description of a model can name."""
    networks = {**NETWORKS, **FOREIGN, **AUTOENCODERS, **ADVERSARIAL, **FLOWS}
    return {**PARTS, **networks, **OBSERVATIONS, **GAMES, **MODELS}


def build_model(tree: Mapping[str, Any]) -> GenerativeModel:
    """Return the model that `GenerativeModel.config` described, its weights not yet loaded.

    Raises:
        InputError: for a kind that is in no family, or an argument that it does not take.
    """
    model = parts.rebuild(tree, recorded_kinds(), "model", MOST)
    if not isinstance(model, GenerativeModel):
        raise InputError(f"model: a {tree['kind']} is no model; there are {', '.join(MODELS)}.")
    return model
