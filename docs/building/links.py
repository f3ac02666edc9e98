"""Pages are written to be read on a code host as well; here their links become the site's.

A page that is linked on another page of its folder stands below it in the contents, so no page
needs a list of its own for Sphinx. A link to the source of a task leads to the page that its run
made.
"""

from __future__ import annotations

import re
from typing import Any

PARENTS = ("docs/systems/README", "docs/howto/index", "docs/api/index")
PAGE = re.compile(r"\]\((\w+)\.md\)")
TASK = re.compile(r"\]\(((?:\.\./)*)tasks/(\w+)\.(?:py|rst)\)")


def site_links(name: str, text: str) -> str:
    """The Markdown of the page `name` as Sphinx reads it."""
    if name in PARENTS:
        pages = "\n".join(dict.fromkeys(PAGE.findall(text)))
        text += f"\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n"

    def made(link: re.Match[str]) -> str:
        page = "index" if link[2] == "README" else link[2]
        return f"]({link[1]}gallery/{page}.rst)"

    return TASK.sub(made, text)


def rewrite(app: Any, name: str, content: list[str]) -> None:
    """Called by Sphinx for the source of each page."""
    if name.startswith("docs/") and not name.startswith("docs/gallery"):
        content[0] = site_links(name, content[0])


def setup(app: Any) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("source-read", rewrite)
    return {"parallel_read_safe": True}
