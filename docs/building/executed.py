"""Runs the ```sh blocks of the how-to pages and puts what they print below each.

The blocks of a page run one after the other in a folder of their own, which holds the programs of
examples/. A block that fails fails the build. What was printed is kept by a hash of the blocks and
of the package, and so are the outputs of the gallery, which Sphinx-Gallery keeps by a hash of each
script alone. With `-D plot_gallery=0` nothing runs, neither here nor there.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent.parent
CACHE = ROOT / "docs" / "_build" / "executed"
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
RUN = "docs/howto/"
BLOCK = re.compile(r"^```sh\n(.*?)^```\n", re.MULTILINE | re.DOTALL)
MOST = 40  # lines that are shown of what a block prints


def package_hash() -> str:
    """A hash of all that the outputs depend on besides the pages."""
    total = hashlib.sha256()
    for file in [*sorted((ROOT / "undiffuse").rglob("*.py")), *EXAMPLES]:
        total.update(file.read_bytes())
    return total.hexdigest()


def printed(command: str, folder: Path) -> str:
    """What a block prints, both streams together. Raises RuntimeError if it fails."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"PATH": path, "COLUMNS": "96", "NO_COLOR": "1", "TERM": "dumb"}
    own |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", command],
        cwd=folder,
        env={**os.environ, **own},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stdout}")
    return "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())


def outputs_of(blocks: list[str], key: str) -> list[str]:
    """What each block of a page prints, run now unless it is known."""
    name = hashlib.sha256("\n".join([key, *blocks]).encode()).hexdigest()
    kept = CACHE / f"{name}.json"
    if kept.exists():
        return json.loads(kept.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        (examples := Path(folder, "examples")).mkdir()
        for file in EXAMPLES:
            shutil.copy(file, examples)
        outputs = [printed(block, Path(folder)).replace(folder, ".") for block in blocks]
    CACHE.mkdir(parents=True, exist_ok=True)
    kept.write_text(json.dumps(outputs), encoding="utf-8")
    return outputs


def shown(text: str) -> str:
    """Output as a block of text, cut in its middle where it is long."""
    lines = text.splitlines()
    if len(lines) > MOST:
        lines = [*lines[: MOST // 2], "...", *lines[-MOST // 2 :]]
    body = "\n".join(lines)
    return f"\n```text\n{body}\n```\n" if body else ""


def run_page(app: Any, name: str, content: list[str]) -> None:
    """Put outputs into the source of a how-to page."""
    if not name.startswith(RUN) or str(app.config.plot_gallery) in ("0", "False"):
        return
    outputs = iter(outputs_of(BLOCK.findall(content[0]), app.config.package_hash))
    content[0] = BLOCK.sub(lambda block: block[0] + shown(next(outputs)), content[0])


def forget_old_outputs(app: Any, config: Any) -> None:
    """Let the gallery run again where the package has changed since."""
    config.package_hash = package_hash()
    kept = CACHE.parent / "package.sha256"
    if not kept.exists() or kept.read_text() != config.package_hash:
        for mark in (ROOT / "docs" / "gallery").glob("*.md5"):
            mark.unlink()
    kept.parent.mkdir(parents=True, exist_ok=True)
    kept.write_text(config.package_hash)


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.add_config_value("package_hash", "", "")
    app.connect("config-inited", forget_old_outputs, priority=1)
    app.connect("source-read", run_page)
    return {"parallel_read_safe": False}
