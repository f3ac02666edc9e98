"""`undiffuse score` as a person types it: from a run and data to a file with a line per row."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from undiffuse.cli.main import main
from undiffuse.run import Run

TRAIN = (
    "--steps",
    30,
    "--model.width",
    16,
    "--model.depth",
    1,
    "--precision",
    "float32",
    "--training.samples",
    0,
)
QUICK = ("--method", "elbo", "--evaluations", 4, "--device", "cpu")


def normal(seed: int, rows: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(5, 2, (rows, 3))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with x.npy, new.npy (60 rows and one far from all), t.csv, and a run
    on each of x and t.
    """
    folder = tmp_path_factory.mktemp("score")
    np.save(folder / "x.npy", normal(0, 400))
    np.save(folder / "new.npy", np.concatenate([normal(1, 60), np.full((1, 3), 500.0)]))
    rng = np.random.default_rng(2)
    lines = [f"{a},{b}" for a, b in zip(rng.normal(size=80), rng.choice(["red", "blue"], 80))]
    (folder / "t.csv").write_text("\n".join(["a,b", *lines]))
    for name, source in (("run", "x.npy"), ("table", "t.csv")):
        words = [
            "train",
            folder / source,
            "--out",
            folder / name,
            *TRAIN,
            "--device",
            "cpu",
            "--quiet",
        ]
        assert main([str(word) for word in words]) == 0
    return folder


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_line_per_row_and_a_summary(cli, place: Path, tmp_path: Path) -> None:
    out = tmp_path / "s.csv"
    done = cli(
        "score", place / "run", place / "new.npy", "--out", out, "--alarm", 0.05, *QUICK, "--json"
    ).done()
    told, lines = json.loads(done.out), read(out)
    assert list(lines[0]) == [
        "row",
        "log_likelihood",
        "stderr",
        "bits_per_dim",
        "quantile",
        "alarm",
        "note",
    ]
    assert [line["row"] for line in lines] == [str(i) for i in range(61)]
    nats = np.array([float(line["log_likelihood"]) for line in lines])
    assert np.argmin(nats) == 60
    assert lines[60]["alarm"] == "True"
    assert told["alarms"] == sum(line["alarm"] == "True" for line in lines)
    assert (told["rows"], told["held_out"], told["stopped"], told["kind"]) == (
        61,
        40,
        False,
        "bound",
    )
    assert told["log_likelihood"] == pytest.approx(nats.mean())
    for words in (
        "nats per row (a lower bound)",
        "bits per dimension",
        "evaluations of the network",
        "1",
        "alarms",
    ):
        assert words in done.err
    assert list(tmp_path.iterdir()) == [out]


def test_one_row_has_a_mean_and_no_error_of_it(cli, place: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", normal(3, 1))
    words = (
        "score",
        place / "run",
        tmp_path / "one.npy",
        "--out",
        tmp_path / "s.csv",
        "--no-calibration",
        *QUICK,
    )
    said = cli(*words).done().err
    (line,) = read(tmp_path / "s.csv")
    nats, bits = float(line["log_likelihood"]), float(line["bits_per_dim"])
    assert f"mean log-likelihood {nats:.4f} nats per row (a lower bound), " in said
    assert f"(a lower bound), {bits:.4f} bits per dimension" in said


def test_interrupted_and_typed_again_it_resumes(
    cli, place: Path, tmp_path: Path, monkeypatch
) -> None:
    words = ("score", place / "run", place / "new.npy", "--batch", 8, *QUICK)
    cli(*words, "--out", tmp_path / "whole.csv").done()
    polls = iter([False] * 4 + [True])
    with monkeypatch.context() as patch:
        patch.setattr("undiffuse.cli.score.Interruption.stopped", lambda _: next(polls))
        stopped = cli(*words, "--out", tmp_path / "s.csv")
    assert stopped.code == 130
    assert "the same command resumes" in stopped.err
    assert not (tmp_path / "s.csv").exists()
    assert cli(*words, "--seed", 1, "--out", tmp_path / "s.csv").refused(
        "another command began (seed differ"
    )
    cli(*words, "--out", tmp_path / "s.csv").done()
    assert (tmp_path / "s.csv").read_text() == (tmp_path / "whole.csv").read_text()


def test_scores_of_any_batch_agree_and_those_of_a_seed_are_its_own(
    cli, place: Path, tmp_path: Path
) -> None:
    def nats(name: str, *more: object) -> np.ndarray:
        cli(
            "score",
            place / "run",
            place / "new.npy",
            "--out",
            tmp_path / name,
            *QUICK,
            "--no-calibration",
            *more,
        ).done()
        return np.array([float(line["log_likelihood"]) for line in read(tmp_path / name)])

    one = nats("a.csv")
    np.testing.assert_allclose(nats("b.csv", "--batch", 7), one, rtol=1e-4)
    assert np.all(nats("c.csv", "--seed", 1) != one)


def test_the_density_of_the_flow_is_exact_in_few_dimensions(
    cli, place: Path, tmp_path: Path
) -> None:
    words = (
        "score",
        place / "run",
        place / "new.npy",
        "--out",
        tmp_path / "s.parquet",
        "--method",
        "ode",
    )
    told = json.loads(cli(*words, "--tolerance", 1e-2, "--no-calibration", "--json").done().out)
    assert told["kind"] == "exact"
    assert told["alarms"] is None


def test_a_category_never_met_has_a_score_and_a_note(cli, place: Path, tmp_path: Path) -> None:
    new = tmp_path / "new.csv"
    new.write_text("a,b\n0.5,red\n0.25,green\n100,blue")
    words = ("score", place / "table", new, "--out", tmp_path / "s.csv", *QUICK, "--json")
    done = cli(*words).done()
    lines = read(tmp_path / "s.csv")
    assert [line["row"] for line in lines] == ["1", "2", "3"]
    assert all(np.isfinite(float(line["log_likelihood"])) for line in lines)
    assert "'green'" in lines[1]["note"]
    assert json.loads(done.out)["finite"] == 3


WAYS = {"elbo": ("--evaluations", 4), "ode": ("--tolerance", 1e-1)}
CHANGES = [
    ("elbo", ("--evaluations", 6)),
    ("elbo", ("--evaluations", 4, "--draws", 3)),
    ("ode", ("--tolerance", 1e-2)),
    ("ode", ("--tolerance", 1e-1, "--probes", 1)),
    ("ode", ("--tolerance", 1e-1, "--importance")),
]


@pytest.mark.parametrize(("way", "words"), CHANGES)
def test_how_rows_are_scored_changes_their_scores(
    cli, place: Path, tmp_path: Path, way: str, words: tuple[object, ...]
) -> None:
    """Of a table with a category, so that encoding its rows draws noise too."""
    new = tmp_path / "new.csv"
    new.write_text("a,b\n0.5,red\n0.25,blue\n")

    def scored(name: str, *more: object) -> list[dict[str, str]]:
        options = ("--method", way, "--no-calibration", "--device", "cpu", *more)
        cli("score", place / "table", new, "--out", tmp_path / name, *options).done()
        return read(tmp_path / name)

    assert scored("a.csv", *WAYS[way]) != scored("b.csv", *words)


def test_a_label_compares_with_the_held_out_rows_of_its_class(
    cli, place: Path, tmp_path: Path
) -> None:
    """Each of them scored as such a row, and the quantiles are those among them."""
    labels = np.arange(90) % 3
    np.savez(tmp_path / "x.npz", x=normal(3, 90), y=labels)
    run, out = tmp_path / "run", tmp_path / "s.csv"
    words = ("--steps", 2, "--model.width", 8, "--model.depth", 1, "--training.samples", 0)
    cli("train", tmp_path / "x.npz", "--out", run, *words, "--device", "cpu", "--quiet").done()
    names = list(Run(run).held_out().names)
    done = cli("score", run, place / "new.npy", "--out", out, *QUICK, "--label", 1, "--json").done()
    assert json.loads(done.out)["held_out"] == (labels[names] == 1).sum() < len(names)


REFUSED = {
    "another shape": (("run", "other.npy"), "(4,)"),
    "text": (("run", "t.csv"), "table"),
    "a missing column": (("table", "narrow.csv"), 'column "b" is missing'),
    "no such data": (("run", "none.npy"), "no such file"),
    "no such run": (("none", "x.npy"), "no such folder"),
    "too few held-out rows": (
        ("run", "x.npy", "--alarm", 0.001),
        "at least 999 held-out rows, and there are 40",
    ),
    "no rate": (("run", "x.npy", "--alarm", 1.5), "--alarm 1.5"),
    "an alarm without calibration": (
        ("run", "x.npy", "--alarm", 0.1, "--no-calibration"),
        "--no-calibration",
    ),
    "a label where there are none": (("run", "x.npy", "--label", "cat"), "without labels"),
    "a dequantization where nothing is dequantized": (
        ("table", "t.csv", "--dequantization", "truncated_normal"),
        "whole numbers",
    ),
    "a tolerance for the bound": (
        ("run", "x.npy", "--method", "elbo", "--tolerance", 0.1),
        "tolerance: method elbo takes only evaluations",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_bad_input_is_refused_and_nothing_is_left(
    cli, place: Path, tmp_path: Path, what: str
) -> None:
    (run, data, *more), fragment = REFUSED[what]
    np.save(place / "other.npy", np.zeros((5, 4)))
    (place / "narrow.csv").write_text("a\n0.5\n")
    words = ("score", place / run, place / data, "--out", tmp_path / "s.csv", "--quiet", *more)
    assert cli(*words).refused(fragment)
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_taken_or_has_no_form_is_refused(cli, place: Path, tmp_path: Path) -> None:
    words = ("score", place / "run", place / "new.npy")
    (tmp_path / "s.csv").write_text("mine")
    assert cli(*words, "--out", tmp_path / "s.csv").refused("already exists", "--overwrite")
    assert (tmp_path / "s.csv").read_text() == "mine"
    assert cli(*words, "--out", tmp_path / "s.npy").refused(".csv or .parquet")
    assert cli(*words).refused("--out: missing")
    cli(*words, "--out", tmp_path / "s.csv", "--overwrite", *QUICK).done()
    assert len(read(tmp_path / "s.csv")) == 61


def test_a_model_without_a_density_says_so_before_data_are_read(
    cli, place: Path, tmp_path: Path, monkeypatch
) -> None:
    from undiffuse.models import Diffusion

    monkeypatch.setattr(Diffusion, "no_density", "this family has no density.")
    words = ("score", place / "run", place / "none.npy", "--out", tmp_path / "s.csv", "--quiet")
    assert cli(*words, "--no-calibration").refused("no density")


def test_data_that_have_moved_leave_scores_without_quantiles(
    cli, place: Path, tmp_path: Path
) -> None:
    (place / "x.npy").rename(place / "moved.npy")
    words = ("score", place / "run", place / "new.npy", *QUICK)
    try:
        assert cli(*words, "--out", tmp_path / "a.csv").refused(
            "no such file", "--held-out", "--no-calibration"
        )
        cli(*words, "--out", tmp_path / "b.csv", "--no-calibration").done()
        cli(
            *words,
            "--out",
            tmp_path / "c.csv",
            "--held-out",
            place / "moved.npy",
            "--calibration",
            30,
        ).done()
    finally:
        (place / "moved.npy").rename(place / "x.npy")
    assert "quantile" not in read(tmp_path / "b.csv")[0]
    assert float(read(tmp_path / "c.csv")[60]["quantile"]) == 0


def test_an_error_of_the_model_needs_noise_levels_and_a_snapshot(
    cli, place: Path, tmp_path
) -> None:
    words = (
        "score",
        place / "run",
        place / "new.npy",
        "--out",
        tmp_path / "s.csv",
        "--model-error",
    )
    assert cli(*words, *QUICK).refused("has kept no snapshot from its first half")
    assert not list(tmp_path.iterdir())
