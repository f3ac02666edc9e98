"""Rows by number, the chunks they are read in, and the name of their content."""

import numpy as np
import pytest

from undiffuse.data import load
from undiffuse.data.rows import CHUNK_BYTES, ArrayRows, as_tensor, chunks, fingerprint

SAME_BYTES = {
    "zeros": np.zeros(12, np.int32),
    "another shape": np.zeros((3, 4), np.int32),
    "transposed": np.zeros((4, 3), np.int32),
    "another type": np.zeros(12, np.float32),
    "unsigned": np.zeros(12, np.uint32),
    "wider": np.zeros(6, np.int64),
}


def test_the_fingerprint_tells_type_and_shape_apart():
    """All of these are 48 zero bytes."""
    assert {array.tobytes() for array in SAME_BYTES.values()} == {bytes(48)}
    assert len({fingerprint(array) for array in SAME_BYTES.values()}) == len(SAME_BYTES)
    assert len({load(x).fingerprint for x in (np.arange(12.0), np.arange(12.0).reshape(3, 4))}) == 2


def test_the_fingerprint_follows_values_and_labels_alone(tmp_path):
    values = np.arange(40, dtype=np.float32).reshape(20, 2)
    np.save(tmp_path / "x.npy", values)
    (tmp_path / "moved").mkdir()
    np.save(tmp_path / "moved" / "y.npy", values)
    one, other = (load(path).fingerprint for path in (tmp_path / "x.npy", tmp_path / "moved/y.npy"))
    assert one == other == load(values).fingerprint
    changed = values.copy()
    changed[7, 1] += 1
    labels = np.arange(20) % 2
    prints = [
        load(x).fingerprint for x in (values, changed, (values, labels), (values, 1 - labels))
    ]
    assert len(set(prints)) == 4


def test_every_value_of_a_large_array_counts():
    large = np.zeros((5000, 2**12), np.uint8)  # 20 MB: three chunks
    whole = fingerprint(large)
    for row in (0, 1, 2500, len(large) - 1):
        large[row, 5] = 1
        assert fingerprint(large) != whole
        large[row, 5] = 0
    assert fingerprint(large) == whole


@pytest.mark.parametrize("row_bytes", [8, 2**16, CHUNK_BYTES * 2])
def test_chunks_are_all_rows_in_order_about_8_mb_at_a_time(row_bytes):
    array = np.broadcast_to(np.arange(40.0)[:, None], (40, row_bytes // 8))
    told, first = [], []
    rows = ArrayRows(array)
    for chunk in chunks(rows, lambda done, total, what: told.append((done, total, what)), "them"):
        assert len(chunk) == 1 or chunk.nbytes <= CHUNK_BYTES
        first += chunk[:, 0].tolist()
    assert first == list(range(40))
    assert told[-1] == (40, 40, "them")


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i1", ">i4", "f2", ">f8", "?"])
def test_tensors_hold_the_values_of_any_type(dtype):
    array = np.array([0, 1, 1, 0], dtype)
    tensor = as_tensor(ArrayRows(array).take(np.array([1, 3])))
    assert tensor.tolist() == [1, 0]
