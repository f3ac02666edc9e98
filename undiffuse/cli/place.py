"""The place that samples go to, looked at before any time is spent on them.

Whether rows can take a form is asked of the form itself: one grey row is written as all would be, in a folder of its
own that goes away again.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from undiffuse.errors import InputError

if TYPE_CHECKING:
    from undiffuse.models import GenerativeModel

FORMS = ("samples.png", "samples.csv", "samples/")


def refuse_taken(typed: str, out: Path, overwrite: bool) -> None:
    """Raises InputError if something is at `out` already, or nothing can be put there."""
    if os.path.lexists(out) and not overwrite and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(
            f"--out {typed}: already exists; choose another name, or --overwrite to replace it."
        )
    place = next(folder for folder in out.absolute().parents if folder.exists())
    if not place.is_dir():
        raise InputError(f"--out {typed}: {place} is a file, not a folder; choose another place.")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"--out {typed}: {place} cannot be written to; choose another place.")


def rehearse(model: GenerativeModel, typed: str, out: Path) -> None:
    """Write one row as `out` would be written, elsewhere. Raises InputError for a form these rows cannot take."""
    import torch

    assert model.transform is not None
    row = model.transform.decode(torch.zeros(1, *model.transform.shape))
    with tempfile.TemporaryDirectory() as folder:
        stand_in = Path(folder) / (out.name or "folder")
        if out.is_dir():
            stand_in.mkdir()
        try:
            model.form.save(row, stand_in, labels=None)
        except InputError as problem:
            raise InputError(str(problem).replace(str(stand_in), typed)) from problem


def suggestion(model: GenerativeModel) -> str:
    """A name that samples of `model` can be written to."""
    for name in FORMS:
        try:
            rehearse(model, name, Path(name))
        except InputError:
            continue
        return name
    return "samples.npy"
