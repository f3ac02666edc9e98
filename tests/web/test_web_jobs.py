"""Jobs: one at a time, a bounded queue, progress, cancelling, and what is kept of them."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from serving import wait_for

from undiffuse.errors import InputError
from undiffuse.web import jobs as module
from undiffuse.web.jobs import Cancelled, Job, Jobs, Outcome
from undiffuse.web.problems import Refusal
from undiffuse.web.streams import events_of_job
from undiffuse.web.work import Picture


class Held:
    """Work that goes on until it is let go."""

    def __init__(self) -> None:
        self.go, self.began, self.most, self.now = threading.Event(), [], 0, 0

    def __call__(self, job: Job) -> Outcome:
        self.began.append(job.id)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            while not self.go.wait(0.002):
                job.progress(len(self.began), 9, "holding")
        finally:
            self.now -= 1
        file = job.folder / "x.npy"
        file.write_bytes(b"x" * 1000)
        return Outcome(file, "application/octet-stream", "x.npy")


@pytest.fixture
def held() -> Held:
    return Held()


@pytest.fixture
def jobs(tmp_path: Path, held: Held) -> Iterator[Jobs]:
    made = Jobs(tmp_path, workers=1, waiting=2)
    yield made
    held.go.set()
    made.close()


def test_one_works_some_wait_and_others_are_told_when_to_come_again(jobs: Jobs, held: Held) -> None:
    first = jobs.submit("sample", "a", held)
    wait_for(lambda: first.state == "working")
    second, third = (jobs.submit("sample", "a", held) for _ in range(2))
    assert [jobs.place(job) for job in (first, second, third)] == [0, 1, 2]
    with pytest.raises(Refusal) as refused:
        jobs.submit("sample", "a", held)
    assert refused.value.status == 429
    assert 1 <= int(refused.value.headers["retry-after"]) <= 60
    held.go.set()
    for job in (first, second, third):
        job.ended.result(10)
        assert job.state == "done"
    assert held.began == [first.id, second.id, third.id]
    assert held.most == 1


def test_several_work_at_a_time_if_they_may(tmp_path: Path, held: Held) -> None:
    jobs = Jobs(tmp_path, workers=3, waiting=0)
    made = [jobs.submit("sample", "a", held) for _ in range(3)]
    wait_for(lambda: held.now == 3)
    with pytest.raises(Refusal):
        jobs.submit("sample", "a", held)
    held.go.set()
    for job in made:
        job.ended.result(10)
    jobs.close()


def test_cancelling_frees_the_place(jobs: Jobs, held: Held) -> None:
    first, second, third = (jobs.submit("sample", "a", held) for _ in range(3))
    wait_for(lambda: first.state == "working")
    jobs.cancel(second)
    assert second.state == "cancelled"
    assert jobs.place(third) == 1
    jobs.cancel(first)
    first.ended.result(5)
    assert first.state == "cancelled"
    wait_for(lambda: third.state == "working")
    assert jobs.working_on("a")
    jobs.discard(third)
    third.ended.result(5)
    assert not jobs.working_on("a")
    with pytest.raises(Refusal) as refused:
        jobs.find(third.id)
    assert refused.value.status == 404
    assert not any(job.folder.exists() for job in (first, second, third))


def failing(problem: BaseException) -> Any:
    def work(job: Job) -> Outcome:
        raise problem

    return work


@pytest.mark.parametrize(
    ("problem", "state", "said"),
    [
        (InputError("n 3: too many."), "failed", "n 3: too many."),
        (MemoryError(), "failed", "there is not enough memory; ask for less at once."),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), "failed", "memory"),
        (ValueError("secret"), "failed", "this failed in the server, whose output says why."),
        (Cancelled(), "cancelled", ""),
    ],
)
def test_a_failure_is_said_and_the_next_one_is_worked_on(
    jobs: Jobs, held: Held, capsys: pytest.CaptureFixture[str], problem: Any, state: str, said: str
) -> None:
    job = jobs.submit("sample", "a", failing(problem))
    job.ended.result(5)
    assert job.state == state
    assert said in job.problem
    assert "secret" not in job.problem
    assert ("secret" in capsys.readouterr().err) == isinstance(problem, ValueError) or said
    held.go.set()
    following = jobs.submit("sample", "a", held)
    following.ended.result(5)
    assert following.state == "done"


def test_results_are_kept_for_an_hour_and_within_a_size(
    jobs: Jobs, held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    held.go.set()

    def done() -> Job:
        job = jobs.submit("sample", "a", held)
        job.ended.result(5)
        return job

    def known(job: Job) -> bool:
        try:
            return jobs.find(job.id) is job and job.folder.exists()
        except Refusal:
            return job.folder.exists()

    first, second = done(), done()
    later = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: later + 3599)
    assert known(first)
    monkeypatch.setattr(module.time, "monotonic", lambda: later + 3601)
    assert not known(first)
    assert not known(second)
    monkeypatch.undo()
    third, fourth, fifth = done(), done(), done()
    monkeypatch.setattr(module, "RESULTS", 2500)  # of 1,000 bytes each
    assert [known(job) for job in (third, fourth, fifth)] == [False, True, True]


# --- through the service


def async_job(client: Any, path: str, **asked: Any) -> dict[str, Any]:
    answer = client.post(path, json=asked, headers={"prefer": "respond-async"})
    assert answer.status_code == 202, answer.text
    tree = answer.json()
    assert answer.headers["location"] == f"/api/v1/jobs/{tree['id']}"
    return tree


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


def test_a_job_is_followed_to_its_result(shared) -> None:
    asked = {"n": 4, "form": "npy", "steps": 40}
    job = async_job(shared, "/api/v1/runs/images/sample", **asked)
    assert job["what"] == "sample"
    assert job["run"] == "images"
    followed = shared.get(f"/api/v1/jobs/{job['id']}/events")
    assert followed.headers["content-type"].startswith("text/event-stream")
    *told, end = events(followed.text)
    assert end == {}
    assert told[-1]["state"] == "done"
    assert told[-1]["done"] == told[-1]["of"] == 40
    result = shared.get(told[-1]["result"])
    waited = shared.post("/api/v1/runs/images/sample", json=asked)
    assert result.content == waited.content
    assert shared.get(told[-1]["result"]).status_code == 200  # kept
    assert shared.delete(f"/api/v1/jobs/{job['id']}").status_code == 204
    assert shared.get(told[-1]["result"]).status_code == 404


def test_what_is_drawn_is_seen_while_it_is_drawn(shared) -> None:
    """Estimates of all rows, as a picture like that of the samples: less and less noise."""
    service = shared.app.state.service
    seen: list[bytes] = []

    _, model = service.opened.open("images")
    job = Job("sample", "images", service.scratch.folder("results", "own"), lambda job: None)
    picture = Picture(job, model)
    model.sample_rows(4, steps=3, watch=picture)
    assert job.preview is None  # nobody looks
    job.watch()

    def watch(x_hat: Any) -> None:
        picture(x_hat)
        assert job.preview is not None
        seen.append(job.preview)

    rows = model.sample_rows(4, steps=6, method="ddim", watch=watch)
    assert len(seen) == 6
    wanted = model.form.preview(rows)
    assert Image.open(io.BytesIO(seen[-1])).tobytes() == wanted.tobytes()
    job.cancel()
    with pytest.raises(Cancelled):
        model.sample_rows(1, steps=3, watch=picture)


def test_a_picture_is_sent_once_with_the_events(tmp_path: Path) -> None:
    job = Job("sample", "a", tmp_path / "x", lambda job: None)

    async def follow() -> list[dict[str, Any]]:
        stream = events_of_job(job, lambda job: {"done": job.done}, lambda: False)
        found = [events((await anext(stream)).decode())]
        job.preview = b"png"
        found.append(events((await anext(stream)).decode()))
        job.done = 3
        found.append(events((await anext(stream)).decode()))
        job.ended.set_result(None)
        found.append(events((await anext(stream)).decode()))
        return [one[0] for one in found]

    shown = "data:image/png;base64," + base64.b64encode(b"png").decode()
    assert asyncio.run(follow()) == [{"done": 0}, {"done": 0, "preview": shown}, {"done": 3}, {}]


def test_a_failed_job_says_why_and_so_does_the_waiting_request(shared) -> None:
    asked = {"n": 1, "label": "no such class"}
    job = async_job(shared, "/api/v1/runs/images/sample", **asked)
    told = wait_for(
        lambda: (
            (tree := shared.get(f"/api/v1/jobs/{job['id']}").json())["state"] == "failed" and tree
        )
    )
    waited = shared.post("/api/v1/runs/images/sample", json=asked)
    assert waited.status_code == 422
    assert told["problem"] == waited.json()["detail"]
    assert told["problem"] == "label no such class: no such class; the model knows a, b."
    assert shared.get(f"/api/v1/jobs/{job['id']}/result").status_code == 422


def test_a_full_queue_is_429_with_retry_after(own) -> None:
    service, held = own.app.state.service, Held()
    waiting = [service.jobs.submit("sample", "rows", held) for _ in range(17)]
    at_once = {"prefer": "respond-async"}
    refused = own.post("/api/v1/runs/rows/sample", json={"n": 1}, headers=at_once)
    assert refused.status_code == 429
    assert refused.json()["title"] == "Too Many Requests"
    assert int(refused.headers["retry-after"]) >= 1
    busy = own.delete("/api/v1/runs/rows")
    assert busy.status_code == 409
    places = [own.get(f"/api/v1/jobs/{job.id}").json()["place"] for job in waiting]
    assert places[1:] == list(range(1, 17))
    held.go.set()
    assert own.post("/api/v1/runs/rows/sample", json={"n": 1}).status_code == 200
