"""Reports of runs: facts that are plain data, a planted copier found out, and the same report
after an interruption.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import undiffuse as ud
from undiffuse.evaluation import evaluate as reports
from undiffuse.evaluation.history import loss_by_level
from undiffuse.evaluation.metrics import figures_of
from undiffuse.evaluation.references import refer
from undiffuse.evaluation.scores import likelihoods
from undiffuse.interfaces import Player
from undiffuse.models.base import GenerativeModel
from undiffuse.run import Run

OPTIONS = {"batch": 16, "device": "cpu", "precision": "float32", "samples": 0}
ROWS = np.random.default_rng(0).normal(size=(400, 2))
QUICKLY: dict[str, Any] = {"n": 64, "rows": 8, "steps": 4, "batch": 32, "device": "cpu"}


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of forty steps on rows of two numbers."""
    folder = tmp_path_factory.mktemp("reports")
    np.save(folder / "x.npy", ROWS)
    ud.edm(width=16, depth=1).fit(folder / "x.npy", steps=40, out=folder / "run", **OPTIONS)
    return folder / "run"


@pytest.fixture(scope="module")
def report(run, tmp_path_factory) -> reports.Report:
    """Its report, of a copy, so that nothing is kept in the run."""
    found = reports.evaluate(
        shutil.copytree(run, tmp_path_factory.mktemp("whole") / "run"), **QUICKLY
    )
    assert found is not None
    return found


def figures(tree: Any) -> Iterator[dict[str, Any]]:
    """Every figure in the facts."""
    if isinstance(tree, dict):
        if "better" in tree:
            yield tree
        for value in tree.values():
            yield from figures(value)
    if isinstance(tree, list):
        for value in tree:
            yield from figures(value)


def test_facts_are_plain_data_with_an_interval_for_every_figure(report):
    assert json.loads(json.dumps(report.facts, allow_nan=False)) == report.facts
    found = list(figures(report.facts))
    assert len(found) >= 13
    for figure in found:
        assert set(figure) == {"value", "low", "high", "stderr", "n", "floor", "warning", "better"}
        assert figure["low"] is None or figure["low"] <= figure["value"] <= figure["high"]
    assert report.facts["data"] == {
        "name": "x.npy",
        "training_rows": 360,
        "held_out_rows": 40,
        "shape": [2],
        "classes": [],
    }
    assert (report.facts["preset"], report.facts["family"], report.facts["samples"]) == (
        "edm",
        "diffusion",
        64,
    )
    assert report.facts["sampler"] == {"method": "deis", "steps": 4, "evaluations": 4.0}
    assert report.facts["speed"]["evaluations_per_sample"] == 4
    assert report.facts["table"] is None
    assert report.facts["classes"] == []


def test_pictures_are_png(report):
    assert {"samples", "real"} <= set(report.pictures)
    assert all(content.startswith(b"\x89PNG") for content in report.pictures.values())


def test_more_steps_cost_more(report):
    lines = report.facts["curves"]["by_evaluations"]
    assert [(line["steps"], line["evaluations"]) for line in lines] == [(2, 2), (4, 4), (8, 8)]


def test_the_curves_are_those_of_the_log(run, report):
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    looks = [event for event in events if event["event"] == "held_out"]
    found = report.facts["curves"]["held_out"]
    assert [(look["step"], look["loss"]) for look in found] == [
        (event["step"], event["loss"]) for event in looks
    ]
    elapsed = [look["elapsed"] for look in found]
    assert elapsed == sorted(elapsed)
    training, _ = Run(run).curves()
    assert [look["step"] for look in training] == [
        event["step"] for event in events if event["event"] == "step"
    ]


def test_an_interrupted_evaluation_goes_on_to_the_same_figures(run, report, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    for allowed in (2, 5, 6):
        polls = iter([False] * allowed + [True] * 1000)
        assert reports.evaluate(copy, stop=polls.__next__, **QUICKLY) is None
    kept = {file: file.read_bytes() for file in (copy / "evaluation").iterdir()}
    assert kept
    again = reports.evaluate(copy, **QUICKLY)
    assert all(file.read_bytes().startswith(before) for file, before in kept.items())
    for name in (
        "quality",
        "coverage",
        "memorization",
        "likelihood",
        "curves",
        "verdict",
        "sampler",
        "features",
    ):
        assert again.facts[name] == report.facts[name], name
    assert not list(copy.rglob("report.*"))


def test_a_report_is_written_whole(report, tmp_path):
    page, data = report.write(tmp_path / "out")
    assert json.loads(data.read_text()) == report.facts
    assert sorted(file.name for file in page.parent.iterdir()) == ["report.html", "report.json"]
    assert report.facts["verdict"]["sentence"].split(":")[0] in page.read_text()


def test_a_reference_made_before_gives_the_same_report(run, report, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    reference = reports.refer(ud.load(run.parent / "x.npy"))
    again = reports.evaluate(copy, reference=reference, **QUICKLY)
    assert again.facts["quality"] == report.facts["quality"]


def test_data_that_have_moved_are_asked_for_and_taken_where_they_are(run, report, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    config = json.loads((copy / "config.json").read_text())
    config["data"]["path"] = str(tmp_path / "gone.npy")
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ud.InputError, match=r"not there any more.*say where the data are with --data"
    ):
        reports.evaluate(copy, **QUICKLY)
    np.save(tmp_path / "gone.npy", ROWS + 1)
    with pytest.raises(
        ud.InputError, match="has changed since; say where the data are with --data"
    ):
        reports.evaluate(copy, **QUICKLY)
    found = reports.evaluate(copy, data=run.parent / "x.npy", **QUICKLY)
    assert found.facts["quality"] == report.facts["quality"]
    assert found.facts["memorization"] == report.facts["memorization"]
    config["data"]["path"] = None
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ud.InputError, match="data from Python, which are not kept; say where"):
        reports.evaluate(copy, **QUICKLY)


def test_other_data_of_the_kind_are_a_reference_without_copies(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    found = reports.evaluate(copy, data=ROWS[:80] + 30, **QUICKLY)
    assert found.facts["quality"]["precision"]["value"] == 0
    assert found.facts["memorization"] is None
    assert "gap" not in found.facts["likelihood"]
    assert "is not what the run was trained on" in found.facts["warnings"][0]
    with pytest.raises(ud.InputError, match="those of the run"):
        reports.evaluate(copy, data=ROWS[:, :1], **QUICKLY)


@pytest.mark.parametrize(
    ("options", "fragment"),
    [
        ({"n": 7}, "n 7: must be a whole number of at least 16"),
        ({"rows": 0}, "rows 0: must be a whole number of at least 1"),
        ({"method": "heum"}, "no such method"),
        ({"features": "wite"}, "no such features"),
        ({"device": "gpu"}, "no such device"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(run, options, fragment):
    with pytest.raises(ud.InputError, match=fragment):
        reports.evaluate(run, **{**QUICKLY, **options})
    assert not (run / "evaluation").exists()


# --- planted models in the place of the run's


class Planted(GenerativeModel):
    """Draws stored rows: number i of `rows`.

    Its density is that of N(0, I), its loss at two levels is given.
    """

    no_density = "planted: this family has no density; score with another model."

    def __init__(self, rows: np.ndarray, data: Any) -> None:
        super().__init__()
        self.net, self.rows, self.drawn = nn.Linear(1, 1), rows, 0
        self.transform, self.form, self.data_config = data.transform, data.form, data.config()

    def prepare(self, source: Any) -> None: ...

    def players(self) -> dict[str, Player]:
        return {"net": Player(self.net)}

    def losses(self, x: Tensor, **cond: Tensor) -> Iterator[tuple[str, Tensor]]:
        yield "net", x.sum()

    def draw(self, n: int, *, noise: Any, **options: Any) -> Tensor:
        first = self.drawn
        self.drawn += n
        rows = self.rows[np.arange(first, first + n) % len(self.rows)]
        return self.transform.encode(torch.from_numpy(rows), torch.zeros_like)[0]

    def diagnostics(self, x: Tensor, **cond: Tensor) -> dict[str, Any]:
        return {
            "loss": 0.0,
            "levels": {"log_snr": [3.0, -3.0], "loss": [float(x.square().mean()), 1.0]},
        }

    def config(self) -> dict[str, Any]:
        return {}


def planted_report(run, tmp_path, monkeypatch, rows: np.ndarray) -> reports.Report:
    data = ud.load(run.parent / "x.npy")
    monkeypatch.setattr(reports.Run, "model", lambda run, **where: Planted(rows, data))
    found = reports.evaluate(
        shutil.copytree(run, tmp_path / "run"), **{**QUICKLY, "n": 360, "steps": None}
    )
    assert found is not None
    return found


def test_a_copier_is_caught_and_draws_perfectly(run, tmp_path, monkeypatch):
    data = ud.load(run.parent / "x.npy")
    found = planted_report(run, tmp_path, monkeypatch, data.train[:]).facts
    assert found["memorization"]["caught"]
    assert found["memorization"]["copies"]["value"] > 0.99
    assert found["verdict"]["state"] == "memorizing"
    precision = found["quality"]["precision"]
    assert precision["high"] >= precision["floor"] > 0.3
    assert found["likelihood"] == {"none": Planted.no_density}
    assert found["curves"]["by_evaluations"] == []
    assert found["sampler"]["evaluations"] == 1


def test_an_honest_sampler_is_not_accused(run, tmp_path, monkeypatch):
    found = planted_report(
        run, tmp_path, monkeypatch, np.random.default_rng(5).normal(size=(360, 2))
    ).facts
    assert not found["memorization"]["caught"]
    precision = found["quality"]["precision"]
    assert precision["high"] >= precision["floor"] > 0.3


def test_the_loss_by_level_is_that_of_either_side():
    data = ud.load(ROWS, held_out=200)
    reference = refer(data)
    found = loss_by_level(Planted(ROWS, data), reference)
    assert found["log_snr"] == [3.0, -3.0]
    for name, side in (("held_out", reference.held_out), ("training", reference.training)):
        x = reference.encode(side.rows[:200])
        assert found[name] == pytest.approx([float(x.square().mean()), 1.0], rel=1e-6)
    blocks = [
        np.array(
            [float(part.square().mean()) for part in reference.encode(side.rows[:200]).split(25)]
        )
        for side in (reference.held_out, reference.training)
    ]
    expected = np.sqrt(sum(block.var(ddof=1) / 8 for block in blocks))
    assert found["stderr"] == pytest.approx([expected, 0.0])


class Normal(Planted):
    """Rows are N(0, I), whatever they are said to be; +infinite for the row that begins with 9."""

    no_density = ""

    def likelihood(self, x: Tensor, *, noise: Any, cond: Any, **options: Any) -> Any:
        row = torch.from_numpy(self.transform.decode(x)).double()
        nats = -0.5 * row.square().sum(1) - np.log(2 * np.pi)
        _, correction = self.transform.encode(row, torch.zeros_like)
        nats = torch.where(row[:, 0] > 8.999, torch.inf, nats - correction)
        return ud.Likelihood(nats, torch.zeros_like(nats), "exact", 1.0)


def test_the_likelihood_is_the_mean_over_held_out_rows_and_the_gap_that_to_training_rows(tmp_path):
    rows = ROWS.copy()
    data = ud.load(rows, held_out=100)
    held_out = data.split.held_out(np.arange(100))
    rows[held_out] *= 2
    rows[held_out[0], 0] = 9
    data = ud.load(rows, held_out=100)
    found = likelihoods(Normal(rows, data), refer(data), tmp_path, rows=60)
    nats = [
        -0.5 * np.square(x).sum(1) - np.log(2 * np.pi)
        for x in (data.held_out[1:60], data.train[:60])
    ]
    figures = figures_of(found.scored)
    assert figures["nats"].value == pytest.approx(nats[0].mean(), abs=1e-5)
    assert figures["nats"].stderr == pytest.approx(nats[0].std(ddof=1) / np.sqrt(59), rel=1e-4)
    assert figures["bits_per_dim"].value == pytest.approx(
        -nats[0].mean() / (2 * np.log(2)), abs=1e-5
    )
    assert (
        figures["bits_per_dim"].low < figures["bits_per_dim"].value < figures["bits_per_dim"].high
    )
    assert figures["gap"].value == pytest.approx(nats[1].mean() - nats[0].mean(), abs=1e-5)
    assert figures["gap"].low > 0
    assert (found.rows, found.lost, found.kind) == (60, 1, "exact")
