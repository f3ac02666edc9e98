"""The example page draws in a browser what onnxruntime draws here, from the same noise."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
import torch

import undiffuse as ud

EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_browser"
PACKAGE = EXAMPLE / "node_modules" / "onnxruntime-web"

for name in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(name)
if not PACKAGE.is_dir():
    pytest.skip("no onnxruntime-web: `make browser` gets it from npm", allow_module_level=True)
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # of the exporter

N, SEED = 9, 3
DRAWN = """async ([n, seed, label, guidance]) => {
  const page = await import("./sampler.mjs");
  const { tree, session } = await page.open("run");
  const feeds = page.inputs(tree, n, { seed, label, guidance });
  const { x, rows } = await session.run(feeds);
  const plain = tensor => Array.from(tensor.data, Number);
  return { x: plain(x), rows: plain(rows), noise: plain(feeds.noise), label: plain(feeds.label) };
}"""
PIXELS = """() => {
  const canvas = document.querySelector("canvas");
  const image = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return [canvas.height, canvas.width, Array.from(image.data)];
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The example beside an export of a small model of the digits, its weights not zero."""
    place = tmp_path_factory.mktemp("browser")
    for file in ("index.html", "sampler.mjs"):
        shutil.copyfile(EXAMPLE / file, place / file)
    (place / "node_modules").mkdir()
    (place / "node_modules" / "onnxruntime-web").symlink_to(PACKAGE)
    torch.manual_seed(0)
    model = ud.edm(width=8, blocks=1, multipliers=(1,))
    model.meet(ud.load("digits"))
    with torch.no_grad():
        for one in model.network.parameters():
            one.add_(0.05 * torch.randn_like(one))
    ud.to_onnx(model.eval(), place / "run", whole=True, steps=3)
    return place


@pytest.fixture(scope="module")
def opened(folder, browser):
    """The page as it is served on loopback, and what it asked for and complained of."""
    requests, problems = [], []
    handler = functools.partial(_Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        page = browser.new_context().new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on(
            "console", lambda told: problems.append(told.text) if told.type == "error" else None
        )
        own = f"http://127.0.0.1:{server.server_port}/"
        page.goto(own)
        page.wait_for_selector("button:enabled")
        yield page, own, requests, problems
        server.shutdown()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def expected(folder, noise, label, guidance):
    """Rows and x by onnxruntime, in Python."""
    from undiffuse.exchange.onnx_network import session_of

    session = session_of(folder / "run" / "sampler.onnx")
    feed = {"noise": noise, "label": label, "guidance": np.asarray(guidance, np.float32)}
    return session.run(None, feed)


@pytest.mark.parametrize(("label", "guidance"), [(None, 1.0), (7, 2.0)])
def test_the_page_computes_what_onnxruntime_does(folder, opened, label, guidance):
    page = opened[0]
    drawn = page.evaluate(DRAWN, [N, SEED, label, guidance])
    noise = np.array(drawn["noise"], np.float32).reshape(N, 1, 8, 8)
    labels = np.array(drawn["label"], np.int64)
    rows, x = expected(folder, noise, labels, guidance)
    assert np.abs(np.reshape(drawn["x"], x.shape) - x).max() <= 1e-4 * np.abs(x).max()
    off = np.abs(np.reshape(drawn["rows"], rows.shape) - rows.astype(float))
    assert off.max() <= 1  # x on the edge of two levels
    assert (off > 0).mean() < 0.01
    assert (set(labels) == {7}) if label else (len(set(labels)) > 1)


def test_the_canvas_shows_these_rows_and_how_long_they_took(opened):
    page = opened[0]
    names = page.evaluate("[...document.querySelectorAll('option')].map(one => one.text)")
    assert names == ["any", *map(str, range(10))]
    page.select_option("select", "7")
    for field, value in (("number", N), ("seed", SEED), ("guidance", 2)):
        page.fill(f"#{field}", str(value))
    page.click("button")
    page.wait_for_selector("canvas:visible")
    text = page.inner_text("[role=status]")
    assert text.startswith(f"Drew {N} samples in ")
    height, width, values = page.evaluate(PIXELS)
    assert (height, width) == (24, 24)
    shown = np.reshape(values, (24, 24, 4))
    drawn = page.evaluate(DRAWN, [N, SEED, 7, 2.0])["rows"]
    tiles = np.reshape(drawn, (3, 3, 8, 8)).transpose(0, 2, 1, 3).reshape(24, 24)
    assert np.array_equal(shown[..., :3], np.repeat(np.round(255 * tiles / 16)[..., None], 3, -1))
    assert len(np.unique(tiles)) > 8
    assert (shown[..., 3] == 255).all()


def test_noise_is_standard_normal_and_of_its_seed(opened):
    page = opened[0]
    ask = """async seed => {
      const { normals, uniforms } = await import("./sampler.mjs");
      return Array.from(normals(40000, uniforms(seed)));
    }"""
    one, again, other = (np.array(page.evaluate(ask, seed)) for seed in (0, 0, 1))
    from scipy.stats import kstest

    assert np.array_equal(one, again)
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.02  # four standard errors
    assert abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 0.02
    assert kstest(one, "norm").pvalue > 1e-3


def test_what_cannot_be_drawn_is_said(folder, opened):
    page, own, *_ = opened
    tree = json.loads((folder / "run" / "sampler.json").read_text())
    (folder / "network").mkdir()
    (folder / "network" / "sampler.json").write_text(json.dumps(tree | {"file": "network.onnx"}))
    beside = page.context.new_page()
    for name, said in (("none", "There is no none/sampler.json"), ("network", "with --whole")):
        beside.goto(f"{own}?run={name}")
        beside.wait_for_function(
            "!document.querySelector('[role=status]').innerText.startsWith('Load')"
        )
        assert said in beside.inner_text("[role=status]")
        assert beside.is_disabled("button")
    beside.close()


def test_nothing_is_asked_of_another_machine(opened):
    _, own, requests, problems = opened
    assert any(url.endswith(".wasm") for url in requests)
    assert [url for url in requests if not url.startswith((own, "blob:", "data:"))] == []
    assert problems == []
