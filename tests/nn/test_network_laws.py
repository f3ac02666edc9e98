"""Laws that hold for every network, whatever the data's shape."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import pytest
import torch
from network_cases import CASES, inputs, shaken, small

from undiffuse import parts
from undiffuse.nn import NETWORKS

every_case = pytest.mark.parametrize(
    ("kind", "shape"), CASES, ids=lambda value: str(value).replace(" ", "")
)


@every_case
@pytest.mark.parametrize("out", [1, 2])
def test_a_new_network_is_zero_and_has_out_times_the_channels(kind, shape, out):
    result = small(kind, shape, out=out)(*inputs(shape))
    assert result.shape == (4, out * shape[0], *shape[1:])
    assert result.abs().max() == 0


@every_case
def test_a_row_depends_on_itself_alone(kind, shape):
    network, (x, c_noise, label, vector) = shaken(kind, shape), inputs(shape)
    together = network(x, c_noise, label, vector)
    for i in range(4):
        alone = network(x[i : i + 1], c_noise[i : i + 1], label[i : i + 1], vector[i : i + 1])
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-4)


@every_case
def test_every_value_of_the_input_matters(kind, shape):
    """The gradient of a random projection of the output reaches every input value: padding and cropping lose none."""
    network, (x, *conditions) = shaken(kind, shape), inputs(shape)
    x.requires_grad_()
    result = network(x, *conditions)
    (
        result * torch.randn(result.shape, generator=torch.Generator().manual_seed(3))
    ).sum().backward()
    assert x.grad.abs().amin() > 0


@every_case
def test_conditions_matter_and_dropped_is_the_same_as_not_given(kind, shape):
    network, (x, c_noise, _, _) = shaken(kind, shape), inputs(shape)
    label, vector = torch.zeros(4, dtype=torch.int64), torch.zeros(4, 2)
    base = network(x, c_noise, label, vector)

    def differs(other):
        return (other - base).flatten(1).abs().amax(dim=1).min() > 1e-5

    assert differs(network(x, c_noise + 0.3, label, vector))
    assert differs(network(x, c_noise, label + 1, vector))
    assert differs(network(x, c_noise, label, vector + 1))
    assert differs(network(x, c_noise, None, vector))
    assert differs(network(x, c_noise, label, None))
    nothing = network(x, c_noise, torch.full_like(label, -1), torch.full_like(vector, math.nan))
    torch.testing.assert_close(nothing, network(x, c_noise))


@every_case
def test_every_parameter_gets_a_gradient(kind, shape):
    network = shaken(kind, shape, out=2)
    result = network(*inputs(shape))
    (
        result * torch.randn(result.shape, generator=torch.Generator().manual_seed(3))
    ).sum().backward()
    idle = [
        name for name, p in network.named_parameters() if p.grad is None or p.grad.abs().max() == 0
    ]
    assert idle == []


@every_case
def test_plain_data_rebuilds_the_network(kind, shape):
    network = shaken(kind, shape, dropout=0.25, span=1000)
    tree = parts.describe(network, NETWORKS)
    again = parts.build(tree, NETWORKS)
    assert parts.describe(again, NETWORKS) == tree
    again.load_state_dict(network.state_dict(), strict=True)
    torch.testing.assert_close(
        again.eval()(*inputs(shape)), network(*inputs(shape)), rtol=0, atol=0
    )


@every_case
def test_precisions_agree(kind, shape):
    network, (x, c_noise, label, vector) = shaken(kind, shape), inputs(shape)
    with torch.no_grad():
        single = network(x, c_noise, label, vector)
        with torch.autocast("cpu", torch.bfloat16):
            half = network(x, c_noise, label, vector).float()
        double = network.double()(x.double(), c_noise.double(), label, vector.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(
        single.double(), double, rtol=1e-3, atol=1e-4 * double.std().item() + 1e-6
    )
    assert (half - single).square().mean().sqrt() < 0.05 * single.square().mean().sqrt()


@every_case
def test_dropout_acts_in_training_only(kind, shape):
    network = shaken(kind, shape, dropout=0.5)
    torch.testing.assert_close(network(*inputs(shape)), network(*inputs(shape)), rtol=0, atol=0)
    network.train()
    assert (network(*inputs(shape)) - network(*inputs(shape))).abs().max() > 0


COMPILE = """
import torch
from network_cases import inputs, shaken
for kind, shape in [("unet", (3, 7, 10)), ("transformer", (2, 11)), ("mlp", (5,))]:
    network = shaken(kind, shape)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(*inputs(shape)), network(*inputs(shape)))
"""


def test_each_network_compiles_as_one_graph():
    """In a process of its own, where annotations are not checked: the checker is what the compiler cannot trace."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", COMPILE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("span", [4, 1000])
def test_noise_features_tell_levels_apart_over_the_whole_span(span):
    """Nearer levels look more alike, and the two ends of the span still differ, whatever the unit of c_noise."""
    from undiffuse.nn.layers import NoiseFeatures

    levels = torch.linspace(0, span, 65)
    features = NoiseFeatures(count=64, span=span)(levels)
    distance = torch.cdist(features, features)
    distance.fill_diagonal_(math.inf)
    assert distance.min() > 0.5
    assert features.square().mean(dim=1) == pytest.approx(torch.ones(65), abs=1e-5)
    close = NoiseFeatures(count=64, span=span)(levels + span * 1e-4)
    assert (close - features).norm(dim=1).max() < 0.25


@pytest.mark.parametrize("patch", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("shape", [(2, 11), (2, 7, 10)], ids=str)
def test_folding_into_patches_loses_nothing(patch, shape):
    """Fold, then unfold, is the identity for any patch size, and a token holds one contiguous piece."""
    network = small("transformer", shape, patch=patch, classes=0, vector=0)
    x = torch.randn(3, *shape)
    tokens = network._fold(x)
    assert tokens.shape[1] == math.prod(-(-side // patch) for side in shape[1:])
    torch.testing.assert_close(network._unfold(tokens), x, rtol=0, atol=0)
    corner = tuple(slice(0, min(patch, side)) for side in shape[1:])
    moved = x.clone()
    moved[(slice(None), slice(None), *corner)] += 1
    changed = (network._fold(moved) != tokens).any(dim=2).any(dim=0)
    assert changed.nonzero().flatten().tolist() == [0]
