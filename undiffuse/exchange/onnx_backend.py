"""PyTorch or onnxruntime: which of them computes a run's network when it is sampled.

Both compute the same to 1e-4 of the largest value, and not to the last bit. Which is faster
depends on the machine, the network and how many rows are computed at a time, and changes with what
else a machine does. So it is measured once, when the run is exported, and kept in its backend.json:

    {"weights": DIGEST, "machine": TEXT, "batches": [{"rows": 1, "torch": ms, "onnx": ms}, ...]}

`sample` only looks it up. One seed then gives the same bytes each time; a trial at every sampling
would change them with the load of the machine. A model that stays open, as in a service, keeps its
session of onnxruntime.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, final
from weakref import WeakKeyDictionary

import numpy as np
import torch

from undiffuse.diffusion.noise import RowNoise
from undiffuse.errors import InputError
from undiffuse.exchange.onnx_network import (
    OnnxNetwork,
    conditions_of,
    need_onnx,
    network_file,
    some_conditions,
)
from undiffuse.lock import holder
from undiffuse.models import Diffusion, GenerativeModel
from undiffuse.run import Run
from undiffuse.training.checkpoint import BACKEND, WEIGHTS, file_digest

ROWS = (1, 32)  # at a time, that are measured, besides as many as the model computes by default
_TURNS, _SECONDS = (3, 9), 3.0  # of each: at least and at most, and for how long
_FASTER = 1.1  # so that what is left to chance does not decide
_ON_ONNX: WeakKeyDictionary[Diffusion, Diffusion] = WeakKeyDictionary()  # opened once for a model
_DIGESTS: WeakKeyDictionary[Diffusion, str] = WeakKeyDictionary()  # of the weights it was read from


@final
@dataclass(frozen=True)
class Speed:
    """How long one evaluation of a network takes.

    Attributes:
        rows: how many are computed at a time.
        torch: milliseconds in PyTorch.
        onnx: milliseconds in onnxruntime.
    """

    rows: int
    torch: float
    onnx: float

    @property
    def ratio(self) -> float:
        """How many times as fast onnxruntime is."""
        return self.torch / self.onnx


def on_onnxruntime(model: GenerativeModel, run: Run) -> GenerativeModel:
    """Return the model of a run with its network computed by onnxruntime, on the CPU.

    The model itself stays as it is; asked again, the same one is returned.

    Args:
        model: the run's model.
        run: the run.

    Raises:
        InputError: for another family, a package that is not installed, and a network of which
            onnxruntime computes something else.
    """
    need_onnx("--backend onnx")
    if not isinstance(model, Diffusion):
        raise InputError(
            f"--backend onnx: only diffusion models have it; leave it out of {run.given}."
        )
    if model.device.type != "cpu":
        raise InputError("--backend onnx: computes on the CPU; add --device cpu.")
    if model not in _ON_ONNX:
        _ON_ONNX[model] = model.with_network(_in_onnxruntime(model, run))
    return _ON_ONNX[model]


def _in_onnxruntime(model: Diffusion, run: Run) -> OnnxNetwork:
    return OnnxNetwork(model.network, network_file(model, run), tuple(conditions_of(model)))


def measure_backends(model: Diffusion, run: Run) -> tuple[Speed, ...]:
    """Measure both on this machine, and keep that in the run.

    Nothing is measured of a run of the hub, and of one that is being trained.

    Args:
        model: the run's model, on the CPU.
        run: the run.
    """
    if run.remote or holder(run.path) is not None:
        return ()
    other = _in_onnxruntime(model, run)
    counts = sorted({*ROWS, model.at_once})
    speeds = tuple(_speed(model, other, rows) for rows in counts)
    run.keep_backend(
        {
            "weights": file_digest(run.path / WEIGHTS),
            "machine": this_machine(),
            "batches": [asdict(one) for one in speeds],
        }
    )
    return speeds


def _speed(model: Diffusion, other: OnnxNetwork, rows: int) -> Speed:
    """Time an evaluation of both in turns."""
    assert model.shape is not None
    x = RowNoise(0, rows)(torch.empty(rows, *model.shape))
    inputs = {"x": x, "c_noise": torch.zeros(rows), **some_conditions(model, rows)}
    found: tuple[list[float], list[float]] = ([], [])
    began = time.perf_counter()
    with torch.inference_mode():
        for turn in range(1 + _TURNS[1]):
            if turn > _TURNS[0] and time.perf_counter() - began > _SECONDS:
                break
            for network, times in zip((model.network, other), found):
                start = time.perf_counter()
                network(**inputs)
                times.append(1e3 * (time.perf_counter() - start))
    medians = (float(np.median(times[1:])) for times in found)  # the first turn warms up
    return Speed(rows, *medians)


def this_machine() -> str:
    """Return the processor, and the threads that PyTorch has of it."""
    return f"{_processor()}, {torch.get_num_threads()} threads"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def faster_with_onnx(speeds: Sequence[Speed], rows: int) -> bool:
    """Return whether onnxruntime was faster for so many rows at a time.

    Between two counts that were measured it has to be at both, by a tenth.

    >>> speeds = [Speed(1, torch=10.0, onnx=2.0), Speed(32, torch=50.0, onnx=60.0)]
    >>> faster_with_onnx(speeds, 1), faster_with_onnx(speeds, 16), faster_with_onnx(speeds, 99)
    (True, False, False)
    """
    below = max((one for one in speeds if one.rows <= rows), key=_rows, default=None)
    above = min((one for one in speeds if one.rows >= rows), key=_rows, default=None)
    return all(one.ratio >= _FASTER for one in (below, above) if one is not None)


def _rows(speed: Speed) -> int:
    return speed.rows


def fastest(
    model: GenerativeModel, run: Run, rows: int, say: Callable[[str], None]
) -> GenerativeModel:
    """Return the model of a run, computed by what was measured to be faster.

    Without a measurement it is PyTorch.

    Args:
        model: the run's model.
        run: the run.
        rows: how many are computed at a time.
        say: is told what was chosen, in a sentence, where there is a choice.
    """
    redo = "undiffuse export measures it again"
    try:
        kept: dict[str, Any] | None = run.backend()
    except ValueError as problem:
        say(f"PyTorch computes the network: {BACKEND} is damaged ({problem}); {redo}.")
        return model
    if kept is None or not isinstance(model, Diffusion) or model.device.type != "cpu":
        return model
    if model not in _DIGESTS:
        _DIGESTS[model] = file_digest(run.path / WEIGHTS)
    if kept["weights"] != _DIGESTS[model]:  # trained on since
        return model
    if kept["machine"] != this_machine():
        other = "another machine, or with another number of threads"
        say(f"PyTorch computes the network: it was compared with onnxruntime on {other}; {redo}.")
        return model
    speeds = [Speed(**one) for one in kept["batches"]]
    if not faster_with_onnx(speeds, rows):
        say(f"PyTorch computes the network: it was faster for {rows:,} rows at a time.")
        return model
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if find_spec(name) is None]
    if missing:
        say(
            f"PyTorch computes the network: onnxruntime was faster, and {missing[0]} is not "
            "installed; pip install 'undiffuse[onnx]'."
        )
        return model
    try:
        made = on_onnxruntime(model, run)
    except InputError as problem:
        say(f"PyTorch computes the network: {problem}")
        return model
    say(
        f"onnxruntime computes the network: it was faster for {rows:,} rows at a time; "
        "--backend torch takes PyTorch."
    )
    return made
