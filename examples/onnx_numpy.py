"""Draw samples from an exported run with numpy and onnxruntime alone.

undiffuse export runs/digits --to onnx --out digits-onnx
python onnx_numpy.py digits-onnx 16 samples.npy
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

folder, n, out = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
tree = json.loads((folder / "sampler.json").read_text())
network = onnxruntime.InferenceSession(str(folder / tree["file"]))
random, shape = np.random.default_rng(0), tree["shape"]
z, start = random.standard_normal((n, *shape)), tree["start"]
mean, scale = np.array(start["mean"]), np.array(start["scale"])
z = z * scale if list(scale.shape) == shape else (z.reshape(n, -1) @ scale).reshape(z.shape)
known = [z + mean]  # the start, then x_hat of every evaluation
labels = random.integers(0, max(len(tree["classes"]), 1), n)
given = {"label": labels} if "label" in tree["conditions"] else {}
for i, (c_in, c_noise, c_skip, c_out) in enumerate(tree["network"]):
    x = sum(m * one for m, one in zip(tree["combine"][i], known))
    asked = {"x": np.float32(c_in * x), "c_noise": np.full(n, c_noise, np.float32), **given}
    x_hat = c_skip * x + c_out * network.run(None, asked)[0][:, : shape[0]]
    known.append(x_hat if tree["clip"] is None else np.clip(x_hat, *tree["clip"]))
x = sum(m * one for m, one in zip(tree["combine"][-1], known))
if (how := tree["decode"]) is not None:  # to the data's own units
    x = x * np.array(how["std"]) + np.array(how["mean"])
    low, high = np.array(how["low"]), np.array(how["high"])
    x = np.floor(x).clip(0, high - low) + low if how["whole"] else x
    if how["channel"] is not None:
        x = np.moveaxis(x, 1, how["channel"] + 1)
    x = x.reshape(n, *how["row_shape"]).astype(how["dtype"])
np.save(out, x)
