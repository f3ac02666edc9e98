"""Every page about a system runs as it is printed, prints what it says, and shows a picture
that the code draws.
"""

import re
import sys
import time
from pathlib import Path
from runpy import run_path

import pytest
import torch

from undiffuse.diffusion import STEPS

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs" / "systems").glob("*.md"))
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
SAID = re.compile(r"^ *print\(.*\)  # (.+)$", re.MULTILINE)
BLOCKS = [
    (page.stem, code) for page in PAGES for code in BLOCK.findall(page.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(("name", "code"), BLOCKS, ids=[name for name, _ in BLOCKS])
def test_the_example_prints_what_its_comments_say(name, code, capsys):
    """Each `print(...)  # this` prints `this`, as often as a loop comes by; and
    nobody waits for it.
    """
    torch.manual_seed(0)
    begun = time.process_time()
    exec(code, {})
    assert time.process_time() - begun < 10  # two seconds on an idle core
    printed, said = capsys.readouterr().out.splitlines(), SAID.findall(code)
    assert said
    assert list(dict.fromkeys(printed)) == list(dict.fromkeys(said))


def test_every_page_but_the_index_has_an_example_and_a_picture():
    for page in PAGES:
        if page.stem != "README":
            text = page.read_text(encoding="utf-8")
            assert page.stem in dict(BLOCKS), page.name
            picture = re.search(r"!\[[^\]]+\]\(([\w.]+)\)", text)
            assert picture is not None, page.name
            file = page.parent / picture.group(1)
            assert file.exists(), file.name
            assert file.stat().st_size < 150_000


def test_the_index_lists_every_page():
    index = (ROOT / "docs" / "systems" / "README.md").read_text(encoding="utf-8")
    for page in PAGES:
        assert page.stem == "README" or f"]({page.name})" in index, page.name


def test_the_table_of_solvers_is_what_the_registry_says():
    written = run_path(str(ROOT / "scripts" / "docs.py"))
    page = (ROOT / "docs" / "systems" / "solvers.md").read_text(encoding="utf-8")
    table = written["solver_table"]()
    assert written["TABLE"].findall(page) == [table], "run `make docs`"
    for kind, made in STEPS.items():
        row = next(row for row in table.splitlines() if row.startswith(f"| `{made.__name__}` |"))
        assert made.source in row
        assert f"`{kind}`" in row or not made.from_noise
    assert "alpha_s x_hat + sigma_s z_hat | 1; weak 1 with `eta=0.5` | 10 | Song" in table
    assert "| 2; - with `churn=0.1` | 19 | Karras" in table  # one evaluation less: the last step


def test_every_picture_is_drawn_by_the_code_and_none_is_left_over(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs"), *sys.path])
    pictures = run_path(str(ROOT / "docs" / "draw.py"))["PICTURES"]
    assert set(pictures) == {file.stem for file in (ROOT / "docs" / "systems").glob("*.png")}
