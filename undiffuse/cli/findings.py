"""What pydantic found wrong with an option, in one sentence that names the option as it was written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from undiffuse.errors import InputError, unknown

_NEEDS = {
    "int": "a whole number",
    "float": "a number",
    "finite_number": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list of whole numbers, such as 1,2,2",
    "dataclass": "a table of options",
}


def typed_as(names: Sequence[str]) -> str:
    """How an option is typed.

    >>> typed_as(("training", "weight_decay")), typed_as(("n",))
    ('--training.weight-decay', '-n')
    """
    dotted = ".".join(names).replace("_", "-")
    return f"--{dotted}" if len(dotted) > 1 else f"-{dotted}"


def refusal(
    finding: Mapping[str, Any], name: str, *, place: str = "", siblings: Sequence[str] = ()
) -> InputError:
    """The error for one of pydantic's findings on the option `name`, which stands at `place`.

    `siblings` are the names it could have been. The sentence reads "PLACE NAME VALUE: must be ...".
    """
    kind, value, where = finding["type"], _shown(finding["input"]), f"{place} {name}".strip()
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return unknown(place, "option", name, siblings)
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", finding["ctx"]["expected"])
        return unknown(where, name.rpartition(".")[2].strip("-").replace("-", " "), value, choices)
    if kind == "value_error":
        return InputError(f"{where} {value}: {finding['ctx']['error']}.")
    listed = any(isinstance(part, int) for part in finding["loc"])
    need = next((need for start, need in _NEEDS.items() if kind.startswith(start)), finding["msg"])
    return InputError(f"{where} {value}: must be {_NEEDS['tuple'] if listed else need}.")


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
