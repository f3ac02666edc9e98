"""Where the events of a training go besides its own folder: dashboards that a lab already has.

    fit(loggers=["tensorboard", MyLogger()])    names in `LOGGERS`, loggers, functions of an event
    undiffuse train ... --log tensorboard,wandb

A logger gets the options at the start, numbers by name (losses, the held-out loss at each noise
level), and pictures of samples. One that fails is left out from then on, which is said once:
training does not depend on it.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from PIL import Image

from undiffuse.errors import InputError, unknown
from undiffuse.interfaces import Listener

_STEP = ("loss", "rate", "lr", "skipped")  # numbers of a step


class Logger(ABC):
    """What a dashboard implements.

    Attributes:
        package: what has to be installed, "" for nothing.
    """

    package: ClassVar[str] = ""

    @abstractmethod
    def start(self, folder: Path | None, config: Mapping[str, Any]) -> None:
        """Begin a run.

        Args:
            folder: the run's; None for one in memory.
            config: its options and versions, name -> plain value.
        """

    @abstractmethod
    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Take numbers of a step, such as {"train/loss": 0.2, "held_out/loss": 0.3}."""

    @abstractmethod
    def picture(self, step: int, name: str, file: Path) -> None:
        """Take a picture, a PNG file."""

    @abstractmethod
    def close(self) -> None:
        """End the run."""


@final
class TensorBoard(Logger):
    """Writes event files into the folder `tensorboard` of the run."""

    package = "tensorboard"

    def start(self, folder: Path | None, config: Mapping[str, Any]) -> None:
        """Open the event file."""
        writer: Any = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        self.writer = writer(log_dir=str((folder or Path()) / "tensorboard"))
        lines = [f"| {name} | {value} |" for name, value in config.items()]
        self.writer.add_text("options", "\n".join(["| option | value |", "|---|---|", *lines]), 0)

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Write scalars."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, file: Path) -> None:
        """Write an image."""
        with Image.open(file) as image:
            self.writer.add_image(name, np.array(image.convert("RGB")), step, dataformats="HWC")

    def close(self) -> None:
        """Close the event file."""
        self.writer.close()


@final
class WandB(Logger):
    """Logs to Weights and Biases, project "undiffuse"; `WANDB_MODE=offline` keeps it here."""

    package = "wandb"

    def start(self, folder: Path | None, config: Mapping[str, Any]) -> None:
        """Begin a run of the folder's name."""
        self.wandb: Any = importlib.import_module("wandb")
        place = None if folder is None else str(folder)
        name = None if folder is None else folder.name
        self.run = self.wandb.init(project="undiffuse", name=name, dir=place, config=dict(config))

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers."""
        self.run.log(dict(values), step=step)

    def picture(self, step: int, name: str, file: Path) -> None:
        """Log an image."""
        self.run.log({name: self.wandb.Image(str(file))}, step=step)

    def close(self) -> None:
        """Finish the run."""
        self.run.finish()


@final
class MLflow(Logger):
    """Logs to MLflow, experiment "undiffuse", where `MLFLOW_TRACKING_URI` says."""

    package = "mlflow"

    def start(self, folder: Path | None, config: Mapping[str, Any]) -> None:
        """Begin a run of the folder's name."""
        self.mlflow: Any = importlib.import_module("mlflow")
        self.mlflow.set_experiment("undiffuse")
        self.mlflow.start_run(run_name=None if folder is None else folder.name)
        self.mlflow.log_params({name: str(value)[:500] for name, value in config.items()})

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Log metrics."""
        self.mlflow.log_metrics(dict(values), step=step)

    def picture(self, step: int, name: str, file: Path) -> None:
        """Keep the file as an artifact."""
        self.mlflow.log_artifact(str(file), name)

    def close(self) -> None:
        """End the run."""
        self.mlflow.end_run()


LOGGERS: dict[str, type[Logger]] = {
    "tensorboard": TensorBoard,
    "wandb": WandB,
    "mlflow": MLflow,
}
"""The loggers by name."""


def find_loggers(asked: Iterable[str | Logger | Listener]) -> list[Logger | Listener]:
    """Return loggers and listeners for names, loggers and functions of an event.

    Raises:
        InputError: for a name that is none, and one whose package is not installed.

    >>> find_loggers(["tensorbord"])
    Traceback (most recent call last):
    undiffuse.errors.InputError: log tensorbord: no such logger. Did you mean tensorboard? (...)
    """
    found: list[Logger | Listener] = []
    for one in [asked] if isinstance(asked, str) else asked:
        if isinstance(one, str):
            if one not in LOGGERS:
                raise unknown("log", "logger", one, LOGGERS)
            one = LOGGERS[one]()
        if isinstance(one, Logger) and one.package:
            try:
                importlib.import_module(one.package)
            except ImportError as problem:
                ours = type(one).__module__ == __name__
                what = f"'undiffuse[{one.package}]'" if ours else one.package
                raise InputError(
                    f"log {one.package}: needs the package {one.package}; pip install {what}."
                ) from problem
        found.append(one)
    return found


@final
class Relay:
    """A listener that hands events on to loggers and to other listeners.

    Args:
        loggers: what `find_loggers` returned.
        listener: is told each event first, and what is said of loggers; None: nobody.
        folder: of the run; None for one in memory.
        config: the options and versions.
        every: of the events of steps, every so many go to loggers.
    """

    def __init__(
        self,
        loggers: Sequence[Logger | Listener],
        listener: Listener | None,
        *,
        folder: Path | None,
        config: Mapping[str, Any],
        every: int,
    ) -> None:
        self.loggers, self.listener = list(loggers), listener
        self.folder, self.config, self.every = folder, config, every

    def __call__(self, event: dict[str, Any]) -> None:
        """Hand an event on."""
        if self.listener is not None:
            self.listener(event)
        for logger in tuple(self.loggers):
            give = partial(self._give, logger) if isinstance(logger, Logger) else logger
            self._try(logger, partial(give, event))

    def close(self) -> None:
        """End all loggers."""
        for logger in tuple(self.loggers):
            if isinstance(logger, Logger):
                self._try(logger, logger.close)
        self.loggers.clear()

    def _try(self, logger: Logger | Listener, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as problem:
            self.loggers.remove(logger)
            name = getattr(logger, "package", "") or type(logger).__name__
            text = " ".join(str(problem).split()) or "no message"
            said = f"logger {name}: failed and is left out ({type(problem).__name__}: {text})"
            if self.listener is not None:
                self.listener({"event": "logger", "step": 0, "said": said})

    def _give(self, logger: Logger, event: Mapping[str, Any]) -> None:
        """Hand an event to a logger, if it is one for it."""
        step = event["step"]
        rest = {name: value for name, value in event.items() if name not in ("event", "step")}
        match event["event"]:
            case "start":
                logger.start(self.folder, self.config)
            case "step" if step % self.every == 0:
                logger.numbers(step, numbers_of("train", {name: event.get(name) for name in _STEP}))
            case "held_out":
                logger.numbers(step, numbers_of("held_out", rest))
            case "samples":
                logger.picture(step, "samples", Path(event["path"]))
            case _:
                pass


def numbers_of(prefix: str, tree: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers in a tree by name, those of a curve by where they are.

    >>> numbers_of("held_out", {"loss": 0.5, "levels": {"sigma": [0.1, 1.0], "loss": [0.9, 0.2]}})
    {'held_out/loss': 0.5,
     'held_out/levels/loss at sigma 0.1': 0.9,
     'held_out/levels/loss at sigma 1': 0.2}
    """
    found: dict[str, float] = {}
    for name, value in tree.items():
        place = f"{prefix}/{name}"
        if isinstance(value, bool):
            continue
        if isinstance(value, int | float):
            found[place] = float(value)
        elif isinstance(value, Mapping):
            lists = list(value.items())
            if len(lists) == 2 and all(isinstance(values, list) for _, values in lists):
                (x_name, x), (y_name, y) = lists
                pairs = zip(x, y, strict=False)
                found |= {
                    f"{place}/{y_name} at {x_name} {at:.3g}": float(height)
                    for at, height in pairs
                    if isinstance(at, int | float) and isinstance(height, int | float)
                }
            else:
                found |= numbers_of(place, value)
    return found
