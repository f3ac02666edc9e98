"""The folder of runs: each is a card, read from what its own folder holds.

    training   a process holds the run's lock
    finished   the newest checkpoint says so
    stopped    neither
    damaged    it cannot be read, and a sentence says why

A name is that of a folder directly in the folder of runs; nothing that is a link is followed. A
card is read anew when a file that it comes from has changed.
"""

from __future__ import annotations

import os
import re
import stat
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, final

from undiffuse.errors import InputError
from undiffuse.lock import NAME as LOCK
from undiffuse.lock import holder
from undiffuse.models import MODELS, build_model
from undiffuse.models.base import MOST_TENSORS
from undiffuse.room import bounded
from undiffuse.run import SLACK, Run
from undiffuse.training.checkpoint import CONFIG, FOLDERS, LOG, SAMPLER, SAMPLES, WEIGHTS
from undiffuse.web.limits import LISTED
from undiffuse.web.problems import Refusal

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
"""The names that new runs can have."""

_PICTURE = re.compile(r"step-(\d{6,12})\.png")
_WATCHED = (CONFIG, LOG, WEIGHTS, SAMPLER, "state/latest", SAMPLES, "report.html")


@final
class RunsFolder:
    """The runs in a folder, by name."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._cards: dict[str, tuple[Any, dict[str, Any]]] = {}
        self._traits: dict[Any, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        """Return the names of all runs."""
        try:
            entries = sorted(os.scandir(self.folder), key=lambda entry: entry.name)
        except OSError:
            return []
        return [entry.name for entry in entries if self._is_run(entry.name)]

    def _is_run(self, name: str) -> bool:
        if not is_name(name):
            return False
        path = self.folder / name
        if path.is_symlink() or not path.is_dir():
            return False
        return any(os.path.lexists(path / file) for file in (CONFIG, LOG)) or bool(holder(path))

    def has(self, name: str) -> bool:
        """Return whether there is a run of this name."""
        return self._is_run(name)

    def path(self, name: str) -> Path:
        """Return the folder of a run. Raises Refusal (404) for a name that is none."""
        if not self._is_run(name):
            raise Refusal(404, "run: there is none of this name.")
        return self.folder / name

    def open(self, name: str) -> Run:
        """Return a run, called by its name in messages.

        Raises:
            Refusal: there is none (404).
            InputError: it is damaged.
        """
        path = self.path(name)
        check_links(path, name)
        try:
            run = Run(path)
        except InputError as problem:
            raise InputError(str(problem).replace(str(path), name)) from problem
        run.given = name
        return run

    def file(self, name: str, *parts: str) -> Path:
        """Return a file of a run, which is no link. Raises Refusal (404) if there is none."""
        file = self.path(name).joinpath(*parts)
        folder = self.path(name)
        for part in parts:
            folder = folder / part
            if folder.is_symlink():
                raise Refusal(404, "file: is a link, which is not followed.")
        if not file.is_file():
            raise Refusal(404, "file: the run does not hold it.")
        return file

    def samples(self, name: str) -> list[int]:
        """Return the steps of which a preview is kept, in order."""
        folder = self.path(name) / SAMPLES
        if folder.is_symlink() or not folder.is_dir():
            return []
        found = (_PICTURE.fullmatch(entry) for entry in os.listdir(folder))
        return sorted(int(match[1]) for match in found if match)

    def cards(self) -> list[dict[str, Any]]:
        """Return a card of every run."""
        return [self.card(name) for name in self.names()]

    def card(self, name: str) -> dict[str, Any]:
        """Return what there is to say of a run in a few facts; see `schemas.Card`."""
        path = self.path(name)
        signature = (*map(_signature, (path / file for file in _WATCHED)), holder(path))
        with self._lock:
            kept = self._cards.get(name)
        if kept is not None and kept[0] == signature:
            return dict(kept[1])
        card = self._read(name, path)
        with self._lock:
            self._cards[name] = signature, card
            for other in set(self._cards) - set(self.names()):
                del self._cards[other]
        return dict(card)

    def _read(self, name: str, path: Path) -> dict[str, Any]:
        training = holder(path) is not None
        card: dict[str, Any] = {"name": name, "state": "training" if training else "stopped"}
        try:
            card["modified"] = datetime.fromtimestamp(path.stat().st_mtime, UTC).isoformat()
            run = self.open(name)
            card |= self._facts(run, training=training)
        except InputError as problem:
            begun = training and not (path / CONFIG).exists()
            if not begun:
                card |= {"state": "damaged", "problem": str(problem).replace(str(path), name)}
        except Refusal as problem:
            card |= {"state": "damaged", "problem": problem.detail}
        except Exception as problem:  # whatever a stranger's files hold
            what = f"{name}: its files are damaged ({type(problem).__name__}); restore them."
            card |= {"state": "damaged", "problem": what}
        return card

    def _facts(self, run: Run, *, training: bool) -> dict[str, Any]:
        summary = run.summary()
        data = summary["data"]
        rates = [event for event in run.log[-200:] if event.get("event") == "step"]
        latest = rates[-1] if rates else {}
        held_out = summary["held_out"] or {}
        state = "training" if training else "finished" if summary["finished"] else "stopped"
        steps = latest.get("step") if training else summary["steps"]
        samples = self.samples(run.path.name)
        transform = data.get("transform") or {}
        return {
            "state": state,
            "kind": str(data.get("kind", "")),
            "preset": summary["preset"],
            "step": steps or summary["steps"],
            "steps": summary["asked"].get("steps"),
            "budget": summary["asked"].get("budget"),
            "elapsed": latest.get("elapsed") if training else summary["elapsed"],
            "left": latest.get("left") if training else None,
            "rows_per_second": latest.get("rate") if training else None,
            "held_out": _finite(held_out.get("loss")),
            "modified": _modified(run.path),
            "preview": f"/api/v1/runs/{_quoted(run.path.name)}/samples/{samples[-1]}.png"
            if samples
            else None,
            "labels": list(data.get("classes") or [])[:LISTED] or None,
            "conditions": _conditions(data),
            "source": str(data.get("name") or ""),
            "parameters": summary["parameters"],
            "report": (run.path / "report.html").is_file(),
            **self.traits(run, transform),
        }

    def traits(self, run: Run, transform: dict[str, Any]) -> dict[str, Any]:
        """Return what the model of a run can do, and what its rows are; built once per config."""
        key = (run.path, _signature(run.path / CONFIG), (run.path / WEIGHTS).exists())
        if key not in self._traits:
            if len(self._traits) > LISTED:
                self._traits.clear()
            self._traits[key] = _traits(run)
        return self._traits[key]


def is_name(name: str) -> bool:
    """Return whether a run can have this name: that of an entry of a folder, and not hidden.

    >>> is_name("digits"), is_name(".."), is_name("a/b"), is_name(".undiffuse")
    (True, False, False, False)
    """
    return name[:1] not in ("", ".") and "/" not in name and name.isprintable()


def check_links(path: Path, name: str) -> None:
    """Raise InputError if a file of a run that is read is a link: it may lead anywhere."""
    for file in (CONFIG, LOG, WEIGHTS, SAMPLER, "report.html", "report.json", LOCK, *FOLDERS):
        if (path / file).is_symlink():
            raise InputError(
                f"{name}: its {file} is a link that leads elsewhere, which is not followed; put "
                "the file or folder itself in its place."
            )


def _traits(run: Run) -> dict[str, Any]:
    from undiffuse.data import restore

    transform, form, _ = restore(run.config["data"])
    shape = tuple(transform.row_shape)
    modelled = tuple(transform.shape)
    weights = run.path / WEIGHTS
    size = weights.stat().st_size if weights.exists() else 0
    found: dict[str, Any] = {
        "shape": " x ".join(map(str, shape)) or "1",
        "size": list(modelled) if len(modelled) == 3 else None,
        "form": form.suggested_out.rpartition("samples")[2].lstrip(".").rstrip("/") or "zip",
        "diffusion": run.config["model"].get("kind") == "diffusion",
    }
    try:
        with bounded(2 * size + SLACK, MOST_TENSORS, "larger than its weights"):
            model: Any = build_model(run.config["model"])
    except Exception:  # not yet sized, or damaged: opening it says so
        model = MODELS.get(run.config["model"].get("kind"))
    no_density = getattr(model, "no_density", "")
    return {
        **found,
        "likelihood": not (isinstance(no_density, str) and no_density),
        "gaps": bool(getattr(model, "completes", False)),
    }


def _conditions(data: dict[str, Any]) -> list[str]:
    from undiffuse.data import Conditions

    own = Conditions.restore(data)
    return [] if own is None else [str(name) for name in own.describe()]


def _finite(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < float("inf") else None


def _modified(path: Path) -> str:
    times = [_signature(path / file) for file in (CONFIG, LOG, WEIGHTS)]
    newest = max((time[0] for time in times if time), default=path.stat().st_mtime_ns)
    return datetime.fromtimestamp(newest / 1e9, UTC).isoformat()


def _quoted(name: str) -> str:
    from urllib.parse import quote

    return quote(name, safe="")


def _signature(file: Path) -> tuple[int, int, int] | None:
    """What changes when a file does: its time, size and place; None without it."""
    try:
        status = os.lstat(file)
    except OSError:
        return None
    if stat.S_ISLNK(status.st_mode):
        return (-1, 0, status.st_ino)
    return status.st_mtime_ns, status.st_size, status.st_ino
