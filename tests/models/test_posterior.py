"""Rows given conditions are posteriors: held to Bayes' rule for a linear-Gaussian simulator.

    theta ~ N(0, I),   y = A theta + s e,
    theta | y ~ N(C A' y / s^2, C),   C = (I + A'A / s^2)^-1,

and with only some of y known, the same with the rows of A that belong to these.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from model_cases import exact_edm
from torch import nn

import undiffuse as ud
from undiffuse.data import Conditions, Data, ask, load
from undiffuse.models.conditions import KeptConditions
from undiffuse.models.diffusion import Diffusion, guided
from undiffuse.models.likelihood import Density
from undiffuse.models.student import student_of

A, S = np.array([[1.0, 0.5], [-0.4, 1.2]]), 0.6
ASKED = ([1.0, -1.0], [0.2, 2.0], [-1.5, 0.0])
"""Three y that a posterior is drawn for."""
FINE = Density(tolerance=1e-5)
CPU = {"device": "cpu", "precision": "float32"}


def simulated(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draws of (theta, y)."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(n, 2))
    return theta, theta @ A.T + S * rng.normal(size=(n, 2))


def posterior(y: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean (B, 2) and covariance (B, 2, 2) of theta given the known entries of y (B, 2)."""
    rows = A[None] * known[:, :, None]
    covariance = np.linalg.inv(np.eye(2) + rows.transpose(0, 2, 1) @ rows / S**2)
    mean = covariance @ (rows.transpose(0, 2, 1) @ np.nan_to_num(y)[:, :, None]) / S**2
    return mean[:, :, 0], covariance


class Bayes(nn.Module):
    """The exact network: E[x | x_t, y], from c_noise = log(sigma)/4 and what is known of y."""

    def __init__(self, data: Data) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        own = Conditions.restore(data.config())
        assert own is not None
        self.columns = own.columns
        ends, _ = data.transform.encode(torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.zeros_like)
        self.scale = 1 / (ends[1] - ends[0]).double().numpy()
        self.shift = -ends[0].double().numpy() * self.scale
        self.sigma_data = 1.0

    def forward(
        self, x: torch.Tensor, c_noise: torch.Tensor, vector: torch.Tensor | None = None
    ) -> torch.Tensor:
        assert vector is not None
        r, entries = torch.exp(4 * c_noise.double())[:, None], vector.double().numpy()
        y = np.stack(
            [c.mean + c.deviation * entries[:, 2 * i] for i, c in enumerate(self.columns)], 1
        )
        mean, covariance = posterior(y, entries[:, 1::2] > 0)
        m = torch.from_numpy((mean - self.shift) / self.scale)
        C = torch.from_numpy(covariance / np.outer(self.scale, self.scale))
        x_t = x.double() * (self.sigma_data**2 + r**2).sqrt()
        gain = torch.linalg.solve(C + r[:, :, None] ** 2 * torch.eye(2), (x_t - m)[:, :, None])
        return (m + (C @ gain)[:, :, 0]).to(x.dtype)


@pytest.fixture(scope="module")
def exact() -> Diffusion:
    """A model whose network is exact, having met data."""
    data = load(simulated(3000))
    return exact_edm(data, Bayes(data))


def normal(x: np.ndarray, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """The log-density of N(mean, covariance) at rows x (B, 2)."""
    gap = (x - mean)[:, :, None]
    squares = (gap.transpose(0, 2, 1) @ np.linalg.solve(covariance, gap))[:, 0, 0]
    return -squares / 2 - np.log(2 * np.pi) - np.log(np.linalg.det(covariance)) / 2


def through_the_prior(
    model: Diffusion, theta: np.ndarray, mean: np.ndarray, covariance: np.ndarray
) -> np.ndarray:
    """The log-density of N(mean, covariance), but for what the model's prior does not know.

    The path of theta ends at x_1 = m + ((C + sigma^2)/C)^(1/2) (x - m), and is scored there by a
    prior that no condition has moved.
    """
    assert isinstance(model.network, Bayes)
    shift, scale, wide = model.network.shift, model.network.scale, 80.0**2
    m, C = (mean - shift) / scale, covariance / np.outer(scale, scale)
    values, axes = np.linalg.eigh(C)
    along = (((theta - shift) / scale - m)[:, None] @ axes)[:, 0] * np.sqrt(1 + wide / values)
    x_1 = m + (along[:, None] @ axes.transpose(0, 2, 1))[:, 0]
    ends = normal(x_1, np.zeros(2), (1 + wide) * np.eye(2)[None])
    return normal(theta, mean, covariance) + ends - normal(x_1, m, C + wide * np.eye(2))


def check(rows: np.ndarray, y: np.ndarray, known: np.ndarray, wrong: float = 0.0) -> None:
    """Samples (m, n, 2) have the posteriors of y (m, 2), to chance and a share `wrong`."""
    mean, covariance = posterior(y, known)
    n = rows.shape[1]
    for i, drawn in enumerate(rows):
        root = np.linalg.inv(np.linalg.cholesky(covariance[i]))
        white = (drawn - mean[i]) @ root.T  # N(0, I), if they are right
        assert np.abs(white.mean(0)).max() < 4 / math.sqrt(n) + wrong
        assert np.abs(np.cov(white.T) - np.eye(2)).max() < 4 * math.sqrt(2 / n) + 2 * wrong


@pytest.mark.parametrize("known", [(1, 1), (1, 0), (0, 1), (0, 0)])
def test_an_exact_network_draws_the_posterior_of_what_is_asked_for(
    exact: Diffusion, known: tuple[int, int]
) -> None:
    """Also where only some of it is."""
    shown, y = np.tile(known, (3, 1)).astype(bool), np.array(ASKED)
    where = {"y0": np.where(shown[:, 0], y[:, 0], None), "y1": np.where(shown[:, 1], y[:, 1], None)}
    rows = exact.sample(3000, where=where, method="deis", steps=16, batch=9000).reshape(3, -1, 2)
    check(rows, y, shown)
    vector, _ = ask(where, exact.data_config or {})
    asked = np.repeat(vector, 5, 0)
    theta, _ = simulated(15, seed=2)
    each = {name: np.repeat(values, 5) for name, values in where.items()}
    found = exact.log_prob(theta, where=each, how=FINE)
    nats = through_the_prior(exact, theta, *posterior(np.repeat(y, 5, 0), np.repeat(shown, 5, 0)))
    np.testing.assert_allclose(found, nats, atol=2e-3)
    given = exact.likelihood_rows(torch.from_numpy(theta), vector=torch.from_numpy(asked), how=FINE)
    np.testing.assert_allclose(given.nats.numpy(), found, atol=1e-9)


def test_rows_are_scored_given_their_own_conditions(exact: Diffusion) -> None:
    theta, y = simulated(12, seed=3)
    own = exact.log_prob((theta, y))
    asked = exact.log_prob(theta, where=y)
    np.testing.assert_allclose(own, asked, atol=1e-9)
    hidden = exact.log_prob(theta)
    prior = -np.square(theta).sum(1) / 2 - np.log(2 * np.pi)
    np.testing.assert_allclose(hidden, prior, atol=3e-3)
    assert own.mean() > hidden.mean() + 0.5  # y says much of theta
    with pytest.raises(ud.InputError, match="2 rows of conditions for 12 rows"):
        exact.log_prob(theta, where=y[:2])


def test_samples_asked_for_nothing_have_the_conditions_of_training_rows(exact: Diffusion) -> None:
    """So that with them they are drawn jointly, and each depends on the seed and its number."""
    n = 4000
    assert exact.kept is not None
    vector = exact.sample_conditions(n, seed=1)["vector"]
    rows = {tuple(row) for row in exact.kept.vectors.tolist()}
    assert {tuple(row) for row in vector.tolist()} <= rows
    assert len({tuple(row) for row in vector.tolist()}) > 0.7 * len(rows) * (
        1 - math.exp(-n / 2700)
    )
    shared = {"seed": 1, "steps": 8, "method": "deis"}
    drawn = exact.sample(n, batch=n, **shared)
    own = Conditions.restore(exact.data_config or {})
    assert own is not None
    y = own.decode(vector.numpy())
    joint = np.cov(np.concatenate([drawn, y], 1).T)
    truth = np.block([[np.eye(2), A.T], [A, A @ A.T + S**2 * np.eye(2)]])
    np.testing.assert_allclose(joint, truth, atol=0.2)
    np.testing.assert_allclose(exact.sample(30, batch=7, **shared), drawn[:30], atol=1e-5)
    np.testing.assert_allclose(exact.sample(5, first=20, **shared), drawn[20:25], atol=1e-5)


def test_guidance_contrasts_what_is_asked_for_with_nothing(exact: Diffusion) -> None:
    """Scale 1 draws the posterior, scale 0 the prior, and scale 3 goes beyond."""
    where, shared = {"y0": 1.0, "y1": -1.0}, {"steps": 8, "seed": 3, "method": "deis"}
    plain = exact.sample(400, where=where, **shared)
    same = exact.sample(400, where=where, wrap=guided(exact, 1.0), **shared)
    np.testing.assert_allclose(same, plain, atol=1e-5)
    none = exact.sample(400, where=where, wrap=guided(exact, 0.0), **shared)
    hidden = exact.sample(400, where={"y0": None, "y1": ""}, **shared)
    np.testing.assert_allclose(none, hidden, atol=1e-5)
    beyond = exact.sample(400, where=where, wrap=guided(exact, 3.0), **shared)
    mean, _ = posterior(np.array([[1.0, -1.0]]), np.ones((1, 2)))
    assert np.linalg.norm(beyond.mean(0)) > 1.2 * np.linalg.norm(mean)
    student = student_of(exact, called="it", guidance=2.0)
    student.meet(load(simulated(3000)))
    batch = load(simulated(3000)).sample_batch(64)
    ((_, loss),) = student.losses(batch["row"].float(), vector=batch["vector"])
    assert math.isfinite(float(loss))
    assert student.sample(3, where=where).shape == (3, 2)


def test_some_of_the_columns_are_hidden_in_training() -> None:
    """One share of the rows has none, and as large a share each column by the toss of a coin."""
    torch.manual_seed(0)
    model, n, share = ud.edm(width=8, depth=1), 40_000, 0.2
    model.kept, model.drop_condition = KeptConditions((2, 3), 1), share
    seen = model.hidden({"vector": torch.ones(n, 5), "label": torch.ones(n, dtype=torch.int64)})
    first, second = seen["vector"][:, :2], seen["vector"][:, 2:]
    assert torch.equal(first[:, 0], first[:, 1])  # a column as a whole
    assert torch.equal(second[:, 0], second[:, 2])
    found = torch.stack([first[:, 0], second[:, 0]], 1)
    none, rest = share, 1 - share
    expected = {
        (0, 0): none + rest * share / 4,
        (1, 0): rest * share / 4,
        (0, 1): rest * share / 4,
        (1, 1): rest * (1 - share * 3 / 4),
    }
    for pattern, part in expected.items():
        count = float((found == torch.tensor(pattern)).all(1).double().mean())
        assert count == pytest.approx(part, abs=4 * math.sqrt(part / n))
    assert ((seen["label"] == -1) <= (found == 0).all(1)).all()  # labels with all of them
    model.drop_condition = 0.0
    assert torch.equal(model.hidden({"vector": torch.ones(9, 5)})["vector"], torch.ones(9, 5))


def test_a_run_with_conditions_resumes_exactly_and_opens_as_it_was(tmp_path) -> None:
    options = {"steps": 12, "batch": 16, "samples": 0, "checkpoint_every": 4, **CPU}
    whole, parts = (ud.edm(width=8, depth=1) for _ in range(2))
    torch.manual_seed(0)
    whole.fit(load(simulated(200)), out=tmp_path / "a", **options)
    torch.manual_seed(0)
    polls = iter(range(10**9))
    parts.fit(load(simulated(200)), out=tmp_path / "b", stop=lambda: next(polls) >= 5, **options)
    other = ud.edm(width=8, depth=1)
    other.fit(load(simulated(200)), out=tmp_path / "b", resume=True)
    opened = ud.open(tmp_path / "b")
    states = [model.state_dict() for model in (whole, other, opened)]
    for name in states[0] | states[1] | states[2]:
        assert torch.equal(states[0][name], states[1][name]), name
        assert torch.equal(states[0][name], states[2][name]), name
    where = {"y0": 1.0}
    for asked in ({}, {"where": where}):
        drawn = [model.sample(5, steps=3, **asked) for model in (whole, opened)]
        np.testing.assert_array_equal(*drawn)
    with pytest.raises(ud.InputError, match="this model was trained without conditions"):
        ud.edm(simulated(200)[0], width=8).sample(2, where=where)
    with pytest.raises(ud.InputError, match="3 and 2 conditions and given rows"):
        opened.sample(1, where={"y0": [1, 2]}, given=np.array([[0.0, np.nan]] * 3))


class Deaf(nn.Module):
    """A network that takes no vector."""

    def forward(self, x: torch.Tensor, c_noise: torch.Tensor) -> torch.Tensor:
        return 0 * x


def test_models_and_networks_that_take_no_conditions_refuse_them() -> None:
    data = load(simulated(60))
    for make in (ud.vae, ud.gan, ud.flow):
        with pytest.raises(ud.InputError, match="takes classes alone; train a diffusion model"):
            make(data)
    edm = ud.edm(width=8)
    with pytest.raises(ud.InputError, match="takes no `vector`; give it that argument"):
        Diffusion(
            schedule=edm.schedule, target=edm.target, objective=edm.objective, step=edm.step,
            grid=edm.grid, steps=4, network=Deaf(),
        ).meet(data)  # fmt: skip
    other = ud.edm(load((simulated(60)[0], simulated(60)[1][:, 0])), width=8, depth=1)
    with pytest.raises(ud.InputError, match="4 numbers in a condition, but the network was made f"):
        other.meet(data)


def test_training_learns_the_posteriors() -> None:
    """Whitened means are off by at most a fifth of a deviation, covariances by two fifths."""
    torch.manual_seed(0)
    model = ud.edm(width=32, depth=1, octaves=0)
    model.fit(load(simulated(4000)), steps=300, batch=256, lr=5e-3, samples=0, **CPU)
    y = np.array(ASKED)
    rows = model.sample(1000, where=y, batch=3000).reshape(3, -1, 2)
    check(rows, y, np.ones((3, 2), bool), wrong=0.2)
