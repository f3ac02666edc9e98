"""Data sets by name: each can be read again by its name, and follows from the seed alone."""

import numpy as np
import pytest

from undiffuse.data import load
from undiffuse.data.arrays.read import from_array
from undiffuse.data.named import FASHION_FOLDER, NAMED
from undiffuse.errors import InputError


def reads_again_by_its_name(name):
    first = NAMED[name](name, 3, None)
    assert (first.name, first.path) == (name, name)
    again = NAMED[first.path](first.path, 3, None)
    assert again.fingerprint == first.fingerprint
    everything = np.arange(len(first.rows))
    np.testing.assert_array_equal(first.rows.take(everything), again.rows.take(everything))
    assert (first.labels is None) == (first.classes == ())
    if first.labels is not None:
        assert set(first.labels) == set(range(len(first.classes)))


def skip_without(name):
    """Debian's package is not everywhere."""
    if name.startswith("fashion") and not FASHION_FOLDER.is_dir():
        pytest.skip("dataset-fashion-mnist is not installed")


@pytest.mark.parametrize("name", NAMED)
def test_named_data_read_again_by_their_name(name):
    skip_without(name)
    reads_again_by_its_name(name)


def unnamed(name, seed, progress):
    return from_array(np.random.default_rng(seed).random((9, 2)), name="points", path="points")


def unseeded(name, seed, progress):
    return from_array(np.random.default_rng().random((9, 2)), name=name, path=name)


def one_class_too_few(name, seed, progress):
    rows = np.random.default_rng(seed).random((9, 2))
    return from_array(rows, name=name, path=name, labels=np.zeros(9, int), classes=("a", "b"))


@pytest.mark.parametrize("wrong", [unnamed, unseeded, one_class_too_few])
def test_a_wrong_data_set_breaks_the_law(wrong, monkeypatch):
    monkeypatch.setitem(NAMED, "wrong", wrong)
    with pytest.raises(AssertionError):
        reads_again_by_its_name("wrong")


def test_the_digits():
    digits = load("digits")
    assert digits.held_out.dtype == np.uint8
    assert digits.held_out.shape[1:] == (8, 8)
    assert digits.transform.levels == 17
    assert digits.classes == tuple("0123456789")
    assert digits.path == "digits"


def test_the_garments():
    skip_without("fashion-mnist-test")
    test = load("fashion-mnist-test")
    assert len(test) + len(test.held_out) == 10_000
    assert (test.shape, len(test.classes)) == ((1, 28, 28), 10)
    assert np.bincount(test.labels).tolist() == [1000] * 10


def test_missing_garments_say_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setattr("undiffuse.data.named.FASHION_FOLDER", tmp_path)
    with pytest.raises(InputError, match="install it with: apt install dataset-fashion-mnist"):
        load("fashion-mnist")
