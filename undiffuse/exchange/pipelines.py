"""diffusers' pipelines as models, and runs as pipelines.

    unet/config.json        -> the network, built by diffusers itself
    unet/*.safetensors      -> its weights; pickled ones are refused
    scheduler_config.json   -> schedule, target, grid and step; method="published" is its loop

A scheduler counts the first level, t = 1/T, as timestep 0. Its images are x = 2 k / 255 - 1.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from undiffuse.atomic import atomic_folder
from undiffuse.called import called
from undiffuse.data.arrays.form import ArrayForm
from undiffuse.data.arrays.transform import ArrayTransform
from undiffuse.data.images.form import ImageForm
from undiffuse.data.kind import KINDS
from undiffuse.diffusion import (
    DDIM,
    EDM,
    Ancestral,
    Beta,
    BetaTilde,
    DiscreteVP,
    Grid,
    Karras,
    Level,
    Levels,
    LogSigma,
    Schedule,
    Step,
    Strided,
    target,
)
from undiffuse.diffusion.denoiser import Condition
from undiffuse.diffusion.objectives import AbstractObjective, Objective
from undiffuse.diffusion.objectives.times import DiscreteTimes, LogNormalTimes
from undiffuse.diffusion.objectives.weighting import EDMWeight, Simple
from undiffuse.diffusion.target import Preconditioned, Target
from undiffuse.errors import InputError, unknown
from undiffuse.models import Diffusion, GenerativeModel
from undiffuse.models.methods import SAMPLER
from undiffuse.nn.foreign import DiffusersUNet, need_diffusers
from undiffuse.reading import read_json, said
from undiffuse.remote import RUN_FILES, fetch
from undiffuse.room import bounded
from undiffuse.run import SLACK, Run
from undiffuse.training.checkpoint import Record, file_digest, load_tensors
from undiffuse.training.state import load_weights

INDEX = "model_index.json"
FILES = (
    INDEX, "*config.json", "*diffusion_pytorch_model*.safetensors", "*.safetensors.index.json",
)  # fmt: skip
"""What is fetched from the hub: JSON and safetensors."""

_WEIGHTS = "diffusion_pytorch_model"
_PREDICTIONS = {"epsilon": target.noise, "sample": target.data, "v_prediction": target.v}
_SPACINGS: dict[str, Callable[[int], Grid]] = {
    "leading": lambda offset: Strided(offset=offset),
    "trailing": lambda _: Strided(trailing=True),
    "linspace": lambda _: Levels(),
}
_MOST_LEVELS = 100_000  # of a chain; 1,000 are usual
_VARIANCES = {"fixed_small": BetaTilde, "fixed_small_log": BetaTilde, "fixed_large": Beta}


@final
@dataclass(frozen=True, kw_only=True)
class _Choices:
    """The row of choices that a scheduler stands for."""

    schedule: Schedule
    target: Target
    objective: AbstractObjective
    step: Step
    grid: Grid
    steps: int
    condition: Condition
    sigma_data: float
    clip: float | None  # the greatest |x| that x_hat is kept to


def is_pipeline(path: str | Path) -> bool:
    """Return whether a folder, or a model of the hub, is a pipeline of diffusers."""
    fetched = fetch(path, (INDEX, *RUN_FILES))
    folder = Path(os.path.expanduser(path)) if fetched is None else fetched.folder
    return (folder / INDEX).is_file()


@called
def from_diffusers(source: Any) -> Diffusion:
    """Return a pipeline of diffusers as a model that samples, scores, completes and is trained.

    Args:
        source: the folder of a pipeline with a UNet2DModel and a DDPM, DDIM or EDM scheduler,
            "hf://OWNER/NAME" for one on the hub, or the pipeline itself.

    Returns:
        The model. `method="published"` samples it as its scheduler does; a class that is hidden
        cannot be drawn if the network has classes. Images of 1 and 3 channels are 8-bit ones,
        others are arrays (C, H, W) of float32. A pipeline in memory shares its network with it.

    Raises:
        InputError: diffusers is not installed, the folder is no such pipeline, its network or its
            scheduler are of another kind, its weights are pickled or do not fit.

    >>> from_diffusers("no/such/folder")
    Traceback (most recent call last):
    undiffuse.errors.InputError: no/such/folder: no such folder; check the path of the pipeline.
    """
    if isinstance(source, str | Path):
        fetched = fetch(source, FILES)
        folder = Path(os.path.expanduser(source)) if fetched is None else fetched.folder
        name = str(source) if fetched is None else fetched.name
        network, scheduler, digest = _read(folder, name)
        model = _model(network, _choices(scheduler, name), name)
        model.origin = {"from": f"diffusers: {name}", "steps": None, "weights": digest}
        return model
    unet, scheduler = getattr(source, "unet", None), getattr(source, "scheduler", None)
    name = type(source).__name__
    if scheduler is None or type(unet).__name__ != "UNet2DModel":
        raise InputError(
            f"from_diffusers: a {name} is no pipeline with a UNet2DModel and a scheduler; give the "
            "folder of one, or one that is open."
        )
    network = DiffusersUNet(config=dict(getattr(unet, "config", {})))
    network.unet = unet
    config = {**scheduler.config, "_class_name": type(scheduler).__name__}
    model = _model(network, _choices(config, name), name)
    model.origin = {"from": f"diffusers: {name}", "steps": None, "weights": None}
    return model


def _read(folder: Path, name: str) -> tuple[DiffusersUNet, dict[str, Any], str]:
    """The network with its weights, the scheduler's configuration, and the weights' digest."""
    if not folder.is_dir():
        raise InputError(f"{name}: no such folder; check the path of the pipeline.")
    if not is_pipeline(folder):
        raise InputError(
            f"{name}: not a pipeline of diffusers: it holds no {INDEX}; give the folder that "
            "save_pretrained wrote."
        )
    parts = _json(folder / INDEX, name)
    for part, wanted in (("unet", "UNet2DModel"), ("scheduler", None)):
        kind = parts.get(part)
        if not isinstance(kind, list) or len(kind) != 2 or wanted not in (None, kind[1]):
            has = kind[1] if isinstance(kind, list) and len(kind) == 2 else "none"
            raise InputError(
                f"{name}: its {part} is {has}; only a pipeline with a UNet2DModel and a DDPM, DDIM "
                "or EDM scheduler can be read."
            )
    places = {part: folder / part if (folder / part).is_dir() else folder for part in parts}
    described = _json(places["unet"] / "config.json", name)
    files = _weights(places["unet"], name)
    tensors = {
        key: value
        for file in files
        for key, value in load_tensors(
            file, f"{name}: its {file.name}", "download it again"
        ).items()
    }
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    larger = f"{name}: its config.json describes a larger network than its weights; restore it."
    with bounded(2 * size + SLACK, 2 * len(tensors) + 1000, larger):
        network = DiffusersUNet(config=described)
    load_weights(network.unet, tensors, name)
    scheduler = _json(places["scheduler"] / "scheduler_config.json", name)
    return network, {"_class_name": parts["scheduler"][1], **scheduler}, file_digest(files[0])


def _json(file: Path, name: str) -> dict[str, Any]:
    try:
        tree = read_json(file)
    except (OSError, ValueError) as problem:
        raise InputError(
            f"{name}: its {file.name} cannot be read ({said(problem)}); restore that file."
        ) from problem
    if not isinstance(tree, dict):
        raise InputError(f"{name}: its {file.name} holds no object; restore that file.")
    return tree


def _weights(place: Path, name: str) -> list[Path]:
    """The files of the weights. Raises InputError if there are none in safetensors."""
    files = sorted(place.glob(f"{_WEIGHTS}-*-of-*.safetensors"))
    if (single := place / f"{_WEIGHTS}.safetensors").is_file():
        return [single]
    if files:
        return files
    if list(place.glob("*.bin")):
        raise InputError(
            f"{name}: its weights are pickled ({_WEIGHTS}.bin), and pickles are never read; write "
            "them as safetensors, with save_pretrained."
        )
    raise InputError(
        f"{name}: it has no {_WEIGHTS}.safetensors, and other weights are not read; write them "
        "with save_pretrained."
    )


def _choices(config: Mapping[str, Any], name: str) -> _Choices:
    """What a scheduler's configuration stands for. Raises InputError for one that is not known."""
    kind = str(config["_class_name"])
    if kind not in _SCHEDULERS:
        raise unknown(f"{name}: scheduler", "scheduler that can be read", kind, _SCHEDULERS)
    own = {key: value for key, value in config.items() if not key.startswith("_")}
    levels = own.get("num_train_timesteps", 1000)
    if not isinstance(levels, int) or not 1 <= levels <= _MOST_LEVELS:
        raise InputError(
            f"{name}: its num_train_timesteps is {levels!r:.20}; only whole numbers up to "
            f"{_MOST_LEVELS:,} can be read."
        )
    try:
        scheduler = getattr(need_diffusers(name), kind)(**own)
    except InputError:
        raise
    except Exception as problem:  # whatever it makes of values that it does not know
        raise InputError(
            f"{name}: its {kind} cannot be made ({said(problem)}); restore its "
            "scheduler_config.json."
        ) from problem
    try:
        return _SCHEDULERS[kind](scheduler)
    except InputError as problem:
        raise InputError(f"{name}: {problem}") from problem
    except Exception as problem:  # of values of another type than theirs
        raise InputError(
            f"{name}: its {kind} cannot be used ({type(problem).__name__}: {said(problem)}); "
            "restore its scheduler_config.json."
        ) from problem


def _chain(scheduler: Any, step: Step, steps: int) -> _Choices:
    """The discrete chain of a DDPM or DDIM scheduler."""
    own = scheduler.config
    if own.thresholding:
        raise InputError("its scheduler has dynamic thresholding, which no sampler here has.")
    for what, kind, table in (
        ("prediction", own.prediction_type, _PREDICTIONS),
        ("spacing", own.timestep_spacing, _SPACINGS),
    ):
        if kind not in table:
            raise unknown(f"its scheduler has the {what}", f"{what} here", str(kind), table)
    betas = tuple(float(beta) for beta in scheduler.betas.double())
    return _Choices(
        schedule=DiscreteVP(betas=betas),
        target=_PREDICTIONS[own.prediction_type],
        objective=Objective(weighting=Simple(), times=DiscreteTimes()),
        step=step,
        grid=_SPACINGS[own.timestep_spacing](own.steps_offset),
        steps=min(steps, len(betas) - own.steps_offset),
        condition=Level(float(len(betas)), offset=-1.0),
        sigma_data=1.0,
        clip=float(own.clip_sample_range) if own.clip_sample else None,
    )


def _ddpm(scheduler: Any) -> _Choices:
    kind = scheduler.config.variance_type
    if kind not in _VARIANCES:
        raise unknown("its scheduler has the variance", "variance here", kind, _VARIANCES)
    return _chain(scheduler, Ancestral(variance=_VARIANCES[kind]()), 1000)


def _ddim(scheduler: Any) -> _Choices:
    return _chain(scheduler, DDIM(), 50)


def _edm(scheduler: Any) -> _Choices:
    own = scheduler.config
    if own.prediction_type != "epsilon" or own.sigma_schedule != "karras":
        raise InputError(
            f"its scheduler predicts {own.prediction_type} on {own.sigma_schedule} levels; only "
            "epsilon on karras levels can be read."
        )
    return _Choices(
        schedule=EDM(sigma_min=own.sigma_min, sigma_max=own.sigma_max),
        target=Preconditioned(own.sigma_data),
        objective=Objective(
            weighting=EDMWeight(own.sigma_data), times=LogNormalTimes(sigma_data=own.sigma_data)
        ),
        step=DDIM(),
        grid=Karras(own.rho),
        steps=50,
        condition=LogSigma(),
        sigma_data=own.sigma_data,
        clip=None,
    )


_SCHEDULERS: dict[str, Callable[[Any], _Choices]] = {
    "DDPMScheduler": _ddpm,
    "DDIMScheduler": _ddim,
    "EDMEulerScheduler": _edm,
    "EDMDPMSolverMultistepScheduler": _edm,
}


def _model(network: DiffusersUNet, choices: _Choices, name: str) -> Diffusion:
    """The model, met with images of the network's size."""
    if network.config.get("out_channels", 3) != network.config.get("in_channels", 3):
        raise InputError(
            f"{name}: its network gives {network.config.get('out_channels')} channels for "
            f"{network.config.get('in_channels')}; a learned variance cannot be read."
        )
    model = Diffusion(
        schedule=choices.schedule,
        target=choices.target,
        objective=choices.objective,
        step=choices.step,
        grid=choices.grid,
        steps=choices.steps,
        method=SAMPLER,
        network=network,
        condition=choices.condition,
        sigma_data=choices.sigma_data,
        clip=choices.clip is not None,
        drop_condition=0.0 if network.classes else 0.1,
        gaps=0.0,
        shape=network.shape,
        data_range=(-(choices.clip or 1.0), choices.clip or 1.0),
        class_shares=(1 / network.classes,) * network.classes if network.classes else (),
    )
    model.measured = True  # nothing is left to measure on data
    kind, model.transform, model.form = _rows(network.shape)
    model.classes = tuple(str(i) for i in range(network.classes))
    model.data_config = {
        "name": name,
        "path": None,
        "fingerprint": f"diffusers {name}",
        "rows": 0,
        "reading": {},
        "split": {"seed": 0, "held_out": None},
        "mirrored": False,
        **KINDS[kind].describe(model.transform, model.form),
        "classes": list(model.classes),
    }
    ended = {"event": "end", "step": 0, "elapsed": 0.0, "reason": "done"}
    model.record = Record({}, None, [ended])
    return model.eval()


def _rows(shape: tuple[int, int, int]) -> tuple[str, ArrayTransform, Any]:
    """The kind of data, the transform and the form of rows (C, H, W) of a pipeline."""
    channels, height, width = shape
    if channels not in (1, 3):
        wide: dict[str, Any] = {"row_shape": shape, "axes": "CHW", "dtype": "float32"}
        each = {"mean": 0.0, "std": 1.0, "low": -1.0, "high": 1.0}
        numbers: dict[str, Any] = {name: (value,) * channels for name, value in each.items()}
        return "arrays", ArrayTransform(**wide, **numbers), ArrayForm(**wide, low=-1, high=1)
    grey = channels == 1
    form = ImageForm(
        row_shape=(height, width) if grey else (height, width, channels),
        channel_axis=None if grey else -1,
        levels=256,
        dtype="uint8",
        from_files=True,
    )
    transform = ArrayTransform(  # x = (k + 1/2 - 128) / 127.5 = 2 k / 255 - 1
        row_shape=form.row_shape,
        axes="HW" if grey else "HWC",
        dtype="uint8",
        mean=(128.0,) * channels,
        std=(127.5,) * channels,
        low=(0,) * channels,
        high=(255,) * channels,
    )
    return "images", transform, form


@called
def to_diffusers(run: str | Path | Run | GenerativeModel, out: str | Path) -> Path:
    """Write a run as a folder that diffusers' DDPMPipeline.from_pretrained opens.

    The network has to be a UNet2DModel: of a model that `from_diffusers` made, trained here since.

    Args:
        run: the run, its folder, or the model.
        out: the folder to write.

    Returns:
        The folder.

    Raises:
        InputError: for another network, another forward process than a discrete chain, images that
            a pipeline would show wrongly, and a folder that is taken.
    """
    diffusers = need_diffusers(f"{out}: writing a pipeline")
    model = run if isinstance(run, GenerativeModel) else Run.of(run).model()
    what = "the model" if isinstance(run, GenerativeModel) else Run.of(run).given
    if not isinstance(model, Diffusion) or not isinstance(model.network, DiffusersUNet):
        raise InputError(
            f"{what}: its network is none of diffusers; start from one, with "
            "undiffuse train --from FOLDER."
        )
    words = {part: word for word, part in _PREDICTIONS.items()}
    if not isinstance(model.schedule, DiscreteVP) or model.target not in words:
        raise InputError(
            f"{what}: DDPMPipeline samples chains of levels, and this model is of another forward "
            "process; use it here."
        )
    _check_rows(model, what)
    variances = {kind: word for word, kind in _VARIANCES.items() if not word.endswith("_log")}
    clip = max(map(abs, model.data_range or (1.0,)))
    scheduler = diffusers.DDPMScheduler(
        num_train_timesteps=len(model.schedule.betas),
        trained_betas=list(model.schedule.betas),
        prediction_type=words[model.target],
        variance_type=variances.get(type(model.step.reverse_variance), "fixed_small"),
        clip_sample=model.clip,
        clip_sample_range=clip,
    )
    pipeline = diffusers.DDPMPipeline(unet=model.network.unet, scheduler=scheduler)
    place = Path(os.path.expanduser(out))
    with atomic_folder(place) as temporary:
        pipeline.save_pretrained(temporary, safe_serialization=True)
    return place


def _check_rows(model: Diffusion, what: str) -> None:
    """Raise InputError for images that a pipeline, which takes x for 2 k/255 - 1, shows wrongly."""
    form, transform = model.form, model.transform
    if not isinstance(form, ImageForm) or transform is None:
        return
    levels = torch.arange(form.levels).reshape(-1, *[1] * len(transform.shape))
    x = (2 * levels / 255 - 1).expand(-1, *transform.shape)
    off = np.abs(
        transform.decode(x).astype(float)
        - np.arange(form.levels).reshape(-1, *[1] * len(transform.row_shape))
    )
    if form.levels != 256 or off.max() > 1:
        raise InputError(
            f"{what}: its images are not modelled as 2 k/255 - 1 of 256 levels k, as pipelines "
            "take them; use it here."
        )
