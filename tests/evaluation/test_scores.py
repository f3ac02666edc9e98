"""Scoring with a model whose density is known: the file, interrupted or not; its calibration."""

from __future__ import annotations

import csv
import dataclasses
import json
import math

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from torch import nn

from undiffuse.data import conform, load
from undiffuse.diffusion import RowNoise
from undiffuse.errors import InputError
from undiffuse.evaluation.scores import Scoring, calibrate, score_to_file
from undiffuse.evaluation.scores.conformal import Calibration
from undiffuse.evaluation.scores.own_error import FACTOR, WithOwnError
from undiffuse.models.likelihood import Bound, Density, Likelihood

N, D = 300, 3


class Gaussian(nn.Module):
    """log N(row; 0, s^2 I), plus `wobble` times the row's noise; NaN for rows beginning with 99."""

    def __init__(self, s: float = 1.0, wobble: float = 0.0) -> None:
        super().__init__()
        self.s, self.wobble = nn.Parameter(torch.tensor(s)), wobble
        self.calls: list[tuple[int, int]] = []

    def likelihood_rows(
        self,
        rows,
        *,
        first=0,
        seed=0,
        draws=None,
        label=None,
        importance=False,
        how=None,
        dequantization=None,
        vector=None,
    ):
        self.calls.append((first, len(rows)))
        s, x = float(self.s.detach()), rows.double()
        nats = -0.5 * (x / s).square().sum(1) - x.shape[1] * math.log(s * math.sqrt(2 * math.pi))
        nats += (
            self.wobble
            * (2 if how == Bound(2) else 1)
            * RowNoise(seed, len(rows), first)(torch.empty(len(rows), 1)).double()[:, 0]
        )
        nats[x[:, 0] == 99] = torch.nan
        nats[x[:, 0] == 98] = -torch.inf
        return Likelihood(nats, torch.full_like(nats, self.wobble), "exact", 7.0)


@pytest.fixture(scope="module")
def data():
    return load(np.random.default_rng(0).normal(size=(N, D)), held_out=0.5)


@pytest.fixture
def rows(data):
    return conform(np.random.default_rng(1).normal(size=(50, D)), data.config())


def density(x):
    return -0.5 * np.square(x).sum(1) - D / 2 * math.log(2 * math.pi)


def stacked(rows):
    return np.concatenate([batch["row"].numpy() for batch in rows.batches(16)])


def read(file):
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def column(file, name):
    return np.array([float(line[name] or "nan") for line in read(file)])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_line_per_row_in_order_in_nats_and_bits(data, rows, tmp_path, suffix):
    x, out = stacked(rows), tmp_path / f"s.{suffix}"
    calibration = Calibration(density(np.random.default_rng(2).normal(size=(199, D))))
    found = score_to_file(Gaussian(), rows, out, calibration=calibration, alarm=0.05)
    table = (
        pq.read_table(out).to_pydict()
        if suffix == "parquet"
        else {name: [line[name] for line in read(out)] for name in read(out)[0]}
    )
    assert list(table) == [
        "row",
        "log_likelihood",
        "stderr",
        "bits_per_dim",
        "quantile",
        "alarm",
        "note",
    ]
    assert list(map(int, table["row"])) == list(range(50))
    np.testing.assert_allclose(np.array(table["log_likelihood"], float), density(x), rtol=1e-12)
    np.testing.assert_allclose(
        np.array(table["bits_per_dim"], float), -density(x) / D / math.log(2), rtol=1e-12
    )
    np.testing.assert_allclose(
        np.array(table["quantile"], float),
        [(calibration.scores <= nats).mean() for nats in density(x)],
    )
    alarms = [str(alarm) == "True" for alarm in table["alarm"]]
    assert alarms == calibration.alarms(density(x), rate=0.05).tolist()
    assert set(table["note"]) == {""}
    assert (found.rows, found.finite, found.kind, found.evaluations, found.alarms) == (
        50,
        50,
        "exact",
        7.0,
        sum(alarms),
    )
    assert found.log_likelihood == pytest.approx(density(x).mean())
    assert found.stderr == pytest.approx(density(x).std(ddof=1) / 50**0.5)
    assert found.bits_per_dim == pytest.approx(-density(x).mean() / D / math.log(2))
    assert found.realized == calibration.realized(0.05)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("batch", [7, 50])  # a recording's windows in several batches, in one
def test_a_recording_raises_one_alarm_however_many_of_its_windows_do(rows, tmp_path, batch):
    rows.groups = np.arange(50) // 10
    nats = density(stacked(rows)).reshape(5, 10)
    limit = np.sort(nats, axis=None)[8]  # eight windows lie below it
    calibration = Calibration(np.array([-1e3, limit, 0, 0, 0]))
    found = score_to_file(
        Gaussian(), rows, tmp_path / "s.csv", calibration=calibration, alarm=0.4, batch=batch
    )
    alarms = [line["alarm"] == "True" for line in read(tmp_path / "s.csv")]
    assert alarms == (nats < limit).ravel().tolist()
    assert found.alarms == (nats < limit).any(1).sum() < sum(alarms) == 8
    assert (found.units, found.rows) == (5, 50)


def test_columns_that_nobody_asked_for_are_not_there(rows, tmp_path):
    score_to_file(Gaussian(), rows, tmp_path / "s.csv")
    assert list(read(tmp_path / "s.csv")[0]) == [
        "row",
        "log_likelihood",
        "stderr",
        "bits_per_dim",
        "note",
    ]


@pytest.mark.parametrize(
    ("batches", "torn"),
    [(1, b"\x10"), (2, b"\xff" * 99), (3, bytes(12))],
    ids=["short", "wrong", "zeros"],
)
def test_interrupted_and_continued_is_as_if_never_interrupted(rows, tmp_path, batches, torn):
    """In another batch size, after a crash that left half a batch; nothing is scored twice."""
    score_to_file(Gaussian(wobble=1.0), rows, tmp_path / "whole.csv")
    out, polls = tmp_path / "s.csv", iter([False] * batches + [True])
    assert score_to_file(Gaussian(wobble=1.0), rows, out, batch=9, stop=lambda: next(polls)) is None
    assert not out.exists()
    with (tmp_path / "s.csv.part").open("rb+") as part:
        part.seek(0, 2)
        part.write(torn)
    model = Gaussian(wobble=1.0)
    score_to_file(model, rows, out, batch=20)
    assert model.calls[0][0] == 9 * batches
    assert sum(count for _, count in model.calls) == 50 - 9 * batches
    assert out.read_text() == (tmp_path / "whole.csv").read_text()
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"seed": 1}, "seed"),
        ({"draws": 3}, "draws"),
        ({"how": Density()}, "how"),
        ({"importance": True}, "importance"),
    ],
)
def test_what_another_command_began_is_not_continued(rows, tmp_path, change, word):
    polls = iter([False, True])
    score_to_file(Gaussian(), rows, tmp_path / "s.csv", batch=9, stop=lambda: next(polls))
    before = (tmp_path / "s.csv.part").read_bytes()
    with pytest.raises(InputError, match=rf"another command began \({word} differ"):
        score_to_file(Gaussian(), rows, tmp_path / "s.csv", scoring=Scoring(**change))
    assert (tmp_path / "s.csv.part").read_bytes() == before
    model = Gaussian()
    score_to_file(model, rows, tmp_path / "s.csv", scoring=Scoring(**change), replace=True)
    assert model.calls[0][0] == 0
    np.testing.assert_allclose(column(tmp_path / "s.csv", "log_likelihood"), density(stacked(rows)))


def test_other_weights_or_other_data_are_another_command(data, rows, tmp_path):
    polls = iter([False, True])
    score_to_file(Gaussian(), rows, tmp_path / "s.csv", batch=9, stop=lambda: next(polls))
    with pytest.raises(InputError, match="weights"):
        score_to_file(Gaussian(s=2.0), rows, tmp_path / "s.csv")
    with pytest.raises(InputError, match="data"):
        score_to_file(
            Gaussian(), conform(np.zeros((50, D)) + np.arange(3), data.config()), tmp_path / "s.csv"
        )


def test_a_row_depends_on_the_seed_and_its_number_alone(rows, tmp_path):
    def nats(name, **options):
        score_to_file(Gaussian(wobble=1.0), rows, tmp_path / name, **options)
        return column(tmp_path / name, "log_likelihood")

    np.testing.assert_array_equal(nats("a.csv", batch=1), nats("b.csv", batch=50))
    assert not np.any(nats("c.csv", scoring=Scoring(seed=1)) == nats("d.csv"))
    doubled = nats("e.csv", scoring=Scoring(how=Bound(2))) - density(stacked(rows))
    np.testing.assert_allclose(doubled, 2 * (nats("f.csv") - density(stacked(rows))), atol=1e-12)


def test_a_row_without_a_finite_score_says_so_and_the_rest_are_right(data, tmp_path):
    x = np.random.default_rng(1).normal(size=(6, D))
    x[2, 0], x[4, 0] = 99, 98
    found = score_to_file(
        Gaussian(),
        conform(x, data.config()),
        tmp_path / "s.csv",
        calibration=Calibration(np.arange(-20.0, 0)),
        alarm=0.1,
    )
    lines = read(tmp_path / "s.csv")
    assert [(line["log_likelihood"], line["alarm"], line["note"]) for line in lines[2:5:2]] == [
        ("", "", "the computation gave no finite number"),
        ("-inf", "True", "the model gives it no probability"),
    ]
    others = [0, 1, 3, 5]
    np.testing.assert_allclose(
        column(tmp_path / "s.csv", "log_likelihood")[others], density(x[others])
    )
    assert (found.rows, found.finite) == (6, 4)
    assert found.log_likelihood == pytest.approx(density(x[others]).mean())


def test_problems_of_rows_become_their_scores(tmp_path):
    import pandas as pd

    frame = pd.DataFrame({"a": np.random.default_rng(0).normal(size=40), "b": ["x", "y"] * 20})
    new = frame.head(5).copy()
    new.loc[1, "b"] = "z"
    score_to_file(Gaussian(), conform(new, load(frame).config()), tmp_path / "s.csv")
    lines = read(tmp_path / "s.csv")
    assert [line["row"] for line in lines] == ["1", "2", "3", "4", "5"]
    assert [line["note"] == "" for line in lines] == [True, False, True, True, True]
    assert all(math.isfinite(float(line["log_likelihood"])) for line in lines)
    assert "'z'" in lines[1]["note"]


def test_calibration_scores_are_kept_and_extended(data, tmp_path):
    held = conform(data.held_out, json.loads(json.dumps(data.config())))
    x = stacked(held)
    model = Gaussian()
    first = calibrate(model, tmp_path, held, scoring=Scoring(), count=20)
    np.testing.assert_allclose(first.scores, np.sort(density(x[:20])))
    more = calibrate(model, tmp_path, held, scoring=Scoring(), count=100)
    np.testing.assert_allclose(more.scores, np.sort(density(x[:100])))
    assert sum(count for _, count in model.calls) == 100
    again = calibrate(model, tmp_path, held, scoring=Scoring(), count=50)
    np.testing.assert_allclose(again.scores, np.sort(density(x[:50])))
    assert sum(count for _, count in model.calls) == 100
    calibrate(model, tmp_path, held, scoring=Scoring(seed=1), count=10)
    assert len(list((tmp_path / "held_out_scores").iterdir())) == 2


def test_held_out_rows_and_new_rows_share_no_noise(data, tmp_path):
    """The same rows, scored as held out and as new, have different noise."""
    held = conform(data.held_out, data.config())
    kept = np.sort(
        calibrate(Gaussian(wobble=1.0), tmp_path, held, scoring=Scoring(), count=150).scores
    )
    score_to_file(Gaussian(wobble=1.0), held, tmp_path / "s.csv")
    assert not np.isin(np.sort(column(tmp_path / "s.csv", "log_likelihood")), kept).any()


@pytest.mark.parametrize(
    ("options", "name", "fragment"),
    [
        ({}, "s.txt", ".csv or .parquet"),
        ({"alarm": 0.1}, "s.csv", "needs held-out rows"),
        (
            {"alarm": 0.01, "calibration": Calibration(np.zeros(5))},
            "s.csv",
            "at least 99 held-out rows",
        ),
    ],
)
def test_what_cannot_be_done_is_said_before_it_is_begun(rows, tmp_path, options, name, fragment):
    model = Gaussian()
    with pytest.raises(InputError, match=fragment):
        score_to_file(model, rows, tmp_path / name, **options)
    assert not model.calls
    assert not list(tmp_path.iterdir())


def test_the_models_own_error_is_a_column_of_its_own_and_its_mean_is_said(rows, tmp_path):
    """FACTOR times the sum of the differences to the other way and to the snapshot."""
    x, out = stacked(rows), tmp_path / "s.csv"
    found = score_to_file(WithOwnError(Gaussian(), Gaussian(2.0)), rows, out)
    earlier = density(x / 2) - D * math.log(2)
    expected = FACTOR * abs(density(x) - earlier)  # both ways of this model agree
    np.testing.assert_allclose(column(out, "model_error"), expected, rtol=1e-12)
    np.testing.assert_allclose(column(out, "log_likelihood"), density(x), rtol=1e-12)
    assert found.model_error == pytest.approx(expected.mean())
    assert found.evaluations == 3 * 7.0
    assert "model_error" not in read(score_plainly(rows, tmp_path))[0]
    mixed = WithOwnError(Gaussian(), Gaussian(2.0)).likelihood_rows(torch.tensor([[99.0, 0, 0]]))
    assert mixed.model_error.isnan().all()


def score_plainly(rows, folder):
    assert score_to_file(Gaussian(), rows, folder / "plain.csv").model_error is None
    return folder / "plain.csv"


@pytest.mark.parametrize(("kind", "other"), [("bound", Density()), ("exact", Bound())])
def test_the_other_way_is_the_one_that_was_not_asked_for(kind, other):
    asked = []

    class Told(Gaussian):
        def likelihood_rows(self, rows, **options):
            asked.append(options.get("how"))
            return dataclasses.replace(super().likelihood_rows(rows, **options), kind=kind)

    WithOwnError(Told(), Gaussian()).likelihood_rows(torch.zeros(2, D), how=Bound(9))
    assert asked == [Bound(9), other]
