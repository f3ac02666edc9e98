"""The report as people open it: in a real browser, on a phone, at a desk, in the dark, on paper."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from comparison_report_facts import comparison_facts, comparison_pictures
from report_facts import long_facts, png, report_facts, table_facts

from undiffuse.evaluation.report import render, render_comparison

PICTURES = {"samples": png(seed=0), "real": png(seed=1), "pairs": png(2, 8, 2)}
PAGES = {
    "report": lambda: render(report_facts(), PICTURES),
    "table": lambda: render(table_facts(), PICTURES),
    "long names": lambda: render(long_facts(), PICTURES),
    "comparison": lambda: render_comparison(comparison_facts(), comparison_pictures()),
}

# The smallest contrast of text with what is behind it (WCAG 2.1), and that text.
CONTRAST = """() => {
  const parse = c => (c.match(/[\\d.]+/g) || []).map(Number);
  const light = c => { const [r, g, b] = parse(c).slice(0, 3).map(v => v / 255)
    .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = getComputedStyle(e).backgroundColor, p = parse(c);
      if (p.length == 3 || p[3] > 0) return c;
    }
    return "rgb(255, 255, 255)"; };
  let worst = [21, ""];
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode.data.trim(), e = texts.currentNode.parentElement;
    if (!text || text == "/") continue;
    const style = getComputedStyle(e);
    const color = e.namespaceURI.endsWith("svg") ? style.fill : style.color;
    const [a, b] = [light(color), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < worst[0]) worst = [ratio, text];
  }
  return worst; }"""

# Elements that reach out of the window, but for those that scroll by themselves.
OUTSIDE = """() => [...document.querySelectorAll("body *")].filter(e => !e.closest(".scroll"))
  .filter(e => e.getBoundingClientRect().right > innerWidth + 1)
  .map(e => e.outerHTML.slice(0, 80))"""


@pytest.fixture(scope="module", params=PAGES)
def file(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(PAGES[request.param](), encoding="utf-8")
    return path


def test_it_opens_without_a_request_and_without_an_error(browser: Any, file: Path) -> None:
    page = browser.new_page()
    requests, errors = [], []
    page.on("request", lambda request: requests.append(request.url))
    page.on(
        "console",
        lambda message: (
            errors.append(message.text) if message.type in {"error", "warning"} else None
        ),
    )
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto(file.as_uri())
    page.wait_for_load_state("networkidle")
    widths = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    drawn = page.evaluate(
        "[...document.querySelectorAll('svg')].map(e => e.getBoundingClientRect().width)"
    )
    page.close()
    assert [url for url in requests if not url.startswith("data:")] == [file.as_uri()]
    assert not errors
    assert widths
    assert min(widths) > 0
    assert drawn
    assert min(drawn) > 40


def test_every_figure_can_be_seen(browser: Any, tmp_path: Path) -> None:
    facts = report_facts()
    file = tmp_path / "report.html"
    file.write_text(render(facts, PICTURES), encoding="utf-8")
    page = browser.new_page()
    page.goto(file.as_uri())
    seen = page.evaluate(
        "Object.fromEntries("
        "[...document.querySelectorAll('.figure')].map(e => [e.id, e.innerText]))"
    )
    text = page.inner_text("body")
    page.close()
    wanted = {
        f"{part}.{key}": fact
        for part in ("quality", "coverage", "memorization", "likelihood", "speed")
        for key, fact in facts[part].items()
        if isinstance(fact, dict)
    }
    assert seen.keys() == wanted.keys()
    for name, fact in wanted.items():
        shown = [
            float(word)
            for word in re.findall(
                r"-?\d+(?:\.\d+)?", seen[name].replace("−", "-").replace(",", "")
            )
        ]
        half = (fact["high"] - fact["low"]) / 2
        for wanted in (fact["value"], fact["low"], fact["high"], fact["n"]):
            assert min(abs(each - wanted) for each in shown) <= half / 10, (name, wanted)
    assert facts["verdict"]["sentence"] in text
    assert "Still improving" in text


@pytest.mark.parametrize("width", [320, 390, 768, 1200])
def test_it_fits_the_window(browser: Any, file: Path, width: int) -> None:
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(file.as_uri())
    needed, outside = page.evaluate("document.scrollingElement.scrollWidth"), page.evaluate(OUTSIDE)
    page.close()
    assert needed <= width
    assert not outside


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_all_text_can_be_read(browser: Any, file: Path, scheme: str) -> None:
    page = browser.new_page(color_scheme=scheme)
    page.goto(file.as_uri())
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    ratio, text = page.evaluate(CONTRAST)
    page.close()
    assert (int(background.split("(")[1].split(",")[0]) < 128) == (scheme == "dark")
    assert ratio >= 4.5, text  # WCAG 2.1, level AA


def test_it_prints(browser: Any, file: Path) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(file.as_uri())
    page.emulate_media(media="print")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    hidden = page.evaluate(
        "[...document.querySelectorAll('details td')]"
        ".filter(e => e.getBoundingClientRect().height == 0).length"
    )
    ratio, text = page.evaluate(CONTRAST)
    printed = page.pdf(format="A4")
    page.close()
    assert paper == "rgb(255, 255, 255)"
    assert hidden == 0
    assert ratio >= 4.5, text
    assert printed.startswith(b"%PDF")
    assert printed.count(b"/Type /Page\n") >= 3 or printed.count(b"/Type /Page") >= 3
