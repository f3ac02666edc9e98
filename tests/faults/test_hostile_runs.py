"""Runs that somebody sent, or that a disk damaged: each command ends in order, and soon.

Exit code 0, or 2 and one sentence; 3 GiB at most; nothing outside the run is written to.
"""

from __future__ import annotations

import io
import json
import random
import shutil
import struct
import sys
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import mutated, run_words, spoiled
from forked import GIB, fork

from undiffuse.models.tuning import Candidate, Tuned
from undiffuse.run import Run
from undiffuse.run import open as open_run

INFO = ("info", "it", "--quiet")
SAMPLE = ("sample", "it", "-n", 2, "--steps", 2, "--out", "s.npy", "--overwrite", "--quiet")
SCORE = ("score", "it", "few.npy", "--out", "s.csv", "--evaluations", 2, "--overwrite", "--quiet")
TUNED = ("sample", "it", "-n", 2, "--out", "s.npy", "--overwrite", "--quiet")
RESUME = ("train", "--out", "it", "--resume", "--steps", 3, "--quiet")
EVALUATE = ("evaluate", "it", "--out", "report", "-n", 16, "--rows", 4, "--steps", 2,
            "--overwrite", "--quiet")  # fmt: skip
Spoil = Callable[[Path, random.Random], object]


def used(place: Path, number: int, spoil: Spoil, commands: Sequence[tuple]) -> list[int]:
    """Spoil a copy of the run, use it, and return the exit codes."""
    shutil.rmtree(place / "it", ignore_errors=True)
    shutil.copytree(place / "run", place / "it")
    spoil(place / "it", random.Random(number))
    codes = []
    for words in commands:
        code, err = run_words(words)
        assert code in (0, 2), err
        assert "Traceback" not in err
        assert code == 0 or (err.count("\n") == 1 and len(err) > 20), err
        kept = [file.read_text() for file in (place / "it").glob("problems/*")]
        assert not kept, kept[0][-1500:]  # of a comparison
        codes.append(code)
    return codes


def survive(
    place: Path, total: int, spoil: Spoil, commands: Sequence[tuple], together: int = 30
) -> Counter[int]:
    """Spoil a copy of the run so many times, use it, and count the exit codes."""
    codes: Counter[int] = Counter()
    for first in range(0, total, together):

        def work(numbers: range = range(first, min(first + together, total))) -> int:
            for number in numbers:
                print("!", number, flush=True)
                try:
                    for words, code in zip(commands, used(place, number, spoil, commands)):
                        print(words[0], code, flush=True)
                except Exception as problem:  # one report of all that is wrong
                    where = traceback.extract_tb(problem.__traceback__)[-3:]
                    print(number, repr(problem), *map(str, where), file=sys.stderr, flush=True)
            return 0

        ended = fork(work, seconds=60 + 30 * together, memory=3 * GIB)
        assert ended.code == 0, (ended.out.split("!")[-1], ended.code, ended.err[-2500:])
        assert not ended.err, ended.err
        assert ended.peak < 2 * GIB
        codes.update(int(line.split()[1]) for line in ended.out.splitlines() if line[0] != "!")
    assert codes.total() == total * len(commands)  # all were done
    return codes


# --- trees of JSON

TREES = {
    "config.json": (INFO, SAMPLE, RESUME),
    "state.json": (INFO, RESUME),
    "log.jsonl": (INFO, RESUME),
    "sampler.json": (INFO, TUNED, RESUME),
    "backend.json": (INFO, TUNED),
}


def a_sampler() -> dict[str, Any]:
    """What `undiffuse tune` keeps, of two samplers."""
    candidates = [
        Candidate("deis", tuple(np.linspace(1, 0, steps + 1).tolist()), 0.1) for steps in (2, 4)
    ]
    return Tuned(tuple(candidates), chosen=1, seeds=64, rows=12).tree()


def a_backend() -> dict[str, Any]:
    """What `undiffuse export` keeps."""
    batches = [{"rows": rows, "torch": 2.0, "onnx": 1.0} for rows in (1, 32, 64)]
    return {"weights": "0123456789abcdef", "machine": "one, 2 threads", "batches": batches}


KEPT = {"sampler.json": a_sampler, "backend.json": a_backend}


def spoil_tree(file: str) -> Spoil:
    def spoil(run: Path, rng: random.Random) -> None:
        if file in KEPT:
            (run / file).write_text(json.dumps(KEPT[file]()))
        where = next(run.rglob(file))
        lines = where.read_text().splitlines() if file == "log.jsonl" else [where.read_text()]
        where.write_text("\n".join(json.dumps(spoiled(json.loads(line), rng)) for line in lines))

    return spoil


@pytest.mark.faults
@pytest.mark.parametrize(
    ("file", "total"),
    [
        ("config.json", 300),
        ("state.json", 100),
        ("log.jsonl", 60),
        ("sampler.json", 60),
        ("backend.json", 60),
    ],
)
def test_hostile_trees(file: str, total: int, place: Path) -> None:
    codes = survive(place, total, spoil_tree(file), TREES[file])
    print(f"{file}: {total} trees, exit codes {dict(codes)}")
    if file in ("log.jsonl", "sampler.json", "backend.json"):  # what is damaged in them is left out
        assert set(codes) == {0}
    else:
        assert codes[2] > 0  # some of the trees were hostile


def test_a_few_hostile_trees(place: Path) -> None:
    files = [*TREES, "config.json"]

    def spoil(run: Path, rng: random.Random) -> None:
        spoil_tree(files[rng.randrange(len(files))])(run, rng)

    codes = [code for number in range(10) for code in used(place, number, spoil, (INFO, RESUME))]
    assert set(codes) == {0, 2}


@pytest.mark.parametrize("damaged", [False, True])
def test_a_damaged_sampler_is_left_out_and_said(damaged: bool, place: Path) -> None:
    def spoil(run: Path, rng: random.Random) -> None:
        tree = a_sampler()
        tree["candidates"][1]["times"][1] = 2.0 if damaged else 0.75
        (run / "sampler.json").write_text(json.dumps(tree))

    shutil.copytree(place / "run", place / "it")
    spoil(place / "it", random.Random(0))
    told = Run(place / "it").summary()
    model = open_run(place / "it")
    assert (model.tuned_tree is None) == damaged
    assert used(place, 0, spoil, (INFO, TUNED)) == [0, 0]
    assert any("sampler.json is damaged" in note for note in told["notes"]) == damaged


# --- bytes


def spoil_bytes(pattern: str) -> Spoil:
    def spoil(run: Path, rng: random.Random) -> None:
        where = rng.choice(sorted(path for path in run.glob(pattern) if path.is_file()))
        others = [b"", b"{}", b"[" * 10**6, b"\0" * 9999]
        where.write_bytes(mutated(where.read_bytes(), rng, others))

    return spoil


@pytest.mark.faults
def test_hostile_bytes(place: Path) -> None:
    codes = survive(place, 150, spoil_bytes("**/*"), (INFO, SAMPLE, SCORE, RESUME))
    print(f"bytes: 150 runs, exit codes {dict(codes)}")
    assert codes[2] > 0


# --- what a run keeps to save work: held-out scores, likelihoods and samples of evaluations


def as_another(record: bytes, rng: random.Random) -> bytes:
    """A batch with arrays of other shapes and types, with pickles, or one that unpacks."""
    with np.load(io.BytesIO(record)) as found:
        arrays = {name: found[name] for name in found.files}
    name = rng.choice([*arrays])
    wrong = (
        np.zeros(0), np.zeros((10**6,), np.int8), np.array([print], object), np.array("x" * 999),
        np.zeros((3, 3)), np.float64(1e300), np.array([np.nan]), np.array([1 + 2j]),
    )  # fmt: skip
    arrays[name] = wrong[rng.randrange(len(wrong))]
    if rng.random() < 0.2:
        del arrays[name]
    if rng.random() < 0.2:
        arrays["x" * 300] = np.zeros(3)
    stream = io.BytesIO()
    (np.savez_compressed if rng.random() < 0.2 else np.savez)(stream, **arrays)
    return stream.getvalue()


def spoil_kept(run: Path, rng: random.Random) -> None:
    """Damage every kept file: in its bytes, or in a batch that has the right checksum."""
    head = struct.Struct("<QI")
    for where in sorted(run.rglob("*.batches")):
        content = where.read_bytes()
        if rng.random() < 0.6:
            where.write_bytes(mutated(content, rng, [b"", b"{}\n", b"[" * 10**6]))
        else:
            line, _, rest = content.partition(b"\n")
            record = as_another(rest[head.size : head.size + head.unpack_from(rest)[0]], rng)
            packed = head.pack(len(record), zlib.crc32(record)) + record
            where.write_bytes(line + b"\n" + packed)


@pytest.mark.faults
@pytest.mark.parametrize(("folder", "command"), [("held_out_scores", SCORE), ("*", EVALUATE)])
def test_damaged_caches_are_made_anew(folder: str, command: tuple, full_place: Path) -> None:
    run, total = full_place / "run", 150 if command is SCORE else 10
    for other in run.rglob("*.batches"):
        if not other.parent.match(folder):
            other.unlink()
    assert [*run.rglob("*.batches")]
    scores = (full_place / "scores.csv").read_text()

    def check(it: Path, rng: random.Random) -> None:
        spoil_kept(it, rng)
        if (before := full_place / "s.csv").exists():
            assert before.read_text() == scores
            before.unlink()

    codes = survive(full_place, total, check, (command,))
    assert codes == {0: total}
    if command is SCORE:
        assert (full_place / "s.csv").read_text() == scores
    print(f"caches, {command[0]}: {total}")


# --- links


LINKS = ("samples", "state", "snapshots", "evaluation", "held_out_scores", "log.jsonl",
         "weights.safetensors", "report.html", "state/latest", "config.json")  # fmt: skip


@pytest.mark.parametrize(
    "names", [("state", "log.jsonl"), pytest.param(LINKS, marks=pytest.mark.faults)]
)
def test_links_in_a_run_lead_no_writes_outside(names: tuple[str, ...], place: Path) -> None:
    outside, tried = place / "outside", 0
    for name in names:
        shutil.rmtree(outside, ignore_errors=True)
        outside.mkdir()
        source, there = place / "run" / name, outside / name.replace("/", "-")
        if source.is_dir():
            shutil.copytree(source, there)
        elif source.exists():
            shutil.copy(source, there)

        def spoil(run: Path, rng: random.Random, name: str = name, there: Path = there) -> None:
            target = run / name
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
            target.symlink_to(there)

        before = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
        used(place, 0, spoil, (INFO, SAMPLE, SCORE, RESUME))
        after = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
        assert after == before, name
        tried += 1
    assert tried == len(names)
