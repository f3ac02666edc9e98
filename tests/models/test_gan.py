"""Laws of the GAN: its games' closed forms, whose gradient goes where, what its diagnostics
see, that it learns.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from model_cases import Rows
from torch import nn
from torch.nn.functional import softplus

import undiffuse as ud
from undiffuse.data import toys
from undiffuse.diffusion import RowNoise
from undiffuse.errors import InputError
from undiffuse.models.gan import compared
from undiffuse.models.gan_losses import GAMES, NonSaturating, Relativistic
from undiffuse.training import fit

every_game = pytest.mark.parametrize("game", [make() for make in GAMES.values()], ids=GAMES)
CPU = {"device": "cpu", "precision": "float32"}


def minimized(loss, parameters):
    """The least value of `loss()` over the parameters."""
    optimizer = torch.optim.LBFGS(
        parameters,
        max_iter=500,
        tolerance_grad=1e-12,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure():
        optimizer.zero_grad()
        value = loss()
        value.backward()
        return value

    optimizer.step(closure)
    return float(loss().detach())


# --- the games


def it_rests_at_equality(game):
    """Where samples are the rows, a discriminator that cannot tell has nothing to gain.

    D = w h(x) at w = 0 is a critical point of its loss, whatever the feature h.
    """
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    y = x[torch.randperm(64, generator=torch.Generator().manual_seed(1))]
    for h in (
        lambda rows: rows[:, 0],
        lambda rows: rows.square().sum(1),
        lambda rows: 1 + 0 * rows[:, 0],
    ):
        w = torch.zeros((), dtype=torch.float64, requires_grad=True)
        loss = game.discriminator(lambda rows, w=w, h=h: w * h(rows), x, y)
        (slope,) = torch.autograd.grad(loss, w)
        assert abs(float(slope)) < 1e-12


def the_players_pull_against_each_other(game):
    """Where samples differ, the discriminator learns the difference, the generator removes it."""
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(64, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    y = (y - 1).requires_grad_()
    w = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    loss = game.discriminator(lambda rows: rows @ w, x, y.detach())
    (slope,) = torch.autograd.grad(loss, w)
    difference = (x - y).detach().mean(0)
    torch.testing.assert_close(-slope, difference / 2)  # softplus'(0) = 1/2
    loss = game.generator(lambda rows: rows @ difference, x, y)
    (slope,) = torch.autograd.grad(loss, y)
    assert bool((slope @ difference < 0).all())  # every sample is moved towards the rows


GAME_LAWS = (it_rests_at_equality, the_players_pull_against_each_other)


@every_game
@pytest.mark.parametrize("law", GAME_LAWS, ids=lambda law: law.__name__)
def test_every_game_keeps_to_the_laws(game, law):
    law(game)


class Unfair(NonSaturating):
    """A game whose discriminator gains by calling everything a sample."""

    def discriminator(self, critic, x, y):
        return super().discriminator(critic, x, y) + softplus(critic(y)).mean()


class Backwards(NonSaturating):
    """A game whose generator moves away from the rows."""

    def generator(self, critic, x, y):
        return -super().generator(critic, x, y)


@pytest.mark.parametrize(("law", "wrong"), list(zip(GAME_LAWS, (Unfair, Backwards))))
def test_a_wrong_game_is_caught(law, wrong):
    with pytest.raises(AssertionError):
        law(wrong.__new__(wrong))


def test_the_best_discriminator_is_the_log_ratio_and_its_loss_the_divergence():
    """Goodfellow et al. 2014, Proposition 1 and Eq. 6: D = log p - log q, and the loss 2
    log 2 - 2 JSD(p, q).
    """
    p, q = torch.tensor([8, 4, 2, 1, 1]).double(), torch.tensor([1, 3, 3, 5, 4]).double()
    places = torch.arange(5)
    x, y = (places.repeat_interleave(count.long()) for count in (p, q))
    logits = nn.Parameter(torch.zeros(5, dtype=torch.float64))
    least = minimized(
        lambda: NonSaturating().discriminator(lambda rows: logits[rows], x, y), [logits]
    )
    p, q = p / p.sum(), q / q.sum()
    torch.testing.assert_close(logits.detach(), (p / q).log(), rtol=0, atol=1e-6)
    middle = (p + q) / 2
    divergence = 0.5 * float((p * (p / middle).log()).sum() + (q * (q / middle).log()).sum())
    assert least == pytest.approx(2 * math.log(2) - 2 * divergence, abs=1e-9)


def test_the_best_discriminator_of_two_gaussians_is_a_parabola():
    """log N(x; 1, 0.5^2) - log N(x; -0.5, 1), its coefficients found from equally
    likely points of either.
    """
    u = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    z = torch.special.ndtri(u)
    x, y = 1 + 0.5 * z, -0.5 + z
    c = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    minimized(
        lambda: NonSaturating().discriminator(
            lambda rows: c[0] + c[1] * rows + c[2] * rows**2, x, y
        ),
        [c],
    )
    truth = torch.tensor([-2 + 0.125 + math.log(2), 4 + 0.5, -2 + 0.5], dtype=torch.float64)
    torch.testing.assert_close(c.detach(), truth, rtol=0, atol=5e-3)


def test_the_penalties_are_those_of_a_linear_and_a_quadratic_discriminator():
    """D = a x has |grad D|^2 = |a|^2; D = x A x / 2 has |A x|^2, whose gradient in A
    is 2 A x x^T.
    """
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(50, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    a = torch.randn(3, generator=generator, dtype=torch.float64)
    matrix = torch.randn(3, 3, generator=generator, dtype=torch.float64)
    matrix = nn.Parameter(matrix + matrix.T)

    def added(critic, penalty=0.3):
        """What the penalty adds to the loss."""
        with_it, without = Relativistic(penalty), Relativistic(0.0)
        return with_it.discriminator(critic, x, y) - without.discriminator(critic, x, y)

    weight = 0.3 * 3**0.5 / 2  # rows of 3 numbers
    assert float(added(lambda rows: rows @ a).detach()) == pytest.approx(
        weight * 2 * float(a @ a), rel=1e-6
    )
    found = added(lambda rows: ((rows @ matrix) * rows).sum(1) / 2)
    both = torch.cat([x, y])
    assert float(found.detach()) == pytest.approx(
        weight * 2 * float((both @ matrix.detach()).square().sum(1).mean()), rel=1e-6
    )
    found.backward()
    # x A x / 2 depends on the symmetric part S alone: its gradient is S x, and d|S
    # x|^2/dA = S x x^T + x x^T S
    moment = both.T @ both / len(both)
    truth = weight * 2 * (matrix @ moment + moment @ matrix).detach()
    torch.testing.assert_close(matrix.grad, truth, rtol=1e-5, atol=1e-5)


def test_the_relativistic_game_is_the_same_from_either_side():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(40, 2, generator=generator) for _ in range(2))
    game = Relativistic(0.0)

    def critic(rows, offset=0.0):
        return rows.sin().sum(1) * 3 + offset

    one, other = game.discriminator(critic, x, y), game.generator(critic, x, y)
    torch.testing.assert_close(
        other, game.discriminator(critic, y, x)
    )  # who is real is a matter of names
    torch.testing.assert_close(
        other - one, (critic(x) - critic(y)).mean()
    )  # softplus(t) - softplus(-t) = t
    torch.testing.assert_close(
        game.generator(lambda rows: critic(rows, 7.0), x, y), other
    )  # no level of realness
    assert float(game.discriminator(critic, x, x).detach()) == pytest.approx(
        math.log(2), rel=1e-6
    )  # at the data themselves


# --- the model


def data(n=400, labels=True):
    generator = torch.Generator().manual_seed(0)
    label = torch.randint(2, (n,), generator=generator)
    rows = torch.randn(n, 2, generator=generator) * 0.5 + 2.0 * label[:, None]
    return Rows(rows, label if labels else None, ("a", "b") if labels else ())


@every_game
def test_the_loss_of_a_player_moves_that_player_alone_and_sees_the_step_before_it(game):
    model, source = ud.gan(game=game, width=16, depth=1), data()
    model.meet(source)
    players = model.players()
    x, label = source.rows[:64], source.labels[:64]
    turns = model.losses(x, label=label)
    for name in ("discriminator", "generator"):
        player, loss = next(turns)
        assert player == name
        loss.backward()
        moved = {
            key: any(p.grad is not None for p in one.module.parameters())
            for key, one in players.items()
        }
        assert moved == {key: key == name for key in players}
        assert all(p.requires_grad for p in model.parameters())
        if name == "discriminator":
            with torch.no_grad():
                for parameter in model.discriminator.parameters():
                    parameter.zero_()  # the step: every logit is now 0
        model.zero_grad(set_to_none=True)
    assert float(loss.detach()) == pytest.approx(math.log(2), rel=1e-6)


def test_a_run_in_two_goes_is_the_run_in_one(tmp_path):
    options = {"steps": 20, "batch": 16, "accumulate": 2, "evaluate_every": 6, **CPU}
    whole, first, second = (ud.gan(width=8, depth=1) for _ in range(3))
    fit(whole, data(), out=tmp_path / "a", **options)
    polls = iter(range(100))
    fit(first, data(), out=tmp_path / "b", stop=lambda: next(polls) >= 7, **options)
    fit(second, data(), out=tmp_path / "b", resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_a_density_steps_and_half_a_pair_are_refused():
    model = ud.gan(width=8, depth=1)
    with pytest.raises(InputError, match="has not met its data"):
        model.players()
    model.meet(data(labels=False))
    with pytest.raises(InputError, match=r"a GAN has no density: .* such as edm"):
        model.log_prob(torch.zeros(3, 2))
    for option in ({"steps": 5}, {"method": "heun"}):
        with pytest.raises(InputError, match="draws in one pass"):
            model.sample_rows(3, **option)
    with pytest.raises(InputError, match="latent 0: give a whole number of at least 1"):
        ud.gan(data(), latent=0)
    with pytest.raises(InputError, match="give both a generator and a discriminator"):
        ud.GAN(generator=nn.Linear(2, 2))


# --- what is watched


class Constant(nn.Module):
    """A generator that has collapsed: every sample is the same point, but for a little noise."""

    def __init__(self, noise):
        super().__init__()
        self.noise, self.weight = noise, nn.Parameter(torch.ones(2))

    def forward(self, z):
        return self.weight + self.noise * z


class Honest(nn.Module):
    """The data's own law."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([0.3, 2.0]))

    def forward(self, z):
        return self.weight * z


class Logit(nn.Module):
    """A discriminator that weighs the first coordinate."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(float(weight)))

    def forward(self, x):
        return self.weight * x[:, 0]


def watched(generator, weight=0.0, n=256):
    model = ud.GAN(generator=generator, discriminator=Logit(weight), latent=2)
    x = torch.randn(n, 2, generator=torch.Generator().manual_seed(1)) * torch.tensor([0.3, 2.0])
    model.meet(Rows(x))
    return model.diagnostics(x)


def test_collapse_is_seen_in_a_constant_generator_and_not_in_an_honest_one():
    honest = watched(Honest(), n=2048)  # the ratio of two variances has a standard error of 0.044
    assert "warning" not in honest
    assert abs(honest["loss"]) < 0.03
    assert honest["diversity"] == pytest.approx(1, abs=0.15)
    assert honest["variance"] == pytest.approx(1, abs=0.2)
    assert honest["separation"] == 0.5  # all logits are the same
    for noise in (0.0, 0.01):
        collapsed = watched(Constant(noise))
        assert collapsed["warning"].startswith("signs of collapse: samples lie")
        assert collapsed["diversity"] < 0.05
        assert collapsed["variance"] < 1e-3
        assert collapsed["loss"] > 0.4  # a point in place of a law, 2 E|x - c| / E|x - x'| - 1


def test_a_few_rows_tell_nothing_and_break_nothing():
    for n in (1, 2, 15):
        found = watched(Constant(0.0), n=n)
        assert "warning" not in found
        assert all(math.isfinite(value) for value in found.values())


def test_a_discriminator_that_has_won_is_seen():
    model = watched(Constant(0.3), weight=0.0)
    assert "warning" not in model
    far = Constant(0.3)
    far.weight.data[:] = torch.tensor([-9.0, 0.0])
    won = watched(far, weight=1.0)
    assert won["separation"] == 1.0
    assert won["warning"].startswith("the discriminator wins: in 100.0% of pairs")


def test_the_energy_distance_is_unbiased_and_has_its_closed_form():
    """Between N(0, 1) and N(m, 1) in one dimension, over E|x - x'| = 2/sqrt(pi); 0 on
    average for the same law.
    """
    generator = torch.Generator().manual_seed(0)

    def found(shift, n):
        x, y = (torch.randn(n, 1, generator=generator) for _ in range(2))
        return compared(x, y + shift)["loss"]

    half_normal = lambda m, s: (  # noqa: E731 - E|N(m, s^2)|
        s * math.sqrt(2 / math.pi) * math.exp(-(m**2) / (2 * s**2))
        + m * math.erf(m / (s * math.sqrt(2)))
    )
    small = np.array([found(0.0, 8) for _ in range(1000)])
    assert abs(small.mean()) < 4 * small.std() / 1000**0.5
    spread = 2 / math.sqrt(math.pi)
    truth = 2 * (half_normal(1.5, math.sqrt(2)) - spread) / spread
    assert found(1.5, 1000) == pytest.approx(truth, rel=0.2)


# --- learning


def test_it_learns_eight_modes_and_keeps_them():
    model = ud.gan(width=32, depth=1)
    looks = []
    note = lambda event: looks.append(event) if event["event"] == "held_out" else None  # noqa: E731
    fit(
        model, "gaussians8", steps=350, batch=128, lr=2e-3, on_event=note, evaluate_every=175, **CPU
    )
    samples = model.sample_rows(2000, batch=2000)
    distance = np.linalg.norm(samples[:, None] - toys._CENTRES, axis=2)
    near = distance.min(1) < 0.6  # 3 deviations
    counts = np.bincount(distance.argmin(1)[near], minlength=8)
    assert near.mean() > 0.6
    assert counts.min() > 0.3 * counts.mean()
    assert "warning" not in looks[-1]
    assert 0 <= abs(looks[-1]["loss"]) < 0.02


# --- the numbers of the diagnostics, and where warnings begin


class Scaled(nn.Module):
    """z, as wide as said, and moved."""

    def __init__(self, share, moved=0.0):
        super().__init__()
        self.share, self.moved = share, moved
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, z):
        return self.weight * self.share * z + self.moved


def diagnosed(generator, x, weight=0.0):
    model = ud.GAN(generator=generator, discriminator=Logit(weight), latent=2)
    model.meet(Rows(torch.cat([x, x])))
    return model.diagnostics(x)


@pytest.mark.parametrize(("share", "warned"), [(0.19, True), (0.21, False), (1.0, False)])
@pytest.mark.parametrize("n", [15, 16])
def test_samples_that_are_a_copy_made_smaller_are_so_much_smaller(n, share, warned):
    """The rows are the very noise that samples are made of: every distance shrinks by the share."""
    x = RowNoise(0, n)(torch.empty(n, 2))
    found = diagnosed(Scaled(share), x)
    assert found["diversity"] == pytest.approx(share, rel=1e-5)
    assert found["variance"] == pytest.approx(share**2, rel=1e-5)
    apart = torch.pdist(x.double()).mean()
    between = torch.cdist(x.double(), share * x.double()).mean()
    assert found["loss"] == pytest.approx(
        float((2 * between - (1 + share) * apart) / apart), rel=1e-5
    )
    warning = found.get("warning", "")
    assert warning.startswith("signs of collapse: samples lie 0.19 times") == (warned and n == 16)


@pytest.mark.parametrize(("beaten", "warned"), [(16, False), (17, True)])
def test_a_discriminator_has_won_above_99_pairs_of_100(beaten, warned):
    """Of 20 rows 19 look more real than any sample, and one more real than so many of them."""
    first = RowNoise(0, 20)(torch.empty(20, 2))[:, 0].sort().values
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0)) * 0.1
    x[:, 0] += 6
    x[0, 0] = (first[beaten - 1] + first[beaten]) / 2
    found = diagnosed(Scaled(1.0), x, weight=1.0)
    assert found["separation"] == pytest.approx((19 * 20 + beaten) / 400, abs=1e-12)
    assert ("warning" in found) == warned
    assert warned == found.get("warning", "").startswith("the discriminator wins: in 99.2% of")


def test_one_row_and_equal_rows_are_compared_without_dividing_by_nothing():
    one = compared(torch.tensor([[1.0, 2.0]]), torch.tensor([[4.0, 6.0]]))
    assert one == {"loss": pytest.approx(10 / 1e-12), "diversity": 0.0, "variance": 0.0}
    x, y = torch.zeros(3, 1), torch.tensor([[0.0], [1.0], [3.0]])
    found = compared(x, y)
    assert found["diversity"] == pytest.approx((1 + 1 + 2) / 3 / 1e-12)
    assert found["variance"] == pytest.approx(14 / 9 / 1e-12)
    assert found["loss"] == pytest.approx((2 * 4 / 3 - 2.0) / 1e-12)


def test_the_players_see_fresh_noise_the_same_labels_and_no_gradient_that_is_not_theirs():
    """The discriminator's samples are drawn without gradient; the generator's are others."""
    seen = []

    class Watch(Scaled):
        def forward(self, z):
            seen.append((z, torch.is_grad_enabled()))
            return super().forward(z)

    model = ud.GAN(generator=Watch(1.0), discriminator=Logit(1.0), latent=2)
    model.meet(Rows(torch.randn(40, 2)))
    assert len(list(model.losses(torch.randn(8, 2)))) == 2
    (first, with_gradient), (second, still) = seen
    assert (with_gradient, still) == (False, True)
    assert first.shape == second.shape == (8, 2)
    assert not torch.equal(first, second)
    frozen = model.discriminator.weight.requires_grad_(False)
    list(model.losses(torch.randn(8, 2)))
    assert not frozen.requires_grad  # what was frozen before stays so


def test_two_rows_and_two_samples_are_compared_as_by_hand():
    """Rows 0 and 1 are 1 apart, samples 0 and 3 are 3 apart, a row and a sample 1.5 on average."""
    found = compared(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [3.0]]))
    assert found == pytest.approx({"loss": 2 * 1.5 - 1 - 3, "diversity": 3.0, "variance": 9.0})
    alone = compared(torch.zeros(1, 2), torch.zeros(1, 2))
    assert alone == {"loss": 0.0, "diversity": 0.0, "variance": 0.0}
