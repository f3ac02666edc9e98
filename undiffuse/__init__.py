"""undiffuse: train generative models on your own data, sample them, and trust the numbers.

    import undiffuse as ud

    model = ud.edm("photos/").fit("photos/", budget="10m", out="runs/photos")
    images = model.sample(64, seed=0)

Names are resolved when they are first used, so that `import undiffuse` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_EXPORTS = {
    "Adaptive": "undiffuse.diffusion.likelihood.density:Adaptive",
    "AdaptiveODE": "undiffuse.diffusion:AdaptiveODE",
    "Ancestral": "undiffuse.diffusion:Ancestral",
    "AnnealedLangevin": "undiffuse.diffusion:AnnealedLangevin",
    "Autoguided": "undiffuse.diffusion:Autoguided",
    "Beta": "undiffuse.diffusion:Beta",
    "BetaTilde": "undiffuse.diffusion:BetaTilde",
    "ClassifierFree": "undiffuse.diffusion:ClassifierFree",
    "ClassifierGuided": "undiffuse.diffusion:ClassifierGuided",
    "Conditional": "undiffuse.diffusion:Conditional",
    "CosineVP": "undiffuse.diffusion:CosineVP",
    "DDIM": "undiffuse.diffusion:DDIM",
    "DEIS": "undiffuse.diffusion:DEIS",
    "DPMpp": "undiffuse.diffusion:DPMpp",
    "DPMpp2S": "undiffuse.diffusion:DPMpp2S",
    "DPMppSDE": "undiffuse.diffusion:DPMppSDE",
    "Denoiser": "undiffuse.diffusion:Denoiser",
    "Diffusion": "undiffuse.models:Diffusion",
    "DiscreteVP": "undiffuse.diffusion:DiscreteVP",
    "EDM": "undiffuse.diffusion:EDM",
    "Euler": "undiffuse.diffusion:Euler",
    "EulerMaruyama": "undiffuse.diffusion:EulerMaruyama",
    "ExplicitScoreMatching": "undiffuse.diffusion:ExplicitScoreMatching",
    "FittedVE": "undiffuse.diffusion:FittedVE",
    "Flow": "undiffuse.models:Flow",
    "Fraction": "undiffuse.diffusion:Fraction",
    "GAN": "undiffuse.models:GAN",
    "GenerativeModel": "undiffuse.models:GenerativeModel",
    "Heun": "undiffuse.diffusion:Heun",
    "Hybrid": "undiffuse.diffusion:Hybrid",
    "IPNDM": "undiffuse.diffusion:IPNDM",
    "InputError": "undiffuse.errors:InputError",
    "Interval": "undiffuse.diffusion:Interval",
    "Known": "undiffuse.diffusion:Known",
    "Langevin": "undiffuse.diffusion:Langevin",
    "Learned": "undiffuse.diffusion:Learned",
    "LearnedVP": "undiffuse.diffusion:LearnedVP",
    "Likelihood": "undiffuse.models.likelihood:Likelihood",
    "Linear": "undiffuse.diffusion:Linear",
    "LinearVP": "undiffuse.diffusion:LinearVP",
    "NonSaturating": "undiffuse.models.gan_losses:NonSaturating",
    "Objective": "undiffuse.diffusion:Objective",
    "OptimalTransport": "undiffuse.diffusion:OptimalTransport",
    "PredictorCorrector": "undiffuse.diffusion:PredictorCorrector",
    "Relativistic": "undiffuse.models.gan_losses:Relativistic",
    "Report": "undiffuse.evaluation.evaluate:Report",
    "RowNoise": "undiffuse.diffusion:RowNoise",
    "RungeKutta": "undiffuse.diffusion.likelihood.density:RungeKutta",
    "SlicedScoreMatching": "undiffuse.diffusion:SlicedScoreMatching",
    "SubVP": "undiffuse.diffusion:SubVP",
    "TruncatedNormal": "undiffuse.diffusion.likelihood.dequantize:TruncatedNormal",
    "UniPC": "undiffuse.diffusion:UniPC",
    "VE": "undiffuse.diffusion:VE",
    "VAE": "undiffuse.models:VAE",
    "VariationalBound": "undiffuse.diffusion:VariationalBound",
    "bits_per_dimension": "undiffuse.models.likelihood:bits_per_dimension",
    "compare": "undiffuse.comparison.compare:compare",
    "cosine_betas": "undiffuse.diffusion:cosine_betas",
    "dae": "undiffuse.models:dae",
    "ddpm": "undiffuse.models:ddpm",
    "edm": "undiffuse.models:edm",
    "elbo": "undiffuse.diffusion.likelihood.elbo:elbo",
    "evaluate": "undiffuse.evaluation.evaluate:evaluate",
    "fit": "undiffuse.training:fit",
    "flow": "undiffuse.models:flow",
    "flow_matching": "undiffuse.models:flow_matching",
    "gan": "undiffuse.models:gan",
    "grid": "undiffuse.diffusion.grid:",
    "iddpm": "undiffuse.models:iddpm",
    "linear_betas": "undiffuse.diffusion:linear_betas",
    "load": "undiffuse.data:load",
    "log_density": "undiffuse.diffusion.likelihood.density:log_density",
    "losses": "undiffuse.models.losses:",
    "ncsn": "undiffuse.models:ncsn",
    "objective": "undiffuse.diffusion.objectives.objective:",
    "open": "undiffuse.run:open_run",
    "observation": "undiffuse.models.observation:",
    "oracle": "undiffuse.diffusion.oracle:",
    "sample": "undiffuse.diffusion:sample",
    "sigmoid_betas": "undiffuse.diffusion:sigmoid_betas",
    "ssm": "undiffuse.models:ssm",
    "subvp": "undiffuse.models:subvp",
    "target": "undiffuse.diffusion.target:",
    "vae": "undiffuse.models:vae",
    "vdm": "undiffuse.models:vdm",
    "ve": "undiffuse.models:ve",
    "vp": "undiffuse.models:vp",
}

__all__ = sorted(_EXPORTS)


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'undiffuse' has no attribute {name!r}")
    module, _, attribute = _EXPORTS[name].partition(":")
    value = import_module(module)
    if attribute:
        value = getattr(value, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from undiffuse.comparison.compare import compare as compare
    from undiffuse.data import load as load
    from undiffuse.diffusion import DDIM as DDIM
    from undiffuse.diffusion import DEIS as DEIS
    from undiffuse.diffusion import EDM as EDM
    from undiffuse.diffusion import IPNDM as IPNDM
    from undiffuse.diffusion import VE as VE
    from undiffuse.diffusion import AdaptiveODE as AdaptiveODE
    from undiffuse.diffusion import Ancestral as Ancestral
    from undiffuse.diffusion import AnnealedLangevin as AnnealedLangevin
    from undiffuse.diffusion import Autoguided as Autoguided
    from undiffuse.diffusion import Beta as Beta
    from undiffuse.diffusion import BetaTilde as BetaTilde
    from undiffuse.diffusion import ClassifierFree as ClassifierFree
    from undiffuse.diffusion import ClassifierGuided as ClassifierGuided
    from undiffuse.diffusion import Conditional as Conditional
    from undiffuse.diffusion import CosineVP as CosineVP
    from undiffuse.diffusion import Denoiser as Denoiser
    from undiffuse.diffusion import DiscreteVP as DiscreteVP
    from undiffuse.diffusion import DPMpp as DPMpp
    from undiffuse.diffusion import DPMpp2S as DPMpp2S
    from undiffuse.diffusion import DPMppSDE as DPMppSDE
    from undiffuse.diffusion import Euler as Euler
    from undiffuse.diffusion import EulerMaruyama as EulerMaruyama
    from undiffuse.diffusion import ExplicitScoreMatching as ExplicitScoreMatching
    from undiffuse.diffusion import FittedVE as FittedVE
    from undiffuse.diffusion import Fraction as Fraction
    from undiffuse.diffusion import Heun as Heun
    from undiffuse.diffusion import Hybrid as Hybrid
    from undiffuse.diffusion import Interval as Interval
    from undiffuse.diffusion import Known as Known
    from undiffuse.diffusion import Langevin as Langevin
    from undiffuse.diffusion import Learned as Learned
    from undiffuse.diffusion import LearnedVP as LearnedVP
    from undiffuse.diffusion import Linear as Linear
    from undiffuse.diffusion import LinearVP as LinearVP
    from undiffuse.diffusion import Objective as Objective
    from undiffuse.diffusion import OptimalTransport as OptimalTransport
    from undiffuse.diffusion import PredictorCorrector as PredictorCorrector
    from undiffuse.diffusion import RowNoise as RowNoise
    from undiffuse.diffusion import SlicedScoreMatching as SlicedScoreMatching
    from undiffuse.diffusion import SubVP as SubVP
    from undiffuse.diffusion import UniPC as UniPC
    from undiffuse.diffusion import VariationalBound as VariationalBound
    from undiffuse.diffusion import cosine_betas as cosine_betas
    from undiffuse.diffusion import grid as grid
    from undiffuse.diffusion import linear_betas as linear_betas
    from undiffuse.diffusion import oracle as oracle
    from undiffuse.diffusion import sample as sample
    from undiffuse.diffusion import sigmoid_betas as sigmoid_betas
    from undiffuse.diffusion import target as target
    from undiffuse.diffusion.likelihood.density import Adaptive as Adaptive
    from undiffuse.diffusion.likelihood.density import RungeKutta as RungeKutta
    from undiffuse.diffusion.likelihood.density import log_density as log_density
    from undiffuse.diffusion.likelihood.dequantize import TruncatedNormal as TruncatedNormal
    from undiffuse.diffusion.likelihood.elbo import elbo as elbo
    from undiffuse.diffusion.objectives import objective
    from undiffuse.errors import InputError as InputError
    from undiffuse.evaluation.evaluate import Report as Report
    from undiffuse.evaluation.evaluate import evaluate as evaluate
    from undiffuse.models import GAN as GAN
    from undiffuse.models import VAE as VAE
    from undiffuse.models import Diffusion as Diffusion
    from undiffuse.models import Flow as Flow
    from undiffuse.models import GenerativeModel as GenerativeModel
    from undiffuse.models import dae as dae
    from undiffuse.models import ddpm as ddpm
    from undiffuse.models import edm as edm
    from undiffuse.models import flow as flow
    from undiffuse.models import flow_matching as flow_matching
    from undiffuse.models import gan as gan
    from undiffuse.models import iddpm as iddpm
    from undiffuse.models import losses as losses
    from undiffuse.models import ncsn as ncsn
    from undiffuse.models import observation as observation
    from undiffuse.models import ssm as ssm
    from undiffuse.models import subvp as subvp
    from undiffuse.models import vae as vae
    from undiffuse.models import vdm as vdm
    from undiffuse.models import ve as ve
    from undiffuse.models import vp as vp
    from undiffuse.models.gan_losses import NonSaturating as NonSaturating
    from undiffuse.models.gan_losses import Relativistic as Relativistic
    from undiffuse.models.likelihood import Likelihood as Likelihood
    from undiffuse.models.likelihood import bits_per_dimension as bits_per_dimension
    from undiffuse.run import open_run as open
    from undiffuse.training import fit as fit
