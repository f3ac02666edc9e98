"""The documentation site: every public name is on it, its pages open alone, its examples ran."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import undiffuse
import undiffuse.sklearn

ROOT = Path(__file__).parent.parent
SITE = ROOT / "docs" / "_build" / "html"
DIRECTIVE = re.compile(r"^\.\. (?:auto\w+|py:data):: undiffuse\.([\w.]+)$", re.MULTILINE)
ON_PAGES = [
    name
    for page in sorted((ROOT / "docs" / "api").glob("*.md"))
    for name in DIRECTIVE.findall(page.read_text(encoding="utf-8"))
]
PUBLIC = sorted(
    {name for name in undiffuse.__all__ if not name.startswith("_")}
    | {f"sklearn.{name}" for name in ("DensityEstimator", "Imputer", "OutlierDetector")}
)
built = pytest.mark.skipif(not (SITE / "index.html").exists(), reason="`make docs` was not run")


@pytest.fixture(scope="module", autouse=True)
def _building():
    sys.path.insert(0, str(ROOT / "docs"))
    yield
    sys.path.remove(str(ROOT / "docs"))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_on_one_page(name):
    value = undiffuse.sklearn if name.startswith("sklearn.") else undiffuse
    value = getattr(value, name.removeprefix("sklearn."))
    module = getattr(value, "__name__", "").removeprefix("undiffuse.")
    assert Counter(ON_PAGES)[name] + (module != name and Counter(ON_PAGES)[module]) == 1


def test_docstrings_keep_their_formulas_and_signs():
    from building.docstrings import converted

    lines = [
        "Return a_ * b, and `c * d`.",
        "",
        "    x = a * b_",
        "    y = |x|",
        "",
        "Args:",
        "    *values: rows (B, *).",
        "",
        ">>> f(*x)",
        "|1|",
    ]
    assert converted(lines) == [
        r"Return a\_ \* b, and `c * d`.",
        "",
        "::",
        "",
        "    x = a * b_",
        "    y = |x|",
        "",
        "Args:",
        r"    values: rows (B, \*).",
        "",
        ">>> f(*x)",
        "|1|",
    ]


def test_links_lead_to_the_pages_that_tasks_made_and_children_stand_below():
    from building.links import site_links

    assert site_links("docs/start", "[a](tasks/README.rst) [b](yardsticks.md)") == (
        "[a](gallery/index.rst) [b](yardsticks.md)"
    )
    page = site_links("docs/howto/index", "[a](gaps.md) [b](../cli.md) [c](../tasks/plot_1.py)")
    assert page == (
        "[a](gaps.md) [b](../cli.md) [c](../gallery/plot_1.rst)"
        "\n```{toctree}\n:hidden:\n\ngaps\n```\n"
    )


def test_blocks_run_in_order_once_and_a_failure_is_one(monkeypatch, tmp_path):
    from building import executed

    monkeypatch.setattr(executed, "CACHE", tmp_path / "kept")
    count = tmp_path / "count"
    blocks = ["echo a > f\n", f"cat f; echo . >> {count}\n"]
    for key, runs in (("1", 1), ("1", 1), ("2", 2)):
        assert executed.outputs_of(blocks, key) == ["", "a"]
        assert len(count.read_text().splitlines()) == runs
    with pytest.raises(RuntimeError, match="ended with 3: no"):
        executed.outputs_of(["echo no; exit 3\n"], "1")
    assert executed.outputs_of(["ls examples\n"], "1") == ["onnx_numpy.py"]
    assert executed.shown("\n".join(map(str, range(99)))).count("\n") == executed.MOST + 4


def test_every_how_to_page_has_a_command_that_runs():
    from building.executed import BLOCK

    pages = [page for page in (ROOT / "docs" / "howto").glob("*.md") if page.stem != "index"]
    index = (ROOT / "docs" / "howto" / "index.md").read_text(encoding="utf-8")
    assert {page.name for page in pages} == set(re.findall(r"\]\((\w+\.md)\)", index))
    for page in pages:
        assert "undiffuse" in "".join(BLOCK.findall(page.read_text(encoding="utf-8"))), page.name


@pytest.mark.parametrize("page", ["scale.md"])
def test_the_scripts_of_a_page_are_sound(page):
    """By shellcheck: undefined and unquoted variables, words that are no words of a shell."""
    program = shutil.which("shellcheck")
    if program is None:
        pytest.skip("no shellcheck on this machine (Debian: apt install shellcheck)")
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    scripts = re.findall(r"^```bash\n(#!.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert scripts
    for script in scripts:
        done = subprocess.run(
            [program, "-"], input=script, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout


LOADED = re.compile(
    r"""<(?:script|img|iframe|source|audio|link(?=[^>]*rel="(?:stylesheet|icon|preload|preconnect)))"""
    r"""[^>]*\b(?:src|href)="(?:https?:)?//|@import\s+["'(]|url\(["']?(?:https?:)?//"""
)


@pytest.mark.parametrize(
    ("text", "fetches"),
    [
        ('<script src="https://cdn.org/x.js">', True),
        ('<link rel="stylesheet" href="//fonts.org/a.css">', True),
        ('<link href="https://a.org/b.css" rel="stylesheet">', True),
        ("@font-face { src: url(https://fonts.org/a.woff2) }", True),
        ('<script src="_static/x.js">', False),
        ('<a href="https://arxiv.org">', False),
    ],
)
def test_what_is_fetched_from_elsewhere_is_found(text, fetches):
    assert bool(LOADED.search(text)) == fetches


@built
def test_the_site_fetches_nothing_and_its_examples_ran():
    pages = [*SITE.rglob("*.html"), *SITE.rglob("*.css")]
    found = [
        (page.name, hit[0])
        for page in pages
        for hit in LOADED.finditer(page.read_text(encoding="utf-8"))
    ]
    assert not found
    for script in (ROOT / "docs" / "tasks").glob("*.py"):
        text = (SITE / "docs" / "gallery" / f"{script.stem}.html").read_text(encoding="utf-8")
        assert "<img" in text
        assert "sphx-glr-output" in text or "output_html" in text
        assert "Traceback" not in text
    assert (SITE / "searchindex.js").stat().st_size > 10_000


def screenshot(page):
    """What the page looks like: grey levels (H, W)."""
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))


@built
@pytest.mark.parametrize("width", [390, 1280])
def test_pages_open_in_a_browser_and_search_finds(browser, width):
    requests, errors = [], []
    page = browser.new_page(viewport={"width": width, "height": 900})
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    for name, heading, images in (
        ("index", "undiffuse", 0),
        ("gallery/plot_1_images", "Images", 4),
        ("api/models", "Models", 0),
    ):
        looks = {}
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)
            page.goto((SITE / "docs" / f"{name}.html").as_uri())
            assert page.inner_text("h1").startswith(heading)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            sizes = page.eval_on_selector_all("article img", "all => all.map(i => i.naturalWidth)")
            assert len(sizes) >= images
            assert all(size > 0 for size in sizes)
            looks[scheme] = screenshot(page)
        assert np.median(looks["light"]) > 200  # paper
        assert np.median(looks["dark"]) < 60
        for look in looks.values():  # there is print on it
            assert (np.abs(look - np.median(look)) > 60).mean() > 0.02
    page.goto((SITE / "search.html").as_uri() + "?q=overfitting")
    page.wait_for_selector("ul.search li a")
    assert "Questions" in page.inner_text("ul.search")
    page.click("ul.search li a:has-text('Questions')")
    assert page.inner_text("h1").startswith("Questions")
    page.close()
    assert not errors
    assert not [url for url in requests if url.startswith("http")]
