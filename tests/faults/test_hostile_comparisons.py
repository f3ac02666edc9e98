"""Comparisons with damaged files in them: gone on with, made anew, or refused in one sentence."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from damage import mutated, run_words, spoiled
from test_hostile_runs import survive

pytestmark = pytest.mark.faults

COMPARE = ("compare", "../data.npy", "--out", "it", "--presets", "edm,vae", "--budget", "0.3s",
           "-n", 16, "--evaluations", 2, "--rows", 4, "--quiet")  # fmt: skip
Spoil = Callable[[Path, random.Random], object]


@pytest.fixture(scope="session")
def compared(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison of two presets, called run."""
    folder = tmp_path_factory.mktemp("compared")
    shutil.copy(trained / "data.npy", folder)
    words = [folder / "data.npy" if word == "../data.npy" else word for word in COMPARE]
    words[words.index("it")] = folder / "run"
    assert run_words(words) == (0, "")
    return folder


@pytest.fixture
def beside(compared: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the comparison as the working folder, its data one above."""
    shutil.copy(compared / "data.npy", compared.parent)
    monkeypatch.chdir(compared)
    return compared


def in_bytes(*patterns: str) -> Spoil:
    def spoil(folder: Path, rng: random.Random) -> None:
        files = sorted(p for pattern in patterns for p in folder.glob(pattern) if p.is_file())
        where = rng.choice(files)
        others = [b"", b"{}", b"[" * 10**6, b"\0" * 9999, b"\x89PNG\r\n\x1a\n"]
        where.write_bytes(mutated(where.read_bytes(), rng, others))

    return spoil


def in_a_tree(pattern: str) -> Spoil:
    def spoil(folder: Path, rng: random.Random) -> None:
        where = rng.choice(sorted(folder.glob(pattern)))
        where.write_text(json.dumps(spoiled(json.loads(where.read_text()), rng)))

    return spoil


CASES: dict[str, tuple[int, Spoil]] = {
    "kept trees": (8, in_a_tree("evaluated/*.json")),
    "settings": (20, in_a_tree("comparison-settings.json")),
    "kept files": (15, in_bytes("evaluated/*", "features.safetensors", "comparison*")),
    "runs": (20, in_bytes("runs/*/**/*")),
    "configs": (10, in_a_tree("runs/*/config.json")),
    "states": (5, in_a_tree("runs/*/state/*/state.json")),
}


@pytest.mark.parametrize("case", CASES)
def test_a_damaged_comparison_is_gone_on_with_or_refused(case: str, beside: Path) -> None:
    total, spoil = CASES[case]
    codes = survive(beside, total, spoil, (COMPARE,))
    print(f"comparisons, {case}: {total}, exit codes {dict(codes)}")
    assert codes[2 if case == "settings" else 0] > 0
