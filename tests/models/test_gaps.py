"""Rows completed by a network that was trained with gaps: the conditional law, and what it is
trained on.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from learned_gaps import R, error_of_weights, process
from model_cases import DIFFUSIONS, Identity, Rows, shaken, small
from torch import nn

import undiffuse as ud
from undiffuse.diffusion import OBJECTIVES, Denoiser, FittedVE, LinearVP, RowNoise, target
from undiffuse.diffusion.known import as_given
from undiffuse.diffusion.target import regression_target
from undiffuse.errors import InputError
from undiffuse.interfaces import PartialRows
from undiffuse.models import PRESETS, Diffusion
from undiffuse.models.gaps import draw_given, draw_known
from undiffuse.models.student import student_of

MEAN = torch.tensor([[-0.5, -1.0, 0.3], [0.2, 1.0, -0.5]]).double()
STD = torch.tensor([[0.4, 0.2, 0.5], [0.4, 0.3, 0.5]]).double()
WEIGHT = torch.tensor([0.3, 0.7]).double()
every_diffusion = pytest.mark.parametrize("preset", DIFFUSIONS)
# whose noise goes to zero, and whose last level tells nothing of the row
CLEAN = [
    preset
    for preset in DIFFUSIONS
    if preset != "dae" and not isinstance(PRESETS[preset]().schedule, FittedVE)
]


def by_component(offset, variance, mask):
    """-log N(offset; 0, variance) of the entries in the mask (B, D), for each component (B, K)."""
    nats = 0.5 * (offset.square() / variance + variance.log())
    return (nats * mask[:, None]).sum(2)


def posterior(known, mask):
    """The weights (B, K) of the components given the known entries, by Bayes' rule."""
    offset = known[:, None] - MEAN
    return (WEIGHT.log() - by_component(offset, STD.square().expand_as(offset), mask)).softmax(1)


class Exact(nn.Module):
    """The network of the exact E[x | x_t, x_K] of a mixture at unit scale.

    It knows the noise level from c_noise = log(sigma/alpha)/4, and x_K from `given` alone. Of known
    entries it says nonsense.
    """

    def __init__(self, model):
        super().__init__()
        self.model, self.unused = [model], nn.Parameter(torch.zeros(()))

    def forward(self, x, c_noise, given=None):
        (model,), r = self.model, torch.exp(4 * c_noise.double())
        t = model.schedule.inverse(-2 * r.log())
        alpha, sigma = (c[:, None, None] for c in model.schedule(t))
        x_t = (x.double() * ((alpha * model.sigma_data) ** 2 + sigma**2)[:, 0].sqrt())[:, None]
        given = torch.zeros(len(x), 6) if given is None else given
        known, mask = given.double().chunk(2, 1)
        k = (alpha * STD) ** 2 + sigma**2
        offset = known[:, None] - MEAN
        nats = by_component(offset, STD.square().expand_as(offset), mask)
        nats = nats + by_component(x_t - alpha * MEAN, k, 1 - mask)
        each = MEAN + alpha * STD**2 / k * (x_t - alpha * MEAN)
        x_hat = ((WEIGHT.log() - nats).softmax(1)[:, :, None] * each).sum(1)
        c_x, c_z = (c[:, None] for c in regression_target(model.schedule, model.target, t))
        z_hat = (x_t[:, 0] - alpha[:, 0] * x_hat) / sigma[:, 0]
        found = torch.where(mask > 0, 7.0, c_x * x_hat + c_z * z_hat).to(x.dtype)
        return torch.cat([found, 0 * found], 1) if model.objective.learned_variance else found


def exact(preset):
    generator = torch.Generator().manual_seed(0)
    pick = torch.multinomial(WEIGHT, 4000, replacement=True, generator=generator)
    rows = MEAN[pick] + STD[pick] * torch.randn(4000, 3, generator=generator)
    model = PRESETS[preset](width=8, depth=1)
    model.meet(Rows(rows))
    model.denoiser.network = Exact(model)
    return model


def check_posterior(preset, method=None, steps=None, n=500):
    """Weights of the modes, their means and deviations; the third row has nothing known, and given
    the first, replacing known values at each step is off by 0.1.
    """
    model = exact(preset)
    known = np.array([[0.0, 0, 0], [0, 0, 0.4], [0, 0, 0]], np.float32)
    mask = np.array([[1, 0, 0], [0, 0, 1], [0, 0, 0]], bool)
    given = PartialRows(known, mask)
    x = model.sample_rows(n, given=given, method=method, seed=2, batch=3 * n, steps=steps)
    weights = posterior(torch.tensor(known).double(), torch.tensor(mask).double())[:, 1].tolist()
    for row, values, weight in zip(range(3), x.reshape(3, n, 3), weights):
        assert (values[:, mask[row]] == known[row, mask[row]]).all()
        upper = values[:, 1] > 0.0
        se = math.sqrt(weight * (1 - weight) / n)
        assert upper.mean() == pytest.approx(weight, abs=4 * se + 0.015)
        for mean, s, side in ((-1.0, 0.2, values[~upper, 1]), (1.0, 0.3, values[upper, 1])):
            assert side.mean() == pytest.approx(mean, abs=4 * s / math.sqrt(len(side)) + 0.02)
            assert side.std() == pytest.approx(s, abs=4 * s / math.sqrt(2 * len(side)) + 0.03)


@pytest.mark.parametrize(
    ("preset", "method"),
    [(p, None) for p in CLEAN] + [("edm", "heun"), ("edm", "dpmpp_sde"), ("vp", "unipc")],
)
def test_an_exact_conditional_network_gives_samples_of_the_posterior(preset, method):
    check_posterior(preset, method, steps=40 if method else None)


@every_diffusion
def test_what_is_known_comes_back_and_a_row_depends_on_itself_alone(preset):
    """Whatever the network says, in any batch, and with any guidance."""
    model = shaken(met(preset))
    known = torch.tensor([[1.5, 0.0, -0.5], [0.0, 2.0, 0.0]])
    mask = torch.tensor([[True, False, True], [False, True, False]])
    together = model.draw(2, noise=RowNoise(3, 2), known=(known, mask), steps=3)
    torch.testing.assert_close(together[mask], known[mask])
    for i in range(2):
        given = (known[i : i + 1], mask[i : i + 1])
        alone = model.draw(1, noise=RowNoise(3, 1, i), known=given, steps=3)
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-4)
    other = torch.where(mask, known + 0.5, known)
    moved = model.draw(2, noise=RowNoise(3, 2), known=(other, mask), steps=3)
    assert float((moved - together)[~mask].abs().min()) > 1e-4  # it is told what is known


def met(preset, shape=(3,), gaps=0.5, **sizes):
    generator = torch.Generator().manual_seed(0)
    model = PRESETS[preset](gaps=gaps, **small(preset, shape), **sizes)
    model.meet(Rows(torch.randn(60, *shape, generator=generator)))
    return model


@pytest.mark.parametrize("preset", CLEAN)
def test_series_are_completed_as_by_a_gaussian_before_any_training(preset):
    """Means and deviations given the past, in closed form; and what is learned adds to that."""
    rows, past = process(10_000, 8, 0), 4
    model = PRESETS[preset](width=8)
    model.meet(ud.load(rows, axes="NTC"))
    assert model.linear == 8
    known = np.arange(8) < past
    given = PartialRows(np.full((1, 8, 1), 1.2, np.float32), known[None, :, None].copy())
    drawn = model.sample_rows(2000, given=given, seed=1, batch=2000)[:, past:, 0]
    lag = np.arange(1, 5)
    assert np.abs(drawn.mean(0) - 1.2 * R**lag).max() < 0.1
    assert np.abs(drawn.std(0) - np.sqrt(1 - R ** (2 * lag))).max() < 0.06
    x = torch.randn(5, 1, 8)
    before = model.trained().split(x, 0.5)
    same = model.trained().linear.split(x, 0.5)
    torch.testing.assert_close(before, same, rtol=1e-4, atol=1e-4)
    shaken(model)
    moved = model.trained().split(x, 0.5)[0] - before[0]
    assert float(moved.detach().abs().min()) > 0


def test_what_a_network_begins_from_is_kept_with_its_weights(tmp_path):
    """It is measured once, saved, loaded, and a student's own."""
    data = ud.load(process(300, 8, 0), axes="NTC")
    model = ud.edm(width=8).fit(data, steps=1, samples=0, device="cpu")
    shaken(model).save(tmp_path / "run")
    again = ud.open(tmp_path / "run")
    assert again.linear == model.linear == 8
    for name in ("mean", "basis", "variance", "rest"):
        law, other = (getattr(one.trained().linear, name) for one in (model, again))
        assert torch.equal(law, other)
    np.testing.assert_array_equal(again.sample_rows(3, seed=1), model.sample_rows(3, seed=1))
    student = student_of(again, called="run")
    x, t = torch.randn(3, 1, 8), torch.tensor(0.3).double()
    expected = again.trained()(x, t)
    torch.testing.assert_close(student.trained().teacher(x, t), expected)
    torch.testing.assert_close(student.trained()(x, t), expected)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_loss_counts_unknown_entries_alone(name):
    """Whatever the network says of a known entry, no loss changes, nor does a gradient reach it."""
    objective = OBJECTIVES[name].examples()[""]
    if objective.flow:
        pytest.skip("a student learns where paths end, of whole rows")
    generator = torch.Generator().manual_seed(0)
    x, z, told = torch.randn(3, 4, 2, generator=generator).double()
    said = told.repeat(1, 1 + objective.learned_variance).requires_grad_()
    mask = torch.tensor([[True, False], [False, False], [True, True], [False, True]])
    schedule = LinearVP()
    denoiser = Denoiser(
        lambda x, c_noise, given: said + 0 * x.repeat(1, said.shape[1] // 2),
        schedule,
        target.noise,
        learned_variance=objective.learned_variance,
    )
    t = objective.sample_times(schedule, 4)
    losses = objective.losses(denoiser, x, z, t, given=as_given(x, mask))
    (slope,) = torch.autograd.grad(losses.sum(), said)
    assert float(slope[:, :2][mask].abs().max()) == 0
    assert float(slope[:, :2][~mask].abs().min()) > 0


@pytest.mark.parametrize("shape", [(5,), (12, 3), (6, 7), (1, 1), (3, 4, 5)], ids=str)
def test_what_is_known_is_drawn_in_every_way_that_rows_are_completed(shape):
    """Nothing, all, the future, halves, whole channels, single values; each row by itself."""
    torch.manual_seed(0)
    separate = len(shape) == 1
    known = draw_known(5_000, shape, torch.device("cpu"), separate=separate)
    assert known.shape == (5_000, *shape)
    mean = known.double().mean(0)
    assert float((mean - mean.mean()).abs().max()) < 0.08  # every entry is as often known
    assert 0.35 < float(mean.mean()) < 0.6
    flat = known.flatten(1)
    if separate:  # every number of known entries is as likely, but for none and all
        counts = torch.bincount(flat.sum(1), minlength=6) / 5_000
        wanted = torch.tensor([0, 1, 1, 1, 1, 0]) / 4
        torch.testing.assert_close(counts, wanted, rtol=0, atol=0.03)
        return
    if len(flat[0]) > 1:
        assert float((flat.all(1) | (~flat).all(1)).double().mean()) < 0.12  # which teach nothing
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        along = known.movedim(axis + 1, 1)
        lines = along.flatten(2)
        alike = (lines == lines[:, :, :1]).all(2).all(1)  # the same at all places of a step
        steps = lines[alike, :, 0]
        falls = (steps[:, :-1] & ~steps[:, 1:]).sum(1)
        future = steps[:, 0] & ~steps[:, -1] & (falls == 1)
        future &= (steps[:, 1:] & ~steps[:, :-1]).sum(1) == 0
        assert float(future.sum()) / 5_000 > 0.02  # known up to a point, unknown beyond
        rises = (steps[:, 1:] & ~steps[:, :-1]).sum(1)
        past = ~steps[:, 0] & steps[:, -1] & (rises == 1) & (falls == 0)
        assert float(past.sum()) > 0.8 * float(future.sum())  # and the other way round
        block = steps[:, 0] & steps[:, -1] & (falls == 1)
        assert float(block.sum()) / 5_000 > 0.004
    whole = known.all(tuple(range(2, known.ndim))) | (~known).all(tuple(range(2, known.ndim)))
    assert float(whole.all(1).double().mean()) > 0.1


@pytest.mark.parametrize(
    ("letters", "shape"), [("NDHW", (3, 4, 5)), ("NDHWC", (3, 4, 5, 2)), ("NCDHW", (2, 3, 4, 5))]
)
def test_volumes_are_completed(letters, shape):
    """Known voxels come back exactly, alone, and none known is as if nothing were given."""
    rows = np.random.default_rng(0).normal(size=(60, *shape)).astype(np.float32)
    model = ud.edm(gaps=0.5, width=8, multipliers=(1,), blocks=1)
    data = ud.load(rows, axes=letters)
    model.meet(data)
    assert model.network.given == 2 * data.shape[0]
    shaken(model)
    torch.manual_seed(0)
    x, _ = data.transform.encode(torch.from_numpy(rows), torch.zeros_like)
    values, mask = draw_given(x, 1.0, data.transform).bool().chunk(2, 1)
    stored = data.transform.decode(torch.where(mask, x, 1e3))
    known = stored < 100  # a voxel is known with all that x holds of it
    assert torch.equal(data.transform.known(torch.from_numpy(known)), mask)
    assert torch.equal(values, mask & (x != 0))
    torn = np.where(known, rows, np.nan)[:5]
    whole = model.sample(2, given=torn, steps=3, method="deis")
    again = np.repeat(torn, 2, 0)
    np.testing.assert_array_equal(whole[~np.isnan(again)], again[~np.isnan(again)])
    assert np.isfinite(whole).all()
    other = np.where(np.isnan(torn), np.nan, torn + 0.5)
    moved = model.sample(2, given=other, steps=3, method="deis")
    axes = tuple(range(1, again.ndim))
    told = np.isnan(again).any(axes) & ~np.isnan(again).all(axes)
    differs = (moved != whole) & np.isnan(again)  # it is told what is known
    assert (differs.any(axes) == told).all()
    hidden = (x[:4], torch.zeros_like(mask[:4]))
    none = model.draw(4, noise=RowNoise(1, 4), known=hidden, steps=3, method="deis")
    plain = model.draw(4, noise=RowNoise(1, 4), steps=3, method="deis")
    torch.testing.assert_close(none, plain)


def test_a_share_of_the_rows_has_gaps_and_values_are_known_together():
    """Entries of x that belong to one stored value; nothing is known of the other rows; what is
    shown is what is there.
    """

    class Twice(Identity):
        row_shape = (3,)

        def known(self, mask):
            return mask.repeat_interleave(2, 1)

    torch.manual_seed(0)
    x = torch.randn(4000, 6)
    for transform in (Twice((6,)), None):
        known, mask = draw_given(x, 0.3, transform).chunk(2, 1)
        assert torch.equal(known, x * mask)
        some = mask.any(1).double()
        assert float(some.mean()) == pytest.approx(0.3, abs=0.02)
        quarters = some.reshape(4, 1000).mean(1)  # spread over the batch, as noise levels are
        assert float(quarters.max() - quarters.min()) < 0.06
        together = mask[:, ::2] == mask[:, 1::2]
        assert bool(together.all()) == (transform is not None)
    assert float(draw_given(x, 0.0, None).abs().max()) == 0
    counts = [int(draw_given(x[:3], 0.25, None)[:, 6:].any(1).sum()) for _ in range(400)]
    assert np.mean(counts) == pytest.approx(0.75, abs=0.1)  # of small batches too


@every_diffusion
def test_without_gaps_nothing_is_drawn_for_them_and_rows_are_completed_as_before(preset):
    """The same losses from the same numbers, whether the network could be told or not."""
    model = shaken(met(preset, gaps=0.0))
    assert model.network.given == 0
    x = torch.randn(8, 3)
    torch.manual_seed(1)
    (first, *_) = [float(loss.detach()) for _, loss in model.losses(x)]
    torch.manual_seed(1)
    t = model.objective.sample_times(model.schedule, 8)
    plain = model.objective.losses(model.trained(), x, torch.randn_like(x), t).mean()
    assert float(plain.detach()) == first
    known = (torch.ones(1, 3), torch.tensor([[True, False, False]]))
    assert torch.equal(
        model.draw(1, noise=RowNoise(0, 1), known=known, steps=2)[:, 0], known[0][:, 0]
    )


def test_what_gaps_cannot_be_is_refused():
    for wrong in (-0.1, 1.5, True, "some", math.nan):
        with pytest.raises(InputError, match=r"gaps .*: give the share of training rows"):
            PRESETS["edm"](gaps=wrong)
    with pytest.raises(InputError, match="noise that is paired with whole rows"):
        PRESETS["flow_matching"](coupling="optimal_transport", gaps=0.5)
    assert met("flow_matching", gaps=None, coupling="optimal_transport").gaps == 0
    by_default = [met("edm", shape, gaps=None).gaps for shape in ((3,), (2, 16), (1, 8, 8))]
    assert by_default == [0.25, 0.25, 0.0]
    for preset in ("vae", "gan", "flow"):
        with pytest.raises(InputError, match="gaps"):
            PRESETS[preset](gaps=0.5)

    class Deaf(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(()))

        def forward(self, x, c_noise):
            return self.weight * x

    own = PRESETS["edm"]()
    row = {name: getattr(own, name) for name in ("schedule", "target", "objective", "step", "grid")}
    model = Diffusion(**row, steps=4, network=Deaf())
    model.meet(Rows(torch.randn(60, 3)))
    assert model.gaps == 0
    with pytest.raises(InputError, match="network Deaf: it cannot be told what is known"):
        Diffusion(**row, steps=4, network=Deaf(), gaps=0.5).meet(Rows(torch.randn(60, 3)))


@pytest.mark.slow
def test_modes_have_nearly_their_shares_after_a_brief_training():
    """300 steps leave 0.04; half of what `Conditional` errs by, 0.18, is the bound."""
    assert error_of_weights(300, 1500, gaps=0.5) < 0.09


@pytest.mark.parametrize("rows", [1, 3, 32, 33])
def test_gaps_are_in_rows_that_there_are_whatever_is_drawn(monkeypatch, rows):
    """The largest number that torch.rand draws, added to a whole one, is the next in float32."""
    drawn = torch.rand
    largest = float(np.nextafter(np.float32(1), np.float32(0)))
    monkeypatch.setattr(torch, "rand", lambda *n, **how: drawn(*n, **how) * 0 + largest)
    given = draw_given(torch.zeros(rows, 5), 1.0, None)
    assert given.shape == (rows, 10)
