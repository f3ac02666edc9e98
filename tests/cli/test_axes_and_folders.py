"""Series and folders of images as people have them, from `info` to an evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SMALL = ("--precision", "float32", "--training.samples", 0, "--device", "cpu", "--quiet")
TRANSFORMER = ("--model.kind", "transformer", "--model.width", 16, "--model.depth", 1,
               "--model.heads", 1)  # fmt: skip
UNET = ("--model.width", 8, "--model.multipliers", 1, "--model.blocks", 1)


@pytest.fixture
def series(tmp_path: Path) -> Path:
    """120 walks of 3 channels and 20 steps, which look like grids; some values are missing."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 6, 20)).cumsum(2).astype(np.float32)
    x[:, 0][rng.random((120, 20)) < 0.3] = np.nan
    np.save(tmp_path / "x.npy", x)
    return tmp_path / "x.npy"


def test_series_with_gaps_keep_their_axes_from_info_to_an_evaluation(cli, series: Path) -> None:
    run, out = series.with_name("run"), series.with_name("new.npy")
    tree = json.loads(cli("info", series, "--json").done().out)
    assert tree["axes"].startswith("NCT: rows of 6 channels, 20 steps (neighbours are alike")
    assert tree["modelled_shape"] == [7, 20]
    given = json.loads(cli("info", series, "--data.axes", "NHW", "--json").done().out)
    assert given["modelled_shape"] == [2, 6, 20]
    assert cli("info", run.with_name("gone"), "--data.axes", "NTC").code == 2
    assert cli("info", series, "--data.axes", "NTCH").refused("give NTC or NCT or NHW")
    assert cli("info", series, "--data.labels", "a").refused("--data.labels is for images or")

    words = ("train", series, "--out", run, "--data.axes", "NTC")
    cli(*words, "--steps", 2, *TRANSFORMER, *SMALL).done()
    cli("train", "--out", run, "--resume", "--steps", 3, *SMALL).done()
    config = json.loads((run / "config.json").read_text())["data"]
    assert config["reading"] == {"axes": "NTC", "stream": False}
    assert config["transform"]["axes"] == "TC"
    cli("sample", run, "-n", 30, "--out", out, "--steps", 2).done()
    rows = np.load(out)
    assert (rows.shape, rows.dtype) == ((30, 6, 20), np.float32)
    cli("sample", run, "--given", series, "-n", 1, "--out", out, "--overwrite", "--steps", 2).done()
    known = np.load(series)
    filled = np.load(out).reshape(known.shape)
    assert not np.isnan(filled).any()
    np.testing.assert_allclose(filled[~np.isnan(known)], known[~np.isnan(known)], atol=1e-5)
    cli("score", run, series, "--out", out.with_suffix(".csv"), "--evaluations", 2,
        "--calibration", 4).done()  # fmt: skip
    assert "nan" not in out.with_suffix(".csv").read_text().lower()
    cli("evaluate", run, "-n", 16, "--rows", 4, "--steps", 2, "--quiet").done()
    report = json.loads((run / "report.json").read_text())
    assert report["data"]["held_out_rows"] == 12


def test_a_folder_in_parts_is_trained_on_train_and_evaluated_on_test(cli, tmp_path: Path) -> None:
    rng, folder, run = np.random.default_rng(0), tmp_path / "x", tmp_path / "run"
    for part, count in (("train", 24), ("val", 9), ("test", 17)):
        (folder / part).mkdir(parents=True)
        lines = []
        for i in range(count):
            pixels = rng.integers(0, 256, (8, 8)).astype(np.uint8)
            Image.fromarray(pixels).save(folder / part / f"{i}.png")
            lines.append({"file_name": f"{i}.png", "breed": "ab"[i % 2], "age": i})
        (folder / part / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)))
    tree = json.loads(cli("info", folder, "--data.labels", "breed", "--json").done().out)
    assert [tree[f"{name}_rows"] for name in ("training", "held_out", "test")] == [24, 9, 17]
    assert tree["classes"] == {"a": 26, "b": 24}

    words = ("train", folder, "--out", run, "--data.labels", "breed", "--steps", 2)
    cli(*words, *UNET, *SMALL).done()
    cli("train", "--out", run, "--resume", "--steps", 3, *SMALL).done()
    cli("evaluate", run, "-n", 16, "--rows", 4, "--steps", 2, "--quiet").done()
    report = json.loads((run / "report.json").read_text())
    assert (report["data"]["training_rows"], report["data"]["held_out_rows"]) == (24, 17)
    assert "the held-out rows are the 17 of the data's test part" in json.dumps(report)


def test_mirrored_images_are_asked_for_and_recorded(cli, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).integers(0, 255, (40, 6, 6), np.uint8))
    run = tmp_path / "run"
    words = ("train", tmp_path / "x.npy", "--out", run, "--data.mirrored", "true")
    cli(*words, "--steps", 2, *UNET, *SMALL).done()
    assert json.loads((run / "config.json").read_text())["data"]["mirrored"] is True
    words = ("info", tmp_path / "x.npy", "--data.mirrored", "maybe")
    assert cli(*words).refused("mirrored", "true or false")
