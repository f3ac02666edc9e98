"""The estimators keep scikit-learn's contracts, and are the models of this library."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import undiffuse as ud
from undiffuse.sklearn import DensityEstimator, Imputer, OutlierDetector

SMALL = {"steps": 4, "sizes": {"width": 8, "depth": 1}}
EXPECTED = {
    "check_methods_subset_invariance": "in float32 sums round differently beside other rows",
    "check_classifier_data_not_an_array": "a frame is modelled as a table, an array as vectors",
}
"""Checks of scikit-learn that are known to fail, each with its reason."""


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    random = np.random.default_rng(0)
    x = random.normal(size=(300, 1))
    return np.concatenate([x, 2 * x + 0.5 * random.normal(size=(300, 1))], 1)


@pytest.fixture(scope="module")
def fitted(rows) -> DensityEstimator:
    return DensityEstimator(**SMALL).fit(rows)


def test_scikit_learns_own_checks_pass():
    """Of the one that has most of them; tests/faults has the others."""
    estimator = OutlierDetector("flow", steps=1, sizes={"width": 8})
    found = check_estimator(estimator, on_fail=None, on_skip=None, expected_failed_checks=EXPECTED)
    failed = [one["check_name"] for one in found if one["status"] == "failed"]
    assert not failed
    assert sum(one["status"] == "passed" for one in found) >= 44


def test_an_estimator_is_the_model_of_the_same_seed(rows, fitted):
    data = ud.load(rows, seed=fitted.seed_)
    model = ud.edm(**SMALL["sizes"])
    model.fit(data, steps=4, seed=fitted.seed_, device="cpu", precision="float32")
    assert np.array_equal(model.log_prob(rows, seed=fitted.seed_), fitted.score_samples(rows))
    assert fitted.score(rows) == fitted.score_samples(rows).mean()
    seed = int(np.random.RandomState(7).randint(2**31 - 1))
    assert np.array_equal(fitted.sample(5, random_state=7), model.sample(5, seed=seed))


def test_neither_order_nor_subset_matters_to_what_is_random():
    """Of whole numbers, which are dequantized: each row's noise is that of its values."""
    whole = np.random.default_rng(1).integers(0, 4, (24, 2)).astype(np.uint8)
    model = ud.edm(width=8, depth=1).fit(whole, steps=1)
    nats = model.log_prob(whole, by_content=True)
    order = np.random.default_rng(2).permutation(24)[:10]
    again = model.log_prob(whole[order], by_content=True)
    assert again == pytest.approx(nats[order], abs=1e-4)
    assert model.log_prob(whole[order]) != pytest.approx(nats[order], abs=1e-4)
    same = [np.flatnonzero((whole == whole[0]).all(1))]
    assert nats[same] == pytest.approx(nats[0], abs=1e-4)


def test_gaps_of_an_array_are_filled_and_what_is_known_stays(rows, fitted):
    gaps = rows[:4].copy()
    gaps[0, 1] = gaps[2, 0] = np.nan
    whole = fitted.impute(gaps)
    assert np.isfinite(whole).all()
    known = np.isfinite(gaps)
    assert np.array_equal(whole[known], gaps[known])
    with pytest.raises(ValueError, match="NaN"):
        fitted.score_samples(gaps)


def test_a_pickle_holds_the_bytes_of_a_run_and_gives_the_same_scores(rows, fitted):
    text = pickle.dumps(fitted)
    assert b"config.json" in text
    assert b"weights.safetensors" in text
    assert b"undiffuse.models" not in text  # no class of a network is looked up when it is opened
    again = pickle.loads(text)
    assert np.array_equal(again.score_samples(rows[:40]), fitted.score_samples(rows[:40]))
    assert again.get_params() == fitted.get_params()
    assert not hasattr(clone(fitted), "model_")


def test_it_works_in_a_pipeline_and_a_grid_search(rows):
    pipeline = make_pipeline(StandardScaler(), DensityEstimator("flow", steps=2))
    grid = {"densityestimator__sizes": [{"width": 8}, {"width": 16}]}
    found = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(rows)
    assert found.best_params_["densityestimator__sizes"] in grid["densityestimator__sizes"]
    assert np.isfinite(found.cv_results_["mean_test_score"]).all()


def test_p_values_of_ordinary_rows_are_uniform_and_those_of_others_small(rows):
    detector = OutlierDetector("flow", steps=150, contamination=0.1).fit(rows)
    fresh = np.random.default_rng(5).normal(size=(400, 1))
    noise = 0.5 * np.random.default_rng(6).normal(size=(400, 1))
    p = detector.p_values(np.concatenate([fresh, 2 * fresh + noise], 1))
    # 30 held-out rows: the share below a rate is a draw from Beta(l, 31 - l)
    for rate in (0.1, 0.3, 0.5):
        low = int(rate * 31)
        most = stats.betabinom(400, low, 31 - low).ppf(0.999)
        assert (p <= rate).sum() <= most
    assert (detector.p_values([[4.0, -9.0], [-9.0, 9.0]]) <= 1 / 31 + 1e-12).all()
    assert (detector.predict(rows) == -1).sum() == 30
    assert (detector.decision_function(rows) < 0).sum() == 30


def test_a_frame_of_any_columns_is_scored_sampled_and_filled_as_it_came():
    random = np.random.default_rng(3)
    colour = random.choice(["red", "blue"], 120)
    frame = pd.DataFrame({"colour": colour, "size": random.normal(size=120) + (colour == "red")})
    model = DensityEstimator(**SMALL).fit(frame)
    assert list(model.feature_names_in_) == ["colour", "size"]
    assert model.sample(3).dtypes.equals(frame.dtypes)
    with_gaps = frame.copy()
    with_gaps.loc[[1, 5], "size"] = np.nan
    with_gaps.loc[7, "colour"] = None
    with_gaps.index = pd.Index(np.arange(120) * 10)
    imputer = Imputer(**SMALL).fit(with_gaps)
    whole = imputer.transform(with_gaps)
    assert not whole.isna().any().any()
    known = with_gaps.notna()
    assert whole.where(known).equals(with_gaps.where(known))
    assert whole.index.equals(with_gaps.index)
    other = [whole_["size"].iloc[1] for whole_ in imputer.multiple(with_gaps, 3)]
    assert len(set(other)) == 3
    assert other[0] == whole["size"].iloc[1]
    part = imputer.transform(with_gaps.iloc[[5, 1]])
    assert part["size"].tolist() == pytest.approx(whole["size"].iloc[[5, 1]].tolist(), rel=1e-4)
    imputer.set_output(transform="pandas")
    assert imputer.transform(with_gaps).columns.tolist() == ["colour", "size"]
    with pytest.raises(ValueError, match="feature names"):
        model.score_samples(frame.rename(columns={"size": "length"}))


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (DensityEstimator("edn"), "edn: no such preset. Did you mean edm"),
        (
            DensityEstimator(sizes={"widht": 3}, steps=1),
            "widht: no such option. Did you mean width",
        ),
        (OutlierDetector(contamination=0.7), "contamination 0.7: it is a share"),
        (DensityEstimator("gan", steps=1), "no density"),
    ],
)
def test_what_cannot_be_is_refused_in_a_sentence(made, said, rows):
    with pytest.raises(ud.InputError, match=said):
        made.fit(rows[:20]).score_samples(rows[:2])


def test_a_column_that_is_often_missing_is_filled_without_gaps():
    random = np.random.default_rng(5)
    frame = pd.DataFrame({"a": random.normal(size=120), "b": random.integers(0, 9, 120) * 1.0})
    frame.loc[random.random(120) < 0.4, "b"] = np.nan
    imputer = Imputer(**SMALL).fit(frame)
    whole = imputer.transform(frame)
    assert whole.notna().all(axis=None)
    assert imputer.transform(frame[::-1]).equals(whole[::-1])
