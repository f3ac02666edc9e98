"""Quality against what a sample costs: the same model, drawn in fewer and in more steps.

Around the number of steps n in use lie 2 n, n/2, n/4, ...; of these, those that cost at most `DEAREST` evaluations a
sample, the first `SETTINGS` that together cost no more than `EXTRA`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from undiffuse.errors import InputError
from undiffuse.evaluation.drawn import Drawn
from undiffuse.evaluation.facts import figures
from undiffuse.evaluation.references import Reference
from undiffuse.evaluation.yardsticks import quick, sampled

SAMPLES = 500  # at each setting
DEAREST, EXTRA, SETTINGS = 200, 120, 3


def by_evaluations(
    drawn: Drawn,
    own: int | None,
    draw: Callable[[int, int], Drawn | None],
    reference: Reference,
    *,
    seed: int = 0,
) -> list[dict[str, Any]] | None:
    """Lines {"evaluations", "steps", "frechet", "precision"}, ascending; None if `draw` was stopped.

    `drawn` are the samples in `own` steps, None for a family that draws in one pass, which gives no lines. `draw(n,
    steps)` draws others.
    """
    if own is None:
        return []
    found = {own: drawn}
    n, spent = min(SAMPLES, len(drawn.rows)), 0.0
    for steps in [2 * own, *(own // 2**k for k in range(1, own.bit_length()))]:
        cost = drawn.evaluations * steps / own
        if steps < 2 or cost > DEAREST or spent + cost > EXTRA or len(found) > SETTINGS:
            continue
        try:
            more = draw(n, steps)
        except InputError:  # more steps than the model has levels
            continue
        if more is None:
            return None
        found[steps] = more
        spent += more.evaluations
    lines = []
    for steps in sorted(found) if len(found) > 1 else ():
        try:
            values = quick(sampled(found[steps].rows[:n], reference), reference, seed=seed)
        except InputError:  # so few steps may give nothing that is a number
            continue
        lines.append({"evaluations": found[steps].evaluations, "steps": steps, **figures(values)})
    return lines
