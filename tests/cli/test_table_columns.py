"""What a table's owner says of its columns on the command line: which are used, what they hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

QUICK = ("--steps", 2, "--model.width", 8, "--model.depth", 1, "--precision", "float32",
         "--training.samples", 0, "--device", "cpu", "--quiet")  # fmt: skip
TYPES = "price=money,zip=category"


@pytest.fixture
def table(tmp_path: Path) -> Path:
    lines = [f'{1000 + i % 4},"${i % 7},{i % 9}00.50",{i % 5 / 4},{i % 3}' for i in range(60)]
    (tmp_path / "t.csv").write_text("\n".join(["zip,price,x,y", *lines]) + "\n")
    return tmp_path / "t.csv"


def columns(cli, *words: object) -> dict[str, str]:
    found = json.loads(cli(*words, "--json").done().out)["columns"]
    return {column["name"]: column["type"] for column in found}


def test_columns_are_dropped_kept_and_read_as_they_are_said(cli, table: Path) -> None:
    assert list(columns(cli, "info", table, "--data.drop", "x,y")) == ["zip", "price"]
    assert list(columns(cli, "info", table, "--data.keep", "zip,x")) == ["zip", "x"]
    assert columns(cli, "info", table)["zip"] == "int64"
    typed = columns(cli, "info", table, "--data.types", TYPES)
    assert typed["price"] == "double"
    assert typed["zip"].startswith("category")


def test_a_run_remembers_what_was_said(cli, table: Path, tmp_path: Path) -> None:
    run, out, scores = tmp_path / "run", tmp_path / "s.csv", tmp_path / "scores.csv"
    cli("train", table, "--out", run, "--data.drop", "y", "--data.types", TYPES, *QUICK).done()
    cli("sample", run, "-n", 3, "--out", out, "--quiet").done()
    lines = out.read_text().splitlines()
    assert lines[0].replace('"', "") == "zip,price,x"
    assert len(lines) == 4
    cli("score", run, table, "--out", scores, "--quiet").done()
    assert "nan" not in scores.read_text()
    kept = tmp_path / "kept"
    cli("train", table, "--out", kept, "--data.keep", "x,y", *QUICK).done()
    assert json.loads((kept / "config.json").read_text())["data"]["reading"] == {"keep": ["x", "y"]}
