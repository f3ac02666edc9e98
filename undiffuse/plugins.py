"""Parts of third parties: a step, schedule, network, preset, logger or kind of data, by name.

    [project.entry-points."undiffuse.steps"]      in the pyproject.toml of a package
    adams_bashforth = "my_package:AdamsBashforth"

    undiffuse train ... --plugin my_parts.py      a file that holds
    ud.plug_in("my_parts.py")                     PLUGIN = {"steps": {"adams_bashforth": ...}}
    ud.plug_in({"steps": {"adams_bashforth": AdamsBashforth}})

A part stands in the same registry as ours from then on. Code is run for two reasons only: its
package is installed with an entry point, or its file was given; never because a run names it.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from inspect import isabstract
from pathlib import Path
from types import ModuleType
from typing import Any, final

from torch import nn

from undiffuse.data.kind import KINDS, Kind
from undiffuse.diffusion import METHODS, PARTS, SCHEDULES, STEPS, Schedule, Step
from undiffuse.errors import InputError, unknown
from undiffuse.models import PRESETS, GenerativeModel, recorded_kinds
from undiffuse.models.diffusion import PUBLISHED
from undiffuse.nn import NETWORKS
from undiffuse.plugged import FAILED, GROUPS, PLUGGED, Entry, Origin, installed
from undiffuse.reading import read_text, said
from undiffuse.training.loggers import LOGGERS, Logger

Parts = Mapping[str, Mapping[str, Any]]
_NAME, _EXAMPLE = re.compile(r"[A-Za-z]\w*"), 'PLUGIN = {"steps": {"mine": MyStep}}'
_MOST = 2**22  # bytes of a file


@final
@dataclass(frozen=True)
class _Registry:
    """What a group takes, and where it goes."""

    wanted: str
    fits: Callable[[Any], bool]
    taken: Callable[[], Collection[str]]
    put: Callable[[str, Any], None]


def _class_of(base: type) -> Callable[[Any], bool]:
    return lambda part: isinstance(part, type) and issubclass(part, base) and not isabstract(part)


def _put_step(name: str, step: type[Step]) -> None:
    METHODS.pop(name, None)
    STEPS[name] = PARTS[name] = step
    if step.from_noise:
        METHODS[name] = step()


def _put_schedule(name: str, schedule: type[Schedule]) -> None:
    SCHEDULES[name] = PARTS[name] = schedule


def _put_preset(name: str, make: Callable[..., GenerativeModel]) -> None:
    @wraps(make)
    def made(data: Any = None, **options: Any) -> GenerativeModel:
        model = make(data, **options)
        model.preset = name
        return model

    PRESETS[name] = made


def _parts_taken() -> Collection[str]:
    return (*recorded_kinds(), *METHODS, PUBLISHED)


_REGISTRIES: Mapping[str, _Registry] = {
    "steps": _Registry("a class derived from ud.Step", _class_of(Step), _parts_taken, _put_step),
    "schedules": _Registry(
        "a class derived from ud.Schedule", _class_of(Schedule), _parts_taken, _put_schedule
    ),
    "networks": _Registry(
        "a class derived from ud.SizedNetwork or torch.nn.Module",
        _class_of(nn.Module),
        _parts_taken,
        NETWORKS.__setitem__,
    ),
    "presets": _Registry(
        "a function of (data=None, **options) that returns a model",
        lambda part: callable(part) and not isinstance(part, type),
        lambda: PRESETS,
        _put_preset,
    ),
    "kinds": _Registry(
        "a class derived from ud.Kind", _class_of(Kind), lambda: KINDS, KINDS.__setitem__
    ),
    "loggers": _Registry(
        "a class derived from ud.Logger", _class_of(Logger), lambda: LOGGERS, LOGGERS.__setitem__
    ),
}


def plug_in(parts: str | os.PathLike[str] | Parts) -> None:
    """Register parts by name, so that they are taken wherever ours are.

    A file is read again only if it has changed. Parts that are given again take the place of those
    from the same file or module.

    Args:
        parts: group -> name -> part, or a Python file that holds such a table as `PLUGIN`. Groups
            are presets, networks, kinds, loggers, steps and schedules.

    Raises:
        InputError: for a file that cannot be read or run or that holds no `PLUGIN`, an unknown
            group, a part of another type than its group takes, and a name that is taken. Nothing
            is registered then.

    >>> plug_in({"step": {}})
    Traceback (most recent call last):
    undiffuse.errors.InputError: plug_in: step: no such group. Did you mean steps? (...)
    """
    if isinstance(parts, str | os.PathLike):
        _plug_file(os.fspath(parts))
        return
    _register(_checked("plug_in", parts, _module_of))


def _module_of(part: Any) -> Origin:
    return Origin(module=str(getattr(part, "__module__", "")) or "__main__")


def _plug_file(typed: str) -> None:
    where = f"plugin {typed}"
    try:
        text = read_text(os.path.expanduser(typed), most=_MOST)
    except FileNotFoundError:
        raise InputError(f"{where}: no such file; check the path.") from None
    except (OSError, ValueError) as problem:
        why = "it is not text" if isinstance(problem, UnicodeDecodeError) else said(problem)
        raise InputError(f"{where}: could not be read: {why}; give a Python file.") from None
    sha256 = hashlib.sha256(text.encode()).hexdigest()
    origin = Origin(file=os.path.basename(typed), sha256=sha256)
    if origin in PLUGGED.values():
        return
    module = _executed(typed, text, where, sha256)
    if not hasattr(module, "PLUGIN"):
        raise InputError(f"{where}: it holds no PLUGIN; add one, such as {_EXAMPLE}.")
    _register(_checked(where, module.PLUGIN, lambda _: origin))


def _executed(typed: str, text: str, where: str, sha256: str) -> ModuleType:
    """The module that a file's text makes; classes find it by its name."""
    path = Path(os.path.expanduser(typed)).absolute()
    name = f"undiffuse_plugin_{re.sub(r'[^0-9a-zA-Z]', '_', path.stem)}_{sha256[:8]}"
    module = ModuleType(name)
    module.__file__ = str(path)
    try:
        code = compile(text, str(path), "exec")
    except (SyntaxError, ValueError) as problem:
        line = f", line {problem.lineno}" if isinstance(problem, SyntaxError) else ""
        why = problem.msg if isinstance(problem, SyntaxError) else str(problem)
        raise InputError(f"{where}{line}: is not valid Python ({why}); correct it.") from None
    except (RecursionError, MemoryError):
        why = "it is nested too deeply"
        raise InputError(f"{where}: is not valid Python ({why}); correct it.") from None
    sys.modules[name] = module
    try:
        exec(code, module.__dict__)
    except (Exception, SystemExit) as problem:
        del sys.modules[name]
        own = [one for one in traceback.extract_tb(problem.__traceback__) if one[0] == str(path)]
        line = f", line {own[-1].lineno}" if own else ""
        raise InputError(f"{where}{line}: failed ({_short(problem)}); correct it.") from problem
    return module


def _short(problem: BaseException) -> str:
    text = " ".join(str(problem).split())
    return f"{type(problem).__name__}: {text}" if text else type(problem).__name__


_Named = tuple[str, str, Any, Origin]


def _checked(where: str, table: Any, origin_of: Callable[[Any], Origin]) -> list[_Named]:
    """The parts of a table, all of which can be registered."""
    if not isinstance(table, Mapping):
        raise InputError(f"{where}: PLUGIN is not a table; write it as {_EXAMPLE}.")
    found: list[_Named] = []
    for group, parts in table.items():
        if group not in _REGISTRIES:
            raise unknown(f"{where}:", "group", str(group), GROUPS)
        if not isinstance(parts, Mapping):
            raise InputError(f"{where}: {group} is not a table of names and parts: {_EXAMPLE}.")
        for name, part in parts.items():
            origin = origin_of(part)
            _check_part(where, group, name, part, origin)
            if group in NAMESPACE and any(name == other for _, other, *_ in found):
                raise InputError(f"{where}: {name} is given twice; choose another name.")
            found.append((group, name, part, origin))
    return found


NAMESPACE = ("steps", "schedules", "networks")  # whose names are kinds in one config.json


def _check_part(where: str, group: str, name: Any, part: Any, origin: Origin) -> None:
    """Raise InputError for a part that cannot be registered under this name."""
    registry, what = _REGISTRIES[group], f"{where}: {GROUPS[group]} {name}"
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(f"{what}: a name is letters, digits and _; choose another name.")
    if not registry.fits(part):
        kind = f"the class {part.__name__}" if isinstance(part, type) else type(part).__name__
        whole = ", with all of its abstract methods" if isabstract(part) else ""
        raise InputError(f"{what}: is {kind}; give {registry.wanted}{whole}.")
    before = PLUGGED.get((group, name))
    if name in registry.taken() and (before is None or before.same_source != origin.same_source):
        who = "undiffuse" if before is None else str(before)
        raise InputError(f"{what}: this name is taken by {who}; choose another name.")
    if group == "kinds" and getattr(part, "name", None) != name:
        raise InputError(f'{what}: its attribute name has to be the same; write name = "{name}".')
    if group in ("steps", "kinds", "loggers"):
        try:
            part()
        except (Exception, SystemExit) as problem:
            raise InputError(
                f"{what}: cannot be made without arguments ({_short(problem)}); give them defaults."
            ) from problem


def _register(parts: list[_Named]) -> None:
    for group, name, part, origin in parts:
        _REGISTRIES[group].put(name, part)
        PLUGGED[group, name] = origin
        FAILED.pop((group, name), None)


# --- entry points

_done: set[Entry] = set()


def warn(sentence: str) -> None:
    """Say that a plug-in was left out, as Python warns."""
    warnings.warn(sentence, stacklevel=3)


def load_installed(say: Callable[[str], None] = warn) -> None:
    """Import and register the entry points of installed packages that are not registered yet.

    One that cannot be is left out, which is said once in a sentence; the others go on working.

    Args:
        say: is called with each sentence.
    """
    for entry in installed():
        if entry in _done or _being_imported(entry):
            continue
        _done.add(entry)
        origin = _package(entry)
        where = str(origin)
        try:
            part = _imported(entry, where)
            _register(_checked(where, {entry.group: {entry.name: part}}, lambda _, of=origin: of))
        except InputError as problem:
            if (entry.group, entry.name) not in PLUGGED:
                FAILED[entry.group, entry.name] = str(problem).rstrip(".")
            say(f"{str(problem).rstrip('.')}; it is left out.")


def _being_imported(entry: Entry) -> bool:
    """Whether the entry's package is just being imported, and itself asked for ours: later."""
    names = entry.value.partition(":")[0].strip().split(".")
    modules = (sys.modules.get(".".join(names[: i + 1])) for i in range(len(names)))
    specs = (getattr(module, "__spec__", None) for module in modules)
    return any(getattr(spec, "_initializing", False) for spec in specs)


def _package(entry: Entry) -> Origin:
    from importlib.metadata import Distribution

    found = Distribution.at(entry.folder)
    return Origin(package=found.metadata["Name"] or entry.folder.stem, version=found.version)


def _imported(entry: Entry, where: str) -> Any:
    module, _, attributes = entry.value.partition("[")[0].partition(":")
    try:
        part: Any = import_module(module.strip())
        for name in attributes.strip().split("."):
            part = getattr(part, name)
    except (Exception, SystemExit) as problem:
        what = f"{where}: {GROUPS[entry.group]} {entry.name}"
        raise InputError(f"{what}: could not be loaded ({_short(problem)})") from problem
    return part
