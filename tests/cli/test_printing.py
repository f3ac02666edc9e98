"""What commands print of plain facts: every number and name at its place, and nothing else."""

from __future__ import annotations

import io
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from undiffuse.cli import compare, evaluate, info, progress, score, train
from undiffuse.cli.progress import Bar, Live
from undiffuse.cli.terminal import Terminal, number, plain, print_facts
from undiffuse.cli.trajectory import Trajectory
from undiffuse.cli.verb import ask
from undiffuse.evaluation.scores.table import Summary
from undiffuse.options import CompareOptions, ScoreOptions, TrainOptions


def console(*, lively: bool = False, width: int = 100) -> tuple[Console, io.StringIO]:
    stream = io.StringIO()
    return Console(
        file=stream, force_terminal=lively, width=width, highlight=False, soft_wrap=True
    ), stream


def terminal(**more: Any) -> tuple[Terminal, io.StringIO]:
    made = Terminal()
    made.console, stream = console(**more)
    return made, stream


def printed(table: Any) -> list[list[str]]:
    """The cells of a table, line by line, as they are printed."""
    shown, stream = console()
    shown.print(table)
    return [line.split() for line in stream.getvalue().splitlines()]


# --- plain words


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (1234567, "1,234,567"), (0.1234567, "0.123457"), (1e-9, "1e-09"), (True, "True"),
        ("text", "text"), (None, "None"), ([], "one number"), ((), "one number"),
        ([2, 3], "2 x 3"), (["a", "b"], "a, b"), ([1, "b"], "1, b"), ({}, ""),
        ({"a": 1, "b": {"c": 2000}}, "a 1, b c 2,000"),
        ({str(i): i for i in range(12)}, ", ".join(f"{i} {i}" for i in range(12))),
        (
            {str(i): i for i in range(13)},
            ", ".join(f"{i} {i}" for i in range(12)) + ", ... (13 in all)",
        ),
    ],
)  # fmt: skip
def test_a_plain_value_is_written_as_a_person_writes_it(value: Any, said: str) -> None:
    assert info.words_for(value) == said


def test_numbers_have_four_digits_and_what_is_none_a_dash() -> None:
    assert [number(one) for one in (1.0, 0.00012345, -12345.6, math.nan, None, math.inf)] == [
        "1", "0.0001234", "-1.235e+04", "-", "-", "inf",
    ]  # fmt: skip


def test_json_has_no_infinities_and_keeps_everything_else() -> None:
    tree = {
        1: np.float32(0.5), "array": np.arange(3), "path": Path("a/b"),
        "list": (math.inf, -math.inf), "words": ["ä", None, True, 3, -2.5],
        "nested": {"nan": math.nan},
    }  # fmt: skip
    assert plain(tree) == {
        "1": 0.5, "array": [0, 1, 2], "path": "a/b", "list": [None, None],
        "words": ["ä", None, True, 3, -2.5], "nested": {"nan": None},
    }  # fmt: skip


def test_the_result_is_printed_where_json_is_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    Terminal().result({"a": 1})
    assert capsys.readouterr().out == ""
    Terminal(as_json=True).result({"ä": 1})
    assert capsys.readouterr().out == '{"ä": 1}\n'
    said = Terminal(quiet=True)
    said.say("nothing")
    said.facts([("a", "b")])
    assert capsys.readouterr() == ("", "")
    assert not said.lively
    Terminal().say("[bold]as it is[/]", "yellow")
    assert capsys.readouterr() == ("", "[bold]as it is[/]\n")


@pytest.mark.parametrize(("width", "wrapped"), [(60, 60), (24, 30)])
def test_facts_stand_in_two_columns_and_are_wrapped_on_a_terminal_alone(
    width: int, wrapped: int
) -> None:
    rows = [("a", "one"), ("longer", "many words " * 12)]
    for lively in (False, True):
        shown, stream = console(lively=lively, width=width)
        print_facts(shown, rows)
        text = stream.getvalue().replace("\x1b[1m", "").replace("\x1b[0m", "")
        first, *rest = text.splitlines()
        assert first == "a       one"
        if not lively:
            assert rest == ["longer  " + rows[1][1]]
            continue
        assert len(rest) > 1
        assert max(map(len, rest)) <= wrapped
        assert all(line.startswith(" " * 8) and line[8] != " " for line in rest[1:])
        assert " ".join(rest).split() == ["longer", *rows[1][1].split()]


# --- info


TREE = {
    "name": "photos", "path": "/a/photos", "rows": 2000, "training_rows": 1800,
    "held_out_rows": 200, "shape": [8, 8], "most_common": {"cat": 1200},
    "columns": [{"name": "age", "missing_values": 3}, {"name": "kind", "values": 1500}],
    "notes": ["one", "two"], "modelled_shape": [1, 8, 8], "modelled_as": "bytes.",
}  # fmt: skip


def test_data_are_described_in_two_columns_without_what_is_said_already() -> None:
    assert info.source_facts(TREE) == [
        ("data", "photos"),
        ("rows", "2,000: 1,800 to train on, 200 held out"),
        ("shape", "8 x 8"),
        ("most common", "cat 1,200"),
        ("modelled as", "bytes (1 x 8 x 8)"),
    ]
    counted = {**TREE, "modelled_as": "2 columns as 5 numbers", "modelled_shape": [5]}
    assert info.source_facts(counted)[-1] == ("modelled as", "2 columns as 5 numbers")
    ((title, table),) = info._tables(TREE)
    assert title == "columns"
    assert printed(table) == [
        ["name", "missing", "values", "values"], ["age", "3"], ["kind", "1,500"],
    ]  # fmt: skip
    assert info._tables({"empty": [], "numbers": [1, 2]}) == []


def test_a_curve_is_drawn_as_bars_and_what_is_no_curve_is_not() -> None:
    held_out = {
        "loss": 0.5,
        "levels": {"log_snr": [-4.0, 0.0, 4.0, 8.0], "mean_error": [0.5, 1.0, None, -1.0]},
        "uneven": {"a": [1.0], "b": [1.0, 2.0]},
        "gaps": {"a": [1.0, None], "b": [1.0, 2.0]},
        "words": {"a": ["x"], "b": [1.0]},
        "three": {"a": [1.0], "b": [1.0], "c": [1.0]},
    }
    ((title, bars),) = info._curves(held_out)
    assert title == "held-out mean error by log snr (levels)"
    assert printed(bars) == [
        ["-4", "0.5", "━" * 16], ["0", "1", "━" * 32], ["4", "not", "finite"], ["8", "-1"],
    ]  # fmt: skip
    assert printed(info._bars([1.0], [0.0])) == [["1", "0"]]
    shown, stream = console()
    shown.print(bars)
    lines = stream.getvalue().splitlines()
    assert [line[:7] for line in lines] == ["-4  0.5", " 0    1", " 4     ", " 8   -1"]
    assert [line[7:].strip() for line in lines] == ["━" * 16, "━" * 32, "not finite", ""]


RUN = {
    "finished": True, "weights": True, "asked": {"steps": 5000, "budget": None},
    "data": {"name": "digits", "rows": 1797}, "preset": "edm", "parameters": 12345,
    "steps": 4000, "elapsed": 90.0, "skipped": 0, "held_by": None, "notes": [],
    "sampler": None, "teacher": None, "origin": None, "tunable": False,
    "resume": "undiffuse train --resume",
    "held_out": {"loss": 0.123456, "per_class": {}, "warning": ""},
}  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "facts"),
    [
        ({}, {}),
        ({"finished": False}, {"run": "r (not finished)"}),
        (
            {"finished": False, "weights": False},
            {"run": "r (no checkpoint yet)", "sample with": None},
        ),
        (
            {"asked": {"budget": 600.0}},
            {"trained": "4,000 steps in 1m30s (asked for 10m)"},
        ),
        ({"preset": None, "parameters": None}, {"model": "made in Python, 0 parameters"}),
        ({"skipped": 1234}, {"skipped": "1,234 steps without a finite loss"}),
        (
            {"tunable": True},
            {"sampler": "the preset's default; undiffuse tune r may find a cheaper"},
        ),
        ({"teacher": "runs/t"}, {"student of": "runs/t"}),
        ({"origin": {"from": "runs/o"}}, {"started from": "runs/o"}),
        ({"held_by": "process 7"}, {"in training": "by process 7"}),
        ({"data": {"name": None}}, {"data": "None (0 rows)"}),
        ({"asked": {}}, {"trained": "4,000 steps in 1m30s (asked for 0s)"}),
        ({"held_out": None}, {"held-out loss": None}),
        ({"held_out": {"warning": "collapse"}}, {"held-out loss": None, "warning": "collapse"}),
    ],
)  # fmt: skip
def test_a_run_is_described_by_what_it_is(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], facts: dict[str, Any]
) -> None:
    tree = {**RUN, **changed}
    monkeypatch.setattr("undiffuse.run.Run", lambda what: SimpleNamespace(summary=lambda: tree))
    expected = {
        "run": "r (finished)",
        "data": "digits (1,797 rows)",
        "model": "edm, 12,345 parameters",
        "trained": "4,000 steps in 1m30s (asked for 5,000 steps)",
        "held-out loss": "0.1235",
        "resume with": "undiffuse train --resume",
        "sample with": "undiffuse sample r -n 64 --out FILE",
        **facts,
    }
    found, shown = info._run("r")
    assert found is tree
    assert dict(shown) == {name: said for name, said in expected.items() if said is not None}


# --- bars and lines


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    at = [1000.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: at[0])
    return at


def test_there_is_one_bar_at_a_time_and_it_goes_when_it_is_done(now: list[float]) -> None:
    made, stream = terminal(lively=True)
    with Bar(made) as bar:
        now[0] += 2
        bar(1, 4, "reading")  # after two seconds exactly
        reading = bar.drawn
        assert reading is not None
        bar(2, 5, "reading")
        assert bar.drawn is reading
        assert (reading.tasks[0].completed, reading.tasks[0].total) == (2, 5)
        assert reading.live.is_started
        assert reading.live.transient
        bar(0, 9, "drawing")
        assert not reading.live.is_started
        drawing = bar.drawn
        assert drawing is not None
        assert drawing is not reading
        assert [task.description for task in drawing.tasks] == ["drawing"]
        bar.clear()
        assert bar.drawn is None
        bar(3, 9, "drawing")
        drawing = bar.drawn
    assert bar.drawn is None
    assert not drawing.live.is_started
    assert "reading" in stream.getvalue()


STEP = {"event": "step", "step": 7, "loss": 1.0, "rate": 4.0, "elapsed": 3.0, "left": 9.0}


def test_the_loss_is_a_mean_that_forgets_after_fifty_steps(now: list[float]) -> None:
    """The mean of the first 50 steps; from then on a 50th of the way to the newest."""
    made, _ = terminal()
    losses = np.random.default_rng(0).normal(size=80)
    with Live(made) as live:
        for i, loss in enumerate(losses):
            live({**STEP, "loss": float(loss)})
            live({**STEP, "loss": None})
            if i < 50:
                assert live.loss == pytest.approx(losses[: i + 1].mean())
    expected = losses[:50].mean()
    for loss in losses[50:]:
        expected = 0.98 * expected + 0.02 * loss
    assert live.loss == pytest.approx(expected)


def test_the_line_says_what_is_known(now: list[float]) -> None:
    made, stream = terminal()
    with Live(made) as live:
        assert live.line({**STEP, "left": None}) == (
            "step 7   loss -   held-out -   4 rows/s   evaluating"
        )
        live({"event": "start", "steps": 2000})
        live({"event": "held_out", "step": 5, "loss": 0.25})
        live({"event": "samples", "path": Path("r/samples.png")})
        live({"event": "other"})
        assert live.samples == "r/samples.png"
        assert live.line({**STEP, "step": 1234, "skipped": 2}) == (
            "step 1,234 of 2,000   loss -   held-out 0.25   4 rows/s   9s left   2 skipped"
        )
        for seconds, said in ((9.9, 0), (0.1, 1), (9.9, 1), (0.2, 2)):
            now[0] += seconds
            live(STEP)
            assert stream.getvalue().count("step 7 of 2,000") == said


def test_on_a_terminal_it_moves_five_times_a_second(now: list[float]) -> None:
    made, _ = terminal(lively=True)
    with Live(made) as live:
        live({"event": "start", "steps": None})
        drawn = live.drawn
        assert drawn is not None
        assert drawn.live.is_started
        assert (drawn.live.refresh_per_second, drawn.live.transient) == (5, True)
        assert (drawn.tasks[0].total, drawn.tasks[0].completed) == (1, 0)
        for seconds, elapsed, done in ((0.1, 1, 0), (0.15, 3, 0.25), (0.1, 6, 0.25), (0.2, 9, 0.5)):
            now[0] += seconds
            live({**STEP, "elapsed": float(elapsed)})
            assert drawn.tasks[0].completed == done
        now[0] += 1
        live({**STEP, "elapsed": 0.0, "left": None})
        assert drawn.tasks[0].completed == 0
    assert not drawn.live.is_started


@pytest.mark.parametrize(
    ("options", "recorded", "said"),
    [
        ({"steps": 5000}, None, "5,000 steps"),
        ({"budget": "90s"}, None, "1m30s"),
        ({}, None, "10m (default; change it with --budget or --steps)"),
        ({}, {"training": {"steps": 3000}}, "3,000 steps, as recorded in the run"),
        ({}, {"training": {"budget": 60.0}}, "1m, as recorded in the run"),
        ({"steps": 1}, {"training": {"steps": 3000}}, "1 steps"),
    ],
)
def test_how_long_a_training_takes_is_said(
    options: dict[str, Any], recorded: dict[str, Any] | None, said: str
) -> None:
    assert train._how_long(TrainOptions(out="r", **options), recorded) == said


# --- what came of it


SUMMARY = Summary(
    rows=2000, finite=2000, log_likelihood=-12.34567, stderr=0.5, bits_per_dim=3.25,
    bits_error=0.125, kind="bound and exact", meaning="", alarms=None, realized=None,
    seconds=1.25, evaluations=4096.0,
)  # fmt: skip
SCORED = "2,000 rows in 1.2 s, 4,096 evaluations of the network per row"


@pytest.mark.parametrize(
    ("changed", "lines"),
    [
        ({}, ["mean", SCORED]),
        ({"meaning": "per window"}, ["mean", "this is per window", SCORED]),
        (
            {"finite": 1999},
            ["mean", SCORED, "not in the mean: 1 row without a finite score; see the column note"],
        ),
        (
            {"finite": 0},
            [SCORED, "not in the mean: 2,000 rows without a finite score; see the column note"],
        ),
        (
            {"alarms": 1500, "units": 2000, "realized": (0.005, 0.0225)},
            [
                "mean",
                SCORED,
                "1,500 alarms (75.00%); false-alarm rate 1.00% on average over choices of held-out "
                "rows, 0.50% to 2.25% with these (95 %)",
            ],
        ),
    ],
)
def test_a_summary_of_scores_is_said(changed: dict[str, Any], lines: list[str]) -> None:
    made, stream = terminal()
    options = ScoreOptions(out="s.csv", alarm=0.01)
    score._conclude(replace(SUMMARY, **changed), options, made)
    degrees = replace(SUMMARY, **changed).finite - 1
    mean = [  # 1.9612 standard errors of 0.5 and 0.125
        "mean log-likelihood -12.3457 ± 0.9806 nats per row (a lower bound and exact), "
        "3.2500 ± 0.2451 bits per dimension",
        f"± is half of the 95 % interval of the mean, by Student's t with {degrees:,} degrees of "
        "freedom; the column stderr is that of a row alone",
    ]
    expected = [text for line in lines for text in (mean if line == "mean" else [line])]
    assert stream.getvalue().splitlines() == [*expected, "wrote s.csv"]


def test_a_mean_has_student_s_interval_and_is_short_for_any_magnitude() -> None:
    """Quantiles of 2, 5 and 1001 rows as tables of Student's t print them."""
    assert score._mean(0.0, 1.0, 2) == "0.0000 ± 12.7062"
    assert score._mean(0.0, 1.0, 5) == "0.0000 ± 2.7764"
    assert score._mean(-1e6, 12.0, 1001) == "-1e+06 ± 23.55"
    assert score._mean(-999999.0, 12.0, 1001) == "-999999.0000 ± 23.5481"
    assert score._mean(2.0, math.nan, 1) == "2.0000"


def fact(value: float | None, floor: float | None = None) -> dict[str, Any]:
    return {"value": value, "floor": floor}


def test_the_table_of_a_comparison_has_a_line_a_figure_and_a_column_a_preset() -> None:
    rows = [
        {"preset": "edm", "frechet": fact(1.2345, 0.5), "recall": fact(0.25, 0.75), "modes": None,
         "samples_per_second": fact(12345.6), "evaluations_per_sample": 35.0},
        {"preset": "gan", "frechet": fact(2.0, 0.5), "recall": fact(0.5, 0.7), "kernel": None,
         "samples_per_second": fact(1000.0), "evaluations_per_sample": 1.0},
    ]  # fmt: skip
    shown, stream = console()
    best = {"frechet": ["edm"], "recall": ["edm", "gan"]}
    compare.print_table(shown, {"table": rows, "best": best})
    raw = [line.rstrip() for line in stream.getvalue().splitlines() if line.strip()]
    lines = [line.split() for line in raw]
    assert lines[0] == ["edm", "gan", "real"]
    assert len(raw[0]) == len(raw[2])  # each above its numbers
    assert set(lines[1][0]) == {"─"}
    assert lines[2:-1] == [
        ["Frechet", "distance", "1.23*", "2", "0.5"],
        ["recall", "0.25*", "0.5*"],
        ["samples/second", "12,346", "1,000"],
        ["evaluations", "35", "1"],
    ]
    assert lines[-1][:2] == ["*", "the"]
    assert [compare._shown(one) for one in (None, fact(None), -1000.0, 999.0)] == [
        "-", "-", "-1,000", "999",
    ]  # fmt: skip


def test_a_comparison_is_resumed_by_what_was_typed() -> None:
    given = {"presets": ("edm", "vae"), "n": 64, "out": "a b", "json": True, "overwrite": True}
    assert compare._typed("my photos", ask(CompareOptions, given)) == (
        "undiffuse compare 'my photos' --presets edm,vae -n 64 --out 'a b' --json"
    )


def test_a_report_is_concluded_by_its_verdict() -> None:
    for advice in ("", "train longer"):
        made, stream = terminal()
        facts = {"verdict": {"sentence": "good", "advice": advice}, "warnings": ["few", "more"]}
        evaluate._conclude(facts, (Path("a"), Path("b")), made)
        middle = [advice] if advice else []
        assert stream.getvalue().splitlines() == [
            "good", *middle, "few", "more", "wrote a", "wrote b",
        ]  # fmt: skip


def test_a_report_replaces_a_report_of_ours_alone(tmp_path: Path) -> None:
    place = tmp_path / "report.json"
    assert not evaluate._is_report(tmp_path)
    for text, ours in (('{"kind": "report"}', 1), ('{"kind": "x"}', 0), ("[1]", 0), ("{", 0)):
        place.write_text(text)
        assert evaluate._is_report(tmp_path) == bool(ours)


# --- states on the way


class Doubled:
    """A transform and a form whose picture of a row is its first value, 2 pixels by 3."""

    def decode(self, x: torch.Tensor) -> np.ndarray:
        return 2 * x.numpy()

    def preview(self, rows: np.ndarray) -> Image.Image:
        assert len(rows) == 1
        return Image.new("RGB", (2, 3), (int(rows[0, 0]), 0, 0))


def walked(out: str, *, steps: int, rows: int, batch: int) -> Trajectory:
    """A sampling loop: sample k is 10 k + i at step i."""
    part = Doubled()
    model: Any = SimpleNamespace(transform=part, form=part)
    found = Trajectory(model, rows=rows, out=Path(out))
    for first in range(0, rows, batch):
        size = min(batch, rows - first)
        for i in range(1, steps + 1):
            found.add(i, steps, (10.0 * torch.arange(first, first + size) + i)[:, None])
    return found


@pytest.mark.parametrize("batch", [2, 3, 20])
def test_every_step_of_every_sample_is_kept_in_an_array(batch: int, tmp_path: Path) -> None:
    found = walked(str(tmp_path / "s.npy"), steps=30, rows=11, batch=batch)
    expected = 2 * (10.0 * np.arange(11) + np.arange(1, 31)[:, None])[..., None]
    np.testing.assert_array_equal(found.states(), expected)
    found.save()
    np.testing.assert_array_equal(np.load(tmp_path / "s-trajectory.npy"), expected)


@pytest.mark.parametrize("out", ["s.PNG", "folder"])
@pytest.mark.parametrize("batch", [3, 20])
def test_a_picture_has_eight_samples_and_twelve_steps(out: str, batch: int, tmp_path: Path) -> None:
    found = walked(str(tmp_path / out), steps=24, rows=11, batch=batch)
    assert found.file == tmp_path / f"{Path(out).stem}-trajectory.png"
    steps = np.arange(2, 25, 2)
    found.save()
    with Image.open(found.file) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (8 * 3 + 7 * 2, 12 * 2 + 11 * 2, 3)
    expected = np.full(pixels.shape, 255)
    for k in range(8):
        for column, i in enumerate(steps):
            expected[5 * k : 5 * k + 3, 4 * column : 4 * column + 2] = [2 * (10 * k + i), 0, 0]
    np.testing.assert_array_equal(pixels, expected)
    few = walked(str(tmp_path / out), steps=5, rows=1, batch=1).states()
    np.testing.assert_array_equal(few[:, 0, 0], 2 * np.arange(1, 6))
