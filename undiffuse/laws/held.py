"""`ud.check(part)`: whether a part keeps what undiffuse holds its own parts to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from undiffuse.data.kind import Kind
from undiffuse.diffusion import Schedule, Step
from undiffuse.errors import InputError
from undiffuse.laws.broken import BrokenLaw
from undiffuse.laws.kind_laws import KIND_LAWS, read_by, registered
from undiffuse.laws.logger_laws import LOGGER_LAWS
from undiffuse.laws.network_laws import NETWORK_LAWS, SHAPES
from undiffuse.laws.preset_laws import PRESET_LAWS, Briefly, MakeModel
from undiffuse.laws.schedule_laws import SCHEDULE_LAWS
from undiffuse.laws.step_laws import BY_DEFAULT, STEP_LAWS
from undiffuse.nn.sized import SizedNetwork
from undiffuse.training.loggers import Logger, find_loggers

Checked = TypeVar("Checked")
Laws = Mapping[str, Callable[[Checked], None]]


def check(part: Any, source: Any = None) -> None:
    """Hold a part to the laws that undiffuse's own parts of its group are held to.

    A step has its declared order on an exact Gaussian, and a row depends on its own noise alone; a
    schedule starts at the data and its inverse and slopes are right; a network keeps the shape of
    rows and trains every parameter; a preset trains, is saved and opens to the same samples; a kind
    of data decodes what it encoded; a logger takes a whole run.

    Args:
        part: a class of steps, schedules, networks (`ud.SizedNetwork`), loggers or kinds of data,
            or one of it; or a preset, a function that returns a model.
        source: what a kind of data reads: a path or an object.

    Raises:
        BrokenLaw: an AssertionError that names the part and the first law that it does not keep.
        InputError: for what is no part, and a kind of data without a source.

    >>> import undiffuse as ud
    >>> ud.check(ud.Linear)
    """
    if _is_a(part, Step):
        _check_steps(part)
    elif _is_a(part, Schedule):
        _check_schedules(part)
    elif _is_a(part, SizedNetwork):
        network = part if isinstance(part, type) else type(part)
        for axes in network.axes:
            for shape in SHAPES[axes]:
                _run(_name(network, "network"), NETWORK_LAWS, (network, shape))
    elif _is_a(part, Logger):
        logger = part() if isinstance(part, type) else part
        find_loggers([logger])
        _run(_name(part, "logger"), LOGGER_LAWS, logger)
    elif _is_a(part, Kind):
        _check_kind(part() if isinstance(part, type) else part, source)
    elif callable(part) and not isinstance(part, type):
        preset: MakeModel = part  # pyright: ignore[reportAssignmentType] - what it returns is checked
        cases = [Briefly(preset, (2,)), Briefly(preset, (6, 6))]
        _run(_name(part, "preset"), PRESET_LAWS, cases)
    else:
        raise InputError(
            f"check: {_name(part, 'a')} is no part; give a step, schedule, network, logger or kind "
            "of data, as a class or one of it, or a preset, a function that returns a model."
        )


def _is_a(part: Any, base: type) -> bool:
    return isinstance(part, base) or (isinstance(part, type) and issubclass(part, base))


def _name(part: Any, what: str) -> str:
    return f"{what} {getattr(part, '__name__', type(part).__name__)}"


def _check_steps(part: Any) -> None:
    if not isinstance(part, type):
        _run(_name(part, "step"), STEP_LAWS, part)
        return
    _run(_name(part, "step"), STEP_LAWS, part())
    rest = {law: holds for law, holds in STEP_LAWS.items() if law != BY_DEFAULT}
    for name, arguments in part.variants.items():
        _run(f"{_name(part, 'step')} ({name})", rest, part(**arguments))


def _check_schedules(part: Any) -> None:
    examples = part.examples() if isinstance(part, type) else {"": part}
    for name, one in examples.items():
        _run(_name(part, "schedule") + (f" ({name})" if name else ""), SCHEDULE_LAWS, one)


def _check_kind(kind: Kind, source: Any) -> None:
    if source is None:
        raise InputError("check: a kind of data needs something to read; give a source.")
    with registered(kind):
        name = f"kind of data {kind.name}"
        data: list[Any] = []
        _run(name, {"a kind reads its source": lambda one: data.append(read_by(one, source))}, kind)
        _run(name, KIND_LAWS, data[0])


def _run(name: str, laws: Laws[Any], part: Any) -> None:
    """Raise BrokenLaw, in a sentence, for the first law that `part` does not keep."""
    for law, holds in laws.items():
        try:
            holds(part)
        except Exception as problem:
            kind = "" if isinstance(problem, AssertionError) else f"{type(problem).__name__}: "
            found = " ".join(str(problem).split()).rstrip(".")
            raise BrokenLaw(f"{name}: broken law: {law} ({kind}{found}).") from problem
