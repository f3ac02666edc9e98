"""Ranges made by the actors of a Ray cluster, or of Ray on this machine.

Ray Data holds the pool of actors, hands out ranges, waits where there are too many, and gives what
an actor that died was making to another. An actor asks for half of a CPU. Ray's own reading and
writing need a CPU: a pool that takes all of them waits for ever, so it is made smaller.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from types import ModuleType
from typing import Any, final

import numpy as np

from undiffuse.errors import InputError
from undiffuse.interfaces import Progress, Stop
from undiffuse.spread.ranges import RowRange
from undiffuse.spread.together import Task

SHARE = 0.5  # of a CPU that an actor asks for
OWN = 1.0  # CPUs that are left for Ray's reading and writing
RETRIES = 10  # of an actor that died
_STORE = 100 * 2**20  # bytes of shared memory on this machine: rows do not pass through it


def need_ray() -> ModuleType:
    """Return Ray with its data library. Raises InputError naming the extra without it."""
    try:
        import_module("ray.data")
    except ImportError as problem:
        raise InputError("--on ray: needs Ray; pip install 'undiffuse[cluster]'.") from problem
    return import_module("ray")


def pool_size(cpus: float, gpus: float, wanted: int | None) -> tuple[int, str]:
    """Return how many actors there are, and what is to be said of that; "" if nothing is.

    Args:
        cpus: of the cluster.
        gpus: of the cluster, 0 if none is used: then each actor has one.
        wanted: the number asked for; None: one for each GPU, or each CPU.

    >>> pool_size(2, 0, None), pool_size(1, 0, None)[0], pool_size(64, 8, None)[0]
    ((2, ''), 1, 8)
    >>> pool_size(2, 0, 8)[1]
    '--workers 8: this cluster has 2 CPUs, of which reading and writing need 1; 2 workers draw.'
    """
    most = max(1, int((cpus - OWN) / SHARE))
    size = int(gpus) if gpus else max(1, int(cpus))
    asked = size if wanted is None else wanted
    if gpus and asked > gpus:
        note = f"this cluster has {gpus:g} GPUs, one for each worker"
        return min(most, int(gpus)), f"--workers {asked}: {note}; {min(most, int(gpus))} workers."
    if asked <= most:
        return asked, ""
    called = f"--workers {asked}" if wanted is not None else f"{asked} workers"
    note = f"this cluster has {cpus:g} CPUs, of which reading and writing need {OWN:g}"
    return most, f"{called}: {note}; {most} worker{'s draw' if most > 1 else ' draws'}."


def make_on_ray(
    task: Task,
    ranges: Sequence[RowRange],
    *,
    workers: int | None = None,
    gpu: bool = True,
    progress: Progress | None = None,
    what: str = "",
    total: int = 0,
    stop: Stop = lambda: False,
    say: Callable[[str], None] = lambda text: None,
) -> bool:
    """Make ranges by the actors of the cluster RAY_ADDRESS, else of this machine.

    Args:
        task: opened once in each actor.
        ranges: those that are missing.
        workers: how many actors; None: one for each GPU, or each CPU.
        gpu: whether GPUs are used where the cluster has some.
        progress: told how many rows are made, of `total`.
        what: the words it is told in.
        total: all rows, those that were there before included.
        stop: polled after each range.
        say: told of a pool that is made smaller.

    Returns:
        Whether all are made.

    Raises:
        InputError: without Ray, for a cluster that cannot be reached, and what the task raises.
    """
    ray = need_ray()
    done = total - sum(one.count for one in ranges)
    with _running(ray):
        for name in ("ray", "ray.data"):
            logging.getLogger(name).setLevel(logging.ERROR)
        ray.data.DataContext.get_current().enable_progress_bars = False
        found = ray.cluster_resources()
        gpus = found.get("GPU", 0.0) if gpu else 0.0
        size, note = pool_size(found.get("CPU", 1.0), gpus, workers)
        if note:
            say(note)
        items = [{"number": one.number, "first": one.first, "count": one.count} for one in ranges]
        asked: dict[str, Any] = {"num_gpus": 1} if gpus else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the way to say how often is to change in Ray 2.64
            made = ray.data.from_items(items, override_num_blocks=len(items)).map_batches(
                _Actor,
                fn_constructor_args=(task, os.getcwd()),
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=min(size, len(items))),
                num_cpus=min(SHARE, found.get("CPU", 1.0) / 2),
                ray_remote_args_fn=_retried,
                **asked,
            )
        for row in _rows(ray, made):
            if row["problem"]:
                raise InputError(row["problem"])
            done += int(row["count"])
            if progress:
                progress(done, total, what)
            if done < total and stop():
                return False
    return True


def _retried() -> dict[str, Any]:
    """Return how often an actor that died is started again, with what it was making."""
    return {"max_restarts": RETRIES, "max_task_retries": RETRIES}


def _rows(ray: ModuleType, made: Any) -> Iterator[dict[str, Any]]:
    """Yield the rows of a data set. Raises InputError if actors end again and again."""
    try:
        yield from made.iter_rows()
    except ray.exceptions.ActorDiedError as problem:
        raise InputError(
            f"Ray's workers ended {RETRIES} times and more, as where memory is short; what is done "
            "is kept: look at Ray's logs, or give fewer --workers or a smaller --batch."
        ) from problem


@final
class _Actor:
    """Opens the task once, and makes the ranges that it is given; a refusal is handed back."""

    def __init__(self, task: Task, folder: str) -> None:
        with suppress(OSError):  # on another machine it may not be there
            os.chdir(folder)
        self.make, self.problem = None, ""
        try:
            self.make = task.open()
        except InputError as problem:
            self.problem = str(problem)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        problems = []
        for number, first, count in zip(batch["number"], batch["first"], batch["count"]):
            problem = self.problem
            try:
                if self.make is not None:
                    self.make(RowRange(int(number), int(first), int(count)))
            except InputError as refused:
                problem = str(refused)
            problems.append(problem)
        return {"count": batch["count"], "problem": np.array(problems)}


@contextmanager
def _running(ray: ModuleType) -> Iterator[None]:
    """Within, Ray is connected to its cluster; it is quiet, and tells nobody of it."""
    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
    os.environ.setdefault("RAY_worker_niceness", "0")  # else workers wait for all else that runs
    address = os.environ.get("RAY_ADDRESS") or "local"
    own: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _STORE}
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        _meet(address)
        with _silent():  # it prints where it logs
            ray.init(
                address=address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **(own if address == "local" else {}),
            )
    except (ConnectionError, RuntimeError, ValueError, OSError) as problem:
        said = next(iter(str(problem).splitlines()), type(problem).__name__)
        raise InputError(
            f"RAY_ADDRESS {address}: this cluster cannot be reached ({said[:200]})."
        ) from problem
    finally:
        for number, handler in handlers.items():  # Ray sets its own
            with suppress(ValueError):  # in another thread than the main one
                signal.signal(number, handler)
    try:
        yield
    finally:
        ray.shutdown()


def _meet(address: str) -> None:
    """Raise OSError if nothing answers at an address with a port; Ray would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()


@contextmanager
def _silent() -> Iterator[None]:
    """Within, what libraries in C++ print to standard error is lost; exceptions are not."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
