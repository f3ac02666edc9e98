"""Laws of what a network is told and called with, of wrappers, the prior and the loop."""

import math

import pytest
import torch
from cases import SCHEDULE_CASES, instances, times

from undiffuse.diffusion import (
    CONDITIONS,
    DDIM,
    EDM,
    Clipped,
    CosineVP,
    Denoiser,
    Level,
    Linear,
    LinearVP,
    LogSigma,
    Prior,
    RowNoise,
    Uniform,
    sample,
    target,
)
from undiffuse.diffusion.denoiser import AbstractDenoiser, Estimate, expand, noised
from undiffuse.diffusion.guidance import Autoguided, ClassifierFree, ClassifierGuided, Interval
from undiffuse.diffusion.known import Conditional
from undiffuse.diffusion.oracle import Gaussian, Mixture, Points
from undiffuse.diffusion.schedules.process import Schedule
from undiffuse.errors import InputError

every_schedule = pytest.mark.parametrize("schedule", SCHEDULE_CASES.values(), ids=SCHEDULE_CASES)


class Recorder(torch.nn.Module):
    """It keeps what it is called with and returns its input, times `share`."""

    def __init__(self, share=1.0, doubled=False):
        super().__init__()
        self.share, self.doubled, self.calls = share, doubled, []

    def forward(self, x, c_noise, **cond):
        self.calls.append((x, c_noise, cond))
        output = self.share * x
        return torch.cat([output, torch.full_like(x, 0.3)], 1) if self.doubled else output


@every_schedule
@pytest.mark.parametrize("condition", instances(CONDITIONS).values(), ids=CONDITIONS)
def test_a_condition_is_finite_monotone_and_within_its_span(condition, schedule):
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    c = condition(schedule, t)
    assert bool(c.isfinite().all())
    assert bool((c.diff() >= 0).all())
    assert condition.span > 0
    assert float(c.max() - c.min()) <= 1.5 * condition.span + 1e-12


def test_the_noise_level_is_told_as_published():
    """log(sigma)/4 (Karras et al. 2022, Table 1), held to +-3; or the level."""
    schedule = EDM()
    assert float(LogSigma()(schedule, times(0.5))) == pytest.approx(math.log(40) / 4)
    assert LogSigma(largest=0.5)(schedule, times(0.0, 1e-4, 1.0)).tolist() == [-0.5, -0.5, 0.5]
    assert float(LogSigma()(schedule, times(0.0))) == -3.0
    assert float(LogSigma()(CosineVP(), times(1.0))) == 3.0
    assert LogSigma().span == 4.0
    assert Level(100.0)(schedule, times(0.25)).tolist() == [25.0]
    assert (Level(100.0).span, Level().span) == (100.0, 1000.0)


@every_schedule
def test_the_network_sees_unit_variance(schedule):
    """c_in = 1 / sqrt(alpha^2 sigma_data^2 + sigma^2), c_noise in float32 for each row."""
    network = Recorder()
    denoiser = Denoiser(network, schedule, target.v, sigma_data=0.5)
    x_t, t = torch.ones(3, 2), times(0.2, 0.5, 0.9)
    denoiser(x_t, t)
    denoiser(x_t, t[1])
    (x, c_noise, _), (x_one, c_one, _) = network.calls
    alpha, sigma = schedule(t)
    variance = (0.5 * alpha) ** 2 + sigma**2
    torch.testing.assert_close(x[:, 0].double(), variance.rsqrt(), rtol=1e-6, atol=0)
    torch.testing.assert_close(x_one[0], x[1])
    assert c_noise.dtype == torch.float32
    assert c_one.shape == (3,)
    torch.testing.assert_close(c_noise.double(), LogSigma()(schedule, t), rtol=1e-6, atol=1e-7)


def test_a_learned_variance_is_the_second_half_squashed():
    denoiser = Denoiser(Recorder(doubled=True), LinearVP(), target.data, learned_variance=True)
    x_t = torch.randn(2, 3)
    x_hat, v = denoiser.predict(x_t, 0.4)
    torch.testing.assert_close(x_hat, x_t)  # c_in is 1
    torch.testing.assert_close(v, torch.full_like(x_t, 1 / (1 + math.exp(-0.3))))
    assert Denoiser(Recorder(), LinearVP(), target.data).predict(x_t, 0.4)[1] is None


@pytest.mark.parametrize("made", ["network", "oracle"])
def test_without_noise_the_data_come_back_and_no_network_is_asked(made):
    schedule, network = LinearVP(), Recorder(0.5)
    denoiser = Denoiser(network, schedule, target.data)
    if made == "oracle":
        denoiser = Gaussian(schedule, torch.zeros(2), torch.ones(2))
    x = torch.randn(3, 2)
    for t in (times(0.0)[0], times(0.0, 0.0, 0.0)):
        x_hat, z_hat = denoiser.split(x, t)
        torch.testing.assert_close(x_hat, x)
        assert float(z_hat.abs().max()) == 0
    if made == "network":
        x_hat, z_hat = denoiser.split(x, times(0.0, 0.5, 0.0))
        torch.testing.assert_close(x_hat[[0, 2]], x[[0, 2]])
        torch.testing.assert_close(x_hat[1], 0.5 * x[1])
        assert float(z_hat[[0, 2]].abs().max()) == 0
        assert float(z_hat[1].abs().max()) > 0


def test_conditions_given_later_take_precedence():
    network = Recorder()
    denoiser = Denoiser(network, LinearVP(), target.data).given(label=1, vector=2).given(label=3)
    denoiser(torch.zeros(1, 2), 0.5, vector=4)
    assert network.calls[-1][2] == {"label": 3, "vector": 4}


def test_coefficients_broadcast_over_rows_and_keep_the_type():
    x = torch.ones(2, 3, 4)
    assert expand(times(1.0, 2.0), x).shape == (2, 1, 1)
    assert expand(times(1.0, 2.0), x).dtype == torch.float32
    assert expand(times(1.0)[0], x).dtype == torch.float64
    mixed = noised(Linear(), x, 3 * x, times(0.25, 1.0))
    assert mixed.dtype == torch.float32
    assert mixed[:, 0, 0].tolist() == [1.5, 3.0]


def test_clipping_moves_the_noise_along():
    schedule = LinearVP()
    oracle = Points(schedule, torch.tensor([[3.0, 0.2, -3.0]]).double())
    x_t, t = torch.randn(4, 3).double(), 0.4
    x_hat, z_hat = Clipped(oracle, low=-1.0, high=0.5).split(x_t, t)
    assert torch.equal(x_hat, torch.tensor([[0.5, 0.2, -1.0]]).double().expand(4, 3))
    alpha, sigma = schedule(times(t)[0])
    torch.testing.assert_close(alpha * x_hat + sigma * z_hat, x_t)
    assert (Clipped(oracle).low, Clipped(oracle).high) == (-1.0, 1.0)


@every_schedule
def test_the_prior_has_the_moments_of_the_end(schedule):
    mean, std = times(0.5, -1.0), times(0.3, 2.0)
    prior = Prior(schedule, mean, std)
    alpha, sigma = schedule(times(1.0)[0])
    normal = torch.distributions.Normal(alpha * mean, ((alpha * std) ** 2 + sigma**2).sqrt())
    x_1 = torch.randn(5, 2).double()
    torch.testing.assert_close(prior.log_prob(x_1), normal.log_prob(x_1).sum(1))
    torch.testing.assert_close(prior.draw(x_1), normal.mean + normal.stddev * x_1)
    torch.testing.assert_close(
        torch.stack(prior.moments()), torch.stack([normal.mean, normal.stddev])
    )
    standard = Prior.standard(schedule, (2,))
    assert standard.mean.tolist() == [0, 0]
    assert standard.std.tolist() == [1, 1]


@every_schedule
def test_a_settled_prior_stands_where_little_of_the_data_is_left(schedule):
    """alpha s / sigma = e^-5 for the widest coordinate, or t = 1 where it never falls so far."""
    std = times(0.3, 2.0)
    settled = Prior(schedule, torch.zeros(2).double(), std).settled()
    share = float(2.0 * torch.exp(schedule.log_snr(settled.time) / 2))
    if float(settled.time) < 1:
        assert share == pytest.approx(math.exp(-5), rel=1e-6)
    else:
        assert 2.0 * float(torch.exp(schedule.log_snr(times(1.0)[0]) / 2)) >= math.exp(-5) * 0.999
    assert torch.equal(settled.std, std)


def test_the_loop_calls_back_after_each_step_and_draws_no_gradients():
    oracle, seen = Gaussian(Linear(), torch.zeros(2), torch.ones(2)), []
    x = torch.randn(3, 2, requires_grad=True)
    end = sample(
        oracle, x, Uniform()(Linear(), 4), DDIM(), callback=lambda *args: seen.append(args)
    )
    assert [i for i, _, _, _ in seen] == [1, 2, 3, 4]
    assert {n for _, n, _, _ in seen} == {4}
    assert [float(t) for _, _, t, _ in seen] == [0.75, 0.5, 0.25, 0.0]
    assert torch.equal(seen[-1][3], end)
    assert not end.requires_grad


def test_each_row_has_a_stream_of_its_own():
    """Rows do not depend on how many there are, differ from each other, and go on."""
    like = torch.empty(3, 2, dtype=torch.float64)
    whole, part = RowNoise(7, 3), RowNoise(7, 2, first=1)
    first, second = whole(like), whole(like)
    assert first.dtype == torch.float64
    assert torch.equal(part(like[1:]), first[1:])
    assert torch.equal(part(like[1:]), second[1:])
    assert not torch.equal(first, second)
    assert len({tuple(row) for row in first.tolist()}) == 3
    assert not torch.equal(RowNoise(8, 3)(like), first)


def test_an_oracle_draws_its_own_data():
    mean, std = times(-2.0, 3.0)[:, None], times(0.1, 0.5)[:, None]
    oracle = Mixture(LinearVP(), mean, std, times(0.25, 0.75).log())
    x = oracle.draw(20_000, torch.Generator().manual_seed(0))
    left = x[x < 0]
    assert len(left) / 20_000 == pytest.approx(0.25, abs=0.015)
    assert float(left.mean()) == pytest.approx(-2.0, abs=0.01)
    assert float(left.std()) == pytest.approx(0.1, abs=0.01)
    assert float(x[x > 0].std()) == pytest.approx(0.5, abs=0.02)
    equal = Mixture(LinearVP(), mean, std)
    assert equal.log_weight.exp().tolist() == [0.5, 0.5]


def test_a_range_of_log_snr_is_kept_to_rounding():
    trained = Gaussian(EDM(sigma_min=0.02, sigma_max=10.0), torch.zeros(2), torch.ones(2))
    trained.on(EDM(sigma_min=0.02 * (1 - 1e-7), sigma_max=10.0 * (1 + 1e-7)))
    for low, high in ((0.02 * (1 - 1e-6), 10.0), (0.02, 10.0 * (1 + 1e-6))):
        with pytest.raises(InputError, match="choose end points inside that range"):
            trained.on(EDM(sigma_min=low, sigma_max=high))


@pytest.mark.parametrize("schedule", [EDM(), LinearVP(), Linear()], ids=lambda s: type(s).__name__)
def test_what_was_sampled_in_inference_mode_can_be_differentiated_afterwards(schedule):
    """The coefficients of a time are remembered, and not as tensors that autograd refuses."""
    denoiser = Denoiser(lambda x, c_noise: x.sin(), schedule, target.data)
    oracle = Gaussian(schedule, torch.zeros(2), torch.ones(2))
    with torch.inference_mode():
        grid = Uniform()(schedule, 3)
        for one in (denoiser, oracle):
            sample(one, torch.randn(3, 2), grid, DDIM())
    for t in grid[:-1].clone().unbind():
        x_t = torch.randn(3, 2, requires_grad=True)
        for one in (denoiser, oracle):
            (slope,) = torch.autograd.grad(one(x_t, t).square().sum(), x_t)
            assert slope.isfinite().all()


class Told(AbstractDenoiser):
    """x_hat is half of x_t; it keeps what it is told of each call."""

    def __init__(self, schedule):
        super().__init__()
        self.schedule, self.told = schedule, []

    def estimate(self, x_t, t, **cond):
        self.told.append(cond)
        alpha, sigma = (expand(c, x_t) for c in self.schedule(t))
        return Estimate(x_t / 2, (x_t - alpha * x_t / 2) / torch.where(sigma > 0, sigma, 1.0))


def every_wrapper(denoiser):
    """Each way to wrap a denoiser of rows (3, 2)."""
    known, mask = torch.zeros(2).double(), torch.tensor([True, False])
    return {
        "itself": denoiser,
        "given": denoiser.given(size=1),
        "reexpressed": denoiser.on(denoiser.schedule),
        "clipped": Clipped(denoiser),
        "classifier_free": ClassifierFree(denoiser, 2.0),
        "autoguided": Autoguided(denoiser, denoiser, 2.0),
        "inside": Interval(denoiser, denoiser, 0.0, 1e9),
        "outside": Interval(denoiser, denoiser, 1e8, 1e9),
        "across": Interval(denoiser, denoiser, 0.0, 1.0),
        "classifier": ClassifierGuided(denoiser, lambda x, t: x.sum(1)),
        "conditional": Conditional(denoiser, known, mask),
    }


@pytest.mark.parametrize("name", every_wrapper(Told(EDM())))
def test_a_condition_reaches_the_denoiser_through_every_view_and_wrapper(name):
    x_t, label = torch.randn(3, 2).double(), torch.tensor([4, 5, 6])
    views = ("__call__", "predict", "split", "noise", "score", "velocity")
    for schedule, last in ((EDM(), 1.0), (Linear(), 0.99)):  # at 1 there is no signal in one
        for t in (times(0.3)[0], times(1e-4, 0.3, last)):
            for view in views:
                told = Told(schedule)
                getattr(every_wrapper(told)[name], view)(x_t, t, label=label)
                assert told.told
                assert all(cond["label"][:3].tolist() == [4, 5, 6] for cond in told.told)
    told = Told(Linear())
    if name != "clipped":  # where nothing is left of the data
        every_wrapper(told)[name].split(x_t, times(1.0)[0], label=label)
        assert all(cond["label"][:3].tolist() == [4, 5, 6] for cond in told.told)


def test_some_rows_keep_their_own_conditions_and_those_of_all():
    told, rows = Told(EDM()), torch.tensor([2, 0])
    every = {
        "label": torch.tensor([4, 5, 6]),
        "vector": torch.randn(3, 7),
        "of_all": torch.randn(5),
        "number": torch.tensor(3.0),
        "name": "cat",
    }
    x_t = torch.randn(3, 2).double()
    for denoiser in (told.given(**every), ClassifierFree(told.given(**every), 1.0, label=-1)):
        part = denoiser.of_rows(rows, x_t)
        if isinstance(denoiser, ClassifierFree):
            assert part.cond["label"].tolist() == [6, 4]
            assert denoiser.cond["label"].tolist() == [4, 5, 6]
            continue
        part(x_t[rows], 0.3)
        kept = told.told[-1]
        assert kept["label"].tolist() == [6, 4]
        assert torch.equal(kept["vector"], every["vector"][rows])
        for name in ("of_all", "number", "name"):
            assert kept[name] is every[name]
        denoiser(x_t, 0.3)
        assert told.told[-1]["label"].tolist() == [4, 5, 6]


class Doubled(Schedule):
    """Twice the signal: alpha = 2 (1 - t), sigma = t."""

    t_min = 0.0

    def marginal(self, t):
        return 2 * (1 - t), 1.0 * t

    def slopes(self, t):
        return torch.full_like(t, -2.0), torch.ones_like(t)

    def inverse(self, log_snr):
        return 2 / (2 + torch.exp(log_snr / 2))


def test_what_comes_back_without_noise_is_x_whatever_its_scale():
    """A schedule may scale the data at t = 0: x_hat = x_t / alpha_0."""
    schedule, x = Doubled(), torch.randn(3, 2).double()
    for denoiser in (
        Denoiser(Recorder(), schedule, target.v),
        Gaussian(schedule, torch.zeros(2).double(), torch.ones(2).double()),
    ):
        for t in (times(0.0)[0], times(0.0, 0.0, 0.0)):
            x_hat, z_hat = denoiser.split(2 * x, t)
            torch.testing.assert_close(x_hat, x)
            assert float(z_hat.abs().max()) == 0


def test_data_are_at_unit_scale_and_the_variance_is_fixed_unless_said_otherwise():
    denoiser = Denoiser(None, EDM(), target.data)
    assert (denoiser.sigma_data, denoiser.learned_variance) == (1.0, False)
    assert denoiser.condition == LogSigma()


class Fading(Doubled):
    """Half of the signal is left at t = 1, and none at t = 2."""

    def marginal(self, t):
        return 1 - t / 2, 1.0 * t


def test_a_schedule_that_keeps_signal_to_its_end_takes_every_target():
    for row in (target.noise, target.score):
        assert Denoiser(Recorder(), Fading(), row).target == row
        with pytest.raises(InputError, match="which has no signal left at t = 1"):
            Denoiser(Recorder(), Doubled(), row)
