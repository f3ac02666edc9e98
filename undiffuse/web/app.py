"""The application: routes, errors as problem details, and the guard around all of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.concurrency import run_in_threadpool

from undiffuse import __version__
from undiffuse.web import api, looks, pages, problems
from undiffuse.web.safety import Guard
from undiffuse.web.service import Service

TIDIED = 60.0  # seconds between two looks at what is old
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def make_app(service: Service, *, token: str | None, hosts: Iterable[str] = LOOPBACK) -> FastAPI:
    """Return the application that answers for a service.

    Args:
        service: what answers; closed with the application.
        token: what every request has to know; None: nothing.
        hosts: the names that the server may be called by.
    """

    @asynccontextmanager
    async def living(app: FastAPI) -> AsyncIterator[None]:
        tidying = asyncio.create_task(_tidy(service))
        yield
        tidying.cancel()
        service.close()

    app = FastAPI(
        title="undiffuse",
        version=__version__,
        description="Train generative models, sample, complete, score and evaluate them.",
        openapi_url="/api/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=living,
    )
    app.state.service = service
    problems.install(app)
    for part in (api, looks, pages):
        app.include_router(part.router)
    app.add_middleware(Guard, token=token, hosts=tuple(hosts))
    return app


async def _tidy(service: Service) -> None:
    """What is kept for an hour or a day is gone then, also if nobody asks for anything."""
    while True:
        await asyncio.sleep(TIDIED)
        await run_in_threadpool(service.tidy)
