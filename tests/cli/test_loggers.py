"""Dashboards get what log.jsonl holds, and training does not depend on them."""

from __future__ import annotations

import importlib
import io
import json
import time
import wave

import numpy as np
import pytest
import torch

import undiffuse as ud
from undiffuse.errors import InputError
from undiffuse.training.loggers import (
    LOGGERS,
    Logger,
    Relay,
    begun_as,
    find_loggers,
    keep_begun,
    numbers_of,
)

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

    def sound(self, step, name, file):
        self._take("sound", step, name, file.read_bytes())

    def page(self, step, name, file):
        self._take("page", step, name, file.read_bytes())

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


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """A folder of a run on recordings, and what a logger was told of it."""
    soundfile = pytest.importorskip("soundfile")
    place, recorder = tmp_path_factory.mktemp("heard"), Recorder()
    (place / "tones").mkdir()
    for i in range(8):
        tone = 0.5 * np.sin(2 * np.pi * (200 + 20 * i) * np.arange(512) / 8000)
        soundfile.write(place / "tones" / f"{i}.wav", tone, 8000)
    model = ud.edm(width=8, blocks=1, multipliers=(1,))
    data = ud.load(place / "tones", size=256, held_out=2)
    ud.fit(model, data, out=place / "r", steps=1, samples=3, loggers=[recorder])
    return place / "r", recorder.told


def test_recordings_are_heard_as_they_are_drawn(heard):
    folder, told = heard
    (event,) = [event for event in events_of(folder) if event["event"] == "samples"]
    (sound,) = [rest for kind, *rest in told if kind == "sound"]
    file = folder / "samples" / "step-000001.wav"
    assert event["path"] == str(file.with_suffix(".png"))
    assert sound == [1, "samples/sound", file.read_bytes()]
    model = ud.open(folder)
    rows = model.sample_rows(3, seed=0, **model.preview_options)
    with wave.open(str(file)) as recording:
        assert (recording.getnchannels(), recording.getframerate()) == (1, 8000)
        values = np.frombuffer(recording.readframes(10**6), "<i2")
    pause = 1600  # 0.2 s
    assert len(values) == 3 * 256 + 2 * pause
    for i, row in enumerate(rows):
        begun = i * (256 + pause)
        assert np.abs(values[begun : begun + 256] - row.reshape(-1).astype(float)).max() <= 1
        assert not values[begun + 256 : begun + 256 + pause].any()


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


def test_tensorboard_plays_the_same_recordings(heard, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    logger, file = LOGGERS["tensorboard"](), heard[0] / "samples" / "step-000001.wav"
    logger.start(tmp_path, {})
    logger.sound(1, "samples/sound", file)
    logger.close()
    board = EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    (kept,) = board.Audio("samples/sound")
    assert (kept.step, kept.sample_rate) == (1, 8000)
    values = []
    for source in (str(file), io.BytesIO(kept.encoded_audio_string)):
        with wave.open(source) as recording:
            values.append(np.frombuffer(recording.readframes(10**6), "<i2").astype(int))
    assert np.abs(values[0] - values[1]).max() <= 1
    assert np.abs(values[0]).max() > 100


def send_more(name, folder, heard, tmp_path):
    """Send recordings and a page to a dashboard that has a run of the folder already."""
    said, page = [], tmp_path / "report.html"
    page.write_text("<!doctype html><title>Report</title><p>all is well")
    picture = heard[0] / "samples" / "step-000001.png"
    relay = Relay(find_loggers([name]), said.append, folder=folder, config={"steps": 7}, every=1)
    relay({"event": "start", "step": 6})
    relay({"event": "samples", "step": 6, "path": str(picture)})
    figures = {"quality": {"frechet": 2.5}}
    relay({"event": "report", "step": 6, "figures": figures, "path": str(page)})
    relay.close()
    assert [event["said"] for event in said if event["event"] == "logger"] == []


def written(file, text):
    """Whether wandb's own process, which may be behind by a moment, writes a text into a file."""
    until = time.monotonic() + 20
    while text not in file.read_bytes():
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


def test_wandb_offline_takes_the_same_numbers(tmp_path, monkeypatch, heard):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    trained(tmp_path / "r", loggers=["wandb"])
    (file,) = (tmp_path / "r" / "wandb").glob("offline-run-*/run-*.wandb")
    assert written(file, b"held_out/loss")
    assert wandb.run is None  # it was finished
    begun = begun_as(tmp_path / "r", "wandb")
    assert file.name == f"run-{begun}.wandb"
    send_more("wandb", tmp_path / "r", heard, tmp_path)
    (more,) = {*(tmp_path / "r" / "wandb").glob(f"offline-run-*/run-{begun}.wandb")} - {file}
    assert written(more, b"report/quality/frechet")
    media = [one for one in (more.parent / "files" / "media").rglob("*") if one.is_file()]
    assert {one.suffix for one in media} == {".png", ".wav", ".html"}
    sound = next(one for one in media if one.suffix == ".wav")
    assert sound.read_bytes() == (heard[0] / "samples" / "step-000001.wav").read_bytes()


def test_mlflow_takes_the_same_numbers(tmp_path, monkeypatch, heard):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # of mlflow-skinny the one without server
    mlflow.set_tracking_uri(f"file://{tmp_path}/store")
    monkeypatch.chdir(tmp_path)
    trained(tmp_path / "r", loggers=["mlflow"])
    (run,) = mlflow.search_runs(experiment_names=["undiffuse"], output_format="list")
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "train/loss")
    known = expected(tmp_path / "r")
    assert {(point.step, point.key): point.value for point in history} == {
        key: value for key, value in known.items() if key[1] == "train/loss"
    }
    assert run.info.status == "FINISHED"
    send_more("mlflow", tmp_path / "r", heard, tmp_path)
    (again,) = mlflow.search_runs(experiment_names=["undiffuse"], output_format="list")
    assert again.info.run_id == run.info.run_id == begun_as(tmp_path / "r", "mlflow")
    assert again.data.metrics["report/quality/frechet"] == 2.5
    assert again.data.params["steps"] == "6"  # as it was begun
    assert again.info.status == "FINISHED"
    names = {one.path for one in mlflow.MlflowClient().list_artifacts(run.info.run_id)}
    assert names == {"samples", "report"}
    mlflow.set_tracking_uri(f"file://{tmp_path}/other")  # which has no such run
    send_more("mlflow", tmp_path / "r", heard, tmp_path)
    (other,) = mlflow.search_runs(experiment_names=["undiffuse"], output_format="list")
    assert other.data.params["steps"] == "7"


@pytest.mark.parametrize("text", ["", "../../x", "a b", "-" * 101, "\n\n", "é"])
def test_a_name_that_no_dashboard_gave_begins_another_run(tmp_path, text):
    (tmp_path / ".wandb-run").write_text(text)
    assert begun_as(tmp_path, "wandb") is None
    keep_begun(tmp_path, "wandb", "ab12-x_y")
    assert begun_as(tmp_path, "wandb") == "ab12-x_y"
    assert begun_as(None, "wandb") is None
