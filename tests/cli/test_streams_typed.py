"""Data in many files on the command line: looked at, trained on, resumed, refused without one."""

import json

import numpy as np


def test_a_stream_is_looked_at_trained_on_resumed_and_refused_changed(cli, tmp_path):
    shards, run = tmp_path / "shards", tmp_path / "run"
    shards.mkdir()
    for i in range(4):
        rows = np.random.default_rng(i).normal(size=(50, 3)).astype(np.float32)
        np.save(shards / f"{i}.npy", rows)
    whole = json.loads(cli("info", shards, "--json").done().out)
    streamed = json.loads(cli("info", shards, "--data.stream", "true", "--json").done().out)
    assert "streamed" not in whole
    assert (whole["held_out_rows"], streamed["held_out_rows"]) == (20, 50)
    briefly = ("--device", "cpu", "--model.width", "8", "--training.samples", "0")
    words = ("train", shards, "--data.stream", "true", "--out", run, "--steps", "3", *briefly)
    cli(*words).done()
    cli("train", "--out", run, "--resume", "--steps", "5").done()
    recorded = json.loads((run / "config.json").read_text())["data"]
    assert recorded["stream"] == {"files": 4, "window": 200, "sample": 200}
    (shards / "3.npy").rename(tmp_path / "3.npy")
    changed = cli("train", "--out", run, "--resume", "--steps", "9")
    assert changed.refused("not the data that", "or changed since")
    assert cli("train", shards, "--out", "s3://bucket/run").refused("is not on this machine")
