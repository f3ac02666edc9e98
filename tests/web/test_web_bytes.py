"""What the service answers is what the command line writes, byte by byte."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from serving import table

import undiffuse as ud
from undiffuse.cli.main import main
from undiffuse.run import Run
from undiffuse.web import faces


def typed(*words: object) -> None:
    assert main([*map(str, words), "--quiet", "--device", "cpu"]) == 0


def upload(client: Any, *files: tuple[str, bytes]) -> str:
    sent = client.post("/api/v1/uploads", files=[("files", file) for file in files])
    assert sent.status_code == 201, sent.text
    return sent.json()["id"]


DRAWN = [
    ("rows", "npy", {"n": 3}, []),
    ("rows", "npz", {"n": 3, "seed": 5}, ["--seed", 5]),
    ("rows", "npy", {"n": 2, "method": "dpmpp", "steps": 3}, ["--method", "dpmpp", "--steps", 3]),
    ("rows", "npy", {"n": 5, "batch": 2}, ["--batch", 2]),
    ("images", "png", {"n": 4}, []),
    ("images", "npz", {"n": 4, "label": "b"}, ["--label", "b"]),
    ("images", "npy", {"n": 2, "label": "a", "guidance": 2.0}, ["--label", "a", "--guidance", 2]),
    ("table", "csv", {"n": 5, "where": {"age": 30}}, ["--where", "age=30"]),
    ("table", "parquet", {"n": 5}, []),
]


@pytest.mark.parametrize(("run", "form", "asked", "words"), DRAWN)
def test_samples_are_those_of_the_command(
    shared, trained: Path, tmp_path: Path, run: str, form: str, asked: dict[str, Any], words: list
) -> None:
    answer = shared.post(f"/api/v1/runs/{run}/sample", json={**asked, "form": form})
    assert answer.status_code == 200, answer.text
    out = tmp_path / f"samples.{form}"
    typed("sample", trained / "runs" / run, "-n", asked["n"], "--out", out, *words)
    assert answer.content == out.read_bytes()
    assert f'filename="samples.{form}"' in answer.headers["content-disposition"]


def test_a_folder_is_a_zip_of_the_same_files_and_the_same_zip_each_time(
    shared, trained: Path, tmp_path: Path
) -> None:
    answers = [
        shared.post("/api/v1/runs/images/sample", json={"n": 3, "form": "zip"}) for _ in range(2)
    ]
    assert answers[0].content == answers[1].content
    assert answers[0].headers["content-type"] == "application/zip"
    typed("sample", trained / "runs/images", "-n", 3, "--out", tmp_path / "samples")
    with zipfile.ZipFile(io.BytesIO(answers[0].content)) as archive:
        found = {name: archive.read(name) for name in archive.namelist()}
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert found == {str(file.relative_to(tmp_path)): file.read_bytes() for file in files}


def test_without_a_form_it_is_that_of_the_data(shared) -> None:
    suffixes = {"rows": "npy", "table": "csv", "images": "png"}
    for run, suffix in suffixes.items():
        answer = shared.post(f"/api/v1/runs/{run}/sample", json={"n": 2})
        assert f"samples.{suffix}" in answer.headers["content-disposition"]


def test_completions_are_those_of_the_command(shared, trained: Path, tmp_path: Path) -> None:
    gaps = tmp_path / "gaps.npy"
    rows = np.load(trained / "data/rows.npy")[:3]
    rows[:, 1] = np.nan
    np.save(gaps, rows)
    name = upload(shared, ("gaps.npy", gaps.read_bytes()))
    asked = {"upload": name, "n": 2, "seed": 3, "form": "npy"}
    answer = shared.post("/api/v1/runs/rows/complete", json=asked)
    out = tmp_path / "whole.npy"
    run = trained / "runs/rows"
    typed("sample", run, "--given", gaps, "-n", 2, "--seed", 3, "--out", out)
    assert answer.content == out.read_bytes()


def test_scores_are_those_of_the_command(shared, trained: Path, tmp_path: Path) -> None:
    file = trained / "data/rows.npy"
    name = upload(shared, ("rows.npy", file.read_bytes()))
    out, asked = tmp_path / "scores.csv", {"upload": name, "draws": 1, "evaluations": 4}
    asked |= {"method": "elbo", "alarm": 0.2}
    typed("score", trained / "runs/rows", file, "--out", out, "--draws", 1, "--evaluations", 4,
          "--method", "elbo", "--alarm", 0.2)  # fmt: skip
    answers = {
        form: shared.post("/api/v1/runs/rows/score", json={**asked, "form": form})
        for form in ("csv", "npz", "json", "parquet")
    }
    assert answers["csv"].content == out.read_bytes()
    wanted = pd.read_csv(out)
    with np.load(io.BytesIO(answers["npz"].content), allow_pickle=False) as arrays:
        assert set(arrays) == set(wanted)
        np.testing.assert_array_equal(arrays["log_likelihood"], wanted["log_likelihood"])
    tree = answers["json"].json()
    assert tree["columns"]["log_likelihood"] == wanted["log_likelihood"].tolist()
    assert tree["summary"]["rows"] == 80
    assert tree["summary"]["alarms"] == int(wanted["alarm"].sum())
    parquet = pd.read_parquet(io.BytesIO(answers["parquet"].content))
    assert parquet["quantile"].tolist() == wanted["quantile"].tolist()


def test_an_evaluation_writes_the_report_and_it_is_shown_in_a_sandbox(own, folder: Path) -> None:
    assert own.get("/runs/rows/report").status_code == 404
    answer = own.post("/api/v1/runs/rows/evaluate", json={"n": 16, "rows": 4, "steps": 2})
    assert answer.status_code == 200, answer.text
    written = json.loads((folder / "rows/report.json").read_text())
    assert answer.json()["verdict"] == written["verdict"]
    assert answer.json()["samples"] == 16
    shown = own.get("/runs/rows/report")
    assert shown.content == (folder / "rows/report.html").read_bytes()
    assert shown.headers["content-security-policy"] == (
        "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    )
    assert own.get("/api/v1/runs/rows").json()["report"] is True


def test_runs_of_the_same_data_are_compared_and_others_are_not(own) -> None:
    asked = {"runs": ["rows", "other"], "n": 16, "rows": 4}
    answer = own.post("/api/v1/compare", json=asked)
    assert answer.status_code == 200, answer.text
    page = own.get(answer.json()["page"])
    assert "sandbox" in page.headers["content-security-policy"]
    assert all(f">{name}<" in page.text for name in asked["runs"])
    refused = own.post("/api/v1/compare", json={"runs": ["rows", "images"]})
    assert refused.status_code == 422
    assert "trained on different data" in refused.json()["detail"]


def test_watching_changes_no_bit(trained: Path) -> None:
    """The previews of a drawing are the denoiser's estimates, and only looked at."""
    model, seen = ud.open(trained / "runs/images"), []
    for method in (None, "published", "dpmpp", "ddim"):
        plain = model.sample(3, seed=4, method=method, steps=4)
        watched = model.sample(3, seed=4, method=method, steps=4, watch=seen.append)
        np.testing.assert_array_equal(plain, watched)
    assert {tuple(x_hat.shape) for x_hat in seen} == {(3, 1, 8, 8)}
    np.testing.assert_array_equal(model.transform.decode(seen[-1]), plain)  # ddim ends in x_hat


def test_what_is_found_of_data_is_what_info_says(shared, trained: Path) -> None:
    name = upload(shared, ("table.csv", (trained / "data/table.csv").read_bytes()))
    found = {
        "upload": shared.get(f"/api/v1/uploads/{name}").json(),
        "folder": shared.get("/api/v1/sources/info?folder=data/table.csv").json(),
    }
    tree = ud.load(trained / "data/table.csv").describe()
    for one in found.values():
        assert one["kind"] == "tables"
        assert dict(one["facts"])["rows"] == "60"
        columns = {column["name"]: column for column in one["columns"]}
        assert [*columns] == [column["name"] for column in tree["columns"]]
        counts = dict(zip(*columns["colour"]["histogram"].values()))
        assert counts == table()["colour"].value_counts().to_dict()
        ages = columns["age"]["histogram"]
        assert sum(ages["counts"]) == 60
        assert (ages["edges"][0], ages["edges"][-1]) == (table()["age"].min(), table()["age"].max())
        assert str(trained) not in json.dumps(one)
        picture = shared.get(one["preview"])
        assert picture.headers["content-type"] == "image/png"
        assert picture.content[:4] == b"\x89PNG"


@pytest.mark.parametrize("count", [3, 8, 9])
@pytest.mark.parametrize("name", ["few.csv", "few.npy"])
def test_a_few_rows_are_shown_as_they_are(shared, name: str, count: int) -> None:
    if name == "few.csv":
        frame = table(count)[["age", "height"]]
        content, columns = frame.to_csv(index=False).encode(), ["age", "height"]
        cells = [[f"{cell:g}" for cell in row] for row in frame.to_numpy()]
    else:
        rows = np.arange(3 * count).reshape(count, 3) / 4
        stream = io.BytesIO()
        np.save(stream, rows.astype(np.float32))
        content, columns = stream.getvalue(), ["0", "1", "2"]
        cells = [[f"{value:g}" for value in row] for row in rows]
    found = shared.get(f"/api/v1/uploads/{upload(shared, (name, content))}").json()
    few = count <= 8
    assert found["rows"] == ({"columns": columns, "cells": cells} if few else None)
    assert bool(found["columns"]) == (not few and name == "few.csv")


def test_histograms_of_a_few_rows_are_not_drawn(shared, trained: Path) -> None:
    model = Run(trained / "runs/rows").model()
    for count in (1, 8, 9):
        shown = faces.shown_rows(model, np.zeros((count, 3), np.float32))
        assert (shown["picture"] is None) == (count <= 8)
        assert len(shown["items"]) == count
