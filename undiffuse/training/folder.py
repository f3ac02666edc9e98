"""The run directory: what is in it, and the order of writing that keeps it whole whenever the machine stops.

    config.json            what was trained, on what, how: written first, before any step
    weights.safetensors    the averaged weights of the whole model: with config.json, enough to sample
    state/latest           the name of the newest complete resume state
    state/step-00000500/   state.safetensors (weights in training, moments, averages), state.json (counters)
    log.jsonl              one event a line
    samples/               previews

A checkpoint is a new folder under state/, then the weights, then the pointer, then the removal of older folders. Each
is one rename, so at every instant the pointer names a whole state, and weights are never older than a run that says
it is finished. A run that is overwritten steps aside, to .NAME.replaced, until the new one has its first checkpoint.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from undiffuse.atomic import atomic_file, atomic_folder
from undiffuse.errors import InputError

FORMAT = 1
CONFIG, WEIGHTS, LOG, SAMPLES = "config.json", "weights.safetensors", "log.jsonl", "samples"


def read_config(path: str | Path) -> dict[str, Any]:
    """The run's config.json. Raises InputError for what is no run, is damaged, or comes from a newer version."""
    folder = Path(os.path.expanduser(path))
    if not folder.is_dir():
        raise InputError(f"{path}: no such folder; check the path of the run.")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        number = config["format"]
        newer = number > FORMAT
    except FileNotFoundError:
        raise InputError(f"{path}: not a run, for there is no config.json in it; check the path.") from None
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise InputError(f"{path}: its config.json cannot be read ({problem}); restore that file.") from problem
    if newer:
        raise InputError(f"{path}: written in format {number}, this undiffuse reads {FORMAT}; upgrade undiffuse.")
    return config


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The run's averaged weights by name. Raises InputError if there are none yet, or they are damaged."""
    file = Path(os.path.expanduser(path)) / WEIGHTS
    if not file.exists():
        raise InputError(f"{path}: incomplete, training had not reached its first checkpoint; go on with --resume.")
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as problem:
        raise InputError(
            f"{path}: its weights.safetensors is damaged ({problem}); go on with --resume to write it anew."
        ) from problem


def read_state(path: str | Path) -> dict[str, Any] | None:
    """The counters of the newest checkpoint (step, elapsed, skipped, finished, ...); None before the first."""
    name = _pointer(Path(os.path.expanduser(path)))
    if name is None:
        return None
    try:
        return json.loads((Path(os.path.expanduser(path)) / "state" / name / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise _damaged(path, name, problem) from problem


def write_json(path: Path, tree: Any) -> None:
    """Write `tree` whole or not at all."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(tree, indent=2, allow_nan=False) + "\n", encoding="utf-8")


class RunFolder:
    """A run directory that is being trained into. Making one checks and changes nothing; `begin` writes first.

    Raises InputError if the place is taken and neither `resume` nor `overwrite` is given, is not a run, or holds no
    run to resume.
    """

    def __init__(self, out: str | Path, *, resume: bool = False, overwrite: bool = False) -> None:
        self.given = str(out)
        self.path = Path(os.path.realpath(Path(os.path.expanduser(out))))
        self.aside: Path | None = None
        self.config = read_config(out) if resume and self.path.exists() else None
        if resume and overwrite:
            raise InputError(f"{out}: --resume goes on with a run and --overwrite replaces it; give one of them.")
        if resume and self.config is None:
            raise InputError(f"{out}: there is no run to resume; leave out --resume to start one.")
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{out}: this is a file; give a folder for the run.")
        if not resume and self.path.exists() and any(self.path.iterdir()):
            if not _is_run(self.path):
                raise InputError(f"{out}: the folder holds other files and no run; choose another folder.")
            if not overwrite:
                raise InputError(
                    f"{out}: already holds a run; use --resume to go on with it or --overwrite to replace it."
                )

    def begin(self, config: Mapping[str, Any]) -> None:
        """Write config.json; a run that is being replaced steps aside first."""
        if self.config is None and (self.path / CONFIG).exists():
            self._step_aside()
        if dict(config) != self.config:
            try:
                write_json(self.path / CONFIG, config)
            except BaseException:
                self.give_up()
                raise
        self._clean()

    def _step_aside(self) -> None:
        self.aside = self.path.with_name(f".{self.path.name}.replaced")
        try:
            if self.aside.exists() and not (self.path / WEIGHTS).exists():
                shutil.rmtree(self.path)  # an overwriting run that was killed before its first checkpoint
                return
            shutil.rmtree(self.aside, ignore_errors=True)
            os.replace(self.path, self.aside)
        except OSError as problem:
            raise InputError(
                f"{self.given}: cannot be replaced ({problem.strerror}); choose another folder."
            ) from problem

    def give_up(self) -> None:
        """Training ended without a checkpoint: the run that was to be replaced comes back."""
        if self.aside is not None and self.aside.exists():
            shutil.rmtree(self.path, ignore_errors=True)
            os.replace(self.aside, self.path)
            self.aside = None

    def save(self, state: Mapping[str, Any], tensors: dict[str, Tensor], weights: dict[str, Tensor]) -> Path:
        """Write a checkpoint; `state` has "step" and "finished". Raises InputError, the last one kept, if the disk
        is full or refuses.
        """
        name = f"step-{state['step']:08d}" + ("-end" if state["finished"] else "")
        folder = self.path / "state" / name
        if name == _pointer(self.path):
            return folder
        shutil.rmtree(folder, ignore_errors=True)  # left by a run that was killed before it moved the pointer
        with atomic_folder(folder) as temporary:
            save_file(tensors, temporary / "state.safetensors")
            (temporary / "state.json").write_text(json.dumps(state, indent=2) + "\n", encoding="utf-8")
        with atomic_file(self.path / WEIGHTS) as temporary:
            save_file(weights, temporary, metadata={"format": "pt"})
        with atomic_file(self.path / "state" / "latest") as temporary:
            temporary.write_text(name + "\n", encoding="utf-8")
        self._clean()
        if self.aside is not None:
            shutil.rmtree(self.aside, ignore_errors=True)
            self.aside = None
        return folder

    def saved(self) -> int | None:
        """The step of the newest checkpoint, None before the first."""
        state = read_state(self.path)
        return None if state is None else state["step"]

    def load(self) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """(state, tensors) of the newest checkpoint; None before the first. Raises InputError if it is damaged."""
        state, name = read_state(self.path), _pointer(self.path)
        if state is None or name is None:
            return None
        try:
            return state, load_file(self.path / "state" / name / "state.safetensors")
        except (SafetensorError, OSError, ValueError) as problem:
            raise _damaged(self.given, name, problem) from problem

    def _clean(self) -> None:
        """Remove what is not the newest state: older ones, and halves left by a run that was killed."""
        newest = _pointer(self.path)
        for entry in (self.path / "state").glob("*") if newest else ():
            if entry.name not in (newest, "latest"):
                shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)


def _is_run(folder: Path) -> bool:
    """Whether config.json is one of a run, not one of the many other things that are called so; a damaged one is
    taken for a run's if there is a log beside it.
    """
    try:
        return "undiffuse" in json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return False
    except (OSError, ValueError, TypeError):
        return (folder / LOG).exists()


def _pointer(path: Path) -> str | None:
    """The name in state/latest, None if there is none; a name that no checkpoint has is damage."""
    try:
        name = (path / "state" / "latest").read_text(encoding="utf-8").strip()
    except OSError:
        return None
    if not re.fullmatch(r"step-\d{8,}(-end)?", name):
        raise _damaged(path, "latest", "no such name")
    return name


def _damaged(path: str | Path, name: str, problem: object) -> InputError:
    return InputError(
        f"{path}: its resume state {name} is damaged ({problem}); start another run from its weights with --init."
    )
