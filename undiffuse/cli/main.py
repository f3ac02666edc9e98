"""`undiffuse`: from a list of words to an exit code.

    0    done
    1    a bug: the traceback is shown
    2    something in the input cannot be used: one sentence on standard error
    130  interrupted by SIGINT or SIGTERM (128 + SIGINT)

Everything else is imported after signals are handled: a command can be interrupted while it starts.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from undiffuse.cli.interrupt import INTERRUPTED, SIGNALS, interruptible
from undiffuse.errors import InputError
from undiffuse.rank import follows

_GONE = "the working folder has been removed; change to another one."


def run() -> None:
    """Run the words of the command line and exit with their code: the `undiffuse` script."""
    _open_streams()
    code = main(sys.argv[1:])
    for number in SIGNALS:  # there is nothing left to interrupt
        signal.signal(number, signal.SIG_IGN)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            _silence(stream)
        except OSError as problem:  # a full disk
            _silence(stream)
            code = code or 2
            _complain(f"the output could not be written: {problem.strerror}.")
    sys.exit(code)


def _open_streams() -> None:
    """Open output that was closed to nowhere, and let it take names that are no text."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        getattr(sys, name).reconfigure(errors="backslashreplace")


def main(words: Sequence[str]) -> int:
    """Run the command that `words` spell and return its exit code; only bugs raise an exception.

    >>> main(["--version"])
    0...
    """
    with interruptible(_call) as interrupted:
        try:
            return _call(words)
        except BaseException as problem:
            if interrupted() or isinstance(problem, KeyboardInterrupt):
                _complain("interrupted.")
                return INTERRUPTED
            if isinstance(problem, BrokenPipeError):
                _silence(sys.stdout)
                return 0
            if isinstance(problem, SystemExit) and isinstance(problem.__context__, BrokenPipeError):
                return 0  # as rich reports it, its output silenced already
            if (sentence := _sentence(problem)) is None:
                raise
            if not follows():
                _complain(sentence)
            return 2


def _call(words: Sequence[str]) -> int:
    if not _has_folder():  # torch would end the process
        raise InputError(_GONE)
    from undiffuse.cli.app import call

    return call(words)


def _sentence(problem: BaseException) -> str | None:
    """What to say of a problem that is in the input, the machine or the place; None for a bug."""
    text = " ".join(str(problem).split())
    if isinstance(problem, InputError):
        return text
    if isinstance(problem, OSError):
        if not _has_folder():
            return _GONE
        where = problem.filename if isinstance(problem.filename, str) else "output"
        return f"{where}: {(problem.strerror or text).rstrip('.')}; check that it can be used."
    if isinstance(problem, MemoryError) or "DefaultCPUAllocator" in text or "out of memory" in text:
        return "there is not enough memory; use a smaller --batch, model or number of rows."
    return None


def _has_folder() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _complain(sentence: str) -> None:
    """Print to standard error, if there is one that takes it."""
    try:
        print(sentence, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        _silence(sys.stderr)


def _silence(stream: TextIO) -> None:
    """Let Python's last flush go nowhere: whoever read our output has left, or it is full."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
