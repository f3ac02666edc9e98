"""Laws of encoders and decoders, for images, sequences and vectors of odd and tiny sizes."""

from __future__ import annotations

import pytest
import torch

from undiffuse import parts
from undiffuse.errors import InputError
from undiffuse.nn.autoencoder import AUTOENCODERS, ConvDecoder, _fold, _sides, _unfold, autoencoder

SHAPES = [
    (1, 1, 1),
    (1, 8, 8),
    (3, 33, 20),
    (2, 1, 9),
    (1, 28, 28),
    (1, 1),
    (2, 3),
    (1, 1000),
    (3, 257),
    (1,),
    (13,),
]
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def made(shape, **options):
    """An autoencoder of 3 latent numbers and 3 classes with every parameter moved."""
    torch.manual_seed(0)
    sizes = {"width": 16} | ({"depth": 2} if len(shape) == 1 else {})
    network = autoencoder(shape, latent=3, classes=3, scales=2, **{**sizes, **options}).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn(parameter.shape)
    return network


def inputs(shape, rows=4):
    generator = torch.Generator().manual_seed(2)
    x, z = torch.randn(rows, *shape, generator=generator), torch.randn(rows, 3, generator=generator)
    return x, z, torch.arange(rows) % 4 - 1


@every_shape
def test_each_end_has_its_shape_and_a_row_depends_on_itself_alone(shape):
    network, (x, z, label) = made(shape), inputs(shape)
    for end, given, result in ((network.encoder, x, (6,)), (network.decoder, z, shape)):
        together = end(given, label)
        assert together.shape == (4, *result)
        for i in range(4):
            torch.testing.assert_close(
                end(given[i : i + 1], label[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-4
            )


@every_shape
def test_every_number_matters_on_either_side(shape):
    """No value is lost in folding, halving or cropping: each input reaches the result, each output hangs on z."""
    network, (x, z, label) = made(shape), inputs(shape)
    for end, given in ((network.encoder, x), (network.decoder, z)):
        given.requires_grad_()
        result = end(given, label)
        (
            result * torch.randn(result.shape, generator=torch.Generator().manual_seed(3))
        ).sum().backward()
        assert given.grad.abs().amin() > 0
    moved = network.decoder(z + 1, label) - network.decoder(z, label)
    assert moved.abs().amin() > 0


@every_shape
def test_every_parameter_of_the_ends_gets_a_gradient(shape):
    network, (x, z, label) = made(shape), inputs(shape)
    for end, given in ((network.encoder, x), (network.decoder, z)):
        end(given, label).square().sum().backward()
        idle = [
            name for name, p in end.named_parameters() if p.grad is None or p.grad.abs().max() == 0
        ]
        assert idle == []


@every_shape
def test_labels_matter_and_dropped_is_the_same_as_not_given(shape):
    network, (x, z, _) = made(shape), inputs(shape)
    for end, given in ((network.encoder, x), (network.decoder, z)):
        results = [end(given, torch.full((4,), label)) for label in (-1, 0, 1, 2)]
        for i, one in enumerate(results):
            assert all((one - other).abs().amax() > 1e-4 for other in results[:i])
        torch.testing.assert_close(end(given), results[0])


@every_shape
def test_plain_data_rebuilds_the_network(shape):
    network, (x, z, label) = made(shape), inputs(shape)
    tree = parts.describe(network, AUTOENCODERS)
    again = parts.build(tree, AUTOENCODERS)
    assert parts.describe(again, AUTOENCODERS) == tree
    again.load_state_dict(network.state_dict(), strict=True)
    torch.testing.assert_close(again.encoder(x, label), network.encoder(x, label), rtol=0, atol=0)
    torch.testing.assert_close(again.decoder(z, label), network.decoder(z, label), rtol=0, atol=0)
    torch.testing.assert_close(again.log_scale, 10 * network.scale, rtol=0, atol=0)


@pytest.mark.parametrize("patch", [1, 2, 3, 8])
@pytest.mark.parametrize("shape", [(2, 11), (2, 7, 10), (1, 1, 5)], ids=str)
def test_folding_loses_nothing(shape, patch):
    x = torch.randn(3, *shape)
    folded = _fold(x, patch)
    assert tuple(folded.shape[2:]) == _sides(shape, patch, 1)[0]
    torch.testing.assert_close(_unfold(folded, shape, patch), x, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(1, 64, 64), (3, 200, 90), (1, 16_000), (2, 100_000)], ids=str)
def test_large_rows_end_at_few_positions(shape):
    with torch.device("meta"):
        network = autoencoder(shape, latent=8)
    height, width = network.decoder.sides[0]
    assert max(height, width) <= 8
    assert sum(p.numel() for p in network.parameters()) < 30e6


def test_mistakes_are_refused_with_one_sentence():
    for options, message in (
        ({"widht": 3}, r"autoencoder: widht: no such dimension. Did you mean width\?"),
        ({"depth": 3}, "autoencoder: depth: no such dimension."),
        ({"width": 0}, "encoder: width is 0; give a whole number of at least 1."),
        ({"patch": 0}, "encoder: patch is 0; give a whole number of at least 1."),
        ({"multipliers": ()}, "encoder: multipliers is .*; give at least one."),
    ):
        with pytest.raises(InputError, match=message):
            autoencoder((1, 9, 9), latent=2, **options)
    with pytest.raises(InputError, match="takes data of shape"):
        autoencoder((1, 2, 3, 4), latent=2)
    decoder = ConvDecoder(shape=(1, 8, 8), latent=4, width=8)
    with pytest.raises(InputError, match="made for rows of shape"):
        decoder(torch.zeros(2, 5))
    with pytest.raises(InputError, match="made without classes"):
        decoder(torch.zeros(2, 4), torch.zeros(2, dtype=torch.int64))
