"""Trainings: processes that the server starts, loses, and finds again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from serving import client_of, serve, wait_for

from undiffuse.cli.main import main
from undiffuse.lock import holder
from undiffuse.run import Run

SMALL = {"model.width": 8, "model.depth": 1, "training.samples": 0, "checkpoint_every": 50}
LONG = {"name": "long", "source": {"builtin": "moons"}, "steps": 10_000_000, "options": SMALL}


def state(client: Any, name: str) -> str:
    return client.get(f"/api/v1/runs/{name}").json()["state"]


def steps(client: Any, name: str) -> int:
    return client.get(f"/api/v1/runs/{name}").json()["step"]


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    """A folder of runs; what still trains in it at the end is ended."""
    folder = tmp_path / "runs"
    folder.mkdir()
    yield folder
    for log in (folder / ".undiffuse" / "logs").glob("*.log"):
        for line in log.read_text(errors="replace").splitlines()[:1]:
            with suppress(ProcessLookupError):
                os.kill(int(line.split()[1]), signal.SIGKILL)


def test_a_killed_server_loses_nothing_and_the_training_is_found_again(
    trained: Path, runs: Path, tmp_path: Path
) -> None:
    """Upload, train, kill -9 the server, find, end it, find, stop, sample, extend, delete."""
    folder = runs
    first = serve(folder, tmp_path / "first")
    with first.client() as client:
        table = (trained / "data/table.csv").read_bytes()
        sent = client.post("/api/v1/uploads", files=[("files", ("table.csv", table))]).json()
        asked = {**LONG, "source": {"upload": sent["id"]}}
        made = client.post("/api/v1/runs", json=asked)
        assert made.status_code == 201, made.text
        assert made.headers["location"] == "/api/v1/runs/long"
        assert made.json()["state"] == "training"
        waits = client.post("/api/v1/runs", json={**LONG, "name": "short", "steps": 2})
        assert waits.json()["state"] == "waiting"
        assert client.post("/api/v1/runs", json=asked).status_code == 409
        wait_for(lambda: steps(client, "long") >= 60)
        before = wait_for(lambda: holder(folder / "long"))
        assert first.end(signal.SIGKILL) == -signal.SIGKILL
    assert holder(folder / "long") == before
    reached = Run(folder / "long").log[-1]["step"]

    second = serve(folder, tmp_path / "second")
    with second.client() as client:
        assert state(client, "long") == "training"
        assert client.get("/api/v1/runs/short").status_code == 404  # it waited, and is lost
        wait_for(lambda: steps(client, "long") > reached)
        assert second.end(signal.SIGINT) == 0
    said = second.err.read_text()
    assert "training goes on: long" in said
    assert "Traceback" not in said + first.err.read_text()
    assert holder(folder / "long") == before

    with client_of(folder) as client:
        stopped = client.post("/api/v1/runs/long/stop").json()
        assert stopped["stopping"] is True or stopped["state"] == "stopped"
        client.post("/api/v1/runs/long/stop")  # which does not end it without saving
        text = client.get("/api/v1/runs/long/events").text
        assert '"reason": "stopped"' in text
        assert text.endswith("event: end\ndata: {}\n\n")
        wait_for(lambda: state(client, "long") == "stopped")
        run = Run(folder / "long")
        assert run.state["step"] == run.log[-1]["step"] >= reached
        assert os.path.dirname(run.config["data"]["path"]) == str(folder / ".undiffuse/data/long")
        sample = client.post("/api/v1/runs/long/sample", json={"n": 2, "form": "csv"})
        assert sample.text.splitlines()[0].replace('"', "") == "age,height,colour"
        target = run.state["step"] + 20
        longer = client.post("/api/v1/runs/long/extend", json={"steps": target})
        assert longer.json()["state"] == "training"
        failing = {**LONG, "name": "bad", "options": {**SMALL, "condition": ["nothing"]}}
        assert client.post("/api/v1/runs", json=failing).json()["state"] == "waiting"
        wait_for(lambda: state(client, "long") == "finished")
        assert steps(client, "long") == target
        assert client.delete("/api/v1/runs/long").status_code == 204
        assert not (folder / ".undiffuse/data/long").exists()
        wait_for(lambda: state(client, "bad") == "failed")
        problem = client.get("/api/v1/runs/bad").json()["problem"]
        assert "nothing" in problem or "condition" in problem
        assert str(folder) not in problem


def test_a_run_that_was_stopped_from_outside_is_resumed(
    own, folder: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = f"train moons --out {folder / 'cut'} --steps 30 --model.width 8 --model.depth 1"
    monkeypatch.setattr("undiffuse.cli.interrupt.Interruption.stopped", lambda self: True)
    assert main([*words.split(), "--quiet", "--device", "cpu"]) == 130
    monkeypatch.undo()
    assert state(own, "cut") == "stopped"
    assert own.post("/api/v1/runs/cut/extend", json={}).status_code == 422
    asked: list[Any] = []
    trainings = own.app.state.service.trainings
    monkeypatch.setattr(trainings, "_spawn", asked.append)
    assert own.post("/api/v1/runs/cut/resume").status_code == 200
    (one,) = asked
    assert one.words[:1] == ("train",)
    assert "--resume" in one.words
    assert str(folder / "cut") in one.words


def test_those_that_wait_are_bounded_and_can_be_given_up(
    own, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainings = own.app.state.service.trainings
    monkeypatch.setattr(trainings, "alive", lambda: ["another"])  # on this folder, elsewhere
    answers = [
        own.post("/api/v1/runs", json={**LONG, "name": f"run-{number}"}) for number in range(17)
    ]
    assert [answer.status_code for answer in answers] == [201] * 16 + [429]
    assert answers[0].json()["state"] == "waiting"
    assert "retry-after" in answers[-1].headers
    assert trainings.waiting() == [f"run-{number}" for number in range(16)]
    assert own.delete("/api/v1/runs/run-3").status_code == 409
    assert own.post("/api/v1/runs/run-3/stop").json()["state"] == "stopped"
    assert "run-3" not in trainings.waiting()
    assert own.get("/api/v1/runs/run-3").status_code == 404
    for name in trainings.waiting():  # or one begins once the queue is no longer held up
        assert own.post(f"/api/v1/runs/{name}/stop").status_code == 200
    assert trainings.waiting() == []


def test_a_training_gets_its_options_and_no_token(
    own, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through a file: no word of a request becomes a word of a command line."""
    import tomllib

    seen: list[Any] = []

    class Started:
        pid = 1

        def __init__(self, words: Any, **given: Any) -> None:
            seen.append((words, given))

        def poll(self) -> int:
            return 0

    monkeypatch.setattr("undiffuse.web.trainings.subprocess.Popen", Started)
    monkeypatch.setenv("UNDIFFUSE_TOKEN", "secret-secret-secret")
    given = {"data.drop": ["a,b", '--out "x"', "ü"], "training.lr": 0.01, "condition": ["--help"]}
    own.post("/api/v1/runs", json={**LONG, "preset": "ddpm", "options": {**given, "levels": 9}})
    ((words, how),) = seen
    file = words[words.index("--config") + 1]
    assert tomllib.loads(Path(file).read_text()) == {
        "preset": "ddpm", "steps": 10_000_000, "seed": 0, "levels": 9, "condition": ["--help"],
        "training": {"lr": 0.01}, "data": {"drop": given["data.drop"]},
    }  # fmt: skip
    assert words[1:5] == ["-m", "undiffuse", "train", "moons"]
    assert words[5:] == ["--device", "cpu", "--out", str(folder / "long"), "--config", file]
    assert "UNDIFFUSE_TOKEN" not in how["env"]
    assert how["start_new_session"] is True
    assert not list(Path(how["cwd"]).iterdir())
