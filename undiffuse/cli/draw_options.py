"""From the options of `undiffuse sample` to what is drawn, here or in another process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from undiffuse.cli.drawing import Drawing
from undiffuse.cli.terminal import Terminal
from undiffuse.cli.verb import Asked, plug
from undiffuse.data.pictures import BANDED
from undiffuse.declared import with_defaults
from undiffuse.device import find_device
from undiffuse.errors import InputError
from undiffuse.options import SampleOptions
from undiffuse.run import Run
from undiffuse.spread import ResumableFolder, RowRange

if TYPE_CHECKING:
    from torch import Tensor

    from undiffuse.models import GenerativeModel
    from undiffuse.spread.together import MakeRange

LEAST_FOR_BANDS = 19  # completions, of which the least and the greatest are the 90 % band


def drawing_of(
    model: GenerativeModel,
    opened: Run,
    asked: Asked[SampleOptions],
    watch: Callable[[Tensor], None] | None = None,
) -> Drawing:
    """Return what the options ask for, told of what is changed or left out.

    Raises:
        InputError: for what cannot be drawn.
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
    model = _computed(model, opened, asked, more["vector"])
    more = {name: value for name, value in more.items() if value is not None}
    drawing = Drawing(model, options, **more)
    if drawing.each >= LEAST_FOR_BANDS and options.given is not None:
        drawing.keep = drawing.each * min(drawing.given_rows, BANDED)
    return drawing


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


@final
@dataclass(frozen=True)
class DrawTask:
    """A command `undiffuse sample`, as another process takes part in it.

    Attributes:
        run: the folder of the run.
        given: the options that were given.
        plugins: files of parts.
        out: the folder of samples.
        suffix: of the files in it.
        identity: what the rows depend on.
        ranges: all of them.
    """

    run: str
    given: Mapping[str, Any]
    plugins: tuple[str, ...]
    out: str
    suffix: str
    identity: Mapping[str, Any]
    ranges: tuple[RowRange, ...]

    def open(self) -> MakeRange:
        """Open the run, and return what draws a range; see `Task`."""
        plug(self.plugins)
        options = with_defaults(SampleOptions, dict(self.given))
        asked = Asked(options, dict(self.given), Terminal(quiet=True), self.plugins)
        run = Run(self.run)
        drawing = drawing_of(run.model(device=find_device(options.device)), run, asked)
        folder = ResumableFolder(Path(self.out), self.identity, list(self.ranges), replaces=None)
        return lambda one: drawing.make(folder, self.suffix, one)
