"""`undiffuse serve`: what it refuses before it listens, and what it says."""

from __future__ import annotations

import builtins
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from undiffuse.web.service import Settings


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock.getsockname()[1]


def test_a_port_that_is_taken(cli, folder: Path, taken: int) -> None:
    outcome = cli("serve", folder, "--port", taken)
    assert outcome.refused(f"--port {taken}: cannot be listened on at 127.0.0.1", "--port.")


REFUSED = [
    (["no/such"], "no/such: no such folder; the folder of runs has to be there"),
    (["FILE"], "this is a file; the folder of runs has to be there"),
    (["RUNS", "--data", "no/such"], "no/such: no such folder; --data has to be there"),
    (["RUNS", "--no-token", "--host", "0.0.0.0"], "--no-token: on loopback only"),
    (["RUNS", "--no-token", "--allow-host", "box.example"], "--no-token: on loopback only"),
    (["RUNS", "--host", "no.such.host.invalid"], "cannot be listened on at no.such.host.invalid"),
    (["RUNS", "--device", "quantum"], "device quantum: no such device."),
    (["RUNS", "--port", "70000"], "--port 70000: must be a whole number"),
    (["RUNS", "--trainings", "0"], "--trainings 0: must be a whole number of at least 1."),
    (["RUNS", "--jobs", "0"], "--jobs 0: must be a whole number of at least 1."),
    (["RUNS", "--queue", "-1"], "--queue -1: must be a whole number of at least 0"),
    (["RUNS", "--plugin", "no_such.py"], "no_such.py"),
]


@pytest.mark.parametrize(("words", "said"), REFUSED, ids=[" ".join(one) for one, _ in REFUSED])
def test_what_is_refused_before_it_listens(cli, folder: Path, words: list[str], said: str) -> None:
    (folder.parent / "file").write_text("")
    names = {"RUNS": str(folder), "FILE": str(folder.parent / "file")}
    assert cli("serve", *(names.get(word, word) for word in words)).refused(said)


@pytest.mark.parametrize("token", ["short", "with spaces in it, and long enough", "ü" * 20])
def test_a_token_that_can_be_guessed_or_not_be_sent(
    cli, folder: Path, monkeypatch: pytest.MonkeyPatch, token: str
) -> None:
    monkeypatch.setenv("UNDIFFUSE_TOKEN", token)
    outcome = cli("serve", folder, "--port", 0)
    assert outcome.refused("UNDIFFUSE_TOKEN: give at least 16 letters, digits, or -_.~")
    assert token not in outcome.err


def test_without_the_extra(cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = builtins.__import__

    def imported(name: str, *more: Any, **given: Any) -> Any:
        if name == "fastapi":
            raise ImportError(name)
        return kept(name, *more, **given)

    monkeypatch.setattr(builtins, "__import__", imported)
    assert cli("serve", folder).refused("serve: needs FastAPI and uvicorn; pip install")


class Listened:
    """In place of the server: ends at once, as if a signal had come."""

    made: Any = None

    def __init__(self, service: Any, app: Any) -> None:
        Listened.made, self.service = self, service
        (guard,) = [one for one in app.user_middleware if "hosts" in one.kwargs]
        self.token, self.hosts = guard.kwargs["token"], guard.kwargs["hosts"]

    def run(self, sockets: list[socket.socket]) -> None:
        self.port, self.protocol = sockets[0].getsockname()[1], sockets[0].proto
        self.service.close()
        raise KeyboardInterrupt


@pytest.fixture
def listened(monkeypatch: pytest.MonkeyPatch) -> type[Listened]:
    monkeypatch.setattr("undiffuse.web.listening.Listening", Listened)
    return Listened


def test_the_address_holds_the_token(cli, folder: Path, listened: type[Listened]) -> None:
    outcome = cli("serve", folder, "--port", 0).done()
    made = listened.made
    assert f"http://127.0.0.1:{made.port}/?token={made.token}\n" in outcome.err
    assert len(made.token) >= 32
    assert made.protocol == socket.IPPROTO_TCP  # else each answer takes 40 ms more
    assert set(made.hosts) == {"127.0.0.1", "localhost", "::1"}
    assert "the server has ended" in outcome.err
    again = cli("serve", folder, "--port", 0).done()
    assert made.token not in again.err


def test_the_token_is_that_of_the_environment_and_may_be_left_out(
    cli, folder: Path, listened: type[Listened], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDIFFUSE_TOKEN", "that-of-the-environment")
    cli("serve", folder, "--port", 0).done()
    assert listened.made.token == "that-of-the-environment"
    outcome = cli("serve", folder, "--port", 0, "--no-token").done()
    assert listened.made.token is None
    assert "token=" not in outcome.err
    assert "every user of this machine" in outcome.err


def test_options_reach_the_service(cli, folder: Path, listened: type[Listened]) -> None:
    (folder.parent / "data").mkdir()
    words = f"--data {folder.parent / 'data'} --trainings 2 --jobs 3 --queue 4 --device cpu"
    outcome = cli("serve", folder, "--port", 0, "--json", "--allow-host", "box.example,other",
                  *words.split()).done()  # fmt: skip
    settings = listened.made.service.settings
    assert settings == Settings(
        folder=folder, data=(folder.parent / "data",), trainings=2, jobs=3, queue=4, device="cpu"
    )
    assert {"box.example", "other"} <= set(listened.made.hosts)
    assert f'"token": "{listened.made.token}"' in outcome.out
    assert cli("serve", folder, "--port", 0, "--quiet").done().err == ""
