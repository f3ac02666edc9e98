"""Samples and scores given whole arrays: a network that is exactly right has the closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from map_law import SIDE, S, mean_given, nats_given, simulated
from model_cases import exact_edm
from torch import nn

import undiffuse as ud
from undiffuse.data import Conditions, load
from undiffuse.models.diffusion import Diffusion, guided
from undiffuse.models.likelihood import Density

CPU = {"device": "cpu", "precision": "float32"}
N = SIDE * SIDE


class Bayes(nn.Module):
    """E[x | x_t, y], from c_noise = log(sigma)/4; E[x | x_t] where nothing is known of y."""

    def __init__(self, data: ud.data.Data) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))
        self.own = Conditions.restore(data.config())
        ends, _ = data.transform.encode(torch.tensor([0.0, 1.0])[:, None, None].expand(2, 4, 4),
                                        torch.zeros_like)  # fmt: skip
        ends = ends.double().numpy()[:, 0, 0, 0]
        self.scale, self.shift = 1 / (ends[1] - ends[0]), -ends[0] / (ends[1] - ends[0])
        A = mean_given(np.eye(N).reshape(N, SIDE, SIDE)).reshape(N, N)
        self.prior = A.T @ A + S**2 * np.eye(N)
        self.sigma_data = 1.0

    def forward(
        self, x: torch.Tensor, c_noise: torch.Tensor, vector: torch.Tensor | None = None
    ) -> torch.Tensor:
        assert self.own is not None
        assert vector is not None
        y = self.own.decode_maps(vector.double().numpy())["y"]
        hidden = np.isnan(y).all((1, 2, 3))
        mean = np.where(hidden[:, None, None, None], 0.0, mean_given(y)).reshape(len(x), N)
        C = np.where(hidden[:, None, None], self.prior, S**2 * np.eye(N))
        m = torch.from_numpy((mean - self.shift) / self.scale)
        C = torch.from_numpy(C / self.scale**2)
        r = torch.exp(4 * c_noise.double())[:, None]
        x_t = x.double().flatten(1) * (self.sigma_data**2 + r**2).sqrt()
        gain = torch.linalg.solve(C + r[:, :, None] ** 2 * torch.eye(N), (x_t - m)[:, :, None])
        return (m + (C @ gain)[:, :, 0]).reshape(x.shape).to(x.dtype)


@pytest.fixture(scope="module")
def exact() -> Diffusion:
    data = load(simulated(500, 0), axes="NHW")
    return exact_edm(data, Bayes(data))


def test_an_exact_network_draws_the_law_given_each_array(exact: Diffusion) -> None:
    x, y = simulated(3, 1)
    n = 300
    drawn = exact.sample(n, where=y, method="deis", steps=12, batch=400)
    white = (drawn.reshape(3, n, SIDE, SIDE) - mean_given(y)[:, None]) / S
    assert np.abs(white.mean(1)).max() < 4.5 / n**0.5
    assert white.std() == pytest.approx(1, abs=4 / (2 * white.size) ** 0.5 + 0.01)
    apart = white.reshape(-1, N)
    assert np.abs(np.corrcoef(apart.T) - np.eye(N)).max() < 5 / len(apart) ** 0.5
    own = exact.log_prob((x, y), how=Density(tolerance=1e-4))
    np.testing.assert_allclose(own, nats_given(x, y), atol=0.1)  # the prior at t = 1 knows no y
    np.testing.assert_allclose(own, exact.log_prob(x, where=y, how=Density(tolerance=1e-4)))
    hidden = exact.log_prob(x)
    assert (own > hidden + 2).all()
    none = exact.sample(20, where=y[:1], wrap=guided(exact, 0.0), steps=8, seed=3)
    same = exact.sample(20, vector=torch.zeros(1, 2 * N), steps=8, seed=3)
    np.testing.assert_allclose(none, same, atol=1e-4)  # scale 0 is what nothing is known of


def test_samples_asked_for_nothing_have_the_arrays_of_training_rows(exact: Diffusion) -> None:
    drawn = exact.sample(600, method="deis", steps=8, batch=600, seed=2)
    vector = exact.sample_conditions(600, seed=2)["vector"].numpy()
    own = Conditions.restore(exact.data_config or {})
    assert own is not None
    y = own.decode_maps(vector)["y"][:, 0]
    white = (drawn - mean_given(y)) / S
    assert white.std() == pytest.approx(1, abs=0.03)
    some = exact.sample(7, first=5, method="deis", steps=8, seed=2)
    np.testing.assert_allclose(some, drawn[5:12], atol=1e-4)


def test_a_run_with_arrays_as_conditions_resumes_exactly(tmp_path) -> None:
    options = {"steps": 4, "batch": 8, "samples": 0, "checkpoint_every": 2, **CPU}
    sizes = {"width": 8, "multipliers": (1,), "blocks": 1}
    data = load(simulated(40, 0), axes="NHW")
    whole, parts = (ud.edm(**sizes) for _ in range(2))
    torch.manual_seed(0)
    whole.fit(data, out=tmp_path / "a", **options)
    torch.manual_seed(0)
    polls = iter(range(10**9))
    parts.fit(data, out=tmp_path / "b", stop=lambda: next(polls) >= 2, **options)
    again = ud.edm(**sizes)
    again.fit(data, out=tmp_path / "b", resume=True)
    opened = ud.open(tmp_path / "b")
    for name, value in whole.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
        assert torch.equal(value, opened.state_dict()[name]), name
    y = simulated(2, 3)[1]
    np.testing.assert_array_equal(*(m.sample(2, where=y, steps=2) for m in (whole, opened)))
    with pytest.raises(ud.InputError, match="takes classes alone"):
        ud.vae(data)
    other = load(
        (simulated(40, 0)[0], np.random.default_rng(0).normal(size=(40, 3, 4, 4))), axes="NHW"
    )
    with pytest.raises(ud.InputError, match="4 channels of conditions, but the network was made"):
        whole.meet(other)
