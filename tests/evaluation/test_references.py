"""References: the rows of the split, gone the way that samples go; and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from undiffuse.data import Data, conform, load, restore
from undiffuse.errors import InputError
from undiffuse.evaluation.features import trained
from undiffuse.evaluation.features.abstract import Raw
from undiffuse.evaluation.references import refer, refer_to_others

rng = np.random.default_rng(0)
VECTORS = rng.normal(size=(200, 3)) @ np.array([[3.0, 0, 0], [1, 1, 0], [0, 0, 9]])


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(trained, "FIT_STEPS", 150)


def test_both_sides_are_those_of_the_split_and_go_the_way_of_samples():
    data = load("digits")
    reference = refer(data, features="raw", most=300)
    held_out, training = data.held_out_batch(10**6), data.sample_batch(300)
    np.testing.assert_array_equal(reference.held_out.rows, held_out["row"])
    assert torch.equal(reference.held_out.labels, held_out["label"])
    np.testing.assert_array_equal(reference.training.rows, training["row"])
    assert torch.equal(reference.training.labels, training["label"])
    centres, _ = data.transform.encode(held_out["row"], torch.zeros_like)
    assert torch.equal(reference.encode(reference.held_out.rows), centres)
    assert torch.equal(reference.held_out.features, Raw()(centres))
    assert torch.equal(reference.features_of(reference.held_out.rows), reference.held_out.features)
    assert (reference.training_rows, reference.held_out_rows) == (1617, 180)


@pytest.mark.parametrize(("size", "noted"), [(1, False), (4, True)])
def test_rows_of_one_origin_are_noted_where_there_are_several(size, noted):
    loaded = replace(load(VECTORS).loaded, groups=np.arange(len(VECTORS)) // size)
    assert any("one origin" in note for note in refer(Data(loaded)).notes) == noted


def test_features_are_fitted_on_training_rows_alone():
    reference = refer(load(VECTORS, held_out=100))
    assert reference.features.name == "whitened"
    torch.testing.assert_close(reference.training.features.T.cov(), torch.eye(3).double())
    moved = VECTORS.copy()
    data = load(VECTORS, held_out=100)
    moved[data.split.held_out(np.arange(100))] += 1
    assert refer(load(moved, held_out=100)).features.hash == reference.features.hash


def test_classes_are_told_by_the_features_or_by_a_classifier_of_its_own():
    reference = refer(load("digits"), most=800)
    assert reference.classifier is reference.features
    right = reference.classes_of(reference.held_out.rows) == reference.held_out.labels
    assert right.double().mean() > 0.8
    labels = (VECTORS[:, 0] > 0).astype(int)
    vectors = refer(load((VECTORS, labels)))
    assert vectors.features.name == "whitened"
    assert (
        vectors.classes_of(vectors.held_out.rows) == vectors.held_out.labels
    ).double().mean() > 0.8
    assert refer(load(VECTORS)).classifier is None


def test_one_class_alone_tells_nothing():
    images = load("digits").train[:120]
    reference = refer(load((images, np.zeros(120, int))))
    assert reference.features.name == "autoencoder"
    assert (reference.classifier, reference.classes) == (None, ())


def test_rows_of_tables_are_numbers_before_they_are_compared():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(
        {"a": VECTORS[:, 0], "b": np.where(VECTORS[:, 1] > 0, "x", "y"), "c": VECTORS[:, 2]}
    )
    frame.loc[::9, "a"] = np.nan
    reference = refer(load(frame))
    assert reference.held_out.rows.shape == (20, 3)
    assert torch.isfinite(reference.held_out.features).all()
    assert reference.form.column_sizes == {"a": 0, "b": 2, "c": 0}


def test_too_few_held_out_rows_are_refused():
    with pytest.raises(
        InputError, match="7 held-out rows are too few to compare with; have at least 8"
    ):
        refer(load(VECTORS, held_out=7))


def test_other_rows_are_halved_between_features_and_figures():
    config = load(VECTORS).config()
    others = VECTORS[:100] + 5
    reference = refer_to_others(conform(others, config), *restore(config))
    assert reference.training is None
    assert "copies of training rows cannot be told" in reference.notes[0]
    assert len(reference.held_out) == 50
    own = {row.tobytes() for row in others}
    assert len({row.tobytes() for row in reference.held_out.rows} & own) == 50
    rest = np.array(
        [
            row
            for row in others
            if row.tobytes() not in {r.tobytes() for r in reference.held_out.rows}
        ]
    )
    torch.testing.assert_close(reference.features_of(rest).T.cov(), torch.eye(3).double())
    with pytest.raises(InputError, match="15 rows are too few"):
        refer_to_others(conform(others[:15], config), *restore(config))


def test_other_rows_with_a_problem_are_left_out():
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"a": VECTORS[:, 0], "b": ["x", "y"] * 100})
    config = load(frame).config()
    new = frame.copy()
    new.loc[:9, "b"] = "z"
    reference = refer_to_others(conform(new, config), *restore(config))
    assert len(reference.held_out) == 95
    assert "10 rows" in reference.notes[1]


def test_what_a_split_leaves_out_is_said():
    rows = np.random.default_rng(0).normal(size=(200, 3))
    assert refer(load(rows)).notes == ()
    assert refer(load(rows), most=100).notes == (
        "copies are looked for among 100 of the 180 training rows alone",
    )
