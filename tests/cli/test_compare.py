"""`undiffuse compare` as a person types it: from data to a report of several models, whatever
happens in between.
"""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from undiffuse.comparison import compare as comparison
from undiffuse.models import PRESETS
from undiffuse.options import ComparisonOptions
from undiffuse.training import fit

QUICK = ("--budget", "1s", "-n", 32, "--rows", 8, "--batch", 16, "--device", "cpu")


@pytest.fixture
def rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """200 rows of 3 numbers; models are small, and trained for two steps, whatever the budget."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(5, 2, (200, 3)))
    small = {name: lambda name=name: PRESETS[name](width=8, depth=1) for name in PRESETS}
    monkeypatch.setattr(comparison, "PRESETS", small)
    monkeypatch.setattr(comparison, "fit", lambda *given, budget, **more: _briefly(*given, **more))
    return tmp_path / "x.npy"


def _briefly(*given: Any, **more: Any) -> Any:
    return fit(*given, steps=2, precision="float32", batch=16, samples=0, **more)


def facts(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "comparison.json").read_text())


def test_a_run_and_a_report_for_each_a_table_and_a_report_of_all(
    cli, rows: Path, tmp_path: Path
) -> None:
    out = tmp_path / "c"
    done = cli(
        "compare", rows, "--presets", "gan,vae", "--out", out, *QUICK, "--seed", 3, "--json"
    ).done()
    told, kept = json.loads(done.out), facts(out)
    assert {name: told[name] for name in kept} == kept
    assert (told["stopped"], told["budget"], told["samples"]) == (False, 1, 32)
    assert {run["report"]["seed"] for run in kept["runs"].values()} == {3}
    lines = done.err.splitlines()
    phases = [
        f"{i} of 2: {name}, {what}"
        for what in ("training", "evaluating")
        for i, name in ((1, "gan"), (2, "vae"))
    ]
    assert [line for line in lines if " of 2: " in line] == phases
    header = next(line.split() for line in lines if line.split()[-1:] == ["real"])
    assert header == ["gan", "vae", "real"]
    precision = next(line.split() for line in lines if line.split()[:1] == ["precision"])
    measured = [row["precision"]["value"] for row in kept["table"]]
    assert [float(cell.strip("*")) for cell in precision[1:3]] == pytest.approx(measured, rel=1e-2)
    assert [cell.endswith("*") for cell in precision[1:3]] == [
        name in kept["best"]["precision"] for name in ("gan", "vae")
    ]
    assert lines[-2:] == [f"wrote {out}/comparison.html", f"wrote {out}/comparison.json"]
    for name in ("gan", "vae"):
        report = json.loads((out / "runs" / name / "report.json").read_text())
        assert report == kept["runs"][name]["report"]
    assert kept["table"][0]["likelihood_none"]
    assert kept["table"][1]["bits_per_dim"]["value"] is not None
    hashes = {run["report"]["features"]["hash"] for run in kept["runs"].values()}
    assert len(hashes) == 1


def test_interrupted_it_says_what_to_type_and_that_ends_it(
    cli, rows: Path, tmp_path: Path, monkeypatch
) -> None:
    own = ("--data.held-out", "30", "--data.axes", "NC")
    words = (
        "compare",
        rows,
        "--presets",
        "gan",
        "--out",
        tmp_path / "c d",
        *own,
        *QUICK,
        "--quiet",
    )
    polls = iter([False, False])
    with monkeypatch.context() as patch:
        patch.setattr("undiffuse.cli.compare.Interruption.stopped", lambda _: next(polls, True))
        stopped = cli(*words[:-1], "--json", "--overwrite")
        assert cli(*words).code == 130
    assert stopped.code == 130
    assert json.loads(stopped.out)["stopped"]
    typed = next(
        line for line in stopped.err.splitlines() if line.strip().startswith("undiffuse compare")
    )
    assert "--overwrite" not in typed
    assert not (tmp_path / "c d" / "comparison.html").exists()
    assert " ".join(own) in typed
    again = cli(*shlex.split(typed)[1:]).done()
    assert json.loads(again.out)["runs"]["gan"]["status"] == "done"
    assert facts(tmp_path / "c d")["data"]["held_out_rows"] == 30
    assert (tmp_path / "c d" / "comparison.html").exists()


def test_if_one_fails_the_others_finish_and_if_all_do_it_is_refused(
    cli, rows: Path, tmp_path: Path, monkeypatch
) -> None:
    def breaks(model: Any, *given: Any, budget: float, **more: Any) -> Any:
        if model.preset == "gan":
            raise MemoryError("there is no more of it")
        return _briefly(model, *given, **more)

    monkeypatch.setattr(comparison, "fit", breaks)
    words = ("compare", rows, "--out", tmp_path / "c", *QUICK)
    done = cli(*words, "--presets", "gan,vae").done()
    assert "gan failed, the others go on: MemoryError: there is no more of it" in done.err
    assert {name: run["status"] for name, run in facts(tmp_path / "c")["runs"].items()} == {
        "gan": "failed",
        "vae": "done",
    }
    alone = cli(*words[:3], tmp_path / "d", *QUICK, "--presets", "gan", "--quiet")
    assert alone.refused("none of the models could be compared: gan: MemoryError")


REFUSED = {
    "no place": (("x.npy",), "--out: missing"),
    "no such data": (("none.npy", "--out", "c"), "no such file"),
    "an unknown preset": (
        ("x.npy", "--out", "c", "--presets", "edm,gna"),
        "presets gna: no such preset. Did you mean",
    ),
    "no preset": (("x.npy", "--out", "c", "--presets", ","), "presets: none are named"),
    "no length of time": (
        ("x.npy", "--out", "c", "--budget", "soon"),
        "budget soon: not a duration",
    ),
    "too few samples": (
        ("x.npy", "--out", "c", "-n", 3),
        "-n 3: must be a whole number of at least 16",
    ),
    "no evaluation": (
        ("x.npy", "--out", "c", "--evaluations", 0),
        "--evaluations 0: must be a whole number of at least 1",
    ),
    "features twice": (
        ("x.npy", "--out", "c", "--features", "raw", "--inception-weights", "w"),
        "leave one of them out",
    ),
    "a file": (("x.npy", "--out", "x.npy"), "this is a file"),
    "a folder of other things": (("x.npy", "--out", "."), "other files and no comparison"),
    "an unknown option": (("x.npy", "--out", "c", "--preset", "edm"), "Did you mean --presets"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_refused_in_a_sentence_before_anything_is_written(
    cli, rows: Path, tmp_path: Path, what: str, monkeypatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words, fragment = REFUSED[what]
    before = sorted(tmp_path.rglob("*"))
    assert cli("compare", *words, "--quiet").refused(fragment)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (("--features", "wite"), "wite: no such features. Did you mean white"),
        (("--features", "lite0"), "lite0"),
        (("--inception-weights", "none.pth"), "none.pth"),
    ],
)
def test_features_that_are_of_no_use_are_refused_before_anything_is_trained(
    cli, rows: Path, tmp_path: Path, words: tuple[str, ...], fragment: str
) -> None:
    given = (
        "compare",
        rows,
        "--presets",
        "gan",
        "--out",
        tmp_path / "c",
        *QUICK,
        "--quiet",
        *words,
    )
    assert cli(*given).refused(fragment)
    assert not (tmp_path / "c" / "runs").exists()
    cli(*given[: -len(words)]).done()


def test_the_default_presets_are_the_ones_of_the_textbook() -> None:
    assert ComparisonOptions().presets == ("edm", "ddpm", "ncsn", "vae", "gan", "flow")
    assert set(ComparisonOptions().presets) <= set(PRESETS)
