"""`sample --length` as a person types it: series and recordings longer than the rows of a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from undiffuse.cli.draw_options import _length
from undiffuse.errors import InputError

QUICK = ("--steps", 2, "--precision", "float32", "--training.samples", 0)
SMALL = ("--device", "cpu", "--quiet", "--model.width", 8, "--model.multipliers", 1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on recordings at 800 Hz, cut into windows of 64."""
    soundfile = pytest.importorskip("soundfile")
    from undiffuse.cli.main import main

    folder = tmp_path_factory.mktemp("runs")
    (folder / "tones").mkdir()
    for i in range(30):
        tone = 0.3 * np.sin(np.arange(128) / (2 + i / 10) + i)
        soundfile.write(folder / "tones" / f"{i}.wav", tone, 800)
    asked = ["train", folder / "tones", "--data.size", 64, "--out", folder / "run", *QUICK, *SMALL]
    assert main([str(word) for word in [*asked, "--model.blocks", 1]]) == 0
    return folder


def test_series_are_as_long_as_asked_for_and_begin_as_samples_do(cli, runs, tmp_path):
    words = ["sample", runs / "run", "-n", 3, "--steps", 3, "--device", "cpu", "--out"]
    cli(*words, tmp_path / "long.npy", "--length", 200).done()
    cli(*words, tmp_path / "short.npy").done()
    long, short = np.load(tmp_path / "long.npy"), np.load(tmp_path / "short.npy")
    assert long.shape == (3, 200)
    np.testing.assert_array_equal(long[:, :64], short)
    cli(*words, tmp_path / "again.npy", "--length", "0.25s").done()
    assert (tmp_path / "again.npy").read_bytes() == (tmp_path / "long.npy").read_bytes()
    cli(*words, tmp_path / "long.png", "--length", 100).done()
    assert Image.open(tmp_path / "long.png").size[0] > 100


def test_lengths_that_cannot_be_are_refused(cli, runs, tmp_path):
    words = ["sample", runs / "run", "-n", 2, "--out", tmp_path / "s.npy", "--device", "cpu"]
    said = "length 10: a row has 64 steps; give at least as many, or leave it out."
    assert cli(*words, "--length", "10").refused(said)
    assert cli(*words, "--length", "soon").refused("--length soon: not a duration; write 90s")
    assert cli(*words, "--length", "64", "--given", "x.npy").refused("--length", "--given")
    with pytest.raises(InputError, match="--length 30s: give the number of steps"):
        _length(SimpleNamespace(form=None), "30s")  # of arrays, which have no rate
