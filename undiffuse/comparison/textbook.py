"""The textbook's triangle, put to the test: each family is said to have two of three things (Xiao et al. 2022, Fig. 1).

    GAN             sharp and fast, not complete
    VAE, flow       complete and fast, not sharp
    diffusion       sharp and complete, not fast

That is a statement about who is better than whom: on each axis, a family that has the thing is better than each family
that lacks it, at its best. A difference within the 95 % error decides nothing, so an answer is True, False or None, and
"and" is Kleene's: one clear no refutes a claim, and it holds only if every part of it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from undiffuse.comparison.triangle import AXES, Row, figure_of, on_axis
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


def textbook(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """For each row of the table that is of a family the textbook knows: what it claims, what was measured, and whether
    they agree. Rows have "preset", "family" and the figures of the axes.

    {"preset", "claim", "measured", "agrees", "axes": {axis: its answer}}, an answer None for what cannot be told.
    """
    return [_claim(row, rows) for row in rows if row.get("family") in HAS]


def _claim(row: Row, rows: Sequence[Row]) -> dict[str, Any]:
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


def _best(axis: str, family: str, rows: Sequence[Row]) -> tuple[str, Figure] | None:
    """The preset of `family` that is best on an axis, and its figure."""
    of_family = [row for row in rows if row.get("family") == family]
    found = [(row["preset"], decisive[1]) for row in of_family if (decisive := on_axis(row, axis))]
    return max(found, key=lambda pair: pair[1].value, default=None)


def _on(axis: str, row: Row, rivals: Sequence[tuple[str, Figure]]) -> tuple[str, Answer]:
    """What one axis says of a row against its rivals: a sentence, and whether that is what the textbook says."""
    decisive = on_axis(row, axis)
    if decisive is None:
        return (
            f"Its {listed([name.replace('_', ' ') for name in AXES[axis]])} could not be measured.",
            None,
        )
    own, number = decisive[1], _number(row, decisive[0])
    if not rivals:
        return f"{number}: there is nobody here to compare with.", None
    groups: dict[Answer, list[str]] = {True: [], False: [], None: []}
    for preset, other in rivals:
        groups[None if own.ties(other) else own.value > other.value].append(preset)
    parts = [f"{_MORE[axis]} than {listed(groups[True])}"] if groups[True] else []
    parts += [f"{_LESS[axis]} than {listed(groups[False])}"] if groups[False] else []
    parts += [f"not to be told from {listed(groups[None])}"] if groups[None] else []
    better = every(answer for answer, presets in groups.items() for _ in presets)
    worse = every(
        None if answer is None else not answer
        for answer, presets in groups.items()
        for _ in presets
    )
    return f"{number}: {', '.join(parts)}.", better if axis in HAS[row["family"]] else worse


def _number(row: Row, name: str) -> str:
    """The figure as the table has it, and its floor: "Recall 0.56 of 0.99", "1,000 samples per second"."""
    figure = figure_of(row[name])
    assert figure is not None
    if not figure.floor:
        shown = f"{figure.value:,.0f}" if figure.value >= 100 else f"{figure.value:.2g}"
        return f"{shown} {name.replace('_', ' ')}"
    return f"{name.capitalize()} {figure.value:.2f} of {figure.floor:.2f}"


def every(answers: Iterable[Answer]) -> Answer:
    """Kleene's conjunction: False if any is, True if all are, None otherwise; None of nothing.

    >>> every([True, None]), every([None, False]), every([True, True]), every([])
    (None, False, True, None)
    """
    found = list(answers)
    if False in found:
        return False
    return True if found and None not in found else None


def words(
    rows: Sequence[Row], best: Mapping[str, Sequence[str]], claims: Sequence[Mapping[str, Any]]
) -> list[str]:
    """The comparison in sentences: who is best at what, where the textbook is right here, and who copies."""
    said = []
    for name, verb in _BEST.items():
        if winners := best.get(name):
            tied = ", which cannot be told from each other" if len(winners) > 1 else ""
            said.append(f"{verb}: {listed(winners)}{tied}.")
    kinds = sorted({str(row["likelihood_kind"]) for row in rows if row.get("likelihood_kind")})
    if len(kinds) > 1:
        said.append(
            f"These likelihoods are of several kinds ({listed(kinds)}): a bound makes its model look worse."
        )
    for answer, opening in _ANSWERS.items():
        if presets := [claim["preset"] for claim in claims if claim["agrees"] is answer]:
            said.append(f"{opening} {listed(presets)}.")
    if copying := [row["preset"] for row in rows if row.get("caught")]:
        said.append(
            f"Memorization: samples of {listed(copying)} are nearer to training rows than held-out rows are, so the "
            "quality there is not to be trusted."
        )
    return said


_BEST = {
    "frechet": "Nearest to the real rows (Frechet distance)",
    "precision": "Samples most like real rows (precision)",
    "coverage": "Most of the real rows reached (coverage)",
    "bits_per_dim": "Best likelihood of held-out rows (bits per dimension)",
    "samples_per_second": "Fastest (samples per second)",
}
_ANSWERS: dict[Answer, str] = {
    True: "Measured here as the textbook has it:",
    False: "Measured otherwise than the textbook has it:",
    None: "Not decided, within the error, or for want of somebody to compare with:",
}


def listed(names: Sequence[str]) -> str:
    """>>> listed(["edm"]), listed(["edm", "gan", "vae"])
    ('edm', 'edm, gan and vae')
    """
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
