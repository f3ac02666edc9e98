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

from undiffuse.cli.interrupt import INTERRUPTED, SIGNALS, interruptible
from undiffuse.errors import InputError


def run() -> None:
    """Run the words of the command line and exit with their code: the `undiffuse` script."""
    for number in SIGNALS:  # before `main` handles them, and once there is nothing left to do
        signal.signal(number, signal.SIG_IGN)
    code = main(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        _silence()
    sys.exit(code)


def main(words: Sequence[str]) -> int:
    """Run the command that `words` spell and return its exit code; only bugs raise an exception.

    >>> main(["--version"])
    0...
    """
    with interruptible() as interrupted:
        try:
            from undiffuse.cli.app import call

            return call(words)
        except BaseException as problem:
            if interrupted() or isinstance(problem, KeyboardInterrupt):
                print("interrupted.", file=sys.stderr)
                return INTERRUPTED
            if isinstance(problem, InputError):
                print(" ".join(str(problem).split()), file=sys.stderr)
                return 2
            if isinstance(problem, BrokenPipeError):
                _silence()
                return 0
            if isinstance(problem, SystemExit) and isinstance(problem.__context__, BrokenPipeError):
                return 0  # as rich reports it, its output silenced already
            raise


def _silence() -> None:
    """Let Python's last flush go nowhere: whoever read our output has left."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
