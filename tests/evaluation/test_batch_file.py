"""Batches in a file: whatever interrupts it, what is there is whole, and the rest is made anew."""

from __future__ import annotations

import numpy as np
import pytest

from undiffuse.errors import InputError
from undiffuse.evaluation.batch_file import BatchFile

IDENTITY = {"weights": "abc", "seed": 3}


def batch(i: int) -> dict[str, object]:
    return {"rows": np.full((2 + i, 3), i, np.uint8), "kind": f"kind {i}", "seconds": i / 4}


def written(path, count: int = 3) -> BatchFile:
    file = BatchFile(path, IDENTITY)
    for i in range(count):
        file.append(batch(i))
    return file


def test_batches_come_back_as_they_were(tmp_path):
    written(tmp_path / "new" / "x")
    file = BatchFile(tmp_path / "new" / "x", IDENTITY)
    assert (file.sizes, file.rows) == ([2, 3, 4], 9)
    for i, found in enumerate(file):
        np.testing.assert_array_equal(found["rows"], batch(i)["rows"])
        assert found["rows"].dtype == np.uint8
        assert (str(found["kind"]), float(found["seconds"])) == (f"kind {i}", i / 4)
    for count in (0, 1, 4, 20):
        expected = np.concatenate([batch(i)["rows"] for i in range(3)])[:count]
        np.testing.assert_array_equal(file.column("rows", count).reshape(-1, 3), expected)


def test_a_file_cut_anywhere_holds_whole_batches_and_is_completed(tmp_path):
    """At every length that a crash can leave, with and without rubbish after it."""
    path = tmp_path / "x"
    written(path)
    whole = path.read_bytes()
    for end in range(0, len(whole), 23):
        path.write_bytes(whole[:end] + b"\x07" * (end % 3))
        file = BatchFile(path, IDENTITY)
        kept = len(file.sizes)
        assert file.sizes == [2, 3, 4][:kept]
        for i in range(kept, 3):
            file.append(batch(i))
        assert path.read_bytes() == whole


def test_damage_within_a_batch_ends_what_is_kept(tmp_path):
    path = tmp_path / "x"
    written(path)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    assert BatchFile(path, IDENTITY).sizes == [2]


def test_a_file_of_another_identity_is_refused_or_replaced(tmp_path):
    path = tmp_path / "x"
    written(path)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"another command began \(seed differ\)"):
        BatchFile(path, {**IDENTITY, "seed": 4})
    with pytest.raises(InputError, match=r"another command began \(device differ\)"):
        BatchFile(path, {**IDENTITY, "device": "cuda"})
    assert path.read_bytes() == before
    file = BatchFile(path, {**IDENTITY, "seed": 4}, replace=True)
    assert file.rows == 0
    file.append(batch(1))
    assert BatchFile(path, {**IDENTITY, "seed": 4}).sizes == [3]


def test_files_in_a_folder_are_told_apart_by_their_identity(tmp_path):
    for seed in (0, 1):
        BatchFile.in_folder(tmp_path, {"seed": seed}).append(batch(seed))
    found = [BatchFile.in_folder(tmp_path, {"seed": seed}).sizes for seed in (0, 1, 2)]
    assert found == [[2], [3], []]
    assert len(list(tmp_path.iterdir())) == 2


def test_a_place_that_cannot_be_used_is_said(tmp_path):
    (tmp_path / "x").mkdir()
    with pytest.raises(InputError, match="could not be read: not a regular file"):
        BatchFile(tmp_path / "x", IDENTITY)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="could not be written"):
        BatchFile(tmp_path / "file" / "x", IDENTITY).append(batch(0))
