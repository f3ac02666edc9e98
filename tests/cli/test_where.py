"""Conditions from the command line: a table, a folder of images, and what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from undiffuse.cli.main import main

SMALL = ("--precision", "float32", "--training.samples", 0, "--device", "cpu", "--quiet")
TINY = ("--model.width", 8, "--model.depth", 1, *SMALL)
UNET = ("--model.width", 8, "--model.multipliers", 1, "--model.blocks", 1, *SMALL)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with two columns to be asked for, one of them with a gap, and a run beside it."""
    rng, path = np.random.default_rng(0), tmp_path_factory.mktemp("data") / "t.csv"
    age, colour = rng.integers(18, 90, 90).astype(float), rng.choice(["red", "tan"], 90)
    age[:3] = 18, 89, np.nan
    columns = {"height": rng.normal(size=90), "age": age, "colour": colour}
    pd.DataFrame({**columns, "weight": rng.normal(size=90)}).to_csv(path, index=False)
    words = ["train", path, "--out", path.with_name("run"), "--condition", "age,colour"]
    assert main([str(word) for word in (*words, "--steps", 2, *TINY)]) == 0
    return path


def test_a_table_is_asked_for_its_conditions(cli, table: Path, tmp_path: Path) -> None:
    run, out, asked = table.with_name("run"), tmp_path / "s.csv", tmp_path / "w.csv"
    tree = json.loads(cli("info", table, "--condition", "age,colour", "--json").done().out)
    assert tree["conditions"] == {"age": "18 to 89", "colour": "red, tan"}
    cli("train", "--out", run, "--resume", "--steps", 3, *SMALL).done()
    assert "age 18 to 89, colour red, tan" in cli("info", run).done().out

    shared = ("--steps", 2, "--overwrite", "--quiet", "--out", out)
    cli("sample", run, "-n", 40, *shared).done()
    drawn, data = pd.read_csv(out), pd.read_csv(table)
    assert list(drawn) == list(data)
    pairs = set(map(tuple, data[["age", "colour"]].fillna(-1).to_numpy()))
    assert set(map(tuple, drawn[["age", "colour"]].fillna(-1).to_numpy())) <= pairs
    cli("sample", run, "-n", 7, "--batch", 3, *shared).done()
    pd.testing.assert_frame_equal(pd.read_csv(out)[["age", "colour"]], drawn[:7][["age", "colour"]])

    cli("sample", run, "-n", 3, "--where", "age=30,colour=tan", "--guidance", 2, *shared).done()
    assert pd.read_csv(out)[["age", "colour"]].to_numpy().tolist() == [[30, "tan"]] * 3
    asked.write_text("colour,age\ntan,20\nred,\n")
    cli("sample", run, "--where", asked, *shared).done()
    drawn = pd.read_csv(out)
    assert drawn.colour.tolist() == ["tan", "red"]
    assert drawn.age.isna().tolist() == [False, True]
    asked.write_text("colour,height\ntan,0.5\n")
    noted = cli("sample", run, "--given", asked, "-n", 2, *shared[:3], *shared[4:]).done().err
    assert "age: has no value for some samples; it is unknown there, and written as empty" in noted
    assert "colour: has no value" not in noted
    assert pd.read_csv(out)[["colour", "height"]].to_numpy().tolist() == [["tan", 0.5]] * 2
    noted = cli("sample", run, "-n", 1, "--where", "age=500", *shared[:3], *shared[4:]).done().err
    assert "age 500 is outside the range of the training rows, 18 to 89" in noted

    for where, said in {
        "aeg=30": "where: aeg: no such condition. Did you mean age?",
        "colour=blue": "where: blue: no such colour. (red, tan)",
        "age=old": "'old' in row 1, and in training",
        "age": "must be NAME=VALUE for age or colour",
    }.items():
        assert cli("sample", run, "-n", 2, "--where", where, *shared).refused(said)


def test_rows_are_scored_given_their_conditions(cli, table: Path, tmp_path: Path) -> None:
    run, out, other = table.with_name("run"), tmp_path / "s.csv", tmp_path / "t.csv"
    data = pd.read_csv(table)[3:9]
    data.to_csv(other, index=False)
    shared = ("--out", out, "--calibration", 4, "--overwrite", "--tolerance", 1e-2, "--draws", 1)

    def scores(*words: object) -> np.ndarray:
        cli("score", run, other, *shared, *words).done()
        return pd.read_csv(out)["log_likelihood"].to_numpy()

    own = scores()
    assert np.isfinite(own).all()
    asked = scores("--where", "age=40,colour=red")
    same = (data.age == 40) & (data.colour == "red")
    assert (own != asked)[~same].all()
    data.drop(columns=["age", "colour"]).to_csv(other, index=False)
    kept = len(list((run / "held_out_scores").iterdir()))
    noted = cli("score", run, other, *shared).done().err
    assert len(list((run / "held_out_scores").iterdir())) > kept  # compared without theirs, too
    assert "does not say its conditions" in noted
    hidden = pd.read_csv(out)["log_likelihood"].to_numpy()
    assert (hidden != own).all()
    words = ("score", run, other, *shared, "--where")
    assert cli(*words, "colour=blue").refused("where: blue: no such colour")
    (tmp_path / "w.csv").write_text("age\n20\n30\n")
    assert cli(*words, tmp_path / "w.csv").refused("2 rows of conditions for 6 rows of data")


def test_images_are_asked_for_what_a_list_beside_them_says(cli, tmp_path: Path) -> None:
    folder, run, out = tmp_path / "x", tmp_path / "run", tmp_path / "s.npz"
    folder.mkdir()
    rng, lines = np.random.default_rng(0), []
    for i in range(40):
        pixels = rng.integers(0, 256, (8, 8)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        lines.append({"file_name": f"{i}.png", "angle": i / 2, "label": "ab"[i % 2]})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    words = ("--condition", "metadata.jsonl:angle")
    tree = json.loads(cli("info", folder, *words, "--json").done().out)
    assert tree["conditions"] == {"angle": "0.5 to 19.5"}
    assert tree["classes"] == {"a": 20, "b": 20}
    cli("train", folder, "--out", run, *words, "--steps", 2, *UNET).done()
    beside = tmp_path / "s-conditions.csv"
    cli("sample", run, "-n", 6, "--steps", 2, "--out", out, "--quiet").done()
    drawn = np.load(out)["labels"], pd.read_csv(beside).angle.to_numpy()
    known = {(line["label"], line["angle"]) for line in lines}
    assert set(zip(*(one.tolist() for one in drawn))) <= known  # both of one training row
    again = ("sample", run, "--steps", 2, "--out", tmp_path / "s.npy", "--where", "angle=3")
    assert cli(*again).refused("s-conditions.csv: already exists")
    cli(*again, "--overwrite", "--label", "b").done()
    assert pd.read_csv(beside).angle.tolist() == [3.0]


def test_images_are_asked_for_images_named_alike(cli, tmp_path: Path) -> None:
    """One picture for each image of the folder; the conditions are written beside the samples."""
    folder, masks, run, out = (tmp_path / name for name in ("x", "masks", "run", "s.npy"))
    rng = np.random.default_rng(0)
    folder.mkdir()
    masks.mkdir()
    for i in range(24):
        for place, values in ((folder, rng.integers(0, 256, (6, 8))), (masks, np.eye(6, 8) * i)):
            Image.fromarray(values.astype(np.uint8)).save(place / f"{i:02d}.png")
    tree = json.loads(cli("info", folder, "--condition", f"{masks}/", "--json").done().out)
    assert tree["conditions"]["masks"].startswith("6 x 8 of the classes 0, 1, 2")
    cli("train", folder, "--out", run, "--condition", f"{masks}/", "--steps", 2, *UNET).done()
    assert "masks 6 x 8" in cli("info", run).done().out
    shared = ("--steps", 2, "--overwrite", "--quiet", "--out", out)
    cli("sample", run, "--where", f"{masks}/", "-n", 1, "--guidance", 2, *shared).done()
    assert np.load(out).shape == (24, 6, 8)
    asked = np.load(tmp_path / "s-masks.npy")
    np.testing.assert_array_equal(asked, [np.eye(6, 8) * i for i in range(24)])
    cli("sample", run, "-n", 5, *shared[:-1], tmp_path / "s.png").done()
    assert Image.open(tmp_path / "s-masks.png").size == Image.open(tmp_path / "s.png").size
    scores = ("--out", tmp_path / "s.csv", "--overwrite", "--no-calibration", "--evaluations", 2)
    bare = shutil.copytree(folder, tmp_path / "elsewhere" / "x")
    table = []
    for rows, words in ((folder, ()), (folder, ("--where", masks)), (bare, ())):
        cli("score", run, rows, *words, *scores, "--quiet").done()
        table.append(pd.read_csv(tmp_path / "s.csv")["log_likelihood"])
    assert (table[0] == table[1]).all()  # the maps that lie beside its own images are theirs
    assert (table[0] != table[2]).all()
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "small.png")
    refused = cli("sample", run, "--where", tmp_path / "small.png", *shared)
    assert refused.refused("small.png: is 3 x 4 (height x width), and the conditions of the run")
    assert cli("info", folder, "--condition", "gone/").refused("--condition gone/: no such file")


def test_conditions_that_nothing_can_be_done_with_are_refused(
    cli, table: Path, tmp_path: Path
) -> None:
    words = ("train", table, "--out", tmp_path / "run", "--steps", 2, *SMALL)
    for preset in ("vae", "gan", "flow"):
        refused = cli(*words, "--preset", preset, "--condition", "age")
        assert refused.refused("takes classes alone; train a diffusion model")
    assert not (tmp_path / "run").exists()
    assert cli(*words, "--condition", "agee").refused("no such column. Did you mean age?")
    assert cli("info", "digits", "--condition", "a").refused("--condition is for images")
    cli("train", "moons", "--out", tmp_path / "run", "--steps", 1, *TINY).done()
    refused = cli("sample", tmp_path / "run", "--where", "a=1", "--out", tmp_path / "s.npy")
    assert refused.refused("trained without conditions; train one with --condition")
