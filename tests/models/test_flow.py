"""Laws of normalizing flows: they are densities, they are zuko's, their samples have them, and
training finds them.
"""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from model_cases import Rows, shaken

import undiffuse as ud
from undiffuse.data import toys
from undiffuse.diffusion import RowNoise
from undiffuse.errors import InputError
from undiffuse.models import build_model
from undiffuse.models.likelihood import how_of

zuko = pytest.importorskip("zuko")
SMALL = {"width": 16, "transforms": 2}
IMAGE = {"width": 8, "depth": 2, "scales": 2, "patch": 2}
KINDS = pytest.mark.parametrize("kind", ["spline", "autoregressive"])


def source(shape=(2,), n=300, labels=False):
    generator = torch.Generator().manual_seed(0)
    rows = 0.5 + torch.randn(n, *shape, generator=generator)
    return Rows(rows, torch.arange(n) % 2 if labels else None, ("a", "b") if labels else ())


def met(shape=(2,), labels=False, **sizes):
    torch.manual_seed(0)
    model = ud.flow(**sizes)
    model.meet(source(shape, labels=labels))
    return shaken(model).eval()


def nats(model, x, **cond):
    return model.likelihood(x, noise=RowNoise(0, len(x)), cond=cond).nats


@KINDS
def test_the_density_integrates_to_one(kind):
    """On a grid over all that has mass, given each label and none: the trapezoidal rule
    on a smooth density.
    """
    model = met(labels=True, kind=kind, **SMALL)
    side = torch.linspace(-7, 8, 121)
    grid = torch.cartesian_prod(side, side)
    for label in (-1, 0, 1):
        density = nats(model, grid, label=torch.full((len(grid),), label)).exp()
        assert float(density.sum() * (side[1] - side[0]) ** 2) == pytest.approx(1, abs=2e-3)


@KINDS
def test_the_density_is_zukos(kind):
    model = met((3,), kind=kind, **SMALL)
    x = source((3,)).rows[:50]
    body = model.network
    with torch.no_grad():
        scale = body.normalize.log_scale
        theirs = body.flow().log_prob((x - body.normalize.mean) * scale.exp()) + scale.sum()
    torch.testing.assert_close(nats(model, x), theirs.double(), atol=1e-5, rtol=0)
    assert type(body.flow) is {"spline": zuko.flows.NSF, "autoregressive": zuko.flows.MAF}[kind]


@pytest.mark.parametrize(("shape", "sizes"), [((2,), SMALL), ((1, 2, 3), IMAGE)], ids=str)
def test_samples_and_density_agree(shape, sizes):
    """For every density q within p's support, E_p[q(x) / p(x)] = 1; and z comes back
    from the samples.
    """
    model, n, d = met(shape, **sizes), 4000, math.prod(shape)
    with torch.no_grad():
        x = model.draw(n, noise=RowNoise(0, n))
        log_p = nats(model, x)
        mean, std = x.flatten(1).double().mean(0), 0.6 * x.flatten(1).double().std(0)
        log_q = torch.distributions.Normal(mean, std).log_prob(x.flatten(1).double()).sum(1)
    ratio = (log_q - log_p).exp()
    assert float(ratio.mean()) == pytest.approx(1, abs=5 * float(ratio.std()) / math.sqrt(n))
    assert float(ratio.std()) / math.sqrt(n) < 0.05
    z, _ = model.network(x)
    torch.testing.assert_close(z.detach(), RowNoise(0, n)(torch.empty(n, d)), atol=1e-3, rtol=0)


def test_the_likelihood_is_exact_and_takes_no_options():
    model, x = met((1, 4, 4), **IMAGE), source((1, 4, 4)).rows[:5]
    found = model.likelihood(x, noise=RowNoise(0, 5), cond={})
    assert (found.kind, found.evaluations) == ("exact", 1.0)
    assert found.stderr.tolist() == [0.0] * 5
    assert found.nats.dtype == torch.float64
    with pytest.raises(
        InputError, match="method elbo: flow models are not scored by it; its density"
    ):
        how_of(model, "elbo")
    with pytest.raises(InputError, match="evaluations: scoring by this model takes no options"):
        how_of(model, evaluations=8)


def test_the_loss_is_both_terms_of_the_change_of_variables():
    """Kim and Lee's second form of Eq. 5 drops log f_Z: without it the loss would fall
    as the data shrink.
    """
    model, x = met((1, 4, 4), **IMAGE), source((1, 4, 4)).rows[:7]
    ((player, loss),) = model.losses(x)
    z, log_det = model.network(x)
    normal = torch.distributions.Normal(0.0, 1.0).log_prob(z).sum(1)
    assert player == "flow"
    assert float(loss.detach()) == pytest.approx(
        -float((normal + log_det).mean().detach()) / 16, rel=1e-5
    )
    found = model.diagnostics(x)
    assert found["loss"] == pytest.approx(float(loss.detach()), rel=1e-5)
    assert found["square_of_z"] == pytest.approx(float(z.square().mean().detach()), rel=1e-5)


def test_the_temperature_scales_z():
    model = met((1, 4, 4), **IMAGE)
    z = RowNoise(3, 6)(torch.empty(6, 16))
    for temperature in (0.0, 0.5):
        x = model.draw(6, noise=RowNoise(3, 6), temperature=temperature)
        torch.testing.assert_close(model.network(x)[0].detach(), temperature * z, atol=1e-4, rtol=0)
    with pytest.raises(InputError, match="temperature -1: give a number of at least 0"):
        model.draw(6, noise=RowNoise(3, 6), temperature=-1.0)


def test_it_draws_in_one_pass():
    model, seen = met(**SMALL), []
    x = model.draw(3, noise=RowNoise(0, 3), callback=lambda *found: seen.append(found))
    ((i, n, _, last),) = seen
    assert (i, n) == (1, 1)
    assert torch.equal(last, x)
    for option in ({"steps": 5}, {"method": "heun"}):
        with pytest.raises(InputError, match="a flow draws in one pass"):
            model.draw(3, noise=RowNoise(0, 3), **option)


@pytest.mark.parametrize(
    ("shape", "sizes"), [((2,), SMALL), ((1, 5, 4), IMAGE), ((2, 9), IMAGE)], ids=str
)
def test_its_start_is_the_datas_and_loaded_weights_are_not_started_again(shape, sizes):
    model = met(shape, labels=True, **sizes)
    again = build_model(json.loads(json.dumps(model.config(), allow_nan=False)))
    again.load_state_dict(model.state_dict())
    other = source(shape, labels=True)
    other.rows = 100 + 5 * other.rows
    again.meet(other)
    x, label = source(shape).rows[:8], torch.arange(8) % 2
    assert torch.equal(nats(model, x, label=label), nats(again.eval(), x, label=label))
    assert again.config() == model.config()


def test_an_interrupted_run_ends_in_the_same_weights(tmp_path):
    rows = np.random.default_rng(0).normal(size=(200, 3, 5)).astype(np.float32)
    options = {
        "steps": 8,
        "batch": 16,
        "device": "cpu",
        "precision": "float32",
        "samples": 0,
        "seed": 3,
    }
    whole, parted = ud.flow(**IMAGE), ud.flow(**IMAGE)
    torch.manual_seed(0)
    whole.meet(rows)
    parted.meet(rows)
    parted.load_state_dict(whole.state_dict())
    whole.fit(rows, out=tmp_path / "whole", **options)
    left = iter([False] * 4 + [True] * 100)
    parted.fit(rows, out=tmp_path / "parted", stop=lambda: next(left), **options)
    resumed = build_model(parted.config())
    resumed.fit(rows, out=tmp_path / "parted", resume=True)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name
    opened = ud.open(tmp_path / "whole")
    np.testing.assert_array_equal(opened.log_prob(rows[:5]), whole.log_prob(rows[:5]))
    assert opened.sample(3, seed=1).shape == (3, 3, 5)


def test_other_data_are_refused():
    model = met((1, 4, 4), **IMAGE)
    with pytest.raises(
        InputError, match=r"rows of shape \(1, 4, 5\), but the model was made for \(1, 4, 4\)"
    ):
        model.meet(source((1, 4, 5)))
    with pytest.raises(InputError, match="the data have 2 classes, but the network was made for 0"):
        model.meet(source((1, 4, 4), labels=True))
    with pytest.raises(InputError, match="has not met its data yet"):
        ud.flow().network  # noqa: B018


def test_black_and_white_pictures_train_without_harm():
    """Values at both ends of the range and nothing between: what stretches a flow the most."""
    rows = np.where(np.random.default_rng(0).random((200, 6, 6)) < 0.5, 0, 255).astype(np.uint8)
    rows[:, 0] = 0
    torch.manual_seed(0)
    model = ud.flow(**IMAGE).fit(
        rows, steps=120, batch=32, lr=1e-2, device="cpu", precision="float32"
    )
    found = model.log_prob(rows[:20])
    assert np.isfinite(found).all()
    assert found.mean() > -36 * math.log(256)  # better than knowing nothing
    assert model.sample(4).dtype == np.uint8


@pytest.mark.slow
def test_training_reaches_a_known_density():
    """Eight Gaussians: the mean log-density of new points is within 0.1 nats of the truth, in
    the data's own units.
    """
    torch.manual_seed(0)
    data = ud.load("gaussians8")
    model = ud.flow().fit(data, steps=400, batch=256, lr=5e-3, device="cpu", precision="float32")
    x = toys.draw_toy("gaussians8", 4000, seed=77)
    gap = toys.toy_log_density("gaussians8", x) - model.log_prob(x, batch=1000)
    assert abs(gap.mean()) < 0.1
    assert gap.mean() > -4 * gap.std() / math.sqrt(len(x))  # no density is better than the true one
