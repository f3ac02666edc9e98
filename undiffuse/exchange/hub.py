"""`push`: a run as a model on the Hugging Face hub.

    config.json, weights.safetensors, sampler.json, log.jsonl, report.json    as they are in the run
    README.md                                                                 its card

What says where files lie on this machine is left out: the data's path, the run's, its teacher's.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, final

from undiffuse.atomic import write_json
from undiffuse.called import called
from undiffuse.errors import InputError
from undiffuse.exchange.card import UNKNOWN, model_card, renewed, stale_report
from undiffuse.models import GenerativeModel
from undiffuse.reading import read_json, said
from undiffuse.remote import PREFIX, RUN_FILES, endpoint, need_hub, refusals
from undiffuse.run import Run
from undiffuse.training.checkpoint import CONFIG, LOG, SAMPLER, WEIGHTS

REPORT, CARD = "report.json", "README.md"

_LOCAL = ("out", "path")  # fields of events that say where files are


@final
@dataclass(frozen=True)
class Pushed:
    """A run that is on the hub now.

    Attributes:
        name: what opens this very revision: hf://owner/name@COMMIT.
        url: its page.
        notes: what there is to know of it, a sentence each.
    """

    name: str
    url: str
    notes: tuple[str, ...] = ()


@called
def push(
    run: str | Path | Run,
    name: str,
    *,
    private: bool = False,
    license: str | None = None,
    message: str | None = None,
) -> Pushed:
    """Put a run on the Hugging Face hub, with a card that its report is written into.

    A model of this name that is there gets a new revision; what a person has written into its card,
    and its license, stay. Files on the hub that a run does not have are not touched.

    Args:
        run: the run or its folder.
        name: owner/name of the model on the hub.
        private: whether a model that is made shows to its owner alone.
        license: its license, an identifier of the hub's, such as "mit"; None: to be filled in.
        message: what the revision is called.

    Returns:
        Where it is, and the revision that was made.

    Raises:
        InputError: for what is not a run, a run without weights, a name that is none, and whatever
            the hub refuses; nothing is written then but, perhaps, an empty model.

    >>> push("no/such/run", "me/digits")
    Traceback (most recent call last):
    undiffuse.errors.InputError: no/such/run: no such folder; check the path of the run.
    """
    own = Run.of(run)
    name = re.sub(r"^hf:/{1,2}", "", name)
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise InputError(f"{name}: names no model of the hub; write OWNER/NAME.")
    if own.remote:
        raise InputError(f"{own.given}: is on the hub already; give the folder of a run.")
    hub = need_hub(f"{name}: a model on the hub")
    model, report = own.model(), _report(own)
    card = _card(name, own, model, report, license or UNKNOWN)
    api = hub.HfApi(endpoint=endpoint(), library_name="undiffuse")
    with TemporaryDirectory() as staged:
        _stage(own, report, name, Path(staged))
        with refusals(name):
            page = api.create_repo(name, private=private or None, exist_ok=True)
            there = _card_there(hub, name)
            card = card if there is None else renewed(there, card)
            (Path(staged) / CARD).write_text(card, encoding="utf-8")
            made = api.upload_folder(
                repo_id=name,
                folder_path=staged,
                commit_message=message or f"Push a run of {own.state['step']:,} steps",
                delete_patterns=list(RUN_FILES),
            )
    return Pushed(f"{PREFIX}{name}@{made.oid}", str(page), tuple(_notes(own, report, card)))


def _report(run: Run) -> dict[str, Any] | None:
    """The run's report.json; None without one. Raises InputError if it is damaged."""
    try:
        tree = read_json(run.path / REPORT)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as problem:
        raise InputError(
            f"{run.given}: its {REPORT} cannot be read ({said(problem)}); write it anew with "
            f"undiffuse evaluate {run.given}"
        ) from problem
    if not isinstance(tree, Mapping) or tree.get("kind") != "report":
        raise InputError(
            f"{run.given}: its {REPORT} is no report; write it anew with undiffuse evaluate."
        )
    return dict(tree)


def _card(
    name: str, run: Run, model: GenerativeModel, report: dict[str, Any] | None, license: str
) -> str:
    """The card. Raises InputError for a report that holds something else than a report does."""
    try:
        return model_card(name, run, model, report, license=license)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        if report is None:
            raise
        raise InputError(
            f"{run.given}: its {REPORT} is damaged ({type(problem).__name__}: {said(problem)}); "
            f"write it anew with undiffuse evaluate {run.given}"
        ) from problem


def _stage(run: Run, report: Mapping[str, Any] | None, name: str, folder: Path) -> None:
    """Write the run's files into a folder, without what says where files are on this machine."""
    config = json.loads(json.dumps(run.config))
    config["data"]["path"] = None
    for tree, field in ((config["model"], "teacher"), (config.get("origin") or {}, "from")):
        if os.sep in str(tree.get(field) or ""):
            tree[field] = Path(tree[field]).name
    write_json(folder / CONFIG, config)
    shutil.copyfile(run.path / WEIGHTS, folder / WEIGHTS)
    if (run.path / SAMPLER).exists():
        shutil.copyfile(run.path / SAMPLER, folder / SAMPLER)
    events = [{k: v for k, v in event.items() if k not in _LOCAL} for event in run.log]
    (folder / LOG).write_text("".join(json.dumps(e) + "\n" for e in events), encoding="utf-8")
    if report is not None:
        write_json(folder / REPORT, {**report, "run": f"{PREFIX}{name}"})


def _card_there(hub: Any, name: str) -> str | None:
    """The card of the model as it is on the hub; None without one."""
    from huggingface_hub.errors import EntryNotFoundError

    try:
        file = hub.hf_hub_download(name, CARD, endpoint=endpoint(), library_name="undiffuse")
    except EntryNotFoundError:
        return None
    return Path(file).read_text(encoding="utf-8")


def _notes(run: Run, report: Mapping[str, Any] | None, card: str) -> list[str]:
    notes: list[str] = []
    if not run.state["finished"]:
        notes.append(f"{run.given}: its training has not finished; the card says so.")
    if report is None:
        notes.append(
            f"{run.given}: has no report, so the card has no figures; undiffuse evaluate "
            f"{run.given}, and push again."
        )
    elif (stale := stale_report(run, report)) is not None:
        notes.append(f"{run.given}: {stale}")
    if f"license: {UNKNOWN}" in card:
        notes.append("the card names no license; fill it in, on the hub or with --license.")
    return notes
