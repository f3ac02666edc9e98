"""Exported runs: onnxruntime computes what the model does, and numpy alone draws from them."""

import json
import subprocess
import sys
import time
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import undiffuse as ud
from undiffuse.cli.main import main
from undiffuse.errors import InputError
from undiffuse.exchange import onnx_backend, onnx_files, onnx_network
from undiffuse.exchange.onnx_backend import Speed, faster_with_onnx
from undiffuse.exchange.onnx_network import session_of
from undiffuse.models.diffusion import guided
from undiffuse.run import Run
from undiffuse.training.checkpoint import BACKEND, file_digest

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


@pytest.fixture(scope="module")
def exported(model, tmp_path_factory):
    """A run that was exported, and what that measured."""
    place = tmp_path_factory.mktemp("exported")
    model.fit(model_rows(), steps=1, out=place / "run", samples=0)
    made = ud.to_onnx(place / "run", place / "onnx", whole=True, steps=4)
    return place / "run", made


@pytest.fixture
def sampled(exported, tmp_path, capsys):
    """Sample the run; returns the rows and what was said."""
    run = exported[0]
    kept = (run / BACKEND).read_text()

    def draw(*words, n=5):
        out = str(tmp_path / "x.npy")
        command = ["sample", str(run), "-n", str(n), "--device", "cpu", "--overwrite", "--out", out]
        assert main([*command, *words]) == 0
        return np.load(out), capsys.readouterr().err

    yield draw
    (run / BACKEND).write_text(kept)


def recorded(run, **changed):
    """Change the record of a run: which is faster, or anything else in it."""
    tree = json.loads((run / BACKEND).read_text())
    if (ratio := changed.pop("ratio", None)) is not None:
        tree["batches"] = [one | {"torch": ratio * one["onnx"]} for one in tree["batches"]]
    (run / BACKEND).write_text(json.dumps(tree | changed))


def test_the_commands_export_and_sample_with_onnxruntime(exported, sampled, tmp_path, monkeypatch):
    """--backend onnx draws what PyTorch draws, by the file that export has put into the cache."""
    run = str(exported[0])
    assert main(["export", run, "--steps", "4", "--out", str(tmp_path / "onnx")]) == 0
    assert {file.name for file in (tmp_path / "onnx").iterdir()} == {"network.onnx", "sampler.json"}
    monkeypatch.setattr(onnx_network, "network_graph", None)
    mine, _ = sampled("--guidance", "2", "--backend", "torch")
    theirs, _ = sampled("--guidance", "2", "--backend", "onnx")
    assert np.allclose(mine, theirs, rtol=1e-4, atol=1e-3)
    assert not np.array_equal(mine, theirs)  # two programs; the laws below can tell them apart
    assert main(["export", run, "--to", "diffusers", "--out", str(tmp_path / "d")]) == 2
    assert not (tmp_path / "d").exists()


def test_export_keeps_in_the_run_how_fast_both_are(model, exported, tmp_path):
    run, made = exported
    tree = json.loads((run / BACKEND).read_text())
    assert [one.rows for one in made.speed] == [1, 32, model.at_once]
    assert tree["batches"] == [asdict(one) for one in made.speed]
    assert tree["weights"] == file_digest(run / "weights.safetensors")
    assert all(0 < time < 60_000 for one in made.speed for time in (one.torch, one.onnx))
    assert ud.to_onnx(model, tmp_path / "onnx", steps=4).speed == ()
    (run / BACKEND).unlink()
    with Run(run)._folder.locked():  # of a run that is being trained nothing is kept
        made = ud.to_onnx(run, tmp_path / "held", steps=4)
    assert made.speed == ()
    assert not (run / BACKEND).exists()
    (run / BACKEND).write_text(json.dumps(tree))


def test_what_sleeps_is_measured_to_be_slower(model):
    class Asleep(torch.nn.Module):
        def forward(self, x, c_noise, **cond):
            time.sleep(0.02)
            return model.network(x, c_noise, **cond)

    speed = onnx_backend._speed(model, Asleep(), 3)
    assert speed.rows == 3
    assert speed.onnx >= 20  # milliseconds
    assert speed.torch < speed.onnx


@pytest.mark.parametrize(
    ("rows", "faster"), [(1, True), (2, True), (32, True), (33, False), (64, False), (99, False)]
)
def test_between_two_measurements_both_decide(rows, faster):
    speeds = [Speed(1, 6.0, 1.0), Speed(32, 1.2, 1.0), Speed(64, 1.05, 1.0)]
    assert faster_with_onnx(speeds, rows) == faster


def test_sample_takes_what_was_faster_and_one_seed_gives_the_same_bytes(exported, sampled):
    run = exported[0]
    torch_rows, onnx_rows = (sampled("--backend", name)[0] for name in ("torch", "onnx"))
    recorded(run, ratio=3.0)
    for _ in range(2):
        rows, said = sampled()
        assert np.array_equal(rows, onnx_rows)
        assert "onnxruntime computes the network: it was faster for 5 rows at a time" in said
    assert "PyTorch" not in sampled("--backend", "torch")[1]
    recorded(run, ratio=0.5)
    rows, said = sampled()
    assert np.array_equal(rows, torch_rows)
    assert "PyTorch computes the network: it was faster for 5 rows at a time" in said
    (run / BACKEND).unlink()
    rows, said = sampled()
    assert np.array_equal(rows, torch_rows)
    assert "computes the network" not in said


def test_a_service_opens_onnxruntime_once_and_leaves_the_model_as_it_is(
    exported, sampled, monkeypatch
):
    pytest.importorskip("fastapi")
    from undiffuse.web.schemas import SampleRequest
    from undiffuse.web.service import Service, Settings

    run, sessions, digests = exported[0], [], []
    expected = {
        n: [sampled("--backend", name, n=n)[0] for name in ("torch", "onnx")] for n in (5, 40)
    }
    batches = [{"rows": r, "torch": t, "onnx": 1.0} for r, t in ((1, 9.0), (32, 9.0), (64, 0.5))]
    recorded(run, batches=batches)
    for name, calls in (("session_of", sessions), ("file_digest", digests)):
        where = onnx_network if name == "session_of" else onnx_backend
        own = getattr(where, name)
        monkeypatch.setattr(
            where, name, lambda file, own=own, calls=calls: calls.append(file) or own(file)
        )
    service = Service(Settings(folder=run.parent, device="cpu"))
    try:
        for n in (5, 40, 5, 40):
            work = partial(service.work.sample, asked=SampleRequest(n=n, form="npy"))
            job = service.jobs.submit("sample", run.name, work)
            job.ended.result(60)
            assert np.array_equal(np.load(job.result.file), expected[n][n == 5])
            assert not np.array_equal(*expected[n])
        assert (len(sessions), len(digests)) == (1, 1)
    finally:
        service.close()


def test_the_rows_at_a_time_are_those_of_the_command(exported, sampled):
    run = exported[0]
    batches = [{"rows": r, "torch": t, "onnx": 1.0} for r, t in ((1, 9.0), (32, 9.0), (64, 0.5))]
    recorded(run, batches=batches)
    for words, n, faster in (((), 5, True), ((), 40, False), (("--batch", "32"), 40, True)):
        said = sampled(*words, n=n)[1]
        assert ("onnxruntime computes" in said) == faster, (words, n)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"machine": "another"}, "it was compared with onnxruntime on another machine"),
        ({"weights": "of before"}, None),  # as if it had never been measured
        ({"batches": "many"}, "backend.json is damaged (batches: "),
        ({"batches": []}, "backend.json is damaged (batches: "),
    ],
)
def test_a_record_that_does_not_hold_here_leaves_it_to_pytorch(exported, sampled, changed, said):
    mine = sampled("--backend", "torch")[0]
    recorded(exported[0], ratio=3.0)
    recorded(exported[0], **changed)
    rows, printed = sampled()
    assert np.array_equal(rows, mine)
    assert (said in printed) if said else ("computes the network" not in printed)


def test_without_onnxruntime_pytorch_computes_and_that_is_said(exported, sampled, monkeypatch):
    mine = sampled("--backend", "torch")[0]
    recorded(exported[0], ratio=3.0)
    monkeypatch.setattr(onnx_backend, "find_spec", lambda name: None)
    rows, said = sampled()
    assert np.array_equal(rows, mine)
    assert "onnxruntime was faster, and onnx is not installed" in said
