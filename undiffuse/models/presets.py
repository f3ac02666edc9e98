"""Each paper's recipe as a function that returns a model.

    edm()                              sized to the data at `fit`
    edm(data)                          sized to the data at once
    edm(width=64)                      dimensions of the network override those chosen from the data
    ddpm(prediction="v")               a word for a part, the same on the command line: see `WORDS`
    ddpm(prediction=ud.target.v)       or the part itself

Parts and numbers that belong to a method are named in its signature; every other keyword is a
dimension of the network, but for `gaps`: the share of training rows with gaps, which every
diffusion model takes (see `models.gaps`). Every preset of several noise levels is sampled by DEIS
in 12 evaluations of the network unless asked otherwise; how many steps its paper's way takes,
`method="published"`, stands in the text.

A new preset is a function here and its line in `PRESETS`.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from torch import nn

from undiffuse.declared import checked, options_of
from undiffuse.diffusion import (
    BETAS,
    EDM,
    VARIANCES,
    VE,
    Ancestral,
    AnnealedLangevin,
    BetaTilde,
    CosineVP,
    DiscreteVP,
    EulerMaruyama,
    FittedVE,
    Fraction,
    Heun,
    Karras,
    Langevin,
    Learned,
    LearnedVP,
    Levels,
    Linear,
    LinearVP,
    LogSNR,
    Schedule,
    SubVP,
    Uniform,
    cosine_betas,
    linear_betas,
    target,
)
from undiffuse.diffusion.objectives import (
    VLB,
    AbstractObjective,
    DiscreteTimes,
    EDMWeight,
    FittedTimes,
    FlowMatching,
    IndependentCoupling,
    LikelihoodWeight,
    Objective,
    OptimalTransport,
    Simple,
    SlicedScoreMatching,
    UniformTimes,
)
from undiffuse.diffusion.objectives.coupling import Coupling
from undiffuse.diffusion.steps.moves import ReverseVariance
from undiffuse.diffusion.target import Preconditioned, Target
from undiffuse.errors import InputError, unknown
from undiffuse.models.base import GenerativeModel
from undiffuse.models.diffusion import Diffusion
from undiffuse.models.flow import Flow
from undiffuse.models.gan import GAN
from undiffuse.models.gan_losses import GAMES, Game, Relativistic
from undiffuse.models.gaps import checked_share
from undiffuse.models.losses import LOSSES, Loss, hybrid, simple
from undiffuse.models.methods import SAMPLER
from undiffuse.models.observation import OBSERVATIONS, Observation
from undiffuse.models.vae import VAE
from undiffuse.nn import FLOWS, NETWORKS
from undiffuse.nn.adversarial import Discriminator
from undiffuse.nn.autoencoder import ConvEncoder, MLPEncoder
from undiffuse.nn.sized import SizedNetwork
from undiffuse.options import ModelOptions

Part = TypeVar("Part")
Model = TypeVar("Model", Diffusion, VAE, GAN, Flow)

WORDS: Mapping[str, Mapping[str, Any]] = {
    "prediction": {
        "noise": target.noise,
        "data": target.data,
        "v": target.v,
        "posterior_mean": target.posterior_mean,
    },
    "variance": {name: variance() for name, variance in VARIANCES.items()},
    "loss": LOSSES,
    "betas": BETAS,
    "path": {"linear": Linear(), "cosine": CosineVP()},
    "coupling": {"independent": IndependentCoupling(), "optimal_transport": OptimalTransport()},
    "observation": {name: observation() for name, observation in OBSERVATIONS.items()},
    "game": {name: game() for name, game in GAMES.items()},
}
"""The words for parts: option of a preset -> word -> part; Python takes the part itself as well."""


def edm(data: Any = None, **sizes: Any) -> Diffusion:
    """Elucidated diffusion (Karras et al. 2022).

    Preconditioned network, log-normal noise levels whose mean and width the data decide, a grid
    with rho = 7. The default preset: the
    best samples for the training time, on every kind of data. Published: 18 steps of Heun's method
    for CIFAR-10.

    Args:
        data: what to size the network to, anything `ud.load` takes; None: sized at `fit`.
        sizes: dimensions of the network, such as width and depth, in place of those chosen from the
            data.

    Returns:
        An untrained diffusion model, sized to `data` if they are given.

    Raises:
        InputError: for data that cannot be read, and an option that this preset does not have.

    >>> edm(width=32).steps
    18
    """
    model = Diffusion(
        schedule=EDM(),
        target=Preconditioned(),
        objective=Objective(weighting=EDMWeight(), times=FittedTimes()),
        step=Heun(),
        grid=Karras(),
        steps=18,
        method=SAMPLER,
        network=sizes,
    )
    return _made("edm", model, data)


def ddpm(
    data: Any = None,
    *,
    prediction: Target | str = target.noise,
    variance: ReverseVariance | str = BetaTilde(),  # noqa: B008 - immutable, like all parts
    loss: Loss | str = simple,
    betas: Callable[[int], tuple[float, ...]] | str = linear_betas,
    levels: int = 1000,
    **sizes: Any,
) -> Diffusion:
    """Denoising diffusion probabilistic model (Ho et al. 2020), in all its variants.

    1000 levels, linear betas, noise prediction, L_simple, x_hat kept in the range of the data; all
    as published, where sampling is ancestral over all levels.

    Args:
        data: what to size the network to, anything `ud.load` takes; None: sized at `fit`.
        prediction: noise, data, v or posterior_mean (which the paper trains with the bound,
            loss="vlb").
        variance: of the reverse process: beta, beta_tilde or learned.
        loss: simple, min_snr, vlb or hybrid, see `undiffuse.models.losses`.
        betas: the table of noise added per level: linear, cosine or sigmoid, or a function from
            `levels` to a table.
        levels: T, at least 2.
        sizes: dimensions of the network.

    Returns:
        An untrained diffusion model, sized to `data` if they are given.

    Raises:
        InputError: for fewer levels, a loss that does not fit the variance, a prediction that is
            undefined on the schedule, and an option that this preset does not have.

    >>> ddpm(levels=100, prediction="v").schedule.levels
    100
    """
    reverse = _part("variance", variance)
    objective = _part("loss", loss)(reverse)
    table = _part("betas", betas)
    model = _chain(
        _part("prediction", prediction), reverse, objective, table, levels, levels, sizes
    )
    return _made("ddpm", model, data)


def iddpm(data: Any = None, *, levels: int = 1000, **sizes: Any) -> Diffusion:
    """Improved DDPM (Nichol and Dhariwal 2021).

    Cosine betas, a learned variance, the hybrid loss; the published way takes 250 strided steps.
    The paper has 4000 levels and finds 50 to 100 steps close to all of them; T = 1000 is as good
    for the samples.

    Args:
        data: as for `ddpm`.
        levels: T, at least 2.
        sizes: dimensions of the network.

    Returns:
        An untrained diffusion model, sized to `data` if they are given.

    Raises:
        InputError: for fewer levels, and an option that this preset does not have.

    >>> iddpm().objective.learned_variance
    True
    """
    steps, variance = min(250, levels), Learned()
    model = _chain(target.noise, variance, hybrid(variance), cosine_betas, levels, steps, sizes)
    return _made("iddpm", model, data)


def ncsn(data: Any = None, **sizes: Any) -> Diffusion:
    """Noise-conditional score network (Song and Ermon 2019; 2020).

    Variance-exploding levels computed from the data, the score with weight sigma^2. The published
    way is annealed Langevin dynamics with a final denoising step: as many steps as there are
    levels, 20 updates on each (100 in 2019, 5 in 2020), step size by Technique 4; with 5, data of
    few dimensions, and so of few levels, come out too wide by a fifth.

    Args:
        data: what to size the network to, anything `ud.load` takes; None: sized at `fit`.
        sizes: dimensions of the network, such as width and depth, in place of those chosen from the
            data.

    Returns:
        An untrained diffusion model, sized to `data` if they are given.

    Raises:
        InputError: for data that cannot be read, and an option that this preset does not have.

    >>> ncsn().schedule.levels  # until it meets the data
    232
    """
    objective = Objective(weighting=Simple(), times=DiscreteTimes())
    return _made("ncsn", _annealed(objective, sizes), data)


def ssm(data: Any = None, **sizes: Any) -> Diffusion:
    """Sliced score matching at every noise level (Song et al. 2019); otherwise as `ncsn`.

    Args:
        data: what to size the network to, anything `ud.load` takes; None: sized at `fit`.
        sizes: dimensions of the network, such as width and depth, in place of those chosen from the
            data.

    Returns:
        An untrained diffusion model, sized to `data` if they are given.

    Raises:
        InputError: for data that cannot be read, and an option that this preset does not have.

    >>> ssm().objective.projections
    1
    """
    return _made("ssm", _annealed(SlicedScoreMatching(times=DiscreteTimes()), sizes), data)


def vp(data: Any = None, **sizes: Any) -> Diffusion:
    """Variance-preserving SDE (Song et al. 2021, Eq. 11).

    beta from 0.1 to 20, noise prediction at uniform times. The published way is the reverse SDE by
    Euler-Maruyama, here in 500 steps even in log-SNR instead of 1000 even in t.

    Args:
        data: what to size the network to, anything `ud.load` takes; None: sized at `fit`.
        sizes: dimensions of the network, such as width and depth, in place of those chosen from the
            data.

    Returns:
        An untrained diffusion model, sized to `data` if they are given.

    Raises:
        InputError: for data that cannot be read, and an option that this preset does not have.

    >>> vp().steps
    500
    """
    return _made("vp", _sde(LinearVP(), target.noise, sizes), data)


def subvp(data: Any = None, **sizes: Any) -> Diffusion:
    """Sub-variance-preserving SDE (Song et al. 2021, Eq. 12), for likelihoods; otherwise as `vp`.

    Args:
        data: what to size the network to, anything `ud.load` takes; None: sized at `fit`.
        sizes: dimensions of the network, such as width and depth, in place of those chosen from the
            data.

    Returns:
        An untrained diffusion model, sized to `data` if they are given.

    Raises:
        InputError: for data that cannot be read, and an option that this preset does not have.

    >>> subvp().schedule
    SubVP(low=0.1, high=20.0, t_min=0.001)
    """
    return _made("subvp", _sde(SubVP(), target.noise, sizes), data)


def ve(data: Any = None, **sizes: Any) -> Diffusion:
    """Variance-exploding SDE (Song et al. 2021, Eq. 9).

    Score prediction with weight sigma^2 at uniform times; the published way as for `vp`. The paper
    adds a Langevin correction to each step: `sample(method="pc")`.

    Args:
        data: what to size the network to, anything `ud.load` takes; None: sized at `fit`.
        sizes: dimensions of the network, such as width and depth, in place of those chosen from the
            data.

    Returns:
        An untrained diffusion model, sized to `data` if they are given.

    Raises:
        InputError: for data that cannot be read, and an option that this preset does not have.

    >>> ve().schedule.sigma_max
    50.0
    """
    return _made("ve", _sde(VE(), target.score, sizes), data)


def flow_matching(
    data: Any = None,
    *,
    path: Schedule | str = Linear(),  # noqa: B008
    coupling: Coupling | str = IndependentCoupling(),  # noqa: B008
    **sizes: Any,
) -> Diffusion:
    """Flow matching (Lipman et al. 2023; Liu et al. 2023).

    Velocity prediction at uniform times; the published way is Heun's method on a uniform grid, 20
    steps.

    Args:
        data: as for `ddpm`.
        path: linear, straight from noise to data, or cosine (Albergo and Vanden-Eijnden 2023), or
            any schedule.
        coupling: how noise is paired with rows: independent, or optimal_transport within each
            batch.
        sizes: dimensions of the network.

    Returns:
        An untrained diffusion model, sized to `data` if they are given.

    Raises:
        InputError: for an option that this preset does not have.

    >>> flow_matching(path="cosine").steps
    20
    """
    model = Diffusion(
        schedule=_part("path", path),
        target=target.velocity,
        objective=Objective(
            weighting=FlowMatching(), times=UniformTimes(), coupling=_part("coupling", coupling)
        ),
        step=Heun(coordinate=Fraction()),
        grid=Uniform(),
        steps=20,
        method=SAMPLER,
        network=sizes,
    )
    return _made("flow_matching", model, data)


def vdm(data: Any = None, *, levels: int | None = None, **sizes: Any) -> Diffusion:
    """Variational diffusion model (Kingma et al. 2021): a learned log-SNR, trained on the bound.

    The end points of the log-SNR minimize the bound, the curve between them the variance of its
    estimate. The published way takes 250 ancestral steps, even in log-SNR.

    Args:
        data: as for `ddpm`.
        levels: T of the discrete bound, at least 2; None: the bound in continuous time.
        sizes: dimensions of the network.

    Returns:
        An untrained diffusion model, sized to `data` if they are given.

    Raises:
        InputError: for fewer levels, and an option that this preset does not have.

    >>> vdm(levels=100).schedule.levels
    100
    """
    objective: AbstractObjective = Objective(weighting=LikelihoodWeight(), times=UniformTimes())
    if levels is not None:
        objective = Objective(weighting=VLB(), times=DiscreteTimes())
        _enough(levels)
    model = Diffusion(
        schedule=LearnedVP(levels=levels),
        target=target.noise,
        objective=objective,
        step=Ancestral(),
        grid=LogSNR(),
        steps=250,
        method=SAMPLER,
        network=sizes,
    )
    return _made("vdm", model, data)


def dae(data: Any = None, *, sigma: float = 0.3, **sizes: Any) -> Diffusion:
    """Denoising autoencoder (Vincent 2011; Kim and Lee 2024, Eq. 42-44).

    A diffusion model of one noise level. Its error is the score there, (x_hat - x_t) / sigma^2
    (Alain and Bengio 2014, Theorem 1). Langevin dynamics along it draw from the data blurred by the
    noise, and x_hat of that is
    returned: 50 steps of 10 updates, each a tenth of sigma^2. No annealing: the more noise, the
    better the chain moves between modes, and the less detail is left.

    Args:
        data: as for `ddpm`.
        sigma: the noise level, in units of the data at unit scale; above 0.
        sizes: dimensions of the network.

    Returns:
        An untrained diffusion model, sized to `data` if they are given.

    Raises:
        InputError: for a sigma that is not above 0, and an option that this preset does not have.

    >>> dae().schedule.levels
    1
    """
    if not 0 < sigma < math.inf:
        raise InputError(f"sigma {sigma}: the noise level must be a number above 0.")
    model = Diffusion(
        schedule=VE(sigma_min=float(sigma), sigma_max=float(sigma), levels=1),
        target=Preconditioned(),
        objective=Objective(weighting=EDMWeight(), times=DiscreteTimes()),
        step=Langevin(size=0.1 * sigma**2, updates=10),
        grid=Uniform(),
        steps=50,
        network=sizes,
    )
    return _made("dae", model, data)


def vae(
    data: Any = None,
    *,
    observation: Observation | str | None = None,
    latent: int | None = None,
    **sizes: Any,
) -> VAE:
    """Variational autoencoder (Kingma and Welling 2014).

    One pass per sample, and a bound on the likelihood.

    Args:
        data: as for `ddpm`.
        observation: the decoder distribution p(x | z): gaussian, logistic (images of whole numbers,
            their default) or bernoulli (images of two values).
        latent: coordinates of z, at least 1; None: chosen from the size of a row.
        sizes: dimensions of the network.

    Returns:
        An untrained variational autoencoder, sized to `data` if they are given.

    Raises:
        InputError: for fewer than 1, for data that the observation is not for, and an option that
            this preset does not have.

    >>> vae(latent=2).latent
    2
    """
    chosen = None if observation is None else _part("observation", observation)
    return _made("vae", VAE(observation=chosen, latent=latent, network=sizes), data)


def gan(
    data: Any = None,
    *,
    game: Game | str = Relativistic(),  # noqa: B008
    latent: int | None = None,
    **sizes: Any,
) -> GAN:
    """Generative adversarial network (Goodfellow et al. 2014): one pass per sample, no density.

    Args:
        data: as for `ddpm`.
        game: relativistic, with gradient penalties, which is stable and keeps the modes (Huang et
            al. 2024), or non_saturating, the classical one.
        latent: how many numbers a sample is made of, at least 1; None: as many as a row has, within
            16 and 128.
        sizes: dimensions of the networks.

    Returns:
        An untrained GAN, sized to `data` if they are given.

    Raises:
        InputError: for fewer than 1, and an option that this preset does not have.

    >>> gan(latent=8).game
    Relativistic(penalty=0.03)
    """
    return _made("gan", GAN(game=_part("game", game), latent=latent, sizes=sizes), data)


def flow(data: Any = None, **sizes: Any) -> Flow:
    """Normalizing flow: exact likelihoods, one pass per sample.

    Coupling layers on several scales for images and sequences (Dinh et al. 2017; Kingma and
    Dhariwal 2018), splines for vectors and tables (Durkan et al. 2019), or with
    `kind="autoregressive"` affine maps (Papamakarios et al. 2017); these two through zuko.

    Args:
        data: what to size the network to, anything `ud.load` takes; None: sized at `fit`.
        sizes: dimensions of the network, such as width and depth, in place of those chosen from the
            data.

    Returns:
        An untrained flow, sized to `data` if they are given.

    Raises:
        InputError: for data that cannot be read, and an option that this preset does not have.

    >>> flow(width=32).drop_condition
    0.1
    """
    return _made("flow", Flow(network=sizes), data)


PRESETS: dict[str, Callable[..., GenerativeModel]] = {
    "edm": edm,
    "ddpm": ddpm,
    "iddpm": iddpm,
    "ncsn": ncsn,
    "ssm": ssm,
    "vp": vp,
    "subvp": subvp,
    "ve": ve,
    "flow_matching": flow_matching,
    "vdm": vdm,
    "vae": vae,
    "gan": gan,
    "dae": dae,
    "flow": flow,
}
"""The presets by name."""


def options(preset: str) -> tuple[str, ...]:
    """Return the options that belong to the preset's method, besides the dimensions of its network.

    >>> options("flow_matching")
    ('path', 'coupling', 'gaps')
    """
    return _options(preset, PRESETS[preset]())


def _options(preset: str, model: GenerativeModel) -> tuple[str, ...]:
    parameters = inspect.signature(PRESETS[preset]).parameters.values()
    own = tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY)
    return (*own, "gaps") if isinstance(model, Diffusion) else own


def dimensions(preset: str) -> dict[str, tuple[str, ...]]:
    """Return the dimensions that can be set, for each kind of network that the preset may use.

    >>> dimensions("edm")["mlp"]
    ('width', 'depth', 'octaves', 'dropout')
    """
    return _dimensions(PRESETS[preset]())


def _dimensions(model: GenerativeModel) -> dict[str, tuple[str, ...]]:
    return {
        kind: network.dimensions()
        for kind, network in _NETWORKS[type(model)].items()
        if issubclass(network, SizedNetwork)  # not a network of the user's own
    }


_NETWORKS: Mapping[type[GenerativeModel], Mapping[str, type[nn.Module]]] = {
    Diffusion: NETWORKS,
    Flow: FLOWS,
    VAE: {"mlp_encoder": MLPEncoder, "conv_encoder": ConvEncoder},
    GAN: {"discriminator": Discriminator},
}
_KINDS = (Diffusion, Flow)  # families whose kind of network can be chosen


def _chain(
    prediction: Target,
    variance: ReverseVariance,
    objective: AbstractObjective,
    betas: Callable[[int], tuple[float, ...]],
    levels: int,
    steps: int,
    sizes: dict[str, Any],
) -> Diffusion:
    """A discrete chain with ancestral sampling over strided levels."""
    _enough(levels)
    return Diffusion(
        schedule=DiscreteVP(betas=betas(levels)),
        target=prediction,
        objective=objective,
        step=Ancestral(variance=variance),
        grid=Levels(),
        steps=steps,
        method=SAMPLER,
        clip=True,
        network=sizes,
    )


def _annealed(objective: AbstractObjective, sizes: dict[str, Any]) -> Diffusion:
    """Variance-exploding levels fitted to the data, sampled by annealed Langevin dynamics."""
    schedule = FittedVE()
    return Diffusion(
        schedule=schedule,
        target=target.score,
        objective=objective,
        step=AnnealedLangevin(updates=20),
        grid=Levels(),
        steps=schedule.levels or 1,
        method=SAMPLER,
        network=sizes,
    )


def _sde(schedule: Schedule, prediction: Target, sizes: dict[str, Any]) -> Diffusion:
    """A continuous SDE, trained with an unweighted error of the noise at uniform times."""
    return Diffusion(
        schedule=schedule,
        target=prediction,
        objective=Objective(weighting=Simple(), times=UniformTimes()),
        step=EulerMaruyama(),
        grid=LogSNR(),
        steps=500,
        method=SAMPLER,
        network=sizes,
    )


def _enough(levels: int) -> None:
    if levels < 2:
        raise InputError(
            f"levels {levels}: a chain from noise to data has levels; ask for at least 2."
        )


def _part(option: str, value: Part | str) -> Part:
    """The part that a word stands for, or the part that was given itself."""
    if not isinstance(value, str):
        return value
    if value not in WORDS[option]:
        raise unknown(option, option, value, WORDS[option])
    return WORDS[option][value]


def _made(preset: str, model: Model, data: Any) -> Model:
    """Refuse options that do not exist, record the preset, size the model to the data if given."""
    sizes, networks = dict(model.sizes), _dimensions(model)
    if isinstance(model, Diffusion) and "gaps" in sizes:
        model.gaps, model.sizes = checked_share(sizes.pop("gaps"), model.objective), sizes
    chosen = ()
    if isinstance(model, _KINDS):
        chosen = ("kind",)
        if (kind := sizes.get("kind")) is not None:
            if kind not in networks:
                raise unknown("kind", "kind of network", str(kind), networks)
            networks = {kind: networks[kind]}
    names = {
        *_options(preset, model),
        *chosen,
        *(name for kind in networks.values() for name in kind),
    }
    for name in sizes:
        if name not in names:
            raise unknown(f"{preset}:", "option", name, names)
    own = {name: value for name, value in sizes.items() if name in options_of(ModelOptions)}
    own = checked(ModelOptions, own, called=lambda words: f"{preset}: {words[-1]}")
    model.sizes = {**model.sizes, **own}
    model.preset = preset
    if data is not None:
        model.meet(data)
    return model
