"""Milliseconds a sample: the whole sampler as an ONNX file, against the model in PyTorch.

Both draw the same samples by the same method, on one thread, in turns; each has the median of its
turns. The network is that of the preset for the data, with weights that were never trained.

    python benchmarks/onnx_speed.py [--data digits] [--steps 8] [--turns 9]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

import undiffuse as ud
from undiffuse.exchange.onnx_network import session_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="digits")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--turns", type=int, default=9)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = ud.edm()
    model.meet(ud.load(asked.data))
    model.eval()
    with torch.no_grad():
        for one in model.network.parameters():
            one.add_(0.02 * torch.randn_like(one))
    with TemporaryDirectory() as folder:
        began = time.perf_counter()
        made = ud.to_onnx(model, Path(folder) / "onnx", whole=True, steps=asked.steps)
        seconds = time.perf_counter() - began
        file = made.folder / "sampler.onnx"
        size = file.stat().st_size / 1e6
        print(f"exported in {seconds:.1f} s, {size:.2f} MB, difference {made.difference:.1e}")
        session = session_of(file)
    print(f"{'batch':>6}{'PyTorch ms':>12}{'ONNX ms':>10}{'ratio':>8}")
    for batch in (1, 8, 32):
        mine, theirs = turns(model, session, batch, asked.steps, asked.turns)
        print(f"{batch:6}{mine / batch:12.2f}{theirs / batch:10.2f}{mine / theirs:8.2f}")


def turns(
    model: ud.Diffusion, session: Any, batch: int, steps: int, count: int
) -> tuple[float, float]:
    """Return the medians of the milliseconds that a batch takes in PyTorch and as ONNX."""
    assert model.shape is not None
    z = ud.RowNoise(0, batch)(torch.empty(batch, *model.shape))
    cond: dict[str, Any] = {"label": torch.zeros(batch, dtype=torch.int64)} if model.classes else {}
    feed = {"noise": z.numpy(), **{name: value.numpy() for name, value in cond.items()}}
    feed |= {"guidance": np.asarray(1.0, np.float32)} if model.classes else {}
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(count + 1):
        began = time.perf_counter()
        with torch.inference_mode():
            model.draw(batch, noise=lambda _: z, steps=steps, **cond)
        between = time.perf_counter()
        session.run(None, feed)
        found[0].append(between - began)
        found[1].append(time.perf_counter() - between)
    return 1e3 * float(np.median(found[0][1:])), 1e3 * float(np.median(found[1][1:]))


if __name__ == "__main__":
    main()
