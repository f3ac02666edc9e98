"""One thread, annotations checked in some cases, and a cache of the test run's own."""

import gc
import os
import shutil
import zlib

os.environ.setdefault("OMP_NUM_THREADS", "1")

import checked
import pytest
import torch

checked.install()
torch.set_num_threads(1)

CHECKED = (8, 3)  # of so many cases of a test, and of so many other tests, one is checked


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item):
    """Check types and shapes of arguments in one of eight cases of a test, one of three others.

    They are chosen by name, so that each part of a registry is checked by some of the laws that
    hold it. Slow tests are not checked. What a check costs: see `checked`.
    """
    share = CHECKED[0 if hasattr(item, "callspec") else 1]
    slow = item.get_closest_marker("slow") is not None
    unchecked = slow or zlib.crc32(item.nodeid.encode()) % share > 0
    checked.CHECKING.start(not unchecked)


def pytest_collection_finish():
    """What was imported and collected stays to the end: garbage is not looked for in it."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module")
def browser():
    """The chromium of this machine, driven by Playwright; without one, tests are skipped."""
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no chromium on this machine (Debian: apt install chromium)")
    sync_api = pytest.importorskip(
        "playwright.sync_api", reason="no playwright (it is a development dependency)"
    )
    still = ("no-sandbox", "disable-gpu", "disable-quic", "no-first-run", "disable-sync")
    still += ("disable-background-networking", "disable-component-update")
    with sync_api.sync_playwright() as driver:
        opened = driver.chromium.launch(
            executable_path=program, args=[f"--{word}" for word in still]
        )
        yield opened
        opened.close()


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
