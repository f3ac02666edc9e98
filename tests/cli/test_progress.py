"""What moves on the screen, and what is said instead where there is no screen."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from undiffuse.cli import progress
from undiffuse.cli.progress import Bar, Live
from undiffuse.cli.terminal import Terminal


def terminal(*, lively: bool) -> tuple[Terminal, io.StringIO]:
    stream = io.StringIO()
    made = Terminal()
    made.console = Console(
        file=stream, force_terminal=lively, width=120, highlight=False, soft_wrap=True
    )
    return made, stream


def test_a_bar_appears_only_after_two_seconds_and_only_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    for lively in (True, False):
        made, stream = terminal(lively=lively)
        with Bar(made) as bar:
            bar(1, 10, "reading")
            now[0] += 1.9
            bar(2, 10, "reading")
            assert stream.getvalue() == ""
            now[0] += 0.2
            bar(3, 10, "reading")
            drawn = bar.drawn
            assert (drawn is not None) == lively
            if drawn is not None:
                assert (drawn.tasks[0].completed, drawn.tasks[0].total) == (3, 10)
        assert ("reading" in stream.getvalue()) == lively


def events(steps: int) -> list[dict]:
    start = {"event": "start", "step": 0, "steps": steps, "budget": None}
    look = {"event": "held_out", "step": 0, "loss": 0.75}
    walk = [
        {
            "event": "step",
            "step": i,
            "loss": None if i == 3 else 0.5,
            "rate": 100.0,
            "elapsed": i * 4.0,
            "left": (steps - i) * 4.0,
            "skipped": int(i >= 3),
        }
        for i in range(1, steps + 1)
    ]
    return [start, look, *walk]


def test_without_a_terminal_there_is_a_line_every_ten_seconds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    made, stream = terminal(lively=False)
    with Live(made) as shown:
        for event in events(10):
            now[0] = event.get("elapsed", 0.0)
            shown(event)
    lines = stream.getvalue().splitlines()
    assert [line.split("   ")[0] for line in lines] == [
        "step 3 of 10",
        "step 6 of 10",
        "step 9 of 10",
    ]
    assert lines[1] == "step 6 of 10   loss 0.5   held-out 0.75   100 rows/s   16s left   1 skipped"


def test_on_a_terminal_the_line_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    made, _ = terminal(lively=True)
    with Live(made) as shown:
        for event in events(10)[:-1]:
            now[0] = event.get("elapsed", 0.0)
            shown(event)
        assert shown.drawn is not None
        task = shown.drawn.tasks[0]
        assert task.completed == pytest.approx(0.9)
        assert task.description.startswith("step 9 of 10   loss 0.5   held-out 0.75")


def test_a_warning_is_said_when_it_appears_and_not_again_while_it_stays() -> None:
    made, stream = terminal(lively=False)
    with Live(made) as shown:
        for step, warning in (
            (1, None),
            (2, "signs of collapse"),
            (3, "signs of collapse"),
            (4, None),
            (5, "again"),
        ):
            shown(
                {"event": "held_out", "step": step, "loss": 0.5}
                | ({"warning": warning} if warning else {})
            )
    assert stream.getvalue().splitlines() == ["step 2: signs of collapse", "step 5: again"]


def test_the_budget_nobody_gave_is_said(
    cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import undiffuse.training

    given: dict = {}

    def fit(model: object, data: object, **options: object) -> None:
        given.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr(undiffuse.training, "fit", fit)
    said = cli("train", "moons", "--out", tmp_path / "r", "--seed", 3)
    assert said.code == 130
    assert "10m (default; change it with --budget or --steps)" in said.err
    assert "interrupted" in said.err
    assert "budget" not in given, "the library's own default holds"
    assert given["seed"] == 3


def test_a_run_without_a_checkpoint_begins_as_it_began(cli, tmp_path: Path) -> None:
    words = (
        "--steps",
        3,
        "--device",
        "cpu",
        "--precision",
        "float32",
        "--model.width",
        8,
        "--model.depth",
        1,
    )
    cli("train", "moons", "--out", tmp_path / "a", *words, "--seed", 7, "--quiet").done()
    again = tmp_path / "b"
    again.mkdir()
    shutil.copy(tmp_path / "a" / "config.json", again / "config.json")
    assert cli("sample", again, "-n", 1, "--out", tmp_path / "s.npy").refused(
        "incomplete", "--resume"
    )
    assert "no checkpoint yet" in cli("info", again).done().out
    cli("train", "--out", again, "--resume", "--quiet").done()
    one, other = ((tmp_path / name / "weights.safetensors").read_bytes() for name in "ab")
    assert one == other
    assert json.loads((again / "config.json").read_text()) == json.loads(
        (tmp_path / "a/config.json").read_text()
    )
