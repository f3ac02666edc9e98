"""Laws of the parts of steps: reverse variances, conventions, B(h), coordinates, tables of betas.

Of each registry a wrong entry is seen to break its law.
"""

import json
from dataclasses import dataclass

import pytest
import test_schedule
import torch
from cases import times

from undiffuse import parts
from undiffuse.diffusion import (
    BETAS,
    BHS,
    CONVENTIONS,
    EDM,
    PARTS,
    VARIANCES,
    Full,
    Heun,
    LinearVP,
    UniPC,
)
from undiffuse.diffusion.steps.moves import COORDINATES, Ratio, ReverseVariance
from undiffuse.diffusion.steps.solvers import BH
from undiffuse.laws.step_laws import converges_at_its_order


def law_of_variances(variance):
    """Between beta-tilde and beta; at one of them for v = 0 and 1, if it is learned from v."""
    beta, tilde = times(0.3, 0.02, 0.5), times(0.1, 0.019, 0.5)
    found = [variance(beta, tilde, torch.full((3,), v).double()) for v in (0.0, 0.3, 1.0)]
    for value in found:
        assert bool((tilde * (1 - 1e-12) <= value).all())
        assert bool((value <= beta * (1 + 1e-12)).all())
    if variance.learned:
        torch.testing.assert_close(torch.stack(found)[[0, 2]], torch.stack([tilde, beta]))
    else:
        assert torch.equal(found[0], found[2])


def law_of_conventions(convention):
    """Noise b with drift a along the score leaves p as it is in the limit: b^2 = 2 a."""
    for size in (1e-4, 0.07, 3.0):
        a, b = convention(size)
        assert b**2 == pytest.approx(2 * a, rel=1e-12)


def law_of_bhs(bh):
    """B(h) = h + O(h^2), so that a solver with it has its order."""
    h = times(1e-4, 1e-6)
    assert bool(((bh(h) / h - 1).abs() <= h).all())
    for schedule in (LinearVP(), EDM()):
        converges_at_its_order(UniPC(p=1, b=bh), schedule)


def law_of_coordinates(coordinate):
    """dy/du is the slope of the flow: a method of order 2 in it has its order."""
    for schedule in (LinearVP(), EDM()):
        converges_at_its_order(Heun(coordinate=coordinate), schedule)


def law_of_tables(name):
    test_schedule.test_tables_are_the_published_ones(name, 30)


def law_of_parts(kind):
    """Rebuilt from strict JSON it is the same."""
    tree = json.loads(json.dumps(parts.describe(PARTS[kind](), PARTS), allow_nan=False))
    assert parts.rebuild(tree, PARTS) == PARTS[kind]()


@pytest.mark.parametrize("variance", VARIANCES)
def test_every_reverse_variance_lies_between_the_two(variance):
    law_of_variances(VARIANCES[variance]())


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_every_convention_leaves_the_density_as_it_is(convention):
    law_of_conventions(CONVENTIONS[convention]())


@pytest.mark.parametrize("bh", BHS)
def test_every_bh_is_h_to_first_order(bh):
    law_of_bhs(BHS[bh]())


@pytest.mark.parametrize("coordinate", COORDINATES)
def test_every_coordinate_has_the_slope_of_the_flow(coordinate):
    law_of_coordinates(COORDINATES[coordinate]())


@dataclass(frozen=True)
class Wider(ReverseVariance):
    """Above beta."""

    def __call__(self, beta, beta_tilde, v):
        return 1.01 * beta


@dataclass(frozen=True)
class Deaf(ReverseVariance):
    """It says that it is learned, and takes no v."""

    learned = True

    def __call__(self, beta, beta_tilde, v):
        return beta


class Loud(Full):
    """Noise of a hundredth too much."""

    def __call__(self, size):
        drift, noise = super().__call__(size)
        return drift, 1.01 * noise


@dataclass(frozen=True)
class Twice(BH):
    """B(h) = 2 h."""

    def __call__(self, h):
        return 2 * h


class Steep(Ratio):
    """Its slope is a hundredth too large."""

    def slope(self, *given):
        return 1.01 * super().slope(*given)


class Grown:
    """It keeps another number than it was given."""

    def __init__(self, *, size: int = 1):
        self.size = size + 1

    def __eq__(self, other):
        return self.size == other.size

    __hash__ = None


@pytest.mark.parametrize(
    ("law", "wrong"),
    [
        (law_of_variances, Wider),
        (law_of_variances, Deaf),
        (law_of_conventions, Loud),
        (law_of_bhs, Twice),
        (law_of_coordinates, Steep),
    ],
)
def test_a_wrong_part_of_a_step_breaks_its_law(law, wrong):
    with pytest.raises(AssertionError):
        law(wrong())


def test_a_wrong_table_of_betas_and_a_wrong_part_break_their_laws(monkeypatch):
    linear = BETAS["linear"]
    monkeypatch.setitem(BETAS, "linear", lambda levels: [1.001 * beta for beta in linear(levels)])
    with pytest.raises(AssertionError):
        law_of_tables("linear")
    law_of_parts("linear_vp")
    monkeypatch.setitem(PARTS, "grown", Grown)
    with pytest.raises(AssertionError):
        law_of_parts("grown")
