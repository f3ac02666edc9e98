"""The examples of the README run as they are printed, on small photographs and a short budget."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from undiffuse.models.likelihood import Bound

README = (Path(__file__).parents[1] / "README.md").read_text()
EXAMPLES = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def photos(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    for kind, level in (("cat", 60), ("dog", 180)):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for i in range(40):
            pixels = rng.normal(level, 20, (8, 12, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / kind / f"{i}.png")
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
def test_the_first_example_runs(photos, monkeypatch):
    monkeypatch.setattr("undiffuse.models.diffusion.OWN", Bound(evaluations=8))
    names = {}
    short = {
        "ud.edm(data)": "ud.edm(data, width=8, blocks=1, multipliers=(1,))",
        '"10m"': '"1s"',
        'ate("runs/photos")': 'ate("runs/photos", n=32)',
    }
    code = EXAMPLES[0]
    for printed, shorter in short.items():
        assert printed in code
        code = code.replace(printed, shorter)
    exec(code, names)
    assert names["images"].shape == (64, 8, 12, 3)
    assert names["images"].dtype == np.uint8
    assert len(names["cats"]) == 16
    assert not np.array_equal(names["images"], names["more"])
    assert len(names["data"].held_out) == 8
    assert names["report"].facts["samples"] == 32


def test_the_estimators_detect_and_fill_as_they_say():
    import pandas as pd

    random = np.random.default_rng(0)
    frame = pd.DataFrame({"a": random.normal(size=200), "b": random.choice(["x", "y"], 200)})
    frame.loc[3, "a"], new = np.nan, pd.DataFrame({"a": [0.1, 9.0], "b": ["x", "y"]})
    names = {"frame": frame, "new": new}
    assert EXAMPLES[1].count('budget="2m"') == 2
    small = 'steps=5, sizes={"width": 8, "depth": 1}'
    exec(EXAMPLES[1].replace('budget="2m"', small), names)
    assert names["suspicious"].shape == (2,)
    assert names["whole"].notna().all(axis=None)
    assert names["whole"].drop(index=3).equals(frame.drop(index=3))


def test_the_third_example_runs_and_samples_what_it_says():
    names = {}
    torch.manual_seed(0)
    exec(EXAMPLES[2], names)
    x = names["x"]
    low, high = x[x < 0], x[x > 0]
    assert (float(low.mean()), float(high.mean())) == pytest.approx((-2, 2), abs=0.1)
    assert (float(low.std()), float(high.std())) == pytest.approx((0.3, 0.6), abs=0.06)


def test_the_fourth_example_trains_on_two_moons():
    """Straight paths with the velocity target: the samples soon lie near the moons."""
    names = {}
    exec("import undiffuse as ud\n" + EXAMPLES[3], names)
    model = names["flow_matching"].fit("moons", steps=50)
    data, samples = names["ud"].load("moons").train[:2000], model.sample(200)
    distance = np.linalg.norm(samples[:, None] - np.asarray(data)[None], axis=2).min(1)
    assert np.median(distance) < 0.15


def test_every_preset_stands_in_the_table():
    from undiffuse.models import PRESETS

    for name in PRESETS:
        assert f"| `{name}`" in README
