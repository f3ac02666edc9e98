"""Whoever draws or scores rows, and however often that is interrupted, they are the same.

A folder of samples is made in ranges of whole batches. One process, one that was interrupted or
killed and started again, and two ranks give the same files, byte for byte; so does one file.
"""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from forked import Ended, fork
from PIL import Image

import undiffuse as ud
from undiffuse.cli.app import VERBS
from undiffuse.cli.drawing import Drawing
from undiffuse.cli.main import main
from undiffuse.errors import InputError
from undiffuse.evaluation.given_samples import given_samples
from undiffuse.run import Run
from undiffuse.spread import RowRange, ranges_of
from undiffuse.spread.on_ray import pool_size
from undiffuse.spread.ranges import ResumableFolder

N, BATCH = 50, 8  # rows, in 7 ranges
FEW = ("--steps", 2, "--batch", BATCH, "--device", "cpu", "--quiet")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a table with an identifier, of arrays, and of images in two classes."""
    folder, rng = tmp_path_factory.mktemp("runs"), np.random.default_rng(0)
    table = pa.table(
        {
            "key": [f"ID{i:05d}" for i in range(200)],
            "x": rng.normal(size=200),
            "kind": rng.choice(["a", "b"], 200),
        }
    )
    small = {"steps": 2, "batch": 32}
    pq.write_table(table, folder / "table.parquet")
    np.save(folder / "training.npy", rng.normal(size=(200, 3)))
    ud.edm(width=8, depth=1).fit(folder / "table.parquet", out=folder / "table", **small)
    ud.edm(width=8, depth=1).fit(folder / "training.npy", out=folder / "arrays", **small)
    images = rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8)
    given = ud.load((images, rng.choice(["cat", "dog"], 40)))
    ud.edm(width=8, blocks=1, multipliers=(1,)).fit(given, out=folder / "images", **small)
    np.save(folder / "arrays.npy", rng.normal(size=(N, 3)))
    return folder


def words(place: Path, kind: str, out: object, n: int = N) -> tuple[object, ...]:
    return ("sample", place / kind, "-n", n, "--out", f"{out}", *FEW)


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir())}


@pytest.fixture(scope="module")
def alone(place: Path) -> dict[str, dict[str, bytes]]:
    """What one process writes, uninterrupted."""
    torch.set_num_threads(1)
    for kind in ("table", "arrays", "images"):
        assert main([str(word) for word in words(place, kind, f"{place}/alone-{kind}/")]) == 0
    return {kind: content(place / f"alone-{kind}") for kind in ("table", "arrays", "images")}


def ranks(call: tuple[object, ...]) -> Ended:
    """The command in two processes that know of each other, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}

    def work() -> int:
        other = os.fork()
        os.environ.update(shared, RANK=str(int(other == 0)))
        code = main([str(word) for word in call])
        if other == 0:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
        second = os.waitstatus_to_exitcode(os.waitpid(other, 0)[1])
        return code if second in (0, code) else 100 + second

    return fork(work, seconds=100)


def interrupted(
    monkeypatch: pytest.MonkeyPatch, after: int, number: int = signal.SIGINT
) -> list[int]:
    """A signal comes within a range once so many are written; returns those that were begun."""
    begun: list[int] = []
    write = Drawing.write

    def one(self: Drawing, write_rows: Any, start: int, *given: Any, **more: Any) -> Any:
        begun.append(start // BATCH)
        if len(begun) == after + 1:
            write_rows(np.zeros((0, 3)), None)
            os.kill(os.getpid(), number)
        return write(self, write_rows, start, *given, **more)

    monkeypatch.setattr(Drawing, "write", one)
    return begun


# --- the same rows


@pytest.mark.parametrize("kind", ["table", "arrays", "images"])
def test_a_folder_holds_the_rows_of_one_file(
    cli: Any, place: Path, alone: Any, tmp_path: Path, kind: str
) -> None:
    """In the same order, none twice and none missing."""
    files = alone[kind]
    if kind == "table":
        cli(*words(place, kind, tmp_path / "x.parquet")).done()
        whole = pq.read_table(tmp_path / "x.parquet")
        parts = [pq.read_table(pa.BufferReader(files[name])) for name in sorted(files)]
        assert pa.concat_tables(parts).equals(whole)
        assert whole["key"].to_pylist() == [f"ID{i:05d}" for i in range(200, 200 + N)]
        return
    cli(*words(place, kind, tmp_path / "x.npz")).done()
    cli(*words(place, kind, f"{tmp_path}/parts/"), "--parts", "npy").done()
    parts = [np.load(file) for file in sorted((tmp_path / "parts").iterdir())]
    with np.load(tmp_path / "x.npz") as whole:
        np.testing.assert_array_equal(np.concatenate(parts), whole["data"])
        if kind == "images":
            labels = [f"{i:05d}-{label}.png" for i, label in enumerate(whole["labels"])]
            assert sorted(files) == labels
        else:
            assert len(parts) == len(ranges_of(N, BATCH)) == 7


def test_parquet_holds_the_rows_for_others_to_read(cli: Any, place: Path, tmp_path: Path) -> None:
    """Images as files with their classes, as Hugging Face has them; arrays as Arrow's tensors."""
    for kind in ("images", "arrays"):
        cli(*words(place, kind, tmp_path / f"{kind}.npz")).done()
        cli(*words(place, kind, f"{tmp_path}/{kind}/"), "--parts", "parquet").done()
        found = pq.read_table(tmp_path / kind)
        with np.load(tmp_path / f"{kind}.npz") as whole:
            if kind == "arrays":
                tensors = found["row"].combine_chunks().to_numpy_ndarray()
                np.testing.assert_array_equal(tensors, whole["data"])
                continue
            cells = found["image"].to_pylist()
            pixels = [np.array(Image.open(io.BytesIO(cell["bytes"]))) for cell in cells]
            np.testing.assert_array_equal(np.stack(pixels), whole["data"])
            assert [cell["path"] for cell in cells] == [f"{i:05d}.png" for i in range(N)]
            assert found["label"].to_pylist() == whole["labels"].tolist()
            features = json.loads(found.schema.metadata[b"huggingface"])["info"]["features"]
            assert features["image"] == {"_type": "Image"}


@pytest.mark.parametrize("kind", ["table", "images"])
def test_interrupted_and_typed_again_only_what_is_missing_is_drawn(
    cli: Any, place: Path, alone: Any, tmp_path: Path, monkeypatch: Any, kind: str
) -> None:
    call = words(place, kind, f"{tmp_path}/out/")
    with monkeypatch.context() as patch:
        interrupted(patch, 3)
        stopped = cli(*call)
    assert (stopped.code, stopped.err) == (130, "interrupted.\n")
    assert os.listdir(tmp_path) == ["out.part"]
    with monkeypatch.context() as patch:
        begun = interrupted(patch, N)
        again = cli(*[word for word in call if word != "--quiet"]).done()
    assert begun == [3, 4, 5, 6]
    assert "3 of 7 parts are there already" in again.err
    assert content(tmp_path / "out") == alone[kind]
    assert os.listdir(tmp_path) == ["out"]


def test_killed_within_a_range_nothing_half_written_is_taken_for_done(
    cli: Any, place: Path, alone: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    call = words(place, "arrays", f"{tmp_path}/out/")
    with monkeypatch.context() as patch:
        interrupted(patch, 2, signal.SIGKILL)
        assert fork(lambda: main([str(word) for word in call])).code == -signal.SIGKILL
    half = [path for path in (tmp_path / "out.part").iterdir() if path.name.startswith(".")]
    assert half, "a range was being written"
    cli(*call).done()
    assert content(tmp_path / "out") == alone["arrays"]


def test_two_ranks_draw_what_one_process_draws(place: Path, alone: Any, tmp_path: Path) -> None:
    for kind in ("table", "images"):
        ended = ranks((*words(place, kind, f"{tmp_path}/{kind}/"), "--json"))
        assert ended.code == 0, ended.err
        assert json.loads(ended.out)["number"] == N  # the first alone writes
        assert content(tmp_path / kind) == alone[kind]


def test_rows_of_several_conditions_and_completions_are_those_of_one_file(
    cli: Any, place: Path, tmp_path: Path
) -> None:
    """Row i belongs to the given row that it has in the whole, wherever a range begins."""
    given = np.load(place / "arrays.npy")[:5]
    given[:, 1:] = np.nan
    np.save(tmp_path / "given.npy", given)
    call = words(place, "arrays", tmp_path / "x.npy", n=7)
    cli(*call, "--given", tmp_path / "given.npy").done()
    call = words(place, "arrays", f"{tmp_path}/x/", n=7)
    cli(*call, "--given", tmp_path / "given.npy").done()
    whole = np.load(tmp_path / "x.npy")
    parts = [np.load(file) for file in sorted((tmp_path / "x").iterdir())]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(whole[:, 0], given[:, 0].repeat(7))


def test_a_model_gives_any_part_of_its_samples(place: Path) -> None:
    model = ud.open(place / "images")
    whole = model.sample_rows(N, batch=BATCH, steps=2)
    conditions = model.sample_conditions(N)
    for start, stop in ((0, N), (16, 24), (40, N)):
        parts = list(model.sample_batches(N, batch=BATCH, steps=2, start=start, stop=stop))
        np.testing.assert_array_equal(
            np.concatenate([part.rows for part in parts]), whole[start:stop]
        )
        labels = torch.cat([part.conditions["label"] for part in parts])
        assert labels.equal(conditions["label"][start:stop])
        assert [part.first for part in parts] == list(range(start, stop, BATCH))


def test_a_key_is_kept_within_a_part_and_that_is_said(cli: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    table = pa.table({"number": rng.permutation(3900)[:400], "x": rng.normal(size=400)})
    ud.edm(width=8, depth=1).fit(table, steps=2, batch=32, out=tmp_path / "run")
    assert ud.open(tmp_path / "run").form.keyed
    call = ("sample", tmp_path / "run", "-n", N, *FEW[:-1], "--out")
    said = cli(*call, f"{tmp_path}/x/").done().err
    assert "no two rows of the data agree in a key" in said
    cli(*call, tmp_path / "x.parquet").done()
    for file in (tmp_path / "x").iterdir():
        numbers = pq.read_table(file)["number"].to_pylist()
        assert len(set(numbers)) == len(numbers)


# --- what is refused


def test_what_another_command_began_is_not_continued(
    cli: Any, place: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    call = words(place, "arrays", f"{tmp_path}/out/")
    with monkeypatch.context() as patch:
        interrupted(patch, 2)
        assert cli(*call).code == 130
    assert cli(*call, "--seed", 1).refused("seed 0 there, 1 now", "finish that one, or --overwrite")
    assert cli(*words(place, "arrays", f"{tmp_path}/out/", n=N + 1)).refused("rows 50 there, 51 ")
    assert cli(*call, "--label", 0).refused("without labels")
    other = words(place, "table", f"{tmp_path}/out/")
    assert cli(*other).refused("weights", "files .npy there, .parquet now")
    (tmp_path / "out.part" / "identity.json").write_text("{")
    assert cli(*call).refused("holds what another command began")
    cli(*call, "--seed", 1, "--overwrite").done()
    assert os.listdir(tmp_path) == ["out"]


def test_files_that_are_no_samples_are_kept(cli: Any, place: Path, tmp_path: Path) -> None:
    for name in ("out", "out.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").touch()
        call = words(place, "arrays", f"{tmp_path}/out/")
        assert cli(*call, "--overwrite").refused(str(tmp_path / name))
        (tmp_path / name / "mine.txt").unlink()
        (tmp_path / name).rmdir()


REFUSED = {
    "files of another kind": (
        ("--parts", "csv"),
        "parts csv: a folder of arrays holds npy or parquet files",
    ),
    "workers of nothing": (("--workers", 2), "--workers: is for --on ray"),
    "no Ray": (("--on", "ray"), "--on ray: needs Ray; pip install 'undiffuse[cluster]'."),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_shared_out_is_refused(
    cli: Any, place: Path, tmp_path: Path, monkeypatch: Any, case: str
) -> None:
    more, sentence = REFUSED[case]
    monkeypatch.setitem(sys.modules, "ray", None)
    assert cli(*words(place, "arrays", f"{tmp_path}/out/"), *more).refused(sentence)
    if case == "files of another kind":
        more, sentence = ("--parts", "npy"), "is one file; leave it out"
        assert cli(*words(place, "arrays", tmp_path / "x.npy"), *more).refused(sentence)
    else:
        score = ("score", place / "arrays", place / "arrays.npy", "--out", tmp_path / "s.csv")
        assert cli(*score, *more).refused(sentence)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", [one.name for one in VERBS])
def test_a_command_of_one_process_is_refused_in_several(
    cli: Any, place: Path, tmp_path: Path, monkeypatch: Any, name: str
) -> None:
    """And one that is shared refuses a single file, in one sentence of the first process."""
    one = next(verb for verb in VERBS if verb.name == name)
    assert one.shared == (name in ("train", "distill", "sample", "score"))
    if name == "sample":
        ended = ranks(words(place, "arrays", tmp_path / "x.npy"))
        assert ended.code == 2
        assert "2 processes write a folder of files; give a folder, such as" in ended.err
        assert ended.err.count("\n") == 1
    if one.shared:
        return
    usual = {"compare": ("d", "--out", "o"), "push": ("r", "me/r"), "selfcheck": ()}
    usual |= {"export": ("r", "--to", "onnx", "--out", "o")}
    for key, value in {"MASTER_ADDR": "localhost", "WORLD_SIZE": "2", "RANK": "0"}.items():
        monkeypatch.setenv(key, value)
    refusal = f"undiffuse {name}: runs in one process, and 2 were started; leave torchrun or srun"
    assert cli(name, *usual.get(name, ("r",))).refused(refusal)


# --- scores


def scored(place: Path, out: object) -> tuple[object, ...]:
    score = ("score", place / "arrays", place / "arrays.npy", "--out", f"{out}", "--quiet")
    return (*score, "--batch", BATCH, "--evaluations", 2, "--draws", 1, "--alarm", 0.2)


def test_ranks_stop_together_while_the_first_one_calibrates(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("undiffuse.evaluation.score.calibrate", lambda *given, **how: None)
    ended = ranks(scored(place, tmp_path / "x.csv"))
    assert (ended.code, ended.err) == (130, "")
    assert os.listdir(tmp_path) == []


def test_scores_in_a_folder_and_of_two_ranks_are_those_of_one_file(
    cli: Any, place: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    cli(*scored(place, tmp_path / "x.csv")).done()
    ended = ranks(scored(place, tmp_path / "y.csv"))
    assert ended.code == 0, ended.err
    assert (tmp_path / "y.csv").read_bytes() == (tmp_path / "x.csv").read_bytes()
    polls = iter([False] * 3 + [True])
    with monkeypatch.context() as patch:
        patch.setattr("undiffuse.cli.score.Interruption.stopped", lambda _: next(polls))
        assert cli(*scored(place, f"{tmp_path}/x/")).code == 130
    assert not (tmp_path / "x").exists()
    cli(*scored(place, f"{tmp_path}/x/")).done()
    parts = [pq.read_table(file) for file in sorted((tmp_path / "x").iterdir())]
    assert [len(part) for part in parts] == [one.count for one in ranges_of(N, BATCH)]
    with (tmp_path / "x.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    table = pa.concat_tables(parts).to_pydict()
    assert table["row"] == list(range(N))
    assert [str(nats) for nats in table["log_likelihood"]] == [
        line["log_likelihood"] for line in lines
    ]
    assert [str(alarm) for alarm in table["alarm"]] == [line["alarm"] for line in lines]
    assert sorted(os.listdir(tmp_path)) == ["x", "x.csv", "y.csv"]


def test_scores_of_other_rows_are_not_continued(
    cli: Any, place: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    polls = iter([False, True])
    with monkeypatch.context() as patch:
        patch.setattr("undiffuse.cli.score.Interruption.stopped", lambda _: next(polls))
        assert cli(*scored(place, f"{tmp_path}/x/")).code == 130
    assert cli(*scored(place, f"{tmp_path}/x/"), "--seed", 3).refused("seed 0 there, 3 now")
    cli(*scored(place, f"{tmp_path}/x/"), "--seed", 3, "--overwrite").done()


# --- samples that are evaluated


def test_samples_that_were_drawn_are_evaluated(
    cli: Any, place: Path, alone: Any, tmp_path: Path
) -> None:
    """The figures are those of samples that the evaluation draws, which are the same rows."""
    words = ("evaluate", place / "arrays", "-n", N, "--rows", 8, "--batch", BATCH, "--steps", 2)
    words = (*words, "--features", "raw", "--json", "--out")
    found = json.loads(cli(*words, tmp_path / "a").done().out)
    done = cli(*words, tmp_path / "b", "--samples", place / "alone-arrays").done()
    given = json.loads(done.out)
    assert given["quality"] == found["quality"]
    assert given["samples"] == N
    said = f"alone-arrays: {N} of {N} samples that were drawn before are compared"
    assert said in given["warnings"][0]
    assert said in done.err
    np.save(tmp_path / "far.npy", np.load(place / "arrays.npy") + 100)
    far = json.loads(cli(*words, tmp_path / "c", "--samples", tmp_path / "far.npy").done().out)
    assert far["quality"] != found["quality"]


@pytest.mark.parametrize("form", ["png", "parquet"])
def test_images_that_were_drawn_are_taken(cli: Any, place: Path, tmp_path: Path, form: str) -> None:
    """They are the rows that were drawn: from PNG files, and from those in Parquet."""
    cli(*words(place, "images", f"{tmp_path}/x/"), "--parts", form).done()
    rows, notes = given_samples(tmp_path / "x", Run(place / "images").config["data"], 20, batch=7)
    whole = ud.open(place / "images").sample_rows(N, batch=BATCH, steps=2)
    np.testing.assert_array_equal(rows, whole[:20])
    assert f"x: 20 of {N} samples that were drawn before" in notes[0]


@pytest.mark.parametrize("kind", ["arrays", "table"])
def test_the_first_samples_of_a_folder_are_taken(
    place: Path, alone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """They are the rows that were drawn, in the stored type; of later parts none is read."""
    read: list[int] = []
    concatenate, read_table = np.concatenate, pq.read_table

    def arrays(parts: Any, *more: Any) -> np.ndarray:
        read.extend(len(part) for part in parts if isinstance(part, np.memmap))
        return concatenate(parts, *more)

    def table(stream: Any) -> pa.Table:
        found = read_table(stream)
        read.append(len(found))
        return found

    monkeypatch.setattr(np, "concatenate", arrays)
    monkeypatch.setattr(pq, "read_table", table)
    config = Run(place / kind).config["data"]
    whole = ud.open(place / kind).sample_rows(N, batch=BATCH, steps=2)
    rows, notes = given_samples(place / f"alone-{kind}", config, 20, batch=7)
    np.testing.assert_array_equal(rows, whole[:20])
    assert f"alone-{kind}: 20 of {N} samples that were drawn before" in notes[0]
    assert read == ([8, 8, 4] if kind == "arrays" else [8, 8, 8])
    suffix = "npy" if kind == "arrays" else "parquet"
    (tmp_path / f"part-00000.{suffix}").write_bytes(b"no rows")
    with pytest.raises(InputError, match="could not be read"):
        given_samples(tmp_path, config, 20, batch=7)


# --- the pieces


@pytest.mark.parametrize(("rows", "batch"), [(1, 1), (64, 64), (50_000, 1024), (10**7, 1024)])
def test_ranges_are_whole_batches_and_hold_each_row_once(rows: int, batch: int) -> None:
    found = ranges_of(rows, batch)
    assert [one.first for one in found] == [0, *(one.stop for one in found[:-1])]
    assert found[-1].stop == rows
    assert all(one.first % batch == 0 and one.count <= 64 * batch for one in found)
    assert len(found) >= min(32, -(-rows // batch))


def test_a_pool_leaves_a_cpu_to_reading_and_writing() -> None:
    for cpus in (1, 2, 3, 4, 16, 64):
        for wanted in (None, 1, 2, 7, 500):
            size, said = pool_size(cpus, 0, wanted)
            assert size >= 1
            assert size / 2 + 1 <= cpus or size == 1
            assert bool(said) == (wanted is not None and size < wanted)


def test_a_range_is_finished_once_its_files_are_there(tmp_path: Path) -> None:
    ranges = [RowRange(0, 0, 3), RowRange(1, 3, 3)]
    folder = ResumableFolder(tmp_path / "x", {"seed": 0}, ranges, replaces="[ab]")
    folder.begin()
    with suppress(ZeroDivisionError), folder.writing(ranges[0]) as place:
        (place / "a").write_text("half")
        assert 1 / 0
    assert folder.missing() == ranges
    with folder.writing(ranges[0], {"said": 1}) as place:
        (place / "a").write_text("whole")
    assert folder.missing() == ranges[1:]
    again = ResumableFolder(tmp_path / "x", {"seed": 0}, ranges, replaces="[ab]")
    again.begin()
    with again.writing(ranges[1]) as place:
        (place / "b").touch()
    assert [facts.get("said") for facts in again.facts()] == [1, None]
    again.finish()
    assert content(tmp_path / "x") == {"a": b"whole", "b": b""}
    assert os.listdir(tmp_path) == ["x"]
