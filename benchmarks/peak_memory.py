"""The anonymous memory that training from an array on disk takes, as a process of its own; prints
bytes.

python benchmarks/peak_memory.py ARRAY.npy
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

import numpy as np

SHAPE = (28, 28)
BLOCK = 5000  # rows written at a time


def write_images(path: Path, size: int) -> None:
    """A .npy of at least `size` bytes of images with bytes that vary, written block by block
    through a map.
    """
    block = np.random.default_rng(0).integers(0, 256, (BLOCK, *SHAPE), dtype=np.uint8)
    count = -(-size // block.nbytes)
    out = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count * BLOCK, *SHAPE))
    for i in range(count):
        np.bitwise_xor(block, np.uint8(i % 256), out=out[i * BLOCK : (i + 1) * BLOCK])
    out.flush()


def anonymous_memory() -> int:
    """RssAnon of this process, in bytes. Raises OSError where the kernel does not tell."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    raise OSError(
        "/proc/self/status does not say how much anonymous memory there is; this needs Linux."
    )


def peak_while_training(path: str) -> int:
    """The largest anonymous memory of this process, in bytes, from before loading the array to the
    last step.
    """
    import torch

    import undiffuse as ud

    torch.set_num_threads(1)
    peak, done = [anonymous_memory()], threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            peak[0] = max(peak[0], anonymous_memory())

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        data = ud.load(path)
        ud.edm(data, width=8).fit(data, steps=60, batch=64, precision="float32", device="cpu")
    finally:
        done.set()
        watching.join()
    return peak[0]


if __name__ == "__main__":
    print(peak_while_training(sys.argv[1]))
