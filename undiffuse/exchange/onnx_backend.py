"""A model whose network is computed by onnxruntime; everything else stays as it is.

The file of the network is made when it is first needed, kept in the cache under the digest of the
run's weights, and compared with the network each time it is made.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from undiffuse.atomic import atomic_file
from undiffuse.data.folder import cache_folder
from undiffuse.errors import InputError
from undiffuse.exchange.onnx_files import (
    LARGEST,
    conditions_of,
    difference_of_network,
    need_onnx,
    network_graph,
    session_of,
)
from undiffuse.models import Diffusion, GenerativeModel
from undiffuse.run import Run
from undiffuse.training.checkpoint import WEIGHTS, file_digest


def on_onnxruntime(model: GenerativeModel, run: Run) -> GenerativeModel:
    """Return the model of a run with its network computed by onnxruntime, on the CPU.

    Args:
        model: the run's model.
        run: the run.

    Raises:
        InputError: for another family, a package that is not installed, and a network of which
            onnxruntime computes something else.
    """
    need_onnx("--backend onnx")
    if not isinstance(model, Diffusion):
        raise InputError(f"--backend onnx: only diffusion models have it; leave it out of {run!r}.")
    if model.device.type != "cpu":
        raise InputError("--backend onnx: computes on the CPU; add --device cpu.")
    file = cache_folder() / "onnx" / f"{file_digest(run.path / WEIGHTS)}.onnx"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(file) as temporary:
            temporary.write_bytes(network_graph(model).SerializeToString())
            if not (off := difference_of_network(model, temporary)) <= LARGEST:
                raise InputError(
                    f"--backend onnx: onnxruntime computes something else (by {off:.1e} of the "
                    "largest value); leave it out."
                )
    model.trained().network = OnnxNetwork(model.network, file, tuple(conditions_of(model)))
    return model


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
