"""Samples for a report: what is kept and taken up again, and what they cost."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from undiffuse.data import load
from undiffuse.diffusion import RowNoise
from undiffuse.evaluation import drawn
from undiffuse.evaluation.batch_file import BatchFile
from undiffuse.evaluation.drawn import counted, draw, peak_memory, time_singles
from undiffuse.interfaces import Player
from undiffuse.models.base import GenerativeModel

rng = np.random.default_rng(0)


class Passes(GenerativeModel):
    """Asks its network `passes` times for each batch; a sample is noise of its own number."""

    def __init__(self, passes: int) -> None:
        super().__init__()
        self.net, self.passes, self.drawn = nn.Linear(2, 2), passes, 0
        self.transform = load(rng.normal(size=(50, 2))).transform

    def prepare(self, source: Any) -> None: ...

    def players(self) -> dict[str, Player]:
        return {"net": Player(self.net), "idle": Player(nn.Linear(1, 1))}

    def losses(self, x: Tensor, **cond: Tensor) -> Iterator[tuple[str, Tensor]]:
        yield "net", x.sum()

    def draw(self, n: int, *, noise: Any, method: str | None = None, **options: Any) -> Tensor:
        self.drawn += n
        x = noise(torch.empty(n, 2))
        for _ in range(self.passes):
            self.net(x)
        return x

    def diagnostics(self, x: Tensor, **cond: Tensor) -> dict[str, Any]:
        return {"loss": 0.0}

    def config(self) -> dict[str, Any]:
        return {}


def test_evaluations_are_counted_where_they_happen():
    model = Passes(passes=7)
    found = draw(model, 20, None, options={}, batch=8)
    assert found.evaluations == 7
    assert [size for size, _ in found.batches] == [8, 8, 4]
    assert draw(Passes(passes=0), 20, None, options={}, batch=8).evaluations == 1
    with counted(model) as count:
        model.net(torch.zeros(3, 2))
    model.net(torch.zeros(9, 2))
    assert count() == 3


def test_drawing_goes_on_where_it_was_stopped(tmp_path):
    model = Passes(passes=1)
    whole = model.sample_rows(50, seed=4)
    polls = iter([False, False, False, True])
    assert draw(model, 50, tmp_path, options={}, seed=4, batch=16, stop=lambda: next(polls)) is None
    before = model.drawn
    found = draw(model, 50, tmp_path, options={}, seed=4, batch=7)
    assert model.drawn - before == 50 - 32 + 1  # one to warm up
    np.testing.assert_array_equal(found.rows, whole)
    before = model.drawn
    np.testing.assert_array_equal(draw(model, 20, tmp_path, options={}, seed=4).rows, whole[:20])
    assert model.drawn == before
    np.testing.assert_array_equal(draw(model, 60, tmp_path, options={}, seed=4).rows[:50], whole)


def test_kept_samples_are_those_of_the_same_weights_sampler_and_seed_and_whole(tmp_path):
    model = Passes(passes=1)
    first = draw(model, 10, tmp_path, options={}, seed=0)
    assert not np.array_equal(draw(model, 10, tmp_path, options={}, seed=1).rows, first.rows)
    draw(model, 10, tmp_path, options={"method": "other"}, seed=0)
    assert len(list(tmp_path.iterdir())) == 3
    for file in tmp_path.iterdir():
        file.write_bytes(file.read_bytes()[:-100])
    np.testing.assert_array_equal(draw(model, 10, tmp_path, options={}, seed=0).rows, first.rows)
    with torch.no_grad():
        model.net.weight += 1
    draw(model, 10, tmp_path, options={}, seed=0)
    assert len(list(tmp_path.iterdir())) == 4


@pytest.fixture
def clock(monkeypatch):
    """A clock that a sample of `Passes` moves on by a quarter of a second, or what `clock` says."""
    now, each = [0.0], SimpleNamespace(seconds=0.25)
    whole = Passes.draw

    def draw_slowly(self: Passes, n: int, **options: Any) -> Tensor:
        now[0] += n * each.seconds
        return whole(self, n, **options)

    monkeypatch.setattr(Passes, "draw", draw_slowly)
    monkeypatch.setattr("undiffuse.evaluation.drawn.time.perf_counter", lambda: now[0])
    return each


def test_times_are_those_of_the_clock(clock, tmp_path):
    model = Passes(passes=1)
    found = draw(model, 20, tmp_path, options={}, batch=8)
    assert found.batches == ((8, 2.0), (8, 2.0), (4, 1.0))
    assert draw(model, 20, tmp_path, options={}).batches == found.batches
    assert time_singles(model, {}) == (0.25,) * 6
    assert model.drawn == 21 + 7  # one to warm up each time
    assert time_singles(model, {}, stop=lambda: True) is None


@pytest.mark.parametrize(("seconds", "count"), [(4.0, 6), (10.0, 3), (14.0, 3), (50.0, 1)])
def test_single_samples_are_six_or_as_many_as_begin_within_half_a_minute(clock, seconds, count):
    clock.seconds = seconds
    assert time_singles(Passes(passes=1), {}) == (seconds,) * count


def test_single_samples_are_of_different_numbers_and_stop_when_told():
    asked: list[tuple[int, str | None, list[Any]]] = []

    class Asked(Passes):
        def draw(self, n: int, *, noise: Any, method: str | None = None, **options: Any) -> Tensor:
            asked.append((n, method, noise(torch.empty(n, 2)).tolist()))
            return super().draw(n, noise=noise, **options)

    model = Asked(passes=1)
    polls = iter([False, False, True])
    assert time_singles(model, {"method": "one"}, seed=3, stop=lambda: next(polls)) is None
    whole = model.sample_rows(2, seed=3)
    assert len(whole) == 2
    warm, first, second, both = [noise for _, _, noise in asked]
    assert warm == first
    assert first + second == both
    assert [(n, method) for n, method, _ in asked[:3]] == [(1, "one")] * 3


def test_every_sample_is_drawn_in_the_same_way_the_one_to_warm_up_too():
    model, asked = Passes(passes=1), []
    own = model.draw

    def told(n: int, *, noise: Any, method: str | None = None) -> Tensor:
        asked.append((n, method))
        return own(n, noise=noise)

    model.draw = told  # type: ignore[method-assign]
    draw(model, 5, None, options={"method": "one"}, batch=3)
    assert asked == [(1, "one"), (3, "one"), (2, "one")]


def test_kept_samples_of_another_shape_are_not_these(tmp_path):
    """As a damaged file has them."""
    model = Passes(passes=1)
    whole = draw(model, 4, tmp_path, options={})
    (file,) = tmp_path.iterdir()
    identity = json.loads(file.read_bytes().partition(b"\n")[0])
    file.unlink()
    kept = BatchFile.in_folder(tmp_path, identity)
    kept.append({"rows": np.zeros((4, 3)), "seconds": 1.0, "evaluations": 1.0})
    again = draw(model, 4, tmp_path, options={})
    assert whole is not None
    assert again is not None
    np.testing.assert_array_equal(again.rows, whole.rows)


def test_samples_are_of_seed_0_unless_told():
    class Asked(Passes):
        def draw(self, n: int, *, noise: Any, **options: Any) -> Tensor:
            asked.append(noise(torch.empty(n, 2)))
            return super().draw(n, noise=noise, **options)

    asked: list[Tensor] = []
    model = Asked(passes=1)
    found = draw(model, 3, None, options={})
    assert found is not None
    np.testing.assert_array_equal(found.rows, model.sample_rows(3, seed=0))
    asked.clear()
    time_singles(model, {})
    assert torch.equal(torch.cat(asked[1:3]), RowNoise(0, 2)(torch.empty(2, 2)))


def test_progress_is_told_before_each_batch_and_at_the_end(tmp_path):
    told: list[tuple[Any, ...]] = []
    draw(
        Passes(passes=1),
        20,
        tmp_path,
        options={},
        batch=8,
        progress=lambda *words: told.append(words),
        what="so",
    )
    assert told == [(0, 20, "so"), (8, 20, "so"), (16, 20, "so"), (20, 20, "so")]
    told.clear()
    draw(Passes(passes=1), 8, None, options={}, progress=lambda *words: told.append(words))
    assert told == [(0, 8, "drawing samples"), (8, 8, "drawing samples")]


def test_evaluations_are_a_mean_over_samples_and_not_over_batches():
    class Uneven(Passes):
        def draw(self, n: int, **options: Any) -> Tensor:
            self.passes = n
            return super().draw(n, **options)

    found = draw(Uneven(passes=1), 20, None, options={}, batch=8)
    assert found is not None
    assert found.evaluations == pytest.approx((8 * 8 + 8 * 8 + 4 * 4) / 20)


def test_rows_are_counted_in_the_player_with_the_most_by_its_first_tensor():
    model = Passes(passes=0)
    players = model.players()
    net, idle = (player.module for player in players.values())
    model.players = lambda: players  # type: ignore[method-assign]
    with counted(model) as count:
        assert count() == 0
        net(torch.zeros(3, 2))
        idle(torch.zeros(5, 1))
        assert count() == 5
        net(torch.zeros(2))  # a single vector is no batch of rows
        idle(torch.zeros(4, 1))
        assert count() == 9
        net.forward = lambda *given: given  # type: ignore[method-assign]
        net("text", torch.zeros(20, 1), torch.zeros(50, 1))
        assert count() == 3 + 20
    idle(torch.zeros(99, 1))
    assert count() == 23
    model.players = dict  # type: ignore[method-assign]
    with counted(model) as count:
        assert count() == 0


# --- memory


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs /proc")
def test_the_peak_of_memory_is_what_the_system_says_it_was():
    """VmHWM, the high water mark of what the process holds."""
    block = np.ones(2**24)  # 128 MiB, touched
    lines = Path("/proc/self/status").read_text()
    (mark,) = re.findall(r"VmHWM:\s+(\d+) kB", lines)
    assert peak_memory(Passes(passes=1)) == pytest.approx(int(mark) * 1024, rel=0.02)
    assert peak_memory(Passes(passes=1)) > block.nbytes


def test_the_peak_is_in_bytes_on_every_system_and_that_of_the_accelerator_there(monkeypatch):
    used = SimpleNamespace(ru_maxrss=3000)
    monkeypatch.setattr(drawn.resource, "getrusage", lambda who: used)

    class Elsewhere(Passes):
        device = torch.device("cpu")

    model = Elsewhere(passes=1)
    for system, unit in (("linux", 1024), ("darwin", 1)):
        monkeypatch.setattr(sys, "platform", system)
        assert peak_memory(model) == 3000 * unit
    Elsewhere.device = torch.device("cuda", 1)
    peaks = {Elsewhere.device: 7e9}
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", peaks.__getitem__)
    assert peak_memory(model) == 7_000_000_000
