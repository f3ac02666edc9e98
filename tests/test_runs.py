"""Opening runs: the same model comes back, and whatever is wrong with a folder is said in one sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import undiffuse as ud
from undiffuse.errors import InputError
from undiffuse.run import Run

OPTIONS = {"batch": 16, "device": "cpu", "precision": "float32", "samples": 0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, ud.GenerativeModel]:
    """A run of ten steps on rows of three numbers, and its model."""
    out = tmp_path_factory.mktemp("runs") / "run"
    rows = np.random.default_rng(0).standard_normal((60, 3))
    model = ud.edm(width=16, depth=1)
    model.fit(rows, steps=10, out=out, **OPTIONS)
    return out, model


@pytest.fixture
def copy(trained, tmp_path) -> Path:
    """A run to be damaged."""
    return Path(shutil.copytree(trained[0], tmp_path / "run"))


def test_an_opened_run_samples_as_the_model_that_was_trained(trained, copy):
    _, model = trained
    for extra in ("state", "log.jsonl"):  # config.json and weights.safetensors are enough
        path = copy / extra
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    opened = ud.open(copy)
    assert not opened.training
    assert opened.config() == model.config()
    assert all(
        torch.equal(opened.state_dict()[name], value) for name, value in model.state_dict().items()
    )
    a, b = (m.sample(5, steps=4, seed=3) for m in (opened, model))
    np.testing.assert_array_equal(a, b)
    assert a.shape == (5, 3)


def test_an_opened_run_goes_on_training_as_a_start_for_another(trained, tmp_path):
    model = ud.open(trained[0])
    model.fit(
        np.random.default_rng(1).standard_normal((60, 3)), steps=2, out=tmp_path / "next", **OPTIONS
    )
    assert ud.open(tmp_path / "next").config() == model.config()


def edit(path: Path, change) -> None:
    config = json.loads((path / "config.json").read_text())
    change(config)
    (path / "config.json").write_text(json.dumps(config))


def reweight(path: Path, change) -> None:
    weights = load_file(path / "weights.safetensors")
    change(weights, next(name for name in weights if weights[name].ndim == 2))
    save_file(weights, path / "weights.safetensors")


def truncate(path: Path) -> None:
    whole = (path / "weights.safetensors").read_bytes()
    (path / "weights.safetensors").write_bytes(whole[: len(whole) // 2])


DAMAGE = {
    "no such folder": shutil.rmtree,
    "not a run": lambda path: (path / "config.json").unlink(),
    "cannot be read": lambda path: (path / "config.json").write_text('{"format": 2,'),
    "upgrade undiffuse": lambda path: edit(path, lambda config: config.update(format=3)),
    "reads 2; train it again": lambda path: edit(path, lambda config: config.update(format=1)),
    "no such kind. Did you mean diffusion": lambda path: edit(
        path, lambda c: c["model"].update(kind="difusion")
    ),
    "config.json is damaged": lambda path: edit(path, lambda config: config.pop("data")),
    "first checkpoint": lambda path: (path / "weights.safetensors").unlink(),
    "weights.safetensors is damaged": truncate,
    "is missing in it": lambda path: reweight(path, lambda w, name: w.pop(name)),
    "there and": lambda path: reweight(path, lambda w, name: w.update({name: w[name][:1].clone()})),
    "not finite": lambda path: reweight(path, lambda w, name: w[name].fill_(float("nan"))),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_wrong_with_a_run_is_one_sentence(copy, what):
    DAMAGE[what](copy)
    with pytest.raises(InputError, match=str(copy)) as caught:
        ud.open(copy)
    assert what in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_is_no_run(tmp_path):
    (tmp_path / "x.npy").write_bytes(b"")
    with pytest.raises(InputError, match="no such folder"):
        ud.open(tmp_path / "x.npy")


def test_a_summary_tells_what_a_run_is_and_how_to_resume(trained, copy):
    out, model = trained
    tree = Run(out).summary()
    assert (tree["steps"], tree["asked"], tree["finished"], tree["skipped"]) == (
        10,
        {"steps": 10},
        True,
        0,
    )
    assert tree["parameters"] == sum(p.numel() for p in model.parameters())
    assert tree["weights"]
    assert len(tree["held_out"]["levels"]["loss"]) == len(tree["held_out"]["levels"]["log_snr"])
    assert tree["resume"].endswith(f"--out {out} --resume --steps 20")
    assert json.loads(json.dumps(tree)) == tree
    shutil.rmtree(copy / "state")  # a run that was given away: the log tells
    given = Run(copy).summary()
    assert (given["steps"], given["finished"], given["held_out"]) == (10, True, tree["held_out"])
    for path in (copy / "log.jsonl", copy / "weights.safetensors"):
        path.unlink()
    bare = Run(copy).summary()
    assert (bare["steps"], bare["finished"], bare["held_out"], bare["weights"]) == (
        0,
        False,
        None,
        False,
    )
    assert bare["resume"].endswith("--resume")
