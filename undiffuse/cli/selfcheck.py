"""`undiffuse selfcheck`: the closed forms, checked where the library is installed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from cyclopts import Parameter

from undiffuse.cli.settings import check, flag, given


@dataclass(kw_only=True)
class SelfcheckOptions:
    """How the findings are shown."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - pydantic reads it off the class

    json: Annotated[bool | None, flag("Print one JSON object.")] = None
    quiet: Annotated[
        bool | None, flag("Print nothing but errors (with --json: and the object).")
    ] = None


def selfcheck(*, options: Annotated[SelfcheckOptions | None, Parameter(name="*")] = None) -> int:
    """Check the mathematics against closed forms, here and now.

    A table of law, error and bound, in seconds. The exit code is 1 if a law does not hold.
    """
    from rich.console import Console
    from rich.table import Table

    from undiffuse.cli.terminal import Terminal
    from undiffuse.selfcheck import check as findings

    chosen = check(SelfcheckOptions, given(options))
    terminal = Terminal(quiet=chosen.quiet, as_json=chosen.json)
    found = list(findings())
    holds = all(finding.holds for finding in found)
    laws = [{**finding._asdict(), "holds": finding.holds} for finding in found]
    terminal.result({"laws": laws, "holds": holds})
    if not terminal.as_json and not terminal.quiet:
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
        table.add_column("law")
        table.add_column("error", justify="right")
        table.add_column("bound", justify="right")
        table.add_column()
        for finding in found:
            verdict = "holds" if finding.holds else "[bold red]FAILS[/]"
            table.add_row(finding.law, f"{finding.error:.1e}", f"{finding.bound:.1e}", verdict)
        Console(highlight=False).print(table)
    return 0 if holds else 1
