"""A run as one noun: its model, its data, its log; what is wrong with it is one sentence."""

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


@pytest.mark.parametrize("origin", ["there", [], {}, {"from": 3}, {"from": "a", "steps": "b"}])
def test_an_origin_that_none_is_is_one_sentence(copy, origin):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"origin": origin}))
    with pytest.raises(InputError, match=r"config\.json is damaged") as refused:
        Run(copy)
    assert "\n" not in str(refused.value)


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


def test_the_data_below_the_folder_one_is_in_are_named_from_there(copy, monkeypatch, tmp_path):
    config = json.loads((copy / "config.json").read_text())
    config["data"]["path"] = str(tmp_path / "own rows" / "x.npy")
    (copy / "config.json").write_text(json.dumps(config))
    monkeypatch.chdir(tmp_path)
    assert Run("run").resume_command.startswith("undiffuse train 'own rows/x.npy' --out run ")
    monkeypatch.chdir(copy)
    assert f"'{tmp_path}/own rows/x.npy' --out ../run " in Run("../run").resume_command


@pytest.fixture
def filed(tmp_path) -> tuple[Path, np.ndarray]:
    """A run on rows in a file beside it, and the rows."""
    rows = np.random.default_rng(0).standard_normal((60, 3))
    np.save(tmp_path / "x.npy", rows)
    ud.edm(width=16, depth=1).fit(
        ud.load(tmp_path / "x.npy", seed=3, held_out=20), steps=2, out=tmp_path / "run", **OPTIONS
    )
    return tmp_path / "run", rows


def stacked(rows) -> np.ndarray:
    return np.concatenate([batch["row"].numpy() for batch in rows.batches(7)])


def test_a_run_finds_its_data_with_the_split_that_it_had(filed):
    run, rows = Run(filed[0]), filed[1]
    data = run.data()
    assert (len(data), data.n_held_out) == (40, 20)
    before = ud.load(run.path.parent / "x.npy", seed=3, held_out=20)
    np.testing.assert_array_equal(data.held_out, before.held_out)
    np.testing.assert_array_equal(stacked(run.held_out()), before.held_out)
    np.testing.assert_array_equal(rows[list(run.held_out().names)], before.held_out)
    assert Run.of(run) is run


def test_data_that_have_moved_are_known_by_their_contents(filed, tmp_path):
    run, _ = Run(filed[0]), filed[1]
    held_out = run.data().held_out
    (tmp_path / "x.npy").rename(tmp_path / "moved.npy")
    with pytest.raises(InputError, match=r"run: its data are not there any more: .*x\.npy.*--data"):
        run.data()
    with pytest.raises(InputError, match=r"not there any more: .*--held-out.*--no-calibration"):
        run.held_out()
    for source in (tmp_path / "moved.npy", ud.load(tmp_path / "moved.npy")):
        np.testing.assert_array_equal(run.data(source).held_out, held_out)
        np.testing.assert_array_equal(stacked(run.held_out(source)), held_out)


def test_data_that_have_changed_are_refused_in_their_place_and_conformed_elsewhere(filed, tmp_path):
    run, rows = Run(filed[0]), filed[1]
    np.save(tmp_path / "x.npy", rows + 1)
    with pytest.raises(
        InputError, match="is not what it was trained on, or has changed since; say"
    ):
        run.data()
    np.testing.assert_array_equal(stacked(run.data(tmp_path / "x.npy")), rows + 1)
    np.testing.assert_array_equal(stacked(run.held_out(rows[:5] + 2)), rows[:5] + 2)
    with pytest.raises(InputError, match="shape"):
        run.data(rows[:, :2])


def test_data_from_python_have_to_be_given_again(trained):
    run = Run(trained[0])
    with pytest.raises(
        InputError, match="was trained on data from Python, which are not kept; say"
    ):
        run.data()
    assert run.data(np.random.default_rng(0).standard_normal((60, 3))).n_held_out == 8


def test_a_weaker_model_is_that_of_a_snapshot_in_the_first_half(tmp_path):
    model = ud.edm(width=16, depth=1)
    rows = np.random.default_rng(0).standard_normal((60, 3))
    model.fit(rows, steps=10, checkpoint_every=2, out=tmp_path / "run", **OPTIONS)
    run = Run(tmp_path / "run")
    assert run.snapshots == [2, 4, 8]
    weaker, snapshot = run.weaker().state_dict(), ud.open(tmp_path / "run", snapshot=4).state_dict()
    assert all(torch.equal(weaker[name], snapshot[name]) for name in weaker)
    assert any(not torch.equal(weaker[name], value) for name, value in model.state_dict().items())


def test_curves_are_means_over_steps_and_looks_as_they_are(trained, tmp_path):
    shutil.copy(trained[0] / "config.json", tmp_path)
    events = [
        {"event": "step", "step": k, "elapsed": k / 2, "loss": None if k == 7 else float(k)}
        for k in range(1, 601)
    ]
    events.insert(300, {"event": "held_out", "step": 300, "loss": 4.0})
    lines = "".join(json.dumps(event) + "\n" for event in events)
    (tmp_path / "log.jsonl").write_text(lines)
    training, held_out = Run(tmp_path).curves()
    assert held_out == [{"step": 300, "elapsed": 150.0, "loss": 4.0}]
    assert len(training) == 200
    assert training[0] == {"step": 3, "elapsed": 1.5, "loss": 2.0}
    assert training[2] == {"step": 10, "elapsed": 5.0, "loss": 9.0}  # step 7 had no loss
    assert training[-1] == {"step": 600, "elapsed": 300.0, "loss": 599.5}
    (tmp_path / "log.jsonl").unlink()
    assert Run(tmp_path).curves() == ([], [])
