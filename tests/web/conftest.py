"""Runs that train in no time, and the service of them within this process."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image
from serving import client_of, copied, table

import undiffuse as ud

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder: data/ with rows.npy, table.csv and pictures/, and runs/ with a run on each."""
    folder = tmp_path_factory.mktemp("web")
    data, runs = folder / "data", folder / "runs"
    data.mkdir()
    rng = np.random.default_rng(0)
    np.save(data / "rows.npy", rng.normal(size=(80, 3)).astype(np.float32))
    table().to_csv(data / "table.csv", index=False)
    for number, pixels in enumerate(rng.integers(0, 256, (48, 8, 8)).astype(np.uint8)):
        file = data / "pictures" / "ab"[number % 2] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(file)
    shared: dict[str, Any] = {"steps": 2, "samples": 2, "device": "cpu", "precision": "float32"}
    small: dict[str, Any] = {"width": 8, "depth": 1}
    for name, file in (("rows", "rows.npy"), ("other", "rows.npy")):
        ud.edm(**small).fit(ud.load(data / file), out=runs / name, **shared)
    ud.edm(**small).fit(
        ud.load(data / "table.csv", condition=["age"]), out=runs / "table", **shared
    )
    edm = ud.edm(kind="transformer", patch=4, heads=1, **small)
    edm.fit(ud.load(data / "pictures"), out=runs / "images", **shared)
    return folder


@pytest.fixture(scope="session")
def shared(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    """The service of runs that no test changes, with the data below a root."""
    folder = copied(trained, tmp_path_factory.mktemp("shared"))
    with client_of(folder, data=(trained / "data",)) as client:
        yield client


@pytest.fixture
def own(trained: Path, tmp_path: Path) -> Iterator[TestClient]:
    """The service of a copy of the runs, for a test that changes something."""
    with client_of(copied(trained, tmp_path), data=(trained / "data",)) as client:
        yield client


@pytest.fixture
def folder(own: TestClient) -> Path:
    """The folder of runs that `own` serves."""
    return own.app.state.service.settings.folder  # pyright: ignore[reportAttributeAccessIssue]
