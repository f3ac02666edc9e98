r"""Every option of every verb: its type, its range, its default and its line of help.

    Python    fit(model, data, lr=1e-3)   \
    words     --training.lr 1e-3           >  checked(kind, values)  ->  what was given, checked
    TOML      [training] lr = 1e-3        /

There is a dataclass for each verb. A field is `Annotated[type, range, Doc(help)]`; its default is
the one that the library uses; None means that the library decides, and the help says how. In a help
text `{default}` stands for the default. `declared` checks values against them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
)

from annotated_types import Ge, Gt, Le, Lt, Predicate
from typing_extensions import Doc

from undiffuse.declared import Also, OneOf
from undiffuse.errors import InputError

DEFAULT_BUDGET = "10m"  # of a training that is given neither steps nor a budget
DEFAULT_TIMEOUT = "30m"  # in which one process waits for another
FEWEST_SAMPLES = 16  # that an evaluation can say anything of
MOST_SAMPLES = 10_000_000  # that it takes
REPORT_SAMPLES = (
    1000,
    5000,
)  # fewest and most samples of an evaluation, unless it is told how many

Count = Annotated[int, Ge(1)]
Passes = Annotated[int, Ge(1), Le(1_000_000)]  # of a network, for each row
_METHODS = (
    "published", "heun", "dpmpp", "ddim", "ancestral", "euler",
    "dpmpp3", "dpmpp_2s", "dpmpp_sde", "unipc", "deis", "ipndm",
    "euler_maruyama", "pc", "langevin", "ode",
    "likelihood", "mean",
)  # fmt: skip
_PRESETS = (
    "edm", "ddpm", "iddpm", "ncsn", "ssm", "vp", "subvp", "ve", "flow_matching", "vdm",
    "vae", "gan", "dae", "flow",
)  # fmt: skip
_NETWORKS = ("unet", "transformer", "mlp", "coupling", "spline", "autoregressive")
Method = Annotated[str, OneOf(_METHODS, "steps")]
Preset = Annotated[str, OneOf(_PRESETS, "presets")]
NetworkKind = Annotated[str, OneOf(_NETWORKS, "networks")]


def _width(value: float) -> bool:
    """0, or a share of the run from 0.001 to 0.288."""
    return value == 0 or 1e-3 <= value <= 12**-0.5


def _handful(value: int) -> bool:
    """1, 2 or 4."""
    return value in (1, 2, 4)


@dataclass(frozen=True, kw_only=True)
class Printing:
    """What a verb prints."""

    quiet: Annotated[bool, Doc("Print nothing but errors.")] = False
    json: Annotated[bool, Doc("Print the result as one JSON object on standard output.")] = False


@dataclass(frozen=True, kw_only=True)
class Computing:
    """Where a verb computes, and from which random numbers."""

    seed: Annotated[
        int,
        Ge(0),
        Lt(2**63),
        Doc("Random seed: the same seed gives the same result (default {default})."),
    ] = 0
    device: Annotated[
        str, Doc("Device: auto, cpu, cuda, cuda:1 or mps (default {default}: the fastest).")
    ] = "auto"


@dataclass(frozen=True, kw_only=True)
class Batched(Computing):
    """The same for a verb that computes on rows in batches."""

    batch: Annotated[
        Count | None,
        Doc(
            "Rows computed at a time; affects only memory and speed (default: 1,024 rows of a "
            "table, 64 of anything else)."
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Opening(Printing):
    """A verb that opens or trains a run."""

    plugin: Annotated[
        tuple[str, ...] | None,
        Doc("Python files of parts of your own, such as presets and steps, e.g. my_parts.py."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class Writing(Opening):
    """A verb that writes to `out`."""

    overwrite: Annotated[bool, Doc("Replace what --out already holds.")] = False


_PARALLEL = Doc(
    "Several processes: ddp keeps all weights in each, fsdp shares them out (default "
    "{default}: fsdp if they take over a third of the memory)."
)
_TIMEOUT = Doc(
    "Several processes: longest wait for another one, e.g. 90s; longer than an evaluation "
    "(default {default})."
)


@dataclass(frozen=True, kw_only=True)
class PresetOptions:
    """Keywords of the presets; each preset takes some of them (see its docstring)."""

    prediction: Annotated[
        Literal["noise", "data", "v", "posterior_mean"],
        Doc("What the network predicts (ddpm; default {default})."),
    ] = "noise"
    variance: Annotated[
        Literal["beta", "beta_tilde", "learned"],
        Doc("Variance of the reverse process (ddpm; default {default})."),
    ] = "beta_tilde"
    loss: Annotated[
        Literal["simple", "min_snr", "vlb", "hybrid"],
        Doc("Training loss (ddpm; default {default})."),
    ] = "simple"
    betas: Annotated[
        Literal["linear", "cosine", "sigmoid"],
        Doc("Noise schedule (ddpm; default {default})."),
    ] = "linear"
    levels: Annotated[
        int, Doc("Noise levels T (ddpm, iddpm; default {default}; vdm: continuous unless given).")
    ] = 1000
    path: Annotated[
        Literal["linear", "cosine"],
        Doc("Path from noise to data (flow_matching; default {default})."),
    ] = "linear"
    coupling: Annotated[
        Literal["independent", "optimal_transport"],
        Doc("How noise is paired with rows (flow_matching; default {default})."),
    ] = "independent"
    latent: Annotated[
        int | None, Doc("Latent dimensions (vae, gan; default depends on the row size).")
    ] = None
    observation: Annotated[
        Literal["gaussian", "logistic", "bernoulli"] | None,
        Doc("Decoder distribution p(x given z) (vae; default depends on the data)."),
    ] = None
    sigma: Annotated[
        float, Doc("Noise level, in units of the standardized data (dae; default {default}).")
    ] = 0.3
    gaps: Annotated[
        float | None,
        Doc(
            "Share of training rows with random gaps, which the network learns to fill for "
            "sample --given; 0 = none (diffusion models; default: a quarter, of images none)."
        ),
    ] = None
    game: Annotated[
        Literal["relativistic", "non_saturating"], Doc("Adversarial loss (gan; default {default}).")
    ] = "relativistic"


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Dimensions of the network; those that are not given are chosen from the shape of the data."""

    kind: Annotated[
        NetworkKind | None,
        Doc("Network; coupling, spline and autoregressive are for the preset flow."),
    ] = None
    width: Annotated[int | None, Doc("Channels, or hidden units per token or row.")] = None
    depth: Annotated[int | None, Doc("Blocks or hidden layers (U-Nets: see --model.blocks).")] = (
        None
    )
    patch: Annotated[
        int | None, Doc("Side of the patches that are folded into channels or tokens.")
    ] = None
    multipliers: Annotated[
        tuple[int, ...] | None, Doc("Channels of each level as multiples of the width, e.g. 1,2,2.")
    ] = None
    blocks: Annotated[int | None, Doc("Residual blocks on each level.")] = None
    attention: Annotated[
        tuple[int, ...] | None, Doc("U-Net levels with attention, counted from 0, e.g. 1,2.")
    ] = None
    head_width: Annotated[int | None, Doc("Channels per attention head of a U-Net.")] = None
    heads: Annotated[int | None, Doc("Attention heads of a transformer.")] = None
    octaves: Annotated[
        int | None, Doc("Frequencies of the sines and cosines that an MLP gets of each value.")
    ] = None
    dropout: Annotated[float | None, Doc("Share of activations dropped in training.")] = None
    scales: Annotated[int | None, Doc("Scales of a coupling flow.")] = None
    transforms: Annotated[int | None, Doc("Transformations of a flow for vectors.")] = None
    bins: Annotated[int | None, Doc("Pieces of each spline of a spline flow.")] = None


@dataclass(frozen=True, kw_only=True)
class TrainingBasics(Computing):
    """The options of `fit` that a command line names without a group."""

    exclusive: ClassVar = (("steps", "budget"),)

    steps: Annotated[Count | None, Doc("Training steps; either this or --budget.")] = None
    budget: Annotated[
        str | float | None, Doc(f"Training time, e.g. 90s, 10m, 1h30m (default {DEFAULT_BUDGET}).")
    ] = None
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Doc("Arithmetic precision (default {default}: bfloat16 if faster)."),
    ] = "auto"
    checkpoint_every: Annotated[
        Count | None,
        Doc(
            "Steps between checkpoints (default: 500, and about 16 times in a run and every ten "
            "minutes, where that takes up to 5 % of the time)."
        ),
    ] = None
    parallel: Annotated[Literal["auto", "ddp", "fsdp"], _PARALLEL] = "auto"


@dataclass(frozen=True, kw_only=True)
class TrainingDetails:
    """The options of `fit` in the group `training`."""

    batch: Annotated[
        Count | None, Doc("Rows per step (default depends on the size and number of rows).")
    ] = None
    lr: Annotated[float, Gt(0), Lt(math.inf), Doc("Peak learning rate (default {default}).")] = 1e-3
    warmup: Annotated[
        int,
        Ge(0),
        Doc("Steps of learning-rate warm-up, at most 5 % of the run (default {default})."),
    ] = 100
    decay: Annotated[
        float,
        Gt(0),
        Le(1),
        Doc("Final share of the run in which the rate decays (default {default})."),
    ] = 0.7
    weight_decay: Annotated[
        float, Ge(0), Lt(math.inf), Doc("Weight decay (default {default}).")
    ] = 0.01
    clip: Annotated[
        float, Ge(0), Lt(math.inf), Doc("Largest gradient norm; 0 = no limit (default {default}).")
    ] = 1.0
    accumulate: Annotated[
        Count, Doc("Parts that a batch is computed in, to save memory (default {default}).")
    ] = 1
    averaging: Annotated[
        float,
        Predicate(_width),
        Doc("Width of the weight average as a share of the run; 0 = off (default {default})."),
    ] = 0.1
    compile: Annotated[
        bool | None, Doc("Compile the network: true or false (default: true on CUDA only).")
    ] = None
    evaluate_every: Annotated[
        Count | None,
        Doc("Steps between evaluations on held-out rows (default: about 16 in a run)."),
    ] = None
    samples: Annotated[
        int,
        Ge(0),
        Doc(
            "Samples in each preview (default {default}), fewer or none where they take over half "
            "a percent of the budget; 0 = no previews."
        ),
    ] = 16
    log_every: Annotated[Count, Doc("Steps between lines of log.jsonl (default {default}).")] = 10


@dataclass(frozen=True, kw_only=True)
class TrainingOptions(TrainingBasics, TrainingDetails):
    """All options of `training.fit`: how weights come out of data, and how often a run is saved."""


@dataclass(frozen=True, kw_only=True)
class ConditionOptions:
    """What to condition on."""

    condition: Annotated[
        tuple[str, ...] | None,
        Doc(
            "What to condition on, which sample --where sets: columns of a table, of a folder's "
            "metadata.csv or metadata.jsonl (or FILE.csv:COLUMN,COLUMN), names for an array's y; "
            "or whole arrays: masks/ with images of the same names, y.npy beside x.npy."
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """How a source is read, where it does not say so itself."""

    exclusive: ClassVar = (("drop", "keep"),)

    size: Annotated[
        Count | tuple[Count, Count] | None,
        Doc("Images: longer side, or height,width; recordings: length in samples."),
    ] = None
    axes: Annotated[
        str | None,
        Doc(
            "Axes of an array, e.g. NTC: N rows, T time, C channels, D, H, W depth, height, width "
            "(default: inferred; see undiffuse info)."
        ),
    ] = None
    labels: Annotated[
        str | None,
        Doc(
            "Classes of a folder's files: a column of its metadata.csv or metadata.jsonl, or "
            "FILE.csv:COLUMN (default: the column label, or the subfolders)."
        ),
    ] = None

    drop: Annotated[
        tuple[str, ...] | None, Doc("Tables: columns to leave out, separated by commas, e.g. a,b.")
    ] = None
    keep: Annotated[
        tuple[str, ...] | None, Doc("Tables: the only columns to keep, separated by commas.")
    ] = None
    types: Annotated[
        tuple[str, ...] | None,
        Doc(
            "Tables: what columns hold, e.g. price=money,date=%d/%m/%Y,zip=category: number, "
            "integer, money, boolean, category, date, a format of dates, time, duration, text "
            "(left out) or identifier (drawn anew) (default: inferred from the values)."
        ),
    ] = None
    rules: Annotated[
        bool | None,
        Doc(
            "Tables: keep what holds in all training rows, such as total = a + b: true or false "
            "(default true)."
        ),
    ] = None
    rule: Annotated[
        tuple[str, ...] | None,
        Doc('Tables: comparisons that every row keeps, e.g. "arrival > departure,price >= 0".'),
    ] = None

    stream: Annotated[
        bool | None,
        Doc(
            "Parquet, .npy and .tar files: read rows as they are needed, measure a sample and hold "
            "out whole files: true or false (default: if they are above a quarter of the memory)."
        ),
    ] = None

    @property
    def wanted(self) -> dict[str, str]:
        """Column -> type of `types`. Raises InputError for a pair without one."""
        pairs: list[str] = []
        for part in self.types or ():  # a comma may belong to a name, or to the format of a date
            within = pairs and ("=" not in part or "=" not in pairs[-1])
            pairs[-1:] = [f"{pairs[-1]},{part}"] if within else [*pairs[-1:], part]
        for pair in pairs:
            column, _, kind = pair.rpartition("=")
            if not column or not kind:
                raise InputError(
                    f"--data.types {pair}: give column=type, such as zip=category, separated by "
                    "commas."
                )
        return {column: kind for column, _, kind in (pair.rpartition("=") for pair in pairs)}


@dataclass(frozen=True, kw_only=True)
class ReadingOptions(SourceOptions, ConditionOptions):
    """All that decides how a source is read; a run records what was given."""

    @property
    def given(self) -> dict[str, Any]:
        """Those that are not None, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


AS_IT_IS = ReadingOptions()


@dataclass(frozen=True, kw_only=True)
class DataOptions(SourceOptions):
    """The options of `load` in the group `data`: how a source is read and split."""

    held_out: Annotated[
        Annotated[float, Gt(0), Lt(1)] | Count | None,
        Doc(
            "Share or number of rows that are held out from training (default: a tenth, at least 8 "
            "rows, which a report needs)."
        ),
    ] = None
    mirrored: Annotated[
        bool | None,
        Doc(
            "Mirror images in training, half the time: true or false (default: fewer than 500 "
            "that a classifier cannot tell from mirrored ones)."
        ),
    ] = None


_DASHBOARDS = Doc(
    "Dashboards to log to as well: tensorboard, wandb, mlflow{loggers}, e.g. tensorboard,wandb."
)


@dataclass(frozen=True, kw_only=True)
class TrainOptions(TrainingBasics, PresetOptions, ConditionOptions, Writing):
    """The options of `undiffuse train`."""

    exclusive: ClassVar = (("resume", "overwrite"), ("resume", "init"))

    out: Annotated[str, Doc("Folder to write the run to, e.g. runs/first.")]
    preset: Annotated[Preset, Doc("Method to train (default {default}).")] = "edm"
    config: Annotated[
        str | None, Doc("TOML file of options; options on the command line take precedence.")
    ] = None
    resume: Annotated[bool, Doc("Resume the run in --out; SOURCE may be left out.")] = False
    init: Annotated[
        str | None,
        Also("from"),
        Doc("What to start from: a run, hf://OWNER/NAME, or the folder of a diffusers pipeline."),
    ] = None
    log: Annotated[tuple[str, ...] | None, _DASHBOARDS] = None
    timeout: Annotated[str | float, _TIMEOUT] = DEFAULT_TIMEOUT
    model: Annotated[ModelOptions, Doc("Model")] = field(default_factory=ModelOptions)
    training: Annotated[TrainingDetails, Doc("Training")] = field(default_factory=TrainingDetails)
    data: Annotated[DataOptions, Doc("Data")] = field(default_factory=DataOptions)


@dataclass(frozen=True, kw_only=True)
class Spreading:
    """Which processes a verb shares its rows out to."""

    on: Annotated[
        Literal["ray"] | None,
        Doc("Share the rows out to a Ray cluster: that of RAY_ADDRESS, else this machine."),
    ] = None
    workers: Annotated[
        Count | None, Doc("Processes on Ray (default: one for each GPU, or each CPU).")
    ] = None


@dataclass(frozen=True, kw_only=True)
class SampleOptions(Batched, Spreading, Writing):
    """The options of `undiffuse sample`."""

    exclusive: ClassVar = (("guidance", "autoguide"), ("length", "given"), ("length", "trajectory"))

    n: Annotated[
        Count | None, Doc("Number of samples (with --given: completions of each row).")
    ] = None
    out: Annotated[
        str, Doc("File or folder to write, e.g. samples.png, .npy, .npz, .csv, .parquet, samples/.")
    ]
    steps: Annotated[Passes | None, Doc("Sampling steps (default depends on the method).")] = None
    method: Annotated[
        Method | None,
        Doc(
            "Sampling method (default: as tuned, or deis for diffusion); published is the way of "
            "the paper; likelihood and mean are for vae."
        ),
    ] = None
    label: Annotated[
        str | None, Doc("Class of all samples, by name or number (default: drawn as in the data).")
    ] = None
    where: Annotated[
        str | None,
        Doc(
            "Conditions of the samples, e.g. angle=30,colour=red, a CSV file, masks/ or y.npy; -n "
            "samples for each of its rows (default: drawn as in the data)."
        ),
    ] = None
    guidance: Annotated[
        float | None,
        Ge(0),
        Doc("Classifier-free guidance scale: 1 = off; larger = closer to the class, less varied."),
    ] = None
    guidance_from: Annotated[
        float, Ge(0), Doc("Lowest noise level sigma/alpha that is guided (default {default}).")
    ] = 0.0
    guidance_to: Annotated[
        float, Ge(0), Doc("Highest noise level sigma/alpha that is guided (default {default}).")
    ] = math.inf
    autoguide: Annotated[
        float | None,
        Ge(0),
        Doc("Autoguidance scale, against an earlier snapshot of the run: 1 = off."),
    ] = None
    given: Annotated[
        str | None,
        Doc("Rows to complete where cells are empty, values NaN or pixels transparent."),
    ] = None
    length: Annotated[
        str | None,
        Doc(
            "Length of each sample, of series longer than the rows: steps, or of recordings a time "
            "such as 30s."
        ),
    ] = None
    backend: Annotated[
        Literal["auto", "torch", "onnx"],
        Doc(
            "What computes the network: torch, onnx (onnxruntime on the CPU), or auto: what "
            "undiffuse export measured to be faster, else torch (default {default})."
        ),
    ] = "auto"
    parts: Annotated[
        str | None,
        Doc("Files in a folder of samples, e.g. npy, parquet, csv (default: as in the data)."),
    ] = None
    trajectory: Annotated[
        bool, Doc("Also write the samples after every step: OUT-trajectory.png or .npy.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class ScoringOptions(Batched):
    """The options of `evaluation.score`."""

    exclusive: ClassVar = tuple((name, "no_calibration") for name in ("alarm", "calibration"))

    method: Annotated[
        Literal["elbo", "ode", "importance"] | None,
        Doc("Bound, probability-flow density or weighted bound (default depends on the model)."),
    ] = None
    alarm: Annotated[
        float | None, Gt(0), Lt(1), Doc("Mark rows at this false-alarm rate, e.g. 0.01.")
    ] = None
    draws: Annotated[
        Passes | None, Doc("Random draws averaged per row (default depends on the data).")
    ] = None
    evaluations: Annotated[
        Passes, Doc("Network evaluations per row (elbo; default {default}).")
    ] = 64
    tolerance: Annotated[
        float, Gt(0), Doc("Error tolerance of the ODE solver (ode; default {default}).")
    ] = 3e-4
    probes: Annotated[
        int | None,
        Ge(0),
        Le(1_000_000),
        Doc("Probes of the trace; 0 = exact (ode; default 0 up to 64 values a row, else 4)."),
    ] = None
    label: Annotated[
        str | None, Doc("Score rows given this class, by name or number (default: any class).")
    ] = None
    importance: Annotated[bool, Doc("Weight the draws by importance: a closer bound (ode).")] = (
        False
    )
    dequantization: Annotated[
        Literal["uniform", "truncated_normal"] | None,
        Doc("Noise added to whole numbers (default: none if the bound needs none, else uniform)."),
    ] = None
    model_error: Annotated[
        bool,
        Doc(
            "Add a column with an estimate of the model's own error per row, from bound, density "
            "and an earlier snapshot (diffusion; three times the work; no guarantee)."
        ),
    ] = False
    calibration: Annotated[
        Count, Doc("Held-out rows to compare with, at most (default {default}).")
    ] = 1000
    no_calibration: Annotated[
        bool, Doc("Score without held-out rows: no quantiles and no alarms.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class ScoreOptions(ScoringOptions, Spreading, Writing):
    """The options of `undiffuse score`."""

    exclusive: ClassVar = (("held_out", "no_calibration"),)

    out: Annotated[
        str, Doc("File to write, e.g. scores.csv, .parquet, or a folder of Parquet files.")
    ]
    where: Annotated[
        str | None,
        Doc(
            "Score rows given these conditions, e.g. angle=30, or masks/ or y.npy, one for each "
            "row (default: each row's own, if any)."
        ),
    ] = None
    held_out: Annotated[
        str | None, Doc("Rows to compare with (default: those that the run held out).")
    ] = None


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions(Batched):
    """The options of `evaluation.evaluate`."""

    n: Annotated[
        int | None,
        Ge(FEWEST_SAMPLES),
        Le(MOST_SAMPLES),
        Doc(
            "Number of samples (default: as many as held-out rows, "
            f"from {REPORT_SAMPLES[0]} to {REPORT_SAMPLES[1]})."
        ),
    ] = None
    method: Annotated[Method | None, Doc("Sampling method (default: as for sample).")] = None
    steps: Annotated[Passes | None, Doc("Sampling steps (default depends on the method).")] = None
    rows: Annotated[
        Count, Doc("Held-out rows to compute the likelihood of, at most (default {default}).")
    ] = 500


@dataclass(frozen=True, kw_only=True)
class FeatureOptions:
    """What rows are compared by."""

    exclusive: ClassVar = (("features", "inception_weights"),)

    features: Annotated[
        str | None,
        Doc("Features to compare rows by: trained, lite0, raw or whitened (default by the data)."),
    ] = None
    inception_weights: Annotated[
        str | None, Doc("File of Inception weights: compare by Inception features, as FID does.")
    ] = None


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(EvaluationOptions, FeatureOptions, Writing):
    """The options of `undiffuse evaluate`."""

    data: Annotated[str | None, Doc("The run's data, if they have moved or came from Python.")] = (
        None
    )
    samples: Annotated[
        str | None,
        Doc("Evaluate samples that undiffuse sample wrote: a file or folder (default: draw them)."),
    ] = None
    out: Annotated[str | None, Doc("Folder to write the report to (default: the run).")] = None
    log: Annotated[tuple[str, ...] | None, _DASHBOARDS] = None
    overwrite: Annotated[bool, Doc("Write to --out even if it holds other files.")] = False


@dataclass(frozen=True, kw_only=True)
class ComparisonOptions(Batched):
    """The options of `comparison.compare`."""

    presets: Annotated[
        tuple[str, ...], Doc("Presets to compare, separated by commas (default {default}).")
    ] = ("edm", "ddpm", "ncsn", "vae", "gan", "flow")
    budget: Annotated[
        str | float, Doc("Training time of each preset, e.g. 90s, 10m, 1h30m (default {default}).")
    ] = "5m"
    n: Annotated[
        int,
        Ge(FEWEST_SAMPLES),
        Le(MOST_SAMPLES),
        Doc("Number of samples of each (default {default})."),
    ] = 1000
    evaluations: Annotated[
        Passes, Doc("Network evaluations per sample, at most (default {default}).")
    ] = 50
    rows: Annotated[
        Count, Doc("Held-out rows to compute the likelihood of, at most (default {default}).")
    ] = 500


@dataclass(frozen=True, kw_only=True)
class CompareOptions(ComparisonOptions, ConditionOptions, FeatureOptions, Writing):
    """The options of `undiffuse compare`."""

    out: Annotated[str, Doc("Folder to write the runs and the report to, e.g. compared.")]
    data: Annotated[DataOptions, Doc("Data")] = field(default_factory=DataOptions)


@dataclass(frozen=True, kw_only=True)
class TuningOptions(Computing):
    """The options of `evaluation.tune`."""

    budget: Annotated[
        str | float | None,
        Doc("Time for the search, about, e.g. 90s, 10m (default: as long as it needs)."),
    ] = None


@dataclass(frozen=True, kw_only=True)
class TuneOptions(TuningOptions, Opening):
    """The options of `undiffuse tune`."""

    data: Annotated[str | None, Doc("The run's data, if they have moved or came from Python.")] = (
        None
    )


@dataclass(frozen=True, kw_only=True)
class DistillationOptions(Computing):
    """The options of `evaluation.distill`."""

    exclusive: ClassVar = (("updates", "budget"),)

    steps: Annotated[
        int,
        Predicate(_handful),
        Doc("Evaluations of the network that a sample takes: 1, 2 or 4 (default {default})."),
    ] = 2
    budget: Annotated[
        str | float | None,
        Doc("Training time, e.g. 90s, 10m (default: half of the teacher's)."),
    ] = None
    updates: Annotated[Count | None, Doc("Training steps; either this or --budget.")] = None
    guidance: Annotated[
        float,
        Ge(0),
        Lt(math.inf),
        Doc("Scale at which the teacher is guided by classes, for good (default {default}: off)."),
    ] = 1.0
    lr: Annotated[float, Gt(0), Lt(math.inf), Doc("Peak learning rate (default {default}).")] = 7e-4
    batch: Annotated[Count | None, Doc("Rows per step (default: half of the teacher's).")] = None
    parallel: Annotated[Literal["auto", "ddp", "fsdp"], _PARALLEL] = "auto"


@dataclass(frozen=True, kw_only=True)
class DistillOptions(DistillationOptions, Writing):
    """The options of `undiffuse distill`."""

    out: Annotated[str, Doc("Folder to write the student to, e.g. runs/student.")]
    data: Annotated[str | None, Doc("The run's data, if they have moved or came from Python.")] = (
        None
    )
    timeout: Annotated[str | float, _TIMEOUT] = DEFAULT_TIMEOUT


@dataclass(frozen=True, kw_only=True)
class ExportOptions(Opening):
    """The options of `undiffuse export`."""

    out: Annotated[str, Doc("Folder to write, e.g. digits-onnx.")]
    to: Annotated[
        Literal["onnx", "diffusers"], Doc("What to write: onnx or diffusers (default {default}).")
    ] = "onnx"
    whole: Annotated[
        bool, Doc("Write the whole sampler, noise in and rows out (onnx; default: the network).")
    ] = False
    method: Annotated[
        Method | None, Doc("Deterministic sampling method (onnx; default: as for sample).")
    ] = None
    steps: Annotated[Passes | None, Doc("Sampling steps (onnx; default: as for sample).")] = None


@dataclass(frozen=True, kw_only=True)
class PushOptions(Opening):
    """The options of `undiffuse push`."""

    private: Annotated[bool, Doc("Show a model that is made to its owner alone.")] = False
    license: Annotated[
        str | None, Doc("License in the card, e.g. mit (default: left to be filled in).")
    ] = None
    message: Annotated[str | None, Doc("What the revision is called (default: its steps).")] = None


@dataclass(frozen=True, kw_only=True)
class ServeOptions(Opening):
    """The options of `undiffuse serve`."""

    port: Annotated[
        int, Ge(0), Le(65535), Doc("Port to listen on (default {default}); 0 = any that is free.")
    ] = 8000
    host: Annotated[
        str, Doc("Address to listen on (default {default}: only this machine reaches it).")
    ] = "127.0.0.1"
    data: Annotated[
        tuple[str, ...] | None,
        Doc("Folders with data that runs can be trained on, separated by commas (default: none)."),
    ] = None
    allow_host: Annotated[
        tuple[str, ...] | None,
        Doc("Further names that the server may be called by, such as that of a proxy."),
    ] = None
    no_token: Annotated[
        bool, Doc("Let every user of this machine in without a token; on loopback only.")
    ] = False
    trainings: Annotated[Count, Doc("Trainings at a time (default {default}).")] = 1
    jobs: Annotated[
        Count, Doc("Drawings, scorings and evaluations at a time (default {default}).")
    ] = 1
    queue: Annotated[
        int,
        Ge(0),
        Le(10_000),
        Doc("How many more of each may wait; others are refused for a time (default {default})."),
    ] = 16
    device: Annotated[
        str, Doc("Device: auto, cpu, cuda, cuda:1 or mps (default {default}: the fastest).")
    ] = "auto"


@dataclass(frozen=True, kw_only=True)
class InfoOptions(ConditionOptions, Opening):
    """The options of `undiffuse info`."""

    data: Annotated[DataOptions, Doc("Data")] = field(default_factory=DataOptions)


@dataclass(frozen=True, kw_only=True)
class SelfcheckOptions(Printing):
    """The options of `undiffuse selfcheck`."""
