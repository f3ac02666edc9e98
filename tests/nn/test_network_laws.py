"""Laws of every network in every registry, whatever the data's shape; a wrong one fails."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from itertools import combinations

import pytest
import torch
from network_cases import (
    ROWS,
    cases,
    changed,
    inputs,
    numbers,
    registered,
    shaken,
    small,
    values,
)

from undiffuse import nn, parts
from undiffuse.errors import InputError
from undiffuse.laws.network_laws import called_with as called
from undiffuse.laws.network_laws import (
    every_parameter_is_moved,
    plain_data_rebuild_it,
    rows_do_not_meet,
)
from undiffuse.nn import FLOWS, MLP, NETWORKS
from undiffuse.nn.layers import LabelEntry, NoiseFeatures, attend, fold, linear, unfold
from undiffuse.nn.sized import SizedNetwork


def over(registry=None):
    return pytest.mark.parametrize(
        ("kind", "shape"), cases(registry), ids=lambda value: str(value).replace(" ", "")
    )


def probe(output):
    return torch.randn(output.shape, generator=torch.Generator().manual_seed(3))


@over()
def test_a_row_depends_on_itself_alone(kind, shape):
    rows_do_not_meet((registered()[kind], shape))


@over()
def test_every_value_of_the_input_matters_and_every_output_moves(kind, shape):
    """Padding, halving and cropping lose nothing: a gradient reaches every input."""
    network, given = shaken(kind, shape), inputs(kind, shape)
    x = values(given).requires_grad_()
    output = called(network, given)
    (output * probe(output)).sum().backward()
    assert x.grad.abs().amin() > 0
    given[next(iter(given))] = x.detach() + 1
    moved = (called(network, given) - output).abs().amax(0)
    assert moved[: numbers(shape)].amin() > 0


@over()
def test_conditions_matter_and_dropped_is_the_same_as_not_given(kind, shape):
    network, given = shaken(kind, shape), inputs(kind, shape)
    if kind == "coupling" and numbers(shape) == 1:
        pytest.skip("one number has nothing to be conditioned on but its mean and deviation")
    none = {"label": torch.full((ROWS,), -1)}
    if "vector" in given:
        none["vector"] = torch.zeros_like(given["vector"])
    none["given"] = torch.zeros(ROWS, 2 * shape[0], *shape[1:]).double()
    base = {**given, "label": torch.zeros(ROWS, dtype=torch.int64)}
    if "vector" in given:
        base["vector"] = torch.ones_like(given["vector"])

    def differs(**changes):
        difference = called(network, {**base, **changes}) - called(network, base)
        return difference.abs().amax(dim=1).min() > 1e-5

    by_label = [called(network, {**base, "label": base["label"] + k}) for k in (-1, 0, 1, 2)]
    for one, other in combinations(by_label, 2):
        assert (one - other).abs().amax(dim=1).min() > 1e-5
        assert kind in FLOWS or (one - other).abs().amax(dim=0).min() > 0  # in every number
    assert differs(label=None)
    dropped = {**base, "label": none["label"]}
    if "vector" in given:
        assert differs(vector=base["vector"] + 1)
        assert differs(vector=None)
        dropped["vector"] = none["vector"]
    if "given" in given:
        base["given"] = torch.ones_like(none["given"])
        assert differs(given=None)
        values_and_mask = base["given"].chunk(2, 1)
        for k in (0, 1):  # a value of 0 that is known is not one that is not
            changed = [k * values_and_mask[0], (1 - k) * values_and_mask[1]]
            assert differs(given=torch.cat(changed, 1))
        dropped["given"] = none["given"]
    if "c_noise" in given:
        assert differs(c_noise=base["c_noise"] + 0.3)
    without = {name: value for name, value in base.items() if name not in none}
    torch.testing.assert_close(called(network, dropped), called(network, without))


@over(NETWORKS)
def test_every_number_of_a_condition_matters(kind, shape):
    """Of a map at each position: a gradient reaches all of them."""
    network, given = shaken(kind, shape), inputs(kind, shape)
    given["vector"] = given["vector"].requires_grad_()
    output = called(network, given)
    (output * probe(output)).sum().backward()
    assert given["vector"].grad.abs().amin() > 0
    assert given["vector"].shape[1] == network.vector + network.maps * math.prod(shape[1:])


@over()
def test_every_parameter_gets_a_gradient(kind, shape):
    if kind == "coupling" and numbers(shape) == 1:
        pytest.skip("one number has nothing to be conditioned on but its mean and deviation")
    every_parameter_is_moved((registered()[kind], shape))


@over()
def test_plain_data_rebuilds_the_network(kind, shape):
    plain_data_rebuild_it((registered()[kind], shape))


@over(NETWORKS)
@pytest.mark.parametrize("out", [1, 2])
def test_a_new_network_is_zero_and_has_out_times_the_channels(kind, shape, out):
    output = small(kind, shape, out=out)(**inputs(kind, shape, torch.float32))
    assert output.shape == (ROWS, out * shape[0], *shape[1:])
    assert output.abs().max() == 0


@over(NETWORKS)
def test_precisions_agree(kind, shape):
    network, given = (make(kind, shape, torch.float32) for make in (shaken, inputs))
    with torch.no_grad():
        single = network(**given)
        with torch.autocast("cpu", torch.bfloat16):
            half = network(**given).float()
        exact = {name: v.double() if v.is_floating_point() else v for name, v in given.items()}
        double = network.double()(**exact)
    assert double.dtype == torch.float64
    torch.testing.assert_close(
        single.double(), double, rtol=1e-3, atol=1e-4 * double.std().item() + 1e-6
    )
    assert (half - single).square().mean().sqrt() < 0.05 * single.square().mean().sqrt()


@pytest.mark.parametrize("kind", registered())
def test_every_dimension_can_be_set_and_is_used(kind):
    """Another value of each changes the parameters or, with the same ones, what is computed."""
    network = registered()[kind]
    shape = {1: (5,), 2: (2, 24), 3: (2, 12, 12)}[network.axes[-1]]
    decided = {"latent": 6, "outputs": 5}
    decided = {n: v for n, v in decided.items() if n in parts.arguments(network)}
    assert {"shape", "classes", "vector", "out", "span"}.isdisjoint(network.dimensions())
    given = inputs(kind, shape, torch.float32)
    given = {k: v for k, v in given.items() if k not in ("label", "vector", "given")}
    basic = {"width": 32, "depth": 1, "heads": 2, "head_width": 8}
    basic = {name: value for name, value in basic.items() if name in network.dimensions()}
    torch.manual_seed(0)
    plain = network.sized(shape, basic, **decided)
    with torch.no_grad():
        for parameter in plain.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    for name in network.dimensions():
        value = 2 * basic[name] if name in basic else changed(network, name)
        other = network.sized(shape, {**basic, name: value}, **decided)
        assert getattr(other, name) == value
        output = called(other, given)
        if kind in FLOWS:
            z = output[:, : numbers(shape)]
            torch.testing.assert_close(other.inverse(z), values(given), rtol=0, atol=1e-4)
        shapes = [{n: p.shape for n, p in net.named_parameters()} for net in (plain, other)]
        if shapes[0] == shapes[1]:
            other.load_state_dict(plain.state_dict())
            assert not torch.equal(called(other, given), called(plain, given)), name


@pytest.mark.parametrize(
    "kind", [k for k, n in registered().items() if "dropout" in n.dimensions()]
)
def test_dropout_acts_in_training_only(kind):
    shape = {1: (13,), 2: (2, 9), 3: (1, 8, 8)}[registered()[kind].axes[-1]]
    network, given = shaken(kind, shape, dropout=0.5), inputs(kind, shape)
    assert torch.equal(called(network, given), called(network, given))
    network.train()
    assert (called(network, given) - called(network, given)).abs().max() > 0


COMPILE = """
import torch
from network_cases import NETWORKS, inputs, registered, shaken
SHAPES = {1: (5,), 2: (2, 11), 3: (3, 7, 10)}
for kind in NETWORKS:
    shape = SHAPES[registered()[kind].axes[-1]]
    network, given = shaken(kind, shape, depth=1, blocks=1), inputs(kind, shape)
    compiled = torch.compile(network, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(**given), network(**given))
"""


def test_each_network_compiles_as_one_graph():
    """In a process of its own, where annotations are not checked: that cannot be compiled."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", COMPILE]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("span", [4, 1000])
def test_noise_features_tell_levels_apart_over_the_whole_span(span):
    """Nearer levels look more alike, and the two ends of the span still differ, in any unit."""
    levels = torch.linspace(0, span, 65)
    features = NoiseFeatures(count=64, span=span)(levels)
    distance = torch.cdist(features, features)
    distance.fill_diagonal_(math.inf)
    assert distance.min() > 0.5
    assert features.square().mean(dim=1) == pytest.approx(torch.ones(65), abs=1e-5)
    close = NoiseFeatures(count=64, span=span)(levels + span * 1e-4)
    assert (close - features).norm(dim=1).max() < 0.25


@pytest.mark.parametrize("patch", [1, 2, 3, 8])
@pytest.mark.parametrize("shape", [(2, 11), (2, 7, 10), (1, 1, 5)], ids=str)
def test_folding_into_patches_loses_nothing(patch, shape):
    """Fold, then unfold, is the identity, and a position holds one contiguous piece."""
    axes, x = len(shape) - 1, torch.randn(3, *shape)
    folded = fold(x, [patch] * axes)
    assert folded.shape[1:] == (shape[0] * patch**axes, *(-(-side // patch) for side in shape[1:]))
    assert torch.equal(unfold(folded, [patch] * axes, shape[1:]), x)
    moved = x.clone()
    moved[(slice(None), slice(None), *[slice(0, patch)] * axes)] += 1
    touched = (fold(moved, [patch] * axes) != folded).any(dim=0)
    assert bool(touched[(slice(None), *[0] * axes)].all())
    assert int(touched.any(dim=0).sum()) == 1


# ----------------------------------------------------------- a wrong network does not pass


class Mixing(MLP):
    """Its rows see each other."""

    name = "mixing"

    def forward(self, x, c_noise, label=None, vector=None):
        output = super().forward(x, c_noise, label, vector)
        return output + output.mean(0, keepdim=True)


class Deaf(MLP):
    """It never hears the label."""

    name = "deaf"

    def forward(self, x, c_noise, label=None, vector=None):
        return super().forward(x, c_noise, None, vector)


class Blind(MLP):
    """It does not see the last coordinate."""

    name = "blind"

    def forward(self, x, c_noise, label=None, vector=None):
        return super().forward(torch.cat([x[:, :-1], 0 * x[:, -1:]], 1), c_noise, label, vector)


class Plain(SizedNetwork):
    """It breaks no law."""

    name, axes = "plain", (1,)

    def __init__(self, *, shape, width=8, classes=0):
        super().__init__(locals())
        self.label = LabelEntry(classes=classes, width=width)
        self.enter, self.leave = linear(shape[0], width), linear(width, shape[0])

    @classmethod
    def sizes(cls, shape, given):
        return {}

    def forward(self, x, label=None):
        return self.leave(torch.tanh(self.enter(x) + self.label(label)))


class Idle(Plain):
    """It has a parameter that is not used."""

    name = "idle"

    def __init__(self, *, shape, width=8, classes=0):
        super().__init__(shape=shape, width=width, classes=classes)
        self.spare = torch.nn.Parameter(torch.zeros(1))


class Fixed(Plain):
    """It does not keep the width that it was given."""

    name = "fixed"

    def __init__(self, *, shape, width=8, classes=0):
        super().__init__(shape=shape, width=width, classes=classes)
        self.width = 8


@pytest.mark.parametrize(
    ("wrong", "law", "how"),
    [
        (Mixing, test_a_row_depends_on_itself_alone, AssertionError),
        (Deaf, test_conditions_matter_and_dropped_is_the_same_as_not_given, AssertionError),
        (Idle, test_every_parameter_gets_a_gradient, AssertionError),
        (Blind, test_every_value_of_the_input_matters_and_every_output_moves, AssertionError),
        (Fixed, test_plain_data_rebuilds_the_network, RuntimeError),  # weights of another shape
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_wrong_network_breaks_a_law(wrong, law, how, monkeypatch):
    for right in (MLP, Plain):
        monkeypatch.setitem(NETWORKS, right.name, right)
        law(right.name, (2,))
    monkeypatch.setitem(NETWORKS, wrong.name, wrong)
    with pytest.raises(how, match="size mismatch" if how is RuntimeError else None):
        law(wrong.name, (2,))


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("labelled", [False, True])
def test_one_level_for_all_rows_is_that_level_for_each(kind, labelled):
    """What depends on the level is computed once, and each row keeps its label."""
    shape = next(s for s in ((3,), (1, 8, 8)) if len(s) in NETWORKS[kind].axes)
    net = nn.for_shape(shape, kind=kind, classes=3).eval()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
        x, level = torch.randn(5, *shape), torch.tensor(0.3)
        given = {"label": torch.tensor([0, 2, -1, 1, 0])} if labelled else {}
        torch.testing.assert_close(
            net(x, level.expand(5), **given), net(x, level.repeat(5), **given)
        )


@pytest.mark.parametrize("tokens", [1, 7, 49, 513])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_attention_is_a_mean_weighted_by_softmax(tokens, dtype):
    """Against float64, with its gradients, on both sides of the number of tokens that decides."""
    generator = torch.Generator().manual_seed(0)
    q, k, v, g = (torch.randn(2, 3, tokens, 8, generator=generator).to(dtype) for _ in range(4))
    exact = [part.double().requires_grad_() for part in (q, k, v)]
    weights = torch.exp(exact[0] @ exact[1].transpose(2, 3) / 8**0.5)
    expected = weights / weights.sum(3, keepdim=True) @ exact[2]
    parts = [part.clone().requires_grad_() for part in (q, k, v)]
    found = attend(*parts)
    assert found.dtype == dtype
    close = (
        {"rtol": 0.02, "atol": 0.02} if dtype == torch.bfloat16 else {"rtol": 1e-4, "atol": 1e-5}
    )
    torch.testing.assert_close(found.double(), expected, **close)
    slopes = torch.autograd.grad(found, parts, g)
    for slope, truth in zip(slopes, torch.autograd.grad(expected, exact, g.double())):
        torch.testing.assert_close(slope.double(), truth, **close)


@over(NETWORKS)
def test_what_is_known_must_be_of_its_channels(kind, shape):
    given = inputs(kind, shape, torch.float32)
    for network in (small(kind, shape), small(kind, shape, given=0)):
        with pytest.raises(InputError, match="channels of what is known, not 1"):
            network(**{**given, "given": torch.zeros(ROWS, 1, *shape[1:])})
