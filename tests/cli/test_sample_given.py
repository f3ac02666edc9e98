"""`sample --given` and `--guidance` as a person types them: what is known comes back, and what
cannot be is refused.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

QUICK = ("--precision", "float32", "--training.samples", 0, "--device", "cpu", "--quiet")
UNET = ("--model.width", 8, "--model.multipliers", 1, "--model.blocks", 1)
MLP = ("--model.width", 16, "--model.depth", 1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs: digits, long enough for a snapshot; a table without classes, too brief for one."""
    from undiffuse.cli.main import main

    folder, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    frame = pd.DataFrame(
        {"age": rng.integers(17, 90, 300), "job": rng.choice(["cook", "pilot"], 300)}
    )
    frame["pay"] = rng.normal(30, 5, 300).round(2)
    frame.to_csv(folder / "people.csv", index=False)
    for words in (
        (
            "train",
            "digits",
            "--out",
            folder / "digits",
            "--steps",
            20,
            "--checkpoint-every",
            8,
            *UNET,
            *QUICK,
        ),
        ("train", folder / "people.csv", "--out", folder / "people", "--steps", 8, *MLP, *QUICK),
    ):
        assert main([str(word) for word in words]) == 0
    return folder


def test_each_given_image_is_completed_n_times(cli, runs: Path, tmp_path: Path) -> None:
    given = np.full((2, 8, 8), np.nan)
    given[0, :4], given[1, :, 2] = 7, 16
    np.save(tmp_path / "g.npy", given)
    words = [
        "sample",
        runs / "digits",
        "--given",
        tmp_path / "g.npy",
        "--steps",
        3,
        "--device",
        "cpu",
    ]
    told = cli(*words, "-n", 3, "--out", tmp_path / "s.npz", "--json").done()
    result = json.loads(told.out)
    assert (result["number"], result["each"], result["given"]) == (6, 3, str(tmp_path / "g.npy"))
    with np.load(tmp_path / "s.npz") as archive:
        rows = archive["data"].reshape(2, 3, 8, 8)
        assert "labels" not in archive.files  # their class was not asked, and not drawn
    assert (rows[0, :, :4] == 7).all()
    assert (rows[1, :, :, 2] == 16).all()
    assert len(np.unique(rows[0], axis=0)) == 3
    told = cli(*words, "--out", tmp_path / "one.npy").done()
    assert "completed 2 given rows, one completion of each, in their order" in told.out + told.err
    assert np.load(tmp_path / "one.npy").shape == (2, 8, 8)
    cli(*words, "-n", 3, "--batch", 4, "--out", tmp_path / "small.npy").done()
    assert (np.load(tmp_path / "small.npy").reshape(rows.shape) != rows).mean() < 0.01


def test_missing_cells_are_imputed_and_filled_ones_are_kept(
    cli, runs: Path, tmp_path: Path
) -> None:
    (tmp_path / "g.csv").write_text("job,pay\npilot,\n,31.25\n,\n")
    cli(
        "sample",
        runs / "people",
        "--given",
        tmp_path / "g.csv",
        "--out",
        tmp_path / "s.csv",
        "--steps",
        3,
    ).done()
    table = pd.read_csv(tmp_path / "s.csv")
    assert list(table.columns) == ["age", "job", "pay"]
    assert table["job"][0] == "pilot"
    assert table["pay"][1] == 31.25
    assert not table.isna().any().any()


def test_given_rows_that_contradict_the_data_are_refused(cli, runs: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path / "s.csv")
    for text, fragment in (
        ("name\nx\n", 'column "name" is one that the run was not trained with'),
        ("job\njudge\n", "'judge' in row 1"),
        ("age\n30.5\n", "30.5 in row 1"),
    ):
        (tmp_path / "g.csv").write_text(text)
        assert cli("sample", runs / "people", "--given", tmp_path / "g.csv", *out).refused(fragment)
    np.save(tmp_path / "g.npy", np.zeros((2, 5, 5)))
    words = ("sample", runs / "digits", "--given", tmp_path / "g.npy", "--out", tmp_path / "s.npy")
    assert cli(*words).refused("a row of the run has (8, 8)")
    assert cli(*words[:3], tmp_path / "none.npy", *words[4:]).refused("no such file or folder")


def test_weight_1_is_no_guidance_and_another_is(cli, runs: Path, tmp_path: Path) -> None:
    def sample(name: str, *more: object) -> np.ndarray:
        words = [
            "sample",
            runs / "digits",
            "-n",
            4,
            "--steps",
            3,
            "--seed",
            1,
            "--out",
            tmp_path / name,
        ]
        cli(*words, *more).done()
        return np.load(tmp_path / name).astype(int)

    plain = sample("plain.npy")
    for name in ("guidance", "autoguide"):
        assert (sample(f"{name}1.npy", f"--{name}", 1) != plain).mean() < 0.01
        assert (sample(f"{name}4.npy", f"--{name}", 4) != plain).mean() > 0.01
        nowhere = sample(
            f"{name}0.npy", f"--{name}", 4, "--guidance-from", 100, "--guidance-to", 200
        )
        assert (nowhere == plain).all()


def test_guidance_that_cannot_be_is_refused(cli, runs: Path, tmp_path: Path) -> None:
    people = ("sample", runs / "people", "-n", 2, "--out", tmp_path / "s.csv")
    assert cli(*people, "--guidance", 2).refused("trained without labels")
    assert cli(*people, "--autoguide", 2).refused("no snapshot from its first half")
    digits = ("sample", runs / "digits", "-n", 2, "--out", tmp_path / "s.npy")
    assert cli(*digits, "--guidance", 2, "--autoguide", 2).refused("leave one of them out")
    assert cli(*digits, "--guidance-from", 2).refused("they need a scale")
    assert cli(*digits, "--guidance", 2, "--guidance-from", 3, "--guidance-to", 1).refused(
        "no noise level is between"
    )
    np.save(tmp_path / "g.npy", np.zeros((1, 8, 8)))
    assert cli(*digits, "--guidance", 2, "--given", tmp_path / "g.npy").refused("add --label")
    assert [path.name for path in tmp_path.iterdir()] == ["g.npy"]


def test_forecasts_have_bands_and_a_run_without_gaps_says_so(cli, tmp_path: Path) -> None:
    """Beside the samples, where there are 19 of each or more; a picture that is there is kept."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(40, 8, 2)).cumsum(1))
    words = ("train", tmp_path / "x.npy", "--data.axes", "NTC", "--out", tmp_path / "r")
    cli(*words, "--steps", 2, "--gaps", 0, "--model.width", 16, *QUICK).done()
    given = np.load(tmp_path / "x.npy")[:1]
    given[:, 6:] = np.nan
    np.save(tmp_path / "g.npy", given)
    words = ("sample", tmp_path / "r", "--given", tmp_path / "g.npy", "--steps", 2)
    told = cli(*words, "-n", 18, "--out", tmp_path / "few.npy").done()
    assert "was not trained with gaps" in told.out + told.err
    assert not (tmp_path / "few-bands.png").exists()
    told = cli(*words, "-n", 19, "--out", tmp_path / "s.npy").done()
    assert "s-bands.png" in told.out + told.err
    assert (tmp_path / "s-bands.png").exists()
    (tmp_path / "t-bands.png").write_text("kept")
    told = cli(*words, "-n", 19, "--out", tmp_path / "t.npy").done()
    assert "already exists, so no bands were drawn" in told.out + told.err
    assert (tmp_path / "t-bands.png").read_text() == "kept"
