"""Check new rows of a table, and rows to complete, against the rules of a run."""

from __future__ import annotations

import math

import numpy as np

from undiffuse.data.conformed import Problem
from undiffuse.data.tables.rules import Absent, Determined, Within
from undiffuse.data.tables.transform import TableTransform
from undiffuse.errors import InputError


def note_breaches(
    transform: TableTransform, matrix: np.ndarray, problems: dict[int, Problem]
) -> None:
    """Add a problem for each row (N, columns) that breaks a rule.

    A row that breaks a stated rule has a log-likelihood of -inf. A row that breaks a rule found in
    the training rows has the small probability that is left for what they do not show.
    """
    for rule in transform.rules:
        reason = f'column "{rule.name}": in all training rows it {rule.phrase}'
        for row in np.flatnonzero(rule.broken(matrix)).tolist():
            problems.setdefault(row, Problem.unseen(reason))
    for stated in transform.stated:
        for row in np.flatnonzero(stated.broken(matrix)).tolist():
            told = problems.get(row)
            if told is None or told.nats is None:
                problems[row] = Problem(-math.inf, f'breaks the stated rule "{stated.text}"')


def fill_by_rules(
    transform: TableTransform, rows: np.ndarray, known: np.ndarray, name: str
) -> list[str]:
    """Fill what known values determine, in rows (N, columns) of which `known` are filled.

    Returns:
        Notes on combinations that no training row has.

    Raises:
        InputError: for a filled cell that contradicts others, or that a rule binds to an empty one.
    """
    notes = []
    for stated in transform.stated:
        broken = stated.broken(np.where(known, rows, np.nan))
        if broken.any():
            row = int(np.flatnonzero(broken)[0]) + 1
            raise InputError(
                f'{name}: row {row:,} breaks the stated rule "{stated.text}"; correct it.'
            )
    for rule in transform.rules:
        if isinstance(rule, Absent):
            notes += _note_open(rule, known, name)
            if rule.rule is None:
                continue
            rule = rule.rule
        filled, given = known[:, rule.target], known[:, list(rule.sources)].all(1)
        where = f'{name}: column "{rule.name}"'
        if (filled & ~given).any():
            row = int(np.flatnonzero(filled & ~given)[0]) + 1
            raise InputError(
                f"{where} is filled in row {row:,}, and it {rule.phrase}: fill {rule.both} too, or "
                f'leave "{rule.name}" empty.'
            )
        broken = np.flatnonzero(filled & rule.broken(rows))
        if len(broken) and isinstance(rule, Within):
            notes.append(
                f"{where} in row {broken[0] + 1:,} is not beside {rule.both} in any training row; "
                "it is kept, and the others are drawn as for a rare combination."
            )
        elif len(broken):
            raise InputError(
                f"{where} in row {broken[0] + 1:,} contradicts the other columns: in all training "
                f"rows it {rule.phrase}; correct it, or leave it empty."
            )
        if isinstance(rule, Determined):
            certain = given & ~filled & rule.defined(rows)
            rows[certain, rule.target] = rule.predict(rows)[certain]
            known[certain, rule.target] = ~np.isnan(rows[certain, rule.target])
    return notes


def _note_open(rule: Absent, known: np.ndarray, name: str) -> list[str]:
    """Return a note if a cell is filled that is missing where one is that is left to be drawn."""
    for place, other in zip(rule.gaps, rule.beside):
        if (known[:, rule.target] & ~known[:, place]).any():
            return [
                f'{name}: column "{rule.name}" is filled where "{other}" is empty: some samples '
                f'may have no value of "{other}", though "{rule.name}" {rule.phrase}; fill it too.'
            ]
    return []
