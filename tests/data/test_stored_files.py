"""Which files a source names, whatever their names, and a server of pages as http has them."""

import os

import numpy as np
import pytest
from fsspec import AbstractFileSystem, register_implementation
from stream_files import numbers_in, write_files

from undiffuse.data import load
from undiffuse.data.stream.stored import find_files
from undiffuse.errors import InputError


def names_of(source):
    found = find_files(source)
    return [] if found is None else [one.name for one in found.files]


@pytest.mark.parametrize("name", ["a::b", "a#b", "a?b", "a%41b", "a[1]b", "a{x,y}b", "a b", "é"])
def test_a_folder_here_may_be_called_anything(name, tmp_path):
    folder = write_files(tmp_path / name, "npy")
    data = load(folder, stream=True)
    assert numbers_in(data.loaded.rows.take(np.arange(165)), "npy") == list(range(165))
    assert names_of(folder) == sorted(os.listdir(folder))


def test_files_in_braces_are_found_again_from_elsewhere(tmp_path, monkeypatch):
    write_files(tmp_path / "x", "npy")
    monkeypatch.chdir(tmp_path / "x")
    data = load("{part-000,part-003}.npy", stream=True)
    monkeypatch.chdir(tmp_path)
    assert load(data.path, stream=True).fingerprint == data.fingerprint


class Pages(AbstractFileSystem):
    """Pages at whole addresses: one of links is not told from a file, and has no size."""

    protocol = "httppages"
    folder = None
    sized, ranged, refuses = True, True, False

    @classmethod
    def _strip_protocol(cls, path):
        return path

    def _here(self, path):
        place = self.folder / path.removeprefix("httppages://host/")
        if self.refuses or not place.exists():
            raise FileNotFoundError(path) from ConnectionError("403, Forbidden")
        return place

    def info(self, path, **_):
        place = self._here(path)
        size = place.stat().st_size if self.sized and place.is_file() else None
        return {"name": path, "type": "file", "size": size}

    def find(self, path, maxdepth=None, withdirs=False, detail=False, **_):
        names = sorted(os.listdir(self._here(path)))
        return {path + name: {**self.info(path + name), "size": None} for name in names}

    def cat_file(self, path, start=None, end=None, **_):
        return self._here(path).read_bytes()[slice(start, end) if self.ranged else slice(None)]


@pytest.fixture
def pages(tmp_path, monkeypatch):
    """The five files of `write_files`, below httppages://host/x/ and in a folder."""
    register_implementation("httppages", Pages, clobber=True)
    monkeypatch.setattr(Pages, "folder", tmp_path)
    return write_files(tmp_path / "x", "npy")


@pytest.mark.parametrize(
    "source", ["httppages://host/x/", "httppages://host/x/part-{000..004}.npy"]
)
def test_a_server_gives_the_rows_and_the_fingerprint_that_the_disk_gives(pages, source):
    here, there = load(pages, stream=True), load(source, stream=True)
    every = np.arange(165)
    np.testing.assert_array_equal(here.loaded.rows.take(every), there.loaded.rows.take(every))
    assert here.fingerprint == there.fingerprint


@pytest.mark.parametrize(
    ("lacks", "said"),
    [
        ({"sized": False}, "part-000.npy: its server does not say how large it is; copy it here"),
        ({"ranged": False}, r"^part-000.npy: its server sends whole files alone, and no parts"),
        ({"refuses": True}, r"no such file, folder or bucket \(403, Forbidden\); check it"),
    ],
)
def test_what_a_server_does_not_do_is_said(pages, lacks, said, monkeypatch):
    for name, value in lacks.items():
        monkeypatch.setattr(Pages, name, value)
    with pytest.raises(InputError, match=said):
        load("httppages://host/x/", stream=True)
