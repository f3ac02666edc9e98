"""`undiffuse`: from a list of words to an exit code.

    0    done
    1    a bug: the traceback is shown, for whoever mends it
    2    something in the input cannot be used: one sentence on standard error
    130  interrupted by SIGINT or SIGTERM (128 + SIGINT)

Commands are named here as `module:function` and imported when they are run, and their modules import torch inside
functions: `undiffuse train --help` draws its page without it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from cyclopts import App
from cyclopts.exceptions import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
    ValidationError,
)

from undiffuse.cli.findings import refusal
from undiffuse.cli.interrupt import INTERRUPTED
from undiffuse.errors import InputError, unknown


def _version() -> str:
    from importlib.metadata import version

    return version("undiffuse")


app = App(
    name="undiffuse",
    help="Train diffusion models on your own images, arrays, tables and recordings, and sample them.",
    help_epilogue="Start with: undiffuse train digits --out runs/digits --budget 2m",
    help_format="plaintext",
    version=_version,
    suppress_keyboard_interrupt=False,
)
COMMANDS = {
    "train": ("Train a model on your data.", "SOURCE --out RUN [OPTIONS]"),
    "sample": (
        "Draw samples from a trained model.",
        "RUN -n NUMBER --out FILE_OR_FOLDER [OPTIONS]",
    ),
    "score": ("Say how likely each row of some data is.", "RUN DATA --out FILE [OPTIONS]"),
    "evaluate": ("Say what a trained model is worth, in a report.", "RUN [OPTIONS]"),
    "compare": (
        "Train several presets on the same data, and compare them.",
        "SOURCE --out FOLDER [OPTIONS]",
    ),
    "info": ("Say what a run is, or what data look like.", "RUN_OR_SOURCE [OPTIONS]"),
    "selfcheck": ("Check the mathematics against closed forms, here and now.", "[OPTIONS]"),
}
for _name, (_help, _usage) in COMMANDS.items():
    app.command(
        f"undiffuse.cli.{_name}:{_name}",
        name=_name,
        help=_help,
        usage=f"Usage: undiffuse {_name} {_usage}",
    )


def run() -> None:
    """The `undiffuse` script: runs the words of the command line and exits with their code."""
    code = main(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        _silence()
    sys.exit(code)


def main(words: Sequence[str]) -> int:
    """Run the command that `words` spell and return its exit code; only a bug leaves as an exception.

    >>> main(["--version"])
    0...
    """
    try:
        if len(words) == 2 and words[0] in COMMANDS and words[1] in app.help_flags:
            app.help_print(
                [words[0]]
            )  # what `app` would do, without first matching options that were not given
            return 0
        with _terminable():
            code = app(
                list(words),
                exit_on_error=False,
                print_error=False,
                verbose=False,
                result_action="return_value",
            )
        return code if isinstance(code, int) else 0
    except InputError as problem:
        return refuse(str(problem))
    except CycloptsError as problem:
        return refuse(sentence(problem))
    except KeyboardInterrupt:
        print("interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _silence()
        return 0
    except SystemExit as leaving:
        if isinstance(
            leaving.__context__, BrokenPipeError
        ):  # as rich reports it, its output silenced already
            return 0
        raise


def refuse(message: str) -> int:
    """Print the one sentence that says what was wrong, on one line; returns exit code 2."""
    print(" ".join(message.split()), file=sys.stderr)
    return 2


def sentence(problem: CycloptsError) -> str:
    """What was wrong with the words of the command line, where, and what to do, in one sentence."""
    for kind, say in _SENTENCES.items():
        if isinstance(problem, kind):
            return str(say(problem))
    return str(problem)


def _unknown_option(problem: Any) -> InputError:
    name = (problem.token.keyword or problem.token.value).split("=")[0]
    options = [
        name
        for argument in problem.argument_collection
        for name in argument.names
        if name[:1] == "-"
    ]
    group = name.rpartition(".")[0]
    siblings = [option for option in options if option.rpartition(".")[0] == group]
    return unknown(
        "undiffuse " + " ".join(problem.command_chain or ()), "option", name, siblings or options
    )


def _unknown_command(problem: Any) -> InputError:
    commands = [name for name in app if not name.startswith("-")]
    return unknown("undiffuse", "command", problem.unused_tokens[0], commands)


def _missing(problem: Any) -> str:
    argument = problem.argument
    name = problem.keyword or argument.name
    if problem.keyword or argument.tokens:
        return f"{name}: a value must follow."
    command = " ".join(("undiffuse", *(problem.command_chain or ())))
    shown = name if name.startswith("-") else name.upper()
    return f"{command}: {shown} is missing; see {command} --help."


def _unused(problem: Any) -> str:
    command = " ".join(("undiffuse", *(problem.command_chain or ())))
    return f"{command}: {problem.unused_tokens[0]} was not expected here; see {command} --help."


def _invalid(problem: Any) -> InputError | str:
    """A value that pydantic has already refused while the words were matched."""
    findings = getattr(problem.__cause__, "errors", list)()
    tokens = problem.argument.tokens if problem.argument else ()
    return refusal(findings[0], tokens[0].keyword) if findings and tokens else str(problem)


_SENTENCES = {
    ValidationError: _invalid,
    CoercionError: lambda problem: problem.__cause__ or problem,
    UnknownOptionError: _unknown_option,
    UnknownCommandError: _unknown_command,
    RepeatArgumentError: lambda problem: f"{problem.token.keyword}: given twice; give it once.",
    MissingArgumentError: _missing,
    UnusedCliTokensError: _unused,
}


@contextmanager
def _terminable() -> Iterator[None]:
    """Within, SIGTERM interrupts as SIGINT does (a training installs handlers of its own on top)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _silence() -> None:
    """Whoever read our output has left: let Python's last flush go nowhere instead of complaining."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
