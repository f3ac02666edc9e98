"""One thread, and a cache of the test run's own."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _cache(tmp_path_factory):
    """Decoded images never land in, or come from, the cache of the person who runs the tests."""
    before = os.environ.get("UNDIFFUSE_CACHE")
    os.environ["UNDIFFUSE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["UNDIFFUSE_CACHE"]
    else:
        os.environ["UNDIFFUSE_CACHE"] = before
