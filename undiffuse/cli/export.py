"""`undiffuse export`: from a run to files that other programs sample from."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from undiffuse.cli.verb import Asked, free_place, verb
from undiffuse.errors import InputError
from undiffuse.options import ExportOptions


@verb(
    "RUN --out FOLDER [OPTIONS]",
    example="undiffuse export runs/digits --whole --steps 8 --out digits-onnx",
)
def export(
    asked: Asked[ExportOptions],
    run: Annotated[str, Parameter(help="Folder of the run.")],
) -> int:
    """Write a run as files for other programs.

    As ONNX: the network with a table of its sampler, or with --whole the sampler itself, from noise
    to rows in the data's own units; checked with onnxruntime. As a diffusers pipeline: a run that
    was started from one.
    """
    options, terminal = asked.options, asked.terminal
    out = free_place(options.out, overwrite=False)
    if options.to == "diffusers":
        if given := asked.chosen("whole", "method", "steps"):
            raise InputError(
                f"--{next(iter(given))}: a pipeline of diffusers has a sampler of its own; leave "
                "it out."
            )
        from undiffuse.exchange.pipelines import to_diffusers

        to_diffusers(run, out)
        terminal.result({"run": run, "out": options.out})
        terminal.say(f"wrote {options.out}; in Python:")
        terminal.say(f"  DDPMPipeline.from_pretrained({options.out!r})", "bold")
        return 0
    from undiffuse.exchange.onnx_files import TABLE, to_onnx

    made = to_onnx(run, out, **asked.chosen("whole", "method", "steps"))
    facts = {name: value for name, value in asdict(made).items() if name != "folder"}
    terminal.result({"run": run, "out": options.out, **facts})
    terminal.say(
        f"wrote {shlex.quote(options.out)}: {made.method}, {made.evaluations} evaluations a "
        f"sample; {TABLE} says what it takes"
    )
    terminal.say(f"onnxruntime computes the same, to {made.difference:.1e} of the largest value")
    if made.speed:
        ratios = ", ".join(f"{one.ratio:.1f} for {one.rows:,}" for one in made.speed)
        terminal.say(
            f"its speed here, in times that of PyTorch, by rows at a time: {ratios}; undiffuse "
            "sample takes it where it is faster, unless told --backend torch"
        )
    return 0
