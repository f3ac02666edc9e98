"""A report on dashboards: its figures and its page, in the run that training has begun there."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from report_facts import png, report_facts

import undiffuse as ud
from undiffuse.cli.main import main
from undiffuse.evaluation.evaluate import Report
from undiffuse.evaluation.logged import log_report
from undiffuse.evaluation.report import render
from undiffuse.run import Run

PICTURES = {"samples": png(seed=0), "real": png(seed=1)}


class Told(ud.Logger):
    """Keeps what it is told; a page raises if it `fails`."""

    def __init__(self, fails=False):
        self.fails, self.told = fails, []

    def start(self, folder, config):
        self.told.append(("start", folder, config))

    def numbers(self, step, values):
        self.told.append(("numbers", step, dict(values)))

    def page(self, step, name, file):
        self.told.append(("page", step, name, file.read_text(encoding="utf-8")))
        if self.fails:
            raise ConnectionError("gone")

    def close(self):
        self.told.append(("close",))

    picture = sound = page


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.manual_seed(0)
    out = tmp_path_factory.mktemp("logged") / "run"
    ud.fit(ud.edm(width=8), np.random.default_rng(0).normal(size=(40, 2)), out=out, steps=3)
    return out


def test_a_logger_is_told_every_figure_and_the_page(run):
    facts, logger = report_facts(), Told()
    log_report(facts, PICTURES, Run(run), [logger])
    start, numbers, page, close = logger.told
    assert start[:2] == ("start", run)
    assert start[2]["preset"] == "edm"
    assert start[2]["steps"] == 3
    groups = ("quality", "coverage", "memorization", "likelihood", "speed")
    assert numbers[2] == {
        f"report/{group}/{name}": one["value"]
        for group in groups
        for name, one in facts[group].items()
        if isinstance(one, dict) and isinstance(one.get("value"), int | float)
    }
    assert len(numbers[2]) > 8
    assert numbers[1] == page[1] == 3  # the step of the run
    assert page[2:] == ("report/page", render(facts, PICTURES))
    assert close == ("close",)


def test_one_that_fails_is_said_and_the_others_are_told(run):
    wrong, right, said = Told(fails=True), Told(), []
    log_report(report_facts(), PICTURES, Run(run), [wrong, right], say=said.append)
    assert said == ["logger Told: failed and is left out (ConnectionError: gone)"]
    assert right.told[-1] == ("close",)
    with pytest.warns(UserWarning, match="failed and is left out"):
        log_report(report_facts(), PICTURES, Run(run), [Told(fails=True)])


def test_evaluate_sends_its_report(run, tmp_path, monkeypatch, capsys):
    """In Python and by the command line; a name that is none is refused before any work."""
    report = Report(report_facts(), PICTURES)
    monkeypatch.setattr("undiffuse.evaluation.evaluate._reference", lambda *_, **__: None)
    monkeypatch.setattr("undiffuse.evaluation.evaluate._Evaluation.report", lambda _: report)
    logger = Told()
    assert ud.evaluate(run, loggers=[logger]) is report
    assert [kind for kind, *_ in logger.told] == ["start", "numbers", "page", "close"]
    pytest.importorskip("tensorboard")
    out = tmp_path / "report"
    assert main(["evaluate", str(run), "--out", str(out), "--log", "tensorboard"]) == 0
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator(str(run / "tensorboard"))
    board.Reload()
    assert {*board.Tags()["scalars"]} == {*logger.told[1][2]}
    capsys.readouterr()
    assert main(["evaluate", str(run), "--out", str(out), "--log", "tensorbord"]) == 2
    assert "Did you mean tensorboard" in capsys.readouterr().err
