"""The sampler that is chosen for a trained model: on exact networks it is as good as a dear one."""

from __future__ import annotations

import json
import math

import pytest
import torch
from few_seeds import few_seeds
from model_cases import DIFFUSIONS, Exact, Rows, regression_target
from torch import nn

from undiffuse.diffusion import EDM, METHODS, RowNoise, sample
from undiffuse.diffusion.grid import Karras
from undiffuse.diffusion.oracle import Gaussian
from undiffuse.errors import InputError
from undiffuse.evaluation.metrics.kernel import kernel_distance
from undiffuse.models import PRESETS, tuning
from undiffuse.models.methods import evaluations
from undiffuse.models.paired import Compared, Pairing
from undiffuse.models.tuning import ACCURATE, CLOSE, NEAR, NOISY, TRIED, WIDTH, Knots, Tuned, width
from undiffuse.training.sound import sound_sampler

ANNEALED = [preset for preset in DIFFUSIONS if preset != "dae"]
NOISED = ("edm", "ddpm", "flow_matching")  # for which noise on the way is tried, of no use here
MEANS, WEIGHTS, STD = torch.tensor([-1.0, 1.5]), torch.tensor([0.7, 0.3]), 0.2


class Doubled(nn.Module):
    """A network's answer, and one for the variance."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x, c_noise):
        return torch.cat([self.network(x, c_noise), torch.zeros_like(x)], dim=1)


def exact(preset, rows=2000):
    """The model of a preset with the exact network of a mixture, and its rows."""
    generator = torch.Generator().manual_seed(0)
    pick = torch.multinomial(WEIGHTS, 2 * rows, replacement=True, generator=generator)
    x = MEANS[pick].reshape(rows, 2) + STD * torch.randn(rows, 2, generator=generator)
    model, data = PRESETS[preset](width=8, depth=1, gaps=0), Rows(x)
    model.meet(data)
    known = Exact(model.schedule, model.target, model.sigma_data, MEANS, WEIGHTS, STD)
    model.denoiser.network = Doubled(known) if model.objective.learned_variance else known
    return model, data


@pytest.fixture(autouse=True, scope="module")
def few():
    """Samples and numbers of steps enough for what is asked here."""
    with pytest.MonkeyPatch.context() as patch:
        few_seeds(patch, 192)
        yield


@pytest.fixture(scope="module")
def tuned(few):
    """An exact model of EDM's, tuned on few seeds."""
    model, data = exact("edm")
    said = model.tune(data)
    assert f"{model.tuned.best.steps} evaluations" in said
    return model


@pytest.mark.parametrize("preset", ANNEALED)
def test_what_is_chosen_is_as_wide_as_the_data_and_close_to_the_accurate_solution(
    preset, monkeypatch
):
    """On an exact mixture; its own samples are then what the accurate solver draws."""
    if preset not in NOISED:
        monkeypatch.setattr(tuning, "NOISY_COUNTS", ())
    model, data = exact(preset)
    model.tune(data)
    best = model.tuned.best
    assert best.steps < ACCURATE[1]
    assert best.error <= CLOSE
    times = torch.tensor(best.times, dtype=torch.float64)
    step = METHODS[best.method]
    assert abs(width(model.schedule, step, times, model.sigma_data) - 1) <= WIDTH
    assert evaluations(step, times, model.schedule) == best.steps
    noise = RowNoise(9, 400)
    cheap = model.draw(400, noise=noise)
    dear = model.draw(400, noise=RowNoise(9, 400), method="deis", steps=80)
    assert float((cheap - dear).norm() / dear.norm()) < 2 * CLOSE
    assert float(cheap.std()) == pytest.approx(float(dear.std()), rel=0.02)


class Misled(nn.Module):
    """A network that is exact where noise is small; elsewhere its x_hat is off by a constant."""

    def __init__(self, network: Exact, off: float, above: float) -> None:
        super().__init__()
        self.network, self.off, self.above = network, off, above

    def forward(self, x, c_noise):
        r = torch.exp(4 * c_noise.double())
        wrong = self.off * (r > self.above)[:, None]
        known = self.network
        t = known.schedule.inverse(-2 * r.log())
        c_x, c_z = (c[:, None] for c in regression_target(known.schedule, known.target, t))
        return (known(x, c_noise) + (c_x - c_z / r[:, None]) * wrong).to(x.dtype)


@pytest.mark.parametrize("preset", ["edm", "ddpm"])
def test_where_errors_add_up_on_the_way_noise_makes_samples_forget_them(preset):
    """The accurate solution keeps the wrong mean of large noise; a stochastic step does not."""
    model, data = exact(preset)
    model.denoiser.network = Misled(model.denoiser.network, 4.0, 4.0)
    model.tune(data)
    best, last = model.tuned.best, model.tuned.candidates[-1]
    assert best.method == last.method == NOISY
    assert best.steps <= last.steps
    assert best.error is None
    reference = model.tuned.candidates[-2]
    assert reference.error <= NEAR
    assert reference.excess > 2 * reference.stderr
    times = torch.tensor(best.times, dtype=torch.float64)
    assert abs(width(model.schedule, METHODS[NOISY], times, model.sigma_data) - 1) <= WIDTH
    assert Tuned.read(sound_sampler(json.loads(json.dumps(model.tuned_tree)))) == model.tuned
    means = [
        float(model.draw(500, noise=RowNoise(3, 500), **how).mean())
        for how in ({}, {"method": "deis", "steps": 40})
    ]
    true = float((MEANS * WEIGHTS).sum())
    assert abs(means[0] - true) < abs(means[1] - true) / 2


def test_the_width_of_a_stochastic_step_is_that_of_its_samples():
    """Of 40,000 samples of a Gaussian, by an exact denoiser; DDIM with noise on a coarse grid."""
    schedule, std = EDM(), 0.5
    times = Karras()(schedule, 8)
    exact_one = Gaussian(schedule, torch.zeros(1), torch.tensor([std]))
    start = (std**2 + schedule(times[0])[1].square()).sqrt() * RowNoise(0, 40000)(
        torch.empty(40000, 1, dtype=torch.float64)
    )
    for step in (METHODS[NOISY], METHODS["ancestral"]):
        found = sample(exact_one, start, times, step, noise=RowNoise(1, 40000)).std()
        assert float(found) / std == pytest.approx(width(schedule, step, times, std), rel=0.02)


def test_a_tuned_model_is_sampled_by_what_was_chosen(tuned):
    """By default along its times; for a number of steps by the best for it; a method wins."""
    best = tuned.tuned.best
    seen = []
    rows = tuned.draw(3, noise=RowNoise(0, 3), callback=lambda i, n, s, x: seen.append(float(s)))
    assert seen == pytest.approx(list(best.times[1:]), rel=1e-12)
    assert tuned.steps_of(None) == best.steps
    assert tuned.usual_method == best.method
    for one in tuned.tuned.candidates:
        seen.clear()
        tuned.draw(
            1,
            noise=RowNoise(0, 1),
            steps=one.steps,
            callback=lambda i, n, s, x: seen.append(float(s)),
        )
        assert seen == pytest.approx(list(one.times[1:]), rel=1e-12)
    other, _ = exact("edm")
    asked = {"method": "dpmpp", "steps": 7}
    same = [model.draw(3, noise=RowNoise(0, 3), **asked) for model in (tuned, other)]
    assert bool((same[0] == same[1]).all())
    assert not bool((rows == other.draw(3, noise=RowNoise(0, 3))).all())
    assert tuned.within(best.steps) == {}
    fewer = [one.steps for one in tuned.tuned.candidates if one.steps < best.steps]
    expected = {"steps": max(fewer)} if fewer else {"method": "deis", "steps": best.steps - 1}
    assert tuned.within(best.steps - 1) == expected


def test_given_values_are_sampled_by_the_presets_default_and_guidance_as_tuned(tuned):
    """Whole rows were measured; guidance is chosen along the same times (see `test_guide`)."""
    other, _ = exact("edm")
    given = {"known": (torch.zeros(2, 2), torch.tensor([[True, False]] * 2))}
    pair = [model.draw(2, noise=RowNoise(0, 2), **given) for model in (tuned, other)]
    assert bool((pair[0] == pair[1]).all())
    same = {"wrap": lambda denoiser: denoiser}
    pair = [tuned.draw(2, noise=RowNoise(0, 2), **more) for more in (same, {})]
    assert bool((pair[0] == pair[1]).all())


def test_the_choice_depends_on_the_model_and_the_seed_alone(tuned):
    model, data = exact("edm")
    model.tune(data)
    assert model.tuned == tuned.tuned


def test_what_was_chosen_reads_back_from_json(tuned):
    tree = json.loads(json.dumps(tuned.tuned_tree))
    assert Tuned.read(sound_sampler(tree)) == tuned.tuned
    other, _ = exact("edm")
    other.take_tuned(tree)
    pair = [model.draw(3, noise=RowNoise(4, 3)) for model in (tuned, other)]
    assert bool((pair[0] == pair[1]).all())
    other.take_tuned(None)
    assert other.tuned is None


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("chosen",), 99),
        (("chosen",), -1),
        (("chosen",), "0"),
        (("candidates",), []),
        (("candidates", 0, "method"), "ode"),
        (("candidates", 0, "method"), "nope"),
        (("candidates", 0, "times"), [1.0, 0.5, 0.5, 0.0]),
        (("candidates", 0, "times"), [1.0, 0.5, 0.1]),
        (("candidates", 0, "times"), [2.0, 0.5, 0.0]),
        (("candidates", 0, "times"), [1.0] * 2000),
        (("candidates", 0, "times"), [1.0, float("nan"), 0.0]),
        (("candidates", 0, "error"), None),
        (("candidates", 0, "method"), NOISY),
        (("more",), 1),
    ],
)
def test_a_wrong_description_of_a_sampler_is_refused(tuned, where, value):
    tree = json.loads(json.dumps(tuned.tuned_tree))
    node = tree
    for key in where[:-1]:
        node = node[key]
    node[where[-1]] = value
    with pytest.raises(ValueError, match=r"\w"):
        Tuned.read(sound_sampler(tree))


def test_other_numbers_of_steps_interpolate_the_known_times():
    """Descending from 1 to 0, through all known times for a multiple of their steps."""
    known = (1.0, 0.3, 0.05, 0.001, 0.0)
    for schedule in (EDM(), PRESETS["flow_matching"]().schedule):
        grid = Knots(known)
        assert grid(schedule, 4).tolist() == pytest.approx(list(known), rel=1e-12)
        for steps in (1, 2, 3, 7, 50):
            times = grid(schedule, steps)
            assert len(times) == steps + 1
            assert (float(times[0]), float(times[-1])) == (1, 0)
            assert bool((times.diff() < 0).all())
        assert grid(schedule, 7)[:-1:2].tolist() == pytest.approx(list(known[:-1]), rel=1e-12)


def test_the_excess_is_the_difference_of_two_kernel_distances_and_its_error_is_right():
    """Against `kernel_distance`; the standard error, and what two of it tell, over 300 draws."""
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(150, 3, generator=generator, dtype=torch.float64) + 0.2
    found = []
    for _ in range(300):
        z = torch.randn(200, 3, generator=generator, dtype=torch.float64)
        worse = z + 0.1
        compared = Pairing(z, real)(worse)
        found.append(compared)
    ours, theirs = kernel_distance(worse, real)[0], kernel_distance(z, real)[0]
    assert compared.distance == pytest.approx(ours, rel=1e-9)
    assert compared.excess == pytest.approx(ours - theirs, rel=1e-9)
    excess = torch.tensor([one.excess for one in found])
    for told in (Compared.no_worse, Compared.worse):
        passed = sum(told(one, float(excess.mean())) for one in found) / len(found)
        assert passed == pytest.approx(0.0228, abs=4 * math.sqrt(0.0228 / len(found)))
    stderr = torch.tensor([one.stderr for one in found]).square().mean().sqrt()
    assert float(excess.std()) == pytest.approx(float(stderr), rel=5 / math.sqrt(600))


@pytest.mark.parametrize("rows", [40, 1000])
def test_too_few_held_out_rows_or_too_little_time_choose_nothing(rows):
    model, data = exact("edm", rows)
    said = model.tune(data, seconds=1e-6)
    assert model.tuned is None
    assert said.startswith("not tuned")
    assert ("rows" if rows < 1000 else "time") in said


def test_on_few_samples_the_accurate_solver_is_not_chosen(monkeypatch):
    """Where there was no time for more; with enough of them it is, if the usual one is as exact."""
    monkeypatch.setattr(tuning, "CLOSE", 0.0)
    monkeypatch.setattr(type(METHODS[tuning.SAMPLER]), "steps", 400)
    monkeypatch.setattr(tuning, "NEAR", 0.0)
    monkeypatch.setattr(tuning, "NOISY_COUNTS", ())
    model, data = exact("edm")
    model.tune(data, seconds=1e3)
    assert (model.tuned.best.method, model.tuned.best.steps) == ACCURATE
    monkeypatch.setattr(tuning, "LEAST_SEEDS", 1000)
    assert "show no shorter" in model.tune(data, seconds=1e3)
    assert model.tuned is None


def test_what_is_nearer_to_the_accurate_solution_than_the_usual_sampler_is_compared(monkeypatch):
    """However far that is from it: else the reference would be chosen of nothing."""
    monkeypatch.setattr(tuning, "CLOSE", 0.0)
    monkeypatch.setattr(tuning, "NEAR", 0.0)
    monkeypatch.setattr(tuning, "NOISY_COUNTS", ())
    model, data = exact("edm")
    model.tune(data, seconds=1e3)
    assert model.tuned.best.steps < ACCURATE[1]
    assert model.tuned.best.excess is not None


@pytest.mark.parametrize("limited", [False, True])
@pytest.mark.parametrize(
    ("share", "stderr", "seeds", "good"),
    [
        (-0.03, 0.005, 1000, True),  # better for certain
        (0.05, 0.005, 192, False),  # worse for certain
        (0.01, 0.02, 4096, True),  # in doubt: what is shown decides
        (0.3, 0.16, 4096, False),
    ],
)
def test_what_many_samples_leave_open_is_decided_by_what_they_show(
    monkeypatch, share, stderr, seeds, good, limited
):
    """Two percent of the distance of the reference, 1, are allowed; of few samples, none."""
    asked = []

    def paired(self, last, n):
        asked.append(n)
        return Paired(Compared(1 + share, share, stderr))

    for name, count in (("PILOT", 192), ("LEAST_SEEDS", 1000), ("MOST_SEEDS", 4096)):
        monkeypatch.setattr(tuning, name, count)
    monkeypatch.setattr(tuning._Search, "_pairing", paired)
    data = tuning.Measured(EDM(), 1.0, torch.zeros(200, 2))
    search = tuning._Search(lambda *asked: torch.zeros(asked[-1], 2), data, None, lambda: False)
    search.start(None)
    most = 1500 if limited and seeds == 4096 else search.seeds
    one = tuning.Candidate("deis", (1.0, 0.5, 0.0), 0.0)
    _, found = search._compared(one, search.accurate, most)
    assert asked[-1] == min(seeds, most)
    assert found == (good and most >= seeds)
    assert search.doubted == (most < seeds)


class Paired:
    """A comparison that always finds the same."""

    distance, noise = 1.0, 0.0

    def __init__(self, found: Compared) -> None:
        self.found = found

    def __call__(self, rows):
        return self.found


def test_a_search_that_is_stopped_chooses_nothing():
    model, data = exact("edm")
    polled = []
    assert "stopped" in model.tune(data, stop=lambda: len(polled) > 9 or polled.append(1))
    assert model.tuned is None
    assert len(polled) == 10


@pytest.mark.parametrize("preset", ["dae", "gan"])
def test_a_model_with_one_way_to_draw_is_not_tuned(preset):
    model = PRESETS[preset]()
    assert not model.tuning
    assert all(name in METHODS for name in TRIED)
    if preset == "gan":
        with pytest.raises(ValueError, match="one way"):
            model.take_tuned({})
        with pytest.raises(InputError, match="one pass"):
            model.check_sampler(steps=3)
