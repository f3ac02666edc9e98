"""The equation index is complete and true: every number has a row, symbols and laws exist, the
pages are current.
"""

from pathlib import Path
from runpy import run_path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = run_path(str(ROOT / "scripts" / "equations.py"))
FORMULAS, DOCUMENTS, NOTATION = SCRIPT["read"]()

from errata import SLIPS  # noqa: E402  the script has put docs/ on the path


def chapter(number: int, last: int) -> list[str]:
    return [f"({number}.{i})" for i in range(1, last + 1)]


# Every number that the document itself gives, and its named algorithms.
NUMBERED = {
    "Kim and Lee": [
        *(f"({i})" for i in range(1, 46)),
        "Lemma 1",
        "Theorem 2",
        "Lemma 3",
        "Algorithm 1",
        "Algorithm 2",
        "section 2.1",
    ],
    "Notes after Ho": [
        *(
            f"Eq. {i}"
            for i in (
                "1",
                "2",
                "3",
                "4",
                "5",
                "7",
                "8",
                "8a",
                "8b",
                "8c",
                "8d",
                "11",
                "11a",
                "12",
                "13",
                "14",
            )
        ),
        *(f"Appendix {letter}" for letter in "ABCD"),
    ],
    "Malhotra": [
        *chapter(1, 8),
        *chapter(2, 7),
        *chapter(3, 11),
        *chapter(4, 18),
        *chapter(6, 1),
        "Algorithm 1",
        "Algorithm 2",
    ],
    "Liu": [*(f"({i})" for i in range(1, 9)), "annealed Langevin dynamics", "the bound after (5)"],
    "Handwritten": [
        "a) kernel",
        "b) posterior mean",
        "the discretized decoder",
        "c) fixed or trainable variance",
        "c) divergence of two Gaussians",
        "c) simplified objective",
    ],
}


@pytest.mark.parametrize("document", NUMBERED)
def test_every_number_of_every_document_has_a_row(document):
    (entries,) = [d.entries for d in DOCUMENTS if document in d.title]
    labels = {label for entry in entries for label in (entry.number, *entry.number.split(", "))}
    assert not [number for number in NUMBERED[document] if number not in labels]


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_what_a_formula_names_exists(formula):
    """Its symbols can be imported and are documented; its laws are tests that assert something."""
    for symbol in formula.code:
        assert SCRIPT["resolve"](symbol) is not None
    assert not [law for law in formula.laws if not SCRIPT["asserts"](law)]
    assert formula.code
    assert formula.laws


def test_a_law_that_is_gone_or_asserts_nothing_is_noticed():
    here = "tests/test_equations.py::"
    assert SCRIPT["asserts"](here + "test_what_a_formula_names_exists")
    assert not SCRIPT["asserts"](here + "test_that_nobody_wrote")
    assert not SCRIPT["asserts"](here + "chapter")
    assert not SCRIPT["asserts"]("tests/test_gone.py::test_anything")
    for gone in ("undiffuse.diffusion:Schedule.gone", "undiffuse.gone:name"):
        with pytest.raises((ImportError, AttributeError)):
            SCRIPT["resolve"](gone)


def test_every_formula_stands_somewhere_and_every_slip_in_the_index():
    entries = [entry for document in DOCUMENTS for entry in document.entries]
    assert {entry.formula.key for entry in entries} == set(FORMULAS)
    cited = {slip for entry in entries for slip in entry.slips}
    assert cited <= set(SLIPS)
    assert {key for key, slip in SLIPS.items() if "Elsewhere" not in slip.document} <= cited


@pytest.mark.parametrize("page", ["equations", "errata"])
def test_the_page_is_what_the_script_writes(page):
    """Run `make docs` where this fails."""
    assert (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") == SCRIPT[f"{page}_page"]()
