"""Cards and details of runs, read from what their folders hold; events, deleting, models."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import undiffuse as ud
from undiffuse.lock import Lock
from undiffuse.run import Run
from undiffuse.web.allowed import LEFT_OUT, allowed, described, training_options


def card(client: Any, name: str) -> dict[str, Any]:
    (found,) = [one for one in client.get("/api/v1/runs").json()["runs"] if one["name"] == name]
    detail = client.get(f"/api/v1/runs/{name}").json()
    assert {key: detail[key] for key in found} == found
    return detail


def test_a_card_says_what_the_run_says(shared, trained: Path) -> None:
    run = Run(trained / "runs/images")
    summary, found = run.summary(), card(shared, "images")
    assert (found["state"], found["kind"], found["preset"]) == ("finished", "images", "edm")
    assert (found["step"], found["steps"]) == (summary["steps"], 2)
    assert found["held_out"] == summary["held_out"]["loss"]
    assert found["parameters"] == summary["parameters"]
    assert (found["size"], found["labels"], found["form"]) == ([1, 8, 8], ["a", "b"], "png")
    training, held_out = run.curves()
    assert found["curves"]["train"] == [[one["step"], one["loss"]] for one in training]
    assert found["curves"]["held_out"] == [[one["step"], one["loss"]] for one in held_out]
    assert len(found["curves"]["levels"]["x"]) == 16
    picture = shared.get(found["preview"])
    assert picture.headers["content-type"] == "image/png"
    newest = f"step-{found['samples'][-1]:06d}.png"
    assert picture.content == (trained / "runs/images/samples" / newest).read_bytes()
    assert found["snapshots"] == run.snapshots
    assert found["methods"] == list(run.model().methods)
    assert str(trained) not in json.dumps(found)
    table = card(shared, "table")
    assert (table["conditions"], table["form"], table["size"]) == (["age"], "csv", None)


@pytest.mark.parametrize(("preset", "likelihood", "gaps", "diffusion"),
                         [("gan", False, False, False), ("vae", True, False, False),
                          ("dae", False, True, True), ("edm", True, True, True)])  # fmt: skip
def test_a_card_says_what_a_model_can_do(
    own, folder: Path, trained: Path, preset: str, likelihood: bool, gaps: bool, diffusion: bool
) -> None:
    data = ud.load(trained / "data/rows.npy")
    model = getattr(ud, preset)(width=8)
    model.fit(data, steps=1, out=folder / "made", samples=0, device="cpu", precision="float32")
    assert (bool(not model.no_density), model.completes) == (likelihood, gaps)
    found = card(own, "made")
    assert (found["likelihood"], found["gaps"], found["diffusion"]) == (likelihood, gaps, diffusion)


def test_a_state_is_what_the_folder_says(own, folder: Path) -> None:
    assert card(own, "rows")["state"] == "finished"
    lock = Lock(folder / "rows", "rows")
    assert card(own, "rows")["state"] == "training"
    assert own.delete("/api/v1/runs/rows").status_code == 409
    lock.release()
    state = folder / "rows" / "state"
    name = (state / "latest").read_text().strip()
    tree = json.loads((state / name / "state.json").read_text())
    (state / name / "state.json").write_text(json.dumps({**tree, "finished": False}))
    os.utime(folder / "rows" / "log.jsonl")
    assert card(own, "rows")["state"] == "stopped"


def damaged_config(run: Path) -> None:
    (run / "config.json").write_text("{")


def damaged_model(run: Path) -> None:
    tree = json.loads((run / "config.json").read_text())
    tree["data"]["transform"] = {"kind": "nonsense"}
    (run / "config.json").write_text(json.dumps(tree))


def damaged_state(run: Path) -> None:
    (run / "state" / "latest").write_text("../../elsewhere\n")


def another_format(run: Path) -> None:
    tree = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**tree, "format": 1}))


def linked_config(run: Path) -> None:
    (run / "config.json").rename(run.parent / "elsewhere.json")
    (run / "config.json").symlink_to(run.parent / "elsewhere.json")


def linked_samples(run: Path) -> None:
    shutil.rmtree(run / "samples")
    (run / "samples").symlink_to(run.parent)


DAMAGE = [damaged_config, damaged_model, damaged_state, another_format, linked_config,
          linked_samples]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_run_says_why_and_hides_no_other(own, folder: Path, damage: Any) -> None:
    assert card(own, "rows")["state"] == "finished"
    damage(folder / "rows")
    found = card(own, "rows")
    assert found["state"] == "damaged"
    assert found["problem"].endswith((".", ")"))
    assert str(folder) not in found["problem"]
    assert card(own, "other")["state"] == "finished"
    refused = own.post("/api/v1/runs/rows/sample", json={"n": 1})
    assert refused.status_code == 422 or damage is damaged_state  # which drawing does not need
    assert own.delete("/api/v1/runs/rows").status_code == 204
    assert not (folder / "rows").exists()


def test_deleting_removes_the_run_and_what_is_kept_of_it(own, folder: Path) -> None:
    data = folder / ".undiffuse" / "data" / "rows"
    data.mkdir(parents=True)
    assert own.delete("/api/v1/runs/rows").status_code == 204
    assert not data.exists()
    assert not (folder / "rows").exists()
    assert own.get("/api/v1/runs/rows").status_code == 404
    assert own.delete("/api/v1/runs/rows").status_code == 404
    assert (folder / "other" / "config.json").exists()


def test_a_model_is_opened_anew_when_its_weights_change(own, folder: Path, trained: Path) -> None:
    asked = {"n": 2, "form": "npy"}
    first = own.post("/api/v1/runs/rows/sample", json=asked).content
    opened = own.app.state.service.opened
    assert opened.open("rows")[1] is opened.open("rows")[1]
    before = opened.open("rows")[1]
    data = ud.load(trained / "data/rows.npy")
    model = ud.edm(width=8, depth=1)
    model.fit(data, steps=3, seed=9, out=folder / "rows", overwrite=True, device="cpu")
    second = own.post("/api/v1/runs/rows/sample", json=asked).content
    assert opened.open("rows")[1] is not before
    assert first != second
    wanted = ud.open(folder / "rows").sample(2)
    np.testing.assert_array_equal(np.load(__import__("io").BytesIO(second)), wanted)


def told(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.split("\n\n"):
        parts = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if "data" in parts:
            found.append((parts.get("id", parts.get("event", "")), json.loads(parts["data"])))
    return found


def test_events_are_the_lines_of_the_log(shared, trained: Path) -> None:
    lines = (trained / "runs/rows/log.jsonl").read_text().splitlines()
    found = told(shared.get("/api/v1/runs/rows/events").text)
    assert found[-1] == ("end", {})
    assert [name for name, _ in found[:-1]] == [str(i + 1) for i in range(len(lines))]
    for line, (_, event) in zip(lines, found, strict=False):
        tree = {key: value for key, value in json.loads(line).items() if key not in ("path", "out")}
        assert event == tree
    again = told(shared.get("/api/v1/runs/rows/events", headers={"last-event-id": "3"}).text)
    assert again == found[3:]
    nothing = shared.get("/api/v1/runs/rows/events", headers={"last-event-id": "999"})
    assert told(nothing.text) == [("end", {})]


def test_what_is_no_event_in_a_log_is_left_out(own, folder: Path) -> None:
    log = folder / "rows" / "log.jsonl"
    lines = log.read_text()
    odd = ["[1]", '{"event": 3}', '{"step": NaN, "event": "step"}', "[" * 5000, "\x00", '"x"']
    log.write_text(lines + "\n".join(odd) + "\n" + '{"event": "step", "torn')
    found = told(own.get("/api/v1/runs/rows/events").text)
    assert len(found) == lines.count("\n") + 1


# --- what may be asked of a training


def test_the_options_of_a_training_are_those_of_the_command_but_for_a_few() -> None:
    """Whatever is added to a dataclass of options is allowed, or named here as left out."""
    assert {
        "out", "config", "resume", "init", "log", "overwrite", "plugin", "quiet", "json", "device",
        "data.labels",
    } == LEFT_OUT  # fmt: skip
    names = {one["name"] for one in described()}
    assert names == set(training_options())
    assert {"preset", "training.lr", "model.width", "data.drop", "condition"} <= names
    assert not names & LEFT_OUT


def test_every_whole_number_has_a_limit() -> None:
    unlimited = {
        one["name"] for one in described() if one["type"] == "whole" and one["most"] is None
    }
    assert unlimited == {"seed"}


@pytest.mark.parametrize("one", [one for one in described() if one["most"]],
                         ids=lambda one: one["name"])  # fmt: skip
def test_a_number_above_its_limit_is_refused_by_name(one: dict[str, Any]) -> None:
    too_much = int(one["most"]) + 1
    for value in (too_much, [too_much], [1, too_much]):
        with pytest.raises(ud.InputError, match=one["name"]):
            allowed({one["name"]: value})


def test_the_page_is_told_all_that_can_be_chosen(shared) -> None:
    tree = shared.get("/api/v1/options").json()
    assert [one["name"] for one in tree["presets"]] == list(ud.presets.names)
    assert {"deis", "heun", "published"} <= set(tree["methods"])
    (lr,) = [one for one in tree["train"] if one["name"] == "training.lr"]
    assert (lr["type"], lr["default"], lr["advanced"]) == ("number", 1e-3, True)
    (preset,) = [one for one in tree["train"] if one["name"] == "preset"]
    assert (preset["type"], preset["advanced"]) == ("choice", False)
    assert "edm" in preset["choices"]
    sources = shared.get("/api/v1/sources").json()
    assert "digits" in sources["builtin"]
    (root,) = sources["folders"]
    assert root["root"] == "data"
    assert {"rows.npy", "table.csv", "pictures", "pictures/a"} <= set(root["entries"])
    assert not any(".hidden" in entry for entry in root["entries"])
    assert not any(entry.endswith(".png") for entry in root["entries"])  # their folder is
