"""`undiffuse selfcheck`: the closed forms, checked where the library is installed."""

from __future__ import annotations

from undiffuse.cli.verb import Asked, verb
from undiffuse.options import SelfcheckOptions


@verb("[OPTIONS]", example="undiffuse selfcheck --json")
def selfcheck(asked: Asked[SelfcheckOptions]) -> int:
    """Check the installed mathematics against closed forms.

    Prints a table of law, error and bound within seconds. The exit code is 1 if a law fails.
    """
    from rich.console import Console
    from rich.table import Table

    from undiffuse.selfcheck import findings

    terminal = asked.terminal
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
