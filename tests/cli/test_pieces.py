"""The pieces that commands are made of, each by itself: what they refuse, choose and leave."""

from __future__ import annotations

import errno
import io
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from undiffuse.cli import compare, draw_options, interrupt, main, sample, score, train, verb
from undiffuse.cli.drawing import Drawing
from undiffuse.cli.interrupt import Interruption, interruptible
from undiffuse.cli.progress import Bar
from undiffuse.cli.terminal import Terminal
from undiffuse.cli.verb import File, ask, free_place, merge, metavar, typed_as
from undiffuse.errors import InputError
from undiffuse.models.base import SampledPart
from undiffuse.options import CompareOptions, SampleOptions, ScoreOptions, TrainOptions


def terminal() -> tuple[Terminal, io.StringIO]:
    made, stream = Terminal(), io.StringIO()
    made.console = Console(file=stream, width=200, highlight=False, soft_wrap=True)
    return made, stream


# --- from words to an exit code


def failing(monkeypatch: pytest.MonkeyPatch, problem: BaseException) -> int:
    """The exit code of a command that raises a problem."""

    def call(words: Any) -> int:
        raise problem

    monkeypatch.setattr("undiffuse.cli.app.call", call)
    return main.main(["info", "x"])


PROBLEMS = {
    "bad input": (InputError("x:  no\nsuch row."), "x: no such row."),
    "a full disk": (
        OSError(errno.ENOSPC, "No space left on device.", "/a/b"),
        "/a/b: No space left on device; check that it can be used.",
    ),
    "no place": (OSError(errno.EIO, "Input/output error"), "output: Input/output error; check"),
    "words alone": (OSError("it broke"), "output: it broke; check that it can be used."),
    "a number for a file": (OSError(errno.EIO, "Bad", 7), "output: Bad; check"),
    "no memory": (MemoryError(), "there is not enough memory; use a smaller --batch"),
    "of torch": (RuntimeError("DefaultCPUAllocator: can't"), "there is not enough memory"),
    "of an accelerator": (RuntimeError("CUDA out of memory"), "there is not enough memory"),
    "an interruption": (KeyboardInterrupt(), "interrupted."),
}


@pytest.mark.parametrize("what", PROBLEMS)
def test_a_problem_of_the_input_the_machine_or_the_place_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], what: str
) -> None:
    problem, sentence = PROBLEMS[what]
    assert failing(monkeypatch, problem) == (130 if what == "an interruption" else 2)
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(sentence)


def test_a_bug_keeps_its_traceback_and_a_reader_that_left_is_no_problem(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ZeroDivisionError):
        failing(monkeypatch, ZeroDivisionError())
    with pytest.raises(SystemExit):
        failing(monkeypatch, SystemExit(3))
    silenced: list[Any] = []
    monkeypatch.setattr(main, "_silence", silenced.append)
    assert failing(monkeypatch, BrokenPipeError()) == 0
    assert silenced == [sys.stdout]
    reported = SystemExit(1)
    reported.__context__ = BrokenPipeError()
    assert failing(monkeypatch, reported) == 0
    assert capsys.readouterr() == ("", "")


def test_a_folder_that_is_gone_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x").mkdir()
    monkeypatch.chdir(tmp_path / "x")
    (tmp_path / "x").rmdir()
    assert main.main(["info", "digits"]) == 2  # torch is not imported there, which would end it all
    assert capsys.readouterr().err == f"{main._GONE}\n"
    has_folder = iter([True, False])  # it is removed meanwhile
    monkeypatch.setattr(main, "_has_folder", has_folder.__next__)
    assert failing(monkeypatch, FileNotFoundError(errno.ENOENT, "No such file", "y")) == 2
    assert capsys.readouterr().err == f"{main._GONE}\n"


def test_the_script_exits_with_the_code_of_the_command_or_of_the_output_it_could_not_write(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    handled: list[Any] = []
    monkeypatch.setattr(signal, "signal", lambda number, how: handled.append((number, how)))
    opened: list[bool] = []
    monkeypatch.setattr(main, "_open_streams", lambda: opened.append(True))
    silenced: list[Any] = []
    monkeypatch.setattr(main, "_silence", silenced.append)
    monkeypatch.setattr(sys, "argv", ["undiffuse", "info", "x"])
    given: list[Any] = []

    def flushing(problem: OSError | None) -> Any:
        def flush() -> None:
            if problem:
                raise problem

        return SimpleNamespace(flush=flush, write=lambda text: None)

    for code in (0, 2, 130):
        monkeypatch.setattr(main, "main", lambda words, code=code: given.append(words) or code)
        for problem, ends in (
            (None, code),
            (BrokenPipeError(), code),
            (OSError(errno.ENOSPC, "No space left on device"), code or 2),
        ):
            broken = flushing(problem)
            monkeypatch.setattr(sys, "stdout", broken)
            silenced.clear()
            with pytest.raises(SystemExit) as exit:
                main.run()
            assert exit.value.code == ends
            assert silenced == ([broken] if problem else [])
    assert given == [["info", "x"]] * 9
    assert len(opened) == 9
    assert {number for number, _ in handled} >= {signal.SIGINT, signal.SIGTERM}
    assert all(how == signal.SIG_IGN for _, how in handled)
    said = "the output could not be written: No space left on device.\n"
    assert capsys.readouterr().err == 3 * said


def test_streams_that_are_closed_go_nowhere_and_names_that_are_no_text_are_written(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setattr(sys, "stderr", None)
    main._open_streams()
    assert sys.stdout is stream
    print("a\udcffb ä", flush=True)
    assert stream.buffer.getvalue() == b"a\\udcffb \\xe4\n"  # type: ignore[attr-defined]
    assert sys.stderr.name == os.devnull
    sys.stderr.close()


def test_nobody_to_complain_to_is_no_problem(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    silenced: list[Any] = []
    closed = io.StringIO()
    closed.close()
    with monkeypatch.context() as patch:
        patch.setattr(main, "_silence", silenced.append)
        patch.setattr(sys, "stderr", closed)
        main._complain("anything")
    assert silenced == [closed]
    with open(tmp_path / "x", "w") as stream:
        main._silence(stream)
        stream.write("x")
    assert (tmp_path / "x").read_text() == ""


# --- signals


def test_a_signal_sets_a_flag_and_is_confirmed_and_a_second_one_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[Any] = []
    monkeypatch.setattr(interrupt.os, "write", lambda *given: written.append(given))
    monkeypatch.setattr(interrupt.os, "_exit", lambda code: written.append(code))
    earlier = [signal.getsignal(number) for number in interrupt.SIGNALS]
    for quiet in (False, True):
        written.clear()
        with Interruption(quiet=quiet) as interruption:
            assert not interruption.stopped()
            signal.raise_signal(signal.SIGTERM)
            assert interruption.stopped()
            confirmed = (2, b"\nfinishing this step, then saving; interrupt again to quit now\n")
            assert written == ([] if quiet else [confirmed])
            written.clear()
            signal.raise_signal(signal.SIGINT)
            assert written[0] == 130
        assert [signal.getsignal(number) for number in interrupt.SIGNALS] == earlier


def test_a_signal_raises_once_and_then_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[Any] = []

    def leave(code: int) -> None:
        ended.append(code)
        raise SystemExit(code)

    monkeypatch.setattr(interrupt.os, "write", lambda *given: ended.append(given))
    monkeypatch.setattr(interrupt.os, "_exit", leave)
    passed_on: list[Any] = []
    hook = passed_on.append
    monkeypatch.setattr(sys, "unraisablehook", hook)

    def work() -> None:
        signal.raise_signal(signal.SIGINT)

    with interruptible(work) as came:
        with pytest.raises(SystemExit):  # nothing is at work that would catch an exception
            signal.raise_signal(signal.SIGINT)
        assert ended == [(2, b"interrupted.\n"), 130]
        assert not came()
        ended.clear()
        with pytest.raises(KeyboardInterrupt):
            work()
        assert came()
        assert ended == []
        with pytest.raises(SystemExit):
            signal.raise_signal(signal.SIGINT)
        assert ended == [(2, b"interrupted.\n"), 130]
        ended.clear()
        lost: Any = SimpleNamespace(exc_type=KeyboardInterrupt)
        with pytest.raises(SystemExit):  # in a destructor, say
            sys.unraisablehook(lost)
        assert (ended[-1], passed_on) == (130, [])
        other: Any = SimpleNamespace(exc_type=ValueError)
        sys.unraisablehook(other)
        assert passed_on == [other]
    assert sys.unraisablehook is hook


# --- options


def test_what_is_typed_is_called_as_it_is_typed() -> None:
    assert typed_as(("steps",)) == "--steps"
    assert typed_as(("n",)) == "-n"
    assert typed_as(("training", "log_every")) == "--training.log-every"
    for hint, name in ((int, "INT"), (float, "FLOAT"), (bool, "BOOL"), (str, "TEXT"),
                       (tuple[float, ...], "FLOAT,FLOAT"), (str | None, "TEXT"),
                       (int | tuple[int, int], "INT")):  # fmt: skip
        assert metavar(hint) == name


def test_trees_are_merged_and_what_is_typed_wins() -> None:
    lower = {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert merge(lower, {"a": {"c": {"f": 4}}, "e": {"g": 5}}) == {
        "a": {"b": 1, "c": {"d": 2, "f": 4}}, "e": {"g": 5}
    }  # fmt: skip
    assert merge(lower, {"a": 1}) == {"a": 1, "e": 3}
    assert lower == {"a": {"b": 1, "c": {"d": 2}}, "e": 3}
    assert verb._holds(lower, ("a", "c", "d"))
    assert not verb._holds(lower, ("a", "c", "f"))
    assert not verb._holds(lower, ("e", "f"))


def test_an_option_of_a_file_is_found_in_its_line(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(
        'steps = 3\n# model\n"log-every" = 2\n[model]\n\nwidth = 8\n[ training ]\nlog-every = 4\n'
        "[data]\nsize = [3,\n 4]\n"
    )
    file = File(str(path))
    assert file.tree == {"steps": 3, "log_every": 2, "model": {"width": 8},
                         "training": {"log_every": 4}, "data": {"size": [3, 4]}}  # fmt: skip
    for names, line in ((("steps",), 1), (("log_every",), 3), (("model",), 4),
                        (("model", "width"), 6), (("training", "log_every"), 8),
                        (("data", "size"), 10)):  # fmt: skip
        assert file.where(names) == f"{path}, line {line}:"
    assert file.where(("width",)) == f"{path}:"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match=r"r\.toml: could not be read: it is not text; give a"):
        File(str(path))
    path.write_text("#" * 2**20)
    File(str(path))
    path.write_text("#" * (2**20 + 1))
    with pytest.raises(InputError, match="could not be read"):
        File(str(path))


def test_what_is_typed_replaces_what_excludes_it_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('budget = "5m"\nseed = 4\n')
    given = {"config": str(tmp_path / "r.toml"), "out": "r"}
    assert ask(TrainOptions, {**given, "steps": 3}).given == {**given, "steps": 3, "seed": 4}
    assert ask(TrainOptions, given).chosen("seed", "steps", "budget") == {
        "seed": 4, "budget": "5m"
    }  # fmt: skip
    asked = ask(SampleOptions, {"out": "x", "n": 3, "quiet": True})
    assert (asked.terminal.quiet, asked.terminal.as_json) == (True, False)
    assert ask(SampleOptions, {"out": "x", "n": 3, "json": True}).terminal.as_json


def test_a_place_is_free_if_nothing_is_there_or_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "empty").mkdir()
    (tmp_path / "full" / "x").mkdir(parents=True)
    (tmp_path / "file").touch()
    (tmp_path / "gone").symlink_to(tmp_path / "nothing")
    for name in ("new", "empty", "not/yet/there"):
        assert free_place(str(tmp_path / name), overwrite=False) == tmp_path / name
    assert free_place("~/new", overwrite=False) == tmp_path / "new"
    for name in ("full", "file", "gone"):
        with pytest.raises(InputError, match=f"--out .*{name}: already exists; choose another"):
            free_place(str(tmp_path / name), overwrite=False)
        assert free_place(str(tmp_path / name), overwrite=True) == tmp_path / name
    with pytest.raises(InputError, match="file is a file, not a folder; choose another place"):
        free_place(str(tmp_path / "file" / "x"), overwrite=False)
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK | os.X_OK)
    with pytest.raises(InputError, match="cannot be written to; choose another place"):
        free_place(str(tmp_path / "new"), overwrite=False)


# --- train


NETWORK = {"kind": "mlp", "width": 64, "depth": 3, "other": 1}
RECORDED = {
    "preset": "vae",
    "model": {"network": NETWORK, "sizes": None},
    "data": {"path": "digits", "fingerprint": "f", "reading": {"size": [8, 9]},
             "split": {"seed": 5, "held_out": 40}, "mirrored": True},
    "training": {"seed": 6},
}  # fmt: skip


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """(preset, words) of the models that were made."""
    kept: list[Any] = []

    class Presets(dict):
        def __missing__(self, preset: str) -> Any:
            return lambda **words: kept.append((preset, words))

    monkeypatch.setattr("undiffuse.models.PRESETS", Presets())
    monkeypatch.setattr(train, "_rebuilt", lambda recorded, out: kept.append(recorded))
    monkeypatch.setattr(
        "undiffuse.run.Run", lambda path: SimpleNamespace(config={**RECORDED, "preset": path})
    )
    return kept


@pytest.mark.parametrize(
    ("words", "recorded", "made_of"),
    [
        ({}, None, ("edm", {})),
        ({"preset": "gan", "model": {"width": 8}}, None, ("gan", {"width": 8})),
        ({"preset": "ddpm", "betas": "cosine"}, None, ("ddpm", {"betas": "cosine"})),
        ({}, RECORDED, RECORDED),
        ({"preset": "vae"}, RECORDED, RECORDED),
        ({"model": {"width": 8}}, RECORDED, ("vae", {"width": 8})),
        ({"preset": "edm"}, RECORDED, ("edm", {"kind": "mlp", "width": 64, "depth": 3})),
        ({"init": "flow"}, None, ("flow", {"kind": "mlp", "width": 64, "depth": 3})),
        (
            {"init": "flow", "preset": "edm", "model": {"width": 8}},
            None,
            ("edm", {"kind": "mlp", "width": 8, "depth": 3}),
        ),
    ],
)
def test_the_model_is_that_of_the_run_or_a_preset_as_it_is_given(
    made: list[Any], words: dict[str, Any], recorded: Any, made_of: Any
) -> None:
    asked = ask(TrainOptions, {"out": "r", **words})
    default = asked.options.preset
    train._maker(asked, recorded)()
    expected = (default, {}) if (words, recorded) == ({}, None) else made_of
    assert made == [expected]


def test_sizes_of_a_run_are_those_of_its_network_or_as_they_were_given() -> None:
    assert train._sizes(RECORDED) == {"kind": "mlp", "width": 64, "depth": 3}
    given = {"model": {"network": {"kind": "another"}, "sizes": {"width": 5}}}
    assert train._sizes(given) == {"width": 5}
    assert train._sizes({"model": {}}) == {}


@pytest.mark.parametrize(
    ("words", "source", "recorded", "loaded"),
    [
        ({"seed": 3, "data": {"held_out": 0.2}}, "x", None, ("x", 3, {"held_out": 0.2})),
        (
            {"seed": 3},
            None,
            RECORDED,
            ("digits", 5, {"held_out": 40, "size": (8, 9), "mirrored": True}),
        ),
        (
            {"data": {"size": 16, "held_out": 9, "mirrored": False}},
            "moved",
            RECORDED,
            ("moved", 5, {"held_out": 40, "size": 16, "mirrored": False}),
        ),
    ],
)
def test_data_are_read_as_they_are_asked_for_or_as_the_run_that_is_resumed_did(
    monkeypatch: pytest.MonkeyPatch, words: Any, source: Any, recorded: Any, loaded: Any
) -> None:
    kept: list[Any] = []

    def load(source: Any, *, seed: int, progress: Any, **reading: Any) -> Any:
        kept.append((source, seed, reading))
        return SimpleNamespace(fingerprint="f")

    monkeypatch.setattr("undiffuse.data.load", load)
    train._load(source, ask(TrainOptions, {"out": "r", **words}), recorded)
    assert kept == [loaded]


def test_other_data_than_the_run_s_and_data_from_python_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "undiffuse.data.load", lambda source, **_: SimpleNamespace(fingerprint="another")
    )
    asked = ask(TrainOptions, {"out": "r"})
    with pytest.raises(InputError, match="digits: not the data that r was trained on, or changed"):
        train._load(None, asked, RECORDED)
    python = {**RECORDED, "data": {**RECORDED["data"], "path": None}}
    with pytest.raises(InputError, match="r: was trained on data from Python; resume it there"):
        train._load(None, asked, python)


@pytest.mark.parametrize("stopped", [False, True])
def test_a_training_is_concluded_by_what_to_type_next(
    monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    monkeypatch.setattr(
        "undiffuse.run.Run", lambda out: SimpleNamespace(resume_command=f"resume {out}")
    )
    said, stream = terminal()
    held_out = {"loss": 0.12345, "warning": "signs of collapse"}
    result: Any = SimpleNamespace(stopped=stopped, step=1234, elapsed=90.0, held_out=held_out)
    model: Any = SimpleNamespace(form=SimpleNamespace(suggested_out="samples.png"))
    train._conclude(result, model, "my run", "my run/samples/3.png", said)
    assert stream.getvalue().splitlines() == (
        ["stopped at step 1,234 and saved; to resume:", "  resume my run"]
        if stopped
        else [
            "trained 1,234 steps in 1m30s; held-out loss 0.1235; saved in my run",
            "signs of collapse",
            "samples so far: my run/samples/3.png",
            "next, draw new ones:",
            "  undiffuse sample 'my run' -n 64 --out samples.png",
        ]
    )
    if not stopped:
        said, stream = terminal()
        bare: Any = SimpleNamespace(form=None)
        result.held_out = None
        train._conclude(result, bare, "r", None, said)
        assert stream.getvalue().splitlines() == [
            "trained 1,234 steps in 1m30s; held-out loss -; saved in r",
            "next, draw new ones:",
            "  undiffuse sample r -n 64 --out samples.npy",
        ]
        said, stream = terminal()
        result.step = 0  # no step fitted into the budget
        train._conclude(result, bare, "r", None, said)
        assert stream.getvalue().splitlines()[1:3] == [
            "no step fitted into the budget, so this model knows nothing yet; give it longer:",
            "  resume r",
        ]


# --- sample


@pytest.mark.parametrize(
    ("words", "wrapped"),
    [
        ({}, None),
        ({"guidance": 2.0}, (2.0, None, 0.0, None)),
        ({"autoguide": 3.0}, (3.0, "weaker on cpu", 0.0, None)),
        ({"guidance": 2.0, "guidance_from": 0.5, "guidance_to": 4.0}, (2.0, None, 0.5, 4.0)),
    ],
)
def test_guidance_is_what_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, words: Any, wrapped: Any
) -> None:
    monkeypatch.setattr(
        "undiffuse.models.diffusion.guided",
        lambda model, scale, *, weaker, low, high: (scale, weaker, low, high),
    )
    model: Any = SimpleNamespace(device="cpu")
    run: Any = SimpleNamespace(weaker=lambda device: f"weaker on {device}")
    asked = ask(SampleOptions, {"out": "x", "n": 3, **words})
    found = draw_options._guidance(model, run, asked)
    if wrapped is None:
        assert found is None
        return
    assert found[:2] == wrapped[:2]
    assert found[2:] == (asked.options.guidance_from, asked.options.guidance_to)
    if "guidance_from" in words:
        assert found == wrapped


class Model:
    """Draws rows of its numbers; its callback is called at each of two steps of each batch."""

    device, at_once, data_config = "cpu", 64, None
    classes = ("a", "b")

    def __init__(self) -> None:
        self.asked: dict[str, Any] = {}
        self.saved: list[Any] = []
        self.transform = self.form = self

    def sample_batches(
        self, each: int, *, batch: int, callback: Any, **more: Any
    ) -> Iterator[SampledPart]:
        total = each * len(more.get("given", "1"))
        self.asked = {"each": each, "batch": batch, **more}
        for start in range(0, total, batch):
            for i in (1, 2):
                callback(i, 2, 0.5, None)
            number = np.arange(start, min(start + batch, total))
            yield SampledPart(start, total, number, {"label": torch.as_tensor(number) % 2})

    def names_classes(self, *, label: Any, vector: Any, given: Any) -> bool:
        return given is None or label is not None

    def check_out(self, out: Path) -> None:
        pass

    keyed = False

    @contextmanager
    def writing(self, out: Path, count: int) -> Iterator[Any]:
        rows: list[int] = []
        named: list[str] = []

        def write(part: np.ndarray, labels: Any) -> None:
            rows.extend(part.tolist())
            named.extend([] if labels is None else labels.tolist())

        yield write
        assert len(rows) == count
        self.saved.append((rows, out, named or None))


def draw(
    monkeypatch: pytest.MonkeyPatch, model: Any, asked: Any, more: Any, out: Path, bar: Bar
) -> None:
    """`draw_to` of what the options were found to mean."""
    made = Drawing(model, asked.options, **more)
    monkeypatch.setattr(draw_options, "drawing_of", lambda *given: made)
    sample.draw_to(out, model, SimpleNamespace(given="r"), asked, bar)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("words", "more", "total", "labels", "said"),
    [
        ({"n": 5}, {}, 5, ["a", "b", "a", "b", "a"], ["wrote x.npy"]),
        (
            {"n": 2, "given": "g.npy"},
            {"given": [1, 2, 3]},
            6,
            None,
            ["completed 3 given rows, 2 completions in turn of each, in their order",
             "wrote x.npy"],
        ),
        (
            {"given": "g.npy", "label": "a"},
            {"given": [1]},
            1,
            ["a"],
            ["completed 1 given row, one completion of each, in their order", "wrote x.npy"],
        ),
    ],
)  # fmt: skip
def test_rows_are_drawn_written_with_their_classes_and_said(
    monkeypatch: pytest.MonkeyPatch,
    words: dict[str, Any],
    more: dict[str, Any],
    total: int,
    labels: Any,
    said: list[str],
) -> None:
    """The class of given rows is hidden, unless it is asked for; the bar ends with the work."""
    told: list[Any] = []
    monkeypatch.setattr("undiffuse.cli.progress.Bar.__call__", lambda _, *step: told.append(step))
    asked = ask(SampleOptions, {"out": "x.npy", "seed": 4, "batch": 2, "steps": 9, **words})
    shown, stream = terminal()
    results: list[Any] = []
    monkeypatch.setattr(shown, "result", results.append)
    object.__setattr__(asked, "terminal", shown)
    model: Any = Model()
    draw(monkeypatch, model, asked, more, Path("x.npy"), Bar(shown))
    batches = -(-total // 2)
    assert told == [(i + 1, 2 * batches, "sampling") for i in range(2 * batches)]
    assert model.saved == [(list(range(total)), Path("x.npy"), labels)]
    assert stream.getvalue().splitlines() == said
    completed = {"given": "g.npy", "each": words.get("n", 1)} if "given" in words else {}
    written = {"run": "r", "number": total, "seed": 4, "out": "x.npy"}
    assert results == [{**written, **completed}]
    expected = {"each": words.get("n", 1), "batch": 2, "steps": 9, "seed": 4, **more}
    assert {name: model.asked[name] for name in expected} == expected
    assert model.asked["label"] == words.get("label")


def test_a_trajectory_that_is_there_is_not_replaced_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x-trajectory.npy").touch()
    out = tmp_path / "x.npy"
    asked = ask(SampleOptions, {"out": str(out), "n": 2, "trajectory": True})
    with pytest.raises(InputError, match=r"x-trajectory\.npy: already exists; choose another"):
        draw(monkeypatch, Model(), asked, {}, out, Bar(Terminal()))
    saved: list[Any] = []
    monkeypatch.setattr("undiffuse.cli.trajectory.Trajectory.add", lambda *given: None)
    monkeypatch.setattr(
        "undiffuse.cli.trajectory.Trajectory.save", lambda self: saved.append(self.file)
    )
    asked = ask(SampleOptions, {**asked.given, "overwrite": True})
    draw(monkeypatch, Model(), asked, {}, out, Bar(Terminal()))
    assert saved == [tmp_path / "x-trajectory.npy"]


# --- score and compare


def test_alarms_of_recordings_are_counted_as_recordings_and_an_error_is_said() -> None:
    from undiffuse.evaluation.scores.table import Summary

    summary = Summary(
        rows=100, finite=100, log_likelihood=1.0, stderr=0.5, bits_per_dim=3.0, bits_error=0.25,
        kind="exact", meaning="", alarms=3, realized=(0.01, 0.5), seconds=1.0, evaluations=1.0,
        units=30, model_error=0.123456,
    )  # fmt: skip
    shown, stream = terminal()
    score._conclude(summary, ScoreOptions(out="s.csv", alarm=0.02), shown)
    lines = stream.getvalue().splitlines()
    assert any(
        line.startswith("the model's own error: about 0.123 nats per row (an estimate,")
        for line in lines
    )
    assert any(
        line.startswith("3 alarms (10.00% of 30 recordings); false-alarm rate 2.00% on")
        for line in lines
    )


@pytest.mark.parametrize(("rows", "alarm", "enough"), [(99, 0.01, True), (98, 0.01, False),
                                                        (9, None, True)])  # fmt: skip
def test_too_few_held_out_rows_for_the_alarm_are_refused_before_any_is_scored(
    rows: int, alarm: float | None, enough: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rate of 1/100 needs the lowest of 99 rows: a new one is below it once in 100 times."""
    import undiffuse as ud

    x = np.random.default_rng(0).normal(size=(300, 1))
    model = ud.flow(width=8, transforms=1).fit(x, steps=1)
    asked = {"held_out": x[:rows], "alarm": alarm}
    if enough:
        found = ud.score(model, x[:5], **asked)
        assert found is not None
        assert found.held_out == rows
        assert ("alarm" in found.columns) == (alarm is not None)
    else:
        monkeypatch.setattr("undiffuse.evaluation.score.calibrate", None)  # nothing is scored
        with pytest.raises(InputError, match="at least 99 held-out rows, and there are 98"):
            ud.score(model, x[:5], **asked)
    bare = ud.score(model, x[:5], no_calibration=True)
    assert bare is not None
    assert "quantile" not in bare.columns


def test_a_phase_ends_the_line_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    shown, stream = terminal()
    cleared: list[str] = []
    monkeypatch.setattr(compare.Bar, "clear", lambda _: cleared.append("bar"))
    monkeypatch.setattr(compare.Live, "__exit__", lambda *_: cleared.append("line"))
    with compare.Phases(shown, compare.Bar(shown)) as phases:
        first = phases.live
        phases({"event": "phase", "number": 2, "total": 3, "preset": "vae", "phase": "training"})
        assert phases.live is not first
        assert cleared == ["line", "bar"]
        phases({"event": "held_out", "step": 7, "loss": 1.0, "warning": "hm"})
        phases({"event": "failed", "preset": "vae", "problem": "torn"})
        assert cleared == ["line", "bar"] * 2
    assert cleared == [*["line", "bar"] * 2, "line"]
    assert stream.getvalue().splitlines() == [
        "2 of 3: vae, training", "step 7: hm", "vae failed, the others go on: torn"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("status", "code"), [("done", 0), ("waiting", 130), ("failed", 0), ("all failed", None)]
)
def test_a_comparison_is_concluded_by_what_came_of_it(status: str, code: int | None) -> None:
    asked = ask(CompareOptions, {"out": "c", "presets": ("vae", "gan")})
    shown, stream = terminal()
    object.__setattr__(asked, "terminal", shown)
    statuses = {"gan": "failed" if "failed" in status else status,
                "vae": "failed" if status == "all failed" else "done"}  # fmt: skip
    facts = {
        "runs": {preset: {"problem": f"{preset} broke"} for preset in statuses},
        "table": [{"preset": "vae"}], "best": {}, "words": ["vae is alone."],
    }  # fmt: skip
    comparison: Any = SimpleNamespace(
        facts=facts,
        presets=lambda wanted: [name for name, found in statuses.items() if found == wanted],
    )
    if code is None:
        with pytest.raises(InputError, match=r"x: none of the models .*: gan: gan broke vae: vae"):
            compare._conclude("x", comparison, asked)
        return
    assert compare._conclude("x", comparison, asked) == code
    lines = stream.getvalue().splitlines()
    if status == "waiting":
        assert lines == [
            "stopped and saved; to resume:", "  undiffuse compare x --out c --presets vae,gan"
        ]  # fmt: skip
        return
    failed = ["gan failed: gan broke"] if status == "failed" else []
    ends = ["vae is alone.", *failed, "wrote c/comparison.html", "wrote c/comparison.json"]
    assert lines[-len(ends) :] == ends
