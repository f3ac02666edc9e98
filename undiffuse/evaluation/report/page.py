"""The frame of every report: one document that asks nothing of the network, and the pieces that all sections use.

The style stands in the document, pictures are data, and a policy in its head forbids whatever else a browser could
want to fetch or run.
"""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files

from undiffuse.evaluation.report.markup import Child, Html, join, tag

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_SHARP = 700  # pixels of width; smaller pictures are enlarged with sharp edges
_HEAD = b"\x89PNG\r\n\x1a\n"


def document(title: str, *body: Child) -> str:
    """A whole HTML document."""
    style = files("undiffuse.evaluation.report").joinpath("style.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", Html(style)),
    )
    return (
        "<!doctype html>\n" + tag("html", head, tag("body", tag("main", *body)), lang="en") + "\n"
    )


def section(title: str, *content: Child, about: str = "") -> Html | None:
    """A part with a heading, under the anchor of its title; None if there is nothing in it."""
    if not join(*content):
        return None
    name = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    lead = tag("p", about, class_="about") if about else None
    return tag("section", tag("h2", title), lead, *content, id=name)


def picture(png: bytes, caption: str, *, alt: str = "") -> Html:
    """A PNG as data, at most as wide as there is room; tiny pixels stay sharp. Raises ValueError if it is no PNG."""
    if not png.startswith(_HEAD):
        raise ValueError("a picture of a report is a PNG")
    width, height = struct.unpack(">II", png[16:24])
    source = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    sharp = "sharp" if width < _SHARP else None
    image = tag("img", src=source, alt=alt or caption, width=width, height=height, class_=sharp)
    return tag("figure", image, tag("figcaption", caption) if caption else None, class_="picture")


def pairs(entries: Iterable[tuple[str, str]]) -> Html | None:
    """Names and what belongs to them, as a list of terms; nothing for an empty one."""
    rows = [tag("div", tag("dt", name), tag("dd", value)) for name, value in entries if value]
    return tag("dl", rows, class_="terms") if rows else None


def table(
    head: Sequence[str], rows: Iterable[Sequence[Child]], *, label: str, class_: str = ""
) -> Html:
    """A table that scrolls by itself where it is too wide; the first cell of each row is the row's heading."""
    top = tag("tr", [tag("th", name, scope="col") for name in head])
    body = [
        tag(
            "tr",
            [
                tag("th" if i == 0 else "td", cell, scope=None if i else "row")
                for i, cell in enumerate(row)
            ],
        )
        for row in rows
    ]
    inner = tag("table", tag("thead", top), tag("tbody", body), class_=class_ or None)
    return tag("div", inner, class_="scroll", role="region", aria_label=label, tabindex=0)


def notes(texts: Iterable[str], *, title: str = "Keep in mind") -> Html | None:
    """Sentences that warn, if there are any."""
    items = [tag("li", text) for text in texts if text]
    return tag("aside", tag("strong", title), tag("ul", items), class_="mind") if items else None


def sentence(text: str) -> str:
    """A text with a capital first letter and a full stop.

    >>> sentence("the floor is that of 40 real rows")
    'The floor is that of 40 real rows.'
    """
    text = closed(text.strip())
    return text[:1].upper() + text[1:]


def closed(text: str) -> str:
    """With a full stop, and signs as in print; it may begin with the name of a preset, so its first letter stays.

    >>> closed("edm is better by -3.1 +- 0.2")
    'edm is better by −3.1 ± 0.2.'
    """
    text = re.sub(r"(?<![\w.])-(?=\d)", "−", text.replace("+-", "±"))
    return text if text[-1:] in ("", ".", "!", "?") else text + "."


def badge(state: str, text: str) -> Html:
    """A word in the colour of its state."""
    return tag("span", text, class_=f"badge is-{re.sub(r'[^a-z]', '', state)}")


def first_known(facts: Mapping[str, object], names: Iterable[str]) -> str:
    """The first of these facts that says something, as text."""
    return next((str(facts[name]) for name in names if facts.get(name)), "")
