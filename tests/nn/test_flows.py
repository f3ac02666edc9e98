"""Laws of the invertible networks: there and back, the log-determinant is autograd's Jacobian's."""

from __future__ import annotations

import math
import sys

import pytest
import torch
from network_cases import cases, inputs, numbers, shaken

from undiffuse.errors import InputError
from undiffuse.nn import FLOWS, flow_for_shape
from undiffuse.nn.flows.invertible import FlowSplit, FlowSqueeze, Mix, Normalize

SMALL = {"width": 8, "depth": 2, "scales": 2, "patch": 2}
every_case = pytest.mark.parametrize(
    ("kind", "shape"),
    [case for case in cases(FLOWS) if numbers(case[1]) <= 100],
    ids=lambda value: str(value).replace(" ", ""),
)


@every_case
def test_the_way_back_is_exact(kind, shape):
    network, given = (make(kind, shape, torch.float32) for make in (shaken, inputs))
    with torch.no_grad():
        z, _ = network(**given)
        assert z.shape == (4, numbers(shape))
        # in single precision; a spline is undone by the root of a quadratic
        exact = 1e-5 if kind == "coupling" else 1e-4
        back = network.inverse(z, given["label"])
        torch.testing.assert_close(back, given["x"], rtol=0, atol=exact)
        draw = torch.randn(4, numbers(shape), generator=torch.Generator().manual_seed(3))
        again, _ = network(network.inverse(draw, given["label"]), given["label"])
        torch.testing.assert_close(again, draw, rtol=0, atol=2e-4)


@every_case
def test_the_log_determinant_is_that_of_the_jacobian(kind, shape):
    network, (x, label) = shaken(kind, shape), inputs(kind, shape).values()
    _, log_det = network(x, label)
    for i in range(2 if numbers(shape) < 20 else 1):
        jacobian = torch.autograd.functional.jacobian(
            lambda row, i=i: network(row[None], label[i : i + 1])[0][0], x[i]
        )
        _, expected = torch.linalg.slogdet(jacobian.reshape(numbers(shape), -1))
        assert float(log_det[i].detach()) == pytest.approx(float(expected), abs=1e-9)


@every_case
def test_half_precision_around_it_changes_nothing(kind, shape):
    network, given = (make(kind, shape, torch.float32) for make in (shaken, inputs))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = network(**given)
        back = network.inverse(half[0], given["label"])
    for one, other in zip(network(**given), half):
        assert torch.equal(one, other)
    assert torch.equal(network.inverse(half[0], given["label"]), back)


@every_case
def test_it_starts_at_mean_0_and_deviation_1(kind, shape):
    """Whatever the data's own: the Gaussian that a flow is, before it is trained, fits them."""
    if kind != "coupling":
        pytest.skip("zuko's flows do not start as the identity: only their normalization is ours")
    torch.manual_seed(0)
    network = flow_for_shape(shape, kind=kind, **SMALL)
    x = 30 + 5 * torch.randn(2048, *shape)
    network.initialize(x)
    with torch.no_grad():
        z, log_det = network(x)
    assert float(z.mean()) == pytest.approx(0, abs=1e-3)
    assert float(z.std()) == pytest.approx(1, abs=1e-2)
    entropy = numbers(shape) * (math.log(5) + 0.5)
    nats = float((z.square().sum(1) / 2 - log_det).mean())
    assert nats == pytest.approx(entropy, abs=0.05 * numbers(shape))


def test_an_image_of_full_size_comes_back_in_single_precision():
    """In training: weights at random are as large as no data make them, and lose seven digits."""
    torch.manual_seed(0)
    network = flow_for_shape((1, 28, 28), width=32, depth=4, patch=4)
    x = torch.rand(8, 1, 28, 28, generator=torch.Generator().manual_seed(1)) * 2 - 1
    x[:, :, :10] = -0.996  # a background of one value
    network.initialize(x)
    adam, losses = torch.optim.Adam(network.parameters(), 1e-3), []
    for _ in range(6):
        z, log_det = network(x)
        torch.testing.assert_close(network.inverse(z).detach(), x, rtol=0, atol=1e-5)
        loss = (z.square().sum(1) / 2 - log_det).mean() / 784
        losses.append(float(loss.detach()))
        adam.zero_grad()
        loss.backward()
        adam.step()
    assert losses[-1] < losses[0] - 0.1


@pytest.mark.parametrize("value", [-1.0, 1.0, 1e3, 1e6])
def test_extreme_values_have_finite_gradients(value):
    """Rows of one value, and rows far outside of what the normalizations started from."""
    torch.manual_seed(0)
    network = flow_for_shape((1, 6, 6), kind="coupling", **SMALL)
    x = 0.5 + 0.7 * torch.randn(16, 1, 6, 6)
    network.initialize(torch.full_like(x, value) if abs(value) == 1 else x)
    x[:8] = value
    for _ in range(3):
        z, log_det = network(x)
        loss = (z.square().sum(1) / 2 - log_det).mean() / 36
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        assert math.isfinite(float(loss.detach()))
        assert math.isfinite(float(norm))
        with torch.no_grad():
            for parameter in network.parameters():
                parameter -= 0.01 * parameter.grad
        network.zero_grad()


def test_mixing_is_the_matrix_it_says():
    torch.manual_seed(0)
    mix = Mix(5).double()
    basis = torch.eye(5, dtype=torch.float64)[:, :, None, None]
    weight = mix(basis)[0][:, :, 0, 0].T
    eye = torch.eye(5, dtype=torch.float64)
    torch.testing.assert_close(weight @ weight.T, eye, atol=1e-5, rtol=0)  # a rotation
    x = torch.randn(4, 5, 2, 3, dtype=torch.float64)
    with torch.no_grad():
        mix.log_scale += torch.tensor([0.3, -0.2, 0.1, 0.0, 0.5])
        mix.low += 0.2
        h, log_det = mix(x)
    weight = mix(basis)[0][:, :, 0, 0].T
    expected = 6 * float(torch.linalg.slogdet(weight)[1].detach())
    assert float(log_det.detach()) == pytest.approx(expected)
    torch.testing.assert_close(mix.inverse(h), x)


def test_squeezing_takes_blocks_of_positions():
    h = torch.arange(24.0).reshape(1, 1, 4, 6)
    squeezed, _, log_det = FlowSqueeze((2, 2))(h, None)
    assert squeezed[0, :, 0, 0].tolist() == [0, 1, 6, 7]
    assert squeezed.shape == (1, 4, 2, 3)
    assert float(log_det) == 0


def test_half_of_the_channels_leave_between_scales_and_odd_sides_are_taken():
    network = flow_for_shape((3, 9, 8), kind="coupling", width=8, depth=1, scales=2, patch=2)
    leaves = {type(layer).__name__: layer.leaves for layer in network.layers if layer.leaves}
    assert leaves == {"FlowPeel": 3 * 1 * 8, "FlowSplit": 6 * 4 * 4}
    assert network.last == (24, 2, 2)
    assert isinstance(network.layers[-1], Normalize)
    assert sum(isinstance(layer, FlowSplit) for layer in network.layers) == 1


def test_without_zuko_vectors_are_refused_and_images_are_not(monkeypatch):
    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(
        InputError, match=r"need zuko, which is not installed; run pip install 'undiffuse\[flows\]'"
    ):
        flow_for_shape((3,))
    flow_for_shape((1, 4, 4), **SMALL)


class Scaled(FLOWS["spline"]):
    """Its log-determinant is off by a hundredth."""

    name = "scaled"

    def forward(self, x, label=None):
        z, log_det = super().forward(x, label)
        return z, 1.01 * log_det


class Bent(FLOWS["spline"]):
    """Its inverse is off by a thousandth."""

    name = "bent"

    def inverse(self, z, label=None):
        return super().inverse(z, label) + 1e-3


@pytest.mark.parametrize(
    ("wrong", "law"),
    [
        (Scaled, test_the_log_determinant_is_that_of_the_jacobian),
        (Bent, test_the_way_back_is_exact),
    ],
    ids=["log-determinant", "inverse"],
)
def test_a_wrong_flow_breaks_a_law(wrong, law, monkeypatch):
    monkeypatch.setitem(FLOWS, wrong.name, wrong)
    with pytest.raises(AssertionError):
        law(wrong.name, (2,))
