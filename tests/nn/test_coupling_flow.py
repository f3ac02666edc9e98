"""Laws of the invertible networks: there and back, the log-determinant is autograd's Jacobian's, any size fits."""

from __future__ import annotations

import math

import pytest
import torch

from undiffuse import parts
from undiffuse.errors import InputError
from undiffuse.nn.flows import size as flows
from undiffuse.nn.flows.invertible import Mix, Normalize, Split, Squeeze
from undiffuse.nn.flows.size import FLOWS, flow_dimensions, flow_for_shape

SIZES = {
    "coupling": {"width": 8, "depth": 2, "scales": 2, "patch": 2},
    "spline": {"width": 16, "transforms": 2, "bins": 4},
    "autoregressive": {"width": 16, "transforms": 2},
}
SHAPES = {
    "coupling": [(1, 1, 1), (3, 1, 1), (1, 1, 6), (1, 2, 3), (2, 5, 7), (3, 4, 4), (1, 7), (2, 9)],
    "spline": [(1,), (2,), (5,), (70,)],
    "autoregressive": [(1,), (4,)],
}
CASES = [(kind, shape) for kind, shapes in SHAPES.items() for shape in shapes]
every_case = pytest.mark.parametrize(("kind", "shape"), CASES, ids=str)
LABEL = torch.tensor([0, 2, -1, 1])


def rows(shape, n=4):
    return 0.5 + 0.7 * torch.randn(n, *shape, generator=torch.Generator().manual_seed(2))


def shaken(kind, shape, classes=3, **more):
    """A small network with every parameter moved, and its normalizations then started on data."""
    torch.manual_seed(0)
    network = flow_for_shape(shape, kind=kind, classes=classes, **{**SIZES[kind], **more})
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    network.initialize(rows(shape, 64), torch.arange(64) % 4 - 1)
    return network.eval()


@every_case
def test_the_way_back_is_exact(kind, shape):
    network, x = shaken(kind, shape), rows(shape)
    with torch.no_grad():
        z, _ = network(x, LABEL)
        assert z.shape == (4, math.prod(shape))
        exact = (
            1e-5 if kind == "coupling" else 1e-4
        )  # a spline is undone by the root of a quadratic
        torch.testing.assert_close(network.inverse(z, LABEL), x, rtol=0, atol=exact)
        draw = torch.randn(4, math.prod(shape), generator=torch.Generator().manual_seed(3))
        torch.testing.assert_close(
            network(network.inverse(draw, LABEL), LABEL)[0], draw, rtol=0, atol=2e-4
        )


@every_case
def test_the_log_determinant_is_that_of_the_jacobian(kind, shape):
    network, x = shaken(kind, shape).double(), rows(shape).double()
    _, log_det = network(x, LABEL)
    for i in range(2 if math.prod(shape) < 50 else 1):
        label = LABEL[i : i + 1]
        jacobian = torch.autograd.functional.jacobian(
            lambda row, at=label: network(row[None], at)[0][0], x[i]
        )
        _, expected = torch.linalg.slogdet(jacobian.reshape(math.prod(shape), -1))
        assert float(log_det[i]) == pytest.approx(float(expected), abs=1e-9)


def test_an_image_of_full_size_comes_back_in_single_precision():
    """In training: weights at random are as large as no data make them, and lose seven digits on the way."""
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


@every_case
def test_it_sees_its_label(kind, shape):
    network, x = shaken(kind, shape), rows(shape, 1)
    if kind == "coupling" and math.prod(shape) == 1:
        pytest.skip("one number has nothing to be conditioned on but its mean and deviation")
    with torch.no_grad():
        found = [network(x, torch.tensor([k]))[0] for k in (-1, 0, 1, 2)]
        torch.testing.assert_close(network(x)[0], found[0])  # none is the same as a dropped one
    assert all(not torch.equal(found[0], other) for other in found[1:])


@pytest.mark.parametrize("shape", SHAPES["coupling"], ids=str)
def test_it_starts_at_mean_0_and_deviation_1(shape):
    """Whatever the data's own: the Gaussian that a flow is, before it is trained, fits them."""
    torch.manual_seed(0)
    network = flow_for_shape(shape, kind="coupling", **SIZES["coupling"])
    x = 30 + 5 * torch.randn(2048, *shape)
    network.initialize(x)
    with torch.no_grad():
        z, log_det = network(x)
    assert float(z.mean()) == pytest.approx(0, abs=1e-3)
    assert float(z.std()) == pytest.approx(1, abs=1e-2)
    entropy = math.prod(shape) * (math.log(5) + 0.5)
    assert float((z.square().sum(1) / 2 - log_det).mean()) == pytest.approx(
        entropy, abs=0.05 * math.prod(shape)
    )


@every_case
def test_plain_data_and_weights_rebuild_it(kind, shape):
    network, x = shaken(kind, shape), rows(shape)
    tree = parts.describe(network, FLOWS)
    again = parts.build(tree, FLOWS)
    assert parts.describe(again, FLOWS) == tree
    again.load_state_dict(network.state_dict(), strict=True)
    for one, other in zip(network(x, LABEL), again.eval()(x, LABEL)):
        assert torch.equal(one, other)


@every_case
def test_half_precision_around_it_changes_nothing(kind, shape):
    network, x = shaken(kind, shape), rows(shape)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = network(x, LABEL)
    for one, other in zip(network(x, LABEL), half):
        assert torch.equal(one, other)


@pytest.mark.parametrize("value", [-1.0, 1.0, 1e3, 1e6])
def test_extreme_values_have_finite_gradients(value):
    """Rows of one value, and rows far outside of what the normalizations started from."""
    torch.manual_seed(0)
    network = flow_for_shape((1, 6, 6), kind="coupling", **SIZES["coupling"])
    x = rows((1, 6, 6), 16)
    network.initialize(torch.full_like(x, value) if abs(value) == 1 else x)
    x[:8] = value
    for _ in range(3):
        z, log_det = network(x)
        loss = (z.square().sum(1) / 2 - log_det).mean() / 36
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        assert math.isfinite(float(loss))
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
    torch.testing.assert_close(
        weight @ weight.T, torch.eye(5, dtype=torch.float64), atol=1e-5, rtol=0
    )  # a rotation
    with torch.no_grad():
        mix.log_scale += torch.tensor([0.3, -0.2, 0.1, 0.0, 0.5])
        mix.low += 0.2
        h, log_det = mix(rows((5, 2, 3)).double())
    weight = mix(basis)[0][:, :, 0, 0].T
    assert float(log_det.detach()) == pytest.approx(
        6 * float(torch.linalg.slogdet(weight)[1].detach())
    )
    torch.testing.assert_close(mix.inverse(h), rows((5, 2, 3)).double())


def test_squeezing_takes_blocks_of_positions():
    h = torch.arange(24.0).reshape(1, 1, 4, 6)
    squeezed, _, log_det = Squeeze((2, 2))(h, None)
    assert squeezed[0, :, 0, 0].tolist() == [0, 1, 6, 7]
    assert squeezed.shape == (1, 4, 2, 3)
    assert float(log_det) == 0


def test_half_of_the_channels_leave_between_scales_and_odd_sides_are_taken():
    network = flow_for_shape((3, 9, 8), kind="coupling", width=8, depth=1, scales=2, patch=2)
    leaves = {type(layer).__name__: layer.leaves for layer in network.layers if layer.leaves}
    assert leaves == {"Peel": 3 * 1 * 8, "Split": 6 * 4 * 4}
    assert network.last == (24, 2, 2)
    assert isinstance(network.layers[-1], Normalize)
    assert sum(isinstance(layer, Split) for layer in network.layers) == 1


CHANGES = {"width": 12, "depth": 3, "scales": 1, "patch": 3, "transforms": 4, "bins": 5}


@pytest.mark.parametrize(
    ("kind", "shape"), [("coupling", (1, 6, 6)), ("spline", (3,)), ("autoregressive", (3,))]
)
def test_every_dimension_can_be_set(kind, shape):
    for name in flow_dimensions(kind):
        network = flow_for_shape(shape, kind=kind, **{**SIZES[kind], name: CHANGES[name]})
        assert getattr(network, name) == CHANGES[name]
        with torch.no_grad():
            torch.testing.assert_close(
                network.inverse(network(rows(shape))[0]), rows(shape), atol=1e-4, rtol=0
            )


def test_sizes_follow_the_data():
    images = {side: flow_for_shape((1, side, side), width=4, depth=1) for side in (8, 28, 64)}
    assert {side: (net.patch, net.scales) for side, net in images.items()} == {
        8: (2, 1),
        28: (4, 2),
        64: (8, 2),
    }
    assert all(3 <= net.last[1] <= 5 for net in images.values())
    widths = [flow_for_shape((columns,)).width for columns in (2, 20, 50)]
    assert widths == sorted(widths)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((1, 6, 6), {"kind": "couplin"}, "flow couplin: no such kind. Did you mean coupling?"),
        ((1, 6, 6), {"widht": 3}, "coupling: widht: no such dimension. Did you mean width?"),
        ((1, 6, 6), {"bins": 3}, "coupling: bins: no such dimension."),
        ((1, 6, 6), {"width": 0}, "coupling: width is 0; give a whole number of at least 1."),
        ((6,), {"bins": 2.5}, "spline: bins is 2.5; give a whole number of at least 1."),
        ((6,), {"width": (8, 8)}, "spline: width is (8, 8); give a whole number of at least 1."),
        ((6,), {"depth": True}, "spline: depth is True; give a whole number of at least 1."),
        ((1, 6, 6), {"kind": "spline"}, "spline: takes data of shape (D,), not (1, 6, 6)"),
        (
            (1, 2, 3, 4),
            {},
            "flow: rows of shape (1, 2, 3, 4) are neither vectors (D,), sequences (C, L) nor images",
        ),
    ],
    ids=str,
)
def test_mistakes_are_refused_with_one_sentence(shape, options, message):
    with pytest.raises(InputError) as caught:
        flow_for_shape(shape, **options)
    assert str(caught.value).startswith(message)


def test_without_zuko_vectors_are_refused_and_images_are_not(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "zuko", None)
    with pytest.raises(
        InputError, match=r"need zuko, which is not installed; run pip install 'undiffuse\[flows\]'"
    ):
        flows.flow_for_shape((3,))
    flow_for_shape((1, 4, 4), **SIZES["coupling"])
