"""What benchmarks are judged by: the pinned classifiers and the set of patterns."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from undiffuse.errors import InputError

FOLDER = Path(__file__).parent.parent / "benchmarks"


MEAN = 116.8023  # of the first 600 pictures


@pytest.fixture(scope="module", autouse=True)
def _on_the_path():
    sys.path.insert(0, str(FOLDER))
    yield
    sys.path.remove(str(FOLDER))


@cache
def some_rows(name: str) -> tuple[np.ndarray, np.ndarray]:
    """600 test rows and their classes."""
    if name == "patterns":
        from patterns import draw_patterns

        drawn = draw_patterns("test", 600)
        return drawn.pictures, drawn.labels
    from undiffuse.data.load import read
    from undiffuse.data.named import FASHION_FOLDER

    if not FASHION_FOLDER.is_dir():
        pytest.skip("no Fashion-MNIST here")
    loaded = read("fashion-mnist-test")
    assert loaded.labels is not None
    return loaded.rows.take(np.arange(600)), loaded.labels[:600]


@pytest.mark.parametrize(("name", "least"), [("fashion-mnist", 0.88), ("patterns", 0.93)])
def test_a_pinned_classifier_recognizes_rows_that_it_has_not_seen(name, least):
    from pinned import features, recognized

    rows, labels = some_rows(name)
    assert float((recognized(name, rows).argmax(1).numpy() == labels).mean()) > least
    assert torch.equal(features(name, rows[:3]), features(name, rows[:3]))


def test_noise_is_farther_from_test_rows_than_other_rows(monkeypatch):
    import pinned

    rows, _ = some_rows("patterns")
    real = pinned.features("patterns", rows[:400])
    monkeypatch.setattr(pinned, "_real", lambda name: real)
    noise = np.random.default_rng(0).normal(0, 40, (200, *rows.shape[1:]))
    others = rows[400:]
    noisy = (others + noise).clip(0, 255).astype(np.uint8)
    clean, worse = (pinned.measure("patterns", found) for found in (others, noisy))
    assert worse["frechet"].value > 1.5 * clean["frechet"].value
    assert worse["kernel"].value - clean["kernel"].value > 4 * worse["kernel"].stderr


def test_other_weights_are_refused(tmp_path, monkeypatch):
    import pinned

    content = bytearray(pinned.SETS["patterns"].file.read_bytes())
    content[-1] ^= 1
    (tmp_path / "patterns.safetensors").write_bytes(content)
    monkeypatch.setattr(pinned, "FOLDER", tmp_path)
    pinned.classifier.cache_clear()
    with pytest.raises(InputError, match="restore that file"):
        pinned.classifier("patterns")


def test_patterns_are_those_that_the_classifier_learned_and_parts_differ():
    from patterns import SHAPES, draw_patterns

    pictures, labels = some_rows("patterns")
    train = draw_patterns("train", 600)
    assert train.pictures.mean() == pytest.approx(MEAN, abs=0.05)
    assert not np.array_equal(train.pictures, pictures)
    assert set(train.labels) == set(labels) == set(range(len(SHAPES)))
