"""Damaged data files, hostile runs and wrong command lines: one sentence each, in bounded time."""

from __future__ import annotations

import copy
import io
import json
import random
import shutil
import struct
import sys
import time
import wave
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from forked import GIB, QUICK, fork

import undiffuse as ud
from undiffuse.errors import InputError

pytestmark = pytest.mark.faults

# --- files


def _csv(path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = [f"{rng.normal():.3f},{rng.integers(9)},{'ab'[i % 2]}" for i in range(60)]
    path.write_text("x,k,word\n" + "\n".join(lines) + "\n")


def _parquet(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"x": np.arange(60.0), "word": ["a", "b"] * 30}), path)


def _idx(path: Path) -> None:
    values = np.arange(40 * 16, dtype=np.uint8) % 7
    path.write_bytes(bytes([0, 0, 8, 3]) + struct.pack(">3I", 40, 4, 4) + values.tobytes())


def _picture(path: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (12, 12, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def _wav(path: Path) -> None:
    with wave.open(str(path), "wb") as stream:
        stream.setnchannels(1)
        stream.setsampwidth(2)
        stream.setframerate(8000)
        stream.writeframes(
            np.random.default_rng(0).integers(-999, 999, 4000).astype("<i2").tobytes()
        )


def _flac(path: Path) -> None:
    import soundfile

    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 4000), 8000)


def _npy(path: Path) -> None:
    np.save(path, np.random.default_rng(0).normal(size=(40, 5)))


def _npz(path: Path) -> None:
    np.savez(path, data=np.random.default_rng(0).normal(size=(40, 5)), labels=np.arange(40) % 3)


FORMATS: dict[str, Callable[[Path], None]] = {
    ".npy": _npy, ".npz": _npz, ".csv": _csv, ".tsv": _csv, ".parquet": _parquet,
    "-idx3-ubyte": _idx,
    ".png": _picture, ".jpg": _picture, ".tif": _picture, ".gif": _picture, ".bmp": _picture,
    ".webp": _picture, ".wav": _wav, ".flac": _flac, ".ogg": _flac,
}  # fmt: skip
IN_A_FOLDER = {".png", ".jpg", ".tif", ".gif", ".bmp", ".webp", ".wav", ".flac", ".ogg"}
MUTATIONS, TOGETHER = 300, 30


def mutated(content: bytes, rng: random.Random, others: list[bytes]) -> bytes:
    """The bytes with one to four faults: flipped, cut, repeated; or those of another file."""
    if rng.random() < 0.04:
        return rng.choice(others)
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        if not data:
            break
        at = min(int(rng.expovariate(1 / 40)) if rng.random() < 0.5 else rng.randrange(len(data)),
                 len(data) - 1)  # fmt: skip
        kind = rng.randrange(7)
        if kind == 0:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:]
        elif kind == 2:
            data[at : at + rng.randint(1, 16)] = rng.randbytes(rng.randint(0, 16))
        elif kind == 3:
            data[at : at + 4] = rng.choice([b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"])
        elif kind == 4:
            data[at:at] = data[at : at + 64] * rng.randint(1, 50)
        elif kind == 5:
            data[at : at + 1] = rng.choice([b"(", b"{", b"'", b'"', b",", b"\n", b"9999999", b"-"])
        else:
            data += rng.randbytes(rng.randint(1, 64))
    return bytes(data)


@pytest.mark.parametrize("suffix", FORMATS)
def test_damaged_files_are_read_or_refused(suffix: str, tmp_path: Path) -> None:
    rng, whole = random.Random(suffix), {}
    for name, make in FORMATS.items():
        make(tmp_path / f"x{name}")
        whole[name] = (tmp_path / f"x{name}").read_bytes()
    worst, counts = 0.0, {"read": 0, "refused": 0}
    for block in range(MUTATIONS // TOGETHER):
        contents = [mutated(whole[suffix], rng, list(whole.values())) for _ in range(TOGETHER)]

        def work(contents: list[bytes] = contents, block: int = block) -> int:
            for i, content in enumerate(contents):
                source = tmp_path / f"{block}-{i}"
                if suffix in IN_A_FOLDER:
                    source.mkdir()
                    (source / f"a{suffix}").write_bytes(content)
                    (source / f"b{suffix}").write_bytes(whole[suffix])
                else:
                    source = tmp_path / f"{block}-{i}{suffix}"
                    source.write_bytes(content)
                began = time.monotonic()
                try:
                    ud.load(source)
                    said = "read"
                except InputError:
                    said = "refused"
                print(said, f"{time.monotonic() - began:.2f}", flush=True)
            return 0

        ended = fork(work, seconds=120, memory=2 * GIB)
        lines = ended.out.split("\n")[:-1]
        assert ended.code == 0, (
            block,
            len(lines),
            contents[len(lines) % TOGETHER],
            ended.err[-1500:],
        )
        for line in lines:
            said, seconds = line.split()
            counts[said] += 1
            worst = max(worst, float(seconds))
    assert worst < 20
    print(f"{suffix}: {counts}, {worst:.2f} s at most")


# --- runs

HUGE: list[Any] = [
    10**9, -1, 0, 2**70, -(10**30), 1e308, -0.5, "", "x" * 1000, "../../x", None, True, [], {},
    [[]],
    {"kind": "unet"}, {"kind": []}, [1] * 500, {"a": 1}, ["a"], [10**9, 10**9], "float128",
]  # fmt: skip


def nodes(tree: Any, path: tuple = ()) -> Iterator[tuple]:
    yield path
    items = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    for key, value in items:
        yield from nodes(value, (*path, key))


def spoiled(tree: Any, rng: random.Random) -> Any:
    """The tree with one to three of its nodes replaced, removed, renamed or made deep."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.randint(1, 3)):
        path = rng.choice(list(nodes(tree)))
        if not path:
            continue
        parent = tree
        for key in path[:-1]:
            parent = parent[key]
        kind = rng.randrange(8)
        if kind == 0:
            del parent[path[-1]]
        elif kind == 1 and isinstance(parent, dict):
            parent[rng.choice(["kind", "x", ""])] = parent.pop(path[-1])
        elif kind == 2:
            deep: Any = 1
            for _ in range(rng.choice([50, 100, 3000])):
                deep = [deep]
            parent[path[-1]] = deep if sys.getrecursionlimit() > 9000 else [[[[1]]]]
        elif kind == 3 and isinstance(parent[path[-1]], int | float):
            parent[path[-1]] = parent[path[-1]] * rng.choice([-1, 0, 2, 1000, 10**6])
        else:
            parent[path[-1]] = rng.choice(HUGE)
    return tree


def run_words(words: list[object]) -> tuple[int, str]:
    """Run a command line in this process."""
    from undiffuse.cli.main import main

    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main([str(word) for word in words])
    return code, err.getvalue()


def survive(names: list[str], spoil: Callable[[Path, str], None], place: Path) -> dict[int, int]:
    """Spoil a run in each of these ways, use it, and count the exit codes."""
    spare, codes = place / "run", {0: 0, 2: 0}
    for first in range(0, len(names), 10):

        def work(batch: list[str] = names[first : first + 10]) -> int:
            for name in batch:
                shutil.rmtree(place / "it", ignore_errors=True)
                shutil.copytree(spare, place / "it")
                spoil(place / "it", name)
                print("!", name, flush=True)
                for words in (
                    ["info", "it"],
                    ["sample", "it", "-n", 2, "--steps", 2, "--out", f"{name}.npy", "--overwrite"],
                    ["score", "it", "few.npy", "--out", "s.csv", "--evaluations", 2, "--overwrite"],
                    ["train", "--out", "it", "--resume", "--steps", 3, "--quiet"],
                ):
                    code, err = run_words(words)
                    assert code in (0, 2), err
                    assert "Traceback" not in err
                    print(code, flush=True)
            return 0

        ended = fork(work, seconds=200, memory=3 * GIB)
        assert ended.code == 0, (ended.out.split("!")[-1], ended.err[-2500:])
        assert ended.peak < 2 * GIB
        for line in ended.out.split():
            if line in ("0", "2"):
                codes[int(line)] += 1
    return codes


@pytest.mark.parametrize("file", ["config.json", "state.json", "log.jsonl"])
def test_hostile_trees(file: str, place: Path) -> None:
    def spoil(run: Path, name: str) -> None:
        rng = random.Random(name)
        where = next(run.rglob(file))
        if file == "log.jsonl":
            trees = [json.loads(line) for line in where.read_text().splitlines()]
            lines = [json.dumps(spoiled(tree, rng)) for tree in trees]
            where.write_text("\n".join(lines) + "\n")
        else:
            where.write_text(json.dumps(spoiled(json.loads(where.read_text()), rng)))

    total = 300 if file == "config.json" else 60
    codes = survive([f"{file}-{i}" for i in range(total)], spoil, place)
    assert sum(codes.values()) == 4 * total  # every command on every tree ended as it may
    assert codes[2] > 0, codes  # and some of the trees were hostile


def test_hostile_bytes(place: Path) -> None:
    def spoil(run: Path, name: str) -> None:
        rng = random.Random(name)
        files = sorted(path for path in run.rglob("*") if path.is_file())
        where = rng.choice(files)
        where.write_bytes(
            mutated(where.read_bytes(), rng, [b"", b"{}", b"[" * 10**6, b"\0" * 9999])
        )

    codes = survive([f"bytes-{i}" for i in range(150)], spoil, place)
    assert sum(codes.values()) == 4 * 150
    assert codes[2] > 0, codes


def test_links_in_a_run_lead_no_writes_outside(place: Path) -> None:
    outside = place / "outside"

    def spoil(run: Path, name: str) -> None:
        target = run / name
        shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
        target.symlink_to(outside / name.replace("/", "-"))

    for name in ("samples", "state", "snapshots", "evaluation", "held_out_scores", "log.jsonl",
                 "weights.safetensors", "report.html", "state/latest", "config.json"):  # fmt: skip
        shutil.rmtree(outside, ignore_errors=True)
        outside.mkdir()
        source = place / "run" / name
        if source.is_dir():
            shutil.copytree(source, outside / name)
        elif source.exists():
            shutil.copy(source, outside / name.replace("/", "-"))
        before = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
        survive([name], spoil, place)
        run_words(["evaluate", "it", "-n", 16, "--steps", 2, "--rows", 4, "--quiet"])
        after = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
        assert after == before, name


# --- words


def test_wrong_command_lines(place: Path) -> None:
    rng = random.Random(0)
    verbs = ["train", "sample", "score", "evaluate", "compare", "info", "selfcheck", "nope", ""]
    words = [
        "run", "data.npy", "moons", "--out", "o", "-n", "--seed", "--steps", "--budget",
        "--preset",
        "--model.width", "--training.lr", "--config", "--given", "--alarm", "--label",
        "--method",
        "0", "-1", "1e400", "nan", "inf", "[/s]", "$", "%s", "{}", "--", "-", "---", "=", "--out=",
        "caf\udce9", "a" * 300, "/dev/zero", "/dev/null", "/proc/self/mem", "../..", "~x",
        "1" * 5000,
        "--json", "--quiet", "--n", "--batch", "cuda:9", "--device", "edm", "2", "\u202e", "\x00",
    ]  # fmt: skip
    lines = [[rng.choice(verbs), *rng.choices(words, k=rng.randint(0, 6))] for _ in range(200)]
    for first in range(0, 200, 20):

        def work(batch: list[list[str]] = lines[first : first + 20]) -> int:
            for line in batch:
                print("!", ascii(line), flush=True)
                if line[0] == "train" and "--steps" not in line:
                    line = [*line, *map(str, QUICK)]
                if line[0] in ("compare", "selfcheck"):
                    line = [*line, "--nonsense"]
                code, err = run_words(line)
                assert code in (0, 2), err
                assert "Traceback" not in err
            return 0

        ended = fork(work, seconds=200, memory=4 * GIB)
        assert ended.code == 0, (ended.out.split("!")[-1], ended.err[-2500:])
