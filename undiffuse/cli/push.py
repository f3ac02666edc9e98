"""`undiffuse push`: from a run to a model on the Hugging Face hub."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from undiffuse.cli.verb import Asked, verb
from undiffuse.options import PushOptions


@verb("RUN OWNER/NAME [OPTIONS]", example="undiffuse push runs/digits me/digits --license mit")
def push(
    asked: Asked[PushOptions],
    run: Annotated[str, Parameter(help="Folder of the run.")],
    name: Annotated[str, Parameter(help="Name of the model on the hub: OWNER/NAME.")],
) -> int:
    """Put a run on the Hugging Face hub.

    JSON and safetensors alone, and a card with the figures of its report. Others open it by name:
    undiffuse sample OWNER/NAME, ud.open("hf://OWNER/NAME").
    """
    from undiffuse.exchange.hub import push as push_run

    options, terminal = asked.options, asked.terminal
    chosen = {"license": options.license, "message": options.message}
    pushed = push_run(run, name, private=options.private, **chosen)
    for note in pushed.notes:
        terminal.say(note, "yellow")
    terminal.result({"run": run, "name": pushed.name, "url": pushed.url})
    terminal.say(f"pushed to {pushed.url}; this revision is")
    terminal.say(f"  {pushed.name}", "bold")
    return 0
