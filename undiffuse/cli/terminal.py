"""What the command line writes: text for people on standard error, results on standard output.

`--quiet` silences the text, `--json` prints the result as one JSON object; errors always appear. Of
several processes that work together only the first writes.
"""

from __future__ import annotations

import json
import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping
from typing import Any, final

from rich.console import Console
from rich.text import Text

from undiffuse.rank import follows


@final
class Terminal:
    """Standard error for words (none if `quiet`), standard output for the result (if `as_json`).

    `heard` is called with each line of text, printed or not.
    """

    def __init__(
        self,
        *,
        quiet: bool | None = False,
        as_json: bool | None = False,
        heard: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.quiet, self.as_json = bool(quiet) or follows(), bool(as_json) and not follows()
        self.console = Console(stderr=True, quiet=self.quiet, highlight=False, soft_wrap=True)
        self.heard = heard

    @property
    def lively(self) -> bool:
        """Whether moving bars and lines can be drawn."""
        return self.console.is_terminal and not self.quiet

    def say(self, text: str, style: str = "") -> None:
        """Print a line of text."""
        self.heard(text)
        if not self.quiet:
            self.console.print(text, style=style or None, markup=False)

    def facts(self, rows: Iterable[tuple[str, str]]) -> None:
        """Print names and values in two columns."""
        print_facts(self.console, rows)

    def result(self, tree: Mapping[str, Any]) -> None:
        """Print the result as a JSON object, if one was asked for."""
        if self.as_json:
            sys.stdout.write(json.dumps(plain(tree), ensure_ascii=False) + "\n")
            sys.stdout.flush()


def print_facts(console: Console, rows: Iterable[tuple[str, str]]) -> None:
    """Print a line for each name and value; long values are wrapped on a terminal only."""
    rows = list(rows)
    indent = max(len(name) for name, _ in rows) + 2
    for name, text in rows:
        lines = (
            textwrap.wrap(text, max(console.width - indent, 20)) if console.is_terminal else [text]
        )
        line = Text.assemble((name.ljust(indent), "bold"), f"\n{' ' * indent}".join(lines))
        console.print(line, soft_wrap=True)


def plain(value: Any) -> Any:
    """Return `value` as JSON has it: paths as text, NumPy's numbers as numbers, null for nan.

    >>> plain({"loss": float("nan"), "shape": (1, 8)})
    {'loss': None, 'shape': [1, 8]}
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not (float("-inf") < value < float("inf")):
        return None
    return value if value is None or isinstance(value, str | int | float) else str(value)


def number(value: float | None) -> str:
    """Write a number with four significant digits; a dash for None.

    >>> number(0.123456), number(1234567.0), number(None)
    ('0.1235', '1.235e+06', '-')
    """
    return "-" if value is None or value != value else f"{value:.4g}"
