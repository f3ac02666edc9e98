"""How objects are shown: a line of text for `repr`, and HTML for a notebook's `_repr_html_`.

words_for(value)      a plain value as a person writes it
Table(rows)           rows of plain values, as text and as HTML
card(title, facts)    a title, facts in two columns, pictures
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from PIL import Image

MOST_CLASSES = 12  # entries of a mapping that are shown
MOST_COLUMN = 100  # characters of a cell of text
PICTURED = 36  # rows in a picture


def words_for(value: Any) -> str:
    """Return a plain value as a person writes it.

    >>> words_for([5, 33, 20]), words_for({"cat": 12, "dog": 1300}), words_for(0.25)
    ('5 x 33 x 20', 'cat 12, dog 1,300', '0.25')
    """
    if isinstance(value, Mapping):
        parts = [f"{name} {words_for(item)}" for name, item in value.items()]
        more = f", ... ({len(parts)} in all)" if len(parts) > MOST_CLASSES else ""
        return ", ".join(parts[:MOST_CLASSES]) + more
    if isinstance(value, Sequence) and not isinstance(value, str):
        numbers = all(isinstance(item, int) for item in value)
        return (" x " if numbers else ", ").join(map(str, value)) or "one number"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"


@final
class Table(Sequence[Mapping[str, Any]]):
    """Rows of plain values, each with the same columns, the first of which is a name.

    Args:
        rows: returns the rows.

    >>> from undiffuse import presets
    >>> presets["edm"]["family"], "ddpm" in presets.names
    ('diffusion', True)
    """

    def __init__(self, rows: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
        self._rows = rows

    @property
    def rows(self) -> tuple[Mapping[str, Any], ...]:
        """The rows as they are now."""
        return tuple(self._rows())

    @property
    def names(self) -> tuple[str, ...]:
        """The name of each row."""
        return tuple(str(next(iter(row.values()))) for row in self.rows)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.rows)

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        """Return the rows in order."""
        return iter(self.rows)

    def __getitem__(self, which: Any) -> Any:
        """Return the row of a name or a number. Raises KeyError for a name that is not there."""
        if isinstance(which, str):
            if which not in self.names:
                raise KeyError(f"{which}: no such row; there are {', '.join(self.names)}")
            return self.rows[self.names.index(which)]
        return self.rows[which]

    def __repr__(self) -> str:
        """Return the rows as aligned text."""
        heads = [str(name).replace("_", " ") for name in self.rows[0]]
        cells = [[_cell(value)[:MOST_COLUMN] for value in row.values()] for row in self.rows]
        widths = [max(map(len, column)) for column in zip(heads, *cells)]
        return "\n".join(
            "  ".join(word.ljust(width) for word, width in zip(line, widths)).rstrip()
            for line in (heads, *cells)
        )

    def _repr_html_(self) -> str:
        return html_table(self.rows)


def is_table(value: Any) -> bool:
    """Return whether a plain value is rows of a table."""
    return isinstance(value, list) and bool(value) and isinstance(value[0], Mapping)


def html_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return rows of the same columns as an HTML table."""
    heads = "".join(f"<th>{escape(str(name).replace('_', ' '))}</th>" for name in rows[0])
    lines = ("".join(f"<td>{escape(_cell(value))}</td>" for value in row.values()) for row in rows)
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table style='text-align:left'><tr>{heads}</tr>{body}</table>"


def card(
    title: str,
    facts: Mapping[str, Any],
    *,
    pictures: Mapping[str, Image.Image | bytes] | None = None,
    tables: Iterable[Sequence[Mapping[str, Any]]] = (),
) -> str:
    """Return HTML that shows an object.

    Args:
        title: one line.
        facts: name -> plain value, in two columns; those that are None or empty are left out.
        pictures: name -> a picture, or its PNG.
        tables: rows of the same columns, each.
    """
    lines = "".join(
        f"<tr><th>{escape(name.replace('_', ' '))}</th><td>{escape(words_for(value))}</td></tr>"
        for name, value in facts.items()
        if _cell(value)
    )
    shown = "".join(
        f"<figure style='margin:0.5em 0'><figcaption>{escape(name)}</figcaption>"
        f"<img alt='{escape(name)}' style='max-width:100%' src='data:image/png;base64,"
        f"{base64.b64encode(_png(picture)).decode()}'></figure>"
        for name, picture in (pictures or {}).items()
    )
    style = "text-align:left;vertical-align:top"
    more = "".join(html_table(rows) for rows in tables if rows)
    return (
        f"<div><strong>{escape(title)}</strong><table style='{style}'>{lines}</table>{more}{shown}"
        "</div>"
    )


def _cell(value: Any) -> str:
    return "" if value is None else words_for(value)


def _png(picture: Image.Image | bytes) -> bytes:
    if isinstance(picture, bytes):
        return picture
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return stream.getvalue()
