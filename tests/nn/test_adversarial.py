"""Laws of the generator and the discriminator, on shapes that are odd, non-square and tiny."""

from __future__ import annotations

import pytest
import torch

from undiffuse import parts
from undiffuse.errors import InputError
from undiffuse.nn.adversarial import ADVERSARIAL, Discriminator, Generator, adversarial_pair

CASES = [
    ((1,), 1), ((13,), 1), ((1, 1), 1), ((2, 3), 2), ((3, 257), 8), ((1, 1, 1), 1), ((1, 8, 8), 1),
    ((5, 33, 20), 4), ((3, 7, 40), 3), ((2, 1, 9), 1),
]  # fmt: skip
every_case = pytest.mark.parametrize(
    ("shape", "patch"), CASES, ids=lambda value: str(value).replace(" ", "")
)
LATENT, ROWS = 6, 4
LABELS = torch.tensor([0, 2, -1, 1])


def pair(shape, patch, **more):
    """Both networks, every parameter moved: new ones are shallow, and zero hides what goes in."""
    torch.manual_seed(0)
    networks = adversarial_pair(
        shape, latent=LATENT, **{"classes": 3, "width": 8, "depth": 1, "patch": patch, **more}
    )
    with torch.no_grad():
        for network in networks:
            for parameter in network.parameters():
                parameter += 0.1 * torch.randn(parameter.shape)
    return networks


def inputs(shape):
    generator = torch.Generator().manual_seed(2)
    return torch.randn(ROWS, LATENT, generator=generator), torch.randn(
        ROWS, *shape, generator=generator
    )


@every_case
def test_a_row_depends_on_itself_alone_and_has_its_shape(shape, patch):
    for network, given in zip(pair(shape, patch), inputs(shape)):
        together = network(given, LABELS)
        assert together.shape == ((ROWS, *shape) if isinstance(network, Generator) else (ROWS,))
        for i in range(ROWS):
            torch.testing.assert_close(
                network(given[i : i + 1], LABELS[i : i + 1])[0], together[i], rtol=1e-4, atol=1e-4
            )


@every_case
def test_every_number_that_goes_in_matters_and_every_number_that_comes_out_moves(shape, patch):
    generator, discriminator = pair(shape, patch)
    z, x = inputs(shape)
    z.requires_grad_()
    x.requires_grad_()
    y = generator(z, LABELS)
    (y * torch.randn_like(y)).sum().backward()
    discriminator(x, LABELS).sum().backward()
    assert z.grad.abs().amin() > 0
    assert x.grad.abs().amin() > 0
    assert (y - y[:1]).detach().abs().amax(0).amin() > 0


@every_case
def test_labels_matter_and_a_dropped_one_is_the_same_as_none(shape, patch):
    for network, given in zip(pair(shape, patch), inputs(shape)):
        zeros = torch.zeros(ROWS, dtype=torch.int64)
        base, other, none = network(given, zeros), network(given, zeros + 1), network(given)
        for found in (other, none):
            assert (found - base).flatten().abs().amin() > 0
        torch.testing.assert_close(network(given, zeros - 1), none)


@every_case
def test_every_parameter_gets_a_gradient_and_plain_data_rebuilds_the_networks(shape, patch):
    for network, given in zip(pair(shape, patch), inputs(shape)):
        found = network(given, LABELS)
        (
            found * torch.randn(found.shape, generator=torch.Generator().manual_seed(3))
        ).sum().backward()
        assert [
            name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()
        ] == []
        tree = parts.describe(network, ADVERSARIAL)
        again = parts.build(tree, ADVERSARIAL)
        assert parts.describe(again, ADVERSARIAL) == tree
        again.load_state_dict(network.state_dict(), strict=True)
        torch.testing.assert_close(again(given, LABELS), found, rtol=0, atol=0)


@pytest.mark.parametrize("shape", [(3,), (2, 11), (2, 7, 6)], ids=str)
def test_the_slope_of_the_discriminator_can_be_differentiated(shape):
    """Second derivatives by finite differences, through pooling, padding and patches: the gradient penalties' own."""
    _, discriminator = pair(shape, 1 if len(shape) == 1 else 2, width=3, classes=0)
    x = torch.randn(2, *shape, dtype=torch.float64, requires_grad=True)
    discriminator.double()
    parameters = list(discriminator.parameters())
    probe = [torch.randn_like(p) for p in parameters]

    def penalty():
        return torch.autograd.grad(discriminator(x).sum(), x, create_graph=True)[0].square().sum()

    slopes = torch.autograd.grad(penalty(), parameters, allow_unused=True)
    derivative = sum(
        float((slope * p).sum()) for slope, p in zip(slopes, probe) if slope is not None
    )

    def moved(by):
        with torch.no_grad():
            torch._foreach_add_(parameters, probe, alpha=by)
        value = float(penalty().detach())
        with torch.no_grad():
            torch._foreach_add_(parameters, probe, alpha=-by)
        return value

    assert (moved(1e-7) - moved(-1e-7)) / 2e-7 == pytest.approx(derivative, rel=1e-5)


@pytest.mark.parametrize(
    "shape", [(1,), (30,), (500,), (1, 16000), (2, 40), (1, 8, 8), (1, 28, 28), (3, 256, 200)]
)
def test_sizes_follow_the_data(shape):
    generator, discriminator = adversarial_pair(shape, latent=5)
    assert generator.sizes == discriminator.sizes
    if len(shape) > 1:
        positions, least = generator.sizes[0], 1024 if len(shape) == 2 else 24
        assert max(positions) <= 1.3 * least  # of sides that differ, the longer is above
        assert max(generator.sizes[-1]) <= 4
        assert all(n * generator.patch >= side for n, side in zip(positions, shape[1:]))
    given = adversarial_pair(shape, latent=5, width=12, depth=2)
    assert all((network.width, network.depth) == (12, 2) for network in given)


def test_what_does_not_fit_is_refused():
    for sizes, message in (
        ({"widht": 8}, "no such dimension. Did you mean width"),
        ({"width": 0}, "width is 0; give a whole number"),
        ({"patch": 2}, "a vector has no positions"),
    ):
        with pytest.raises(InputError, match=message):
            adversarial_pair((3,), latent=4, **sizes)
    with pytest.raises(InputError, match=r"takes data of shape \(D,\) or"):
        adversarial_pair((1, 2, 3, 4), latent=4)
    with pytest.raises(InputError, match="made without classes"):
        Generator(shape=(3,), latent=4)(torch.randn(2, 4), torch.zeros(2, dtype=torch.int64))
    with pytest.raises(InputError, match=r"rows of shape \(3,\), not \(4,\)"):
        Discriminator(shape=(3,))(torch.randn(2, 4))
