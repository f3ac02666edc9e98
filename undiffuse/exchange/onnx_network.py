"""A network as an ONNX file, and onnxruntime that computes it.

    x (B, *shape), c_noise (B,), label (B,), vector (B, v) -> F

The file is made from the network, run by onnxruntime, and compared with the network.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from undiffuse.atomic import atomic_file
from undiffuse.data.folder import cache_folder
from undiffuse.diffusion.noise import RowNoise
from undiffuse.errors import InputError
from undiffuse.models import Diffusion
from undiffuse.run import Run
from undiffuse.training.checkpoint import WEIGHTS, file_digest

LARGEST = 1e-4  # difference to the model, of the largest value

_LOGGERS = ("torch.onnx", "torch.onnx._internal.exporter._registration", "onnxscript")


def need_onnx(what: str) -> None:
    """Raise InputError if a package that `what` needs is not installed."""
    try:
        for name in ("onnx", "onnxscript", "onnxruntime"):
            import_module(name)
    except ImportError as problem:
        raise InputError(
            f"{what} needs onnx, onnxscript and onnxruntime; pip install 'undiffuse[onnx]'."
        ) from problem


def conditions_of(model: Diffusion) -> dict[str, int]:
    """Return "label" and "vector" -> its size, of those that the model's network takes."""
    found = {"label": len(model.classes)} if model.classes else {}
    return found | ({"vector": sum(model.condition_widths)} if model.kept is not None else {})


def network_graph(model: Diffusion) -> Any:
    """Return the model's network as an onnx.ModelProto, for any number of rows."""
    shape = tuple(model.shape or ())
    rows = torch.export.Dim("batch", min=1)
    inputs: dict[str, Tensor] = {"x": torch.randn(2, *shape), "c_noise": torch.linspace(-1, 1, 2)}
    inputs |= some_conditions(model, 2)
    order = ["x", "c_noise", *conditions_of(model)]
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            _Named(model.network, order),
            tuple(inputs[name] for name in order),
            dynamo=True,
            dynamic_shapes=(tuple({0: rows} for _ in order),),
            input_names=order,
            output_names=["F"],
            verbose=False,
        )
    assert program is not None
    return program.model_proto


@final
class _Named(nn.Module):
    """A network that takes its inputs by their places."""

    def __init__(self, network: nn.Module, names: list[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.network(inputs[0], inputs[1], **dict(zip(self.names[2:], inputs[2:])))


@contextmanager
def _quietly() -> Iterator[None]:
    """Without what the exporter says of packages that are not there."""
    before = {name: logging.getLogger(name).level for name in _LOGGERS}
    for name in before:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


def some_conditions(model: Diffusion, n: int) -> dict[str, Tensor]:
    """Return conditions of n rows, as samples have them."""
    found = model.sample_conditions(n, seed=0)
    return {name: found[name].to(torch.int64 if name == "label" else torch.float32)
            for name in conditions_of(model)}  # fmt: skip


def session_of(file: Path) -> Any:
    """Return a session of onnxruntime for a file, on as many threads as PyTorch takes."""
    onnxruntime: Any = import_module("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def difference_of_network(model: Diffusion, file: Path) -> float:
    """The largest difference of F to the model's, of its largest value, for 1 and 3 rows."""
    session, shape = session_of(file), tuple(model.shape or ())
    found: list[float] = []
    for n in (1, 3):
        z = RowNoise(0, n)(torch.empty(n, *shape))
        inputs = {"x": z, "c_noise": torch.linspace(-0.5, 0.5, n), **some_conditions(model, n)}
        with torch.no_grad():
            mine = model.network(**inputs).numpy()
        theirs = session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]
        found.append(float(np.abs(mine - theirs).max() / max(np.abs(mine).max(), 1.0)))
    return max(found)


def network_file(model: Diffusion, run: Run) -> Path:
    """Return the file of a run's network: in the cache, by the digest of the run's weights.

    Args:
        model: the run's model, on the CPU.
        run: the run.

    Raises:
        InputError: onnxruntime computes something else than the network.
    """
    file = cache_folder() / "onnx" / f"{file_digest(run.path / WEIGHTS)}.onnx"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as temporary:
            temporary.write_bytes(network_graph(model).SerializeToString())
            if not (off := difference_of_network(model, temporary)) <= LARGEST:
                raise InputError(
                    f"{run.given}: onnxruntime computes something else than the model (by "
                    f"{off:.1e} of the largest value); sample with PyTorch."
                )
    return file


@final
class OnnxNetwork(nn.Module):
    """A network as a file computes it; rows of which something is known, as PyTorch does.

    Args:
        network: the same network in PyTorch.
        file: the file.
        conditions: the names of the conditions that the file takes.
    """

    def __init__(self, network: nn.Module, file: Path, conditions: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.conditions, self.session = network, conditions, session_of(file)

    def forward(self, x: Tensor, c_noise: Tensor, **cond: Any) -> Tensor:
        """Return F (B, *shape)."""
        if cond.get("given") is not None or torch.is_grad_enabled():
            return self.network(x, c_noise, **cond)
        feed = {"x": x, "c_noise": c_noise, **{k: cond.get(k) for k in self.conditions}}
        if "label" in feed and feed["label"] is None:
            feed["label"] = torch.full((len(x),), -1, dtype=torch.int64)
        if "vector" in feed and feed["vector"] is None:
            size = next(one.shape[1] for one in self.session.get_inputs() if one.name == "vector")
            feed["vector"] = torch.zeros(len(x), size)
        arrays = {
            name: value.numpy().astype(np.int64 if name == "label" else np.float32)
            for name, value in feed.items()
        }
        return torch.from_numpy(self.session.run(None, arrays)[0])
