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
    from undiffuse.run import Run

Method = Literal[
    "heun", "dpmpp", "ddim", "ancestral", "euler",
    "dpmpp3", "dpmpp_2s", "dpmpp_sde", "unipc", "deis", "ipndm",
    "euler_maruyama", "pc", "langevin", "ode",
    "likelihood", "mean",
]  # fmt: skip
Device = Literal["auto", "cpu", "cuda", "mps"]


@dataclass(kw_only=True)
class SampleOptions:
    """Everything but the run."""

    __pydantic_config__ = {"extra": "forbid"}  # noqa: RUF012 - pydantic reads it off the class

    n: Annotated[int | None, AtLeast(1), option("How many samples.", name="-n")] = None
    out: Annotated[
        str | None,
        option("File or folder; .npy .npz .png .csv .parquet or folder/ decides the form."),
    ] = None
    steps: Annotated[
        int | None, AtLeast(1), option("Steps from noise to data (the method's own number).")
    ] = None
    method: Annotated[
        Method | None,
        option("How to take them (the preset's own); a vae's mean has no noise of p(x|z)."),
    ] = None
    label: Annotated[
        str | None, option("Class of all samples, by name or number (as often as in the data).")
    ] = None
    guidance: Annotated[
        float | None,
        AtLeast(0),
        option("Weight of the class: 1 is as trained, more is more alike."),
    ] = None
    guidance_from: Annotated[
        float | None, AtLeast(0), option("Guide from this noise level, sigma/alpha, on (0).")
    ] = None
    guidance_to: Annotated[
        float | None, AtLeast(0), option("Guide up to this noise level (infinity).")
    ] = None
    autoguide: Annotated[
        float | None, AtLeast(0), option("Weight against the run's own weaker snapshot.")
    ] = None
    given: Annotated[
        str | None,
        option(
            "Rows with unknown entries to complete, -n times each (empty cells, NaN, transparent pixels)."
        ),
    ] = None
    seed: Annotated[int | None, AtLeast(0), option("The same seed gives the same samples (0).")] = (
        None
    )
    batch: Annotated[
        int | None, AtLeast(1), option("Samples drawn at a time; changes nothing but memory (64).")
    ] = None
    trajectory: Annotated[
        bool | None, flag("Also write how they came about: OUT-trajectory.png, or .npy.")
    ] = None
    overwrite: Annotated[bool | None, flag("Replace what is at --out.")] = None
    device: Annotated[Device | None, option("Where to compute (auto: the fastest there is).")] = (
        None
    )
    quiet: Annotated[bool | None, flag("Print nothing but errors.")] = None
    json: Annotated[
        bool | None, flag("Print the result as one JSON object on standard output.")
    ] = None


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
    if chosen.n is None and chosen.given is not None:
        chosen.n = 1
    if chosen.n is None:
        raise InputError("-n: missing; say how many samples to draw, such as -n 64.")
    if chosen.out is None:
        raise InputError("--out: missing; say where the samples go, such as --out samples.png.")
    out = Path(os.path.expanduser(chosen.out))
    refuse_taken(chosen.out, out, bool(chosen.overwrite))

    from undiffuse.cli.terminal import Terminal
    from undiffuse.device import find_device
    from undiffuse.run import Run

    terminal = Terminal(quiet=chosen.quiet, as_json=chosen.json)
    device = find_device(chosen.device or "auto")
    opened = Run(run)
    model = opened.model(device=device)
    if chosen.label is not None:
        model.label_index(chosen.label)
    choices = {"wrap": _guidance(model, opened, chosen), "given": _given(model, chosen)}
    rehearse(model, chosen.out, out)
    return _draw(
        model, run, chosen, {k: v for k, v in choices.items() if v is not None}, out, terminal
    )


def _guidance(model: GenerativeModel, run: Run, chosen: SampleOptions) -> Any:
    """The wrapper that the options on guidance ask for, None if they ask for none."""
    if chosen.guidance is None and chosen.autoguide is None:
        if chosen.guidance_from is not None or chosen.guidance_to is not None:
            raise InputError(
                "--guidance-from, --guidance-to: of which guidance? Give --guidance or --autoguide too."
            )
        return None
    if chosen.guidance is not None and chosen.autoguide is not None:
        raise InputError(
            "--guidance and --autoguide: each guides on its own; leave one of them out."
        )
    if chosen.guidance is not None and chosen.given is not None and chosen.label is None:
        raise InputError(
            "--guidance: the class of given rows is not known; say it with --label, or leave guidance out."
        )
    from undiffuse.models.guided import guided

    weaker = run.weaker(model.device) if chosen.autoguide is not None else None
    weight = chosen.guidance if chosen.autoguide is None else chosen.autoguide
    assert weight is not None
    to = math.inf if chosen.guidance_to is None else chosen.guidance_to
    return guided(model, weight, weaker=weaker, low=chosen.guidance_from or 0.0, high=to)


def _given(model: GenerativeModel, chosen: SampleOptions) -> Any:
    """The rows of --given, None without it."""
    if chosen.given is None:
        return None
    from undiffuse.data import complete

    assert model.data_config is not None
    return complete(chosen.given, model.data_config)


def _draw(
    model: GenerativeModel,
    run: str,
    chosen: SampleOptions,
    more: dict[str, Any],
    out: Path,
    terminal: Terminal,
) -> int:
    """Draw, write, and say where. Returns the exit code."""
    from undiffuse.cli.progress import Bar
    from undiffuse.cli.trajectory import Trajectory

    assert chosen.n is not None
    batch, seed = chosen.batch or 64, chosen.seed or 0
    total = chosen.n * len(more.get("given", "1"))
    batches = math.ceil(total / batch)
    trajectory = Trajectory(model, rows=total, out=out) if chosen.trajectory else None
    if trajectory and os.path.lexists(trajectory.file) and not chosen.overwrite:
        raise InputError(
            f"{trajectory.file}: already exists; choose another --out, or --overwrite to replace it."
        )
    done = 0
    with Bar(terminal) as bar:

        def callback(i: int, n: int, t: Any, x_t: Any) -> None:
            nonlocal done
            done += 1
            bar(done, n * batches, "sampling")
            if trajectory:
                trajectory.add(i, n, x_t)

        choices = {"steps": chosen.steps, "method": chosen.method, **more}
        rows = model.sample_rows(
            chosen.n, label=chosen.label, seed=seed, batch=batch, callback=callback, **choices
        )
    known = (
        chosen.given is None or chosen.label is not None
    )  # the class of given rows is not asked, but hidden
    labels = (
        class_names(model, model.sample_labels(total, label=chosen.label, seed=seed))
        if known
        else None
    )
    model.form.save(rows, out, labels=labels)
    written = {"out": chosen.out}
    if trajectory:
        trajectory.save()
        written["trajectory"] = str(trajectory.file)
    completed = {"given": chosen.given, "each": chosen.n} if chosen.given is not None else {}
    terminal.result({"run": run, "number": total, "seed": seed, **completed, **written})
    if chosen.given is not None:
        each = "one completion" if chosen.n == 1 else f"{chosen.n} completions in turn"
        rows = total // chosen.n
        terminal.say(
            f"completed {rows} given row{'s' * (rows > 1)}, {each} of each, in their order"
        )
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
