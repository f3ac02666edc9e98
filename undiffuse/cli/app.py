"""The commands by name, and what is wrong with the words of a command line, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

from cyclopts import App
from cyclopts.exceptions import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from undiffuse import __version__
from undiffuse.cli.compare import compare
from undiffuse.cli.distill import distill
from undiffuse.cli.evaluate import evaluate
from undiffuse.cli.export import export
from undiffuse.cli.info import info
from undiffuse.cli.push import push
from undiffuse.cli.sample import sample
from undiffuse.cli.score import score
from undiffuse.cli.selfcheck import selfcheck
from undiffuse.cli.serve import serve
from undiffuse.cli.train import train
from undiffuse.cli.tune import tune
from undiffuse.cli.verb import plug, typed
from undiffuse.declared import options_of
from undiffuse.errors import InputError, unknown

COMPLETION = "--install-completion"
VERBS = (
    train,
    sample,
    score,
    evaluate,
    compare,
    tune,
    distill,
    export,
    push,
    serve,
    info,
    selfcheck,
)


app = App(
    name="undiffuse",
    help=(
        "Train generative models on your own images, arrays, tables and recordings, "
        "sample them, and measure them."
    ),
    help_epilogue=(
        "Example: undiffuse train digits --out runs/digits --budget 2m\n\n"
        f"undiffuse {COMPLETION} lets the shell complete commands and options."
    ),
    help_format="plaintext",
    version=__version__,
    suppress_keyboard_interrupt=False,
)
for _verb in VERBS:
    app.command(
        _verb.command,
        name=_verb.name,
        usage=f"Usage: undiffuse {_verb.name} {_verb.usage}",
        help_epilogue=f"Example: {_verb.example}",
    )


@app.command(name=COMPLETION, show=False, usage=f"Usage: undiffuse {COMPLETION} [bash|zsh|fish]")
def _install_completion(shell: Literal["bash", "zsh", "fish"] | None = None, /) -> int:
    """Let the shell complete commands and options, from its next start on.

    Args:
        shell: Which shell (default: the one that is running).
    """
    from cyclopts.completion.detect import ShellDetectionError

    try:
        file = app.install_completion(shell=shell)
    except ShellDetectionError as problem:
        raise InputError(
            f"{COMPLETION}: the shell could not be found out; name it: bash, zsh or fish."
        ) from problem
    print(f"wrote {file}; it is read when the shell starts again")
    return 0


def call(words: Sequence[str]) -> int:
    """Run the command that `words` spell and return its exit code.

    Raises:
        InputError: for words that spell no command, and for what the command refuses.
    """
    if any(flag in words for flag in app.help_flags):
        _show_plugged(words)
    if len(words) == 2 and words[1] in app.help_flags and words[0] in [v.name for v in VERBS]:
        app.help_print([words[0]])  # as `app` does, which would first match the other options
        return 0
    try:
        code = app(
            list(words),
            exit_on_error=False,
            print_error=False,
            verbose=False,
            result_action="return_value",
        )
    except CycloptsError as problem:
        raise _refusal(problem) from problem
    return code if isinstance(code, int) else 0


def _show_plugged(words: Sequence[str]) -> None:
    """Let the help page show what the files of --plugin add."""
    given = [word.removeprefix("--plugin=") for word in words if word.startswith("--plugin=")]
    given += [word for before, word in pairwise(words) if before == "--plugin"]
    if given:
        plug([file for one in given for file in one.split(",")])
        sign_again()


def sign_again() -> None:
    """Give every command the options that there are now, with the names of plug-ins."""
    typed.cache_clear()
    options_of.cache_clear()
    for one in VERBS:
        one.sign()


def _refusal(problem: CycloptsError) -> InputError:
    """Say what was wrong with the words of the command line, where, and what to do."""
    for kind, say in _SENTENCES.items():
        if isinstance(problem, kind):
            said = say(problem)
            return said if isinstance(said, InputError) else InputError(str(said))
    return InputError(str(problem))


def _command(problem: CycloptsError) -> str:
    return " ".join(("undiffuse", *(problem.command_chain or ())))


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
    return unknown(_command(problem), "option", name, siblings or options)


def _unknown_command(problem: Any) -> InputError:
    return unknown("undiffuse", "command", problem.unused_tokens[0], [verb.name for verb in VERBS])


def _missing(problem: Any) -> str:
    argument, command = problem.argument, _command(problem)
    name = problem.keyword or argument.name
    if problem.keyword or argument.tokens:
        return f"{name}: a value must follow."
    shown = name if name.startswith("-") else name.upper()
    return f"{command}: {shown} is missing; see {command} --help."


def _unused(problem: Any) -> str:
    command = _command(problem)
    return f"{command}: {problem.unused_tokens[0]} was not expected here; see {command} --help."


_SENTENCES = {
    CoercionError: lambda problem: problem.__cause__ or problem,
    UnknownOptionError: _unknown_option,
    UnknownCommandError: _unknown_command,
    RepeatArgumentError: lambda problem: f"{problem.token.keyword}: given twice; give it once.",
    MissingArgumentError: _missing,
    UnusedCliTokensError: _unused,
}
