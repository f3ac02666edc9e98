"""`push`, `export` and `--backend`: what the words of a command line become."""

import json
import sys

import numpy as np
import pytest

import undiffuse as ud
from undiffuse.cli.main import main
from undiffuse.exchange.hub import Pushed
from undiffuse.exchange.onnx_backend import Speed
from undiffuse.exchange.onnx_files import Exported


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "rows"
    rows = np.random.default_rng(0).normal(size=(40, 2))
    ud.vae(width=8).fit(rows, steps=1, out=out, samples=0)
    return str(out)


def test_the_words_of_push_are_its_arguments(run, monkeypatch, capsys):
    asked = {}

    def push(*given, **options):
        asked.update(options, given=given)
        return Pushed("hf://me/x@1", "a page", ("a note.",))

    monkeypatch.setattr("undiffuse.exchange.hub.push", push)
    words = ["push", run, "me/x", "--license", "mit", "--private", "--message", "first"]
    assert main([*words, "--json"]) == 0
    assert asked == {"given": (run, "me/x"), "license": "mit", "private": True, "message": "first"}
    printed = capsys.readouterr()
    assert "a note." in printed.err
    assert "hf://me/x@1" in printed.err
    assert json.loads(printed.out) == {"run": run, "name": "hf://me/x@1", "url": "a page"}


def test_the_words_of_export_are_its_arguments(run, tmp_path, monkeypatch, capsys):
    asked = {}

    def to_onnx(*given, **options):
        asked.update(options, given=given)
        return Exported(given[1], 2e-7, "ddim", 4, 4, (Speed(1, 6.0, 2.0), Speed(32, 8.0, 16.0)))

    monkeypatch.setattr("undiffuse.exchange.onnx_files.to_onnx", to_onnx)
    out = tmp_path / "onnx"
    words = ["export", run, "--to", "onnx", "--whole", "--method", "ddim", "--steps", "4"]
    assert main([*words, "--out", str(out), "--json"]) == 0
    assert asked == {"given": (run, out), "whole": True, "method": "ddim", "steps": 4}
    printed = capsys.readouterr()
    assert "to 2.0e-07 of the largest value" in printed.err
    assert "by rows at a time: 3.0 for 1, 0.5 for 32;" in printed.err
    speed = [{"rows": 1, "torch": 6.0, "onnx": 2.0}, {"rows": 32, "torch": 8.0, "onnx": 16.0}]
    facts = {"difference": 2e-7, "method": "ddim", "steps": 4, "evaluations": 4, "speed": speed}
    assert json.loads(printed.out) == {"run": run, "out": str(out), **facts}
    assert main(["export", run, "--to", "diffusers", "--whole", "--out", str(out)]) == 2
    assert "--whole: a pipeline of diffusers has a sampler of its own" in capsys.readouterr().err
    out.mkdir()
    (out / "x").touch()
    assert main(["export", run, "--out", str(out)]) == 2
    assert "already exists" in capsys.readouterr().err


def test_the_backend_is_named_if_its_packages_are_missing(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnx", None)
    words = ["sample", run, "-n", "2", "--out", str(tmp_path / "x.npy"), "--backend", "onnx"]
    assert main(words) == 2
    assert "--backend onnx needs onnx, onnxscript and onnxruntime" in capsys.readouterr().err
    assert not (tmp_path / "x.npy").exists()
