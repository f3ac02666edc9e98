"""`undiffuse serve`: a folder of runs as a page in the browser, and as a service.

It listens on this machine alone unless it is told otherwise, and prints the address with a token.
What can be refused is refused before it listens.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from undiffuse.cli.terminal import Terminal
from undiffuse.cli.verb import Asked, verb
from undiffuse.errors import InputError
from undiffuse.options import ServeOptions

if TYPE_CHECKING:
    from undiffuse.web.service import Settings


@verb("[FOLDER] [OPTIONS]", example="undiffuse serve runs --data photos")
def serve(
    asked: Asked[ServeOptions],
    folder: Annotated[str, Parameter(help="Folder of the runs (default runs).")] = "runs",
) -> int:
    """Serve a folder of runs in the browser, and to other programs.

    Opens on this machine alone, at the address that is printed. Trainings are processes of their
    own: they go on when the server ends, and are found again when it starts.
    """
    options = asked.options
    try:
        import fastapi  # noqa: F401
        import python_multipart  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as problem:
        raise InputError(
            "serve: needs FastAPI and uvicorn; pip install 'undiffuse[web]'."
        ) from problem
    settings = _settings(folder, options)
    hosts = _hosts(options)
    sock = _listen(options.host, options.port)

    from undiffuse.web.app import make_app
    from undiffuse.web.listening import Listening
    from undiffuse.web.safety import find_token
    from undiffuse.web.service import Service

    with sock:
        token = None if options.no_token else find_token()
        service = Service(settings)
        listening = Listening(service, make_app(service, token=token, hosts=hosts))
        _announce(sock, options, token, asked.terminal)
        with suppress(KeyboardInterrupt):  # raised again once all is closed
            listening.run(sockets=[sock])
    _conclude(folder, service.trainings.alive(), asked.terminal)
    return 0


def _settings(folder: str, options: ServeOptions) -> Settings:
    """How the folder is served. Raises InputError for folders and a device that are not there."""
    from undiffuse.device import find_device
    from undiffuse.web.service import Settings

    find_device(options.device)
    return Settings(
        folder=_folder(folder, "the folder of runs"),
        data=tuple(_folder(one, "--data") for one in options.data or ()),
        trainings=options.trainings,
        jobs=options.jobs,
        queue=options.queue,
        device=options.device,
        plugin=options.plugin or (),
    )


def _folder(typed: str, what: str) -> Path:
    place = Path(os.path.realpath(os.path.expanduser(typed)))
    if not place.is_dir():
        problem = "this is a file" if place.exists() else "no such folder"
        raise InputError(f"{typed}: {problem}; {what} has to be there, as made by mkdir.")
    return place


def _hosts(options: ServeOptions) -> tuple[str, ...]:
    """The names that the server may be called by."""
    from undiffuse.web.app import LOOPBACK
    from undiffuse.web.safety import is_loopback

    if options.no_token and (options.allow_host or not is_loopback(options.host)):
        raise InputError(
            "--no-token: on loopback only, where this machine alone reaches the server; leave out "
            "--host and --allow-host, or --no-token."
        )
    named = () if options.host in ("0.0.0.0", "::") else (options.host,)
    return (*LOOPBACK, *named, *(options.allow_host or ()))


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises InputError if it cannot."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        # asyncio lets no answer wait for an acknowledgement (40 ms) only where TCP is named
        sock = socket.socket(family, kind, protocol)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(address)
            sock.listen(128)
        except BaseException:
            sock.close()
            raise
    except OSError as problem:
        why = (problem.strerror or str(problem)).lower()
        raise InputError(
            f"--port {port}: cannot be listened on at {host} ({why}); choose another --port."
        ) from problem
    sock.set_inheritable(False)
    return sock


def _announce(
    sock: socket.socket, options: ServeOptions, token: str | None, terminal: Terminal
) -> None:
    """Say where the server is."""
    port = sock.getsockname()[1]
    host = f"[{options.host}]" if ":" in options.host else options.host
    base = f"http://{host}:{port}"
    address = base if token is None else f"{base}/?token={token}"
    terminal.say("open in a browser on this machine:")
    terminal.say(f"  {address}", "bold")
    if token is None:
        terminal.say("without a token: every user of this machine can train and delete", "yellow")
    terminal.say("Ctrl-C ends the server")
    terminal.result({"address": address, "base": base, "token": token, "process": os.getpid()})


def _conclude(folder: str, going_on: list[str], terminal: Terminal) -> None:
    """Say what goes on."""
    if going_on:
        terminal.say(
            f"the server has ended; training goes on: {', '.join(going_on)}. undiffuse serve "
            f"{folder} finds it again."
        )
    else:
        terminal.say("the server has ended")
