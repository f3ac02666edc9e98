"""Planted tables: triangle, winners and the textbook's claims come out as they were planted."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from undiffuse.comparison.facts import comparison_facts
from undiffuse.comparison.textbook import HAS, conclusions, every, listed, textbook
from undiffuse.comparison.triangle import AXES, best, figure_of, triangle

HIGH, LOW, FAST, SLOW = 0.9, 0.5, 1000.0, 10.0
ERROR = 0.02


def cell(value: float | None, error: float | None = ERROR, **given: Any) -> dict[str, Any]:
    """A figure as a report's facts hold it."""
    ends = (
        (None, None)
        if value is None or error is None
        else (value - 1.96 * error, value + 1.96 * error)
    )
    tree = {
        "value": value,
        "low": ends[0],
        "high": ends[1],
        "stderr": error,
        "n": 1000,
        "floor": None,
        "warning": "",
    }
    return {**tree, "better": "higher", **given}


def row(
    preset: str, precision: float, coverage: float, speed: float, **given: Any
) -> dict[str, Any]:
    floors = {"precision": 0.95, "recall": 0.99, "coverage": 0.9}
    shares = {"precision": precision, "recall": coverage + 0.09, "coverage": coverage}
    shares = {name: cell(value, floor=floors[name]) for name, value in shares.items()}
    planted = {
        "preset": preset,
        "family": preset,
        **shares,
        "samples_per_second": cell(speed, 0.02 * speed),
    }
    return {**planted, "caught": False, **given}


def textbook_table() -> list[dict[str, Any]]:
    """The table that the textbook describes."""
    return [
        row("diffusion", HIGH, HIGH, SLOW),
        row("gan", HIGH, LOW, FAST),
        row("vae", LOW, HIGH, FAST),
        row("flow", LOW, HIGH, FAST),
    ]


def test_where_the_textbook_is_right_every_claim_agrees() -> None:
    found = textbook(textbook_table())
    assert [claim["preset"] for claim in found] == ["diffusion", "gan", "vae", "flow"]
    assert all(claim["agrees"] is True for claim in found)
    assert found[1]["claim"] == "A GAN is sharp and fast, but not complete."
    assert found[0]["claim"] == "A diffusion model is sharp and complete, but not fast."
    assert found[1]["measured"] == (
        "Precision 0.90 of 0.95: sharper than vae and flow. "
        "Coverage 0.50 of 0.90: less complete than vae, flow and diffusion. "
        "1,000 samples per second: faster than diffusion."
    )


@pytest.mark.parametrize(("family", "axis"), list(itertools.product(HAS, AXES)))
def test_one_figure_turned_round_refutes_those_it_speaks_of(family: str, axis: str) -> None:
    """A family moved to the other end of an axis: its claim is refuted there, and nowhere else."""
    table = textbook_table()
    ends = {"quality": (1.2, 0.2), "coverage": (1.2, 0.2), "speed": (1e5, 0.1)}[axis]
    place = next(i for i, each in enumerate(table) if each["family"] == family)
    table[place] = {**table[place], **dict.fromkeys(AXES[axis], cell(ends[axis in HAS[family]]))}
    claim = textbook(table)[place]
    assert claim["agrees"] is False
    assert {name: answer for name, answer in claim["axes"].items() if answer is not True} == {
        axis: False
    }


def test_what_ties_within_its_error_is_not_decided() -> None:
    table = textbook_table()
    table[1] = {
        **table[1],
        "precision": cell(LOW + 0.04, floor=0.95),
    }  # < 1.96 hypot(0.02, 0.02) = 0.055
    claim = textbook(table)[1]
    assert claim["axes"] == {"quality": None, "coverage": True, "speed": True}
    assert claim["agrees"] is None
    assert "Precision 0.54 of 0.95: indistinguishable from vae and flow." in claim["measured"]
    table[1] = {**table[1], "precision": cell(LOW + 0.06, floor=0.95)}
    assert textbook(table)[1]["agrees"] is True
    table[1] = {**table[1], "precision": cell(0.99, None, floor=0.95)}  # of unknown error
    assert textbook(table)[1]["agrees"] is None


def test_a_family_is_measured_against_the_best_of_each_other() -> None:
    """A badly trained diffusion model beside a good one makes no GAN complete."""
    table = [*textbook_table(), {**row("ncsn", 0.1, 0.1, SLOW), "family": "diffusion"}]
    found = {claim["preset"]: claim for claim in textbook(table)}
    assert found["gan"]["agrees"] is True
    assert found["diffusion"]["agrees"] is True
    assert found["ncsn"]["axes"] == {"quality": False, "coverage": False, "speed": True}


@pytest.mark.parametrize("name", AXES["coverage"])
def test_complete_is_what_both_figures_of_coverage_say(name: str) -> None:
    """Variety lost within neighbourhoods shows in recall, distant samples in coverage."""
    table = [
        row("diffusion", HIGH, HIGH, SLOW),
        {**row("gan", HIGH, HIGH, FAST), name: cell(LOW, floor=1.0)},
    ]
    claim = textbook(table)[1]
    assert claim["axes"]["coverage"] is True
    assert f"{name.capitalize()} 0.50 of 1.00: less complete than diffusion." in claim["measured"]
    assert triangle(table)[1]["coverage"]["value"] == LOW
    assert triangle(table)[1]["coverage"]["high"] == pytest.approx(LOW + 1.96 * ERROR)


def test_alone_nothing_can_be_told_and_unknown_families_are_passed_over() -> None:
    alone = textbook(
        [row("gan", HIGH, LOW, FAST), {**row("other", HIGH, LOW, FAST), "family": "other"}]
    )
    assert [(claim["preset"], claim["agrees"]) for claim in alone] == [("gan", None)]
    assert "no other model to compare with" in alone[0]["measured"]
    unmeasured = textbook(
        [{**row("gan", HIGH, LOW, FAST), "coverage": None}, *textbook_table()[:1]]
    )
    assert "Its recall and coverage could not be measured." in unmeasured[0]["measured"]


@pytest.mark.parametrize("answers", list(itertools.product([True, False, None], repeat=3)))
def test_and_is_kleenes(answers: tuple[bool | None, ...]) -> None:
    """The minimum, in the order False < None < True."""
    order = {False: 0, None: 1, True: 2}
    assert order[every(answers)] == min(order[answer] for answer in answers)


def test_the_triangle_is_a_perfect_sampler_at_one_and_log_speed_between() -> None:
    table = [
        row("a", 0.95, 0.45, 1.0),
        row("b", 0.475, 0.9, 10.0),
        row("c", 1.0, 0.0, 100.0),
    ]  # recall is no lower
    found = triangle(table)
    assert [each["quality"]["value"] for each in found] == pytest.approx([1.0, 0.5, 1.0])
    assert [each["coverage"]["value"] for each in found] == pytest.approx([0.5, 1.0, 0.0])
    assert [each["speed"]["value"] for each in found] == pytest.approx([0.0, 0.5, 1.0])
    assert found[1]["quality"]["low"] == pytest.approx((0.475 - 1.96 * ERROR) / 0.95)
    assert found[1]["speed"]["high"] == pytest.approx(math.log(10 * (1 + 1.96 * 0.02), 100))
    for each, name in itertools.product(found, AXES):
        assert 0 <= each[name]["low"] <= each[name]["value"] <= each[name]["high"] <= 1


def test_the_triangle_of_one_speed_and_of_what_is_unknown() -> None:
    same = triangle([row("a", HIGH, HIGH, 5.0), row("b", HIGH, HIGH, 5.0)])
    assert [each["speed"]["value"] for each in same] == [1.0, 1.0]
    unknown = triangle([{**row("a", HIGH, HIGH, 5.0), "precision": cell(None), "coverage": None}])
    assert (
        unknown[0]["quality"]
        == unknown[0]["coverage"]
        == {"value": None, "low": None, "high": None}
    )


def test_the_best_includes_all_that_tie_with_it() -> None:
    table = [
        {
            "preset": "a",
            "frechet": cell(3.0, 0.1, better="lower"),
            "density": cell(1.4, better="floor", floor=1.0),
        },
        {
            "preset": "b",
            "frechet": cell(3.2, 0.1, better="lower"),
            "density": cell(0.9, better="floor", floor=1.0),
        },
        {
            "preset": "c",
            "frechet": cell(3.4, 0.1, better="lower"),
            "density": cell(0.2, better="floor", floor=1.0),
        },
        {
            "preset": "d",
            "frechet": cell(None, better="lower"),
            "density": None,
            "parameters": 7,
            "z": cell(1, better=""),
        },
    ]
    assert best(table) == {
        "frechet": ["a", "b"],
        "density": ["b"],
    }  # 3.4 - 3.0 > 1.96 hypot(0.1, 0.1) = 0.277


def test_a_figure_without_an_error_ties_with_all() -> None:
    known, unknown = figure_of(cell(1.0)), figure_of(cell(5.0, None))
    assert known is not None
    assert unknown is not None
    assert known.ties(unknown)
    assert figure_of(cell(None)) is figure_of(None) is None


def test_the_words_say_who_won_who_agrees_and_who_copies() -> None:
    table = textbook_table()
    table[1]["caught"] = True
    said = conclusions(table, best(table), textbook(table))
    assert (
        "Samples most like real rows (precision): diffusion and gan (tied within the error)."
        in said
    )
    assert "The measurements agree with the textbook on diffusion, gan, vae and flow." in said
    assert any(sentence.startswith("Memorization: samples of gan are copies") for sentence in said)
    assert not any("disagree" in sentence for sentence in said)
    assert listed(["a", "b"]) == "a and b"


def test_likelihoods_of_several_kinds_are_not_compared_in_silence() -> None:
    bits = {"bits_per_dim": cell(2.0, better="lower")}
    table = [
        {**row("vae", LOW, HIGH, FAST), **bits, "likelihood_kind": kind}
        for kind in ("bound", "exact")
    ]
    assert any(
        "several kinds (bound and exact)" in sentence
        for sentence in conclusions(table, best(table), [])
    )
    assert not any("kinds" in sentence for sentence in conclusions(table[:1], best(table[:1]), []))


def test_a_run_without_a_report_is_not_in_the_table() -> None:
    lost = {"folder": "runs/vae", "status": "failed", "problem": "it broke", "report": None}
    facts = comparison_facts({"vae": lost}, source="digits")
    assert (facts["table"], facts["best"], facts["triangle"], facts["textbook"]) == ([], {}, [], [])
    assert facts["runs"]["vae"] == lost
    assert facts["source"] == "digits"


def test_either_side_of_a_floor_is_as_far() -> None:
    table = [
        {"preset": name, "density": cell(value, 0.03, better="floor", floor=1.0)}
        for name, value in (("a", 1.2), ("b", 0.81), ("c", 0.6))
    ]
    assert best(table)["density"] == ["a", "b"]
