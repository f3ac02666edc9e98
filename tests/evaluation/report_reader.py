"""A document as a reader meets it, taken apart by the standard library, for the
tests of the report.
"""

from __future__ import annotations

from html.parser import HTMLParser

VOID = {"br", "img", "link", "meta", "wbr"}


class Page(HTMLParser):
    """A document taken apart by the standard library; `problems`: elements that are
    not closed in order.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.opened: list[tuple[str, dict[str, str | None]]] = []
        self.stack: list[tuple[str, str]] = []
        self.problems: list[str] = []
        self.texts: dict[str, str] = {}  # by the innermost id around it; "" holds all text
        self.pieces: dict[str, list[str]] = {}  # the same, apart
        self.values: dict[str, str] = {}  # text of class "value", by the same
        self.feed(html)
        self.close()
        self.problems += [f"<{name}> is not closed" for name, _ in self.stack]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.opened.append((tag, dict(attrs)))
        if tag not in VOID:
            self.stack.append(
                (tag, dict(attrs).get("id") or (self.stack[-1][1] if self.stack else ""))
            )

    def handle_endtag(self, tag: str) -> None:
        if not self.stack or self.stack[-1][0] != tag:
            self.problems.append(f"</{tag}> closes nothing")
        else:
            self.stack.pop()

    def handle_data(self, data: str) -> None:
        name, where = self.stack[-1] if self.stack else ("", "")
        if name == "style":
            return
        self.texts[""] = self.texts.get("", "") + data
        if where:
            self.texts[where] = self.texts.get(where, "") + data
            self.pieces.setdefault(where, []).append(data)
        if self.opened and self.opened[-1][1].get("class") == "value" and name == "b":
            self.values.setdefault(where, data)


def read(text: str) -> float:
    """The number that a reader sees."""
    text = text.replace("−", "-").replace(",", "")
    powers = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    mantissa, _, power = text.partition(" × 10")
    return float(mantissa) * 10.0 ** int(power.translate(powers) or 0)
