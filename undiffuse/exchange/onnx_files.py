"""Runs as ONNX files, which sample without PyTorch.

    network.onnx   x (B, *shape), c_noise (B,), label, vector -> F      + sampler.json, the table
    sampler.onnx   noise (B, *shape), label, vector, guidance -> rows   + sampler.json, what it is

Each is run by onnxruntime when it has been written, and compared with the model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, final

import numpy as np
import torch

from undiffuse import __version__
from undiffuse.atomic import atomic_folder, write_json
from undiffuse.called import called
from undiffuse.data.arrays.transform import ArrayTransform
from undiffuse.diffusion.noise import RowNoise
from undiffuse.errors import InputError
from undiffuse.exchange.onnx_backend import Speed, measure_backends
from undiffuse.exchange.onnx_loop import whole_sampler
from undiffuse.exchange.onnx_network import (
    LARGEST,
    conditions_of,
    difference_of_network,
    need_onnx,
    network_file,
    network_graph,
    session_of,
    some_conditions,
)
from undiffuse.exchange.sampler_table import SamplerTable, sampler_table
from undiffuse.models import Diffusion, GenerativeModel
from undiffuse.models.diffusion import guided
from undiffuse.run import Run

NETWORK, WHOLE, TABLE = "network.onnx", "sampler.onnx", "sampler.json"


@final
@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: where.
        difference: the largest difference to the model, of its largest value.
        method: the sampling method.
        steps: its steps.
        evaluations: of the network, for each sample.
        speed: how fast PyTorch and onnxruntime compute the network, by rows at a time; empty for a
            model in memory and a run that is only read.
    """

    folder: Path
    difference: float
    method: str
    steps: int
    evaluations: int
    speed: tuple[Speed, ...] = ()


@called
def to_onnx(
    run: str | Path | Run | GenerativeModel,
    out: str | Path,
    *,
    whole: bool = False,
    method: str | None = None,
    steps: int | None = None,
) -> Exported:
    """Write a diffusion model as an ONNX file and a table of its sampler.

    Args:
        run: the run, its folder, or the model.
        out: the folder to write.
        whole: write the whole sampler, noise in and rows in the data's own units out, instead of
            the network.
        method: a deterministic sampling method; None: the model's default.
        steps: how many steps; None: as many as that takes.

    Returns:
        What was written, and how far it is from what the model computes. Of a run on this machine
        also how fast PyTorch and onnxruntime compute its network: that is kept in the run, and
        `undiffuse sample` takes onnxruntime where it was faster.

    Raises:
        InputError: the packages onnx, onnxscript and onnxruntime are not installed, the model is
            none of diffusion, the method draws noise, rows that only PyTorch decodes (`whole`), a
            folder that is taken, and a file that does not compute what the model does.
    """
    need_onnx(f"{out}: ONNX")
    if isinstance(run, GenerativeModel):
        model, own, what = run, None, "the model"
    else:
        own = Run.of(run)
        model, what = own.model(), own.given
    if not isinstance(model, Diffusion):
        raise InputError(f"{what}: only diffusion models are exported, and this is {model.called}.")
    device, training, place = model.device, model.training, Path(os.path.expanduser(out))
    model.cpu().eval()
    try:
        made = _written(model, what, place, own, whole=whole, method=method, steps=steps)
        return made if own is None else replace(made, speed=measure_backends(model, own))
    finally:
        model.to(device).train(training)


def _written(
    model: Diffusion,
    what: str,
    place: Path,
    run: Run | None,
    *,
    whole: bool,
    method: str | None,
    steps: int | None,
) -> Exported:
    """Write the files of a model on the CPU, and check them."""
    table = sampler_table(model, method=method, steps=steps)
    decoding = _decoding(model, what) if whole else None
    tree = _tree(model, table, whole=whole)
    with atomic_folder(place) as folder:
        network = network_graph(model) if run is None else _loaded(network_file(model, run))
        if whole:
            graph = whole_sampler(
                network,
                table,
                shape=tuple(model.shape or ()),
                conditions=conditions_of(model),
                guided=_guided(model, table),
                variance=model.objective.learned_variance,
                decoding=decoding,
            )
            (folder / WHOLE).write_bytes(graph.SerializeToString())
            difference = _check_whole(model, folder / WHOLE, table, method, steps)
        else:
            (folder / NETWORK).write_bytes(network.SerializeToString())
            difference = difference_of_network(model, folder / NETWORK)
        if not difference <= LARGEST:
            raise InputError(
                f"{what}: the file computes something else than the model (by {difference:.1e} of "
                "the largest value), and was not kept; sample with PyTorch."
            )
        write_json(folder / TABLE, tree)
    return Exported(place, difference, table.method, table.steps, len(table.network))


def _loaded(file: Path) -> Any:
    return import_module("onnx").load(str(file))


def _guided(model: Diffusion, table: SamplerTable) -> np.ndarray | None:
    """1 at evaluations where guidance counts; None for a model that cannot be guided."""
    if not conditions_of(model) or model.drop_condition == 0 or model.objective.flow:
        return None
    tuned = model.tuned.guidance if model.tuned else None
    low, high = (tuned.low, tuned.high) if tuned else (0.0, np.inf)
    return ((low <= table.ratio) & (table.ratio <= high)).astype(float)


def _decoding(model: Diffusion, what: str) -> Mapping[str, Any]:
    transform = model.transform
    found = transform.decoding() if isinstance(transform, ArrayTransform) else None
    if found is None:
        raise InputError(
            f"{what}: its rows are decoded by PyTorch alone (tables, gaps, constant columns); "
            "leave --whole out, and decode what comes out here."
        )
    return found


def _tree(model: Diffusion, table: SamplerTable, *, whole: bool) -> dict[str, Any]:
    """What sampler.json holds: the table, or what the whole sampler takes."""
    transform, own = model.transform, conditions_of(model)
    weights = _guided(model, table)
    tuned = model.tuned.guidance if model.tuned else None
    tree: dict[str, Any] = {
        "format": 1,
        "undiffuse": __version__,
        "file": WHOLE if whole else NETWORK,
        "shape": list(model.shape or ()),
        "method": table.method,
        "steps": table.steps,
        "evaluations": len(table.network),
        "conditions": own,
        "classes": list(model.classes),
        "guidance": None if weights is None else (tuned.scale if tuned else 1.0),
        "decode": transform.decoding() if isinstance(transform, ArrayTransform) else None,
    }
    if not whole:
        tree |= {
            "start": {"mean": table.mean.tolist(), "scale": table.scale.tolist()},
            "combine": table.combine.tolist(),
            "network": table.network.tolist(),
            "guided": None if weights is None else weights.tolist(),
            "clip": table.clip,
            "variance": model.objective.learned_variance,
        }
    return tree


def _check_whole(
    model: Diffusion, file: Path, table: SamplerTable, method: str | None, steps: int | None
) -> float:
    """The largest difference of x to the model's, of its largest value; rows have to be equal."""
    session, shape = session_of(file), tuple(model.shape or ())
    scales = (1.0,) if _guided(model, table) is None else (1.0, 2.0)
    found: list[float] = []
    for n, scale in zip((1, 3), (scales * 2)[:2]):
        z = RowNoise(0, n)(torch.empty(n, *shape))
        cond: dict[str, Any] = some_conditions(model, n)
        tuned = model.tuned.guidance if model.tuned else None
        wrap: Callable[..., Any] | None = None
        if len(scales) > 1:
            ends = (tuned.low, tuned.high) if tuned else (0.0, float("inf"))
            wrap = guided(model, scale, low=ends[0], high=ends[1])
        mine = model.draw(
            n, noise=lambda _, z=z: z, method=method, steps=steps, wrap=wrap, **cond
        ).numpy()
        feed = {"noise": z.numpy(), **{name: value.numpy() for name, value in cond.items()}}
        if len(scales) > 1:
            feed["guidance"] = np.asarray(scale, np.float32)
        rows, x = session.run(None, feed)
        found.append(float(np.abs(mine - x).max() / max(np.abs(mine).max(), 1.0)))
        assert model.transform is not None
        if not np.array_equal(rows, model.transform.decode(torch.from_numpy(x))):
            found.append(np.inf)
    return max(found)
