"""Runs on the hub: pushed to a stand-in of its HTTP API, opened elsewhere, sampled bit for bit."""

import json
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from hub_stand_in import Hub

import undiffuse as ud
from undiffuse.cli.main import main
from undiffuse.errors import InputError
from undiffuse.exchange import card as cards
from undiffuse.remote import fetch, remote_name
from undiffuse.run import Run

constants = pytest.importorskip("huggingface_hub.constants")


def figure(value, low, high, floor=None, better="lower"):
    return {"value": value, "low": low, "high": high, "floor": floor, "better": better, "n": 32}


REPORT = {
    "kind": "report",
    "run": "somewhere",
    "samples": 32,
    "sampler": {"method": "deis", "steps": 12, "evaluations": 12.0},
    "data": {"held_out_rows": 20},
    "features": {"name": "raw values"},
    "verdict": {"sentence": "The model is barely trained.", "advice": "Train it for longer."},
    "quality": {
        "frechet": figure(12.345, 11.5, 13.25, 1.25),
        "kernel": figure(None, None, None),
    },
    "coverage": {"recall": figure(0.73, 0.69, 0.77, 0.92, "higher")},
    "memorization": {"caught": False, "copies": figure(0.01, 0.0, 0.02)},
    "likelihood": {"none": "it has no density."},
    "warnings": ["only 20 held-out rows"],
    "speed": {"steps": 2},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A trained run with a report, and a path in it that nobody else should see."""
    out = tmp_path_factory.mktemp("runs") / "moons"
    rows = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    np.save(out.parent / "secret-place.npy", rows)
    data = ud.load(out.parent / "secret-place.npy")
    ud.edm(width=8, depth=1).fit(data, steps=2, out=out, samples=0)
    (out / "report.json").write_text(json.dumps({**REPORT, "run": str(out)}))
    return out


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub, and an empty cache."""
    one = Hub()
    monkeypatch.setenv("HF_ENDPOINT", one.url)
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_tests")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    yield one
    one.close()


@pytest.fixture
def pushed(hub, run):
    return ud.push(run, "me/moons", license="mit")


def test_a_pushed_run_opened_elsewhere_gives_the_same_samples_bit_for_bit(hub, run, pushed):
    here = ud.open(run).sample(5, seed=3)
    commit = hub.repositories["me/moons"][-1][0]
    assert pushed.name == f"hf://me/moons@{commit}"
    for name in ("hf://me/moons", pushed.name, "me/moons"):
        assert np.array_equal(ud.open(name).sample(5, seed=3), here), name
    assert Run("me/moons").given == pushed.name
    assert Run("me/moons").state["step"] == 2


def test_only_json_safetensors_and_the_card_are_there_and_no_path_of_this_machine(hub, run, pushed):
    files = hub.repositories["me/moons"][-1][1]
    assert {name.rpartition(".")[2] for name in files} <= {"json", "jsonl", "safetensors", "md"}
    for name, content in files.items():
        if name != "weights.safetensors":
            assert str(run.parent).encode() not in content, name
    assert json.loads(files["config.json"])["data"]["path"] is None
    assert files["weights.safetensors"] == (run / "weights.safetensors").read_bytes()


def test_what_is_fetched_is_json_and_safetensors_alone(hub, run, pushed):
    files = {**hub.repositories["me/moons"][-1][1], "weights.bin": b"x", "code.py": b"x"}
    hub.put("me/moons", files)
    hub.asked.clear()
    fetched = fetch("hf://me/moons")
    assert not {"weights.bin", "code.py"} & {file.name for file in fetched.folder.iterdir()}
    assert not [path for _, path in hub.asked if path.endswith((".bin", ".py"))]


def test_a_revision_is_pinned(hub, run, pushed):
    second = ud.push(run, "me/moons", message="again")
    assert second.name != pushed.name
    assert Run(pushed.name).given == pushed.name
    assert Run("hf://me/moons").given == second.name


def test_a_second_push_keeps_what_a_person_wrote_into_the_card_and_drops_stale_files(
    hub, run, pushed
):
    _, files = hub.repositories["me/moons"][-1]
    written = files["README.md"].decode().replace("license: mit", "license: cc0-1.0")
    files = {**files, "README.md": f"{written}\nMy own words.".encode(), "sampler.json": b"{}"}
    hub.put("me/moons", {**files, "notes.txt": b"mine"})
    ud.push(run, "me/moons")
    last = hub.repositories["me/moons"][-1][1]
    text = last["README.md"].decode()
    assert "My own words." in text
    assert "license: cc0-1.0" in text
    assert ("sampler.json" in last) == (run / "sampler.json").exists()
    assert last["notes.txt"] == b"mine"


def test_the_card_has_the_figures_of_the_report(hub, run, pushed):
    text = hub.repositories["me/moons"][-1][1]["README.md"].decode()
    assert "The model is barely trained. Train it for longer." in text
    assert "| frechet | 12.35 | 11.5 to 13.25 | 1.25 | lower | 32 |" in text
    assert "| recall | 0.73 | 0.69 to 0.77 | 0.92 | higher | 32 |" in text
    assert "| copies | 0.01 | 0 to 0.02 |  | lower | 32 |" in text
    assert "kernel" not in text
    assert "Likelihood: it has no density." in text
    assert "only 20 held-out rows" in text
    assert "license: mit" in text
    assert 'ud.open("hf://me/moons")' in text
    assert "secret-place.npy, 200 rows" in text


def test_a_card_without_a_report_or_of_other_weights_says_so(run):
    own, model = Run(run), ud.open(run)
    bare = cards.model_card("me/x", own, model, None)
    assert "Not measured" in bare
    assert "license: unknown  # fill in" in bare
    stale = cards.model_card("me/x", own, model, {**REPORT, "speed": {"steps": 1}})
    assert "The report is of step 1, and the weights are of step 2." in stale


def test_the_commands_push_and_sample_by_name(hub, run, tmp_path, capsys):
    assert main(["push", str(run), "me/digits"]) == 0
    said = capsys.readouterr().err
    commit = hub.repositories["me/digits"][-1][0]
    assert f"hf://me/digits@{commit}" in said
    assert "names no license" in said
    for name in ("me/digits", "hf://me/digits"):
        out = tmp_path / "new.npy"
        words = ["sample", name, "-n", "3", "--out", str(out), "--overwrite", "--device", "cpu"]
        assert main(words) == 0
        assert f"hf://me/digits@{commit}" in "".join(capsys.readouterr())
        assert np.array_equal(np.load(out), ud.open(run).sample(3))
    assert main(["info", "hf://me/digits"]) == 0
    assert "2 steps" in capsys.readouterr().out


def test_training_starts_from_a_run_of_the_hub(hub, run, pushed, tmp_path):
    rows = np.random.default_rng(1).normal(size=(60, 2)).astype(np.float32)
    np.save(tmp_path / "x.npy", rows)
    words = ["train", str(tmp_path / "x.npy"), "--from", "me/moons", "--out", str(tmp_path / "run")]
    assert main([*words, "--steps", "1", "--device", "cpu", "--training.samples", "0"]) == 0
    assert Run(tmp_path / "run").config["origin"]["from"] == pushed.name


OFFLINE = """
import sys, numpy as np, undiffuse as ud
np.save(sys.argv[1], ud.open("hf://me/moons").sample(3))
ud.open("hf://me/other")
"""


def test_offline_the_cache_is_taken(hub, run, pushed, tmp_path):
    """In a process of its own: huggingface_hub reads HF_HUB_OFFLINE when it is imported."""
    here, asked = ud.open("hf://me/moons").sample(3), len(hub.asked)
    shared = {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "cache")}
    env = {**os.environ, **shared, "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-c", OFFLINE, str(tmp_path / "x.npy")]
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert np.array_equal(np.load(tmp_path / "x.npy"), here)
    assert "HF_HUB_OFFLINE is set, and neither a folder here nor the cache" in done.stderr
    assert len(hub.asked) == asked


def refused(name, said):
    with pytest.raises(InputError, match=said) as problem:
        ud.open(name)
    assert "\n" not in str(problem.value)


def test_what_cannot_be_opened_is_said_in_a_sentence(hub, run, pushed, monkeypatch, capsys):
    refused("hf://me/none", "no such model on the hub")
    refused("me/none", "no such folder here and no such model on the hub")
    refused("hf://me", "write hf://OWNER/NAME")
    refused("hf://me/moons@nothing", "not this revision")
    hub.put("me/bert", {"config.json": b'{"model_type": "bert"}'})
    refused("hf://me/bert", "its config.json is of another program")
    hub.put("me/text", {"README.md": b"words"})
    refused("hf://me/text", "not a run")
    hub.put("me/bin", {"config.json": (run / "config.json").read_bytes(), "weights.bin": b"x"})
    refused("hf://me/bin", "incomplete")
    hub.private.add("me/moons")
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", "elsewhere")
    refused("hf://me/moons", "is private, or not on the hub; log in")
    assert main(["sample", "hf://me/none", "-n", "1", "--out", "x.npy"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_hub_that_does_not_answer_is_said(hub, run, monkeypatch):
    hub.broken = 418
    with pytest.raises(InputError, match="the hub answered 418"):
        ud.push(run, "me/moons")
    hub.broken = 403
    with pytest.raises(InputError, match="the hub does not allow it; log in"):
        ud.push(run, "me/moons")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")  # where nobody answers
    monkeypatch.setattr(time, "sleep", lambda _: None)  # between its attempts
    with pytest.raises(InputError, match="the hub cannot be used"):
        ud.push(run, "me/moons")
    refused("hf://me/moons", "the hub cannot be reached, and neither a folder here nor the cache")


def test_what_cannot_be_pushed_is_said_and_nothing_is_made(hub, run, tmp_path):
    for name in ("digits", "me/digits/more", "me/ digits"):
        with pytest.raises(InputError, match="write OWNER/NAME"):
            ud.push(run, name)
    with pytest.raises(InputError, match="no such folder"):
        ud.push(tmp_path / "none", "me/none")
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "config.json").write_bytes((run / "config.json").read_bytes())
    with pytest.raises(InputError, match="incomplete"):
        ud.push(tmp_path / "damaged", "me/none")
    assert not hub.repositories
    with pytest.raises(InputError, match="undiffuse push"):
        ud.edm(width=8).fit(np.zeros((40, 2)), steps=1, out="hf://me/x")


@pytest.mark.parametrize(
    "report",
    [
        {"kind": "report"},
        {**REPORT, "speed": [1]},
        {**REPORT, "speed": {"steps": "many"}},
        {**REPORT, "quality": {"frechet": figure("good", 1, 2)}},
        {**REPORT, "quality": 3},
        {**REPORT, "warnings": 3},
        {**REPORT, "features": []},
    ],
    ids=str,
)
def test_a_damaged_report_is_said_and_nothing_is_made(hub, run, tmp_path, report):
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "report.json").write_text(json.dumps(report))
    with pytest.raises(InputError, match=r"report\.json is damaged"):
        ud.push(copy, "me/damaged")
    assert not hub.repositories


def test_a_run_of_the_hub_is_only_read(hub, run, pushed, capsys):
    for words in (["evaluate", "me/moons"], ["tune", "me/moons"]):
        assert main(words) == 2
        assert "is a run of the hub, which is only read" in capsys.readouterr().err
    with pytest.raises(InputError, match="is on the hub already"):
        ud.push("hf://me/moons", "me/copy")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("me/name", ("me/name", None)),
        ("hf://me/name@v1.2", ("me/name", "v1.2")),
        ("here/name", None),
        ("./me/name", None),
        ("me", None),
        ("me/name/more", None),
        ("/me/name", None),
    ],
)
def test_words_name_a_model_where_no_folder_could_be_meant(tmp_path, monkeypatch, words, named):
    """A mistyped run in a folder that is there never asks the hub."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    assert remote_name(words) == named
