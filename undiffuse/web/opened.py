"""Models that stay open: the next drawing need not read the weights again.

A model is known by its folder and by the identity of its weights, sampler and configuration; when
one of these changes it is opened anew. The ones that were used last are kept, a few, in at most a
quarter of the memory.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any, final

import torch

from undiffuse.models import GenerativeModel
from undiffuse.room import memory
from undiffuse.run import Run
from undiffuse.training.checkpoint import CONFIG, SAMPLER, WEIGHTS
from undiffuse.web.limits import OPENED
from undiffuse.web.runs import RunsFolder, check_links


@final
class Opened:
    """The models of a folder of runs that are open."""

    def __init__(self, runs: RunsFolder, device: torch.device) -> None:
        self.runs, self.device = runs, device
        self._kept: OrderedDict[Any, tuple[Run, GenerativeModel, int]] = OrderedDict()
        self._lock = threading.Lock()

    def open(self, name: str) -> tuple[Run, GenerativeModel]:
        """Return a run and its model, which nobody may change.

        Raises:
            Refusal: there is no such run (404).
            InputError: as `Run.model` does.
        """
        path = self.runs.path(name)
        check_links(path, name)
        with self._lock:
            key = (path, *(identity(path / file) for file in (CONFIG, WEIGHTS, SAMPLER)))
            if key in self._kept:
                self._kept.move_to_end(key)
                run, model, _ = self._kept[key]
                return run, model
            run = self.runs.open(name)
            model = run.model(device=self.device)
            size = sum(one.numel() * one.element_size() for one in model.state_dict().values())
            for other in [other for other in self._kept if other[0] == path]:
                del self._kept[other]
            self._kept[key] = run, model, size
            while len(self._kept) > 1 and (
                len(self._kept) > OPENED
                or sum(kept[2] for kept in self._kept.values()) > memory() // 4
            ):
                self._kept.popitem(last=False)
            return run, model

    def forget(self, name: str) -> None:
        """Close the model of a run."""
        with self._lock:
            for key in [key for key in self._kept if key[0].name == name]:
                del self._kept[key]


def identity(file: Path) -> tuple[int, int, int] | None:
    """Return what changes when a file is written anew; None if there is none."""
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
