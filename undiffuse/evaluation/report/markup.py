"""HTML as nested calls: text is escaped, and only what `tag` made is not.

A string is text until `tag` has put it into an element; so a preset, a column or a path that holds "<" can be shown
anywhere and break nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import final

_VOID = {"br", "img", "link", "meta", "wbr"}


@final
class Html(str):
    """HTML that is ready to be written."""

    __slots__ = ()


Piece = str | Iterable[str] | None
Child = str | Iterable[Piece] | None  # text, HTML, several of them, or nothing


def tag(name: str, /, *children: Child, **attributes: str | int | float | None) -> Html:
    """An element. In attributes `_` stands for `-`, and one at the end is dropped; None and False leave one out.

    >>> print(tag("p", "1 < 2, ", tag("b", "so it is"), class_="note"))
    <p class="note">1 &lt; 2, <b>so it is</b></p>
    """
    given = "".join(
        _attribute(key, value) for key, value in attributes.items() if value not in (None, False)
    )
    opened = f"<{name}{given}>"
    return Html(opened if name in _VOID else f"{opened}{join(*children)}</{name}>")


def join(*children: Child) -> Html:
    """Several pieces, one after another; text among them is escaped.

    >>> print(join("a & b", [tag("br"), None, "c"]))
    a &amp; b<br>c
    """
    return Html("".join(_flat(child) for child in children))


def _flat(child: object) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return child
    if isinstance(child, Iterable) and not isinstance(child, str):
        return "".join(_flat(each) for each in child)
    return escape(str(child), quote=False)


def _attribute(key: str, value: str | int | float | None) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    shown = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f' {name}="{escape(shown)}"'
