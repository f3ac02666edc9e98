"""Dashboards get what log.jsonl holds, and training does not depend on them."""

from __future__ import annotations

import importlib
import json

import numpy as np
import pytest
import torch

import undiffuse as ud
from undiffuse.errors import InputError
from undiffuse.training.loggers import LOGGERS, Logger, find_loggers, numbers_of

ROWS = np.random.default_rng(0).normal(size=(120, 2))
OPTIONS = {"steps": 6, "log_every": 2, "evaluate_every": 3, "precision": "float32"}


class Recorder(Logger):
    """Keeps what it is told; raises at the call of a name."""

    def __init__(self, fails: str = "") -> None:
        self.fails, self.told = fails, []

    def _take(self, name, *what):
        self.told.append((name, *what))
        if name == self.fails:
            raise ConnectionError("server\nis gone")

    def start(self, folder, config):
        self._take("start", folder, config)

    def numbers(self, step, values):
        self._take("numbers", step, values)

    def picture(self, step, name, file):
        self._take("picture", step, name, file.read_bytes()[:4])

    def close(self):
        self._take("close")


def trained(out=None, **options):
    torch.manual_seed(0)
    model = ud.edm(width=8)
    ud.fit(model, ROWS, out=out, **OPTIONS, **options)
    return model


def events_of(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def expected(folder):
    """The numbers in log.jsonl, {(step, name): value}."""
    found = {}
    for event in events_of(folder):
        if event["event"] == "step":
            kept = {name: event.get(name) for name in ("loss", "rate", "lr", "skipped")}
            found |= {(event["step"], k): v for k, v in numbers_of("train", kept).items()}
        if event["event"] == "held_out":
            rest = {k: v for k, v in event.items() if k not in ("event", "step")}
            found |= {(event["step"], k): v for k, v in numbers_of("held_out", rest).items()}
    return found


def test_a_logger_is_told_what_the_log_holds(tmp_path):
    recorder, heard = Recorder(), []
    trained(tmp_path / "r", loggers=[recorder, heard.append])
    names = [told[0] for told in recorder.told]
    assert names[0] == "start"
    assert names.count("start") == names.count("close") == 1
    assert names[-1] == "close"
    _, folder, config = recorder.told[0]
    assert folder == tmp_path / "r"
    assert config["preset"] == "edm"
    assert config["steps"] == 6
    assert config["torch"] == torch.__version__
    told = {
        (step, name): value
        for kind, *rest in recorder.told
        if kind == "numbers"
        for step, values in [rest]
        for name, value in values.items()
    }
    assert told == expected(tmp_path / "r")
    assert any(" at " in name for _, name in told)  # the loss by noise level
    assert ("picture", 6, "samples", b"\x89PNG") in recorder.told
    assert [event["event"] for event in heard if event["event"] != "step"] == [
        event["event"] for event in events_of(tmp_path / "r") if event["event"] != "step"
    ]


@pytest.mark.parametrize("fails", ["start", "numbers", "picture", "close"])
def test_a_logger_that_fails_is_left_out_and_training_is_the_same(tmp_path, fails):
    wrong, right, said = Recorder(fails), Recorder(), []
    model = trained(tmp_path / "r", loggers=[wrong, right], on_event=said.append)
    alone = trained(tmp_path / "alone")
    for one, other in zip(model.parameters(), alone.parameters()):
        assert torch.equal(one, other)
    assert [name for name, *_ in wrong.told].count(fails) == 1
    assert right.told[-1] == ("close",)
    texts = [event["said"] for event in said if event["event"] == "logger"]
    assert texts == ["logger Recorder: failed and is left out (ConnectionError: server is gone)"]


def test_every_logger_says_what_to_install(monkeypatch):
    real = importlib.import_module

    def without(name, *rest):
        if name in {kind.package for kind in LOGGERS.values()}:
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(importlib, "import_module", without)
    for name, kind in LOGGERS.items():
        with pytest.raises(InputError, match=rf"undiffuse\[{kind.package}\]"):
            find_loggers([name])
    with pytest.raises(InputError, match="Did you mean mlflow"):
        trained(loggers=["mlfow"])


def test_a_wrong_logger_is_caught(monkeypatch):
    """One that is registered and implements nothing cannot be made."""
    monkeypatch.setitem(LOGGERS, "half", type("Half", (Logger,), {}))
    with pytest.raises(TypeError, match="abstract"):
        find_loggers(["half"])


def test_tensorboard_reads_the_same_numbers(cli, tmp_path):
    """With the real package, by the command line."""
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    np.save(tmp_path / "x.npy", ROWS)
    words = ("--steps", "6", "--model.width", "8", "--log", "tensorboard", "--quiet")
    more = ("--training.log-every", "2", "--training.evaluate-every", "3")
    cli("train", tmp_path / "x.npy", "--out", tmp_path / "r", *words, *more).done()
    board = EventAccumulator(str(tmp_path / "r" / "tensorboard"))
    board.Reload()
    read = {
        (point.step, name): point.value
        for name in board.Tags()["scalars"]
        for point in board.Scalars(name)
    }
    known = expected(tmp_path / "r")
    names = {name.replace(" ", "_"): name for _, name in known}
    read = {(step, names[name.replace(" ", "_")]): value for (step, name), value in read.items()}
    assert read.keys() == known.keys()
    assert list(read.values()) == pytest.approx([known[key] for key in read], rel=1e-6)
    assert board.Tags()["images"] == ["samples"]
    assert "options/text_summary" in board.Tags()["tensors"]


def test_wandb_offline_takes_the_same_numbers(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    trained(tmp_path / "r", loggers=["wandb"])
    (file,) = (tmp_path / "r" / "wandb").glob("offline-run-*/run-*.wandb")
    written = file.read_bytes()
    assert b"held_out/loss" in written
    assert wandb.run is None  # it was finished


def test_mlflow_takes_the_same_numbers(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.chdir(tmp_path)
    trained(tmp_path / "r", loggers=["mlflow"])
    (run,) = mlflow.search_runs(experiment_names=["undiffuse"], output_format="list")
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "train/loss")
    known = expected(tmp_path / "r")
    assert {(point.step, point.key): point.value for point in history} == {
        key: value for key, value in known.items() if key[1] == "train/loss"
    }
    assert run.info.status == "FINISHED"
