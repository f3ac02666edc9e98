"""Laws of the variational autoencoder, on principal components, whose density and
posterior are known.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from model_cases import Identity, shaken
from torch import nn

import undiffuse as ud
from undiffuse.data.images.form import ImageForm, image_transform
from undiffuse.diffusion import RowNoise
from undiffuse.diffusion.gaussian import kl
from undiffuse.errors import InputError
from undiffuse.models import VAE, build_model
from undiffuse.models.likelihood import Bound, Density, Weighted, how_of
from undiffuse.models.observation import (
    OBSERVATIONS,
    BernoulliObservation,
    GaussianObservation,
    LogisticObservation,
)
from undiffuse.models.vae import BOUNDS, DRAWS
from undiffuse.nn.autoencoder import Autoencoder, autoencoder

W = torch.tensor(
    [[2.0, 0.0], [0.0, 0.5], [0.0, -1.0], [1.0, 0.0]], dtype=torch.float64
)  # orthogonal columns
CENTRE, S = torch.tensor([1.0, -2.0, 0.0, 3.0], dtype=torch.float64), 0.7
PRECISION = (W.T @ W / S**2).diagonal() + 1  # of z given x
TRUTH = torch.distributions.MultivariateNormal(
    CENTRE, W @ W.T + S**2 * torch.eye(4, dtype=torch.float64)
)


class Components(nn.Module):
    """z -> W z + centre."""

    def forward(self, z):
        return z @ W.T + CENTRE


class Posterior(nn.Module):
    """(m, sqrt(v)) of the exact q(z | x), its mean moved and its deviation widened; the latter
    before the softplus.
    """

    def __init__(self, moved=0.0, wider=1.0):
        super().__init__()
        self.moved, self.wider = moved, wider

    def forward(self, x):
        std = self.wider * PRECISION.rsqrt()
        return torch.cat([self.moments(x)[0], std.expm1().log().expand(len(x), -1)], dim=1)

    def moments(self, x):
        return (x - CENTRE) @ W / S**2 / PRECISION + self.moved, (self.wider**2 / PRECISION).expand(
            len(x), -1
        )


def components(encoder, latent=2):
    network = Autoencoder(encoder=encoder, decoder=Components(), scales=1).double()
    model = VAE(
        observation=GaussianObservation(shared=True), latent=latent, network=network, shape=(4,)
    ).eval()
    with torch.no_grad():
        network.scale.fill_(math.log(S) / 10)
    model.transform = Identity((4,))
    return model


def truth(n):
    torch.manual_seed(0)
    x = TRUTH.sample((n,))
    return x, TRUTH.log_prob(x)


def score(model, x, **options):
    return model.likelihood(x, noise=RowNoise(1, len(x)), cond={}, **options)


def test_the_bound_is_tight_with_the_optimal_encoder():
    x, log_p = truth(300)
    weighted = score(components(Posterior()), x, how=Weighted(3))
    torch.testing.assert_close(weighted.nats, log_p, rtol=0, atol=1e-10)  # every weight is p(x)
    assert float(weighted.stderr.max()) < 1e-10
    bound = score(components(Posterior()), x, how=Bound(400))
    assert float(((bound.nats - log_p) / bound.stderr).abs().max()) < 4.5
    assert bound.kind == weighted.kind == "bound"
    assert weighted.evaluations == 4


def test_a_gaussian_decoder_of_whole_numbers_sees_values_between_them_as_they_are():
    """Its density is that of the components, whether the data have levels or not."""
    x, log_p = truth(20)
    model = components(Posterior())
    model.levels = 16
    torch.testing.assert_close(score(model, x, how=Weighted(2)).nats, log_p, rtol=0, atol=1e-10)
    e = torch.randn(20, 2, dtype=torch.float64)
    log_p_given, divergence, mean = model.terms(x, e)
    torch.testing.assert_close(mean, Posterior().moments(x)[0], rtol=0, atol=1e-12)
    decoded = torch.distributions.Normal(Components()(mean + e * PRECISION.rsqrt()), S)
    torch.testing.assert_close(log_p_given, decoded.log_prob(x).sum(1), rtol=0, atol=1e-10)
    assert bool((divergence > 0).all())


def test_diagnostics_are_the_terms_with_the_same_noise_each_time():
    x, _ = truth(30)
    model = components(Posterior(0.3, 1.4))
    found = model.diagnostics(x)
    log_p, divergence, mean = model.terms(x, RowNoise(0, 30)(torch.empty(30, 2).double()))
    assert found == pytest.approx(
        {
            "loss": float((divergence - log_p).detach().sum()) / (30 * 4),
            "reconstruction": float(log_p.detach().mean()),
            "kl": float(divergence.detach().mean()),
            "active_units": int((mean.detach().numpy().var(0) > 0.01).sum()),
        },
        rel=1e-6,
    )


@pytest.mark.parametrize(("name", "levels"), [("gaussian", 5), ("logistic", 5), ("bernoulli", 2)])
def test_every_weight_is_trained_whatever_the_decoder_distribution(name, levels):
    """As many scales are learned as the distribution has."""
    observation = OBSERVATIONS[name]()
    network = autoencoder((2, 3, 3), latent=2, classes=0, scales=observation.scales(2), width=8)
    model = VAE(
        observation=observation, latent=2, network=shaken(network), shape=(2, 3, 3), levels=levels
    )
    ((_, loss),) = model.losses(2 * torch.rand(8, 2, 3, 3) - 1)
    loss.backward()
    sizes = {name: p.grad is not None for name, p in network.named_parameters() if p.numel()}
    assert all(sizes.values()), sizes
    assert network.log_scale.numel() == {"gaussian": 2, "logistic": 2, "bernoulli": 0}[name]


def test_a_posterior_is_never_too_narrow_to_be_told_from_a_point():
    """softplus(-20) = 2.1e-9: its logarithm, and so the divergence, stay finite."""
    narrow = components(Posterior(wider=1e-300))
    _, std = narrow.posterior(CENTRE[None])
    assert std.tolist() == [[pytest.approx(math.exp(-20), rel=1e-8)] * 2]


def is_a_bound(bound):
    """Below log p(x) on average, by no more than the divergence from the posterior."""
    x, log_p = truth(1500)
    for encoder in (Posterior(), Posterior(0.3, 1.4)):
        model, draws = components(encoder), 3
        e = torch.randn(draws, len(x), 2, dtype=torch.float64)
        mean, std = model.posterior(x)
        z = mean + std * e
        log_p_x = torch.stack([model.log_prob_given(x, None, one) for one in z])
        log_ratio = (e.square() - z.square()).sum(2) / 2 + std.log().sum(1)
        divergence = kl(mean, std.square(), torch.zeros_like(mean), torch.ones_like(std))
        nats, stderr = bound(log_p_x.detach(), log_ratio.detach(), divergence.detach())
        gap, excess = kl(*encoder.moments(x), *Posterior().moments(x)), nats - log_p
        error = 4 * float(excess.std()) / math.sqrt(len(x)) + 1e-9
        assert -float(gap.mean()) - error < float(excess.mean()) < error
        assert bool((stderr >= 0).all())


@pytest.mark.parametrize("way", BOUNDS, ids=lambda way: way.__name__)
def test_every_bound_is_one(way):
    is_a_bound(BOUNDS[way])


@pytest.mark.parametrize(
    "wrong",
    [
        lambda log_p, log_ratio, divergence: (log_p.mean(0), log_p.std(0)),
        lambda log_p, log_ratio, divergence: (log_p.mean(0) - 2 * divergence, log_p.std(0)),
        lambda log_p, log_ratio, divergence: ((log_p + log_ratio).logsumexp(0), log_p.std(0)),
    ],
)
def test_a_wrong_bound_is_caught(wrong):
    with pytest.raises(AssertionError):
        is_a_bound(wrong)


def draws_have_the_mean(draw):
    """Whatever the method, samples are the decoder's mean on average, and as wide or narrower."""
    generator = torch.Generator().manual_seed(0)
    observation, n = GaussianObservation(shared=True), 20_000
    output = torch.tensor([[0.3, -1.2]], dtype=torch.float64).expand(n, 2)
    log_scale = torch.tensor([math.log(0.4)], dtype=torch.float64)
    x = draw(
        observation,
        output,
        log_scale,
        lambda like: torch.randn(like.shape, generator=generator, dtype=like.dtype),
    )
    error = 4.5 * 0.4 / math.sqrt(n)
    torch.testing.assert_close(x.mean(0), output[0], rtol=0, atol=error)
    assert bool((x.std(0) < 0.4 * (1 + 4.5 / math.sqrt(2 * n))).all())


@pytest.mark.parametrize("method", DRAWS)
def test_every_method_of_drawing_has_the_mean(method):
    draws_have_the_mean(DRAWS[method])


@pytest.mark.parametrize("off", [{"moved": 0.05}, {"wider": 1.1}], ids=str)
def test_a_wrong_method_of_drawing_is_caught(off):
    def wrong(observation, output, log_scale, noise):
        x = DRAWS["likelihood"](observation, output, log_scale, noise)
        return output + off.get("moved", 0) + off.get("wider", 1) * (x - output)

    with pytest.raises(AssertionError):
        draws_have_the_mean(wrong)


@pytest.mark.parametrize(("moved", "wider"), [(0.3, 1.0), (0.0, 1.5), (-0.2, 0.6)])
def test_with_another_encoder_the_bound_is_below_by_the_divergence_from_the_posterior(moved, wider):
    """log p(x) - bound = KL(q | p(z | x)) (Kim and Lee 2024, Eq. 11, where the inequality is)."""
    (x, log_p), encoder = truth(2000), Posterior(moved, wider)
    gap = kl(*encoder.moments(x), *Posterior().moments(x))
    bound = score(components(encoder), x, how=Bound(50))
    assert float(gap.min()) > 0
    excess = bound.nats - (log_p - gap)
    assert abs(float(excess.mean())) < 4 * float(excess.std()) / math.sqrt(len(x))


def test_the_weighted_bound_grows_with_its_samples_and_approaches():
    (x, log_p), model = truth(1500), components(Posterior(0.3, 1.4))
    found = {k: score(model, x, how=Weighted(k)) for k in (1, 4, 16, 64)}
    gaps = [float((log_p - bound.nats).mean()) for bound in found.values()]
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2] > 8 * gaps[3] > 0
    assert gaps[3] < 0.02
    assert bool(found[1].stderr.isnan().all())  # one draw says nothing of its error
    errors = (log_p - found[64].nats) / found[64].stderr
    assert float(errors.square().mean()) == pytest.approx(1, abs=0.3)


def test_the_divergence_in_closed_form_is_that_of_draws():
    (x, _), model, n = truth(3), components(Posterior(0.4, 1.3)), 40_000
    _, divergence, _ = model.terms(x, torch.zeros(3, 2).double())
    mean, std = model.posterior(x)
    q, p = torch.distributions.Normal(mean, std), torch.distributions.Normal(0.0, 1.0)
    z = q.sample((n,))
    draws = (q.log_prob(z) - p.log_prob(z)).sum(-1)
    assert float(((draws.mean(0) - divergence) / (draws.std(0) / n**0.5)).abs().max()) < 4


def test_training_s_loss_is_the_bound_per_coordinate():
    (x, log_p), encoder = truth(20_000), Posterior(0.3, 1.2)
    ((player, loss),) = components(encoder).losses(x)
    gap = kl(*encoder.moments(x), *Posterior().moments(x))
    assert player == "autoencoder"
    assert float(loss.detach()) * 4 == pytest.approx(float((gap - log_p).mean()), abs=0.05)


def test_samples_are_those_of_the_density_and_means_lack_its_noise():
    model, n = components(Posterior()), 20_000
    noise_free = W @ W.T
    for method, covariance in (
        (None, TRUTH.covariance_matrix),
        ("likelihood", TRUTH.covariance_matrix),
        ("mean", noise_free),
    ):
        torch.manual_seed(2)
        x = model.draw(
            n, noise=lambda like: torch.randn(like.shape, dtype=torch.float64), method=method
        )
        spread = TRUTH.variance.sqrt()
        assert float(((x.mean(0) - CENTRE) / spread).abs().max()) < 4.5 / math.sqrt(n)
        assert float(
            ((x.T.cov() - covariance) / torch.outer(spread, spread)).abs().max()
        ) < 5 * math.sqrt(2 / n)


def test_what_is_not_there_to_choose_is_refused():
    model = components(Posterior())
    with pytest.raises(InputError, match=r"method meen: no such method. Did you mean mean\?"):
        model.sample_rows(1, method="meen")
    with pytest.raises(InputError, match="draws in one pass; leave it out"):
        model.sample_rows(1, steps=5)
    x = truth(2)[0]
    with pytest.raises(
        InputError, match=r"method elbow: no such method of scoring. Did you mean elbo\?"
    ):
        how_of(components(Posterior()), "elbow")
    with pytest.raises(InputError, match="tolerance: scoring by this model takes only evaluations"):
        how_of(components(Posterior()), tolerance=1e-3)
    with pytest.raises(
        InputError, match="method ode: vae models are not scored by it; use elbo or"
    ):
        components(Posterior()).likelihood_rows(x, how=Density())
    with pytest.raises(InputError, match="draws 0: "):
        Weighted(0)
    with pytest.raises(InputError, match="latent 0"):
        ud.vae(latent=0)
    with pytest.raises(InputError, match="has not met its data"):
        ud.vae().draw(1, noise=torch.zeros_like)


def test_units_that_say_nothing_are_not_counted():
    x = truth(500)[0]
    found = components(Posterior()).diagnostics(x)
    assert found["active_units"] == 2
    assert found["loss"] * 4 == pytest.approx(found["kl"] - found["reconstruction"])
    silent = shaken(
        ud.vae(latent=3, width=8, depth=1, data=np.random.default_rng(0).normal(size=(200, 2)))
    )
    with torch.no_grad():
        silent.network.encoder.leave.weight[1] = 0
    assert silent.diagnostics(torch.randn(200, 2))["active_units"] == 2


def test_training_on_a_gaussian_reaches_its_entropy():
    """Within 0.1 nats of the truth, on rows that were not trained on, in seconds."""
    torch.manual_seed(0)
    law = torch.distributions.MultivariateNormal(
        torch.tensor([3.0, -5.0]), torch.tensor([[4.0, 4.8], [4.8, 9.0]])
    )
    model = ud.vae(width=32, depth=1)
    model.fit(
        ud.load(law.sample((20_000,)).numpy()),
        steps=300,
        batch=256,
        lr=6e-3,
        device="cpu",
        precision="float32",
    )
    x = law.sample((1000,))
    gap = law.log_prob(x).double() - model.likelihood_rows(x, how=Weighted(32)).nats
    assert -4 * float(gap.std()) / math.sqrt(1000) < float(gap.mean()) < 0.1
    samples = torch.from_numpy(model.sample(4000, seed=4))
    correlation = (samples.T.cov() - law.covariance_matrix).abs() / torch.outer(
        law.stddev, law.stddev
    )
    assert float(correlation.max()) < 5 * math.sqrt(2 / 4000) + 0.05


def images(levels, n=60, side=2, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, levels, (n, side, side)).astype(np.uint8)


def tiny(levels, observation):
    """A VAE of images of 1 x 2 with this many levels, its weights at random."""
    torch.manual_seed(0)
    transform = image_transform(
        ImageForm(row_shape=(1, 2), channel_axis=None, levels=levels, dtype="uint8")
    )
    network = autoencoder((1, 1, 2), latent=2, scales=observation.scales(1), width=8)
    model = VAE(
        observation=observation, latent=2, network=network, shape=(1, 1, 2), levels=levels
    ).eval()
    model.transform = transform
    return model


@pytest.mark.parametrize(
    "observation", [LogisticObservation(), BernoulliObservation()], ids=lambda o: type(o).__name__
)
def test_the_probabilities_of_all_images_sum_to_one(observation):
    """With q(z | x) = p(z) and the same z for every image, the weights of a draw are p(k | z)."""
    levels = 2 if isinstance(observation, BernoulliObservation) else 4
    model = tiny(levels, observation)
    with torch.no_grad():
        model.network.encoder.leave.weight.zero_()
        model.network.encoder.leave.bias.copy_(
            torch.tensor([0.0, 0.0, *[math.log(math.e - 1)] * 2])
        )
    every = torch.tensor(
        list(itertools.product(range(levels), repeat=2)), dtype=torch.uint8
    ).reshape(-1, 1, 2)
    x, cells = model.transform.encode(every, torch.zeros_like)[0], model.transform.cells(every)
    one = RowNoise(0, 1)
    nats = model.likelihood(
        x, noise=lambda like: one(like[:1]).expand_as(like), cond={}, cells=cells
    ).nats
    assert float(nats.exp().sum()) == pytest.approx(1, abs=1e-6)
    assert float(nats.exp().max()) < 0.9


def test_whole_numbers_are_scored_the_same_with_cells_and_as_an_even_density():
    model, k = tiny(4, LogisticObservation()), torch.tensor([[[0, 3]], [[1, 2]]], dtype=torch.uint8)
    x, correction = model.transform.encode(k, torch.zeros_like)
    cells = model.transform.cells(k)
    given = {"noise": RowNoise(0, 2), "cond": {}, "how": Weighted(5)}
    in_cells = model.likelihood(x, cells=cells, **given)
    as_density = model.likelihood(x, **{**given, "noise": RowNoise(0, 2)})
    torch.testing.assert_close(in_cells.nats, as_density.nats + correction, rtol=1e-6, atol=1e-6)
    assert model.takes_cells(None)


def test_the_observation_follows_the_data_and_refuses_others():
    assert ud.vae(images(17), width=8).observation == LogisticObservation()
    assert ud.vae(images(17), width=8).levels == 17
    assert ud.vae(images(17).astype(np.float32), width=8).observation == GaussianObservation()
    vectors = np.random.default_rng(0).normal(size=(50, 3))
    assert ud.vae(vectors).observation == GaussianObservation()
    with pytest.raises(InputError, match="observation logistic: it is for images of whole numbers"):
        ud.vae(vectors, observation=LogisticObservation())
    with pytest.raises(
        InputError, match="observation bernoulli: it is for two values, and these data have 17"
    ):
        ud.vae(images(17), observation=BernoulliObservation())


@pytest.mark.parametrize("name", OBSERVATIONS)
def test_a_model_of_images_is_written_down_with_its_observation(name):
    model = ud.vae(images(2), observation=OBSERVATIONS[name](), latent=3, width=8)
    shaken(model)
    again = build_model(model.config())
    again.load_state_dict(model.state_dict())
    again.transform = model.transform
    assert again.config() == model.config()
    assert (again.observation, again.latent, again.levels) == (model.observation, 3, 2)
    np.testing.assert_array_equal(again.sample_rows(5, seed=1), model.sample_rows(5, seed=1))
    rows = torch.from_numpy(images(2)[:5])
    torch.testing.assert_close(
        again.likelihood_rows(rows).nats, model.likelihood_rows(rows).nats, rtol=0, atol=0
    )


def test_the_encoder_s_least_deviation_is_softplus_of_minus_20_and_its_halves_are_in_order():
    """m, then what is squashed to sqrt(v)."""

    class Wide(nn.Module):
        def forward(self, x):
            return torch.tensor([[1.0, 2.0, -50.0, 3.0]]).expand(len(x), -1)

    model = VAE(
        observation=GaussianObservation(),
        latent=2,
        network=Autoencoder(encoder=Wide(), decoder=Components(), scales=4),
        shape=(4,),
    )
    mean, std = model.posterior(torch.zeros(3, 4).double())
    assert mean.tolist() == [[1.0, 2.0]] * 3
    assert std.dtype == torch.float64
    wanted = torch.tensor([math.log1p(math.exp(-20)), math.log1p(math.exp(3))]).double()
    torch.testing.assert_close(std, wanted.expand(3, 2), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("spread", "units"), [(0.0099, 0), (0.0101, 2)])
def test_a_unit_is_used_where_the_variance_of_its_mean_is_above_a_hundredth(spread, units):
    """Burda et al. (2016), section 5.2."""
    model, x = components(Posterior()), truth(400)[0]
    mean = model.posterior(x)[0]

    class Shrunk(Posterior):
        def forward(self, x):
            found = super().forward(x)
            share = spread**0.5 / mean.std(0, correction=0)
            return torch.cat([found[:, :2] * share, found[:, 2:]], dim=1)

    assert components(Shrunk()).diagnostics(x)["active_units"] == units
    found = model.diagnostics(x)
    log_p, divergence, _ = model.terms(x, RowNoise(0, 400)(torch.empty(400, 2).double()))
    assert found["reconstruction"] == pytest.approx(float(log_p.mean().detach()))
    assert found["kl"] == pytest.approx(float(divergence.mean().detach()))


@pytest.mark.parametrize("how", [Weighted(5), Bound(5)], ids=repr)
def test_a_vae_s_likelihood_costs_one_pass_of_the_encoder_and_one_of_the_decoder_a_draw(how):
    model, passes = components(Posterior()), []
    for part in (model.network.encoder, model.network.decoder):
        part.register_forward_hook(lambda module, *_: passes.append(type(module).__name__))
    found = score(model, truth(3)[0], how=how)
    assert found.evaluations == len(passes) == 6
    assert passes.count("Posterior") == 1
    assert score(model, truth(3)[0]).evaluations == 65  # 64 draws unless asked otherwise
    assert not model.takes_cells(None)
