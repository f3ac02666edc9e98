"""The example package is installed into an environment of its own, and its parts are taken."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

USED = """
import contextlib, io, json, sys
from undiffuse.cli.main import main
help = io.StringIO()
with contextlib.redirect_stdout(help):
    main(["sample", "--help"])
    main(["train", "--help"])
assert "torch" not in sys.modules
codes = [
    main("train t.csv --out r --steps 3 --model.width 8 --log csv --quiet".split()),
    main("sample r -n 4 --method adams_bashforth --steps 4 --out s.csv --quiet".split()),
    main("sample r -n 4 --method adams_bashfort --out s2.csv --quiet".split()),
]
import undiffuse as ud
from undiffuse.diffusion import METHODS
ud.check(type(METHODS["adams_bashforth"]))
from undiffuse_example.loggers import CSV
ud.check(CSV)
model = ud.Diffusion(
    schedule=ud.EDM(), target=ud.target.v, step=METHODS["adams_bashforth"], steps=4,
    objective=ud.edm().objective, grid=ud.grid.Karras(), network={"width": 8},
)
model.fit("t.csv", steps=2, out="own")
print(json.dumps({"codes": codes, "help": " ".join(help.getvalue().split())}))
"""


def done(*words, **options):
    ran = subprocess.run(list(map(str, words)), capture_output=True, text=True, **options)
    assert ran.returncode == 0, ran.stderr
    return ran


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    """(folder, what was printed, what was said) of a session with the package installed."""
    folder = tmp_path_factory.mktemp("plugin")
    fresh = folder / "fresh"
    done(sys.executable, "-m", "venv", "--without-pip", fresh)
    place = fresh / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    (place / "shared.pth").write_text(f"{ROOT}\n{sysconfig.get_path('purelib')}\n")
    pip = (sys.executable, "-m", "pip", "--python", fresh / "bin/python", "install", "-q")
    how = ("--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check")
    done(*pip, *how, ROOT / "examples" / "plugin")
    (folder / "t.csv").write_text("a,b\n" + "".join(f"{i},{i % 7}\n" for i in range(60)))
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    ran = done(fresh / "bin/python", "-c", USED, cwd=folder, env={**own, "HOME": str(folder)})
    return folder, json.loads(ran.stdout.splitlines()[-1]), ran.stderr


def test_its_parts_are_in_the_help_and_are_taken(used):
    folder, printed, said = used
    assert printed["codes"] == [0, 0, 2]
    assert "adams_bashforth" in printed["help"]
    assert "mlflow, csv, trackio" in printed["help"]
    assert "Did you mean adams_bashforth?" in said
    assert len((folder / "s.csv").read_text().splitlines()) == 5
    with (folder / "r" / "numbers.csv").open() as file:
        lines = list(csv.DictReader(file))
    logged = [json.loads(line) for line in (folder / "r" / "log.jsonl").read_text().splitlines()]
    held_out = [e["loss"] for e in logged if e["event"] == "held_out"]
    assert [float(x["value"]) for x in lines if x["name"] == "held_out/loss"] == held_out


def test_a_run_records_the_package_and_is_refused_without_it(used, cli):
    folder, *_ = used
    own = json.loads((folder / "own" / "config.json").read_text())
    package = {"package": "undiffuse-example", "version": "0.1.0"}
    assert own["plugins"] == [{"group": "steps", "name": "adams_bashforth", **package}]
    assert "plugins" not in json.loads((folder / "r" / "config.json").read_text())
    assert cli("sample", folder / "own", "-n", 2, "--out", folder / "x.csv").refused(
        "its step adams_bashforth is from the package undiffuse-example 0.1.0, which is not there; "
        "pip install undiffuse-example==0.1.0."
    )
