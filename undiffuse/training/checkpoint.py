"""The run directory: what is in it, and an order of writing that keeps it whole at every instant.

    config.json            what was trained, on what, how: written first, before any step
    weights.safetensors    the averaged weights of the model: with config.json, enough to sample
    state/latest           the name of the newest complete resume state
    state/step-00000500/   state.safetensors (see `state.py`), state.json (counters)
    snapshots/             step-00000500.safetensors: the averaged weights at that step; one is kept
                           at the first checkpoint after the steps have doubled, five in all; not
                           at those written because there was time: what lasts depends on no clock
    sampler.json           how these weights are best sampled (see `models.tuning`); removed when
                           they change
    backend.json           how fast PyTorch and onnxruntime compute these weights (see
                           `exchange.backend_speed`); of other weights it counts for nothing
    log.jsonl              one event a line (see `log.py`)
    samples/               previews

A checkpoint is a new folder under state/, then a snapshot if one is due, then the weights, then the
pointer, then the removal of older folders. Each is one rename, so the pointer always names a whole
state, and the weights are never older than a run that says it is finished. A snapshot that the
pointer did not reach is dropped at the next checkpoint. A run that is overwritten steps aside, to
.NAME.replaced, until the new one has its first checkpoint; if that never comes, the next command
that looks at the run puts it back. One process at a time trains a run: it holds the lock in it.

Tensors are read and written by name and shape; nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from undiffuse import __version__, plugged
from undiffuse.atomic import atomic_file, atomic_folder, contents, sweep, write_json
from undiffuse.errors import InputError
from undiffuse.interfaces import Trainable
from undiffuse.lock import NAME as LOCK
from undiffuse.lock import Lock, holder
from undiffuse.reading import open_regular, read_json, read_text, said, utf8_path
from undiffuse.remote import fetch, refuse_store
from undiffuse.room import check_room
from undiffuse.training.log import read_log
from undiffuse.training.sound import sound_backend, sound_config, sound_counters, sound_sampler

FORMAT = 2  # of config.json
CONFIG, WEIGHTS, LOG, SAMPLES = "config.json", "weights.safetensors", "log.jsonl", "samples"
SAMPLER, BACKEND = "sampler.json", "backend.json"
FOLDERS = ("state", "snapshots", SAMPLES, "evaluation", "held_out_scores")  # that a run writes to
BEGUN = {CONFIG, LOG, LOCK, *FOLDERS}  # of a run that is begun
MOST_SNAPSHOTS = 5


@final
class RunFolder:
    """The files of a run directory; each is read when it is asked for.

    Attributes:
        given: the path as it was typed, for errors.
        path: the folder.
        recorded: config.json of a run that is resumed, else None.
    """

    def __init__(self, path: str | Path) -> None:
        self.given = str(path)
        self.path = Path(os.path.realpath(Path(os.path.expanduser(path))))
        self.recorded: dict[str, Any] | None = None
        self._aside: Path | None = None
        self._locks: list[Lock] = []
        self._identity: tuple[int, int] | None = None
        put_right(self.path)

    @classmethod
    def find(cls, path: str | Path) -> RunFolder:
        """Return the folder of a run that is there, on this machine or on the hub.

        Raises:
            InputError: as `remote.fetch` does.
        """
        fetched = fetch(path)
        if fetched is None:
            return cls(path)
        folder = cls(fetched.folder)
        folder.given = fetched.name
        return folder

    @classmethod
    def claim(cls, out: str | Path, *, resume: bool = False, overwrite: bool = False) -> RunFolder:
        """Return a folder to train into. Checks the place and changes nothing.

        Raises:
            InputError: it is taken and neither `resume` nor `overwrite` is given, it is not a run,
                or there is no run to resume.
        """
        if str(out).startswith("hf:"):
            raise InputError(f"{out}: give a folder here; undiffuse push puts it on the hub then.")
        refuse_store(out)
        folder = cls(out)
        path = folder.path
        if resume and path.exists():
            folder.recorded = folder.config()
        if resume and overwrite:
            raise InputError(
                f"{out}: --resume goes on with a run and --overwrite replaces it; give one of them."
            )
        if resume and folder.recorded is None:
            raise InputError(f"{out}: there is no run to resume; leave out --resume to start one.")
        if path.exists() and not path.is_dir():
            raise InputError(f"{out}: this is a file; give a folder for the run.")
        if who := holder(path):
            raise InputError(f"{out}: is being trained by {who}; wait for it, or stop it first.")
        if not resume and path.exists() and (names := {*contents(path)} - {LOCK}):
            if not _is_run(path):
                raise InputError(
                    f"{out}: the folder holds other files and no run; choose another folder."
                )
            if not overwrite and not (names <= BEGUN and folder._is_bare()):
                raise InputError(
                    f"{out}: already holds a run; "
                    "use --resume to go on with it or --overwrite to replace it."
                )
        return folder

    # --- reading

    def config(self) -> dict[str, Any]:
        """Return config.json.

        Raises:
            InputError: this is not a run, config.json is damaged, or its format is another one.
        """
        if not self.path.is_dir():
            raise InputError(f"{self.given}: no such folder; check the path of the run.")
        for name in FOLDERS:
            if (self.path / name).is_symlink():
                raise InputError(
                    f"{self.given}: its {name}/ is a link to a folder elsewhere, which is not "
                    "followed; put the folder itself in its place."
                )
        try:
            config = read_json(self.path / CONFIG)
        except FileNotFoundError:
            raise InputError(
                f"{self.given}: not a run: it holds no config.json; check the path."
            ) from None
        except (OSError, ValueError) as problem:
            raise InputError(
                f"{self.given}: its config.json cannot be read ({said(problem)}); "
                "restore that file."
            ) from problem
        if isinstance(config, dict) and "undiffuse" not in config and "format" not in config:
            raise InputError(
                f"{self.given}: not a run: its config.json is of another program; check the path."
            )
        number = config.get("format") if isinstance(config, dict) else None
        if isinstance(number, int) and number != FORMAT:
            raise InputError(
                f"{self.given}: its format is {number}, this undiffuse reads {FORMAT}; "
                + ("upgrade undiffuse." if number > FORMAT else "train it again.")
            )
        try:
            return sound_config(config)
        except ValueError as problem:
            raise InputError(
                f"{self.given}: its config.json is damaged ({problem}); restore that file."
            ) from problem

    def weights(self, snapshot: int | None = None) -> dict[str, Tensor]:
        """Return the newest averaged weights by name, or those of the snapshot at a step.

        Raises:
            InputError: there are none, or they are damaged.
        """
        if snapshot is None:
            if not (self.path / WEIGHTS).exists():
                raise InputError(
                    f"{self.given}: incomplete: training had not reached its first checkpoint; "
                    "continue it with --resume."
                )
            return load_tensors(
                self.path / WEIGHTS,
                f"{self.given}: its {WEIGHTS}",
                "continue with --resume to write it anew",
            )
        there = self.snapshots()
        if snapshot not in there:
            kept = f"those of steps {', '.join(map(str, there))} are" if there else "none is"
            raise InputError(f"{self.given}: there is no snapshot of step {snapshot}; {kept} kept.")
        return load_tensors(
            there[snapshot], f"{self.given}: its snapshot of step {snapshot}", "use another"
        )

    def snapshots(self) -> dict[int, Path]:
        """Return step -> file of the snapshots, in order."""
        files = (self.path / "snapshots").glob("step-*.safetensors")
        named = {file.stem.removeprefix("step-"): file for file in files}
        return dict(
            sorted(
                (int(step), file) for step, file in named.items() if re.fullmatch(r"\d{8,}", step)
            )
        )

    def counters(self) -> dict[str, Any] | None:
        """Return the counters of the newest checkpoint, None before the first.

        Raises:
            InputError: they are damaged.
        """
        name = self._newest()
        if name is None:
            return None
        try:
            return sound_counters(read_json(self.path / "state" / name / "state.json"))
        except (OSError, ValueError) as problem:
            raise self._damaged(name, said(problem)) from problem

    def begun(self) -> float:
        """Return when training last began with other options, in seconds since 1970; 0: never."""
        try:
            return (self.path / CONFIG).stat().st_mtime
        except OSError:
            return 0.0

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of the newest checkpoint. Raises InputError if they are damaged."""
        name = self._newest()
        where = f"{self.given}: its resume state {name}"
        advice = "start another run from its weights with --init"
        return load_tensors(self.path / "state" / str(name) / "state.safetensors", where, advice)

    def tuned(self) -> dict[str, Any] | None:
        """Return sampler.json; None without one. Raises ValueError if it is damaged."""
        try:
            return sound_sampler(read_json(self.path / SAMPLER, most=2**20))
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise ValueError(said(problem)) from problem

    def backend(self) -> dict[str, Any] | None:
        """Return backend.json; None without one. Raises ValueError if it is damaged."""
        try:
            return sound_backend(read_json(self.path / BACKEND, most=2**20))
        except FileNotFoundError:
            return None
        except OSError as problem:
            raise ValueError(said(problem)) from problem

    def origin(self) -> dict[str, Any]:
        """Return what another run records of this one, whose weights it starts from.

        Keys: from (what it is called), steps, weights (the first digits of their SHA-256).
        """
        counters = self.counters() or {}
        digest = file_digest(self.path / WEIGHTS)
        return {"from": self.given, "steps": counters.get("step"), "weights": digest}

    # --- writing

    def keep_tuned(self, tree: Mapping[str, Any] | None) -> None:
        """Write sampler.json, or remove it. Raises InputError if that cannot be done."""
        if tree is not None:
            write_json(self.path / SAMPLER, tree)
            return
        try:
            (self.path / SAMPLER).unlink(missing_ok=True)
        except OSError as problem:
            raise InputError(
                f"{self.given}: its {SAMPLER} cannot be removed ({problem.strerror}); "
                "check that the folder can be written to."
            ) from problem

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the run inside, if it is there: no other process trains it meanwhile.

        Raises:
            InputError: another process does.
        """
        held = self._locks
        try:
            if self.path.is_dir():
                held.append(Lock(self.path, self.given))
                for folder in (self.path, *(self.path / name for name in FOLDERS)):
                    sweep(folder)
            yield
        finally:
            while held:
                held.pop().release()

    @contextmanager
    def training(self, config: dict[str, Any]) -> Iterator[None]:
        """Write config.json, and train inside.

        A run that is replaced steps aside first; it comes back if training fails before its first
        checkpoint.
        """
        aside = _aside(self.path)
        try:
            if self.recorded is None and (self.path / CONFIG).exists():
                shutil.rmtree(aside, ignore_errors=True)
                os.replace(self.path, aside)
                self._aside = aside
            made = not self.path.exists()
            self.path.mkdir(parents=True, exist_ok=True)
            self._identity = _identity(self.path)
            if len(self._locks) == (self._aside is not None):
                self._locks.append(Lock(self.path, self.given))
        except OSError as problem:
            put_right(self.path)
            raise InputError(
                f"{self.given}: cannot be written to ({problem.strerror}); choose another folder."
            ) from problem
        try:
            if config != self.recorded:
                write_json(self.path / CONFIG, config)
            yield
        except BaseException:
            if aside.exists() and not (self.path / WEIGHTS).exists():
                shutil.rmtree(self.path, ignore_errors=True)
                os.replace(aside, self.path)
            elif made and self.path.exists() and {*contents(self.path)} <= {CONFIG, LOCK}:
                shutil.rmtree(self.path, ignore_errors=True)
            raise

    def _is_bare(self) -> bool:
        """Whether there are no weights, and nothing to resume: a run killed as it began."""
        kept = (self.path / WEIGHTS, self.path / "state" / "latest")
        return not (any(map(os.path.lexists, kept)) or self.snapshots())

    def check_place(self) -> None:
        """Raise InputError if the run is no longer where training began."""
        if self._identity is not None and _identity(self.path) != self._identity:
            raise InputError(
                f"{self.given}: was moved, removed or replaced while it trained; stopped, so that "
                "there are no two halves of a run. Continue where it is now with --resume."
            )

    def save(
        self,
        counters: Mapping[str, Any],
        tensors: dict[str, Tensor],
        weights: dict[str, Tensor],
        *,
        lasting: bool = True,
    ) -> Path:
        """Write a checkpoint and return its folder. `counters` has "step" and "finished".

        A `lasting` one is kept as a snapshot as well, if one is due.

        Raises:
            InputError: it cannot be written; the checkpoint before stays as it is.
        """
        self.check_place()
        name = f"step-{counters['step']:08d}" + ("-end" if counters["finished"] else "")
        folder = self.path / "state" / name
        if name == self._newest():
            return folder
        shutil.rmtree(folder, ignore_errors=True)  # left by a run that was killed
        with atomic_folder(folder) as temporary:
            save_file(tensors, temporary / "state.safetensors")
            text = json.dumps(counters, indent=2) + "\n"
            (temporary / "state.json").write_text(text, encoding="utf-8")
        self.keep_tuned(None)
        self._keep_snapshot(counters["step"], weights, lasting)
        with atomic_file(self.path / WEIGHTS) as temporary:
            save_file(weights, temporary, metadata={"format": "pt"})
        with atomic_file(self.path / "state" / "latest") as temporary:
            temporary.write_text(name + "\n", encoding="utf-8")
        self._clean()
        self.drop_replaced()
        return folder

    def drop_replaced(self) -> None:
        """Remove the run that stepped aside: the one in its place is whole."""
        if self._aside is not None:
            shutil.rmtree(self._aside, ignore_errors=True)
            self._aside = None

    def _keep_snapshot(self, step: int, weights: dict[str, Tensor], lasting: bool) -> None:
        """Keep the weights if the steps have doubled since the last snapshot, five at most."""
        there = self.snapshots()
        for late in [other for other in there if other > step]:  # not reached by the pointer
            there.pop(late).unlink(missing_ok=True)
        if not lasting or step < 1 or (there and step < 2 * max(there)):
            return
        with atomic_file(self.path / "snapshots" / f"step-{step:08d}.safetensors") as temporary:
            save_file(weights, temporary, metadata={"format": "pt"})
        for old in list(there)[: -(MOST_SNAPSHOTS - 1)]:
            there[old].unlink(missing_ok=True)

    def _clean(self) -> None:
        """Remove all states but the newest: older ones, and parts left by a killed run."""
        newest = self._newest()
        for entry in (self.path / "state").glob("*") if newest else ():
            if entry.name not in (newest, "latest"):
                shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(
                    missing_ok=True
                )

    def _newest(self) -> str | None:
        """The name in state/latest, None if there is none; any other name is damage."""
        try:
            name = read_text(self.path / "state" / "latest", most=2**12).strip()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError) as problem:
            raise self._damaged("latest", said(problem)) from problem
        if not re.fullmatch(r"step-\d{8,}(-end)?", name):
            raise self._damaged("latest", "no such name")
        return name

    def _damaged(self, name: str, problem: object) -> InputError:
        return InputError(
            f"{self.given}: its resume state {name} is damaged ({problem}); "
            "start another run from its weights with --init."
        )


def load_tensors(file: Path, what: str, advice: str) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file. Raises InputError on `what`, with an advice."""
    try:
        os.close(open_regular(file))
        check_room(file.stat().st_size, what, advice)
        with utf8_path(file) as named:
            return load_file(named)
    except (SafetensorError, OSError, ValueError, RuntimeError) as problem:
        if isinstance(problem, InputError):
            raise
        raise InputError(f"{what} is damaged ({said(problem)}); {advice}.") from problem


def file_digest(file: Path) -> str:
    """Return the first 16 digits of the SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()[:16]


def _aside(path: Path) -> Path:
    """Where the run at `path` waits while another one that replaces it has no weights yet."""
    return path.with_name(f".{path.name}.replaced")


def put_right(path: Path) -> None:
    """Complete or undo a replacement of the run at `path` that was killed.

    Once the new run has weights, the old one is removed; until then, it comes back. Nothing is done
    while a process holds one of the two.
    """
    aside = _aside(path)
    with suppress(OSError):
        if not aside.is_dir() or aside.is_symlink() or holder(aside) or holder(path):
            return
        if (path / WEIGHTS).exists():
            shutil.rmtree(aside)
        else:
            if path.exists():
                shutil.rmtree(path)
            os.replace(aside, path)


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _is_run(folder: Path) -> bool:
    """Whether `folder` is a run: config.json names undiffuse, or cannot be read beside a log."""
    try:
        return "undiffuse" in read_json(folder / CONFIG)
    except FileNotFoundError:
        return False
    except (OSError, ValueError, TypeError):
        return (folder / LOG).exists()


# --- config.json


@final
@dataclass(frozen=True)
class Record:
    """How a model was trained: what a run's folder says of it besides its weights.

    Attributes:
        training: the options it was trained with, as plain data.
        sizing: how its width was chosen, likewise; None if it was given.
        log: what happened (see `log.py`), or the file that says so.
    """

    training: dict[str, Any]
    sizing: dict[str, Any] | None
    log: list[dict[str, Any]] | Path


def config_of(
    model: Trainable,
    data: Mapping[str, Any],
    record: Record,
) -> dict[str, Any]:
    """Return the run's config.json, as it reads back from JSON.

    Args:
        model: the model.
        data: what its data recorded of themselves.
        record: how it was trained.

    Raises:
        InputError: a part cannot be recorded, or a number is not finite.
    """
    tree = {
        "format": FORMAT,
        "undiffuse": __version__,
        "torch": torch.__version__,
        "preset": model.preset,
        "parameters": model.parameter_count,
        "model": model.config(),
        "data": data,
        "training": record.training,
    }
    if record.sizing is not None:
        tree["sizing"] = record.sizing
    if own := plugged.record(tree):
        tree["plugins"] = own
    if model.origin is not None:
        tree["origin"] = model.origin
    try:
        return json.loads(json.dumps(tree, allow_nan=False))
    except ValueError as problem:
        raise InputError(
            "model: one of its numbers is not finite, which config.json cannot hold; "
            "give a large number instead."
        ) from problem


def save(model: Trainable, data: Mapping[str, Any], out: str | Path, *, overwrite: bool) -> Path:
    """Write a trained model as a run, whole or not at all; see `GenerativeModel.save`.

    It can be opened, evaluated and scored with, and trained further with `init`; it holds no state
    to resume from.
    """
    record: Record | None = model.record
    if record is None:
        raise InputError(f"{out}: this model has not been trained, so there is no run to write.")
    folder = RunFolder.claim(out, overwrite=overwrite)
    config = config_of(model, data, record)
    events = read_log(record.log) if isinstance(record.log, Path) else record.log
    with folder.locked(), folder.training(config):
        lines = "".join(json.dumps(event) + "\n" for event in events)
        with atomic_file(folder.path / LOG) as temporary:
            temporary.write_text(lines, encoding="utf-8")
        with atomic_file(folder.path / WEIGHTS) as temporary:
            tensors = {name: one.cpu().contiguous() for name, one in model.state_dict().items()}
            save_file(tensors, temporary, metadata={"format": "pt"})
        folder.keep_tuned(model.tuned_tree)
        folder.drop_replaced()
    return folder.path


def check_same(recorded: Mapping[str, Any], now: Mapping[str, Any], where: str) -> None:
    """Raise InputError if a run with config `recorded` cannot be resumed with the config `now`.

    The model has to be the same, and the data have to have the same fingerprint and transform, and
    be mirrored or not as they were; they may have moved.
    """
    _check_data(recorded, now, where, ("fingerprint",))  # which the model is sized to
    other = difference(recorded.get("model"), now["model"], "model")
    if other is not None:
        raise InputError(
            f"{where}: cannot be resumed with another model ({other}); "
            "leave the model's options as they were, or start a run of its own with --init."
        )
    _check_data(recorded, now, where, ("transform", "mirrored"))


def _check_data(
    recorded: Mapping[str, Any], now: Mapping[str, Any], where: str, keys: Sequence[str]
) -> None:
    for key in keys:
        if recorded.get("data", {}).get(key) != now["data"].get(key):
            raise InputError(
                f"{where}: cannot be resumed: the data are not those it was trained on "
                f"(their {key} differs); start a run of its own with --init."
            )


def difference(recorded: Any, now: Any, place: str) -> str | None:
    """Return where two trees first differ, and how; None if they are equal."""
    if isinstance(recorded, Mapping) and isinstance(now, Mapping):
        for key in dict.fromkeys([*recorded, *now]):
            within = f"{place}.{key}".lstrip(".")
            if found := difference(recorded.get(key), now.get(key), within):
                return found
        return None
    return None if recorded == now else f"{place} was {_short(recorded)} and is now {_short(now)}"


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."
