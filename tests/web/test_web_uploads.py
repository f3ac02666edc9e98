"""What is sent: what is taken of it, what it may grow to, and how long it is kept."""

from __future__ import annotations

import asyncio
import io
import os
import threading
import time
import wave
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from serving import client_of, table, wait_for

from undiffuse.web import app, limits, uploads, work
from undiffuse.web.problems import Refusal
from undiffuse.web.uploads import Uploads

SAMPLE = "/api/v1/runs/rows/sample"


def post(client: Any, *files: tuple[str, bytes]) -> Any:
    return client.post("/api/v1/uploads", files=[("files", file) for file in files])


def array(rows: int = 20) -> bytes:
    file = io.BytesIO()
    np.save(file, np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32))
    return file.getvalue()


def parquet(rows: int) -> bytes:
    file = io.BytesIO()
    pd.DataFrame({"x": np.zeros(rows)}).to_parquet(file)
    return file.getvalue()


def sound(frames: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as recording:
        recording.setparams((1, 2, 8000, 0, "NONE", ""))
        recording.writeframes(bytes(2 * frames))
    return file.getvalue()


def test_files_of_other_kinds_are_left_out_and_named(shared) -> None:
    files = [("own/a.npy", array()), ("own/read me.txt", b"words"), ("own/run.py", b"1 / 0")]
    litter = [("own/.DS_Store", b"x"), ("own/Thumbs.db", b"x"), ("__MACOSX/._a.npy", b"x")]
    found = post(shared, *files, *litter).json()
    assert (found["files"], found["left_out"]) == (1, ["own/read me.txt", "own/run.py"])
    place = shared.app.state.service.uploads.find(found["id"]).folder
    assert [file.name for file in place.rglob("*") if file.is_file()] == ["a.npy"]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("x.h5", "x.h5: is not taken: an HDF5 file can name other files of the server"),
        ("own/x.tar.gz", "own/x.tar.gz: is not taken: unpack the archive"),
        ("x.zip", "x.zip: is not taken: unpack the archive"),
        ("x.docx", "x.docx: ends in none of these: images: .png"),
    ],
)
def test_what_is_not_taken_says_what_to_do_instead(shared, name: str, says: str) -> None:
    answer = post(shared, (name, b"x"))
    assert answer.status_code == 415
    assert answer.json()["detail"].startswith(says)


@pytest.mark.parametrize(
    ("name", "content", "size"),
    [("x.parquet", parquet(5000), 8 * 5000), ("x.wav", sound(5000), 4 * 5000)],
)
def test_what_grows_when_it_is_read_is_measured_before(
    shared, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, size: int
) -> None:
    for most, status in ((size, 201), (size - 1, 413)):
        monkeypatch.setattr(uploads, "UNPACKED", most)
        assert post(shared, (name, content)).status_code == status


def test_uploads_that_come_at_once_stay_within_the_room(tmp_path: Path) -> None:
    """Each may become as large as one may be, so only as many begin."""
    kept = Uploads(tmp_path)
    most = limits.UPLOADS // limits.UPLOAD

    async def all_at_once() -> list[Any]:
        begun, go = [], asyncio.Event()

        async def body() -> AsyncIterator[bytes]:
            begun.append(1)
            await go.wait()
            yield b"--x--\r\n"

        kind = "multipart/form-data; boundary=x"
        all_of_them = [asyncio.ensure_future(kept.receive(kind, body())) for _ in range(most + 3)]
        while len(begun) < most or sum(one.done() for one in all_of_them) < 3:
            await asyncio.sleep(0.001)
        go.set()
        return await asyncio.gather(*all_of_them, return_exceptions=True)

    ends = asyncio.run(asyncio.wait_for(all_at_once(), 20))
    assert [end.status for end in ends if isinstance(end, Refusal)] == [422] * most + [507] * 3
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_has_changed_is_read_anew(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    file = tmp_path / "data" / "table.csv"
    file.parent.mkdir()
    with client_of(tmp_path / "runs", data=(file.parent,)) as client:
        for rows in (30, 40):
            table(rows).to_csv(file, index=False)
            os.utime(file, ns=(rows, rows))
            found = client.get("/api/v1/sources/info?folder=data/table.csv").json()
            assert dict(found["facts"])["rows"] == str(rows)


def test_a_result_that_would_be_too_large_is_refused_before_it_is_drawn(
    shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    for most, status in ((10 * 3 * 4, 200), (10 * 3 * 4 - 1, 422)):
        monkeypatch.setattr(work, "RESULTS", most)
        answer = shared.post(SAMPLE, json={"n": 10, "form": "npy"})
        assert answer.status_code == status
    assert "draw fewer at a time" in answer.json()["detail"]


def test_two_that_begin_one_run_at_once_do_not_share_its_data(
    own, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second click while the data are copied is refused, and leaves them alone."""
    service = own.app.state.service
    sent = post(own, ("own.npy", array())).json()
    asked = {"name": "new", "source": {"upload": sent["id"]}, "steps": 1,
             "options": {"model.width": 8, "training.samples": 0}}  # fmt: skip
    copying, go, keep = threading.Event(), threading.Event(), service.uploads.keep

    def slow(*given: Any) -> Any:
        copying.set()
        assert go.wait(20)
        return keep(*given)

    monkeypatch.setattr(service.uploads, "keep", slow)
    monkeypatch.setattr(service.trainings, "_begin", lambda: None)  # it waits
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(own.post, "/api/v1/runs", json=asked)
        assert copying.wait(20)
        second = own.post("/api/v1/runs", json=asked)
        gone = own.delete("/api/v1/runs/new")
        go.set()
        first = first.result(20)
    assert (first.status_code, second.status_code, gone.status_code) == (201, 409, 409)
    assert (service.settings.folder / ".undiffuse/data/new/own.npy").is_file()


def test_what_is_old_goes_though_nobody_asks(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "TIDIED", 0.01)
    (tmp_path / "runs").mkdir()
    with client_of(tmp_path / "runs") as client:
        service = client.app.state.service  # pyright: ignore[reportAttributeAccessIssue, reportFunctionMemberAccess]
        sent = post(client, ("own.npy", array())).json()
        place = service.uploads.find(sent["id"]).folder
        time.sleep(0.05)
        assert place.is_dir()
        monkeypatch.setattr(uploads, "KEPT_UPLOAD", 0.0)
        wait_for(lambda: not place.exists(), 20)
