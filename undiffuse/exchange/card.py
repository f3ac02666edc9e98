"""The card of a model on the hub: what it is, how good it was measured to be, how to use it.

The part between two marks is written anew at each push; what a person writes around it, and the
header with the license, stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from undiffuse.duration import format_duration
from undiffuse.models import GenerativeModel
from undiffuse.run import Run
from undiffuse.shown import words_for

BEGIN, END = "<!-- undiffuse: begin -->", "<!-- undiffuse: end -->"
UNKNOWN = "unknown"  # license

_HEADER = """---
license: {license}{hint}
library_name: undiffuse
tags:
- undiffuse
- {family}
- {kind}
---
"""
_HINT = "  # fill in: apache-2.0, mit, cc-by-4.0, ... or other"
_GROUPS = ("quality", "coverage", "memorization", "likelihood")
_BETTER = {"lower": "lower", "higher": "higher", "floor": "near its floor"}


def model_card(
    name: str,
    run: Run,
    model: GenerativeModel,
    report: Mapping[str, Any] | None,
    *,
    license: str = UNKNOWN,
) -> str:
    """Return the card of a run as Markdown with a header in YAML.

    Args:
        name: owner/name on the hub.
        run: the run.
        model: its model.
        report: its report.json; None without one.
        license: an identifier of the hub's, such as "mit".
    """
    header = _HEADER.format(
        license=license,
        hint=_HINT if license == UNKNOWN else "",
        family=type(model).__name__.lower(),
        kind=run.config["data"].get("kind", "arrays"),
    )
    parts = (
        f"# {name.rpartition('/')[2]}",
        _what(run, model),
        _use(name, model),
        _measured(run, report),
        _made(run, model),
    )
    return "\n".join((header, BEGIN, *(f"{part}\n" for part in parts), END, ""))


def renewed(old: str, new: str) -> str:
    """Return the card `old` with its marked part replaced by that of the card `new`.

    >>> renewed(f"mine {BEGIN} old {END}", f"header {BEGIN} new {END}")
    'mine <!-- undiffuse: begin --> new <!-- undiffuse: end -->'
    """
    marked = re.compile(f"{re.escape(BEGIN)}.*{re.escape(END)}", re.DOTALL)
    ours = marked.search(new)
    if ours is None or not marked.search(old):
        return new
    return marked.sub(lambda _: ours[0], old, count=1)


def _what(run: Run, model: GenerativeModel) -> str:
    data = run.config["data"]
    rows = model.transform.description if model.transform is not None else ""
    facts = {
        "data": f"{data.get('name')}, {data.get('rows') or 0:,} rows",
        "a row": rows.rstrip("."),
        "classes": ", ".join(model.classes),
    }
    if data.get("conditions"):
        from undiffuse.data import Conditions

        own = Conditions.restore(data)
        facts["conditions"] = words_for(own.describe()) if own is not None else ""
    listed = "\n".join(f"- {what}: {said}" for what, said in facts.items() if said)
    kind = type(model).__name__
    article = "an" if (model.preset or kind)[0] in "aeiou" else "a"
    return (
        f"{article.capitalize()} {model.preset or kind} model made with undiffuse: it draws rows "
        f"like those it was trained on.\n\n{listed}"
    )


def _use(name: str, model: GenerativeModel) -> str:
    out = model.form.suggested_out if model.form is not None else "samples.npy"
    return f"""## How to use it

```sh
pip install 'undiffuse[hub]'
undiffuse sample hf://{name} -n 16 --out {out}
```

```python
import undiffuse as ud

model = ud.open("hf://{name}")  # "hf://{name}@COMMIT" pins a revision
samples = model.sample(16, seed=0)
```

The files are JSON and safetensors: opening them runs no code."""


def _measured(run: Run, report: Mapping[str, Any] | None) -> str:
    if report is None:
        return "## How good it is\n\nNot measured: it was published without a report."
    verdict, data = report["verdict"], report["data"]
    lines = [
        "## How good it is",
        "",
        f"{verdict['sentence']} {verdict['advice']}".strip(),
        "",
        f"{report['samples']:,} samples ({words_for(report['sampler'])}) against "
        f"{data['held_out_rows']:,} rows held out from training, by the features "
        f"{report['features']['name']}. The floor of a figure is its value between two disjoint "
        "sets of real rows.",
        "",
        "| figure | value | 95 % interval | floor | better | rows |",
        "|---|---|---|---|---|---|",
        *_figures(report),
    ]
    if missing := (report.get("likelihood") or {}).get("none"):
        lines += ["", f"Likelihood: {missing}"]
    if meaning := (report.get("likelihood") or {}).get("meaning"):
        lines += ["", f"Likelihood: {meaning}"]
    lines += [f"\n{warning}" for warning in report.get("warnings", ())]
    if (stale := stale_report(run, report)) is not None:
        lines += ["", stale]
    return "\n".join(lines)


def stale_report(run: Run, report: Mapping[str, Any]) -> str | None:
    """Return a sentence on a report that is of other weights than the run's; None for its own."""
    measured, now = (report.get("speed") or {}).get("steps"), run.state["step"]
    if measured in (None, now):
        return None
    return f"The report is of step {measured:,}, and the weights are of step {now:,}."


def _figures(report: Mapping[str, Any]) -> Iterator[str]:
    """A line of the table for each figure that has a value."""
    for group in _GROUPS:
        for name, one in (report.get(group) or {}).items():
            if not isinstance(one, Mapping) or one.get("value") is None:
                continue
            low, high = (_short(one.get(end)) for end in ("low", "high"))
            cells = (
                name.replace("_", " "),
                _short(one["value"]),
                f"{low} to {high}",
                _short(one.get("floor")),
                _BETTER.get(one.get("better", ""), ""),
                f"{one.get('n') or 0:,}",
            )
            yield f"| {' | '.join(cells)} |"


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"


def _made(run: Run, model: GenerativeModel) -> str:
    state, config = run.state, run.config
    facts = {
        "training": f"{state['step']:,} steps in {format_duration(state['elapsed'])}"
        + ("" if state["finished"] else " (not finished)"),
        "parameters": f"{model.parameter_count:,}",
        "started from": (config.get("origin") or {}).get("from"),
        "versions": f"undiffuse {config['undiffuse']}, torch {config.get('torch')}",
    }
    listed = "\n".join(f"- {what}: {said}" for what, said in facts.items() if said)
    kept = ""
    if model.condition_rows:
        kept = (
            f"\n\nThe weights hold the conditions of {model.condition_rows:,} training rows: "
            "samples are given those by default."
        )
    return f"## How it was made\n\n{listed}{kept}"
