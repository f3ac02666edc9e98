"""What bad data get: one sentence, exit code 2, nothing half-written, nothing lost."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

QUICK = (
    "--steps",
    2,
    "--device",
    "cpu",
    "--precision",
    "float32",
    "--training.samples",
    0,
    "--quiet",
)
TINY = ("--model.width", 8, "--model.depth", 1)


@pytest.mark.parametrize("held_out", ["inf", "2.5", "nan", "0"])
def test_a_part_of_a_row_cannot_be_held_out(cli, tmp_path: Path, held_out: str) -> None:
    words = ("train", "digits", "--out", tmp_path / "run", "--data.held-out", held_out, *QUICK)
    assert cli(*words).refused(f"--data.held-out {held_out}: must be ")
    assert not (tmp_path / "run").exists()


def contents(folder: Path) -> dict[str, bytes | None]:
    """Every file below a folder with its bytes, and every folder."""
    return {
        str(path): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def image(path: Path, size: tuple[int, int] = (8, 8), seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def images(folder: Path, count: int) -> Path:
    for i in range(count):
        image(folder / f"{i:02d}.png", seed=i)
    return folder


def array(folder: Path, values: np.ndarray) -> Path:
    np.save(folder / "x.npy", values, allow_pickle=True)
    return folder / "x.npy"


def spoiled(value: float) -> np.ndarray:
    values = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
    values[3, 2] = value
    return values


def empty_folder(folder: Path) -> Path:
    (folder / "photos").mkdir()
    return folder / "photos"


def no_images(folder: Path) -> Path:
    (empty_folder(folder) / "notes.txt").write_text("nothing to see")
    return folder / "photos"


def all_broken(folder: Path) -> Path:
    images(folder / "photos", 3)
    for file in (folder / "photos").iterdir():
        file.write_bytes(file.read_bytes()[:60])
    return folder / "photos"


def many_broken(folder: Path) -> Path:
    images(folder / "photos", 20)
    for name in ("03.png", "07.png"):
        (folder / "photos" / name).write_bytes(b"\x89PNG\r\n\x1a\n" + b"rubbish" * 9)
    return folder / "photos"


def bomb(folder: Path) -> Path:
    """A PNG of 2 kB that says it holds 60,000 x 60,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    body = (
        chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(10**6))) + chunk(b"IEND", b"")
    )
    (empty_folder(folder) / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + body)
    return folder / "photos"


def pickled(folder: Path) -> Path:
    """A pickle that would make a file if it were ever opened."""

    class Trap:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(folder / "sprung"),)

    (folder / "x.npy").write_bytes(pickle.dumps(Trap()))
    return folder / "x.npy"


def pickled_inside(folder: Path) -> Path:
    return array(folder, np.array([{"a": 1}, None], dtype=object))


def csv(folder: Path, text: str) -> Path:
    (folder / "t.csv").write_text(text)
    return folder / "t.csv"


SOURCES: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "a missing path": (lambda folder: folder / "none" / "x.npy", ("x.npy", "no such file")),
    "a misspelt name": (lambda _: "digitz", ("digitz", "Did you mean digits?")),
    "an empty folder": (empty_folder, ("photos/", "empty")),
    "a folder without images": (no_images, ("photos/", "no images", ".txt")),
    "only broken images": (all_broken, ("photos/", "00.png")),
    "too many broken images": (many_broken, ("photos/", "2 of 20", "03.png", "07.png")),
    "a decompression bomb": (bomb, ("bomb.png",)),
    "infinity": (lambda folder: array(folder, spoiled(np.inf)), ("x.npy", "infin")),
    "objects": (pickled_inside, ("x.npy",)),
    "no rows": (lambda folder: array(folder, np.zeros((0, 4), np.float32)), ("x.npy", "no rows")),
    "one row": (lambda folder: array(folder, np.ones((1, 4), np.float32)), ("x.npy", "1 row")),
    "constant values": (lambda folder: array(folder, np.full((30, 4), 2.5)), ("x.npy", "2.5")),
    "text": (lambda folder: array(folder, np.array(["a", "b"])), ("x.npy",)),
    "a pickle": (pickled, ("x.npy",)),
    "a ragged table": (lambda folder: csv(folder, "a,b\n1,2\n3\n4,5\n"), ("t.csv", "line 3")),
    "empty columns": (
        lambda folder: csv(folder, "a,b\n,\nNA,\n,\n"),
        ("t.csv", 'column "a"', "empty"),
    ),
    "an empty table": (lambda folder: csv(folder, "a,b\n"), ("t.csv", "rows")),
    "an empty file": (lambda folder: csv(folder, ""), ("t.csv",)),
}


@pytest.mark.parametrize("what", SOURCES)
@pytest.mark.parametrize("command", ["train", "info"])
def test_data_that_cannot_be_used(cli, command: str, what: str, tmp_path: Path) -> None:
    make, fragments = SOURCES[what]
    source = make(tmp_path)
    before = contents(tmp_path)
    words = ("--out", tmp_path / "run", *QUICK) if command == "train" else ()
    assert cli(command, source, *words).refused(*fragments)
    assert contents(tmp_path) == before


def test_a_few_broken_images_are_listed_and_left_out(cli, tmp_path: Path) -> None:
    photos = images(tmp_path / "photos", 40)
    (photos / "07.png").write_bytes((photos / "07.png").read_bytes()[:50])
    told = json.loads(cli("info", photos, "--json").done().out)
    assert told["rows"] == 39
    assert any("07.png" in note and "1 of 40" in note for note in told["notes"])


def test_mixed_sizes_are_brought_to_one_and_that_is_said(cli, tmp_path: Path) -> None:
    photos = images(tmp_path / "photos", 12)
    for i in range(8):
        image(photos / f"wide{i}.png", (16, 8), seed=i)
    told = json.loads(cli("info", photos, "--json").done().out)
    assert told["rows"] == 20
    assert any("resized" in note and "cropped" in note for note in told["notes"])


def test_a_constant_column_is_kept_and_comes_back(cli, tmp_path: Path) -> None:
    source = csv(tmp_path, "a,b,c\n" + "".join(f"{i % 17},7,x\n" for i in range(60)))
    cli("train", source, "--out", tmp_path / "run", *QUICK, *TINY).done()
    cli("sample", tmp_path / "run", "-n", 5, "--out", tmp_path / "s.csv", "--steps", 2).done()
    lines = [
        line.replace('"', "").split(",") for line in (tmp_path / "s.csv").read_text().splitlines()
    ]
    assert lines[0] == ["a", "b", "c"]
    assert [line[1:] for line in lines[1:]] == [["7", "x"]] * 5
