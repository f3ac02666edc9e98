"""What plug-ins there are: names and origins, without importing any of them.

    undiffuse.presets, .networks, .kinds, .loggers, .steps, .schedules    groups of entry points

An installed package says in its `entry_points.txt` what it has. Those files are read as text, so
that help can list the names and answer at once; `undiffuse.plugins` imports the parts when a
command runs. A run records where each part that it is made of came from, and is opened only if it
is there: `require`.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, final

from undiffuse.errors import InputError

GROUPS: Mapping[str, str] = {
    "presets": "preset",
    "networks": "network",
    "kinds": "kind of data",
    "loggers": "logger",
    "steps": "step",
    "schedules": "schedule",
}
"""Group -> what one of it is called."""

NEEDED = ("networks", "kinds", "steps", "schedules")  # to open a run, which keeps no preset
_PREFIX, _FILE = "undiffuse.", "entry_points.txt"


@final
@dataclass(frozen=True)
class Origin:
    """Where a part came from: a package, a file, or a module.

    Args:
        package: name of the installed package; "" for none.
        version: its version.
        file: name of the file; "" for none.
        sha256: of its text.
        module: where the class or function was defined, of a part given in Python.
    """

    package: str = ""
    version: str = ""
    file: str = ""
    sha256: str = ""
    module: str = ""

    @property
    def tree(self) -> dict[str, str]:
        """What a run records of it."""
        return {name: value for name, value in vars(self).items() if value}

    def __str__(self) -> str:
        """Return what it is called in a sentence."""
        if self.package:
            return f"the package {self.package} {self.version}".rstrip()
        return f"the file {self.file}" if self.file else f"the module {self.module}"

    @property
    def same_source(self) -> tuple[str, str, str]:
        """Equal for two versions of one package or file."""
        return self.package, self.file, self.module

    @property
    def advice(self) -> str:
        """What to do where it is not there."""
        if self.package:
            version = f"=={self.version}" if self.version else ""
            return f"pip install {self.package}{version}"
        if self.file:
            return f'give it: --plugin {self.file}, or ud.plug_in("{self.file}")'
        return "define it again and give it to ud.plug_in"


@final
@dataclass(frozen=True)
class Entry:
    """An entry point: `value` is "module:attribute", `folder` the package's .dist-info."""

    group: str
    name: str
    value: str
    folder: Path


PLUGGED: dict[tuple[str, str], Origin] = {}  # (group, name) -> origin, of parts that are loaded
FAILED: dict[tuple[str, str], str] = {}  # (group, name) -> why an entry point was left out


@cache
def installed() -> tuple[Entry, ...]:
    """Return the entry points of all installed packages, in the order of the search path."""
    found: dict[Path, tuple[Entry, ...]] = {}
    for folder in dict.fromkeys(sys.path):
        try:
            names = sorted(os.listdir(folder or "."))
        except OSError:
            continue
        for name in names:
            if name.endswith((".dist-info", ".egg-info")):
                place = Path(folder or ".", name).absolute()
                found.setdefault(place, tuple(_entries(place)))
    return tuple(entry for entries in found.values() for entry in entries)


def _entries(folder: Path) -> Iterator[Entry]:
    try:
        text = (folder / _FILE).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return
    if f"[{_PREFIX}" not in text:
        return
    parser = configparser.ConfigParser(delimiters="=", interpolation=None, strict=False)
    parser.optionxform = str  # pyright: ignore[reportAttributeAccessIssue] - names keep their case
    try:
        parser.read_string(text)
    except configparser.Error:
        return
    for group in GROUPS:
        section = f"{_PREFIX}{group}"
        for name, value in parser.items(section) if parser.has_section(section) else ():
            yield Entry(group, name, value, folder)


def names(group: str) -> tuple[str, ...]:
    """Return the names of a group's plug-ins: those that are installed, and those given."""
    there = [one.name for one in installed() if one.group == group]
    given = [name for other, name in PLUGGED if other == group]
    return tuple(name for name in dict.fromkeys([*there, *given]) if (group, name) not in FAILED)


def record(config: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return group, name and origin of each plug-in that a run's config.json names.

    >>> record({"preset": "edm", "model": {"kind": "diffusion"}, "data": {"kind": "arrays"}})
    []
    """
    model, data = config["model"], config["data"]
    used = {*_kinds(model), model.get("method")}
    return [
        {"group": group, "name": name, **origin.tree}
        for (group, name), origin in PLUGGED.items()
        if (group == "presets" and name == config["preset"])
        or (group == "kinds" and name == data.get("kind"))
        or (group in ("networks", "steps", "schedules") and name in used)
    ]


def _kinds(tree: Any) -> Iterator[str]:
    if isinstance(tree, Mapping):
        if isinstance(tree.get("kind"), str):
            yield tree["kind"]
        for value in tree.values():
            yield from _kinds(value)
    elif isinstance(tree, list | tuple):
        for value in tree:
            yield from _kinds(value)


def require(
    config: Mapping[str, Any], where: str, groups: Collection[str] = NEEDED
) -> tuple[str, ...]:
    """Check that the plug-ins a run is made of are there.

    Args:
        config: its config.json.
        where: the run, for messages.
        groups: whose parts are needed.

    Returns:
        Sentences on plug-ins whose version or text is another one now.

    Raises:
        InputError: one is not there, naming it and what to do.

    >>> lost = {"group": "steps", "name": "ab2", "package": "lab", "version": "1.0"}
    >>> require({"plugins": [lost]}, "runs/a")
    Traceback (most recent call last):
    undiffuse.errors.InputError: runs/a: its step ab2 is from the package lab 1.0, which is not
    there; pip install lab==1.0.
    """
    notes: list[str] = []
    fields = Origin.__dataclass_fields__
    for one in config.get("plugins", ()):
        key = one.get("group", ""), one.get("name", "")
        if key[0] not in groups:
            continue
        then = Origin(**{name: value for name, value in one.items() if name in fields})
        now = PLUGGED.get(key)
        what = f"{where}: its {GROUPS[key[0]]} {key[1]} is from {then}"
        if now is None or now.same_source != then.same_source:
            why = f", which could not be loaded: {FAILED[key]}" if key in FAILED else ""
            raise InputError(f"{what}{why or f', which is not there; {then.advice}'}.")
        if now != then:
            notes.append(f"{what}, which is another version now: {now}")
    return tuple(notes)
