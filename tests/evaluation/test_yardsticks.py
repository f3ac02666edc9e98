"""Planted samplers: what is wrong with them is known, and the right yardstick says so while the others do not."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from undiffuse.data import load
from undiffuse.errors import InputError
from undiffuse.evaluation.drawn import counted, draw
from undiffuse.evaluation.facts import as_fact, coverage_facts
from undiffuse.evaluation.features.trained import Trained
from undiffuse.evaluation.references import Side, refer
from undiffuse.evaluation.yardsticks import measure, quick, sampled, tables
from undiffuse.interfaces import Player
from undiffuse.models.base import GenerativeModel

rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def planted():
    """A reference of digits by their pixels whose held-out rows are 449, and 449 others that nobody has seen."""
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
    for name, figure in {**honest.quality, **honest.coverage}.items():
        assert figure.low - 3 * figure.stderr <= figure.floor <= figure.high + 3 * figure.stderr, (
            name
        )
    assert not honest.memorization.caught
    assert honest.modes.missing == ()
    assert honest.coverage["coverage"].value > 0.9


def test_copies_are_caught_while_their_quality_looks_perfect(planted, honest):
    reference, _ = planted
    found = measured(reference.training.rows[:449], reference)
    assert found.memorization.caught
    assert found.memorization.copies.value == 1.0
    assert all(pair.distance == 0 for pair in found.memorization.pairs)
    assert all(found.quality[name].ties(honest.quality[name]) for name in ("frechet", "precision"))


def test_dropped_classes_cost_coverage_and_not_precision(planted, honest):
    reference, unseen = planted
    dropped = [0, 2, 6, 7]
    found = measured(unseen.rows[~np.isin(unseen.labels, dropped)], reference)
    assert list(found.modes.missing) == dropped
    assert found.modes.reached.value == 6
    assert found.coverage["coverage"].high < honest.coverage["coverage"].low
    assert found.coverage["recall"].high < honest.coverage["recall"].low
    assert found.quality["precision"].value > honest.quality["precision"].value - 0.05
    assert found.quality["frechet"].low > honest.quality["frechet"].high
    assert found.modes.variation.value == pytest.approx(0.4, abs=0.1)


def test_noise_costs_precision(planted, honest):
    reference, unseen = planted
    noisy = np.clip(unseen.rows + rng.integers(-8, 9, unseen.rows.shape), 0, 16).astype(
        unseen.rows.dtype
    )
    found = measured(noisy, reference)
    assert found.quality["precision"].high < honest.quality["precision"].low
    assert found.quality["frechet"].low > honest.quality["frechet"].high
    assert not found.memorization.caught


def test_the_quick_look_is_the_same_as_the_thorough_one(planted, honest):
    reference, unseen = planted
    found = quick(sampled(unseen.rows, reference), reference)
    assert found == {name: honest.quality[name] for name in ("frechet", "precision")}


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
    for figure in (*found.quality.values(), *found.coverage.values()):
        assert np.isfinite(figure.value)
        assert "rows" in figure.warning


def test_fewer_samples_than_features_are_said():
    reference = refer(load(rng.normal(size=(300, 30))))
    found = measured(rng.normal(size=(30, 30)), reference)
    assert (
        "30 rows for 30 features: too few for a Frechet distance"
        in found.quality["frechet"].warning
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
    honest, wrong = (tables(sampled(rows, reference), reference) for rows in (unseen, shuffled))
    assert list(honest["columns"]) == ["a", "b", "associations"]
    for name, figure in wrong["columns"].items():
        assert figure.value == honest["columns"][name].value
    assert wrong["associations"].high < honest["associations"].low
    assert honest["detection"].low < 0.5 < honest["detection"].high
    assert wrong["detection"].low > 0.7
    assert list(wrong["usefulness"]) == ["associations"]
    assert wrong["usefulness"]["associations"].high < honest["usefulness"]["associations"].low
    facts = as_fact(honest)
    assert [facts["columns"]["associations"]["better"], facts["detection"]["better"]] == [
        "higher",
        "lower",
    ]


def test_rows_that_are_no_table_have_no_columns(planted):
    reference, unseen = planted
    assert tables(sampled(unseen.rows[:50], reference), reference) is None


def test_classes_are_named_and_counted(planted, honest):
    reference, _ = planted
    facts = coverage_facts(honest, reference.classes)
    assert [line["name"] for line in facts["classes"]] == list("0123456789")
    assert sum(line["share"]["value"] for line in facts["classes"]) == pytest.approx(1)
    assert sum(line["real"] for line in facts["classes"]) == pytest.approx(1)
    assert facts["coverage"]["modes"]["floor"] == 10


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
    assert found.rate.value == pytest.approx(20 / sum(seconds for _, seconds in found.batches))
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
    for file in tmp_path.rglob("*.npz"):
        file.write_bytes(file.read_bytes()[:100])
    np.testing.assert_array_equal(draw(model, 10, tmp_path, options={}, seed=0).rows, first.rows)
    with torch.no_grad():
        model.net.weight += 1
    draw(model, 10, tmp_path, options={}, seed=0)
    assert len(list(tmp_path.iterdir())) == 4
