"""Everything that `train` can be told, name by name: what `--help` shows and what a TOML file may hold.

The names are those of the library (of `fit`, of `load`, of the networks' dimensions), written out here so that a help
page needs none of it; a test holds the two together. A field is None until somebody chooses it.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from cyclopts import Group, Parameter

from undiffuse.cli.settings import AtLeast, flag, option

Device = Literal["auto", "cpu", "cuda", "mps"]
Preset = Literal[
    "edm", "ddpm", "iddpm", "ncsn", "ssm", "vp", "subvp", "ve", "flow_matching", "vdm",
    "vae", "gan", "dae", "flow",
]  # fmt: skip
Prediction = Literal["noise", "data", "v", "posterior_mean"]
Variance = Literal["beta", "beta_tilde", "learned"]
Loss = Literal["simple", "min_snr", "vlb", "hybrid"]
Betas = Literal["linear", "cosine", "sigmoid"]
Path = Literal["linear", "cosine"]
Coupling = Literal["independent", "optimal_transport"]
Kind = Literal["unet", "transformer", "mlp"]
Observation = Literal["gaussian", "logistic", "bernoulli"]
Game = Literal["relativistic", "non_saturating"]
Precision = Literal["auto", "float32", "bfloat16"]

_FORBID = {"extra": "forbid"}
_MODEL, _TRAINING, _DATA = (Group.create_ordered(name) for name in ("Model", "Training", "Data"))


@dataclass(kw_only=True)
class ModelOptions:
    """Dimensions of the network; those left out are chosen from the data's shape."""

    __pydantic_config__ = _FORBID

    kind: Annotated[Kind | None, option("Kind of network.")] = None
    width: Annotated[int | None, AtLeast(1), option("Channels, or numbers per token or row.")] = (
        None
    )
    depth: Annotated[int | None, AtLeast(1), option("Blocks, of a transformer or perceptron.")] = (
        None
    )
    patch: Annotated[
        int | None, AtLeast(1), option("Side of the pieces folded into channels or tokens.")
    ] = None
    multipliers: Annotated[
        tuple[int, ...] | None,
        AtLeast(1),
        option("Channels of each U-Net level over width: 1,2,2."),
    ] = None
    blocks: Annotated[int | None, AtLeast(1), option("Residual blocks on each U-Net level.")] = None
    attention: Annotated[
        tuple[int, ...] | None, AtLeast(0), option("U-Net levels with attention, from 0: 1,2.")
    ] = None
    head_width: Annotated[
        int | None, AtLeast(1), option("Channels per attention head of a U-Net.")
    ] = None
    heads: Annotated[int | None, AtLeast(1), option("Attention heads of a transformer.")] = None
    octaves: Annotated[
        int | None, AtLeast(0), option("Frequencies a perceptron sees each value at.")
    ] = None
    dropout: Annotated[
        float | None, AtLeast(0), option("Share of activations dropped in training.")
    ] = None


@dataclass(kw_only=True)
class TrainingOptions:
    """How weights come out of data; what is left out is chosen by `fit`."""

    __pydantic_config__ = _FORBID

    batch: Annotated[
        int | None, AtLeast(1), option("Rows per step (by default, from the data's shape).")
    ] = None
    lr: Annotated[float | None, AtLeast(0, above=True), option("Peak learning rate (0.001).")] = (
        None
    )
    warmup: Annotated[int | None, AtLeast(0), option("Steps until the peak (100).")] = None
    decay: Annotated[
        float | None, AtLeast(0, above=True), option("Share of the run the rate falls over (0.7).")
    ] = None
    weight_decay: Annotated[float | None, AtLeast(0), option("Decay of the weights (0.01).")] = None
    clip: Annotated[
        float | None, AtLeast(0), option("Largest norm of a gradient, 0 for any (1).")
    ] = None
    accumulate: Annotated[
        int | None, AtLeast(1), option("Parts a batch is computed in, to fit memory (1).")
    ] = None
    averaging: Annotated[
        float | None, AtLeast(0), option("Width of the weights' average over the run (0.1).")
    ] = None
    compile: Annotated[
        bool | None, option("Compile the network: true or false (on CUDA only).")
    ] = None
    evaluate_every: Annotated[
        int | None, AtLeast(1), option("Steps between looks at held-out rows.")
    ] = None
    samples: Annotated[
        int | None, AtLeast(0), option("Samples in each preview picture, 0 for none (16).")
    ] = None
    log_every: Annotated[
        int | None, AtLeast(1), option("Steps between lines of log.jsonl (10).")
    ] = None


@dataclass(kw_only=True)
class DataOptions:
    """How the source is read; what is left out is chosen by `load`."""

    __pydantic_config__ = _FORBID

    size: Annotated[
        tuple[int, ...] | None,
        AtLeast(1),
        option("Longer side, or height,width, of images; length of recordings."),
    ] = None
    held_out: Annotated[
        float | None,
        AtLeast(0, above=True),
        option("Share, or number, of rows that are not trained on (0.1)."),
    ] = None


@dataclass(kw_only=True)
class TrainOptions:
    """Everything but the source."""

    __pydantic_config__ = _FORBID

    out: Annotated[str | None, option("Folder that the run is written to.")] = None
    preset: Annotated[Preset | None, option("Recipe (edm).")] = None
    prediction: Annotated[
        Prediction | None, option("What the network predicts, in ddpm (noise).")
    ] = None
    variance: Annotated[
        Variance | None, option("Of the reverse process, in ddpm (beta_tilde).")
    ] = None
    loss: Annotated[Loss | None, option("What is minimized, in ddpm (simple).")] = None
    betas: Annotated[Betas | None, option("Table of noise added per level, in ddpm (linear).")] = (
        None
    )
    levels: Annotated[
        int | None, AtLeast(1), option("Noise levels T, in ddpm, iddpm (1000) and vdm.")
    ] = None
    path: Annotated[Path | None, option("From noise to data, in flow_matching (linear).")] = None
    coupling: Annotated[
        Coupling | None, option("Of noise with rows, in flow_matching (independent).")
    ] = None
    latent: Annotated[
        int | None, AtLeast(1), option("Numbers a sample is made of, in vae and gan.")
    ] = None
    observation: Annotated[
        Observation | None, option("Law of a row given these, in vae (by the data).")
    ] = None
    sigma: Annotated[
        float | None, AtLeast(0, above=True), option("Noise level, at unit scale, in dae (0.3).")
    ] = None
    game: Annotated[Game | None, option("What the two networks play, in gan (relativistic).")] = (
        None
    )
    steps: Annotated[int | None, AtLeast(1), option("Train for this many steps.")] = None
    budget: Annotated[
        str | None, option("Or for this long: 90s, 10m, 1h30m (10m).", hyphen=True)
    ] = None
    config: Annotated[
        str | None, option("TOML file of these options; the command line goes before it.")
    ] = None
    seed: Annotated[int | None, AtLeast(0), option("Seed of everything random (0).")] = None
    device: Annotated[Device | None, option("Where to compute (auto: the fastest there is).")] = (
        None
    )
    precision: Annotated[
        Precision | None, option("Of the arithmetic (auto: bfloat16 where it gains).")
    ] = None
    checkpoint_every: Annotated[
        int | None, AtLeast(1), option("Steps between checkpoints (500).")
    ] = None
    resume: Annotated[bool | None, flag("Go on with the run in --out; needs no SOURCE.")] = None
    overwrite: Annotated[bool | None, flag("Replace the run in --out.")] = None
    init: Annotated[str | None, option("Run whose weights to start from.")] = None
    quiet: Annotated[bool | None, flag("Print nothing but errors.")] = None
    json: Annotated[
        bool | None, flag("Print the result as one JSON object on standard output.")
    ] = None
    model: Annotated[ModelOptions | None, Parameter(group=_MODEL)] = None
    training: Annotated[TrainingOptions | None, Parameter(group=_TRAINING)] = None
    data: Annotated[DataOptions | None, Parameter(group=_DATA)] = None
