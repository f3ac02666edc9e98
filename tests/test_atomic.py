"""What is written is there whole or not at all, and says why it is not."""

from __future__ import annotations

import os
import resource
import signal
import stat
import threading
from pathlib import Path

import pytest

from undiffuse.atomic import REASONS, atomic_file, atomic_folder, passing, write_json
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
    """The system's limit on file size stands for the disk: the write fails half way."""
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
@pytest.mark.parametrize("name", ["a" * 251 + ".csv", "\u00e9" * 125 + ".csvx"])
def test_a_name_may_be_as_long_as_the_system_takes(tmp_path, name):
    with atomic_file(tmp_path / name) as temporary:
        temporary.write_text("new")
    assert temporary.suffix == Path(name).suffix
    assert (tmp_path / name).read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with (
        pytest.raises(InputError, match="the name is too long"),
        atomic_file(tmp_path / ("a" + name)),
    ):
        pass


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
    for name in ("1.png.txt", "a1.png", "diary.txt"):  # the pattern has to match in full
        (tmp_path / "out" / name).touch()
        with pytest.raises(InputError, match=rf"holds other files \({name}, ...\); choose another"):
            write("2.png")
        assert everything(tmp_path) == ["out", *sorted(["out/1.png", f"out/{name}"])]
        (tmp_path / "out" / name).unlink()


def test_the_old_folder_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").write_text("whole")
    replace = os.replace

    def refuse(source, target):
        if (Path(source) / "new").exists():
            raise PermissionError(13, "Permission denied")
        replace(source, target)

    monkeypatch.setattr(os, "replace", refuse)
    refused = pytest.raises(InputError, match="out: could not be written: permission denied")
    with refused, atomic_folder(tmp_path / "out", replace="old") as temporary:
        (temporary / "new").touch()
    assert everything(tmp_path) == ["out", "out/old"]
    assert (tmp_path / "out" / "old").read_text() == "whole"


@pytest.mark.parametrize("writer", [atomic_file, atomic_folder])
def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch, writer):
    """A rename that the disk keeps without the contents would leave an empty file after a crash."""
    done, (replace, fsync) = [], (os.replace, os.fsync)

    def flushed(handle):
        folder = stat.S_ISDIR(os.fstat(handle).st_mode)
        done.append(("flush", "folder" if folder else os.fstat(handle).st_size))
        fsync(handle)

    def renamed(source, target):
        done.append(("rename", Path(target).name))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    with writer(tmp_path / "new") as temporary:
        (temporary if writer is atomic_file else temporary / "x").write_text("whole")
        place = temporary.parent if writer is atomic_file else temporary
        assert place.parent == tmp_path
        assert place.name.startswith(".")
    inside = [] if writer is atomic_file else [("flush", "folder")]
    assert done == [("flush", 5), *inside, ("rename", "new"), ("flush", "folder")]


def test_what_is_handed_on_and_removed_need_not_be_on_the_disk(tmp_path, monkeypatch):
    """It is not flushed by this thread, inside, and appears at once all the same."""
    flushed, fsync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (flushed.append(handle), fsync(handle)))

    def write(name):
        with atomic_file(tmp_path / name) as temporary:
            temporary.write_text("whole")

    with pytest.raises(KeyError), passing():  # noqa: PT012
        write("inside")
        assert not flushed
        other = threading.Thread(target=write, args=("other thread",))
        other.start()
        other.join()
        assert len(flushed) == 2
        raise KeyError
    write("after")
    assert len(flushed) == 4
    assert everything(tmp_path) == ["after", "inside", "other thread"]


@pytest.mark.parametrize("writer", [atomic_file, atomic_folder])
@pytest.mark.parametrize("there", [True, False])
def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path, writer, there):
    (tmp_path / "far").mkdir()
    far = tmp_path / "far" / "x"
    if there:
        far.write_text("before") if writer is atomic_file else far.mkdir()
    (tmp_path / "x").symlink_to(far)
    before = everything(tmp_path / "far")
    with writer(tmp_path / "x") as temporary:
        (temporary if writer is atomic_file else temporary / "new").write_text("after")
    assert not (tmp_path / "x").is_symlink()
    assert everything(tmp_path / "far") == before
    assert not far.is_file() or far.read_text() == "before"


def test_a_folder_made_on_the_way_stays_if_somebody_else_uses_it(tmp_path):
    with pytest.raises(KeyError), atomic_file(tmp_path / "a" / "b" / "x"):  # noqa: PT012
        (tmp_path / "a" / "other").touch()
        raise KeyError
    assert everything(tmp_path) == ["a", "a/other"]


@pytest.mark.parametrize("number", REASONS)
def test_each_refusal_of_the_system_has_its_sentence(tmp_path, number):
    for problem in (OSError(number, "refused"), RuntimeError(f"refused (os error {number})")):
        with pytest.raises(InputError) as caught, atomic_file(tmp_path / "x"):
            raise problem
        assert str(caught.value) == f"{tmp_path / 'x'}: could not be written: {REASONS[number]}"
    with pytest.raises(InputError, match=r"x: could not be written: Strange refusal\."):  # noqa: SIM117
        with atomic_file(tmp_path / "x"):
            raise OSError(9999, "Strange refusal")


def test_plain_data_is_written_whole(tmp_path):
    write_json(tmp_path / "x.json", {"a": [1, None]})
    assert (tmp_path / "x.json").read_text() == '{\n  "a": [\n    1,\n    null\n  ]\n}\n'
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"a": float("nan")})
    assert '"a": [' in (tmp_path / "x.json").read_text()


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_files_have_the_mode_of_any_new_file_and_the_mask_is_never_set(tmp_path, monkeypatch, mask):
    """Some libraries write files for their owner alone; and threads share one mask."""
    before = os.umask(mask)
    with monkeypatch.context() as patch:
        patch.delattr(os, "umask")
        try:
            (tmp_path / "plain").write_text("x")
            with atomic_file(tmp_path / "one") as temporary:
                os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
            with atomic_folder(tmp_path / "several") as folder:
                os.close(os.open(folder / "one", os.O_CREAT | os.O_WRONLY, 0o600))
        finally:
            patch.undo()
            os.umask(before)
    modes = [(tmp_path / name).stat().st_mode for name in ("plain", "one", "several/one")]
    assert {stat.S_IMODE(mode) for mode in modes} == {0o666 & ~mask}
    assert everything(tmp_path) == ["one", "plain", "several", "several/one"]


@pytest.mark.parametrize("writer", [atomic_file, atomic_folder])
def test_a_folder_that_somebody_else_makes_meanwhile_is_used(tmp_path, monkeypatch, writer):
    (tmp_path / "late").mkdir()
    exists = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: path.name != "late" and exists(path))
    with writer(tmp_path / "late" / "x") as temporary:
        (temporary if writer is atomic_file else temporary / "y").touch()
    monkeypatch.undo()
    assert (tmp_path / "late" / "x").exists()


def test_what_cannot_be_cleaned_up_does_not_hide_what_went_wrong(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    with (  # noqa: PT012
        monkeypatch.context() as patch,
        pytest.raises(KeyError, match="first"),
        atomic_folder(tmp_path / "x"),
    ):
        patch.setattr(os, "rmdir", refuse)
        raise KeyError("first")
    assert not (tmp_path / "x").exists()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs /proc")
@pytest.mark.parametrize("writer", [atomic_file, atomic_folder])
def test_no_file_is_left_open(tmp_path, writer):
    before = len(os.listdir("/proc/self/fd"))
    with writer(tmp_path / "x") as temporary:
        (temporary if writer is atomic_file else temporary / "y").touch()
    assert len(os.listdir("/proc/self/fd")) == before


# --- what killed processes left


def in_child(work):
    """Do `work()` in a process that ends at once after it, as if killed; its number."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    return pid


def half_written(folder):
    with atomic_file(folder / "x") as temporary:
        temporary.write_text("half")
        (temporary.parent / ".tmpAbC123").touch()  # as libraries do that write beside a file
        os._exit(0)


def test_what_a_killed_process_left_is_removed_by_the_next_that_writes_there(tmp_path):
    in_child(lambda: half_written(tmp_path))
    assert len(everything(tmp_path)) == 3
    (tmp_path / ".hidden").touch()
    write_json(tmp_path / "y", {})
    assert everything(tmp_path) == [".hidden", "y"]
    in_child(lambda: half_written(tmp_path))
    write_json(tmp_path / "z", {})  # looked at once; another process looks again
    assert len(everything(tmp_path)) == 6
    in_child(lambda: write_json(tmp_path / "z", {}))
    assert everything(tmp_path) == [".hidden", "y", "z"]


@pytest.mark.parametrize("there", [True, False])
def test_a_swap_that_was_cut_short_is_completed(tmp_path, there):
    """Between its two moves the old folder stands aside: it comes back, or goes if all is done."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()

    def die(source, target):
        if there:
            replace(source, target)
        if (there, str(target).endswith("out")) in ((True, True), (False, True)):
            os._exit(0)
        if not there:
            replace(source, target)

    replace = os.replace

    def work():
        os.replace = die
        with atomic_folder(tmp_path / "out", replace="old") as temporary:
            (temporary / "new").touch()

    in_child(work)
    assert any(name.endswith(".old") for name in everything(tmp_path))
    write_json(tmp_path / "y", {})
    assert everything(tmp_path) == ["out", f"out/{'new' if there else 'old'}", "y"]


@pytest.fixture
def running():
    """The number of another process, which runs until the test is over and must not be harmed."""
    pid = os.fork()
    if pid == 0:
        signal.pause()
    yield pid
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_what_others_are_writing_now_or_on_another_machine_stays(tmp_path, running):
    dead = in_child(lambda: None)
    in_child(lambda: half_written(tmp_path))
    host = everything(tmp_path)[0][1:5]
    other = "0000" if host != "0000" else "1111"
    stays = [
        f".{host}-{running}-12345678.x",
        f".{other}-{dead}-12345678.x",
        f".{host}-{dead}-1234567.x",  # no name of ours
        f"{host}-{dead}-12345678.x",
    ]
    for name in (*stays, f".{host}-{dead}-12345678.x", f".{host}-{'9' * 30}-12345678.x"):
        (tmp_path / name).touch()
    write_json(tmp_path / "y", {})
    assert everything(tmp_path) == sorted([*stays, "y", f".{host}-{'9' * 30}-12345678.x"])
