"""Write docs/cli.md from the command line's own help, the table of solvers from their registry, the
equation index and the errata, and check every relative link.

The first page is what `--help` prints at 100 columns, so it cannot say anything that the program
does not.
"""

import os
import re
import subprocess
import sys
from pathlib import Path
from runpy import run_path

from undiffuse.cli.app import VERBS
from undiffuse.diffusion import EDM, METHODS, STEPS, LogSNR, Step
from undiffuse.models.methods import evaluations

ROOT = Path(__file__).parent.parent
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
TABLE = re.compile(r"^\| step \|.*?(?=\n\n)", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^#+\s+(.+)$", re.MULTILINE)


def pages() -> list[Path]:
    """Every page that people read: those in docs/, beside the benchmarks, and at the top."""
    return [
        page
        for folder in (".", "docs", "docs/api", "docs/howto", "docs/systems", "benchmarks")
        for page in sorted((ROOT / folder).glob("*.md"))
    ]


def anchors(page: Path) -> set[str]:
    """What a rendered page calls its headings: lower case, punctuation gone, spaces to hyphens."""
    headings = HEADING.findall(FENCE.sub("", page.read_text(encoding="utf-8")))
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


def broken_links() -> list[str]:
    """`page: link` for each relative link to a file, folder or heading that does not exist."""
    broken = []
    for page in pages():
        for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
            name, _, anchor = link.partition("#")
            if "://" in link or link.startswith("mailto:"):
                continue
            target = (page.parent / name).resolve() if name else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    return broken


def command_line_page() -> str:
    """The help of every command, as it is printed."""
    plain = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}
    parts = ["# The command line\n\nWritten by `make docs` from the program's own help.\n"]
    for words in (["undiffuse"], *(["undiffuse", verb.name] for verb in VERBS)):
        program = [sys.executable, "-m", *words, "--help"]
        done = subprocess.run(program, capture_output=True, text=True, check=True, env=plain)
        text = "\n".join(line.rstrip() for line in done.stdout.strip().splitlines())
        parts.append(f"## {' '.join(words)}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def order_of(step: Step) -> str:
    """The order that a step declares, "-" if it declares none."""
    weak = None if step.weak_order is None else f"weak {step.weak_order}"
    return str(step.order or weak or "-")


def solver_row(made: type[Step]) -> str:
    """What a step declares of itself, and how often it calls the network in ten steps."""
    plain, names = made(), [name for name, step in METHODS.items() if isinstance(step, made)]
    orders = {order_of(plain): ""}
    for arguments in made.variants.values():
        words = ", ".join(f"{name}={value}" for name, value in arguments.items())
        orders.setdefault(order_of(made(**arguments)), f" with `{words}`")
    schedule = EDM()
    calls = evaluations(plain, LogSNR()(schedule, 10), schedule)
    cells = (
        f"`{made.__name__}`",
        ", ".join(f"`{name}`" for name in names) or "-",
        made.formula,
        "; ".join(order + setting for order, setting in orders.items()),
        "as the tolerance asks" if made.adaptive else f"{calls:,}",
        made.source,
    )
    return f"| {' | '.join(cells)} |"


def solver_table() -> str:
    """A row for each registered step: deterministic ones first, then those that draw noise."""
    steps = sorted(STEPS.items(), key=lambda item: (item[1]().order is None, item[0]))
    head = "| step | `--method` | formula, in short | order | evaluations in 10 steps | source |"
    rows = (solver_row(made) for _, made in steps)
    return "\n".join([head, "|---|---|---|---|---|---|", *rows])


if __name__ == "__main__":
    solvers = ROOT / "docs" / "systems" / "solvers.md"
    text = TABLE.sub(lambda _: solver_table(), solvers.read_text(encoding="utf-8"))
    solvers.write_text(text, encoding="utf-8")
    print(f"Wrote the table of {solvers.relative_to(ROOT)}.")
    page = ROOT / "docs" / "cli.md"
    page.write_text(command_line_page(), encoding="utf-8")
    print(f"Wrote {page.relative_to(ROOT)}.")
    run_path(str(ROOT / "scripts" / "equations.py"), run_name="__main__")
    if broken := broken_links():
        sys.exit("Links that lead nowhere:\n" + "\n".join(broken))
    print(f"Every link in {len(pages())} pages leads somewhere.")
