"""`undiffuse sample`: from a run to new rows in the form that its data came in.

What can be refused is refused before the first step is taken.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, final

from cyclopts import Parameter

from undiffuse.cli.verb import Asked, free_place, verb
from undiffuse.errors import InputError
from undiffuse.options import SampleOptions

if TYPE_CHECKING:
    from torch import Tensor

    from undiffuse.cli.drawing import Drawing
    from undiffuse.cli.trajectory import Trajectory
    from undiffuse.interfaces import Form, Progress
    from undiffuse.models import GenerativeModel
    from undiffuse.run import Run
    from undiffuse.spread import ResumableFolder
    from undiffuse.training.ranks import Ranks


@verb(
    "RUN -n NUMBER --out FILE_OR_FOLDER [OPTIONS]",
    example="undiffuse sample runs/digits -n 64 --out samples.png",
    shared=True,
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
    from undiffuse.spread.ranges import unfinished
    from undiffuse.training.ranks import joined

    with joined() as ranks:
        device = ranks.device(find_device(options.device))
        opened = Run(run)
        model = opened.model(device=device)
        for note in opened.notes:
            asked.terminal.say(note, "yellow")
        try:
            draw_to(out, model, opened, asked, Bar(asked.terminal), ranks=ranks)
        except KeyboardInterrupt:
            kept = unfinished(out)
            if kept.is_dir():
                note = f"{kept} holds the parts that are drawn; the same command resumes."
                asked.terminal.say(note, "yellow")
            raise
    return 0


def draw_to(
    out: Path,
    model: GenerativeModel,
    opened: Run,
    asked: Asked[SampleOptions],
    bar: AbstractContextManager[Progress],
    watch: Callable[[Tensor], None] | None = None,
    ranks: Ranks | None = None,
) -> dict[str, str]:
    """Draw what was asked for, write it to `out`, and say so.

    Args:
        out: the file or folder.
        model: the model of the run.
        opened: the run.
        asked: the options, and the terminal that is written to.
        bar: shows progress.
        watch: called with each x_hat while a diffusion model is sampled.
        ranks: this process and those that draw with it; None: it is alone.

    Returns:
        What was written, by what it is: "out", "conditions", "bands", ...

    Raises:
        InputError: for what cannot be drawn or written; before the first step, where that can be
            known.
    """
    from undiffuse.cli.draw_options import drawing_of
    from undiffuse.training.ranks import ALONE

    drawing = drawing_of(model, opened, asked, watch)
    suffix = _suffix_of(out, drawing, asked)
    spread = _Spread(opened, drawing, asked, out, suffix, ranks or ALONE)
    spread.check()
    trajectory = _trajectory(drawing, out, asked)
    written = spread.draw(bar, trajectory)
    if not spread.ranks.first:
        return written
    written |= _finished(drawing, out, asked, trajectory)
    _conclude(opened.given, drawing, asked, written)
    return written


def _suffix_of(out: Path, drawing: Drawing, asked: Asked[SampleOptions]) -> str | None:
    """The suffix of the files in the folder `out`; None if it is a file."""
    form, wanted = drawing.form, asked.options.parts
    if out.suffix and not out.is_dir() and not asked.options.out.endswith("/"):
        if wanted is not None:
            raise InputError(
                f"--parts {wanted}: --out {asked.options.out} is one file; leave it out."
            )
        form.check_out(out)
        return None
    suffix = form.parts[0] if wanted is None else f".{wanted.removeprefix('.').lower()}"
    form.check_part(suffix)
    return suffix


def _trajectory(drawing: Drawing, out: Path, asked: Asked[SampleOptions]) -> Trajectory | None:
    """What collects the states, None without; a file beside the samples that is there is kept."""
    from undiffuse.cli.drawing import beside
    from undiffuse.cli.trajectory import Trajectory

    model = drawing.model
    made = Trajectory(model, rows=drawing.total, out=out) if asked.options.trajectory else None
    for file in (*beside(model, out).values(), *([made.file] if made else [])):
        if os.path.lexists(file) and not asked.options.overwrite:
            raise InputError(
                f"{file}: already exists; choose another --out, or --overwrite to replace it."
            )
    return made


@final
@dataclass(frozen=True)
class _Spread:
    """The samples of one command, and who draws them: this process, its ranks, or Ray."""

    run: Run
    drawing: Drawing
    asked: Asked[SampleOptions]
    out: Path
    suffix: str | None  # of the files in the folder; None: one file
    ranks: Ranks

    def check(self) -> None:
        """Raise InputError for what several processes cannot do."""
        options = self.asked.options
        if options.workers is not None and options.on is None:
            raise InputError("--workers: is for --on ray; leave it out.")
        if options.on is not None:
            from undiffuse.spread.on_ray import need_ray

            need_ray()
        several = f"--on {options.on}" if options.on else f"{self.ranks.size} processes"
        if options.on is None and self.ranks.size == 1:
            return
        if options.on is not None and self.ranks.size > 1:
            raise InputError(f"--on {options.on}: starts its own processes; leave torchrun out.")
        if self.suffix is None:
            raise InputError(
                f"--out {options.out}: {several} write a folder of files; give a folder, such as "
                f"--out {self.out.stem}/."
            )
        if options.trajectory:
            raise InputError(f"--trajectory: cannot be collected by {several}; leave it out.")

    def draw(
        self, bar: AbstractContextManager[Progress], trajectory: Trajectory | None
    ) -> dict[str, str]:
        """Draw and write the samples; return where they are."""
        with bar as progress:
            if self.suffix is None:
                self._to_file(_Steps(self.drawing, progress, trajectory), progress)
            else:
                self._to_folder(progress, trajectory)
        return {"out": self.asked.options.out}

    def _to_file(self, steps: _Steps, progress: Progress) -> None:
        drawing = self.drawing
        with drawing.form.writing(self.out, drawing.total) as write:
            remarks = drawing.write(write, 0, drawing.total, steps, progress)
        for remark in remarks:
            self.asked.terminal.say(remark, "yellow")

    def _to_folder(self, progress: Progress, trajectory: Trajectory | None) -> None:
        from undiffuse.spread import ResumableFolder, make_ranges, ranges_of

        asked, drawing, suffix = self.asked, self.drawing, self.suffix
        options, ranks, total = asked.options, self.ranks, drawing.total
        assert suffix is not None
        ranges = ranges_of(total, drawing.batch)
        identity = self._identity()
        folder = ResumableFolder(self.out, identity, ranges, replaces=_replaced(drawing.form))
        anew = options.overwrite or trajectory is not None
        ranks.together(lambda: folder.begin(replace=anew) if ranks.first else None)
        missing = ranks.lead([one.number for one in folder.missing()] if ranks.first else None)
        left = [ranges[number] for number in missing]
        self._say_before(folder, len(ranges) - len(left), len(ranges))
        shared: dict[str, Any] = {"what": "sampling", "total": total}
        if options.on is not None:
            from undiffuse.cli.draw_options import DrawTask
            from undiffuse.spread.on_ray import make_on_ray

            where = (os.path.abspath(self.out), suffix, identity, tuple(ranges))
            task = DrawTask(self._place(), asked.given, asked.plugins, *where)
            own: dict[str, Any] = {"workers": options.workers, "gpu": options.device != "cpu"}
            shared |= {"progress": progress, "say": partial(asked.terminal.say, style="yellow")}
            make_on_ray(task, left, **own, **shared)
        else:
            alone = ranks.size == 1
            steps = _Steps(drawing, progress, trajectory) if alone else None
            shared |= {} if alone else {"progress": progress}
            make_ranges(lambda one: drawing.make(folder, suffix, one, steps), left, ranks, **shared)
        if ranks.first:
            _say_remarks(folder, asked)
            drawing.empty = sum(facts["empty"] for facts in folder.facts())
            folder.finish()

    def _place(self) -> str:
        """The run as another process finds it."""
        return self.run.given if self.run.remote else os.path.abspath(self.run.path)

    def _identity(self) -> dict[str, Any]:
        """What the files of the folder depend on."""
        from undiffuse.evaluation.features.abstract import content_hash

        drawing, options = self.drawing, self.asked.options
        chosen = {n: v for n, v in self.asked.given.items() if n not in _ELSEWHERE}
        found = {name: _digest(value) for name, value in drawing.asked.items()}
        return {
            "rows": drawing.total,
            "seed": options.seed,
            "batch": drawing.batch,
            "files": self.suffix,
            "options": chosen,
            **found,
            "weights": content_hash("model", drawing.model.state_dict()),
            "sampler": drawing.model.tuned_tree if options.method is None else None,
            "device": drawing.model.device.type,
        }

    def _say_before(self, folder: ResumableFolder, there: int, ranges: int) -> None:
        say = self.asked.terminal.say
        if there:
            say(f"{there:,} of {ranges:,} parts are there already, in {folder.work}")
        if self.drawing.keyed and ranges > 1:
            say(
                "no two rows of the data agree in a key, and so do those of one part of the "
                "folder; rows of different parts may. One file keeps the key throughout.",
                "yellow",
            )


_ELSEWHERE = ("out", "overwrite", "quiet", "json", "device", "on", "workers", "n", "seed", "batch",
              "parts", "given", "trajectory")  # fmt: skip
"""Options that rows do not depend on, or that stand in a run's identity by themselves."""


def _digest(value: Any) -> str:
    """A hash of given rows, or of vectors."""
    import numpy as np

    from undiffuse.interfaces import PartialRows

    digest = hashlib.sha256()
    parts = (value.rows, value.known) if isinstance(value, PartialRows) else (value.numpy(),)
    for part in parts:
        digest.update(np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()[:16]


def _replaced(form: Form) -> str:
    """A regular expression for the files of an earlier folder of samples."""
    suffixes = "|".join(re.escape(one) for one in form.parts)
    return rf"(\d{{5,}}(-.*)?|part-\d{{5,}})({suffixes})"


@final
class _Steps:
    """The callback of the sampling loop: tells how many steps are done, of all batches."""

    def __init__(self, drawing: Drawing, progress: Progress, trajectory: Trajectory | None) -> None:
        batches = math.ceil(drawing.total / drawing.batch)
        self.batches, self.progress, self.trajectory = batches, progress, trajectory
        self.batches *= drawing.passes
        self.done = 0

    def __call__(self, i: int, n: int, t: Any, x_t: Any) -> None:
        self.done += 1
        self.progress(self.done, n * self.batches, "sampling")
        if self.trajectory:
            self.trajectory.add(i, n, x_t)


def _say_remarks(folder: ResumableFolder, asked: Asked[SampleOptions]) -> None:
    """Say what there is to say of the parts of a folder; of the first, and how many are alike."""
    found = [(i, one) for i, facts in enumerate(folder.facts()) for one in facts["remarks"]]
    if found:
        number, remark = found[0]
        alike = f" ({len(found) - 1:,} parts likewise)" if len(found) > 1 else ""
        asked.terminal.say(f"part {number}: {remark}{alike}", "yellow")


def _finished(
    drawing: Drawing, out: Path, asked: Asked[SampleOptions], trajectory: Trajectory | None
) -> dict[str, str]:
    """Write what lies beside the samples: their conditions, bands and states."""
    from undiffuse.cli.drawing import beside

    files = beside(drawing.model, out)
    drawing.save_conditions(files)
    written = {name: str(file) for name, file in files.items()}
    if drawing.keep:
        written |= _bands(drawing, out, asked)
    if trajectory:
        trajectory.save()
        written["trajectory"] = str(trajectory.file)
    return written


def _bands(drawing: Drawing, out: Path, asked: Asked[SampleOptions]) -> dict[str, str]:
    """Draw the bands of completed sequences into OUT-bands.png: {"bands": where}, or nothing."""
    import numpy as np

    from undiffuse.atomic import atomic_file

    given = drawing.asked["given"]
    rows = drawing.first_rows()
    picture = drawing.form.bands(given.at(np.arange(len(rows) // drawing.each)), rows)
    if picture is None:
        return {}
    file = out.with_name(f"{out.stem}-bands.png")
    if os.path.lexists(file) and not asked.options.overwrite:
        note = f"{file}: already exists, so no bands were drawn; --overwrite replaces it."
        asked.terminal.say(note, "yellow")
        return {}
    with atomic_file(file) as temporary:
        picture.save(temporary, format="PNG")
    return {"bands": str(file)}


def _conclude(
    run: str, drawing: Drawing, asked: Asked[SampleOptions], written: Mapping[str, str]
) -> None:
    """Print the result, and say where everything is."""
    from undiffuse.models.again import EMPTY

    options, terminal, each = asked.options, asked.terminal, drawing.each
    completed = {"given": options.given, "each": each} if options.given is not None else {}
    facts = {"run": run, "number": drawing.total, "seed": options.seed}
    terminal.result({**facts, **completed, **written})
    if options.given is not None:
        rows = drawing.given_rows
        kind = "one completion" if each == 1 else f"{each} completions in turn"
        terminal.say(
            f"completed {rows} given row{'s' * (rows > 1)}, {kind} of each, in their order"
        )
        if count := drawing.empty:
            terminal.say(
                f"{count:,} of them still {'has' if count == 1 else 'have'} an empty cell: {EMPTY}"
            )
    for place in written.values():
        terminal.say(f"wrote {place}")
