"""What lasts and is waited for: drawing, completing, scoring, evaluating, comparing.

    submit -> waiting (a bounded queue) -> working (one at a time) -> done, failed or cancelled

A job is done by a thread that calls the library with the job's own `progress` and `stopped`, and is
cancelled between two steps. Its result is a file, kept for an hour, within a bound on the size of
all results. Whoever meets a full queue is told when to come again.
"""

from __future__ import annotations

import secrets
import shutil
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, final

from undiffuse.errors import InputError
from undiffuse.web.limits import KEPT_RESULT, RESULTS
from undiffuse.web.problems import Refusal
from undiffuse.web.scratch import size_of

JobState = Literal["waiting", "working", "done", "failed", "cancelled"]
LONGEST_WAIT = 60  # seconds that a client is told to wait
REMEMBERED = 1000  # jobs
LOOKING = 2.0  # seconds that somebody is taken to look on


class Cancelled(Exception):
    """The result of a job is no longer wanted."""


@final
@dataclass(frozen=True)
class Outcome:
    """What came of a job: a file, its media type, and the name that it is saved under."""

    file: Path
    media: str
    name: str


@final
class Job:
    """One piece of work.

    Attributes:
        id: its name in addresses, which cannot be guessed.
        what: "sample", "complete", "score", "evaluate" or "compare", or what else is done.
        run: the name of the run, "" for several.
        folder: where it may write; gone with its result.
        done, of: how far it is.
        notes: what was guessed, left out or changed, a sentence each.
        preview: a PNG of what is being drawn, None before there is one.
        problem: why it failed, in a sentence.
        ended: resolved at its end, whatever that is.
    """

    def __init__(self, what: str, run: str, folder: Path, work: Callable[[Job], Outcome]) -> None:
        self.id = folder.name
        self.what, self.run, self.folder, self.work = what, run, folder, work
        self.state: JobState = "waiting"
        self.done, self.of = 0, 0
        self.notes: list[str] = []
        self.preview: bytes | None = None
        self.problem = ""
        self.result: Outcome | None = None
        self.ended: Future[None] = Future()
        self.ended.set_running_or_notify_cancel()  # who no longer waits for it cannot cancel it
        self.made = time.monotonic()
        self.began: float | None = None
        self.finished: float | None = None
        self.size = 0  # bytes of its result
        self._unwanted = threading.Event()
        self._watched = 0.0

    def watch(self) -> None:
        """Say that somebody looks at it now: previews are made for a while."""
        self._watched = time.monotonic()

    def watched(self) -> bool:
        """Whether somebody looks at it: only then is a preview worth its time."""
        return time.monotonic() - self._watched < LOOKING

    @property
    def seconds(self) -> float:
        """How long it has been worked on."""
        if self.began is None:
            return 0.0
        return (self.finished or time.monotonic()) - self.began

    def cancel(self) -> None:
        """Say that it is no longer wanted; it ends before its next step."""
        self._unwanted.set()

    def stopped(self) -> bool:
        """Whether it is no longer wanted: `stop` of the library."""
        return self._unwanted.is_set()

    def progress(self, done: int, total: int, what: str) -> None:
        """Take how far it is: `progress` of the library. Raises Cancelled if it is unwanted."""
        if self.stopped():
            raise Cancelled
        self.done, self.of = done, total

    def note(self, text: str) -> None:
        """Take a sentence on what was guessed, left out or changed."""
        if text not in self.notes and len(self.notes) < 100:
            self.notes.append(text)


@final
class Jobs:
    """The queue, and the threads that work on it.

    Args:
        folder: where results are kept.
        workers: how many jobs are worked on at a time.
        waiting: how many more may wait.
    """

    def __init__(self, folder: Path, *, workers: int, waiting: int) -> None:
        self.folder, self.workers, self.bound = folder, workers, waiting
        self._known: dict[str, Job] = {}
        self._queue: deque[Job] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._took = 1.0  # seconds of a job, averaged
        self._threads = [
            threading.Thread(target=self._work, name=f"job-{i}", daemon=True)
            for i in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, what: str, run: str, work: Callable[[Job], Outcome]) -> Job:
        """Let `work` be done when its turn comes.

        Raises:
            Refusal: as many are waiting as may (429, with when to come again).
        """
        with self._changed:
            self._forget()
            busy = sum(job.state == "working" for job in self._known.values())
            if len(self._queue) >= self.bound + max(self.workers - busy, 0):
                raise Refusal(
                    429,
                    f"the queue is full: {len(self._queue)} are waiting; come again.",
                    {"retry-after": str(self.retry_after)},
                )
            folder = self.folder / secrets.token_urlsafe(16)
            folder.mkdir(parents=True)
            job = Job(what, run, folder, work)
            self._known[job.id] = job
            self._queue.append(job)
            self._changed.notify()
        return job

    @property
    def retry_after(self) -> int:
        """In how many seconds there will be a place, about."""
        return min(max(1, round(self._took)), LONGEST_WAIT)

    def find(self, name: str) -> Job:
        """Return a job. Raises Refusal (404) if there is none, or no longer."""
        with self._changed:
            self._forget()
            if (job := self._known.get(name)) is None:
                raise Refusal(404, "job: there is none of this name, or no longer.")
            return job

    def place(self, job: Job) -> int:
        """Return how many are before it in the queue, itself counted; 0 if it does not wait."""
        with self._changed:
            return self._queue.index(job) + 1 if job in self._queue else 0

    def cancel(self, job: Job) -> None:
        """Give up a job: its place in the queue is free at once, what it works on very soon."""
        job.cancel()
        with self._changed:
            if job in self._queue:
                self._queue.remove(job)
                self._end(job, "cancelled")

    def discard(self, job: Job) -> None:
        """Cancel a job, and forget it and its result."""
        self.cancel(job)
        with self._changed:
            if job.ended.done():
                self._drop(job)
            else:
                job.ended.add_done_callback(lambda _: self._drop(job))

    def forget(self) -> None:
        """Drop what has been kept for long enough."""
        with self._changed:
            self._forget()

    def working_on(self, run: str) -> bool:
        """Return whether a job on this run is waiting or worked on."""
        with self._changed:
            alive = [job for job in self._known.values() if job.state in ("waiting", "working")]
        return any(job.run == run for job in alive)

    def close(self) -> None:
        """Cancel all of them, and wait until they have ended."""
        with self._changed:
            self._closed = True
            for job in list(self._known.values()):
                job.cancel()
            while self._queue:
                self._end(self._queue.popleft(), "cancelled")
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(timeout=10)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                job = self._queue.popleft()
                job.state, job.began = "working", time.monotonic()
            state: JobState = "done"
            try:
                job.result = job.work(job)
            except Cancelled:
                state = "cancelled"
            except (InputError, Refusal) as problem:
                state, job.problem = "failed", " ".join(str(problem).split())
            except MemoryError:
                state = "failed"
                job.problem = "there is not enough memory; ask for less at once."
            except Exception as problem:
                if "not enough memory" in str(problem) or "out of memory" in str(problem):
                    job.problem = "there is not enough memory; ask for less at once."
                else:
                    traceback.print_exc()
                    job.problem = "this failed in the server, whose output says why."
                state = "failed"
            with self._changed:
                self._took += 0.2 * (time.monotonic() - (job.began or 0.0) - self._took)
                self._end(job, state)

    def _end(self, job: Job, state: JobState) -> None:
        job.state, job.finished = state, time.monotonic()
        job.preview, job.size = None, size_of(job.folder) if state == "done" else 0
        if state != "done":
            shutil.rmtree(job.folder, ignore_errors=True)
        job.ended.set_result(None)

    def _drop(self, job: Job) -> None:
        self._known.pop(job.id, None)
        shutil.rmtree(job.folder, ignore_errors=True)

    def _forget(self) -> None:
        """Drop what has been kept for long enough, and the oldest where all is too much."""
        ended = [job for job in self._known.values() if job.finished is not None]
        ended.sort(key=lambda job: job.finished or 0.0)
        for job in ended:
            if time.monotonic() - (job.finished or 0.0) > KEPT_RESULT:
                self._drop(job)
        kept = [job for job in ended if job.id in self._known]
        over = sum(job.size for job in kept) - RESULTS
        while kept and (over > 0 or len(kept) > REMEMBERED):
            oldest = kept.pop(0)
            over -= oldest.size
            self._drop(oldest)
