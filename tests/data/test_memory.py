"""Data larger than memory train in memory that does not grow with them."""

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


STREAMED = """
import sys
import torch
torch.set_num_threads(1)
import undiffuse as ud
from undiffuse.data import load

def anonymous():
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))

most = []
for path in sys.argv[1:]:
    before, seen = anonymous(), []
    model, data = ud.edm(width=8, depth=1), load(path, stream=True)
    watch = lambda event: seen.append(anonymous())
    options = {"samples": 0, "evaluate_every": 100, "log_every": 1, "device": "cpu"}
    model.fit(data, steps=25, batch=256, precision="float32", on_event=watch, **options)
    most.append(max(seen) - before)
    del model, data
print(*most)
"""


def memory_in_training(folders):
    """The most anonymous memory, in kB, that training on each of some folders takes."""
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    arguments = [sys.executable, "-c", STREAMED, *map(str, folders)]
    run = subprocess.run(arguments, capture_output=True, text=True, check=True, env=env)
    return list(map(int, run.stdout.split()))


def written(folder, files, rows):
    """Files of so many rows of 4 kB."""
    folder.mkdir()
    some = np.random.default_rng(0).standard_normal((1000, 1000), np.float32)
    for i in range(files):
        np.save(folder / f"{i:04d}.npy", np.tile(some, (-(-rows // 1000), 1))[:rows])
    return folder


STREAM_ROOM = 80_000  # kB: two windows of 16 MB, a sample of that, and what training takes


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account")
def test_memory_of_a_stream_does_not_grow_with_its_files(tmp_path):
    """4 MB in files, then 200 MB: the most that training holds at any step."""
    small, large = written(tmp_path / "s", 4, 250), written(tmp_path / "l", 10, 5000)
    few, many = memory_in_training([small, large])  # the first also imports and warms up
    assert many < min(STREAM_ROOM, few + 8_000)


@pytest.mark.faults
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account")
def test_memory_of_a_stream_of_gigabytes_is_that_of_megabytes(tmp_path):
    small, large = written(tmp_path / "s", 10, 5000), written(tmp_path / "l", 200, 5000)
    _, few, many = memory_in_training([small, small, large])
    assert many < STREAM_ROOM
    assert many - few < 16_000
