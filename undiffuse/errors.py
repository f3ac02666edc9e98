"""The one exception for what a user got wrong.

An `InputError` carries one sentence: what was wrong, where, what to do. Only the command line turns
it into that sentence on standard error and exit code 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Something the caller gave cannot be used; the message says what, where and what to do.

    >>> raise InputError("photos/: no such folder; check the path.")
    Traceback (most recent call last):
    undiffuse.errors.InputError: photos/: no such folder; check the path.
    """


_ELSEWHERE = {
    "random_state": "seed",
    "n_samples": "n",
    "num_samples": "n",
    "batch_size": "batch",
    "num_inference_steps": "steps",
    "n_steps": "steps",
    "sampler": "method",
    "guidance_scale": "guidance",
    "epochs": "budget",
    "learning_rate": "lr",
    "cond": "where",
    "axis": "axes",
}
"""What others call it: their name -> ours."""


def unknown(where: str, what: str, name: str, choices: Iterable[str]) -> InputError:
    """Return the error for a name that is none of `choices`, with the nearest one suggested.

    Args:
        where: what the name was given to, such as "--preset"; may be empty.
        what: the kind of thing that it should name.
        name: the name.
        choices: the names that there are.

    >>> print(unknown("--preset", "preset", "emd", ["edm", "ddpm"]))
    --preset emd: no such preset. Did you mean edm? (ddpm, edm)
    """
    choices = sorted(choices)
    meant = [_ELSEWHERE[name]] if _ELSEWHERE.get(name) in choices else []
    near = meant or get_close_matches(name, choices, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]}?" if near else ""
    called = f"{where} {name}".strip()
    return InputError(f"{called}: no such {what}.{hint} ({', '.join(choices)})")
