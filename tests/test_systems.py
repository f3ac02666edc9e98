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


def test_every_registered_step_stands_in_the_table_of_solvers():
    from undiffuse.diffusion import STEPS

    table = (ROOT / "docs" / "systems" / "solvers.md").read_text(encoding="utf-8")
    for step in STEPS.values():
        rows = [row for row in table.splitlines() if row.startswith(f"| `{step.__name__}`")]
        assert any(step.source in row for row in rows), step.__name__
        one = step()
        said = f"weak {one.weak_order}" if one.weak_order else one.order
        words = {str(said), "as named", "p + 1"} if said else {"-"}
        assert any(row.split("|")[3].split(";")[0].strip() in words for row in rows), said


def test_every_picture_is_drawn_by_the_code_and_none_is_left_over(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "docs"), *sys.path])
    pictures = run_path(str(ROOT / "docs" / "draw.py"))["PICTURES"]
    assert set(pictures) == {file.stem for file in (ROOT / "docs" / "systems").glob("*.png")}
