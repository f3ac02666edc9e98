"""A data set larger than memory trains in memory that does not grow with it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

CHILD = """
import itertools, sys
import torch
torch.set_num_threads(1)
from undiffuse.data import load

def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

growth = []
for path in sys.argv[1:]:
    before = anonymous()
    data = load(path)
    for batch in itertools.islice(data.batches(64, seed=0), 20):
        data.transform.encode(batch["row"], torch.randn_like)
    growth.append(anonymous() - before)
print(*growth)
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="reads Linux's account of memory"
)
def test_memory_does_not_grow_with_the_file(tmp_path):
    """24 MB, then 96 MB of float32: loading, measuring, splitting and drawing batches of each."""
    paths = [str(tmp_path / "small.npy"), str(tmp_path / "large.npy")]
    for path, rows in zip(paths, (6_000, 24_000)):
        array = np.lib.format.open_memmap(path, "w+", np.float32, (rows, 1000))
        array[:] = (
            np.random.default_rng(0)
            .standard_normal((2000, 1000), np.float32)
            .repeat(rows // 2000, 0)
        )
        array.flush()
    order = [paths[0], *paths]  # the first load also imports and warms up
    env = {
        **os.environ,
        "MALLOC_MMAP_THRESHOLD_": "65536",
        "MALLOC_TRIM_THRESHOLD_": "0",
    }  # what is freed is given back
    run = subprocess.run(
        [sys.executable, "-c", CHILD, *order], capture_output=True, text=True, check=True, env=env
    )
    _, small, large = map(int, run.stdout.split())  # kB
    assert large - small < 2_000
    assert large < 8_000
