"""Planted samplers: what is wrong with them is known, and the right figure alone says so."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

from undiffuse.data import load
from undiffuse.errors import InputError
from undiffuse.evaluation.drawn import Drawn
from undiffuse.evaluation.features.trained import Trained
from undiffuse.evaluation.metrics import METRICS
from undiffuse.evaluation.references import Side, refer
from undiffuse.evaluation.yardsticks import measure, quality_by_steps, quick, sampled, tables

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
