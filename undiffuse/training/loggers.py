"""Where the events of a training go besides its own folder: dashboards that a lab already has.

    fit(loggers=["tensorboard", MyLogger()])    names in `LOGGERS`, loggers, functions of an event
    undiffuse train ... --log tensorboard,wandb

A logger gets the options at the start, numbers by name (losses, the held-out loss at each noise
level), pictures of samples, recordings, and at the end the report, if one was made. One that fails
is left out from then on, which is said once: training does not depend on it.
"""

from __future__ import annotations

import importlib
import re
import wave
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
from PIL import Image

from undiffuse.atomic import atomic_file
from undiffuse.errors import InputError, unknown
from undiffuse.interfaces import Listener
from undiffuse.reading import read_text

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
    def sound(self, step: int, name: str, file: Path) -> None:
        """Take recordings, a WAV file of 16 bits."""

    @abstractmethod
    def page(self, step: int, name: str, file: Path) -> None:
        """Take a page, an HTML file that needs no other."""

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

    def sound(self, step: int, name: str, file: Path) -> None:
        """Write the mean of the channels, which are one here."""
        with wave.open(str(file)) as recording:
            frames = np.frombuffer(recording.readframes(recording.getnframes()), "<i2")
            values = frames.reshape(-1, recording.getnchannels()).mean(1) / 32768
            self.writer.add_audio(name, values[None], step, sample_rate=recording.getframerate())

    def page(self, step: int, name: str, file: Path) -> None:
        """Write where the page is: TensorBoard shows none."""
        self.writer.add_text(name, str(file), step)

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
        begun = begun_as(folder, self.package)
        self.run = self.wandb.init(
            project="undiffuse",
            name=name,
            dir=place,
            config=dict(config),
            id=begun,
            resume="allow" if begun else None,
        )
        keep_begun(folder, self.package, self.run.id)

    def _log(self, step: int, values: Mapping[str, Any]) -> None:
        """Log at a step, of a run that is gone on with at the next it takes."""
        self.run.log(dict(values), step=max(step, self.run.step))

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Log numbers."""
        self._log(step, values)

    def picture(self, step: int, name: str, file: Path) -> None:
        """Log an image."""
        self._log(step, {name: self.wandb.Image(str(file))})

    def sound(self, step: int, name: str, file: Path) -> None:
        """Log a recording."""
        self._log(step, {name: self.wandb.Audio(str(file))})

    def page(self, step: int, name: str, file: Path) -> None:
        """Log a page."""
        self._log(step, {name: self.wandb.Html(file.read_text(encoding="utf-8"), inject=False)})

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
        params = {name: str(value)[:500] for name, value in config.items()}
        begun, there = begun_as(folder, self.package), None
        if begun is not None:
            with suppress(self.mlflow.exceptions.MlflowException):  # of another server
                there = self.mlflow.get_run(begun).data.params
        if there is None:
            run = self.mlflow.start_run(run_name=None if folder is None else folder.name)
            keep_begun(folder, self.package, run.info.run_id)
        else:
            self.mlflow.start_run(run_id=begun)
        new = {name: value for name, value in params.items() if name not in (there or {})}
        self.mlflow.log_params(new)  # what is there cannot be changed

    def numbers(self, step: int, values: Mapping[str, float]) -> None:
        """Log metrics."""
        self.mlflow.log_metrics(dict(values), step=step)

    def picture(self, step: int, name: str, file: Path) -> None:
        """Keep the file as an artifact."""
        self.mlflow.log_artifact(str(file), name)

    def sound(self, step: int, name: str, file: Path) -> None:
        """Keep the file as an artifact."""
        self.mlflow.log_artifact(str(file), name)

    def page(self, step: int, name: str, file: Path) -> None:
        """Keep the file as an artifact."""
        self.mlflow.log_artifact(str(file), name)

    def close(self) -> None:
        """End the run."""
        self.mlflow.end_run()


def begun_as(folder: Path | None, package: str) -> str | None:
    """Return what a dashboard calls the run that it began for a folder; None: it has not."""
    try:
        text = "" if folder is None else read_text(folder / f".{package}-run", most=200).strip()
    except (OSError, ValueError):
        return None
    return text if re.fullmatch(r"[A-Za-z0-9_-]{1,100}", text) else None


def keep_begun(folder: Path | None, package: str, name: str) -> None:
    """Keep what a dashboard calls a run in its folder: resuming and the report go on with it."""
    if folder is not None:
        with atomic_file(folder / f".{package}-run") as temporary:
            temporary.write_text(name + "\n", encoding="utf-8")


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
                picture = Path(event["path"])
                logger.picture(step, "samples", picture)
                if (sound := picture.with_suffix(".wav")).is_file():
                    logger.sound(step, "samples/sound", sound)
            case "report":
                logger.numbers(step, numbers_of("report", event["figures"]))
                logger.page(step, "report/page", Path(event["path"]))
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
