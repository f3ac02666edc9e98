"""Runs on data in many files: resumed bit for bit, refused on others, known again, scored."""

import json
import shutil
from itertools import islice

import numpy as np
import pytest
import torch
from stream_files import FORMATS, numbers_in, write_files

import undiffuse as ud
import undiffuse.data.stream.formats as formats
import undiffuse.data.stream.read as reading
from undiffuse.data import Data, load
from undiffuse.errors import InputError
from undiffuse.run import Run
from undiffuse.training import fit

BRIEFLY = {
    "device": "cpu",
    "precision": "float32",
    "samples": 0,
    "batch": 8,
    "evaluate_every": 100,
    "checkpoint_every": 100,
}


@pytest.fixture(scope="module", params=[form for form in FORMATS if form != "cells"])
def run(request, tmp_path_factory):
    """A format, a folder of files of it, and a run of 12 steps on them: three files an epoch."""
    place = tmp_path_factory.mktemp(request.param)
    folder = write_files(place / "x", request.param, (20, 20, 20, 20))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UNDIFFUSE_CACHE", str(place / "cache"))
        patch.setattr(formats, "PIECE", 80 if request.param == "npy" else 15_000)
        patch.setattr(reading, "WINDOW", 400)
        model = ud.edm(width=8)
        fit(model, load(folder, stream=True), out=place / "run", steps=12, **BRIEFLY)
        yield request.param, folder, place / "run", model


def test_a_run_on_a_stream_resumes_bit_for_bit(run, tmp_path):
    _, folder, _, whole = run
    first, second = ud.edm(width=8), ud.edm(width=8)
    steps = [0]
    options = {"out": tmp_path / "run", "steps": 12, "log_every": 1, **BRIEFLY}
    options |= {"on_event": lambda event: steps.append(event["step"])}
    result = fit(first, load(folder, stream=True), stop=lambda: max(steps) >= 5, **options)
    assert (result.stopped, result.step) == (True, 5)
    fit(second, load(folder, stream=True), out=tmp_path / "run", resume=True)
    a, b = whole.state_dict(), second.state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a_run_on_a_stream_starts_from_another_and_goes_on_from_elsewhere(
    run, tmp_path, monkeypatch
):
    """With its weights, and what it measured itself; never without them."""
    form, _, start, whole = run
    monkeypatch.chdir(tmp_path)
    other, model = write_files(tmp_path / "x", form, (30, 30, 30)), ud.edm(width=8)
    fit(model, load("x", stream=True), out="run", init=start, steps=2, lr=1e-12, **BRIEFLY)
    ours, theirs = (dict(one.network.named_parameters()) for one in (model, whole))
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-9) for name in theirs)
    assert Run("run").config["origin"]["from"] == str(start)
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    data = Run("../run").data()
    assert data.fingerprint == load(other, stream=True).fingerprint
    assert fit(ud.edm(width=8), data, out="../run", resume=True, steps=4).step == 4
    (tmp_path / "run" / "state" / "latest").unlink()
    with pytest.raises(InputError, match=r"begun with the weights of .* with --overwrite"):
        fit(ud.edm(width=8), data, out="../run", resume=True, steps=6)


def test_nothing_is_fetched_because_a_run_names_it(run, tmp_path):
    """A run may be somebody else's; the data have to be named by who opens it."""
    _, folder, out, _ = run
    copied = shutil.copytree(out, tmp_path / "run")
    config = json.loads((copied / "config.json").read_text())
    config["data"]["path"] = "https://elsewhere/x.npy"
    (copied / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"nothing is fetched because a run names it: .*--data"):
        Run(copied).data()
    assert isinstance(Run(copied).data(folder), Data)


def test_a_run_knows_its_files_and_their_split(run):
    form, folder, out, _ = run
    data, own = Run(out).data(), load(folder, stream=True)
    assert isinstance(data, Data)
    assert data.fingerprint == own.fingerprint
    assert data.config() == own.config()
    ours, theirs = (islice(one.batches(8, seed=0), 3) for one in (data, own))
    for one, other in zip(ours, theirs):
        assert numbers_in(one["row"], form) == numbers_in(other["row"], form)
    assert len(Run(out).held_out()) == 20
    config = Run(out).config["data"]
    assert config["stream"]["files"] == 4
    assert config["reading"]["stream"] is True


def test_a_run_is_not_resumed_without_one_of_its_files(run, tmp_path):
    _, folder, out, _ = run
    fewer = tmp_path / "x"
    fewer.mkdir()
    for path in sorted(folder.iterdir())[:3]:
        (fewer / path.name).symlink_to(path)
    with pytest.raises(InputError, match="the data are not those it was trained on"):
        fit(ud.edm(width=8), load(fewer, stream=True), out=out, resume=True, steps=24)
    assert not isinstance(Run(out).data(str(fewer)), Data)


def test_rows_of_a_stream_are_scored_as_those_of_the_whole(run, tmp_path):
    form, folder, out, _ = run
    some = {"no_calibration": True, "draws": 1, "evaluations": 2, "batch": 80}
    found = ud.score(out, str(folder / "part-*"), **some)
    data = load(folder, stream=False)
    rows = data.loaded.rows.take(np.arange(80))
    rows = data.form.table(rows) if form == "parquet" else rows
    whole = ud.score(out, (rows, data.labels) if form == "tar" else rows, **some)
    assert np.isfinite(found["log_likelihood"]).all()
    np.testing.assert_array_equal(found["log_likelihood"], whole["log_likelihood"])
