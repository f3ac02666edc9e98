"""What is built for others: everything is in it, and it works in an environment of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import undiffuse

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FILES = {
    str(file.relative_to(ROOT))
    for file in (ROOT / "undiffuse").rglob("*")
    if file.is_file() and "__pycache__" not in file.parts
}


def done(*words, **options):
    ran = subprocess.run(list(map(str, words)), capture_output=True, text=True, **options)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The wheel and the source archive."""
    folder = tmp_path_factory.mktemp("dist")
    done(sys.executable, "-m", "hatchling", "build", "-d", folder, cwd=ROOT)
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, source


def test_both_hold_every_file_of_the_package(built):
    wheel, source = built
    assert set(zipfile.ZipFile(wheel).namelist()) >= FILES
    with tarfile.open(source) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= FILES
    assert {"README.md", "LICENSE", "Makefile", "constraints.txt", "pyproject.toml"} <= names
    assert {"docs/architecture.md", "tests/test_dist.py", "benchmarks/density.py"} <= names
    assert not [name for name in names if name.startswith((".venv", "runs", "dist"))]


def test_the_version_stands_in_one_place(built):
    cited = re.search(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)[1]
    assert f"undiffuse-{undiffuse.__version__}-py3-none-any.whl" == built[0].name
    assert cited == undiffuse.__version__
    assert f"[Unreleased]: {undiffuse.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_all_is_every_other_extra():
    extras = PROJECT["optional-dependencies"]
    (whole,) = extras["all"]
    assert set(whole.partition("[")[2].rstrip("]").split(",")) == set(extras) - {"all"}


def test_it_works_where_nothing_else_is(built, tmp_path):
    """Installed into a fresh environment that sees the requirements alone, from an empty folder."""
    fresh, empty = tmp_path / "fresh", tmp_path / "empty"
    empty.mkdir()
    done(sys.executable, "-m", "venv", "--without-pip", fresh)
    place = fresh / "lib" / f"python3.{sys.version_info.minor}" / "site-packages"
    (place / "shared.pth").write_text(sysconfig.get_path("purelib"))
    install = ("install", "-q", "--no-deps", "--no-index", "--disable-pip-version-check")
    done(sys.executable, "-m", "pip", "--python", fresh / "bin/python", *install, built[0])
    own = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    there = {"cwd": empty, "env": {**own, "HOME": str(tmp_path)}}
    where = done(fresh / "bin/python", "-c", "import undiffuse; print(undiffuse.__file__)", **there)
    assert Path(where.strip()).is_relative_to(fresh)
    assert done(fresh / "bin/undiffuse", "--version", **there).strip() == undiffuse.__version__
    (empty / "t.csv").write_text("a,b\n" + "".join(f"{i},{i % 7}\n" for i in range(60)))
    train = ("train", "t.csv", "--out", "r", "--steps", "3", "--model.width", "8", "--quiet")
    done(fresh / "bin/undiffuse", *train, **there)
    assert (empty / "r" / "weights.safetensors").exists()


def test_the_dockerfile_is_sound():
    """By hadolint, which refuses `FROM python` without a version, for one."""
    done(Path(sysconfig.get_path("scripts")) / "hadolint", ROOT / "Dockerfile")


def test_bash_completes_commands_and_options(tmp_path):
    """In a real bash, by the script that is installed."""
    own = {**os.environ, "HOME": str(tmp_path)}
    said = done(sys.executable, "-m", "undiffuse", "--install-completion", "bash", env=own)
    file = Path(said.split()[1].rstrip(";"))
    assert file.is_relative_to(tmp_path)

    def completed(line):
        words = line.split(" ")
        script = (
            f'source "{file}"; COMP_LINE="{line}"; COMP_POINT={len(line)}; '
            f"COMP_WORDS=({' '.join(word or chr(39) * 2 for word in words)}); "
            f"COMP_CWORD={len(words) - 1}; "
            '$(complete -p undiffuse | sed "s/.*-F \\([^ ]*\\).*/\\1/"); '
            'printf "%s\\n" "${COMPREPLY[@]}"'
        )
        return set(done("bash", "-c", script, env=own).split())

    assert {"sample", "score", "selfcheck", "serve"} == completed("undiffuse s")
    assert "--budget" in completed("undiffuse train --bu")
