"""Arrays in HDF5 files: the data set that a path names, or the only one."""

import numpy as np
import pytest

from undiffuse.data import complete, conform, load
from undiffuse.data.arrays import unpacked
from undiffuse.errors import InputError

h5py = pytest.importorskip("h5py")
ROWS = np.random.default_rng(0).normal(size=(40, 5)).astype("f4")


def file(path, **more):
    with h5py.File(path, "w") as tree:
        tree["group/plain"] = ROWS
        tree["single"] = 3.0
        for name, values in more.items():
            tree.create_dataset(f"group/{name}", data=values, compression="gzip")
    return path


@pytest.mark.parametrize("name", ["plain", "packed"])
def test_a_data_set_is_read_by_its_name(name, tmp_path):
    path = f"{file(tmp_path / 't.h5', packed=ROWS)}:/group/{name}"
    data = load(path)
    np.testing.assert_array_equal(data.loaded.rows.take(np.arange(40)), ROWS)
    assert [data.name, data.path] == [f"t.h5:/group/{name}", path]
    assert load(data.path).fingerprint == data.fingerprint
    assert (data.loaded.rows.file is None) == (name == "packed")  # pyright: ignore
    new = conform(path.replace(":/", ":"), data.config())
    np.testing.assert_array_equal(next(new.batches(40))["row"], ROWS)
    assert complete(path, data.config()).known.all()


def test_values_that_lie_in_another_file_are_read(tmp_path):
    with h5py.File(tmp_path / "t.h5", "w") as tree:
        beside = [(str(tmp_path / "values.raw"), 0, ROWS.nbytes)]
        tree.create_dataset("x", shape=ROWS.shape, dtype="f4", external=beside)[...] = ROWS
    np.testing.assert_array_equal(load(tmp_path / "t.h5").loaded.rows.take(np.arange(40)), ROWS)


def test_the_only_data_set_needs_no_name(tmp_path):
    data = load(file(tmp_path / "t.hdf5"))
    np.testing.assert_array_equal(data.loaded.rows.take(np.arange(40)), ROWS)


def refusal(source):
    with pytest.raises(InputError) as problem:
        load(source)
    return str(problem.value)


def test_what_cannot_be_read_is_refused(tmp_path, monkeypatch):
    two = file(tmp_path / "t.h5", other=ROWS[:, 0], words=np.array([b"a", b"b"], object))
    listed = "/group/other (40,), /group/plain (40, 5), /group/words (2,)"
    assert refusal(two) == f"t.h5: holds 3 data sets ({listed}); name one: t.h5:/group/other."
    sentence = "t.h5: /group/plan: no such data set. Did you mean /group/plain?"
    assert refusal(f"{two}:/group/plan").startswith(sentence)
    assert "t.h5: /group: no such data set" in refusal(f"{two}:group")
    assert refusal(f"{two}:/group/words").startswith("t.h5:/group/words: holds text or lists, not")
    (tmp_path / "bad.h5").write_bytes(two.read_bytes()[:700])
    assert refusal(tmp_path / "bad.h5").startswith("bad.h5: could not be read as HDF5 (")
    with h5py.File(tmp_path / "none.h5", "w") as tree:
        tree["number"] = 1.0
    assert refusal(tmp_path / "none.h5").startswith("none.h5: has no data sets;")
    monkeypatch.setattr(unpacked, "LARGE", 2**16)
    with h5py.File(tmp_path / "bomb.h5", "w") as tree:
        tree.create_dataset("x", data=np.zeros(2**20), compression="gzip", chunks=(2**20,))
    assert "may be a decompression bomb" in refusal(tmp_path / "bomb.h5")
    assert (
        refusal(f"{tmp_path}/gone.h5:/x")
        == f"{tmp_path}/gone.h5:/x: no such file or folder; check the path."
    )
