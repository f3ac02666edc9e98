"""Networks follow the data; what a user sets is kept; mistakes are refused with one sentence."""

from __future__ import annotations

import math

import pytest
import torch
from network_cases import REGISTRIES, registered

from undiffuse.errors import InputError
from undiffuse.nn import FLOWS, MLP, NETWORKS, UNet, flow_for_shape, for_shape
from undiffuse.nn.adversarial import Discriminator, Generator, adversarial_pair
from undiffuse.nn.autoencoder import ConvDecoder, autoencoder


def parameters(shape, **options):
    with torch.device("meta"):
        return sum(p.numel() for p in for_shape(shape, **options).parameters())


@pytest.mark.parametrize("build", [for_shape, flow_for_shape])
def test_the_kind_is_the_first_registered_that_takes_the_shape(build):
    registry = FLOWS if build is flow_for_shape else NETWORKS
    for shape in ((7,), (1, 50), (3, 20, 30)):
        takes = [kind for kind, network in registry.items() if len(shape) in network.axes]
        assert type(build(shape)) is registry[takes[0]]
        for kind in takes:
            assert type(build(shape, kind=kind)) is registry[kind]


def test_a_kind_is_named_once_in_all_registries():
    assert sum(map(len, REGISTRIES)) == len(registered()) + 1  # an autoencoder is made of two
    assert all(kind == network.name for kind, network in registered().items())


class Own(torch.nn.Module):
    """A user's own network, registered to be recorded."""


def test_a_network_without_sizes_is_not_built_for_a_shape(monkeypatch):
    monkeypatch.setitem(NETWORKS, "own", Own)
    assert type(for_shape((3,))) is MLP
    with pytest.raises(InputError, match=r"own: no such kind. .*\(mlp, transformer, unet\)"):
        for_shape((3,), kind="own")


def test_conditions_and_outputs_are_passed_on():
    network = for_shape((2, 6, 6), kind="transformer", classes=3, vector=4, out=2, span=1000)
    assert (network.classes, network.vector, network.out, network.span) == (3, 4, 2, 1000.0)


@pytest.mark.parametrize(
    "shapes",
    [
        [(1, 8, 8), (1, 28, 28), (3, 64, 64), (3, 128, 128), (3, 256, 256)],
        [(1, 64), (1, 16_000), (1, 100_000)],
        [(2,), (64,), (500,)],
    ],
    ids=["images", "sequences", "vectors"],
)
def test_sizes_grow_with_the_data(shapes):
    counts = [parameters(shape) for shape in shapes]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1] < 60e6


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8, 13, 28, 33, 48, 64, 100, 128, 200, 256, 512])
@pytest.mark.parametrize("ratio", [1, 3])
def test_unets_end_at_few_positions_and_attend_only_over_few(side, ratio):
    with torch.device("meta"):
        network = for_shape((3, side, ratio * side))
    longest = -(-ratio * side // network.patch)
    levels = len(network.multipliers)
    assert network.patch <= side
    assert -(-longest // 2 ** (levels - 1)) <= 8 or levels == 4
    assert levels == 1 or longest > 2**levels
    for level in network.attention:
        assert math.prod(-(-n // (network.patch * 2**level)) for n in (side, ratio * side)) <= 64


@pytest.mark.parametrize("length", [1, 2, 5, 11, 12, 24, 100, 1024, 5000, 16_000, 100_000])
@pytest.mark.parametrize("channels", [1, 2, 70])
def test_unets_of_sequences_see_few_positions_that_are_not_narrower_than_a_patch(channels, length):
    with torch.device("meta"):
        network = for_shape((channels, length))
    positions, levels = -(-length // network.patch), len(network.multipliers)
    most = 256 if length <= 4096 else 1024
    assert most / 2 < positions <= most or (network.patch == 1 and positions <= most)
    assert -(-positions // 2 ** (levels - 1)) < 12 or levels == 6
    assert network.width >= min(channels * network.patch, 256)
    assert all(-(-positions // 2**level) <= 64 for level in network.attention)


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 300), (2, 16_000), (1, 100_000), (3, 64, 64), (1, 7, 5)], ids=str
)
def test_transformers_see_few_tokens_that_are_not_narrower_than_a_patch(shape):
    with torch.device("meta"):
        network = for_shape(shape, kind="transformer")
    tokens, values = network.position.shape[0], math.prod(shape[1:])
    most = 256 if values <= 2**15 else 512
    assert tokens <= most
    assert tokens == values or tokens * 2 ** (len(shape) - 1) * 1.3 > most
    assert network.width >= network.enter.in_features


def test_what_depends_on_a_given_dimension_follows_it():
    assert for_shape((1, 64, 64), multipliers=(1,)).attention == ()
    assert for_shape((1, 16), kind="transformer", width=40).heads in (1, 2, 4, 5, 8, 10)
    assert for_shape((1, 28, 28), patch=7).attention == (0,)


def test_flows_halve_images_until_few_positions_are_left():
    images = {side: flow_for_shape((1, side, side), width=4, depth=1) for side in (8, 28, 64)}
    found = {side: (net.patch, net.scales) for side, net in images.items()}
    assert found == {8: (2, 1), 28: (4, 2), 64: (8, 2)}
    assert all(3 <= net.last[1] <= 5 for net in images.values())
    widths = [flow_for_shape((columns,)).width for columns in (2, 20, 50)]
    assert widths == sorted(set(widths))


@pytest.mark.parametrize(
    "shape", [(1,), (30,), (500,), (1, 16000), (2, 40), (1, 8, 8), (1, 28, 28), (3, 256, 200)]
)
def test_adversarial_networks_end_at_few_positions(shape):
    with torch.device("meta"):
        generator, discriminator = adversarial_pair(shape, latent=5)
    assert generator.positions == discriminator.positions
    if len(shape) > 1:
        finest, most = generator.positions[0], 1024 if len(shape) == 2 else 24
        assert max(finest) <= 1.3 * most  # of sides that differ, the longer is above
        assert max(generator.positions[-1]) <= 4
        assert all(n * generator.patch >= side for n, side in zip(finest, shape[1:]))
    given = adversarial_pair(shape, latent=5, width=12, depth=2)
    assert all((network.width, network.depth) == (12, 2) for network in given)


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 200, 90), (1, 16_000), (2, 100_000)], ids=str)
def test_autoencoders_end_at_few_positions(shape):
    with torch.device("meta"):
        network = autoencoder(shape, latent=8)
    assert max(network.decoder.sides[0]) <= 8
    assert sum(p.numel() for p in network.parameters()) < 30e6


def test_the_learned_scales_of_an_autoencoder_start_at_one():
    network = autoencoder((3,), latent=2, scales=2)
    assert network.log_scale.tolist() == [0.0, 0.0]
    with torch.no_grad():
        network.scale += 0.1
    torch.testing.assert_close(network.log_scale, 10 * network.scale)


@pytest.mark.parametrize("shape", [(3,), (2, 11), (2, 7, 6)], ids=str)
def test_the_slope_of_the_discriminator_can_be_differentiated(shape):
    """Second derivatives by finite differences, through pooling, padding and patches."""
    torch.manual_seed(0)
    discriminator = Discriminator(shape=shape, width=3, patch=1 if len(shape) == 1 else 2).double()
    x = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    parameters = list(discriminator.parameters())
    with torch.no_grad():
        for p in parameters:
            p += 0.1 * torch.randn_like(p)
    probe = [torch.randn_like(p) for p in parameters]

    def penalty():
        return torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)[0].square().sum()

    slopes = torch.autograd.grad(penalty(), parameters, allow_unused=True)
    derivative = sum(float((s * p).sum()) for s, p in zip(slopes, probe) if s is not None)

    def moved(by):
        with torch.no_grad():
            torch._foreach_add_(parameters, probe, alpha=by)
        value = float(penalty().detach())
        with torch.no_grad():
            torch._foreach_add_(parameters, probe, alpha=-by)
        return value

    assert (moved(1e-7) - moved(-1e-7)) / 2e-7 == pytest.approx(derivative, rel=1e-5)


MISTAKES = [
    (
        for_shape,
        {"kind": "unett"},
        "network unett: no such kind. Did you mean unet? (mlp, transformer, unet)",
    ),
    (for_shape, {"widht": 3}, "unet: widht: no such dimension. Did you mean width?"),
    (for_shape, {"depth": 3}, "unet: depth: no such dimension."),
    (for_shape, {"width": 0}, "unet: width is 0; give a whole number of at least 1."),
    (for_shape, {"width": -4}, "unet: width is -4; give a whole number of at least 1."),
    (for_shape, {"width": 2.5}, "unet: width is 2.5; give a whole number of at least 1."),
    (for_shape, {"width": "big"}, "unet: width is 'big'; give a whole number of at least 1."),
    (for_shape, {"width": True}, "unet: width is True; give a whole number of at least 1."),
    (for_shape, {"patch": 0}, "unet: patch is 0; give a whole number of at least 1."),
    (
        for_shape,
        {"multipliers": (1, 0)},
        "unet: multipliers is (1, 0); give one or more whole numbers of at least 1.",
    ),
    (for_shape, {"multipliers": ()}, "unet: multipliers is (); give one or more whole numbers"),
    (for_shape, {"multipliers": "12"}, "unet: multipliers is '12'; give one or more whole"),
    (for_shape, {"attention": (5,)}, "unet: attention (5,) names a level that is not there;"),
    (for_shape, {"attention": (-1,)}, "unet: attention is (-1,); give one or more whole numbers"),
    (for_shape, {"dropout": 1.0}, "unet: dropout is 1.0; give a number from 0 to below 1."),
    (for_shape, {"dropout": "no"}, "unet: dropout is 'no'; give a number from 0 to below 1."),
    (for_shape, {"span": 0.0}, "unet: span is 0.0; give a number above 0."),
    (for_shape, {"span": math.inf}, "unet: span is inf; give a number above 0."),
    (for_shape, {"classes": -1}, "unet: classes is -1; give a whole number of at least 0."),
    (
        for_shape,
        {"kind": "mlp"},
        "mlp: takes rows of shape (D,), not (1, 9, 9); choose another network.",
    ),
    (
        for_shape,
        {"kind": "transformer", "width": 30, "heads": 4},
        "transformer: 4 heads do not divide a width of 30;",
    ),
    (flow_for_shape, {"kind": "couplin"}, "flow couplin: no such kind. Did you mean coupling?"),
    (flow_for_shape, {"bins": 3}, "coupling: bins: no such dimension."),
    (flow_for_shape, {"scales": 0}, "coupling: scales is 0; give a whole number of at least 1."),
    (flow_for_shape, {"width": (8, 8)}, "coupling: width is (8, 8); give a whole number"),
    (flow_for_shape, {"kind": "spline"}, "spline: takes rows of shape (D,), not (1, 9, 9);"),
    (adversarial_pair, {"latent": 0}, "generator: latent is 0; give a whole number of at least 1."),
    (adversarial_pair, {"latent": 4, "widht": 8}, "generator: widht: no such dimension. Did you"),
    (autoencoder, {"latent": 2, "depth": 3}, "conv_encoder: depth: no such dimension."),
    (autoencoder, {"latent": 2, "patch": 0}, "conv_encoder: patch is 0; give a whole number"),
]


@pytest.mark.parametrize(
    ("build", "options", "message"), MISTAKES, ids=map(str, range(len(MISTAKES)))
)
def test_mistakes_are_refused_with_one_sentence(build, options, message):
    with pytest.raises(InputError) as caught:
        build((1, 9, 9), **options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_one_number_stands_for_a_sequence_of_one():
    assert for_shape((1, 9, 9), multipliers=2).multipliers == (2,)


@pytest.mark.parametrize("shape", [(), (1, 2, 3, 4), (0,), (3, 0, 5)], ids=str)
@pytest.mark.parametrize("build", [for_shape, flow_for_shape, adversarial_pair, autoencoder])
def test_shapes_that_no_network_takes(build, shape):
    latent = {} if build in (for_shape, flow_for_shape) else {"latent": 2}
    with pytest.raises(InputError, match="shape"):
        build(shape, **latent)


def test_a_vector_has_no_patches():
    with pytest.raises(InputError, match="patch is 2, but a vector has no positions; leave it out"):
        adversarial_pair((3,), latent=4, patch=2)


@pytest.mark.parametrize(
    ("network", "x", "conditions", "message"),
    [
        (UNet, (1, 8, 9), {}, r"unet: made for rows of shape \(1, 8, 8\), not \(1, 8, 9\)"),
        (UNet, (1, 8, 8), {"label": torch.zeros(2, dtype=torch.int64)}, "made without classes"),
        (UNet, (1, 8, 8), {"vector": torch.zeros(2, 3)}, "condition vectors of 0 numbers, not 3"),
        (Generator, (3,), {}, r"made for rows of shape \(4,\), not \(3,\)"),
        (ConvDecoder, (5,), {}, r"made for rows of shape \(4,\), not \(5,\)"),
    ],
    ids=["shape", "label", "vector", "generator", "decoder"],
)
def test_calls_that_do_not_fit_the_network(network, x, conditions, message):
    latent = {} if network is UNet else {"latent": 4}
    c_noise = (torch.zeros(2),) if network is UNet else ()
    with pytest.raises(InputError, match=message):
        network(shape=(1, 8, 8), width=8, **latent)(torch.zeros(2, *x), *c_noise, **conditions)
