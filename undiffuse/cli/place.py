"""The place that samples go to, looked at before any time is spent on them.

Whether rows can take a form is asked of the form itself: one grey row is written as all would be, in a folder of its
own that goes away again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from undiffuse.errors import InputError

if TYPE_CHECKING:
    from undiffuse.models import GenerativeModel

FORMS = ("samples.png", "samples.csv", "samples/")


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
