"""`undiffuse sample`: from a run to new rows in the form that its data came in.

What can be refused is refused before the first step is taken (see `place.py`).
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from undiffuse.cli.place import refuse_taken, rehearse
from undiffuse.cli.settings import AtLeast, check, flag, given, option
from undiffuse.errors import InputError

if TYPE_CHECKING:
    import numpy as np

    from undiffuse.cli.terminal import Terminal
    from undiffuse.models import GenerativeModel

Method = Literal[
    "heun", "dpmpp", "ddim", "ancestral", "euler",
    "dpmpp3", "dpmpp_2s", "dpmpp_sde", "unipc", "deis", "ipndm",
    "euler_maruyama", "pc", "langevin", "ode",
]  # fmt: skip
Device = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(kw_only=True)
class SampleOptions:
    """Everything but the run."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - pydantic reads it off the class

    n: Annotated[int | None, AtLeast(1), option("How many samples.", name="-n")] = None
    out: Annotated[str | None, option("File or folder; .npy .npz .png .csv .parquet or folder/ decides the form.")] = (
        None
    )
    steps: Annotated[int | None, AtLeast(1), option("Steps from noise to data (the preset's own number).")] = None
    method: Annotated[Method | None, option("How to take them (the preset's own).")] = None
    label: Annotated[str | None, option("Class of all samples, by name or number (as often as in the data).")] = None
    seed: Annotated[int | None, AtLeast(0), option("The same seed gives the same samples (0).")] = None
    batch: Annotated[int | None, AtLeast(1), option("Samples drawn at a time; changes nothing but memory (64).")] = None
    trajectory: Annotated[bool | None, flag("Also write how they came about: OUT-trajectory.png, or .npy.")] = None
    overwrite: Annotated[bool | None, flag("Replace what is at --out.")] = None
    device: Annotated[Device | None, option("Where to compute (auto: the fastest there is).")] = None
    quiet: Annotated[bool | None, flag("Print nothing but errors.")] = None
    json: Annotated[bool | None, flag("Print the result as one JSON object on standard output.")] = None


def sample(
    run: Annotated[str, Parameter(help="Folder of the run.")],
    /,
    *,
    options: Annotated[SampleOptions | None, Parameter(name="*")] = None,
) -> int:
    """Draw samples from a trained model.

    They are written as the data were: images as pictures or arrays, tables with the same columns and types.
    """
    chosen = check(SampleOptions, given(options))
    if chosen.n is None:
        raise InputError("-n: missing; say how many samples to draw, such as -n 64.")
    if chosen.out is None:
        raise InputError("--out: missing; say where the samples go, such as --out samples.png.")
    out = Path(os.path.expanduser(chosen.out))
    refuse_taken(chosen.out, out, bool(chosen.overwrite))

    from undiffuse.cli.terminal import Terminal
    from undiffuse.runs import open_run
    from undiffuse.training.options import find_device

    terminal = Terminal(quiet=chosen.quiet, as_json=chosen.json)
    device = find_device(chosen.device or "auto")
    model = open_run(run).to(device)
    if chosen.label is not None:
        model.label_index(chosen.label)
    rehearse(model, chosen.out, out)
    return _draw(model, run, chosen, out, terminal)


def _draw(model: GenerativeModel, run: str, chosen: SampleOptions, out: Path, terminal: Terminal) -> int:
    """Draw, write, and say where. Returns the exit code."""
    from undiffuse.cli.progress import Bar
    from undiffuse.cli.trajectory import Trajectory

    assert chosen.n is not None
    batch, seed = chosen.batch or 64, chosen.seed or 0
    batches = math.ceil(chosen.n / batch)
    trajectory = Trajectory(model, rows=chosen.n, out=out) if chosen.trajectory else None
    if trajectory and os.path.lexists(trajectory.file) and not chosen.overwrite:
        raise InputError(f"{trajectory.file}: already exists; choose another --out, or --overwrite to replace it.")
    done = 0
    with Bar(terminal) as bar:

        def callback(i: int, n: int, t: Any, x_t: Any) -> None:
            nonlocal done
            done += 1
            bar(done, n * batches, "sampling")
            if trajectory:
                trajectory.add(i, n, x_t)

        choices = {"steps": chosen.steps, "method": chosen.method}
        rows = model.sample_rows(chosen.n, label=chosen.label, seed=seed, batch=batch, callback=callback, **choices)
    labels = class_names(model, model.sample_labels(chosen.n, label=chosen.label, seed=seed))
    model.form.save(rows, out, labels=labels)
    written = {"out": chosen.out}
    if trajectory:
        trajectory.save()
        written["trajectory"] = str(trajectory.file)
    terminal.result({"run": run, "number": chosen.n, "seed": seed, **written})
    for place in written.values():
        terminal.say(f"wrote {place}")
    return 0


def class_names(model: GenerativeModel, labels: np.ndarray | None) -> np.ndarray | None:
    """The classes of the samples as the data named them: numbers if all classes are numbers, else text."""
    import numpy as np

    if labels is None:
        return None
    names = np.asarray(model.classes)[labels]
    numbers = all(name.removeprefix("-").isdecimal() for name in model.classes)
    return names.astype(np.int64) if numbers else names
