"""`undiffuse sample`: from a run to new rows in the form that its data came in.

What can be refused is refused before the first step is taken.
"""

from __future__ import annotations

import csv
import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from undiffuse.cli.verb import Asked, free_place, verb
from undiffuse.errors import InputError
from undiffuse.options import SampleOptions

if TYPE_CHECKING:
    from torch import Tensor

    from undiffuse.interfaces import Progress
    from undiffuse.models import GenerativeModel
    from undiffuse.run import Run

LEAST_FOR_BANDS = 19  # completions, of which the least and the greatest are the 90 % band


@verb(
    "RUN -n NUMBER --out FILE_OR_FOLDER [OPTIONS]",
    example="undiffuse sample runs/digits -n 64 --out samples.png",
)
def sample(
    asked: Asked[SampleOptions],
    run: Annotated[str, Parameter(help="Folder of the run.")],
) -> int:
    """Draw samples from a trained model.

    They are written in the form of the data: images as pictures or arrays, tables with the same
    columns and types. --given completes rows; a forecast completes a series whose future is NaN.
    With -n 19 or more, a picture beside --out shows the median and the 50 % and 90 % bands.
    """
    options = asked.options
    if options.n is None and options.given is None and options.where is None:
        raise InputError("-n: missing; say how many samples to draw, such as -n 64.")
    out = free_place(options.out, overwrite=options.overwrite)

    from undiffuse.cli.progress import Bar
    from undiffuse.device import find_device
    from undiffuse.run import Run

    device = find_device(options.device)
    opened = Run(run)
    model = opened.model(device=device)
    for note in opened.notes:
        asked.terminal.say(note, "yellow")
    draw_to(out, model, opened, asked, Bar(asked.terminal))
    return 0


def draw_to(
    out: Path,
    model: GenerativeModel,
    opened: Run,
    asked: Asked[SampleOptions],
    bar: AbstractContextManager[Progress],
    watch: Callable[[Tensor], None] | None = None,
) -> dict[str, str]:
    """Draw what was asked for, write it to `out`, and say so.

    Args:
        out: the file or folder.
        model: the model of the run.
        opened: the run.
        asked: the options, and the terminal that is written to.
        bar: shows progress.
        watch: called with each x_hat while a diffusion model is sampled.

    Returns:
        What was written, by what it is: "out", "conditions", "bands", ...

    Raises:
        InputError: for what cannot be drawn or written; before the first step, where that can be
            known.
    """
    options = asked.options
    if options.label is not None:
        model.label_index(options.label)
    more = {
        "wrap": _guidance(model, opened, asked),
        "given": _given(model, asked),
        "vector": _asked_for(model, asked),
        "length": _length(model, options.length),
        "watch": watch,
    }
    _note_unknown(model, more, asked)
    assert model.form is not None  # the model of a run has one
    model.form.check_out(out)
    model = _computed(model, opened, asked, more["vector"])
    more = {name: value for name, value in more.items() if value is not None}
    return _draw(model, opened.given, asked, more, out, bar)


def _computed(
    model: GenerativeModel, run: Run, asked: Asked[SampleOptions], vector: Any
) -> GenerativeModel:
    """The model, its network computed by what --backend says."""
    options = asked.options
    if options.backend == "torch":
        return model
    from undiffuse.exchange.onnx_backend import fastest, on_onnxruntime

    if options.backend == "onnx":
        return on_onnxruntime(model, run)
    if options.given is not None:  # which networks that learned gaps compute in PyTorch alone
        return model
    total = (options.n or 1) * (1 if vector is None else len(vector))
    return fastest(model, run, min(total, options.batch or model.at_once), asked.terminal.say)


def _guidance(model: GenerativeModel, run: Run, asked: Asked[SampleOptions]) -> Any:
    """The wrapper that the options on guidance ask for, None if they ask for none."""
    options = asked.options
    scale = options.guidance if options.autoguide is None else options.autoguide
    if scale is None:
        if asked.chosen("guidance_from", "guidance_to"):
            raise InputError(
                "--guidance-from, --guidance-to: they need a scale; "
                "add --guidance or --autoguide, or leave them out."
            )
        return None
    unsaid = options.label is None and options.where is None
    if options.guidance is not None and options.given is not None and unsaid:
        raise InputError(
            "--guidance: the class of given rows is not known; add --label or --where, or leave "
            "guidance out."
        )
    from undiffuse.models.diffusion import guided

    weaker = None if options.autoguide is None else run.weaker(model.device)
    return guided(model, scale, weaker=weaker, low=options.guidance_from, high=options.guidance_to)


def _given(model: GenerativeModel, asked: Asked[SampleOptions]) -> Any:
    """The rows of --given, None without it; what was changed in them is said."""
    if asked.options.given is None:
        return None
    from undiffuse.data import complete

    assert model.data_config is not None
    given = complete(asked.options.given, model.data_config)
    for note in (*given.notes, *model.completion_notes):
        asked.terminal.say(note, "yellow")
    return given


def _length(model: Any, written: str | None) -> int | None:
    """The steps of each sample by --length, None without it; what cannot be is refused."""
    if written is None:
        return None
    from undiffuse.duration import parse_duration
    from undiffuse.models.continuation import windows

    rate = getattr(model.form, "rate", None)  # recordings have one
    if written.isdecimal():
        steps = int(written)
    elif rate is None:
        raise InputError(f"--length {written}: give the number of steps, a whole number.")
    else:
        steps = round(rate * parse_duration(written, "--length"))
    windows(model, steps)
    return steps


def _asked_for(model: GenerativeModel, asked: Asked[SampleOptions]) -> Any:
    """The conditions of --where as vectors, None without it; prints notes on them."""
    if asked.options.where is None:
        return None
    from undiffuse.data import ask

    assert model.data_config is not None
    for note in ask(asked.options.where, model.data_config)[1]:
        asked.terminal.say(note, "yellow")
    return model.vectors_of(asked.options.where)


def _note_unknown(
    model: GenerativeModel, more: dict[str, Any], asked: Asked[SampleOptions]
) -> None:
    """Say which conditions have no value, where rows or conditions are given."""
    import numpy as np

    from undiffuse.data import Conditions

    own, given, vector = Conditions.restore(model.data_config or {}), more["given"], more["vector"]
    vector = given.vector if vector is None and given is not None else vector
    if own is None or (vector is None and given is None):
        return
    vector = np.zeros((1, own.size)) if vector is None else np.asarray(vector)
    unknown = np.isnan(own.decode(vector)).any(0)
    for name in np.array(own.names)[unknown]:
        note = f"{name}: has no value for some samples; it is unknown there, and written as empty."
        asked.terminal.say(note, "yellow")


def _draw(
    model: GenerativeModel,
    run: str,
    asked: Asked[SampleOptions],
    more: dict[str, Any],
    out: Path,
    bar: AbstractContextManager[Progress],
) -> dict[str, str]:
    """Draw, write, and say where."""
    import numpy as np

    from undiffuse.cli.trajectory import Trajectory
    from undiffuse.models.again import EMPTY, distinct, filled, unfilled

    options, terminal = asked.options, asked.terminal
    each, given_rows, seed = options.n or 1, len(more.get("given", "1")), options.seed
    total = each * max(given_rows, len(more.get("vector", "1")))
    batch = options.batch or model.at_once
    batches = math.ceil(total / batch)
    length = more.pop("length", None)
    sampler, repeated = _sampler(model, length)
    batches *= repeated
    trajectory = Trajectory(model, rows=total, out=out) if options.trajectory else None
    beside = _beside(model, out).values()
    for file in (*beside, *([trajectory.file] if trajectory else [])):
        if os.path.lexists(file) and not options.overwrite:
            raise InputError(
                f"{file}: already exists; choose another --out, or --overwrite to replace it."
            )
    done = 0
    with bar as progress:

        def callback(i: int, n: int, t: Any, x_t: Any) -> None:
            nonlocal done
            done += 1
            progress(done, n * batches, "sampling")
            if trajectory:
                trajectory.add(i, n, x_t)

        how: dict[str, Any] = {
            "label": options.label,
            "seed": seed,
            "batch": batch,
            "steps": options.steps,
            "method": options.method,
            **more,
        }
        rows = sampler(each, callback=callback, **how)
        if length is None:
            rows = distinct(model, rows, progress=progress, **how)
            rows = filled(model, rows, progress=progress, **how)
    written = {"out": options.out, **_save(model, asked, rows, more, out)}
    if each >= LEAST_FOR_BANDS and "given" in more:
        written |= _bands(model, more["given"], rows, out, asked)
    if trajectory:
        trajectory.save()
        written["trajectory"] = str(trajectory.file)
    completed = {"given": options.given, "each": each} if options.given is not None else {}
    terminal.result({"run": run, "number": total, "seed": seed, **completed, **written})
    if options.given is not None:
        kind = "one completion" if each == 1 else f"{each} completions in turn"
        terminal.say(
            f"completed {given_rows} given row{'s' * (given_rows > 1)}, "
            f"{kind} of each, in their order"
        )
        if count := np.count_nonzero(unfilled(rows)):
            terminal.say(
                f"{count:,} of them still {'has' if count == 1 else 'have'} an empty cell: {EMPTY}"
            )
    for place in written.values():
        terminal.say(f"wrote {place}")
    return written


def _sampler(model: GenerativeModel, length: int | None) -> tuple[Callable[..., Any], int]:
    """What draws rows, or series of that length, and how often it draws batch after batch."""
    from undiffuse.models.continuation import continued, windows

    if length is None:
        return model.sample_rows, 1
    return partial(continued, model, length=length), windows(model, length)


def _bands(
    model: GenerativeModel, given: Any, rows: Any, out: Path, asked: Asked[SampleOptions]
) -> dict[str, str]:
    """Draw the bands of completed sequences into OUT-bands.png: {"bands": where}, or nothing."""
    from undiffuse.atomic import atomic_file

    assert model.form is not None
    picture, file = model.form.bands(given, rows), out.with_name(f"{out.stem}-bands.png")
    if picture is None:
        return {}
    if os.path.lexists(file) and not asked.options.overwrite:
        note = f"{file}: already exists, so no bands were drawn; --overwrite replaces it."
        asked.terminal.say(note, "yellow")
        return {}
    with atomic_file(file) as temporary:
        picture.save(temporary, format="PNG")
    return {"bands": str(file)}


def _beside(model: GenerativeModel, out: Path) -> dict[str, Path]:
    """The files that conditions of samples are written to, by name; none where rows hold them."""
    from undiffuse.data import Conditions

    own = Conditions.restore(model.data_config or {})
    if own is None or own.of_rows:
        return {}
    files = {"conditions": out.with_name(f"{out.stem}-conditions.csv")} if own.columns else {}
    for one in own.maps:
        picture = out.suffix == ".png" and len(one.shape) == 3 and one.shape[0] in (1, 3)
        files[one.name] = out.with_name(f"{out.stem}-{one.name}{'.png' if picture else '.npy'}")
    return files


def _save(
    model: GenerativeModel,
    asked: Asked[SampleOptions],
    rows: Any,
    more: dict[str, Any],
    out: Path,
) -> dict[str, str]:
    """Write rows with their labels, and their conditions beside them; return where those are."""
    from undiffuse.atomic import atomic_file
    from undiffuse.data import Conditions
    from undiffuse.data.labels import as_labels
    from undiffuse.data.pictures import save_map

    options = asked.options
    shared = {"label": options.label, "seed": options.seed, "given": more.get("given")}
    conditions = model.sample_conditions(len(rows), vector=more.get("vector"), **shared)
    labels = None
    if "label" in conditions and bool((conditions["label"] >= 0).all()):
        labels = as_labels(conditions["label"].numpy(), model.classes)
    assert model.form is not None
    for remark in model.form.remarks(rows):
        asked.terminal.say(remark, "yellow")
    model.form.save(rows, out, labels=labels)
    own, files = Conditions.restore(model.data_config or {}), _beside(model, out)
    if own is None or not files:
        return {}
    vector = conditions["vector"].numpy()
    if own.columns:
        with (
            atomic_file(files["conditions"]) as temporary,
            temporary.open("w", newline="") as stream,
        ):
            writer = csv.DictWriter(stream, own.names)
            writer.writeheader()
            writer.writerows(own.words(vector))
    for name, values in own.decode_maps(vector).items():
        with atomic_file(files[name]) as temporary, temporary.open("wb") as stream:
            save_map(values, stream, picture=files[name].suffix == ".png")
    return {name: str(file) for name, file in files.items()}
