"""Runs and models on the Hugging Face hub: which words name one, and its files on this machine.

    hf://me/name             the newest revision of the model me/name
    hf://me/name@REVISION    a branch, a tag or a commit of it
    me/name                  the same, where there is neither such a folder nor a folder me/

Files are kept in huggingface_hub's own cache; HF_HUB_OFFLINE=1 takes what is there, HF_HOME,
HF_ENDPOINT and HF_TOKEN mean what they mean to it. Only JSON and safetensors are fetched: nothing
that comes from there is ever unpickled or run.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from undiffuse.errors import InputError

PREFIX = "hf://"
RUN_FILES = ("config.json", "weights.safetensors", "sampler.json", "log.jsonl", "report.json")
"""The files of a run that are on the hub, besides its card."""

_WORDS = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_NAME = re.compile(rf"({_WORDS})(?:@([\w./-]+))?")


@final
@dataclass(frozen=True)
class Fetched:
    """A model of the hub on this machine.

    Attributes:
        folder: where its files are.
        name: what it is called, with the commit: "hf://me/name@COMMIT".
    """

    folder: Path
    name: str


def remote_name(path: str | Path) -> tuple[str, str | None] | None:
    """Return (owner/name, revision or None) that words name on the hub; None for a local path.

    Raises:
        InputError: for hf:// before something else.

    >>> remote_name("hf://me/digits@v1"), remote_name("no/such/run")
    (('me/digits', 'v1'), None)
    """
    text = str(path)
    marked = re.match(r"hf:/{1,2}(?=[^/])", text)
    found = _NAME.fullmatch(text[marked.end() :] if marked else text)
    if marked is None:
        owner = Path(text).parent
        if found is None or os.path.lexists(text) or os.path.lexists(owner):
            return None
    elif found is None:
        raise InputError(f"{text}: names no model of the hub; write hf://OWNER/NAME.")
    assert found is not None
    return found[1], found[2]


def fetch(path: str | Path, files: Sequence[str] = RUN_FILES) -> Fetched | None:
    """Return a model of the hub, its files on this machine; None for a local path.

    Args:
        path: the words that name it (see above).
        files: patterns of the names of the files that are needed.

    Raises:
        InputError: huggingface_hub is not installed, the hub cannot be reached and the cache does
            not hold the model, there is none of this name or revision, or it is private.
    """
    named = remote_name(path)
    if named is None:
        return None
    name, revision = named
    hub = need_hub(f"{path}: a model of the hub")
    with refusals(str(path)):
        folder = hub.snapshot_download(
            name,
            revision=revision,
            allow_patterns=list(files),
            endpoint=endpoint(),
            library_name="undiffuse",
        )
    if not Path(folder).is_dir():
        raise InputError(f"{path}: not a run: the model on the hub has none of its files.")
    return Fetched(Path(folder), f"{PREFIX}{name}@{Path(folder).name}")


def endpoint() -> str | None:
    """Return the hub's address, if HF_ENDPOINT says it."""
    return os.environ.get("HF_ENDPOINT")


def refuse_store(out: str | Path) -> None:
    """Raise InputError for a place to write to that is not on this machine.

    >>> refuse_store("runs/digits")
    """
    if re.match(r"\w+:/", str(out)):
        raise InputError(
            f"{out}: is not on this machine, and a run or samples are written here alone; give a "
            "folder or a file, and copy it there when it is done."
        )


def need_hub(what: str) -> Any:
    """Return the module huggingface_hub. Raises InputError if it is missing; `what` needs it."""
    try:
        import huggingface_hub
    except ImportError as problem:
        raise InputError(
            f"{what} needs huggingface_hub; pip install 'undiffuse[hub]'."
        ) from problem
    return huggingface_hub


@contextmanager
def refusals(what: str) -> Iterator[None]:
    """Say in a sentence on `what` why the hub refuses, or cannot be reached.

    Its progress bars are shown in a terminal alone.
    """
    from huggingface_hub import errors, utils

    quiet = not sys.stderr.isatty() and not utils.are_progress_bars_disabled()
    if quiet:
        utils.disable_progress_bars()
    try:
        yield
    except InputError:
        raise
    except errors.GatedRepoError as problem:
        raise InputError(
            f"{what}: is gated; ask for access on its page, and log in with: hf auth login."
        ) from problem
    except errors.RepositoryNotFoundError as problem:
        said = "no such folder here and no such model on the hub; check the name."
        raise InputError(_answered(what, problem, f"{what}: {said}")) from problem
    except errors.RevisionNotFoundError as problem:
        raise InputError(
            f"{what}: the hub has the model, but not this revision; check what is behind @."
        ) from problem
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as problem:
        offline = "HF_HUB_OFFLINE is set" if _offline() else "the hub cannot be reached"
        raise InputError(
            f"{what}: {offline}, and neither a folder here nor the cache of this machine holds "
            "it; connect, or check the path."
        ) from problem
    except errors.HFValidationError as problem:
        raise InputError(f"{what}: no name of a model on the hub ({problem}).") from problem
    except errors.HfHubHTTPError as problem:
        raise InputError(_answered(what, problem)) from problem
    except Exception as problem:  # of the library for HTTP that it is made with, or of the system
        reason = " ".join(str(problem).split()).rstrip(".")
        raise InputError(f"{what}: the hub cannot be used ({reason}); try later.") from problem
    finally:
        if quiet:
            utils.enable_progress_bars()


def _answered(what: str, problem: Any, otherwise: str = "") -> str:
    status = _status(problem)
    if status == 401:
        return f"{what}: is private, or not on the hub; log in with: hf auth login."
    if status == 403:
        return f"{what}: the hub does not allow it; log in as its owner with: hf auth login."
    return otherwise or f"{what}: the hub answered {status or 'nothing'}; try later."


def _status(problem: Any) -> int | None:
    return getattr(getattr(problem, "response", None), "status_code", None)


def _offline() -> bool:
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)
