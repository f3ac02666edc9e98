"""What there is to choose from, as tables: `ud.presets`, `ud.methods`."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from undiffuse.diffusion import EDM, METHODS, LogSNR, Step
from undiffuse.models import PRESETS
from undiffuse.models.methods import evaluations
from undiffuse.shown import Table

_STEPS = 10  # in which the evaluations of a method are counted


@cache
def _preset(name: str, make: Callable[..., Any]) -> Mapping[str, Any]:
    try:
        model = make()
    except Exception as problem:  # of a plug-in; the others are shown
        nothing = dict.fromkeys(("family", "likelihood", "sampled by"), "")
        return {"preset": name, **nothing, "what": f"cannot be made: {problem}"}
    ways = ", ".join(how.__name__.lower() for how in model.scored_by)
    words = inspect.cleandoc(make.__doc__ or "").partition("\n\n")[0]
    return {
        "preset": name,
        "family": model.called.split(" ", 1)[-1].removesuffix(" model"),
        "likelihood": "none" if model.no_density else ways or "exact",
        "sampled by": model.method or "one pass",
        "what": " ".join(words.split()).rstrip("."),
    }


@cache
def _method(name: str, step: Step) -> Mapping[str, Any]:
    schedule, weak = EDM(), step.weak_order
    calls = evaluations(step, LogSNR()(schedule, _STEPS), schedule)
    return {
        "method": name,
        "step": type(step).__name__,
        "order": step.order or (None if weak is None else f"weak {weak}"),
        "random": step.order is None,
        f"evaluations in {_STEPS} steps": None if step.adaptive else calls,
        "source": step.source,
    }


presets = Table(lambda: (_preset(name, make) for name, make in PRESETS.items()))
"""The presets: family, likelihoods that they give, how they are sampled by default, and source."""

methods = Table(lambda: (_method(name, step) for name, step in METHODS.items()))
"""The sampling methods of diffusion models: order, whether random, cost, and source."""
