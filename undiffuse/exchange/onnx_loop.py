"""The whole sampler as one ONNX graph: noise in, rows out, a Loop over the evaluations.

    noise --mean, scale--> h_0 --Loop: x_i = M[i] h, x_hat = network--> M[n] h --decode--> rows

The network stands once, inside the loop. With guidance its rows are computed twice where the scale
is not 1, and once where it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib import import_module
from typing import Any, final

import numpy as np

from undiffuse.exchange.sampler_table import SamplerTable

_NETWORK = "network_"  # prefix of the names inside the network


def _onnx(name: str) -> Any:
    """A part of the package onnx, which is installed only where it is wanted."""
    return getattr(import_module("onnx"), name)


@final
class _Graph:
    """Nodes in the order they are added; a call adds one and returns the name of its output."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[Any] = []

    def __call__(self, kind: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        helper = _onnx("helper")
        output = name or f"{self.prefix}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], **attributes))
        return output

    def constant(self, value: Any, dtype: Any = np.int64) -> str:
        """Add a constant."""
        return self("Constant", value=_onnx("numpy_helper").from_array(np.asarray(value, dtype)))


def whole_sampler(
    network: Any,  # an onnx.ModelProto
    table: SamplerTable,
    *,
    shape: tuple[int, ...],
    conditions: Mapping[str, int],
    guided: np.ndarray | None,
    variance: bool,
    decoding: Mapping[str, Any] | None,
) -> Any:
    """Return the graph of a sampler as an onnx.ModelProto.

    Args:
        network: the graph of the network: x, c_noise and the conditions -> F.
        table: the sampler.
        shape: of a row at unit scale.
        conditions: "label" and "vector" -> its size, of those that the network takes.
        guided: (n,) 1 where guidance counts, else 0; None: there is none.
        variance: whether a second half of the network's channels is a variance.
        decoding: what `ArrayTransform.decoding` says; None: there are no rows, x alone.

    Returns:
        A model with the inputs noise (B, *shape), label (B,), vector (B, v), guidance (), of those
        that there are, and the outputs rows and x, or x alone.
    """
    helper, types = _onnx("helper"), _onnx("TensorProto")
    network = _onnx("compose").add_prefix(network, _NETWORK)
    inner = network.graph
    n, d = len(table.network), math.prod(shape)
    graph = _Graph("s_")
    combine = graph.constant(table.combine, np.float32)
    coefficients = graph.constant(table.network, np.float32)
    weights = None if guided is None else _weights(graph, guided)
    start = _started(graph, table, shape)
    sizes = graph("Slice", graph("Shape", "noise"), *map(graph.constant, ([0], [1])))
    room = graph("Concat", graph.constant([n]), sizes, graph.constant([d]), axis=0)
    zeros = graph("ConstantOfShape", room)
    flat = graph("Reshape", start, graph.constant([1, -1, d]))
    history = graph("Concat", flat, zeros, axis=0)
    shared = {"combine": combine, "coefficients": coefficients}
    body = _body(inner, table, shape, conditions, weights, variance, **shared)
    trips, true = graph.constant(n), graph.constant(True, np.bool_)
    history = graph("Loop", trips, true, history, body=body)
    last = graph.constant(table.combine[-1:], np.float32)
    result = graph("MatMul", last, graph("Reshape", history, graph.constant([n + 1, -1])))
    graph("Reshape", result, graph.constant([-1, *shape]), name="x")
    floats, whole = types.FLOAT, types.INT64
    inputs = [helper.make_tensor_value_info("noise", floats, ["batch", *shape])]
    if "label" in conditions:
        inputs.append(helper.make_tensor_value_info("label", whole, ["batch"]))
    if "vector" in conditions:
        size = conditions["vector"]
        inputs.append(helper.make_tensor_value_info("vector", floats, ["batch", size]))
    if guided is not None:
        inputs.append(helper.make_tensor_value_info("guidance", floats, []))
    outputs = [helper.make_tensor_value_info("x", floats, ["batch", *shape])]
    if decoding is not None:
        outputs.insert(0, _decoded(graph, decoding))
    made = helper.make_graph(graph.nodes, "sampler", inputs, outputs)
    model = helper.make_model(made, opset_imports=network.opset_import)
    model.ir_version = network.ir_version
    _onnx("checker").check_model(model)
    return model


def _started(graph: _Graph, table: SamplerTable, shape: tuple[int, ...]) -> str:
    """Return x at the first time, of the noise."""
    mean = graph.constant(table.mean[None], np.float32)
    if table.scale.shape == shape:
        z = graph("Mul", "noise", graph.constant(table.scale[None], np.float32))
        return graph("Add", z, mean)
    flat = graph("Reshape", "noise", graph.constant([-1, math.prod(shape)]))
    z = graph("MatMul", flat, graph.constant(table.scale, np.float32))
    return graph("Add", graph("Reshape", z, graph.constant([-1, *shape])), mean)


def _weights(graph: _Graph, guided: np.ndarray) -> str:
    """The weight of guidance at each evaluation: 1 + guided (scale - 1)."""
    one = graph.constant(1.0, np.float32)
    more = graph("Mul", graph.constant(guided, np.float32), graph("Sub", "guidance", one))
    return graph("Add", more, one)


def _body(
    network: Any,
    table: SamplerTable,
    shape: tuple[int, ...],
    conditions: Mapping[str, int],
    weights: str | None,
    variance: bool,
    *,
    combine: str,
    coefficients: str,
) -> Any:
    """The graph of one evaluation: (i, condition, history) -> (condition, history)."""
    helper, types = _onnx("helper"), _onnx("TensorProto")
    graph = _Graph("e_")
    n, d = len(table.network), math.prod(shape)
    row = graph("Unsqueeze", graph("Gather", combine, "e_i"), graph.constant([0]))
    flat = graph("Reshape", "e_history", graph.constant([n + 1, -1]))
    x = graph("Reshape", graph("MatMul", row, flat), graph.constant([-1, *shape]))
    own = graph("Gather", coefficients, "e_i")
    c_in, c_noise, c_skip, c_out = (graph("Gather", own, graph.constant(k)) for k in range(4))
    rows = graph("Slice", graph("Shape", x), *map(graph.constant, ([0], [1])))
    asked = {"x": graph("Mul", x, c_in), **{name: name for name in conditions}}
    weight = None
    if weights is not None:
        weight = graph("Gather", weights, "e_i")
        off = graph("Equal", weight, graph.constant(1.0, np.float32))
        more = graph("Mul", rows, graph("Cast", graph("Not", off), to=types.INT64))
        asked = {name: _doubled(graph, name, value, more) for name, value in asked.items()}
    both = graph("Slice", graph("Shape", asked["x"]), *map(graph.constant, ([0], [1])))
    asked["c_noise"] = graph("Expand", c_noise, both)
    for name, value in asked.items():
        graph("Identity", value, name=f"{_NETWORK}{name}")
    graph.nodes.extend(network.node)
    output = network.output[0].name
    if variance:
        ends = ([0], [shape[0]], [1])
        output = graph("Slice", output, *map(graph.constant, ends))
    if weight is not None:
        output = _guided(graph, output, rows, weight)
    x_hat = graph("Add", graph("Mul", x, c_skip), graph("Mul", output, c_out))
    if table.clip is not None:
        x_hat = graph("Clip", x_hat, *(graph.constant(end, np.float32) for end in table.clip))
    place = graph("Add", "e_i", graph.constant(1))
    place = graph("Reshape", place, graph.constant([1, 1]))
    x_hat = graph("Reshape", x_hat, graph.constant([1, -1, d]))
    graph("ScatterND", "e_history", place, x_hat, name="e_next")
    graph("Identity", "e_condition", name="e_on")
    history = [n + 1, None, d]
    return helper.make_graph(
        graph.nodes,
        "evaluation",
        [
            helper.make_tensor_value_info("e_i", types.INT64, []),
            helper.make_tensor_value_info("e_condition", types.BOOL, []),
            helper.make_tensor_value_info("e_history", types.FLOAT, history),
        ],
        [
            helper.make_tensor_value_info("e_on", types.BOOL, []),
            helper.make_tensor_value_info("e_next", types.FLOAT, history),
        ],
        initializer=list(network.initializer),  # inside: onnxruntime arranges only those for speed
    )


def _doubled(graph: _Graph, name: str, value: str, more: str) -> str:
    """Rows, and behind them `more` of them with hidden conditions."""
    start, hidden = graph.constant([0]), value
    if name == "label":
        hidden = graph("Sub", graph("Mul", value, graph.constant(0)), graph.constant(1))
    elif name == "vector":
        hidden = graph("Mul", value, graph.constant(0.0, np.float32))
    return graph("Concat", value, graph("Slice", hidden, start, more), axis=0)


def _guided(graph: _Graph, output: str, rows: str, weight: str) -> str:
    """F_u + w (F_c - F_u); where there are no hidden rows, F_u is F_c."""
    zero, end = graph.constant([0]), graph.constant([2**62])
    told = graph("Slice", output, zero, rows)
    hidden = graph("Concat", graph("Slice", output, rows, end), told, axis=0)
    hidden = graph("Slice", hidden, zero, rows)
    apart = graph("Mul", graph("Sub", told, hidden), weight)
    return graph("Add", hidden, apart)


def _decoded(graph: _Graph, decoding: Mapping[str, Any]) -> Any:
    """Add the rows in the data's own units, as the output "rows"."""
    helper, types = _onnx("helper"), _onnx("TensorProto")

    def numbers(name: str) -> np.ndarray:
        return np.asarray(decoding[name], np.float64)

    double = graph("Cast", "x", to=types.DOUBLE)
    mean, std = (graph.constant(numbers(name), np.float64) for name in ("mean", "std"))
    values = graph("Add", graph("Mul", double, std), mean)
    low, high = numbers("low"), numbers("high")
    if decoding["whole"]:
        values = graph("Max", graph("Floor", values), graph.constant(0.0, np.float64))
        values = graph("Min", values, graph.constant(high - low, np.float64))
        values = graph("Add", values, graph.constant(low, np.float64))
    elif decoding["bounded"]:
        values = graph("Max", values, graph.constant(low, np.float64))
        values = graph("Min", values, graph.constant(high, np.float64))
    sides, channel = list(decoding["row_shape"]), decoding["channel"]
    if channel is not None:
        count = sides.pop(channel)
        values = graph("Reshape", values, graph.constant([-1, count, *sides]))
        order = [0, *range(2, len(sides) + 2)]
        order.insert(channel + 1, 1)
        values = graph("Transpose", values, perm=order)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(decoding["dtype"]))
    values = graph("Reshape", values, graph.constant([-1, *decoding["row_shape"]]))
    graph("Cast", values, name="rows", to=kind)
    return helper.make_tensor_value_info("rows", kind, ["batch", *decoding["row_shape"]])
