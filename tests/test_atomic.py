import os
import resource
from pathlib import Path

import pytest

from undiffuse.atomic import atomic_file, atomic_folder
from undiffuse.errors import InputError


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_a_file_appears_when_it_is_whole(tmp_path):
    target = tmp_path / "new" / "deep" / "x.txt"
    with atomic_file(target) as temporary:
        temporary.write_text("whole")
        assert temporary.suffix == target.suffix
        assert not target.exists()
    assert everything(tmp_path) == ["new", "new/deep", "new/deep/x.txt"]
    assert target.read_text() == "whole"


@pytest.mark.parametrize("problem", [RuntimeError, KeyboardInterrupt, OSError])
@pytest.mark.parametrize("writer", [atomic_file, atomic_folder])
def test_a_failure_leaves_what_was_there(tmp_path, problem, writer):
    (tmp_path / "file").write_text("before")
    target = tmp_path / ("file" if writer is atomic_file else "new/folder")
    before = everything(tmp_path)
    expected = InputError if problem is OSError else problem
    with pytest.raises(expected), writer(target) as temporary:  # noqa: PT012
        (temporary if writer is atomic_file else temporary / "x").write_text("half")
        raise problem
    assert everything(tmp_path) == before
    assert (tmp_path / "file").read_text() == "before"


@pytest.mark.parametrize("writer", [atomic_file, atomic_folder])
def test_a_disk_that_fills_up_mid_write_says_so_and_leaves_nothing(tmp_path, writer):
    """The system's own limit on file size stands for the disk: the write fails half way, with its own error."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, hard))
    try:
        refused = pytest.raises(
            InputError, match="could not be written: the file would be larger than is allowed"
        )
        with refused, writer(tmp_path / "new" / "x") as temporary:
            (temporary if writer is atomic_file else temporary / "x").write_bytes(bytes(2**20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert everything(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_the_reason_is_in_words(tmp_path):
    refused = pytest.raises(
        InputError, match="x: could not be written: the disk is full; free some space"
    )
    with refused, atomic_file(tmp_path / "x"), open("/dev/full", "w") as full:
        full.write("x")
    with pytest.raises(InputError, match="the disk is full"), atomic_file(tmp_path / "x"):
        raise RuntimeError("I/O error: No space left on device (os error 28)")
    (tmp_path / "file").touch()
    with (
        pytest.raises(InputError, match="a part of this path is a file"),
        atomic_file(tmp_path / "file" / "x"),
    ):
        pass
    with (
        pytest.raises(InputError, match="this is a folder, and a file was to be written"),
        atomic_file(tmp_path),
    ):
        pass
    with (
        pytest.raises(InputError, match="this is a file, and a folder"),
        atomic_folder(tmp_path / "file"),
    ):
        pass


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_place_that_may_not_be_written_to(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="permission denied"), atomic_file(tmp_path / "x"):
        pass


def test_a_folder_is_replaced_only_if_it_is_ours(tmp_path):
    def write(name):
        with atomic_folder(tmp_path / "out", replace=r"\d\.png") as temporary:
            (temporary / name).touch()

    write("0.png")
    write("1.png")
    assert everything(tmp_path) == ["out", "out/1.png"]
    (tmp_path / "out" / "diary.txt").touch()
    with pytest.raises(
        InputError, match=r"the folder holds other files \(diary.txt, ...\); choose another name"
    ):
        write("2.png")
    assert everything(tmp_path) == ["out", "out/1.png", "out/diary.txt"]


def test_others_may_read_what_a_library_wrote_for_its_owner_alone(tmp_path):
    (tmp_path / "plain").write_text("x")
    with atomic_file(tmp_path / "one") as temporary:
        os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
    with atomic_folder(tmp_path / "several") as folder:
        os.close(os.open(folder / "one", os.O_CREAT | os.O_WRONLY, 0o600))
    modes = {(tmp_path / name).stat().st_mode for name in ("plain", "one", "several/one")}
    assert len(modes) == 1
