"""Each paper's recipe as a plain function that returns a model. Given data, the model is sized to it at once;
otherwise at `fit`. Keyword arguments are the method's own options, named in each signature, and the network's
dimensions (`width=64`, ...), which override what the data would choose.

`steps` is the number of sampling steps unless asked otherwise; a published number is said to be one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from undiffuse.diffusion import (
    EDM,
    VE,
    VLB,
    AbstractObjective,
    Ancestral,
    AnnealedLangevin,
    BetaTilde,
    DiscreteTimes,
    DiscreteVP,
    EDMWeight,
    EulerMaruyama,
    FittedVE,
    FlowMatching,
    Fraction,
    Heun,
    IndependentCoupling,
    Karras,
    Learned,
    LearnedVP,
    Levels,
    LikelihoodWeight,
    Linear,
    LinearVP,
    LogNormalTimes,
    LogSNR,
    Objective,
    Schedule,
    Simple,
    SlicedScoreMatching,
    SubVP,
    Uniform,
    UniformTimes,
    cosine_betas,
    linear_betas,
)
from undiffuse.diffusion.objectives.coupling import Coupling
from undiffuse.diffusion.steps.base import ReverseVariance
from undiffuse.diffusion.target import (
    NoiseTarget,
    Preconditioned,
    ScoreTarget,
    Target,
    VelocityTarget,
)
from undiffuse.errors import InputError
from undiffuse.models.base import GenerativeModel
from undiffuse.models.diffusion import Diffusion
from undiffuse.models.losses import Loss, hybrid, simple
from undiffuse.models.presets_families import FAMILY_PRESETS


def edm(data: Any = None, **sizes: Any) -> Diffusion:
    """Elucidated diffusion (Karras et al. 2022): preconditioned network, log-normal noise levels, Heun on rho = 7.

    The default: the best samples for the time spent, on every kind of data. 18 steps, as published for CIFAR-10.

    >>> edm(width=32).steps
    18
    """
    model = Diffusion(
        schedule=EDM(),
        target=Preconditioned(),
        objective=Objective(weighting=EDMWeight(), times=LogNormalTimes()),
        step=Heun(),
        grid=Karras(),
        steps=18,
        network=sizes,
    )
    return _made("edm", model, data)


def ddpm(
    data: Any = None,
    *,
    prediction: Target = NoiseTarget(),  # noqa: B008 - immutable, like all parts
    variance: ReverseVariance = BetaTilde(),  # noqa: B008
    loss: Loss = simple,
    betas: Callable[[int], tuple[float, ...]] = linear_betas,
    levels: int = 1000,
    **sizes: Any,
) -> Diffusion:
    """Denoising diffusion probabilistic model (Ho et al. 2020), in all its variants; as published by default: 1000
    levels, linear betas, noise prediction, L_simple, ancestral sampling over all levels, x_hat kept in the data range.

    prediction   noise, data, v or the posterior mean (which the paper trains with the bound, loss=vlb)
    variance     of the reverse process: `Beta()`, `BetaTilde()` or `Learned()`
    loss         one of `undiffuse.models.losses`: simple, min_snr, vlb, hybrid
    betas        levels -> table: `linear_betas`, `cosine_betas`, `sigmoid_betas`
    levels       T, at least 2

    Raises InputError for fewer levels, a loss that does not fit the variance, and a prediction that is undefined on
    the schedule.

    >>> ddpm(levels=100).schedule.levels
    100
    """
    return _made(
        "ddpm", _chain(prediction, variance, loss(variance), betas, levels, levels, sizes), data
    )


def iddpm(data: Any = None, *, levels: int = 1000, **sizes: Any) -> Diffusion:
    """Improved DDPM (Nichol and Dhariwal 2021): cosine betas, a learned variance, the hybrid loss; 250 strided steps.

    The paper has 4000 levels and finds 50 to 100 steps close to all of them; T = 1000 is as good for the samples.

    >>> iddpm().objective.learned_variance
    True
    """
    model = _chain(
        NoiseTarget(), Learned(), hybrid(Learned()), cosine_betas, levels, min(250, levels), sizes
    )
    return _made("iddpm", model, data)


def ncsn(data: Any = None, **sizes: Any) -> Diffusion:
    """Noise-conditional score network (Song and Ermon 2019; 2020): variance-exploding levels computed from the data,
    the score with weight sigma^2, annealed Langevin dynamics with a final denoising step.

    As many steps as there are levels, 20 updates on each (published: 100 in 2019, 5 in 2020), step size by Technique 4:
    with 5, data of few dimensions, and so of few levels, come out too wide by a fifth.

    >>> ncsn().schedule.levels  # until it meets the data
    232
    """
    return _made(
        "ncsn", _annealed(Objective(weighting=Simple(), times=DiscreteTimes()), sizes), data
    )


def ssm(data: Any = None, **sizes: Any) -> Diffusion:
    """Sliced score matching at every noise level (Song et al. 2019), otherwise as `ncsn`: no noise to regress on.

    >>> ssm().objective.projections
    1
    """
    return _made("ssm", _annealed(SlicedScoreMatching(times=DiscreteTimes()), sizes), data)


def vp(data: Any = None, **sizes: Any) -> Diffusion:
    """Variance-preserving SDE (Song et al. 2021, Eq. 11): beta from 0.1 to 20, noise prediction at uniform times.

    The reverse SDE by Euler-Maruyama, 500 steps even in log-SNR (published: 1000 steps even in t).
    """
    return _made("vp", _sde(LinearVP(), NoiseTarget(), sizes), data)


def subvp(data: Any = None, **sizes: Any) -> Diffusion:
    """Sub-variance-preserving SDE (Song et al. 2021, Eq. 12), made for likelihoods; otherwise as `vp`."""
    return _made("subvp", _sde(SubVP(), NoiseTarget(), sizes), data)


def ve(data: Any = None, **sizes: Any) -> Diffusion:
    """Variance-exploding SDE (Song et al. 2021, Eq. 9), score prediction with weight sigma^2, uniform times.

    Sampled as `vp`. The paper adds a Langevin correction to each step: `sample(method="pc")`.
    """
    return _made("ve", _sde(VE(), ScoreTarget(), sizes), data)


def flow_matching(
    data: Any = None,
    *,
    path: Schedule = Linear(),  # noqa: B008
    coupling: Coupling = IndependentCoupling(),  # noqa: B008
    **sizes: Any,
) -> Diffusion:
    """Flow matching (Lipman et al. 2023; Liu et al. 2023): the velocity, uniform times, Heun on a uniform grid.

    path       `Linear()`, straight from noise to data, or `CosineVP()` (Albergo and Vanden-Eijnden 2023)
    coupling   how noise is paired with rows: `IndependentCoupling()` or `OptimalTransport()` within each batch

    >>> from undiffuse.diffusion import CosineVP
    >>> flow_matching(path=CosineVP()).steps
    20
    """
    model = Diffusion(
        schedule=path,
        target=VelocityTarget(),
        objective=Objective(weighting=FlowMatching(), times=UniformTimes(), coupling=coupling),
        step=Heun(coordinate=Fraction()),
        grid=Uniform(),
        steps=20,
        network=sizes,
    )
    return _made("flow_matching", model, data)


def vdm(data: Any = None, *, levels: int | None = None, **sizes: Any) -> Diffusion:
    """Variational diffusion model (Kingma et al. 2021): a learned log-SNR, trained on the bound itself.

    `levels` is T of the discrete bound; without it the bound is the continuous one. The end points of the log-SNR
    minimize the bound, the curve between them the variance of its estimate. 250 ancestral steps, even in log-SNR.

    Raises InputError for fewer than 2 levels.

    >>> vdm(levels=100).schedule.levels
    100
    """
    objective: AbstractObjective = Objective(weighting=LikelihoodWeight(), times=UniformTimes())
    if levels is not None:
        objective = Objective(weighting=VLB(), times=DiscreteTimes())
        _enough(levels)
    model = Diffusion(
        schedule=LearnedVP(levels=levels),
        target=NoiseTarget(),
        objective=objective,
        step=Ancestral(),
        grid=LogSNR(),
        steps=250,
        network=sizes,
    )
    return _made("vdm", model, data)


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
        clip=True,
        network=sizes,
    )


def _annealed(objective: AbstractObjective, sizes: dict[str, Any]) -> Diffusion:
    """Variance-exploding levels fitted to the data, the score, annealed Langevin dynamics over all levels."""
    schedule = FittedVE()
    return Diffusion(
        schedule=schedule,
        target=ScoreTarget(),
        objective=objective,
        step=AnnealedLangevin(updates=20),
        grid=Levels(),
        steps=schedule.levels or 1,
        network=sizes,
    )


def _sde(schedule: Schedule, target: Target, sizes: dict[str, Any]) -> Diffusion:
    """A continuous SDE, trained with an unweighted error of the noise at uniform times."""
    return Diffusion(
        schedule=schedule,
        target=target,
        objective=Objective(weighting=Simple(), times=UniformTimes()),
        step=EulerMaruyama(),
        grid=LogSNR(),
        steps=500,
        network=sizes,
    )


def _enough(levels: int) -> None:
    if levels < 2:
        raise InputError(
            f"levels {levels}: a chain goes from noise to data in 2 levels or more; ask for at least 2."
        )


def _made(preset: str, model: Diffusion, data: Any) -> Diffusion:
    model.preset = preset
    if data is not None:
        model.meet(data)
    return model


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
    **FAMILY_PRESETS,
}
