"""A run with a budget ends when it is over: looks are short, and the end is planned for."""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise

import pytest
import torch
from torch import nn
from training_fakes import Form, Gaussian, Points

import undiffuse as ud
from undiffuse.errors import InputError
from undiffuse.nn import MLP
from undiffuse.training import clock as clock_module
from undiffuse.training import fit, look, schedule, sizing
from undiffuse.training.checkpoint import RunFolder
from undiffuse.training.look import largest

fit_module = sys.modules[fit.__module__]
CPU = {"device": "cpu", "precision": "float32", "batch": 8}


class Clock:
    """A clock that moves only when work is done."""

    def __init__(self, fixed: float, each: float) -> None:
        self.now, self.fixed, self.each, self.calls = 0.0, fixed, each, []

    def perf_counter(self) -> float:
        return self.now

    def work(self, rows: int) -> None:
        self.calls.append(rows)
        self.now += self.fixed + self.each * rows


@pytest.mark.parametrize(
    ("fixed", "each", "calls", "found"),
    [
        (0.0, 0.001, [1], 256),  # all fit
        (0.0, 0.1, [1, 2, 4], 4),  # in 0.7 s: there is no time left to try 8
        (0.05, 0.001, [1, 2, 4, 8, 16, 32], 256),  # mostly a cost per call
        (0.0, 0.01, [1, 2, 4, 8, 16, 32], 32),
        (0.4, 0.1, [1], 1),
        (0.0, 1.1, [1], 0),  # nothing fits
    ],
)
def test_the_most_rows_that_fit_are_found_in_about_the_time_they_take(
    monkeypatch, fixed, each, calls, found
):
    clock = Clock(fixed, each)
    monkeypatch.setattr(look, "time", clock)
    assert largest(clock.work, 256, 1.0) == found
    assert clock.calls == calls
    assert clock.now <= max(1.0, fixed + each)


@pytest.mark.parametrize(
    ("first", "then", "calls", "found"),
    [
        (4.0, 0.5, 2, 1),  # what happens only once may be why it took so long
        (4.0, 4.0, 2, 0),
        (6.5, 0.5, 1, 0),  # it cannot: one try is enough
        (0.4, 0.4, 1, 1),  # it need not
    ],
)
def test_the_first_call_may_pay_for_what_happens_only_once(monkeypatch, first, then, calls, found):
    clock = Clock(0.0, 0.0)

    def work(rows):
        clock.work(rows)
        clock.now += first if len(clock.calls) == 1 else then

    monkeypatch.setattr(look, "time", clock)
    assert largest(work, 256, 1.0, 5.0) == found
    assert len(clock.calls) == calls


@pytest.mark.parametrize(("slow", "found"), [(1, 0), (2, 1), (8, 4)])
def test_what_is_given_up_on_the_way_is_not_among_what_fits(monkeypatch, slow, found):
    clock = Clock(0.0, 0.01)

    def work(rows):
        clock.work(rows)
        if rows == slow:
            raise look._TooLong

    monkeypatch.setattr(look, "time", clock)
    assert largest(work, 256, 1.0) == found


class Slow(Gaussian):
    """Two milliseconds a row, forward, in training and at each of ten noise levels."""

    def losses(self, x, **cond):
        time.sleep(0.002 * len(x))
        yield from super().losses(x, **cond)

    looking = 0.0  # seconds spent on looks
    drawn = 0  # samples of the latest picture

    def _look(self, seconds):
        start = time.perf_counter()
        time.sleep(seconds)
        self.looking += time.perf_counter() - start

    def diagnostics(self, x, **cond):
        self._look(0.02 * len(x))
        return super().diagnostics(x, **cond)

    def draw(self, n, *, noise, callback=None, **options):
        self._look(0.02 * n)
        self.drawn = max(self.drawn, n)
        return super().draw(n, noise=noise, **options)


def test_a_budget_is_kept_though_looks_are_slow(tmp_path):
    """At full size each look would take 1 s of rows and 0.3 s of samples: half of the budget.

    One percent of it, 0.03 s, is two rows at most, and no time for a picture.
    """
    fit(
        Slow(), Points(form=Form()), out=tmp_path / "first", steps=1, **CPU
    )  # what is imported late, is by now
    seen = []
    model = Slow()
    fit(model, Points(form=Form()), out=tmp_path / "run", budget=3.0, on_event=seen.append, **CPU)
    steps = [event for event in seen if event["event"] == "step"]
    assert seen[-1]["elapsed"] == pytest.approx(3.0, rel=0.1)
    assert seen[-1]["reason"] == "done"
    assert steps[-1]["lr"] < 0.05 * max(
        event["lr"] for event in steps
    )  # the rate ends at zero, in time
    assert 0 < model.looking < 0.3 * 3.0  # the time went into training
    assert [event["event"] for event in seen[-3:]] == ["held_out", "checkpoint", "end"]
    assert model.drawn == 0


def test_a_picture_has_as_many_samples_as_its_time_allows(tmp_path, monkeypatch):
    """Of 0.2 s for a look, half is for the picture: of four samples at most, which take 0.08 s."""
    monkeypatch.setattr(fit_module, "LOOK_SHARE", 0.1)
    model, seen = Slow(), []
    fit(model, Points(form=Form()), out=tmp_path / "run", budget=2.0, on_event=seen.append, **CPU)
    assert seen[-3]["event"] == "samples"
    assert 1 <= model.drawn <= 4
    assert seen[-1]["elapsed"] == pytest.approx(2.0, rel=0.1)


class Deep(Slow):
    """A sample takes 200 calls of a layer of 0.02 s each."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Identity()

    def draw(self, n, *, noise, callback=None, **options):
        for _ in range(200):
            self.layer(noise(torch.empty(n, 2)))
            time.sleep(0.02)
            self.drawn += 1
        return super().draw(n, noise=noise)


def test_sampling_that_takes_longer_than_a_picture_may_is_given_up(tmp_path, monkeypatch):
    """After twice the 0.1 s that are allowed, and for good."""
    monkeypatch.setattr(fit_module, "LOOK_SHARE", 0.1)
    model, seen = Deep(), []
    fit(model, Points(form=Form()), out=tmp_path / "run", budget=2.0, on_event=seen.append, **CPU)
    assert 1 <= model.drawn <= 11
    assert "samples" not in {event["event"] for event in seen}
    assert len([event for event in seen if event["event"] == "held_out"]) >= 4


SAVED = [
    ("0.1 s each", 0.1, {}, 0.0, 120 / 16 + 1),  # so often as 16 times in a run
    ("3 s each", 3.0, {}, 60.0, 60 + 120 / 16 + 1),  # no more than a twentieth of the time
    ("as asked", 3.0, {"checkpoint_every": 10}, 10.0, 10 + 3.0),  # whatever it costs
]


@pytest.mark.parametrize(("cost", "options", "least", "most"), [one[1:] for one in SAVED])
def test_a_short_run_that_is_killed_loses_little(tmp_path, monkeypatch, cost, options, least, most):
    """Steps of a second, for two minutes: the seconds from one checkpoint to the next."""
    now = Clock(0.0, 1.0)
    for module in (fit_module, clock_module, look):
        monkeypatch.setattr(module, "time", now)

    class Steady(Gaussian):
        def losses(self, x, **cond):
            now.work(1)
            yield from super().losses(x, **cond)

    inner, times = RunFolder.save, [0.0]

    def save(*given, **named):
        now.now += cost
        times.append(now.now)
        return inner(*given, **named)

    monkeypatch.setattr(RunFolder, "save", save)
    fit(Steady(), Points(), out=tmp_path / "run", budget=120.0, samples=0, **options, **CPU)
    gaps = [after - before for before, after in pairwise(times)]
    assert max(gaps) <= most
    assert min(gaps[1:-1]) >= least  # the first shows what it costs, the last is at the end


class Choosing(Slow):
    """At the end it takes as long as 900 evaluations of a row, of which a step of 8 rows has 24."""

    conclusion = 900

    def conclude(self, source, *, stop):
        time.sleep(0.6)
        return True


def test_what_the_model_chooses_at_the_end_is_in_the_budget(tmp_path):
    fit(Choosing(), Points(), out=tmp_path / "first", steps=1, **CPU)
    result = fit(Choosing(), Points(), out=tmp_path / "run", budget=2.0, **CPU)
    assert 1.5 < result.elapsed < 2.2  # without it set aside: 2.6


def test_a_run_that_ended_just_before_its_time_has_had_its_budget(tmp_path):
    out = tmp_path / "run"
    fit(Slow(), Points(), out=out, budget=0.5, **CPU)
    with pytest.raises(InputError, match="has already had"):
        fit(Slow(), Points(), out=out, resume=True)
    longer = fit(Slow(), Points(), out=out, resume=True, budget=1.5)
    assert longer.elapsed == pytest.approx(1.5, rel=0.15)


def test_the_share_of_one_look_leaves_room_for_more_in_the_share_of_all():
    assert 4 * schedule.LOOK_SHARE < schedule.EVALUATION_SHARE


def test_a_run_with_a_budget_has_the_width_it_can_train_and_keeps_it(tmp_path, monkeypatch):
    """In its record; not where steps or the width are given, nor again once it has weights."""
    rows = torch.randn(64, 2, generator=torch.Generator().manual_seed(0)).numpy()
    said: list[str] = []

    def run(model, out, **options):
        def listen(event):
            said.append(event["said"]) if event["event"] == "sized" else None

        fit(model, rows, out=out, on_event=listen, samples=0, **CPU, **options)
        config = json.loads((out / "config.json").read_text())
        return config["model"]["network"]["width"], config.get("sizing")

    usual = run(ud.edm(), tmp_path / "steps", steps=1)[0]
    narrow, wide = MLP.ladder((2,))[0], MLP.ladder((2,))[-1]
    assert run(ud.edm(width=8), tmp_path / "given", budget=0.1) == (8, None)
    assert not said
    monkeypatch.setattr(sizing, "SHARE", 1e9)
    monkeypatch.setattr(sizing, "NUMBERS", 0.0)
    assert run(ud.edm(rows), tmp_path / "wide", budget=0.1)[0] == wide == usual
    monkeypatch.setattr(sizing, "NUMBERS", 1e12)
    width, found = run(model := ud.edm(), tmp_path / "narrow", budget=0.1)
    assert width == found["width"] == narrow
    assert len(said) == 2
    assert said[1].startswith(f"network of width {narrow}, for some ")
    monkeypatch.setattr(sizing, "NUMBERS", 0.0)
    before = model.network
    assert run(model, tmp_path / "again", budget=0.1) == (narrow, None)
    assert model.network is before
    resumed = ud.open(tmp_path / "narrow")
    assert run(resumed, tmp_path / "narrow", steps=40, resume=True)[0] == narrow
    assert len(said) == 2
