"""Every transform and form by its kind, so that a run's config.json can name them.

A class is given as "module:name" and imported when its kind is first met: opening a run of images must not need the
packages that read tables or recordings.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

from undiffuse import parts

_PLACES = {
    "image": "undiffuse.data.arrays.transform:ImageTransform",
    "array": "undiffuse.data.arrays.transform:ArrayTransform",
    "table": "undiffuse.data.tables.transform:TableTransform",
    "audio": "undiffuse.data.recordings.read:AudioTransform",
    "image_form": "undiffuse.data.arrays.form:ImageForm",
    "array_form": "undiffuse.data.arrays.form:ArrayForm",
    "table_form": "undiffuse.data.tables.form:TableForm",
    "recordings": "undiffuse.data.recordings.read:Recordings",
}


class _Family(Mapping[str, type]):
    """kind -> class, importing the class on the way."""

    def __getitem__(self, kind: str) -> type:
        module, name = _PLACES[kind].split(":")
        return getattr(import_module(module), name)

    def __contains__(self, kind: object) -> bool:
        return kind in _PLACES

    def __iter__(self) -> Iterator[str]:
        return iter(_PLACES)

    def __len__(self) -> int:
        return len(_PLACES)


FAMILIES = _Family()


def describe_part(part: object) -> dict[str, Any]:
    """The tree of a transform or a form; only modules that are imported already can hold its class."""
    met = {
        kind: FAMILIES[kind]
        for kind, place in _PLACES.items()
        if place.split(":")[0] in sys.modules
    }
    return parts.describe(part, met)


def build_part(tree: Mapping[str, Any]) -> Any:
    """The transform or form that a tree describes. Raises InputError for a kind or an argument it does not know."""
    return parts.build(tree, FAMILIES, "data")
