"""One loop for every family: that it learns, what it leaves alone, and that resuming changes nothing."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from itertools import pairwise

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from training_fakes import Form, Gaussian, Points, TwoPlayers, events, same_weights

from undiffuse.errors import InputError
from undiffuse.training import fit
from undiffuse.training.trial import Trial, choose_precision, compiled

CPU = {"device": "cpu", "precision": "float32"}


def same_weights_as_file(model, out):
    """Whether the model holds the run's averaged parameters."""
    saved = load_file(out / "weights.safetensors")
    return all(torch.equal(saved[name], value) for name, value in model.named_parameters())


def stop_at(step):
    """A `stop` that says so before the step after this one."""
    polls = iter(range(10**9))
    return lambda: next(polls) >= step


def test_maximum_likelihood_finds_the_moments():
    data, model = Points(), Gaussian()
    result = fit(model, data, steps=300, batch=100, lr=0.05, **CPU)
    x = data.rows.double() / 10
    # encoding adds a uniform in [0, 1) to the rows, and the loss noise of standard deviation 0.01
    var = x.var(0, correction=0) + 1 / 1200 + 1e-4
    torch.testing.assert_close(model.net.mean.detach().double()[0], x.mean(0) + 0.05, rtol=0, atol=0.02)
    torch.testing.assert_close(torch.exp(model.net.log_std.detach()).double(), var.sqrt(), rtol=0.03, atol=0)
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
    # Adam's first step has the size of its learning rate: the ramp is full, the line is at (1 - 0) / 0.7 > 1
    torch.testing.assert_close(after, before - 0.1, rtol=0, atol=1e-6)
    # the second loss did not move the first player, and was computed against where it had gone: 1 -> down, scaled
    torch.testing.assert_close(model.first.weight.detach(), after, rtol=0, atol=0)
    torch.testing.assert_close(model.second.weight.detach(), torch.full((1, 2), 1 - 0.05), rtol=0, atol=1e-6)


def test_accumulation_is_the_mean_over_the_batch():
    class Plain(Gaussian):
        def losses(self, x, **cond):
            yield "gaussian", self.diagnose(x.round()).mean()  # round undoes the dequantization's randomness

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
    changes = ({"seed": 1}, {"lr": 0.04}, {"clip": 0.01}, {"averaging": 0.0}, {"decay": 0.2}, {"warmup": 1})
    for change in changes:
        assert not torch.equal(reference.net.mean, trained(**change).net.mean), change
    decayed = trained(weight_decay=0.5)
    assert not torch.equal(reference.net.mean, decayed.net.mean)
    # a vector is not decayed: its first gradient is the same, so only the path through the mean can differ
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
    with pytest.raises(InputError, match=r"step 17.*10 times in a row.*--training.lr.*step 15 is kept"):
        fit(model, Points(), steps=50, batch=8, checkpoint_every=5, out=out, **CPU)
    assert (out / "state" / "latest").read_text().strip() == "step-00000015"
    assert torch.isfinite(model.net.mean).all()
    assert same_weights_as_file(model, out)  # those of step 7, the last that was taken
    assert fit(Gaussian(), Points(), out=out, resume=True, lr=1e-4).step == 50  # it can be gone on with
    # nine in a row are forgiven
    assert fit(Gaussian(poison=tuple(range(3, 12))), Points(), steps=14, batch=8, **CPU).step == 14


def test_the_caller_keeps_its_random_state():
    torch.manual_seed(11)
    expected = torch.randn(2)
    torch.manual_seed(11)
    fit(Gaussian(), Points(), steps=3, batch=8, device="cpu")  # a trial of precisions included
    assert torch.equal(torch.randn(2), expected)


@pytest.mark.parametrize("family", [Gaussian, TwoPlayers])
@pytest.mark.parametrize("pause", [1, 13, 20])
def test_a_run_in_two_goes_is_the_run_in_one(tmp_path, family, pause):
    options = {"steps": 30, "batch": 8, "lr": 0.03, "accumulate": 2, "evaluate_every": 4, "log_every": 1}
    whole, parts = family(), family()
    fit(whole, Points(), out=tmp_path / "a", checkpoint_every=10, **options, **CPU)
    result = fit(parts, Points(), out=tmp_path / "b", checkpoint_every=10, stop=stop_at(pause), **options, **CPU)
    assert (result.stopped, result.step) == (True, pause)
    other, data = family(), Points()
    result = fit(other, data, out=tmp_path / "b", resume=True)
    assert (result.stopped, result.step) == (False, 30)
    assert data.asked[0] == pause  # the data are not read from the start
    assert same_weights(whole, other)
    assert events(tmp_path / "a", "step", "held_out") == events(tmp_path / "b", "step", "held_out")
    configs = [json.loads((tmp_path / run / "config.json").read_text()) for run in "ab"]
    assert configs[0] == configs[1]


def test_a_killed_run_forgets_the_steps_after_its_checkpoint(tmp_path):
    out = tmp_path / "run"
    options = {"steps": 20, "batch": 8, "log_every": 1, "checkpoint_every": 5}

    class Killed(BaseException):
        pass

    def kill(event):
        if event["event"] == "step" and event["step"] == 8:
            raise Killed

    with suppress(Killed):
        fit(Gaussian(), Points(), out=out, on_event=kill, **options, **CPU)
    with (out / "log.jsonl").open("a") as log:
        log.write('{"event": "step", "st')  # the machine stopped in the middle of a line
    fit(Gaussian(), Points(), out=out, resume=True)
    assert [event["step"] for event in events(out, "step")] == list(range(1, 21))


def test_a_budget_counts_the_time_of_every_sitting(tmp_path):
    out, lrs = tmp_path / "run", []

    def listener(event):
        if event["event"] == "step":
            lrs.append((event["elapsed"], event["lr"]))

    options = {"budget": 1.0, "batch": 8, "lr": 0.01, "decay": 1.0, "samples": 0}
    halfway = lambda: bool(lrs) and lrs[-1][0] > 0.5  # noqa: E731
    first = fit(Gaussian(), Points(), out=out, stop=halfway, on_event=listener, **options, **CPU)
    assert first.stopped
    second = fit(Gaussian(), Points(), out=out, resume=True, on_event=listener)
    assert not second.stopped
    assert 1.0 <= second.elapsed < 1.5
    late = [(elapsed, lr) for elapsed, lr in lrs if elapsed > 0.2]
    assert all(lr == pytest.approx(0.01 * (1 - elapsed), abs=2e-3) for elapsed, lr in late)  # it follows the clock
    with pytest.raises(InputError, match=r"has already had 1s; give more, such as --budget 2s"):
        fit(Gaussian(), Points(), out=out, resume=True)


def test_a_finished_run_is_extended_with_a_new_warm_up(tmp_path):
    out, lrs = tmp_path / "run", {}
    fit(Gaussian(), Points(), out=out, steps=20, batch=8, lr=0.01, warmup=4, **CPU)
    with pytest.raises(InputError, match=r"already had 20 steps; give more, such as --steps 40"):
        fit(Gaussian(), Points(), out=out, resume=True)
    with pytest.raises(InputError, match="already had 20 steps"):
        fit(Gaussian(), Points(), out=out, resume=True, steps=20)

    def listener(event):
        if event["event"] == "step":
            lrs[event["step"] - 1] = event["lr"]

    result = fit(Gaussian(), Points(), out=out, resume=True, steps=200, on_event=listener)
    assert result.step == 200
    assert lrs[20] == pytest.approx(0.01 / 4)
    assert lrs[23] == pytest.approx(0.01)
    assert lrs[199] == pytest.approx(0.01 / 200 / 0.7)
    assert json.loads((out / "config.json").read_text())["training"]["steps"] == 200


def test_another_run_starts_from_the_average_of_one(tmp_path):
    trained = Gaussian()
    fit(trained, Points(), out=tmp_path / "a", steps=20, batch=8, lr=0.05, **CPU)
    model = Gaussian()
    fit(model, Points(), steps=1, batch=8, lr=1e-12, init=tmp_path / "a", **CPU)
    torch.testing.assert_close(model.net.mean, trained.net.mean, rtol=0, atol=1e-9)
    assert int(model.seen) == 1  # what is no player's is not taken over
    with pytest.raises(InputError, match=r"tensor net.mean is \(1, 2\) there and \(1, 3\) here"):
        fit(Gaussian(size=3), Points(), steps=1, init=tmp_path / "a", **CPU)


def test_a_run_is_not_resumed_with_another_model_or_other_data(tmp_path):
    fit(Gaussian(), Points(), out=tmp_path / "a", steps=9, batch=8, stop=stop_at(4), **CPU)
    with pytest.raises(InputError, match=r"another model \(model.size was 2 and is now 3\)"):
        fit(Gaussian(size=3), Points(), out=tmp_path / "a", resume=True)
    with pytest.raises(InputError, match="fingerprint"):
        fit(Gaussian(), Points(fingerprint="others"), out=tmp_path / "a", resume=True)


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
    assert {"steps", "budget", "parameters", "batch", "precision", "device", "out", "resumed_at"} <= seen[0].keys()
    assert {"loss", "rate", "elapsed", "left", "lr", "skipped"} <= seen[1].keys()
    assert seen[0]["parameters"] == 4
    assert seen[-1]["reason"] == "done"
    assert sorted(p.name for p in (out / "samples").iterdir()) == ["step-000006.png", "step-000012.png"]
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
        assert choose_precision(device, trial) == choice
        assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
        assert all(p.grad is None for p in model.parameters())


def test_what_cannot_be_compiled_runs_as_it_is(monkeypatch):
    module = nn.Linear(2, 2)

    def failing(self, *args, **kwargs):
        self._compiled_call_impl = lambda *inputs: (_ for _ in ()).throw(RuntimeError("no compiler"))

    monkeypatch.setattr(nn.Module, "compile", failing)

    def attempt(precision):
        return module(torch.zeros(1, 2))

    with compiled([module], attempt, "float32") as worked:
        assert not worked
        module(torch.zeros(1, 2))
    monkeypatch.setattr(nn.Module, "compile", lambda self: setattr(self, "_compiled_call_impl", self._call_impl))
    with compiled([module], attempt, "float32") as worked:
        assert worked
    assert module._compiled_call_impl is None


def test_the_default_precision_and_batch_are_recorded(tmp_path):
    fit(Gaussian(), Points(), out=tmp_path / "run", steps=2, device="cpu")
    recorded = json.loads((tmp_path / "run" / "config.json").read_text())["training"]
    assert recorded["precision"] in ("float32", "bfloat16")
    assert recorded["batch"] == 256
    assert (recorded["device"], recorded["steps"], recorded["budget"]) == ("cpu", 2, None)
