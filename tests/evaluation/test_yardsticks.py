"""Planted samplers: what is wrong with them is known, and the right figure alone says so."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from undiffuse.data import load
from undiffuse.errors import InputError
from undiffuse.evaluation.drawn import Drawn, counted, draw, time_singles
from undiffuse.evaluation.features.trained import Trained
from undiffuse.evaluation.metrics import METRICS
from undiffuse.evaluation.references import Side, refer
from undiffuse.evaluation.yardsticks import measure, quality_by_steps, quick, sampled, tables
from undiffuse.interfaces import Player
from undiffuse.models.base import GenerativeModel

rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def planted():
    """A reference of digits by their pixels with 449 held-out rows, and 449 unseen others."""
    data = load("digits")
    reference = refer(
        load(data.loaded.rows.take(np.arange(len(data.labels))), held_out=898), features="raw"
    )
    split = load("digits", held_out=898).split
    known, labels = (
        torch.from_numpy(data.labels[side(np.arange(898))])
        for side in (split.training, split.held_out)
    )
    classifier = Trained(reference.encode(reference.training.rows)[:898], known, steps=200)
    side = reference.held_out
    parts = [
        Side(rows=side.rows[i], features=side.features[i], labels=labels[i])
        for i in (slice(0, 449), slice(449, 898))
    ]
    whole = dataclasses.replace(
        reference, held_out=parts[0], classifier=classifier, classes=data.classes
    )
    return whole, parts[1]


def measured(rows: np.ndarray, reference) -> Any:
    return measure(sampled(rows, reference), reference)


@pytest.fixture(scope="module")
def honest(planted):
    reference, unseen = planted
    return measured(unseen.rows, reference)


def test_real_rows_sit_at_their_floor(honest):
    for name, figure in honest.figures.items():
        if name in ("modes", "copies"):
            continue
        assert figure.low - 3 * figure.stderr <= figure.floor <= figure.high + 3 * figure.stderr, (
            name
        )
    assert not honest.memorization.caught
    assert honest.modes.missing == ()
    assert honest.figures["coverage"].value > 0.9


def test_copies_are_caught_while_their_quality_looks_perfect(planted, honest):
    reference, _ = planted
    found = measured(reference.training.rows[:449], reference)
    assert found.memorization.caught
    assert found.memorization.copies.value == 1.0
    assert all(pair.distance == 0 for pair in found.memorization.pairs)
    assert all(found.figures[name].ties(honest.figures[name]) for name in ("frechet", "precision"))


def test_dropped_classes_cost_coverage_and_not_precision(planted, honest):
    reference, unseen = planted
    dropped = [0, 2, 6, 7]
    found = measured(unseen.rows[~np.isin(unseen.labels, dropped)], reference)
    assert list(found.modes.missing) == dropped
    assert found.modes.reached.value == 6
    assert found.figures["coverage"].high < honest.figures["coverage"].low
    assert found.figures["recall"].high < honest.figures["recall"].low
    assert found.figures["precision"].value > honest.figures["precision"].value - 0.05
    assert found.figures["frechet"].low > honest.figures["frechet"].high
    assert found.modes.variation.value == pytest.approx(0.4, abs=0.1)


def test_noise_costs_precision(planted, honest):
    reference, unseen = planted
    noisy = np.clip(unseen.rows + rng.integers(-8, 9, unseen.rows.shape), 0, 16).astype(
        unseen.rows.dtype
    )
    found = measured(noisy, reference)
    assert found.figures["precision"].high < honest.figures["precision"].low
    assert found.figures["frechet"].low > honest.figures["frechet"].high
    assert not found.memorization.caught


def test_the_quick_look_is_the_same_as_the_thorough_one(planted, honest):
    reference, unseen = planted
    found = quick(sampled(unseen.rows, reference), reference)
    assert found == {name: honest.figures[name] for name in ("frechet", "precision")}


def test_samples_that_are_no_numbers_are_left_out_or_refused():
    x = rng.normal(size=(300, 2))
    reference = refer(load(x))
    broken = x[:40].copy()
    broken[5:8] = np.nan
    found = sampled(broken, reference)
    assert (len(found), found.lost) == (37, 3)
    np.testing.assert_array_equal(found.rows, np.delete(broken, [5, 6, 7], 0))
    broken[:34] = np.nan
    with pytest.raises(
        InputError, match="34 of 40 hold values that are no numbers, too many to compare"
    ):
        sampled(broken, reference)
    with pytest.raises(InputError, match="7 are too few to compare; draw at least 8"):
        sampled(x[:7], reference)


@pytest.mark.parametrize(("held_out", "n"), [(8, 8), (11, 500), (40, 9)])
def test_few_rows_give_figures_with_warnings(held_out, n):
    reference = refer(load(rng.normal(size=(100, 2)), held_out=held_out))
    found = measured(rng.normal(size=(n, 2)), reference)
    for name, figure in found.figures.items():
        if METRICS[name].section == "memorization":
            continue
        assert np.isfinite(figure.value)
        assert "rows" in figure.warning


def test_fewer_samples_than_features_are_said():
    reference = refer(load(rng.normal(size=(300, 30))))
    found = measured(rng.normal(size=(30, 30)), reference)
    assert (
        "30 rows for 30 features: too few for a Frechet distance"
        in found.figures["frechet"].warning
    )


def test_tables_are_asked_what_tables_are_asked():
    """Columns shuffled on their own keep each column and lose what ties them."""
    pd = pytest.importorskip("pandas")
    a = rng.normal(size=900)
    b = a + 0.3 * rng.normal(size=900)
    frame = pd.DataFrame({"a": a, "b": b, "associations": np.where(a > 0, "x", "y")})
    reference = refer(load(frame, held_out=600))
    side = reference.held_out
    real, unseen = side.rows[:300], side.rows[300:]
    reference = dataclasses.replace(
        reference, held_out=Side(rows=real, features=side.features[:300], labels=None), classes=()
    )
    shuffled = np.column_stack([rng.permutation(column) for column in unseen.T])
    honest, wrong = (measured(rows, reference).figures for rows in (unseen, shuffled))
    assert list(honest["columns"]) == ["a", "b", "associations"]
    for name, figure in wrong["columns"].items():
        assert figure.value == honest["columns"][name].value
    assert wrong["associations"].high < honest["associations"].low
    assert honest["detection"].low < 0.5 < honest["detection"].high
    assert wrong["detection"].low > 0.7
    assert list(wrong["usefulness"]) == ["associations"]
    assert wrong["usefulness"]["associations"].high < honest["usefulness"]["associations"].low
    facts = measured(unseen, reference).facts(())["table"]
    assert facts["columns"]["associations"]["better"] == "higher"


def test_rows_that_are_no_table_have_no_columns(planted):
    reference, unseen = planted
    assert tables(sampled(unseen.rows[:50], reference), reference) is None


def test_classes_are_named_and_counted(planted, honest):
    reference, _ = planted
    facts = honest.facts(reference.classes)
    assert [line["name"] for line in facts["classes"]] == list("0123456789")
    assert sum(line["share"]["value"] for line in facts["classes"]) == pytest.approx(1)
    assert sum(line["real"] for line in facts["classes"]) == pytest.approx(1)
    assert facts["coverage"]["modes"]["floor"] == 10


# --- quality against evaluations

PER_STEP = 2.0


@pytest.fixture(scope="module")
def vectors():
    return refer(load(rng.normal(size=(400, 2)), held_out=100))


def in_steps(n: int, steps: int) -> Drawn:
    """Samples that are better the more steps there are, at two evaluations a step."""
    rows = rng.normal(size=(n, 2)) + 8 / steps
    return Drawn(rows=rows, evaluations=PER_STEP * steps, batches=((n, 1.0),))


@pytest.mark.parametrize(
    ("own", "drawn_too"),
    [
        (18, [36, 9, 4]),  # 72 + 18 + 8 evaluations
        (4, [8, 2]),  # one step is no path
        (40, [20, 10, 5]),  # twice as many would cost 160 of the 120 there are
        (1000, [31, 15, 7]),  # 62 + 30 + 14
        (1, [2]),
    ],
)
def test_settings_lie_around_the_one_in_use_and_cost_no_more_than_allowed(vectors, own, drawn_too):
    asked: list[tuple[int, int]] = []

    def draw(n: int, steps: int) -> Drawn:
        asked.append((n, steps))
        return in_steps(n, steps)

    whole = in_steps(60, own)
    lines = quality_by_steps(whole, own, math.inf, draw, vectors)
    assert asked == [(60, steps) for steps in drawn_too]
    assert [line["steps"] for line in lines] == sorted([own, *drawn_too])
    assert [line["evaluations"] for line in lines] == [PER_STEP * line["steps"] for line in lines]
    values = quick(sampled(whole.rows, vectors), vectors)
    mine = next(line for line in lines if line["steps"] == own)
    assert mine["frechet"]["value"] == values["frechet"].value
    assert mine["precision"]["better"] == "higher"


def test_the_better_setting_shows(vectors):
    lines = quality_by_steps(in_steps(60, 18), 18, math.inf, in_steps, vectors)
    assert lines[0]["frechet"]["low"] > lines[-1]["frechet"]["high"]


def test_a_family_that_draws_in_one_pass_has_no_settings(vectors):
    assert quality_by_steps(in_steps(60, 1), None, math.inf, in_steps, vectors) == []


def test_a_setting_that_the_model_does_not_take_is_left_out(vectors):
    def draw(n: int, steps: int) -> Drawn:
        assert steps <= 18
        found = in_steps(n, steps)
        if steps == 4:
            found.rows[:] = np.nan
        return found

    lines = quality_by_steps(in_steps(60, 18), 18, 18, draw, vectors)
    assert [line["steps"] for line in lines] == [2, 9, 18]


def test_stopping_stops(vectors):
    assert quality_by_steps(in_steps(60, 18), 18, math.inf, lambda n, steps: None, vectors) is None


# --- drawing


class Passes(GenerativeModel):
    """Asks its network `passes` times for each batch; a sample is noise of its own number."""

    def __init__(self, passes: int) -> None:
        super().__init__()
        self.net, self.passes, self.drawn = nn.Linear(2, 2), passes, 0
        self.transform = load(rng.normal(size=(50, 2))).transform

    def prepare(self, source: Any) -> None: ...

    def players(self) -> dict[str, Player]:
        return {"net": Player(self.net), "idle": Player(nn.Linear(1, 1))}

    def losses(self, x: Tensor, **cond: Tensor) -> Iterator[tuple[str, Tensor]]:
        yield "net", x.sum()

    def draw(self, n: int, *, noise: Any, method: str | None = None, **options: Any) -> Tensor:
        self.drawn += n
        x = noise(torch.empty(n, 2))
        for _ in range(self.passes):
            self.net(x)
        return x

    def diagnostics(self, x: Tensor, **cond: Tensor) -> dict[str, Any]:
        return {"loss": 0.0}

    def config(self) -> dict[str, Any]:
        return {}


def test_evaluations_are_counted_where_they_happen():
    model = Passes(passes=7)
    found = draw(model, 20, None, options={}, batch=8)
    assert found.evaluations == 7
    assert [size for size, _ in found.batches] == [8, 8, 4]
    assert draw(Passes(passes=0), 20, None, options={}, batch=8).evaluations == 1
    with counted(model) as count:
        model.net(torch.zeros(3, 2))
    model.net(torch.zeros(9, 2))
    assert count() == 3


def test_drawing_goes_on_where_it_was_stopped(tmp_path):
    model = Passes(passes=1)
    whole = model.sample_rows(50, seed=4)
    polls = iter([False, False, False, True])
    assert draw(model, 50, tmp_path, options={}, seed=4, batch=16, stop=lambda: next(polls)) is None
    before = model.drawn
    found = draw(model, 50, tmp_path, options={}, seed=4, batch=7)
    assert model.drawn - before == 50 - 32 + 1  # one to warm up
    np.testing.assert_array_equal(found.rows, whole)
    before = model.drawn
    np.testing.assert_array_equal(draw(model, 20, tmp_path, options={}, seed=4).rows, whole[:20])
    assert model.drawn == before
    np.testing.assert_array_equal(draw(model, 60, tmp_path, options={}, seed=4).rows[:50], whole)


def test_kept_samples_are_those_of_the_same_weights_sampler_and_seed_and_whole(tmp_path):
    model = Passes(passes=1)
    first = draw(model, 10, tmp_path, options={}, seed=0)
    assert not np.array_equal(draw(model, 10, tmp_path, options={}, seed=1).rows, first.rows)
    draw(model, 10, tmp_path, options={"method": "other"}, seed=0)
    assert len(list(tmp_path.iterdir())) == 3
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:-100])
    np.testing.assert_array_equal(draw(model, 10, tmp_path, options={}, seed=0).rows, first.rows)
    with torch.no_grad():
        model.net.weight += 1
    draw(model, 10, tmp_path, options={}, seed=0)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.fixture
def clock(monkeypatch):
    """A clock that a sample of `Passes` moves on by a quarter of a second."""
    now = [0.0]
    whole = Passes.draw

    def draw_slowly(self: Passes, n: int, **options: Any) -> Tensor:
        now[0] += n / 4
        return whole(self, n, **options)

    monkeypatch.setattr(Passes, "draw", draw_slowly)
    monkeypatch.setattr("undiffuse.evaluation.drawn.time.perf_counter", lambda: now[0])


def test_times_are_those_of_the_clock(clock, tmp_path):
    model = Passes(passes=1)
    found = draw(model, 20, tmp_path, options={}, batch=8)
    assert found.batches == ((8, 2.0), (8, 2.0), (4, 1.0))
    assert draw(model, 20, tmp_path, options={}).batches == found.batches
    assert time_singles(model, {}) == (0.25,) * 6
    assert model.drawn == 21 + 7  # one to warm up each time
    assert time_singles(model, {}, stop=lambda: True) is None


def test_samples_that_take_long_are_fewer(clock, monkeypatch):
    monkeypatch.setattr("undiffuse.evaluation.drawn._PATIENCE", 0.5)
    assert time_singles(Passes(passes=1), {}) == (0.25, 0.25)
