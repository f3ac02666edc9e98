"""Docstrings are written for people in a terminal; here they become reStructuredText.

Indented lines are formulas or code and stay as they are, and signs such as * and | stand for
themselves.
"""

from __future__ import annotations

import re
from typing import Any

SECTION = re.compile(r"^(Args|Returns|Raises|Attributes|Yields|Note|Example)s?:\s*$")
CODE = re.compile(r"(`[^`]*`)")
SPECIAL = re.compile(r"([*|\\])|(?<=\w)(_)(?!\w)")


def escaped(line: str) -> str:
    """A line of prose whose signs stand for themselves, but for what is between backticks."""
    parts = CODE.split(line)
    return "".join(part if i % 2 else SPECIAL.sub(r"\\\g<0>", part) for i, part in enumerate(parts))


def converted(lines: list[str]) -> list[str]:
    """The lines of a docstring as reStructuredText with Google's sections."""
    result: list[str] = []
    in_section = in_block = in_doctest = False
    for line in lines:
        blank, indented = not line.strip(), line.startswith("    ")
        if SECTION.match(line):
            in_section, in_block, in_doctest = True, False, False
            result.append(line)
            continue
        if not blank and not indented:
            in_section = in_block = False
            in_doctest = line.startswith(">>>") or in_doctest
        if blank:
            in_doctest = False
            result.append(line)
        elif in_doctest:
            result.append(line)
        elif in_section:
            result.append(line[:4] + escaped(line[4:].lstrip("*")) if indented else escaped(line))
        elif indented:
            if not in_block:
                result += [] if result and not result[-1] else [""]
                result += ["::", ""]
                in_block = True
            result.append(line)
        else:
            if result and result[-1].startswith("    "):
                result.append("")
            result.append(escaped(line))
    return result


def convert(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Called by autodoc for each docstring, before napoleon."""
    lines[:] = converted(lines)


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", convert, priority=400)
    return {"parallel_read_safe": True}
