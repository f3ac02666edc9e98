"""The run directory: what is in it, and the order of writing that keeps it whole whenever the machine stops.

    config.json            what was trained, on what, how: written first, before any step
    weights.safetensors    the averaged weights of the whole model: with config.json, enough to sample
    state/latest           the name of the newest complete resume state
    state/step-00000500/   state.safetensors (weights in training, moments, averages), state.json (counters)
    snapshots/             step-00000500.safetensors: the averaged weights as they were, the last five of them; one is
                           kept at the first checkpoint after the steps have doubled (for autoguidance)
    log.jsonl              one event a line
    samples/               previews

A checkpoint is a new folder under state/, then a snapshot if one is due, then the weights, then the pointer, then the
removal of older folders. Each is one rename, so at every instant the pointer names a whole state, and weights are never
older than a run that says it is finished; a snapshot that the pointer did not reach is dropped at the next checkpoint.
A run that is overwritten steps aside, to .NAME.replaced, until the new one has its first checkpoint.
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

from undiffuse.atomic import atomic_file, atomic_folder, write_json
from undiffuse.errors import InputError

FORMAT = 2  # of config.json
CONFIG, WEIGHTS, LOG, SAMPLES = "config.json", "weights.safetensors", "log.jsonl", "samples"
SNAPSHOTS, MOST_SNAPSHOTS = "snapshots", 5


def read_config(path: str | Path) -> dict[str, Any]:
    """The run's config.json. Raises InputError for what is no run, is damaged, or comes from a newer version."""
    folder = Path(os.path.expanduser(path))
    if not folder.is_dir():
        raise InputError(f"{path}: no such folder; check the path of the run.")
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        number = config["format"]
        newer, older = number > FORMAT, number < FORMAT
    except FileNotFoundError:
        raise InputError(
            f"{path}: not a run, for there is no config.json in it; check the path."
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise InputError(
            f"{path}: its config.json cannot be read ({problem}); restore that file."
        ) from problem
    if newer:
        raise InputError(
            f"{path}: written in format {number}, this undiffuse reads {FORMAT}; upgrade undiffuse."
        )
    if older:
        raise InputError(
            f"{path}: written in format {number} by an older undiffuse, this one reads {FORMAT}; "
            "train it again."
        )
    return config


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The run's averaged weights by name. Raises InputError if there are none yet, or they are damaged."""
    file = Path(os.path.expanduser(path)) / WEIGHTS
    if not file.exists():
        raise InputError(
            f"{path}: incomplete, training had not reached its first checkpoint; go on with --resume."
        )
    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as problem:
        raise InputError(
            f"{path}: its weights.safetensors is damaged ({problem}); go on with --resume to write it anew."
        ) from problem


def snapshots(path: str | Path) -> dict[int, Path]:
    """The run's snapshots, step -> file, in the order of their steps."""
    files = (Path(os.path.expanduser(path)) / SNAPSHOTS).glob("step-*.safetensors")
    found = {
        int(file.stem.removeprefix("step-")): file
        for file in files
        if re.fullmatch(r"step-\d{8,}", file.stem)
    }
    return dict(sorted(found.items()))


def read_snapshot(path: str | Path, step: int) -> dict[str, Tensor]:
    """The averaged weights at a step that there is a snapshot of. Raises InputError if there is none, naming those
    that there are, or if it is damaged.
    """
    found = snapshots(path)
    if step not in found:
        there = f"those of steps {', '.join(map(str, found))} are" if found else "none is"
        raise InputError(f"{path}: there is no snapshot of step {step}; {there} kept.")
    try:
        return load_file(found[step])
    except (SafetensorError, OSError, ValueError) as problem:
        raise InputError(
            f"{path}: its snapshot of step {step} is damaged ({problem}); use another."
        ) from problem


def read_state(path: str | Path) -> dict[str, Any] | None:
    """The counters of the newest checkpoint (step, elapsed, skipped, finished, ...); None before the first."""
    name = _pointer(Path(os.path.expanduser(path)))
    if name is None:
        return None
    try:
        return json.loads(
            (Path(os.path.expanduser(path)) / "state" / name / "state.json").read_text(
                encoding="utf-8"
            )
        )
    except (OSError, ValueError) as problem:
        raise _damaged(path, name, problem) from problem


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
            raise InputError(
                f"{out}: --resume goes on with a run and --overwrite replaces it; give one of them."
            )
        if resume and self.config is None:
            raise InputError(f"{out}: there is no run to resume; leave out --resume to start one.")
        if self.path.exists() and not self.path.is_dir():
            raise InputError(f"{out}: this is a file; give a folder for the run.")
        if not resume and self.path.exists() and any(self.path.iterdir()):
            if not _is_run(self.path):
                raise InputError(
                    f"{out}: the folder holds other files and no run; choose another folder."
                )
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
                shutil.rmtree(
                    self.path
                )  # an overwriting run that was killed before its first checkpoint
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

    def save(
        self, state: Mapping[str, Any], tensors: dict[str, Tensor], weights: dict[str, Tensor]
    ) -> Path:
        """Write a checkpoint; `state` has "step" and "finished". Raises InputError, the last one kept, if the disk
        is full or refuses.
        """
        name = f"step-{state['step']:08d}" + ("-end" if state["finished"] else "")
        folder = self.path / "state" / name
        if name == _pointer(self.path):
            return folder
        shutil.rmtree(
            folder, ignore_errors=True
        )  # left by a run that was killed before it moved the pointer
        with atomic_folder(folder) as temporary:
            save_file(tensors, temporary / "state.safetensors")
            (temporary / "state.json").write_text(
                json.dumps(state, indent=2) + "\n", encoding="utf-8"
            )
        self._keep_snapshot(state["step"], weights)
        with atomic_file(self.path / WEIGHTS) as temporary:
            save_file(weights, temporary, metadata={"format": "pt"})
        with atomic_file(self.path / "state" / "latest") as temporary:
            temporary.write_text(name + "\n", encoding="utf-8")
        self._clean()
        if self.aside is not None:
            shutil.rmtree(self.aside, ignore_errors=True)
            self.aside = None
        return folder

    def _keep_snapshot(self, step: int, weights: dict[str, Tensor]) -> None:
        """Keep the weights if the steps have doubled since the last snapshot, and no more than the last five."""
        there = snapshots(self.path)
        for late in [
            other for other in there if other > step
        ]:  # written, and then not reached by the pointer
            there.pop(late).unlink(missing_ok=True)
        if step < 1 or (there and step < 2 * max(there)):
            return
        with atomic_file(self.path / SNAPSHOTS / f"step-{step:08d}.safetensors") as temporary:
            save_file(weights, temporary, metadata={"format": "pt"})
        for old in list(there)[: -(MOST_SNAPSHOTS - 1)]:
            there[old].unlink(missing_ok=True)

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
                shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(
                    missing_ok=True
                )


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
