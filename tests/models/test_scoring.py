"""Laws of scoring, on a model whose every number is known: what is drawn, weighed and added up."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from model_cases import Identity, Rows

import undiffuse as ud
from undiffuse.diffusion import Levels, RowNoise
from undiffuse.diffusion.guidance import Autoguided, ClassifierFree, Interval
from undiffuse.diffusion.likelihood.density import Adaptive, RungeKutta, log_density
from undiffuse.diffusion.likelihood.dequantize import TruncatedNormal
from undiffuse.diffusion.likelihood.elbo import elbo
from undiffuse.diffusion.objectives import OptimalTransport
from undiffuse.errors import InputError
from undiffuse.models import diffusion
from undiffuse.models.diffusion import guided
from undiffuse.models.diffusion_likelihood import BOUND_FORMS
from undiffuse.models.likelihood import (
    Bound,
    Density,
    Likelihood,
    Weighted,
    how_of,
    likelihood_rows,
)


class Filled(Identity):
    """One number a row, to which encoding adds a standard normal if `random`; row 3 is impossible.

    Its correction is twice what was added; bins are as wide as said.
    """

    def __init__(self, random, bin_width=None):
        super().__init__((1,))
        self.random, self.bin_width, self.drawn = random, bin_width, []

    def encode(self, row, noise):
        z = noise(row) if self.random else torch.zeros_like(row)
        self.drawn.append(z[:, 0])
        correction = 2 * z[:, 0].double()
        correction[3:4] = -math.inf
        return row + z, correction

    def cells(self, row):
        return None if self.bin_width is None else (row.double() - 1, row.double() + 1)


class Told:
    """A model that answers with its x, and keeps what it was asked."""

    no_density, scored_by = "", (Bound, Density, Weighted)

    def __init__(self, transform, kind="estimate", takes=False):
        self.transform, self.kind, self.takes = transform, kind, takes
        self.noise, self.asked = [], []

    def takes_cells(self, how):
        return self.takes

    def likelihood(self, x, *, noise, cond, how=None, cells=None):
        self.noise.append(noise(x)[:, 0])
        self.asked.append((cond, how, cells))
        return Likelihood(x[:, 0].double(), torch.full((len(x),), 0.3), self.kind, 5.0, 7.0, "so")


ROWS = torch.tensor([[0.5], [-1.0], [2.0], [0.0]])


def scored(model, rows=ROWS, **options):
    given = {
        "how": None,
        "first": 0,
        "seed": 0,
        "draws": None,
        "importance": False,
        "dequantization": None,
        "cond": {},
        "device": torch.device("cpu"),
    }
    return likelihood_rows(model, rows, **(given | options))


@pytest.mark.parametrize(
    ("random", "importance", "draws", "count"),
    [
        (False, False, None, 1),
        (True, False, None, 4),
        (True, True, None, 8),
        (False, True, None, 1),
        (True, True, 3, 3),
        (False, False, 4, 4),
        (True, False, 1, 1),
    ],
)
def test_as_many_draws_are_made_as_said_and_all_are_counted(random, importance, draws, count):
    model = Told(Filled(random))
    found = scored(model, importance=importance, draws=draws)
    assert len(model.asked) == len(model.noise) == count
    assert (found.evaluations, found.products) == (5.0 * count, 7.0 * count)
    assert (found.kind, found.meaning) == ("bound" if random else "estimate", "so")
    parts = torch.stack([ROWS[:, 0] + 3 * z for z in model.transform.drawn]).double()[:, :3]
    mean = parts.logsumexp(0) - math.log(count) if importance else parts.mean(0)
    torch.testing.assert_close(found.nats[:3], mean)
    assert found.nats[3] == -math.inf
    assert found.stderr[3] == 0
    if count == 1:
        assert found.stderr[:3].tolist() == pytest.approx([0.3] * 3)
    elif not importance:
        torch.testing.assert_close(found.stderr[:3], parts.std(0) / count**0.5)


def test_draws_differ_and_are_apart_from_each_other_and_from_the_samples():
    """Streams of encoding, of scoring and of sampling: no two are the same for any draw."""
    n = 500
    model = Told(Filled(True))
    scored(model, torch.zeros(n, 1), draws=3, seed=9)
    streams = [*model.transform.drawn, *model.noise, RowNoise(9, n)(torch.empty(n, 1))[:, 0]]
    correlation = torch.corrcoef(torch.stack(streams)) - torch.eye(7)
    assert float(correlation.abs().max()) < 5 / n**0.5
    shared = Told(Filled(True))
    scored(shared, torch.zeros(n, 1), draws=3, seed=9, importance=True)
    assert all(torch.equal(noise, shared.noise[0]) for noise in shared.noise)
    assert torch.equal(shared.noise[0], model.noise[0])
    assert not torch.equal(shared.transform.drawn[0], shared.transform.drawn[1])


def test_a_row_is_scored_by_its_seed_and_number():
    whole, part, other = (Told(Filled(True)) for _ in range(3))
    found = scored(whole, first=4, seed=2)
    rest = scored(part, ROWS[1:3], first=5, seed=2)
    assert torch.equal(rest.nats, found.nats[1:3])
    assert not torch.equal(scored(other, first=4, seed=3).nats, found.nats)
    for one, same in zip(whole.noise, part.noise):
        assert torch.equal(one[1:3], same)


def test_bins_are_handed_on_where_there_are_any_and_the_model_takes_them():
    for bin_width, takes in ((None, True), (0.5, False), (0.5, True)):
        model = Told(Filled(True, bin_width), takes=takes)
        found = scored(model, cond={"label": torch.zeros(4)}, how=Density())
        (cond, how, cells), *_ = model.asked
        assert (list(cond), how) == (["label"], Density())
        if bin_width and takes:  # the bound is on the numbers: nothing is drawn, nothing corrected
            assert torch.equal(cells[0], ROWS.double() - 1)
            assert torch.equal(cells[1], ROWS.double() + 1)
            assert torch.equal(found.nats[:3], ROWS[:3, 0].double())
            assert (len(model.asked), found.kind) == (1, "estimate")
        else:
            assert cells is None
            assert (len(model.asked), found.kind) == (4, "bound")


def test_another_noise_of_dequantization_adds_what_its_density_differs_by():
    plain, cut = Told(Filled(True, 0.5)), Told(Filled(True, 0.5), takes=True)
    scored(plain, draws=1)
    found = scored(cut, draws=1, dequantization=TruncatedNormal(0.1))
    z, correction = TruncatedNormal(0.1)(plain.transform.drawn[0][:, None], 0.5)
    torch.testing.assert_close(cut.transform.drawn[0], z[:, 0])
    wanted = (ROWS + 3 * z)[:, 0].double() + correction
    torch.testing.assert_close(found.nats[:3], wanted[:3], rtol=1e-6, atol=1e-6)
    assert cut.asked[0][2] is None  # the bins are not used
    with pytest.raises(InputError, match="dequantization: it is for images and"):
        scored(Told(Filled(True)), dequantization=TruncatedNormal(0.1))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"draws": 0}, "draws 0: give a whole number of at least 1."),
        ({"importance": True}, "importance: weighting the estimate of a bound would overstate it"),
    ],
)
def test_what_cannot_be_weighed_is_refused(wrong, said):
    with pytest.raises(InputError, match=said):
        scored(Told(Filled(True), kind="bound"), **wrong)


@pytest.mark.parametrize(
    ("way", "option", "least"),
    [
        (Bound, "evaluations", 1),
        (Weighted, "draws", 1),
        (Density, "steps", 1),
        (Density, "probes", 0),
    ],
)
def test_numbers_of_a_way_of_scoring_have_a_least(way, option, least):
    assert getattr(way(**{option: least}), option) == least
    sentence = f"^{option} {least - 1}: give a whole number of at least {least}[.]$"
    with pytest.raises(InputError, match=sentence):
        way(**{option: least - 1})


def test_a_way_of_scoring_is_found_by_its_name_or_by_its_options():
    vae, edm, flow = ud.vae(), ud.edm(), ud.flow()
    assert how_of(vae) is how_of(edm) is how_of(flow, probes=None) is None
    assert how_of(vae, "importance") == Weighted(64)
    assert how_of(vae, "importance", evaluations=7) == Weighted(7)
    assert how_of(vae, "elbo", evaluations=7) == Bound(7)
    assert how_of(vae, evaluations=7) == Weighted(7)  # the model's first way that takes them
    assert how_of(edm, evaluations=7, steps=None) == Bound(7)
    assert how_of(edm, "ode", steps=3, probes=0) == Density(steps=3, probes=0)
    assert how_of(edm, tolerance=1e-3) == Density(1e-3)


TAKES = "scoring by this model takes"
OTHERS = "models are not scored by it"


@pytest.mark.parametrize(
    ("make", "name", "options", "said"),
    [
        (
            ud.edm,
            None,
            {"evaluations": 5, "probes": 0},
            f"evaluations, probes: {TAKES} only evaluations, probes, steps, tolerance",
        ),
        (ud.vae, None, {"probes": 0}, f"probes: {TAKES} only evaluations"),
        (ud.flow, None, {"probes": 0}, f"probes: {TAKES} no options"),
        (
            ud.vae,
            "importance",
            {"probes": 0},
            "probes: method importance takes only evaluations",
        ),
        (ud.edm, "importance", {}, f"method importance: diffusion {OTHERS}; use elbo or ode."),
        (ud.vae, "ode", {}, f"method ode: vae {OTHERS}; use elbo or importance."),
        (
            ud.flow,
            "elbo",
            {},
            f"method elbo: flow {OTHERS}; its density is exact; leave the method out.",
        ),
        (ud.gan, None, {}, ud.GAN.no_density),
        (ud.gan, "elbo", {}, ud.GAN.no_density),
    ],
)
def test_a_way_that_there_is_not_is_refused_in_one_sentence(make, name, options, said):
    with pytest.raises(InputError) as problem:
        how_of(make(), name, **options)
    assert str(problem.value) == (said if said.endswith(".") else f"{said}; leave it out.")


# --- diffusion models


def met(preset, rows=None, labels=True, **sizes):
    torch.manual_seed(0)
    model = ud.models.PRESETS[preset](width=8, depth=1, **sizes)
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(60, 3, generator=generator) if rows is None else rows
    data = Rows(rows, torch.arange(len(rows)) % 2, ("a", "b")) if labels else Rows(rows)
    model.meet(data)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return model.eval()


@pytest.mark.parametrize("form", range(len(BOUND_FORMS)))
@pytest.mark.parametrize("preset", ["ddpm", "edm", "iddpm"])
def test_the_bound_of_a_model_is_that_of_its_denoiser_in_its_form(preset, form):
    model = met(preset, **({} if preset == "edm" else {"levels": 6}))
    model.bound_form.fill_(form)
    form, x, label = BOUND_FORMS[form], torch.randn(4, 3), torch.tensor([0, 1, -1, 0])
    edges = (x.double() - 0.1, x.double() + 0.1)
    levels = form.levels and model.schedule.levels
    denoiser = model.trained().given(label=label)
    if model.clip:
        denoiser = ud.diffusion.Clipped(denoiser, *model.data_range)
    for cells in (None, edges):
        found = model.likelihood(
            x, noise=RowNoise(1, 4), cond={"label": label}, how=Bound(5), cells=cells
        )
        wanted = elbo(
            denoiser,
            x,
            model.prior,
            grid=Levels()(model.schedule, 6) if levels else None,
            variance=model.step.reverse_variance,
            evaluations=5,
            cells=cells,
            least=form.bins * 0.2 if cells else 0.0,
            noise=RowNoise(1, 4),
        )
        close = torch.testing.assert_close
        close(found.nats, wanted.nats, rtol=1e-6, atol=1e-6, equal_nan=True)
        close(found.stderr, wanted.stderr, rtol=1e-6, atol=1e-6, equal_nan=True)
        assert (found.kind, found.evaluations, found.products) == ("bound", wanted.evaluations, 0.0)
        own = "over its own levels" if levels else "in continuous time"
        assert found.meaning.startswith(f"the bound of the reverse diffusion {own}")


@pytest.mark.parametrize(
    ("how", "solver", "probes", "kind"),
    [
        (Density(1e-2), Adaptive(1e-2), None, "exact"),
        (Density(steps=2), RungeKutta(2), None, "exact"),
        (Density(steps=2, probes=0), RungeKutta(2), 0, "exact"),
        (Density(steps=2, probes=3), RungeKutta(2), 3, "estimate"),
    ],
)
def test_the_density_of_a_model_is_that_of_its_denoiser_without_clipping(how, solver, probes, kind):
    model, x, label = met("ddpm", levels=6), torch.randn(4, 3), torch.tensor([0, 1, -1, 0])
    prior = model.prior.settled()
    found = model.likelihood(x, noise=RowNoise(1, 4), cond={"label": label}, how=how)
    wanted = log_density(
        model.trained().given(label=label),
        x,
        prior,
        solver=solver,
        probes=probes,
        noise=RowNoise(1, 4),
    )
    assert torch.equal(found.nats, wanted.nats)
    assert prior.stderr() > 0
    torch.testing.assert_close(
        found.stderr,
        torch.hypot(wanted.stderr, torch.tensor(prior.stderr()).double()),
        rtol=1e-12,
        atol=0,
    )
    assert found.kind == kind
    assert found.evaluations == float(wanted.evaluations.double().mean())
    assert found.products == float(wanted.products.double().mean())
    assert found.meaning.startswith("the density of the probability flow; ")


@pytest.mark.parametrize(("columns", "kind"), [(64, "exact"), (65, "estimate")])
def test_a_density_is_exact_up_to_64_coordinates(columns, kind):
    model = met("edm", torch.randn(20, columns), labels=False)
    found = model.likelihood(
        torch.zeros(1, columns), noise=RowNoise(0, 1), cond={}, how=Density(steps=1)
    )
    assert (found.kind, found.evaluations) == (kind, 4.0)


def test_a_bound_takes_bins_unless_its_form_is_of_dequantized_values():
    model = met("edm")
    for i, form in enumerate(BOUND_FORMS):
        model.bound_form.fill_(i)
        assert model.takes_cells(Bound()) == form.cells
        assert not model.takes_cells(None)  # few coordinates: the density
        assert not model.takes_cells(Density())
    model.shape, model.bound_form = (17,), torch.tensor(0)
    assert model.takes_cells(None)


@pytest.mark.parametrize("together", [1024, 100, 1])
@pytest.mark.parametrize("preset", ["edm", "ddpm", "vdm", "paired"])
def test_diagnostics_are_the_objective_in_the_middle_of_sixteen_equal_shares_of_its_times(
    preset, together, monkeypatch
):
    """However many levels are in one batch; those of one level alone are paired."""
    monkeypatch.setattr(diffusion, "_TOGETHER", together)
    paired = preset == "paired"
    model = met("edm" if paired else preset, **({"levels": 40} if preset == "ddpm" else {}))
    if paired:
        model.objective = replace(model.objective, coupling=OptimalTransport())
    x = torch.randn(30, 3)
    label = torch.arange(30) % 2
    found = model.diagnostics(x, label=label)
    t = model.objective.times.quantile(
        model.schedule, torch.tensor([(i + 0.5) / 16 for i in range(16)], dtype=torch.float64)
    )
    z, denoiser = RowNoise(0, 30)(x), model.trained()
    with torch.no_grad():
        curve = [
            float(model.objective.losses(denoiser, x, z, one.expand(30), label=label).mean())
            for one in t
        ]
    assert found["levels"]["loss"] == pytest.approx(curve, rel=1e-6)
    assert found["levels"]["log_snr"] == pytest.approx(model.schedule.log_snr(t).tolist(), rel=1e-9)
    assert found["loss"] == pytest.approx(sum(curve) / 16, rel=1e-6)


def test_a_learned_schedule_is_trained_on_every_fourth_row():
    model, seen = met("vdm"), []
    hook = model.network.register_forward_pre_hook(
        lambda _, args, given: seen.append(given["label"]), with_kwargs=True
    )
    label = torch.arange(40) % 2
    model.drop_condition = 0.0
    assert [name for name, _ in model.losses(torch.randn(40, 3), label=label)] == [
        "denoiser",
        "schedule",
    ]
    hook.remove()
    assert torch.equal(seen[0], label)
    assert torch.equal(seen[1], label[::4])


@pytest.mark.parametrize(("limit", "steps"), [(11, 11), (36, 12), (1, 1)])
def test_a_model_that_takes_too_many_evaluations_is_sampled_by_the_default(limit, steps):
    model = met("vp")
    model.method = "published"  # 500 steps
    assert model.within(limit) == {"method": "deis", "steps": steps}


def test_of_its_own_steps_a_model_takes_as_many_as_fit():
    model = met("dae", labels=False)
    for limit, steps in ((20, 1), (21, 2), (501, 50)):
        assert model.within(limit) == ({} if steps == 50 else {"steps": steps})
    edm = met("edm")
    assert edm.within(12) == edm.within(36) == {}
    assert edm.within(11)["steps"] == 11


def test_guidance_is_that_of_the_classes_or_of_a_weaker_model():
    model, weaker = met("edm"), met("edm")
    with torch.no_grad():
        for p in weaker.parameters():
            p.mul_(0.9)
    x_t, t, label = torch.randn(4, 3), torch.tensor(0.02).double(), torch.tensor([0, 1, 1, 0])
    own = model.trained().given(label=label)
    free = ClassifierFree(own, 3.0, label=-1)
    auto = Autoguided(own, weaker.trained().given(label=label), 2.0)
    for wrap, wanted in (
        (guided(model, 3.0), free),
        (guided(model, 2.0, weaker=weaker), auto),
        (guided(model, 3.0, low=1.0, high=2.0), Interval(free, own, 1.0, 2.0)),
        (guided(model, 3.0, low=1.0, high=1.5), own),
        (guided(model, 3.0, low=1.7), own),
    ):
        with torch.no_grad():
            torch.testing.assert_close(wrap(own)(x_t, t), wanted(x_t, t))  # sigma/alpha is 1.6
    plain = met("edm", labels=False)
    alone = plain.trained()
    with torch.no_grad():
        ours = guided(plain, 2.0, weaker=plain)(alone)(x_t, t)
        torch.testing.assert_close(ours, alone(x_t, t))


def test_guidance_that_cannot_be_is_refused():
    model, unlabelled = met("edm"), met("edm", labels=False)
    for given, said in (
        ((ud.vae(), 2.0, {}), "guidance: vae models cannot be guided; leave it out."),
        ((model, 2.0, {"weaker": ud.vae()}), "models cannot be guided"),
        (
            (model, 2.0, {"low": 2.0, "high": 2.0}),
            "guidance from 2 to 2: no noise level is between",
        ),
        ((unlabelled, 2.0, {}), "guidance: this model was trained without labels"),
    ):
        *given, options = given
        with pytest.raises(InputError, match=said):
            guided(*given, **options)
    model.drop_condition = 0.0
    with pytest.raises(InputError, match="never saw a row without its label"):
        guided(model, 2.0)
    guided(model, 2.0, weaker=model)
    guided(unlabelled, 2.0, weaker=unlabelled)
