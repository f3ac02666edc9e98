"""The families besides diffusion as plain functions, like the recipes in `presets`: the same data, the same `fit`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from undiffuse.diffusion import VE, DiscreteTimes, EDMWeight, Langevin, Objective, Uniform
from undiffuse.diffusion.target import Preconditioned
from undiffuse.errors import InputError
from undiffuse.models.base import GenerativeModel
from undiffuse.models.diffusion import Diffusion
from undiffuse.models.flow import Flow
from undiffuse.models.gan import GAN
from undiffuse.models.gan_losses import Game, Relativistic
from undiffuse.models.observation import Observation
from undiffuse.models.vae import VAE


def vae(
    data: Any = None,
    *,
    observation: Observation | None = None,
    latent: int | None = None,
    **sizes: Any,
) -> VAE:
    """Variational autoencoder (Kingma and Welling 2014): one pass per sample, and a bound on the likelihood.

    observation   what the decoder's output says of a row: `Gaussian()`, `Logistic()` (images of whole numbers, their
                  default) or `Bernoulli()` (images of two values)
    latent        numbers that a row is encoded in (chosen from its size)

    Raises InputError for fewer than 1, and on meeting data that the observation is not for.

    >>> vae(latent=2).latent
    2
    """
    model = VAE(observation=observation, latent=latent, network=sizes)
    _made("vae", model, data)
    return model


def dae(data: Any = None, *, sigma: float = 0.3, **sizes: Any) -> Diffusion:
    """Denoising autoencoder (Vincent 2011; Kim and Lee 2024, Eq. 42-44): a diffusion model of one noise level.

    Its error is the score there, (x_hat - x_t) / sigma^2 (Alain and Bengio 2014, Theorem 1). Langevin dynamics along it
    draw from the data blurred by the noise, and x_hat of that is returned: 50 steps of 10 updates, each a tenth of
    sigma^2. No annealing: the more noise, the better the chain moves between modes, and the less detail is left.

    sigma   the noise level, in units of the data at unit scale

    Raises InputError for a sigma that is not above 0.

    >>> dae().schedule.levels
    1
    """
    if not 0 < sigma < math.inf:
        raise InputError(f"sigma {sigma}: the noise level is a number above 0.")
    model = Diffusion(
        schedule=VE(sigma_min=float(sigma), sigma_max=float(sigma), levels=1),
        target=Preconditioned(),
        objective=Objective(weighting=EDMWeight(), times=DiscreteTimes()),
        step=Langevin(size=0.1 * sigma**2, updates=10),
        grid=Uniform(),
        steps=50,
        network=sizes,
    )
    _made("dae", model, data)
    return model


def gan(
    data: Any = None,
    *,
    game: Game = Relativistic(),  # noqa: B008 - immutable
    latent: int | None = None,
    **sizes: Any,
) -> GAN:
    """Generative adversarial network (Goodfellow et al. 2014), by default in the form that is stable and keeps the
    modes (Huang et al. 2024): one pass per sample, no density.

    game    `Relativistic()`, with its gradient penalties, or `NonSaturating()`, the classical one
    latent  how many numbers a sample is made of; by default as many as a row has, within 16 and 128

    >>> gan(latent=8).game
    Relativistic(penalty=0.03)
    """
    model = GAN(game=game, latent=latent, sizes=sizes)
    _made("gan", model, data)
    return model


def flow(data: Any = None, **sizes: Any) -> Flow:
    """Normalizing flow: exact likelihoods, one pass per sample. Coupling layers on several scales for images and
    sequences (Dinh et al. 2017; Kingma and Dhariwal 2018), splines for vectors and tables (Durkan et al. 2019), or
    with `kind="autoregressive"` affine maps (Papamakarios et al. 2017); these two through zuko.

    >>> flow(width=32).drop_condition
    0.1
    """
    model = Flow(network=sizes)
    _made("flow", model, data)
    return model


def _made(preset: str, model: GenerativeModel, data: Any) -> None:
    model.preset = preset
    if data is not None:
        model.meet(data)


FAMILY_PRESETS: dict[str, Callable[..., GenerativeModel]] = {
    "vae": vae,
    "gan": gan,
    "dae": dae,
    "flow": flow,
}
