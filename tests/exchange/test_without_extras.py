"""What needs a package that is not installed says which extra to install."""

import sys

import numpy as np
import pytest

import undiffuse as ud
from undiffuse.errors import InputError
from undiffuse.nn.foreign import DiffusersUNet


@pytest.mark.parametrize(
    ("package", "extra", "call"),
    [
        ("diffusers", "diffusers", lambda out: DiffusersUNet(config={})),
        ("diffusers", "diffusers", lambda out: ud.to_diffusers("run", out)),
        ("onnx", "onnx", lambda out: ud.to_onnx("run", out)),
        ("onnxscript", "onnx", lambda out: ud.to_onnx("run", out)),
        ("onnxruntime", "onnx", lambda out: ud.to_onnx("run", out)),
        ("huggingface_hub", "hub", lambda out: ud.open("hf://me/x")),
    ],
)
def test_the_extra_is_named(monkeypatch, tmp_path, package, extra, call):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match=rf"needs .*{package}.*pip install 'undiffuse\[{extra}\]'"):
        call(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_no_pipeline_is_said_before_diffusers_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(InputError, match=r"holds no model_index\.json"):
        ud.from_diffusers(tmp_path)
    with pytest.raises(InputError, match="is no pipeline"):
        ud.from_diffusers(np.zeros(3))
