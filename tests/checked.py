"""Types and shapes of arguments and results, checked in the first calls of each function in a test.

jaxtyping wraps each function as it is defined, which costs seconds in each process, and checks each
call, which takes longer than most of what is called. Here a function is wrapped when it is first
checked, and so many calls of it in a test.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect

import jaxtyping

CALLS = 8  # of a function that are checked in one test


class Checking:
    """Whether calls are checked in this test, and which test it is."""

    on = False
    test = 0

    def start(self, on: bool) -> None:
        self.on = on
        self.test += 1


CHECKING = Checking()


def jaxtyped(part, *, typechecker):
    """What `jaxtyping.jaxtyped` makes of a part of a module, made when it is needed."""
    if isinstance(part, classmethod | staticmethod):
        return type(part)(jaxtyped(part.__func__, typechecker=typechecker))
    if isinstance(part, property):
        each = (part.fget, part.fset, part.fdel)
        return property(*(one and jaxtyped(one, typechecker=typechecker) for one in each))
    if inspect.isclass(part):
        if dataclasses.is_dataclass(part) and not hasattr(part.__init__, "checked_late"):
            part.__init__ = jaxtyped(part.__init__, typechecker=typechecker)
        return part
    checked, test, left = None, -1, 0

    @functools.wraps(part)
    def function(*args, **kwargs):
        nonlocal checked, test, left
        if not CHECKING.on:
            return part(*args, **kwargs)
        if test != CHECKING.test:
            test, left = CHECKING.test, CALLS
        if left == 0:
            return part(*args, **kwargs)
        left -= 1
        if checked is None:
            checked = _jaxtyped(part, typechecker=typechecker)
        return checked(*args, **kwargs)

    function.checked_late = True
    return function


_jaxtyped = jaxtyping.jaxtyped


def install() -> None:
    """Let modules that jaxtyping instruments from now on be checked like this."""

    def decorator(part=None, *, typechecker):
        if part is None:
            return functools.partial(jaxtyped, typechecker=typechecker)
        return jaxtyped(part, typechecker=typechecker)

    jaxtyping.jaxtyped = decorator
