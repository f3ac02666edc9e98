"""A run: the folder that training leaves behind, read once and handed on.

    Run(path).model()   the trained model: config.json and weights.safetensors, never unpickled
    Run(path).data()    the data that it was trained on, split as they were
    Run(path).log       what happened in training

A path may name a run on the Hugging Face hub, such as hf://me/name; see `remote`.

A model is built from the tree of parts in config.json, the transform and the form of the data from
theirs, and the weights are checked tensor by tensor.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from torch import Tensor

from undiffuse.atomic import write_json
from undiffuse.called import called
from undiffuse.duration import format_duration
from undiffuse.errors import InputError
from undiffuse.interfaces import Progress
from undiffuse.lock import holder
from undiffuse.plugged import installed, require
from undiffuse.remote import PREFIX
from undiffuse.room import bounded, check_room
from undiffuse.shown import card
from undiffuse.training.checkpoint import BACKEND, LOG, SAMPLER, SAMPLES, WEIGHTS, Record, RunFolder
from undiffuse.training.log import read_log
from undiffuse.training.state import load_weights

if TYPE_CHECKING:
    from undiffuse.data import Conformed, Data
    from undiffuse.models import GenerativeModel

POINTS = 200  # of a loss curve
SLACK = 2**24  # bytes of tensors of a model that are not in its weights file


@final
class Run:
    """A run directory. Making one reads config.json; everything else is read when it is asked for.

    Attributes:
        given: the path as it was typed, for messages and commands.
        path: the folder.
        config: config.json.
        notes: sentences on what was left out when it was read.

    Raises:
        InputError: there is no such folder, it is not a run, its config.json is damaged, or it was
            written by another version.

    >>> Run("no/such/run")
    Traceback (most recent call last):
    undiffuse.errors.InputError: no/such/run: no such folder; check the path of the run.
    """

    def __init__(self, path: str | Path) -> None:
        self._folder = RunFolder.find(path)
        self.given, self.path = self._folder.given, self._folder.path
        self.config = self._folder.config()
        self.notes: tuple[str, ...] = ()
        if self.remote:
            self.notes = (f"{path}: taken from the hub; {self.given} is this very revision.",)

    @property
    def remote(self) -> bool:
        """Whether it is of the Hugging Face hub, and on this machine in its cache alone."""
        return self.given.startswith(PREFIX)

    def check_local(self, instead: str) -> None:
        """Raise InputError for a run of the hub, in whose place nothing is written.

        Args:
            instead: what to do.
        """
        if self.remote:
            raise InputError(f"{self.given}: is a run of the hub, which is only read; {instead}.")

    @classmethod
    def of(cls, run: str | Path | Run) -> Run:
        """Return `run`, opened if it is a path."""
        return run if isinstance(run, Run) else cls(run)

    # --- the model

    def model(self, snapshot: int | None = None, device: Any = "cpu") -> GenerativeModel:
        """Return the trained model with its averaged weights, in evaluation mode.

        Args:
            snapshot: a step in `snapshots`, to take the weights of instead of the newest ones.
            device: where to put the weights, a torch.device or its name.

        Raises:
            InputError: training had not reached its first checkpoint, there is no such snapshot, or
                the configuration or the weights are damaged.
        """
        weights = self._folder.weights(snapshot)
        model = self._build(weights)
        load_weights(model, weights, self.given)
        model.record = Record(self.config["training"], self.config.get("sizing"), self.path / LOG)
        if snapshot is None:
            self._take_tuned(model)
        return model.to(device).eval()

    def _plug(self) -> None:
        """Load what is installed of plug-ins; refuse a run whose own are not there."""
        if installed():
            from undiffuse.plugins import load_installed

            load_installed()
        for note in require(self.config, self.given):
            self._note(note)

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes = (*self.notes, text)

    def _take_tuned(self, model: GenerativeModel) -> None:
        """Let the model be sampled as sampler.json says; without it, and by default, if damaged."""
        try:
            model.take_tuned(self._tuned())
        except ValueError as problem:
            self._damaged_sampler(problem)

    def _tuned(self) -> dict[str, Any] | None:
        """What sampler.json holds; None without it, and if it is damaged."""
        try:
            return self._folder.tuned()
        except ValueError as problem:
            self._damaged_sampler(problem)
            return None

    def _damaged_sampler(self, problem: ValueError) -> None:
        self._note(
            f"{self.given}: its {SAMPLER} is damaged ({problem}) and was not used; "
            f"write it anew with undiffuse tune {shlex.quote(self.given)}"
        )

    def backend(self) -> dict[str, Any] | None:
        """Return backend.json; None without it. Raises ValueError if it is damaged."""
        return self._folder.backend()

    def keep_backend(self, tree: Mapping[str, Any]) -> None:
        """Write backend.json. Raises InputError if the run is being trained."""
        with self._folder.locked():
            write_json(self.path / BACKEND, tree)

    def keep_tuned(self, model: GenerativeModel) -> None:
        """Write how the model is sampled into the run. Raises InputError if it is being trained."""
        with self._folder.locked():
            self._folder.keep_tuned(model.tuned_tree)

    def weaker(self, device: Any = "cpu") -> GenerativeModel:
        """Return the model at its latest snapshot within the first half.

        Raises:
            InputError: there is no such snapshot, besides the reasons of `model`.
        """
        early = [step for step in self.snapshots if step <= self.state["step"] / 2]
        if not early:
            raise InputError(
                f"{self.given}: has kept no snapshot from its first half, which is "
                "needed here; train for longer, or with a smaller --checkpoint-every."
            )
        return self.model(snapshot=early[-1], device=device)

    def _build(self, weights: Mapping[str, Tensor]) -> GenerativeModel:
        """The model with the transform and the form of its data, made for `weights`.

        It may be no larger than these, and its transform has to give back a row: a description that
        somebody sent is not trusted to be that of the weights beside it.
        """
        from undiffuse import data, models

        self._plug()
        size = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
        larger = "it describes a larger model than its weights"
        try:
            with bounded(2 * size + SLACK, 2 * len(weights) + 1000, larger):
                model = models.build_model(self.config["model"])
            transform, form, classes = data.restore(self.config["data"])
            shape = tuple(transform.shape)
            if model.shape is not None and tuple(model.shape) != shape:
                raise InputError(f"its model has rows of {model.shape}, and its data of {shape}")
            values = 64.0 * prod(shape) + 64.0 * prod(transform.row_shape)
            check_room(values, "one row", "restore that file")
            form.present(transform.decode(torch.zeros(1, *shape)))
        except InputError as problem:
            raise InputError(
                f"{self.given}: its config.json cannot be used: {str(problem).rstrip('.')}."
            ) from problem
        except Exception as problem:  # whatever a part makes of numbers that it never wrote
            raise InputError(
                f"{self.given}: its config.json is damaged ({type(problem).__name__}: {problem}); "
                "restore that file."
            ) from problem
        model.transform, model.form, model.classes = transform, form, tuple(classes)
        model.data_config, model.preset = self.config["data"], self.config["preset"]
        model.origin = self.config.get("origin")
        return model

    # --- the data

    def data(self, source: Any = None, *, progress: Progress | None = None) -> Data | Conformed:
        """Return the run's own data, or other data in the form of a run's rows.

        Args:
            source: anything `undiffuse.load` takes; None for where the data were in training.
            progress: called while files are read.

        Returns:
            `Data` with the split of the run if the source is what it was trained on, wherever it
            is now (its fingerprint says so); else `Conformed`.

        Raises:
            InputError: the data are no longer where they were, have changed, or cannot be read as
                rows of this run.
        """
        return self._data(source, "say where the data are with --data", progress)

    def finished_data(
        self, source: Any, progress: Progress | None, *, unfinished: str, others: str
    ) -> Data:
        """Return `data(source)` for what is done to a finished run on its own data alone.

        Args:
            source: as for `data`.
            progress: as for `data`.
            unfinished: why its training has to have finished, behind a comma.
            others: why other data do not do.

        Raises:
            InputError: it has not finished, these are other data, and as `data` does.
        """
        from undiffuse.data import Data

        if not self.state["finished"]:
            raise InputError(
                f"{self.given}: its training has not finished, {unfinished}; "
                f"first {self.resume_command}"
            )
        own = self.data(source, progress=progress)
        if not isinstance(own, Data):
            raise InputError(
                f"data: these are not the data that {self.given} was trained on; {others}."
            )
        return own

    def held_out(self, source: Any = None, *, progress: Progress | None = None) -> Conformed:
        """Return the rows that the run held out, or all rows of another `source`; see `data`."""
        from undiffuse.data import Data

        advice = (
            "give other rows it was not trained on (--held-out), or do without quantiles "
            "(--no-calibration)"
        )
        data = self._data(source, advice, progress)
        return data.held_out_rows() if isinstance(data, Data) else data

    def _data(self, source: Any, advice: str, progress: Progress | None) -> Data | Conformed:
        from undiffuse.data import Data, conform
        from undiffuse.data.load import read, recorded_reading
        from undiffuse.data.stream.stored import is_remote

        self._plug()
        config = self.config["data"]
        given = config.get("path") if source is None else source
        if given is None:
            raise InputError(
                f"{self.given}: was trained on data from Python, which are not kept; {advice}."
            )
        if source is None and is_remote(given):
            raise InputError(
                f"{self.given}: was trained on {given}; nothing is fetched because a run names it: "
                f"{advice}."
            )
        if missing := {"split", "fingerprint"} - set(config):
            raise InputError(f"{self.given}: its config.json lacks data.{missing.pop()}; {advice}.")
        reading, split = recorded_reading(config), config["split"]
        try:
            loaded = (
                given.loaded
                if isinstance(given, Data)
                else read(given, split["seed"], reading, progress)
            )
        except InputError as problem:
            if source is None:
                why = str(problem).split(";")[0].rstrip(".")
                raise InputError(
                    f"{self.given}: its data are not there any more: {why}; {advice}."
                ) from problem
            loaded = None  # `conform` says what is wrong with it as rows of this run
        if loaded is not None and loaded.fingerprint == config["fingerprint"]:
            own: dict[str, Any] = {"reading": reading, "progress": progress}
            own |= {"held_out": split["held_out"], "mirrored": config.get("mirrored")}
            return Data(loaded, seed=split["seed"], **own)
        if source is None:
            raise InputError(
                f"{self.given}: {given} is not what it was trained on, or has changed since; "
                f"{advice}."
            )
        return conform(source, config, progress=progress)

    # --- the training

    @cached_property
    def log(self) -> list[dict[str, Any]]:
        """The events of log.jsonl in order (see `training.log`); empty without one."""
        return read_log(self.path / LOG)

    @cached_property
    def state(self) -> dict[str, Any]:
        """The counters of the newest checkpoint: step, elapsed (s), skipped, finished.

        Taken from the log if the run was given away without its resume state. Raises InputError for
        damage.
        """
        counters = self._folder.counters()
        if counters is not None:
            return counters
        steps = [event for event in self.log if event.get("event") in ("step", "end")]
        last = steps[-1] if steps else {}
        skipped = next((event["skipped"] for event in reversed(steps) if "skipped" in event), 0)
        return {
            "step": last.get("step", 0),
            "elapsed": last.get("elapsed", 0.0),
            "skipped": skipped,
            "finished": last.get("reason") == "done",
        }

    @property
    def snapshots(self) -> list[int]:
        """The steps of which the averaged weights were kept, in order."""
        return list(self._folder.snapshots())

    @property
    def resume_command(self) -> str:
        """The command that resumes the run, or extends it to twice its length if it is finished."""
        data = self.config.get("data", {})
        source = str(data.get("path") or data.get("name") or "SOURCE")
        if Path(source).is_relative_to(Path.cwd()):
            source = str(Path(source).relative_to(Path.cwd()))
        command = f"undiffuse train {shlex.quote(source)} --out {shlex.quote(self.given)} --resume"
        if not self.state["finished"]:
            return command
        if self.config.get("training", {}).get("steps"):
            return f"{command} --steps {2 * self.state['step']}"
        return f"{command} --budget {format_duration(2 * self.state['elapsed'])}"

    def curves(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return the (training, held-out) losses over time, each {"step", "elapsed" (s), "loss"}.

        The loss of one step is that of a batch at random times, so training losses are means over
        at most 200 groups of steps. Held-out losses are of the averaged weights, always on the same
        rows and noise, and not smoothed.
        """
        steps = [e for e in self.log if e["event"] == "step" and e.get("elapsed") is not None]
        looks = [e for e in self.log if e["event"] == "held_out" and e.get("loss") is not None]
        known = [(e["step"], e["elapsed"], e["loss"]) for e in steps if e["loss"] is not None]
        points = np.array(known, dtype=float).reshape(-1, 3)
        training: list[dict[str, Any]] = [
            {
                "step": int(group[-1, 0]),
                "elapsed": float(group[-1, 1]),
                "loss": float(group[:, 2].mean()),
            }
            for group in np.array_split(points, min(POINTS, max(len(known), 1)))
            if len(group)
        ]
        times = ([e["step"] for e in steps], [e["elapsed"] for e in steps])
        held_out = [
            {
                "step": e["step"],
                "elapsed": float(np.interp(e["step"], *times)) if steps else None,
                "loss": e["loss"],
            }
            for e in looks
        ]
        return training, held_out

    def __repr__(self) -> str:
        """Return the preset, the data, the steps and the state, in a line."""
        tree = self.summary()
        state = "finished" if tree["finished"] else "not finished"
        made, of = tree["preset"] or "made by hand", tree["data"].get("name")
        return f"Run({self.given!r}: {made} on {of}, {tree['steps']:,} steps, {state})"

    def _repr_html_(self) -> str:
        tree = self.summary()
        facts = {
            "parameters": tree["parameters"],
            "rows": tree["data"].get("rows"),
            "time": format_duration(tree["elapsed"]),
            "held-out loss": (tree["held_out"] or {}).get("loss"),
            "notes": " ".join(tree["notes"]),
            "resume with": tree["resume"],
        }
        files = sorted((self.path / SAMPLES).glob("*.png"))
        pictures = {f"samples, {file.stem}": file.read_bytes() for file in files[-1:]}
        return card(repr(self), facts, pictures=pictures)

    def summary(self) -> dict[str, Any]:
        """Return what is known of the run as plain data, for `undiffuse info`.

        Keys: run, data (its config), preset, parameters, steps (taken), asked ({"steps"} or
        {"budget"}), finished, elapsed (s), skipped, held_out (the latest diagnostics, None before
        the first), training (the options), sampler (sampler.json, None without), teacher (the run
        that it was distilled from, None without), origin (what its first weights were of, None for
        weights drawn at random), tunable (whether it can have a sampler), notes
        (sentences on what could not be read), weights (whether there are any yet), held_by (the
        process that trains it, None if none does), resume (a command).
        """
        training, state, model = self.config.get("training", {}), self.state, self.config["model"]
        looks = [event for event in self.log if event.get("event") == "held_out"]
        latest = dict(looks[-1]) if looks else {}
        latest = {name: value for name, value in latest.items() if name not in ("event", "step")}
        kind = "steps" if training.get("steps") else "budget"
        return {
            "run": self.given,
            "data": self.config.get("data", {}),
            "preset": self.config.get("preset"),
            "parameters": self.config.get("parameters"),
            "steps": state["step"],
            "asked": {kind: training.get(kind)},
            "finished": state["finished"],
            "elapsed": state["elapsed"],
            "skipped": state["skipped"],
            "held_out": state.get("held_out") or latest or None,
            "training": training,
            "sampler": self._tuned(),
            "teacher": model.get("teacher"),
            "origin": self.config.get("origin"),
            "tunable": model.get("kind") == "diffusion" and model.get("method") != "published",
            "notes": list(self.notes),
            "weights": (self.path / WEIGHTS).exists(),
            "held_by": holder(self.path),
            "resume": self.resume_command,
        }


@contextmanager
def as_run(model: GenerativeModel) -> Iterator[Run]:
    """Give a trained model in memory as a run, which is gone on leaving."""
    with TemporaryDirectory() as folder:
        run = Run(model.save(Path(folder) / "model"))
        run.given = "the model"
        yield run


@called
def open(path: str | Path, *, snapshot: int | None = None, device: Any = "cpu") -> GenerativeModel:
    """Return the trained model of the run in the folder `path`, ready to sample; see `Run.model`.

    "hf://OWNER/NAME" is one that `push` put on the Hugging Face hub; "hf://OWNER/NAME@REVISION"
    pins its revision.

    Args:
        path: the folder of a run.
        snapshot: a step in `Run.snapshots`, to take the weights of; None: the newest ones.
        device: where to put the weights, a torch.device or its name.

    Raises:
        InputError: for a folder that is no run, and as `Run.model` does.

    >>> open("no/such/run")
    Traceback (most recent call last):
    undiffuse.errors.InputError: no/such/run: no such folder; check the path of the run.
    """
    return Run(path).model(snapshot, device)
