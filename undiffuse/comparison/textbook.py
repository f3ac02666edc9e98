"""The textbook's triangle, tested: each family is said to have two of three things.

    GAN             sharp and fast, not complete
    VAE, flow       complete and fast, not sharp
    diffusion       sharp and complete, not fast         (Xiao et al. 2022, Fig. 1)

Read as a statement about who is better than whom: on each axis, a family that has the thing is
better than the best preset of each family that lacks it. A difference within the 95 % error decides
nothing, so an answer is True, False or None, and "and" is Kleene's: one clear no refutes a claim,
and a claim holds only if every part of it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from undiffuse.comparison.triangle import AXES, TableRow, figure_of, on_axis
from undiffuse.evaluation.metrics.figure import Figure

HAS = {
    "gan": ("quality", "speed"),
    "vae": ("coverage", "speed"),
    "flow": ("coverage", "speed"),
    "diffusion": ("quality", "coverage"),
}
NAMES = {"gan": "GAN", "vae": "VAE", "flow": "normalizing flow", "diffusion": "diffusion model"}
_ADJECTIVES = {"quality": "sharp", "coverage": "complete", "speed": "fast"}
_MORE = {"quality": "sharper", "coverage": "more complete", "speed": "faster"}
_LESS = {"quality": "less sharp", "coverage": "less complete", "speed": "slower"}
Answer = bool | None


def textbook(rows: Sequence[TableRow]) -> list[dict[str, Any]]:
    """Return the textbook's claim about each row of a known family, and what was measured.

    Args:
        rows: of the table, with "preset", "family" and the figures of the axes.

    Returns:
        {"preset", "claim", "measured", "agrees", "axes": {axis: answer}}; an answer is None where
        the figures do not decide.
    """
    return [_claim(row, rows) for row in rows if row.get("family") in HAS]


def _claim(row: TableRow, rows: Sequence[TableRow]) -> dict[str, Any]:
    family = row["family"]
    has = [_ADJECTIVES[axis] for axis in AXES if axis in HAS[family]]
    lacks = [_ADJECTIVES[axis] for axis in AXES if axis not in HAS[family]]
    measured, answers = [], {}
    for axis in AXES:
        rivals = [other for other in HAS if (axis in HAS[other]) != (axis in HAS[family])]
        said, answers[axis] = _on(
            axis, row, [best for other in rivals if (best := _best(axis, other, rows))]
        )
        measured.append(said)
    return {
        "preset": row["preset"],
        "claim": f"A {NAMES[family]} is {' and '.join(has)}, but not {lacks[0]}.",
        "measured": " ".join(measured),
        "agrees": every(answers.values()),
        "axes": answers,
    }


def _best(axis: str, family: str, rows: Sequence[TableRow]) -> tuple[str, Figure] | None:
    """The preset of `family` that is best on an axis, and its figure."""
    of_family = [row for row in rows if row.get("family") == family]
    found = [(row["preset"], decisive[1]) for row in of_family if (decisive := on_axis(row, axis))]
    return max(found, key=lambda pair: pair[1].value, default=None)


def _on(axis: str, row: TableRow, rivals: Sequence[tuple[str, Figure]]) -> tuple[str, Answer]:
    """A sentence on one axis of a row and its rivals, and whether the textbook is right there."""
    decisive = on_axis(row, axis)
    if decisive is None:
        return (
            f"Its {listed([name.replace('_', ' ') for name in AXES[axis]])} could not be measured.",
            None,
        )
    own, number = decisive[1], _number(row, decisive[0])
    if not rivals:
        return f"{number}: no other model to compare with.", None
    groups: dict[Answer, list[str]] = {True: [], False: [], None: []}
    for preset, other in rivals:
        groups[None if own.ties(other) else own.value > other.value].append(preset)
    parts = [f"{_MORE[axis]} than {listed(groups[True])}"] if groups[True] else []
    parts += [f"{_LESS[axis]} than {listed(groups[False])}"] if groups[False] else []
    parts += [f"indistinguishable from {listed(groups[None])}"] if groups[None] else []
    better = every(answer for answer, presets in groups.items() for _ in presets)
    worse = every(
        None if answer is None else not answer
        for answer, presets in groups.items()
        for _ in presets
    )
    return f"{number}: {', '.join(parts)}.", better if axis in HAS[row["family"]] else worse


def _number(row: TableRow, name: str) -> str:
    """A figure of the table in words: "Recall 0.56 of 0.99", "1,000 samples per second"."""
    figure = figure_of(row[name])
    assert figure is not None
    if not figure.floor:
        shown = f"{figure.value:,.0f}" if figure.value >= 100 else f"{figure.value:.2g}"
        return f"{shown} {name.replace('_', ' ')}"
    return f"{name.capitalize()} {figure.value:.2f} of {figure.floor:.2f}"


def every(answers: Iterable[Answer]) -> Answer:
    """Return Kleene's conjunction: False if any is, True if all are, else None; None of nothing.

    >>> every([True, None]), every([None, False]), every([True, True]), every([])
    (None, False, True, None)
    """
    found = list(answers)
    if False in found:
        return False
    return True if found and None not in found else None


def conclusions(
    rows: Sequence[TableRow], best: Mapping[str, Sequence[str]], claims: Sequence[Mapping[str, Any]]
) -> list[str]:
    """Return the comparison in sentences: the best of each, the textbook's claims, who copies."""
    said = []
    for name, verb in _BEST.items():
        if winners := best.get(name):
            tied = " (tied within the error)" if len(winners) > 1 else ""
            said.append(f"{verb}: {listed(winners)}{tied}.")
    kinds = sorted({str(row["likelihood_kind"]) for row in rows if row.get("likelihood_kind")})
    if len(kinds) > 1:
        said.append(
            f"The likelihoods are of several kinds ({listed(kinds)}): a bound makes a model look "
            "worse than it is."
        )
    for answer, opening in _ANSWERS.items():
        if presets := [claim["preset"] for claim in claims if claim["agrees"] is answer]:
            said.append(f"{opening} {listed(presets)}.")
    if copying := [row["preset"] for row in rows if row.get("caught")]:
        said.append(
            f"Memorization: samples of {listed(copying)} are copies of training rows, so their "
            "quality cannot be trusted."
        )
    return said


_BEST = {
    "frechet": "Closest to the real rows (Frechet distance)",
    "precision": "Samples most like real rows (precision)",
    "coverage": "Most of the real rows reached (coverage)",
    "bits_per_dim": "Best likelihood of held-out rows (bits per dimension)",
    "samples_per_second": "Fastest (samples per second)",
}
_ANSWERS: dict[Answer, str] = {
    True: "The measurements agree with the textbook on",
    False: "The measurements disagree with the textbook on",
    None: "Undecided, within the error or without another model to compare with:",
}


def listed(names: Sequence[str]) -> str:
    """Join names with commas and "and".

    >>> listed(["edm"]), listed(["edm", "gan", "vae"])
    ('edm', 'edm, gan and vae')
    """
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
