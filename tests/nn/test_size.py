"""The network follows the data; what a user sets is kept; what cannot be is refused with one sentence."""

from __future__ import annotations

import math

import pytest
import torch

from undiffuse.errors import InputError
from undiffuse.nn import NETWORKS, UNet, dimensions, for_shape

CHANGES = {
    "width": 48,
    "multipliers": (1, 3),
    "blocks": 3,
    "attention": (0,),
    "patch": 3,
    "head_width": 16,
    "dropout": 0.1,
    "depth": 3,
    "heads": 1,
    "octaves": 1,
}


def parameters(shape, **options):
    with torch.device("meta"):
        return sum(p.numel() for p in for_shape(shape, **options).parameters())


@pytest.mark.parametrize(
    ("kind", "shape"), [("mlp", (7,)), ("transformer", (1, 50)), ("unet", (3, 20, 30))], ids=str
)
def test_kind_follows_the_number_of_axes_and_every_dimension_can_be_set(kind, shape):
    assert type(for_shape(shape)) is NETWORKS[kind]
    for name in dimensions(kind):
        network = for_shape(shape, **{name: CHANGES[name]})
        assert getattr(network, name) == CHANGES[name]
        assert network(torch.zeros(2, *shape), torch.zeros(2)).shape == (2, *shape)
    assert {"shape", "classes", "vector", "out", "span"}.isdisjoint(dimensions(kind))


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
    assert for_shape((1, 16), width=40).heads in (1, 2, 4, 5, 8, 10)
    assert for_shape((1, 28, 28), patch=7).attention == (0,)


MISTAKES = [
    ({"kind": "unett"}, "network unett: no such kind. Did you mean unet? (mlp, transformer, unet)"),
    ({"widht": 3}, "unet: widht: no such dimension. Did you mean width?"),
    ({"depth": 3}, "unet: depth: no such dimension."),
    ({"width": 0}, "unet: width is 0; give a whole number of at least 1."),
    ({"width": -4}, "unet: width is -4; give a whole number of at least 1."),
    ({"width": 2.5}, "unet: width is 2.5; give a whole number."),
    ({"width": "big"}, "unet: width is 'big'; give a whole number."),
    ({"width": True}, "unet: width is True; give a whole number."),
    ({"patch": 0}, "unet: patch is 0; give a whole number of at least 1."),
    ({"multipliers": (1, 0)}, "unet: multipliers is (1, 0); give a whole number of at least 1."),
    ({"multipliers": ()}, "unet: multipliers is (); give at least one."),
    ({"multipliers": "12"}, "unet: multipliers is '12'; give whole numbers."),
    ({"attention": (5,)}, "unet: attention (5,) names a level that is not there;"),
    ({"dropout": 1.0}, "unet: dropout is 1.0; give a number from 0 to below 1."),
    ({"dropout": "no"}, "unet: dropout is 'no'; give a number."),
    ({"span": 0.0}, "unet: span is 0.0; give a number above 0."),
    ({"classes": -1}, "unet: classes is -1; give a whole number of at least 0."),
    (
        {"kind": "mlp"},
        "mlp: does not take rows of shape (1, 9, 9); choose another network (unet, transformer).",
    ),
    (
        {"kind": "transformer", "width": 30, "heads": 4},
        "transformer: 4 heads do not divide a width of 30;",
    ),
]


@pytest.mark.parametrize(("options", "message"), MISTAKES, ids=lambda value: str(value)[:40])
def test_mistakes_are_refused_with_one_sentence(options, message):
    with pytest.raises(InputError) as caught:
        for_shape((1, 9, 9), **options)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(), (1, 2, 3, 4), (0,), (3, 0, 5)], ids=str)
def test_shapes_that_no_network_takes(shape):
    with pytest.raises(InputError, match="shape"):
        for_shape(shape)


@pytest.mark.parametrize(
    ("x", "conditions", "message"),
    [
        ((1, 8, 9), {}, "made for rows of shape"),
        ((1, 8, 8), {"label": torch.zeros(2, dtype=torch.int64)}, "made without classes"),
        (
            (1, 8, 8),
            {"vector": torch.zeros(2, 3)},
            "made for condition vectors of 0 numbers, not 3",
        ),
    ],
    ids=["shape", "label", "vector"],
)
def test_calls_that_do_not_fit_the_network(x, conditions, message):
    network = UNet(shape=(1, 8, 8), width=8)
    with pytest.raises(InputError, match=message):
        network(torch.zeros(2, *x), torch.zeros(2), **conditions)
