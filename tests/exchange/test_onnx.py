"""Exported runs: onnxruntime computes what the model does, and numpy alone draws from them."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import undiffuse as ud
from undiffuse.cli.main import main
from undiffuse.errors import InputError
from undiffuse.exchange import onnx_files
from undiffuse.exchange.onnx_files import session_of
from undiffuse.models.diffusion import guided

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytest.importorskip("onnxruntime")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # of the exporter
]
EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_numpy.py"


def shaken(model, data):
    """The model met with data, its weights not zero, as if it were trained."""
    torch.manual_seed(0)
    model.meet(data)
    with torch.no_grad():
        for one in model.network.parameters():
            one.add_(0.05 * torch.randn_like(one))
    return model.eval()


def model_rows():
    random = np.random.default_rng(0)
    rows = random.normal(size=(80, 3)).astype(np.float32) * 3 + 1
    return rows, random.integers(0, 2, 80)


@pytest.fixture(scope="module")
def model():
    """A model of vectors with classes."""
    return shaken(ud.edm(width=8, depth=1), model_rows())


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    return ud.to_onnx(model, tmp_path_factory.mktemp("whole") / "onnx", whole=True, steps=6)


@pytest.fixture(scope="module")
def network(model, tmp_path_factory):
    return ud.to_onnx(model, tmp_path_factory.mktemp("network") / "onnx", steps=6)


def test_the_whole_sampler_draws_the_rows_of_the_model(model, whole):
    session = session_of(whole.folder / "sampler.onnx")
    z = ud.RowNoise(0, 5)(torch.empty(5, 3))
    label = torch.tensor([0, 1, 1, 0, 1])
    for scale in (1.0, 2.5):
        feed = {
            "noise": z.numpy(),
            "label": label.numpy(),
            "guidance": np.asarray(scale, np.float32),
        }
        rows, x = session.run(None, feed)
        wrap = guided(model, scale)
        mine = model.draw(5, noise=lambda _: z, steps=6, label=label, wrap=wrap)
        assert np.abs(x - mine.numpy()).max() <= 1e-4 * float(mine.abs().max())
        assert np.allclose(rows, model.transform.decode(mine), rtol=1e-4, atol=1e-3)
        assert rows.dtype == np.float32
    assert whole.difference <= 1e-4
    assert (whole.steps, whole.evaluations) == (6, 6)
    assert [one.op_type for one in onnx.load(whole.folder / "sampler.onnx").graph.node].count(
        "Loop"
    ) == 1


def test_numpy_and_onnxruntime_alone_draw_the_same_samples(model, network, tmp_path):
    """The example, in a process without PyTorch, from its own noise."""
    out = tmp_path / "x.npy"
    hide = "import sys, runpy; sys.modules.update(torch=None, undiffuse=None); "
    run = "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0])"
    words = [sys.executable, "-c", hide + run, str(EXAMPLE), str(network.folder), "7", str(out)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    random = np.random.default_rng(0)
    z = torch.from_numpy(random.standard_normal((7, 3))).float()
    label = torch.from_numpy(random.integers(0, 2, 7))
    mine = model.transform.decode(model.draw(7, noise=lambda _: z, steps=6, label=label))
    assert np.allclose(np.load(out), mine, rtol=1e-4, atol=1e-3)
    assert len(EXAMPLE.read_text().splitlines()) <= 40


def test_images_of_three_channels_come_out_as_stored(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 255, (40, 6, 4, 3), dtype=np.uint8)
    sizes = {"kind": "unet", "width": 8, "blocks": 1, "multipliers": (1,)}
    model = shaken(ud.ddpm(**sizes), pixels)
    made = ud.to_onnx(model, tmp_path / "onnx", whole=True, method="ddim", steps=4)
    z = ud.RowNoise(1, 2)(torch.empty(2, 3, 6, 4))
    rows, _ = session_of(made.folder / "sampler.onnx").run(None, {"noise": z.numpy()})
    mine = model.draw(2, noise=lambda _: z, method="ddim", steps=4)
    stored = model.transform.decode(mine)
    assert (rows.shape, rows.dtype) == (stored.shape, stored.dtype)
    assert np.abs(rows.astype(int) - stored.astype(int)).max() <= 1
    tree = json.loads((made.folder / "sampler.json").read_text())
    assert (tree["method"], tree["evaluations"]) == ("ddim", 4)


def test_a_file_that_computes_something_else_is_not_kept(model, tmp_path, monkeypatch):
    right = onnx_files.network_graph

    def wrong(model):
        graph = right(model)
        for one in graph.graph.initializer:
            values = onnx.numpy_helper.to_array(one)
            if values.dtype == np.float32 and values.size > 8:
                changed = onnx.numpy_helper.from_array(1.1 * values, one.name)
                one.CopyFrom(changed)
        return graph

    monkeypatch.setattr(onnx_files, "network_graph", wrong)
    with pytest.raises(InputError, match="computes something else than the model"):
        ud.to_onnx(model, tmp_path / "onnx", steps=4)
    assert not (tmp_path / "onnx").exists()


def test_what_cannot_be_exported_is_said_in_a_sentence(model, network, tmp_path):
    frame = {"a": ["x", "y"] * 20, "b": list(range(40))}
    import pandas as pd

    table = ud.edm(width=8, depth=1)
    table.meet(pd.DataFrame(frame))
    with pytest.raises(InputError, match="decoded by PyTorch alone"):
        ud.to_onnx(table, tmp_path / "onnx", whole=True)
    vae = ud.vae(width=8)
    vae.meet(np.random.default_rng(0).normal(size=(40, 2)))
    with pytest.raises(InputError, match="only diffusion models are exported"):
        ud.to_onnx(vae, tmp_path / "onnx")
    with pytest.raises(InputError, match="draws noise on its way"):
        ud.to_onnx(model, tmp_path / "onnx", method="ancestral")
    assert not (tmp_path / "onnx").exists()
    with pytest.raises(InputError, match="holds other files"):
        ud.to_onnx(model, network.folder, steps=4)


def test_the_commands_export_and_sample_with_onnxruntime(model, tmp_path, monkeypatch, capsys):
    """--backend onnx draws what PyTorch draws; the second time it takes the file in the cache."""
    import undiffuse.exchange.onnx_backend as backend

    model.fit(model_rows(), steps=1, out=tmp_path / "run", samples=0)
    run = str(tmp_path / "run")
    assert main(["export", run, "--whole", "--steps", "4", "--out", str(tmp_path / "onnx")]) == 0
    assert "onnxruntime computes the same" in capsys.readouterr().err
    assert {file.name for file in (tmp_path / "onnx").iterdir()} == {"sampler.onnx", "sampler.json"}
    words = ["sample", run, "-n", "5", "--guidance", "2", "--device", "cpu", "--out"]
    mine, theirs = str(tmp_path / "a.npy"), str(tmp_path / "b.npy")
    assert main([*words, mine]) == 0
    assert main([*words, theirs, "--backend", "onnx"]) == 0
    assert np.allclose(np.load(mine), np.load(theirs), rtol=1e-4, atol=1e-3)
    monkeypatch.setattr(backend, "network_graph", None)
    assert main([*words, theirs, "--backend", "onnx", "--overwrite"]) == 0
    assert main(["export", run, "--to", "diffusers", "--out", str(tmp_path / "d")]) == 2
    assert not (tmp_path / "d").exists()
