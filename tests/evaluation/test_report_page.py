"""The report as a document: every figure is in it, nothing breaks it, and it asks
nothing of anyone.
"""

from __future__ import annotations

import base64
import copy
import re
from collections.abc import Iterator
from typing import Any

import pytest
from comparison_report_facts import comparison_facts, comparison_pictures
from report_facts import MARKS, png, report_facts, table_facts
from report_reader import Page, read

from undiffuse.evaluation.report import render, render_comparison
from undiffuse.evaluation.report.numbers import decimals, number, value_text
from undiffuse.evaluation.report.page import picture

PICTURES = {
    "samples": png(seed=0),
    "real": png(seed=1),
    "pairs": png(2, 8, 2),
    "walk_in_space": png(2, 8, 3),
}
DOCUMENTS = {
    "images": lambda: render(report_facts(), PICTURES),
    "table": lambda: render(table_facts(), {}),
    "nothing": lambda: render({}, {}),
    "comparison": lambda: render_comparison(comparison_facts(), comparison_pictures()),
    "empty comparison": lambda: render_comparison(
        {"source": MARKS, "runs": {MARKS: {"status": "waiting"}}}, {}
    ),
}


def figures(facts: dict[str, Any], prefix: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every figure among facts that stand in a section of their own, with the name it
    should have there.
    """
    for key, fact in facts.items():
        if isinstance(fact, dict) and "low" in fact:
            yield f"{prefix}.{key}", fact
        elif isinstance(fact, dict):
            yield from figures(fact, f"{prefix}.{key}")


SECTIONS = ("quality", "coverage", "memorization", "likelihood", "speed", "table")


@pytest.mark.parametrize("facts", [report_facts(), table_facts()], ids=["images", "table"])
def test_every_figure_is_in_the_page_with_interval_floor_and_number_of_rows(
    facts: dict[str, Any],
) -> None:
    page = Page(render(facts, {}))
    found = [each for name in SECTIONS for each in figures(facts[name] or {}, name)]
    assert len(found) >= 14
    for name, fact in found:
        text = page.texts[name]
        if fact["value"] is None:
            assert page.values[name] == "–"
            continue
        half = (fact["high"] - fact["low"]) / 2
        near = max(half / 10, 1e-9)  # two digits of the half width
        assert abs(read(page.values[name]) - fact["value"]) <= near, name
        assert f"n = {fact['n']:,}" in text, name
        pieces = " | ".join(page.pieces[name])
        numbers = [read(found) for found in re.findall(r"−?\d[\d,]*(?:\.\d+)?", pieces)]
        ends = [fact["low"], fact["high"]] if half else []
        for wanted in [*ends, *([] if fact["floor"] is None else [fact["floor"]])]:
            assert any(abs(shown - wanted) <= near for shown in numbers), (name, wanted)
        assert fact["warning"][1:] in text  # it begins with a capital


def test_plain_facts_are_in_the_page() -> None:
    text = Page(render(report_facts(), PICTURES)).texts[""]
    facts = report_facts()
    for wanted in (
        "1,617",
        "1,234,567",
        "843 MB",
        "2 min 30 s",
        "5,230",
        "heun",
        "9f3c61ab",
        "runs/digits",
        "0.972",
    ):
        assert wanted in text
    for words in ("sentence", "advice"):
        assert facts["verdict"][words] in text
    assert all(item[1:] in text for item in facts["verdict"]["evidence"])
    assert facts["likelihood"]["meaning"] in text
    for entry in facts["curves"]["by_evaluations"]:
        assert value_text(entry["frechet"]) in text
    for each in facts["classes"]:
        assert f"{100 * each['share']['value']:.1f} % / {100 * each['real']:.1f} %" in text
    for pair in facts["memorization"]["pairs"]:
        assert str(pair["training"]) in text


def test_the_verdict_comes_first() -> None:
    text = Page(render(report_facts(), PICTURES)).texts[""]
    order = [
        report_facts()["verdict"]["sentence"],
        "Real rows, held out",
        "The most suspicious samples",
        "Do samples look",
    ]
    order += [
        "Do they reach",
        "How probable",
        "What do samples cost",
        "Loss during training",
        "How it was made",
    ]
    places = [text.index(words) for words in order]
    assert places == sorted(places)


def test_a_model_without_density_says_why() -> None:
    page = Page(render(table_facts(), {}))
    assert "A GAN gives samples and no density." in page.texts["likelihood"]
    assert "Caught copying" in page.texts["memorization"]


def test_samples_that_are_near_without_being_copies_are_not_called_copies() -> None:
    """The verdict decides: blurs are nearer to training rows, too."""
    facts = report_facts()
    facts["memorization"] |= {"caught": True, "p": 2.3e-9, "z": -6.1}
    words = Page(render(facts, {})).texts["memorization"]
    assert "Closer than chance, but not copies" in words
    assert "Caught copying" not in words


@pytest.mark.parametrize("make", DOCUMENTS.values(), ids=DOCUMENTS)
def test_it_is_whole_and_asks_for_nothing(make: Any) -> None:
    """Elements close in order, each anchor is there once, and nothing is fetched: no picture,
    style, font or script.
    """
    html = make()
    page = Page(html)
    assert not page.problems
    ids = [its["id"] for _, its in page.opened if "id" in its]
    assert len(ids) == len(set(ids))
    for name, its in page.opened:
        assert name not in {"script", "iframe", "object", "embed", "base", "form"}
        assert not any(key.startswith("on") for key in its)
        for key in ("src", "srcset", "data", "xlink:href"):
            assert (its.get(key) or "data:").startswith("data:")
        if name == "a" and (its["href"] or "").startswith("#"):
            assert its["href"][1:] in ids  # type: ignore[index]
        elif name != "link":
            assert re.fullmatch(r"[\w./%-]*", its.get("href") or ""), its
    assert "url(" not in html
    assert "@import" not in html


@pytest.mark.parametrize(
    "make", [DOCUMENTS["table"], DOCUMENTS["empty comparison"]], ids=["table", "comparison"]
)
def test_what_people_named_is_text(make: Any) -> None:
    html = make()
    assert MARKS in Page(html).texts[""]
    assert MARKS not in html


@pytest.mark.parametrize("missing", sorted(report_facts()))
def test_what_is_not_known_is_left_out(missing: str) -> None:
    facts = report_facts()
    del facts[missing]
    assert not Page(render(facts, {})).problems


def blank(facts: Any) -> Any:
    """The same facts with every number that may be unknown unknown."""
    if isinstance(facts, dict):
        known = {"evaluations", "step", "elapsed", "log_snr"}
        return {key: value if key in known else blank(value) for key, value in facts.items()}
    if isinstance(facts, list):
        return [blank(each) for each in facts]
    return None if isinstance(facts, float) else facts


def test_numbers_that_are_not_known_are_dashes() -> None:
    page = Page(render(blank(report_facts()), PICTURES))
    assert set(page.values.values()) == {"–"}
    assert not re.search(r"\b(nan|inf|None|null)\b", page.texts[""])
    assert not Page(render_comparison(blank(comparison_facts()), {})).problems


def test_pictures_are_inside_as_they_were_given() -> None:
    page = Page(render(report_facts(), PICTURES))
    sources = [given["src"] or "" for name, given in page.opened if name == "img"]
    assert {base64.b64decode(source.partition("base64,")[2]) for source in sources} == set(
        PICTURES.values()
    )
    assert all(given["alt"] for name, given in page.opened if name == "img")
    with pytest.raises(ValueError, match="PNG"):
        picture(b"GIF89a")


def test_a_comparison_shows_every_run() -> None:
    facts = comparison_facts()
    page = Page(render_comparison(facts, comparison_pictures()))
    text = page.texts[""]
    for row in facts["table"]:
        for key, fact in row.items():
            if isinstance(fact, dict):
                assert text.count(number(fact["value"], decimals(fact))) >= 2, (
                    row["preset"],
                    key,
                )  # table and bars
    assert "ncsn: the loss is not finite after 212 steps." in text
    assert "No likelihood of gan: a GAN gives samples and no density." in text
    assert all(words in text for words in facts["words"])
    for claim in facts["textbook"]:
        assert claim["claim"] in text
        assert claim["measured"] in text
    assert [text.count(word) for word in ("agrees", "disagrees", "undecided")] == [
        7,
        1,
        2,
    ]  # the first is in the second
    links = {given["href"] for name, given in page.opened if name == "a"}
    assert links == {f"{name}/report.html" for name in ("edm", "ddpm", "vae", "gan", "flow")}


def test_ties_are_called_ties() -> None:
    facts = comparison_facts()
    assert facts["best"] == {
        "frechet": ["edm"],
        "recall": ["edm", "ddpm"],
        "samples_per_second": ["flow"],
    }
    html = render_comparison(facts, {})
    marks = re.findall(r'<span class="mark">(\w+)</span><b>([^<]+)</b>', html)
    assert marks == [("best", "12.34"), ("tie", "0.732"), ("tie", "0.680"), ("best", "16,855")]


def test_folders_cannot_become_other_links() -> None:
    facts = comparison_facts()
    facts["runs"]["edm"]["folder"] = "javascript:alert(1)//"
    hrefs = [
        given["href"] or ""
        for name, given in Page(render_comparison(facts, {})).opened
        if name == "a"
    ]
    assert not any(":" in href for href in hrefs)


def test_facts_are_left_as_they_were() -> None:
    facts, together = report_facts(), comparison_facts()
    kept = copy.deepcopy((facts, together))
    render(facts, PICTURES)
    render_comparison(together, {})
    assert (facts, together) == kept
