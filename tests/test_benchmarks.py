"""What benchmarks are judged by: pinned classifiers, the set of patterns, figures of tables."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm

from undiffuse.errors import InputError

FOLDER = Path(__file__).parent.parent / "benchmarks"


MEAN = 116.8023  # of the first 600 pictures


@pytest.fixture(scope="module", autouse=True)
def _on_the_path():
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


@cache
def some_rows(name: str) -> tuple[np.ndarray, np.ndarray]:
    """600 test rows and their classes."""
    if name == "patterns":
        from patterns import draw_patterns

        drawn = draw_patterns("test", 600)
        return drawn.pictures, drawn.labels
    from undiffuse.data.load import read
    from undiffuse.data.named import FASHION_FOLDER

    if not FASHION_FOLDER.is_dir():
        pytest.skip("no Fashion-MNIST here")
    loaded = read("fashion-mnist-test")
    assert loaded.labels is not None
    return loaded.rows.take(np.arange(600)), loaded.labels[:600]


@pytest.mark.parametrize(("name", "least"), [("fashion-mnist", 0.88), ("patterns", 0.93)])
def test_a_pinned_classifier_recognizes_rows_that_it_has_not_seen(name, least):
    from pinned import features, recognized

    rows, labels = some_rows(name)
    assert float((recognized(name, rows).argmax(1).numpy() == labels).mean()) > least
    assert torch.equal(features(name, rows[:3]), features(name, rows[:3]))


def test_noise_is_farther_from_test_rows_than_other_rows(monkeypatch):
    import pinned

    rows, _ = some_rows("patterns")
    real = pinned.features("patterns", rows[:400])
    monkeypatch.setattr(pinned, "_real", lambda name: real)
    noise = np.random.default_rng(0).normal(0, 40, (200, *rows.shape[1:]))
    others = rows[400:]
    noisy = (others + noise).clip(0, 255).astype(np.uint8)
    clean, worse = (pinned.measure("patterns", found) for found in (others, noisy))
    assert worse["frechet"].value > 1.5 * clean["frechet"].value
    assert worse["kernel"].value - clean["kernel"].value > 4 * worse["kernel"].stderr


def test_other_weights_are_refused(tmp_path, monkeypatch):
    import pinned

    content = bytearray(pinned.SETS["patterns"].file.read_bytes())
    content[-1] ^= 1
    (tmp_path / "patterns.safetensors").write_bytes(content)
    monkeypatch.setattr(pinned, "FOLDER", tmp_path)
    pinned.classifier.cache_clear()
    with pytest.raises(InputError, match="restore that file"):
        pinned.classifier("patterns")


def test_patterns_are_those_that_the_classifier_learned_and_parts_differ():
    from patterns import SHAPES, draw_patterns

    pictures, labels = some_rows("patterns")
    train = draw_patterns("train", 600)
    assert train.pictures.mean() == pytest.approx(MEAN, abs=0.05)
    assert not np.array_equal(train.pictures, pictures)
    assert set(train.labels) == set(labels) == set(range(len(SHAPES)))


def _two_columns(n: int, seed: int, shift: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    letters = np.array(["a", "b", None], object)[rng.integers(0, 3, n)]
    return pd.DataFrame({"x": rng.normal(shift, 1, n), "letter": letters})


@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_samples_are_told_from_rows_as_well_as_their_laws_allow(shift):
    from tables import auroc

    value, error = auroc(_two_columns(500, 0), _two_columns(700, 1, shift))
    assert value == pytest.approx(norm.cdf(shift / 2**0.5), abs=4 * error + 0.02)
    assert error < 0.05


def test_a_category_that_only_samples_have_gives_them_away():
    from tables import auroc

    drawn = _two_columns(300, 1).assign(letter="c")
    assert auroc(_two_columns(300, 0), drawn)[0] == 1


def test_a_column_is_predicted_as_well_as_its_law_allows():
    from tables import predicted

    train, test = (
        _two_columns(2000, seed).assign(
            y=lambda f, seed=seed: f["x"] + np.random.default_rng(seed + 2).normal(0, 0.5, len(f)),
            sign=lambda f: np.where(f["x"] > 0, "up", "down"),
        )
        for seed in (0, 1)
    )
    numbers = [frame.drop(columns="sign") for frame in (train, test)]
    assert predicted(*numbers, "y") == pytest.approx(1 / 1.25, abs=0.05)
    assert predicted(train, test, "sign") > 0.98
    shuffled = train.assign(sign=train["sign"].sample(frac=1, random_state=0).to_numpy())
    assert predicted(shuffled, test, "sign") == pytest.approx(0, abs=0.1)
    assert predicted(train.assign(sign="up"), test, "sign") == 0
    empty, rest = train.drop(columns="y").assign(x=np.nan), test.drop(columns="y")
    assert predicted(empty, rest, "sign") == pytest.approx(0, abs=0.1)


def test_copies_are_nearer_to_training_rows_than_other_rows_are():
    from tables import nearer

    train, held_out, drawn = (_two_columns(400, seed) for seed in range(3))
    assert nearer(train, held_out, drawn) == pytest.approx(0.5, abs=0.06)
    assert nearer(train, held_out, train) == pytest.approx(1, abs=0.01)
    assert nearer(train, held_out, held_out) == 0.5
    assert nearer(train, held_out, drawn.assign(x=drawn["x"] + 9)) == pytest.approx(0, abs=0.01)


def test_rules_of_flights_hold_in_a_flight_and_not_in_a_changed_one():
    from tables import rules_of

    flight = {"month": 6, "day": 1, "hour": 23, "minute": 55, "sched_dep_time": 2355}
    flight |= {"dep_time": 15, "dep_delay": 20, "sched_arr_time": 130, "arr_time": 120}
    flight |= {"arr_delay": -10, "origin": "JFK", "dest": "BOS", "distance": 187}
    frame = pd.DataFrame([flight | {"time_hour": "2013-06-02T03:00:00Z"}])
    rules = rules_of("flights", frame)
    changed = {"distance": 188, "hour": 22, "minute": 54, "day": 2, "dep_time": 16, "arr_time": 121}
    assert [bool(np.all(keeps(frame))) for keeps in rules.values()] == [True] * 6
    broken = [
        [name for name, keeps in rules.items() if not np.all(keeps(frame.assign(**{key: value})))]
        for key, value in changed.items()
    ]
    assert {names[0] for names in broken} == set(rules)
    assert [len(names) for names in broken] == [1, 2, 1, 1, 1, 1]


def test_ranks_are_means_over_tables_and_leave_out_rows():
    from tables import ROWS, ranks

    def one(name: str, contender: str, *figures: float) -> dict:
        return {
            "table": name,
            "contender": contender,
            "figures": dict(zip(("auroc", "useful", "quality"), figures)),
        }

    parts = [one("flights", "a", 0.6, 0.9, 0.8), one("flights", "b", 0.7, 0.95, 0.7)]
    parts += [one("fair", "a", 0.6, 0.9, 0.8), one("fair", "b", 0.6, 0.8, 0.9)]
    parts += [one("flights", ROWS, 0.5, 1, 1), one("planes", "a", 0.5, 1, 1)]
    found = ranks(parts)
    assert found["a"] == {"auroc": 1.25, "useful": 1.5, "quality": 1.5, "all": 4.25 / 3}
    assert found["b"] == {"auroc": 1.75, "useful": 1.5, "quality": 1.5, "all": 4.75 / 3}


def test_a_table_is_made_numbers_for_trees_and_back():
    from table_peers import forest_coded, forest_decoded

    frame = _two_columns(50, 0).assign(
        count=[3, 4] * 25,
        gaps=np.where(np.arange(50) % 7, np.arange(50.0), np.nan),
        when=[f"2013-01-{1 + i % 28:02}T10:00:00Z" for i in range(50)],
        both=["yes", "no"] * 25,
    )
    for most, sort in ((3, "c"), (2, "i")):
        numbers, sorts = forest_coded(frame, most)
        assert sorts == "n" + sort + "i" + "ib" + "ib"
        assert not np.isnan(numbers).any()
        back = forest_decoded(numbers, frame)
        pd.testing.assert_frame_equal(back, frame, check_dtype=False)


def test_the_dearest_forest_that_fits_is_taken_and_no_dearer_one_is_tried():
    from table_peers import LADDER, fitting

    asked = []
    cost = {rung: 2.0**i for i, rung in enumerate(reversed(LADDER))}

    def measured(*rung: int) -> float:
        asked.append(rung)
        return cost[rung]

    assert fitting(measured, 5) == LADDER[-3]
    assert len(asked) == 4
    assert fitting(lambda *rung: 9.0, 5) is None


def test_training_ends_when_the_time_is_over():
    from table_peers import _until

    epochs = _until(lambda: epochs.done >= 3)
    assert list(epochs(range(10**6), disable=True)) == [0, 1, 2]
    assert epochs.done == 3


@pytest.mark.parametrize("name", ["linear", "moons"])
def test_an_exact_draw_given_each_observation_is_distributed_with_it_as_the_parameters_are(name):
    """(theta', y) with theta' drawn given y is distributed as (theta, y) is."""
    from posterior_peers import LAWS
    from scipy.stats import ks_2samp

    law, draw = LAWS[name], np.random.default_rng(0)
    theta, y = law.simulate(1500, draw)
    again = np.concatenate([law.posterior(one, 1, draw) for one in y])
    other, seen = law.simulate(1500, draw)

    def parts(theta: np.ndarray, y: np.ndarray) -> np.ndarray:
        products = (theta[:, :, None] * y[:, None]).reshape(len(y), -1)
        return np.concatenate([theta, products, np.abs(theta.sum(1, keepdims=True)) + y], 1)

    for drawn, truth in zip(parts(again, y).T, parts(other, seen).T):
        assert ks_2samp(drawn, truth).pvalue > 1e-4
    near = law.posterior(y[0], 400, draw)
    assert np.abs(near.mean(0)).max() < 1
    assert (near.std(0) < 0.95 * theta.std(0)).all()  # y tells something of each
