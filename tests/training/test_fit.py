"""One loop for every family: that it learns, what it leaves alone, what it reports."""

from __future__ import annotations

import json
import math
from functools import partial
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from training_fakes import Form, Gaussian, Points, TwoPlayers, same_weights

from undiffuse.errors import InputError
from undiffuse.interfaces import Player
from undiffuse.options import TrainingOptions
from undiffuse.training import fit
from undiffuse.training.learner import Learner
from undiffuse.training.trial import Trial, choose_precision, compiled

CPU = {"device": "cpu", "precision": "float32"}


def same_weights_as_file(model, out):
    """Whether the model holds the run's averaged parameters."""
    saved = load_file(out / "weights.safetensors")
    return all(torch.equal(saved[name], value) for name, value in model.named_parameters())


def test_maximum_likelihood_finds_the_moments():
    data, model = Points(), Gaussian()
    result = fit(model, data, steps=300, batch=100, lr=0.05, **CPU)
    x = data.rows.double() / 10
    # encoding adds a uniform in [0, 1) to the rows, and the loss noise of standard deviation 0.01
    var = x.var(0, correction=0) + 1 / 1200 + 1e-4
    torch.testing.assert_close(
        model.net.mean.detach().double()[0], x.mean(0) + 0.05, rtol=0, atol=0.02
    )
    torch.testing.assert_close(
        torch.exp(model.net.log_std.detach()).double(), var.sqrt(), rtol=0.03, atol=0
    )
    assert result.step == 300
    assert not result.stopped
    assert not model.training
    best = (var.log() / 2 + 0.5).mean()
    assert result.held_out is not None
    assert result.held_out["loss"] == pytest.approx(float(best), abs=0.2)


def test_each_player_steps_before_the_next_loss_is_computed():
    model = TwoPlayers()
    fit(model, Points(), steps=1, batch=4, lr=0.1, warmup=1, weight_decay=0.0, clip=0.0, **CPU)
    (before, after) = model.seen[0]
    # Adam's first step has the size of its learning rate, which is at its peak
    torch.testing.assert_close(after, before - 0.1, rtol=0, atol=1e-6)
    # the second loss did not move the first player, and was computed where that had gone
    torch.testing.assert_close(model.first.weight.detach(), after, rtol=0, atol=0)
    torch.testing.assert_close(
        model.second.weight.detach(), torch.full((1, 2), 1 - 0.05), rtol=0, atol=1e-6
    )


def test_accumulation_is_the_mean_over_the_batch():
    class Plain(Gaussian):
        def losses(self, x, **cond):
            yield (
                "gaussian",
                self.diagnose(x.round()).mean(),
            )  # round undoes the dequantization's randomness

    weights = []
    for parts in (1, 3):
        model = Plain()
        fit(model, Points(), steps=20, batch=10, accumulate=parts, lr=0.05, **CPU)
        weights.append(model.net.mean.detach())
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-5, atol=1e-6)


def test_options_change_what_they_say():
    def trained(**options):
        model = Gaussian()
        fit(model, Points(), steps=30, batch=8, **(CPU | {"lr": 0.05} | options))
        return model

    reference = trained()
    assert same_weights(reference, trained())  # and nothing else does
    changes = (
        {"seed": 1},
        {"lr": 0.04},
        {"clip": 0.01},
        {"averaging": 0.0},
        {"decay": 0.2},
        {"warmup": 1},
    )
    for change in changes:
        assert not torch.equal(reference.net.mean, trained(**change).net.mean), change
    decayed = trained(weight_decay=0.5)
    assert not torch.equal(reference.net.mean, decayed.net.mean)
    # a vector is not decayed: only the path through the mean can differ
    frozen, free = (trained(weight_decay=decay, lr=1e-7) for decay in (0.5, 0.0))
    torch.testing.assert_close(frozen.net.log_std, free.net.log_std, rtol=0, atol=1e-9)


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted():
    seen = []
    model = Gaussian(poison=(3, 4))
    snapshots = []

    def listener(event):
        if event["event"] == "step":
            seen.append(event)
            snapshots.append(model.net.mean.detach().clone())

    fit(model, Points(), steps=8, batch=8, lr=0.05, on_event=listener, **CPU)
    moved = [not torch.equal(a, b) for a, b in pairwise(snapshots)]
    assert moved == [True, True, False, False, True, True, True]
    assert [event["skipped"] for event in seen] == [0, 0, 0, 1, 2, 2, 2, 2]
    assert [event["loss"] is None for event in seen] == [False] * 3 + [True] * 2 + [False] * 3


def test_ten_steps_in_a_row_that_are_not_finite_stop_the_run(tmp_path):
    out = tmp_path / "run"
    model = Gaussian(poison=tuple(range(7, 99)))
    with pytest.raises(
        InputError, match=r"step 17.*10 times in a row.*--training.lr.*step 15 is kept"
    ):
        fit(model, Points(), steps=50, batch=8, checkpoint_every=5, out=out, **CPU)
    assert (out / "state" / "latest").read_text().strip() == "step-00000015"
    assert torch.isfinite(model.net.mean).all()
    assert same_weights_as_file(model, out)  # those of step 7, the last that was taken
    assert (
        fit(Gaussian(), Points(), out=out, resume=True, lr=1e-4).step == 50
    )  # it can be gone on with
    # nine in a row are forgiven
    assert fit(Gaussian(poison=tuple(range(3, 12))), Points(), steps=14, batch=8, **CPU).step == 14


def test_the_caller_keeps_its_random_state():
    torch.manual_seed(11)
    expected = torch.randn(2)
    torch.manual_seed(11)
    fit(Gaussian(), Points(), steps=3, batch=8, device="cpu")  # a trial of precisions included
    assert torch.equal(torch.randn(2), expected)


def test_events_and_previews(tmp_path):
    seen, out = [], tmp_path / "run"
    fit(
        Gaussian(),
        Points(form=Form()),
        out=out,
        steps=12,
        batch=8,
        samples=5,
        evaluate_every=6,
        checkpoint_every=6,
        on_event=seen.append,
        **CPU,
    )
    kinds = [event["event"] for event in seen]
    assert kinds == (
        ["start"] + ["step"] * 6 + ["held_out", "samples", "checkpoint"]
        + ["step"] * 6 + ["held_out", "samples", "checkpoint", "end"]
    )  # fmt: skip
    assert {
        "steps",
        "budget",
        "parameters",
        "batch",
        "precision",
        "device",
        "out",
        "resumed_at",
    } <= seen[0].keys()
    assert {"loss", "rate", "elapsed", "left", "lr", "skipped"} <= seen[1].keys()
    assert seen[0]["parameters"] == 4
    assert seen[-1]["reason"] == "done"
    assert sorted(p.name for p in (out / "samples").iterdir()) == [
        "step-000006.png",
        "step-000012.png",
    ]
    from PIL import Image

    assert Image.open(out / "samples" / "step-000012.png").size == (5, 1)
    assert seen[7]["loss"] != seen[-4]["loss"]
    assert len(seen[7]["levels"]) == 2
    assert all(math.isfinite(event["loss"]) for event in seen if event["event"] == "step")


def test_a_trial_leaves_no_trace_and_bfloat16_must_win():
    class Slow(Gaussian):
        """bfloat16 takes a fifth of the time, or five times as long."""

        gains = True

        def losses(self, x, **cond):
            import time

            time.sleep(0.002 if torch.is_autocast_enabled("cpu") is self.gains else 0.01)
            yield from super().losses(x, **cond)

    from undiffuse.training.randomness import Randomness

    data, device = Points(), torch.device("cpu")
    for gains, choice in ((True, "bfloat16"), (False, "float32")):
        model = Slow()
        model.gains = gains
        before = {name: value.clone() for name, value in model.state_dict().items()}
        trial = Trial(model, data.held_out_batch(8), data.transform, device, Randomness(device, 0))
        assert choose_precision(device, trial, able=lambda: True) == choice
        assert choose_precision(device, trial, able=lambda: False) == "float32"
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize("budget", [10.0, 60.0, 119.0, 120.0, 600.0, None])
@pytest.mark.parametrize(("slow", "row"), [(0.1, 0.001), (50.0, 0.001), (1.0, 2.0), (0.1, 2.0)])
def test_trials_keep_to_their_share_of_the_budget(budget, slow, row):
    """All passes take at most 5 % of it, but for the two of one row that cannot be known before."""
    passes = []

    def trial(precision, rows):
        passes.append((precision, rows, row * rows * (slow if precision == "bfloat16" else 1)))
        return passes[-1][2], 1.0

    cpu = torch.device("cpu")
    choice = choose_precision(cpu, trial, budget, rows=32, able=lambda: True)
    assert choice == ("bfloat16" if slow < 1 else "float32") or row == 2.0
    allowance = min(6.0, 0.05 * budget) if budget else 6.0
    slivers = sum(seconds for *_, seconds in passes[:2])
    assert sum(seconds for *_, seconds in passes) <= max(allowance, slivers)
    assert all(rows == 1 for _, rows, _ in passes) or (budget or 600) >= 120


def test_a_processor_without_bfloat16_is_not_tried():
    def trial(precision, rows):
        raise AssertionError("tried")

    assert choose_precision(torch.device("cpu"), trial, able=lambda: False) == "float32"
    stopped = {"able": lambda: True, "stop": lambda: True}
    assert choose_precision(torch.device("cpu"), trial, **stopped) == "float32"


@pytest.mark.parametrize("steps", [4, 5, 40, 1000])
def test_each_run_is_evaluated_four_times_whatever_it_costs(steps):
    from undiffuse.training.schedule import is_quarter

    sure = [k for k in range(steps - 1) if is_quarter(k / steps, (k + 1) / steps)]
    assert len(sure) == 3  # and the one at the end


def test_what_cannot_be_compiled_runs_as_it_is(monkeypatch):
    module = nn.Linear(2, 2)

    def failing(self, *args, **kwargs):
        self._compiled_call_impl = lambda *inputs: (_ for _ in ()).throw(
            RuntimeError("no compiler")
        )

    monkeypatch.setattr(nn.Module, "compile", failing)

    def attempt(precision):
        return module(torch.zeros(1, 2))

    with compiled([module], attempt, "float32") as worked:
        assert not worked
        module(torch.zeros(1, 2))
    monkeypatch.setattr(
        nn.Module, "compile", lambda self: setattr(self, "_compiled_call_impl", self._call_impl)
    )
    with compiled([module], attempt, "float32") as worked:
        assert worked
    assert module._compiled_call_impl is None


def test_the_default_precision_and_batch_are_recorded(tmp_path):
    fit(Gaussian(), Points(), out=tmp_path / "run", steps=2, device="cpu")
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())["training"]
    assert recorded["precision"] in ("float32", "bfloat16")
    assert recorded["batch"] == 256
    assert (recorded["device"], recorded["steps"], recorded["budget"]) == ("cpu", 2, None)


def test_a_player_s_hints_reach_its_optimizer():
    """AdamW's first step is lr times the gradient's sign; the second depends on its moments."""

    def moved(gradients, **hints):
        module = torch.nn.Linear(1, 1, bias=False)
        before = module.weight.detach().clone()
        learner = Learner(Player(module, **hints), TrainingOptions(weight_decay=0.0, clip=0.0))
        for gradient in gradients:
            module.weight.grad = torch.full_like(module.weight, gradient)
            learner.update(torch.zeros(()), 0.1)
        return float(module.weight.detach() - before)

    assert moved([1.0], lr_scale=0.5) == pytest.approx(-0.05)
    slow, quick = 0.9 * 0.1 / (1 - 0.9**2), 0.0
    for betas, kept in (((0.9, 0.99), slow), ((0.0, 0.99), quick)):
        assert moved([1.0, 0.0], betas=betas) == pytest.approx(
            -0.1 - 0.1 * kept / (0.99 * 0.01 / (1 - 0.99**2)) ** 0.5
        )


class Patient(Gaussian):
    """A model of a hundred sampling steps, of which it counts those that it takes."""

    taken = 0

    def draw(self, n, *, noise, callback=None, **options):
        for i in range(100):
            self.taken += 1
            callback(i + 1, 100, torch.zeros(()), torch.zeros(()))
        return super().draw(n, noise=noise)


def test_a_stop_ends_diagnostics_between_two_layers(tmp_path):
    """Of every family of models: what is left of an evaluation is not worked at, nor is the run."""
    calls = []

    class Slow(Gaussian):
        def __init__(self):
            super().__init__()
            self.layers = torch.nn.Sequential(*[torch.nn.Identity() for _ in range(9)])

        def diagnostics(self, x, **cond):
            for _ in range(5):
                calls.append(1)
                x = self.layers(x)
            return super().diagnostics(x, **cond)

    result = fit(
        Slow(),
        Points(form=Form()),
        out=tmp_path / "run",
        steps=9,
        batch=8,
        evaluate_every=3,
        stop=lambda: len(calls) >= 2,
        **CPU,
    )
    assert (result.step, result.stopped, len(calls), result.held_out) == (3, True, 2, None)


class Layered(Gaussian):
    """Four layers, each of which counts its calls; one has a buffer that every pass moves."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.Sequential(*[torch.nn.Linear(2, 2) for _ in range(4)])
        self.passes = []
        for i, layer in enumerate(self.layers):
            layer.register_forward_hook(partial(self.count, i))

    def prepare(self, source):
        super().prepare(source)
        for layer in self.layers:
            layer.reset_parameters()

    def count(self, i, module, args, output):
        self.passes.append(f"forward {i}")
        if output.requires_grad:
            output.register_hook(lambda _: self.passes.append(f"backward {i}"))

    def losses(self, x, **cond):
        self.seen += 1
        yield "gaussian", (self.diagnose(x) + self.layers(x).square()).mean()

    def diagnostics(self, x, **cond):
        return {"loss": 0.0}

    def players(self):
        return {"gaussian": Player(torch.nn.ModuleList([self.net, self.layers]))}


@pytest.mark.parametrize("asked", ["forward 0", "forward 2", "backward 3", "backward 1"])
def test_a_stop_ends_a_slow_step_between_two_layers_as_if_it_had_not_begun(tmp_path, asked):
    """The first step of each sitting counts as slow, and so does one of half a second."""
    options = {"steps": 4, "batch": 8, "evaluate_every": 100}
    whole, model, out = Layered(), Layered(), tmp_path / "run"
    fit(whole, Points(), **options, **CPU)
    result = fit(model, Points(), out=out, stop=lambda: asked in model.passes, **options, **CPU)
    assert (result.step, result.stopped) == (0, True)
    assert model.passes[-1] == asked  # nothing came after it
    last = Layered()
    assert fit(last, Points(), out=out, resume=True).step == 4
    assert same_weights(last, whole)


def test_a_stop_lets_a_step_end_whose_first_player_has_moved(tmp_path):
    model, whole, out = TwoPlayers(), TwoPlayers(), tmp_path / "run"
    options = {"steps": 3, "batch": 8, "evaluate_every": 100}
    fit(whole, Points(), **options, **CPU)
    result = fit(model, Points(), out=out, stop=lambda: bool(model.seen), **options, **CPU)
    assert (result.step, result.stopped) == (1, True)
    resumed = TwoPlayers()
    fit(resumed, Points(), out=out, resume=True)
    assert same_weights(resumed, whole)


def test_a_stop_ends_the_trial_of_a_precision():
    from undiffuse.training.randomness import Randomness

    data, device, model = Points(), torch.device("cpu"), Layered()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    trial = Trial(
        model,
        data.held_out_batch(8),
        data.transform,
        device,
        Randomness(device, 0),
        stop=lambda: "forward 2" in model.passes,
    )
    assert choose_precision(device, trial, able=lambda: True) == "float32"
    assert model.passes[-1] == "forward 2"
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_a_stop_ends_a_preview_and_then_the_run(tmp_path):
    model, out = Patient(), tmp_path / "run"
    result = fit(
        model,
        Points(form=Form()),
        out=out,
        steps=9,
        batch=8,
        evaluate_every=3,
        stop=lambda: model.taken >= 5,
        **CPU,
    )
    assert (model.taken, result.step, result.stopped) == (5, 3, True)
    assert not list((out / "samples").glob("*"))
    assert result.held_out is not None
    model.taken = -(10**6)  # and goes on where it was
    assert fit(model, Points(form=Form()), out=out, resume=True).step == 9
    assert [path.name for path in sorted((out / "samples").iterdir())] == [
        "step-000006.png",
        "step-000009.png",
    ]


class Choosing(Gaussian):
    """It counts how often it chooses something at the end of training."""

    chosen = 0

    def conclude(self, source, *, stop):
        chosen = not stop()
        self.chosen += chosen
        return chosen


def at(model, step):
    return model.calls >= step


@pytest.mark.parametrize(
    ("evaluations", "stopped", "finished", "length"),
    [
        (1, 1, 1, {"steps": 5}),
        (1, 1, 1, {"budget": 0.2}),
        (10**12, 0, 1, {"steps": 5}),  # the same whatever the speed of the machine
        (10**12, 0, 0, {"budget": 0.2}),
        (0, 0, 1, {"steps": 5}),
        (0, 0, 1, {"budget": 0.2}),
    ],
)
def test_what_is_chosen_at_the_end_takes_a_moment_or_half_of_the_budget(
    evaluations, stopped, finished, length, monkeypatch
):
    """Nor does a budget set aside time for what would not fit into it."""
    monkeypatch.setattr(Choosing, "conclusion", evaluations)
    for last, chosen in ((3, stopped), (10**9, finished), (0, 0)):  # the last is not even begun
        model = Choosing()
        fit(model, Points(), batch=8, stop=partial(at, model, last), **length, **CPU)
        assert model.chosen == chosen
    model = Choosing()
    result = fit(model, Points(), batch=8, **length, **CPU)
    assert result.elapsed > 0.17 or "steps" in length


@pytest.mark.parametrize("length", [{"steps": 5}, {"budget": 0.3}])
def test_a_run_stopped_while_it_chooses_is_not_finished_and_chooses_when_resumed(length, tmp_path):
    class Stopped(Choosing):
        asked = False

        def conclude(self, source, *, stop):
            self.asked = True
            return super().conclude(source, stop=stop)

    model, out = Stopped(), tmp_path / "run"
    result = fit(model, Points(), out=out, batch=8, stop=lambda: model.asked, **length, **CPU)
    assert (result.stopped, model.chosen) == (True, 0)
    again = Choosing()
    resumed = fit(again, Points(), out=out, resume=True, **length, **CPU)
    assert (resumed.stopped, again.chosen) == (False, 1)
    # Of a budget, what was set aside for saving before it was timed may be left for a few steps.
    assert resumed.step == result.step or ("budget" in length and resumed.step > result.step)
    with pytest.raises(InputError, match="has already had"):
        fit(Choosing(), Points(), out=out, resume=True, **length, **CPU)
