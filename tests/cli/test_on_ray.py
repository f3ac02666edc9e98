"""On Ray: one actor, two, and one that dies give what one process gives. `make cluster` runs it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import pytest

import undiffuse as ud
from undiffuse.cli.main import main
from undiffuse.errors import InputError
from undiffuse.spread import RowRange, ranges_of
from undiffuse.spread.on_ray import make_on_ray

pytestmark = pytest.mark.cluster
HERE = str(Path(__file__).parent)
N, BATCH = 50, 8
FEW = ("--steps", 2, "--batch", BATCH, "--device", "cpu")


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray on this machine with two CPUs, once for all tests; its workers find this module."""
    ray = pytest.importorskip("ray")
    os.environ["PYTHONPATH"] = os.pathsep.join([HERE, *filter(None, sys.path)])
    os.environ.update({"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"})
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=100 * 2**20,
    )
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    np.save(folder / "training.npy", rng.normal(size=(200, 3)))
    np.save(folder / "new.npy", rng.normal(size=(N, 3)))
    ud.edm(width=8, depth=1).fit(folder / "training.npy", out=folder / "run", steps=2, batch=32)
    words = ("sample", folder / "run", "-n", N, "--out", f"{folder}/alone/", *FEW)
    assert main([str(word) for word in words]) == 0
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


def test_one_actor_draws_what_one_process_draws(
    ray: Any, cli: Any, place: Path, tmp_path: Path
) -> None:
    words = ("sample", place / "run", "-n", N, "--out", f"{tmp_path}/x/", *FEW, "--on", "ray")
    done = cli(*words, "--workers", 1).done()
    assert content(tmp_path / "x") == content(place / "alone")
    assert done.err == f"wrote {tmp_path}/x/\n"
    assert os.listdir(tmp_path) == ["x"]


def test_what_was_interrupted_in_one_process_goes_on_with_two_actors(
    ray: Any, cli: Any, place: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    """Eight of them would leave no CPU to Ray itself: there are two, and that is said."""
    words = ("sample", place / "run", "-n", N, "--out", f"{tmp_path}/x/", *FEW)
    with monkeypatch.context() as patch:
        missing = "undiffuse.spread.ranges.ResumableFolder.missing"
        patch.setattr(missing, lambda self: self.ranges[:2])
        patch.setattr("undiffuse.spread.ranges.ResumableFolder.finish", _stopped)
        patch.setattr("undiffuse.spread.ranges.ResumableFolder.facts", lambda self: [])
        assert cli(*words).code == 130
    done = cli(*words, "--on", "ray", "--workers", 8).done()
    assert "2 workers draw" in done.err
    assert "2 of 7 parts are there already" in done.err
    assert content(tmp_path / "x") == content(place / "alone")


def _stopped(*_: object) -> None:
    raise KeyboardInterrupt


def test_actors_score_what_one_process_scores(
    ray: Any, cli: Any, place: Path, tmp_path: Path
) -> None:
    words = ("score", place / "run", place / "new.npy", "--batch", BATCH, "--evaluations", 2)
    more = ("--draws", 1, "--alarm", 0.2)
    cli(*words, *more, "--out", tmp_path / "x.csv").done()
    done = cli(*words, *more, "--out", tmp_path / "y.csv", "--on", "ray", "--json").done()
    assert (tmp_path / "y.csv").read_bytes() == (tmp_path / "x.csv").read_bytes()
    assert json.loads(done.out)["rows"] == N


@final
@dataclass(frozen=True)
class Dies:
    """A task whose actor is killed in one range, once; it writes down who made which."""

    folder: str
    dies_in: int
    refuses: str = ""

    def open(self) -> Any:
        return self.make

    def make(self, one: RowRange) -> None:
        if self.refuses:
            raise InputError(self.refuses)
        mark = Path(self.folder) / "died"
        if one.number == self.dies_in and not mark.exists():
            mark.touch()
            os._exit(9)
        with (Path(self.folder) / f"{one.number}").open("a") as stream:
            stream.write(f"{one.count}\n")


def test_an_actor_that_dies_is_replaced_and_nothing_is_lost_or_made_twice(
    ray: Any, tmp_path: Path
) -> None:
    ranges, told = ranges_of(N, BATCH), []
    task = Dies(str(tmp_path), 3)
    progress = lambda done, total, what: told.append((done, total, what))  # noqa: E731
    assert make_on_ray(task, ranges, workers=2, total=N, what="x", progress=progress)
    assert (tmp_path / "died").exists()
    made = {int(f.name): f.read_text() for f in tmp_path.iterdir() if f.name != "died"}
    assert made == {one.number: f"{one.count}\n" for one in ranges}
    assert told[-1] == (N, N, "x")
    assert len(told) == len(ranges)


def test_a_refusal_of_an_actor_is_that_of_the_command(ray: Any, tmp_path: Path) -> None:
    task = Dies(str(tmp_path), 9, "x: no such run.")
    with pytest.raises(InputError, match=r"^x: no such run\.$"):
        make_on_ray(task, ranges_of(N, BATCH), total=N)


def test_a_cluster_that_is_not_there_is_a_sentence(
    cli: Any, place: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    ray = pytest.importorskip("ray")
    if ray.is_initialized():
        ray.shutdown()
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    words = ("sample", place / "run", "-n", N, "--out", f"{tmp_path}/x/", *FEW, "--on", "ray")
    assert cli(*words).refused("RAY_ADDRESS 127.0.0.1:1: this cluster cannot be reached")
