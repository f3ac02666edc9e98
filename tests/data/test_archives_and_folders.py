"""Archives that would not fit, folders by every path to them, and files decoded in parallel."""

from __future__ import annotations

import gzip
import os
import threading
import time

import numpy as np
import pytest

from undiffuse.data.arrays import files, unpacked
from undiffuse.data.arrays.files import is_idx, read_idx, read_npz
from undiffuse.data.arrays.unpacked import check_unpacked
from undiffuse.data.decoding import Unreadable, for_each, unreadable
from undiffuse.data.folder import Folder, are_few, cache_folder, files_for_run, walk
from undiffuse.errors import InputError

# --- archives


def test_what_unpacks_to_a_hundred_times_its_size_is_refused_where_it_is_large(tmp_path):
    """Beyond 1 GiB and beyond 100 times the size; at either limit it is read."""
    (tmp_path / "x.npz").write_bytes(bytes(2**24))
    limit = 100 * 2**24  # 1.6 GiB
    check_unpacked(tmp_path / "x.npz", limit)
    bomb = r"x\.npz: unpacks to 1\.6 GiB, 100 times its size, which may be a decompression bomb"
    with pytest.raises(InputError, match=bomb):
        check_unpacked(tmp_path / "x.npz", limit + 1)
    (tmp_path / "x.npz").write_bytes(bytes(1000))
    check_unpacked(tmp_path / "x.npz", 2**30)
    with pytest.raises(InputError, match="decompression bomb"):
        check_unpacked(tmp_path / "x.npz", 2**30 + 1)
    with pytest.raises(InputError, match=r"x\.npz: needs .* of memory.*save it as \.npy"):
        check_unpacked(tmp_path / "x.npz", 2**60)


@pytest.mark.parametrize("suffix", [".npz", ".gz"])
def test_a_bomb_is_not_unpacked(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(unpacked, "LARGE", 2**16)
    zeros = np.zeros(2**20, np.uint8)
    if suffix == ".npz":
        np.savez_compressed(tmp_path / "x.npz", data=zeros)
        read = read_npz
    else:
        head = b"\0\0\x08\x01" + np.array([len(zeros)], ">u4").tobytes()
        (tmp_path / "x.gz").write_bytes(gzip.compress(head + zeros.tobytes()))
        read = read_idx
    with pytest.raises(InputError, match=r"unpacks to 0\.0 GiB.*decompression bomb"):
        read(tmp_path / f"x{suffix}")


def test_that_a_large_archive_is_held_in_memory_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LARGE", 800)
    for rows, said in ((100, ()), (101, ("x.npz: all 0.0 GiB are held in memory; an .npy file "
                                         "is read from the disk instead.",))):  # fmt: skip
        np.savez(tmp_path / "x.npz", np.arange(float(rows)))
        loaded = read_npz(tmp_path / "x.npz")
        assert loaded.notes == said
        assert (loaded.name, loaded.path) == ("x.npz", str(tmp_path / "x.npz"))


@pytest.mark.parametrize("key", ["data", "x", "images", "arr_0"])
def test_the_array_of_an_archive_goes_by_its_name_before_its_size(tmp_path, key):
    rows, larger = np.arange(6.0), np.arange(60.0)
    np.savez(tmp_path / "x.npz", **{key: rows, "larger": larger, "y": np.arange(6) % 2})
    loaded = read_npz(tmp_path / "x.npz")
    np.testing.assert_array_equal(loaded.rows.take(np.arange(6)), rows)
    assert loaded.labels.tolist() == [0, 1] * 3
    assert loaded.notes == (f'x.npz: the array "{key}" is used, out of {key}, larger.',)


@pytest.mark.parametrize(
    ("head", "is_one"),
    [
        (b"\0\0\x08\x01", True),
        (b"\0\0\x0e\x08", True),
        (b"\0\0\x08\x09", False),  # nine axes
        (b"\0\0\x08\0", False),
        (b"\0\0\x0a\x01", False),  # no such type
        (b"\0\1\x08\x01", False),
        (b"\1\0\x08\x01", False),
        (b"\0\0\x08", False),
    ],
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_an_idx_file_is_known_by_its_first_four_bytes(tmp_path, head, is_one, suffix):
    content = head + bytes(9) if len(head) == 4 else head
    path = tmp_path / f"x{suffix}"
    path.write_bytes(gzip.compress(content) if suffix else content)
    assert is_idx(path) == is_one
    path.write_bytes(content)  # not gzipped, whatever it is called
    assert is_idx(path) == (is_one and not suffix)


@pytest.mark.parametrize("own", ["", ".gz"])
@pytest.mark.parametrize("beside", ["", ".gz"])
def test_labels_beside_images_may_be_packed_or_not(tmp_path, own, beside):
    def write(name, array):
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
        content = head + array.tobytes()
        packed = name.endswith(".gz")
        (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)

    write(f"t10k-images.idx3-ubyte{own}", np.arange(60, dtype=np.uint8).reshape(6, 2, 5))
    write(f"t10k-labels.idx1-ubyte{beside}", np.arange(6, dtype=np.uint8) // 2)
    loaded = read_idx(tmp_path / f"t10k-images.idx3-ubyte{own}", classes=("a", "b", "c"))
    assert loaded.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert loaded.classes == ("a", "b", "c")
    alone = read_idx(tmp_path / f"t10k-labels.idx1-ubyte{beside}")
    assert alone.labels is None


# --- folders


def test_few_are_one_in_twenty_or_one_of_ten():
    for total in range(1, 65):
        for count in range(total):
            few = 20 * count <= total or (count == 1 and total >= 10)
            assert are_few(count, total) == few


def tree(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.fsencode(name))
    return folder


def test_a_walk_meets_every_file_once_in_order_and_passes_over_hidden_ones(tmp_path):
    folder = tree(
        tmp_path / "x",
        *("b/2.png", "b/1.png", "a/3.png", "0.png", ".hidden.png"),
        *(".git/x.png", "__MACOSX/y.png", "a/@eaDir/z.png", "a/lost+found/z.png"),
    )
    (folder / "a" / "again").symlink_to(folder / "b")  # met first, as a comes before b
    (folder / "a" / "round").symlink_to(folder)
    (folder / "broken.png").symlink_to(folder / "nothing")
    files, hidden = walk(folder)
    names = [str(file.relative_to(folder)) for file in files]
    assert names == ["0.png", "a/3.png", "a/again/1.png", "a/again/2.png"]
    assert hidden == [".git", "__MACOSX", "./.hidden.png", "@eaDir", "lost+found"]


def test_a_run_takes_a_folder_or_one_of_its_files(tmp_path):
    folder = tree(tmp_path / "x", "a.PNG", "b.png", "c.txt", ".git/d.png")
    whole = files_for_run(folder, {".png"}, "images")
    assert [file.name for file in whole.files] == ["a.PNG", "b.png"]
    assert [file.name for file in whole.others] == ["c.txt"]
    assert (whole.path, whole.what, whole.hidden) == (folder, "images", (".git",))
    single = files_for_run(folder / "b.png", {".png"}, "images")
    assert (single.path, single.called) == (folder, ["b.png"])
    assert (single.others, single.hidden) == ((), ())
    for source, name in ((folder, "x/"), (folder / "c.txt", "c.txt")):
        with pytest.raises(InputError, match=f"^{name}: no recordings are in it"):
            files_for_run(source, {".wav"}, "recordings")


def folder_of(path, **more):
    return Folder(path, tuple(sorted(path.rglob("*.png"))), "images", **more)


def test_what_is_not_read_is_counted_by_suffix_and_by_name(tmp_path):
    """The four most frequent of either."""
    others = [tmp_path / f"{i}{s}" for s, n in zip((".a", ".b", ".c", "", ".e"), (5, 4, 3, 2, 1))
              for i in range(n)]  # fmt: skip
    hidden = ("one",) * 3 + ("two",) * 2 + ("three", "four", "five")
    notes = folder_of(tmp_path, others=tuple(others), hidden=hidden).unread
    assert notes == (
        f"{tmp_path.name}/: 15 others are not read (5 .a, 4 .b, 3 .c, 2 no suffix, ...).",
        f"{tmp_path.name}/: 8 hidden folders are not looked into "
        "(3 one, 2 two, 1 three, 1 four, ...).",
    )
    single = folder_of(tmp_path, others=(tmp_path / "x.a",), hidden=(".git",)).unread
    assert single == (
        f"{tmp_path.name}/: 1 other file is not read (1 .a).",
        f"{tmp_path.name}/: 1 hidden folder is not looked into (1 .git).",
    )
    assert folder_of(tmp_path).unread == ()


@pytest.fixture
def cache(tmp_path_factory, monkeypatch):
    place = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("UNDIFFUSE_CACHE", str(place))
    return place


def test_the_fingerprint_is_of_names_and_contents_and_it_is_told_how_far_it_is(tmp_path, cache):
    names = [f"{i:03d}.png" for i in range(130)]
    folder = tree(tmp_path / "x", *names)
    told = []
    first = folder_of(folder).fingerprint(lambda *step: told.append(step))
    assert told == [(64, 130, "reading x/"), (128, 130, "reading x/")]
    assert len(first) == 16
    copy = tree(tmp_path / "elsewhere" / "y", *names)
    assert folder_of(copy).fingerprint() == first
    (copy / "000.png").rename(copy / "a000.png")
    assert folder_of(copy).fingerprint() != first
    (copy / "a000.png").rename(copy / "000.png")
    assert folder_of(copy).fingerprint() == first
    (copy / "129.png").write_bytes(b"129.pnG")
    assert folder_of(copy).fingerprint() != first


def test_names_need_not_be_text(tmp_path, cache):
    folder = tree(tmp_path / os.fsdecode(b"x\xff"), os.fsdecode(b"a\xfe.png"), "b.png")
    found = folder_of(folder)
    assert len(found.files) == 2
    first = found.fingerprint()
    (folder / "b.png").write_bytes(b"other")
    assert folder_of(folder).fingerprint() != first


def test_only_hashes_of_files_at_rest_are_remembered(tmp_path, cache, monkeypatch):
    """A file that changed less than two seconds ago may change again within its time stamp."""
    folder = folder_of(tree(tmp_path / "x", "a.png", "b.png"))
    first = folder.fingerprint()
    (place,) = cache.glob("contents-*")
    assert place.read_text() == ""
    later = time.time_ns() + 3 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: later)
    assert folder.fingerprint() == first
    assert len(place.read_text().splitlines()) == 2
    monkeypatch.setattr("undiffuse.data.folder._content", lambda path: pytest.fail("hashed again"))
    told = []
    assert folder.fingerprint(lambda *step: told.append(step)) == first
    assert told == []
    place.write_text("no such line\n")  # damaged: hashed again
    monkeypatch.undo()
    monkeypatch.setenv("UNDIFFUSE_CACHE", str(cache))
    assert folder.fingerprint() == first


def test_the_cache_is_where_it_is_asked_for_or_in_the_home(monkeypatch):
    monkeypatch.setenv("UNDIFFUSE_CACHE", "/somewhere")
    assert str(cache_folder()) == "/somewhere"
    monkeypatch.setenv("UNDIFFUSE_CACHE", "")
    assert str(cache_folder()) == os.path.expanduser("~/.cache/undiffuse")


# --- decoding


def test_files_are_worked_on_in_order_and_no_more_than_so_many_ahead(tmp_path):
    paths = [tmp_path / str(i) for i in range(30)]
    lock, started, told = threading.Lock(), set(), []
    taken = 0

    def work(path):
        i = int(path.name)
        with lock:
            started.add(i)
            assert i - taken <= 5
        if i % 7 == 3:
            raise Unreadable(f"number {i}")
        return i * i

    for position, result in for_each(
        paths, work, ahead=5, progress=lambda *step: told.append(step), what="squares"
    ):
        with lock:
            taken = position
        if position % 7 == 3:
            assert str(result) == f"number {position}"
        else:
            assert result == position**2
    assert started == set(range(30))
    assert told == [(i + 1, 30, "squares") for i in range(30)]
    assert list(for_each([], work, ahead=5)) == []
    with pytest.raises(ZeroDivisionError):
        list(for_each(paths, lambda path: 1 // 0, ahead=2))


def test_three_files_are_named_and_a_reason_that_all_have_once(tmp_path):
    folder = Folder(tmp_path / "x", tuple(tmp_path / f"{i}.png" for i in range(1200)), "images")

    def said(**reasons):
        return unreadable(folder, {int(i[1:]): Unreadable(r) for i, r in reasons.items()})

    start = "x/: {} of 1,200 images could not be read "
    assert said(_7="") == start.format(1) + "(7.png)"
    assert said(_7="", _2="") == start.format(2) + "(2.png, 7.png)"
    assert said(_7="bad", _2="bad") == start.format(2) + "(2.png, 7.png: bad)"
    assert said(_7="bad", _2="") == start.format(2) + "(2.png, 7.png: bad)"
    assert said(_7="bad", _2="worse") == start.format(2) + "(2.png: worse, 7.png: bad)"
    assert said(_1="", _2="", _3="") == start.format(3) + "(1.png, 2.png, 3.png)"
    assert said(_1="", _2="", _3="", _4="x") == start.format(4) + "(1.png, 2.png, 3.png, ...)"
